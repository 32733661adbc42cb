"""The figures of the chapter "Normalisation"."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from utils.data import digits
from utils.experiments.normalise import (
    BATCH_SIZES,
    DRAWN,
    IMAGES,
    NETWORKS,
    Moved,
    image_at,
    in_company,
    layer_values,
    scaled_and_shifted,
    shapes,
    small_batch,
)
from utils.explore import Answer, Drawing, control, exercise, explore, picture, predict
from utils.style import ARMS, DASHED, DATA, FAINT, INK, MUTED, category_axis, figure, number, share_y


@picture
def before_and_after(x: Tensor, x_hat: Tensor, units: int = 6) -> Drawing:
    """The first units of a hidden layer over one batch, before and after normalising."""
    fig, (before, after) = figure("before", "after", height=3.0)
    for ax, values in ((before, x), (after, x_hat)):
        ax.axvline(0, color=MUTED, linewidth=1)
        for unit in range(units):
            column = values[:, unit].double()
            ax.plot(column, [unit] * len(column), "o", color=DATA, alpha=0.25, markersize=4, markeredgewidth=0)
            ax.plot(column.mean(), unit, "|", color=INK, markersize=17, markeredgewidth=2.2)
        category_axis(ax, [str(unit) for unit in range(units)])
        ax.set_xlabel("value")
    before.set_ylabel("unit")
    share_y(before, after)
    means, std = x[:, :units].mean(0), x[:, :units].std(0, correction=0)
    return fig, (
        f"Before, the {units} units have means from {means.min():.1f} to {means.max():.1f} and standard deviations "
        f"from {std.min():.1f} to {std.max():.1f}; after, every mean is 0 and every standard deviation 1."
    )


STAGES = {"as it comes": 0, "minus the mean": 1, "over the standard deviation": 2}


@explore(unit=control([1, 2, 3, 4], unit="of 4"), stage=list(STAGES))
def table_of_a_batch(unit: int = 1, stage: str = "as it comes") -> Drawing:
    """A batch is a table: one row an example, one column a unit, and each column has its own mean."""
    x = small_batch()
    mean, std = x.mean(0), x.std(0, correction=0)
    values = (x, x - mean, (x - mean) / std)[STAGES[stage]]
    fig, (ax,) = figure("", height=3.7, left=0.2, bottom=0.1)
    ax.set_axis_off()
    N, C = values.shape
    rows = [*values.tolist(), values.mean(0).tolist(), values.std(0, correction=0).tolist()]
    names = [*(f"image {n + 1}" for n in range(N)), "mean", "std"]
    for row, (name, cells) in enumerate(zip(names, rows, strict=True)):
        y, is_statistic = row + 0.5 * (row >= N), row >= N
        ax.text(-0.1, y, name, ha="right", va="center", color=MUTED if row < N else INK, fontsize=10)
        for c, cell in enumerate(cells):
            lit = c == unit - 1
            ax.add_patch(
                Rectangle((c, y - 0.46), 0.94, 0.92, facecolor=DATA if lit else FAINT, alpha=0.35, edgecolor="none")
            )
            weight = "bold" if is_statistic and lit else "normal"
            ax.text(c + 0.47, y, number(round(cell, 2) + 0.0, 3), ha="center", va="center", fontweight=weight)
    for c in range(C):
        ax.text(c + 0.47, -0.85, f"unit {c + 1}", ha="center", color=INK if c == unit - 1 else MUTED)
    ax.set(xlim=(-1.1, C), ylim=(N + 2.1, -1.3))
    column = values[:, unit - 1]
    return fig, (
        f"{N} images, {C} units, {stage}: the column of unit {unit} has mean {_fixed(column.mean())} and standard "
        f"deviation {_fixed(column.std(correction=0))}."
    )


@picture
def where_in_a_network() -> Drawing:
    """Where BN stands: between the product Wu and the nonlinearity, in every hidden layer."""
    fig, (ax,) = figure("", height=1.5, left=0.1, bottom=0.05)
    fig.subplots_adjust(right=0.99)
    ax.set_axis_off()
    parts = ["u", "Wu", "BN", "ReLU", "Wu", "BN", "ReLU", "Wu", "scores"]
    for x, part in enumerate(parts):
        is_box = part in ("Wu", "BN", "ReLU")
        face = {"BN": ARMS["bn"].colour, "Wu": FAINT, "ReLU": FAINT}.get(part, "none")
        if is_box:
            ax.add_patch(Rectangle((x - 0.36, 0.0), 0.72, 0.8, facecolor=face, alpha=0.55, edgecolor="none"))
        bold = "bold" if part == "BN" else "normal"
        ax.text(x, 0.4, part, ha="center", va="center", fontsize=10, fontweight=bold)
        if x:
            arrow = {"arrowstyle": "->", "color": MUTED, "linewidth": 1.2}
            ax.annotate("", (x - 0.37, 0.4), (x - 0.63, 0.4), arrowprops=arrow)
    for x, text in ((2, "hidden layer 1"), (5, "hidden layer 2"), (7.4, "last layer")):
        ax.text(x, -0.3, text, ha="center", va="top", color=MUTED, fontsize=9)
    ax.set(xlim=(-0.5, len(parts) - 0.3), ylim=(-0.75, 1.1))
    return fig, (
        "In each hidden layer: the product Wu, then BN, then the nonlinearity. The last layer gives the scores and has "
        "no BN. A bias before BN would be subtracted with the mean, so there is none."
    )


@explore(
    batch_size=control(list(BATCH_SIZES), unit="examples"),
    image=control(list(IMAGES), label="our image"),
)
def company(batch_size: int = 256, image: str = "typical") -> Drawing:
    """One image in a thousand random batches: what the batch says of the whole, and of the image."""
    unit = layer_values()[:, 0]
    place = image_at(unit, IMAGES[image])
    alone, means, values = in_company(unit, place, batch_size)

    fig, (left, right) = figure("mean of the batch", "our image, normalised", height=3.1)
    _histogram(left, means, (-2.2, 2.2))
    _histogram(right, values, (-3, 3))
    for ax, x, side in ((left, 0, "left"), (right, alone, "left" if alone < 0 else "right")):
        ax.axvline(x, color=INK, linewidth=1.4, linestyle=DASHED)
        ax.text(
            x, 0.97, " whole \n data ", transform=ax.get_xaxis_transform(), color=INK, fontsize=9, va="top", ha=side
        )
        ax.set_xlabel("standard deviations")
        ax.set_yticks([])
        ax.set_ylim(0, 1.55 * ax.get_ylim()[1])
    inset = right.inset_axes((0.02 if alone > 0 else 0.68, 0.62, 0.3, 0.36))
    inset.imshow(digits().x_train[place].reshape(8, 8), cmap="gray_r")
    inset.set(xticks=[], yticks=[])
    inset.spines[:].set_visible(True)
    return fig, (
        f"In {DRAWN:,} batches of {batch_size}, the mean strays from that of the whole data by {means.std():.2f} "
        f"standard deviations, and our image's normalised value is {_fixed(values.mean())} ± {values.std():.2f}; "
        f"by the whole data it would be {_fixed(alone)}."
    )


def _fixed(value: float | Tensor) -> str:
    return f"{round(float(value), 2) + 0.0:.2f}"  # and never "-0.00"


def _histogram(ax: Axes, values: Tensor, limits: tuple[float, float], bins: int = 44) -> None:
    ax.hist(values.clamp(*limits).numpy(), bins=np.linspace(*limits, bins + 1), color=DATA)
    ax.set_xlim(*limits)


@explore(
    scale=control([-1.0, 0.001, 0.01, 0.1, 1.0, 10.0, 1000.0]),
    shift=control([-10.0, 0.0, 10.0]),
    eps=control([0.0, 1e-5, 1e-3], label="epsilon"),
)
def thrown_away(scale: float = 1.0, shift: float = 0.0, eps: float = 0.0) -> Drawing:
    """Scale and shift a unit as you like: what does normalising notice?"""
    changed = scaled_and_shifted(layer_values()[:60, :1], scale, shift, eps)
    moved, x_hat, x_hat_moved = changed

    fig, (left, right) = figure("what comes in", "what goes out", height=3.2)
    span = max(moved.max() - moved.min(), 1e-9)
    left.hist(moved.squeeze().numpy(), bins=18, color=MUTED)
    left.set(xlabel="scale · x + shift", xlim=(moved.min() - 0.05 * span, moved.max() + 0.05 * span), yticks=[])
    left.locator_params(axis="x", nbins=3)
    left.ticklabel_format(useOffset=False)
    right.plot([-3, 3], [-3, 3], color=FAINT, linewidth=5, solid_capstyle="round")
    right.plot(x_hat, x_hat_moved, "o", color=DATA, alpha=0.6, markersize=4.5, markeredgewidth=0)
    right.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xlabel="normalised x", ylabel="normalised, moved x")
    right.text(-2.9, 2.9, "on the line:\nnothing changed", color=MUTED, fontsize=9, va="top")
    return fig, (
        f"Scaled by {number(scale)} and shifted by {number(shift)}, the unit has variance "
        f"{number(moved.var(correction=0).item(), 3)}. With ε = {number(eps)}, the largest difference among the 60 "
        f"normalised values is {number(changed.largest_difference, 1)}: {_verdict(scale, shift, changed)}."
    )


def _verdict(scale: float, shift: float, changed: Moved) -> str:
    if (scale, shift) == (1, 0):
        return "nothing was moved"
    if scale < 0:
        return "every sign is turned round"
    if changed.largest_difference < 1e-10:
        return "rounding, and nothing else"
    return "you would hardly see it" if changed.largest_difference < 0.02 else "ε now matters"


@explore(
    nonlinearity=list(NETWORKS),
    layer=control([1, 2, 3], unit="of 3"),
    is_trained=control([False, True], label="trained"),
)
def where_it_stands(nonlinearity: str = "ReLU", layer: int = 2, is_trained: bool = True) -> Drawing:
    """The two places where BN could stand: before the nonlinearity, or after it."""
    before, after = shapes(nonlinearity, layer, is_trained)
    fig, axes = figure("before: Wu + b", f"after: {nonlinearity}(Wu + b)", height=3.1)
    x = np.linspace(-4, 4, 200)
    for ax, shape in zip(axes, (before, after), strict=True):
        ax.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=INK, linewidth=1.4, linestyle=DASHED)
        ax.hist(shape.values.flatten().clamp(-4, 4).numpy(), bins=np.linspace(-4, 4, 49), density=True, color=DATA)
        ax.set(xlim=(-4, 4), ylim=(0, 1.0), yticks=[], xlabel="each unit, standardised")
    axes[0].text(1.15, 0.36, "normal", color=INK, fontsize=9)
    if after.zeros > 0.01:
        axes[1].text(3.8, 0.9, f"{after.zeros:.0%} were\nexactly 0", color=INK, fontsize=9, ha="right", va="top")
    return fig, (
        f"Layer {layer}, {nonlinearity}, {'trained' if is_trained else 'untrained'}: the median unit's skewness "
        f"(without its sign) is {before.skewness:.2f} before the nonlinearity and {after.skewness:.2f} after it"
        + (f", where {after.zeros:.0%} of the values are exactly 0." if after.zeros > 0.01 else ".")
    )


# --- questions -----------------------------------------------------------------------------------------------------


@predict("the mean and the standard deviation", "the largest value", "the shape of the histogram", "all of them")
def predict_what_is_the_same() -> Answer:
    """From each column you subtract its own mean, and divide by its own standard deviation. What is then the same in
    every column?
    """
    return "the mean and the standard deviation", (
        "0 and 1 in each. The shapes stay what they were, so that the largest value is still each column's own."
    )


@predict("the same each time", "within half a standard deviation or so", "all over the place")
def predict_company() -> Answer:
    """One image is put into a thousand random batches of 16. Its normalised value will be ..."""
    unit = layer_values()[:, 0]
    spread = in_company(unit, image_at(unit, IMAGES["typical"]), 16).values.std().item()
    choice = (
        "the same each time"
        if spread < 0.01
        else "within half a standard deviation or so"
        if spread < 0.5
        else "all over the place"
    )
    return choice, f"It spreads by {spread:.2f} standard deviations; in batches of two nothing is left but a sign."


@predict("by a factor of 1,000", "by about 10", "not at all, but for rounding")
def predict_moved() -> Answer:
    """You multiply a unit by 1,000 and add 10, and then normalise. By how much do the values differ from before?"""
    off = scaled_and_shifted(layer_values()[:60, :1], 1000.0, 10.0).largest_difference
    return "not at all, but for rounding", (
        f"By {number(off, 1)} at most. Scale and shift are just what the two steps of normalising remove."
    )


@exercise(
    "`x.mean()` is one number for the whole table", "the ε is missing, nothing else", "it should divide by the variance"
)
def quiz_one_mean() -> Answer:
    """What is wrong, above all?"""
    return "`x.mean()` is one number for the whole table", (
        "Each unit needs its own mean, `x.mean(0)`, and its own standard deviation; units keep their different means "
        "otherwise. (The ε is missing, too, and `std()` divides by one less than the number of values.)"
    )
