"""The figures of the chapter "The noise experiment", and of the page in depth beside it."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from utils.experiments import noise_on_purpose as experiment
from utils.experiments.noise_on_purpose import (
    ARMS,
    DEEP,
    IMAGES,
    MOMENTS,
    NETWORK,
    NETWORKS,
    PARTS,
    PERSISTENT,
    PLACES,
    QUANTITIES,
    RATES,
    SIZES,
    STRENGTHS,
    NoisyRun,
    Yardstick,
    area,
    curves,
    retained_gain,
)
from utils.explore import Answer, Drawing, control, exercise, explore, picture, predict
from utils.intervals import mean
from utils.norms import PAPER_DEFAULTS, draw_noise
from utils.seeds import torch_rng
from utils.style import ARMS as LOOKS
from utils.style import (
    DASHED,
    INK,
    MUTED,
    Arm,
    dot_rows,
    draw_arm,
    draw_arms,
    figure,
    guessing,
    key,
    label_ends,
    log_axis,
    make_room,
    number,
    per_cent,
    percent_axis,
    running_mean,
    share_y,
    spread,
    step_axis,
    told,
)

WINDOW = 20  # steps of the running mean in every training curve
STAYS = Arm("noise stays", INK, DASHED)
SHARED, OWN = Arm("shared", INK), Arm("each its own", MUTED, DASHED)
YARDSTICKS = {"as it is": Yardstick.ABSOLUTE, "in widths": Yardstick.CURRENT_STD}
ALL_LAYERS = {name: settings for name, settings in NETWORKS.items() if settings.depth == NETWORK.depth}
RELU = [name for name, settings in NETWORKS.items() if settings.nonlinearity == "relu"]


def _looks(results: Mapping[str, ArrayLike]) -> dict[str | Arm, ArrayLike]:
    """The same, persistent noise with its own look."""
    return {STAYS if norm == PERSISTENT else norm: values for norm, values in results.items()}


def _training_curves(results: Mapping[str | Arm, np.ndarray]) -> Figure:
    """Draw accuracies (seeds, steps) of some arms, each named at its end."""
    steps = next(iter(results.values())).shape[-1]
    fig, (ax,) = figure(f"training accuracy, {WINDOW} batches", height=3.4)
    step_axis(ax, steps)
    percent_axis(ax.yaxis)
    draw_arms(ax, np.arange(WINDOW, steps + 1), {arm: running_mean(each, WINDOW) for arm, each in results.items()})
    guessing(ax, 0.09 * steps)
    return fig


def _areas(results: Mapping[str | Arm, np.ndarray]) -> str:
    return told({arm: area(each) for arm, each in results.items()})


def _share(values: np.ndarray | None, who: str = "noisy BN") -> str:
    if values is None:
        return "BN's own gain is not clear in every seed, so no share of it is given"
    share, low, high = (f"{100 * each:.0f}" for each in mean(values))
    return f"{who} keeps {share} [{low}, {high}] % of BN's gain"


# --- the noise itself ------------------------------------------------------------------------------------------------


@explore(
    strength=control([0.0, 0.5, 1.0, 2.0, 4.0], label="noise, times the paper's"),
    draw=control([1, 2, 3]),
)
def the_noise(strength: float = 1.0, draw: int = 1) -> Drawing:
    """Six units, 32 samples: the shift and the factor that each value gets."""
    s, m = draw_noise(torch.zeros(32, 6), PAPER_DEFAULTS.scaled(strength), torch_rng(draw))
    fig, (left, right) = figure("shift m", "factor s", height=3.3)
    half = 0.75 * max(strength, 1.0)
    for ax, values, middle in ((left, m, 0.0), (right, s, 1.0)):
        ax.axhline(middle, color=MUTED, linewidth=1)
        for unit, column in enumerate(values.T.numpy(), start=1):
            spots = unit + np.linspace(-0.22, 0.22, len(column))
            ax.plot(spots, column, "o", color=LOOKS["noisy"].colour, alpha=0.55, markersize=3.2, markeredgewidth=0)
            ax.plot([unit - 0.32, unit + 0.32], 2 * [column.mean()], color=INK, linewidth=2)
        ax.set(xlim=(0.4, 6.6), ylim=(middle - half, middle + half), xticks=range(1, 7), xlabel="unit")
        ax.grid(axis="x", visible=False)
    means, factors = m.mean(0), s.mean(0)
    if not strength:
        return fig, f"Strength 0, draw {draw}: every shift is 0 and every factor 1, so the values stay as they are."
    return fig, (
        f"Strength {strength:g}, draw {draw}: the six units' mean shifts run from {number(means.min().item(), 2)} to "
        f"{number(means.max().item(), 2)}, and within a unit the samples' shifts spread by {m.std(0).mean():.2f}; mean "
        f"factors run from {factors.min():.2f} to {factors.max():.2f}, within a unit they spread by "
        f"{s.std(0).mean():.2f}."
    )


# --- four arms -------------------------------------------------------------------------------------------------------


@explore(
    strength=control([0.0, *STRENGTHS], label="noise, times the paper's"),
    learning_rate=control(RATES),
)
def four_arms(strength: float = 0.0, learning_rate: float = 0.1) -> Drawing:
    """Does noise on its output take away what BN gives?"""
    results = experiment.race_at(learning_rate, strength)
    return _training_curves(results), (
        f"ReLU, 10 hidden layers, learning rate {learning_rate:g}, noise {strength:g} times the paper's, "
        f"{len(results['bn'])} seeds; area under the curve: {_areas(results)}; "
        f"{_share(experiment.retained_at(learning_rate, strength))}."
    )


@explore(
    network=list(NETWORKS),
)
def other_networks(network: str = "ReLU, 3 layers") -> Drawing:
    """The same race in other networks, each arm at its best learning rate."""
    results = {norm: curves(runs) for norm, runs in experiment.race_in(network, ARMS).items()}
    rates = told({norm: experiment.arm(norm, network).lr for norm in ("plain", "bn")}, number)
    return _training_curves(results), (
        f"{network}, the paper's noise, best learning rates {rates}, {len(results['bn'])} seeds; area under the curve: "
        f"{_areas(results)}; {_share(experiment.retained_in(network, 'noisy'))}."
    )


# --- jumps and drift -------------------------------------------------------------------------------------------------


def _per_layer(runs: list[NoisyRun], what: str, yardstick: str) -> np.ndarray:
    """Jumps or drifts of each layer: (seeds, layers)."""
    return np.array([getattr(run, what)[YARDSTICKS[yardstick]] for run in runs])


def _draw_layers(ax: Axes, results: Mapping[str, np.ndarray], ticks: int = 4) -> None:
    layers = np.arange(1, next(iter(results.values())).shape[-1] + 1)
    for norm, values in results.items():
        draw_arm(ax, norm, layers, values)
    ax.set(xlim=(0.7, len(layers) + 0.3), xlabel="hidden layer", xticks=layers[:: -(-len(layers) // ticks)])


@explore(
    network=RELU,
    yardstick=list(YARDSTICKS),
)
def jumps_and_drift(network: str = RELU[0], yardstick: str = "as it is") -> Drawing:
    """How far one update moves a unit's mean, and how far all of them have moved it."""
    races, said = experiment.race_in(network, ARMS), []
    fig, axes = figure("jump, one update", "drift, all updates", height=3.5, left=0.95)
    for ax, what in zip(axes, ("jump", "drift"), strict=True):
        results = {norm: _per_layer(runs, what, yardstick) for norm, runs in races.items()}
        _draw_layers(ax, results)
        log_axis(ax.yaxis, (7e-4, 30))
        said.append(f"{what} " + told({norm: each.mean(-1) for norm, each in results.items()}, lambda v: spread(v, 3)))
    share_y(*axes)
    axes[0].set_ylabel("widths now" if yardstick == "in widths" else "distance, as it is")
    key(axes[1], ARMS)
    return fig, (
        f"{network}, what enters the nonlinearity, {yardstick}, mean over layers, {len(races['bn'])} seeds: "
        f"{'; '.join(said)}."
    )


@explore(
    measured=["jump", "drift"],
    yardstick=list(YARDSTICKS),
)
def on_images(measured: str = "jump", yardstick: str = "as it is") -> Drawing:
    """The race in a convolutional network."""
    races = experiment.race_images()
    accuracies = {norm: curves(runs) for norm, runs in races.items()}
    far = {norm: _per_layer(runs, measured, yardstick) for norm, runs in races.items()}
    fig, (left, right) = figure("training accuracy", f"{measured}, {yardstick}", height=3.5)
    step_axis(left, IMAGES.steps)
    percent_axis(left.yaxis)
    for norm, each in accuracies.items():
        draw_arm(left, norm, np.arange(WINDOW // 2, IMAGES.steps + 1), running_mean(each, WINDOW // 2))
    _draw_layers(right, far)
    right.set(xlabel="convolution")
    log_axis(right.yaxis, (7e-4, 300))
    key(right, ARMS, top=0.99, step=0.07)
    said = [
        f"{LOOKS[norm].label} {spread(area(accuracies[norm]))} and {spread(far[norm].mean(-1), 3)}" for norm in ARMS
    ]
    return fig, (
        f"Four convolutions on Fashion-MNIST, {len(races['bn'])} seeds: area under the training curve, and mean "
        f"{measured} {yardstick}: {'; '.join(said)}; "
        f"{_share(retained_gain(*(area(accuracies[norm]) for norm in ('plain', 'bn', 'noisy'))))}."
    )


@explore(
    looks=control(list(experiment.LOOKS), label="looks at"),
    layer=control([2, 5, 9], unit="of 10"),
)
def ridges(looks: str = "the whole training", layer: int = 5) -> Drawing:
    """The same 200 images, one unit, one ridge a look: whose distribution stands still?"""
    arms = ("plain", "bn", "noisy")
    fig, axes = figure(*(LOOKS[arm].label for arm in arms), height=3.9, left=0.55)
    centres, said = (experiment.EDGES[1:] + experiment.EDGES[:-1]) / 2, {}
    for ax, arm in zip(axes, arms, strict=True):
        seen = experiment.watched(arm, looks)
        for row, counts in enumerate(seen.counts[:, layer - 1]):
            height = 1.7 * counts / max(counts.max(), 1)
            ax.fill_between(centres, -row, height - row, color=LOOKS[arm].colour, alpha=0.45, linewidth=0, zorder=row)
            ax.plot(centres, height - row, color=LOOKS[arm].colour, linewidth=0.9, zorder=row)
            mean = np.average(centres, weights=counts)
            ax.plot([mean, mean], [-row, 0.6 - row], color=INK, linewidth=1.8, zorder=row)
        ax.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
        ax.set(
            xlim=(-5, 5), ylim=(-len(seen.counts) + 0.6, 2.2), xticks=[-4, 0, 4], yticks=[], xlabel="widths at first"
        )
        ax.grid(visible=False)
        said[arm] = float(seen.jump[:, layer - 1].mean())
    axes[0].set_ylabel("later \N{LEFTWARDS ARROW} look \N{RIGHTWARDS ARROW} first")
    share_y(*axes)
    return fig, (
        f"Hidden layer {layer} of ten, seed 0, {looks}: from look to look the mean of a unit moves by "
        f"{told(said, lambda jump: f'{jump:.2f}')} of its widths, the average over the layer's units."
    )


# --- what the later layers see ---------------------------------------------------------------------------------------


@explore(
    compared=list(QUANTITIES),
    network=list(ALL_LAYERS),
    moment=list(MOMENTS),
)
def layer_by_layer(compared: str = QUANTITIES[1], network: str = DEEP, moment: str = MOMENTS[0]) -> Drawing:
    """The same batch, the same weights, two draws of noise: how much of the difference is left at each place?"""
    fig, (ax,) = figure("between two draws of noise, in widths", height=3.7)
    ax.set_yscale("symlog", linthresh=0.1, linscale=0.6)
    ticks = [0, 0.1, 0.3, 1, 3, 10]
    ax.set(ylim=(-0.012, 12), xlim=(0.9, 9.8), xticks=range(1, 10), xlabel="from hidden layer")
    ax.set_yticks(ticks, map(number, ticks))
    ax.set_yticks([], minor=True)
    said, ends = {}, {}
    for arm, runs in _looks(experiment.race_in(network, ("noisy", PERSISTENT, "noisy plain"))).items():
        found = experiment.between_draws(runs, compared, moment)
        line = np.stack([found[place] for place in PLACES], -1).reshape(len(runs), -1)
        x = np.arange(line.shape[1]) / len(PLACES) + 1
        draw_arm(ax, arm, x, line)
        last = slice(len(PLACES) - 1, None, len(PLACES))
        look = LOOKS.get(arm, arm) if isinstance(arm, str) else arm
        ax.plot(x[last], line.mean(0)[last], "o", color=look.colour, markersize=5)
        ends[arm], said[arm] = line.mean(0)[-1], [found[place].mean(-1) for place in PLACES]
    make_room(fig, STAYS.label, *(LOOKS[norm].label for norm in ("noisy", "noisy plain")))
    label_ends(ax, ends)
    return fig, (
        f"{network}, {moment}, {compared}, in widths at the {', the '.join(PLACES[:2])} and {PLACES[2]} (mean over "
        f"layers 1 to 9, {len(runs)} seeds): {told(said, lambda each: ', '.join(map(spread, each)), '; ')}."
    )


@explore(
    network=list(NETWORKS),
)
def persistent_noise(network: str = "sigmoid, 10 layers") -> Drawing:
    """The sharper test: a net with BN, whose next layers cannot take the noise out."""
    results = _looks({norm: curves(runs) for norm, runs in experiment.race_in(network).items()})
    kept = [experiment.retained_in(network, norm) for norm in ("noisy", PERSISTENT)]
    shares = _share(kept[0]) + ("" if kept[1] is None else f", and {_share(kept[1], 'noise that stays')}")
    return _training_curves(results), (
        f"{network}, the paper's noise, each arm at its best rate, {len(results['bn'])} seeds; area under the curve: "
        f"{_areas(results)}; {shares}."
    )


# --- the noise taken apart -------------------------------------------------------------------------------------------


@picture
def parts() -> Drawing:
    """Which part of the noise costs what, with and without the next BN's help?"""
    rows = {name: _looks(each) for name, each in experiment.retained_with(PARTS).items()}
    fig, (ax,) = figure("share of BN's gain kept", height=3.3, left=1.62)
    percent_axis(ax.xaxis, 0, 1.25)
    dot_rows(ax, rows)
    key(ax, ["noisy", STAYS], top=0.3, step=0.09)
    seeds = len(rows["all of it"]["noisy"])
    said = "; ".join(f"{name}: {told(each, per_cent)}" for name, each in rows.items())
    return fig, f"Ten ReLU layers, learning rate {NETWORK.lr:g}, share of BN's gain kept ({seeds} seeds): {said}."


@explore(
    size=control(SIZES, label="shift up to"),
    stays=control([False, True], label="the noise stays"),
)
def shared_or_own(size: float = 1.0, stays: bool = False) -> Drawing:
    """A shift of one size, drawn once for the batch or once for each sample."""
    norm, recipes = PERSISTENT if stays else "noisy", experiment.shifts(size)
    races, kept = experiment.race_with(recipes), experiment.retained_with(recipes)
    clean = experiment.race_at(NETWORK.lr)
    results = {"plain": clean["plain"], "bn": clean["bn"]}
    results |= {arm: races[name][norm] for arm, name in ((SHARED, "shared"), (OWN, "each its own"))}
    shares = ", ".join(_share(each[norm], who) for who, each in kept.items())
    return _training_curves(results), (
        f"ReLU, 10 layers, learning rate {NETWORK.lr:g}, shifts from {number(-size)} to {size:g}, the next BN "
        f"{'cannot' if stays else 'can'} take them out, {len(clean['bn'])} seeds: {shares}."
    )


# --- evaluation ------------------------------------------------------------------------------------------------------


@explore(
    network=RELU,
)
def at_test_time(network: str = DEEP) -> Drawing:
    """One trained network, four ways to test it."""
    races = experiment.race_in(network, ("bn", "noisy"))
    modes = {norm: experiment.accuracy_by_mode(runs) for norm, runs in races.items()}
    fig, (ax,) = figure("accuracy on 360 unseen digits", height=3.2, left=1.35)
    percent_axis(ax.xaxis)
    dot_rows(ax, {mode: {norm: each[mode] for norm, each in modes.items()} for mode in experiment.MODES})
    key(ax, list(modes), top=0.3, step=0.09)
    said = ". ".join(f"{LOOKS[norm].label}: " + told_modes(each) for norm, each in modes.items())
    return fig, f"{network}, each arm at its best rate, {len(races['bn'])} seeds. {said}."


def told_modes(modes: Mapping[str, np.ndarray]) -> str:
    """Say the accuracy in each mode.

    >>> told_modes({"noise off": [0.9, 0.9]})
    'noise off 90.0% ± 0.0%'
    """
    return ", ".join(f"{mode} {per_cent(values)}" for mode, values in modes.items())


# --- questions -----------------------------------------------------------------------------------------------------

SHARES = ("less than a third", "about half", "more than two thirds")


@predict(*SHARES)
def predict_share() -> Answer:
    """With the paper's noise, at the learning rate of 0.1: what share of BN's gain is left to noisy BN?"""
    share = float(experiment.retained_at(0.1, 1.0).mean())
    return SHARES[experiment.retained_third(share)], f"{share:.0%}, the mean of ten seeds."


@predict("above the plain network", "level with it", "below it")
def predict_tanh() -> Answer:
    """Ten tanh layers with standardised inputs, each network at its own best rate: where does noisy BN lie?"""
    areas = experiment.areas_in("tanh, 10 layers", ("plain", "noisy"))
    lead = (areas["noisy"] - areas["plain"]).mean()
    choice = "above the plain network" if lead > 0.01 else "below it" if lead < -0.01 else "level with it"
    side = "above" if lead > 0 else "below"
    return (
        choice,
        f"Its area is {abs(lead):.3f} {side} that of plain: BN gains hardly anything here that could be kept.",
    )


@predict("it grows from layer to layer", "it stays about the same", "it falls to 0 at each next norm")
def predict_line() -> Answer:
    """Two draws of noise, and the distance between the units' means, layer by layer. How does it go on for noisy BN?"""
    found = experiment.between_draws(experiment.race_in(DEEP, ["noisy"])["noisy"], QUANTITIES[0], MOMENTS[0])
    return "it falls to 0 at each next norm", (
        f"After the next norm the means are {number(found[PLACES[2]].mean(), 1)} widths apart: BN subtracts the mean."
    )


@predict("most of it", "less than half", "nothing: it falls behind plain")
def predict_stays() -> Answer:
    """Now the noise reaches every later layer. How much of BN's gain does the deep ReLU network keep?"""
    kept = experiment.retained_in(DEEP, PERSISTENT)
    share = 0.0 if kept is None else float(kept.mean())
    choice = "most of it" if share > 0.5 else "less than half" if share > 0 else "nothing: it falls behind plain"
    return choice, f"{share:.0%}, the mean of ten seeds."


@predict("noisy BN's", "the plain network's", "about the same")
def predict_drifts() -> Answer:
    """Three ReLU layers, as they are. Whose means *drift* further over the whole training?"""
    times = experiment.displacement_ratios("drift", Yardstick.ABSOLUTE)[RELU[0]]
    ratio = float(np.exp(np.log(times).mean()))
    choice = "noisy BN's" if ratio > 1.1 else "the plain network's" if ratio < 0.9 else "about the same"
    return choice, f"Noisy BN's drift is {ratio:.2f} times the plain network's. (Its jumps are several times as long.)"


@predict("the one whose means jump", "the one whose means stand nearly still", "both alike")
def predict_shared() -> Answer:
    """Two networks get shifts of the same size. In one the batch means jump wildly, in the other they stand nearly
    still. Which trains better?
    """
    kept = experiment.retained_with(experiment.shifts(1.0))
    shared, own = (kept[name]["noisy"].mean() for name in ("shared", "each its own"))
    ahead = shared - own
    choice = "the one whose means jump" if ahead > 0.03 else "the one whose means stand nearly still"
    return choice if abs(ahead) > 0.03 else "both alike", f"Kept of BN's gain: {shared:.0%} (shared), {own:.0%} (own)."


@exercise("all of it", "nothing of it", "the factor, but not the shift")
def quiz_one_for_all() -> Answer:
    """How much of it is seen?"""
    return "nothing of it", (
        "W(u + c) = Wu + Wc moves every sample by the same vector, and a shared factor multiplies all of them; BN "
        "takes both out. The paper's factors per unit change the mixture Wu, which a BN cannot undo; the bug's do not."
    )
