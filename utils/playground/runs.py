"""What has been seen of the networks that train in a notebook's playground, and its picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from utils.networks import preserve_state
from utils.style import (
    ARMS,
    INK,
    Arm,
    category_axis,
    draw_arm,
    figure,
    label_ends,
    log_axis,
    make_room,
    percent_axis,
    running_mean,
    step_axis,
)
from utils.training import Settings, Update, evenly_spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW = 10  # steps that the loss is averaged over


@dataclass
class Run:
    """A composition in training, and what has been seen of it."""

    name: str
    settings: Settings
    seed: int
    arm: str  # of style.ARMS, whose colour and dashes it has
    loss: list[float] = field(default_factory=list)
    tests: list[tuple[int, float]] = field(default_factory=list)  # (step, accuracy)
    entered: list[np.ndarray] = field(default_factory=list)  # percentiles 5, 25, 50, 75, 95 of each layer
    state: str = "training"

    @property
    def look(self) -> Arm:
        """How it is drawn and named."""
        return replace(ARMS[self.arm], label=self.name)

    @property
    def words(self) -> str:
        """What it is and what it has come to, as a sentence."""
        s, step = self.settings, len(self.loss)
        what = f"{self.name} ({ARMS[s.norm].label}, {s.depth} × {s.width} {s.nonlinearity}, rate {s.lr:g})"
        if self.state == "diverged":
            return f"{what} diverged: after {step} steps the loss is no finite number."
        if not step:
            return f"{what} begins."
        loss, accuracy = np.mean(self.loss[-WINDOW:]), self.tests[-1][1]
        when = f"after {step} steps" if self.state == "done" else f"{self.state} at step {step} of {s.steps}"
        return f"{what} {when}: loss {loss:.2g}, {accuracy:.0%} of the test data right."

    def see(self, update: Update, test: tuple[Tensor, Tensor]) -> None:
        """Take in an update, and look at the test data when it is time."""
        if update.step:
            self.loss.append(update.loss)
        if not np.isfinite(update.loss):
            self.state = "diverged"
        elif update.step in evenly_spaced(self.settings.steps, self.settings.n_evals):
            with preserve_state(update.net, training=False), torch.no_grad():
                right = update.net(test[0]).argmax(1) == test[1]
            self.tests.append((update.step, right.float().mean().item()))


def picture(runs: Sequence[Run]) -> "Figure":
    """Draw the runs: loss, test accuracy, and for each layer where its nonlinearity's inputs lie."""
    below = [f"what enters {run.name}'s layers" for run in runs]
    below += [""] * (len(below) % 2)
    rows = 1 + len(below) // 2
    fig, (loss, accuracy, *panels) = figure("loss on the batch", "test accuracy", *below, rows=rows, height=2.6 * rows)
    longest = max(run.settings.steps for run in runs)
    curves = {run.look: running_mean(run.loss, min(WINDOW, len(run.loss))) for run in runs if run.loss}
    finite = np.concatenate([each[np.isfinite(each)] for each in curves.values()])
    log_axis(loss.yaxis, (max(1e-5, finite.min(initial=0.1) / 1.5), 10))
    percent_axis(accuracy.yaxis)
    make_room(fig, "A")
    for ax in (loss, accuracy):
        step_axis(ax, longest, ticks=3)
    for run in runs:
        if run.loss:
            draw_arm(
                loss,
                run.look,
                np.arange(len(curves[run.look])) + len(run.loss) - len(curves[run.look]) + 1,
                curves[run.look],
            )
        draw_arm(accuracy, run.look, *np.array(run.tests).T)
    label_ends(accuracy, {run.look: run.tests[-1][1] for run in runs})
    for ax, run in zip(panels, runs, strict=False):
        _draw_layers(ax, run)
    if len(runs) % 2:
        panels[-1].set_axis_off()
    return fig


def _draw_layers(ax: "Axes", run: Run) -> None:
    """A row a layer: nine in ten of the values as a thin line, half of them as a thick one, their median."""
    layers = range(1, len(run.entered) + 1)
    category_axis(ax, [f"{layer}" if len(layers) < 11 or layer % 5 == 0 else "" for layer in layers])
    for row, (low, from_, median, to, high) in enumerate(run.entered):
        ax.plot([low, high], [row, row], color=run.look.colour, linewidth=1)
        ax.plot([from_, to], [row, row], color=run.look.colour, linewidth=4)
        ax.plot(median, row, color=INK, marker="|", markersize=7)
    ax.set_ylabel("layer")
