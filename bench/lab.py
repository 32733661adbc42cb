"""How fast JupyterLab answers: from a key to the new picture, loaded, where the kernel draws and nothing is trained.

It is timed in the page, from the key's own time stamp to the picture's load event.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.conftest import FIELD, chromium, lab, run_all, write_notebook

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


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach)."""
    with TemporaryDirectory() as folder, chromium() as browser:
        home = Path(folder)
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
            times = page.evaluate("window.times")
    yield f"key to figure in JupyterLab, no training, median of {KEYS}", f"{median(times):.0f} ms", "at most 120 ms"
