"""The explorables and pictures of the page "The theorem lab"."""

import numpy as np
import torch

from utils.experiments import theorem_lab as experiment
from utils.experiments.theorem_lab import BATCH_SIZES, LOSS_UNITS, MORE_SPREADS, PARTS, SPREADS, TRAINED, Family, N
from utils.explore import Answer, Drawing, control, explore, picture, predict
from utils.intervals import ratio
from utils.style import (
    ARMS,
    DASHED,
    DATA,
    FAINT,
    INK,
    MUTED,
    PAPER,
    between,
    dot_rows,
    draw_arm,
    figure,
    key,
    label,
    log_axis,
    number,
    per_cent,
    percent_axis,
    rounded,
    spread,
    step_axis,
)

BLUE = ARMS["bn"].colour


# --- Theorem 4.1 --------------------------------------------------------------------------------------------------


@explore(
    a=control([0.0, 0.5, 0.75, 1.0, 1.5], label="a, in 1/mᵃ"),
    m=control([4, 32, 128], label="batch size m", unit="examples"),
)
def which_power(a: float = 0.5, m: int = 32) -> Drawing:
    """Which power of the batch size makes the two sides of Theorem 4.1 agree?"""
    ratio = experiment.right_over_left_4_1(a, Family(m=m))
    worst = np.abs(ratio - 1).max()

    fig, (left, right) = figure("factor needed", "relative error", height=3.2, left=0.78)
    for size in BATCH_SIZES:
        dots = experiment.factors_needed(size)
        left.plot([size] * len(dots), dots, "o", color=DATA, markersize=5, alpha=0.5, markeredgewidth=0)
    sizes = np.array([2.5, 400])
    left.plot(sizes, sizes**-a, color=INK)
    left.plot(m, m**-a, "o", color=INK, markersize=7)
    left.set_xlabel("batch size m")
    log_axis(left.xaxis, sizes, (4, 32, 256))
    log_axis(left.yaxis, (4e-4, 2.5))
    equal = worst < 1e-9
    violated = (ratio < 1) & ~np.array(equal)
    power = np.log10(np.abs(ratio - 1) + 1e-17)
    for which, colour in ((~violated, DATA), (violated, INK)):
        right.hist(power[which], bins=np.arange(-17.5, 2.6, 0.5), color=colour)
    right.set(xlim=(-18, 3), ylim=(0, 800), yticks=[], xlabel=f"{N:,} networks")
    right.set_xticks([-16, -10, -5, 0], ["10⁻¹⁶", "10⁻¹⁰", "10⁻⁵", "1"])
    verdict, colour = ("equal", DATA) if equal else ("bound violated", INK) if violated.any() else ("bound holds", DATA)
    right.text(0.04, 0.96, verdict, transform=right.transAxes, color=colour, va="top")
    if equal:
        said = f"the two sides are equal in all {N:,} networks, to {number(worst, 1)} of their value"
    else:
        share = (ratio >= 1).mean()
        said = f"the bound holds in {share:.0%} of {N:,} networks, and the right side is off by up to {_times(worst)}"
    return fig, f"With 1/m to the power {a:g} and batches of {m}, {said}."


def _times(value: float) -> str:
    return f"{value:.0%} of the left" if value < 1 else f"{rounded(value)} times the left"


# --- the hidden assumption ----------------------------------------------------------------------------------------

CHOICES = {"γ = 1, β = 0": "nothing", "γ = σ, β = 0": "scale", "γ = σ, β = μ": "both"}


@explore(
    nonlinearity=["tanh", "ReLU"],
    spread=control(SPREADS, label="spread of y"),
    constants=control(list(CHOICES), label="BN's constants"),
)
def two_networks(nonlinearity: str = "ReLU", spread: float = 0.15, constants: str = "γ = σ, β = μ") -> Drawing:
    """The same weights with and without BN: does the bound hold with the plain network's own gradient?"""
    pair = experiment.two_networks(Family(nonlinearity=nonlinearity, spread=spread, matched=CHOICES[constants]))
    holds, ratio, alive = pair.holds, pair.ratio, len(pair.ratio)

    fig, (left, right) = figure("one dot a network", "BN / plain", height=3.2, left=0.8)
    for which, colour in ((holds, DATA), (~holds, INK)):
        dots = {"color": colour, "markersize": 2.6, "alpha": 0.45, "markeredgewidth": 0}
        left.plot(pair.bound[which], pair.with_bn[which], "o", **dots)
    ends = np.array([1e-7, 10.0])
    left.plot(ends, ends, color=MUTED, linewidth=1.2, linestyle=DASHED)
    left.set(xlabel="bound, plain gradient", ylabel="‖v‖²")
    for axis in (left.xaxis, left.yaxis):
        log_axis(axis, ends, (1e-6, 1e-3, 1))
    left.text(0.05, 0.95, "violated", transform=left.transAxes, color=INK, fontsize=9, va="top")
    left.text(0.95, 0.05, "holds", transform=left.transAxes, color=DATA, fontsize=9, ha="right")
    right.hist(ratio.clip(0.1, 30), bins=np.logspace(-1, np.log10(30), 45), color=DATA)
    right.axvline(1, color=INK, linewidth=1.2, linestyle=DASHED)
    right.set(yticks=[], xlabel="length of gradient, ratio")
    log_axis(right.xaxis, (0.09, 33))
    dead = "" if alive == N else f" ({N - alive} networks whose unit is dead are left out)"
    return fig, (
        f"{nonlinearity}, spread {spread:g}, {constants}: the bound holds in {_share(holds)} of {alive:,} "
        f"networks{dead}; BN's gradient is the longer one in {_share(ratio > 1 + 1e-12)}, and {np.median(ratio):.2f} "
        f"times the plain one in the median."
    )


def _share(those: np.ndarray) -> str:
    """A share in per cent that says 0 or 100 only where it is meant.

    >>> _share(np.arange(1000) < 999), _share(np.arange(1000) < 1000)
    ('99.9%', '100%')
    """
    share = float(those.mean())
    return f"{share:.0%}" if share in (0, 1) or 0.01 <= share <= 0.99 else f"{share:.1%}"


# --- Theorem 4.2 --------------------------------------------------------------------------------------------------


@explore(
    nonlinearity=["tanh", "ReLU", "sigmoid"],
    gamma=control([0.3, 1.0, 3.0], label="γ, the scale"),
)
def second_derivative(nonlinearity: str = "ReLU", gamma: float = 0.3) -> Drawing:
    """The curvature along the gradient: the first form of Theorem 4.2, and the second."""
    tried = experiment.curvatures(Family(nonlinearity=nonlinearity, gamma=gamma))
    margin, condition, holds = tried.margin, tried.condition, tried.margin >= 0

    fig, (left, right) = figure("first form", "second form", height=3.2, left=0.8)
    left.plot([-2, 2], [-2, 2], color=FAINT, linewidth=5, solid_capstyle="round")
    left.plot(tried.right, tried.left, "o", color=DATA, markersize=2.6, alpha=0.4, markeredgewidth=0)
    left.set(xlim=(-2.1, 2.1), ylim=(-2.1, 2.1), xlabel="right side", ylabel="left side")
    left.set_xticks([-2, -1, 0, 1, 2])
    bins = np.linspace(-2, 2, 41)
    right.hist(margin[condition], bins=bins, color=DATA)
    right.hist(margin[~condition], bins=bins, color=INK)
    right.set(xlim=(-2.1, 2.1), yticks=[], xlabel="right side − left side")
    right.set_ylim(0, 1.3 * right.get_ylim()[1])
    for x, text, colour, side in ((-0.1, "without the\ncondition", INK, "right"), (0.1, "with it", DATA, "left")):
        right.text(x, 0.97, text, transform=right.get_xaxis_transform(), color=colour, fontsize=9, va="top", ha=side)
    return fig, (
        f"{nonlinearity}, γ = {gamma:g}, {N:,} networks: the first form is an equality to "
        f"{number(tried.residual.max(), 1)}; the second holds in {_share(holds)}, namely in {_share(holds[condition])} "
        f"of those with v′Hv ≤ g′Hg and in {_share(holds[~condition])} of the others."
    )


# --- Theorem 4.4 --------------------------------------------------------------------------------------------------


@explore(
    unit=control(LOSS_UNITS, label="the loss is multiplied by"),
)
def change_of_units(unit: float = 1.0) -> Drawing:
    """Measure the loss in another unit: do the printed bound and the repaired one care?"""
    fig, (left, right) = figure("at this unit", "share that holds", height=3.2)
    shares = []
    for each in LOSS_UNITS:
        values = {printed: experiment.right_over_left_4_4(each, printed) for printed in (True, False)}
        shares.append((values[True] >= 1).mean())
        if each == unit:
            now = values
    bins = np.linspace(-10.25, 10.25, 42)
    left.hist(_squeezed(now[True]), bins=bins, color=INK)
    left.hist(_squeezed(now[False]), bins=bins, color=DATA)
    left.axvline(0, color=MUTED, linewidth=1.2, linestyle=DASHED)
    left.set(xlim=(-10.5, 10.5), yticks=[], ylim=(0, 1250), xlabel="right side / left side")
    left.set_xticks([-10, -5, 0, 5, 10], ["negative", "10⁻⁵", "1", "10⁵", "≥ 10¹⁰"], fontsize=8.5)
    left.text(0.03, 0.97, "printed", transform=left.transAxes, color=INK, fontsize=9, va="top")
    left.text(0.53, 0.97, "repaired", transform=left.transAxes, color=DATA, fontsize=9, va="top")
    right.plot(LOSS_UNITS, shares, "o-", color=INK)
    right.plot(LOSS_UNITS, np.ones(len(LOSS_UNITS)), "o-", color=DATA)
    right.axvline(unit, color=MUTED, linewidth=1.2, linestyle=DASHED)
    right.set_xlabel("the loss is multiplied by")
    log_axis(right.xaxis, (0.005, 2000), (0.01, 1, 100))
    percent_axis(right.yaxis, step=0.5)
    right.set_ylim(-0.05, 1.25)
    for height, name, colour in ((0.93, "repaired", DATA), (0.12, "printed", INK)):
        right.text(0.017, height, name, transform=right.get_xaxis_transform(), color=colour, fontsize=9, va="center")
    off = np.abs(now[False] - 1).max()
    return fig, (
        f"With the loss multiplied by {number(unit)}, the printed bound holds in {_share(now[True] >= 1)} of {N:,} "
        f"networks (its right side is {rounded(now[True].min())} to {rounded(now[True].max())} times the left, in "
        f"the median {rounded(np.median(now[True]))} times); the repaired one is an equality in all of them, to "
        f"{number(off, 1)}."
    )


def _squeezed(ratio: np.ndarray) -> np.ndarray:
    """The power of ten, kept within ±10; where the ratio is not positive, -10."""
    return np.log10(np.maximum(ratio, 1e-10)).clip(-10, 10)


# --- Theorem C.1 --------------------------------------------------------------------------------------------------


@explore(nonlinearity=["tanh", "ReLU", "sigmoid"])
def in_the_weights(nonlinearity: str = "tanh") -> Drawing:
    """Theorem C.1 with γ = σ, β = μ: does its bound hold, and is the curvature smaller with BN?"""
    tried = [
        experiment.in_the_weights(Family(16, nonlinearity=nonlinearity, spread=s, matched="both")) for s in MORE_SPREADS
    ]
    fig, (left, right) = figure("share that holds", "curvature, BN / plain", height=3.2, left=0.8)
    shares = {"printed": [each.holds.mean() for each in tried]}
    shares["repaired"] = [(each.with_bn <= each.repaired).mean() for each in tried]
    for (name, share), colour, place in zip(shares.items(), (INK, DATA), (0.12, 0.93), strict=True):
        left.plot(MORE_SPREADS, share, "o-", color=colour)
        left.text(0.97, place, name, transform=left.transAxes, color=colour, fontsize=9, va="center", ha="right")
    percent_axis(left.yaxis, step=0.5)
    left.set_ylim(-0.05, 1.25)
    for x, each in zip(MORE_SPREADS, tried, strict=True):
        times = (each.with_bn / np.maximum(each.without, 1e-300)).clip(0.03, 3000)  # without may be 0
        beside = x * np.logspace(-0.12, 0.12, len(times))
        for which, colour in ((each.holds, DATA), (~each.holds, INK)):
            right.plot(beside[which], times[which], "o", color=colour, markersize=2.6, alpha=0.45, markeredgewidth=0)
    right.axhline(1, color=MUTED, linewidth=1.2, linestyle=DASHED)
    right.text(0.97, 0.97, "violated", transform=right.transAxes, color=INK, fontsize=9, va="top", ha="right")
    right.text(0.97, 0.89, "holds", transform=right.transAxes, color=DATA, fontsize=9, va="top", ha="right")
    log_axis(right.yaxis, (0.02, 2e5), (0.1, 1, 10, 100, 1000))
    for ax in (left, right):
        ax.set_xlabel("spread of y")
        log_axis(ax.xaxis, (0.07, 14), (0.1, 1, 10))
    looked_at = [tried[MORE_SPREADS.index(x)] for x in (0.1, 1.0, 10.0)]
    holds = [_share(each.holds) for each in looked_at]
    larger = [_share(each.with_bn > each.without) for each in looked_at]
    repaired = _share(np.concatenate([each.with_bn <= each.repaired for each in tried]))
    return fig, (
        f"{nonlinearity}, γ = σ, β = μ: the printed bound holds in {holds[0]} of the networks at a spread of 0.1, in "
        f"{holds[1]} at 1 and in {holds[2]} at 10; with BN the curvature is the larger one in {larger[0]}, {larger[1]} "
        f"and {larger[2]}. The repaired bound holds in {repaired} of all."
    )


# --- Lemma 4.5 ----------------------------------------------------------------------------------------------------


@explore(
    angle=control([15, 45, 75, 89, 120], label="angle between start and optimum", unit="°"),
    length=control([0.5, 3.0], label="length of the optimum"),
)
def nearest_optimum(angle: int = 45, length: float = 3.0) -> Drawing:
    """How far is it from a start to an optimum, with BN and without?"""
    turn = np.deg2rad(angle)
    start = torch.tensor([np.cos(turn), np.sin(turn)])
    optimum = torch.tensor([length, 0.0], dtype=torch.float64)
    near = experiment.lemma_4_5(start, optimum)
    plain, k = (start - optimum).norm().item(), near.factor.item()

    fig, (ax,) = figure("the weights of one unit", height=2.5, left=0.1, bottom=0.05)
    foot = max(k, 0.0) * length
    ax.plot([0, 4], [0, 0], color=FAINT, linewidth=7, solid_capstyle="butt")
    ax.plot([start[0], length], [start[1], 0], color=ARMS["plain"].colour, linestyle=ARMS["plain"].dashes)
    ax.plot([start[0], foot], [start[1], 0], color=BLUE)
    ax.plot(0, 0, "o", color=PAPER, markeredgecolor=INK, markersize=7, markeredgewidth=1.6)
    ax.plot(length, 0, "o", color=ARMS["plain"].colour, markersize=8)
    ax.plot(start[0], start[1], "o", color=INK, markersize=8)
    ax.text(start[0], start[1] + 0.1, "start", color=INK, ha="center", va="bottom", fontweight="bold")
    ax.text(3.98, -0.42, "all optima with BN", color=MUTED, fontsize=9.5, va="top", ha="right")
    label(ax, "plain", length, -0.14, "plain optimum", ha="center", va="top", fontsize=9.5)
    ax.set(xlim=(-0.95, 4.05), ylim=(-0.7, 1.3), aspect="equal")
    ax.set_axis_off()
    said = f"Start of length 1, {angle}° from an optimum of length {length:g}: it is {plain:.2f} away without BN; "
    if k <= 0:
        return fig, said + (
            f"the lemma's k is {number(k, 2)}, which is not positive, so the lemma is silent: the optima with BN come "
            f"as near as 1 and never reach that. The blue line ends at the origin, which is no optimum."
        )
    return fig, said + (
        f"with BN the nearest is k = {k:.2f} times the plain one and {near.distance.sqrt():.2f} away, and the lemma "
        f"gives the same to {number((near.distance - near.lemma).abs().item() + 1e-17, 1)}."
    )


# --- trained networks -----------------------------------------------------------------------------------------------

NAMES = {"plain": "the plain net", "bn": "BN's net"}


@explore(
    network=list(TRAINED),
    layer=control([1, 2, 3], unit="of 3"),
    part=control(list(PARTS), label="the batch"),
)
def in_training(network: str = "sigmoid", layer: int = 2, part: str = "all 1,437 images") -> Drawing:
    """What the projection leaves of real gradients, and which sign ⟨g, ŷ⟩ has."""
    place, steps, said = list(PARTS).index(part), TRAINED[network].steps, []
    fig, (left, right) = figure("length left over", "units with ⟨g, ŷ⟩ > 0", height=3.2)
    for arm, runs in experiment.projections(network).items():
        kept, positive = (
            np.array([each[:, place, layer - 1] for each in column])
            for column in ([run.left for run in runs], [run.positive for run in runs])
        )
        draw_arm(left, arm, runs[0].step, kept)
        draw_arm(right, arm, runs[0].step, positive)
        said.append(
            f"{NAMES[arm]} keeps {spread(kept[:, -1], 3)} of a gradient's length, and {per_cent(positive[:, -1])} of "
            f"the units have ⟨g, ŷ⟩ > 0"
        )
    by_chance = np.sqrt(1 - 2 / (PARTS[part] or len(TRAINED[network].task().x_train)))
    left.axhline(by_chance, color=MUTED, linewidth=1.2, linestyle=DASHED)
    left.set_ylim(0.3, 1.03)
    percent_axis(right.yaxis, step=0.5)
    right.axhline(0.5, color=MUTED, linewidth=1.2, linestyle=DASHED)
    for ax in (left, right):
        step_axis(ax, steps)
    key(right, ("plain", "bn"), top=0.98)
    return fig, f"{network}, layer {layer}, {part}, after {steps} steps, {len(runs)} seeds: {'; '.join(said)}."


@picture
def without_projection() -> Drawing:
    """The same forward pass, and a backward pass that leaves the gradient's mean in: where training ends."""
    fig, (ax,) = figure("training loss after 300 steps", height=2.3, left=1.0)
    rows, said = {}, []
    for network in TRAINED:
        losses = experiment.without_projection(network)
        rows[network] = losses
        times = ratio(losses["bn, mean held"] / losses["bn"])
        said.append(f"{network} {between(times)} times BN's")
    log_axis(ax.xaxis, (0.02, 4), (0.03, 0.1, 0.3, 1, 3))
    dot_rows(ax, rows)
    for i, arm in enumerate(losses):
        label(ax, arm, 0.98, 0.34 - 0.13 * i, ha="right", transform=ax.transAxes)
    seeds = len(losses["bn"])
    return fig, (
        f"Training loss where BN's backward pass leaves the gradient's mean in ({seeds} seeds, with 95 % intervals): "
        f"{', '.join(said)}."
    )


# --- questions -----------------------------------------------------------------------------------------------------


@predict("a little larger", "much larger", "something else")
def predict_at_most() -> Answer:
    """The theorem says "at most". In random networks, how does the right side, as printed, compare with the left?"""
    share = (experiment.right_over_left_4_1(0.5) >= 1).mean()
    return (
        "something else",
        f"As printed the bound holds in {share:.0%} of {N:,} networks: the left side is the larger.",
    )


@predict("in nearly all", "in about half", "in hardly any", "it depends on the kind of network")
def predict_bound_holds() -> Answer:
    """Both networks with the same weights, γ = 1, β = 0, and the plain network's *own* gradient in the mended bound.
    In which share of random networks does it hold?
    """
    shares = [100 * each.mean() for each in experiment.shares_by_spread().values()]
    return "it depends on the kind of network", f"In {min(shares):.0f} to {max(shares):.0f} % of them, by kind."


@predict("in all", "in some", "in none")
def predict_second_form() -> Answer:
    """The second form was derived under a condition. In which share of random networks does it hold without it?"""
    share = (experiment.curvatures(Family(gamma=1.0)).margin >= 0).mean()
    return "in all" if share == 1 else "in none" if share == 0 else "in some", f"With tanh and γ = 1, in {share:.0%}."


@predict(
    "nothing: a theorem does not care",
    "made small it fails, made large it holds",
    "made large it fails, made small it holds",
)
def predict_units() -> Answer:
    """The loss is measured in another unit. What happens to the printed bound?"""
    small, large = ((experiment.right_over_left_4_4(unit, True) >= 1).mean() for unit in (0.01, 1000.0))
    return "made small it fails, made large it holds", f"It holds in {small:.0%} at 0.01, and in {large:.0%} at 1,000."


@predict("about as much", "much more", "less")
def predict_removed() -> Answer:
    """Of a random vector in 60 dimensions the projection takes two. Compared with that, how much do the gradients of a
    trained ReLU network with BN lose in layer 2, on all data?
    """
    removed, chance = experiment.removed("ReLU")[:, 1].mean(), 1 - np.sqrt(58 / 60)
    choice = "much more" if removed > 2 * chance else "less" if removed < 0.7 * chance else "about as much"
    return choice, f"{removed:.2%} of their length; a random vector in 60 dimensions {chance:.1%}."
