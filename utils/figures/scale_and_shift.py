"""The figures of the chapter "Scale and shift"."""

import numpy as np
from scipy.special import expit

from utils.experiments import scale_and_shift as experiment
from utils.experiments.scale_and_shift import (
    LAST,
    NETWORKS,
    STEPS,
    chosen_rates,
    compared,
    normalized_values,
    outcomes,
    straight_line,
)
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.style import (
    ARMS,
    DASHED,
    DATA,
    DOTTED,
    INK,
    MUTED,
    draw_arms,
    figure,
    log_axis,
    per_cent,
    running_mean,
    spread,
    step_axis,
    told,
)
from utils.training import Run

BLUE = ARMS["bn"].colour
LARGEST = 3.0  # loss that is drawn


@explore(
    gamma=control([0.25, 0.5, 1.0, 2.0, 4.0, 8.0], label="γ, the scale"),
    beta=control([-4.0, -2.0, 0.0, 2.0, 4.0], label="β, the shift"),
)
def sigmoid_range(gamma: float = 4.0, beta: float = 0.0) -> Drawing:
    """How much of the sigmoid do normalised values use?"""
    z = gamma * normalized_values() + beta
    line = straight_line(z)

    fig, (left, right) = figure("sigmoid and its input", "its output", height=3.1)
    x = np.linspace(-10, 10, 400)
    counts, edges = np.histogram(z, bins=80, range=(-10, 10))
    left.stairs(0.45 * counts / counts.max(), edges, fill=True, color=DATA, alpha=0.7)
    left.plot(x, expit(x), color=INK)
    ends = np.quantile(z, [0.01, 0.99])
    left.plot(ends, line.slope * ends + line.intercept, color=MUTED, linewidth=2, linestyle=DOTTED)
    left.text(-9.6, 0.72, "dotted: best\nstraight line", color=MUTED, fontsize=9)
    left.set(xlim=(-10, 10), ylim=(0, 1.02), xlabel="γ · normalised x + β")
    right.hist(line.out, bins=40, range=(0, 1), color=DATA)
    right.set(xlim=(0, 1), xlabel="sigmoid's output", yticks=[])
    flat = np.mean((line.out < 0.05) | (line.out > 0.95))
    return fig, (
        f"With γ = {gamma:g} and β = {beta:g}, a straight line explains {line.explained:.1%} of the variance of the "
        f"output, and {flat:.0%} of the outputs are within 0.05 of 0 or 1."
    )


@explore(
    step=control(range(0, STEPS + 1, 25), label="training step", plays=True),
    layer=control([1, 2, 3], unit="of 3"),
    nonlinearity=["sigmoid", "ReLU"],
)
def learned(step: int = 0, layer: int = 3, nonlinearity: str = "sigmoid") -> Drawing:
    """What a network learns for γ and β: each dot is one of the layer's 100 units."""
    run = experiment.learned(nonlinearity)[0]
    gamma, beta = run.gamma[layer - 1], run.beta[layer - 1]
    now = int(np.searchsorted(run.eval_steps, step))

    fig, (left, right) = figure("one dot a unit", "middle 70 % of units", height=3.3, left=0.78)
    left.plot(gamma[: now + 1], beta[: now + 1], color=BLUE, linewidth=0.6, alpha=0.3)
    left.plot(gamma[now], beta[now], "o", color=BLUE, markersize=4, alpha=0.7, markeredgewidth=0)
    left.plot(1, 0, "+", color=INK, markersize=13, markeredgewidth=2)
    left.set(xlabel="γ", ylabel="β", xlim=(0.8, 1.9), ylim=(-0.5, 0.5))
    for values, name, colour in ((gamma, "γ", BLUE), (beta, "β", INK)):
        low, middle, high = np.percentile(values, [15, 50, 85], axis=1)
        right.fill_between(run.eval_steps, low, high, color=colour, alpha=0.25, linewidth=0)
        right.plot(run.eval_steps, middle, color=colour)
        right.text(0.95 * STEPS, middle[-1] + 0.1, name, color=colour, fontweight="bold", ha="right", va="bottom")
    right.axvline(step, color=MUTED, linewidth=1.4, linestyle=DASHED)
    right.set_ylim(-0.5, 2.0)
    step_axis(right, STEPS)
    return fig, (
        f"After {step:,} steps, layer {layer} of the {nonlinearity} network (seed 0) has γ = {spread(gamma[now])} and "
        f"β = {spread(beta[now])} over its 100 units."
    )


@explore(network=list(NETWORKS))
def without_scale_and_shift(network: str = "sigmoid, 3 layers") -> Drawing:
    """Does the network miss γ and β when they are taken away?"""
    runs, rates = compared(network), chosen_rates(network)
    fig, (ax,) = figure(f"training loss, mean of {LAST} batches", height=3.2)
    step_axis(ax, STEPS, start=LAST)
    log_axis(ax.yaxis, (0.0005, LARGEST))
    steps = np.arange(LAST, STEPS + 1)
    draw_arms(ax, steps, {arm: _smooth(each) for arm, each in runs.items()})
    said = told(
        {arm: (of, rates[arm]) for arm, of in outcomes(runs).items()},
        lambda both: f"{spread(both[0].loss, 3)} ({per_cent(both[0].accuracy)}) at rate {both[1]:g}",
        joint="; ",
    )
    seeds = len(runs["bn"])
    return fig, f"{network}: training loss (and test accuracy), {seeds} seeds, after {STEPS} steps: {said}."


def _smooth(runs: list[Run]) -> np.ndarray:
    return running_mean(np.minimum(experiment.loss_curves(runs), LARGEST), LAST)


# --- questions -----------------------------------------------------------------------------------------------------


@predict("about a half", "about a tenth", "about a hundredth")
def predict_straight() -> Answer:
    """Replace the sigmoid by the best straight line through these points. How much of its output do you lose?"""
    lost = 1 - straight_line(normalized_values()).explained
    choice = "about a half" if lost > 0.2 else "about a tenth" if lost > 0.04 else "about a hundredth"
    return choice, f"{lost:.1%} of its variance. A unit whose sigmoid gets such inputs is, by itself, almost linear."


@predict("yes, as it was", "no")
def predict_another_batch() -> Answer:
    """Keep these γ and β, and send another batch through. Does it come back unchanged as well?"""
    return "no", "It is normalised by its own mean and variance, and γ and β do not know them."


@predict("near 1, everywhere", "well above 1 in the last layer", "well above 1 in all layers")
def predict_learned() -> Answer:
    """A normalised sigmoid is nearly straight, and γ can change that. After training, what is γ in a network of
    sigmoids?
    """
    gamma = experiment.mean_gammas(experiment.learned("sigmoid")).mean(0)
    high = [layer > 1.15 for layer in gamma]
    names = {(False, False, False): "near 1, everywhere", (True, True, True): "well above 1 in all layers"}
    said = ", ".join(f"{layer:.2f}" for layer in gamma)
    return names.get(tuple(high), "well above 1 in the last layer"), f"Mean γ of layers 1, 2 and 3, ten seeds: {said}."


@exercise("γ = 2, β = 3", "γ = 4, β = 3", "γ = 1/2, β = −3/2")
def quiz_back() -> Answer:
    """In a batch, a unit has the mean 3 and the variance 4 (ε = 0). Which γ and β undo its normalising?"""
    return "γ = 2, β = 3", "γ is the standard deviation, the root of the variance, and β the mean."


@exercise(unit="learned numbers")
def quiz_parameters() -> Answer:
    """A BN layer stands behind 100 units. How many numbers does it learn?"""
    return (
        200.0,
        "γ and β for each unit, whatever the size of the batch. In a convolution it is a pair for each channel.",
    )


@exercise(
    "it stays silent for good: its γ gets no gradient",
    "γ may grow again, though nothing reaches the weights below",
    "nothing changes: β keeps it alive",
)
def quiz_zero() -> Answer:
    """A unit's γ has become exactly 0. Its output is β for every image. What can training still do?"""
    return "γ may grow again, though nothing reaches the weights below", (
        "What goes down is multiplied by γ, so it is 0. But γ's own gradient, the sum of g · x̂, knows nothing of γ."
    )
