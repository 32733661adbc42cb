"""The figures of the chapter "Internal covariate shift", and of the page in depth beside it."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.experiments.internal_covariate_shift import (
    ARMS,
    BATCH_SIZES,
    EDGES,
    FIGURE_1,
    NETWORKS,
    SHOWN,
    WAITS,
    Drift,
    Yardstick,
    drifts,
    jumps,
    rms,
    shown_units,
    temporal_std,
    two_looks,
    unit_at_rank,
    watch_arms,
)
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.intervals import Interval, mean
from utils.style import ARMS as LOOKS
from utils.style import (
    FAINT,
    INK,
    MUTED,
    between,
    draw_arm,
    draw_arms,
    figure,
    key,
    log_axis,
    percent_axis,
    share_y,
    step_axis,
    told,
)
from utils.training import SEEDS

STEPS = FIGURE_1.steps
PLACES = {"Wu + b": "preactivation", "what enters the nonlinearity": "activation_input"}
YARDSTICKS = {
    "as it is": Yardstick.ABSOLUTE,
    "widths at the start": Yardstick.INITIAL_STD,
    "widths now": Yardstick.CURRENT_STD,
}
COUNTED_IN = {name: name if name == "as it is" else f"in {name}" for name in YARDSTICKS}
DEEP = {name: settings for name, settings in NETWORKS.items() if settings.depth > 1}
RANKS = {"least": 0.0, "median": 0.5, "most": 1.0}


def _interval(values: np.ndarray, estimate: Callable[[np.ndarray], Interval] = mean) -> str:
    """An estimate and its interval with two digits, or all that stand before the point."""
    interval = estimate(values)
    return between(interval, max(2, len(f"{interval.estimate:.0f}")))


@explore(
    updates=control(WAITS, label="updates between the two looks"),
    batch_size=control(BATCH_SIZES, label="images in a batch"),
    network=control([LOOKS[arm].label for arm in ARMS]),
)
def noise_or_drift(updates: int = 0, batch_size: int = 60, network: str = "plain") -> Drawing:
    """Two ways for a layer's means to differ: other images, or other weights."""
    arm, wait, many = network.lower(), WAITS.index(updates), BATCH_SIZES.index(batch_size)
    runs = two_looks(arm)
    noise = [run.between_batches[many] for run in runs]
    moved = [run.between_moments[wait, many] for run in runs]
    both = [run.both[wait, many] for run in runs]

    fig, axes = figure("other images", "other weights", height=3.3, left=0.7)
    for ax, seeds, what in zip(
        axes, (noise, moved), ("two batches,\none moment", "one batch,\ntwo moments"), strict=True
    ):
        units = np.arange(1, FIGURE_1.width + 1)
        ax.axhline(0, color=MUTED, linewidth=1)
        ax.plot(units, seeds[0][0].clip(-1.95, 1.95), "o", color=LOOKS[arm].colour, markersize=3.5, markeredgewidth=0)
        ax.set(xlim=(0, len(units) + 1), ylim=(-2, 2.9), yticks=range(-2, 3), xlabel="unit of the last layer")
        ax.text(0.03, 0.97, what, transform=ax.transAxes, va="top", color=INK, fontsize=10)
    share_y(*axes)
    axes[0].set_ylabel("difference of means, widths")
    noise, moved, both = (_interval(rms(each, (-2, -1))) for each in (noise, moved, both))
    return fig, (
        f"Batches of {batch_size}, looks {updates} updates apart ({network}). Other images: {noise} widths of a unit. "
        f"Other weights, same images: {moved}. Both at once: {both} (root mean square over units, {len(runs)} seeds)."
    )


@explore(
    step=control(watched := list(range(0, STEPS + 1, STEPS // 10)), label="training step", plays=True),
    place=list(PLACES),
)
def play(step: int = 0, place: str = "Wu + b") -> Drawing:
    """One unit of each layer on the same 500 images, while the weights are updated (seed 0)."""
    titles = [f"{LOOKS[arm].label}, layer {layer}" for layer in (1, 2, 3) for arm in ARMS]
    fig, axes = figure(*titles, rows=3, height=5.6, left=0.3)
    now, shown = watched.index(step), SHOWN.index(step)
    for column, arm in enumerate(ARMS):
        run, units = shown_units(arm)
        for layer in range(3):
            ax, histograms = axes[2 * layer + column], units.counts[PLACES[place]][:, layer]
            _distribution(ax, arm, histograms[0], histograms[shown], run.mean[PLACES[place]][now, layer])
    for ax in axes[4:]:
        ax.set_xlabel("Wu + b" if place == "Wu + b" else "sigmoid's input")
    far = {arm: drifts(runs, Yardstick.ABSOLUTE, PLACES[place])[:, now] for arm, runs in watch_arms(FIGURE_1).items()}
    said = told(far, lambda each: ", ".join(f"{layer:.2f}" for layer in each.mean(0)), "; ")
    return fig, (
        f"After {step:,} updates, at {place}: distance of a unit's mean from its start in layers 1, 2, 3, "
        f"averaged over units and {len(far['bn'])} seeds: {said}."
    )


@explore(
    updates=control(SHOWN, label="updates", plays=True),
    network=control([LOOKS[arm].label for arm in ARMS]),
)
def in_the_network(updates: int = 0, network: str = "plain") -> Drawing:
    """A network, and under each layer how one of its units responds to the same 500 images as it learns."""
    arm, layers = network.lower(), FIGURE_1.depth
    _, units = shown_units(arm)
    counts, means = units.counts["preactivation"], units.mean["preactivation"]
    now = SHOWN.index(updates)
    fig, axes = figure(*(f"layer {i}" for i in range(1, layers + 1)), height=3.6, left=0.75, bottom=0.5)
    fig.subplots_adjust(top=0.56, right=0.9, wspace=0.12)
    for layer, ax in enumerate(axes):
        ax.stairs(counts[now, layer] / counts[now, layer].max(), EDGES, fill=True, color=LOOKS[arm].colour, alpha=0.6)
        ax.stairs(counts[0, layer] / counts[0, layer].max(), EDGES, color=INK, linewidth=1.1)
        ax.set(xlim=(-6, 6), ylim=(0, 1.1), yticks=[], xticks=[-5, 0, 5], xlabel="Wu" if arm == "bn" else "Wu + b")
    _sketch(fig, axes, arm)
    axes[0].text(-5.8, 1.02, "at first", color=INK, fontsize=9, va="top")
    moved = ", ".join(f"{abs(mean):.2f}" for mean in means[now] - means[0])
    return fig, (
        f"{network}, seed 0, after {updates:,} update{'s' * (updates != 1)}: the mean of the unit shown has moved by "
        f"{moved} in layers 1, 2 and 3, on the same images; {units.test_accuracy[now]:.0%} of the test "
        f"digits are right."
    )


def _sketch(fig: Figure, axes: Sequence[Axes], arm: str) -> None:
    """Draw the network above the panels: the image, one box a layer, the answer."""
    sketch = fig.add_axes((0, 0.68, 1, 0.3))
    sketch.set(xlim=(0, 1), ylim=(0, 1))
    sketch.set_axis_off()
    boxes = [(ax.get_position().x0 + ax.get_position().x1) / 2 for ax in axes]
    inside = "Wu, BN,\nsigmoid" if arm == "bn" else "Wu + b,\nsigmoid"
    places = [0.055, *boxes, 0.95]
    for x, text in zip(places, ["image", *[inside] * len(boxes), "digit"], strict=True):
        is_layer = text == inside
        look = {"boxstyle": "round,pad=0.45", "facecolor": FAINT if is_layer else "none", "edgecolor": "none"}
        sketch.text(x, 0.5, text, ha="center", va="center", fontsize=9.5, color=INK, bbox=look if is_layer else None)
    half = 0.085
    for start, end in itertools.pairwise(places):
        arrow = {"arrowstyle": "->", "color": MUTED, "linewidth": 1.3}
        gaps = (half if start in boxes else 0.045, half if end in boxes else 0.035)
        sketch.annotate("", (end - gaps[1], 0.5), (start + gaps[0], 0.5), arrowprops=arrow)


def _distribution(ax: Axes, arm: str, first: np.ndarray, now: np.ndarray, means: np.ndarray) -> None:
    """The histogram of one unit, at first and now, each at its own height; under it the means of all units."""
    ax.stairs(now / now.max(), EDGES, fill=True, color=LOOKS[arm].colour, alpha=0.6)
    ax.stairs(first / first.max(), EDGES, color=INK, linewidth=1.1)
    ax.plot(means.clip(-5.9, 5.9), np.full(len(means), -0.2), "|", color=LOOKS[arm].colour, markersize=8, alpha=0.5)
    ax.set(xlim=(-6, 6), ylim=(-0.4, 1.08), yticks=[], xticks=[-5, 0, 5])


@explore(
    depth=control([1, 3, 5], unit="hidden layers"),
    unit=control(list(RANKS), label="unit that wanders"),
    seed=control(range(3)),
)
def figure_one(depth: int = 3, unit: str = "median", seed: int = 0) -> Drawing:
    """Figure 1 of the paper, on small digits: one input of the last hidden layer, and what the network achieves."""
    titles = ("plain, one input", "BN, one input", "test accuracy", "all 100 units")
    fig, axes = figure(*titles, rows=2, height=5.0, left=0.75)
    watched = watch_arms(NETWORKS[f"sigmoid, {depth} layer{'s' * (depth > 1)}"])
    wandering = {arm: np.array([temporal_std(run) for run in runs]) for arm, runs in watched.items()}
    shown = {arm: unit_at_rank(each[seed], RANKS[unit]) for arm, each in wandering.items()}
    for ax, (arm, runs) in zip(axes, watched.items(), strict=False):
        _input(ax, arm, runs[seed], shown[arm])
        draw_arm(axes[2], arm, runs[0].eval_steps, [run.test_accuracy for run in runs])
        draw_arm(axes[3], arm, np.arange(1, 101), np.sort(wandering[arm]))
    axes[0].set_ylabel("sigmoid's input")
    percent_axis(axes[2].yaxis)
    step_axis(axes[2], STEPS, ticks=3)
    axes[3].set(xlim=(1, 100), ylim=(0, 1.7), xlabel="unit, in order", ylabel="wandering")
    key(axes[3], ARMS, x=0.06, top=0.98, step=0.13)
    accuracy = told(
        {arm: np.array([run.test_accuracy[-1] for run in runs]) for arm, runs in watched.items()}, _per_cent
    )
    average = told({arm: each.mean(1) for arm, each in wandering.items()}, _interval)
    of_shown = told({arm: wandering[arm][seed, shown[arm]] for arm in ARMS}, lambda value: f"{value:.2f}")
    return fig, (
        f"{depth} hidden layer{'s' * (depth > 1)}, {STEPS} updates, {len(watched['bn'])} seeds. "
        f"Test accuracy: {accuracy}. Wandering of the median, mean over units: {average}; of the inputs shown "
        f"(seed {seed}): {of_shown}."
    )


def _per_cent(values: np.ndarray) -> str:
    return f"{between(mean(100 * values), 3)} %"


def _input(ax: Axes, arm: str, run: Drift, unit: int) -> None:
    low, middle, high = run.percentiles[:, :, unit].T
    ax.fill_between(run.eval_steps, low, high, color=LOOKS[arm].colour, alpha=0.25, linewidth=0)
    ax.plot(run.eval_steps, middle, color=LOOKS[arm].colour)
    ax.set_ylim(-5, 5)
    step_axis(ax, STEPS, ticks=3)


@explore(network=list(DEEP), yardstick=list(YARDSTICKS))
def against_layer(network: str = "ReLU, 10 layers", yardstick: str = "widths at the start") -> Drawing:
    """Does drift grow with depth? Three yardsticks for one and the same run."""
    settings = DEEP[network]
    fig, (ax,) = figure(f"drift of Wu + b, {COUNTED_IN[yardstick]}", height=3.4, left=0.75)
    layers = np.arange(1, settings.depth + 1)
    far = {arm: drifts(runs, YARDSTICKS[yardstick])[:, -1] for arm, runs in watch_arms(settings).items()}
    log_axis(ax.yaxis, (3e-4, 2e4) if network == "sigmoid, 5 layers" else (0.003, 100))
    ax.set(xlim=(0.8, settings.depth + 0.2), xlabel="hidden layer", xticks=layers)
    draw_arms(ax, layers, far)
    for arm, each in far.items():
        ax.plot(layers, each.mean(0), "o", color=LOOKS[arm].colour, markersize=4.5)
    said = told(far, lambda each: f"{_interval(each[:, 0])} in layer 1, {_interval(each[:, -1])} in the last", "; ")
    return fig, (f"{network}, {settings.steps} updates, {COUNTED_IN[yardstick]}: {said} ({len(far['bn'])} seeds).")


@explore(layer=control([1, 2, 3], unit="of 3"), yardstick=list(YARDSTICKS))
def jumps_and_drift(layer: int = 1, yardstick: str = "widths now") -> Drawing:
    """What one update moves, and what all updates together have moved."""
    fig, axes = figure("all updates so far", "the last update", height=3.3, left=0.92)
    watched = watch_arms(FIGURE_1)
    said = []
    for ax, measure in zip(axes, (drifts, jumps), strict=True):
        log_axis(ax.yaxis, (3e-5, 2000))
        step_axis(ax, STEPS, ticks=3)
        moved = {arm: measure(runs, YARDSTICKS[yardstick])[:, 1:, layer - 1] for arm, runs in watched.items()}
        for arm, each in moved.items():
            draw_arm(ax, arm, watched[arm][0].eval_steps[1:], each)
        said.append({arm: each[:, -1] if measure is drifts else each.mean(1) for arm, each in moved.items()})
    share_y(*axes)
    axes[0].set_ylabel(f"moved, {COUNTED_IN[yardstick]}")
    key(axes[1], ARMS, x=0.5, top=0.98, step=0.1)
    far, jump = (told(each, _interval) for each in said)
    return fig, (
        f"Layer {layer}, Wu + b, {COUNTED_IN[yardstick]}: drift at the end {far}; one update {jump} "
        f"(mean over 10 looks; {len(watched['bn'])} seeds)."
    )


# --- questions -----------------------------------------------------------------------------------------------------

FIRST, MIDDLE, LAST = "the layer next to the image", "the middle one", "the layer next to the answer"


@predict(FIRST, MIDDLE, LAST, "all three alike")
def predict_first_to_leave() -> Answer:
    """Play the training of the plain network. Which layer's values will leave their first place first?"""
    far = drifts(watch_arms(FIGURE_1)["plain"], Yardstick.ABSOLUTE)[:, 1].mean(0)
    told_layers = ", ".join(f"{layer:.2f}" for layer in far)
    return (FIRST, MIDDLE, LAST)[int(far.argmax())], (
        f"After 50 updates the means have moved by {told_layers} in layers 1, 2 and 3 (mean of {SEEDS} seeds)."
    )


OTHER_BATCH, ONE_UPDATE, ALIKE = "taking another batch of 60", "making one update", "both, within a factor of two"


@predict(OTHER_BATCH, ONE_UPDATE, ALIKE)
def predict_noise_or_drift() -> Answer:
    """You take the mean of a unit in the plain network's last layer over 60 images. Which changes that mean more?"""
    runs, many = two_looks("plain"), BATCH_SIZES.index(60)
    batch = rms([run.between_batches[many] for run in runs], (-2, -1)).mean()
    update = rms([run.between_moments[WAITS.index(1), many] for run in runs], (-2, -1)).mean()
    choice = OTHER_BATCH if batch > 2 * update else ONE_UPDATE if update > 2 * batch else ALIKE
    return choice, f"Another batch {batch:.2f} widths, one update {update:.2f} (root mean square over the units)."


@predict("it grows", "it stays", "it falls", "it depends on how it is counted")
def predict_grows() -> Answer:
    """A tanh network of ten layers on raw pixels. From its first to its last layer, does drift grow, stay, or fall?"""
    runs = watch_arms(NETWORKS["tanh, 10 layers, raw pixels"])["plain"]
    ratios = {
        name: float((far := drifts(runs, each)[:, -1])[:, -1].mean() / far[:, 0].mean())
        for name, each in YARDSTICKS.items()
    }
    named = [_direction(ratio) for ratio in ratios.values()]
    said = ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios.items())
    choice = named[0] if len(set(named)) == 1 else "it depends on how it is counted"
    return choice, f"Last layer over first: {said}."


def _direction(ratio: float) -> str:
    return "it grows" if ratio > 1.2 else "it falls" if ratio < 1 / 1.2 else "it stays"


@predict(unit="% of the way")
def predict_walked() -> Answer:
    """Add up the lengths of all jumps of the plain network's last layer. At the end, how far from its start is it, in
    per cent of the way walked?
    """
    runs = watch_arms(FIGURE_1)["plain"]
    walked = STEPS * jumps(runs, Yardstick.ABSOLUTE)[:, 1:, 2].mean(1)
    share = 100 * (drifts(runs, Yardstick.ABSOLUTE)[:, -1, 2] / walked).mean()
    return (share / 2, share * 2), f"About {share:.1f} % (estimated from ten looks): most of the way is to and fro."


@exercise("the drift since the start", "drift and chance at once", "nothing: it is 0 by construction")
def quiz_consecutive_batches() -> Answer:
    """What did the colleague measure? Think of a learning rate of 0."""
    return "drift and chance at once", (
        "With a learning rate of 0 the number is not 0. Look at the same images before and after the update; and the "
        "sum of such jumps is still not the drift since the start."
    )
