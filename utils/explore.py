"""One function, four homes: a figure that its reader can move.

    @explore(batch_size=[2, 16, 256])
    def batch_mean(batch_size: int = 16) -> Drawing:
        '''How far a batch's mean strays from the population's.'''
        return figure, "With 16 examples ..."

`batch_mean()` shows it. With a kernel the function runs at every move; while the book is built all its states are
drawn into files; elsewhere the picture of the default state, or its sentence, stands for it.
"""

import asyncio
import contextvars
import html
import inspect
import io
import itertools
import json
import os
import re
import signal
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial, wraps
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from IPython import get_ipython
from IPython.display import display
from PIL import Image

from utils.progress import Cancelled, listening
from utils.style import MINUS, darken, number, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawing = tuple["Figure", str]  # a figure and its sentence
State = dict[str, Any]

MOST_STATES = 100
_HERE = Path(__file__).parent
_worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explore")
_rendering = threading.Lock()  # matplotlib's text layout is shared by all threads


@dataclass(frozen=True)
class Control:
    """What a reader may choose: its values in order, how they read, and whether it is a time that can play."""

    values: tuple
    label: str
    unit: str = ""
    plays: bool = False

    @property
    def kind(self) -> str:
        """`switch` for booleans, `slider` for numbers, `dropdown` for strings.

        >>> Control((1, 2), "x").kind, Control(("a", "b"), "x").kind, Control((False, True), "x").kind
        ('slider', 'dropdown', 'switch')
        """
        for kind, type_ in (("switch", bool), ("slider", (int, float)), ("dropdown", str)):
            if all(isinstance(value, type_) for value in self.values):
                return kind
        raise TypeError(f"{self.label}: expected all numbers, all strings or all booleans, got {self.values!r}")

    def text(self, value: Any) -> str:
        """How a value reads, with its unit.

        >>> Control((1, 60_000), "batch size", "examples").text(60_000), Control((1, 2), "depth", "layers").text(1)
        ('60,000 examples', '1 layer')
        """
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, str):
            return value
        unit = self.unit.removesuffix("s") if value == 1 else self.unit
        return f"{number(value)} {unit}".strip()


def control(values: Sequence | bool, label: str = "", unit: str = "", plays: bool = False) -> Control:
    """Describe a control where a plain list does not say enough: its label, its unit, whether it plays as time.

    >>> control([0, 10, 20], "training step", "steps", plays=True).kind
    'slider'
    """
    if isinstance(values, bool):
        values = (False, True)
    as_python = [value.item() if hasattr(value, "item") else value for value in values]
    return Control(tuple(as_python), label, unit, plays)


def explore(**controls: Sequence | bool | Control) -> Callable[[Callable[..., Drawing]], "Explorable"]:
    """Turn a function that returns a figure and one sentence into an :class:`Explorable`.

    Each keyword names a parameter of the function and lists its values: numbers make a slider, strings a dropdown,
    a boolean a switch; :func:`control` adds a label, a unit, play. The function's defaults are the first state.

    Raises
    ------
    TypeError: a control names no parameter, or a parameter has no control.
    ValueError: a parameter has no default among its values, or there are more than 100 states.
    """
    return lambda function: Explorable(function, controls)


class Explorable:
    """A drawing function with its controls; call it to show it, perhaps in another first state."""

    def __init__(self, function: Callable[..., Drawing], controls: dict[str, Sequence | bool | Control]):
        self.name, self.__doc__ = function.__name__, inspect.getdoc(function) or ""
        self.function = function
        self.controls = {name: self._named(name, given) for name, given in controls.items()}
        parameters = inspect.signature(function).parameters
        if set(parameters) != set(controls):
            raise TypeError(
                f"{self.name}: expected one control for each of the parameters {list(parameters)}, got {list(controls)}"
            )
        self.start = {name: parameters[name].default for name in self.controls}
        self._check(self.start)
        count = len(self.states())
        if count > MOST_STATES:
            raise ValueError(f"{self.name}: expected at most {MOST_STATES} states, got {count}")

    @property
    def title(self) -> str:
        """The first line of its docstring."""
        return self.__doc__.partition("\n")[0]

    @staticmethod
    def _named(name: str, given: Sequence | bool | Control) -> Control:
        made = given if isinstance(given, Control) else control(given)
        made = replace(made, label=made.label or name.replace("_", " "))
        if len(set(made.values)) != len(made.values) or len(made.values) < 2:
            raise ValueError(f"{made.label}: expected two or more different values, got {made.values!r}")
        made.kind  # noqa: B018  (raises where values are of several kinds)
        return made

    def _check(self, state: State) -> None:
        for name, value in state.items():
            if name not in self.controls:
                raise TypeError(f"{self.name}: expected controls among {list(self.controls)}, got {name!r}")
            if value not in self.controls[name].values:
                raise ValueError(f"{self.name}: expected {name} among {self.controls[name].values}, got {value!r}")

    def states(self) -> list[State]:
        """Every state, the last control moving fastest."""
        values = (control.values for control in self.controls.values())
        return [dict(zip(self.controls, chosen, strict=True)) for chosen in itertools.product(*values)]

    def indices(self, state: State) -> list[int]:
        """Where each control's value stands among its values: how a page and a widget name a state."""
        return [control.values.index(state[name]) for name, control in self.controls.items()]

    def draw(self, **state: Any) -> Drawing:
        """Run the function in one state; what is not named stays as it is at first.

        Raises
        ------
        TypeError: the function does not return a figure and a sentence.
        """
        self._check(state)
        return _checked(self.name, self.function(**{**self.start, **state}))

    def __call__(self, **state: Any) -> "View":
        """Show it, in this state at first."""
        self._check(state)
        return View(self, {**self.start, **state})


def picture(function: Callable[..., Drawing]) -> Callable[..., "View"]:
    """Show what a drawing function returns in the same homes and the same look, but without controls."""

    @wraps(function)
    def show(*args: Any, **kwargs: Any) -> View:
        def still() -> Drawing:
            return function(*args, **kwargs)

        still.__name__, still.__doc__ = function.__name__, function.__doc__
        return Explorable(still, {})()

    return show


def _checked(name: str, drawing: Any) -> Drawing:
    figure, sentence = drawing if isinstance(drawing, tuple) and len(drawing) == 2 else (None, None)
    if not (hasattr(figure, "savefig") and isinstance(sentence, str) and sentence.strip()):
        raise TypeError(f"{name}: expected a figure and its sentence, got {type(drawing).__name__} {drawing!r:.80}")
    return figure, re.sub(r"(?<![\w.])-(?=[\d.])", MINUS, sentence)


def _encode(image: Image.Image, format: str) -> bytes:
    """Bytes of the picture in 96 colours: a sixth of the size, and to the eye the same."""
    few = image.quantize(96, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette, paper = few.getpalette(), few.getpixel((0, 0))
    palette[3 * paper : 3 * paper + 3] = image.getpixel((0, 0))  # exactly the page's own
    few.putpalette(palette)
    buffer = io.BytesIO()
    if format == "webp":
        few.convert("RGB").save(buffer, "webp", lossless=True, method=2, quality=20)
    else:
        few.save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _png(figure: "Figure", dark: bool = False) -> bytes:
    with _rendering:
        return _encode(render(darken(figure) if dark else figure), "png")


class View:
    """One showing of an explorable in a notebook: what IPython displays. It draws when it is first asked for."""

    def __init__(self, explorable: Explorable, state: State):
        self.explorable, self.state = explorable, state
        self._frames = os.environ.get("BOOK_FRAMES")
        self.widget = Live(explorable, state) if explorable.controls and not self._frames else None

    @cached_property
    def drawn(self) -> tuple[bytes, str]:
        """The picture and its sentence; a widget tells meanwhile how far it is."""
        if not self.widget:
            figure, sentence = self.explorable.draw(**self.state)
            return _png(figure), sentence
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
            return _page(self.explorable, self.state, Path(self._frames), self.drawn[0])
        return _saved(*self.drawn, beside_widget=bool(self.widget))

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


WIDTH = 640
BESIDE_WIDGET = """<style>
.jp-OutputArea-child:has([data-explorable]) ~ .jp-OutputArea-child:has(.explorable-saved),
.jp-OutputArea-child:has(.jupyter-widgets):not(:has([data-explorable])):has(~ * .explorable-saved) { display: none; }
.explorable-saved { max-width: 640px; margin: 1rem auto; padding: 1rem; background: white; color: #1f2430; }
</style>"""


def _saved(png: bytes, sentence: str, beside_widget: bool) -> str:
    """The picture that stands for a figure without a kernel; beside a widget, only one of the two is seen."""
    alt, source = html.escape(sentence), b64encode(png).decode()
    image = f'<img alt="{alt}" width="{WIDTH}" src="data:image/png;base64,{source}">'
    return f'{BESIDE_WIDGET}<div class="explorable-saved">{image}<p>{alt}</p></div>' if beside_widget else image


# --- with a kernel -------------------------------------------------------------------------------------------------


class Live(anywidget.AnyWidget):
    """The controls and the picture in JupyterLab: each move draws anew, the latest move wins."""

    _esm = (_HERE / "explore.js").read_text(encoding="utf-8") + "\nexport default { initialize, render: live };\n"
    _css = _HERE / "explore.css"
    html = traitlets.Unicode().tag(sync=True)
    state = traitlets.List(traitlets.Int()).tag(sync=True)  # the index of each control's value
    dark = traitlets.Bool(False).tag(sync=True)
    drawn = traitlets.Dict().tag(sync=True)  # picture, sentence, state: together, so that they never disagree
    progress = traitlets.Float(0.0).tag(sync=True)  # 1 at rest
    error = traitlets.Unicode().tag(sync=True)
    _interrupts = 0

    def __init__(self, explorable: Explorable, state: State):
        self._explorable, self._move, self._inline = explorable, 0, False
        index = explorable.indices(state)
        super().__init__(html=_markup(explorable, index, "", '<img alt="" decoding="sync">'), state=index)
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
            with listening(listen):
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
        return {"picture": _png(figure, self.dark), "sentence": sentence, "state": state}

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


# --- in the published book -----------------------------------------------------------------------------------------


def _page(explorable: Explorable, state: State, folder: Path, png: bytes) -> str:
    """Draw all states into `folder`, in light and dark, and return the HTML that shows them."""
    frames, sentences = [], []
    with ThreadPoolExecutor(2) as pool:  # encoding leaves the interpreter free for the next drawing
        for each in explorable.states():
            figure, sentence = explorable.draw(**each)
            sentences.append(sentence)
            with _rendering:
                light, dark = render(figure), render(darken(figure))
            frames.append([pool.submit(_encode, image, "webp") for image in (light, dark)])
    files = {
        f"{theme}/{i}.webp": frame.result()
        for i, pair in enumerate(frames)
        for theme, frame in zip(THEMES, pair, strict=True)
    }
    digest = sha256(b"".join(files.values())).hexdigest()[:12]
    home = folder / f"{explorable.name}-{digest}"
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    place, size = explorable.states().index(state), Image.open(io.BytesIO(png)).size
    alt = html.escape(sentences[place])
    images = "".join(
        f'<img class="only-{theme}" src="frames:/{home.name}/{theme}/{place}.webp" alt="{alt}" '
        f'width="{size[0]}" height="{size[1]}" loading="lazy" decoding="sync">'
        for theme in THEMES
    )
    index = explorable.indices(state)
    data = {"frames": f"frames:/{home.name}", "state": index, "sentences": sentences}
    return _markup(explorable, index, sentences[place], images, data)


THEMES = ("light", "dark")


def _markup(explorable: Explorable, index: list[int], sentence: str, images: str, data: dict | None = None) -> str:
    """The HTML of an explorable, the same in every home: picture, native controls, sentence."""
    title, alt = html.escape(explorable.title), html.escape(sentence)
    parts = [f"<figcaption>{title}</figcaption>", f'<div class="explorable-picture">{images}</div>']
    if explorable.controls:
        controls = "".join(_control(*each) for each in zip(explorable.controls.values(), index, strict=True))
        parts += [
            '<div class="explorable-progress"><progress max="1" aria-label="training"></progress></div>',
            f'<div class="explorable-controls" hidden>{controls}</div>',
            f'<p class="explorable-readout">{alt}</p>',
            '<p class="explorable-spoken" aria-live="polite"></p>',
            '<p class="explorable-error" role="alert" hidden></p>',
        ]
        if data:
            content = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
            parts.append(f'<script type="application/json">{content}</script>')
    mark = f'data-explorable="{explorable.name}"' if explorable.controls else ""
    return f'<figure class="explorable" {mark} aria-label="{title}">{"".join(parts)}</figure>'


_ids: Iterator[int] = itertools.count()


def _control(control: Control, i: int) -> str:
    name = f"explorable-{next(_ids)}-{os.urandom(3).hex()}"
    label = html.escape(control.label)
    texts = [control.text(value) for value in control.values]
    common = f'id="{name}" data-lm-suppress-shortcuts="true"'
    if control.kind == "switch":
        checked = "checked" if control.values[i] else ""
        field = f'<input type="checkbox" role="switch" {common} {checked}><label for="{name}">{label}</label>'
    elif control.kind == "dropdown":
        options = "".join(
            f"<option{' selected' * (j == i)}>{html.escape(text)}</option>" for j, text in enumerate(texts)
        )
        field = f'<label for="{name}">{label}</label><select {common}>{options}</select>'
    else:
        field = (
            f'<label for="{name}">{label}</label><output for="{name}" aria-live="off">{html.escape(texts[i])}</output>'
            f'<input type="range" {common} min="0" max="{len(texts) - 1}" step="1" value="{i}" '
            f'aria-valuetext="{html.escape(texts[i])}" data-texts="{html.escape(json.dumps(texts))}">'
        )
        if control.plays:
            field += f'<button type="button" class="explorable-play" aria-label="Play {label}"></button>'
    return f'<div class="explorable-control explorable-{control.kind}">{field}</div>'
