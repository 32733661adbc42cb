"""Batch Normalization from scratch, the experiments of the book, and its explorable figures.

The package remembers the source of every module of its own that is loaded, in the order of loading: a file may be
edited afterwards, but what is computed here was computed by what `loaded` holds (see `utils.cache`).
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

loaded: list[tuple[str, bytes]] = getattr(sys.modules[__name__], "loaded", [])  # it outlives a reload of this module


class _Loader(SourceFileLoader):
    """Compiles each module afresh: a `.pyc` may be that of an older text of the same length and second."""

    def path_stats(self, path: str) -> dict:
        raise OSError("no .pyc is asked for")

    def source_to_code(self, data: bytes, path: str, **how: int) -> CodeType:
        loaded.append((self.name, bytes(data)))
        return super().source_to_code(data, path, **how)


class _Finder(PathFinder):
    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = super().find_spec(fullname, path, target) if fullname.startswith("utils.") else None
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.origin)
        return spec


sys.meta_path.insert(0, _Finder)
