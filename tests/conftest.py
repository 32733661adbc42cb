"""What tests share: a fresh clone, the book that it builds, a JupyterLab, and a browser that asks no other host."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from playwright.sync_api import Error, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
VENV = Path(sys.prefix)
MAKE_BOOK = ("make", "book", "--assume-old=.venv/.installed")
PAGES = re.findall(r"(?:root|file): *(\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]


def pytest_collection_modifyitems(items):
    """Mark what builds a book or opens a browser, so that the rest can be run alone: `-m "not browser"`."""
    for item in items:
        if {"clone", "browser", "tiny"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("browser")


# --- a clone and what is built in it ---------------------------------------------------------------------------------


def copy_tree(to):
    """Copy the repository without its history and what `.gitignore` names, with this environment; it needs no git."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    names = [line.strip("/") for line in ignored if line and line[0] != "#"]
    shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(".git", *names), dirs_exist_ok=True)
    (to / ".venv").symlink_to(VENV)  # make knows no path with a space in it
    return to


def inside(folder, **settings):
    """The environment of a process whose `utils` is that of `folder`; settings of the book are only these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("BOOK_", "GITHUB_"))}
    return {**own, "PYTHONPATH": str(folder), "BOOK_RUNS": str(ROOT / "_build" / "runs"), **settings}


def run(folder, *command, **settings):
    """Run a command in `folder` and return its result, with all that it said, without colours, in `stdout`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    ended = subprocess.run(command, cwd=folder, env=inside(folder, **settings), **pipes)
    ended.stdout = re.sub(r"\x1b\[[\d;]*m", "", ended.stdout)
    return ended


def make_book(folder, **settings):
    """Run `make book` in `folder` with the tools of this environment."""
    return run(folder, *MAKE_BOOK, **settings)


def write_notebook(path, *cells):
    """Write a notebook: a cell that begins with `#` and a space is text, any other is code."""
    new = nbformat.v4
    made = [new.new_markdown_cell(cell) if cell.startswith("# ") else new.new_code_cell(cell) for cell in cells]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new.new_notebook(cells=made, metadata={"kernelspec": kernel}), path)


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    return copy_tree(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def book(clone):
    """The folder of pages that a fresh clone built."""
    built = make_book(clone)
    assert built.returncode == 0, built.stdout[-4000:]
    return clone / "_build" / "html"


# --- a browser -------------------------------------------------------------------------------------------------------


@contextmanager
def chromium():
    """Start Chromium; say so plainly where there is none."""
    found = shutil.which("chromium")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except Error as error:
            raise RuntimeError("Chromium is missing: install it so that 'chromium' is on the path.") from error
        yield browser
        browser.close()


@contextmanager
def visiting(browser, address, forgiven="(?!)", **settings):
    """Open an address in a fresh context; at the end, fail for any error it had and any other host it asked.

    What the pattern `forgiven` finds is no error.
    """
    own, troubles = urlsplit(address).netloc, []
    context = browser.new_context(**{"color_scheme": "light", **settings})
    context.set_default_timeout(30_000)

    def elsewhere(route):
        troubles.append(f"asked for {route.request.url}")
        route.abort()

    context.route(lambda url: urlsplit(url).netloc != own and not url.startswith(("data:", "blob:")), elsewhere)
    page = context.new_page()
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: said.type == "error" and troubles.append(f"{said.text} {said.location}"))
    page.goto(address)
    yield page
    context.close()
    troubles = [trouble for trouble in troubles if not re.search(forgiven, trouble)]
    assert not troubles, f"{address}: {troubles}"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line in the log for each."""

    def log_message(self, *_):
        pass


@contextmanager
def serving(folder, handler=Quiet):
    """Serve a folder on this machine and give its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        server.handle_error = lambda *_: None  # a browser that leaves early
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """One Chromium a module: Playwright leaves an event loop running in this thread, which other tests must not see."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(book):
    with serving(book) as address:
        yield address


# --- the controls of an explorable -----------------------------------------------------------------------------------

FIELD = ".explorable-control > :is(input, select)"
ROLES = {"slider", "combobox", "switch", "checkbox", "button"}
AT_END = "field => +field.value === +field.max || field.selectedIndex === field.options?.length - 1"


def press(page, field):
    """Move a control to its next value with the keyboard."""
    kind, at_end = field.get_attribute("type") or "select", field.evaluate(AT_END)
    field.focus()
    page.keyboard.press("Space" if kind == "checkbox" else "ArrowUp" if at_end != (kind == "range") else "ArrowDown")


def spoken_names(page, i):
    """The names of all controls of the page's explorable number `i`, as the browser tells them to a screen reader."""
    script = f"document.querySelectorAll('[data-explorable]')[{i}].querySelector('.explorable-controls')"
    session = page.context.new_cdp_session(page)
    part = session.send("Runtime.evaluate", {"expression": script})["result"]["objectId"]
    nodes = session.send("Accessibility.queryAXTree", {"objectId": part})["nodes"]
    return [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") in ROLES]


# --- a JupyterLab ----------------------------------------------------------------------------------------------------


@contextmanager
def lab(folder, home, **settings):
    """Start JupyterLab on `folder`, with all it keeps in `home`, and give the address of a notebook to fill in."""
    kinds = ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_SETTINGS_DIR", "LAB_WORKSPACES_DIR")
    places = {f"JUPYTER{kind}": str(home / kind) for kind in kinds}
    quiet = home / "LAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}', encoding="utf-8")
    command = [VENV / "bin" / "jupyter", "lab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += ["--ServerApp.port=0", "--IdentityProvider.token=reader", "--LabApp.extension_manager=readonly"]
    environment = {**inside(ROOT, **settings), **places, "IPYTHONDIR": str(home)}
    with (home / "log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield f"{_address(server, home)}lab/tree/{{}}?reset&token=reader"
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:  # a kernel that a test has killed can hold it up
            server.kill()
            server.wait()


def _address(server, home):
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        for told in (home / "_RUNTIME_DIR").glob("jpserver-*.json"):
            if text := told.read_text(encoding="utf-8"):
                return json.loads(text)["url"]
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{(home / 'log').read_text(encoding='utf-8')[-3000:]}")


PROMPTS = "[...document.querySelectorAll('.jp-InputPrompt')].map(prompt => prompt.textContent)"


def start_all(page):
    """Wait for the notebook's kernel, and run all cells."""
    page.locator("#jp-main-statusbar").filter(has_text="(ipykernel) | Idle").wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def run_all(page):
    """Wait for the notebook's kernel, run all cells, and wait for their end."""
    start_all(page)
    page.wait_for_function(f"{PROMPTS}.some(text => /\\d/.test(text))", timeout=60_000)
    page.wait_for_function(f"{PROMPTS}.every(text => text !== '[*]:')", timeout=300_000)
