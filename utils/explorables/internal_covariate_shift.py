"""The explorables of the chapter "Internal covariate shift"."""

from dataclasses import replace
from functools import cache

import numpy as np
from matplotlib.axes import Axes

from utils.drift import (
    EDGES,
    PLACES,
    YARDSTICKS,
    Drift,
    TwoLooks,
    drift,
    jumps,
    look_twice,
    size,
    steps_to,
    typical,
    wander,
    watch_all,
    watch_units,
)
from utils.explore import Drawing, control, explore
from utils.style import ARMS, INK, MUTED, draw_arm, figure, label, label_ends, spread
from utils.training import Settings

SEEDS = 5
STEPS = 1200
LOOKS = 31
FIGURE_1 = Settings(depth=3, width=100, nonlinearity="sigmoid", init=0.1, lr=1.0, batch_size=60, steps=STEPS)
ARMS_SHOWN = ("plain", "bn")
DEEP = {"width": 100, "steps": 200, "lr": 0.1}
NETWORKS = {
    "sigmoid, 3 layers": FIGURE_1,
    "sigmoid, 5 layers": replace(FIGURE_1, depth=5),
    "ReLU, 3 layers": Settings(depth=3, nonlinearity="relu", init="he", **DEEP),
    "ReLU, 10 layers": Settings(depth=10, nonlinearity="relu", init="he", **DEEP),
    "tanh, 10 layers": Settings(depth=10, nonlinearity="tanh", **DEEP),
}
WAITS = (0, 1, 3, 10, 30, 100, 200)
BATCH_SIZES = (4, 16, 60, 250)
FIRST_LOOK = 600  # updates
AXIS = {"as it is": "as it is", "width at the start": "in widths at the start", "width now": "in widths now"}
RANKS = {"least": 0.0, "median": 0.5, "most": 1.0}
BLUE = ARMS["bn"].colour


@cache
def watched(settings: Settings, looks: int = LOOKS) -> list[list[Drift]]:
    """Return the runs of a network without and with BN, five seeds each.

    >>> [len(runs) for runs in watched(Settings(steps=2), looks=2)]
    [5, 5]
    """
    return watch_all([replace(settings, norm=norm) for norm in ARMS_SHOWN], SEEDS, looks)


@cache
def shown_units(norm: str) -> np.ndarray:
    """Return the histograms of each layer's typical unit, by how much it wanders: (places, looks, layers, bins)."""
    run = watched(FIGURE_1)[ARMS_SHOWN.index(norm)][0]
    units = tuple(typical(layer) for layer in wander(run))
    return watch_units(replace(FIGURE_1, norm=norm), 0, units, LOOKS)


@cache
def two_looks(norm: str) -> list[TwoLooks]:
    """Return the five seeds' looks at batches of every size, around update 600, with this norm."""
    settings = replace(FIGURE_1, norm=norm, steps=FIRST_LOOK + WAITS[-1])
    return [look_twice(settings, seed, FIRST_LOOK, WAITS, BATCH_SIZES) for seed in range(SEEDS)]


@explore(
    updates=control(WAITS, label="updates between the two looks"),
    batch_size=control(BATCH_SIZES, label="images in a batch"),
    network=["plain", "BN"],
)
def noise_or_drift(updates: int = 30, batch_size: int = 60, network: str = "plain") -> Drawing:
    """Two ways for a layer's means to differ: other images, or other weights."""
    arm, wait, many = network.lower(), WAITS.index(updates), BATCH_SIZES.index(batch_size)
    runs = two_looks(arm)
    noise = np.array([size(run.between_batches[many]) for run in runs])
    moved = np.array([size(run.between_moments[wait, many]) for run in runs])
    both = np.array([size(run.both[wait, many]) for run in runs])
    shown = (runs[0].between_batches[many], runs[0].between_moments[wait, many])

    fig, axes = figure("other images", "other weights", height=3.3, left=0.7)
    fig.subplots_adjust(wspace=0.12)
    for ax, differences, what in zip(axes, shown, ("two batches,\none moment", "one batch,\ntwo moments"), strict=True):
        units = np.arange(1, 101)
        ax.axhline(0, color=MUTED, linewidth=1)
        ax.plot(units, differences[0].clip(-1.95, 1.95), "o", color=ARMS[arm].colour, markersize=3.5, markeredgewidth=0)
        ax.set(xlim=(0, 101), ylim=(-2, 2.9), yticks=range(-2, 3), xlabel="unit of the last hidden layer")
        ax.text(0.03, 0.97, what, transform=ax.transAxes, va="top", color=INK, fontsize=10)
    axes[0].set_ylabel("difference of means, widths")
    axes[1].tick_params(labelleft=False)
    return fig, (
        f"Batches of {batch_size}, looks {updates} updates apart ({network}). Other images: {_figures(noise)} widths "
        f"of a unit. Other weights, same images: {_figures(moved)}. Both at once: {_figures(both)} (root mean square, "
        f"{SEEDS} seeds)."
    )


@explore(
    step=control([0, 40, *range(80, STEPS + 1, 80)], label="training step", plays=True),
    place=list(PLACES),
)
def play(step: int = 560, place: str = PLACES[0]) -> Drawing:
    """One unit of each layer on the same 500 images, while the weights are updated (seed 0)."""
    titles = [f"{ARMS[arm].label}, layer {layer}" for layer in (1, 2, 3) for arm in ARMS_SHOWN]
    fig, axes = figure(*titles, rows=3, height=5.6, left=0.3)
    where, now, said = PLACES.index(place), step // (STEPS // (LOOKS - 1)), []
    for column, (arm, runs) in enumerate(zip(ARMS_SHOWN, watched(FIGURE_1), strict=True)):
        for layer in range(3):
            _distribution(axes[2 * layer + column], arm, runs[0], where, now, layer)
        far = np.mean([drift(run.mean[where], run.std[where], YARDSTICKS[0])[now].mean(-1) for run in runs], 0)
        said.append(f"{ARMS[arm].label} " + ", ".join(f"{each:.2f}" for each in far))
    for ax in axes[4:]:
        ax.set_xlabel("Wu + b" if where == 0 else "sigmoid's input")
    return fig, (
        f"After {step:,} updates, at {place}: distance of a unit's mean from its start in layers 1, 2, 3, "
        f"averaged over units and {SEEDS} seeds: {'; '.join(said)}."
    )


def _distribution(ax: Axes, arm: str, run: Drift, place: int, now: int, layer: int) -> None:
    """The histogram of one unit, at first and now, each at its own height; under it the medians of all units."""
    first, counts = (shown_units(arm)[place, look, layer] for look in (0, now))
    ax.stairs(counts / counts.max(), EDGES, fill=True, color=ARMS[arm].colour, alpha=0.6)
    ax.stairs(first / first.max(), EDGES, color=INK, linewidth=1.1)
    medians = run.percentiles[place, now, layer, 1].clip(-5.9, 5.9)
    ax.plot(medians, np.full(len(medians), -0.2), "|", color=ARMS[arm].colour, markersize=8, alpha=0.5)
    ax.set(xlim=(-6, 6), ylim=(-0.4, 1.08), yticks=[], xticks=[-5, 0, 5])


@explore(
    depth=control([1, 3, 5], unit="hidden layers"),
    unit=control(list(RANKS), label="unit, by how much it wanders"),
    seed=control(range(3)),
)
def figure_one(depth: int = 3, unit: str = "median", seed: int = 0) -> Drawing:
    """Figure 1 of the paper, on small digits: one input of the last hidden layer, and what the network achieves."""
    fig, axes = figure(
        "plain, one input", "BN, one input", "test accuracy", "all 100 units", rows=2, height=5.0, left=0.75
    )
    said, shown = [], []
    for ax, arm, runs in zip(axes, ARMS_SHOWN, watched(replace(FIGURE_1, depth=depth)), strict=False):
        run, colour = runs[seed], ARMS[arm].colour
        which = typical(wander(run)[-1], RANKS[unit])
        low, middle, high = run.percentiles[1, :, -1, :, which].T
        ax.fill_between(run.looked, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(run.looked, middle, color=colour)
        ax.set(xlim=(0, STEPS), ylim=(-6, 6), xlabel="training step")
        draw_arm(axes[2], arm, run.tested[::5], [each.test_accuracy[::5] for each in runs])
        draw_arm(axes[3], arm, np.arange(1, 101), np.sort([wander(each)[-1] for each in runs]))
        final = np.array([100 * each.test_accuracy[-1] for each in runs])
        said.append(
            f"{ARMS[arm].label}: test accuracy {spread(final, 1)} %, mean wandering of the median "
            f"{spread(np.array([wander(each)[-1].mean() for each in runs]), 3)}"
        )
        shown.append(f"{ARMS[arm].label} {wander(run)[-1, which]:.3f}")
    axes[0].set_ylabel("sigmoid's input")
    axes[2].set(xlim=(0, STEPS), ylim=(0, 1.02), xlabel="training step")
    axes[3].set(xlim=(1, 100), ylim=(0, 2.8), xlabel="unit, in order", ylabel="wandering")
    label(axes[2], "plain", 0.96, 0.5, transform=axes[2].transAxes, ha="right")
    label(axes[2], "bn", 0.96, 0.37, transform=axes[2].transAxes, ha="right")
    return fig, (
        f"{depth} hidden layer{'s' * (depth > 1)}, {STEPS:,} updates, {SEEDS} seeds. {'; '.join(said)}. "
        f"Of the inputs shown (seed {seed}): {', '.join(shown)}."
    )


@explore(
    network=list(NETWORKS),
    yardstick=list(YARDSTICKS),
    part=["the whole drift", "inherited part"],
)
def against_layer(
    network: str = "tanh, 10 layers", yardstick: str = "width at the start", part: str = "the whole drift"
) -> Drawing:
    """Does drift grow with depth? Three yardsticks for one and the same run."""
    settings = NETWORKS[network]
    fig, (ax,) = figure(f"drift {AXIS[yardstick]}", height=3.4, left=0.75)
    layers, said, ends = np.arange(1, settings.depth + 1), [], {}
    for arm, runs in zip(ARMS_SHOWN, watched(settings, LOOKS if "sigmoid" in network else 5), strict=True):
        far = np.array([_last(run, yardstick, part) for run in runs])
        first = 1 if part == "inherited part" else 0
        draw_arm(ax, arm, layers[first:], far[:, first:])
        ax.plot(layers[first:], far[:, first:].mean(0), "o", color=ARMS[arm].colour, markersize=4.5)
        ends[arm] = far[:, -1].mean()
        said.append(
            f"{ARMS[arm].label} {_figures(far[:, first])} in layer {first + 1}, {_figures(far[:, -1])} in the last"
        )
    ax.set(yscale="log", xlim=(0.8, settings.depth + 0.2), xlabel="hidden layer", xticks=layers)
    ax.set_ylim(*((0.001, 20_000) if network == "sigmoid, 5 layers" else (0.003, 300)))
    label_ends(ax, ends, gap=0.08)
    fig.subplots_adjust(right=0.86)
    return fig, (
        f"{network}, {settings.steps:,} updates, Wu + b, {part} {AXIS[yardstick]}: {'; '.join(said)} ({SEEDS} seeds)."
    )


def _figures(values: np.ndarray) -> str:
    return spread(values, 0 if values.mean() > 100 else 2 if values.mean() > 0.1 or not values.any() else 3)


def _last(run: Drift, yardstick: str, part: str) -> np.ndarray:
    """The mean over units, for each layer, at the last look."""
    mean, std = run.mean[0], run.std[0]
    if part == "inherited part":
        mean = run.inherited[0]  # by the weights of the start; 0 at the first look, as the drift is
    return drift(mean, std, yardstick)[-1].mean(-1)


@explore(layer=control([1, 2, 3], unit="of 3"), yardstick=list(YARDSTICKS))
def jumps_and_drift(layer: int = 3, yardstick: str = "width now") -> Drawing:
    """What one update moves, and what all updates together have moved."""
    fig, (left, right) = figure("all updates so far", "the last update", height=3.3, left=0.8)
    said = []
    for arm, runs in zip(ARMS_SHOWN, watched(FIGURE_1), strict=True):
        far = np.array([drift(run.mean[0], run.std[0], yardstick)[:, layer - 1].mean(-1) for run in runs])
        moved = np.array([jumps(run, yardstick)[1:, layer - 1].mean(-1) for run in runs])
        draw_arm(left, arm, runs[0].looked[1:], far[:, 1:])
        draw_arm(right, arm, runs[0].looked[1:], moved)
        said.append(f"{ARMS[arm].label} has drifted by {_figures(far[:, -1])}, one update by {_figures(moved.mean(1))}")
    for ax in (left, right):
        ax.set(yscale="log", xlim=(0, STEPS), ylim=(3e-4, 500), xlabel="training step", xticks=[0, 500, 1000])
    right.tick_params(labelleft=False)
    fig.subplots_adjust(wspace=0.12)
    left.set_ylabel(f"moved, {AXIS[yardstick]}")
    label(right, "plain", 0.96, 0.9, transform=right.transAxes, ha="right")
    label(right, "bn", 0.96, 0.8, transform=right.transAxes, ha="right")
    return fig, (f"Layer {layer}, Wu + b, {AXIS[yardstick]}: {'; '.join(said)} (mean over 30 looks; {SEEDS} seeds).")


GOALS = {"80 %": 0.8, "90 %": 0.9, "95 %": 0.95, "plain's best": None}


@cache
def sweep(lr: float) -> list[list[Drift]]:
    """Return the runs at a learning rate, plain and BN. Away from the figure's own, BN's runs end after 400 updates."""
    if lr == FIGURE_1.lr:
        return watched(FIGURE_1)
    plain = replace(FIGURE_1, lr=lr)
    return watch_all([plain, replace(plain, norm="bn", steps=400)], SEEDS, looks=2)


def steps_needed(lr: float, goal: str) -> tuple[np.ndarray, np.ndarray]:
    """After how many updates each seed's test accuracy first reaches the goal, plain and BN.

    "plain's best" is the best that this seed's plain network reaches in its 1,200 updates.
    """
    plain, bn = sweep(lr)
    goals = [GOALS[goal] or run.test_accuracy.max() for run in plain]
    return tuple(
        np.array([steps_to(run.tested, run.test_accuracy, each) for run, each in zip(runs, goals, strict=True)])
        for runs in (plain, bn)
    )


@explore(lr=control([0.3, 1.0, 3.0], label="learning rate"), goal=list(GOALS))
def speed_up(lr: float = 1.0, goal: str = "90 %") -> Drawing:
    """How many times fewer updates? It depends on what you ask for, and at which learning rate."""
    fig, (ax,) = figure("test accuracy", height=3.3)
    needed = dict(zip(ARMS_SHOWN, steps_needed(lr, goal), strict=True))
    for arm, runs in zip(ARMS_SHOWN, sweep(lr), strict=True):
        draw_arm(ax, arm, runs[0].tested, [run.test_accuracy for run in runs])
        for run, steps in zip(runs, needed[arm], strict=True):
            if np.isfinite(steps):
                ax.plot(steps, run.test_accuracy[run.tested == steps], "o", color=INK, markersize=5, zorder=5)
    if GOALS[goal]:
        ax.axhline(GOALS[goal], color=MUTED, linewidth=1.2, linestyle=(0, (4, 2)))
    ax.set(xlim=(0, STEPS), ylim=(0, 1.02), xlabel="training step")
    label(ax, "plain", 0.97, 0.17, transform=ax.transAxes, ha="right")
    label(ax, "bn", 0.97, 0.07, transform=ax.transAxes, ha="right")
    return (
        fig,
        f"Learning rate {lr:g}, goal: {goal}{' of the test images' if GOALS[goal] else ''}. {_compared(**needed)}",
    )


def _compared(plain: np.ndarray, bn: np.ndarray) -> str:
    reached = np.isfinite(plain).sum()
    if reached == SEEDS:
        fewer = f"{spread(plain / bn, 1)} times fewer ({SEEDS} seeds)"
        return f"Plain needs {spread(plain, 0)} updates, BN {spread(bn, 0)}: {fewer}."
    least = (STEPS / bn).min()
    return (
        f"Plain gets there in {reached} of {SEEDS} seeds within {STEPS:,} updates, BN after {spread(bn, 0)}: at least "
        f"{least:.0f} times fewer where plain fails."
    )
