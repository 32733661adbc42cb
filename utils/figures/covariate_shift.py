"""The figures of the chapter "Covariate shift", and of the page in depth beside it."""

import numpy as np
from matplotlib.axes import Axes

from utils.experiments import covariate_shift as experiment
from utils.experiments.covariate_shift import DETECTED_SHIFTS, DETECTED_SIZES, LEVEL, SAMPLE_SIZES, SEEDS, SHIFTS
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.seeds import numpy_rng
from utils.style import (
    DASHED,
    DOTTED,
    FAINT,
    INK,
    MUTED,
    Arm,
    dot_row,
    draw_arm,
    figure,
    label,
    log_axis,
    number,
    per_cent,
    percent_axis,
)

BEFORE, AFTER = {"color": MUTED, "linestyle": DASHED}, {"color": INK}
STAYS = {"covariate": "p(y|x)", "label": "p(x|y)", "concept": "p(x)"}


@explore(
    kind=control(list(STAYS), label="kind of shift"),
    size=control([0.0, 0.5, 1.0, 1.5], label="size of the shift"),
)
def three_kinds(kind: str = "covariate", size: float = 0.0) -> Drawing:
    """One distribution of x and y, before and after a shift: what stays?"""
    before, after = experiment.joint(), experiment.joint(kind, size)
    names = ("p(x)", "p(y|x)", "p(x|y)", "p(y)")
    stays = [size == 0 or name == STAYS[kind] for name in names]
    titles = [f"{name} {'stays' if stay else 'moves'}" for name, stay in zip(names, stays, strict=True)]
    fig, (density, posterior, class_density, prior) = figure(*titles, rows=2, height=4.9)
    for now, look in ((before, BEFORE), (after, AFTER)):
        density.plot(now.x, now.density, **look)
        posterior.plot(now.x, now.posterior, **look)
        for y in (0, 1):
            class_density.plot(now.x, now.class_density(y), **look)
    for ax in (density, posterior, class_density):
        ax.set(xlim=(-4.5, 5), xlabel="x", xticks=[-4, -2, 0, 2, 4])
    for ax in (density, class_density):
        ax.set(ylim=(0, 0.62), yticks=[0, 0.2, 0.4, 0.6])
    posterior.set(ylim=(-0.03, 1.03))
    posterior.text(4.8, 0.1, "p(y = 1 | x)", color=MUTED, fontsize=9, ha="right")
    class_density.text(-4.3, 0.54, "y = 0", color=INK, fontsize=9)
    class_density.text(4.8, 0.54, "y = 1", color=INK, fontsize=9, ha="right")
    at = np.arange(2)
    prior.bar(at - 0.2, [1 - before.prior, before.prior], 0.38, facecolor=FAINT, edgecolor=MUTED, linestyle=DASHED)
    prior.bar(at + 0.2, [1 - after.prior, after.prior], 0.38, facecolor=INK)
    prior.set(ylim=(0, 1.03), xticks=at, xticklabels=["y = 0", "y = 1"])
    prior.grid(axis="x", visible=False)
    density.text(-4.3, 0.585, "before", color=MUTED, fontsize=9, va="top")
    density.text(-4.3, 0.525, "after", color=INK, fontsize=9, va="top", fontweight="bold")
    what = f"{kind.capitalize()} shift of size {size:g}: only {STAYS[kind]} stays" if size else f"No {kind} shift yet"
    return fig, (
        f"{what}; the classifier that was best before, y = 1 where x > 0, has {before.accuracy():.1%} correct before "
        f"and {after.accuracy():.1%} after, where the best possible has {after.best_accuracy:.1%}."
    )


UNWEIGHTED, WEIGHTED = Arm("unweighted", MUTED, DASHED), Arm("weighted", INK)
NAMES = {"none": "unweighted", "known": "known weights", "estimated": "estimated weights"}


@explore(shift=control([0.0, 0.5, 1.0, 1.5, 2.0, 3.0], label="how far the points move"))
def one_line(shift: float = 0.0) -> Drawing:
    """A line learnt from the grey points, used on the dark ones."""
    fig, (left, right) = figure("data of seed 0", f"right answers, {SEEDS} seeds", height=3.5)
    _clouds(left, shift, 500, "none")
    result = experiment.weighting(shift, 500, "line", SEEDS).accuracy["none"]
    dot_row(right, 1, Arm("", INK), result)
    percent_axis(right.xaxis, 0.25)
    right.axvline(0.5, color=MUTED, linewidth=1.2, linestyle=DOTTED)
    right.text(0.51, 0.2, "a coin", color=MUTED, fontsize=9)
    right.set(ylim=(0, 2), yticks=[], xlabel="correct")
    return fig, (
        f"The points that are asked about lie {shift:g} to the right of those that the line was learnt from: "
        f"{per_cent(result)} right answers, over {SEEDS} seeds."
    )


@explore(
    shift=control([0.0, 0.5, 1.0, 1.5, 2.0, 3.0], label="shift d"),
    n=control(SAMPLE_SIZES, label="sample size", unit="points"),
    weighting=control(["none", "known", "estimated"], label="weighting"),
)
def two_clouds(shift: float = 2.0, n: int = 500, weighting: str = "known") -> Drawing:
    """A straight boundary learnt from one cloud and used on another."""
    fig, (left, right) = figure("data of seed 0", f"test accuracy, {SEEDS} seeds", height=3.5)
    _clouds(left, shift, n, weighting)
    result = experiment.weighting(shift, n, "line", SEEDS)
    rows = list(dict.fromkeys(["none", weighting, "trained on test data"]))
    for way, place in zip(rows, (2, 1, 0) if len(rows) == 3 else (2, 0), strict=True):
        arm = Arm(NAMES.get(way, way), INK if way == weighting else MUTED)
        dot_row(right, place, arm, result.accuracy[way])
        label(right, arm, 0.02, place + 0.3, fontsize=10, transform=right.get_yaxis_transform())
    percent_axis(right.xaxis, 0.25)
    right.set(ylim=(-0.4, 2.75), yticks=[], xlabel="correct")
    said = ", ".join(f"{NAMES.get(way, way)} {per_cent(result.accuracy[way])}" for way in rows)
    effective = result.effective[weighting] * n
    worth = f"; the weighted points are worth {effective.mean():.0f} ± {effective.std(ddof=1):.0f} equal ones"
    return fig, (
        f"Shift {shift:g}, {n:,} training points, accuracy on test data over {SEEDS} seeds: {said}"
        f"{worth if weighting != 'none' else ''}."
    )


def _clouds(ax: Axes, shift: float, n: int, weighting: str) -> None:
    """The data of seed 0, at most 300 training and 80 test points, the true boundary and the fitted one."""
    rng = numpy_rng(0)
    (x, y), (x_test, y_test) = experiment.sample(n, 0.0, rng), experiment.sample(n, shift, rng)
    model, weights = experiment.fits(shift, n, "line", seed=0)[weighting]
    sizes = np.minimum(14 * weights / weights.mean(), 400)
    for points, labels, area, colour in (
        (x[:300], y[:300], sizes[:300], MUTED),
        (x_test[:80], y_test[:80], np.full(min(n, 80), 14.0), INK),
    ):
        for each, marker in ((0, "o"), (1, "^")):
            chosen = labels == each
            look = {"marker": marker, "facecolor": colour if each else "none", "edgecolor": colour, "alpha": 0.55}
            ax.scatter(*points[chosen].T, s=area[chosen], **look)
    across = np.linspace(-3.5, 6, 200)
    ax.plot(across, np.sin(1.5 * across), color=MUTED, linewidth=1.6, linestyle=DOTTED)
    (slope, up), (constant,) = model.coef_[0], model.intercept_
    line = -(slope * across + constant) / up
    ax.plot(across, np.where(line > -3.4, line, np.nan), color=INK)
    ax.set(xlim=(-3.5, 6), ylim=(-4.2, 4), xlabel="x₁", ylabel="x₂")
    for place, (text, colour) in enumerate((("training", MUTED), ("test", INK))):
        ax.text(-3.3 + 4.4 * place, -4.05, text, color=colour, fontsize=9, fontweight="bold")


@explore(
    model=control(list(experiment.MODELS), label="the model can draw"),
    n=control(SAMPLE_SIZES, label="sample size", unit="points"),
)
def cost_of_weights(model: str = "line", n: int = 500) -> Drawing:
    """Weights or no weights, over the whole range of shifts."""
    results = [experiment.weighting(shift, n, model, SEEDS) for shift in SHIFTS]
    fig, (left, right) = figure("test accuracy", "effective sample, %", height=3.3)
    accuracy = {way: np.array([result.accuracy[way] for result in results]).T for way in ("none", "known")}
    percent_axis(left.yaxis, 0.25)
    for way, arm, y in (("none", UNWEIGHTED, 0.36), ("known", WEIGHTED, 0.29)):
        draw_arm(left, arm, SHIFTS, accuracy[way])
        label(left, arm, 0.1, y, fontsize=10)
    effective = 100 * np.array([result.effective["known"] for result in results]).T
    log_axis(right.yaxis, (0.01, 150))
    draw_arm(right, WEIGHTED, SHIFTS, effective)
    right.plot(SHIFTS, 100 * np.exp(-np.square(SHIFTS)), color=MUTED, linewidth=1.6, linestyle=DOTTED)
    right.text(1.35, 75, "measured", color=INK, fontsize=10, fontweight="bold")
    right.text(0.12, 0.3, "as n → ∞", color=MUTED, fontsize=10, fontweight="bold")
    for ax in (left, right):
        ax.set(xlim=(0, 3), xlabel="shift d", xticks=[0, 1, 2, 3])
    ends = {way: per_cent(runs[:, -1]) for way, runs in accuracy.items()}
    return fig, (
        f"A model that can draw {'a line' if model == 'line' else 'the true curve'}, {n:,} points, {SEEDS} seeds: at "
        f"shift 3, {ends['none']} correct without weights and {ends['known']} with the known weights, whose effective "
        f"sample is {number(effective[:, -1].mean(), 2)} % of the points."
    )


@explore(
    shift=control(DETECTED_SHIFTS, label="shift d"),
    n=control(DETECTED_SIZES, label="sample size", unit="points each"),
)
def detection_power(shift: float = 1.0, n: int = 100) -> Drawing:
    """How often does a classifier notice the shift?"""
    tests = {size: experiment.detection(shift, size) for size in DETECTED_SIZES}
    accuracy, needed, repetitions = tests[n].accuracy, experiment.critical_accuracy(n), len(tests[n].accuracy)
    fig, (left, right) = figure("held-out accuracy", "tests that notice", height=3.3)
    bin_width = max(0.025, 1 / n)
    edges = 0.5 + bin_width * (np.arange(-int(0.5 / bin_width) - 1, int(0.5 / bin_width) + 1) + 0.5)
    left.hist(accuracy, edges, density=True, color=INK, alpha=0.7)
    across = np.linspace(0.2, 0.9, 400)
    left.plot(across, experiment.accuracy_density(across, n), color=MUTED, linestyle=DASHED)
    left.axvline(needed, color=MUTED, linewidth=1.4, linestyle=":")
    top = 1.45 * max(left.get_ylim()[1], 1)
    left.set(xlim=(0.2, 1), ylim=(0, top), yticks=[], xlabel=f"share of {n:,} points")
    left.text(0.215, 0.97 * top, f"{repetitions} tests", color=INK, fontsize=9, va="top", fontweight="bold")
    left.text(0.215, 0.89 * top, "if no shift", color=MUTED, fontsize=9, va="top", fontweight="bold")
    left.text(max(needed, 0.5) + 0.012, 0.97 * top, f"p ≤ {LEVEL:g}", color=MUTED, fontsize=9, va="top")
    log_axis(right.xaxis, (16, 1250), (20, 100, 1000))
    percent_axis(right.yaxis)
    right.plot(DETECTED_SIZES, [each.power for each in tests.values()], "o-", color=MUTED, markersize=5)
    right.plot(n, tests[n].power, "o", color=INK, markersize=10)
    right.axhline(LEVEL, color=MUTED, linewidth=1, linestyle=":")
    right.set_xlabel("points in each sample")
    return fig, (
        f"Shift {shift:g}, {n:,} points in each sample: over {repetitions} repetitions the held-out accuracy is "
        f"{per_cent(accuracy)}, at least {needed:.1%} is needed, and "
        f"{tests[n].power:.0%} of the tests {'raise a false alarm' if shift == 0 else 'notice'}."
    )


# --- questions -----------------------------------------------------------------------------------------------------

FALLS, STAYS_THE_SAME, RISES = "it falls", "it stays", "it rises"


@predict(FALLS, STAYS_THE_SAME, RISES)
def predict_accuracy() -> Answer:
    """A covariate shift moves p(x) to the right. You keep the old classifier. What happens to its accuracy?"""
    before, after = (experiment.joint("covariate", size).accuracy() for size in (0.0, 1.0))
    choice = RISES if after > before + 0.005 else FALLS if after < before - 0.005 else STAYS_THE_SAME
    return choice, (
        f"It goes from {before:.1%} to {after:.1%}: more points lie far from the boundary, where the label is sure."
    )


WORSE, COIN, BELOW = "a little worse than before", "as good as a coin", "worse than a coin"


@predict(WORSE, COIN, BELOW)
def predict_line() -> Answer:
    """The cloud moves to the right by three standard deviations; line and wave stay. How good is the line there?"""
    accuracy = experiment.weighting(3.0, 500, "line", SEEDS).accuracy["none"].mean()
    choice = BELOW if accuracy < 0.47 else COIN if accuracy < 0.53 else WORSE
    return choice, f"It has {accuracy:.0%} right answers: there the wave goes down where the line still goes up."


@predict("yes: u is distributed as before, so nothing has changed", "no: for u the rule has turned round")
def predict_analogy() -> Answer:
    """w goes from 1 to -1, and x is symmetric about 0. Can a layer that reads u go on as before?"""
    return "no: for u the rule has turned round", "The distribution of u is the same, and p(y | u) is upside down."


NEITHER = "the lines are all a little worse"
LOTTERY = "some lines are rescued, others hardly helped"


@predict("the weights help as much as with 500 points", NEITHER, LOTTERY)
def predict_few_points() -> Answer:
    """The line is fitted to 100 points instead of 500, far from the test cloud, with weights. What happens?"""
    few = experiment.weighting(3.0, 100, "line", SEEDS).accuracy["estimated"]
    choice = LOTTERY if few.max() - few.min() > 0.15 else NEITHER
    return choice, f"Over {SEEDS} seeds the accuracy goes from {few.min():.0%} to {few.max():.0%}."


@predict("none", "a few points", "nearly all")
def predict_right_model() -> Answer:
    """The right model, trained on the cloud around 0, without weights: how much accuracy is lost on one 3 away?"""
    near, far = (experiment.weighting(d, 2000, "true curve", SEEDS).accuracy["none"].mean() for d in (0.0, 3.0))
    choice = "none" if near - far < 0.02 else "a few points" if near - far < 0.2 else "nearly all"
    return choice, f"It has {near:.1%} on the cloud around 0, and {far:.1%} on the other."


@predict(unit="% of the tests")
def predict_alarms() -> Answer:
    """You call it a shift when p is at most 0.05, and there is none. How often will you call it one all the same?"""
    power = 100 * experiment.detection(0.0, 100).power
    return (2.0, 8.0), f"In about one test of twenty, as the level says; here in {power:.0f} of 100."


@exercise("a covariate shift", "a label shift", "a concept shift")
def quiz_kind() -> Answer:
    """A hospital's new scanner makes brighter pictures of the same patients; what is ill stays ill. Which is it?"""
    return "a covariate shift", "The pictures are others, p(x); what a given picture means, p(y | x), stays."


@exercise(
    "nothing: all right answers prove a shift",
    "it was tested on the images that it was trained on",
    "a classifier cannot test for a shift",
)
def quiz_bug() -> Answer:
    """What is wrong with the sentence?"""
    return "it was tested on the images that it was trained on", (
        "With many pixels and few images a classifier separates nearly any two samples of the same distribution, too. "
        "Only held-out images can tell."
    )
