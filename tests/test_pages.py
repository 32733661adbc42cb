"""What a published page can do besides moving its figures: questions, addresses, terms, paper, the archive."""

import csv
import json
import re
import shutil
import sys
from io import BytesIO
from urllib.parse import parse_qs, quote

import numpy as np
import pytest
from harness.browser import FIELD, press, visiting
from harness.clone import MAKE_BOOK, PAGES, ROOT, run
from PIL import Image

NOTEBOOKS = [page for page in PAGES if page not in ("chapters/glossary", "chapters/questions", "chapters/references")]
SAMPLE = ["chapters/intro", "chapters/scale_and_shift", "chapters/internal_covariate_shift_in_depth"]
STATE = """root => [...root.querySelectorAll('.explorable-control > :is(input, select)')].map(field =>
    field.type === 'checkbox' ? +field.checked : field.selectedIndex ?? +field.value)"""


each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)
sampled = pytest.mark.parametrize("name", SAMPLE)  # with choices and numbers, predictions and exercises


def html(book, name):
    return (book / f"{name}.html").read_text(encoding="utf-8")


def questions(page):
    found = page.query_selector_all("form[data-question]")
    for root in found:
        root.wait_for_selector("xpath=self::*[@data-ready]")
    return found


def answer(page, root, place):
    """Give an answer with the keyboard: the choice at this place, or a number, and press the button."""
    fields = root.query_selector_all("input")
    fields[0].focus()
    if fields[0].get_attribute("type") == "number":
        page.keyboard.type(str(place))
    else:
        page.keyboard.press("Space")
        for _ in range(place):
            page.keyboard.press("ArrowDown")
    root.query_selector("button[type=submit]").focus()
    page.keyboard.press("Enter")
    return root.query_selector(".question-reply").text_content()


# --- questions -------------------------------------------------------------------------------------------------------


@sampled
def test_each_question_is_answered_by_keyboard_and_remembered_in_this_browser_alone(browser, site, name):
    with visiting(browser, f"{site}/{name}.html") as page:
        asked = questions(page)
        assert asked
        requests = []
        page.on("request", lambda request: requests.append(request.url))
        for root in asked:
            assert not root.query_selector("details").get_attribute("open")
            data = json.loads(root.query_selector("script").text_content())
            right = data["right"][0] if data["right"] else 0
            said = answer(page, root, right)
            assert said.startswith("You said: ")
            if data["right"]:
                assert said.endswith(data["yes"])
                assert root.query_selector("details").evaluate("each => each.open")
        assert not [url for url in requests if "_frames" not in url]
        page.reload()
        for root in questions(page):
            assert root.query_selector(".question-reply").text_content().startswith("You said: ")
        again = questions(page)[0].query_selector("button[type=button]")
        again.click()
        page.reload()
        assert questions(page)[0].query_selector(".question-reply").text_content() == ""


@sampled
def test_a_wrong_answer_is_told_and_of_an_exercise_the_right_one_is_not(browser, site, name):
    with visiting(browser, f"{site}/{name}.html") as page:
        for root in questions(page):
            data = json.loads(root.query_selector("script").text_content())
            choices = root.query_selector_all("input[type=radio]")
            if wrong := [i for i in range(len(choices)) if i not in data["right"]]:
                said = answer(page, root, wrong[0])
                assert not data["right"] or said.endswith(data["no"])
                assert root.query_selector("details").evaluate("each => each.open") == data["tells"]


@sampled
def test_a_reader_without_scripts_can_unfold_every_answer(browser, site, name):
    with visiting(browser, f"{site}/{name}.html", java_script_enabled=False) as page:
        for root in page.query_selector_all("form[data-question]"):
            assert not root.query_selector(".question-buttons").is_visible()
            root.query_selector("summary").click()
            assert root.query_selector("details p").is_visible()


# --- every state has an address --------------------------------------------------------------------------------------


@sampled
def test_a_copied_link_leads_to_the_same_state(browser, site, name):
    with visiting(browser, f"{site}/{name}.html", permissions=["clipboard-read", "clipboard-write"]) as page:
        links = {}
        for root in page.query_selector_all("figure[data-explorable][data-ready], figure[data-explorable]:has(script)"):
            for field in root.query_selector_all(FIELD):
                press(page, field)
            root.query_selector(".explorable-link").click()
            link = page.evaluate("navigator.clipboard.readText()")
            assert page.evaluate("location.href") == link
            links.setdefault(link, root.evaluate(STATE))
    for link, state in links.items():
        with visiting(browser, link) as page:
            root = page.locator(f"figure[data-explorable={link.split('#')[1].split('?')[0]}]").first
            root.locator("xpath=self::*[@data-ready]").wait_for()
            assert root.evaluate(STATE) == state
            page.wait_for_function("root => root.getBoundingClientRect().top < innerHeight", arg=root.element_handle())


def test_the_address_follows_a_move_and_a_changed_address_moves_the_figure(browser, site):
    with visiting(browser, f"{site}/chapters/intro.html") as page:
        root = page.locator("[data-explorable=deep_network][data-ready]")
        root.wait_for()
        press(page, root.locator(FIELD).first.element_handle())
        page.wait_for_function("location.hash.includes('learning_rate=0.3')")
        assert parse_qs(page.evaluate("location.hash.split('?')[1]")) == {"learning_rate": ["0.3"], "depth": ["10"]}
        page.evaluate("location.hash = 'deep_network?learning_rate=1&depth=5'")
        page.wait_for_function("document.querySelector('[data-explorable=deep_network] output').textContent === '1'")
        assert root.evaluate(STATE) == [4, 0]


@pytest.mark.parametrize(
    ("said", "state", "hidden"),
    [
        ("learning_rate=3&depth=10&hide=all", [5, 1], [True, True]),
        ("learning_rate=3&hide=depth", [5, 1], [False, True]),
        ("learning_rate=7&no=yes&depth=ten", [2, 1], [False, False]),
        (quote("learning_rate=3", safe=""), [2, 1], [False, False]),
    ],
)
def test_an_address_may_hide_controls_and_what_it_does_not_know_stays(browser, site, said, state, hidden):
    with visiting(browser, f"{site}/chapters/intro.html#deep_network?{said}") as page:
        root = page.locator("[data-explorable=deep_network][data-ready]")
        root.wait_for()
        assert root.evaluate(STATE) == state
        assert [not each.is_visible() for each in root.locator(".explorable-control").all()] == hidden


# --- the page around its figures -------------------------------------------------------------------------------------


@each_notebook
def test_a_page_says_how_long_it_takes_and_what_it_is_about(book, name):
    text = html(book, name)
    assert re.search(r'class="reading-time">\d+ minutes to read<', text)
    description = re.search(r'<meta name="description" content="([^"]+)"', text)[1]
    assert len(description) > 60 and "minutes" not in description
    assert "Last updated on" in text


@each_notebook
def test_code_that_only_imports_or_asks_for_a_figure_is_folded(book, name):
    cells = re.findall(r'<div class="cell ([^"]*)">(.*?)</pre>', html(book, name), re.DOTALL)
    shown = [re.sub(r"<[^>]+>", "", text).strip() for tags, text in cells if "tag_hide-input" not in tags]
    assert len(shown) < len(cells)
    assert not [text for text in shown if re.fullmatch(r"(\w*figures\.\w+\(.*\)|(from|import) [^\n]+\s*)+", text)]


def test_the_first_use_of_a_term_leads_to_the_glossary(browser, site):
    with visiting(browser, f"{site}/chapters/covariate_shift.html") as page:
        terms = page.locator("a.term")
        words = [word.lower().rstrip("s") for word in terms.all_text_contents()]
        assert len(words) > 3 and len(set(words)) == len(words)
        assert all(len(term.get_attribute("title")) > 20 for term in terms.all())
        terms.first.click()
        page.wait_for_url("**/glossary.html#term-*")
        assert page.locator(":target").count() == 1


def test_printed_from_the_dark_a_page_is_light_and_open_and_afterwards_as_before(browser, site):
    with visiting(browser, f"{site}/chapters/normalise.html", color_scheme="dark") as page:
        folded = page.locator("details:not([open])").count()
        assert folded
        page.emulate_media(media="print", color_scheme="dark")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        page.wait_for_load_state("networkidle")
        paper = Image.open(BytesIO(page.screenshot(full_page=True))).convert("L")
        assert np.median(np.asarray(paper)) > 240
        assert not page.locator(".bd-sidebar-primary").is_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.locator("details:not([open])").count() == folded
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_archive_has_the_claims_and_opens_from_a_disk(browser, book, tmp_path):
    folder = book.parents[1]
    made = run(folder, *(word.replace("book", "zip") for word in MAKE_BOOK), "ONLY=normalise scale_and_shift")
    assert made.returncode == 0, made.stdout[-3000:]
    (archive,) = (folder / "_build").glob("*.zip")
    shutil.unpack_archive(archive, tmp_path)
    with (tmp_path / "html" / "claims.csv").open(encoding="utf-8", newline="") as file:
        claims = list(csv.DictReader(file))
    assert {claim["id"].partition(".")[0] for claim in claims} == {"normalise", "scale_and_shift"}
    assert all(float(claim["low"]) <= float(claim["high"]) for claim in claims)
    with visiting(browser, (tmp_path / "html" / "chapters" / "intro.html").as_uri()) as page:
        root = page.query_selector("[data-explorable]")
        before = root.query_selector(".explorable-readout").text_content()
        press(page, root.query_selector(FIELD))
        changed = "([root, before]) => root.querySelector('.explorable-readout').textContent !== before"
        page.wait_for_function(changed, arg=[root, before])


def test_the_ledger_is_a_command_of_its_own(tmp_path):
    file = tmp_path / "claims.csv"
    command = [sys.executable, "-m", "utils.claims", "--only", "normalise", "--csv", str(file)]
    assert run(ROOT, *command).returncode == 0
    with file.open(encoding="utf-8", newline="") as table:
        assert {row["verdict"] for row in csv.DictReader(table)} == {"holds"}
