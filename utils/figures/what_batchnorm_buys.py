"""The figures of the chapter "What BatchNorm buys"."""

import numpy as np
from matplotlib.patches import Rectangle

from utils import intervals
from utils.experiments import intro
from utils.experiments import what_batchnorm_buys as experiment
from utils.experiments.what_batchnorm_buys import ARMS, DEEP, EXAMPLES, FACTORS, GOAL, NETWORKS
from utils.explore import Answer, Drawing, control, exercise, explore, predict, table
from utils.explore.table import Table
from utils.style import (
    DASHED,
    INK,
    MUTED,
    Arm,
    between,
    dot_rows,
    draw_arms,
    figure,
    guessing,
    label,
    log_axis,
    look_of,
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
def race(network: str = "ReLU") -> Drawing:
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


@explore(
    share=control([0.5, 0.7, 0.8, 0.9, 0.95], label="usable from", unit="of the best"),
    with_bn=control(True, label="show BN's map"),
)
def rate_map(share: float = 0.9, with_bn: bool = False) -> Drawing:
    """Which learning rates can be used at which depth?"""
    tables = {arm: each.mean(-1) for arm, each in experiment.rate_map().items()}
    fig, panels = figure("plain, accuracy in %", "BN, accuracy in %", height=2.9)
    best, said = np.maximum(*tables.values()).max(1), []
    for ax, (arm, cells) in zip(panels, tables.items(), strict=True):
        if arm == "bn" and not with_bn:
            ax.set_axis_off()
            ax.set_title("")
            continue
        ax.imshow(cells, cmap="cividis", vmin=0.1, vmax=1, aspect="auto", origin="lower")
        ax.set_xticks(range(len(intro.RATES)), [f"{rate:g}".removeprefix("0") for rate in intro.RATES])
        ax.set_yticks(range(len(intro.DEPTHS)), intro.DEPTHS)
        ax.set_xlabel("learning rate")
        ax.grid(visible=False)
        for (i, j), value in np.ndenumerate(cells):
            colour = "#fefefe" if value < 0.6 else "#000000"  # as it is in dark mode, too
            ax.text(j, i, f"{100 * value:.0f}", color=colour, fontsize=9, ha="center", va="center")
            if value >= share * best[i]:
                for edge, wide in (("#000000", 3.5), ("#fefefe", 1.5)):
                    ax.add_patch(Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, edgecolor=edge, linewidth=wide))
        largest = [
            max(experiment.usable(intro.RATES, *each, share), default=0) for each in zip(cells, best, strict=True)
        ]
        said.append(f"{look_of(arm).label} {', '.join(f'{rate:g}' if rate else 'none' for rate in largest)}")
    panels[0].set_ylabel("hidden layers")
    share_y(*panels)
    depths = ", ".join(map(str, intro.DEPTHS))
    return fig, (
        f"Framed: at least {share:.0%} of the best of this depth, mean of {experiment.rate_map()['bn'].shape[-1]} "
        f"seeds. The largest such rate at {depths} layers: {'; '.join(said)}."
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


# --- networks that do not learn without it ---------------------------------------------------------------------------


def sigmoid_table() -> Table:
    """Five sigmoid layers: the accuracy of the worst, the median and the best seed, without BN and with it."""
    runs = {
        f"{arm}, Glorot's start, rate {rate:g}": each
        for rate in experiment.SIGMOID_RATES
        for arm, each in experiment.five_sigmoid_layers("Glorot's start", rate).items()
    }
    runs["plain, a larger start, rate 1"] = experiment.five_sigmoid_layers("a larger start", 1.0)["plain"]
    rows = []
    for name, each in runs.items():
        ends = np.sort([run.test_accuracy[-1] for run in each])
        rows.append((name.replace("bn,", "BN,"), *(f"{end:.0%}" for end in (ends[0], np.median(ends), ends[-1]))))
    return table("network", "worst seed", "median", "best seed", rows=rows)


# --- questions -----------------------------------------------------------------------------------------------------


@predict("both, at small rates", "BN's only", "neither's")
def predict_deepest() -> Answer:
    """Twenty layers: whose accuracy comes near the best of the row?"""
    plain, bn = (experiment.rate_map()[arm].mean(-1)[-1] for arm in ARMS)
    best = max(plain.max(), bn.max())
    choice = "both, at small rates" if plain.max() >= 0.9 * best else "BN's only"
    return choice, f"The best mean of any rate is {plain.max():.0%} without BN and {bn.max():.0%} with it."


@predict("a large lead, both times", "little or none at its best rate, a large one at ten times", "no lead at either")
def predict_adam() -> Answer:
    """Adam adapts its steps to each parameter. Is BN still ahead, at its own best rate, and at ten times that rate?"""
    own, ten = (100 * experiment.mistuned(f"{DEEP}, Adam")[factor].mean() for factor in (1.0, 10.0))
    large = [lead > 10 for lead in (own, ten)]
    choice = "a large lead, both times" if all(large) else "no lead at either"
    if large == [False, True]:
        choice = "little or none at its best rate, a large one at ten times"
    return choice, f"BN's lead by Adam: {own:.1f} points at its best rate, {ten:.0f} at ten times that."


@predict("1.5 times", "3 times", "5 to 10 times", "more than 20 times")
def predict_times_fewer() -> Answer:
    """Three layers of sigmoids, each network at its own best rate: how many times fewer steps does BN take to nine
    right in ten?
    """
    middle = intervals.median(experiment.step_ratios()["sigmoid"]).estimate
    bounds = {"1.5 times": 2.0, "3 times": 4.5, "5 to 10 times": 15.0, "more than 20 times": np.inf}
    choice = next(name for name, bound in bounds.items() if middle < bound)
    return choice, f"{middle:.1f} times, in the median of ten seeds. Choose *sigmoid* in the figure."


@predict("10 times smaller", "100 times smaller", "it does not change")
def predict_turn() -> Answer:
    """Make the weights ten times as long. The output stays. By which angle does one SGD step, at the same rate, now
    turn them?
    """
    return (
        "100 times smaller",
        "A hundred times: the step is ten times shorter, as the gradient is, and acts on weights ten times as long.",
    )


@predict("BN", "dropout", "neither: plain is as good")
def predict_regularises() -> Answer:
    """Trained on 100 digits only: what does most for unseen digits?"""
    found = {arm: 100 * experiment.regularised()[EXAMPLES[0], arm] for arm in ("bn", "dropout")}
    best = max(found, key=lambda arm: found[arm].mean())
    choice = {"bn": "BN", "dropout": "dropout"}[best] if found[best].mean() > 0.5 else "neither: plain is as good"
    said = ", ".join(f"{name} {found[arm].mean():+.1f}" for arm, name in (("bn", "BN"), ("dropout", "dropout")))
    return choice, f"Points above the plain network, mean of ten seeds: {said}."


@exercise(
    "the rates should be the same for both",
    "the test digits were used to choose, so the accuracy is too high",
    "nothing: each network got its best",
)
def quiz_test_digits() -> Answer:
    """What is wrong with it?"""
    return "the test digits were used to choose, so the accuracy is too high", (
        "And more so for the arm with the noisier runs. Choose on validation digits, with the same budget for each arm."
    )
