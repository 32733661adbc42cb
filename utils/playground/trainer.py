"""The playground as a notebook shows it: with a kernel, widgets that train by :func:`utils.training.updates`."""

import asyncio
import html
import os
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ipywidgets import HTML, Box, Button, Dropdown, FloatProgress, HBox, Layout, VBox
from torch import Tensor, nn

from utils.explore.page import WIDTH, as_png
from utils.networks import NONLINEARITIES, preserve_state
from utils.playground.page import CONTROLS, START, TITLE, compose, markup, trouble
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
from utils.training import Settings, Update, evenly_spaced, one_thread, updates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_RUNS = 4
LOOKS = ("l1", "noisy", "plain", "bn")  # of runs; plain and BN have their own
FULL = "Four runs stand side by side: remove them first."
OFTEN = 0.4  # seconds between two drawings
WINDOW = 10  # steps that the loss is averaged over
_worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="playground")


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


def entering(net: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Return what enters each nonlinearity of a network in training, for the batch `x`; the network stays as it is.

    >>> [tuple(each.shape) for each in entering(Settings(depth=2, width=8).network(0), torch.zeros(5, 64))]
    [(5, 8), (5, 8)]
    """
    entered = []
    with preserve_state(net), torch.no_grad():
        for layer in net:
            if isinstance(layer, tuple(NONLINEARITIES.values())):
                entered.append(x)
            x = layer(x)
    return entered


class Trainer(VBox):
    """The controls, a button to train and one to stop, progress, and the picture of up to four runs."""

    def __init__(self) -> None:
        wide = Layout(width="auto")
        self.controls = {
            name: Dropdown(
                options=[(each.text(value), value) for value in each.values],
                value=START[name],
                description=each.label,
                style={"description_width": "7em"},
                layout=wide,
            )
            for name, each in CONTROLS.items()
        }
        self.train, self.stop, self.clear = (Button(description=each) for each in ("Train", "Stop", "Remove all"))
        self.train.button_style, self.stop.disabled, self.clear.disabled = "primary", True, True
        self.progress = FloatProgress(max=1.0, layout=Layout(width="12em", visibility="hidden"))
        self.picture, self.words = HTML(), HTML("Choose, and press Train.")
        self.runs: list[Run] = []
        self._stopped = False
        self.train.on_click(lambda _: self.begin())
        self.stop.on_click(lambda _: self.halt())
        self.clear.on_click(lambda _: self.remove_all())
        grid = Layout(
            display="grid", grid_template_columns="repeat(auto-fit, minmax(16em, 1fr))", max_width=f"{WIDTH}px"
        )
        buttons = HBox([self.train, self.stop, self.clear, self.progress])
        super().__init__([Box(list(self.controls.values()), layout=grid), buttons, self.words, self.picture])

    @property
    def chosen(self) -> dict[str, str | float]:
        """What the controls say, by the names of :data:`utils.playground.CONTROLS`."""
        return {name: control.value for name, control in self.controls.items()}

    def begin(self) -> None:
        """Train what is composed: beside the kernel's other work where it has a loop, else at once."""
        settings, seed = compose(**self.chosen)
        if wrong := trouble(**self.chosen) or (FULL if len(self.runs) == MOST_RUNS else ""):
            self._say(wrong)
            return
        free = [arm for arm in (settings.norm, *LOOKS) if arm in LOOKS and arm not in {run.arm for run in self.runs}]
        run = Run("ABCD"[len(self.runs)], settings, seed, free[0])
        self.runs.append(run)
        self._stopped, self.train.disabled, self.stop.disabled, self.clear.disabled = False, True, False, True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._run(run, lambda call, *told: call(*told))
        else:
            _worker.submit(self._run, run, partial(loop.call_soon_threadsafe))

    def halt(self) -> None:
        """End the training that goes on; what has been seen of it stays."""
        self._stopped = True

    def remove_all(self) -> None:
        """Forget all runs."""
        self.runs.clear()
        self.picture.value, self.clear.disabled = "", True
        self._say("Choose, and press Train.")

    def _run(self, run: Run, post: Callable[..., Any]) -> None:
        """Train, and post what there is to see now and then, and at the end."""
        try:
            test, drawn = run.settings.task(run.seed)[2:], 0.0
            with one_thread():
                for update in updates(run.settings, run.seed):
                    run.see(update, test)
                    if self._stopped:
                        run.state = "stopped"
                        break
                    if update.step and time.monotonic() - drawn > OFTEN:
                        self._look(run, update)
                        post(self._show, as_png(picture(self.runs)), update.step / run.settings.steps)
                        drawn = time.monotonic()
                self._look(run, update)
            run.state = "done" if run.state == "training" else run.state
            post(self._show, as_png(picture(self.runs)), 1.0)
        except BaseException as error:
            run.state = "failed"
            post(self._fail, error)
            raise

    @staticmethod
    def _look(run: Run, update: Update) -> None:
        if run.state != "diverged":
            layers = entering(update.net, update.batch[0])
            run.entered = [np.percentile(each.numpy(), (5, 25, 50, 75, 95)) for each in layers]

    def _show(self, png: bytes, progress: float) -> None:
        sentence = html.escape(" ".join(run.words for run in self.runs))
        source = b64encode(png).decode()
        self.picture.value = f'<img alt="{sentence}" width="{WIDTH}" src="data:image/png;base64,{source}">'
        self.progress.value = progress
        self._rest(progress == 1.0)
        self._say(" ".join(run.words for run in self.runs))

    def _rest(self, rests: bool) -> None:
        self.progress.layout.visibility = "hidden" if rests else "visible"
        self.train.disabled, self.stop.disabled, self.clear.disabled = not rests, rests, not rests

    def _fail(self, error: BaseException) -> None:
        self._rest(True)
        self._say(f"{type(error).__name__}: {error}")

    def _say(self, text: str) -> None:
        self.words.value = f"<p>{html.escape(text)}</p>"


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


class Playground:
    """What IPython displays: widgets with a kernel, and in the book's build the page that its script brings to life."""

    def __init__(self) -> None:
        self.widget = None if "BOOK_FRAMES" in os.environ else Trainer()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict | tuple[dict, dict]:
        if self.widget is None:
            return {"text/plain": TITLE, "text/html": markup()}
        if os.environ.get("BOOK_EXERCISE"):
            self.widget.controls["steps"].value = 50
            self.widget.begin()
        return self.widget._repr_mimebundle_()


def try_anything() -> Playground:
    """Offer the playground."""
    return Playground()
