"""One visual language: how every figure of the book looks, in light and in dark.

An *arm* of an experiment (plain, BN, noisy BN, ...) keeps its colour and its line style in every figure.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import ArrayLike
from PIL import Image

WIDTH = 5.4  # inches; text of 10 points is then legible where the figure is shrunk to a 390 px screen
DPI = 170
RIGHT = 0.2  # inches of margin
MINUS = "\N{MINUS SIGN}"
DASHED, DOTTED = (0, (4, 2)), (0, (1, 1.2))  # of lines that belong to no arm
GAP = 0.085  # of a panel's height, between two names at the ends of lines


@dataclass(frozen=True)
class Arm:
    """How one arm of an experiment is named and drawn."""

    label: str
    colour: str
    dashes: str | tuple = "-"


PAPER, INK, MUTED, FAINT = "#ffffff", "#1f2430", "#626b7a", "#d9dde4"
DATA = "#51688f"  # data that belong to no arm

ARMS = {
    "plain": Arm("plain", "#bf4c00", (0, (5, 1.6))),
    "bn": Arm("BN", "#0067b1"),
    "bn, no scale and shift": Arm("BN, no γ, β", "#00727f", (0, (3, 1))),
    "noisy": Arm("noisy BN", "#8a3f9b", (0, (6, 1.5, 1.2, 1.5))),
    "noisy plain": Arm("noise, no BN", "#806000", (0, (1.2, 1.2))),
    "l1": Arm("l1", "#1a7a3c", (0, (3, 1, 1, 1))),
    "l2": Arm("l2", "#5f7300", (0, (8, 1.5))),
    "linf": Arm("l∞", "#a3364e", (0, (2, 2))),
    "bn, re-estimated": Arm("BN, re-estimated", "#b8127d", (0, (5, 1, 1, 1, 1, 1))),
}
# These borrow a colour from an arm that no figure shows beside them (`FAMILIES`).
ARMS |= {
    "layer": Arm("layer norm", ARMS["l1"].colour, (0, (4, 1, 1, 1))),
    "group": Arm("group norm", ARMS["l2"].colour, (0, (9, 2))),
    "instance": Arm("instance norm", ARMS["bn, re-estimated"].colour, (0, (2, 1))),
    "rms": Arm("RMS norm", ARMS["linf"].colour, (0, (1, 0.8, 3, 0.8))),
    "dyt": Arm("DyT", ARMS["noisy plain"].colour, (0, (1, 1))),
    "bn, zero gamma": Arm("BN, γ = 0 at first", ARMS["bn, no scale and shift"].colour, (0, (4, 1.4))),
    "skipinit": Arm("SkipInit", ARMS["noisy"].colour, (0, (7, 1, 1, 1))),
    "centre": Arm("centred only", ARMS["bn, no scale and shift"].colour, (0, (5, 1.2, 1, 1.2))),
    "scale": Arm("scaled only", ARMS["noisy"].colour, (0, (2.4, 1.2))),
    "centre, rms": Arm("centred, RMS", ARMS["l2"].colour, (0, (6, 1))),
    "bn, mean held": Arm("mean held", ARMS["noisy"].colour, (0, (3.5, 1.5))),
    "bn, variance held": Arm("variance held", ARMS["bn, no scale and shift"].colour, (0, (1.6, 1.6))),
    "bn, both held": Arm("both held", ARMS["noisy plain"].colour, (0, (5, 2.5))),
    "bn, after": Arm("BN after", ARMS["bn, no scale and shift"].colour, (0, (8, 1, 2, 1))),
}
FAMILIES = (
    ("plain", "bn", "bn, no scale and shift", "bn, re-estimated"),
    ("plain", "bn", "noisy", "noisy plain", "l1", "l2", "linf"),
    ("plain", "bn", "layer", "group", "instance", "rms", "dyt", "bn, after"),
    ("plain", "bn", "bn, zero gamma", "skipinit", "layer"),
    ("plain", "bn", "centre", "scale", "centre, rms", "layer", "rms"),
    ("plain", "bn", "bn, mean held", "bn, variance held", "bn, both held"),
)

# The Okabe-Ito hues, darkened for white paper (left) and lightened for dark (right).
DARK = {
    PAPER: "#14181e",
    INK: "#e6e9ef",
    MUTED: "#a0a9b8",
    FAINT: "#39414d",
    DATA: "#8fa9d3",
    ARMS["plain"].colour: "#ff9d57",
    ARMS["bn"].colour: "#5fb8f5",
    ARMS["bn, no scale and shift"].colour: "#45cfdd",
    ARMS["noisy"].colour: "#dc9be8",
    ARMS["noisy plain"].colour: "#e5c14b",
    ARMS["l1"].colour: "#6fd08a",
    ARMS["l2"].colour: "#c3d151",
    ARMS["linf"].colour: "#ff94a6",
    ARMS["bn, re-estimated"].colour: "#ff8fd0",
}

matplotlib.rcParams.update(
    {
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.labelsize": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.edgecolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "axes.facecolor": PAPER,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.7,
        "lines.linewidth": 2.2,
        "figure.dpi": DPI,
        "savefig.dpi": DPI,
    }
)


def figure(
    *panels: str, height: float = 3.3, rows: int = 1, left: float = 0.62, bottom: float = 0.55
) -> tuple[Figure, list[Axes]]:
    """Make a figure of the book's width with one titled panel for each name, and margins fixed in inches.

    >>> fig, (before, after) = figure("before", "after")
    >>> before.get_title(loc="left")
    'before'
    """
    fig = Figure(figsize=(WIDTH, height))
    columns = -(-len(panels) // rows)
    axes = fig.subplots(rows, columns, squeeze=False).ravel().tolist()
    across = (WIDTH - left - RIGHT) / columns
    down = (height - bottom - 0.36) / rows
    fig.subplots_adjust(
        left=left / WIDTH,
        right=1 - RIGHT / WIDTH,
        bottom=bottom / height,
        top=1 - 0.36 / height,
        wspace=0.62 / (across - 0.62 + 0.62 / columns),
        hspace=0.85 / (down - 0.85 + 0.85 / rows),
    )
    for ax, title in zip(axes, panels, strict=True):
        ax.set_title(title)
    return fig, axes


# --- axes ------------------------------------------------------------------------------------------------------------


def step_axis(ax: Axes, stop: int, start: int = 0, ticks: int = 4) -> None:
    """Let x be the training step, from `start` to `stop`, with about `ticks` round numbers."""
    ax.set(xlim=(start, stop), xlabel="training step")
    ax.locator_params(axis="x", nbins=ticks, steps=[1, 2, 3, 5, 10])
    ax.xaxis.set_major_formatter("{x:,.0f}")


def percent_axis(axis: Axis, low: float = 0.0, high: float = 1.0, step: float = 0.25) -> None:
    """Let the axis be a share from `low` to `high`, in per cent.

    >>> fig, (ax,) = figure("accuracy")
    >>> percent_axis(ax.yaxis)
    >>> [tick.get_text() for tick in ax.get_yticklabels()]
    ['0 %', '25 %', '50 %', '75 %', '100 %']
    """
    axis.set_ticks(np.arange(low, high + 1e-9, step))
    axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    _set(axis, lim=(low - 0.02 * (high - low) * (low > 0), high + 0.02 * (high - low)))


def log_axis(axis: Axis, limits: Sequence[float], ticks: Sequence[float] | None = None) -> None:
    """Make the axis logarithmic, with numbers that a reader expects at `ticks`; by default at the powers of ten.

    >>> fig, (ax,) = figure("loss")
    >>> log_axis(ax.yaxis, (0.005, 30))
    >>> [tick.get_text() for tick in ax.get_yticklabels()]
    ['0.01', '0.1', '1', '10']
    """
    low, high = limits
    if ticks is None:
        ticks = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
    _set(axis, scale="log", lim=(low, high))
    axis.set_ticks(ticks)
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.axes.tick_params(axis=axis.axis_name, which="minor", length=0)
    axis.set_ticks([], minor=True)


def category_axis(ax: Axes, names: Sequence[str]) -> None:
    """Let y be named rows, the first at the top."""
    ax.set(ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), names)
    ax.grid(axis="y", visible=False)


def share_y(*panels: Axes) -> None:
    """Let neighbours have one vertical axis, whose numbers stand at the first alone, and move them together."""
    for ax in panels[1:]:
        ax.set_ylim(panels[0].get_ylim())
        ax.tick_params(labelleft=False)
    panels[0].figure.subplots_adjust(wspace=0.12)


def _set(axis: Axis, **what: object) -> None:
    axis.axes.set(**{f"{axis.axis_name}{name}": value for name, value in what.items()})


# --- arms ------------------------------------------------------------------------------------------------------------


def look_of(arm: str | Arm) -> Arm:
    """An arm by its name; what is drawn beside the book's arms brings a look of its own."""
    return ARMS[arm] if isinstance(arm, str) else arm


def draw_arm(ax: Axes, arm: str | Arm, x: ArrayLike, runs: ArrayLike, *, seeds: bool = True) -> None:
    """Draw the mean over `runs` (seeds, points) in the arm's colour, and with `seeds` each single run behind it."""
    look, runs = look_of(arm), np.atleast_2d(runs)
    if seeds and len(runs) > 1:
        ax.plot(x, runs.T, color=look.colour, alpha=0.28, linewidth=0.9)
    ax.plot(x, runs.mean(0), color=look.colour, linestyle=look.dashes)


def draw_arms(ax: Axes, x: ArrayLike, curves: Mapping[str | Arm, ArrayLike], gap: float = GAP) -> None:
    """Draw every arm's runs (seeds, points) and name it at its line's end; set limits and scale of the axes before.

    The figure's right margin is made as wide as the names need.
    """
    for arm, runs in curves.items():
        draw_arm(ax, arm, x, runs)
    ends = {arm: float(np.atleast_2d(runs)[:, -1].mean()) for arm, runs in curves.items()}
    make_room(ax.figure, *(look_of(arm).label for arm in curves))
    label_ends(ax, ends, gap)


def make_room(fig: Figure, *names: str) -> None:
    """Make the right margin wide enough for these names beside the last panel."""
    fig.subplots_adjust(right=1 - (0.18 + 0.092 * max(map(len, names))) / WIDTH)


def dot_row(ax: Axes, place: float, arm: str | Arm, values: ArrayLike, marker: str = "o") -> None:
    """Draw one dot a seed at the height `place`, and a large one for their mean."""
    look, values = look_of(arm), np.asarray(values, dtype=float)
    settings = {"color": look.colour, "markeredgewidth": 0, "linestyle": "", "marker": marker}
    ax.plot(values, np.full(len(values), place), alpha=0.4, markersize=4.5, **settings)
    ax.plot(values.mean(), place, markersize=8, **settings)


def dot_rows(ax: Axes, rows: Mapping[str, Mapping[str | Arm, ArrayLike]], apart: float = 0.28) -> None:
    """Draw one named row a case, and in it the arms one under the other, as :func:`dot_row` does each."""
    category_axis(ax, list(rows))
    for row, arms in enumerate(rows.values()):
        for i, (arm, values) in enumerate(arms.items()):
            dot_row(ax, row + apart * (i - (len(arms) - 1) / 2), arm, values)


def key(ax: Axes, arms: Sequence[str | Arm], x: float = 0.03, top: float = 0.36, step: float = 0.078) -> None:
    """Name the arms in a corner of the panel, one under another, each beside a piece of its line."""
    for row, arm in enumerate(arms):
        look, y = look_of(arm), top - step * (row + 0.5)
        line = {"color": look.colour, "linestyle": look.dashes, "linewidth": 1.8}
        ax.plot([x, x + 0.13], [y, y], transform=ax.transAxes, **line)
        label(ax, look, x + 0.16, y, fontsize=9, va="center", transform=ax.transAxes)


def label(ax: Axes, arm: str | Arm, x: float, y: float, text: str = "", **text_settings) -> None:
    """Write the arm's name, or `text`, at (x, y) in the arm's colour: a direct label in place of a legend."""
    look = look_of(arm)
    settings = {"color": look.colour, "fontweight": "bold", **text_settings}
    ax.text(x, y, text or look.label, **settings)


def label_ends(ax: Axes, ends: Mapping[str | Arm, float], gap: float = GAP) -> None:
    """Name each arm at the right end of its line, `ends[arm]`, inside the panel's height.

    Names nearer than `gap` of the axis move apart.
    """
    ordered, to_axes = sorted(ends, key=ends.get), ax.transAxes.inverted().transform
    heights = [to_axes(ax.transData.transform((0, ends[arm])))[1] for arm in ordered]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], 1 - gap * (len(heights) - 1 - i))
    for arm, height in zip(ordered, heights, strict=True):
        label(ax, arm, 1, height, f" {look_of(arm).label}", va="center", transform=ax.transAxes)


def guessing(ax: Axes, x: float, share: float = 0.1) -> None:
    """Draw the accuracy of guessing, and say so at `x`."""
    ax.axhline(share, color=MUTED, linewidth=1, linestyle=":")
    ax.text(x, share - 0.015, "guessing", color=MUTED, fontsize=9, ha="center", va="top")


def running_mean(curves: ArrayLike, window: int) -> np.ndarray:
    """The mean over `window` neighbours along the last axis: (..., n) -> (..., n - window + 1).

    >>> running_mean([1.0, 3.0, 5.0], 2).tolist()
    [2.0, 4.0]
    """
    return np.lib.stride_tricks.sliding_window_view(np.asarray(curves, dtype=float), window, axis=-1).mean(-1)


# --- words -----------------------------------------------------------------------------------------------------------


def told(
    values: Mapping[str | Arm, ArrayLike], say: Callable[[ArrayLike], str] | None = None, joint: str = ", "
) -> str:
    """Say each arm's name and its values, by :func:`spread` unless `say` says how.

    >>> told({"plain": [1.0, 3.0], "bn": [2.0, 2.0]})
    'plain 2.00 ± 1.41, BN 2.00 ± 0.00'
    """
    return joint.join(f"{look_of(arm).label} {(say or spread)(each)}" for arm, each in values.items())


def between(interval: Sequence[float], digits: int = 2) -> str:
    """Write an estimate with its 95 % interval (see `utils.intervals`), with so many significant digits.

    >>> between((2.04, -0.48, 114.2))
    '2 [−0.48, 110]'
    """
    middle, low, high = (rounded(each, digits) for each in interval)
    return f"{middle} [{low}, {high}]"


def spread(values: ArrayLike, digits: int = 2) -> str:
    """Write the mean and the standard deviation over seeds.

    >>> spread([1.0, 3.0])
    '2.00 ± 1.41'
    """
    return f"{np.mean(values):,.{digits}f} ± {np.std(values, ddof=1):,.{digits}f}"


def per_cent(values: ArrayLike) -> str:
    """The same of shares, in per cent.

    >>> per_cent([0.90, 0.92])
    '91.0% ± 1.4%'
    """
    return f"{np.mean(values):.1%} ± {np.std(values, ddof=1):.1%}"


def true_minus(text: str) -> str:
    """Write the minus of every negative number in a text as a minus, and leave hyphens and ranges alone.

    >>> true_minus("from -0.5 to .5 in a batch-wise run, 3-4 times")
    'from −0.5 to .5 in a batch-wise run, 3-4 times'
    """
    return re.sub(r"(?<![\w.])-(?=[\d.])", MINUS, text)


def number(value: float, digits: int = 4) -> str:
    """Write a number as a reader expects it: a true minus sign, no "-0", powers of ten as powers.

    >>> number(-0.25), number(60_000), number(1e-05), number(4.4e-16, 1), number(-0.0001 * 0)
    ('−0.25', '60,000', '10⁻⁵', '4·10⁻¹⁶', '0')
    """
    if isinstance(value, int) or (abs(value) >= 1000 and float(value).is_integer()):
        return f"{value:,.0f}".replace("-", MINUS)
    mantissa, _, exponent = f"{value + 0.0:.{digits}g}".partition("e")
    if exponent:
        power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return power if mantissa == "1" else f"{mantissa}·{power}".replace("-", MINUS)
    return mantissa.replace("-", MINUS)


def rounded(value: float, digits: int = 2) -> str:
    """Write a number with so many significant digits, in full where it is large.

    >>> rounded(16_267.6), rounded(-6.42)
    ('16,000', '−6.4')
    """
    return number(float(f"{value:.{digits}g}"))


def _dark(colour) -> tuple[float, float, float, float] | str:
    """The dark counterpart of a colour of the palette, with its opacity; another colour stays as it is."""
    if isinstance(colour, str) and colour in ("none", "auto"):
        return colour
    *_, alpha = to_rgba(colour)
    return to_rgba(DARK.get(to_hex(colour), colour), alpha)


def darken(fig: Figure) -> Figure:
    """Exchange, in place, every colour of the palette for its dark counterpart; images and colour maps stay."""
    for artist in fig.findobj():
        if isinstance(artist, Text):
            artist.set_color(_dark(artist.get_color()))
        elif isinstance(artist, Line2D):
            artist.set_color(_dark(artist.get_color()))
            artist.set_markerfacecolor(_dark(artist.get_markerfacecolor()))
            artist.set_markeredgecolor(_dark(artist.get_markeredgecolor()))
        elif isinstance(artist, Patch):
            artist.set_edgecolor(_dark(artist.get_edgecolor()))
            artist.set_facecolor(_dark(artist.get_facecolor()))
        elif isinstance(artist, Collection) and artist.get_array() is None:
            artist.set_edgecolor([_dark(colour) for colour in artist.get_edgecolor()])
            artist.set_facecolor([_dark(colour) for colour in artist.get_facecolor()])
    return fig


def render(fig: Figure) -> Image.Image:
    """Draw the figure with Agg into an RGB picture."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
