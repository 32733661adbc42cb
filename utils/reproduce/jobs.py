"""The jobs of an experiment: a claim of its chapter at the small scale, a run of one seed at the paper's."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import torch

from utils.reproduce import DATA, Job, paper_arms

_ELSEWHERE = """
import json, sys
from utils.reproduce.jobs import check_claim
print(json.dumps(check_claim(*json.loads(sys.argv[1]))))
"""


def jobs(names: Sequence[str], scale: str, seeds: Sequence[int], device: str = "cpu", data: str = DATA[0]) -> list[Job]:
    """Return the jobs of some experiments at one of the two scales, with these seeds, which stand in a row.

    Of runs at the paper's scale, all arms with the first seed come first: whoever stops early has a whole comparison.
    Raises ValueError for an unknown experiment, or one without that scale.

    >>> [job.arm for job in jobs(["smoothness"], "paper", range(2))]
    ['plain, rate 0.1', 'bn, rate 0.1', 'plain, rate 0.1', 'bn, rate 0.1']
    """
    if scale == "paper":
        arms = {(arm.network, each): arm for name in names for each, arm in paper_arms(name, data).items()}
        return [
            Job(f"{arm.network}-{arm.data}", each, (seed,), asdict(arm), run_paper, (arm, seed, device))
            for seed in seeds
            for (_, each), arm in arms.items()
        ]
    from utils.claims import CHAPTERS, registry

    if unknown := set(names) - set(CHAPTERS):
        raise ValueError(f"NAME: expected some of {', '.join(CHAPTERS)}, got {', '.join(unknown)}")
    first, count = seeds[0], len(seeds)
    return [
        Job(f"{name}-small", claim, tuple(seeds), {"rule": str(each.rule)}, check_claim, (claim, first, count))
        for name in dict.fromkeys(names)
        for claim, each in registry([name]).items()
    ]


def run_paper(arm, seed: int, device: str) -> dict:
    """Do one run at the paper's scale, :func:`utils.reproduce.paper.run`, and tell of it as :func:`told` does.

    >>> from dataclasses import replace
    >>> from utils.reproduce.paper import VGG
    >>> run_paper(replace(VGG["bn, rate 0.1"], data="none"), 0, "cpu")
    Traceback (most recent call last):
    ValueError: data: expected one of ['mnist', 'fashion-mnist', 'cifar-10'], got 'none'
    """
    from utils.reproduce.paper import run

    return told(run, arm, seed, device)


def check_claim(claim: str, first: int, count: int) -> dict:
    """Check a claim with the seeds from `first` on, `count` of them: its verdict, its estimates, and every value.

    Their number is read where experiments are imported, so a process that was started with others asks a new one.

    >>> from utils.seeds import first_seed, run_count
    >>> list(check_claim("normalise.invariance", first_seed(), run_count())["values"])
    ['verdict', 'estimates', 'evidence']
    """
    wanted = {"BOOK_FIRST_SEED": str(first), "BOOK_SEEDS": str(count)}
    from utils.seeds import first_seed, run_count

    if (first_seed(), run_count()) != (first, count):
        code = [sys.executable, "-c", _ELSEWHERE, json.dumps([claim, first, count])]
        done = subprocess.run(code, env={**os.environ, **wanted}, capture_output=True, encoding="utf-8", check=False)
        if done.returncode:
            raise RuntimeError(f"{claim}: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}")
        return json.loads(done.stdout.splitlines()[-1])
    from utils.claims import judge, registry

    def values() -> dict:
        checked = registry()[claim]
        evidence = {name: np.asarray(each, dtype=float).ravel() for name, each in checked.evidence().items()}
        found = judge(checked, evidence)
        return {
            "verdict": found.verdict,
            "estimates": {name: list(interval) for name, interval in found.intervals.items()},
            "evidence": {name: each.tolist() for name, each in evidence.items()},
        }

    return told(values)


def told(function, *arguments) -> dict:
    """Call a function of plain numbers, and tell where and when: "device", "versions", "date", "seconds", "values".

    >>> sorted(told(dict))
    ['date', 'device', 'seconds', 'values', 'versions']
    """
    start = time.perf_counter()
    values = function(*arguments)
    on_gpu = any(isinstance(each, str) and each.startswith("cuda") for each in arguments)
    return {
        "device": torch.cuda.get_device_name(arguments[-1]) if on_gpu else _processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            **({"cudnn": str(torch.backends.cudnn.version())} if on_gpu else {}),
        },
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(time.perf_counter() - start, 1),
        "values": values,
    }


def _processor() -> str:
    """The kind of processor, as torch sees it."""
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
