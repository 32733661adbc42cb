"""The explorables and pictures of the chapter "Normalise"."""

import numpy as np
from matplotlib.axes import Axes
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
)
from utils.explore import Drawing, control, explore, picture
from utils.style import DASHED, DATA, FAINT, INK, MUTED, category_axis, figure, number, share_y


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


@explore(
    batch_size=control(list(BATCH_SIZES), unit="examples"),
    image=control(list(IMAGES), label="our image"),
)
def company(batch_size: int = 16, image: str = "typical") -> Drawing:
    """One image in a thousand random batches: what the batch says of the whole, and of the image."""
    unit = layer_values()[:, 0]
    place = image_at(unit, IMAGES[image])
    alone, means, values = in_company(unit, place, batch_size)

    fig, (left, right) = figure("mean of the batch", "our image, normalised", height=3.1)
    _histogram(left, means, (-2.2, 2.2))
    _histogram(right, values, (-3, 3))
    for ax, x, side in ((left, 0, "left"), (right, alone, "left" if alone > 0 else "right")):
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
def thrown_away(scale: float = 0.01, shift: float = 10.0, eps: float = 0.0) -> Drawing:
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
