"""Every run is kept on disk, so that the tests, the build of the book and a live control share it.

A run's key is its function's arguments and a digest of its module with all that it imports from `utils`: whatever
could change a result makes a new key, and a change elsewhere does not. joblib writes a result whole or not at all, and
computes a damaged one again.
"""

import ast
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import ParamSpec, TypeVar

import joblib

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent
warnings.filterwarnings("ignore", "Persisting input arguments took")  # joblib, where the disk is slow


def digest(files: Iterable[Path]) -> str:
    """Twelve hexadecimal digits that change with the name or the content of any of the files.

    >>> digest([]) == digest([])
    True
    """
    told = sha256()
    for file in sorted(files):
        told.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return told.hexdigest()[:12]


def sources(module: str, package: Path = PACKAGE) -> set[Path]:
    """Return the files that a module's results can depend on: its own, and what it and those import from `utils`.

    A module that is not of `utils`, such as a notebook, can depend on all of them.

    >>> sorted(file.stem for file in sources("utils.batchnorm"))
    ['batchnorm']
    >>> {"batchnorm", "data", "networks"} < {file.stem for file in sources("utils.training")}
    True
    """
    if not module.startswith("utils."):
        return set(package.glob("*.py"))
    found, waiting = set(), [module]
    while waiting:
        file = package.joinpath(*waiting.pop().split(".")[1:]).with_suffix(".py")
        if file.exists() and file not in found:
            found.add(file)
            waiting += _imported(file.read_text())
    return found


def _imported(source: str) -> Iterator[str]:
    """Give the name of every module of `utils` that a source imports, and some that are none."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("utils."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "utils":
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _folder(module: str) -> Path:
    """Where the runs of a module's functions lie, in its present state; the environment's BOOK_RUNS moves it."""
    home = Path(os.environ.get("BOOK_RUNS", ROOT / "_build" / "runs"))
    return home / digest(sources(module, PACKAGE))


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a pure function so that each of its results is computed once and then read from disk.

    >>> from utils.training import Settings, train
    >>> settings = Settings(steps=1)
    >>> (train(settings, seed=0).loss == train(settings, seed=0).loss).all()   # the second is read
    np.True_
    """
    return joblib.Memory(_folder(function.__module__), verbose=0).cache(function)
