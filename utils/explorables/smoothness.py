"""The explorables and pictures of the chapter "Walk along the gradient"."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from utils.explorables.what_batchnorm_buys import NORMS
from utils.explore import Drawing, control, explore
from utils.networks import looking
from utils.noise import PAPERS
from utils.smoothness import LENGTHS, QUANTITIES, Course, along_gradient, band, size, slice_around, times, watch_course
from utils.style import ARMS, INK, MUTED, draw_arm, figure, label, label_ends, number, spread
from utils.sweeps import sweep
from utils.training import Settings, trained

SEEDS = 5
NETWORKS = {
    "5 layers, Glorot": Settings(
        depth=5, width=64, nonlinearity="relu", lr=0.1, batch_size=128, steps=200, data="fashion, flat"
    ),
    "10 layers, Glorot": Settings(depth=10, width=64, nonlinearity="relu", lr=0.03, steps=600),
    "3 layers, He, rate 0.03": Settings(depth=3, width=64, nonlinearity="relu", init="he", lr=0.03, steps=400),
    "3 layers, He, rate 0.1": Settings(depth=3, width=64, nonlinearity="relu", init="he", lr=0.1, steps=400),
}
FIRST = "5 layers, Glorot"
NAMES = {"loss": "loss", "gradient": "change of gradient", "beta": "beta"}
FAR = "beta at the longest length"
LIMITS = {"loss": (3e-3, 100), "gradient": (3e-3, 100), "beta": (0.6, 400)}


def runs(network: str = FIRST, arm: str = "plain") -> list[Course]:
    """Train a network of the chapter and probe it at every 10th step, five seeds.

    >>> [course.losses.shape for course in runs()]
    [(20, 8), (20, 8), (20, 8), (20, 8), (20, 8)]
    """
    settings = replace(NETWORKS[network], norm=NORMS.get(arm, arm))
    return sweep(watch_course, [(settings, seed) for seed in range(SEEDS)])


def pairs(network: str) -> list[tuple[Course, Course]]:
    """The plain run and the run with BN of each seed.

    >>> len(pairs("5 layers, Glorot"))
    5
    """
    return list(zip(*(runs(network, arm) for arm in NORMS), strict=True))


def farthest(course: Course) -> Course:
    """The course with the longest of its lengths alone.

    >>> farthest(runs()[0]).losses.shape
    (20, 1)
    """
    return course._replace(**{part: getattr(course, part)[:, -1:] for part in ("moved", "losses", "changes")})


def factors(network: str, ratio: Callable[..., float], *given: object) -> list[str]:
    """Say, for each quantity, the mean and the spread over seeds of `ratio(plain, bn, quantity, *given)`.

    The last is beta at the longest length.

    >>> factors("5 layers, Glorot", lambda plain, bn, quantity: 1.0)
    ['1.0 ± 0.0', '1.0 ± 0.0', '1.0 ± 0.0', '1.0 ± 0.0']
    """
    both = pairs(network)
    far = [(farthest(plain), farthest(bn)) for plain, bn in both]
    rows = [*((quantity, both) for quantity in QUANTITIES), ("beta", far)]
    return [spread([ratio(*pair, quantity, *given) for pair in each], 1) for quantity, each in rows]


@cache
def loss_after(arm: str, noise: bool = True) -> list[float]:
    """The mean loss over the training images after training, five seeds, in batches normalised by their own statistics.

    The first network. Without `noise`, what is injected in training is switched off.

    >>> len(loss_after("noisy", noise=False))
    5
    """
    settings = replace(NETWORKS[FIRST], norm=NORMS.get(arm, arm))
    images, labels, *_ = settings.task()
    many, found = len(images) // settings.batch_size * settings.batch_size, []
    for net in (trained(settings, seed) for seed in range(SEEDS)):
        for layer in net:
            if hasattr(layer, "noise") and not noise:
                layer.noise.recipe = PAPERS.times(0)
        batches = zip(*(each[:many].split(settings.batch_size) for each in (images, labels)), strict=True)
        with looking(net), torch.no_grad():
            found.append(float(np.mean([settings.loss(net(x), y).item() for x, y in batches])))
    return found


# --- a bowl --------------------------------------------------------------------------------------------------------

BOWL_RATE = 0.1


def bowl(w: list[torch.Tensor], curvature: float) -> torch.Tensor:
    """The loss of the toy: half of w1^2 + curvature w2^2.

    >>> bowl([torch.tensor([1.0, 1.0])], 3.0).item()
    2.0
    """
    return (w[0] ** 2 * torch.tensor([1.0, curvature])).sum() / 2


@explore(
    curvature=control([1, 3, 10], label="curvature of the steep axis"),
    angle=control([0, 20, 45, 90], label="where it starts", unit="degrees"),
)
def walk(curvature: int = 10, angle: int = 20) -> Drawing:
    """A walk along the gradient, in a bowl."""
    turn = np.deg2rad(angle)
    start = torch.tensor([np.cos(turn), np.sin(turn)])
    rates = [BOWL_RATE * length for length in LENGTHS]
    probes = along_gradient(lambda w: bowl(w, curvature), [start], rates)
    gradient = np.array([1.0, curvature]) * start.numpy()
    fig, (left, right) = figure("seen from above", "loss along the line", height=3.3)
    x, y = np.meshgrid(np.linspace(-1.6, 1.6, 81), np.linspace(-3.3, 1.5, 121))
    levels = 0.06 * 2.0 ** np.arange(10)
    left.contour(x, y, (x**2 + curvature * y**2) / 2, levels=levels, colors=[MUTED], linewidths=0.7, alpha=0.8)
    places = start.numpy() - np.outer(rates, gradient)
    left.plot([start[0], places[-1, 0]], [start[1], places[-1, 1]], color=INK, linewidth=1)
    left.plot(*places.T, "o", color=INK, markersize=4.5)
    left.plot(*start, "o", color=INK, markersize=9, markerfacecolor="none", markeredgewidth=1.8)
    left.set(xlim=(-1.6, 1.6), ylim=(-3.3, 1.5), xlabel="w₁", ylabel="w₂", aspect="equal")
    left.grid(visible=False)
    along = np.linspace(0, 0.42, 60)
    line = start.numpy() - np.outer(along, gradient)
    right.plot(along / BOWL_RATE, (line**2 @ [1, curvature]) / 2, color=MUTED, linewidth=1.2)
    right.plot(LENGTHS, probes.losses, "o", color=INK, markersize=4.5)
    right.plot(0, probes.loss, "o", color=INK, markersize=9, markerfacecolor="none", markeredgewidth=1.8, clip_on=False)
    low, high = probes.losses.min(), probes.losses.max()
    right.plot([4.5, 4.5], [low, high], color=INK, linewidth=5, solid_capstyle="butt")
    right.set(xlim=(-0.2, 4.7), xticks=range(5), xlabel="length / learning rate")
    top = 1.12 * max(probes.loss, high)
    right.set_ylim(-0.04 * top, top)
    betas = probes.changes / probes.moved
    lowest = LENGTHS[int(probes.losses.argmin())]
    how = "it falls all the way" if lowest == LENGTHS[-1] else f"it is lowest at {lowest:g} and then rises again"
    return fig, (
        f"A bowl with curvatures 1 and {curvature}, from {angle} degrees, learning rate {BOWL_RATE}: the gradient is "
        f"{probes.slope:.2f} long; the loss, {probes.loss:.2f} at the start, has a range of {high - low:.2f} over the "
        f"eight places ({how}); the effective beta is {betas.max():.2f}."
    )


# --- one moment of training ----------------------------------------------------------------------------------------


@explore(
    moment=control(list(range(0, 100, 10)), label="moment of training", unit="%", plays=True),
    network=list(NETWORKS)[:2],
    quantity=list(NAMES.values()),
)
def one_moment(moment: int = 60, network: str = FIRST, quantity: str = "loss") -> Drawing:
    """How the band is made: one moment of training, eight places along the gradient."""
    name = {text: key for key, text in NAMES.items()}[quantity]
    settings = NETWORKS[network]
    step = moment * settings.steps // 100
    fig, (left, right) = figure(f"at step {step}", "the whole course", height=3.4, left=0.8)
    left.set_ylabel(quantity)
    said, ends = [], []
    for place, arm in enumerate(NORMS):
        course = runs(network, arm)[0]
        row, colour = int(np.searchsorted(course.step, step)), ARMS[arm].colour
        values = _values(course, name)[row]
        if name == "loss":
            left.plot([0, LENGTHS[0]], [course.loss[row], values[0]], color=colour, linewidth=1, alpha=0.6)
            left.plot(0, course.loss[row], "o", color=colour, markersize=9, markerfacecolor="none", markeredgewidth=1.8)
        left.plot(LENGTHS, values, color=colour, linewidth=1, alpha=0.6)
        left.plot(LENGTHS, values, "o" if arm == "bn" else "s", color=colour, markersize=4.5)
        x = 4.45 + 0.28 * place
        left.plot([x, x], [values.min(), values.max()], color=colour, linewidth=5, solid_capstyle="butt")
        low, high = band(course, name)
        right.fill_between(course.step, low, high, color=colour, alpha=0.16, linewidth=0)
        until = course.step <= step
        right.fill_between(course.step[until], low[until], high[until], color=colour, alpha=0.5, linewidth=0)
        right.plot([step, step], [low[row], high[row]], color=colour, linewidth=4, solid_capstyle="butt", zorder=3)
        here = f"{_told(low[row])} to {_told(high[row])}"
        said.append(f"{'with BN' if arm == 'bn' else 'plain'} {here}")
        ends.append(_told(values[-1]))
    right.axvline(step, ymax=0.9, color=MUTED, linewidth=1, linestyle=":")
    _axes(left, name)
    _axes(right, name)
    left.set(xlim=(-0.25, 5.0), xticks=range(5), xlabel="length / learning rate")
    right.set(xlim=(-0.01 * settings.steps, settings.steps), xlabel="training step")
    right.set_xticks(np.linspace(0, settings.steps, 3).round().astype(int))
    right.tick_params(labelleft=False)
    for arm, x in (("plain", 0.78), ("bn", 0.99)):
        label(right, arm, x, 0.99, transform=right.transAxes, ha="right", va="top")
    what = {"loss": "the loss", "gradient": "the gradient's change", "beta": "beta"}[name]
    end = f", and at the longest length {ends[0]} and {ends[1]}" if name == "beta" else ""
    return fig, (
        f"{network}, seed 0, before update {step + 1} of {settings.steps}: over the eight places along the gradient "
        f"{what} is {said[0]}, {said[1]}{end}."
    )


def _values(course: Course, name: str) -> np.ndarray:
    """One value for each moment and each length."""
    if name == "beta":
        return course.changes / course.moved
    return course.losses if name == "loss" else course.changes


def _told(value: float) -> str:
    """Three digits, or four where values are near to each other."""
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _axes(ax: Axes, name: str) -> None:
    ax.set(yscale="log", ylim=LIMITS[name])
    ticks = {"loss": (0.01, 0.1, 1, 10), "gradient": (0.01, 0.1, 1, 10), "beta": (1, 10, 100)}[name]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


# --- the bands -----------------------------------------------------------------------------------------------------


@explore(
    quantity=[*NAMES.values(), FAR],
    network=list(NETWORKS),
)
def bands(quantity: str = "loss", network: str = FIRST) -> Drawing:
    """The three bands over the whole course of training, with and without BN."""
    name = {text: key for key, text in NAMES.items()}.get(quantity, "beta")
    return _compare(name, network, "bn", far=quantity == FAR)


def _compare(name: str, network: str, arm: str, far: bool = False) -> Drawing:
    """The bands of the plain network and of another arm, and how many times as wide the first is.

    With `far`, at the longest length alone.
    """
    settings = NETWORKS[network]
    title = {
        "loss": "loss along the gradient",
        "gradient": "change of the gradient along it",
        "beta": FAR if far else "effective beta-smoothness",
    }[name]
    courses = {each: [farthest(run) if far else run for run in runs(network, each)] for each in ("plain", arm)}
    fig, (ax,) = figure(f"{title}: {network}", height=3.5)
    ends = {}
    for each in courses:
        _band(ax, each, courses[each], name, ends)
    if name == "beta":
        line, told = (
            (2 / (LENGTHS[-1] * settings.lr), "(4 × learning rate)") if far else (2 / settings.lr, "learning rate")
        )
        ax.axhline(line, color=INK, linewidth=1, linestyle=(0, (4, 2)))
        ax.text(
            0.99,
            0.97,
            f"dashed line: 2 / {told} = {line:.0f}",
            color=INK,
            fontsize=9,
            ha="right",
            va="top",
            transform=ax.transAxes,
        )
    _axes(ax, name)
    ax.set(xlim=(0, settings.steps - 10), xlabel="training step")
    label_ends(ax, ends, gap=0.09)
    fig.subplots_adjust(right=0.83 if arm == "noisy" else 0.88)
    return fig, _ratios(name, network, courses["plain"], courses[arm], ARMS[arm].label, far)


def _band(ax: Axes, arm: str, courses: list[Course], name: str, ends: dict[str, float]) -> None:
    """Fill from the mean low to the mean high, on the logarithmic axis, with every seed's high as a thin line."""
    lows, highs = (np.array(each) for each in zip(*(band(course, name) for course in courses), strict=True))
    low, high = (np.exp(np.log(np.maximum(each, 1e-9)).mean(0)) for each in (lows, highs))
    steps, look = courses[0].step, ARMS[arm]
    if name == "beta":
        draw_arm(ax, arm, steps, highs)
    else:
        ax.fill_between(steps, low, high, color=look.colour, alpha=0.3, linewidth=0)
        ax.plot(steps, highs.T, color=look.colour, alpha=0.28, linewidth=0.9)
        for edge in (low, high):
            ax.plot(steps, edge, color=look.colour, linestyle=look.dashes, linewidth=1.6)
    ends[arm] = float(high[-1])


def _ratios(name: str, network: str, plain: list[Course], other: list[Course], label: str, far: bool) -> str:
    """Say how many times as wide the plain network's band is: at first, and in the second half."""
    what = {
        "loss": "range of the loss is",
        "gradient": "largest change of the gradient is",
        "beta": f"{FAR} is" if far else "effective beta is",
    }[name]
    at_first = [size(a, name)[0] / size(b, name)[0] for a, b in zip(plain, other, strict=True)]
    late = [times(a, b, name) for a, b in zip(plain, other, strict=True)]
    share = np.mean([(size(a, name) > size(b, name)).mean() for a, b in zip(plain, other, strict=True)])
    return (
        f"{network}, {SEEDS} seeds: the plain network's {what} {spread(at_first)} times that with "
        f"{label} before the first update and {spread(late, 1)} times in the second half of training "
        f"(median over moments); it is the larger one at {share:.0%} of all moments."
    )


RELATIVES = {ARMS[arm].label: arm for arm in ("bn", "noisy", "l1", "l2", "linf")}
SHOWN = {"training loss": "trained"} | {text: key for key, text in NAMES.items()}


@explore(
    normalisation=list(RELATIVES),
    quantity=list(SHOWN),
)
def relatives(normalisation: str = "l1", quantity: str = "loss") -> Drawing:
    """Is it BN that makes the bands narrow, or would any normalisation do?"""
    arm, name = RELATIVES[normalisation], SHOWN[quantity]
    if name != "trained":
        return _compare(name, FIRST, arm)
    fig, (ax,) = figure(f"loss of each mini-batch, in nats: {FIRST}", height=3.5)
    ends, said = {}, []
    for each in dict.fromkeys(("plain", "bn", arm)):
        curves = np.array([course.trained for course in runs(FIRST, each)])
        smooth = np.array([np.convolve(curve, np.full(10, 0.1), "valid") for curve in curves])
        draw_arm(ax, each, np.arange(10, curves.shape[1] + 1), smooth)
        ends[each] = smooth[:, -1].mean()
        said.append(f"{ARMS[each].label} {spread(curves[:, -20:].mean(1), 3)}")
    ax.set(xlim=(0, NETWORKS[FIRST].steps), ylim=(0, 2.7), xlabel="training step (mean of the last 10)")
    label_ends(ax, ends, gap=0.09)
    fig.subplots_adjust(right=0.83 if arm == "noisy" else 0.88)
    return fig, f"{FIRST}, {SEEDS} seeds: the mean loss of the last 20 mini-batches is {', '.join(said)}."


# --- before the first update ---------------------------------------------------------------------------------------

DEPTHS = (2, 5, 10, 20)
INITS = {"Glorot": "glorot", "He": "he"}


@cache
def at_start(init: str, arm: str) -> np.ndarray:
    """The length of the gradient and the range of the loss before the first update: (2, depths, seeds).

    >>> at_start("Glorot", "plain").shape
    (2, 4, 5)
    """
    base = replace(NETWORKS["10 layers, Glorot"], norm=NORMS[arm], init=INITS[init], steps=1)
    jobs = [(replace(base, depth=depth), seed) for depth in DEPTHS for seed in range(SEEDS)]
    found = [(course.slope[0], size(course, "loss")[0]) for course in sweep(watch_course, jobs)]
    return np.array(found).T.reshape(2, len(DEPTHS), SEEDS)


@explore(initialisation=list(INITS))
def untrained(initialisation: str = "Glorot") -> Drawing:
    """How flat is a network that has not been trained?"""
    fig, panels = figure("length of gradient", "range of the loss", height=3.3)
    said = {}
    for arm in NORMS:
        found = at_start(initialisation, arm)
        for ax, values in zip(panels, found, strict=True):
            ax.plot(DEPTHS, values, "o", color=ARMS[arm].colour, markersize=3.5, alpha=0.45, markeredgewidth=0)
            ax.plot(DEPTHS, np.exp(np.log(values).mean(1)), color=ARMS[arm].colour, linestyle=ARMS[arm].dashes)
        said[arm] = [spread(found[0, 2], 2), spread(found[1, 2], 3), spread(found[0, 3], 2)]  # 10 layers, 20 layers
    for ax, limits in zip(panels, ((0.05, 200), (3e-4, 10)), strict=True):
        ax.set(yscale="log", ylim=limits, xlim=(1, 21), xticks=DEPTHS, xlabel="hidden layers")
        ax.minorticks_off()
    panels[0].set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    panels[1].set_yticks([1e-3, 1e-2, 0.1, 1, 10], ["0.001", "0.01", "0.1", "1", "10"])
    for arm, y in (("bn", 0.95), ("plain", 0.86)):
        label(panels[0], arm, 0.04, y, transform=panels[0].transAxes, va="top")
    return fig, (
        f"{initialisation} initialisation, before the first update, {SEEDS} seeds: with 10 layers the gradient is "
        f"{said['plain'][0]} long without BN and {said['bn'][0]} with it, and the loss along it has a range of "
        f"{said['plain'][1]} and {said['bn'][1]}; with 20 layers the gradient is {said['plain'][2]} and "
        f"{said['bn'][2]} long."
    )


# --- a slice in two random directions ------------------------------------------------------------------------------

SLICE_STEPS = (0, 40, 200)
DIRECTIONS = {"filter by filter": True, "as drawn": False}
FACTORS = (1, 3)
REACH = {True: 1.0, False: 0.1}


def sliced(arm: str, step: int, directions: str = "filter by filter", factor: float = 1) -> np.ndarray:
    """The loss around the weights of one moment, seed 0: (21, 21).

    >>> sliced("bn", 0).shape
    (21, 21)
    """
    filterwise = DIRECTIONS[directions]
    settings = replace(NETWORKS[FIRST], norm=NORMS[arm], steps=step)
    return slice_around(settings, 0, float(factor), filterwise, REACH[filterwise])


@explore(
    step=control(SLICE_STEPS, label="training step"),
    directions=list(DIRECTIONS),
    factor=control(FACTORS, label="BN's weights, times"),
)
def random_slice(step: int = 200, directions: str = "filter by filter", factor: int = 1) -> Drawing:
    """The picture that readers know: a slice of the loss in two random directions."""
    reach = REACH[DIRECTIONS[directions]]
    spots, said = np.linspace(-reach, reach, 21), {}
    fig, panels = figure("plain", "BN" if factor == 1 else f"BN, weights × {factor}", height=3.6, left=0.75)
    for ax, arm in zip(panels, NORMS, strict=True):
        losses = sliced(arm, step, directions, factor if arm == "bn" else 1)
        image = ax.imshow(losses, norm=LogNorm(0.3, 10), cmap="cividis", origin="lower",
                          extent=(-reach, reach, -reach, reach), aspect="equal")  # fmt: skip
        levels = 0.5 * 1.25 ** np.arange(16)
        ax.contour(spots, spots, losses, levels=levels, colors=["#fefefe"], linewidths=0.7, alpha=0.7)
        ax.plot(0, 0, "+", color="#fefefe", markersize=9, markeredgewidth=1.8)
        ax.set(xticks=(-reach, 0, reach), yticks=(-reach, 0, reach), xlabel="first direction")
        ax.set_xticklabels([number(-reach), "0", number(reach)])
        ax.set_yticklabels([number(-reach), "0", number(reach)])
        ax.grid(visible=False)
        said[arm] = f"{losses[10, 10]:.2f} in the middle and {losses.min():.2f} to {losses.max():.2f} in the slice"
    panels[0].set_ylabel("second direction")
    panels[1].tick_params(labelleft=False)
    bar = fig.colorbar(image, ax=panels, orientation="horizontal", extend="max", fraction=0.05, pad=0.22)
    bar.set_ticks([0.3, 1, 3, 10], labels=["0.3", "1", "3", "10"])
    bar.minorticks_off()
    bar.set_label("loss, in nats")
    return fig, (
        f"{FIRST}, seed 0, step {step}, directions {directions}: the loss of 200 training images is, plain, "
        f"{said['plain']}; with BN{'' if factor == 1 else f' and weights {factor} times as long'}, {said['bn']}."
    )
