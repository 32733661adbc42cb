"""The chapters in a real JupyterLab: the kernel draws, and says how far it is, and what went wrong."""

import re
import shutil
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from conftest import FIELD, ROOT, lab, press, run_all, spoken_names, visiting, write_notebook
from PIL import Image

CHAPTERS = sorted(path.name for path in (ROOT / "chapters").glob("*.ipynb"))
SLOW, BROKEN = 1, 2
PATIENCE = 600  # milliseconds, much longer than a page waits before it shows progress
WORKBENCH = f"""
import time
from utils.explore import explore
from utils.progress import steps
from utils.style import figure

@explore(x=[0, {SLOW}, {BROKEN}])
def workbench(x=0):
    for _ in steps(2000 if x == {SLOW} else 0):
        time.sleep(0.01)
    if x == {BROKEN}:
        raise ValueError("planted")
    return figure(f"x is {{x}}")[0], f"It is {{x}}."

workbench()
"""
SEEN = """root => ({
    picture: root.querySelector('img').src,
    loaded: root.querySelector('img').naturalWidth > 0,
    alt: root.querySelector('img').alt,
    readout: root.querySelector('.explorable-readout').textContent,
})"""
CHANGED = """([root, seen]) => {
    const image = root.querySelector('img');
    const readout = root.querySelector('.explorable-readout').textContent;
    return image.src !== seen.picture && image.naturalWidth && readout !== seen.readout
}"""

RENDERED = "root => root.checkVisibility({ contentVisibilityAuto: true })"  # Lab skips cells that are out of view


@pytest.fixture(scope="module")
def notebook(browser, tmp_path_factory):
    """Open a notebook in JupyterLab and run it: `with notebook(name) as page`."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "chapters", home / "chapters")
    write_notebook(home / "chapters" / "workbench.ipynb", "# A workbench", WORKBENCH)
    with lab(home, home) as address:

        @contextmanager
        def opened(name):
            with visiting(browser, address.format(f"chapters/{name}")) as page:
                run_all(page)
                yield page
                page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")  # a kernel holds hundreds of MB

        yield opened


@pytest.fixture(scope="module")
def workbench(notebook):
    with notebook("workbench.ipynb") as page:
        page.locator("[data-explorable][data-ready] img[src]").wait_for()
        yield page


@pytest.fixture
def slider(workbench):
    """The workbench's slider, at 0."""
    field = workbench.locator(FIELD)
    field.focus()
    workbench.keyboard.press("Home")
    workbench.locator(".explorable-readout", has_text="It is 0.").wait_for()
    return field


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_runs_and_its_explorables_answer_the_keyboard(notebook, name):
    with notebook(name) as page:
        page.set_default_timeout(60_000)
        assert not page.locator("[data-mime-type*=error], [data-mime-type*=stderr]").all_text_contents()
        roots = page.query_selector_all("[data-explorable][data-ready]")
        assert roots
        for i, root in enumerate(roots):
            root.scroll_into_view_if_needed()
            page.wait_for_function(RENDERED, arg=root)
            fields, names, seen = root.query_selector_all(FIELD), spoken_names(page, i), root.evaluate(SEEN)
            assert len(names) == len(root.query_selector_all(f"{FIELD}, .explorable-play"))
            assert all(re.search(r"\w", name) for name in names)
            assert seen["loaded"] and seen["alt"] == seen["readout"]
            press(page, fields[0])
            page.wait_for_function(CHANGED, arg=[root, seen])
            seen = root.evaluate(SEEN)
            assert seen["alt"] == seen["readout"]
            assert not root.query_selector("[role=alert]").is_visible()


def test_an_error_is_told_and_the_next_good_move_clears_it(workbench, slider):
    workbench.keyboard.press("End")
    workbench.get_by_role("alert").filter(has_text="ValueError: planted (in workbench, ").wait_for()
    workbench.keyboard.press("Home")
    workbench.get_by_role("alert").filter(has_text="ValueError").wait_for(state="hidden")


def test_work_shows_its_progress_and_the_next_move_ends_it(workbench, slider):
    root, bar = workbench.locator("[data-explorable]"), workbench.locator("progress")
    workbench.keyboard.press("ArrowRight")
    workbench.wait_for_function("document.querySelector('progress').value > 0.01")
    assert bar.is_visible()
    assert root.get_attribute("aria-busy") == "true"
    for keys in (["ArrowLeft"], ["ArrowRight", "ArrowLeft"]):  # after a report of progress, and before one
        for key in keys:
            workbench.keyboard.press(key)
        workbench.wait_for_timeout(PATIENCE)  # to rest means that nothing comes any more: no event to wait for
        assert not bar.is_visible()
        assert root.get_attribute("aria-busy") is None
        assert root.locator(".explorable-readout").inner_text() == "It is 0."


def test_in_a_dark_lab_the_picture_is_dark(workbench, slider):
    root = workbench.locator("[data-explorable]")
    handle, before = root.element_handle(), root.evaluate(SEEN)
    for theme, is_dark in (("JupyterLab Dark", True), ("JupyterLab Light", False)):
        workbench.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        workbench.wait_for_function(
            "([root, old]) => root.querySelector('img').src !== old", arg=[handle, before["picture"]]
        )
        workbench.locator("#jupyterlab-splash").wait_for(state="detached")  # else Lab's next one trips over it
        before = root.evaluate(SEEN)
        paper = np.median(np.asarray(Image.open(BytesIO(root.screenshot())).convert("L")))
        assert (paper < 40) if is_dark else (paper > 215)
