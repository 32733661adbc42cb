"""A question that a reader answers by a choice or a number, and what the runs say: a prediction, or an exercise.

    @predict("less than 3 times", "3 to 30 times", "more")
    def how_far() -> Answer:
        '''How much larger a learning rate does BN survive?'''
        return "3 to 30 times", "BN survives rates up to ..."

`how_far()` asks. In a page the reader's answer stays in their browser; without scripts the answer is folded away.
"""

import html
import inspect
import json
import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import anywidget
import traitlets
from IPython.display import display

from utils.explore.page import SCRIPT, STYLE, embedded, new_id
from utils.style import true_minus

Right = str | float | Sequence[str] | tuple[float, float]
Answer = tuple[Right | None, str]  # what is right, or None where nothing is; and one sentence that says why


class Question:
    """A question with its choices, or without them a number to be guessed; call it to ask it."""

    def __init__(self, function: Callable[[], Answer], choices: Sequence[str], unit: str, is_exercise: bool):
        self.name, self.function = function.__name__, function
        self.text = " ".join((inspect.getdoc(function) or "").split())
        if not self.text:
            raise ValueError(f"{self.name}: expected the question as its docstring, got none")
        if len(set(choices)) != len(choices) or len(choices) == 1:
            raise ValueError(f"{self.name}: expected two or more different choices, or none, got {list(choices)}")
        self.choices, self.unit, self.is_exercise = tuple(choices), unit, is_exercise

    @cached_property
    def answer(self) -> tuple[list, str]:
        """Which choices are right, by their places, or from where to where the number lies; and the sentence.

        Raises ValueError where the function names no choice, or no number.
        """
        right, sentence = self.function()
        sentence = true_minus(sentence)
        if right is None:
            return [], sentence
        if not self.choices:
            low, high = right if isinstance(right, tuple) else (right, right)
            return [float(low), float(high)], sentence
        named = [right] if isinstance(right, str) else list(right)
        if unknown := [each for each in named if each not in self.choices]:
            raise ValueError(f"{self.name}: expected answers among {self.choices}, got {unknown}")
        return [self.choices.index(each) for each in named], sentence

    @property
    def verdict(self) -> str:
        """What is right, in words; of a number the sentence says it."""
        return " or ".join(self.choices[i] for i in self.answer[0]) if self.choices else "see below"

    def __call__(self) -> "Asked":
        """Ask it."""
        return Asked(self)


def predict(*choices: str, unit: str = "") -> Callable[[Callable[[], Answer]], Question]:
    """Turn a function into a prediction, to be made before the figure that shows the answer; its docstring asks.

    Without choices a number is asked for. The function returns what is right, as a choice, several of them, a number,
    a pair (low, high), or None if no choice is; and a sentence with what was measured.
    """
    return lambda function: Question(function, choices, unit, is_exercise=False)


def exercise(*choices: str, unit: str = "") -> Callable[[Callable[[], Answer]], Question]:
    """The same as an exercise: a wrong answer is called so, and may be tried again before the sentence is read."""
    return lambda function: Question(function, choices, unit, is_exercise=True)


class Asked:
    """One asking of a question in a notebook: what IPython displays."""

    def __init__(self, question: Question):
        self.question, self.is_published = question, "BOOK_FRAMES" in os.environ

    @property
    def html(self) -> str:
        """The form, with the answer in it."""
        return markup(self.question, data_of(self.question), self.question.answer[1])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict:
        question = self.question
        lines = [question.text, *(f"- {choice}" for choice in question.choices)]
        return {"text/plain": "\n".join(lines), "text/html": self.html}

    def _ipython_display_(self) -> None:
        if self.is_published:
            display(self._repr_mimebundle_(), raw=True)
            return
        widget = Live(html=markup(self.question))
        display(widget)
        widget.answer = {**data_of(self.question), "sentence": self.question.answer[1]}


class Live(anywidget.AnyWidget):
    """The form in JupyterLab: it is there at once, and can be answered when the kernel knows the answer."""

    _esm = SCRIPT + "\nexport default { render: asked };\n"
    _css = STYLE
    html = traitlets.Unicode().tag(sync=True)
    answer = traitlets.Dict().tag(sync=True)


def data_of(question: Question) -> dict:
    """What a page needs to compare a reader's answer."""
    right, is_exercise = question.answer[0], question.is_exercise
    replies = ("Right.", "Not yet: try again, or read why.") if is_exercise else ("So it is.", f"{question.verdict}.")
    return {
        "right": right,
        "open": not right,
        "tells": not is_exercise,
        "yes": replies[0],
        "no": replies[1] if is_exercise else f"Measured: {replies[1]}",
        "unit": question.unit,
    }


def markup(question: Question, data: dict | None = None, sentence: str = "") -> str:
    """The form of a question, the same in every home; without scripts its answer can still be unfolded."""
    name, kind = new_id(), "Exercise" if question.is_exercise else "Predict"
    if question.choices:
        fields = "".join(
            f'<label><input type="radio" name="{name}" value="{i}"> <span>{_inline(choice)}</span></label>'
            for i, choice in enumerate(question.choices)
        )
    else:
        unit = html.escape(question.unit)
        fields = f'<label>Your number <input type="number" step="any" name="{name}"> <span>{unit}</span></label>'
    script = embedded(json.dumps(data, ensure_ascii=False)) if data else ""
    press, why = ("Check", "Why") if question.is_exercise else ("Compare", "What the runs say")
    return (
        f'<form class="question" data-question="{question.name}">'
        f"<fieldset><legend><strong>{kind}.</strong> {_inline(question.text)}</legend>"
        f'<div class="question-choices">{fields}</div></fieldset>'
        f'<p class="question-buttons" hidden><button type="submit">{press}</button> '
        f'<button type="button" hidden>Answer again</button></p><p class="question-reply" role="status"></p>'
        f"<details><summary>{why}</summary><p>{_inline(sentence)}</p></details>{script}</form>"
    )


def _inline(text: str) -> str:
    """Text as HTML, with `code` and *emphasis*."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])", r"<em>\1</em>", text)
