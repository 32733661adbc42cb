"""Every run is kept on disk, so that the tests, the build of the book and a live control share it.

A run's key is its function's arguments and whatever else could change its result: the code that runs here, of the
function and of all that it names, in its own module and in the others of `utils` (comments, docstrings and formatting
apart), the versions of torch and NumPy, the kind of processor, and the first seed. A result is written whole or not at
all; one that is missing or damaged is computed again. Of each function's runs the generations last used stay. Where two
processes want the same result, one computes and the other waits.
"""

import ast
import inspect
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, wraps
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar
from uuid import uuid4

import joblib
import platformdirs
from filelock import FileLock, Timeout

from utils import loaded
from utils.progress import progress_range

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent
GENERATIONS = 3  # of a function's runs
ALL = "*"
PATIENCE = 0.2  # seconds between two looks at whether a listener still waits
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


class _Source(NamedTuple):
    """A module's text, taken apart into what its names stand for; docstrings are left out."""

    code: dict[str, str]  # of each name defined at the top; of all that defines none under ""
    names: dict[str, set[str]]  # that the code of each name mentions
    imports: dict[str, set[tuple[str, str]]]  # what it brings in from `utils`


@cache
def _read(source: bytes) -> _Source:
    told, found = _Source({}, {}, {}), ast.parse(source)
    for node in ast.walk(found):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            del node.body[0]
    for node in found.body:
        inside = list(ast.walk(node))
        names = {each.id for each in inside if isinstance(each, ast.Name)}
        for name in _defined(node) or {""}:
            told.code[name] = told.code.get(name, "") + ast.dump(node)
            told.names.setdefault(name, set()).update(names)
            told.imports.setdefault(name, set()).update(*map(_imported, inside))
    return told


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module gives a meaning, or changes."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return {node.name} if isinstance(node, DOCUMENTED[1:]) else set()


def _imported(node: ast.AST) -> set[tuple[str, str]]:
    """What an import brings in from `utils`: a module and a name, or all of a module."""
    if isinstance(node, ast.Import):
        pairs = {(alias.name, ALL) for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
        pairs = {(f"{node.module}.{alias.name}", ALL) for alias in node.names}
        pairs |= {(node.module, alias.name) for alias in node.names}
    else:
        return set()
    return {(module, name) for module, name in pairs if _is_own(module) and module != __name__}  # storing is no result


@cache
def _is_own(module: str) -> bool:
    return module.startswith("utils.") and PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py").exists()


def dependencies(module: str, name: str = ALL) -> set[tuple[str, str]]:
    """Return every module and name that a function can depend on; by default those of all that its module holds.

    What defines no name belongs to each function of its module and stands under "". A module that is not of `utils`,
    such as a notebook, can depend on all that is loaded.

    >>> sorted(name for _, name in dependencies("utils.seeds", "numpy_rng"))
    ['first_seed', 'np', 'numpy_rng', 'os']
    """
    if not module.startswith("utils."):
        return {(each, name) for each, source in loaded for name in _read(source).code}
    found, waiting = set(), {(module, name)}
    while waiting:
        module, name = waiting.pop()
        import_module(module)
        for source in (_read(text) for each, text in loaded if each == module):
            for each in {name, ""} & set(source.code) if name in source.code else source.code:
                found.add((module, each))
                waiting |= {(module, other) for other in source.names[each] & set(source.code)} | source.imports[each]
        waiting = {
            (each, what) for each, what in waiting if (each, what) not in found and (each, what) != (module, name)
        }
    return found


@cache
def _code(module: str, function: str, own: str, since: int, loads: int) -> str:
    """The digest of a function's code now that `loads` modules are loaded; when it was defined, `since` were.

    Of a module that was loaded again with another text, nobody can tell which parts of which text run: then the whole
    order of loading is in it, and no process that loaded everything once reads what was computed here.
    """
    names = dependencies(module, function)
    modules = {each for each, _ in names}
    ran = [
        (each, *(code for name, code in sorted(_read(source).code.items()) if (each, name) in names))
        for each, source in loaded
        if each in modules
    ]
    if len(set(ran)) == len(modules):
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
    """Mark a function's generation, the runs of one state of its code, as used now."""
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


@contextmanager
def _turn(place: Path) -> Iterator[None]:
    """Wait until no other process computes this result. Where nothing can be locked, nobody waits."""
    file = _home() / "locks" / f"{_short(str(place))}.lock"
    lock = FileLock(file)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=PATIENCE)
            except Timeout:
                list(progress_range(1))  # whose listener may end the waiting
    try:
        yield
    finally:
        if lock.is_locked:
            lock.release()
            with suppress(OSError):
                file.unlink()


@cache
def _tell(home: Path, reason: str) -> None:
    """Warn once."""
    warnings.warn(f"Runs are computed but not kept in {home}: {reason}. BOOK_RUNS names another folder.", stacklevel=1)


def _prune(generations: Path) -> None:
    """Leave of a function's generations those last used. Whoever reads another one computes again what it misses."""
    with suppress(OSError):  # another process may do the same
        for old in sorted(generations.iterdir(), key=lambda each: each.stat().st_mtime)[:-GENERATIONS]:
            shutil.rmtree(old, ignore_errors=True)


def cached(function: Callable[P, R]) -> Callable[P, R]:
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
        code = _code(module, function.__qualname__, own, since, len(loaded))
        generation = _home() / f"{module}.{function.__qualname__}" / code
        _use(generation)
        return generation / _circumstances() / f"{joblib.hash(given.arguments)}.pkl"

    @wraps(function)
    def read_or_compute(*args: P.args, **kwargs: P.kwargs) -> R:
        file = place(*args, **kwargs)
        with suppress(Exception):  # it is not there, or damaged
            return joblib.load(file)
        with _turn(file):
            with suppress(Exception):  # nobody has made it meanwhile
                return joblib.load(file)
            result = function(*args, **kwargs)
            _keep(result, file)
        return result

    read_or_compute.func = function
    read_or_compute.check_call_in_cache = lambda *args, **kwargs: place(*args, **kwargs).exists()
    return read_or_compute
