"""Binder gets the versions that the book was tested with, in layers that last; chapters fit into its memory."""

import os
import re
import subprocess
import sys
import tomllib

import nbformat
import pytest
from harness.chapter import MEMORY_MB, solutions
from harness.clone import ROOT, run, write_notebook

BINDER = ROOT / "binder"
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!]+)")


def pins(path):
    """The pins of a requirements file: name to version."""
    found = (PIN.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {pin["name"]: pin["version"] for pin in found if pin}


def direct_pins():
    """The names that requirements.in pins: those a notebook needs (its first section), and all."""
    text = (ROOT / "requirements.in").read_text(encoding="utf-8")
    first, found, _ = text.partition("# What the book is built with.")
    assert found
    return tuple(set(re.findall(r"^([\w.-]+)==", part, re.MULTILINE)) for part in (first, text))


@pytest.fixture(scope="module")
def dockerfile():
    """The Dockerfile that repo2docker would build from; it needs no Docker to print it."""
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_binders_pins_are_the_roots():
    binder, root = pins(BINDER / "requirements.txt"), pins(ROOT / "requirements.txt")
    assert binder
    assert binder == {name: root.get(name) for name in binder}


def test_binder_gets_what_a_notebook_needs_and_no_more():
    binder = set(pins(BINDER / "requirements.txt"))
    needed, direct = direct_pins()
    assert needed and needed <= binder
    assert not binder & (direct - needed)


def test_no_line_costs_the_cached_layer():
    lines = (BINDER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    options = [line for line in lines if line.startswith("-")]
    assert len(options) == 1
    assert options[0].startswith("--extra-index-url https://") and options[0].endswith("/whl/cpu")
    assert all(PIN.fullmatch(line) for line in lines if line not in options)
    assert any(line.startswith("torch==") for line in lines)


def test_one_python_version_everywhere(dockerfile):
    version = re.fullmatch(r"python-(3\.\d+)\n", (BINDER / "runtime.txt").read_text(encoding="utf-8"))[1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={version}"
    workflow = (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"python-version: *\"?([\d.]+)", workflow)) == {version}
    assert f"conda environment for python={version}" in dockerfile


def test_the_pins_are_installed_before_the_repository_is_copied(dockerfile):
    steps = [
        "COPY --chown=0:0 src/binder/requirements.txt",
        'pip install --no-cache-dir -r "binder/requirements.txt"',
        "COPY --chown=0:0 src/ ",
        "RUN ./binder/postBuild",
    ]
    places = [dockerfile.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)
    assert dockerfile.count("pip install") == 1


def test_postbuild_is_a_script_that_runs():
    assert os.access(BINDER / "postBuild", os.X_OK)
    subprocess.run(["bash", "-n", BINDER / "postBuild"], check=True)


# --- a chapter, which nbmake executes --------------------------------------------------------------------------------

FIGURE = """
from utils.explore import explore
from utils.style import figure

@explore(x=[0, 1])
def fragile(x=0):
    return figure("one")[0], f"It is {1 / (SIZE - x)}."

fragile()
"""
SOLVED = "# Try it\n\n<details><summary>Solution</summary>\n\n```python\n1 / (SIZE - 1)\n```\n\n</details>"
PLANTED = {
    "good": ["SIZE = 2", FIGURE, SOLVED],
    "a_move": ["SIZE = 1", FIGURE],
    "a_solution": ["SIZE = 1", SOLVED],
    "memory_given_back": [f"block = bytearray({MEMORY_MB} << 20); del block"],
}


def test_there_are_solutions():
    assert any(list(solutions(nbformat.read(path, as_version=4))) for path in CHAPTERS)


def test_a_wrong_move_a_wrong_solution_and_too_much_memory_fail_a_chapter(tmp_path):
    for name, cells in PLANTED.items():
        write_notebook(tmp_path / f"{name}.ipynb", *cells)
    options = ["-m", "pytest", "-q", "--nbmake", "-p", "no:cacheprovider", "-p", "conftest"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    tried = run(tmp_path, sys.executable, *options, ".", PYTHONPATH=path)
    failed = re.findall(r"^FAILED (\w+)\.ipynb::\S* *(?:- )?(.*)$", tried.stdout, re.MULTILINE)
    assert len(failed) == len(PLANTED) - 1 and "1 passed" in tried.stdout, tried.stdout
    assert {name: said.partition(":")[0] for name, said in failed} == {
        "a_move": "ZeroDivisionError",
        "a_solution": "ZeroDivisionError",
        "memory_given_back": "AssertionError",
    }
