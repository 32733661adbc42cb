"""The page of an explorable: its HTML in every home, and its pictures, which the published book keeps as files."""

import html
import io
import itertools
import json
import os
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from utils.style import darken, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from utils.explore.explorable import Control, Explorable

Drawing = tuple["Figure", str]  # a figure and its sentence
State = dict[str, Any]

THEMES = ("light", "dark")
WIDTH = 640
HERE = Path(__file__).parent
SCRIPT = (HERE / "explore.js").read_text(encoding="utf-8")
STYLE = HERE / "explore.css"
_rendering = threading.Lock()  # matplotlib's text layout is shared by all threads


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


def as_png(figure: "Figure", dark: bool = False) -> bytes:
    """The bytes of a figure's picture."""
    with _rendering:
        return _encode(render(darken(figure) if dark else figure), "png")


BESIDE_WIDGET = """<style>
.jp-OutputArea-child:has([data-explorable]) ~ .jp-OutputArea-child:has(.explorable-saved),
.jp-OutputArea-child:has(.jupyter-widgets):not(:has([data-explorable])):has(~ * .explorable-saved) { display: none; }
.explorable-saved { max-width: 640px; margin: 1rem auto; padding: 1rem; background: white; color: #1f2430; }
</style>"""


def saved(png: bytes, sentence: str, beside_widget: bool) -> str:
    """The picture that stands for a figure without a kernel; beside a widget, only one of the two is seen."""
    alt, source = html.escape(sentence), b64encode(png).decode()
    image = f'<img alt="{alt}" width="{WIDTH}" src="data:image/png;base64,{source}">'
    return f'{BESIDE_WIDGET}<div class="explorable-saved">{image}<p>{alt}</p></div>' if beside_widget else image


# --- in the published book -------------------------------------------------------------------------------------------


def published(explorable: "Explorable", state: State, folder: Path, png: bytes) -> str:
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
    return markup(explorable, index, sentences[place], images, data)


def markup(explorable: "Explorable", index: list[int], sentence: str, images: str, data: dict | None = None) -> str:
    """The HTML of an explorable, the same in every home: picture, native controls, sentence."""
    title, alt = html.escape(explorable.title), html.escape(sentence)
    parts = [f"<figcaption>{title}</figcaption>", f'<div class="explorable-picture">{images}</div>']
    if explorable.controls:
        controls = "".join(
            control_markup(*named, i) for named, i in zip(explorable.controls.items(), index, strict=True)
        )
        parts += [
            '<div class="explorable-progress"><progress max="1" aria-label="training"></progress></div>',
            f'<div class="explorable-controls" hidden>{controls}</div>',
            f'<p class="explorable-readout">{alt}</p>',
            '<p class="explorable-spoken" aria-live="polite"></p>',
            '<p class="explorable-error" role="alert" hidden></p>',
        ]
        if data:
            parts.append(embedded(json.dumps(data, separators=(",", ":"), ensure_ascii=False)))
    mark = f'data-explorable="{explorable.name}"' if explorable.controls else ""
    return f'<figure class="explorable" {mark} aria-label="{title}">{"".join(parts)}</figure>'


_ids: Iterator[int] = itertools.count()


def new_id() -> str:
    """An id that no other part of a page has, whatever notebook its outputs come from."""
    return f"explorable-{next(_ids)}-{os.urandom(3).hex()}"


def control_markup(parameter: str, control: "Control", i: int) -> str:
    """One control, named and labelled, that shows its value number `i`."""
    name = new_id()
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
    words = html.escape(json.dumps([control.word(value) for value in control.values], ensure_ascii=False))
    named = f'data-name="{parameter}" data-words="{words}"'
    return f'<div class="explorable-control explorable-{control.kind}" {named}>{field}</div>'


def embedded(data: str) -> str:
    """JSON in a page, for its script to read."""
    return '<script type="application/json">' + data.replace("<", "\\u003c") + "</script>"
