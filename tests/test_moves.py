"""How a figure of the published book behaves, on pages that have every kind of control, in a real Chromium."""

import json
import re
from io import BytesIO
from urllib.parse import urljoin

import numpy as np
import pytest
from harness.browser import FIELD, visiting
from harness.page import ANOTHER_PICTURE, LOOK, explorables, move
from PIL import Image

SAMPLE = ["chapters/intro", "chapters/normalise", "chapters/internal_covariate_shift"]
# Whether the views of every explorable of a page agree on its state, and which states those are.
STATES = """all => all.map(root => {
    const { sentences } = JSON.parse(root.querySelector('script').textContent);
    const fields = [...root.querySelectorAll('.explorable-control > :is(input, select)')];
    const sizes = fields.map(field => field.type === 'checkbox' ? 2 : field.options?.length ?? +field.max + 1);
    const state = fields.map(field => field.type === 'checkbox' ? +field.checked : field.selectedIndex ?? +field.value);
    const at = state.reduce((sum, i, k) => sum * sizes[k] + i, 0);
    const labelled = fields.every(field => field.type !== 'range' || field.ariaValueText ===
        field.parentElement.querySelector('output').textContent &&
        field.ariaValueText === JSON.parse(field.dataset.texts)[field.value]);
    const image = [...root.querySelectorAll('img')].find(each => each.checkVisibility());
    const words = [image.alt, root.querySelector('.explorable-readout').textContent];
    return labelled && image.src.endsWith(`/${at}.webp`) && words.every(each => each === sentences[at]) && at
})"""
LEAVE = """[...document.links].find(link => link.pathname.endsWith('.html') && link.pathname !== location.pathname
    && link.origin === location.origin).click()"""
FORMULAE = "[...document.querySelectorAll('mjx-container[display]')]"
SCROLLS = "(each.scrollWidth > each.clientWidth)"
# What a reader of another book on the same host may have chosen in MathJax's menu.
CHOSEN = {"renderer": "SVG", "explorer": True, "collapsible": True, "assistiveMml": False, "inTabOrder": True}


@pytest.fixture(scope="module", params=SAMPLE)
def name(request):
    return request.param


def luminance(png):
    """The median luminance of a screenshot, from 0 to 1."""
    return np.median(np.asarray(Image.open(BytesIO(png)).convert("L"))) / 255


def test_the_sample_has_every_kind_of_control(book):
    pages = "".join((book / f"{name}.html").read_text(encoding="utf-8") for name in SAMPLE)
    kinds = ("explorable-slider", "explorable-dropdown", "explorable-switch", "explorable-play")
    assert not [kind for kind in kinds if kind not in pages]


def test_frames_are_fetched_at_the_first_touch_and_not_before(visit):
    with visit() as page:
        asked = set()
        page.on("request", lambda request: asked.add(request.url))
        for root in explorables(page):
            data = json.loads(root.query_selector("script").text_content())
            frames = {urljoin(page.url, f"{data['frames']}/light/{i}.webp") for i in range(len(data["sentences"]))}
            shown = {root.evaluate(LOOK)["picture"]}
            assert asked & frames <= shown
            root.query_selector(FIELD).focus()
            while not frames - shown <= asked:
                page.wait_for_event("request")


def test_the_readout_is_spoken_once_the_reader_rests(light):
    for root in explorables(light):
        assert root.query_selector(".explorable-spoken").get_attribute("aria-live") == "polite"
        seen = move(light, root, root.query_selector(FIELD))
        spoken = "([root, text]) => root.querySelector('.explorable-spoken').textContent === text"
        light.wait_for_function(spoken, arg=[root, seen["readout"]])


@pytest.mark.parametrize("home", ["site", "file"])
def test_after_back_and_after_a_reload_all_views_show_the_same_state(browser, site, book, name, home):
    address = f"{site}/{name}.html" if home == "site" else (book / f"{name}.html").as_uri()
    with visiting(browser, address) as page:
        for root in explorables(page):
            for field in root.query_selector_all(FIELD):
                move(page, root, field)
        left = page.locator("[data-explorable]").evaluate_all(STATES)
        assert not any(each is False for each in left)  # 0 is a state
        page.evaluate(LEAVE)
        page.wait_for_url(lambda url: url.split("#")[0] != address)
        for way_back in (page.go_back, page.reload):
            way_back()
            explorables(page)
            page.wait_for_function(f"!({STATES})([...document.querySelectorAll('[data-explorable]')]).includes(false)")
            if way_back == page.go_back:
                assert page.locator("[data-explorable]").evaluate_all(STATES) == left


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_play_runs_to_the_end_but_where_motion_is_unwelcome_one_step_a_press(visit, book, name, motion):
    if "explorable-play" not in (book / f"{name}.html").read_text(encoding="utf-8"):
        return
    with visit(reduced_motion=motion) as page:
        page.clock.install(time=0)
        page.clock.pause_at(1)  # seconds: however slow the machine, nothing plays on between two looks
        for root in explorables(page):
            for button in root.query_selector_all(".explorable-play"):
                field = button.query_selector("xpath=preceding-sibling::input")
                if field.input_value() != "0":
                    before = root.evaluate(LOOK)
                    field.press("Home")
                    page.wait_for_function(ANOTHER_PICTURE, arg=[root, before["picture"]])
                before, end = root.evaluate(LOOK), int(field.get_attribute("max"))
                button.focus()
                page.keyboard.press("Enter")
                page.wait_for_function(ANOTHER_PICTURE, arg=[root, before["picture"]])
                assert int(field.input_value()) == 1
                page.clock.run_for(60_000)
                assert int(field.input_value()) == (1 if motion == "reduce" else end)
                assert button.get_attribute("aria-label").startswith("Play")


def test_a_reader_without_scripts_sees_the_first_picture_and_no_dead_controls(visit):
    with visit(java_script_enabled=False) as page:
        for root in page.query_selector_all("figure.explorable"):
            (image,) = [image for image in root.query_selector_all("img") if image.is_visible()]
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)")
            assert not [field for field in root.query_selector_all("input, select, button") if field.is_visible()]


def test_it_works_from_a_file(browser, book, name):
    with visiting(browser, (book / f"{name}.html").as_uri()) as page:
        for root in explorables(page):
            before = root.evaluate(LOOK)
            assert move(page, root, root.query_selector(FIELD))["readout"] != before["readout"]


def test_dark_is_dark_to_the_edge_of_the_picture(dark):
    assert luminance(dark.screenshot()) < 0.15
    paper = dark.evaluate("getComputedStyle(document.body).backgroundColor")
    paper = tuple(map(int, re.findall(r"\d+", paper)[:3]))
    for root in explorables(dark):
        assert luminance(root.screenshot()) < 0.15
        frame = dark.request.get(root.evaluate(LOOK)["picture"]).body()
        assert Image.open(BytesIO(frame)).convert("RGB").getpixel((0, 0)) == paper


def test_the_theme_switch_swaps_the_picture_and_keeps_the_state(visit):
    with visit() as page:
        states = [move(page, root, root.query_selector(FIELD)) for root in explorables(page)]
        while page.evaluate("document.documentElement.dataset.theme") != "dark":
            page.locator(".theme-switch-button:visible").first.click()
        for root, before in zip(explorables(page), states, strict=True):
            page.wait_for_function(ANOTHER_PICTURE, arg=[root, before["picture"]])
            after = root.evaluate(LOOK)
            assert after["picture"] == before["picture"].replace("/light/", "/dark/")
            assert after["readout"] == before["readout"]


def test_maths_is_typeset_for_every_reader_whatever_another_book_has_stored(visit):
    with visit() as page:  # which fails where a part of MathJax is asked for and is not there
        page.evaluate("chosen => localStorage.setItem('MathJax-Menu-Settings', JSON.stringify(chosen))", CHOSEN)
        page.reload(wait_until="networkidle")
        formulae = page.locator("mjx-container[jax=CHTML]")
        wanted = page.locator(".math").count()
        page.wait_for_function("n => document.querySelectorAll('mjx-container').length >= n", arg=wanted)
        assert page.locator("mjx-container > mjx-assistive-mml > math").count() == formulae.count()
        for width in (1280, 390):  # of the formulae, those that scroll are Tab stops, and no others
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_function(f"{FORMULAE}.every(each => {SCROLLS} === (each.tabIndex === 0))")
        assert not page.locator("mjx-container:not([display])[tabindex], mjx-container [tabindex]").count()
