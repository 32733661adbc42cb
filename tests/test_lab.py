"""The chapters in a real JupyterLab: the kernel draws, and says how far it is, and what went wrong."""

import os
import re
import shutil
import signal
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from harness.browser import FIELD, press, spoken_names, visiting
from harness.clone import ROOT, VENV, run, write_notebook
from harness.lab import PROMPTS, lab, run_all, start_all
from PIL import Image

CHAPTERS = ["intro.ipynb", "scale_and_shift.ipynb", "smoothness.ipynb"]  # nbmake runs all of them
SLOW, BROKEN = 1, 2
PATIENCE = 600  # milliseconds, much longer than a page waits before it shows progress
WORKBENCH = f"""
import time
from utils.explore import explore
from utils.progress import progress_range
from utils.style import figure

@explore(x=[0, {SLOW}, {BROKEN}], fine=True)
def workbench(x=0, fine=False):
    for _ in progress_range(2000 if x == {SLOW} else 0):
        time.sleep(0.01)
    if x == {BROKEN}:
        raise ValueError("planted")
    return figure(f"x is {{x}}")[0], f"It is {{x}}{{', fine' * fine}}."
"""
PID = "import os; print('pid', os.getpid())"
GONE = "The kernel that drew this figure is gone: run the cell again."
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
    write_notebook(home / "chapters" / "workbench.ipynb", "# A workbench", f"{WORKBENCH}\nworkbench()", PID)
    write_notebook(home / "chapters" / "slow.ipynb", "# A slow start", f"{WORKBENCH}\nworkbench(x={SLOW})")
    with lab(home, home) as address:

        @contextmanager
        def opened(name, wait=run_all, **settings):
            with visiting(browser, address.format(f"chapters/{name}"), **settings) as page:
                wait(page)
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
    field = workbench.locator(FIELD).first
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


def test_a_question_is_answered_and_nothing_pops_up(notebook):
    with notebook("normalise.ipynb") as page:
        page.set_default_timeout(60_000)
        assert not page.locator(".Toastify__toast").count()
        for root in page.query_selector_all("form[data-question]"):
            root.scroll_into_view_if_needed()
            root.wait_for_selector("xpath=self::*[@data-ready]")
            root.query_selector("input").press("Space")
            root.query_selector("button[type=submit]").press("Enter")
            assert root.query_selector(".question-reply").text_content().startswith("You said: ")
            assert root.query_selector("details p").text_content()


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


def test_an_interrupt_of_the_kernel_ends_a_move(workbench, slider):
    root = workbench.locator("[data-explorable]")
    slider.press("ArrowRight")
    workbench.wait_for_function("document.querySelector('progress').value > 0.01")
    workbench.evaluate("jupyterapp.commands.execute('notebook:interrupt-kernel')")
    workbench.get_by_role("alert").filter(has_text="Interrupted before it was drawn").wait_for()
    assert root.get_attribute("aria-busy") is None
    assert "failed" in root.get_attribute("class")  # the picture is not that of the controls
    slider.press("Home")
    workbench.get_by_role("alert").filter(has_text="Interrupted").wait_for(state="hidden")


# --- the first drawing -----------------------------------------------------------------------------------------------


def test_the_first_drawing_shows_its_progress_and_an_interrupt_ends_it(notebook):
    with notebook("slow.ipynb", start_all) as page:
        page.wait_for_function("document.querySelector('progress')?.value > 0.01")
        root = page.locator("[data-explorable]")
        assert page.locator("progress").is_visible()
        assert root.get_by_role("slider").get_attribute("aria-valuetext") == "1"
        assert "[*]:" in page.evaluate(PROMPTS)
        page.evaluate("jupyterapp.commands.execute('notebook:interrupt-kernel')")
        page.get_by_role("alert").filter(has_text="Interrupted before it was drawn").wait_for()
        assert root.get_attribute("aria-busy") is None
        page.locator("[data-mime-type*=stderr]").filter(has_text="KeyboardInterrupt").wait_for()
        root.get_by_role("slider").press("Home")
        page.locator(".explorable-readout", has_text="It is 0.").wait_for()


# --- one state, many views -------------------------------------------------------------------------------------------

WHOLE = """all => all.map(root => [
    ...[...root.querySelectorAll('input')].map(field => field.type === 'checkbox' ? field.checked : field.value),
    root.querySelector('output').textContent,
    root.querySelector('[type=range]').getAttribute('aria-valuetext'),
    root.querySelector('.explorable-readout').textContent,
    root.querySelector('img').alt,
    root.querySelector('img').naturalWidth > 0,
])"""


def whole(page, count=1):
    """What each of so many views shows: controls, label, what is spoken of it, sentence, alternative text."""
    views = page.locator("[data-explorable]")
    page.wait_for_function(f"document.querySelectorAll('[data-explorable] img[src]').length === {count}")
    page.wait_for_function("[...document.querySelectorAll('[data-explorable] img')].every(each => each.complete)")
    return views.evaluate_all(WHOLE)


def test_a_reload_a_second_tab_and_a_new_view_show_the_same_state(notebook):
    fine = ["0", True, "0", "0", "It is 0, fine.", "It is 0, fine.", True]
    coarse = ["0", False, "0", "0", "It is 0.", "It is 0.", True]
    with notebook("workbench.ipynb") as page:
        address = page.url
        page.get_by_role("switch").press("Space")
        page.locator(".explorable-readout", has_text="It is 0, fine.").wait_for()
        page.evaluate("jupyterapp.commands.execute('docmanager:save')")
        page.goto(address)
        assert whole(page) == [fine]
        page.locator(".jp-CodeCell .jp-InputPrompt").first.click()
        page.evaluate("jupyterapp.commands.execute('notebook:create-output-view')")
        assert whole(page, 2) == [fine, fine]
        assert all(spoken_names(page, 0)) and spoken_names(page, 0) == spoken_names(page, 1)
        other = page.context.new_page()
        other.goto(address.replace("/lab/tree", "/lab/workspaces/other/tree"))
        assert whole(other) == [fine]
        other.get_by_role("switch").press("Space")
        for each, count in ((other, 1), (page, 2)):
            each.wait_for_function(
                "[...document.querySelectorAll('.explorable-readout')].every(each => each.textContent === 'It is 0.')"
            )
            assert whole(each, count) == [coarse] * count


# --- without the kernel that drew it ---------------------------------------------------------------------------------


LAB_COMPLAINS = "Canceled future|widget model not found|debugger state"  # on its own, of a kernel that is gone


def restart(page):
    page.evaluate("void jupyterapp.commands.execute('notebook:restart-kernel')")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.locator("#jp-main-statusbar").filter(has_text="| Idle").wait_for()


def shut_down(page):
    page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")


def kill(page):
    told = page.locator(".jp-OutputArea-output", has_text=re.compile(r"^pid \d+")).inner_text()
    os.kill(int(told.split()[1]), signal.SIGKILL)


@pytest.mark.parametrize("end", [restart, shut_down, kill])
def test_a_figure_whose_kernel_is_gone_says_so_and_shows_no_bar(notebook, end):
    with notebook("workbench.ipynb", forgiven=LAB_COMPLAINS) as page:
        root = page.locator("[data-explorable]")
        root.locator("img[src]").wait_for()
        root.get_by_role("slider").press("ArrowRight")
        page.wait_for_function("document.querySelector('progress').value > 0.01")
        end(page)
        page.get_by_role("alert").filter(has_text=GONE).wait_for()
        assert root.get_attribute("aria-busy") is None
        assert not page.locator("progress").is_visible()
        assert root.get_by_role("slider").is_disabled()


def test_a_notebook_that_was_saved_and_is_opened_again_shows_its_pictures(browser, notebook):
    with notebook("workbench.ipynb", forgiven=LAB_COMPLAINS) as page:
        page.get_by_role("slider").press("End")  # what is kept is what the cell drew
        address = f"{page.url}?token=reader"
        page.evaluate("jupyterapp.commands.execute('docmanager:save')")
        page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")
        page.get_by_role("alert").filter(has_text=GONE).wait_for()
        with visiting(browser, address, forgiven=LAB_COMPLAINS) as again:
            again.get_by_text("model not found").wait_for(state="attached")
            assert not again.get_by_text("model not found").is_visible()
            assert_one_picture(again)


def test_an_exported_page_shows_its_pictures_without_a_network(browser, notebook, tmp_path):
    write_notebook(tmp_path / "kept.ipynb", "# Kept", f"{WORKBENCH}\nworkbench()")
    exported = run(tmp_path, VENV / "bin" / "jupyter", "nbconvert", "--to", "html", "--execute", "kept.ipynb")
    assert exported.returncode == 0, exported.stdout[-4000:]
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        page.goto((tmp_path / "kept.html").as_uri())
        assert_one_picture(page)


def assert_one_picture(page):
    (picture,) = [image for image in page.query_selector_all(".jp-OutputArea img") if image.is_visible()]
    assert picture.get_attribute("alt") == "It is 0."
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)")


@pytest.mark.parametrize("settings", [{}, {"BOOK_FRAMES": "frames"}], ids=["kernel", "book"])
def test_an_error_in_the_first_drawing_fails_the_cell(tmp_path, settings):
    write_notebook(tmp_path / "broken.ipynb", "# Broken", f"{WORKBENCH}\nworkbench(x={BROKEN})", "print('passed')")
    command = [VENV / "bin" / "jupyter", "nbconvert", "--to", "notebook", "--execute", "broken.ipynb"]
    ran = run(tmp_path, *command, **settings)
    assert ran.returncode != 0
    assert "ValueError: planted" in ran.stdout
