"""The figures of the page "Two definitions of internal covariate shift"."""

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from utils import intervals
from utils.experiments import two_meanings as experiment
from utils.experiments.two_meanings import NETWORKS, RAW_PIXELS, GradientPair, Part, Quantity
from utils.explore import Answer, Drawing, control, explore, predict
from utils.style import (
    ARMS,
    DASHED,
    DATA,
    FAINT,
    INK,
    MUTED,
    category_axis,
    draw_arm,
    draw_arms,
    figure,
    log_axis,
    number,
    running_mean,
    share_y,
    step_axis,
    told,
)

ON_SHOW = NETWORKS | {"ReLU, 5 layers, raw pixels": RAW_PIXELS}
MOMENTS = (0, 25, 50, 75, 100)  # per cent of the training
RATES = (0.05, 0.25, 0.5, 0.75)
NAMES = {
    Quantity.DISTANCE: "‖G − G′‖",
    Quantity.RELATIVE: "‖G − G′‖ / ‖G‖",
    Quantity.COSINE: "cosine of G and G′",
    Quantity.DRIFT: "drift",
    Quantity.JUMP: "from below",
}


def short(value: float) -> str:
    """Write a positive number with two figures, and a very small one as a power of ten.

    >>> short(0.034567), short(217.3), short(3.2e-7)
    ('0.035', '220', '3·10⁻⁷')
    """
    return number(value, 1) if value < 1e-3 else f"{float(f'{value:.2g}'):,g}"


def times(ratios: ArrayLike) -> str:
    """Write the geometric mean of ratios with its 95 % interval.

    >>> times([1.0, 2.0, 4.0])
    '2 times [0.36, 11]'
    """
    middle, low, high = intervals.ratio(ratios)
    return f"{short(middle)} times [{short(low)}, {short(high)}]"


def _median(values: ArrayLike) -> str:
    return short(float(np.nanmedian(values)))


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


@explore(stage=control((1, 2, 3, 4), unit="of 4", plays=True), lr=control(RATES, label="learning rate"))
def definition(stage: int = 4, lr: float = 0.25) -> Drawing:
    """Definition 2.1 on a network that can be computed by hand: two numbers below, two above."""
    w, v = torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0])
    pair, w_new = experiment.two_gradients(w, v, target=3.0, lr=lr)
    before, after, w_new = pair.before.tolist(), pair.after.tolist(), w_new.tolist()
    fig, (left, right) = figure("what v receives", "the gradient of v", height=3.0)
    _arrow(left, w.tolist(), DATA, "w", (0.0, 0.22))
    _arrow(right, before, DATA, "G", (-0.3, -1.0))
    if stage >= 2:
        _arrow(left, w_new, INK, "w′", (0.1, -0.5))
    if stage >= 3 and pair.after.any():
        _arrow(right, after, INK, "G′", (0.1, 0.35) if after[0] > 0 else (-0.9, 0.35))
    if stage == 3 and not pair.after.any():
        right.plot(0, 0, "o", color=INK, markersize=7)
        right.text(0.4, 0.5, "G′ = 0", color=INK, fontweight="bold")
    if stage == 4:
        right.plot(*zip(before, after, strict=True), color=MUTED, linestyle=DASHED, linewidth=1.8)
        right.plot(*after, "o", color=INK, markersize=4)
    left.set(xlim=(-0.4, 4.2), ylim=(-2.2, 2.4), xticks=range(5), yticks=range(-2, 3), xlabel="unit 1", ylabel="unit 2")
    right.set(xlim=(-5, 4.6), ylim=(-5.3, 4.3), xticks=range(-4, 5, 2), yticks=range(-4, 5, 2))
    right.set(xlabel="component 1", ylabel="component 2")
    for ax in (left, right):
        ax.axhline(0, color=FAINT, linewidth=1)
        ax.axvline(0, color=FAINT, linewidth=1)
        ax.set_aspect("equal", adjustable="box")
    return fig, f"Learning rate {lr:g}. {_said(stage, pair, w_new)}"


def _arrow(ax: Axes, vector: list, colour: str, name: str, away: tuple[float, float]) -> None:
    """Draw a vector from the origin, its name `away` from its point."""
    settings = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.016, "headwidth": 3.6, "headlength": 4}
    ax.quiver(0, 0, *vector, color=colour, zorder=4, **settings)
    ax.text(vector[0] + away[0], vector[1] + away[1], name, color=colour, fontweight="bold", zorder=5)


def _said(stage: int, pair: GradientPair, w_new: list) -> str:
    """The sentence of one stage of the definition."""
    pair_of = "({:.4g}, {:.4g})".format
    before, after = (pair_of(*each.tolist()) for each in pair)
    loss = (w_new[0] - w_new[1] - 3) ** 2 / 2
    if stage == 1:
        return f"With w = (2, 1) the score is 1, the target 3: the gradient of v is G = {before}, loss 2."
    if stage == 2:
        return f"The update of w alone makes it {pair_of(*w_new)}; v stays (1, −1), and the loss is now {loss:.3g}."
    if stage == 3:
        return f"The same v, asked again on the same example: G′ = {after}, where G was {before}."
    said = f"‖G − G′‖ = {pair.distance:.2f}, which is {pair.relative:.2f} times ‖G‖"
    if not pair.after.any():
        return f"{said}; G′ is zero and has no direction, hence no cosine: the update below has done all the work."
    return f"{said}; the cosine is {pair.cosine:.3f}; loss 2 before, {loss:.3g} after."


@explore(
    network=list(ON_SHOW),
    part=control(MOMENTS, label="part of the training", unit="%", plays=True),
)
def every_layer(network: str = "sigmoid, rate 0.3", part: int = 0) -> Drawing:
    """Both meanings in every layer at one moment of the training, and the loss beside them."""
    shown, said = ON_SHOW[network], []
    quantities = (Quantity.DRIFT, Quantity.JUMP, Quantity.DISTANCE)
    fig, axes = figure(*(NAMES[each] for each in quantities), "loss", rows=2, height=5.0, left=0.72)
    for ax, quantity in zip(axes, quantities, strict=False):
        values = experiment.history(shown, quantity)  # (seeds, evals, layers - 1) an arm
        _log_y(ax, list(values.values()))
        values = {arm: seeds[:, part * (shown.n_evals - 1) // 100] for arm, seeds in values.items()}
        _draw_layers(ax, values)
        said.append(told(values, _median) if any(map(np.any, values.values())) else "none yet")
    step = round(part / 100 * (shown.settings.steps - 1))
    _draw_losses(axes[3], network)
    axes[3].axvline(step, color=MUTED, linewidth=1.4, linestyle=DASHED)
    losses = {arm: curves[:, step] for arm, curves in experiment.loss_curves(shown).items()}
    return fig, (
        f"{_capital(network)}, update {step + 1}. Drift: {said[0]}; moved by this update from below: {said[1]}; "
        f"gradient changed by: {said[2]} (medians over layers and {shown.seeds} seeds). Loss: {told(losses)}."
    )


def _log_y(ax: Axes, values: list[np.ndarray]) -> None:
    """Make y logarithmic, from a power of ten below all positive values to one above, with five numbers at most."""
    some = np.concatenate([each[np.isfinite(each) & (each > 0)] for each in values])
    if not len(some):
        return
    low, high = int(np.floor(np.log10(some.min()))), int(np.ceil(np.log10(some.max())))
    ticks = 10.0 ** np.arange(low, high + 1, max(1, -(-(high - low) // 4)))
    log_axis(ax.yaxis, (10.0**low, 10.0**high), ticks[ticks < 1e6])  # what is longer has no room at the left


def _draw_layers(ax: Axes, values: dict[str, np.ndarray]) -> None:
    """Draw one quantity, (seeds, layers - 1) an arm, against the layer, from layer 2 up."""
    many = len(values["plain"][0]) + 1
    ax.set(xlim=(1.6, many + 0.4), xlabel="layer")
    ax.locator_params(axis="x", nbins=5, integer=True)
    if not any(map(np.any, values.values())):
        ax.text(0.5, 0.5, "nothing yet", transform=ax.transAxes, ha="center", color=MUTED)
        return
    for arm, seeds in values.items():
        look = ARMS[arm]
        ax.plot(range(2, many + 1), seeds.T, color=look.colour, alpha=0.28, linewidth=0.9)
        ax.plot(range(2, many + 1), np.median(seeds, 0), "o", color=look.colour, markersize=4, linestyle=look.dashes)


def _draw_losses(ax: Axes, network: str) -> None:
    """Draw the loss against the step."""
    shown = ON_SHOW[network]
    window = 20 if shown.settings.batch_size else 1
    curves = {arm: running_mean(each, window) for arm, each in experiment.loss_curves(shown).items()}
    step_axis(ax, shown.settings.steps, ticks=3)
    ax.set(ylim=(0, 1.08 * max(each.max() for each in curves.values())))
    draw_arms(ax, np.arange(window, shown.settings.steps + 1), curves, gap=0.13)


MEASURES = {"distance": Quantity.DISTANCE, "relative": Quantity.RELATIVE, "cosine": Quantity.COSINE}


@explore(network=list(ON_SHOW), measure=list(MEASURES), against=["training step", "loss"])
def over_training(
    network: str = "sigmoid, rate 0.3", measure: str = "distance", against: str = "training step"
) -> Drawing:
    """Definition 2.1 over the course of training, at equal steps or at equal loss."""
    shown, quantity = ON_SHOW[network], MEASURES[measure]
    fig, (left, right) = figure(NAMES[quantity], "loss", height=3.3, left=0.72)
    if against == "training step":
        values = _over_layers(shown, quantity)
        for arm, runs in values.items():
            draw_arm(left, arm, np.linspace(0, shown.settings.steps - 1, shown.n_evals), runs)
        step_axis(left, shown.settings.steps, ticks=3)
        said = _at_equal_steps(network, quantity)
    else:
        values = experiment.at_levels(shown, quantity)
        _draw_levels(left, network, values)
        said = _at_equal_loss(network, quantity)
    if quantity is Quantity.COSINE:
        left.set(ylim=(-0.75, 1.08), yticks=(-0.5, 0, 0.5, 1))
    else:
        _log_y(left, list(values.values()))
    _draw_losses(right, network)
    return fig, f"{_capital(network)}, {NAMES[quantity]}. {said}"


def _over_layers(network: experiment.Network, quantity: Quantity) -> dict[str, np.ndarray]:
    """A quantity over layers, for the updates of the schedule: (seeds, evals) an arm."""
    values = experiment.history(network, quantity)
    return {arm: experiment.over_layers(seeds, quantity) for arm, seeds in values.items()}


def _draw_levels(ax: Axes, network: str, values: dict[str, np.ndarray]) -> None:
    """Draw one dot a seed at every level of the loss that it came down to, and a line through the medians."""
    levels = [f"{level:g}" for level in ON_SHOW[network].levels]
    for arm, seeds in values.items():
        look, at = ARMS[arm], np.arange(len(levels)) + (-0.1 if arm == "plain" else 0.1)
        some = np.isfinite(seeds).any(0)
        marks = {"color": look.colour, "markeredgewidth": 0, "markersize": 4.5, "alpha": 0.5}
        ax.plot(at, seeds.T, "^" if arm == "plain" else "o", **marks)
        ax.plot(at[some], np.nanmedian(seeds[:, some], 0), color=look.colour, linestyle=look.dashes)
    ax.set(xlim=(-0.5, max(len(levels), 1) - 0.5), xlabel="loss, falling")
    ax.set_xticks(range(len(levels)), levels)
    if not levels:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no loss in common", transform=ax.transAxes, ha="center", color=MUTED)


def _at_equal_steps(network: str, quantity: Quantity) -> str:
    shown = ON_SHOW[network]
    if quantity is Quantity.COSINE:
        means = {arm: values.mean(1) for arm, values in _over_layers(shown, quantity).items()}
        turns = (means["bn"] < means["plain"]).sum()
        said = told(means, lambda values: f"{values.mean():.3f}")
        return f"Mean over layers and updates: {said}; BN's gradient turns more in {turns} of {shown.seeds} seeds."
    parts = (Part.FIRST, Part.EARLY, Part.LATE)
    said = [f"{part} {times(experiment.ratios(shown, quantity, part))}" for part in parts]
    return f"BN over plain at equal steps, {shown.seeds} seeds [95 % interval]: {'; '.join(said)}."


def _at_equal_loss(network: str, quantity: Quantity) -> str:
    shown = ON_SHOW[network]
    if not shown.levels:
        return "The plain network's loss hardly falls in this training: there is no loss to compare at."
    values = experiment.at_levels(shown, quantity)
    both = np.isfinite(values["plain"]).any(0) & np.isfinite(values["bn"]).any(0)
    if not both.any():
        return f"The plain network's loss never comes down to {shown.levels[0]:g}: nothing to compare."
    ends = sorted({int(np.flatnonzero(both)[i]) for i in (0, -1)})
    return " ".join(_at_level(network, quantity, {arm: v[:, i] for arm, v in values.items()}, i) for i in ends)


def _at_level(network: str, quantity: Quantity, values: dict[str, np.ndarray], i: int) -> str:
    """What is drawn at one level of the loss."""
    level = ON_SHOW[network].levels[i]
    if quantity is Quantity.COSINE:
        return f"Medians at a loss of {level:g}: {told(values, lambda each: f'{np.nanmedian(each):.3f}')}."
    ratios = experiment.equal_loss_ratios(ON_SHOW[network], quantity, [level])
    over = f"; BN over plain {times(ratios)}, {len(ratios)} seeds" if len(ratios) > 1 else ""
    return f"Medians at a loss of {level:g}: {told(values, _median)}{over}."


VALUES = {
    "drift": Quantity.DRIFT,
    "drift, absolute": Quantity.DRIFT_ABSOLUTE,
    "drift of stds": Quantity.DRIFT_OF_STD,
    "from below": Quantity.JUMP,
    "step below": Quantity.STEP_BELOW,
}
SHIFTS = {"‖G − G′‖": Quantity.DISTANCE, "1 − cosine": Quantity.ANGLE}
PARTS = (Part.WHOLE, Part.EARLY, Part.LATE)
SHOWN = (1e-3, 1e4)  # ratios; what lies beyond is drawn at the edge


@explore(
    values=control(list(VALUES), label="left"),
    gradient=control(list(SHIFTS), label="right"),
    part=[str(part) for part in PARTS],
)
def who_has_less(values: str = "drift", gradient: str = "‖G − G′‖", part: str = "whole run") -> Drawing:
    """Do the two meanings agree on who has less? BN over plain, one dot a seed."""
    quantities, beyond = (VALUES[values], SHIFTS[gradient]), []
    fig, axes = figure(values, gradient, height=3.4, left=1.42)
    for ax, quantity in zip(axes, quantities, strict=True):
        category_axis(ax, list(NETWORKS))
        log_axis(ax.xaxis, (SHOWN[0] / 2, SHOWN[1] * 2), (1e-2, 1, 100))
        ax.axvline(1, color=MUTED, linewidth=1.4)
        ax.set_xlabel("BN over plain")
        for row, (name, network) in enumerate(NETWORKS.items()):
            ratios = experiment.ratios(network, quantity, Part(part))
            dots = {"color": ARMS["bn"].colour, "markeredgewidth": 0, "linestyle": ""}
            ax.plot(ratios.clip(*SHOWN), np.full(len(ratios), row), "o", markersize=4.5, alpha=0.4, **dots)
            ax.plot(np.median(ratios).clip(*SHOWN), row, "o", markersize=8, **dots)
            beyond += [name] if (ratios != ratios.clip(*SHOWN)).any() and name not in beyond else []
    share_y(*axes)
    found = experiment.agreement(*quantities, Part(part))
    edge = f" Dots beyond the axes are at their edge ({', '.join(beyond)})." if beyond else ""
    return fig, (
        f"{found.pairs} pairs of runs, {part}: BN has less of the {values} in {found.less_first}, less {gradient} in "
        f"{found.less_second}; the two name the same network in {found.agree}. Rank correlation of the two ratios: "
        f"{found.rank:.2f}.{edge}"
    )


# --- questions -----------------------------------------------------------------------------------------------------


@predict("always", "mostly", "it depends", "never")
def predict_gradients() -> Answer:
    """BN keeps the drift of a layer's values small. Will its gradient, too, change less when the layers below are
    updated?
    """
    less = [np.exp(np.log(experiment.ratios(network, Quantity.DISTANCE)).mean()) < 1 for network in NETWORKS.values()]
    share = np.mean(less)
    choice = "always" if share == 1 else "never" if share == 0 else "mostly" if share > 0.75 else "it depends"
    return choice, f"Over the whole run it changes less with BN in {sum(less)} of {len(less)} networks, at equal steps."


@predict("the plain network", "the one with BN")
def predict_sleeping() -> Answer:
    """After a quarter of the training, the sigmoid network at rate 0.3 has hardly learned without BN. Whose gradients
    shift more?
    """
    shift = experiment.history(NETWORKS["sigmoid, rate 0.3"], Quantity.DISTANCE)
    quarter = {arm: np.median(each[:, each.shape[1] // 4]) for arm, each in shift.items()}
    choice = "the one with BN" if quarter["bn"] > quarter["plain"] else "the plain network"
    return choice, f"In the median over layers and seeds: plain {quarter['plain']:.2g}, BN {quarter['bn']:.2g}."


@predict(
    "less drift and less gradient shift in most",
    "less drift in most, more gradient shift in most",
    "more of both in most",
)
def predict_agree() -> Answer:
    """In six networks, by the mean in standard deviations and by the distance: what does BN have?"""
    found = experiment.agreement(VALUES["drift"], Quantity.DISTANCE)
    drift, shift = (less / found.pairs > 0.5 for less in (found.less_first, found.less_second))
    names = {(True, True): "less drift and less gradient shift in most", (False, False): "more of both in most"}
    return names.get((drift, shift), "less drift in most, more gradient shift in most"), (
        f"Of {found.pairs} pairs, less drift in {found.less_first} and less gradient shift in {found.less_second}."
    )
