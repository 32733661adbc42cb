"""The explorables and pictures of the chapter "Check the theorems"."""

from functools import cache

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D
from torch import Tensor

from utils.explore import Drawing, control, explore, picture
from utils.style import ARMS, DATA, FAINT, INK, MUTED, PAPER, WIDTH, draw_arm, figure, label, number
from utils.sweeps import sweep
from utils.theory import (
    Curved,
    Family,
    Unit,
    Watched,
    draw,
    eps_term,
    first_unit,
    inner,
    lemma_4_5,
    project,
    residual,
    second_order,
    standardize,
    theorem_4_1,
    theorem_4_2,
    theorem_4_4,
    watch,
)
from utils.training import Settings

BLUE = ARMS["bn"].colour
N = 1000  # random networks a state
DASHED = (0, (4, 2))


@cache
def units(family: Family, n: int = N, seed: int = 0) -> Unit:
    """Return one unit of each of n random networks, with its gradients.

    >>> units(Family(m=8), n=3).y.shape
    torch.Size([3, 8])
    """
    return first_unit(draw(family, n, seed))


@cache
def curved(family: Family, n: int = N, seed: int = 0) -> Curved:
    """Return the same networks' quadratic forms.

    >>> curved(Family(m=8), n=3).at_y.shape
    torch.Size([3])
    """
    return second_order(draw(family, n, seed))


# --- Theorem 4.1 --------------------------------------------------------------------------------------------------

BATCHES = (4, 8, 16, 32, 64, 128, 256)


@cache
def needed(m: int, n: int = 40) -> np.ndarray:
    """What must stand before <g, y_hat>^2 to make both sides of Theorem 4.1 equal, in n networks.

    >>> abs(needed(8) - 1 / 8).max() < 1e-9
    np.True_
    """
    unit = first_unit(draw(Family(m=m), n, seed=1))
    first, second, with_one = theorem_4_1(unit.g, unit.y, exponent=0)
    found = (first + second - inner(unit.v, unit.v)) / -with_one
    return found[inner(unit.g, standardize(unit.y)[0]).square() > 1e-6 * inner(unit.g, unit.g)].numpy()


@explore(
    a=control([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0], label="a, in 1/mᵃ"),
    m=control([4, 32, 128], label="batch size m", unit="examples"),
)
def which_power(a: float = 0.5, m: int = 32) -> Drawing:
    """Which power of the batch size makes the two sides of Theorem 4.1 agree?"""
    unit = units(Family(m=m))
    ratio = (sum(theorem_4_1(unit.g, unit.y, exponent=a)) / inner(unit.v, unit.v)).numpy()
    worst = np.abs(ratio - 1).max()

    fig, (left, right) = figure("factor needed", "relative error", height=3.2, left=0.78)
    for size in BATCHES:
        dots = needed(size)
        left.plot([size] * len(dots), dots, "o", color=DATA, markersize=5, alpha=0.5, markeredgewidth=0)
    sizes = np.array([2.5, 400])
    left.plot(sizes, sizes**-a, color=INK)
    left.plot(m, m**-a, "o", color=INK, markersize=7)
    left.set(xscale="log", yscale="log", xlim=sizes, ylim=(4e-4, 2.5), xlabel="batch size m")
    left.set_xticks([4, 32, 256], ["4", "32", "256"])
    left.minorticks_off()
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
    return f"{value:.0%} of the left" if value < 1 else f"{_rounded(value)} times the left"


def _rounded(value: float) -> str:
    """Two digits, in full.

    >>> _rounded(16_267.6), _rounded(-6.42)
    ('16,000', '−6.4')
    """
    return number(float(f"{value:.2g}"))


@picture
def epsilon() -> Drawing:
    """How far ε takes Theorem 4.1 off, for units of large and of small variance."""
    fig, (ax,) = figure("largest relative error in 1,000 networks", height=3.2, left=0.8)
    spreads = np.logspace(-2.5, 0.5, 13)
    said, worst = [], 0.0
    for eps, dashes in ((1e-5, "-"), (1e-3, DASHED)):
        off, mended = [], []
        for spread in spreads:
            unit = first_unit(draw(Family(spread=float(spread), eps=eps), N))
            terms = theorem_4_1(unit.g, unit.y, eps=eps)
            left = inner(unit.v, unit.v)
            off.append((sum(terms) / left - 1).abs().max().item())
            mended.append(((sum(terms) + eps_term(unit.g, unit.y, eps=eps)) / left - 1).abs().max().item())
        ax.plot(spreads, off, color=INK, linestyle=dashes)
        ax.plot(spreads, mended, color=DATA, linestyle=dashes)
        above = eps == 1e-3
        height, align = off[9] * (5 if above else 0.05), "bottom" if above else "top"
        ax.text(spreads[9], height, f"ε = {number(eps)}", color=INK, fontsize=10, va=align)
        said.append(f"{off[6]:.1g} for ε = {number(eps)} (at most {max(off):.0%} at any spread)")
        worst = max(worst, *mended)
    ax.text(0.01, 3e-14, "with the fourth term", color=DATA, fontsize=10)
    ax.set(xscale="log", yscale="log", ylim=(1e-17, 1e3), xlabel="spread of the unit (typical σ)")
    return fig, (
        f"At a spread of {spreads[6]:.1f} the equality without its fourth term is off by up to {' and '.join(said)}; "
        f"with that term by {number(worst, 1)} at any spread."
    )


# --- the hidden assumption ----------------------------------------------------------------------------------------

SPREADS = {0.15: "0.15", 1.0: "1", 3.0: "3"}
CHOICES = {"γ = 1, β = 0": "nothing", "γ = σ, β = 0": "scale", "γ = σ, β = μ": "both"}


@explore(
    nonlinearity=["tanh", "ReLU"],
    spread=control(list(SPREADS), label="spread of y"),
    constants=control(list(CHOICES), label="BN's constants"),
)
def two_networks(nonlinearity: str = "ReLU", spread: float = 0.15, constants: str = "γ = 1, β = 0") -> Drawing:
    """The same weights with and without BN: does the bound hold with the plain network's own gradient?"""
    unit = units(Family(nonlinearity=nonlinearity, spread=spread, matched=CHOICES[constants]))
    alive = (inner(unit.plain, unit.plain) > 0) & (inner(unit.v, unit.v) > 0)
    with_bn = inner(unit.v, unit.v)[alive].numpy()
    without = inner(unit.plain, unit.plain)[alive].numpy()
    bound = sum(theorem_4_1(unit.plain, unit.y, unit.gamma))[alive].numpy()
    holds = with_bn <= bound * (1 + 1e-12)
    ratio = np.sqrt(with_bn / without)

    fig, (left, right) = figure("one dot a network", "BN / plain", height=3.2, left=0.8)
    for which, colour in ((holds, DATA), (~holds, INK)):
        left.plot(bound[which], with_bn[which], "o", color=colour, markersize=2.6, alpha=0.45, markeredgewidth=0)
    ends = np.array([1e-7, 10.0])
    left.plot(ends, ends, color=MUTED, linewidth=1.2, linestyle=DASHED)
    left.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="bound, plain gradient", ylabel="‖v‖²")
    left.set_xticks([1e-6, 1e-3, 1])
    left.set_yticks([1e-6, 1e-3, 1])
    left.minorticks_off()
    left.text(0.05, 0.95, "violated", transform=left.transAxes, color=INK, fontsize=9, va="top")
    left.text(0.95, 0.05, "holds", transform=left.transAxes, color=DATA, fontsize=9, ha="right")
    right.hist(ratio.clip(0.1, 30), bins=np.logspace(-1, np.log10(30), 45), color=DATA)
    right.axvline(1, color=INK, linewidth=1.2, linestyle=DASHED)
    right.set(xscale="log", xlim=(0.09, 33), yticks=[], xlabel="length of gradient, ratio")
    right.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    right.minorticks_off()
    dead = "" if alive.all() else f" ({N - int(alive.sum())} networks whose unit is dead are left out)"
    return fig, (
        f"{nonlinearity}, spread {spread:g}, {constants}: the bound holds in {_share(holds)} of {alive.sum():,} "
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
def second_derivative(nonlinearity: str = "tanh", gamma: float = 1.0) -> Drawing:
    """The curvature along the gradient: the first form of Theorem 4.2, and the second."""
    family = Family(nonlinearity=nonlinearity, gamma=gamma)
    unit, forms = units(family), curved(family)
    first = theorem_4_2(unit.g, unit.y, unit.v, forms.along_v, gamma)
    second = theorem_4_2(unit.g, unit.y, unit.v, forms.along_g, gamma)
    error = residual(forms.at_y, *first).max().item()
    margin = ((sum(second) - forms.at_y) / torch.stack([*second, forms.at_y]).abs().amax(0)).numpy()
    condition = (forms.along_v <= forms.along_g).numpy()
    holds = margin >= 0

    fig, (left, right) = figure("first form", "second form", height=3.2, left=0.8)
    size = torch.stack(first).abs().amax(0)
    left.plot([-2, 2], [-2, 2], color=FAINT, linewidth=5, solid_capstyle="round")
    left.plot(sum(first) / size, forms.at_y / size, "o", color=DATA, markersize=2.6, alpha=0.4, markeredgewidth=0)
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
        f"{nonlinearity}, γ = {gamma:g}, {N:,} networks: the first form is an equality to {number(error, 1)}; the "
        f"second holds in {_share(holds)}, namely in {_share(holds[condition])} of those with v′Hv ≤ g′Hg and in "
        f"{_share(holds[~condition])} of the others."
    )


# --- Theorem 4.4 --------------------------------------------------------------------------------------------------

LOSS_UNITS = (0.01, 1.0, 10.0, 32.0, 100.0, 1000.0)  # 32 turns the mean over the batch into the sum


@explore(
    unit=control(LOSS_UNITS, label="the loss is multiplied by"),
)
def change_of_units(unit: float = 1.0) -> Drawing:
    """Measure the loss in another unit: do the printed bound and the repaired one care?"""
    fig, (left, right) = figure("at this unit", "share that holds", height=3.2)
    shares = []
    for each in LOSS_UNITS:
        values = {printed: _right_over_left(each, printed) for printed in (True, False)}
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
    right.set(xscale="log", ylim=(-0.05, 1.25), xlabel="the loss is multiplied by")
    right.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    for height, name, colour in ((0.93, "repaired", DATA), (0.12, "printed", INK)):
        right.text(0.017, height, name, transform=right.get_xaxis_transform(), color=colour, fontsize=9, va="center")
    right.minorticks_off()
    off = np.abs(now[False] - 1).max()
    return fig, (
        f"With the loss multiplied by {number(unit)}, the printed bound holds in {_share(now[True] >= 1)} of {N:,} "
        f"networks (its right side is {_rounded(now[True].min())} to {_rounded(now[True].max())} times the left, in "
        f"the median {_rounded(np.median(now[True]))} times); the repaired one is an equality in all of them, to "
        f"{number(off, 1)}."
    )


def _right_over_left(loss_unit: float, printed: bool, size: float = 1.0) -> np.ndarray:
    """Theorem 4.4's right side over its left, for every network."""
    each = units(Family())
    largest = size**2 * inner(loss_unit * each.v, loss_unit * each.v)
    return (sum(theorem_4_4(loss_unit * each.g, each.y, size, printed=printed)) / largest).numpy()


def _squeezed(ratio: np.ndarray) -> np.ndarray:
    """The power of ten, kept within ±10; where the ratio is not positive, -10."""
    return np.log10(np.maximum(ratio, 1e-10)).clip(-10, 10)


# --- Lemma 4.5 ----------------------------------------------------------------------------------------------------


@explore(
    angle=control([15, 45, 75, 89, 120], label="angle between start and optimum", unit="°"),
    length=control([0.5, 1.5, 3.0], label="length of the optimum"),
)
def nearest_optimum(angle: int = 45, length: float = 3.0) -> Drawing:
    """How far is it from a start to an optimum, with BN and without?"""
    turn = np.deg2rad(angle)
    start = torch.tensor([np.cos(turn), np.sin(turn)])
    optimum = torch.tensor([length, 0.0], dtype=torch.float64)
    near = lemma_4_5(start, optimum)
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


# --- the backward pass ---------------------------------------------------------------------------------------------

Y3 = torch.tensor([0.0, 1.0, 3.5], dtype=torch.float64)
UPSTREAM = {
    "any": torch.tensor([1.24, -0.88, 1.37], dtype=torch.float64),
    "all ones: of Σz": torch.ones(3, dtype=torch.float64),
    "z itself: of Σz²/2": standardize(Y3)[0],
}


@explore(
    azimuth=control(range(0, 360, 30), label="azimuth", unit="°", plays=True),
    upstream=control(list(UPSTREAM), label="gradient that comes in"),
)
def projection(azimuth: int = 30, upstream: str = "any") -> Drawing:
    """Three examples, so three dimensions: what of a gradient gets through BN?"""
    g, (y_hat, _) = UPSTREAM[upstream], standardize(Y3)
    one = torch.ones(3, dtype=torch.float64)
    flat = g - g.mean()
    kept = project(g, y_hat)
    third = torch.linalg.cross(one, y_hat)

    fig = Figure(figsize=(WIDTH, 3.5))
    ax: Axes3D = fig.add_axes((-0.04, -0.06, 0.72, 1.1), projection="3d", computed_zorder=False)
    ax.view_init(elev=22, azim=azimuth - 90)
    ax.set_axis_off()
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), zlim=(-1.5, 1.5), box_aspect=(1, 1, 1))
    to = torch.stack([y_hat / 3**0.5, third / third.norm(), one / 3**0.5])  # turned so that 1 stands upright
    round_ = np.linspace(0, 2 * np.pi, 60)
    ax.plot(3**0.5 * np.cos(round_), 3**0.5 * np.sin(round_), 0 * round_, color=FAINT, linewidth=1.6)
    for axis, name, at in ((2, "1", _unit(2) * 2.05), (0, "ŷ", _unit(0) * 2.05 + _unit(1) * 0.25)):
        _segment(ax, -_unit(axis) * 1.75, _unit(axis) * 1.75, color=MUTED, linewidth=1.1)
        ax.text(*at, name, color=MUTED, ha="center", va="center", fontweight="bold")
    _segment(ax, -_unit(1) * 1.75, _unit(1) * 1.75, color=FAINT, linewidth=7)
    for a, b in ((g, flat), (flat, kept)):
        _segment(ax, (to @ a).numpy(), (to @ b).numpy(), color=MUTED, linewidth=1.4, linestyle=(0, (1.5, 1.5)))
    _arrow(ax, (to @ g).numpy(), INK)
    tip, looked_from = (
        (to @ g).numpy(),
        np.array([np.cos(np.deg2rad(azimuth - 90)), np.sin(np.deg2rad(azimuth - 90)), 0]),
    )
    beside = np.cross(looked_from, tip)
    beside *= -0.24 * np.sign(beside[2] or 1) / np.linalg.norm(beside)
    at = 1.1 * tip + [0, 0, 0.16] if upstream == "any" else 0.55 * tip - beside
    ax.text(*at, "g", color=INK, ha="center", va="center", fontweight="bold")
    if kept.norm() > 1e-9:
        _arrow(ax, (to @ kept).numpy(), BLUE)
    else:
        ax.plot([0], [0], [0], "o", color=BLUE, markersize=7)
    fig.text(0.02, 0.93, "three examples", fontweight="bold", color=INK)

    bars = fig.add_axes((0.69, 0.2, 0.28, 0.62))
    parts = [g.sum() ** 2 / 3, inner(g, y_hat) ** 2 / 3, inner(kept, kept)]
    bars.bar(range(3), [float(part) for part in parts], color=[MUTED, MUTED, BLUE], width=0.62)
    bars.set_xticks(range(3), ["1", "ŷ", "left"])
    bars.set(ylim=(0, 3.3), yticks=[0, 1, 2, 3])
    bars.set_title("squared length")
    bars.grid(axis="x", visible=False)
    total = inner(g, g)
    return fig, (
        f"From azimuth {azimuth}°: of the squared length {total:.2f} of the gradient that comes in, {parts[0]:.2f} "
        f"lies along 1, {parts[1]:.2f} along ŷ, and {_nothing(parts[2])} on the one line that is left."
    )


def _nothing(part: Tensor) -> str:
    return "nothing" if part < 1e-20 else f"{part:.2f}"


def _unit(axis: int) -> np.ndarray:
    return np.eye(3)[axis]


def _segment(ax: Axes3D, a: np.ndarray, b: np.ndarray, **look) -> None:
    ax.plot(*np.stack([a, b], 1), solid_capstyle="round", **look)


def _arrow(ax: Axes3D, tip: np.ndarray, colour: str) -> None:
    """A line from 0 with two barbs in the plane through the vertical, so that it has a head from every side."""
    along = tip / np.linalg.norm(tip)
    across = np.cross(along, [0.31, 0.95, 0.05])
    across /= np.linalg.norm(across)
    up = np.cross(along, across)
    _segment(ax, np.zeros(3), tip, color=colour, linewidth=2.6)
    for side in (across, -across, up, -up):
        _segment(ax, tip, tip - 0.24 * along + 0.1 * side, color=colour, linewidth=2.2)


# --- trained networks -----------------------------------------------------------------------------------------------

SEEDS = 5
STEPS = 300
TRAINED = {
    "sigmoid": Settings(lr=1.0, steps=STEPS),
    "ReLU": Settings(nonlinearity="relu", init="he", steps=STEPS),
}
LOOKED_AT = {"60 images": 0, "all 1,437 images": 1}


@cache
def watched(network: str) -> dict[str, list[Watched]]:
    """Return five training runs without BN and five with it.

    >>> {arm: len(runs) for arm, runs in watched("ReLU").items()}
    {'plain': 5, 'bn': 5}
    """
    plain = TRAINED[network]
    with_bn = Settings(**{**vars(plain), "norm": "torch"})
    tasks = [(settings, seed) for settings in (plain, with_bn) for seed in range(SEEDS)]
    runs = sweep(watch, tasks, 1)
    return {"plain": runs[:SEEDS], "bn": runs[SEEDS:]}


@explore(
    network=list(TRAINED),
    layer=control([1, 2, 3], unit="of 3"),
    batch=control(list(LOOKED_AT), label="the batch"),
)
def in_training(network: str = "sigmoid", layer: int = 2, batch: str = "all 1,437 images") -> Drawing:
    """What the projection leaves of real gradients, and which sign ⟨g, ŷ⟩ has."""
    place = LOOKED_AT[batch]
    fig, (left, right) = figure("length left over", "units with ⟨g, ŷ⟩ > 0", height=3.2)
    said = []
    for arm, runs in watched(network).items():
        for ax, which in ((left, "left"), (right, "positive")):
            draw_arm(ax, arm, runs[0].step, [getattr(run, which)[:, place, layer - 1] for run in runs])
        ends = [[getattr(run, which)[-1, place, layer - 1] for run in runs] for which in ("left", "positive")]
        kept, signs = ([np.mean(end), np.std(end, ddof=1)] for end in ends)
        name = "BN's net" if arm == "bn" else "the plain net"
        said.append(
            f"{name} keeps {kept[0]:.3f} ± {kept[1]:.3f} of a gradient's length, and {signs[0]:.0%} ± {signs[1]:.0%} "
            f"of the units have ⟨g, ŷ⟩ > 0"
        )
    chance = np.sqrt(1 - 2 / (60 if place == 0 else 1437))
    left.axhline(chance, color=MUTED, linewidth=1.2, linestyle=DASHED)
    left.set(xlim=(0, STEPS), ylim=(0.5, 1.03), xlabel="training step", xticks=[0, 150, 300])
    right.set(xlim=(0, STEPS), ylim=(-0.02, 1.02), xlabel="training step", xticks=[0, 150, 300])
    right.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    right.axhline(0.5, color=MUTED, linewidth=1.2, linestyle=DASHED)
    _key(right)
    return fig, (f"{network}, layer {layer}, {batch}, after {STEPS} steps, {SEEDS} seeds: {'; '.join(said)}.")


def _key(ax: Axes) -> None:
    label(ax, "plain", 0.97, 0.95, "plain - -", transform=ax.transAxes, ha="right", va="top")
    label(ax, "bn", 0.97, 0.86, "BN —", transform=ax.transAxes, ha="right", va="top")
