"""The playground with a kernel, and what it is made of: no browser here, whose event loop these tests must not see."""

import asyncio
import html
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from ipywidgets import Output
from ipywidgets.widgets.widget import _instances as widgets_alive

from utils import playground, toys
from utils.playground import trainer
from utils.playground.page import compose, trouble
from utils.training import TASKS, Settings, train

FIGURES = (
    playground.try_anything,
    playground.one_batch,
    playground.company,
    playground.sigmoid_range,
    playground.projection,
)


@pytest.fixture(autouse=True)
def home(monkeypatch):
    """A plain kernel, which knows the book's own tasks afterwards."""
    before = dict(TASKS)
    monkeypatch.delenv("BOOK_FRAMES", raising=False)
    monkeypatch.delenv("BOOK_EXERCISE", raising=False)
    yield monkeypatch
    TASKS.clear()
    TASKS.update(before)


def test_a_composition_names_settings_and_what_is_not_offered_is_refused():
    assert compose() == (Settings(norm="bn", nonlinearity="relu", init="he", depth=10, width=64, steps=300), 0)
    assert compose(init="0.1", optimizer="momentum")[0] == replace(compose()[0], init=0.1, momentum=0.9)
    for wrong in ({"norm": "torch"}, {"lr": 0.7}, {"rate": 1}):
        with pytest.raises(ValueError, match="expected one of"):
            compose(**wrong)


@pytest.mark.parametrize("load", [toys.moons, toys.circles, toys.spirals])
def test_a_toy_is_the_same_at_every_call_and_no_straight_line_solves_it(load):
    split = load()
    assert all(torch.equal(a, b) for a, b in zip(split, load(), strict=True))
    assert split.y_train.float().mean() == 0.5 and len(split.x_test) == toys.TEST
    x = torch.cat([split.x_train, torch.ones(toys.TRAIN, 1)], 1)
    line = torch.linalg.lstsq(x, 2.0 * split.y_train[:, None] - 1).solution
    assert ((x @ line > 0).flatten() == split.y_train.bool()).float().mean() < 0.93


def test_in_the_books_build_it_is_a_page_and_with_a_kernel_widgets(monkeypatch):
    for show in FIGURES:
        data = show()._repr_mimebundle_()
        data = data[0] if isinstance(data, tuple) else data
        assert "application/vnd.jupyter.widget-view+json" in data
    assert not [each for each in widgets_alive.values() if isinstance(each, Output)]
    monkeypatch.setenv("BOOK_FRAMES", "frames")
    for show in FIGURES:
        data = show()._repr_mimebundle_()
        assert set(data) == {"text/plain", "text/html"} and data["text/html"].startswith('<figure class="explorable ')
        assert "<script" not in data["text/html"]


def composed(**chosen):
    made = trainer.Trainer()
    for name, value in chosen.items():
        made.controls[name].value = value
    return made


def test_widgets_train_as_the_book_does():
    made = composed(norm="layer", depth=2, width=16, steps=50, seed=3)
    made.begin()
    (run,), expected = made.runs, train(*compose(**made.chosen))
    assert run.loss == pytest.approx(expected.loss.tolist(), abs=1e-6)
    steps, accuracies = zip(*run.tests, strict=True)
    assert list(steps) == expected.eval_steps.tolist()
    assert accuracies == pytest.approx(expected.test_accuracy.tolist(), abs=1e-6)
    assert len(run.entered) == 2 and made.progress.value == 1
    sentence = f"A (layer norm, 2 × 16 relu, rate 0.1) after 50 steps: loss {np.mean(run.loss[-10:]):.2g}, "
    assert made.words.value.startswith(f"<p>{sentence}")
    alt = html.unescape(re.match(r'<img alt="([^"]*)"', made.picture.value)[1])
    assert alt == run.words and 'src="data:image/png;base64,' in made.picture.value


def test_widgets_tell_what_diverges_what_makes_no_sense_and_that_four_are_enough():
    made = composed(norm="plain", lr=10, data="moons", depth=10)
    made.begin()
    assert "diverged: after" in made.words.value and made.runs[0].state == "diverged"
    made.controls["batch"].value, made.controls["norm"].value = 1, "bn"
    made.begin()
    assert len(made.runs) == 1 and trouble("bn", 1) in html.unescape(made.words.value)
    for name, value in {"batch": 60, "lr": 0.1, "depth": 1, "width": 8, "steps": 50}.items():
        made.controls[name].value = value
    for _ in range(4):
        made.begin()
    assert [run.name for run in made.runs] == list("ABCD") and len({run.arm for run in made.runs}) == 4
    assert trainer.FULL in made.words.value
    made.remove_all()
    assert not made.runs and made.clear.disabled


def test_widgets_leave_the_kernel_free_tell_progress_and_stop(monkeypatch):
    monkeypatch.setattr(trainer, "OFTEN", 0.05)

    async def scene():
        made = composed(steps=2000, width=128, batch=256)
        told, ticks = [], []
        made.progress.observe(lambda change: told.append(change.new), "value")
        made.begin()
        assert made.train.disabled and not made.stop.disabled
        async with asyncio.timeout(30):
            while len(told) < 3:
                ticks.append(asyncio.get_running_loop().time())
                await asyncio.sleep(0.005)
            made.halt()
            while made.train.disabled:
                await asyncio.sleep(0.005)
        assert sorted(told[:3]) == told[:3] and 0 < told[0] < 1
        assert made.runs[0].state == "stopped" and "stopped at step" in made.words.value
        return np.diff(ticks).max()

    assert min(asyncio.run(scene()) for _ in range(2)) < 0.3


def test_an_error_in_training_is_told_and_raised(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(trainer, "updates", broken)
    made = composed()
    with pytest.raises(ZeroDivisionError):
        made.begin()
    assert "ZeroDivisionError: planted" in made.words.value and not made.train.disabled
