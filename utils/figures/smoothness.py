"""The figures of the chapter "The smoothness argument", and of the page in depth beside it."""

from dataclasses import replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from utils import intervals
from utils.experiments import smoothness as experiment
from utils.experiments.smoothness import (
    BOWL_RATE,
    DEEP,
    DEPTHS,
    FAST,
    FIRST,
    GOOD,
    LENGTHS,
    NETWORKS,
    RELATIVE_SEEDS,
    RELATIVES,
    TIMES,
    LineProbes,
    Quantity,
    Rate,
    along,
    envelope,
    final_loss_ratios,
    probes_of,
    rates_of,
    ratios,
    ratios_at_loss,
)
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.explore.table import Table
from utils.style import (
    ARMS,
    DASHED,
    INK,
    MUTED,
    Arm,
    between,
    dot_rows,
    figure,
    key,
    label_ends,
    log_axis,
    make_room,
    number,
    rounded,
    share_y,
    step_axis,
    told,
)
from utils.training import SEEDS

PAIR, BANDS = experiment.ARMS, list(Quantity)[:3]  # the paper's three bands
LOOKS = ARMS | {FAST: Arm(f"plain × {TIMES}", ARMS["noisy plain"].colour, (0, (1.2, 1.2)))}
LIMITS = {  # of the loss, of the gradient's change, of L
    FIRST: ((0.1, 10), (0.1, 30), (0.1, 100)),
    DEEP: ((0.003, 30), (0.01, 100), (0.1, 100)),
    GOOD: ((0.0003, 10), (0.003, 10), (0.03, 10)),
}
WHAT = {
    Quantity.LOSS: "range of the loss",
    Quantity.GRADIENT: "largest change of the gradient",
    Quantity.BETA: "largest effective L",
    Quantity.FAR: "L at the longest length",
}


def _limits(network: str, quantity: Quantity) -> tuple[float, float]:
    return LIMITS[network][min(list(Quantity).index(quantity), 2)]


def times(values: ArrayLike) -> str:
    """Write the geometric mean of ratios with its 95 % interval.

    >>> times([1.0, 2.0, 4.0])
    '2 [0.36, 11] times'
    """
    return f"{between(intervals.ratio(values))} times"


# --- a bowl ----------------------------------------------------------------------------------------------------------


@explore(
    curvature=control([1, 3, 10], label="curvature of the steep axis"),
    angle=control([0, 20, 45, 90], label="where it starts", unit="degrees"),
)
def walk(curvature: int = 10, angle: int = 20) -> Drawing:
    """A walk along the gradient, in a bowl."""
    turn, curvatures = np.deg2rad(angle), np.array([1.0, curvature])
    start = np.array([np.cos(turn), np.sin(turn)])
    rates = [BOWL_RATE * length for length in LENGTHS]
    line = experiment.along_gradient(lambda w: experiment.bowl(w, curvature), [torch.tensor(start)], rates)
    fig, (left, right) = figure("seen from above", "loss along the line", height=3.3)
    x, y = np.meshgrid(np.linspace(-1.6, 1.6, 81), np.linspace(-3.3, 1.5, 121))
    levels = 0.06 * 2.0 ** np.arange(10)
    left.contour(x, y, (x**2 + curvature * y**2) / 2, levels=levels, colors=[MUTED], linewidths=0.7, alpha=0.8)
    places = start - np.outer(rates, curvatures * start)
    left.plot([start[0], places[-1, 0]], [start[1], places[-1, 1]], color=INK, linewidth=1)
    left.plot(*places.T, "o", color=INK, markersize=4.5)
    left.set(xlim=(-1.6, 1.6), ylim=(-3.3, 1.5), xlabel="w₁", ylabel="w₂", aspect="equal")
    left.grid(visible=False)
    lengths = np.linspace(0, 4.2, 60)
    passed = start - np.outer(BOWL_RATE * lengths, curvatures * start)
    right.plot(lengths, (passed**2 @ curvatures) / 2, color=MUTED, linewidth=1.2)
    right.plot(LENGTHS, line.losses, "o", color=INK, markersize=4.5)
    for ax, place in ((left, start), (right, (0, line.loss))):
        ax.plot(*place, "o", color=INK, markersize=9, markerfacecolor="none", markeredgewidth=1.8, clip_on=False)
    low, high = line.losses.min(), line.losses.max()
    right.plot([4.5, 4.5], [low, high], color=INK, linewidth=5, solid_capstyle="butt")
    top = 1.12 * max(line.loss, high)
    right.set(xlim=(-0.2, 4.7), ylim=(-0.04 * top, top), xticks=range(5), xlabel="length / learning rate")
    lowest = LENGTHS[int(line.losses.argmin())]
    how = "it falls all the way" if lowest == LENGTHS[-1] else f"it is lowest at {lowest:g} and then rises again"
    return fig, (
        f"A bowl with curvatures 1 and {curvature}, from {angle} degrees, learning rate {BOWL_RATE}: the gradient is "
        f"{line.gradient_norm:.2f} long; the loss, {line.loss:.2f} at the start, has a range of {high - low:.2f} over "
        f"the eight places ({how}); the effective L is {max(line.gradient_changes / line.distances):.2f}."
    )


# --- one moment of training ------------------------------------------------------------------------------------------


@explore(
    moment=control(list(range(0, 100, 10)), label="moment of training", unit="%", plays=True),
    quantity=BANDS,
)
def one_moment(moment: int = 0, quantity: str = Quantity.LOSS) -> Drawing:
    """How the band is made: one moment of training, eight places along the gradient."""
    quantity, network, settings = Quantity(quantity), FIRST, NETWORKS[FIRST]
    step = moment * settings.steps // 100
    fig, (left, right) = figure(f"at step {step}", "the whole run", height=3.4, left=0.8)
    left.set_ylabel(quantity)
    said = {}
    for place, arm in enumerate(PAIR):
        probes = probes_of(network, arm)[0]
        row, values = int(np.searchsorted(probes.step, step)), along(probes, quantity)
        _one_line(left, arm, probes, quantity, row, 4.45 + 0.28 * place)
        _bars(right, arm, probes, quantity, row)
        said[arm] = f"{_told(values[row].min())} to {_told(values[row].max())}"
        if quantity == Quantity.BETA:
            said[arm] += f" (at the longest length {_told(values[row, -1])})"
    right.axvline(step, ymax=0.9, color=MUTED, linewidth=1, linestyle=":")
    for ax in (left, right):
        log_axis(ax.yaxis, _limits(network, quantity))
    left.set(xlim=(-0.25, 5.0), xticks=range(5), xlabel="length / learning rate")
    step_axis(right, settings.steps, -round(0.01 * settings.steps), ticks=3)
    share_y(left, right)
    key(right, PAIR, x=0.5, top=0.98)
    what = "the gradient's change" if quantity == Quantity.GRADIENT else f"the {quantity}"
    return fig, (
        f"{network}, seed 0, before update {step + 1} of {settings.steps}: over the eight places along the gradient "
        f"{what} is {told(said, str)}."
    )


def _one_line(ax: Axes, arm: str, probes: LineProbes, quantity: Quantity, row: int, x: float) -> None:
    """One moment's values over the lengths, and at `x` a bar from the lowest to the highest."""
    colour, values = ARMS[arm].colour, along(probes, quantity)[row]
    if quantity == Quantity.LOSS:
        ax.plot([0, LENGTHS[0]], [probes.loss[row], values[0]], color=colour, linewidth=1, alpha=0.6)
        ax.plot(0, probes.loss[row], "o", color=colour, markersize=9, markerfacecolor="none", markeredgewidth=1.8)
    ax.plot(LENGTHS, values, color=colour, linewidth=1, alpha=0.6)
    ax.plot(LENGTHS, values, "o" if arm == "bn" else "s", color=colour, markersize=4.5)
    ax.plot([x, x], [values.min(), values.max()], color=colour, linewidth=5, solid_capstyle="butt")


def _bars(ax: Axes, arm: str, probes: LineProbes, quantity: Quantity, row: int) -> None:
    """The band of a run, paler after the moment `row`."""
    colour, (low, high) = ARMS[arm].colour, envelope(probes, quantity)
    for until, opacity in ((len(low), 0.16), (row + 1, 0.5)):
        ax.fill_between(probes.step[:until], low[:until], high[:until], color=colour, alpha=opacity, linewidth=0)
    ax.plot([probes.step[row]] * 2, [low[row], high[row]], color=colour, linewidth=4, solid_capstyle="butt", zorder=3)


def _told(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


# --- the bands -------------------------------------------------------------------------------------------------------


@explore(rate=list(Rate), quantity=BANDS, network=list(NETWORKS))
def bands(rate: str = Rate.EQUAL, quantity: str = Quantity.LOSS, network: str = FIRST) -> Drawing:
    """The three bands over the whole course of training, with and without BN, at one rate or each at its own."""
    rate, quantity = Rate(rate), Quantity(quantity)
    plain, bn = (f"{lr:g}" for lr in rates_of(network)[rate].values())
    late, same, end = (
        between(intervals.median(values))
        for values in (
            ratios(network, quantity, rate=rate),
            ratios_at_loss(network, quantity, rate),
            final_loss_ratios(network, rate=rate),
        )
    )
    return _draw_bands(quantity, network, PAIR, rate), (
        f"{network}, rate {plain if plain == bn else f'{plain} (plain) and {bn} (BN)'}, {SEEDS} seeds: the plain "
        f"network's {WHAT[quantity]} is {late} times BN's in the second half, and {same} times where both have a loss "
        f"of {experiment.EQUAL_LOSS[network]}; its final training loss is {end} times BN's (medians, 95 % intervals"
        f"{_broken(*(probes_of(network, arm, rate=rate) for arm in PAIR))})."
    )


def survives() -> Table:
    """How many times more the plain gradient changes along its own step, at one loss; in brackets the rates."""

    def cell(network: str, rate: Rate) -> str:
        plain, bn = (f"{lr:g}" for lr in rates_of(network)[rate].values())
        found = between(intervals.median(ratios_at_loss(network, Quantity.GRADIENT, rate)))
        return f"{found} ({plain if plain == bn else f'{plain}, BN {bn}'})"

    columns = ("network", "one rate for both", "each at its best", "each at its largest usable")
    return Table(columns, [(network, *(cell(network, rate) for rate in Rate)) for network in NETWORKS])


@explore(quantity=BANDS, network=list(NETWORKS))
def faster(quantity: str = Quantity.LOSS, network: str = GOOD) -> Drawing:
    """The plain network trained at four times the rate, and probed at the same places."""
    quantity = Quantity(quantity)
    arms = ("plain", FAST)
    own, fast = (between(intervals.median(ratios(network, quantity, arm=arm))) for arm in arms)
    ends = [final_loss_ratios(network, arm) for arm in arms]
    own_end, fast_end = (between(intervals.median(each)) for each in ends)
    return _draw_bands(quantity, network, (*PAIR, FAST)), (
        f"{network}, {SEEDS} seeds, second half: the plain network's {WHAT[quantity]} is {own} times BN's, and trained "
        f"at {TIMES} times the rate {fast} times. Its final training loss is {own_end} times BN's, and then {fast_end} "
        f"times (medians, 95 % intervals{_broken(probes_of(network, FAST))})."
    )


def _broken(*arms: list[LineProbes]) -> str:
    broken = sum(int(np.isinf(experiment.final_losses(runs)).sum()) for runs in arms)
    return f"; {broken} {'run diverges' if broken == 1 else 'runs diverge'}" if broken else ""


def _draw_bands(quantity: Quantity, network: str, arms: tuple[str, ...], rate: Rate = Rate.EQUAL) -> Figure:
    """Fill from the lowest to the highest value, geometric means over the seeds; each seed's highest is a thin line."""
    settings = NETWORKS[network]
    fig, (ax,) = figure(f"{quantity}: {network}", height=3.5)
    log_axis(ax.yaxis, _limits(network, quantity))
    step_axis(ax, settings.steps - experiment.EVERY[network])
    ends = {}
    for arm in arms:
        look, runs = LOOKS[arm], probes_of(network, arm, rate=rate)
        steps = max((run.step for run in runs), key=len)
        edges = np.full((len(runs), 2, len(steps)), np.nan)  # where a run has diverged there is nothing to draw
        for run, each in zip(runs, edges, strict=True):
            each[:, : len(run.step)] = envelope(run, quantity)
        low, high = np.exp(np.nanmean(np.log(np.maximum(edges, 1e-9)), 0))
        ax.plot(steps, edges[:, 1].T, color=look.colour, alpha=0.28, linewidth=0.9)
        for edge in (low, high):
            ax.plot(steps, edge, color=look.colour, linestyle=look.dashes, linewidth=1.6)
        ax.fill_between(steps, low, high, color=look.colour, alpha=0.3, linewidth=0)
        ends[look] = high[-1]
    make_room(fig, *(look.label for look in ends))
    label_ends(ax, ends)
    return fig


@explore(rate=control(experiment.EDGE_RATES, label="learning rate"))
def edge(rate: float = 0.1) -> Drawing:
    """Training on all images at once: the curvature in units of what the rate can bear, and the loss."""
    fig, (left, right) = figure("curvature × rate / 2", "training loss", height=3.3)
    steps, ends = experiment.LOOKS, {}
    for arm in PAIR:
        runs = experiment.courses(arm, rate)
        for ax, rows in ((left, [c.sharpness * rate / 2 for c in runs]), (right, [c.loss for c in runs])):
            whole = np.array([np.pad(row, (0, len(steps) - len(row)), constant_values=np.nan) for row in rows])
            ax.plot(steps, whole.T, color=ARMS[arm].colour, alpha=0.28, linewidth=0.9)
            ax.plot(steps, np.nanmedian(whole, 0), color=ARMS[arm].colour, linestyle=ARMS[arm].dashes)
            ends[ax, arm] = float(np.nanmedian(whole[:, -1]))
    left.axhline(1, color=MUTED, linewidth=1, linestyle=DASHED)
    left.text(198, 1.15, "2 / rate", color=MUTED, fontsize=9, ha="right")
    for ax, limits, ticks in ((left, (0.03, 30), (0.1, 1, 10)), (right, (0.002, 6), (0.01, 0.1, 1))):
        step_axis(ax, steps[-1])
        log_axis(ax.yaxis, limits, ticks)
    make_room(fig, ARMS["plain"].label)
    label_ends(right, {arm: ends[right, arm] for arm in PAIR})
    last = {arm: experiment.at_the_end(arm, rate) for arm in PAIR}
    curved, losses = (
        told({arm: np.median(each[what]) for arm, each in last.items()}, rounded) for what in ("sharpness", "loss")
    )
    return fig, (
        f"Rate {rate:g}, medians of {SEEDS} seeds at the end. Curvature in units of 2 / rate: {curved}; loss: {losses}."
    )


# --- other normalisations --------------------------------------------------------------------------------------------


TRAINING = "final training loss"


@explore(quantity=[*Quantity, TRAINING])
def relatives(quantity: str = Quantity.LOSS) -> Drawing:
    """Is it BN that makes the bands narrow, or would any normalisation do?"""
    arms = ("plain", *RELATIVES)
    if quantity == TRAINING:
        found, what = {arm: final_loss_ratios(FIRST, arm) for arm in arms}, TRAINING
    else:
        found, what = {arm: ratios(FIRST, Quantity(quantity), arm=arm) for arm in arms}, WHAT[Quantity(quantity)]
    fig, (ax,) = figure(f"{what}, times BN's", height=2.9, left=1.0)
    dot_rows(ax, {ARMS[arm].label: {arm: values} for arm, values in found.items()})
    log_axis(ax.xaxis, *(((0.8, 1.6), (0.8, 1, 1.2, 1.4)) if quantity == TRAINING else ((0.4, 20), (0.5, 1, 2, 5, 10))))
    ax.axvline(1, color=INK, linewidth=1)
    ax.set_xlabel("times BN's" if quantity == TRAINING else "times BN's, second half of training")
    return fig, (
        f"{FIRST}, {RELATIVE_SEEDS} seeds (plain {SEEDS}): times BN's, the {what} is "
        f"{told(found, lambda values: between(intervals.ratio(values)))} (95 % intervals)."
    )


# --- before the first update -----------------------------------------------------------------------------------------


@explore(initialisation=["Glorot", "He"])
def untrained(initialisation: str = "He") -> Drawing:
    """How flat is a network that has not been trained?"""
    fig, panels = figure("length of gradient", "range of the loss", height=3.3)
    found = {arm: experiment.at_start(initialisation.lower(), arm) for arm in PAIR}
    for arm, start in found.items():
        for ax, values in zip(panels, (start.gradient_norm, start.loss_range), strict=True):
            ax.plot(DEPTHS, values.T, "o", color=ARMS[arm].colour, markersize=3.5, alpha=0.45, markeredgewidth=0)
            ax.plot(DEPTHS, np.exp(np.log(values).mean(0)), color=ARMS[arm].colour, linestyle=ARMS[arm].dashes)
    for ax, limits in zip(panels, ((0.05, 300), (3e-4, 10)), strict=True):
        log_axis(ax.yaxis, limits)
        ax.set(xlim=(1, 21), xticks=DEPTHS, xlabel="hidden layers")
    key(panels[0], PAIR, top=0.98)
    plain, bn, ten = found["plain"], found["bn"], DEPTHS.index(10)
    return fig, (
        f"{initialisation} initialisation, before the first update, {SEEDS} seeds: with 10 layers the plain network's "
        f"gradient is {times((plain.gradient_norm / bn.gradient_norm)[:, ten])} as long as BN's, and its range of the "
        f"loss {times((plain.loss_range / bn.loss_range)[:, ten])} as large; with 20 layers BN's gradient is "
        f"{times((bn.gradient_norm / plain.gradient_norm)[:, -1])} as long as the plain network's (95 % intervals)."
    )


# --- a slice in two random directions --------------------------------------------------------------------------------

DIRECTIONS = {"filter by filter": True, "as drawn": False}


@explore(
    step=control(experiment.SLICE_STEPS, label="training step"),
    directions=list(DIRECTIONS),
    factor=control((1, 3), label="BN's weights, times"),
)
def random_slice(step: int = 200, directions: str = "filter by filter", factor: int = 1) -> Drawing:
    """The picture that readers know: a slice of the loss in two random directions."""
    reach, said = experiment.REACH[DIRECTIONS[directions]], {}
    fig, panels = figure("plain", "BN" if factor == 1 else f"BN, weights × {factor}", height=3.6, left=0.75)
    for ax, arm in zip(panels, PAIR, strict=True):
        settings = replace(NETWORKS[FIRST], norm=arm, steps=step)
        losses = experiment.slice_around(settings, 0, factor if arm == "bn" else 1, DIRECTIONS[directions])
        grid = np.linspace(-reach, reach, len(losses))
        image = ax.imshow(losses, norm=LogNorm(0.3, 30), cmap="cividis", origin="lower",
                          extent=(-reach, reach, -reach, reach), aspect="equal", interpolation="bilinear")  # fmt: skip
        levels = 0.4 * 1.25 ** np.arange(24)
        ax.contour(grid, grid, losses, levels=levels, colors=["#fefefe"], linewidths=0.7, alpha=0.7)
        ax.plot(0, 0, "+", color="#fefefe", markersize=9, markeredgewidth=1.8)
        ticks = (-reach, 0, reach)
        ax.set(xticks=ticks, yticks=ticks, xlabel="first direction")
        ax.xaxis.set_major_formatter(lambda value, _: number(value))
        ax.yaxis.set_major_formatter(lambda value, _: number(value))
        ax.grid(visible=False)
        middle = len(losses) // 2
        said[arm] = f"{losses[middle, middle]:.2f} in the middle and up to {losses.max():.2f} in the slice"
    panels[0].set_ylabel("second direction")
    panels[1].tick_params(labelleft=False)
    bar = fig.colorbar(image, ax=panels, orientation="horizontal", extend="max", fraction=0.05, pad=0.22)
    log_axis(bar.ax.xaxis, (0.3, 30), (0.3, 1, 3, 10, 30))
    bar.set_label("loss, in nats")
    return fig, (
        f"{FIRST}, seed 0, step {step}, directions {directions}: the loss of 200 training images is, plain, "
        f"{said['plain']}; with BN{'' if factor == 1 else f' and weights {factor} times as long'}, {said['bn']}."
    )


# --- questions -----------------------------------------------------------------------------------------------------


@predict("it keeps falling, in both", "it keeps falling with BN only", "it rises again, in both")
def predict_four_times() -> Answer:
    """You go against the gradient, four times as far as the step would. Is the loss there lower than where you
    started?
    """
    share = {arm: np.mean([experiment.overshoots(run) for run in probes_of(FIRST, arm)]) for arm in PAIR}
    lower = [share[arm] < 0.5 for arm in PAIR]
    choice = "it keeps falling, in both" if all(lower) else "it rises again, in both"
    return choice if lower[0] == lower[1] else "it keeps falling with BN only", (
        f"In the second half of training the loss there is higher at {share['plain']:.0%} of the moments without BN, "
        f"and at {share['bn']:.0%} with it."
    )


@predict(
    "all three by about the same factor", "the loss most, the largest L least", "the largest L most, the loss least"
)
def predict_three_sizes() -> Answer:
    """By which factor is the plain network's band wider, in the first network: the loss, the change of gradient, the
    effective L?
    """
    found = {name: intervals.ratio(ratios(FIRST, name)).estimate for name in list(Quantity)[:3]}
    loss, gradient, largest = found.values()
    ordered = (
        "the loss most, the largest L least" if loss > gradient > largest else "the largest L most, the loss least"
    )
    same = max(found.values()) < 2 * min(found.values())
    said = ", ".join(f"{name} {number(value, 2)}" for name, value in found.items())
    return "all three by about the same factor" if same else ordered, f"Plain over BN, second half of training: {said}."


ALL, GLOROT, NONE = "in all three networks", "in the two from Glorot's start", "in none"


@predict(ALL, GLOROT, NONE)
def predict_own_rates() -> Answer:
    """Now each network at the rate that is best for it. Does the plain network's gradient still change more along its
    own step, in the second half of training?
    """
    values = {name: ratios(name, Quantity.GRADIENT, rate=Rate.BEST) for name in NETWORKS}
    found = {name: intervals.median(each).estimate for name, each in values.items()}
    more = [name for name, value in found.items() if value > 1]
    choice = {3: ALL, 0: NONE}.get(len(more), GLOROT)
    return choice, f"Times BN's: {'; '.join(f'{name} {number(value, 2)}' for name, value in found.items())}."


@predict("wider", "as wide as before", "narrower")
def predict_faster() -> Answer:
    """The plain network, trained at four times the rate and probed at the same places as before: its band of the loss
    is ...
    """
    own, fast = (intervals.median(ratios(FIRST, Quantity.LOSS, arm=arm)).estimate for arm in ("plain", FAST))
    choice = "wider" if fast > 1.25 * own else "narrower" if fast < own / 1.25 else "as wide as before"
    return choice, f"In the first network: {number(own, 2)} times BN's before, {number(fast, 2)} times then."


@predict("larger without BN", "about the same", "larger with BN")
def predict_equal_loss() -> Answer:
    """At moments of *equal loss*, in the shallow network from He's start: along whose step does the gradient change
    more?
    """
    ratio = intervals.ratio(ratios_at_loss(GOOD, Quantity.GRADIENT)).estimate
    choice = "larger without BN" if ratio > 1.2 else "larger with BN" if ratio < 1 / 1.2 else "about the same"
    return choice, f"The plain network's change of gradient is {number(ratio, 2)} times BN's."


@predict("the plain one, by more than ten times", "the plain one, by a little", "the one with BN")
def predict_untrained() -> Answer:
    """Ten layers from Glorot's start, before the first update. Whose loss is flatter along its gradient?"""
    plain, bn = (experiment.at_start("glorot", arm).loss_range[:, DEPTHS.index(10)] for arm in PAIR)
    times_flatter = intervals.ratio(bn / plain).estimate
    choice = "the one with BN" if times_flatter < 1 else "the plain one, by a little"
    return "the plain one, by more than ten times" if times_flatter > 10 else choice, (
        f"BN's range of the loss is {number(times_flatter, 2)} times the plain network's."
    )


@predict("BN", "l1", "l2", "l∞")
def predict_narrowest() -> Answer:
    """Which of the norms has the smallest change of gradient, and so the narrowest band?"""
    found = {arm: intervals.ratio(ratios(FIRST, Quantity.GRADIENT, arm=arm)).estimate for arm in ("l1", "l2", "linf")}
    best = min({"bn": 1.0, **found}, key={"bn": 1.0, **found}.get)
    said = ", ".join(f"{ARMS[arm].label} {number(value, 2)}" for arm, value in found.items())
    return ARMS[best].label, f"Times BN's change of gradient: {said}."


@exercise("the curvature", "mostly the difference between two batches", "the length of the step")
def quiz_two_batches() -> Answer:
    """What is measured?"""
    return "mostly the difference between two batches", (
        "With a learning rate of 0 the number is not 0. Both gradients must be of the same batch."
    )
