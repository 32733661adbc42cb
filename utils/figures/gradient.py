"""The explorables of the chapter "The gradient"."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from mpl_toolkits.mplot3d import Axes3D
from torch import Tensor

from utils.experiments import gradient as experiment
from utils.experiments.gradient import BATCH_SIZES, FORMULAE, MISTAKES, STEPS, UPSTREAM_OF_ONE_UNIT, UPSTREAMS
from utils.experiments.theorem_lab import inner, project, standardize
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.style import ARMS, DASHED, DATA, DOTTED, FAINT, INK, MUTED, PAPER, WIDTH, figure, log_axis, number, rounded

BLUE, ORANGE = ARMS["bn"].colour, ARMS["plain"].colour

# --- the graph ----------------------------------------------------------------------------------------------------

HEIGHT = 3.42  # inches; the graph is drawn in inches
WIDE, TALL, LOW = 1.08, 0.98, 0.5  # of a box: a vector's, a number's
NODES = {  # name, place of its centre
    "x": ("x", (0.62, 1.62)),
    "centred": ("c = x − μ", (2.02, 1.62)),
    "x_hat": ("x̂ = c · r", (3.4, 1.62)),
    "y": ("y = γ x̂ + β", (4.78, 1.62)),
    "mean": ("μ", (1.0, 0.36)),
    "var": ("σ²", (2.4, 0.36)),
    "inv_sigma": ("r = 1/√(σ²+ε)", (3.8, 0.36)),
    "gamma": ("γ", (3.4, 2.86)),
    "beta": ("β", (4.78, 2.86)),
}
ARROWS = (  # forward, from where to where; the way back goes against them
    ("x", "centred"),
    ("x", "mean"),
    ("mean", "centred"),
    ("centred", "var"),
    ("var", "inv_sigma"),
    ("centred", "x_hat"),
    ("inv_sigma", "x_hat"),
    ("x_hat", "y"),
    ("gamma", "y"),
    ("beta", "y"),
)
BACK = (  # which nodes get their gradient at each step, by which formula
    ((), "", "nothing has come back yet"),
    (("y",), r"$\frac{\partial L}{\partial y_i} = g_i$", "the gradient of the loss arrives"),
    (
        ("beta", "gamma"),
        r"$\frac{\partial L}{\partial\beta} = \sum_i g_i, \quad"
        r" \frac{\partial L}{\partial\gamma} = \sum_i g_i\,\hat x_i$",
        "β and γ get their sums",
    ),
    (("x_hat",), r"$\frac{\partial L}{\partial\hat x_i} = \gamma\, g_i$", "it is multiplied by γ"),
    (
        ("inv_sigma",),
        r"$\frac{\partial L}{\partial r} = \sum_i \frac{\partial L}{\partial\hat x_i}\, c_i$",
        "r was used by every example, so their shares are added",
    ),
    (
        ("var",),
        r"$\frac{\partial L}{\partial\sigma^2} = -\frac{1}{2}\, r^3\, \frac{\partial L}{\partial r}$",
        "the derivative of one over a root",
    ),
    (
        ("centred",),
        r"$\frac{\partial L}{\partial c_i} = r\,\frac{\partial L}{\partial\hat x_i}"
        r" + \frac{2}{m}\, c_i\, \frac{\partial L}{\partial\sigma^2}$",
        "c went two ways, so two gradients are added",
    ),
    (
        ("mean",),
        r"$\frac{\partial L}{\partial\mu} = -\sum_i \frac{\partial L}{\partial c_i}$",
        "μ was subtracted from every example",
    ),
    (
        ("x",),
        r"$\frac{\partial L}{\partial x_i} = \frac{\partial L}{\partial c_i}"
        r" + \frac{1}{m}\, \frac{\partial L}{\partial\mu}$",
        "x went two ways as well",
    ),
)
SAID = {"centred": "c", "x_hat": "x̂", "mean": "μ", "var": "σ²", "inv_sigma": "r", "gamma": "γ", "beta": "β"}


@explore(
    step=control(range(len(BACK)), label="steps back", plays=True),
    upstream=control(list(UPSTREAM_OF_ONE_UNIT), label="gradient that arrives"),
)
def walk_back(step: int = 0, upstream: str = "from a loss") -> Drawing:
    """BN's graph for one unit and four images: values in black, gradients in blue."""
    seen = experiment.walked(upstream)
    done = [name for names, *_ in BACK[: step + 1] for name in names]
    now, formula, words = BACK[step]
    fig = Figure(figsize=(WIDTH, HEIGHT))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    ax.set_axis_off()
    for start, end in ARROWS:
        is_now, was = start in now, start in done and end in done
        _connect(ax, start, end, back=is_now or was, colour=BLUE if is_now else MUTED if not was else DATA, wide=is_now)
    for name in NODES:
        _box(ax, name, seen.values[name], seen.gradients[name] if name in done else None, name in now)
    ax.text(0.1, 3.2, "value", color=INK, fontsize=9.5, fontweight="bold", va="center")
    ax.text(0.62, 3.2, "gradient of L", color=BLUE, fontsize=9.5, fontweight="bold", va="center")
    ax.text(1.35, 2.62, formula, color=INK, fontsize=15, ha="center", va="center")
    if not now:
        return fig, f"Step 0, forward: four images at one unit, normalised, scaled and shifted; {words}."
    apart = max(seen.apart[name] for name in now)
    agrees = "to the last digit" if apart == 0 else f"to {number(apart, 1)}"
    told = "; ".join(f"∂L/∂{SAID.get(name, name)} = {_listed(seen.gradients[name])}" for name in now)
    return fig, f"Step {step}, {words}: {told}. Autograd agrees {agrees}."


def _box(ax: Axes, name: str, values: np.ndarray, gradients: np.ndarray | None, is_now: bool) -> None:
    title, (x, y) = NODES[name]
    tall = TALL if len(values) > 1 else LOW
    look = {"linewidth": 2.2 if is_now else 1, "edgecolor": BLUE if is_now else MUTED, "facecolor": PAPER}
    corner = (x - WIDE / 2, y - tall / 2)
    ax.add_patch(FancyBboxPatch(corner, WIDE, tall, boxstyle="round,pad=0,rounding_size=0.06", zorder=3, **look))
    top = y + tall / 2
    ax.text(x, top - 0.13, title, color=INK, fontsize=9.5, fontweight="bold", ha="center", va="center", zorder=4)
    for i, value in enumerate(values):
        look = {"fontsize": 9, "ha": "right", "va": "center", "zorder": 4}
        ax.text(x - 0.06, top - 0.34 - 0.18 * i, f"{value:.2f}".replace("-", "−"), color=INK, **look)
        if gradients is not None:
            ax.text(x + 0.5, top - 0.34 - 0.18 * i, _three(gradients[i]), color=BLUE, **look)


def _three(value: float | np.ndarray) -> str:
    value = float(np.squeeze(value))
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return (text if float(text) else "0.000").replace("-", "−")


def _listed(values: np.ndarray) -> str:
    return ", ".join(_three(value) for value in values)


def _connect(ax: Axes, start: str, end: str, back: bool, colour: str, wide: bool) -> None:
    """An arrow between two boxes, along the computation or against it."""
    (x0, y0), (x1, y1) = (NODES[name][1] for name in (start, end))
    half = {name: (TALL if name in ("x", "centred", "x_hat", "y") else LOW) / 2 for name in (start, end)}
    if y0 == y1:
        ends = [(x0 + WIDE / 2, y0), (x1 - WIDE / 2, y1)]
    else:
        down = y1 < y0
        inside = np.clip((x0 + x1) / 2, max(x0, x1) - WIDE / 2 + 0.1, min(x0, x1) + WIDE / 2 - 0.1)
        at = (inside, inside) if abs(x1 - x0) < WIDE - 0.2 else (x0 + WIDE / 2 - 0.1, x1 - WIDE / 2 + 0.1)
        towards = -1 if down else 1
        ends = [(at[0], y0 + towards * half[start]), (at[1], y1 - towards * half[end])]
    tip, tail = ends if back else ends[::-1]
    look = {"color": colour, "linewidth": 2.4 if wide else 1.1, "shrinkA": 0, "shrinkB": 1}
    ax.add_patch(FancyArrowPatch(tail, tip, arrowstyle="-|>", mutation_scale=11, zorder=2, **look))


# --- three ways ---------------------------------------------------------------------------------------------------


@explore(m=control(BATCH_SIZES, label="batch size m", unit="examples"))
def three_ways(m: int = 8) -> Drawing:
    """How much each x moves each x̂, in units of 1/σ: by itself, through the mean, through the variance."""
    found = experiment.real_paths(m)
    panels = {"own": found.own, "+ mean": found.mean, "+ variance": found.variance, "= all": found.together}
    fig, axes = figure(*panels, height=1.95, left=0.1, bottom=0.1)
    fig.subplots_adjust(wspace=0.12, right=0.985)
    for ax, matrix in zip(axes, panels.values(), strict=True):
        _squares(ax, matrix)
    own = np.diag(found.together)
    others = np.abs(found.together - np.diag(own)).sum(1) / np.abs(found.together).sum(1).clip(1e-12)
    if m == 2:
        return fig, "Two examples: the three ways cancel, and nothing of x reaches x̂."
    return fig, (
        f"{m} examples, in the order of their values: of its own way, 1, an example keeps {own.min():.2f} to "
        f"{own.max():.2f}; {others.mean():.0%} of what moves it comes from the others; {m - 2} of {m} directions "
        f"{'gets' if m == 3 else 'get'} through."
    )


def _squares(ax: Axes, matrix: np.ndarray) -> None:
    """A matrix as squares: the area is the size, blue is positive, orange negative."""
    m = len(matrix)
    for (row, column), value in np.ndenumerate(matrix):
        side = 0.94 * np.sqrt(abs(value))
        if side > 0.02:
            place = (column + 0.5 - side / 2, row + 0.5 - side / 2)
            ax.add_patch(Rectangle(place, side, side, color=BLUE if value > 0 else ORANGE, linewidth=0))
    ax.set(xlim=(0, m), ylim=(m, 0), aspect="equal", xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color=FAINT)


# --- the projection -----------------------------------------------------------------------------------------------

Y3 = torch.tensor([0.0, 1.0, 3.5], dtype=torch.float64)
G3 = {
    "any": torch.tensor([1.24, -0.88, 1.37], dtype=torch.float64),
    "all ones": torch.ones(3, dtype=torch.float64),
    "x̂ itself": standardize(Y3)[0],
}


@explore(
    azimuth=control(range(0, 360, 30), label="azimuth", unit="°", plays=True),
    upstream=control(list(G3), label="gradient that arrives"),
)
def projection(azimuth: int = 30, upstream: str = "any") -> Drawing:
    """Three examples, so three dimensions: what of a gradient gets through BN?"""
    g, (x_hat, _) = G3[upstream], standardize(Y3)
    one = torch.ones(3, dtype=torch.float64)
    flat, kept = g - g.mean(), project(g, x_hat)
    third = torch.linalg.cross(one, x_hat)

    fig = Figure(figsize=(WIDTH, 3.5))
    ax: Axes3D = fig.add_axes((-0.04, -0.06, 0.72, 1.1), projection="3d", computed_zorder=False)
    ax.view_init(elev=22, azim=azimuth - 90)
    ax.set_axis_off()
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), zlim=(-1.5, 1.5), box_aspect=(1, 1, 1))
    to = torch.stack([x_hat / 3**0.5, third / third.norm(), one / 3**0.5])  # turned so that 1 stands upright
    round_ = np.linspace(0, 2 * np.pi, 60)
    ax.plot(3**0.5 * np.cos(round_), 3**0.5 * np.sin(round_), 0 * round_, color=FAINT, linewidth=1.6)
    for axis, name, at in ((2, "1", _unit(2) * 2.05), (0, "x̂", _unit(0) * 2.05 + _unit(1) * 0.25)):
        _segment(ax, -_unit(axis) * 1.75, _unit(axis) * 1.75, color=MUTED, linewidth=1.1)
        ax.text(*at, name, color=MUTED, ha="center", va="center", fontweight="bold")
    _segment(ax, -_unit(1) * 1.75, _unit(1) * 1.75, color=FAINT, linewidth=7)
    for a, b in ((g, flat), (flat, kept)):
        _segment(ax, (to @ a).numpy(), (to @ b).numpy(), color=MUTED, linewidth=1.4, linestyle=DOTTED)
    tip = (to @ g).numpy()
    _arrow(ax, tip, INK)
    ax.text(*_beside(tip, azimuth, upstream == "any"), "g", color=INK, ha="center", va="center", fontweight="bold")
    if kept.norm() > 1e-9:
        _arrow(ax, (to @ kept).numpy(), BLUE)
    else:
        ax.plot([0], [0], [0], "o", color=BLUE, markersize=7)
    fig.text(0.02, 0.93, "three examples", fontweight="bold", color=INK)

    parts = [g.sum() ** 2 / 3, inner(g, x_hat) ** 2 / 3, inner(kept, kept)]
    bars = fig.add_axes((0.69, 0.2, 0.28, 0.62))
    bars.bar(range(3), [float(part) for part in parts], color=[MUTED, MUTED, BLUE], width=0.62)
    bars.set_xticks(range(3), ["1", "x̂", "left"])
    bars.set(ylim=(0, 3.3), yticks=[0, 1, 2, 3])
    bars.set_title("squared length")
    bars.grid(axis="x", visible=False)
    return fig, (
        f"From azimuth {azimuth}°: of the squared length {inner(g, g):.2f} of the gradient that arrives, "
        f"{parts[0]:.2f} lies along 1, {parts[1]:.2f} along x̂, and {_nothing(parts[2])} on the one line that is left."
    )


def _nothing(part: Tensor | float) -> str:
    return "nothing" if part < 1e-12 else f"{part:.2f}"


def _unit(axis: int) -> np.ndarray:
    return np.eye(3)[axis]


def _beside(tip: np.ndarray, azimuth: int, is_free: bool) -> np.ndarray:
    """Where the arrow's name stands, so that it covers no axis."""
    if is_free:
        return 1.1 * tip + [0, 0, 0.16]
    turn = np.deg2rad(azimuth - 90)
    beside = np.cross([np.cos(turn), np.sin(turn), 0], tip)
    return 0.55 * tip + 0.24 * np.sign(beside[2] or 1) * beside / np.linalg.norm(beside)


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


# --- a test -------------------------------------------------------------------------------------------------------


@explore(
    formula=list(FORMULAE),
    upstream=control(list(UPSTREAMS), label="gradient that arrives"),
    fresh=control(False, label="fresh layer: γ = 1, β = 0"),
)
def gradient_check(formula: str = "right", upstream: str = "all ones", fresh: bool = False) -> Drawing:
    """A backward pass beside central differences: does the test see what is wrong?"""
    found = experiment.tried(formula, upstream, fresh)
    fig, (left, right) = figure("one dot a value of x", "relative error", height=3.2, left=0.75)
    largest = max(np.abs(found.numerical).max(), np.abs(found.by_formula).max(), 0.1)
    ends = np.array([-1.15, 1.15]) * largest
    left.plot(ends, ends, color=MUTED, linewidth=1.2, linestyle=DASHED)
    colour = DATA if found.passes else ORANGE
    left.plot(found.numerical, found.by_formula, "o", color=colour, markersize=5, alpha=0.7, markeredgewidth=0)
    left.set(xlim=ends, ylim=ends, xlabel="central difference", ylabel="formula")
    left.locator_params(nbins=4)
    verdict = "passes" if found.passes else "caught"
    left.text(0.05, 0.95, verdict, transform=left.transAxes, color=colour, fontweight="bold", va="top")
    for single, look, name in ((True, MUTED, "32 bits"), (False, INK, "64 bits")):
        errors = experiment.errors_by_step(formula, upstream, fresh, single)
        errors = np.where(errors > 0, errors, np.nan)  # where both are zero there is none
        right.plot(STEPS, errors, "o-", color=look, markersize=3.5, linewidth=1.4)
        right.text(0.98, 0.11 if single else 0.03, name, transform=right.transAxes, color=look, fontsize=9, ha="right")
    log_axis(right.xaxis, (3e-13, 0.3), (1e-12, 1e-9, 1e-6, 1e-3))
    log_axis(right.yaxis, (1e-12, 5), (1e-12, 1e-9, 1e-6, 1e-3, 1))
    right.set_xlabel("step of the difference")
    size = np.abs(found.numerical).max()
    apart = np.abs(found.numerical - found.by_formula).max()
    true = "all zero, but for rounding" if size < 1e-6 else f"up to {rounded(size)}"
    return fig, (
        f"Formula: {formula}; arriving: {upstream}. The central differences are {true}; the formula is off by "
        f"{_off(apart)} at most and {verdict if found.passes else 'is caught'}. Its relative error is "
        f"{_off(found.relative)}."
    )


def _off(value: float) -> str:
    return "0" if value == 0 else number(value, 1 if value < 0.01 else 2)


# --- questions ----------------------------------------------------------------------------------------------------


@predict("0", "1", "2", "3")
def predict_ways() -> Answer:
    """A value x_i enters BN once. On how many different ways does it reach its own x̂_i?"""
    return (
        "3",
        "By itself, through the mean that is subtracted, and through the variance that it is divided by.",
    )


@predict(unit="numbers of three")
def predict_numbers_left() -> Answer:
    """Three examples, so the gradient g has three free numbers. How many are left of them after BN?"""
    return 1.0, "One: its mean and its part along x̂ are gone. Of a batch of two none is left."


@predict("0", "2", "4", "6")
def predict_blind() -> Answer:
    """Six wrong backward passes are tested with `y.sum().backward()`. How many does that test catch?"""
    passing = [each for each in MISTAKES if experiment.tried(each, "all ones").passes]
    return str(len(MISTAKES) - len(passing)), (
        f"These pass: {', '.join(passing)}. The right answer is zero, and so is theirs."
    )


@exercise(unit="")
def quiz_evaluation() -> Answer:
    """In evaluation mode the statistics are constants. A unit has γ = 3 and running variance 4 (ε = 0), and its g is 1
    for each of 8 images. What is the gradient at each x?
    """
    return 1.5, "γ/σ · g = 3/2: nothing is taken out, since neither the mean nor the variance moves with x."


@exercise(
    "the loss falls, slowly",
    "b moves at every step, and the loss stays where it is",
    "b does not move",
)
def quiz_detached() -> Answer:
    """A layer adds a bias b, then BN normalises, but the backward pass takes μ and σ for constants. What does gradient
    descent do?
    """
    return "b moves at every step, and the loss stays where it is", (
        "Its gradient is the sum of γ/σ · g, which is not zero; but μ takes b out again, so the loss, and with it the "
        "gradient, stays the same, and b goes on."
    )
