"""The explorables of the chapter "Count what BatchNorm buys"."""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from utils.data import digits
from utils.explore import Drawing, control, explore
from utils.gains import Lengths, Scaled, held, scaled, steps_saved, usable, watch_lengths
from utils.networks import preactivations
from utils.style import (
    ARMS,
    FAINT,
    INK,
    MUTED,
    WIDTH,
    Arm,
    draw_arm,
    figure,
    label,
    label_ends,
    number,
    per_cent,
    spread,
)
from utils.sweeps import sweep
from utils.training import Run, Settings, train_all, trained

PROCESSES = 2
NORMS = {"plain": "plain", "bn": "torch"}  # PyTorch's layer: the same values as ours, and faster in small networks
SEEDS = 5

# --- steps to the plain network's best -----------------------------------------------------------------------------

RACE_RATES = (0.3, 1.0, 3.0)
RACE = Settings(steps=600, looks=31)
RACERS = {
    "sigmoid, small weights": replace(RACE, init=0.1, steps=1200, looks=61),
    "sigmoid, larger weights": replace(RACE, init=0.3),
    "ReLU, He": replace(RACE, nonlinearity="relu", init="he"),
}


@cache
def races() -> dict[tuple[str, float], tuple[list[Run], list[Run]]]:
    """Train every network at every learning rate, plain and with BN, five seeds each.

    >>> plain, bn = races()["ReLU, He", 0.3]
    """
    keys = [(network, rate) for network in RACERS for rate in RACE_RATES]
    arms = [replace(RACERS[network], norm=norm, lr=rate) for network, rate in keys for norm in NORMS.values()]
    runs = train_all(arms, SEEDS, on=PROCESSES)
    return {key: (runs[2 * i], runs[2 * i + 1]) for i, key in enumerate(keys)}


@explore(
    learning_rate=control(RACE_RATES),
    network=list(RACERS),
)
def race(learning_rate: float = 1.0, network: str = "sigmoid, small weights") -> Drawing:
    """How many steps to the best accuracy of the plain network?"""
    plain, bn = races()[network, learning_rate]
    fig, (ax,) = figure("accuracy on 360 unseen digits", height=3.4)
    last = RACERS[network].steps
    steps, ends = np.linspace(0, last, RACERS[network].looks), {}
    for arm, runs in (("plain", plain), ("bn", bn)):
        curves = np.array([held(run, steps) for run in runs])
        draw_arm(ax, arm, steps, curves)
        ends[arm] = curves[:, -1].mean()
    best = np.array([run.test_accuracy.max() for run in plain])
    said = f"{network}, learning rate {learning_rate:g}, {SEEDS} seeds: "
    said += f"the plain network's best within {last:,} steps is {best.mean():.1%} ± {best.std(ddof=1):.1%}"
    if (best > 0.5).all():
        taken = np.array([steps_saved(*pair) for pair in zip(plain, bn, strict=True)])
        for arm, column in (("plain", taken[:, 0]), ("bn", taken[:, 1])):
            ax.plot(
                column,
                best,
                "o",
                color=ARMS[arm].colour,
                markersize=6,
                markeredgecolor=INK,
                markeredgewidth=0.8,
                clip_on=False,
                zorder=3,
            )
        said += _told(*taken.T)
    else:
        said += f"; it learns in {(best > 0.5).sum()} of {SEEDS}, so there is nothing to race against."
    ax.set(xscale="log", xlim=(20, 1.07 * last), ylim=(0, 1.02), xlabel="training step")
    ticks = [20, 50, 100, 200, 400, last]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    label_ends(ax, ends, gap=0.08)
    fig.subplots_adjust(right=0.86)
    return fig, said


def _told(plain: np.ndarray, bn: np.ndarray) -> str:
    """Say how many steps each took, and the ratio."""
    there = np.isfinite(bn)
    if there.sum() < 3:
        return f", which BN reaches in {there.sum()} of {SEEDS}."
    ratio = plain[there] / bn[there]
    who = "BN" if there.all() else f"BN ({there.sum()} of {SEEDS} get there)"
    return (
        f"; to get there it takes {plain.mean():.0f} ± {plain.std(ddof=1):.0f} steps, {who} "
        f"{bn[there].mean():.0f} ± {bn[there].std(ddof=1):.0f}: {np.median(ratio):.1f} times fewer in the median seed "
        f"({ratio.min():.1f} to {ratio.max():.1f})."
    )


# --- the range of learning rates -----------------------------------------------------------------------------------

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
DEPTHS = (2, 4, 8, 16)
MAP_SEEDS = 3
MAP = Settings(width=32, nonlinearity="relu", steps=120, looks=13)
INITS = {"He": "he", "Glorot": "glorot"}


@cache
def mapped(init: str) -> dict[tuple[str, int, float], list[Run]]:
    """Train all cells of both heat maps, three seeds each.

    >>> mapped("He")["bn", 16, 0.1][0].loss.shape
    (120,)
    """
    keys = [(arm, depth, rate) for arm in NORMS for depth in DEPTHS for rate in RATES]
    arms = [replace(MAP, norm=NORMS[arm], init=INITS[init], depth=depth, lr=rate) for arm, depth, rate in keys]
    return dict(zip(keys, train_all(arms, MAP_SEEDS, on=PROCESSES), strict=True))


def accuracies(init: str, arm: str) -> np.ndarray:
    """Return the final test accuracy, the mean over seeds: (depths, rates).

    >>> accuracies("He", "bn").shape
    (4, 7)
    """
    runs = mapped(init)
    return np.array([[np.mean([r.test_accuracy[-1] for r in runs[arm, d, lr]]) for lr in RATES] for d in DEPTHS])


@explore(
    learning_rate=control(RATES),
    depth=control(DEPTHS, unit="hidden layers"),
    init=control(list(INITS), label="initialisation"),
)
def rate_map(learning_rate: float = 0.3, depth: int = 8, init: str = "He") -> Drawing:
    """Which learning rates can be used at which depth?"""
    row, column = DEPTHS.index(depth), RATES.index(learning_rate)
    tables = {arm: accuracies(init, arm) for arm in NORMS}
    fig, (left, right) = figure("plain, accuracy in %", "BN, accuracy in %", height=5.0)
    _place(left, 0.62, 2.85, 2.18, 1.78)
    _place(right, 3.02, 2.85, 2.18, 1.78)
    for ax, arm in ((left, "plain"), (right, "bn")):
        _cells(ax, tables[arm], row, column)
    left.set_ylabel("hidden layers")
    right.tick_params(labelleft=False)

    curves = fig.add_axes((0, 0, 1, 1))
    _place(curves, 0.62, 0.5, 4.08, 1.5)
    steps, ends = np.linspace(0, MAP.steps, MAP.looks), {}
    for arm in NORMS:
        seen = np.array([held(run, steps) for run in mapped(init)[arm, depth, learning_rate]])
        draw_arm(curves, arm, steps, seen)
        ends[arm] = seen[:, -1].mean()
    curves.set(xlim=(0, MAP.steps), ylim=(0, 1.02), xlabel="training step")
    curves.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    curves.set_title(f"the framed cell: {depth} layers, rate {learning_rate:g}")
    label_ends(curves, ends, gap=0.15)
    return fig, _ranges(tables, row, column, init)


def _place(ax: Axes, left: float, bottom: float, width: float, height: float) -> None:
    """Put the panel where its figure's inches say."""
    tall = ax.figure.get_figheight()
    ax.set_position((left / WIDTH, bottom / tall, width / WIDTH, height / tall))


def _cells(ax: Axes, table: np.ndarray, row: int, column: int) -> None:
    """Draw the table as a heat map with its numbers; black and white here stay what they are in dark mode."""
    ax.imshow(table, cmap="cividis", vmin=0.1, vmax=1, aspect="auto", origin="lower")
    for (i, j), value in np.ndenumerate(table):
        dark = value < 0.6
        ax.text(
            j, i, f"{100 * value:.0f}", color="#fefefe" if dark else "#000000", fontsize=10, ha="center", va="center"
        )
    for colour, wide in (("#000000", 4.5), ("#fefefe", 2)):
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=wide, clip_on=False)
        ax.add_patch(frame).set_zorder(3)
    ax.set_xticks(range(len(RATES)), [f"{rate:g}".removeprefix("0") for rate in RATES])
    ax.set_yticks(range(len(DEPTHS)), DEPTHS)
    ax.set_xlabel("learning rate")
    ax.grid(visible=False)


def _ranges(tables: dict[str, np.ndarray], row: int, column: int, init: str) -> str:
    best = max(table[row].max() for table in tables.values())
    said = []
    for arm, table in tables.items():
        rates = usable(RATES, table[row], best)
        span = f"{rates[0]:g} to {rates[-1]:g}" if len(rates) > 1 else f"{rates[0]:g} only" if rates else "none"
        said.append(f"{ARMS[arm].label} {table[row, column]:.0%} (usable: {span})")
    return (
        f"{init} initialisation, {DEPTHS[row]} hidden layers, learning rate {RATES[column]:g}, mean of {MAP_SEEDS} "
        f"seeds after {MAP.steps} steps: {', '.join(said)}; usable means at least 0.9 of this depth's best, {best:.0%}."
    )


# --- scale invariance ----------------------------------------------------------------------------------------------

FACTORS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
STEP = 1e-7  # the learning rate of the one step


@cache
def scaled_layer(a: float, eps: float) -> Scaled:
    """Take the second layer of a trained BN network, its weights times `a`, and one SGD step on them.

    >>> scaled_layer(1.0, 0.0).output.shape
    torch.Size([60, 100])
    """
    net = trained(LENGTHS)
    weights = [layer.weight.detach().double() for layer in net if hasattr(layer, "in_features")]
    u = torch.relu(net[1](preactivations(net, digits().x_train[:60])[0])).detach().double()
    return scaled(weights[1], u, weights[-1], digits().y_train[:60], a, STEP, eps)


@explore(
    factor=control(FACTORS, label="a, the scale of the weights"),
    eps=control([0.0, 1e-5, 1e-3], label="epsilon"),
)
def scale(factor: float = 0.1, eps: float = 0.0) -> Drawing:
    """Make a normalised layer's weights a times as long: what changes?"""
    one, now = scaled_layer(1.0, eps), scaled_layer(factor, eps)
    fig, (left, right) = figure("the layer's output", "gradient and turn", height=3.4)
    left.plot([-4, 4], [-4, 4], color=FAINT, linewidth=5, solid_capstyle="round")
    x, y = (values.output[:, :12].flatten().clamp(-3.9, 3.9) for values in (one, now))
    left.plot(x, y, "o", color=ARMS["bn"].colour, alpha=0.5, markersize=3.5, markeredgewidth=0)
    left.set(xlim=(-4, 4), ylim=(-4, 4), xlabel="weights W", ylabel="weights aW")
    lines = {}
    for name, colour, power in (("gradient", ARMS["bn"].colour, 1), ("turn", INK, 2)):
        values = np.array([_size(scaled_layer(a, eps), name) for a in FACTORS]) / _size(one, name)
        right.plot(FACTORS, np.array(FACTORS) ** -power, color=FAINT, linewidth=5)
        right.plot(FACTORS, values, color=colour, linewidth=1.6, linestyle="-" if power == 1 else (0, (4, 2)))
        lines[name] = values[FACTORS.index(factor)]
        right.plot(factor, lines[name], "o", color=colour, markersize=8)
    right.text(0.97, 0.95, "turn of one step", color=INK, transform=right.transAxes, ha="right", va="top", fontsize=10)
    label(right, "bn", 0.97, 0.85, "gradient", transform=right.transAxes, ha="right", va="top", fontsize=10)
    right.set(xscale="log", yscale="log", xlabel="a", xlim=(6e-4, 1.6e3), ylim=(1e-7, 1e7))
    right.set_xticks([1e-3, 1, 1e3], ["0.001", "1", "1000"])
    right.set_yticks([1e-6, 1e-3, 1, 1e3, 1e6])
    right.minorticks_off()
    off = (one.output - now.output).abs().max().item()
    return fig, (
        f"With weights {number(factor)} times as long and epsilon {number(eps)}, no output differs by more than "
        f"{number(off, 1)}; the "
        f"gradient is {_plainly(lines['gradient'])} times that at a = 1, and one SGD step turns the weights "
        f"{_plainly(lines['turn'])} times as far."
    )


def _plainly(value: float) -> str:
    """Three digits, large numbers in full.

    >>> _plainly(260_818.1), _plainly(1.0008e-06)
    ('261,000', '10⁻⁶')
    """
    return number(float(f"{value:.3g}"))


def _size(layer: Scaled, name: str) -> float:
    return layer.gradient.norm().item() if name == "gradient" else layer.turn.mean().item()


LENGTH_RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
LENGTH_STEPS = 300
LENGTHS = Settings("bn", depth=3, width=100, nonlinearity="relu", init="he", lr=0.3, steps=LENGTH_STEPS)


@cache
def watched() -> dict[float, list[Lengths]]:
    """Train at each learning rate, five seeds each, and watch the lengths of the weights.

    >>> watched()[0.1][0].length.shape
    (301, 3)
    """
    jobs = [(replace(LENGTHS, lr=rate), seed) for rate in LENGTH_RATES for seed in range(SEEDS)]
    runs = sweep(watch_lengths, jobs, on=PROCESSES)
    return {rate: runs[i * SEEDS : (i + 1) * SEEDS] for i, rate in enumerate(LENGTH_RATES)}


@explore(
    learning_rate=control(LENGTH_RATES),
    layer=control([1, 2, 3], unit="of 3"),
)
def growth(learning_rate: float = 3.0, layer: int = 2) -> Drawing:
    """The weights of a normalised layer grow, and the steps shrink."""
    every = {rate: np.array([run.length[:, layer - 1] for run in runs]) for rate, runs in watched().items()}
    steps = np.arange(LENGTH_STEPS + 1)
    fig, (left, right) = figure("length of W", "rate / length²", height=3.4)
    for rate, runs in sorted(every.items(), key=lambda item: item[0] == learning_rate):
        chosen = rate == learning_rate
        for ax, values in ((left, runs), (right, rate / runs**2)):
            if chosen:
                draw_arm(ax, "bn", steps, values)
            else:
                ax.plot(steps, values.mean(0), color=MUTED, linewidth=1, alpha=0.7)
    left.set(yscale="log", xlim=(0, LENGTH_STEPS), ylim=(12, 400), xlabel="training step", xticks=[0, 150, 300])
    left.set_yticks([20, 50, 100, 200], ["20", "50", "100", "200"])
    right.set(yscale="log", xlim=(0, LENGTH_STEPS), ylim=(7e-5, 1e-1), xlabel="training step", xticks=[0, 150, 300])
    right.set_yticks([1e-4, 1e-3, 1e-2, 1e-1], ["0.0001", "0.001", "0.01", "0.1"])
    below = 0.0
    for end, rate in sorted(((rate / runs[:, -1] ** 2).mean(), rate) for rate, runs in every.items()):
        below = max(end, 1.5 * below)
        chosen = {"color": ARMS["bn"].colour, "fontweight": "bold"} if rate == learning_rate else {"color": MUTED}
        right.text(LENGTH_STEPS * 1.03, below, f"{rate:g}", fontsize=9, va="center", **chosen)
    for ax, x, width in ((left, 0.5, 1.75), (right, 3.05, 1.9)):
        ax.minorticks_off()
        _place(ax, x, 0.55, width, 2.49)
    runs = every[learning_rate]
    before, after = learning_rate / runs[:, 0] ** 2, learning_rate / runs[:, -1] ** 2
    loss = np.array([run.loss[-20:].mean() for run in watched()[learning_rate]])
    return fig, (
        f"Learning rate {learning_rate:g}, layer {layer}, {SEEDS} seeds: in {LENGTH_STEPS} steps the length goes from "
        f"{runs[:, 0].mean():.1f} to {runs[:, -1].mean():.1f} ± {runs[:, -1].std(ddof=1):.1f}, the effective rate from "
        f"{before.mean():.4f} to {after.mean():.4f}; the training loss of the last 20 batches is {loss.mean():.3f} ± "
        f"{loss.std(ddof=1):.3f}."
    )


# --- regularisation ------------------------------------------------------------------------------------------------

EXAMPLES = (100, 200, 800)
FEW = Settings(depth=3, width=100, nonlinearity="relu", init="he", lr=0.1, batch_size=32, steps=400, looks=21)
FEW_ARMS = {
    "plain": FEW,
    "bn": replace(FEW, norm=NORMS["bn"]),
    "dropout": replace(FEW, dropout=0.3),
}
DROPOUT = Arm("dropout", INK, (0, (2, 1.2)))


@cache
def few(examples: int, batch_size: int = 32) -> dict[str, list[Run]]:
    """Train the three arms on the first few digits, five seeds each.

    >>> sorted(few(100))
    ['bn', 'dropout', 'plain']
    """
    arms = [replace(arm, examples=examples, batch_size=batch_size) for arm in FEW_ARMS.values()]
    return dict(zip(FEW_ARMS, train_all(arms, SEEDS, on=PROCESSES), strict=True))


@explore(
    examples=control(EXAMPLES, label="training examples"),
    shown=["loss", "accuracy"],
)
def regularisation(examples: int = 200, shown: str = "loss") -> Drawing:
    """Trained on few examples: what does BN do for unseen ones, and what does dropout do?"""
    fig, (ax,) = figure(f"{shown} on 360 unseen digits" + (", in nats" if shown == "loss" else ""), height=3.4)
    said, ends = [], {}
    for arm, runs in few(examples).items():
        curves = np.array([run.test_loss if shown == "loss" else run.test_accuracy for run in runs])
        look = ARMS.get(arm, DROPOUT)
        draw_arm(ax, look, runs[0].looked, curves)
        ends[look] = curves[:, -1].mean()
        last = curves[:, -1]
        said.append(f"{look.label} {spread(last, 3) if shown == 'loss' else per_cent(last)}")
    ax.set(xlim=(0, FEW.steps), xlabel="training step")
    if shown == "loss":
        ax.set(yscale="log", ylim=(0.08, 4))
        ax.set_yticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
        ax.minorticks_off()
    else:
        ax.set_ylim(0.6, 1)
        ax.set_yticks([0.6, 0.7, 0.8, 0.9, 1], ["60 %", "70 %", "80 %", "90 %", "100 %"])
    label_ends(ax, ends, gap=0.09)
    fig.subplots_adjust(right=0.82)
    return fig, f"{examples} training examples, {FEW.steps} steps, {SEEDS} seeds: test {shown} {', '.join(said)}."
