"""The figures of the page "The length of the weights"."""

import numpy as np

from utils.experiments import scale_invariance as scaling
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.style import (
    DASHED,
    FAINT,
    INK,
    MUTED,
    Arm,
    draw_arm,
    figure,
    label,
    label_ends,
    log_axis,
    look_of,
    make_room,
    number,
    step_axis,
)


@explore(
    factor=control(scaling.FACTORS, label="a, the scale of the weights"),
    eps=control([0.0, 1e-5, 1e-3], label="epsilon"),
)
def scale(factor: float = 0.1, eps: float = 0.0) -> Drawing:
    """Make a normalised layer's weights a times as long: what changes?"""
    one, now = scaling.scaled_layer(1.0, eps), scaling.scaled_layer(factor, eps)
    fig, (left, right) = figure("the layer's output", "gradient and turn", height=3.4)
    left.plot([-4, 4], [-4, 4], color=FAINT, linewidth=5, solid_capstyle="round")
    x, y = (values.output[:, :12].flatten().clamp(-3.9, 3.9) for values in (one, now))
    left.plot(x, y, "o", color=look_of("bn").colour, alpha=0.5, markersize=3.5, markeredgewidth=0)
    left.set(xlim=(-4, 4), ylim=(-4, 4), xlabel="weights W", ylabel="weights aW")
    every = {a: scaling.factors(a, eps) for a in scaling.FACTORS}
    for name, colour, power, dashes in (("gradient", look_of("bn").colour, 1, "-"), ("turn", INK, 2, DASHED)):
        right.plot(scaling.FACTORS, np.array(scaling.FACTORS) ** -power, color=FAINT, linewidth=5)
        right.plot(
            scaling.FACTORS, [each[name] for each in every.values()], color=colour, linewidth=1.6, linestyle=dashes
        )
        right.plot(factor, every[factor][name], "o", color=colour, markersize=8)
    corner = {"transform": right.transAxes, "ha": "right", "va": "top", "fontsize": 10}
    right.text(0.97, 0.95, "turn of one step", color=INK, **corner)
    label(right, "bn", 0.97, 0.85, "gradient", **corner)
    right.set_xlabel("a")
    log_axis(right.xaxis, (6e-4, 1.6e3), [1e-3, 1, 1e3])
    log_axis(right.yaxis, (1e-7, 1e7), [1e-6, 1e-3, 1, 1e3, 1e6])
    fig.subplots_adjust(wspace=0.75)
    return fig, (
        f"With weights {number(factor)} times as long and epsilon {number(eps)}, no output differs by more than "
        f"{number(every[factor]['error'], 1)}; the gradient is {number(every[factor]['gradient'], 3)} times that at "
        f"a = 1, and one SGD step turns the weights {number(every[factor]['turn'], 3)} times as far."
    )


@explore(learning_rate=control(scaling.RATES), layer=control([1, 2, 3], unit="of 3"))
def growth(learning_rate: float = 0.3, layer: int = 2) -> Drawing:
    """The weights of a normalised layer grow, and the steps shrink."""
    steps, runs = scaling.NETWORK.steps, scaling.lengths_by_rate()
    fig, panels = figure("length of W", "rate / length²", height=3.4)
    lengths = {rate: np.array([run.length[:, layer - 1] for run in each]) for rate, each in runs.items()}
    for ax, limits in zip(panels, ((12, 600), (7e-5, 1e-1)), strict=True):
        step_axis(ax, steps, ticks=2)
        log_axis(ax.yaxis, limits, (20, 50, 100, 200, 500) if ax is panels[0] else None)
        values = {rate: lengths[rate] if ax is panels[0] else scaling.effective_rate(rate, layer) for rate in runs}
        for rate in runs:
            ax.plot(values[rate].mean(0), color=MUTED, linewidth=1)
        draw_arm(ax, "bn", np.arange(steps + 1), values[learning_rate])
        colours = {rate: look_of("bn").colour if rate == learning_rate else MUTED for rate in runs}
        label_ends(ax, {Arm(f"{rate:g}", colours[rate]): each[:, -1].mean() for rate, each in values.items()}, 0.07)
    fig.subplots_adjust(wspace=0.75)
    make_room(fig, "0.03")
    before, after = scaling.effective_rate(learning_rate, layer)[:, [0, -1]].T
    grown = lengths[learning_rate][:, [0, -1]].mean(0)
    loss = np.mean([run.loss[-20:].mean() for run in runs[learning_rate]])
    return fig, (
        f"Learning rate {learning_rate:g}, layer {layer}, {len(after)} seeds: in {steps} steps the length goes from "
        f"{grown[0]:.1f} to {grown[1]:.1f}, the effective rate from {number(before.mean(), 2)} to "
        f"{number(after.mean(), 2)}; the training loss of the last 20 batches is {loss:.3f}."
    )


# --- questions -----------------------------------------------------------------------------------------------------


@predict("yes", "no")
def predict_brake() -> Answer:
    """You train with a rate of 3 and with a rate of 10. Can the second end with the smaller effective rate?"""
    three, ten = (scaling.effective_rate(rate, layer=2)[:, -1].mean() for rate in (3.0, 10.0))
    return (
        "yes" if ten < three else "no",
        f"In layer 2, at the end: {number(three, 2)} from 3, {number(ten, 2)} from 10.",
    )


@exercise("not at all: the turn is the same", "10 times less", "100 times less", "10,000 times less")
def quiz_turn() -> Answer:
    """By which factor less does it turn them?"""
    return "100 times less", "The turn goes as the rate over the squared length: 100 / 100² = 1 / 100."
