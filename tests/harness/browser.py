"""A browser that asks no other host, a server of files, and the controls of an explorable."""

import re
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]


@contextmanager
def chromium():
    """Start Chromium; say so plainly where there is none."""
    from playwright.sync_api import Error, sync_playwright  # here, so that a server needs no browser package

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
