"""The published workflow is pinned, may write only where it deploys, and runs every week."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BOOK = ROOT / ".github" / "workflows" / "book.yml"
USES = re.compile(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def load(path):
    """The workflow as a dictionary. YAML 1.1 reads the key `on` as true."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    workflow["on"] = workflow.pop(True)
    return workflow


@pytest.fixture(scope="module")
def book():
    return load(BOOK)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_with_its_version(path):
    lines = re.findall(r"^\s*(?:- )?uses: *(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert lines
    assert not [line for line in lines if not USES.fullmatch(line)]


def test_an_action_has_one_version():
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    versions = {tuple(use.split("@")) for use in re.findall(r"uses: *(\S+)", text)}
    assert len(versions) == len({name for name, _ in versions})


def test_only_the_deploying_job_may_write(book):
    assert book["permissions"] == {"contents": "read"}
    granted = {name: job.get("permissions", {}) for name, job in book["jobs"].items()}
    assert granted.pop("deploy") == {"pages": "write", "id-token": "write"}
    assert not any("write" in str(permissions) for permissions in granted.values())


def test_it_runs_on_main_on_pull_requests_by_hand_and_every_week(book):
    assert book["on"]["push"] == {"branches": ["main"]}
    assert {"pull_request", "workflow_dispatch"} <= set(book["on"])
    minute, hour, day, month, weekday = book["on"]["schedule"][0]["cron"].split()
    assert minute.isdigit() and hour.isdigit() and weekday.isdigit()
    assert (day, month) == ("*", "*")


def test_only_main_is_deployed_and_only_after_the_tests(book):
    deploy = book["jobs"]["deploy"]
    assert deploy["if"] == "github.ref == 'refs/heads/main'"
    assert set(deploy["needs"]) == {"test", "build"}
    assert deploy["environment"]["name"] == "github-pages"
    assert not any("run" in step for step in deploy["steps"])


def test_jobs_run_the_makefile_and_end(book):
    assert all(0 < job["timeout-minutes"] <= 60 for job in book["jobs"].values())
    assert "concurrency" in book
    for job, command in {"test": "make test", "build": "make book"}.items():
        assert command in [step.get("run") for step in book["jobs"][job]["steps"]]


def test_every_kind_of_the_makefile_is_tried_each_week_and_not_at_a_push(book):
    kinds = book["jobs"]["kinds"]
    named = re.search(r"^KINDS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert kinds["strategy"]["matrix"]["kind"] == named[1].split()
    assert kinds["if"] == "github.event_name == 'schedule' || github.event_name == 'workflow_dispatch'"
    assert "make kind-${{ matrix.kind }}" in [step.get("run") for step in kinds["steps"]]
    assert {each["python"] for each in kinds["strategy"]["matrix"]["include"]} == {"3.13"}


def test_a_checkout_leaves_no_credentials_behind(book):
    steps = [step for job in book["jobs"].values() for step in job["steps"]]
    checkouts = [step for step in steps if "actions/checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
