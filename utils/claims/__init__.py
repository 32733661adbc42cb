"""What the book says, and what its runs make of it: every claim by name, with its rule and its verdict.

A claim is measured in one or more settings, with one value a seed in each. Its rule says where the values lie if the
claim is true; a setting counts for the claim where the whole 95 % interval lies there, and against it where the whole
interval lies outside. The verdict is computed: `holds` if all settings count for it, `contradicted` if all count
against it, `in part` if some do, `open` otherwise. One module a chapter holds the chapter's claims (`CLAIMS`);
`python -m utils.claims` checks them.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from utils import intervals
from utils.intervals import Interval
from utils.progress import track

CHAPTERS = {
    "intro": "First page",
    "covariate_shift": "Covariate shift",
    "internal_covariate_shift": "Internal covariate shift",
    "two_meanings": "Two definitions",
    "normalise": "Normalisation",
    "scale_and_shift": "Scale and shift",
    "gradient": "The gradient",
    "evaluation": "Training and evaluation",
    "convolutions": "Convolutions and batches",
    "what_batchnorm_buys": "What BN buys",
    "scale_invariance": "Length of the weights",
    "relatives": "Its relatives",
    "placement": "Before or after",
    "noise_on_purpose": "The noise experiment",
    "smoothness": "Smoothness",
    "theorem_lab": "The theorem lab",
    "interventions": "Take it apart",
    "mechanisms": "Other mechanisms",
    "what_can_be_said": "The verdict",
    "failure_lab": "The failure lab",
    "test_time_statistics": "Shift at test time",
    "conventions": "Conventions",
    "spot_the_bug": "Spot the bug",
    "paper_scale": "At the papers' size",
}
"""The subjects that make claims, in the order of the book, and how a list of them is headed."""


AUTHORS = ("Ioffe & Szegedy 2015", "Santurkar et al. 2018", "this book")


class Verdict(StrEnum):
    """What the runs make of a claim."""

    HOLDS = "holds"
    IN_PART = "in part"
    OPEN = "open at this scale"
    CONTRADICTED = "contradicted"


ESTIMATES: dict[str, Callable[[ArrayLike], Interval]] = {
    "mean": intervals.mean,  # of differences
    "ratio": intervals.ratio,  # the geometric mean
    "median": intervals.median,  # for ratios that may be infinite
    "share": intervals.share,  # of True
    "interval": lambda values: Interval(*map(float, values)),  # which the evidence itself gives
    "exact": lambda values: Interval(*[float(np.max(values))] * 3),  # the largest error: of algebra, no sample
}


@dataclass(frozen=True)
class Rule:
    """Where an estimate lies if the claim is true: from `low` to `high`, both excluded but for infinity."""

    low: float = -np.inf
    high: float = np.inf

    def __str__(self) -> str:
        """The rule in words.

        >>> print(Rule(low=1.5)), print(Rule(high=0.0)), print(Rule(0.5, 2.0))
        above 1.5
        below 0
        between 0.5 and 2
        (None, None, None)
        """
        if np.isfinite(self.low) and np.isfinite(self.high):
            return f"between {self.low:g} and {self.high:g}"
        return f"above {self.low:g}" if np.isfinite(self.low) else f"below {self.high:g}"

    def holds(self, interval: Interval) -> bool | None:
        """Whether the whole interval lies inside (True) or outside (False); None where it does neither.

        >>> Rule(low=1.0).holds(Interval(3, 2, 4)), Rule(low=1.0).holds(Interval(0.5, 0.2, 0.9))
        (True, False)
        >>> Rule(low=1.0).holds(Interval(1.5, 0.5, 2.5)) is None
        True
        """
        if (self.low < interval.low and interval.high < self.high) or interval.low == np.inf == self.high:
            return True
        return False if interval.high <= self.low or interval.low >= self.high else None


def above(margin: float) -> Rule:
    """The rule of what is larger than `margin`.

    >>> above(1.0)
    Rule(low=1.0, high=inf)
    """
    return Rule(low=margin)


def below(margin: float) -> Rule:
    """The rule of what is smaller than `margin`.

    >>> below(1.0)
    Rule(low=-inf, high=1.0)
    """
    return Rule(high=margin)


@dataclass(frozen=True)
class Claim:
    """One statement of the book or of a paper.

    `evidence` returns the values of every setting, (seeds,) each: paired differences, ratios, hits, or errors, as
    `estimate` says (a name of :data:`ESTIMATES`). The margin of `rule` is set by what the sentence says.
    """

    id: str  # the chapter's subject and a name, as in "speed.fewer-steps"
    sentence: str  # as the book says it
    source: str  # paper, section, its number and setting; or "this book"
    measured: str  # what is measured, in words
    evidence: Callable[[], Mapping[str, ArrayLike]]
    rule: Rule
    estimate: str = "mean"
    unit: str = ""
    stated: Verdict = Verdict.HOLDS  # what the page says; the check fails where the runs say another thing
    shown: str = ""  # the section of the chapter that shows it, such as "what_batchnorm_buys#how-many-steps"
    repeats: str = ""  # the claim that this one judges once more, by runs at the papers' size

    @property
    def chapter(self) -> str:
        """The chapter whose subject it is; it may be shown on the page in depth beside it."""
        return self.shown.partition("#")[0].removesuffix("_in_depth")

    @property
    def whose(self) -> str:
        """Who says it: one of :data:`AUTHORS`, for which its source begins with the name, or others."""
        return next((name for name in AUTHORS if self.source.startswith(name)), "others")


class Checked(NamedTuple):
    """A claim and what the runs make of it."""

    claim: Claim
    verdict: Verdict
    intervals: dict[str, Interval]  # of each setting
    seeds: int
    seconds: float

    @property
    def weakest(self) -> tuple[str, Interval]:
        """The setting that speaks least for the claim.

        >>> check(EXAMPLE).weakest[0]
        'b'
        """
        rule = self.claim.rule

        def room(interval: Interval) -> float:
            below = interval.low - rule.low if np.isfinite(rule.low) else np.inf
            return min(below, rule.high - interval.high if np.isfinite(rule.high) else np.inf)

        name = min(self.intervals, key=lambda each: room(self.intervals[each]))
        return name, self.intervals[name]

    @property
    def as_stated(self) -> bool:
        """Whether the verdict is the one that the book states.

        >>> check(EXAMPLE).as_stated
        True
        """
        return self.verdict == self.claim.stated


def check(claim: Claim) -> Checked:
    """Measure a claim and judge it by its rule. Raises ValueError where a setting has no value, or a nan.

    >>> checked = check(EXAMPLE)
    >>> checked.verdict, checked.seeds
    (<Verdict.HOLDS: 'holds'>, 3)
    """
    start = time.perf_counter()
    judged = judge(claim, claim.evidence())
    return judged._replace(seconds=time.perf_counter() - start)


def judge(claim: Claim, evidence: Mapping[str, ArrayLike]) -> Checked:
    """Judge a claim by its rule, on values that were measured. Raises as :func:`check` does.

    >>> judge(EXAMPLE, {"a": [-2.0, -2.1], "b": [2.0, 2.1]}).verdict
    <Verdict.IN_PART: 'in part'>
    """
    values = {setting: np.asarray(each, dtype=float).ravel() for setting, each in evidence.items()}
    if not values:
        raise ValueError(f"{claim.id}: expected a setting at least, got none")
    for setting, each in values.items():
        if not len(each) or np.isnan(each).any():
            raise ValueError(f"{claim.id}, {setting}: expected a number for every seed, got {each}")
    found = {setting: ESTIMATES[claim.estimate](each) for setting, each in values.items()}
    votes = [claim.rule.holds(interval) for interval in found.values()]
    if all(votes):
        verdict = Verdict.HOLDS
    elif all(vote is False for vote in votes):
        verdict = Verdict.CONTRADICTED
    else:
        verdict = Verdict.IN_PART if any(votes) else Verdict.OPEN
    seeds = max(len(each) for each in values.values())
    return Checked(claim, verdict, found, seeds, 0.0)


EXAMPLE = Claim(
    "example.two-settings",
    "Both settings are above zero.",
    "an example",
    "three numbers",
    lambda: {"a": [2.0, 2.1, 2.2], "b": [1.0, 1.1, 1.2]},
    above(0.0),
)


def registry(chapters: Iterable[str] = CHAPTERS) -> dict[str, Claim]:
    """All claims of the book, in the order of its chapters, by their ids. Raises ValueError where an id comes twice.

    >>> all(claim.id == name for name, claim in registry().items())
    True
    """
    claims = [claim for chapter in chapters for claim in import_module(f"utils.claims.{chapter}").CLAIMS]
    names = [claim.id for claim in claims]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"id: expected each once, got {sorted(twice)} more often")
    return dict(zip(names, claims, strict=True))


@cache
def ledger(chapters: tuple[str, ...] = tuple(CHAPTERS)) -> list[Checked]:
    """Check all claims of the book, or of some chapters, once.

    >>> len(ledger(("normalise",))) == len(registry(["normalise"]))
    True
    """
    return [check(claim) for claim in track(list(registry(chapters).values()))]
