"""Every run is kept on disk, so that the tests, the build of the book and a live control share it.

A run's key is its function's arguments and a digest of the mathematics of `utils`: whatever could change a
result makes a new key, and a change of colours does not. joblib writes a result whole or not at all, and computes
a damaged one again.
"""

import os
import warnings
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import ParamSpec, TypeVar

import joblib

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent
warnings.filterwarnings("ignore", "Persisting input arguments took")  # joblib, where the disk is slow

PICTURES = ("style", "explore")  # all other modules are mathematics and may change a result


def digest(files: Iterable[Path]) -> str:
    """Twelve hexadecimal digits that change with the name or the content of any of the files.

    >>> digest([]) == digest([])
    True
    """
    told = sha256()
    for file in sorted(files):
        told.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    return told.hexdigest()[:12]


def _folder() -> Path:
    """Where runs of this state of the mathematics lie; the environment's BOOK_RUNS moves it."""
    home = Path(os.environ.get("BOOK_RUNS", ROOT / "_build" / "runs"))
    return home / digest(module for module in PACKAGE.glob("*.py") if module.stem not in PICTURES)


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a pure function so that each of its results is computed once and then read from disk.

    >>> from utils.training import Settings, train
    >>> settings = Settings(steps=1)
    >>> (train(settings, seed=0).loss == train(settings, seed=0).loss).all()   # the second is read
    np.True_
    """
    return joblib.Memory(_folder(), verbose=0).cache(function)
