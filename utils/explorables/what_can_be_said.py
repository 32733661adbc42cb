"""The explorables of the chapter "Say what can be said"."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from utils.explorables import smoothness, two_meanings
from utils.explorables.intro import DEPTHS, RATES
from utils.explorables.what_batchnorm_buys import EXAMPLES, RACE_RATES, RACERS, few, races
from utils.explore import Drawing, explore
from utils.gains import DEEP, at_own_rates, steps_saved, usable
from utils.gradient_shift import Both, ratio, watch_both
from utils.ranks import rank_correlation
from utils.smoothness import Course, times, watch_course
from utils.style import ARMS, INK, MUTED, figure, number
from utils.sweeps import sweep
from utils.training import Run, train_all

SEEDS = 5

# --- the four benefits ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One setting in which a benefit was measured: a value for each seed, nan where it has none."""

    setting: str
    values: np.ndarray  # (seeds,)
    arm: str = "bn"

    @property
    def counted(self) -> np.ndarray:
        """The values that are numbers."""
        return self.values[np.isfinite(self.values)]


@cache
def stable() -> list[Row]:
    """How many times as large the largest usable learning rate is with BN, for each seed of the intro's networks.

    Usable: at least 0.9 of the best that either arm reaches with this seed. Infinite where plain has no usable rate.
    """
    rows = []
    for depth in DEPTHS:
        arms = [replace(DEEP, norm=norm, depth=depth, lr=rate) for norm in ("plain", "bn") for rate in RATES]
        last = np.array([[run.test_accuracy[-1] for run in runs] for runs in train_all(arms, SEEDS)])
        plain, bn = last.reshape(2, len(RATES), SEEDS)
        best = last.max(0)  # of this seed
        top = [[max(usable(RATES, arm[:, i], best[i]), default=0) for i in range(SEEDS)] for arm in (plain, bn)]
        with np.errstate(divide="ignore"):
            rows.append(Row(f"ReLU, He, {depth} layers", np.divide(top[1], top[0])))
    return rows


@cache
def faster() -> list[Row]:
    """How many times fewer steps BN takes to the plain network's best accuracy; nan where BN never gets there.

    A network that does not learn without BN (below one half) has nothing to race against and is left out.
    """
    rows = []
    for (network, rate), (plain, bn) in races().items():
        taken = np.array([steps_saved(*pair) for pair in zip(plain, bn, strict=True)])
        if min(run.test_accuracy.max() for run in plain) > 0.5:
            ratio = np.where(np.isfinite(taken[:, 1]), taken[:, 0] / taken[:, 1], np.nan)
            rows.append(Row(f"{network}, rate {rate:g}", ratio))
    return rows


@cache
def regularised() -> list[Row]:
    """The test accuracy after training on few examples, in points above the plain network's: BN's and dropout's."""
    rows = []
    for examples in EXAMPLES:
        last = {arm: np.array([run.test_accuracy[-1] for run in runs]) for arm, runs in few(examples).items()}
        for arm in ("bn", "dropout"):
            rows.append(
                Row(f"{ARMS[arm].label if arm in ARMS else arm}, {examples} examples", last[arm] - last["plain"], arm)
            )
    return [replace(row, values=100 * row.values) for row in rows]


def general(score: Callable[[Run], float]) -> list[Row]:
    """A score of each network's runs, in points above the plain network's, each arm at its best of three rates."""
    rows = []
    for network in RACERS:
        of_rates = {rate: races()[network, rate] for rate in RACE_RATES}
        slow, quick, _ = at_own_rates(of_rates)
        plain, bn = ([score(run) for run in of_rates[rate][arm]] for arm, rate in enumerate((slow, quick)))
        rows.append(Row(network, 100 * np.subtract(bn, plain)))
    return rows


def accuracy(run: Run) -> float:
    """The best test accuracy that was seen."""
    return run.test_accuracy.max()


def closeness(run: Run) -> float:
    """How little the last training accuracy (50 mini-batches) is above the last test accuracy: minus the gap."""
    return run.test_accuracy[-1] - run.accuracy[-50:].mean()


@dataclass(frozen=True)
class Benefit:
    """A benefit that BN is said to have: where it was measured, and how its axis reads."""

    rows: Callable[[], list[Row]]
    title: str
    ticks: tuple[float, ...]
    times: bool  # a ratio, on a logarithmic axis, whose neutral value is 1; else a difference in points
    unit: str


BENEFITS = {
    "stable training": Benefit(stable, "largest rate, BN over plain", (0.3, 1, 3, 10, 30, 100), True, "times"),
    "faster learning": Benefit(faster, "steps, plain over BN", (0.3, 1, 3, 10, 30), True, "times"),
    "regularisation": Benefit(regularised, "test accuracy above plain", (-6, -3, 0, 3, 6), False, "points"),
    "better generalisation": Benefit(
        lambda: general(accuracy), "test accuracy above plain", (-4, -2, 0, 2, 4), False, "points"
    ),
    "a smaller gap": Benefit(
        lambda: general(closeness), "gap smaller than plain's by", (-4, -2, 0, 2, 4), False, "points"
    ),
}


@explore(benefit=list(BENEFITS))
def evidence(benefit: str = "faster learning") -> Drawing:
    """The evidence of this book, seed by seed: to the right of the line it speaks for BN, to the left against it."""
    shown, neutral = BENEFITS[benefit], 1 if BENEFITS[benefit].times else 0
    rows = shown.rows()
    fig, (ax,) = figure(shown.title, height=3.5, left=2.55)
    for place, row in enumerate(rows):
        _row(ax, len(rows) - place, row)
    ax.axvline(neutral, color=INK, linewidth=1)
    ax.set(ylim=(0.4, len(rows) + 0.6), xlabel="times" if shown.times else "percentage points")
    ax.set_yticks(range(len(rows), 0, -1), [row.setting for row in rows])
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.grid(visible=False, axis="y")
    if shown.times:
        ax.set_xscale("log")
    ax.set_xticks(shown.ticks, [number(tick) for tick in shown.ticks])
    ax.minorticks_off()
    low, high = shown.ticks[0], shown.ticks[-1]
    ax.set_xlim((low / 1.2, high * 1.2) if shown.times else (low - 0.5, high + 0.5))
    return fig, _told(benefit, rows, neutral, shown.unit)


def _row(ax: Axes, height: float, row: Row) -> None:
    colour = ARMS[row.arm].colour if row.arm in ARMS else MUTED
    many = np.full(len(row.counted), height)
    ax.plot(row.counted, many, "o", color=colour, alpha=0.45, markersize=5, markeredgewidth=0)
    if len(row.counted):
        ax.plot(np.median(row.counted), height, "|", color=colour, markersize=15, markeredgewidth=2.6)
    if alone := np.isposinf(row.values).sum():
        edge = {"transform": ax.get_yaxis_transform(), "color": colour}
        ax.text(1.0, height, f"{alone} × ∞ ▸", ha="right", va="center", fontsize=9, **edge)


def _told(benefit: str, rows: list[Row], neutral: float, unit: str) -> str:
    """Count the settings and seeds that speak for BN, and give the range of the medians."""
    rows = [row for row in rows if row.arm == "bn"]
    values = np.concatenate([row.values for row in rows])
    medians = [number(each, 2) for each in sorted(np.median(row.counted) for row in rows if len(row.counted))]
    span = medians[0] if medians[0] == medians[-1] else f"{medians[0]} to {medians[-1]}"
    said = (
        f"{benefit.capitalize()}: {(values > neutral).sum()} of {values.size} dots of BN lie on its side, "
        f"{(values < neutral).sum()} on the other; the median of a setting is {span} {unit}"
    )
    if alone := np.isposinf(values).sum():
        said += f"; with {alone} seeds no rate is usable without BN"
    if missing := np.isnan(values).sum():
        said += f"; in {missing} runs BN never gets there"
    return f"{said}."


# --- which quantity goes with the gain -------------------------------------------------------------------------------

EVERY = 20  # updates between two probes along the gradient
MORE = {  # to the networks of "two meanings", two of "smoothness"
    "ReLU, He, 3 layers": two_meanings.Network(smoothness.NETWORKS["3 layers, He, rate 0.1"], "X", (0, 0), ()),
    "ReLU, Fashion-MNIST": two_meanings.Network(smoothness.NETWORKS["5 layers, Glorot"], "p", (0, 0), ()),
}
NETWORKS = two_meanings.NETWORKS | MORE
PARTS = {"the whole run": (0.0, 1.0), "its first third": (0.0, 1 / 3), "its last third": (2 / 3, 1.0)}
BOTH = {
    "drift of the mean": "drift, mean, width now",
    "move from below": "jump, mean, width now",
    "change of G": "l2",
    "relative change of G": "relative",
    "angle of G": "angle",
}
ALONG = {"range of the loss": "loss", "change of gradient": "gradient", "effective beta": "beta"}
NAMES = (*BOTH, *ALONG)


@cache
def pairs(network: str) -> list[tuple[tuple[Both, Both], tuple[Course, Course]]]:
    """Measure both meanings of ICS and the bands of a network without and with BN: a pair of each for every seed."""
    shown = NETWORKS[network]
    arms = [replace(shown.settings, norm=norm) for norm in ("plain", "torch")]
    both = sweep(watch_both, [(arm, seed, shown.looks, shown.probe) for arm in arms for seed in range(SEEDS)])
    along = sweep(watch_course, [(arm, seed, EVERY) for arm in arms for seed in range(SEEDS)])
    return [((both[i], both[i + SEEDS]), (along[i], along[i + SEEDS])) for i in range(SEEDS)]


def gain(plain: Both, bn: Both, part: tuple[float, float]) -> float:
    """How many times as large the plain network's loss is: the geometric mean over the steps of this part."""
    start, end = (round(share * len(plain.loss)) for share in part)
    return float(np.exp(np.mean(np.log(plain.loss[start:end] / bn.loss[start:end]))))


@cache
def compared(network: str, quantity: str, part: str) -> np.ndarray:
    """How many times less BN has of a quantity, and its gain, for every seed: (seeds, 2)."""
    found = []
    for both, along in pairs(network):
        if quantity in BOTH:
            less = 1 / ratio(*both, BOTH[quantity], PARTS[part])
        else:
            less = times(*along, ALONG[quantity], PARTS[part])
        found.append((less, gain(*both, PARTS[part])))
    return np.array(found)


def medians(quantity: str, part: str) -> np.ndarray:
    """How many times less BN has of a quantity, and its gain, the median over seeds: (networks, 2)."""
    return np.array([np.median(compared(network, quantity, part), 0) for network in NETWORKS])


class Agreement(NamedTuple):
    """Of one quantity and one part of training: does its reduction go with the gain?"""

    less: int  # pairs of runs in which BN has less of it
    rank: float  # the rank correlation of reduction and gain over the networks
    low: float  # the same, one network left out: the lowest
    high: float  # and the highest


def agreement(quantity: str, part: str = "the whole run") -> Agreement:
    """Count the pairs of runs in which BN has less of a quantity, and rank the networks by reduction and gain."""
    points = medians(quantity, part)
    less = sum(int((compared(network, quantity, part)[:, 0] > 1).sum()) for network in NETWORKS)
    without = [rank_correlation(*np.delete(points, i, 0).T) for i in range(len(points))]
    return Agreement(less, rank_correlation(*points.T), min(without), max(without))


EDGES = (1e-3, 1e4)  # what lies beyond is drawn there


@explore(quantity=NAMES, part=list(PARTS))
def witness(quantity: str = "drift of the mean", part: str = "the whole run") -> Drawing:
    """Where BN helps more, does it reduce more of the quantity that is said to be the reason?"""
    fig, (ax,) = figure("loss: plain over BN", height=4.7)
    found = {network: compared(network, quantity, part) for network in NETWORKS}
    for network, values in found.items():
        look = {"color": INK, "marker": NETWORKS[network].marker, "linestyle": "", "markeredgewidth": 0}
        for less, gained, size, opacity in ((*values.T, 5, 0.35), (*np.median(values, 0), 9, 1)):
            name = network if opacity == 1 else None
            ax.plot(np.clip(less, *EDGES), gained, **look, markersize=size, alpha=opacity, label=name, clip_on=False)
        _beyond(ax, *np.median(values, 0))
    ax.axvline(1, color=MUTED, linewidth=1)
    ax.axhline(1, color=MUTED, linewidth=1)
    ax.set(xscale="log", yscale="log", xlim=EDGES, ylim=(0.3, 200), xlabel=f"{quantity}: plain over BN")
    ax.set_xticks([1e-3, 1e-2, 0.1, 1, 10, 100, 1e3, 1e4], ["0.001", "", "0.1", "1", "10", "100", "", "10,000"])
    ax.set_yticks([1, 10, 100], ["1", "10", "100"])
    ax.minorticks_off()
    ax.legend(loc="upper center", bbox_to_anchor=(0.44, -0.2), ncols=3, fontsize=9, frameon=False, handletextpad=0.1)
    fig.subplots_adjust(bottom=0.33, right=0.93)
    return fig, _agreement(quantity, part, found)


def _beyond(ax: Axes, less: float, gained: float) -> None:
    """Say how far away a network is that is drawn at the frame's edge."""
    if not EDGES[0] <= less <= EDGES[1]:
        side = "right" if less > 1 else "left"
        ax.annotate(
            number(less, 2), (np.clip(less, *EDGES), gained), (0, 9), textcoords="offset points", ha=side, fontsize=9
        )


def _agreement(quantity: str, part: str, found: dict[str, np.ndarray]) -> str:
    each, told = np.concatenate(list(found.values())), agreement(quantity, part)
    return (
        f"{quantity[0].upper() + quantity[1:]}, {part}: BN has less of it in {told.less} of {len(each)} pairs of runs, "
        f"and a lower loss in {(each[:, 1] > 1).sum()}. Over the {len(found)} networks the rank correlation of the two "
        f"is {told.rank:.2f} (one network left out: {told.low:.2f} to {told.high:.2f})."
    )
