"""The figures of the chapter "The verdict", and of the page in depth beside it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from utils.experiments import what_can_be_said as experiment
from utils.experiments.two_meanings import Part
from utils.experiments.what_can_be_said import Companion, Row
from utils.explore import Answer, Drawing, exercise, explore, predict
from utils.style import ARMS, INK, MUTED, category_axis, figure, log_axis, number

# --- the four benefits ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Benefit:
    """A benefit that BN is said to have: where it was measured, and how its axis reads."""

    rows: Callable[[], list[Row]]
    title: str
    ticks: tuple[float, ...]
    is_ratio: bool  # on a logarithmic axis, whose neutral value is 1; else a difference in points
    unit: str


RATE_TICKS, STEP_TICKS, POINTS = (0.3, 1, 3, 10, 30, 100), (0.3, 1, 3, 10, 30), (-6, -3, 0, 3, 6)
BENEFITS = {
    "stable training": Benefit(
        experiment.stability, "largest rate with 0.9 of the best, BN over plain", RATE_TICKS, True, "times"
    ),
    "faster learning": Benefit(experiment.speed, "steps, plain over BN", STEP_TICKS, True, "times"),
    "regularisation": Benefit(experiment.regularisation, "test accuracy above plain", POINTS, False, "points"),
    "better generalisation": Benefit(experiment.generalisation, "test accuracy above plain", POINTS, False, "points"),
}


@explore(benefit=list(BENEFITS))
def evidence(benefit: str = "stable training") -> Drawing:
    """The evidence of this book, seed by seed: to the right of the line it speaks for BN, to the left against it."""
    shown = BENEFITS[benefit]
    neutral, rows = (1 if shown.is_ratio else 0), shown.rows()
    fig, (ax,) = figure(shown.title, height=3.5, left=2.35)
    low, high = shown.ticks[0], shown.ticks[-1]
    for place, row in enumerate(rows):
        _row(ax, place, row, (low, high))
    category_axis(ax, [row.setting for row in rows])
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.axvline(neutral, color=INK, linewidth=1)
    if shown.is_ratio:
        log_axis(ax.xaxis, (low / 1.2, high * 1.2), shown.ticks)
    else:
        ax.set(xlim=(low - 0.5, high + 0.5), xticks=shown.ticks)
    ax.set_xlabel("times" if shown.is_ratio else "percentage points")
    return fig, _evidence(benefit, [row for row in rows if row.arm == "bn"], neutral, shown.unit)


def _row(ax: Axes, place: int, row: Row, limits: tuple[float, float]) -> None:
    """One dot a seed, at the frame's edge where it lies beyond, and their median as a bar."""
    colour = ARMS[row.arm].colour if row.arm in ARMS else MUTED
    dots = row.finite.clip(*limits)
    ax.plot(dots, np.full(len(dots), place), "o", color=colour, alpha=0.45, markersize=5, markeredgewidth=0)
    if len(dots):
        ax.plot(np.median(dots), place, "|", color=colour, markersize=15, markeredgewidth=2.6)
    if alone := np.isposinf(row.values).sum():
        edge = {"transform": ax.get_yaxis_transform(), "color": colour}
        ax.text(1.0, place, f"{alone} × ∞ ▸", ha="right", va="center", fontsize=9, **edge)


def _evidence(benefit: str, rows: list[Row], neutral: float, unit: str) -> str:
    """Count the seeds that speak for BN, and give the range of the medians."""
    values = np.concatenate([row.values for row in rows])
    medians = [number(each, 2) for each in sorted(np.median(row.finite) for row in rows if len(row.finite))]
    span = medians[0] if medians[0] == medians[-1] else f"{medians[0]} to {medians[-1]}"
    said = (
        f"{benefit.capitalize()}: {(values > neutral).sum()} of {values.size} dots of BN lie on its side, "
        f"{(values < neutral).sum()} on the other; the median of a setting is {span} {unit}"
    )
    if alone := np.isposinf(values).sum():
        said += f"; in {alone} pairs only BN gets there"
    if missing := np.isnan(values).sum():
        said += f"; in {missing} neither does, or only plain"
    return f"{said}."


# --- which quantity goes with the gain -------------------------------------------------------------------------------

EDGES = (1e-3, 1e4)  # what lies beyond is drawn there
PARTS = {"the whole run": Part.WHOLE, "its first third": Part.EARLY, "its last third": Part.LATE}


@explore(quantity=[str(each) for each in Companion], part=list(PARTS))
def witness(quantity: str = str(Companion.DRIFT), part: str = "the whole run") -> Drawing:
    """Where BN helps more, does it reduce more of the quantity that is said to be the reason?"""
    fig, (ax,) = figure("loss: plain over BN", height=5.2)
    found = experiment.compared(Companion(quantity), PARTS[part])
    for place, (network, values) in enumerate(found.items(), start=1):
        look = {"color": INK, "linestyle": "", "clip_on": False}
        middle = np.median(values, 0)
        ax.plot(values[:, 0].clip(*EDGES), values[:, 1], "o", **look, markersize=3.5, markeredgewidth=0, alpha=0.3)
        ax.plot(*np.clip(middle[0], *EDGES)[None], middle[1], marker=f"${place}$", **look, markersize=10, label=network)
        _beyond(ax, *middle)
    ax.axvline(1, color=MUTED, linewidth=1)
    ax.axhline(1, color=MUTED, linewidth=1)
    log_axis(ax.xaxis, EDGES, (1e-3, 0.1, 10, 1000))
    log_axis(ax.yaxis, (0.3, 30), (1, 10))
    ax.set_xlabel(f"{quantity}: plain over BN")
    ax.legend(loc="upper center", bbox_to_anchor=(0.44, -0.2), ncols=2, fontsize=10, frameon=False, handletextpad=0.1)
    fig.subplots_adjust(bottom=0.4, right=0.93)
    return fig, _agreement(quantity, part, found)


def _beyond(ax: Axes, less: float, gained: float) -> None:
    """Say how far away a network is that is drawn at the frame's edge."""
    if not EDGES[0] <= less <= EDGES[1]:
        side = "right" if less > 1 else "left"
        ax.annotate(
            number(less, 2), (np.clip(less, *EDGES), gained), (0, 9), textcoords="offset points", ha=side, fontsize=9
        )


def _agreement(quantity: str, part: str, found: dict[str, np.ndarray]) -> str:
    agreement = experiment.agreement(Companion(quantity), PARTS[part])
    better = sum(np.median(values[:, 1]) > 1 for values in found.values())
    middle, low, high = agreement.rank
    return (
        f"{quantity[0].upper() + quantity[1:]}, {part}: BN has less of it in {agreement.less} of {len(found)} networks,"
        f" and a lower loss in {better} (medians over seeds). The rank correlation of the two over the networks "
        f"is {middle:.2f}, with a 95 % interval from {low:.2f} to {high:.2f}."
    )


# --- questions -----------------------------------------------------------------------------------------------------


@predict(*BENEFITS)
def predict_weakest() -> Answer:
    """For which of the four is the evidence of this book weakest?"""
    sides = {}
    for name, benefit in BENEFITS.items():
        values = np.concatenate([row.values for row in benefit.rows() if row.arm == "bn"])
        sides[name] = (values > (1 if benefit.is_ratio else 0)).mean()
    said = ", ".join(f"{name} {share:.0%}" for name, share in sides.items())
    return min(sides, key=sides.get), f"Share of the pairs of runs that speak for it: {said}."


@predict("drift", "Definition 2.1", "the bands", "none that eight networks could show")
def predict_best() -> Answer:
    """Which kind of quantity follows BN's gain best from network to network?"""
    found = [(each, experiment.agreement(each).rank) for each in Companion]
    clear = [str(each) for each, rank in found if rank.low > 0]
    best, rank = max(found, key=lambda pair: pair[1].estimate)
    return ("none that eight networks could show" if not clear else None), (
        f"The highest rank correlation is that of the {best}, {rank.estimate:.2f} [{rank.low:.2f}, {rank.high:.2f}]."
    )


@exercise(
    "yes, it is proved: less drift goes with BN nearly everywhere",
    "no, it is refuted: noise leaves most of the gain",
    "not as a rule: drift put back into BN takes much of its gain in one network, and nothing in another",
)
def quiz_everybody_knows() -> Answer:
    """Choose."""
    return "not as a rule: drift put back into BN takes much of its gain in one network, and nothing in another", (
        "That they occur together is no proof; and one network in which drift costs nothing is enough to say so."
    )
