"""The figures of the chapter "Scale and shift"."""

import numpy as np
from scipy.special import expit

from utils.experiments import scale_and_shift as experiment
from utils.experiments.scale_and_shift import (
    LAST,
    NETWORKS,
    SETTLED,
    STEPS,
    WATCHED,
    chosen_rates,
    compared,
    normalized_values,
    outcomes,
    running_statistic,
    straight_line,
    watch_statistics,
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


@explore(
    momentum=control([0.01, 0.03, 0.1, 0.3, 1.0]),
    statistic=["mean", "variance"],
    layer=control([1, 2, 3], unit="of 3"),
)
def running_statistics(momentum: float = 0.1, statistic: str = "mean", layer: int = 1) -> Drawing:
    """The statistics that evaluation will use, chasing a network that is still learning."""
    now = running_statistic(watch_statistics(WATCHED)[0], statistic, momentum)
    batch, running, whole = (each[:, layer - 1, 0] for each in (now.batch, now.running, now.whole))

    fig, (ax,) = figure(statistic, height=3.2)
    steps = np.arange(1, len(batch) + 1)
    ax.plot(steps, batch, ".", color=MUTED, markersize=3.5)
    ax.plot(now.eval_steps + 1, whole, color=INK, linewidth=1.6, linestyle=DASHED)
    ax.plot(steps, running, color=BLUE)
    shown = np.concatenate([batch, whole, running[40:]])
    margin = 0.08 * np.ptp(shown)
    ax.set_ylim(shown.min() - margin, shown.max() + margin)
    step_axis(ax, len(batch))
    for x, text, colour in ((0.34, "— running", BLUE), (0.55, "- - whole data", INK), (0.79, "· mini-batches", MUTED)):
        ax.text(x, 1.035, text, color=colour, transform=ax.transAxes, fontsize=9.5)
    off, off_alone = (now.error(each)[layer - 1, 0] for each in (now.running, now.batch))
    return fig, (
        f"Layer {layer}, momentum {momentum:g}: the running {statistic} is off by {off:.2g} on average from step "
        f"{SETTLED} to {len(batch)}; a single mini-batch of {WATCHED.batch_size} is off by {off_alone:.2g}."
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


MOMENTA = ("0.01", "0.1", "1")


@predict(*MOMENTA)
def predict_momentum() -> Answer:
    """A running variance starts at 1, and the network keeps changing. Which momentum keeps it nearest to the truth, in
    layer 1?
    """
    seen = watch_statistics(WATCHED)[0]
    runs = {name: running_statistic(seen, "variance", float(name)) for name in MOMENTA}
    off = {name: run.error(run.running)[0, 0] for name, run in runs.items()}
    said = ", ".join(f"{name}: off by {each:.2g}" for name, each in off.items())
    return min(off, key=off.get), f"On average over the steps after the first {SETTLED}, {said}."


@exercise(
    "ε stands outside of the root, and outside of the division",
    "it should use the batch's variance",
    "nothing: it agrees with PyTorch to four digits",
)
def quiz_eps() -> Answer:
    """What is wrong with this line?"""
    return "ε stands outside of the root, and outside of the division", (
        "It shifts every value by ε and no longer protects: a unit with running variance 0 gives a division by zero. "
        "With ordinary variances the two agree to four digits, so a test must also try a constant unit."
    )


@exercise(unit="learned numbers")
def quiz_parameters() -> Answer:
    """How many does it learn?"""
    return 200.0, (
        "γ and β for each of 100 units. Besides, it keeps a running mean and a running variance for each: 200 more."
    )
