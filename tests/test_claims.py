"""Claims are judged by their rules, and the command says what it found."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from utils import claims
from utils.claims import EXAMPLE, Claim, Verdict, above, below, check, registry
from utils.claims.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


def claim(rows, rule, **settings):
    return replace(EXAMPLE, evidence=lambda: rows, rule=rule, **settings)


HIGH, LOW, WIDE = [2.0, 2.1, 2.2], [-2.0, -2.1, -2.2], [-3.0, 0.0, 3.0]


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ({"a": HIGH, "b": HIGH}, Verdict.HOLDS),
        ({"a": HIGH, "b": LOW}, Verdict.IN_PART),
        ({"a": HIGH, "b": WIDE}, Verdict.IN_PART),
        ({"a": LOW, "b": WIDE}, Verdict.OPEN),
        ({"a": WIDE}, Verdict.OPEN),
        ({"a": LOW, "b": LOW}, Verdict.CONTRADICTED),
    ],
)
def test_the_verdict_is_that_of_the_rule_and_of_every_setting(rows, verdict):
    assert check(claim(rows, above(0.0))).verdict == verdict
    turned = {name: np.negative(values) for name, values in rows.items()}
    assert check(claim(turned, below(0.0))).verdict == verdict


def test_the_margin_counts():
    assert check(claim({"a": HIGH}, above(1.5))).verdict == Verdict.HOLDS
    assert check(claim({"a": HIGH}, above(2.1))).verdict == Verdict.OPEN
    assert check(claim({"a": HIGH}, above(3.0))).verdict == Verdict.CONTRADICTED


def test_infinite_ratios_speak_for_large_ones():
    never = claim({"a": [np.inf] * 10}, above(2.0), estimate="median")
    assert check(never).verdict == Verdict.HOLDS
    assert check(replace(never, rule=below(2.0))).verdict == Verdict.CONTRADICTED


def test_algebra_is_judged_by_its_largest_error():
    rows = {"a": [1e-16, 1e-3], "b": [1e-16]}
    assert check(claim(rows, below(1e-9), estimate="exact")).verdict == Verdict.IN_PART
    assert check(claim({"b": rows["b"]}, below(1e-9), estimate="exact")).verdict == Verdict.HOLDS


def test_a_value_that_is_no_number_is_an_error_with_the_claims_name():
    with pytest.raises(ValueError, match=r"example\.two-settings, a: expected a number for every seed"):
        check(claim({"a": [1.0, np.nan]}, above(0.0)))


def test_the_weakest_setting_is_the_one_nearest_to_the_margin():
    assert check(claim({"a": HIGH, "b": [0.5, 0.6], "c": HIGH}, above(0.0))).weakest[0] == "b"
    assert check(claim({"a": LOW, "b": HIGH}, below(0.0))).weakest[0] == "b"


# --- the registry ----------------------------------------------------------------------------------------------------

every_claim = pytest.mark.parametrize("claim", registry().values(), ids=registry())


def test_the_book_makes_claims_that_one_can_survey():
    chapters = [claim.chapter for claim in registry().values()]
    assert len(chapters) >= 40
    assert max(map(chapters.count, chapters)) <= 20


@every_claim
def test_a_claim_says_what_it_is(claim):
    assert claim.id == claim.id.lower() and claim.id.count(".") == 1
    assert claim.sentence.endswith(".") and len(claim.sentence) < 200
    assert claim.source and claim.measured and claim.shown.partition("#")[2]
    assert claim.estimate in claims.ESTIMATES


@every_claim
def test_the_verdict_is_the_one_that_the_book_states(claim):
    """With this machine's processor and, in `make kind-seeds-...`, with other seeds."""
    checked = check(claim)
    assert checked.as_stated, f"{checked.verdict}: {checked.intervals}"


def anchors(chapter):
    """The addresses of a chapter's sections, as the build makes them."""
    cells = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@every_claim
def test_a_claim_is_shown_where_it_says(claim):
    chapter, _, section = claim.shown.partition("#")
    assert section in anchors(chapter)


def test_an_id_that_comes_twice_is_refused(monkeypatch):
    from utils.claims import intro

    monkeypatch.setattr(intro, "CLAIMS", (EXAMPLE, EXAMPLE))
    with pytest.raises(ValueError, match="id: expected each once, got"):
        registry()


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two(monkeypatch):
    """A registry of two claims, of which the book states one wrongly."""
    good, bad = (replace(EXAMPLE, id=f"claims-test.{name}") for name in ("good", "bad"))
    made = {each.id: each for each in (good, replace(bad, stated=Verdict.OPEN))}
    monkeypatch.setattr(claims, "registry", lambda: made)
    return made


def test_it_prints_a_line_for_each_and_fails_where_the_book_says_another_thing(two, capsys):
    assert main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == list(two)
    assert "the book says: open" in lines[2] and "the book says" not in lines[1]
    assert lines[-1] == "1 of 2 verdicts are the book's; not: claims-test.bad"


def test_only_some_and_a_file(two, capsys, tmp_path):
    assert main(["--only", "claims-test.good", "--json", str(tmp_path / "found.json")]) == 0
    (found,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["id"] == "claims-test.good" and found["verdict"] == found["stated"] == "holds"
    assert found["seeds"] == 3 and len(found["estimates"]["a"]) == 3


def test_the_list_measures_nothing(two, capsys, monkeypatch):
    monkeypatch.setattr(claims, "check", None)
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name:34} {each.sentence}" for name, each in two.items()]


@pytest.mark.parametrize("seeds", ["x", "3", "5-5", "9-3", "-1-4", "1-"])
def test_wrong_seeds_say_what_was_expected(seeds, capsys):
    with pytest.raises(SystemExit):
        main([f"--seeds={seeds}"])
    assert "expected two or more seeds in a row, such as 10-19, got" in capsys.readouterr().err


def test_an_unknown_claim_is_named(two, capsys):
    assert main(["--only", "nonsense"]) == 2
    assert "no claim is called nonsense" in capsys.readouterr().err


def test_what_was_found_before_an_interrupt_is_written(two, capsys, monkeypatch, tmp_path):
    def interrupted(each: Claim):
        if each.id.endswith("bad"):
            raise KeyboardInterrupt
        return check(each)

    monkeypatch.setattr(claims, "check", interrupted)
    assert main(["--json", str(tmp_path / "found.json")]) == 130
    assert len(json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))) == 1
    assert "interrupted after 1 of 2" in capsys.readouterr().err
