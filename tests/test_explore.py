"""Explorables without a browser: what is described, drawn, shown in each home, and what a live one does when moved."""

import asyncio
import gc
import itertools
import json
import re
import threading
import time
import tracemalloc

import pytest
from ipywidgets.widgets.widget import _instances as widgets_alive
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from utils.explore import MOST_STATES, Explorable, control, explore, picture, table
from utils.progress import progress_range

MOVES = 200


def tiny(text=""):
    """A figure that is soon drawn."""
    fig = Figure(figsize=(1, 0.5), dpi=50)
    FigureCanvasAgg(fig)
    fig.text(0.1, 0.1, text)
    return fig


@explore(size=control([1, 2, 3], unit="examples"), kind=["relu", "tanh"], on=True)
def sample(size=2, kind="relu", on=False):
    """A <sample> of all controls."""
    if size == 3 and on:
        raise ZeroDivisionError("three & on")
    return tiny(kind), f"{size} of {kind}, <{on}>."


@pytest.fixture(autouse=True)
def home(monkeypatch):
    """A plain kernel: neither the book's build nor nbmake."""
    monkeypatch.delenv("BOOK_FRAMES", raising=False)
    monkeypatch.delenv("BOOK_EXERCISE", raising=False)
    return monkeypatch


def live(explorable=sample):
    """The widget of a view that is drawn."""
    view = explorable()
    assert view.sentence
    return view.widget


@pytest.fixture
def shown(home):
    """What a notebook gets to show of a view: `shown(view)` gives (data, metadata) of each output."""

    def show(view):
        outputs = []
        home.setattr(
            "utils.explore.live.display", lambda data, metadata=None, raw=True: outputs.append((data, metadata))
        )
        view._ipython_display_()
        return outputs

    return show


# --- describing ------------------------------------------------------------------------------------------------------


def test_plain_values_choose_the_control():
    assert {name: each.kind for name, each in sample.controls.items()} == {
        "size": "slider",
        "kind": "dropdown",
        "on": "switch",
    }
    assert sample.controls["on"].values == (False, True)


def test_labels_and_units_are_read():
    named = control([-1, 0.25, 60_000], "learning rate", "steps")
    assert [named.text(value) for value in named.values] == ["\N{MINUS SIGN}1 steps", "0.25 steps", "60,000 steps"]
    assert sample.controls["size"].label == "size"
    assert sample.controls["on"].text(True) == "on"


def test_the_functions_defaults_are_the_first_state():
    assert sample.start == {"size": 2, "kind": "relu", "on": False}
    assert sample().sentence == "2 of relu, <False>."
    assert sample(size=1).sentence == "1 of relu, <False>."
    assert len(sample.states()) == 12
    assert sample.states()[1] == {"size": 1, "kind": "relu", "on": True}


def drawn(x=1):
    return tiny(), "A sentence."


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: explore(y=[1, 2])(drawn), TypeError, r"drawn: expected .*\['x'\], got \['y'\]"),
        (lambda: explore()(drawn), TypeError, r"drawn: expected .*\['x'\], got \[\]"),
        (lambda: explore(x=[2, 3])(drawn), ValueError, r"drawn: expected x among \(2, 3\), got 1"),
        (lambda: explore(x=[1, 1])(drawn), ValueError, r"x: expected two or more different values, got \(1, 1\)"),
        (lambda: explore(x=[1])(drawn), ValueError, r"x: expected two or more different values, got \(1,\)"),
        (lambda: explore(x=[1, "a"])(drawn), TypeError, r"x: expected all numbers, .* got \(1, 'a'\)"),
        (lambda: explore(x=range(101))(drawn), ValueError, "drawn: expected at most 100 states, got 101"),
        (lambda: sample(sise=2), TypeError, r"sample: expected controls among \['size', .*, got 'sise'"),
        (lambda: sample(size=7), ValueError, r"sample: expected size among \(1, 2, 3\), got 7"),
        (lambda: picture(lambda: 3)().drawn, TypeError, "expected a figure and its sentence, got int 3"),
        (lambda: picture(lambda: (tiny(), " "))().drawn, TypeError, "expected a figure and its sentence, got tuple"),
    ],
)
def test_a_mistake_is_told_with_what_was_expected_and_what_was_got(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_a_hundred_states_are_allowed():
    assert len(explore(x=range(100))(drawn).states()) == MOST_STATES == 100


# --- the four homes --------------------------------------------------------------------------------------------------


def test_with_a_kernel_it_is_a_widget_and_a_picture_that_is_kept(shown):
    view = sample()
    (widget, _), (kept, metadata) = shown(view)
    assert set(widget) == {"text/plain", "application/vnd.jupyter.widget-view+json"}
    assert widget["application/vnd.jupyter.widget-view+json"]["model_id"] == view.widget.model_id
    assert widget["text/plain"] == "A <sample> of all controls."
    assert set(kept) == {"text/plain", "image/png", "text/html"}
    assert kept["text/plain"] == metadata["image/png"]["alt"] == "2 of relu, <False>."
    assert f'src="data:image/png;base64,{kept["image/png"]}"' in kept["text/html"]
    assert 'alt="2 of relu, &lt;False&gt;."' in kept["text/html"]


def test_what_is_kept_is_the_state_in_which_the_cell_was_run(shown):
    view = sample(size=1)
    before = shown(view)[1]
    view.widget.state = [2, 0, 0]
    assert view.widget.drawn["sentence"] == "3 of relu, <False>."
    assert shown(view)[1] == before


def test_in_the_books_build_every_state_is_a_file(home, tmp_path):
    home.setenv("BOOK_FRAMES", str(tmp_path))
    fine = explore(x=[1, 2], y=["a", "b"])(lambda x=1, y="b": (tiny(f"{x}"), f"{x} & {y}."))
    fine.name = "fine"
    data, _ = fine()._repr_mimebundle_()
    assert set(data) == {"text/plain", "image/png", "text/html"}
    page = data["text/html"]
    content = json.loads(re.search(r"<script[^>]*>(.*)</script>", page)[1])
    assert content["sentences"] == ["1 & a.", "1 & b.", "2 & a.", "2 & b."]
    folder = tmp_path / content["frames"].removeprefix("frames:/")
    for theme, paper in (("light", (255, 255, 255)), ("dark", (20, 24, 30))):
        images = [Image.open(folder / theme / f"{i}.webp").convert("RGB") for i in range(4)]
        assert {image.getpixel((0, 0)) for image in images} == {paper}
        assert images[0].tobytes() == images[1].tobytes() != images[2].tobytes()
    assert page.count('alt="1 &amp; b."') == 2
    assert "dark/1.webp" in page


def test_text_in_the_page_is_escaped(home, tmp_path):
    home.setenv("BOOK_FRAMES", str(tmp_path))
    page = explore(x=["<b>", '"'])(lambda x="<b>": (tiny(x), f'</script><i> "{x}".'))().html
    assert page.count("</script>") == 1
    assert "<b>" not in page and "<i>" not in page


def test_a_picture_has_no_controls(home, shown, tmp_path):
    @picture
    def still(n):
        """A still."""
        return tiny(), f"{n} values."

    ((only, _),) = shown(still(3))
    assert set(only) == {"text/plain", "image/png", "text/html"}
    assert only["text/html"].startswith('<img alt="3 values." ')
    home.setenv("BOOK_FRAMES", str(tmp_path))
    page = still(3).html
    assert 'alt="3 values."' in page and "<figcaption>A still.</figcaption>" in page
    assert "data-explorable" not in page and "<input" not in page


# --- moving, with a kernel -------------------------------------------------------------------------------------------


def test_a_move_draws_anew():
    widget = live()
    before = widget.drawn
    widget.state = [0, 1, 0]
    assert widget.drawn["sentence"] == "1 of tanh, <False>."
    assert widget.drawn["picture"][:4] == before["picture"][:4] == b"\x89PNG"


def test_dark_is_drawn_dark():
    widget = live()
    before = widget.drawn["picture"]
    widget.dark = True
    assert widget.drawn["picture"] != before


def test_an_exception_is_shown_and_raised_and_the_next_good_move_clears_it():
    widget = live()
    with pytest.raises(ZeroDivisionError):
        widget.state = [2, 0, 1]
    assert widget.error.startswith("ZeroDivisionError: three & on (in sample, test_explore.py line ")
    widget.state = [0, 0, 1]
    assert (widget.error, widget.drawn["sentence"]) == ("", "1 of relu, <True>.")


def test_exercise_makes_every_move_and_raises_what_a_move_raises(home):
    home.setenv("BOOK_EXERCISE", "1")
    seen = []
    sample_on = Explorable(
        lambda size=2, kind="relu", on=False: (seen.append((size, kind, on)), drawn())[1], sample.controls
    )
    assert live(sample_on).state == [1, 0, 0]
    assert set(seen) == {
        (2, "relu", False),
        (1, "relu", False),
        (3, "relu", False),
        (2, "tanh", False),
        (2, "relu", True),
    }
    with pytest.raises(ZeroDivisionError):
        live(lambda: sample(on=True))


# --- moving, with a running loop, as in a kernel ---------------------------------------------------------------------

STEPS = 2000


class Work:
    """An explorable whose second state works for ten seconds if nobody stops it, and what it did."""

    def __init__(self):
        self.done, self.ended, self.drew = 0, threading.Event(), []
        self.explorable = explore(x=[0, 1, 2, 3, 4, 5])(self.draw)

    def draw(self, x=0):
        self.drew.append(x)
        try:
            for _ in progress_range(STEPS if x == 1 else 0):
                self.done += 1
                time.sleep(0.005)
        finally:
            self.ended.set()
        if x == 3:
            raise ValueError("three")
        return tiny(), f"x is {x}."


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def test_the_next_move_ends_work_and_wins():
    async def scene():
        work = Work()
        widget = live(work.explorable)
        sentences = []
        widget.observe(lambda change: sentences.append(change.new["sentence"]), "drawn")
        widget.state = [1]
        await until(lambda: work.done > 5)
        widget.state = [2]
        await until(lambda: widget.drawn["sentence"] == "x is 2.")
        assert work.done < STEPS / 2
        assert sentences == ["x is 2."]
        assert widget.progress == 1

    asyncio.run(scene())


def test_of_many_moves_only_the_last_need_be_drawn():
    async def scene():
        work = Work()
        widget = live(work.explorable)
        for x in (1, 2, 4, 1, 2, 4, 5):
            widget.state = [x]
        await until(lambda: widget.drawn["sentence"] == "x is 5.")
        assert len(work.drew) <= 3  # at first, perhaps the first move, the last

    asyncio.run(scene())


def test_progress_is_told_within_200_ms_and_the_loop_goes_on():
    async def scene():
        work = Work()
        widget = live(work.explorable)
        told, ticks, start = [], [], time.monotonic()
        widget.observe(lambda _: told.append(time.monotonic() - start), "progress")
        widget.state = [1]
        while len(told) < 5:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.001)
        widget.state = [2]
        await until(lambda: widget.drawn["sentence"] == "x is 2.")
        return told[0], max(b - a for a, b in itertools.pairwise(ticks))

    told, waits = zip(*(asyncio.run(scene()) for _ in range(3)), strict=True)  # others want the processor too
    assert min(told) < 0.2
    assert min(waits) < 0.1


def test_an_exception_under_a_loop_is_shown_and_cleared():
    async def scene():
        widget = live(Work().explorable)
        widget.state = [3]
        await until(lambda: widget.error)
        assert widget.error.startswith("ValueError: three")
        assert widget.drawn["sentence"] == "x is 0."
        widget.state = [4]
        await until(lambda: widget.drawn["sentence"] == "x is 4.")
        assert not widget.error

    asyncio.run(scene())


def test_two_hundred_moves_leave_nothing_behind():
    def count():
        gc.collect()
        return sum(type(each) is Figure for each in gc.get_objects()), threading.active_count(), len(widgets_alive)

    async def scene():
        widget = live()

        async def move(times):
            for i in range(times):
                widget.state = [i % 2, i // 2 % 2, i // 4 % 2]
                await until(lambda: widget.drawn["sentence"] == sample.draw(**widget.values())[1])

        await move(8)
        before, held = count(), tracemalloc.get_traced_memory()[0]
        await move(MOVES)
        await until(lambda: count() == before)  # the worker may still hold the last figure
        assert tracemalloc.get_traced_memory()[0] - held < 200_000

    tracemalloc.start()
    asyncio.run(scene())
    tracemalloc.stop()


# --- tables ----------------------------------------------------------------------------------------------------------


def test_a_table_is_markdown_in_a_notebook_and_aligned_in_a_terminal():
    shown = table("network", "steps", rows=[("plain | x", 1200), ("BN", 0.00001)])
    assert shown._repr_markdown_().splitlines()[2:] == ["| plain \\| x | 1,200 |", "| BN | 10⁻⁵ |"]
    assert repr(shown).splitlines() == ["network    steps", "plain | x  1,200", "BN         10⁻⁵"]


@pytest.mark.parametrize(("columns", "rows"), [(("a", ""), [(1, 2)]), (("a", "b"), [(1,)])])
def test_a_table_names_its_columns_and_has_a_cell_for_each(columns, rows):
    with pytest.raises(ValueError, match="expected"):
        table(*columns, rows=rows)
