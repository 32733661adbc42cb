"""The playground as a notebook shows it: with a kernel, widgets that train by :func:`utils.training.updates`."""

import asyncio
import html
import os
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from ipywidgets import HTML, Box, Button, Dropdown, FloatProgress, HBox, Layout, VBox

from utils.explore.page import WIDTH, as_png
from utils.observe import trace
from utils.playground.page import CONTROLS, START, TITLE, compose, markup, trouble
from utils.playground.runs import Run, picture
from utils.training import Update, one_thread, updates

MOST_RUNS = 4
LOOKS = ("l1", "noisy", "plain", "bn")  # of runs; plain and BN have their own
FULL = "Four runs stand side by side: remove them first."
OFTEN = 0.4  # seconds between two drawings
_worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="playground")


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
            layers, _ = trace(update.net, update.batch[0])
            run.entered = [np.percentile(layer.activation_input, (5, 25, 50, 75, 95)) for layer in layers]

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
