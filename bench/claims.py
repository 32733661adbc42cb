"""How long a check of all claims takes: with no run kept, and again with all of them."""

import sys
import time
from collections.abc import Iterator
from tempfile import TemporaryDirectory

from tests.harness.clone import ROOT, run


def seconds(runs: str) -> float:
    """The time of one `python -m utils.claims` that keeps its runs in a folder, in seconds."""
    start = time.perf_counter()
    checked = run(ROOT, sys.executable, "-m", "utils.claims", BOOK_RUNS=runs)
    if checked.returncode not in (0, 1):  # 1: a verdict is not the book's
        raise RuntimeError(checked.stdout[-4000:])
    return time.perf_counter() - start


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach)."""
    with TemporaryDirectory() as runs:
        yield "python -m utils.claims, nothing kept", f"{seconds(runs):.0f} s", "at most 720 s"
        yield "python -m utils.claims, all runs kept", f"{seconds(runs):.0f} s", "at most 60 s"


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
