"""How long a build takes: of a fresh clone with nothing kept, and again with nothing changed."""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.harness.clone import copy_tree, make_book


def seconds(clone: Path) -> float:
    """The time of one `make book`, in seconds."""
    start = time.perf_counter()
    built = make_book(clone, BOOK_RUNS=str(clone / "_build" / "runs"))
    if built.returncode:
        raise RuntimeError(built.stdout[-4000:])
    return time.perf_counter() - start


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach)."""
    with TemporaryDirectory() as folder:
        clone = copy_tree(Path(folder))
        yield "make book, from nothing but the environment", f"{seconds(clone):.0f} s", "at most 240 s"
        yield "make book, nothing changed", f"{seconds(clone):.1f} s", "at most 10 s"
        for stamp in (clone / "_build" / "html").glob(".built-*"):
            stamp.unlink()
        yield "make book, all pages written again, no cell run", f"{seconds(clone):.1f} s", "at most 10 s"
