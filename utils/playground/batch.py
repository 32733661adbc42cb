"""Four figures that take a reader's own numbers: closed formulae, computed in the page with a kernel or without one."""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from utils.explore.page import SCRIPT, new_id
from utils.playground.page import STYLES

HERE = Path(__file__).parent
BATCH = (HERE / "batch.js").read_text(encoding="utf-8")


class Field:
    """A number field: its label, what it has at first, and which list of the figure's numbers it belongs to."""

    def __init__(self, label: str, value: float | None, of: str = "x", required: bool = False, reach: float = 0):
        self.label, self.value, self.of, self.required, self.reach = label, value, of, required, reach

    def html(self) -> str:
        """The field with its label."""
        name, value = new_id(), "" if self.value is None else f"{self.value:g}"
        limits = f'min="{-self.reach:g}" max="{self.reach:g}"' if self.reach else ""
        required = "required" if self.required else ""
        return (
            f'<div><label for="{name}">{html.escape(self.label)}</label><input type="number" step="any" id="{name}" '
            f'data-of="{self.of}" value="{value}" {limits} {required} data-lm-suppress-shortcuts="true"></div>'
        )


class OwnNumbers:
    """One of the figures: what IPython displays of it, the same in the book and in JupyterLab."""

    def __init__(self, name: str, title: str, fields: Sequence[Field]):
        self.name, self.title, self.fields = name, title, tuple(fields)

    @property
    def html(self) -> str:
        """The figure's markup, which its script fills in."""
        title, fields = html.escape(self.title), "".join(field.html() for field in self.fields)
        return (
            f'<figure class="explorable own" data-own="{self.name}" aria-label="{title}"><figcaption>{title}'
            f'</figcaption><svg role="img" aria-label="{title}"></svg><div class="own-numbers" hidden>{fields}</div>'
            '<p class="explorable-readout">This figure needs JavaScript, which is off in this browser.</p>'
            '<p class="explorable-spoken" aria-live="polite"></p></figure>'
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict | tuple[dict, dict]:
        if "BOOK_FRAMES" in os.environ:
            return {"text/plain": self.title, "text/html": self.html}
        return Live(html=self.html)._repr_mimebundle_()


class Live(anywidget.AnyWidget):
    """The figure in JupyterLab."""

    _esm = f"{SCRIPT}\n{BATCH}\nexport default {{ render: ownLive }};\n"
    _css = STYLES
    html = traitlets.Unicode().tag(sync=True)


def one_batch(*values: float) -> OwnNumbers:
    """Normalise up to six numbers of the reader's; at first `values`, if given.

    >>> one_batch(1, 2, 6).title
    'Your own batch, normalised'
    """
    shown = [*(values or (-4, -1, 0, 1, 6)), *[None] * 6][:6]
    fields = [Field(f"value {i}", value) for i, value in enumerate(shown, start=1)]
    return OwnNumbers("one_batch", "Your own batch, normalised", fields)


def company() -> OwnNumbers:
    """Normalise one number of the reader's among others.

    >>> [field.value for field in company().fields][:2]
    [3, 1]
    """
    others = (1, -2, 0, 5, None)
    fields = [Field("yours", 3), *(Field(f"other {i}", value) for i, value in enumerate(others, start=1))]
    return OwnNumbers("company", "One value in the company that you choose", fields)


def sigmoid_range() -> OwnNumbers:
    """Choose gamma and beta, and see which part of the sigmoid normalised values use.

    >>> sigmoid_range().name
    'sigmoid_range'
    """
    fields = [Field("γ", 1, required=True, reach=8), Field("β", 0, required=True, reach=8)]
    return OwnNumbers("sigmoid_range", "The part of the sigmoid that your γ and β use", fields)


def projection() -> OwnNumbers:
    """Choose three values and a gradient, and see what of it BN lets through (Ioffe & Szegedy 2015, section 3).

    >>> len(projection().fields)
    6
    """
    x = [Field(f"x{i}", value, required=True) for i, value in zip("₁₂₃", (-1, 0, 2), strict=True)]
    g = [Field(f"g{i}", value, of="g", required=True) for i, value in zip("₁₂₃", (1, -1, 2), strict=True)]
    return OwnNumbers("projection", "What BN lets through of your gradient", x + g)
