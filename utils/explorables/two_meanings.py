"""The explorables of the chapter "Two meanings of internal covariate shift"."""

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes

from utils.drift import PROBE
from utils.explore import Drawing, control, explore
from utils.gradient_shift import Both, measured, over_layers, ratio, two_gradients, watch_both, within
from utils.progress import each
from utils.ranks import rank_correlation
from utils.style import ARMS, DATA, FAINT, INK, MUTED, draw_arm, figure, label_ends, number, spread
from utils.training import Settings

SEEDS = 5
LOOKS = 11
ARMS_SHOWN = ("plain", "bn")
RATES = (0.05, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Network:
    """One network of the chapter: its settings without BN, and how it is looked at and drawn."""

    settings: Settings
    marker: str
    window: tuple[float, float]  # of losses that both nets pass through; (0, 0) where there is none
    ticks: tuple[float, ...]  # of the loss
    probe: int = PROBE
    looks: int = LOOKS
    early: int = 0  # steps of the short runs with BN, which have more looks at its first updates
    scale: float = 1.0  # by which the loss is divided
    top: float = 2.7  # of the axis of the loss


MLP = Settings(width=64, depth=3, nonlinearity="sigmoid", init="glorot", batch_size=60)
IMAGES = Settings(data="fashion", width=8, depth=6, nonlinearity="relu", batch_size=32, lr=0.1, steps=200)
LINEAR = Settings(data="linear map", width=10, depth=24, nonlinearity="none", batch_size=0, lr=1e-7, steps=200)
NETWORKS = {
    "sigmoid, rate 0.1": Network(replace(MLP, lr=0.1, steps=400), "o", (0, 0), (0.1, 0.3, 1, 3)),
    "sigmoid, rate 0.3": Network(replace(MLP, lr=0.3, steps=1000), "s", (0.4, 1.2), (0.01, 0.1, 1), early=40),
    "ReLU, 5 layers": Network(
        replace(MLP, depth=5, nonlinearity="relu", lr=0.1, steps=400), "^", (0.1, 0.4), (0.01, 0.1, 1), early=60
    ),
    "ReLU, 10 layers": Network(
        replace(MLP, depth=10, nonlinearity="relu", lr=0.1, steps=400), "D", (0.4, 1.5), (0.01, 0.1, 1), early=60
    ),
    "convolutions": Network(IMAGES, "v", (1.8, 2.2), (0.5, 1, 2), probe=100, early=20),
    "deep linear": Network(LINEAR, "P", (58, 70), (45, 60, 90), looks=6, early=40, scale=1000.0, top=100.0),
}


@cache
def watched(network: str) -> list[list[Both]]:
    """Return the runs of a network without and with BN, five seeds each."""
    shown = NETWORKS[network]
    jobs = [(replace(shown.settings, norm=norm), seed) for norm in ("plain", "torch") for seed in range(SEEDS)]
    runs = [watch_both(*job, shown.looks, shown.probe) for job in each(jobs)]
    return [runs[:SEEDS], runs[SEEDS:]]


@cache
def at_first(network: str) -> list[Both]:
    """Return the first updates of the runs with BN once more, with more looks; none where BN has no early part."""
    shown = NETWORKS[network]
    if not shown.early:
        return []
    settings = replace(shown.settings, norm="torch", steps=shown.early)
    return [watch_both(settings, seed, 6, shown.probe) for seed in each(range(SEEDS))]


def summed(ratios: np.ndarray) -> str:
    """Write the median over seeds of a ratio, and in how many of them it is above 1.

    >>> summed(np.array([0.5, 2.0, 30.0]))
    '2 (2 of 3)'
    """
    return f"{short(np.median(ratios))} ({(ratios > 1).sum()} of {len(ratios)})"


def short(value: float) -> str:
    """Write a positive number with two figures, and a very small one as a power of ten.

    >>> short(0.034567), short(217.3), short(3.2e-7)
    ('0.035', '220', '3·10⁻⁷')
    """
    if value < 1e-3:
        return number(value, 1)
    return f"{float(f'{value:.2g}'):,g}"


@explore(stage=control((1, 2, 3, 4), unit="of 4", plays=True), lr=control(RATES, label="learning rate"))
def definition(stage: int = 4, lr: float = 0.25) -> Drawing:
    """Definition 2.1 on a network that can be computed by hand: two numbers below, two above."""
    w, v = torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0])
    pair, w_new = two_gradients(w, v, target=3.0, lr=lr)
    before, after, w_new = pair.before.tolist(), pair.after.tolist(), w_new.tolist()
    fig, (left, right) = figure("what v receives", "the gradient of v", height=3.0)
    _arrow(left, (0, 0), w.tolist(), DATA, "w", (0.0, 0.22))
    _arrow(right, (0, 0), before, DATA, "G", (-0.3, -1.0))
    if stage >= 2:
        _arrow(left, (0, 0), w_new, INK, "w′", (0.1, -0.5))
    if stage >= 3 and pair.after.any():
        _arrow(right, (0, 0), after, INK, "G′", (0.1, 0.35) if after[0] > 0 else (-0.9, 0.35))
    if stage == 3 and not pair.after.any():
        right.plot(0, 0, "o", color=INK, markersize=7)
        right.text(0.4, 0.5, "G′ = 0", color=INK, fontweight="bold")
    if stage == 4:
        right.plot(*zip(before, after, strict=True), color=MUTED, linestyle=(0, (3, 1.5)), linewidth=1.8)
        right.plot(*after, "o", color=INK, markersize=4)
    left.set(xlim=(-0.4, 4.2), ylim=(-2.2, 2.4), xticks=range(5), yticks=range(-2, 3), xlabel="unit 1", ylabel="unit 2")
    right.set(
        xlim=(-5, 4.6),
        ylim=(-5.3, 4.3),
        xticks=range(-4, 5, 2),
        yticks=range(-4, 5, 2),
        xlabel="component 1",
        ylabel="component 2",
    )
    for ax in (left, right):
        ax.axhline(0, color=FAINT, linewidth=1)
        ax.axvline(0, color=FAINT, linewidth=1)
        ax.set_aspect("equal", adjustable="box")
    return fig, f"Learning rate {lr:g}. {_told(stage, lr, before, after, w_new)}"


def _arrow(ax: Axes, start, vector, colour: str, name: str, away: tuple[float, float]) -> None:
    settings = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.016, "headwidth": 3.6, "headlength": 4}
    ax.quiver(*start, *vector, color=colour, zorder=4, **settings)
    ax.text(vector[0] + away[0], vector[1] + away[1], name, color=colour, fontweight="bold", zorder=5)


def _told(stage: int, lr: float, before: list, after: list, w_new: list) -> str:
    """The sentence of one stage of the definition."""
    pair_of = "({:.4g}, {:.4g})".format
    if stage == 1:
        return f"With w = (2, 1) the score is 1, the target 3: the gradient of v is G = {pair_of(*before)}, loss 2."
    loss = (w_new[0] - w_new[1] - 3) ** 2 / 2
    if stage == 2:
        return f"The update of w alone makes it {pair_of(*w_new)}; v stays (1, −1), and the loss is now {loss:.3g}."
    if stage == 3:
        return f"The same v, asked again on the same example: G′ = {pair_of(*after)}, where G was {pair_of(*before)}."
    g, g_new = np.array(before), np.array(after)
    far = np.linalg.norm(g - g_new)
    said = f"‖G − G′‖ = {far:.2f}, which is {far / np.linalg.norm(g):.2f} times ‖G‖"
    if not g_new.any():
        return (
            f"{said}; G′ is zero, has no direction, and so there is no cosine: the update below has done all the work."
        )
    cosine = g @ g_new / np.linalg.norm(g) / np.linalg.norm(g_new)
    return f"{said}; the cosine is {cosine:.3f}; loss 2 before, {loss:.3g} after."


@explore(
    network=list(NETWORKS),
    part=control((0, 20, 40, 60, 80, 100), label="part of the training", unit="%", plays=True),
)
def every_layer(network: str = "sigmoid, rate 0.3", part: int = 20) -> Drawing:
    """Both meanings in every layer at one moment of the training, and the loss beside them."""
    shown, arms, look = NETWORKS[network], watched(network), part * (NETWORKS[network].looks - 1) // 100
    titles = ("drift, widths", "from below, widths", "‖G − G′‖", "loss")
    fig, axes = figure(*titles, rows=2, height=5.0, left=0.72)
    whats = ("drift, mean, width now", "jump, mean, width now", "l2")
    layers, said = np.arange(2, shown.settings.depth + 2), []
    for ax, what in zip(axes, whats, strict=False):
        values = np.array([[measured(run, what) for run in runs] for runs in arms])  # (arms, seeds, looks, layers)
        for arm, runs in zip(ARMS_SHOWN, values, strict=True):
            if runs[:, look].any():
                ax.plot(layers, runs[:, look].T, color=ARMS[arm].colour, alpha=0.28, linewidth=0.9)
                middle = np.median(runs[:, look], 0)
                ax.plot(layers, middle, "o", color=ARMS[arm].colour, markersize=4, linestyle=ARMS[arm].dashes)
        some = values[values > 0]
        ax.set(yscale="log", xlim=(1.6, layers[-1] + 0.4), ylim=(some.min() / 2, some.max() * 2))
        ax.set(xticks={10: (2, 5, 8, 11), 24: (2, 10, 18, 25)}.get(len(layers), layers), xlabel="layer")
        if not values[:, :, look].any():
            ax.text(0.5, 0.5, "nothing yet", transform=ax.transAxes, ha="center", color=MUTED)
        else:
            plain, bn = (np.median(runs[:, look]) for runs in values)
            said.append(f"{short(plain)} plain, {short(bn)} BN")
    ends = _losses(axes[3], network)
    axes[3].axvline(arms[0][0].looked[look], color=MUTED, linewidth=1.4, linestyle=(0, (4, 2)))
    label_ends(axes[3], ends, gap=0.13)
    fig.subplots_adjust(right=0.88)
    losses = [spread(np.array([run.loss[run.looked[look]] for run in runs]) / shown.scale) for runs in arms]
    far, moved, shifted = said if part else ("none yet", *said)
    return fig, (
        f"{network[0].upper()}{network[1:]}, update {arms[0][0].looked[look] + 1}. Drift: {far}; moved by this update "
        f"from below: {moved}; gradient changed by {shifted} (medians over layers and {SEEDS} seeds). Loss: "
        f"{losses[0]} plain, {losses[1]} BN."
    )


def _losses(ax: Axes, network: str) -> dict[str, float]:
    """Draw the loss against the step, and return where each arm ends."""
    shown, ends = NETWORKS[network], {}
    many = 20 if shown.settings.batch_size else 1
    for arm, runs in zip(ARMS_SHOWN, watched(network), strict=True):
        smooth = np.array([np.convolve(run.loss, np.ones(many) / many, "valid") for run in runs]) / shown.scale
        draw_arm(ax, arm, np.arange(many, len(runs[0].loss) + 1), smooth)
        ends[arm] = smooth[:, -1].mean()
    steps = shown.settings.steps
    ax.set(xlim=(0, steps), xticks=(0, steps // 2, steps), ylim=(0, shown.top), xlabel="training step")
    return ends


def by_layer(network: str, what: str, part: int) -> np.ndarray:
    """The medians over seeds that :func:`every_layer` draws after `part` per cent: (arms, layers - 1)."""
    look = part * (NETWORKS[network].looks - 1) // 100
    return np.array([np.median([measured(run, what)[look] for run in runs], 0) for runs in watched(network)])


MEASURES = {"distance": "l2", "relative": "relative", "cosine": "cosine"}
NAMES = {"l2": "‖G − G′‖", "relative": "‖G − G′‖ / ‖G‖", "cosine": "cosine of G and G′"}


@explore(network=list(NETWORKS), measure=list(MEASURES), against=["training step", "loss"])
def over_training(
    network: str = "sigmoid, rate 0.3", measure: str = "distance", against: str = "training step"
) -> Drawing:
    """Definition 2.1 over the course of training, at equal steps or at equal loss."""
    shown, arms, what = NETWORKS[network], watched(network), MEASURES[measure]
    fig, (left, right) = figure(NAMES[what], "loss", height=3.3, left=0.72)
    early = at_first(network) if against == "loss" else []
    everything = []
    for arm, runs in zip(ARMS_SHOWN, arms, strict=True):
        values = np.array([over_layers(run, what) for run in runs])
        everything.append(values)
        if against == "training step":
            draw_arm(left, arm, runs[0].looked, values)
            continue
        for run in [*runs, *(early if arm == "bn" else [])]:
            at = run.loss[run.looked] / shown.scale
            marks = {"marker": "o" if arm == "bn" else "^", "markersize": 4.5, "linestyle": "", "markeredgewidth": 0}
            left.plot(at, over_layers(run, what), color=ARMS[arm].colour, alpha=0.6, **marks)
    if what == "cosine":
        left.set(ylim=(-0.75, 1.08), yticks=(-0.5, 0, 0.5, 1))
    else:
        left.set_yscale("log")
    if against == "training step":
        steps = shown.settings.steps
        left.set(xlim=(0, steps), xticks=(0, steps // 2, steps), xlabel="training step")
    else:
        lowest = min(run.loss[run.looked].min() for runs in arms for run in runs) / shown.scale
        left.set(xscale="log", xlabel="loss", xlim=(0.75 * min(lowest, shown.ticks[0]), 1.3 * shown.top))
        left.set_xticks(shown.ticks, [f"{tick:g}" for tick in shown.ticks])
        left.set_xticks([], minor=True)
        left.axvspan(*shown.window, color=FAINT, alpha=0.6, zorder=0)
    label_ends(right, _losses(right, network), gap=0.1)
    fig.subplots_adjust(right=0.88)
    told = _at_equal_loss(network, what) if against == "loss" else _at_equal_steps(network, what)
    return fig, f"{network[0].upper()}{network[1:]}, {NAMES[what]}. {told}"


def _at_equal_steps(network: str, what: str) -> str:
    plain, bn = watched(network)
    if what == "cosine":
        means = [np.array([measured(run, what).mean() for run in runs]) for runs in (plain, bn)]
        return (
            f"Mean over layers and looks: plain {spread(means[0], 3)}, BN {spread(means[1], 3)}; BN's gradient turns "
            f"more in {(means[1] < means[0]).sum()} of {SEEDS} seeds."
        )
    said = []
    for name, part in PARTS.items():
        times = ratios(network, what, part)
        said.append(f"{name} {short(np.median(times))} ({(times > 1).sum()} of {SEEDS} seeds above 1)")
    return f"BN over plain at equal steps, median of {SEEDS} seeds: {'; '.join(said)}."


def _at_equal_loss(network: str, what: str) -> str:
    low, high = NETWORKS[network].window
    if not high:
        return "The plain network's loss never leaves the range that BN's has left after its first updates."
    seeds = equal_loss(network, what)
    plain, bn = (np.concatenate([pair[arm] for pair in seeds]) for arm in (0, 1))
    if what == "cosine":
        both = [pair for pair in seeds if len(pair[0]) and len(pair[1])]
        more, said = sum(np.median(bn) < np.median(plain) for plain, bn in both), "BN's gradient turns more"
        medians = [f"{np.median(values):.3f}" for values in (plain, bn)]
    else:
        times = loss_ratios(network, what)
        both, more, said = times, (times > 1).sum(), "BN's is larger"
        medians = [short(np.median(values)) for values in (plain, bn)]
    return (
        f"Where the loss is between {low:g} and {high:g} (shaded), the median is {medians[0]} for plain ({len(plain)} "
        f"looks), {medians[1]} for BN ({len(bn)} looks); {said} in {more} of {len(both)} seeds."
    )


def lines(network: str, what: str) -> tuple[np.ndarray, ...]:
    """The thick lines of :func:`over_training` at its looks: the step, plain, BN, and plain's loss (of 20 batches)."""
    arms = watched(network)
    plain, bn = (np.mean([over_layers(run, what) for run in runs], 0) for runs in arms)
    at = arms[0][0].looked
    losses = [np.mean([run.loss[max(step - 20, 0) : max(step, 20)] for run in arms[0]]) for step in at]
    return at, plain, bn, np.array(losses)


def equal_loss(network: str, what: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each seed a quantity at the looks, plain and BN, at which the loss was in the network's window."""
    shown = NETWORKS[network]
    low, high = (shown.scale * end for end in shown.window)
    seeds = zip(*watched(network), at_first(network), strict=True)
    return [(within([plain], what, low, high), within([first, bn], what, low, high)) for plain, bn, first in seeds]


def loss_ratios(network: str, what: str) -> np.ndarray:
    """BN's median over plain's at equal loss, for the seeds that have looks of both there."""
    seeds = [pair for pair in equal_loss(network, what) if len(pair[0]) and len(pair[1])]
    return np.array([np.median(bn) / np.median(plain) for plain, bn in seeds])


PARTS = {"whole run": (0, 1), "first third": (0, 1 / 3), "last third": (2 / 3, 1)}


def ratios(network: str, what: str, part: tuple[float, float] = PARTS["whole run"]) -> np.ndarray:
    """BN's over plain's, seed by seed: the median over looks and layers (see :func:`utils.gradient_shift.ratio`)."""
    return np.array([ratio(plain, bn, what, part) for plain, bn in zip(*watched(network), strict=True)])


def final_losses(network: str) -> list[np.ndarray]:
    """The loss of each seed, the mean over the last 20 updates, plain and BN; for the deep linear one an example."""
    return [np.array([run.loss[-20:].mean() for run in runs]) / NETWORKS[network].scale for runs in watched(network)]


VALUES = {
    "drift": "drift, mean, width now",
    "drift, as it is": "drift, mean, as it is",
    "drift of width": "drift, width, width now",
    "from below": "jump, mean, width now",
    "step below": "below",
}
AXES = {
    "drift": "drift of the mean (widths now)",
    "drift, as it is": "drift of the mean (as it is)",
    "drift of width": "drift of the width",
    "from below": "mean moved from below",
    "step below": "length of the step below",
}
SHIFTS = {"‖G − G′‖": "l2", "1 − cosine": "angle"}
ACROSS, UP = (5e-4, 60.0), (0.03, 5e3)  # what the map shows


@explore(
    values=control(list(VALUES), label="across"), gradient=control(list(SHIFTS), label="upwards"), part=list(PARTS)
)
def both_on_a_map(values: str = "drift", gradient: str = "‖G − G′‖", part: str = "whole run") -> Drawing:
    """Do the two meanings agree on who has more? One dot a seed."""
    fig, (ax,) = figure("BN over plain", height=3.9, left=0.8)
    beyond = []
    for name, shown in NETWORKS.items():
        at = np.array(_both(name, values, gradient, part))
        inside = np.array([at[0].clip(*ACROSS), at[1].clip(*UP)])
        settings = {"color": INK, "alpha": 0.65, "markersize": 6.5, "markeredgewidth": 0, "linestyle": ""}
        ax.plot(*inside, marker=shown.marker, label=name, **settings)
        beyond += [name] if (at != inside).any() else []
    ax.axhline(1, color=MUTED, linewidth=1.4)
    ax.axvline(1, color=MUTED, linewidth=1.4)
    (left, right), (low, high) = ACROSS, UP
    ax.set(xscale="log", yscale="log", xlim=(left / 1.4, right * 1.4), ylim=(low / 1.4, high * 1.4))
    ax.set(xlabel=AXES[values], ylabel=gradient, xticks=(1e-3, 1e-2, 0.1, 1, 10), yticks=(0.1, 1, 10, 100, 1000))
    fig.subplots_adjust(right=0.68)
    ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9, handletextpad=0.2)
    drawn = f" Dots beyond the axes are at their edge ({', '.join(beyond)})." if beyond else ""
    first, second, agree, alike = agreement(values, gradient, part)
    return fig, (
        f"{SEEDS * len(NETWORKS)} pairs of runs, {part}: BN's {AXES[values]} is the smaller one in {first}, its "
        f"{gradient} in {second}; the two agree in {agree}. Rank correlation of the two ratios: {alike:.2f}.{drawn}"
    )


def _both(network: str, values: str, gradient: str, part: str) -> list[np.ndarray]:
    """BN over plain by the first and by the second meaning, seed by seed."""
    return [ratios(network, what, PARTS[part]) for what in (VALUES[values], SHIFTS[gradient])]


class Agreement(NamedTuple):
    """How far two quantities agree about the pairs of runs, plain and BN."""

    first: int  # in how many pairs BN has less of the first
    second: int
    agree: int  # in how many BN has less of both, or more of both
    alike: float  # the rank correlation of the two ratios, BN over plain


def agreement(values: str, gradient: str = "‖G − G′‖", part: str = "whole run") -> Agreement:
    """Compare a quantity of :data:`VALUES` and one of :data:`SHIFTS` over all networks and seeds."""
    across, up = np.concatenate([_both(name, values, gradient, part) for name in NETWORKS], axis=1)
    less, less_up = across < 1, up < 1
    return Agreement(*(int(which.sum()) for which in (less, less_up, less == less_up)), rank_correlation(across, up))
