"""The explorable of the first page: a deep network, with and without BN, at a learning rate of the reader's choice."""

from dataclasses import replace

import numpy as np

from utils.explore import Drawing, control, explore, picture
from utils.style import ARMS, MUTED, draw_arm, figure, label, label_ends

SEEDS = 5
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
DEPTHS = (5, 10, 20)


@explore(
    learning_rate=control(RATES),
    depth=control(DEPTHS, unit="hidden layers"),
)
def deep_network(learning_rate: float = 0.1, depth: int = 10) -> Drawing:
    """The same network, the same data: how large a step survives?"""
    from utils.gains import DEEP, held  # here, so that the first controls of the book need not wait for torch
    from utils.training import train_all

    plain = replace(DEEP, depth=depth, lr=learning_rate)
    arms, steps = [plain, replace(plain, norm="bn")], plain.steps
    fig, (ax,) = figure("accuracy on 360 unseen digits", height=3.2)
    said, ends = [], {}
    for arm, runs in zip(arms, train_all(arms, SEEDS), strict=True):
        looked = np.linspace(0, steps, arm.looks)
        curves = np.array([held(run, looked) for run in runs])
        draw_arm(ax, arm.norm, looked, curves)
        final, diverged = curves[:, -1], sum(run.diverged_at is not None for run in runs)
        ends[arm.norm] = final.mean()
        said.append(
            f"{final.mean():.1%} ± {final.std(ddof=1):.1%} correct {'with BN' if arm.norm == 'bn' else 'without'}"
            + (f" ({diverged} of {SEEDS} runs diverged)" if diverged else "")
        )
    ax.axhline(0.1, color=MUTED, linewidth=1, linestyle=":")
    ax.text(steps / 2, 0.085, "guessing", color=MUTED, fontsize=9, ha="center", va="top")
    ax.set(xlim=(0, steps), ylim=(0, 1.02), xlabel="training step")
    label_ends(ax, ends, gap=0.08)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    fig.subplots_adjust(right=0.85)
    return fig, (
        f"{depth} hidden layers, learning rate {learning_rate:g}, {steps} steps, {SEEDS} seeds: {said[0]}, {said[1]}."
    )


@picture
def arms() -> Drawing:
    """One arm, one colour, one line, in the whole book."""
    rows = -(-len(ARMS) // 2)
    fig, (ax,) = figure("", height=0.5 * rows + 0.3)
    for place, (arm, look) in enumerate(ARMS.items()):
        column, row = divmod(place, rows)
        ax.plot([column * 3, column * 3 + 0.8], [-row, -row], color=look.colour, linestyle=look.dashes)
        label(ax, arm, column * 3 + 1, -row, va="center")
    ax.set(xlim=(-0.1, 5.8), ylim=(0.4 - rows, 0.6))
    ax.set_axis_off()
    fig.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.98)
    return fig, f"The arms: {', '.join(look.label for look in ARMS.values())}."
