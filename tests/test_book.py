"""The published book, in a real Chromium over the pages that a fresh clone built."""

import json
import re
import time

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from fontTools.ttLib import TTFont
from harness.browser import FIELD, spoken_names, visiting
from harness.clone import PAGES
from harness.page import LOOK, explorables, move
from PIL import Image

from utils.explore import MOST_STATES

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
ICONS = {"900": "fa-solid-900", "400": "fa-regular-400"}  # the fonts of the theme's icons, by weight

SIZES = "all => all.map(each => (each.type === 'checkbox' ? 2 : each.options?.length ?? +each.max + 1))"
CONTENT = """[...document.querySelectorAll('*')].flatMap(element => ['::before', '::after'].map(part => {
    const { fontFamily, fontWeight, content } = getComputedStyle(element, part);
    return [fontFamily, fontWeight, content.codePointAt(1) ?? 0]
}))"""

TOO_WIDE = """[...document.querySelectorAll('html, body, main, article, .explorable')]
    .filter(each => each.scrollWidth > each.clientWidth).map(each => each.outerHTML.slice(0, 99))"""


@pytest.fixture(scope="module", params=PAGES)
def name(request):
    return request.param


def published(book, name):
    """What each explorable of a page has in store: its frames and its sentences."""
    text = (book / f"{name}.html").read_text(encoding="utf-8")
    return [json.loads(data) for data in re.findall(r'<script type="application/json">(\{"frames".*?)</script>', text)]


# --- the book as files -----------------------------------------------------------------------------------------------


def test_a_page_for_every_entry_and_a_file_for_every_state(book, name):
    for data in published(book, name):
        for theme in ("light", "dark"):
            folder = (book / name).parent / data["frames"] / theme
            frames = [folder / f"{i}.webp" for i in range(len(data["sentences"]))]
            assert len({Image.open(frame).size for frame in frames}) == 1
            assert sorted(folder.iterdir()) == sorted(frames)


def test_every_state_is_told_in_words(book, name):
    for data in published(book, name):
        sentences = data["sentences"]
        assert 1 < len(set(sentences)) <= len(sentences) <= MOST_STATES
        assert not [each for each in sentences if not each.endswith(".") or re.search(r"\b(nan|inf|None)\b", each)]


def test_no_script_holds_up_the_page(book, name):
    head, _, _ = (book / f"{name}.html").read_text(encoding="utf-8").partition("</head>")
    waiting = re.findall(r"<script [^>]*src=[^>]*>", head)
    assert waiting
    assert not [script for script in waiting if " defer" not in script or "mathjax" in script]
    if "explore.js" in head:
        assert "explore.js" in waiting[0]


def test_a_page_waits_for_one_sheet_of_styles_and_no_script_for_it(book, name):
    head, _, _ = (book / f"{name}.html").read_text(encoding="utf-8").partition("</head>")
    before, after = re.split(r"<link rel=\"stylesheet\"[^>]*>", head)
    assert "stylesheet" not in before + after
    assert not re.search(r"<script>", after)


def test_maths_is_typeset(light):
    formulae = light.locator(".math").count()
    light.wait_for_function("count => document.querySelectorAll('mjx-container').length >= count", arg=formulae)
    assert light.locator("mjx-merror").count() == 0


def test_maths_is_typeset_in_whatever_order_its_parts_come(browser, site, book):
    written = {page: (book / f"{page}.html").read_text(encoding="utf-8") for page in PAGES}
    with_maths = next(page for page, text in written.items() if 'class="math' in text)
    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/output/chtml.js", lambda route: (time.sleep(0.5), route.continue_()))
        page.goto(f"{site}/{with_maths}.html")
        page.locator("mjx-container").first.wait_for()


def test_search_finds_a_chapter(browser, site):
    with visiting(browser, f"{site}/search.html?q=covariate") as page:
        page.locator("#search-results a", has_text="covariate").first.wait_for()


def test_every_icon_has_a_glyph_in_the_published_font(light, book):
    signs = [(weight, sign) for family, weight, sign in light.evaluate(CONTENT) if "Font Awesome" in family]
    used = {(weight, sign) for weight, sign in signs if 0xE000 <= sign <= 0xF8FF}
    assert used
    folder = book / "_static" / "vendor" / "fontawesome" / "webfonts"
    glyphs = {weight: TTFont(folder / f"{font}.woff2").getBestCmap() for weight, font in ICONS.items()}
    assert not [f"{sign:x}" for weight, sign in used if sign not in glyphs[weight]]


# --- explorables: keys, touch, words ---------------------------------------------------------------------------------


def test_each_control_moves_the_picture_and_the_readout_by_keyboard(light):
    for root in explorables(light):
        for field in root.query_selector_all(FIELD):
            before, after = root.evaluate(LOOK), move(light, root, field)
            assert after["readout"] != before["readout"]
            assert after["alt"] == after["readout"]


def test_each_control_matters_to_picture_and_sentence_in_some_state(light, book, name):
    for root in explorables(light):
        data = json.loads(root.query_selector("script").text_content())
        folder = (book / name).parent / data["frames"] / "light"
        frames = [(folder / f"{i}.webp").read_bytes() for i in range(len(data["sentences"]))]
        sizes = root.eval_on_selector_all(FIELD, SIZES)
        for seen in (frames, data["sentences"]):
            states = np.unique(seen, return_inverse=True)[1].reshape(sizes)
            assert not [axis for axis in range(len(sizes)) if not np.diff(states, axis=axis).any()]


# --- for every reader ------------------------------------------------------------------------------------------------


def test_images_have_words_and_controls_have_names(light):
    assert not light.evaluate("[...document.images].filter(each => !each.alt.trim()).map(each => each.src)")
    for i, root in enumerate(explorables(light)):
        seen, names = root.evaluate(LOOK), spoken_names(light, i)
        assert seen["alt"] == seen["readout"]
        assert len(names) == len(root.query_selector_all(f"{FIELD}, .explorable-play"))
        assert all(re.search(r"\w", name) for name in names) and len(set(names)) == len(names)


def test_axe_finds_nothing_in_light_and_in_dark(light, dark):
    for page in (light, dark):
        explorables(page)
        found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False})
        assert not found.violations_count, found.generate_report()


def test_on_a_phone_nothing_scrolls_sideways_and_targets_are_large(visit):
    with visit(**PHONE) as page:
        for root in explorables(page):
            for field in root.query_selector_all(f"{FIELD}, .explorable-play"):
                switch = field.get_attribute("type") == "checkbox"
                target = field.query_selector("xpath=following-sibling::label") if switch else field
                box = target.bounding_box()
                assert min(box["width"], box["height"]) >= 44, f"{field.get_attribute('id')}: {box}"
        assert page.evaluate("innerWidth") == 390  # a phone zooms out where a page is too wide
        assert not page.evaluate(TOO_WIDE)
