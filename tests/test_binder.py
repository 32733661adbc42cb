"""Binder gets the versions that the book was tested with, in layers that last, in its memory."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
BINDER = ROOT / "binder"
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!]+)")
MEMORY_MB = 700  # Binder promises 1 GB, and the server needs some of it

# The kernel's own peak. getrusage() would not do: a child inherits its parent's maximum.
REPORT_PEAK = """
from pathlib import Path as _Path
print(next(s for s in _Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s))
"""

FAILS_WHEN_MOVED = """
from utils.explore import explore
from utils.style import figure

@explore(x=[0, 1])
def fragile(x=0):
    return figure("one")[0], f"It is {1 / (1 - x)}."

fragile()
"""


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


def solutions(notebook):
    """The code that a chapter's folded solutions give."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for folded in re.findall(r"<summary>Solution</summary>(.*?)</details>", text, re.DOTALL):
        yield from re.findall(r"^```python\n(.*?)^```", folded, re.MULTILINE | re.DOTALL)


def peak_memory(notebook, folder):
    """Run a notebook in a fresh kernel and make all its explorables' moves; return the kernel's peak memory in MB."""
    notebook.cells.append(nbformat.v4.new_code_cell(REPORT_PEAK))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**os.environ, "BOOK_EXERCISE": "1"})
    kilobytes = re.search(r"VmHWM:\s+(\d+) kB", notebook.cells[-1].outputs[0].text)
    return int(kilobytes[1]) / 1024


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


def test_postbuild_installs_the_package_and_stops_at_an_error():
    script = BINDER / "postBuild"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    commands = [line for line in script.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    assert commands[0] == "set -e"
    assert any("pip install" in line and "--no-deps -e ." in line for line in commands)


def test_there_is_a_chapter():
    assert CHAPTERS, "chapters/ holds no notebook, so nothing below was tested"
    assert any(list(solutions(nbformat.read(path, as_version=4))) for path in CHAPTERS)


def test_the_meter_sees_memory_that_was_given_back(tmp_path):
    cell = nbformat.v4.new_code_cell("block = bytearray(400 << 20); del block")
    assert 400 < peak_memory(nbformat.v4.new_notebook(cells=[cell]), tmp_path) < MEMORY_MB


def test_the_meter_makes_every_move(tmp_path):
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        peak_memory(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FAILS_WHEN_MOVED)]), tmp_path)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_and_its_solutions_run_and_fit_in_binders_memory(chapter, book):  # whose runs they find
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in solutions(notebook)]
    peak = peak_memory(notebook, chapter.parent)
    assert peak < MEMORY_MB, f"{chapter.name} needs {peak:.0f} MB"
