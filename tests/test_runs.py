"""Runs: counted, cancelled, kept whole or not at all, and made anew when the mathematics changes."""

import signal
import sys

import pytest
from conftest import ROOT, run

from utils import runs
from utils.progress import Cancelled, listening, steps

# A kept function that says when it works; while it is written to disk it may kill its process.
KEPT = """
import os, signal, sys
from pathlib import Path
import numpy as np
from utils.runs import kept

class Fragile:
    def __init__(self, lethal): self.lethal = lethal
    def __reduce__(self):
        if self.lethal: os.kill(os.getpid(), signal.SIGKILL)
        return Fragile, (False,)

@kept
def work(n):
    with Path("worked").open("a") as file: file.write("x")
    return np.arange(n), Fragile("LETHAL" in os.environ), np.ones(n)

print(work(100_000)[0].sum())
"""


@pytest.fixture
def work(tmp_path):
    """Run the kept function in a process of its own: how it ended, what it said, how often it worked till now."""
    (tmp_path / "kept.py").write_text(KEPT)

    def start(**settings):
        ended = run(
            tmp_path, sys.executable, "kept.py", BOOK_RUNS=str(tmp_path / "runs"), PYTHONPATH=str(ROOT), **settings
        )
        return ended.returncode, ended.stdout.split()[-1:], len((tmp_path / "worked").read_text())

    return start


def test_a_run_is_computed_once(work):
    assert work() == (0, ["4999950000"], 1)
    assert work() == (0, ["4999950000"], 1)


def test_a_killed_run_leaves_no_half_result(work):
    assert work(LETHAL="yes")[0] == -signal.SIGKILL
    assert work() == (0, ["4999950000"], 2)
    assert work() == (0, ["4999950000"], 2)


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_damaged_result_is_computed_again(work, tmp_path, kept):
    work()
    (result,) = (tmp_path / "runs").rglob("output.pkl")
    content = result.read_bytes()
    result.write_bytes(content[: int(kept * len(content))])
    assert work() == (0, ["4999950000"], 2)
    assert work() == (0, ["4999950000"], 2)


LOADED = "import sys, {0}; print(*(m for m in sys.modules if m.startswith('utils.')))"


@pytest.mark.parametrize("module", ["utils.batchnorm", "utils.training", "utils.drift", "utils.shift"])
def test_a_run_depends_on_the_modules_that_its_own_brings_in(module):
    child = run(ROOT, sys.executable, "-c", LOADED.format(module))
    assert {f"utils.{file.stem}" for file in runs.sources(module)} == set(child.stdout.split())


@pytest.mark.parametrize(
    "source", ["from utils import data", "import utils.data", "def f():\n    from utils.data import x"]
)
def test_every_way_to_import_is_seen(tmp_path, source):
    (tmp_path / "new.py").write_text(source)
    (tmp_path / "data.py").write_text("")
    assert {file.stem for file in runs.sources("utils.new", tmp_path)} == {"new", "data"}


def test_a_change_in_what_a_run_depends_on_makes_a_new_key_and_a_change_elsewhere_does_not(tmp_path, monkeypatch):
    for source in runs.PACKAGE.glob("*.py"):
        (tmp_path / source.name).write_text(source.read_text())
    monkeypatch.setattr(runs, "PACKAGE", tmp_path)
    for module, others, changes in (
        ("utils.training", ("style", "shift", "drift"), ("batchnorm", "data", "training")),
        ("__main__", (), ("shift",)),  # a notebook's own function
    ):
        keys = [runs._folder(module)]
        for name in (*others, *changes):
            with (tmp_path / f"{name}.py").open("a") as file:
                file.write("# changed\n")
            keys.append(runs._folder(module))
        assert len(set(keys[: 1 + len(others)])) == 1
        assert len(set(keys)) == 1 + len(changes)


def test_a_listener_hears_each_step_and_may_end_the_work():
    heard = []

    def listen(done, total):
        heard.append((done, total))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled), listening(listen):
        list(steps(5))
    assert heard == [(0, 5), (1, 5), (2, 5)]
    assert list(steps(3)) == [0, 1, 2]  # nobody listens any more
    assert len(heard) == 3
