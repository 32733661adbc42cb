"""Experiments as a command: data as published, runs at the papers' size, and results that nothing loses."""

import gzip
import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from utils.claims import check, registry
from utils.data import Split
from utils.experiments.smoothness import LENGTHS, along_gradient, loss_of
from utils.reproduce import AT_PAPER_SCALE, Job, datasets, experiments, paper
from utils.reproduce import __main__ as command
from utils.reproduce.jobs import check_claim, jobs
from utils.results import Results, results
from utils.seeds import torch_rng

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def environment():
    """What a command sets in the environment stays its own."""
    with mock.patch.dict(os.environ):
        yield


# --- data ------------------------------------------------------------------------------------------------------------


def idx(values):
    """Bytes in the idx format, as in the MNIST files."""
    shape = np.array(values.shape, ">u4").tobytes()
    return b"\0\0\x08" + bytes([values.ndim]) + shape + values.astype(np.uint8).tobytes()


IMAGES = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_idx_file_is_read_packed_or_not(pack, tmp_path):
    path = tmp_path / ("images.gz" if pack is gzip.compress else "images")
    path.write_bytes(pack(idx(IMAGES)))
    assert (datasets.read_idx(path) == IMAGES).all()
    assert (datasets.read_idx(path, hashlib.sha256(idx(IMAGES)).hexdigest()) == IMAGES).all()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a", b"no idx", "expected an idx file of bytes"),
        ("a", idx(IMAGES)[:-1], r"expected 12 values for the shape \(3, 2, 2\)"),
        ("a.gz", b"no gzip", "damaged: it cannot be unpacked"),
        ("a.gz", gzip.compress(idx(IMAGES))[:-9], "damaged: it cannot be unpacked"),
    ],
)
def test_a_file_that_is_no_idx_file_is_refused(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        datasets.read_idx(tmp_path / name)


def test_a_changed_pixel_is_noticed(tmp_path):
    (tmp_path / "a").write_bytes(idx(IMAGES + 1))
    with pytest.raises(ValueError, match="damaged: expected SHA-256"):
        datasets.read_idx(tmp_path / "a", hashlib.sha256(idx(IMAGES)).hexdigest())


def cifar_records(labels, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3, 32, 32), np.uint8)
    return pixels, np.concatenate([np.array(labels, np.uint8)[:, None], pixels.reshape(len(labels), -1)], 1).tobytes()


def cifar_files(labels=(3, 9)):
    """Six small files in CIFAR-10's binary format, and what they hold."""
    names = [*datasets.CIFAR_FILES["train"], *datasets.CIFAR_FILES["test"]]
    made = {name: cifar_records(labels, seed) for seed, name in enumerate(names)}
    return {name: content for name, (_, content) in made.items()}, {name: pixels for name, (pixels, _) in made.items()}


def cifar_archive(path, files):
    with tarfile.TarFile.gzopen(path, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_cifar10_is_read_in_its_real_format(tmp_path):
    files, pixels = cifar_files()
    read = datasets.read_cifar10(cifar_archive(tmp_path / "a.tar.gz", files))
    images, labels = read["train"]
    assert images.shape == (10, 3, 32, 32) and labels.tolist() == [3, 9] * 5
    assert (images[2:4] == pixels["data_batch_2.bin"]).all()  # the batches in their order; red, green, blue planes
    assert (read["test"][0] == pixels["test_batch.bin"]).all()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert (datasets.read_cifar10(tmp_path)["train"][0] == images).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: files.pop("data_batch_3.bin"), r"expected the file data_batch_3\.bin"),
        (lambda files: files.update({"test_batch.bin": b"123"}), "expected records of 3073 bytes"),
        (
            lambda files: files.update({"test_batch.bin": cifar_records([10], 0)[1]}),
            "expected labels from 0 to 9, got 10",
        ),
    ],
)
def test_a_cifar10_archive_with_something_wrong_is_refused(change, said, tmp_path):
    files, _ = cifar_files()
    change(files)
    with pytest.raises(ValueError, match=said):
        datasets.read_cifar10(cifar_archive(tmp_path / "a.tar.gz", files))


def test_a_damaged_cifar10_archive_is_refused(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="damaged: it cannot be unpacked"):
        datasets.read_cifar10(tmp_path / "a.tar.gz")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A small CIFAR-10 on a server of this machine, and the folder that data are kept in."""
    (tmp_path / "server").mkdir()
    archive = cifar_archive(tmp_path / "server" / "cifar-10-binary.tar.gz", cifar_files()[0])
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(archive.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        place = datasets.Published(address, {archive.name: md5}, {})
        monkeypatch.setitem(datasets.PUBLISHED, "cifar-10", place)
        monkeypatch.setenv("BOOK_DATA", str(tmp_path / "data"))
        datasets._load.cache_clear()
        yield tmp_path / "data" / "cifar-10" / archive.name
        server.shutdown()
    datasets._load.cache_clear()


def test_what_is_missing_is_fetched_once_and_what_is_damaged_again(published):
    split = datasets.load("cifar-10")
    assert split.x_train.shape == (10, 3, 32, 32) and split.x_train.min() >= 0 and split.x_train.max() <= 1
    assert split.y_test.tolist() == [3, 9]
    whole = published.read_bytes()
    published.write_bytes(whole[:-1])
    datasets._load.cache_clear()
    datasets.load("cifar-10")
    assert published.read_bytes() == whole


def test_what_is_not_what_was_published_is_not_read(published, monkeypatch):
    place = datasets.PUBLISHED["cifar-10"]
    monkeypatch.setitem(datasets.PUBLISHED, "cifar-10", place._replace(files=dict.fromkeys(place.files, "0" * 32)))
    with pytest.raises(FileNotFoundError, match="could not be fetched"):
        datasets.load("cifar-10")


def test_without_a_network_it_says_where_to_put_the_file(tmp_path, monkeypatch):
    gone = datasets.PUBLISHED["mnist"]._replace(base="http://127.0.0.1:9/")
    monkeypatch.setitem(datasets.PUBLISHED, "mnist", gone)
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    datasets._load.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"Put the file into .*mnist, or name another folder by BOOK_DATA"):
        datasets.load("mnist")


# --- runs at the papers' size, made small ----------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """A VGG with few channels and short windows, and a few images to learn."""
    monkeypatch.setattr(paper, "VGG_A", (4, "halve", 4, "halve", 4, "halve", 4, "halve", 4, "halve"))
    monkeypatch.setattr(paper, "WINDOW", 4)
    rng = torch.Generator().manual_seed(0)
    x, y = torch.rand(60, 1, 28, 28, generator=rng), torch.randint(10, (60,), generator=rng)
    return Split(x, y, x[:20], y[:20])


def small(name):
    return replace(paper.VGG[name], steps=13, batch_size=8)


@pytest.mark.parametrize("name", paper.VGG)
def test_every_arm_is_trained_and_watched(name, few):
    run = paper.train(small(name), 0, CPU, paper.prepared(paper.VGG[name], few))
    assert run["curve_steps"] == [4, 8, 12, 13] and run["probe_steps"] == [0, 4, 8, 12]
    assert run["look_steps"] == [0, 1, 10] and np.array(run["jump"]).shape == (3, 5)
    assert np.array(run["distance"]).shape == ((0,) if "noisy" in name else (3, 6))
    assert len(run["test_accuracy"]) == len(run["test_steps"]) and run["test_steps"][-1] == 13
    json.dumps(run, default=float)


def test_watching_changes_nothing(few, monkeypatch):
    arm, split = small("noisy, rate 0.1"), paper.prepared(paper.VGG["noisy, rate 0.1"], few)
    watched = paper.train(arm, 0, CPU, split)

    def idle(*_):
        while (yield) is not None:
            pass
        yield {}

    monkeypatch.setattr(paper, "watch_vgg", idle)
    assert paper.train(arm, 0, CPU, split)["loss"] == watched["loss"]


def test_the_first_probe_is_the_books_own(few):
    arm = small("bn, rate 0.1")
    split = paper.prepared(arm, few)
    run = paper.train(arm, 3, CPU, split)
    net = paper.network(arm, 1, 3, CPU)
    batch = torch.randint(60, (arm.steps + 1, 8), generator=torch_rng(3))[0]
    loss = loss_of(net, split.x_train[batch], split.y_train[batch], F.cross_entropy)
    line = along_gradient(loss, list(net.parameters()), [0.1 * length for length in LENGTHS])
    assert run["range"][0] == pytest.approx(np.ptp(line.losses), rel=1e-4)
    assert run["beta"][0] == pytest.approx((line.gradient_changes / line.distances).max(), rel=1e-4)


def test_what_is_measured_has_its_limiting_values(few):
    run = paper.train(small("bn, rate 0.1"), 0, CPU, paper.prepared(paper.VGG["bn, rate 0.1"], few))
    distance, cosine = np.array(run["distance"]), np.array(run["cosine"])
    assert (distance[:, 0] == 0).all() and cosine[:, 0] == pytest.approx(1)  # nothing lies below the first layer
    assert (distance[:, 1:] > 0).all()
    assert run["jump"][0] == run["drift"][0]  # the first update is all that has happened
    noisy = paper.train(small("noisy, rate 0.1"), 0, CPU, paper.prepared(paper.VGG["noisy, rate 0.1"], few))
    assert np.mean(noisy["jump"][-1]) > np.mean(run["jump"][-1])  # whose means BN holds


def test_a_run_that_diverges_is_a_result(few):
    arm = replace(small("plain, rate 0.5"), lr=1e30)
    run = paper.train(arm, 0, CPU, paper.prepared(arm, few))
    assert run["diverged_at"] == 4 and run["loss"] == []


def test_the_sigmoids_have_binary_inputs_and_their_quantiles_are_watched(few):
    arm = replace(paper.SIGMOIDS["bn, rate 1"], steps=100)
    run = paper.train(arm, 0, CPU, paper.prepared(arm, few))
    quantiles = np.array(run["quantiles"])
    assert quantiles.shape == (26, 3, paper.UNITS) and (np.diff(quantiles, axis=1) >= 0).all()
    assert abs(quantiles[0, 1]).max() < 1  # BN's own output, of mean 0 and width 1


def test_a_vggs_border_is_black(few):
    x = paper.prepared(paper.VGG["bn, rate 0.1"], few).x_train
    black = -few.x_train.mean() / few.x_train.std()
    assert x[:, :, 0].allclose(black) and x[:, :, :, -1].allclose(black)
    assert x[:, :, 2:-2, 2:-2].mean().abs() < 1e-5


# --- files of results ------------------------------------------------------------------------------------------------


def test_a_result_is_kept_and_found_again(tmp_path):
    kept = Results(tmp_path / "a.json")
    kept.add("bn", [0], {"lr": 0.1}, {"loss": [0.123456789, float("nan")]}, {"device": "cpu"})
    again = Results(tmp_path / "a.json")
    assert again.has("bn", (0,), {"lr": 0.1})
    assert not again.has("bn", (1,), {"lr": 0.1}) and not again.has("bn", (0,), {"lr": 0.2})
    assert again.runs[0]["values"] == {"loss": [0.12346, None]} and again.runs[0]["device"] == "cpu"
    again.add("bn", [0], {"lr": 0.2}, {}, {})
    assert [run["settings"] for run in Results(tmp_path / "a.json").runs] == [{"lr": 0.2}]


def test_two_commands_may_write_one_file(tmp_path):
    one, other = (Results(tmp_path / "a.json") for _ in range(2))
    one.add("bn", [0], {}, {}, {})
    other.add("plain", [0], {}, {}, {})
    assert [run["arm"] for run in Results(tmp_path / "a.json").runs] == ["bn", "plain"]


@pytest.mark.parametrize("content", ["[{", "{}", '[{"arm": 1}]', "\0"])
def test_a_damaged_file_is_noticed_put_aside_and_begun_anew(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    kept = Results(path)
    assert str(path) in kept.damaged and kept.runs == []
    kept.add("bn", [0], {}, {}, {})
    assert path.with_suffix(".damaged").read_text(encoding="utf-8") == content
    assert Results(path).has("bn", [0], {})


@pytest.mark.parametrize("file", ["vgg-fashion-mnist", "sigmoids-mnist"])
def test_the_books_own_results_say_how_they_were_made(file):
    arms = paper.VGG if file.startswith("vgg") else paper.SIGMOIDS
    runs = results(file)
    assert {run["arm"] for run in runs} == set(arms)
    for run in runs:
        assert {"device", "versions", "date", "command", "seconds"} <= set(run)
        assert run["settings"] == vars(arms[run["arm"]])
        assert "/" not in run["command"]
    for arm in arms:
        assert len({tuple(run["seeds"]) for run in runs if run["arm"] == arm}) >= 3


# --- the command -----------------------------------------------------------------------------------------------------


def said(capsys, *asked):
    with pytest.raises(SystemExit) as ended:
        command.main([*map(str, asked)])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((), "NAME: expected an experiment"),
        (("imagenet",), "NAME: expected one of intro, "),
        (("intro", "--scale", "large"), "--scale"),
        (("gradient", "--scale", "paper"), "gradient has no paper scale; those that have: "),
        (("intro", "--device", "tpu"), "--device: expected cpu, cuda or cuda:N, got 'tpu'"),
        (("intro", "--device", "cuda"), "--device: the small scale is made for a processor"),
        (("intro", "--scale", "paper", "--device", "cuda:99"), "--device: torch sees"),
        (("intro", "--seeds", "9-2"), "expected seeds in a row, such as 0-9"),
        (("intro", "--seeds", "3"), "--seeds: expected two or more at the small scale"),
        (("intro", "--workers", "0"), "expected a number of processes, 1 or more, got '0'"),
    ],
)
def test_a_wrong_request_is_told(asked, expected, capsys):
    assert expected in said(capsys, *asked)


def test_a_folder_that_is_none_is_told(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "--out: expected a folder, got the file" in said(capsys, "intro", "--out", tmp_path / "file")


def test_a_scheduler_that_does_not_answer_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "PATIENCE", 1)
    asked = ("intro", "--dask", "tcp://127.0.0.1:9", "--out", tmp_path)
    assert "--dask: no scheduler answers at tcp://127.0.0.1:9" in said(capsys, *asked)


def test_every_experiment_is_listed_with_its_scales(capsys):
    assert command.main(["--list"]) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert tuple(listed) == experiments()
    assert {name for name, line in listed.items() if line.endswith("paper")} == set(AT_PAPER_SCALE)


def test_every_experiment_has_its_jobs():
    for name in experiments():
        assert len(jobs([name], "small", range(2))) == len(registry([name]))
    for name in AT_PAPER_SCALE:
        made = jobs([name], "paper", range(2))
        assert [job.seeds for job in made] == [(0,)] * (len(made) // 2) + [(1,)] * (len(made) // 2)


def test_a_claim_is_checked_as_the_book_does():
    from utils.seeds import first_seed, run_count

    name = "normalise.invariance"
    (found,) = [check_claim(name, first_seed(), run_count())["values"]]
    checked = check(registry()[name])
    assert found["verdict"] == checked.verdict
    assert found["estimates"] == {setting: list(each) for setting, each in checked.intervals.items()}


def test_other_seeds_are_those_of_a_process_of_their_own():
    found = check_claim("normalise.invariance", 90, 3)["values"]["evidence"]
    assert {len(each) for each in found.values()} == {3}


def square(number, log):
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{number}\n")
    return {"seconds": 0.0, "values": {"verdict": number * number}}


def killed(number, log):
    square(number, log)
    os.kill(os.getpid(), signal.SIGKILL)


def slow(number, log):
    time.sleep(60 * (number == 2))
    return square(number, log)


def failing(number, log):
    raise OSError("the disk is full")


def job(function, number, log):
    return Job("a", f"arm {number}", (0,), {}, function, (number, str(log)))


def work(todo, tmp_path, on=2):
    kept = Results(tmp_path / "a.json")
    return command._work(todo, {"a": kept}, on, "python -m utils.reproduce"), kept


def test_a_killed_worker_and_a_failing_run_cost_themselves_alone(tmp_path, capsys):
    log = tmp_path / "log"
    todo = [job(square, 0, log), job(killed, 1, log), job(failing, 2, log), *(job(square, n, log) for n in range(3, 7))]
    failed, kept = work(todo, tmp_path)
    assert failed == 2
    assert [run["arm"] for run in kept.runs] == [f"arm {n}" for n in (0, 3, 4, 5, 6)]
    assert sorted(log.read_text(encoding="utf-8").split()) == [
        "0",
        "1",
        "1",
        "3",
        "4",
        "5",
        "6",
    ]  # the killed one was tried again
    told = capsys.readouterr().err
    assert "arm 1, seed 0: failed: TerminatedWorkerError" in told
    assert "arm 2, seed 0: failed: OSError: the disk is full" in told


def test_a_cluster_does_the_same(tmp_path):
    from distributed import Client, LocalCluster

    log = tmp_path / "log"
    with (
        LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        todo = [job(square, 0, log), job(failing, 1, log), job(square, 2, log)]
        failed, kept = work(todo, tmp_path, client)
    assert failed == 1 and [run["values"]["verdict"] for run in kept.runs] == [0, 4]


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have set to nothing
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import test_reproduce as test
from utils.reproduce import __main__ as command
folder = Path(sys.argv[3])
todo = [test.job(test.slow, n, folder / "log") for n in range(3)]
command._prepared = lambda asked: (todo, {"a": test.Results(folder / "a.json")}, 1)
sys.exit(command.main(["intro", "--out", str(folder)]))
"""


def test_an_interrupted_command_loses_nothing_and_goes_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(ROOT), str(ROOT / "tests"), str(tmp_path)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("2 of 3"):
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in told
    kept = Results(tmp_path / "a.json")
    assert [run["arm"] for run in kept.runs] == ["arm 0", "arm 1"]
    assert sorted((tmp_path / "log").read_text(encoding="utf-8").split()) == ["0", "1"]


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch, capsys):
    log = tmp_path / "log"
    todo = [job(square, n, log) for n in range(2)]
    for expected in ("1 of 2", "2 of 2 are already in"):
        monkeypatch.setattr(command, "_prepared", lambda _: (todo, {"a": Results(tmp_path / "a.json")}, 1))
        assert command.main(["intro", "--out", str(tmp_path)]) == 0
        assert expected in capsys.readouterr().out
    assert log.read_text(encoding="utf-8").split() == ["0", "1"]
