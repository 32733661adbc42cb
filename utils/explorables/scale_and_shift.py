"""The explorables of the chapter "Scale and shift"."""

from dataclasses import replace
from functools import cache

import numpy as np

from utils.batchnorm import normalize
from utils.data import digits
from utils.explore import Drawing, control, explore
from utils.networks import preactivations
from utils.style import ARMS, DATA, INK, MUTED, draw_arm, figure, label_ends
from utils.training import Settings, train, train_all, trained, watch_statistics

BLUE = ARMS["bn"].colour
STEPS = 1200
SEEDS = 5
NETWORKS = {
    "sigmoid": Settings("bn", nonlinearity="sigmoid", lr=1.0, steps=STEPS),
    "tanh": Settings("bn", nonlinearity="tanh", lr=0.1, steps=STEPS),
    "ReLU": Settings("bn", nonlinearity="relu", init="he", lr=0.1, steps=STEPS),
}


@cache
def normalised_values(layer: int = 2) -> np.ndarray:
    """Every unit of one hidden layer of a trained plain sigmoid network, normalised over the training images.

    >>> normalised_values().shape
    (143700,)
    """
    net = trained(Settings(nonlinearity="sigmoid", lr=1.0, steps=STEPS))
    values = preactivations(net, digits().x_train)[layer - 1].double()
    return normalize(values, eps=0).flatten().numpy()


@explore(
    gamma=control([0.25, 0.5, 1.0, 2.0, 4.0, 8.0], label="γ, the scale"),
    beta=control([-4.0, -2.0, 0.0, 2.0, 4.0], label="β, the shift"),
)
def sigmoid_range(gamma: float = 1.0, beta: float = 0.0) -> Drawing:
    """How much of the sigmoid do normalised values use?"""
    z = gamma * normalised_values() + beta
    out = 1 / (1 + np.exp(-z))
    slope, height = np.polyfit(z, out, 1)
    straight = 1 - np.var(out - slope * z - height) / np.var(out)

    fig, (left, right) = figure("sigmoid and its input", "its output", height=3.1)
    x = np.linspace(-10, 10, 400)
    counts, edges = np.histogram(z, bins=80, range=(-10, 10))
    left.stairs(0.45 * counts / counts.max(), edges, fill=True, color=DATA, alpha=0.7)
    left.plot(x, 1 / (1 + np.exp(-x)), color=INK)
    ends = np.quantile(z, [0.01, 0.99])
    left.plot(ends, slope * ends + height, color=MUTED, linewidth=2, linestyle=(0, (2, 1)))
    left.text(-9.6, 0.72, "dashed: best\nstraight line", color=MUTED, fontsize=9)
    left.set(xlim=(-10, 10), ylim=(0, 1.02), xlabel="γ · normalised x + β")
    right.hist(out, bins=40, range=(0, 1), color=DATA)
    right.set(xlim=(0, 1), xlabel="sigmoid's output", yticks=[])
    return fig, (
        f"With γ = {gamma:g} and β = {beta:g}, a straight line explains {straight:.1%} of the variance of the output, "
        f"and {np.mean((out < 0.05) | (out > 0.95)):.0%} of the outputs are within 0.05 of 0 or 1."
    )


@explore(
    step=control(range(0, STEPS + 1, 100), label="training step", plays=True),
    layer=control([1, 2, 3], unit="of 3"),
    nonlinearity=["sigmoid", "ReLU"],
)
def learned(step: int = STEPS, layer: int = 3, nonlinearity: str = "sigmoid") -> Drawing:
    """What a network learns for γ and β: each dot is one of the layer's 100 units."""
    run = train(replace(NETWORKS[nonlinearity], lr=1.0), seed=0)
    gamma, beta = run.gamma[layer - 1], run.beta[layer - 1]
    now = int(np.searchsorted(run.looked, step))

    fig, (left, right) = figure("one dot a unit", "middle 70 % of units", height=3.3, left=0.78)
    left.plot(gamma[: now + 1], beta[: now + 1], color=BLUE, linewidth=0.6, alpha=0.3)
    left.plot(gamma[now], beta[now], "o", color=BLUE, markersize=4, alpha=0.7, markeredgewidth=0)
    left.plot(1, 0, "+", color=INK, markersize=13, markeredgewidth=2)
    left.set(xlabel="γ", ylabel="β", xlim=(0.8, 1.9), ylim=(-0.5, 0.5))
    for values, name, colour in ((gamma, "γ", BLUE), (beta, "β", INK)):
        low, middle, high = np.percentile(values, [15, 50, 85], axis=1)
        right.fill_between(run.looked, low, high, color=colour, alpha=0.25, linewidth=0)
        right.plot(run.looked, middle, color=colour)
        right.text(0.95 * STEPS, middle[-1] + 0.1, name, color=colour, fontweight="bold", ha="right", va="bottom")
    right.axvline(step, color=MUTED, linewidth=1.4, linestyle=(0, (4, 2)))
    right.set(xlim=(0, STEPS), ylim=(-0.5, 2.0), xlabel="training step", xticks=[0, 600, 1200])
    return fig, (
        f"After {step:,} steps, layer {layer} of the {nonlinearity} network (seed 0) has γ = {gamma[now].mean():.2f} ± "
        f"{gamma[now].std():.2f} and β = {beta[now].mean():.2f} ± {beta[now].std():.2f} over its 100 units."
    )


@explore(
    momentum=control([0.01, 0.03, 0.1, 0.3, 1.0]),
    statistic=["mean", "variance"],
    layer=control([1, 2, 3], unit="of 3"),
)
def running_statistics(momentum: float = 0.1, statistic: str = "mean", layer: int = 1) -> Drawing:
    """The statistics that evaluation will use, chasing a network that is still learning."""
    settings = Settings("bn", nonlinearity="sigmoid", lr=1.0, steps=200)
    watched = watch_statistics(settings, seed=0, layer=layer)
    m = settings.batch_size
    if statistic == "mean":
        whole, batch, running = watched.mean, watched.batch_mean, [0.0]
    else:
        whole, batch, running = watched.var, watched.batch_var * m / (m - 1), [1.0]
    for value in batch:
        running.append((1 - momentum) * running[-1] + momentum * value)
    running = np.array(running[1:])

    fig, (ax,) = figure(f"{statistic} of a unit", height=3.2)
    steps = np.arange(1, len(batch) + 1)
    ax.plot(steps, batch, ".", color=MUTED, markersize=3.5)
    ax.plot(steps, whole, color=INK, linewidth=1.6, linestyle=(0, (4, 2)))
    ax.plot(steps, running, color=BLUE)
    shown = np.concatenate([batch, whole, running[40:]])
    margin = 0.08 * np.ptp(shown)
    ax.set(xlim=(0, len(batch)), ylim=(shown.min() - margin, shown.max() + margin), xlabel="training step")
    for x, text, colour in ((0.36, "— running", BLUE), (0.56, "- - whole data", INK), (0.78, "· mini-batches", MUTED)):
        ax.text(x, 1.035, text, color=colour, transform=ax.transAxes, fontsize=9.5)
    late = np.abs(running - whole)[20:].mean()
    return fig, (
        f"With momentum {momentum:g}, the running {statistic} is off by {late:.2g} on average from step 20 to 200; a "
        f"single mini-batch of {m} is off by {np.abs(batch - whole)[20:].mean():.2g}."
    )


@explore(
    nonlinearity=list(NETWORKS),
    depth=control([1, 3], unit="hidden layers"),
)
def without_scale_and_shift(nonlinearity: str = "sigmoid", depth: int = 3) -> Drawing:
    """Does the network miss γ and β when they are taken away?"""
    base = NETWORKS[nonlinearity]
    names = ("plain", "bn", "bn, no scale and shift")
    arms = [replace(base, norm=name, depth=depth, steps=600) for name in names]
    fig, (ax,) = figure("training loss, mean of the last 50 batches", height=3.2)
    ax.set(yscale="log", xlim=(50, 600), ylim=(0.008, 3), xlabel="training step")
    said, ends = [], {}
    for name, runs in zip(names, train_all(arms, SEEDS), strict=True):
        losses = np.array([np.convolve(run.loss, np.ones(50) / 50, "valid") for run in runs])
        accuracy = np.array([run.test_accuracy[-4:].mean() for run in runs])
        draw_arm(ax, name, np.arange(50, 601), losses)
        ends[name] = losses[:, -1].mean()
        said.append(
            f"{ARMS[name].label} {losses[:, -1].mean():.3f} ± {losses[:, -1].std(ddof=1):.3f} "
            f"({accuracy.mean():.1%} ± {accuracy.std(ddof=1):.1%})"
        )
    label_ends(ax, ends, gap=0.08)
    fig.subplots_adjust(right=0.78)
    return fig, f"Training loss (and test accuracy), {SEEDS} seeds, after 600 steps: {'; '.join(said)}."
