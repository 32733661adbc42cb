"""The figures of the page "Other mechanisms"."""

from collections.abc import Callable

import numpy as np

from utils import intervals
from utils.experiments import mechanisms as experiment
from utils.experiments.mechanisms import (
    ARCHITECTURES,
    DECAYING,
    DEPTH,
    FLAT,
    LAYERS,
    NONLINEARITIES,
    NORMS,
    OFFSETS,
    PRODUCTS,
    STARTS,
)
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.style import (
    ARMS,
    DASHED,
    DATA,
    INK,
    MUTED,
    Arm,
    between,
    draw_arm,
    figure,
    label_ends,
    log_axis,
    look_of,
    make_room,
    percent_axis,
    rounded,
    running_mean,
    step_axis,
    told,
)

SKIPS = Arm("BN, skips", ARMS["bn, zero gamma"].colour, ARMS["bn, zero gamma"].dashes)
LOOKS = {"plain": "plain", "bn": "bn", "bn, skips": SKIPS}


@explore(nonlinearity=list(NONLINEARITIES), depth=control([1, 5, 10, 20, DEPTH], label="layers"))
def collapse(nonlinearity: str = "ReLU", depth: int = 5) -> Drawing:
    """Sixty digits behind ever more random layers: how many directions do they fill?"""
    fig, (left, right) = figure("effective rank", "mean cosine", height=3.3)
    behind = {norm: experiment.by_depth(norm, nonlinearity) for norm in NORMS}
    layers = np.arange(1, DEPTH + 1)
    for ax, name, limits in ((left, "rank", (0, 20)), (right, "cosine", (-0.1, 1.05))):
        for norm, found in behind.items():
            draw_arm(ax, norm, layers, getattr(found, name))
        ax.axvline(depth, color=MUTED, linewidth=1, linestyle=DASHED)
        ax.set(xlim=(1, DEPTH), ylim=limits, xlabel="layers")
    make_room(fig, *(ARMS[norm].label for norm in NORMS))
    label_ends(right, {norm: found.cosine[:, -1].mean() for norm, found in behind.items()})
    ranks = told({norm: each.rank[:, depth - 1] for norm, each in behind.items()}, lambda each: f"{each.mean():.1f}")
    cosines = told(
        {norm: each.cosine[:, depth - 1] for norm, each in behind.items()}, lambda each: f"{each.mean():.2f}"
    )
    kind = "ReLU layers" if nonlinearity == "ReLU" else "linear layers"
    return fig, f"Behind {depth} random {kind}, ten seeds: effective rank {ranks}; mean cosine {cosines}."


@explore(architecture=[look_of(LOOKS[name]).label for name in ARCHITECTURES])
def explosion(architecture: str = "plain") -> Drawing:
    """Going back through 30 untrained ReLU layers: how long is the gradient?"""
    name = next(each for each in ARCHITECTURES if look_of(LOOKS[each]).label == architecture)
    fig, (ax,) = figure("gradient at a layer's input, over the last layer's", height=3.4)
    layers = np.arange(1, LAYERS + 1)
    log_axis(ax.yaxis, (0.3, 500), (1, 10, 100))
    ax.set(xlim=(1, LAYERS), xlabel="layer (the gradient arrives at the right)")
    draw_arm(ax, LOOKS[name], layers, experiment.gradients_by_depth(name))
    ax.plot(layers, experiment.RATE ** (LAYERS - layers), color=INK, linewidth=1.2, linestyle=DASHED)
    ax.text(13, 110, "theory for BN,\nwide layers", color=INK, fontsize=9, va="top")
    found = intervals.ratio(experiment.growth(name))
    return fig, (
        f"{architecture}: at each layer the gradient grows by a factor of {between(found, 4)}, over ten seeds. The "
        f"theory for BN, for wide layers and large batches, says {experiment.RATE:.2f} (dashed)."
    )


@explore(norm=[ARMS[norm].label for norm in ("plain", "bn")], offset=control(OFFSETS, label="data off the centre by"))
def bends(norm: str = "plain", offset: float = 0.0) -> Drawing:
    """Each line is where one of fifty ReLU units bends, before any training."""
    arm = "bn" if norm == ARMS["bn"].label else "plain"
    x, found = experiment.two_moons(offset), experiment.boundaries(arm, offset)
    fig, (ax,) = figure("two moons and the lines on which the units bend", height=4.0)
    for weight, bias, cuts in zip(found.weight, found.bias, found.cuts, strict=True):
        colour = look_of(arm).colour if cuts else MUTED
        point = (-bias * weight / weight.square().sum()).tolist()
        ax.axline(
            point, (point[0] - weight[1].item(), point[1] + weight[0].item()), color=colour, linewidth=0.8, alpha=0.6
        )
    ax.plot(*x.T, "o", color=DATA, markersize=3, markeredgewidth=0, alpha=0.8)
    ax.set(xlim=(-4, 7.5), ylim=(-6.2, 2.8), aspect="equal")
    shares = {each: experiment.cut_shares(each, offset).mean() for each in ("plain", "bn")}
    return fig, (
        f"{norm}, data {offset:g} off the centre: {int(found.cuts.sum())} of {experiment.UNITS} lines cut the data, "
        f"and {found.patterns} patterns of active units tell the points apart. Lines that cut, over ten seeds: "
        f"{told(shares, '{:.0%}'.format)}."
    )


@explore(start=list(STARTS))
def flat_parts(start: str = "Glorot's start") -> Drawing:
    """Five layers of sigmoids in training: how many inputs lie where the sigmoid is flat, and what gets through?"""
    fig, (left, right) = figure(f"inputs beyond ±{FLAT:g}", "mean slope, of the largest", height=3.3)
    ends = {}
    for norm in ("plain", "bn"):
        runs = experiment.saturation(norm, start)
        for ax, name in ((left, "flat"), (right, "slope")):
            values = np.array([getattr(run, name).mean(1) for run in runs])
            draw_arm(ax, norm, experiment.LOOKS, values)
            ends[ax, norm] = values[:, -1].mean()
    for ax, high, step in ((left, 0.2, 0.05), (right, 1.0, 0.25)):
        step_axis(ax, experiment.LOOKS[-1])
        percent_axis(ax.yaxis, 0, high, step)
    make_room(fig, ARMS["plain"].label)
    label_ends(right, {norm: ends[right, norm] for norm in ("plain", "bn")})
    first = told({norm: experiment.early_slopes(norm, start) for norm in ("plain", "bn")}, lambda s: f"{s.mean():.0%}")
    last = told(
        {norm: experiment.early_slopes(norm, start, -1) for norm in ("plain", "bn")}, lambda s: f"{s.mean():.0%}"
    )
    return (
        fig,
        f"{start}, ten seeds. Mean slope of the sigmoids, of the largest: at first {first}; at the end {last}.",
    )


RATES = {
    0.1: Arm("rate 0.1", ARMS["bn"].colour),
    0.3: Arm("rate 0.3", ARMS["bn, no scale and shift"].colour, ARMS["bn, no scale and shift"].dashes),
    1.0: Arm("rate 1", ARMS["noisy"].colour, ARMS["noisy"].dashes),
}


@explore(product=control(PRODUCTS, label="rate × decay"), updates=control([50, DECAYING.steps]))
def turning(product: float = PRODUCTS[0], updates: int = 50) -> Drawing:
    """Weights under BN and weight decay: how large is their effective rate, and how far does one step turn them?"""
    fig, (left, right) = figure("rate / length²", "turn of a step, radians", height=3.4)
    ends = {}
    for lr, look in RATES.items():
        runs = experiment.turning(lr, product)
        shown = runs[0].step <= updates
        draw_arm(left, look, runs[0].step[shown], [run.rate[shown] for run in runs])
        turns = running_mean([run.turn[shown][1:] for run in runs], 5)
        draw_arm(right, look, runs[0].step[shown][5:], turns)
        ends[look] = turns[:, -1].mean()
    for ax, limits, ticks in ((left, (0.0008, 0.4), (0.001, 0.01, 0.1)), (right, (0.004, 0.4), (0.01, 0.1))):
        log_axis(ax.yaxis, limits, ticks)
        step_axis(ax, updates)
    balance = experiment.balance(product)
    right.axhline(balance, color=INK, linewidth=1.2, linestyle=DASHED)
    right.text(0.02 * updates, 1.15 * balance, "balance", color=INK, fontsize=9)
    make_room(fig, *(look.label for look in RATES.values()))
    label_ends(right, ends)
    turns = _at_each(lambda lr: balance * experiment.last_turn(lr, product, updates))
    rates = _at_each(lambda lr: experiment.last_rate(lr, product, updates))
    accuracies = _at_each(lambda lr: experiment.last_accuracy(lr, product, updates))
    return fig, (
        f"Rate × decay {product:g}, ten seeds, at the rates 0.1, 0.3 and 1, after {updates} updates: turn of a step "
        f"{turns} (balance: {rounded(balance)}); effective rate {rates}; training accuracy {accuracies}."
    )


def _at_each(measure: Callable[[float], np.ndarray]) -> str:
    return ", ".join(rounded(measure(lr).mean()) for lr in RATES)


# --- questions --------------------------------------------------------------------------------------------------------


@predict("nearly one direction", "about as many as at first", "more than at first")
def predict_rank() -> Answer:
    """Send 60 digits through 50 random ReLU layers without a norm. How many directions do they fill behind the last?"""
    first, *_, last = experiment.by_depth("plain").rank.mean(0)
    choice = (
        "nearly one direction"
        if last < 2
        else "about as many as at first"
        if last < 1.2 * first
        else "more than at first"
    )
    return choice, f"An effective rank of {last:.1f}, from {first:.0f} behind the first layer."


@predict("it shrinks", "it stays", "it grows")
def predict_growth() -> Answer:
    """An untrained network with BN before each ReLU, He's start. What happens to the gradient on its way back?"""
    found = intervals.ratio(experiment.growth("bn")).estimate
    choice = "it grows" if found > 1.05 else "it shrinks" if found < 0.95 else "it stays"
    return choice, f"By a factor of {rounded(found, 3)} a layer."


@predict("yes, many", "hardly any")
def predict_flat() -> Answer:
    """Five layers of sigmoids, Glorot's start, standardised inputs. Do sigmoids saturate in the plain network?"""
    flat = max(run.flat.mean(1).max() for run in experiment.saturation("plain", "Glorot's start"))
    return "hardly any" if flat < 0.02 else "yes, many", f"At most {flat:.1%} of all inputs, at any look."


@predict("ten times as far", "about three times", "about as far")
def predict_turn() -> Answer:
    """Rate 1 with decay 0.006, or rate 0.1 with 0.06: one product. How far does a late step turn the weights at 1?"""
    times = intervals.ratio(experiment.last_turn(1.0, PRODUCTS[0]) / experiment.last_turn(0.1, PRODUCTS[0])).estimate
    choice = "about as far" if times < 1.5 else "about three times" if times < 5 else "ten times as far"
    return choice, f"{times:.2f} times as far as at 0.1, over ten seeds."


@exercise("its weights", "the mean of the data", "the labels")
def quiz_lines() -> Answer:
    """With BN, what decides where the line of a unit lies, given its direction?"""
    return "the mean of the data", (
        "w x + b less its mean is w (x - mean(x)): the line goes through the middle of the batch, whatever b is. With "
        "β it can move away again, from there."
    )
