"""Make an experiment of the book again: `python -m utils.reproduce NAME`; `--list` names them."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from utils.reproduce import AT_PAPER_SCALE, DATA, SCALES, Job, experiments
from utils.results import HERE, Results, rounded

PATIENCE = 10  # seconds, with a scheduler


def _seeds(text: str) -> range:
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
        raise argparse.ArgumentTypeError(f"expected seeds in a row, such as 0-9, or one, got {text!r}")
    return range(int(first), int(last or first) + 1)


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number of processes, 1 or more, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m utils.reproduce",
        description="Make an experiment of the book again, at the book's size or at the papers'.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="one experiment or several; --list names them")
    parser.add_argument("--list", action="store_true", help="name the experiments and their scales, and do nothing")
    parser.add_argument("--scale", choices=SCALES, default="small", help="the book's size (small), or the papers'")
    parser.add_argument("--data", choices=DATA, default=DATA[0], help="of a VGG, at the paper's scale")
    parser.add_argument("--device", default="cpu", metavar="cpu|cuda", help="where runs at the paper's scale compute")
    parser.add_argument("--seeds", type=_seeds, metavar="A-B", help="0-9 by default; 0-2 at the paper's scale")
    parser.add_argument(
        "--workers", type=_count, metavar="N", help="processes of this machine; one a core, on a GPU one"
    )
    parser.add_argument("--dask", metavar="ADDRESS", help="a Dask scheduler, whose workers compute instead")
    parser.add_argument("--out", type=Path, default=HERE, metavar="FOLDER", help="where the results are kept")
    return parser


def _list() -> None:
    from utils.claims import CHAPTERS

    for name in experiments():
        print(f"{name:26} {CHAPTERS[name]:26} {', '.join(SCALES[: 1 + (name in AT_PAPER_SCALE)])}")


def main(given: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if all was done, 1 if a job failed, 130 if interrupted."""
    parser = _parser()
    asked = parser.parse_args(given)
    if asked.list:
        _list()
        return 0
    try:
        todo, files, on = _prepared(asked)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    done = [job for job in todo if files[job.file].has(job.arm, job.seeds, job.settings)]
    todo = [job for job in todo if job not in done]
    if done:
        print(f"{len(done)} of {len(done) + len(todo)} are already in {asked.out}; they are not made again", flush=True)
    try:
        failed = _work(todo, files, on, shlex.join(["python", "-m", "utils.reproduce", *(given or sys.argv[1:])]))
    except KeyboardInterrupt:
        print(f"interrupted; what was finished is kept in {asked.out}: the same command goes on", file=sys.stderr)
        return 130
    print(f"the results are in {', '.join(sorted({str(each.path) for each in files.values()}))}")
    return int(failed > 0)


def _prepared(asked: argparse.Namespace) -> tuple[list[Job], dict[str, Results], object]:
    """The jobs, the files of their results, and where to compute. ValueError or OSError tell what is wrong."""
    if not asked.names:
        raise ValueError("NAME: expected an experiment; --list names them")
    if unknown := [name for name in asked.names if name not in experiments()]:
        raise ValueError(f"NAME: expected one of {', '.join(experiments())}, got {unknown[0]!r}")
    _check_device(asked.device, asked.scale)
    seeds = asked.seeds or range(10 if asked.scale == "small" else 3)
    if asked.scale == "small":
        if len(seeds) < 2:
            raise ValueError(
                "--seeds: expected two or more at the small scale, since a claim is an interval over seeds"
            )
        os.environ["BOOK_FIRST_SEED"], os.environ["BOOK_SEEDS"] = str(seeds[0]), str(len(seeds))
    else:
        os.environ["BOOK_FIRST_SEED"] = "0"  # a run is told by its own seed
    from utils.reproduce.jobs import jobs

    todo = jobs(asked.names, asked.scale, seeds, asked.device, asked.data)
    if asked.out.exists() and not asked.out.is_dir():
        raise ValueError(f"--out: expected a folder, got the file {asked.out}")
    asked.out.mkdir(parents=True, exist_ok=True)
    if not os.access(asked.out, os.W_OK):
        raise ValueError(f"--out: {asked.out} may not be written; name another folder")
    files = {job.file: Results(asked.out / f"{job.file}.json") for job in todo}
    for each in files.values():
        if each.damaged:
            print(f"{each.damaged}; it is put aside, and begun anew", file=sys.stderr)
    if asked.scale == "paper":
        from utils.reproduce.datasets import load

        for data in {job.settings["data"] for job in todo}:  # fetched once, before the workers ask for it
            load(data)
    return todo, files, _cluster(asked.dask) if asked.dask else asked.workers or _processes(asked.device)


def _check_device(device: str, scale: str) -> None:
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ValueError(f"--device: expected cpu, cuda or cuda:N, got {device!r}")
    if kind == "cpu":
        return
    if scale == "small":
        raise ValueError("--device: the small scale is made for a processor; a GPU serves --scale paper")
    import torch

    if not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device: torch sees {torch.cuda.device_count()} CUDA devices here, not {device}")


def _processes(device: str) -> int:
    return 1 if device.startswith("cuda") else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _cluster(address: str):
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("--dask: the package distributed is missing: pip install distributed") from error
    try:
        return Client(address, timeout=PATIENCE)
    except (OSError, ValueError, TimeoutError) as error:
        raise ValueError(f"--dask: no scheduler answers at {address} ({error})") from error


def _work(todo: Sequence[Job], files: dict[str, Results], on: object, command: str) -> int:
    """Do the jobs, keep each result as it comes, and tell; return how many failed."""
    from utils.sweeps import completed

    failed, ended = 0, completed(_do, [(job,) for job in todo], on)
    try:
        for count, (place, found) in enumerate(ended, 1):
            job = todo[place]
            name = f"{count} of {len(todo)}: {job.arm}" + (f", seed {job.seeds[0]}" if len(job.seeds) == 1 else "")
            if isinstance(found, Exception):
                failed += 1
                print(f"{name}: failed: {type(found).__name__}: {found}".splitlines()[0], file=sys.stderr, flush=True)
                continue
            values = found.pop("values")
            files[job.file].add(job.arm, job.seeds, job.settings, values, {**found, "command": command})
            print(f"{name}: {_short(values)}, {found['seconds']} s", flush=True)
    finally:
        ended.close()
    return failed


def _do(job: Job) -> dict:
    return job.function(*job.arguments)


def _short(values: dict) -> str:
    if "verdict" in values:
        return str(values["verdict"])
    if values["diverged_at"] is not None:
        return f"diverged by step {values['diverged_at']}"
    return f"test accuracy {rounded(values['test_accuracy'][-1])}"


if __name__ == "__main__":
    sys.exit(main())
