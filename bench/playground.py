"""How fast the playground is: its script's arithmetic beside PyTorch's, its first curve, and a key while it trains.

Times to *painted* are taken in the page, from an event's own time stamp to a task right after the frame that shows what
followed, as in :mod:`bench.page`.
"""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Page

from tests.harness.browser import chromium, serving
from tests.harness.clone import ROOT
from tests.harness.playground import choose, write_page
from utils.playground import compose, digits_script
from utils.playground.page import START
from utils.training import train

ROUNDS = 5
KEYS = 60
TEN_LAYERS = {"norm": "bn", "depth": 10, "width": 64, "batch": 60, "steps": 300}
TRAIN = """([settings, stored]) => {
    const start = performance.now();
    const training = new (window.E ??= engine()).Training(settings, stored);
    while (!training.ended) {
        training.update();
        if (training.evals.has(training.step)) training.tested();
    }
    return (performance.now() - start) / 1000;
}"""
TIME = """(target) => {
    window.times = [];
    let when;
    for (const kind of ['keydown', 'click']) addEventListener(kind, event => { when ??= event.timeStamp }, true);
    new MutationObserver(() => when && requestAnimationFrame(() => {
        const { port1, port2 } = new MessageChannel();
        const [pressed, change] = [when, document.querySelector(target).textContent];
        if (change === 'begins') return;
        when = undefined;
        port1.onmessage = () => times.push(performance.now() - pressed);
        port2.postMessage(0);
    })).observe(document.querySelector('.playground'), { childList: true, characterData: true, subtree: true });
}"""


def seconds_of_torch() -> float:
    """Seconds that :func:`utils.training.train` takes for the ten layers, nothing kept, on one thread."""
    start = time.perf_counter()
    train.func(*compose(**TEN_LAYERS))
    return time.perf_counter() - start


def ratio(page: Page) -> tuple[float, float]:
    """Return the median over rounds of the script's seconds over torch's, and of the script's own."""
    stored = json.loads(digits_script().partition("=")[2].rstrip(";\n"))
    told = [{**START, **TEN_LAYERS}, stored]
    page.evaluate(TRAIN, told), seconds_of_torch()
    rounds = [(page.evaluate(TRAIN, told), seconds_of_torch()) for _ in range(ROUNDS)]
    return median(ours / torchs for ours, torchs in rounds), median(ours for ours, _ in rounds)


def first_curve(browser: Browser, address: str) -> float:
    """Milliseconds from pressing Train, on a page that has trained nothing yet, to the first curve."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        page.locator("[data-playground][data-ready]").wait_for()
        page.evaluate(TIME, ".playground-runs span")
        page.get_by_role("button", name="Train", exact=True).click()
        page.wait_for_function("times.length")
        return page.evaluate("times[0]")


def keys_while_training(page: Page) -> list[float]:
    """Milliseconds from a key on a slider to its new label on the screen, while a network trains."""
    root = page.locator("[data-playground]")
    choose(root, steps=2000, depth=20)
    root.get_by_role("button", name="Train", exact=True).click()
    page.wait_for_function("/step/.test(document.querySelector('.playground-runs span').textContent)")
    page.evaluate("""() => {
        window.times = [];
        let pressed;
        addEventListener('keydown', event => { pressed = event.timeStamp }, true);
        new MutationObserver(() => requestAnimationFrame(() => {
            const { port1, port2 } = new MessageChannel();
            port1.onmessage = () => times.push(performance.now() - pressed);
            port2.postMessage(0);
        })).observe(document.querySelector('[data-name=seed] output'), { childList: true });
    }""")
    root.locator("[data-name=seed] input").focus()
    for i in range(KEYS):
        page.wait_for_function("count => times.length >= count", arg=i)
        page.wait_for_timeout(30 + 7 * i % 17)  # a reader's keys are not in step with the frames
        page.keyboard.press("ArrowRight" if i // 19 % 2 == 0 else "ArrowLeft")
    page.wait_for_function("count => times.length >= count", arg=KEYS)
    assert "training at" in root.locator(".playground-runs span").inner_text()
    return page.evaluate("times")


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach)."""
    for name in ("playground.js", "batch.js"):
        size = len(gzip.compress((ROOT / "utils" / "playground" / name).read_bytes()))
        yield f"playground: {name}, compressed", f"{size / 1000:.1f} kB", "at most 15 kB"
    with TemporaryDirectory() as folder, chromium() as browser:
        write_page(Path(folder))
        with serving(folder) as site, browser.new_context() as context:
            address = f"{site}/index.html"
            page = context.new_page()
            page.goto(address)
            over, ours = ratio(page)
            what = "playground: 300 steps of ten layers with BN, over PyTorch's time on one thread"
            yield what, f"{over:.1f} x ({ours:.1f} s)", "at most 6 x"
            first = median(first_curve(browser, address) for _ in range(ROUNDS))
            yield f"playground: Train to the first curve, median of {ROUNDS}", f"{first:.0f} ms", "at most 300 ms"
            times = keys_while_training(page)
        yield (
            f"playground: key to painted while it trains, median of {KEYS}",
            f"{median(times):.1f} ms",
            "at most 16 ms",
        )
        yield "playground: the same, 95 of 100", f"{quantiles(times, n=20)[-1]:.1f} ms", "at most 50 ms"


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
