"""The explorables of the chapter "Count what BatchNorm buys"."""

import numpy as np
from matplotlib.patches import Rectangle

from utils import intervals
from utils.experiments import intro
from utils.experiments import scale_invariance as scaling
from utils.experiments import what_batchnorm_buys as experiment
from utils.experiments.what_batchnorm_buys import ARMS, DEEP, EXAMPLES, FACTORS, GOAL, NETWORKS
from utils.explore import Drawing, control, explore
from utils.style import (
    DASHED,
    FAINT,
    INK,
    MUTED,
    Arm,
    between,
    dot_rows,
    draw_arm,
    draw_arms,
    figure,
    guessing,
    label,
    label_ends,
    log_axis,
    look_of,
    make_room,
    number,
    per_cent,
    percent_axis,
    share_y,
    step_axis,
    told,
)
from utils.training import Run, Settings

DROPOUT = Arm("dropout", INK, (0, (2, 1.2)))


def _curves(runs: dict[str, list[Run]], settings: Settings) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The steps of all evaluations, and each arm's test accuracy there."""
    at = np.linspace(0, settings.steps, settings.n_evals)
    return at, {arm: np.array([run.accuracy_at(at) for run in each]) for arm, each in runs.items()}


# --- steps -----------------------------------------------------------------------------------------------------------

RACERS = tuple(network for network in NETWORKS if DEEP not in network)


@explore(network=list(RACERS))
def race(network: str = "sigmoid") -> Drawing:
    """How many steps to nine right answers in ten?"""
    settings, taken, rates = NETWORKS[network], experiment.steps_taken(network), experiment.own_rates(network)
    fig, (ax,) = figure("accuracy on 360 unseen digits", height=3.4)
    ax.set_xlabel("training step")
    log_axis(ax.xaxis, (5, settings.steps), [tick for tick in (5, 10, 20, 50, 100, 200, 500) if tick <= settings.steps])
    percent_axis(ax.yaxis)
    at, curves = _curves(experiment.race(network), settings)
    draw_arms(ax, at, curves)
    ax.axhline(GOAL, color=MUTED, linewidth=1, linestyle=DASHED)
    for arm, steps in taken.items():
        there = steps[np.isfinite(steps)]
        ax.plot(there, np.full(len(there), GOAL), "o", color=look_of(arm).colour, markersize=6, zorder=3)
    said = [f"{look_of(arm).label}, at rate {rates[arm]:g}, {_told_steps(steps)}" for arm, steps in taken.items()]
    ratios = experiment.step_ratios()[network]
    if np.isfinite(ratios).all() and ratios.min() > 0:
        said.append(f"with BN {between(intervals.ratio(ratios))} times fewer")
    return fig, f"{network}, to {GOAL:.0%} of the test digits within {settings.steps} steps: {'; '.join(said)}."


def _told_steps(steps: np.ndarray) -> str:
    there = int(np.isfinite(steps).sum())
    median = f"takes {np.median(steps):.0f} steps in the median seed" if np.isfinite(np.median(steps)) else ""
    return ", ".join(filter(None, [median, f"gets there in {there} of {len(steps)}" * (there < len(steps))]))


@explore(optimizer=["SGD", "Adam"], factor=control(FACTORS, label="times the best rate"))
def mistuned(optimizer: str = "SGD", factor: float = 1.0) -> Drawing:
    """Ten layers, each arm at its own best rate; or ten times off it."""
    network = DEEP if optimizer == "SGD" else f"{DEEP}, Adam"
    settings, rates = NETWORKS[network], experiment.own_rates(network)
    runs = experiment.race(network, factor)
    fig, (ax,) = figure("accuracy on 360 unseen digits", height=3.2)
    step_axis(ax, settings.steps)
    percent_axis(ax.yaxis)
    draw_arms(ax, *_curves(runs, settings))
    guessing(ax, settings.steps / 2)
    final = {arm: intro.final_accuracy(each) for arm, each in runs.items()}
    said = [f"{look_of(arm).label} at {factor * rates[arm]:g} ends at {per_cent(final[arm])}" for arm in ARMS]
    lead = intervals.mean(100 * (final["bn"] - final["plain"]))
    return (
        fig,
        (
            f"{optimizer}, each at {f'{number(factor)} times ' * (factor != 1)}its own best rate: {', '.join(said)}; "
            f"BN's lead is {between(lead)} points."
        ),
    )


# --- the range of learning rates -------------------------------------------------------------------------------------


@explore(share=control([0.5, 0.7, 0.8, 0.9, 0.95], label="usable from", unit="of the best"))
def rate_map(share: float = 0.9) -> Drawing:
    """Which learning rates can be used at which depth?"""
    tables = {arm: each.mean(-1) for arm, each in experiment.rate_map().items()}
    fig, panels = figure("plain, accuracy in %", "BN, accuracy in %", height=2.9)
    best, said = np.maximum(*tables.values()).max(1), []
    for ax, (arm, table) in zip(panels, tables.items(), strict=True):
        ax.imshow(table, cmap="cividis", vmin=0.1, vmax=1, aspect="auto", origin="lower")
        ax.set_xticks(range(len(intro.RATES)), [f"{rate:g}".removeprefix("0") for rate in intro.RATES])
        ax.set_yticks(range(len(intro.DEPTHS)), intro.DEPTHS)
        ax.set_xlabel("learning rate")
        ax.grid(visible=False)
        for (i, j), value in np.ndenumerate(table):
            colour = "#fefefe" if value < 0.6 else "#000000"  # as it is in dark mode, too
            ax.text(j, i, f"{100 * value:.0f}", color=colour, fontsize=9, ha="center", va="center")
            if value >= share * best[i]:
                for edge, wide in (("#000000", 3.5), ("#fefefe", 1.5)):
                    ax.add_patch(Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, edgecolor=edge, linewidth=wide))
        largest = [
            max(experiment.usable(intro.RATES, *each, share), default=0) for each in zip(table, best, strict=True)
        ]
        said.append(f"{look_of(arm).label} {', '.join(f'{rate:g}' if rate else 'none' for rate in largest)}")
    panels[0].set_ylabel("hidden layers")
    share_y(*panels)
    depths = ", ".join(map(str, intro.DEPTHS))
    return fig, (
        f"Framed: at least {share:.0%} of the best of this depth, mean of {experiment.rate_map()['bn'].shape[-1]} "
        f"seeds. The largest such rate at {depths} layers: {'; '.join(said)}."
    )


# --- scale invariance ------------------------------------------------------------------------------------------------


@explore(
    factor=control(scaling.FACTORS, label="a, the scale of the weights"),
    eps=control([0.0, 1e-5, 1e-3], label="epsilon"),
)
def scale(factor: float = 0.1, eps: float = 0.0) -> Drawing:
    """Make a normalised layer's weights a times as long: what changes?"""
    one, now = scaling.scaled_layer(1.0, eps), scaling.scaled_layer(factor, eps)
    fig, (left, right) = figure("the layer's output", "gradient and turn", height=3.4)
    left.plot([-4, 4], [-4, 4], color=FAINT, linewidth=5, solid_capstyle="round")
    x, y = (values.output[:, :12].flatten().clamp(-3.9, 3.9) for values in (one, now))
    left.plot(x, y, "o", color=look_of("bn").colour, alpha=0.5, markersize=3.5, markeredgewidth=0)
    left.set(xlim=(-4, 4), ylim=(-4, 4), xlabel="weights W", ylabel="weights aW")
    every = {a: scaling.factors(a, eps) for a in scaling.FACTORS}
    for name, colour, power, dashes in (("gradient", look_of("bn").colour, 1, "-"), ("turn", INK, 2, DASHED)):
        right.plot(scaling.FACTORS, np.array(scaling.FACTORS) ** -power, color=FAINT, linewidth=5)
        right.plot(
            scaling.FACTORS, [each[name] for each in every.values()], color=colour, linewidth=1.6, linestyle=dashes
        )
        right.plot(factor, every[factor][name], "o", color=colour, markersize=8)
    corner = {"transform": right.transAxes, "ha": "right", "va": "top", "fontsize": 10}
    right.text(0.97, 0.95, "turn of one step", color=INK, **corner)
    label(right, "bn", 0.97, 0.85, "gradient", **corner)
    right.set_xlabel("a")
    log_axis(right.xaxis, (6e-4, 1.6e3), [1e-3, 1, 1e3])
    log_axis(right.yaxis, (1e-7, 1e7), [1e-6, 1e-3, 1, 1e3, 1e6])
    fig.subplots_adjust(wspace=0.75)
    return fig, (
        f"With weights {number(factor)} times as long and epsilon {number(eps)}, no output differs by more than "
        f"{number(every[factor]['error'], 1)}; the gradient is {number(every[factor]['gradient'], 3)} times that at "
        f"a = 1, and one SGD step turns the weights {number(every[factor]['turn'], 3)} times as far."
    )


@explore(learning_rate=control(scaling.RATES), layer=control([1, 2, 3], unit="of 3"))
def growth(learning_rate: float = 0.3, layer: int = 2) -> Drawing:
    """The weights of a normalised layer grow, and the steps shrink."""
    steps, runs = scaling.NETWORK.steps, scaling.lengths_by_rate()
    fig, panels = figure("length of W", "rate / length²", height=3.4)
    lengths = {rate: np.array([run.length[:, layer - 1] for run in each]) for rate, each in runs.items()}
    for ax, limits in zip(panels, ((12, 600), (7e-5, 1e-1)), strict=True):
        step_axis(ax, steps, ticks=2)
        log_axis(ax.yaxis, limits, (20, 50, 100, 200, 500) if ax is panels[0] else None)
        values = {rate: lengths[rate] if ax is panels[0] else scaling.effective_rate(rate, layer) for rate in runs}
        for rate in runs:
            ax.plot(values[rate].mean(0), color=MUTED, linewidth=1)
        draw_arm(ax, "bn", np.arange(steps + 1), values[learning_rate])
        colours = {rate: look_of("bn").colour if rate == learning_rate else MUTED for rate in runs}
        label_ends(ax, {Arm(f"{rate:g}", colours[rate]): each[:, -1].mean() for rate, each in values.items()}, 0.07)
    fig.subplots_adjust(wspace=0.75)
    make_room(fig, "0.03")
    before, after = scaling.effective_rate(learning_rate, layer)[:, [0, -1]].T
    grown = lengths[learning_rate][:, [0, -1]].mean(0)
    loss = np.mean([run.loss[-20:].mean() for run in runs[learning_rate]])
    return fig, (
        f"Learning rate {learning_rate:g}, layer {layer}, {len(after)} seeds: in {steps} steps the length goes from "
        f"{grown[0]:.1f} to {grown[1]:.1f}, the effective rate from {number(before.mean(), 2)} to "
        f"{number(after.mean(), 2)}; the training loss of the last 20 batches is {loss:.3f}."
    )


# --- regularisation --------------------------------------------------------------------------------------------------


@explore(shown=["accuracy", "loss"], dropout=False)
def regularisation(shown: str = "accuracy", dropout: bool = False) -> Drawing:
    """Trained on few examples: what does BN do for unseen digits, and what does dropout do?"""
    arms = {"bn": "bn", "dropout": DROPOUT} if dropout else {"bn": "bn"}
    leads, unit = experiment.regularised(f"test_{shown}"), 100 if shown == "accuracy" else 1
    rows = {f"{n} examples": {look: unit * leads[n, arm] for arm, look in arms.items()} for n in EXAMPLES}
    title = "points of accuracy above plain" if shown == "accuracy" else "loss above plain, in nats"
    fig, (ax,) = figure(title, height=2.9, left=1.3)
    ax.axvline(0, color=INK, linewidth=1)
    dot_rows(ax, rows)
    ax.margins(x=0.2)
    ax.locator_params(axis="x", nbins=5)
    for place, look in enumerate(arms.values()):
        label(ax, look, 0.99, 0.98 - 0.09 * place, transform=ax.transAxes, ha="right", va="top", fontsize=10)
    said = [f"{row}: {told(each, lambda values: between(intervals.mean(values)))}" for row, each in rows.items()]
    what = "Points of accuracy" if shown == "accuracy" else "Test loss"
    seeds = len(leads[EXAMPLES[0], "bn"])
    return fig, f"{what} above the plain network with the same examples, {seeds} seeds [95 %]: {'; '.join(said)}."
