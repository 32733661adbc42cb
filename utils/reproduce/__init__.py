"""Every experiment of the book as a command, `python -m utils.reproduce NAME`, at the book's size and the papers'.

At the small scale an experiment is what its chapter claims, each claim a job: the book's own evidence, with any seeds.
At the paper's scale it is runs of :mod:`utils.reproduce.paper`, each a job, whose results stay in small JSON files;
the book's ledger reads those that lie in `utils/results`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from utils.reproduce.paper import Paper

SCALES = ("small", "paper")
DATA = ("fashion-mnist", "cifar-10")  # of a VGG; the second is the paper's

_VGG_ARMS = {
    "noise_on_purpose": ("plain, rate 0.1", "bn, rate 0.1", "noisy, rate 0.1", "noisy plain, rate 0.1"),
    "smoothness": ("plain, rate 0.1", "bn, rate 0.1"),
    "two_meanings": ("plain, rate 0.1", "bn, rate 0.1"),
    "intro": ("plain, rate 0.1", "bn, rate 0.1", "plain, rate 0.5", "bn, rate 0.5"),
}
_SIGMOIDS = ("what_batchnorm_buys", "internal_covariate_shift")
AT_PAPER_SCALE = (*_VGG_ARMS, *_SIGMOIDS)


def experiments() -> tuple[str, ...]:
    """The names of all experiments: the subjects of the book's chapters, in their order.

    >>> "smoothness" in experiments()
    True
    """
    from utils.claims import CHAPTERS

    return tuple(CHAPTERS)[:-1]  # the last judges them again, at the papers' size


def paper_arms(name: str, data: str = DATA[0]) -> "dict[str, Paper]":
    """The arms of an experiment at the paper's scale. Raises ValueError where it has none.

    >>> list(paper_arms("smoothness"))
    ['plain, rate 0.1', 'bn, rate 0.1']
    """
    from utils.reproduce.paper import SIGMOIDS, VGG

    if name in _SIGMOIDS:
        return SIGMOIDS
    if name in _VGG_ARMS:
        return {arm: replace(VGG[arm], data=data) for arm in _VGG_ARMS[name]}
    raise ValueError(f"{name} has no paper scale; those that have: {', '.join(AT_PAPER_SCALE)}")


class Job(NamedTuple):
    """One unit of work: what is lost when its worker dies."""

    file: str  # of the results, without its ending
    arm: str
    seeds: tuple[int, ...]
    settings: dict  # that decide the result, as plain values
    function: Callable
    arguments: tuple
