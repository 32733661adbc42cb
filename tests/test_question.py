"""Questions without a browser: what is asked, what counts as right, what each home gets to show."""

import importlib
import pkgutil
import re

import pytest

import utils.figures
from utils.explore import Question, exercise, predict


@predict("less", "more")
def which():
    """Is it `less` or *more*?"""
    return "more", "It is -2 < 3."


@predict(unit="steps")
def how_many():
    """How many?"""
    return (90.0, 110.0), "A hundred."


@exercise("one", "two", "three")
def either():
    """Which?"""
    return ("one", "three"), "Both of them."


@predict("one", "two")
def neither():
    """Which?"""
    return None, "Neither."


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.delenv("BOOK_FRAMES", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("question", "right", "verdict"),
    [
        (which, [1], "more"),
        (how_many, [90.0, 110.0], "see below"),
        (either, [0, 2], "one or three"),
        (neither, [], ""),
    ],
)
def test_what_is_right_is_named_by_its_place_or_by_its_ends(question, right, verdict):
    assert question.answer[0] == right
    assert question.verdict == verdict


def test_the_form_has_the_question_its_choices_and_the_folded_answer():
    html = which()._repr_mimebundle_()["text/html"]
    assert "Is it <code>less</code> or <em>more</em>?" in html
    assert re.findall(r"<span>(\w+)</span>", html) == ["less", "more"]
    assert "It is \N{MINUS SIGN}2 &lt; 3." in html
    assert '"right": [1]' in html
    assert "unit" not in re.sub(r"<script.*", "", html)
    assert "steps</span>" in how_many()._repr_mimebundle_()["text/html"]


def test_a_terminal_shows_the_question_and_not_the_answer():
    assert which()._repr_mimebundle_()["text/plain"] == "Is it `less` or *more*?\n- less\n- more"


def test_in_a_kernel_the_form_comes_before_its_answer(home):
    shown = []
    home.setattr("utils.explore.question.display", lambda widget: shown.append((widget, dict(widget.answer))))
    which()._ipython_display_()
    ((widget, at_first),) = shown
    assert not at_first and "It is" not in widget.html
    assert widget.answer["sentence"].startswith("It is") and widget.answer["right"] == [1]


def test_in_the_books_build_the_answer_is_in_the_page(home):
    home.setenv("BOOK_FRAMES", "frames")
    shown = []
    home.setattr("utils.explore.question.display", lambda data, raw: shown.append(data))
    which()._ipython_display_()
    assert "It is" in shown[0]["text/html"]


def silent():
    return "a", "b"


def wrong():
    """Which?"""
    return "none of them", "No."


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: predict("a", "b")(silent), "silent: expected the question as its docstring"),
        (lambda: predict("a")(wrong), "wrong: expected two or more different choices, or none, got"),
        (lambda: predict("a", "a")(wrong), "wrong: expected two or more different choices"),
        (
            lambda: predict("a", "b")(wrong).answer,
            r"wrong: expected answers among \('a', 'b'\), got \['none of them'\]",
        ),
    ],
)
def test_a_mistake_is_told(make, said):
    with pytest.raises(ValueError, match=said):
        make()


QUESTIONS = [
    pytest.param(found, id=f"{name}.{found.name}")
    for _, name, _ in pkgutil.iter_modules(utils.figures.__path__)
    for found in vars(importlib.import_module(f"utils.figures.{name}")).values()
    if isinstance(found, Question)
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_of_the_book_has_an_answer_in_a_sentence(question):
    right, sentence = question.answer
    assert question.text.rstrip("*")[-1] in "?.:" and re.search(r"\.\)?$", sentence)
    assert not re.search(r"\b(nan|inf|None)\b", sentence)
    assert right if question.is_exercise else question.choices or right
