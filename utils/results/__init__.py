"""Results that take too long to make again: runs at the papers' size, as small JSON files that lie here.

A file holds a list of runs, each with its arm, seeds and settings, its values, and where, when and by which command it
was made (`python -m utils.reproduce`).
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from filelock import FileLock

HERE = Path(__file__).parent


class Results:
    """A file of results: a list of runs, each with its arm, seeds, settings, values, and where and when it was made.

    It is written whole after every run that ends, so that an interruption costs no finished run.
    """

    def __init__(self, path: Path):
        self.path, self.runs, self.damaged = path, [], None
        if path.exists():
            try:
                self.runs = _read(path)
            except ValueError as error:
                self.damaged = str(error)

    def has(self, arm: str, seeds: Sequence[int], settings: Mapping) -> bool:
        """Whether a finished run with this name, these seeds and these settings is in it."""
        return any((run["arm"], run["seeds"], run["settings"]) == (arm, list(seeds), settings) for run in self.runs)

    def add(self, arm: str, seeds: Sequence[int], settings: Mapping, values: Mapping, told: Mapping) -> None:
        """Keep what a run gave, in place of an older one of the same arm and seeds. Raises OSError where it cannot."""
        name = {"arm": arm, "seeds": list(seeds)}
        with FileLock(self.path.with_suffix(".lock")):  # two commands may share a file
            if self.damaged:
                self.path.replace(self.path.with_suffix(".damaged"))
                self.damaged = None
            if self.path.exists():
                self.runs = _read(self.path)
            kept = [run for run in self.runs if {key: run[key] for key in name} != name]
            new = {**name, "settings": settings, **told, "values": rounded(values)}
            self.runs = sorted([*kept, new], key=lambda run: (run["arm"], run["seeds"]))
            part = self.path.with_suffix(".part")
            part.write_text("[\n" + ",\n".join(json.dumps(run) for run in self.runs) + "\n]\n", encoding="utf-8")
            part.replace(self.path)


def rounded(values: object) -> object:
    """Numbers to five digits, as small JSON; what is not finite as None.

    >>> rounded({"a": [1.23456789, float("inf")], "b": 3})
    {'a': [1.2346, None], 'b': 3}
    """
    if isinstance(values, Mapping):
        return {str(name): rounded(value) for name, value in values.items()}
    if isinstance(values, Sequence) and not isinstance(values, str):
        return [rounded(value) for value in values]
    if isinstance(values, float):
        return float(f"{values:.5g}") if abs(values) < float("inf") else None
    return values


def _read(path: Path) -> list[dict]:
    """The runs of a file. Raises ValueError where it is not one of ours."""
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    wanted = {"arm", "seeds", "settings", "values"}
    if not isinstance(runs, list) or not all(isinstance(run, dict) and wanted <= set(run) for run in runs):
        raise ValueError(f"{path}: expected a list of runs, each with {sorted(wanted)}")
    return runs


@cache
def results(file: str, folder: Path = HERE) -> list[dict]:
    """The runs of a file of results that the book has; an empty list where it has none.

    >>> results("of nothing")
    []
    """
    path = folder / f"{file}.json"
    return _read(path) if path.exists() else []
