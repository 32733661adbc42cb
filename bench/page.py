"""How fast a page answers: a key, a first explorable, a slow visitor; and how much a first visit loads.

*Key to painted* is timed in the page, from the key's own time stamp to a task that runs right after the frame in
which the picture changed. It holds the way of the key into the page, our script, decoding, style, layout and painting;
not the compositor's last step to the screen, which a browser without a screen does not have.
"""

import gzip
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

from playwright.sync_api import Browser, Page

from bench import VERBOSE
from tests.harness.browser import FIELD, Quiet, chromium, serving
from tests.harness.clone import PAGES, ROOT

KEYS = 120
VISITS = 7
HTML = ROOT / "_build" / "html"
SLOW = {"offline": False, "latency": 40, "downloadThroughput": 10e6 / 8, "uploadThroughput": 10e6 / 8}
COMPRESSED = {".html", ".js", ".css", ".svg", ".json"}

TIME_KEYS = """() => {
    window.times = [];
    const root = document.querySelector('[data-explorable]');
    const image = [...root.querySelectorAll('img')].find(each => each.checkVisibility());
    let pressed;
    addEventListener('keydown', event => { pressed = event.timeStamp }, true);
    new MutationObserver(() => requestAnimationFrame(() => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => window.times.push(performance.now() - pressed);
        port2.postMessage(0);
    })).observe(image, { attributeFilter: ['src'] });
}"""
LOADED = "frames => frames.every(frame => performance.getEntriesByName(new URL(frame, location)).length)"
READY = """new Promise(done => {
    const look = () => {
        const root = document.querySelector('[data-explorable][data-ready]');
        const image = root && [...root.querySelectorAll('img')].find(each => each.checkVisibility());
        if (!image) return setTimeout(look, 1);
        image.loading = 'eager';
        image.decode().then(() => requestAnimationFrame(() => done(performance.now())));
    };
    look();
})"""


@cache
def compressed(path: Path) -> bytes:
    """A file as a host keeps it: compressed once, not at every request."""
    return gzip.compress(path.read_bytes())


class Host(Quiet):
    """Serves as a real host does: text compressed, connections kept."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802
        """Send a file, compressed where that helps."""
        path = Path(self.translate_path(self.path))
        if path.suffix not in COMPRESSED or not path.is_file():
            super().do_GET()
            return
        content = compressed(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def first_explorable() -> str:
    """The first page that has an explorable."""
    return next(page for page in PAGES if "data-explorable" in (HTML / f"{page}.html").read_text(encoding="utf-8"))


def key_to_painted(page: Page) -> list[float]:
    """Milliseconds from key to painted picture, for many keys after all frames have come."""
    root = page.query_selector("[data-explorable][data-ready]")
    root.scroll_into_view_if_needed()
    slider = root.query_selector(f"{FIELD}[type=range]") or root.query_selector(FIELD)
    slider.focus()
    page.wait_for_load_state("networkidle")
    page.evaluate(TIME_KEYS)
    steps = int(slider.get_attribute("max") or 1)
    slider.press("Home")
    for i in range(KEYS):
        page.wait_for_function("count => window.times.length >= count", arg=i)
        page.keyboard.press("ArrowRight" if i // steps % 2 == 0 else "ArrowLeft")
    page.wait_for_function("count => window.times.length >= count", arg=KEYS)
    return page.evaluate("window.times").copy()[-KEYS:]


def ready(browser: Browser, address: str, slow: bool = False) -> float:
    """Milliseconds from the start of a first visit to an explorable that answers and shows its picture."""
    with browser.new_context() as context:
        page = context.new_page()
        if slow:
            session = context.new_cdp_session(page)
            session.send("Network.enable")
            session.send("Network.emulateNetworkConditions", SLOW)
            session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        page.goto(address, wait_until="commit")
        return page.evaluate(READY)


def weights(browser: Browser, address: str) -> dict[str, int]:
    """Bytes over the wire of each resource of a first visit, but for frames."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        page.wait_for_load_state("networkidle")
        script = (
            "performance.getEntries().filter(each => each.transferSize).map(each => [each.name, each.transferSize])"
        )
        return {name: size for name, size in page.evaluate(script) if "/_frames/" not in name}


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach)."""
    name = first_explorable()
    with serving(HTML, Host) as site, chromium() as browser:
        address = f"{site}/{name}.html"
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(address)
            times = key_to_painted(page)
        yield f"key to painted, median of {KEYS}", f"{median(times):.1f} ms", "at most 16 ms"
        yield f"key to painted, 95 of 100, of {KEYS}", f"{quantiles(times, n=20)[-1]:.1f} ms", "at most 50 ms"
        for slow, reach, who in ((False, 300, "local"), (True, 1200, "slow visitor: CPU / 4, 10 Mbit/s, 40 ms")):
            found = median(ready(browser, address, slow) for _ in range(VISITS))
            yield f"first explorable ready, {who}, median of {VISITS}", f"{found:.0f} ms", f"at most {reach} ms"
        heaviest = {page: weights(browser, f"{site}/{page}.html") for page in PAGES}
        page = max(heaviest, key=lambda page: sum(heaviest[page].values()))
        yield f"first visit without frames ({page})", f"{sum(heaviest[page].values()) / 1000:.0f} kB", "at most 600 kB"
        if VERBOSE in sys.argv:
            for address, size in sorted(heaviest[page].items(), key=lambda item: -item[1])[:12]:
                yield f"  {address.removeprefix(site)}", f"{size / 1000:.0f} kB", ""
