"""Every run is kept on disk, so that the tests, the build of the book and a live control share it.

A run's key is its function's arguments and whatever else could change its result: the code that runs here, of the
function's module and of all that it imports from `utils` (comments, docstrings and formatting apart), the versions of
torch and NumPy, the kind of processor, and the first seed. A result is written whole or not at all; one that is missing
or damaged is computed again. Of each module's runs the generations last used stay.
"""

import ast
import inspect
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, wraps
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import ParamSpec, TypeVar
from uuid import uuid4

import joblib
import platformdirs

from utils import loaded

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent
GENERATIONS = 3  # of a module's runs
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(files: Iterable[Path]) -> str:
    """Twelve hexadecimal digits that change with any file's name or content; the content of a `.py` file is its code.

    >>> digest([]) == digest([])
    True
    """
    told = sha256()
    for file in sorted(files):
        content = file.read_bytes()
        if file.suffix == ".py":
            content = ast.dump(ast.parse(content)).encode()
        told.update(f"{file.name}\0".encode() + content + b"\0")
    return told.hexdigest()[:12]


@cache
def _read(source: bytes) -> tuple[str, set[str]]:
    """What a source says, docstrings apart; and every module of `utils` that it imports, with some that are none."""
    tree, imported = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            del node.body[0]
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return ast.dump(tree), {name for name in imported if name.startswith("utils.")}


def dependencies(module: str) -> set[str]:
    """Return the modules that a module's results can depend on: itself, and what it and those import from `utils`.

    A module that is not of `utils`, such as a notebook, can depend on all that are loaded.

    >>> dependencies("utils.seeds")
    {'utils.seeds'}
    """
    if not module.startswith("utils."):
        return {name for name, _ in loaded}
    found, waiting = set(), {module}
    while waiting:
        name = waiting.pop()
        if PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py").exists():
            import_module(name)
            found.add(name)
            waiting |= set().union(*(_read(source)[1] for each, source in loaded if each == name)) - found
    return found


@cache
def _code(module: str, own: str, since: int, loads: int) -> str:
    """The digest of a module's code now that `loads` modules are loaded; its function was when `since` were.

    Of a module that was loaded again with another text, nobody can tell which parts of which text run: then the whole
    order of loading is in it, and no process that loaded everything once reads what was computed here.
    """
    names = dependencies(module)
    ran = [(name, _read(source)[0]) for name, source in loaded if name in names]
    if len(set(ran)) == len(names):
        ran, since = sorted(set(ran)), 0
    return _short(ran, own, since)


def _circumstances() -> str:
    """The digest of what else decides a result's last digits."""
    import numpy  # here, for the build of the book needs none of these
    import torch

    from utils.seeds import first_seed

    settings = (os.environ.get(name) for name in ("MKL_CBWR", "ONEDNN_MAX_CPU_ISA"))
    kind = torch.backends.cpu.get_cpu_capability()
    return _short(first_seed(), torch.__version__, numpy.__version__, kind, *settings)


def _short(*told: object) -> str:
    return sha256(repr(told).encode()).hexdigest()[:12]


def _home() -> Path:
    """Where runs lie: in the environment's BOOK_RUNS, else in this book's folder, else in the user's cache."""
    if named := os.environ.get("BOOK_RUNS"):
        return Path(named)
    if (ROOT / "_toc.yml").exists():
        return ROOT / "_build" / "runs"
    return platformdirs.user_cache_path("batch-normalization-examined", appauthor=False) / "runs"


@cache
def _use(generation: Path) -> None:
    """Mark a module's generation, the runs of one state of its code, as used now."""
    with suppress(OSError):
        os.utime(generation)


def _keep(result: object, place: Path) -> None:
    """Write a result whole or, where the disk is full or may not be written, not at all."""
    generation, part = place.parents[1], place.with_suffix(f".{uuid4().hex}")
    try:
        is_new = not generation.exists()
        place.parent.mkdir(parents=True, exist_ok=True)
        if is_new:
            _prune(generation.parent)
        try:
            joblib.dump(result, part, compress=1)
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        _tell(generation.parents[1], error.strerror or str(error))


@cache
def _tell(home: Path, reason: str) -> None:
    """Warn once."""
    warnings.warn(f"Runs are computed but not kept in {home}: {reason}. BOOK_RUNS names another folder.", stacklevel=1)


def _prune(generations: Path) -> None:
    """Leave of a module's generations those last used. Whoever reads another one computes again what it misses."""
    with suppress(OSError):  # another process may do the same
        for old in sorted(generations.iterdir(), key=lambda each: each.stat().st_mtime)[:-GENERATIONS]:
            shutil.rmtree(old, ignore_errors=True)


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a pure function so that each of its results is computed once and then read from disk.

    `func` is the function itself; `check_call_in_cache` takes its arguments and tells whether the result is there.

    >>> from utils.training import Settings, train
    >>> settings = Settings(steps=1)
    >>> (train(settings, seed=0).loss == train(settings, seed=0).loss).all()   # the second is read
    np.True_
    """
    module, since, signature = function.__module__, len(loaded), inspect.signature(function)
    own = "" if module.startswith("utils.") else inspect.getsource(function)

    def place(*args: P.args, **kwargs: P.kwargs) -> Path:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        generation = _home() / module / _code(module, own, since, len(loaded))
        _use(generation)
        return generation / _circumstances() / f"{function.__name__}-{joblib.hash(given.arguments)}.pkl"

    @wraps(function)
    def read_or_compute(*args: P.args, **kwargs: P.kwargs) -> R:
        file = place(*args, **kwargs)
        with suppress(Exception):  # it is not there, or damaged
            return joblib.load(file)
        result = function(*args, **kwargs)
        _keep(result, file)
        return result

    read_or_compute.func = function
    read_or_compute.check_call_in_cache = lambda *args, **kwargs: place(*args, **kwargs).exists()
    return read_or_compute
