"""Who says what about why BN helps, and on what evidence: the works of `utils/literature.json`, read and checked.

Nothing is measured here. Each work was looked up; how far it was read stands beside what it says.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parents[1] / "literature.json"

THEMES = {
    "drift": "drift",  # of the layers' inputs: the internal covariate shift
    "smoothing": "smoothing",  # of the loss
    "rates": "larger rates",  # or effective ones
    "other": "other mechanisms",
}
STANCES = ("for", "against", "in part")
KINDS = ("experiment", "theory", "both", "argument")
READ = ("full text", "part", "abstract", "summary", "not read")
FIELDS = ("key", "authors", "year", "title", "venue", "read", "claim", "evidence", "stance", "beside")
ARXIV = re.compile(r"\d{4}\.\d{4,5}")
FIRST, LAST = 2015, 2026  # years: from the layer's own paper on


class Work(NamedTuple):
    """One work, in this book's words."""

    key: str  # as in `references.bib`
    authors: str  # of more than two the first, and "et al."
    year: int
    title: str
    venue: str
    arxiv: str  # its number, or ""
    read: str  # how far: one of :data:`READ`
    claim: str  # one plain sentence
    kind: str  # of its evidence: one of :data:`KINDS`
    on: str  # which networks, or which problem
    stance: Mapping[str, str]  # by theme, one of :data:`STANCES`; a theme that it leaves alone is left out
    mechanism: str  # the other mechanism's name, where it takes a stand on one
    beside: str  # what the runs of this book show beside it
    shown: str  # where, such as "smoothness#the-bands"; "" where nothing was run
    claims: tuple[str, ...]  # ids of this book's claims that bear on it
    note: str  # what could not be seen, or is our own reading

    @property
    def name(self) -> str:
        """Its authors and year.

        >>> works()[0].name
        'Ioffe and Szegedy 2015'
        """
        return f"{self.authors} {self.year}"

    @property
    def url(self) -> str:
        """Its address on arXiv, or "" where it has none.

        >>> works()[0].url
        'https://arxiv.org/abs/1502.03167'
        """
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""


def work(entry: Mapping[str, Any]) -> Work:
    """Make a work of an entry of the file. Raises ValueError, with the key and the field, where one is wrong.

    >>> work({**EXAMPLE, "year": 1815})
    Traceback (most recent call last):
    ValueError: example2015: expected year from 2015 to 2026, got 1815
    """
    key = entry.get("key", "?")
    if missing := [field for field in FIELDS if not entry.get(field)]:
        raise ValueError(f"{key}: expected {', '.join(missing)}, got nothing")
    stance = {theme: stand for theme, stand in entry["stance"].items() if stand}
    evidence, arxiv = entry["evidence"], entry.get("arxiv", "")
    _one_of(key, "read", entry["read"], READ)
    _one_of(key, "evidence.kind", evidence.get("kind"), KINDS)
    for theme, stand in stance.items():
        _one_of(key, "stance", theme, tuple(THEMES))
        _one_of(key, f"stance.{theme}", stand, STANCES)
    if not FIRST <= entry["year"] <= LAST:
        raise ValueError(f"{key}: expected year from {FIRST} to {LAST}, got {entry['year']}")
    if arxiv and not ARXIV.fullmatch(arxiv):
        raise ValueError(f"{key}: expected arxiv like 1502.03167, got {arxiv!r}")
    if not stance or ("other" in stance) != bool(entry.get("mechanism")):
        raise ValueError(f"{key}: expected a stance, and a mechanism just where it is on other ones, got {stance}")
    texts = {field: entry.get(field, "") for field in ("mechanism", "shown", "note")}
    said = {field: entry[field] for field in FIELDS if field not in ("evidence", "stance")}
    claims = tuple(entry.get("claims", ()))
    return Work(**said, **texts, arxiv=arxiv, kind=evidence["kind"], on=evidence["on"], stance=stance, claims=claims)


def _one_of(key: str, field: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: expected {field} among {allowed}, got {value!r}")


EXAMPLE = {
    "key": "example2015",
    "authors": "Nobody",
    "year": 2015,
    "title": "An Example",
    "venue": "nowhere",
    "read": "not read",
    "claim": "It says so.",
    "evidence": {"kind": "theory", "on": "no network"},
    "stance": {"drift": "for"},
    "beside": "Not run here.",
}


@cache
def works() -> tuple[Work, ...]:
    """Read all works, in the order of their years. Raises ValueError where an entry is wrong, or a key comes twice.

    >>> works()[0].stance["drift"]
    'for'
    """
    found = [work(entry) for entry in json.loads(FILE.read_text(encoding="utf-8"))]
    for field in ("key", "arxiv"):
        values = [getattr(each, field) for each in found if getattr(each, field)]
        if twice := {value for value in values if values.count(value) > 1}:
            raise ValueError(f"{field}: expected each once, got {sorted(twice)} more often")
    return tuple(sorted(found, key=lambda each: (each.year, each.key)))


def about(theme: str, stance: str = "") -> list[Work]:
    """The works that take a stand on a theme of :data:`THEMES`, or just the stand `stance`, in the order of time.

    >>> [each.name for each in about("drift", "for")]
    ['Ioffe and Szegedy 2015', 'Awais et al. 2020']
    """
    _one_of("about", "theme", theme, tuple(THEMES))
    _one_of("about", "stance", stance, ("", *STANCES))
    return [each for each in works() if each.stance.get(theme) in ((stance,) if stance else STANCES)]


def counts(theme: str) -> dict[str, int]:
    """How many works take each stand on a theme.

    >>> counts("drift")
    {'for': 2, 'against': 3, 'in part': 0}
    """
    return {stance: len(about(theme, stance)) for stance in STANCES}


def claims_beside(chosen: Iterable[Work]) -> list[str]:
    """The ids of this book's claims that bear on some works, each once, in the order in which they come.

    >>> claims_beside(about("drift", "for"))[0]
    'ics.last-layer-drifts-less'
    """
    return list(dict.fromkeys(name for each in chosen for name in each.claims))
