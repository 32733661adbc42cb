"""The map of the literature: its one file is whole, and what it points at exists."""

import json
import pkgutil
import re
from pathlib import Path

import pytest

from utils import claims
from utils.claims import EXAMPLE as EXAMPLE_CLAIM
from utils.claims import Verdict, registry
from utils.experiments import literature as experiment
from utils.experiments.literature import EXAMPLE, FILE, KINDS, READ, STANCES, THEMES, about, counts, work, works
from utils.figures import literature as figures

ROOT = Path(__file__).resolve().parents[1]
ENTRIES = json.loads(FILE.read_text(encoding="utf-8"))
JOURNAL = re.compile(r"\d+\(\d+\):\d+-\d+$")  # volume, number, pages

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=[entry["key"] for entry in ENTRIES])


def known_claims():
    return registry([module.name for module in pkgutil.iter_modules(claims.__path__) if module.name[0] != "_"])


def anchors(page):
    """The addresses of a page's sections, as the build makes them; None where there is no page yet."""
    path = ROOT / "chapters" / f"{page}.ipynb"
    if not path.exists():
        return None
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


# --- the file --------------------------------------------------------------------------------------------------------


def test_there_are_many_works_and_the_opposition_is_among_them():
    keys = {entry["key"] for entry in ENTRIES}
    assert len(keys) == len(ENTRIES) >= 40
    assert {"ioffe2015", "santurkar2018", "awais2020", "yao2020", "karakida2019", "de2020", "yang2019"} <= keys


@each_entry
def test_every_entry_is_complete(entry):
    assert set(entry) == {
        *("key", "authors", "year", "title", "venue", "arxiv", "read", "claim", "evidence", "stance"),
        *("mechanism", "beside", "shown", "claims", "note"),
    }
    assert set(entry["stance"]) == set(THEMES)
    assert entry["evidence"]["on"] and len(entry["title"]) > 15
    assert entry["key"].startswith(re.sub(r"\W", "", entry["authors"].split(" and ")[0].split(" et ")[0]).lower())
    for field in ("claim", "beside"):
        assert entry[field].endswith(".") and len(entry[field]) < 260
    assert str(entry["year"]) in entry["key"] and (
        str(entry["year"]) in entry["venue"] or JOURNAL.search(entry["venue"])
    )


@each_entry
def test_an_arxiv_number_is_not_younger_than_its_work(entry):
    if entry["arxiv"]:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", entry["arxiv"])
        submitted, month = 2000 + int(entry["arxiv"][:2]), int(entry["arxiv"][2:4])
        assert 1 <= month <= 12 and entry["year"] - 2 <= submitted <= entry["year"]


@each_entry
def test_a_work_can_be_found(entry):
    """By its number on arXiv, in the list of references, or by its volume and pages."""
    references = (ROOT / "references.bib").read_text(encoding="utf-8")
    listed = re.search(rf"@\w+\{{{entry['key']},(.*?)\n\}}", references, re.DOTALL)
    assert entry["arxiv"] or listed or JOURNAL.search(entry["venue"])
    if listed and "arxiv.org" in listed[1]:
        assert entry["arxiv"] in listed[1]


@each_entry
def test_the_claims_beside_it_exist(entry):
    assert not set(entry["claims"]) - set(known_claims())
    assert bool(entry["claims"]) == bool(entry["shown"])


@each_entry
def test_what_stands_beside_it_is_shown_where_it_says(entry):
    page, _, section = entry["shown"].partition("#")
    if not page:
        assert entry["beside"] == "Not run here."
    else:
        assert section in anchors(page)


@each_entry
def test_our_own_digits_stay_out(entry):
    """What a paper prints may be quoted; what was measured here stands in the figures."""
    assert not re.search(r"\d", re.sub(r"\bl[12]\b", "", entry["beside"]))


@each_entry
def test_what_was_not_read_whole_says_so(entry):
    assert entry["read"] in READ
    if entry["read"] in ("part", "summary", "not read"):
        assert entry["note"]


# --- the loader ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"claim": ""}, "expected claim, got nothing"),
        ({"read": "twice"}, "expected read among"),
        ({"evidence": {"kind": "rumour", "on": "x"}}, r"expected evidence\.kind among .*, got 'rumour'"),
        ({"stance": {"drift": "perhaps"}}, r"expected stance\.drift among"),
        ({"stance": {"weather": "for"}}, "expected stance among"),
        ({"stance": {"drift": ""}}, "expected a stance"),
        ({"stance": {"other": "for"}}, "and a mechanism just where"),
        ({"mechanism": "luck"}, "and a mechanism just where"),
        ({"year": 2050}, "expected year from 2015 to 2026, got 2050"),
        ({"arxiv": "15.02"}, "expected arxiv like"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=f"example2015: .*{message}"):
        work({**EXAMPLE, **wrong})


@pytest.mark.parametrize("field", ["key", "arxiv"])
def test_a_work_that_comes_twice_is_refused(field, tmp_path, monkeypatch):
    one = {**EXAMPLE, "arxiv": "1502.03167"}
    other = {**one, **({"arxiv": ""} if field == "key" else {"key": "another2015"})}
    (tmp_path / "twice.json").write_text(json.dumps([one, other]), encoding="utf-8")
    monkeypatch.setattr(experiment, "FILE", tmp_path / "twice.json")
    with pytest.raises(ValueError, match=f"{field}: expected each once"):
        works.__wrapped__()


def test_works_are_in_the_order_of_time_and_all_there():
    years = [each.year for each in works()]
    assert years == sorted(years) and len(years) == len(ENTRIES)


@pytest.mark.parametrize("theme", THEMES)
def test_the_stands_of_a_theme_add_up(theme):
    by_hand = [entry["stance"][theme] for entry in ENTRIES if entry["stance"][theme]]
    assert {stance: by_hand.count(stance) for stance in STANCES} == counts(theme)
    assert len(about(theme)) == len(by_hand) >= 5


def test_an_unknown_theme_is_refused():
    with pytest.raises(ValueError, match="expected theme among"):
        about("luck")


# --- the picture and the tables --------------------------------------------------------------------------------------


def marks(theme, stance):
    """How many marks are lit."""
    fig, said = figures.the_map.draw(theme=theme, stance=stance)
    lines = [line for line in fig.axes[0].lines if line.get_marker() in ("^", "v", "D")]
    return sum(line.get_color() != figures.FAINT for line in lines), said


def test_the_map_has_few_states():
    assert len(figures.the_map.states()) <= 20


@pytest.mark.parametrize("stance", ["all", *STANCES])
def test_the_map_lights_up_as_many_marks_as_there_are_stands(stance):
    total = sum(sum(counts(theme).values()) if stance == "all" else counts(theme)[stance] for theme in THEMES)
    assert marks("all four", stance)[0] == total
    for key, theme in THEMES.items():
        lit, said = marks(theme, stance)
        assert lit == (sum(counts(key).values()) if stance == "all" else counts(key)[stance])
        assert said.startswith(theme.capitalize())


def test_every_kind_of_evidence_has_a_look():
    assert set(figures.FILLS) == set(KINDS)


@pytest.mark.parametrize("theme", THEMES)
def test_a_table_has_a_row_for_every_work(theme):
    text = repr(figures.listed(theme))
    assert sum(line.startswith("|") for line in text.splitlines()) - 2 == len(about(theme))
    for each in about(theme):
        assert each.claim in text and (each.url in text)


def test_less_than_an_abstract_is_told_on_the_page():
    told = {row[0] for row in figures.unread().rows}
    assert told == {each.name for each in works() if each.read != "abstract"}


def test_each_claim_stands_in_the_table_with_its_verdict_and_its_works(monkeypatch):
    text = repr(figures.verdicts())
    wanted = {name for entry in ENTRIES for name in entry["claims"]}
    assert set(figures.claims_here()) == wanted
    for name, claim in figures.claims_here().items():
        (line,) = [line for line in text.splitlines() if f"[{claim.sentence}]" in line]
        assert f"**{claim.stated}**" in line
        assert all(each.name in line for each in works() if name in each.claims)
    monkeypatch.setattr(figures, "claims_here", lambda: {EXAMPLE_CLAIM.id: EXAMPLE_CLAIM})
    assert f"**{Verdict.HOLDS}**" in repr(figures.verdicts(computed=True))
