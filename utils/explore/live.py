"""An explorable in a notebook: a view, and where there is a kernel, a widget that draws at every move."""

import asyncio
import contextvars
import os
import signal
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from IPython import get_ipython
from IPython.display import display

from utils.explore.page import SCRIPT, STYLE, WIDTH, State, as_png, markup, published, saved
from utils.progress import Cancelled, report_progress

if TYPE_CHECKING:
    from utils.explore.explorable import Explorable

_worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explore")


class View:
    """One showing of an explorable in a notebook: what IPython displays. It draws when it is first asked for."""

    def __init__(self, explorable: "Explorable", state: State):
        self.explorable, self.state = explorable, state
        self._frames = os.environ.get("BOOK_FRAMES")
        self.widget = Live(explorable, state) if explorable.controls and not self._frames else None

    @cached_property
    def drawn(self) -> tuple[bytes, str]:
        """The picture and its sentence; a widget tells meanwhile how far it is."""
        if not self.widget:
            figure, sentence = self.explorable.draw(**self.state)
            return as_png(figure), sentence
        self.widget.draw()
        first = self.widget.drawn
        if os.environ.get("BOOK_EXERCISE"):
            self.widget.exercise()
        return first["picture"], first["sentence"]

    @property
    def sentence(self) -> str:
        """What the figure shows, in words."""
        return self.drawn[1]

    @cached_property
    def html(self) -> str:
        """In the book's build all states; with a kernel the picture that is kept with the notebook."""
        if self._frames:
            return published(self.explorable, self.state, Path(self._frames), self.drawn[0])
        return saved(*self.drawn, beside_widget=bool(self.widget))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        png, sentence = self.drawn
        bundle = {"text/plain": sentence, "image/png": b64encode(png).decode(), "text/html": self.html}
        return bundle, {"image/png": {"alt": sentence, "width": WIDTH}}

    def _ipython_display_(self) -> None:
        """Show the controls at once, and the picture that is kept when it is drawn."""
        try:
            if self.widget:
                display({"text/plain": self.explorable.title, **self.widget.view()}, raw=True)
            data, metadata = self._repr_mimebundle_()
            display(data, metadata=metadata, raw=True)
        except Exception as error:
            if cell := get_ipython().displayhook.exec_result:
                cell.error_in_exec = error  # else IPython prints it and lets the cell pass
            raise


class Live(anywidget.AnyWidget):
    """The controls and the picture in JupyterLab: each move draws anew, the latest move wins."""

    _esm = SCRIPT + "\nexport default { initialize, render: live };\n"
    _css = STYLE
    html = traitlets.Unicode().tag(sync=True)
    state = traitlets.List(traitlets.Int()).tag(sync=True)  # the index of each control's value
    dark = traitlets.Bool(False).tag(sync=True)
    drawn = traitlets.Dict().tag(sync=True)  # picture, sentence, state: together, so that they never disagree
    progress = traitlets.Float(0.0).tag(sync=True)  # 1 at rest
    error = traitlets.Unicode().tag(sync=True)
    _interrupts = 0

    def __init__(self, explorable: "Explorable", state: State):
        self._explorable, self._move, self._inline = explorable, 0, False
        index = explorable.indices(state)
        super().__init__(html=markup(explorable, index, "", '<img alt="" decoding="sync">'), state=index)
        self.observe(self._moved, ["state", "dark"])

    def draw(self) -> None:
        """Draw in this thread, and raise what the drawing raises."""
        self._draw((self._move, Live._interrupts), self.set_trait, inline=True)

    def _moved(self, change: Any) -> None:
        self._move += 1
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None or self._inline:
            self.draw()
        else:
            loop.call_soon(Live._hear_interrupts)  # when the kernel is idle again
            context = contextvars.copy_context()
            post = partial(loop.call_soon_threadsafe, self.set_trait, context=context)
            _worker.submit(self._draw, (self._move, Live._interrupts), post)

    @classmethod
    def _hear_interrupts(cls) -> None:
        """Let an interrupt of the kernel end moves: between cells, ipykernel has it ignored."""

        def interrupt(*_: Any) -> None:
            cls._interrupts += 1

        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, interrupt)

    def _draw(self, move: tuple[int, int], post: Callable[[str, Any], None], inline: bool = False) -> None:
        """Draw the state of this move and post it, unless a later move or an interrupt has come."""
        told = time.monotonic()

        def go_on() -> None:
            if move[0] != self._move:
                raise Cancelled
            if move[1] != Live._interrupts:
                raise KeyboardInterrupt

        def listen(done: int, total: int) -> None:
            nonlocal told
            go_on()
            if time.monotonic() - told > 0.1:
                told = time.monotonic()
                post("progress", done / total)

        try:
            go_on()
            with report_progress(listen):
                drawn = self._drawn()
        except Cancelled:
            return
        except (Exception, KeyboardInterrupt) as error:
            post("error", _readable(error))
            post("progress", 1.0)
            if inline:
                raise
        else:
            post("error", "")
            post("drawn", drawn)
            post("progress", 1.0)

    def _drawn(self) -> dict:
        state = self.state
        figure, sentence = self._explorable.draw(**self.values())
        return {"picture": as_png(figure, self.dark), "sentence": sentence, "state": state}

    def view(self) -> dict:
        """What a front end needs to show it."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {"application/vnd.jupyter.widget-view+json": view}

    def values(self) -> State:
        """The chosen value of each control."""
        controls = self._explorable.controls.items()
        return {name: control.values[i] for i, (name, control) in zip(self.state, controls, strict=True)}

    def exercise(self) -> None:
        """Move every control through all its values, and raise what a move raises."""
        start, self._inline = list(self.state), True
        for place, control in enumerate(self._explorable.controls.values()):
            for i in [*range(len(control.values)), start[place]]:
                self.state = [*start[:place], i, *start[place + 1 :]]
        self._inline = False


def _readable(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted before it was drawn: move a control, or run the cell again."
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (in {where.name}, {Path(where.filename).name} line {where.lineno})"
