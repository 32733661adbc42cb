"""The explorables and pictures of the chapter "Covariate shift"."""

import numpy as np
from matplotlib.axes import Axes

from utils import shift as mathematics
from utils.data import digits
from utils.explore import Drawing, control, explore, picture
from utils.seeds import numpy_rng
from utils.shift import CORRUPTIONS, NETWORKS, SEEDS, adjusted, joint, sample
from utils.style import ARMS, FAINT, INK, MUTED, draw_arm, figure, label, per_cent

FITS = 20  # seeds of every fit in two dimensions
SHIFTS = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
BEFORE, AFTER = {"color": MUTED, "linestyle": (0, (4, 2))}, {"color": INK}
STAYS = {"covariate": "p(y|x)", "label": "p(x|y)", "concept": "p(x)"}


@explore(
    kind=control(list(STAYS), label="kind of shift"),
    size=control([0.0, 0.5, 1.0, 1.5], label="size of the shift"),
)
def three_kinds(kind: str = "covariate", size: float = 1.0) -> Drawing:
    """One distribution of x and y, before and after a shift: what stays?"""
    before, after = joint(), joint(kind, size)
    names = ("p(x)", "p(y|x)", "p(x|y)", "p(y)")
    stays = [size == 0 or name == STAYS[kind] for name in names]
    titles = [f"{name} {'stays' if stay else 'moves'}" for name, stay in zip(names, stays, strict=True)]
    fig, (density, label_of, given, prior) = figure(*titles, rows=2, height=4.9)
    for now, look in ((before, BEFORE), (after, AFTER)):
        density.plot(now.x, now.density, **look)
        label_of.plot(now.x, now.label, **look)
        for y in (0, 1):
            given.plot(now.x, now.given(y), **look)
    for ax in (density, label_of, given):
        ax.set(xlim=(-4.5, 5), xlabel="x", xticks=[-4, -2, 0, 2, 4])
    for ax in (density, given):
        ax.set(ylim=(0, 0.62), yticks=[0, 0.2, 0.4, 0.6])
    label_of.set(ylim=(-0.03, 1.03))
    label_of.text(4.8, 0.1, "p(y = 1 | x)", color=MUTED, fontsize=9, ha="right")
    given.text(-4.3, 0.54, "y = 0", color=INK, fontsize=9)
    given.text(4.8, 0.54, "y = 1", color=INK, fontsize=9, ha="right")
    at = np.arange(2)
    prior.bar(at - 0.2, [1 - before.prior, before.prior], 0.38, facecolor=FAINT, edgecolor=MUTED, linestyle=(0, (4, 2)))
    prior.bar(at + 0.2, [1 - after.prior, after.prior], 0.38, facecolor=INK)
    prior.set(ylim=(0, 1.03), xticks=at, xticklabels=["y = 0", "y = 1"])
    prior.grid(axis="x", visible=False)
    density.text(-4.3, 0.585, "before", color=MUTED, fontsize=9, va="top")
    density.text(-4.3, 0.525, "after", color=INK, fontsize=9, va="top", fontweight="bold")
    best = -size if kind in ("label", "concept") else 0.0
    what = f"{kind.capitalize()} shift of size {size:g}: only {STAYS[kind]} stays" if size else "No shift yet"
    return fig, (
        f"{what}; the classifier that was best before, y = 1 where x > 0, has {before.accuracy():.1%} correct before "
        f"and {after.accuracy():.1%} after, where the best possible has {after.accuracy(best):.1%}."
    )


@explore(
    shift=control([0.0, 0.5, 1.0, 1.5, 2.0, 3.0], label="shift d"),
    n=control([100, 500, 2000], label="sample size", unit="points"),
    weighting=control(["none", "known", "estimated"], label="weighting"),
)
def two_clouds(shift: float = 2.0, n: int = 500, weighting: str = "known") -> Drawing:
    """A straight boundary learnt from one cloud and used on another."""
    rng = numpy_rng(0)
    x, y = sample(n, 0.0, rng)
    x_test, y_test = sample(n, shift, rng)
    fitted, weights = next(
        (fitted, weights) for way, fitted, weights in mathematics.fits(shift, n, "line", seed=0) if way == weighting
    )
    fig, (left, right) = figure("data of seed 0", f"test accuracy, {FITS} seeds", height=3.5)
    sizes = np.minimum(14 * weights / weights.mean(), 400)
    for points, labels, area, colour in (
        (x[:300], y[:300], sizes[:300], MUTED),
        (x_test[:80], y_test[:80], np.full(min(n, 80), 14.0), INK),
    ):
        for each, marker in ((0, "o"), (1, "^")):
            chosen = labels == each
            face = colour if each else "none"
            left.scatter(*points[chosen].T, s=area[chosen], marker=marker, facecolor=face, edgecolor=colour, alpha=0.55)
    across = np.linspace(-3.5, 6, 200)
    left.plot(across, np.sin(1.5 * across), color=MUTED, linewidth=1.6, linestyle=(0, (1, 1.2)))
    (slope, up), (constant,) = fitted.coef_[0], fitted.intercept_
    line = -(slope * across + constant) / up
    left.plot(across, np.where(line > -3.4, line, np.nan), color=INK)
    left.set(xlim=(-3.5, 6), ylim=(-4.2, 4), xlabel="x₁", ylabel="x₂")
    for place, (text, colour) in enumerate((("training", MUTED), ("test", INK))):
        left.text(-3.3 + 4.4 * place, -4.05, text, color=colour, fontsize=9, fontweight="bold")

    result = mathematics.weighting(shift, n, "line", FITS)
    rows = ["none", *([weighting] if weighting != "none" else []), "trained on test data"]
    names = {"none": "unweighted", "known": "known weights", "estimated": "estimated weights"}
    for way in rows:
        place = {"none": 2, "trained on test data": 0}.get(way, 1)
        colour = INK if way == weighting else MUTED
        _strip(right, place, result.accuracy[way], colour, names.get(way, way))
    _percent(right, 0.3)
    effective = result.effective[weighting] * n
    said = [f"{names.get(way, way)} {per_cent(result.accuracy[way])}" for way in rows]
    return fig, (
        f"Shift {shift:g}, {n:,} training points, accuracy on test data over {FITS} seeds: {', '.join(said)}"
        + (
            f"; the weighted points are worth {effective.mean():.0f} ± {effective.std(ddof=1):.0f} equal ones."
            if weighting != "none"
            else "."
        )
    )


def _strip(ax: Axes, place: float, values: np.ndarray, colour: str, text: str) -> None:
    """One dot a seed in a row, their mean as a bar, the row's name above."""
    ax.plot(values, np.full(len(values), place), "o", color=colour, alpha=0.4, markersize=5, markeredgewidth=0)
    ax.plot(values.mean(), place, "|", color=colour, markersize=18, markeredgewidth=2.4)
    ax.text(0.02, place + 0.3, text, color=colour, fontweight="bold", fontsize=10, transform=ax.get_yaxis_transform())


def _percent(ax: Axes, lowest: float = 0.0) -> None:
    """Three rows, and per cents from `lowest` to 100."""
    ticks = [0.4, 0.6, 0.8, 1.0] if lowest else [0, 0.25, 0.5, 0.75, 1]
    ax.set_xticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
    ax.set(xlim=(lowest, 1.02), ylim=(-0.4, 2.75), yticks=[])
    ax.set_xlabel("correct, %")
    ax.grid(axis="y", visible=False)


@explore(
    model=control(["line", "true curve"], label="the model can draw"),
    n=control([100, 500, 2000], label="sample size", unit="points"),
)
def price(model: str = "true curve", n: int = 500) -> Drawing:
    """Weights or no weights, over the whole range of shifts."""
    results = [mathematics.weighting(shift, n, model, FITS) for shift in SHIFTS]
    fig, (left, right) = figure("test accuracy, %", "effective sample, %", height=3.3)
    ends = {}
    for way, colour, dashes in (("none", MUTED, (0, (4, 2))), ("known", INK, "-")):
        runs = np.array([result.accuracy[way] for result in results])
        left.plot(SHIFTS, runs, color=colour, alpha=0.25, linewidth=0.8)
        left.plot(SHIFTS, runs.mean(1), color=colour, linestyle=dashes)
        ends[way] = runs[-1]
    left.set(xlim=(0, 3), ylim=(0.3, 1.0), xlabel="shift d", xticks=[0, 1, 2, 3])
    left.set_yticks([0.4, 0.6, 0.8, 1.0], ["40", "60", "80", "100"])
    left.text(0.1, 0.44, "unweighted", color=MUTED, fontweight="bold", fontsize=10)
    left.text(0.1, 0.36, "weighted", color=INK, fontweight="bold", fontsize=10)
    effective = np.array([result.effective["known"] for result in results])
    right.plot(SHIFTS, effective, color=INK, alpha=0.25, linewidth=0.8)
    right.plot(SHIFTS, effective.mean(1), color=INK)
    right.plot(SHIFTS, np.exp(-np.square(SHIFTS)), color=MUTED, linewidth=1.6, linestyle=(0, (1, 1.2)))
    right.text(1.35, 0.75, "measured", color=INK, fontsize=10, fontweight="bold")
    right.text(0.12, 0.003, "as n → ∞", color=MUTED, fontsize=10, fontweight="bold")
    right.set(yscale="log", xlim=(0, 3), ylim=(1e-4, 1.5), xlabel="shift d", xticks=[0, 1, 2, 3])
    right.set_yticks([1e-4, 1e-3, 1e-2, 1e-1, 1], ["0.01", "0.1", "1", "10", "100"])
    right.minorticks_off()
    return fig, (
        f"A model that can draw {'a line' if model == 'line' else 'the true curve'}, {n:,} points, {FITS} seeds: at "
        f"shift 3, {per_cent(ends['none'])} correct without weights and "
        f"{per_cent(ends['known'])} with the known weights, whose effective sample "
        f"is {effective[-1].mean():.1%} of the points."
    )


SIZES = [20, 50, 100, 200, 500, 1000]
TESTS = 200


@explore(
    shift=control([0.0, 0.1, 0.25, 0.5, 1.0], label="shift d"),
    n=control(SIZES, label="sample size", unit="points each"),
)
def noticing(shift: float = 0.5, n: int = 100) -> Drawing:
    """How often does a classifier notice the shift?"""
    tests = {size: mathematics.repeated_tests(shift, size, TESTS) for size in SIZES}
    accuracies, power = tests[n][:, 0], {size: (each[:, 1] <= 0.05).mean() for size, each in tests.items()}
    needed = mathematics.needed_accuracy(n)
    fig, (left, right) = figure("held-out accuracy", "tests that notice", height=3.3)
    width = max(0.025, 1 / n)
    edges = 0.5 + width * (np.arange(-int(0.5 / width) - 1, int(0.5 / width) + 1) + 0.5)
    left.hist(accuracies, edges, density=True, color=INK, alpha=0.7)
    across = np.linspace(0.2, 0.9, 400)
    left.plot(across, np.sqrt(2 * n / np.pi) * np.exp(-2 * n * (across - 0.5) ** 2), color=MUTED, linestyle=(0, (4, 2)))
    left.axvline(needed, color=MUTED, linewidth=1.4, linestyle=":")
    top = 1.45 * max(left.get_ylim()[1], 1)
    left.set(xlim=(0.2, 1), ylim=(0, top), yticks=[], xlabel=f"share of {n:,} points")
    left.text(0.215, 0.97 * top, f"{TESTS} tests", color=INK, fontsize=9, va="top", fontweight="bold")
    left.text(0.215, 0.89 * top, "if no shift", color=MUTED, fontsize=9, va="top", fontweight="bold")
    left.text(max(needed, 0.5) + 0.012, 0.97 * top, "p ≤ 0.05", color=MUTED, fontsize=9, va="top")
    right.plot(SIZES, list(power.values()), "o-", color=MUTED, markersize=5)
    right.plot(n, power[n], "o", color=INK, markersize=10)
    right.axhline(0.05, color=MUTED, linewidth=1, linestyle=":")
    right.set(xscale="log", xlim=(16, 1250), ylim=(0, 1.04), xlabel="points in each sample")
    right.set_xticks(SIZES, ["20", "50", "", "200", "", "1,000"])
    right.minorticks_off()
    right.set_yticks([0.05, 0.25, 0.5, 0.75, 1], ["5 %", "25 %", "50 %", "75 %", "100 %"])
    return fig, (
        f"Shift {shift:g}, {n:,} points in each sample: over {TESTS} repetitions the held-out accuracy is "
        f"{per_cent(accuracies)}, at least {needed:.1%} is needed, and "
        f"{power[n]:.0%} of the tests {'raise a false alarm' if shift == 0 else 'notice'}."
    )


@explore(
    brightness=control([-0.5, -0.25, 0.0, 0.25, 0.5, 0.75]),
    contrast=control([0.25, 0.5, 1.0, 2.0]),
    clip=control(True, label="cut to [0, 1]"),
)
def other_light(brightness: float = 0.5, contrast: float = 1.0, clip: bool = False) -> Drawing:
    """Digits in another light, and the networks that never saw it."""
    fig, (left, right) = figure("images", f"test accuracy, {SEEDS} seeds", height=3.5)
    left.set_axis_off()
    image = digits().x_test[:1]
    for place, (shown, text) in enumerate(
        ((image, "as in\ntraining"), (adjusted(image, brightness, contrast, clip), "at test\ntime"))
    ):
        inset = left.inset_axes((0.0, 0.5 - 0.54 * place, 0.62, 0.5))
        inset.imshow(shown.reshape(8, 8), cmap="gray", vmin=-0.5, vmax=1.5)
        inset.set(xticks=[], yticks=[])
        inset.grid(visible=False)
        inset.spines[:].set_visible(True)
        left.text(0.64, 0.75 - 0.54 * place, text, fontsize=10, va="center", color=MUTED if place == 0 else INK)
    result = mathematics.image_accuracy(brightness, contrast, clip)
    for place, name in enumerate(reversed(NETWORKS)):
        arm = ARMS[name]
        _strip(right, place, result[name], arm.colour, arm.label)
    _percent(right)
    said = [f"{ARMS[name].label} {per_cent(each)}" for name, each in result.items()]
    return fig, (
        f"Brightness {brightness:+g}, contrast × {contrast:g}{', cut to [0, 1]' if clip else ''}: {', '.join(said)} "
        f"correct ({SEEDS} seeds)."
    ).replace("+0,", "0,").replace("-", "\N{MINUS SIGN}").replace("re\N{MINUS SIGN}", "re-")


@picture
def what_it_mends() -> Drawing:
    """Six changes of the test images, and how the three networks bear them."""
    fig, (ax,) = figure(f"test accuracy, {SEEDS} seeds", height=4.4, left=1.15)
    said = []
    for row, kind in enumerate(CORRUPTIONS):
        result = mathematics.image_accuracy(kind=kind)
        for place, (name, marker) in enumerate(zip(NETWORKS, "osD", strict=True)):
            values, y = result[name], row + 0.22 * (place - 1)
            ax.plot(values, np.full(len(values), y), "o", color=ARMS[name].colour, alpha=0.3, markersize=3.5)
            ax.plot(values.mean(), y, marker, color=ARMS[name].colour, markersize=6.5)
        said.append(f"{kind}: " + ", ".join(f"{each.mean():.0%}" for each in result.values()))
    for place, (name, marker) in enumerate(zip(NETWORKS, "osD", strict=True)):
        y = 2.6 + 0.34 * place
        ax.plot(0.03, y, marker, color=ARMS[name].colour, markersize=6.5)
        label(ax, name, 0.06, y, va="center", fontsize=10)
    ax.set(ylim=(5.5, -0.5), xlim=(-0.02, 1.02))
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    ax.set_yticks(range(len(CORRUPTIONS)), list(CORRUPTIONS))
    return fig, (
        f"Share correct of plain, BN and BN with re-estimated statistics, mean of {SEEDS} seeds; {'; '.join(said)}."
    )


BATCHES = [2, 4, 8, 16, 32]


@explore(
    classes=control([1, 2, 5, 10], label="classes in a batch"),
    brightness=control([0.0, 0.25, 0.5, 0.75]),
)
def company(classes: int = 10, brightness: float = 0.5) -> Drawing:
    """Statistics taken from the very batch that is judged: how large, and how mixed, must it be?"""
    fig, (ax,) = figure("test accuracy", height=3.3)
    own = np.array([mathematics.company_accuracy(size, classes, brightness) for size in BATCHES]).T
    alone = mathematics.image_accuracy(brightness)
    draw_arm(ax, "bn, re-estimated", BATCHES, own)
    for name in NETWORKS[:2]:
        ax.axhline(alone[name].mean(), color=ARMS[name].colour, linestyle=ARMS[name].dashes)
    ax.set(xscale="log", xlim=(2, 32), ylim=(0, 1.03), xlabel="images in a batch")
    ax.set_xticks(BATCHES, BATCHES)
    ax.minorticks_off()
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    _names(ax, {"bn, re-estimated": own[:, -1].mean(), **{name: alone[name].mean() for name in NETWORKS[:2]}})
    fig.subplots_adjust(right=0.68)
    return fig, (
        f"Batches of {classes} class{'es' if classes > 1 else ''}, brightness +{brightness:g}, {SEEDS} seeds: with the "
        f"statistics of its own batch BN has {per_cent(own[:, -1])} correct in batches "
        f"of 32 and {per_cent(own[:, 1])} in batches of 4; with those of training "
        f"{alone['bn'].mean():.1%}; plain {alone['plain'].mean():.1%}."
    )


def _names(ax: Axes, ends: dict[str, float], gap: float = 0.085) -> None:
    """Name each arm at the right of the panel, none above its top."""
    above = 1.0 + gap
    for name, y in sorted(ends.items(), key=lambda end: -end[1]):
        above = min(y, above - gap)
        label(ax, name, 33.5, above, va="center", fontsize=10)
