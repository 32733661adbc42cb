"""How fast JupyterLab answers: to a key, where nothing is trained; and on the first page, where nothing is kept.

A key is timed in the page, from its own time stamp to the picture's load event; the first page from the run of all its
cells in a fresh kernel to a figure that shows how far it is, and to its picture.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser

from tests.harness.browser import FIELD, chromium
from tests.harness.clone import PAGES, ROOT, write_notebook
from tests.harness.lab import lab, run_all, start_all

KEYS = 40
SCENE = """
import numpy as np
from utils.explore import explore
from utils.style import draw_arm, figure, label

@explore(shift=range(KEYS))
def scene(shift=0):
    fig, panels = figure("before", "after")
    runs = np.random.default_rng(0).normal(size=(5, 300)).cumsum(1) + shift
    for ax, arm in zip(panels, ("plain", "bn")):
        draw_arm(ax, arm, range(300), runs)
        label(ax, arm, 200, 0)
    return fig, f"Shifted by {shift}."

scene()
""".replace("KEYS", str(KEYS + 1))
TIME_KEYS = """() => {
    window.times = [];
    let pressed;
    addEventListener('keydown', event => { pressed = event.timeStamp }, true);
    document.querySelector('[data-explorable] img').addEventListener('load', event => {
        if (pressed) window.times.push(performance.now() - pressed);
    });
}"""


TIME_FIRST = """() => {
    window.first = {};
    addEventListener('pointerdown', () => { window.first.start = performance.now() }, true);
    const look = () => {
        const root = document.querySelector('[data-explorable]'), passed = (performance.now() - first.start) / 1000;
        if (root) first.progress ??= passed;
        if (root?.querySelector('img').naturalWidth) first.picture = passed;
        else setTimeout(look, 10);
    };
    look();
}"""


def first_picture(browser: Browser, home: Path) -> dict[str, float]:
    """Seconds from "run all" on the first page, with nothing kept, to its first sign of life and its first picture."""
    shutil.copytree(ROOT / "chapters", home / "chapters")
    with lab(home, home, BOOK_RUNS=str(home / "runs")) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address.format(f"{PAGES[0]}.ipynb"))
        page.evaluate(TIME_FIRST)
        start_all(page)
        page.wait_for_function("window.first.picture", timeout=120_000)
        return page.evaluate("window.first")


def key_to_figure(browser: Browser, home: Path) -> list[float]:
    """Milliseconds from key to picture, for many keys."""
    (home / "chapters").mkdir()
    write_notebook(home / "chapters" / "scene.ipynb", SCENE)
    with lab(home, home) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address.format("chapters/scene.ipynb"))
        run_all(page)
        page.locator("[data-explorable][data-ready] img[src]").wait_for()
        page.evaluate(TIME_KEYS)
        page.locator(FIELD).focus()
        for i in range(KEYS):
            page.keyboard.press("ArrowRight")
            page.wait_for_function("count => window.times.length >= count", arg=i + 1)
        return page.evaluate("window.times")


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach)."""
    with TemporaryDirectory() as one, TemporaryDirectory() as other, chromium() as browser:
        times = key_to_figure(browser, Path(one))
        yield f"key to figure in JupyterLab, no training, median of {KEYS}", f"{median(times):.0f} ms", "at most 120 ms"
        first = first_picture(browser, Path(other))
        where = "of the first page in a fresh JupyterLab, nothing kept"
        yield f"first sign of life {where}", f"{first['progress']:.1f} s", "at most 1 s"
        yield f"first picture {where}", f"{first['picture']:.1f} s", "at most 5 s"
