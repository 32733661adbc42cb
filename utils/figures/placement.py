"""The figures of the page "Before or after the nonlinearity"."""

import numpy as np

from utils import intervals
from utils.experiments import placement as experiment
from utils.experiments.placement import AFTER, BEFORE, LARGE, LOOKED_AT, NETWORKS, RATES, SATURATING_RATES
from utils.explore import Answer, Drawing, control, exercise, explore, picture, predict
from utils.style import (
    ARMS,
    INK,
    Arm,
    between,
    dot_rows,
    draw_arm,
    figure,
    key,
    log_axis,
    number,
    percent_axis,
)

LOOKS = {"plain": "plain", BEFORE: Arm("BN before", ARMS[BEFORE].colour), AFTER: AFTER}
SHIFTS = (1.0, 1.4, 1.7, 2.0, 3.0, 5.0, 7.0)

# --- every rate -------------------------------------------------------------------------------------------------------


@explore(network=list(NETWORKS), shift=control(SHIFTS, label="move BN after to larger rates, times"))
def by_rate(network: str = "ReLU, 3 layers", shift: float = 1.0) -> Drawing:
    """BN before the nonlinearity and after it, at every learning rate."""
    areas = experiment.areas(network)
    fig, (ax,) = figure("area under the training curve", height=3.7)
    ax.set_xlabel("learning rate" if shift == 1 else f"learning rate (of BN after: times {number(shift)})")
    log_axis(ax.xaxis, (0.008, 26), (*RATES, 10))
    percent_axis(ax.yaxis)
    ax.set_ylim(0, 1.3)
    for arm, each in areas.items():
        draw_arm(ax, LOOKS[arm], np.array(RATES) * (shift if arm == AFTER else 1), each.T)
    key(ax, list(LOOKS.values()), x=0.03, top=0.99)
    if shift == 1:
        told = [
            f"{between(intervals.mean(100 * each))} at rate {rate:g}"
            for rate, each in zip(RATES, experiment.gains(network).values(), strict=True)
        ]
        seeds = areas[AFTER].shape[1]
        return fig, f"{network}, {seeds} seeds: BN after is ahead, in points of area [95 %], by {', '.join(told)}."
    apart = 100 * experiment.apart(network, shift)
    return fig, (
        f"{network}: with BN after at its rates times {number(shift)}, the mean curves are {apart:.1f} points of area "
        f"apart, on average up to rate 1; in their places, {100 * experiment.apart(network, 1.0):.1f}."
    )


@picture
def own_rates() -> Drawing:
    """Each placement at its own rate, chosen on validation digits: the test accuracy."""
    points = {network: experiment.points(network) for network in NETWORKS}
    fig, (ax,) = figure("points of test accuracy, after less before", height=2.9, left=1.5)
    ax.axvline(0, color=INK, linewidth=1)
    dot_rows(ax, {network: {AFTER: each} for network, each in points.items()})
    for row, each in enumerate(points.values()):
        _, low, high = intervals.mean(each)
        ax.plot([low, high], [row + 0.3, row + 0.3], color=ARMS[AFTER].colour, linewidth=2.5)
    ax.margins(x=0.1)
    ax.locator_params(axis="x", nbins=6)
    said = "; ".join(f"{network} {between(intervals.mean(each))}" for network, each in points.items())
    return fig, f"One dot a seed, the line below is the 95 % interval of the mean. Points: {said}."


# --- the length of the weights ----------------------------------------------------------------------------------------


@explore(
    nonlinearity=["ReLU", "tanh", "sigmoid"],
    factor=control([0.1, 0.3, 1.0, 3.0, 10.0, 30.0], label="a, the scale of the weights"),
)
def length(nonlinearity: str = "ReLU", factor: float = 1.0) -> Drawing:
    """Make a layer's weights a times as long: what does it hand on?"""
    now, one = (experiment.scaled(nonlinearity.lower(), a) for a in (factor, 1.0))
    fig, panels = figure("BN before", "BN after", height=3.0, left=0.3)
    for ax, values, was, arm in zip(panels, now, one, (BEFORE, AFTER), strict=True):
        low, high = (-2.5, 3.5) if arm == AFTER else (was.min().item() - 0.1, min(was.max().item() + 0.1, 3.5))
        bins = np.linspace(low, high, 49)
        ax.hist(values.flatten().numpy(), bins=bins, color=ARMS[arm].colour, alpha=0.75)
        ax.hist(was.flatten().numpy(), bins=bins, histtype="step", color=INK, linewidth=1)
        ax.set(yticks=[], xlabel="what the next layer gets")
    moved = [(new - old).abs().max().item() for new, old in zip(now, one, strict=True)]
    return fig, (
        f"{nonlinearity}, weights {number(factor)} times as long (outline: as they were): with BN before no output "
        f"moves by more than {number(moved[0], 1)}, with BN after by {number(moved[1], 1)} at most."
    )


@explore(nonlinearity=["tanh", "sigmoid"], rate=control(SATURATING_RATES, label="learning rate"))
def saturation(nonlinearity: str = "tanh", rate: float = 0.1) -> Drawing:
    """How many outputs of the nonlinearity are at its two ends, in the first steps?"""
    shares = {arm: experiment.saturated(nonlinearity, rate, arm) for arm in (BEFORE, AFTER)}
    fig, (ax,) = figure("outputs at an end of the range", height=3.0)
    ax.set(xlim=(0, LOOKED_AT[-1]), xlabel="training step")
    percent_axis(ax.yaxis)
    for arm, each in shares.items():
        draw_arm(ax, LOOKS[arm], LOOKED_AT[: each.shape[1]], each)
    key(ax, [LOOKS[arm] for arm in shares], x=0.03, top=0.98)
    ten = LOOKED_AT.index(10)
    said = [
        f"BN {name} {each[:, ten].mean():.1%}" for name, each in zip(("before", "after"), shares.values(), strict=True)
    ]
    return fig, f"{nonlinearity}, three layers, rate {rate:g}, after ten steps: {', '.join(said)}."


# --- questions --------------------------------------------------------------------------------------------------------


@predict("before", "after", "no difference to be seen")
def predict_small() -> Answer:
    """Three ReLU layers, the smallest rate. Which learns faster: BN before the ReLU or after it?"""
    rate = RATES[0]
    (gain,) = experiment.gains("ReLU, 3 layers", (rate,)).values()
    _, low, high = interval = intervals.mean(100 * gain)
    choice = "after" if low > 0 else "before" if high < 0 else "no difference to be seen"
    return choice, f"After: at rate {rate:g} its area is {between(interval)} points larger [95 %]."


@predict("with neither", "with BN before only", "with BN after only", "with both")
def predict_length() -> Answer:
    """A *tanh* layer, its weights ten times as long. With which placement does what it hands on change?"""
    changes = experiment.scaling_changes(seeds=2)
    moved = [name for name in ("before", "after") if changes[f"tanh, {name}"].max() > 1e-6]
    names = {(): "with neither", ("before",): "with BN before only", ("after",): "with BN after only"}
    return names.get(tuple(moved), "with both"), (
        "BN before takes the factor out before the tanh sees it. BN after comes too late: the tanh is saturated."
    )


@predict("yes, both learn", "only BN before learns", "only BN after learns")
def predict_large() -> Answer:
    """Three *tanh* layers, the largest rate, 3. Do both learn?"""
    place, areas = RATES.index(LARGE), experiment.areas("tanh, 3 layers")
    learns = [areas[arm][place].mean() > 0.4 for arm in (BEFORE, AFTER)]
    said = ", ".join(f"{name} {areas[arm][place].mean():.0%}" for name, arm in (("before", BEFORE), ("after", AFTER)))
    choice = "yes, both learn" if all(learns) else "only BN before learns" if learns[0] else "only BN after learns"
    return choice, f"Area under the training curve: {said}; guessing is 10 %."


@exercise(
    "nothing: β takes its place",
    "each unit's ReLU can bend at the mean of its inputs only",
    "the running mean becomes wrong",
)
def quiz_bias() -> Answer:
    """What does the network lose?"""
    return "each unit's ReLU can bend at the mean of its inputs only", (
        "β is added behind the ReLU and cannot move its bend. The inputs come out of a BN, with mean 0 (and β = 0), so "
        "Wu = 0 is a plane through their mean. Keep b where BN stands after."
    )


@exercise("into the layer before", "into the layer after", "into neither")
def quiz_fold() -> Answer:
    """W, then ReLU, then BN, then the next layer's V. Into which layer can BN be folded, in evaluation?"""
    return "into the layer after", (
        "Between W and BN stands a ReLU; between BN and V stands nothing, so V(γ(z − μ)/σ + β) is one affine map of z. "
        "If V is a convolution with zero padding this is off at the border: the padded zeros were not normalised."
    )
