"""The published book, in a real Chromium over the pages that a fresh clone built."""

import json
import re
import time
from io import BytesIO
from urllib.parse import urljoin

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from fontTools.ttLib import TTFont
from harness.browser import FIELD, press, spoken_names, visiting
from harness.clone import PAGES
from PIL import Image

from utils.explore import MOST_STATES

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
ICONS = {"900": "fa-solid-900", "400": "fa-regular-400"}  # the fonts of the theme's icons, by weight

# What a reader sees of one explorable: which picture, and its words.
LOOK = """root => ({
    picture: [...root.querySelectorAll('img')].find(each => each.checkVisibility()).currentSrc,
    alt: root.querySelector('img').alt,
    readout: root.querySelector('.explorable-readout').textContent,
})"""
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
ANOTHER_PICTURE = """([root, before]) => {
    const image = [...root.querySelectorAll('img')].find(each => each.checkVisibility());
    return image.currentSrc !== before && image.complete && image.naturalWidth > 0
}"""
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


@pytest.fixture(scope="module")
def light(browser, site, name):
    with visiting(browser, f"{site}/{name}.html") as page:
        yield page


@pytest.fixture(scope="module")
def dark(browser, site, name):
    with visiting(browser, f"{site}/{name}.html", color_scheme="dark") as page:
        yield page


@pytest.fixture
def visit(browser, site, name):
    """Open a fresh page: `with visit(**settings) as page`."""
    return lambda **settings: visiting(browser, f"{site}/{name}.html", **settings)


def published(book, name):
    """What each explorable of a page has in store: its frames and its sentences."""
    text = (book / f"{name}.html").read_text(encoding="utf-8")
    return [json.loads(data) for data in re.findall(r'<script type="application/json">(\{"frames".*?)</script>', text)]


def explorables(page):
    """The explorables of a page, once they answer and their pictures are loaded."""
    found = page.query_selector_all("[data-explorable]")
    for root in found:
        root.wait_for_selector("xpath=self::*[@data-ready]")
        root.scroll_into_view_if_needed()
        page.wait_for_function(ANOTHER_PICTURE, arg=[root, ""])
    return found


def move(page, root, field):
    """Move a control to its next value with the keyboard, and return what is then seen."""
    before = root.evaluate(LOOK)["picture"]
    press(page, field)
    page.wait_for_function(ANOTHER_PICTURE, arg=[root, before])
    return root.evaluate(LOOK)


def luminance(png):
    """The median luminance of a screenshot, from 0 to 1."""
    return np.median(np.asarray(Image.open(BytesIO(png)).convert("L"))) / 255


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


FORMULAE = "[...document.querySelectorAll('mjx-container[display]')]"
SCROLLS = "(each.scrollWidth > each.clientWidth)"

# What a reader of another book on the same host may have chosen in MathJax's menu.
CHOSEN = {"renderer": "SVG", "explorer": True, "collapsible": True, "assistiveMml": False, "inTabOrder": True}


def test_maths_is_typeset_for_every_reader_whatever_another_book_has_stored(visit):
    with visit() as page:  # which fails where a part of MathJax is asked for and is not there
        page.evaluate("chosen => localStorage.setItem('MathJax-Menu-Settings', JSON.stringify(chosen))", CHOSEN)
        page.reload(wait_until="networkidle")
        formulae = page.locator("mjx-container[jax=CHTML]")
        assert formulae.count() >= page.locator(".math").count()
        assert page.locator("mjx-container > mjx-assistive-mml > math").count() == formulae.count()
        for width in (1280, 390):  # of the formulae, those that scroll are Tab stops, and no others
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_function(f"{FORMULAE}.every(each => {SCROLLS} === (each.tabIndex === 0))")
        assert not page.locator("mjx-container:not([display])[tabindex], mjx-container [tabindex]").count()


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
        page.clock.install()
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
