"""The figures of the chapter "Take it apart"."""

import numpy as np

from utils import intervals
from utils.experiments import drift
from utils.experiments import interventions as experiment
from utils.experiments.interventions import GRADIENTS, INTERVENTIONS, LARGE, NETWORKS, PARTS, RATES
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.style import (
    ARMS,
    DASHED,
    DATA,
    INK,
    MUTED,
    Arm,
    between,
    category_axis,
    dot_rows,
    draw_arms,
    figure,
    log_axis,
    look_of,
    number,
    percent_axis,
    rounded,
    running_mean,
    step_axis,
    told,
)

NAMES = {ARMS[arm].label: arm for arm in (*PARTS[2:], *GRADIENTS[2:])}
HELD = Arm("BN, statistics held", ARMS["bn, both held"].colour, ARMS["bn, both held"].dashes)


def _over_rates(network: str, other: str) -> Drawing:
    """Plain, BN, and one arm beside them, over all rates."""
    areas = experiment.by_rate(network, ("plain", "bn", other))
    fig, (ax,) = figure("mean accuracy while it trains", height=3.4)
    log_axis(ax.xaxis, (0.026, 1.15), RATES)
    percent_axis(ax.yaxis)
    ax.set_xlabel("learning rate")
    draw_arms(ax, RATES, areas)
    at = {
        lr: {arm: f"{each[:, RATES.index(lr)].mean():.2f}" for arm, each in areas.items()} for lr in (0.03, LARGE, 1.0)
    }
    said = "; ".join(f"at {lr:g} {told(each, str)}" for lr, each in at.items())
    return fig, f"Ten layers, {network}, ten seeds. Mean accuracy over all mini-batches of the training: {said}."


@explore(part=[ARMS[arm].label for arm in PARTS[2:]], network=list(NETWORKS))
def parts(part: str = ARMS["layer"].label, network: str = "ReLU") -> Drawing:
    """Centre or scale, over the batch or over the example: which part opens the large rates?"""
    return _over_rates(network, NAMES[part])


@explore(held=[ARMS[arm].label for arm in GRADIENTS[2:]])
def gradients(held: str = ARMS["bn, both held"].label) -> Drawing:
    """The forward pass is BN's. In the backward pass, statistics are constants."""
    return _over_rates("ReLU", NAMES[held])


@explore(step=control([0, experiment.SMALL_NET.steps], label="updates"))
def curvature(step: int = 0) -> Drawing:
    """The largest eigenvalue of the exact Hessian."""
    found = experiment.curvatures(step)
    looks = {"plain": "plain", "bn": "bn", "bn, both held": HELD}
    fig, (ax,) = figure("largest curvature of the loss", height=2.9, left=1.75)
    dot_rows(ax, {look_of(looks[norm]).label: {looks[norm]: each.largest} for norm, each in found.items()})
    log_axis(ax.xaxis, (0.4, 300), (1, 10, 100))
    ax.set_xlabel("largest eigenvalue of the Hessian")
    times = intervals.ratio(experiment.curvature_ratios("bn", steps=step))
    means = told({looks[norm]: f"{rounded(np.median(each.largest))}" for norm, each in found.items()}, str)
    return fig, (
        f"After {step} updates, medians of ten seeds: {means}. With the statistics held, the same weights and the same "
        f"loss have {between(times)} times the curvature."
    )


MOVED = Arm("BN, moved", ARMS["noisy"].colour, ARMS["noisy"].dashes)
SMOOTH = 10  # batches


def _drawn_as(change: str) -> Arm:
    return Arm("no drift", MOVED.colour, MOVED.dashes) if change == drift.PLAIN_STILL else MOVED


@explore(network=list(drift.NETWORKS), change=[*drift.INPUTS, drift.PLAIN_STILL])
def put_back(network: str = next(iter(drift.NETWORKS)), change: str = drift.STILL) -> Drawing:
    """The plain network's drift, put back into BN; or taken out of the plain network."""
    arm, curves = _drawn_as(change), drift.race(network, change)
    fig, (left, right) = figure("shift of one unit", "training accuracy", height=3.3, left=0.8)
    plain, moved = drift.of_one_unit(network, change)
    for line, look in ((plain, ARMS["plain"]), (moved, arm)):
        left.plot(line, color=look.colour, linestyle=look.dashes, linewidth=1.6)
    left.set_ylabel("widths" if "ReLU" in network else "as it is")
    percent_axis(right.yaxis)
    for ax in (left, right):
        step_axis(ax, drift.STEPS)
    named = {arm if name == "moved" else name: each for name, each in curves.items()}
    draw_arms(
        right, np.arange(SMOOTH, drift.STEPS + 1), {name: running_mean(each, SMOOTH) for name, each in named.items()}
    )
    areas = told({name: each.mean() for name, each in named.items()}, lambda each: f"{each:.2f}")
    reached = change == drift.PLAIN_STILL
    gone = 100 * drift.gone(network, change)
    share, low, high = (number(round(each) + 0.0) for each in intervals.mean(100 - gone if reached else gone))
    gain = f"Of BN's gain {share} % [{low}, {high}] are " + (
        "reached." if reached else "gone (below 0: better than BN)."
    )
    return fig, (
        f"{network}; {change}; ten seeds. Mean accuracy over {drift.STEPS} batches: {areas}. {gain} Its units come "
        f"{_far(network, change)} times as far from where they began as plain's."
    )


def _far(network: str, change: str) -> str:
    return f"{drift.returned(network, change).mean():.2f}"


@explore(learning_rate=control([0.3, 1.0]))
def removed(learning_rate: float = LARGE) -> Drawing:
    """What is left of BN's gain when one thing is changed?"""
    found = experiment.removed(learning_rate)
    fig, (ax,) = figure("share of BN's gain that is gone", height=4.2, left=1.95)
    category_axis(ax, list(found))
    for row, each in enumerate(found.values()):
        estimate, low, high = intervals.mean(each)
        ax.plot(each, np.full(len(each), row), "o", color=DATA, alpha=0.4, markersize=4.5, markeredgewidth=0)
        ax.plot([low, high], [row, row], color=INK, linewidth=3, solid_capstyle="butt")
        ax.plot(estimate, row, "o", color=INK, markersize=7)
    for x in (0, 1):
        ax.axvline(x, color=MUTED, linewidth=1, linestyle=DASHED)
    percent_axis(ax.xaxis, step=0.5)
    ax.set_xlim(-0.25, 1.3)
    most, least = (pick(found, key=lambda name: found[name].mean()) for pick in (max, min))
    return fig, (
        f"Ten ReLU layers at rate {learning_rate:g}, ten seeds, 95 % intervals. Most is removed by "
        f"“{most}”, {_share(found[most])}; least by “{least}”, {_share(found[least])}. {_halves(found)}"
    )


def _share(values: np.ndarray) -> str:
    return f"{number(round(100 * values.mean()) + 0.0)} %"


def _halves(found: dict[str, np.ndarray]) -> str:
    return f"Without centring {_share(found['no centring'])} are gone, without scaling {_share(found['no scaling'])}."


# --- questions --------------------------------------------------------------------------------------------------------

CENTRING, SCALING = "centring", "scaling"


@predict(CENTRING, SCALING, "neither alone")
def predict_half() -> Answer:
    """Ten ReLU layers at a large rate, 0.3. BN centres and scales. Which half alone does most of what BN does?"""
    found = experiment.removed(LARGE)
    kept = {CENTRING: 1 - found["no scaling"].mean(), SCALING: 1 - found["no centring"].mean()}
    best = max(kept, key=kept.get)
    said = " and ".join(f"{name} alone keeps {share:.0%}" for name, share in kept.items())
    return best if kept[best] > 0.5 else "neither alone", f"Of BN's gain {said}."


@predict("most of it", "about half", "little of it")
def predict_layer() -> Answer:
    """LayerNorm centres and scales, too, over the units of one example. How much of BN's gain has it there?"""
    kept = 1 - experiment.removed(LARGE)["layer norm instead"].mean()
    choice = "most of it" if kept > 2 / 3 else "about half" if kept > 1 / 3 else "little of it"
    return choice, f"{kept:.0%} of it."


@predict("a good part of its gain", "next to nothing", "all of it")
def predict_held() -> Answer:
    """BN as usual, but the gradient treats the *variance* as a constant. At 0.3, what does that cost BN?"""
    gone = experiment.removed(LARGE)["variance held"].mean()
    choice = "next to nothing" if abs(gone) < 0.1 else "all of it" if gone > 0.9 else "a good part of its gain"
    return choice, f"{_share(np.array([gone]))} of the gain."


@predict("smaller", "the same", "up to five times as large", "larger than that")
def predict_curvature() -> Answer:
    """Hold the statistics of a trained BN network: same weights, outputs and loss. Its largest curvature is ...?"""
    times = intervals.ratio(experiment.curvature_ratios("bn")).estimate
    choice = "smaller" if times < 0.8 else "the same" if times < 1.25 else "up to five times as large"
    return choice if times < 5 else "larger than that", f"{rounded(times)} times as large, over ten seeds."


@predict("BN loses its large rates", "hardly anything changes", "BN gets better")
def predict_lengths() -> Answer:
    """BN's weights grow, and longer weights mean smaller steps. Put them back to their first length after each step."""
    gone = experiment.removed(LARGE)["weights' lengths held"].mean()
    choice = (
        "hardly anything changes" if abs(gone) < 0.1 else "BN loses its large rates" if gone > 0 else "BN gets better"
    )
    return choice, f"It removes {_share(np.array([gone]))} of the gain at 0.3."


@predict("next to nothing", "less than half", "more than half")
def predict_drift() -> Answer:
    """At 0.3, let the inputs of BN's nonlinearities drift as the plain network's did. What part of BN's gain goes?"""
    share = drift.gone("ReLU, rate 0.3", drift.DRIFTING).mean()
    choice = "next to nothing" if share < 0.1 else "less than half" if share < 0.5 else "more than half"
    return choice, f"{_share(np.array([share]))} of it."


@exercise("the mean of the scores", "the bias of each unit", "nothing that the next layer sees")
def quiz_bias() -> Answer:
    """With the mean a constant for the gradient, what can training now push in vain?"""
    return "the bias of each unit", (
        "Moving a unit's values by a constant changes the batch's mean by as much, and the output not at all; but a "
        "gradient that takes the mean for a constant does not know it. Ioffe and Szegedy warn of this in section 2."
    )


@exercise("yes", "no, its units have different means", "no, it divides by another number")
def quiz_layer() -> Answer:
    """LayerNorm takes a mean off, too. Does each unit have mean 0 over the batch after it?"""
    return "no, its units have different means", (
        "It takes off one number for all units of an example. A unit that is high for every image stays high: the mean "
        "direction, common to all images, is still there."
    )


@exercise(*(name for name in INTERVENTIONS if "held" in name or "centring" in name))
def quiz_orthogonal() -> Answer:
    """Which row is it?"""
    return "variance held", (
        "The component along the normalised values, which makes the gradient orthogonal to the weights, comes from the "
        "variance alone. Without it BN trains as well at this rate, and its weights need not grow."
    )
