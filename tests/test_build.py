"""The build is fresh, quick, strict, and links to nobody but its own repository: tried on a book of one cell."""

import os
import shutil
import time
from contextlib import contextmanager

import pytest
from conftest import VENV, copy_tree, make_book, run, write_notebook

EXPLORABLE = '''"""The explorable of a tiny book."""

from utils.explore import explore
from utils.style import figure

CONSTANT = 7


@explore(x=[1, 2, 3])
def tiny(x=1):
    """A tiny explorable."""
    return figure(f"{x} of {CONSTANT}")[0], f"It is {x} of {CONSTANT}."
'''
CELL = "from pathlib import Path\nfrom utils.explorables.tiny import tiny\nPath('ran').open('a').write('x')\ntiny()"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A built book of one page with one explorable."""
    folder = copy_tree(tmp_path_factory.mktemp("tiny"))
    shutil.rmtree(folder / "chapters")
    (folder / "chapters").mkdir()
    (folder / "utils" / "explorables" / "tiny.py").write_text(EXPLORABLE, encoding="utf-8")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: chapters/tiny\n", encoding="utf-8")
    write_notebook(folder / "chapters" / "tiny.ipynb", "# A tiny page", CELL)
    built = make_book(folder)
    assert built.returncode == 0, built.stdout[-4000:]
    return folder


def touch(file):
    """Make a file newer than the last build for certain: the clock of a file system is coarse."""
    os.utime(file, (time.time() + 1, time.time() + 1))


@contextmanager
def changed(file, old, new):
    """A file in which `old` is for a while `new`."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    for content in (text.replace(old, new), text):
        file.write_text(content, encoding="utf-8")
        touch(file)
        if content != text:
            yield


def page(folder):
    return (folder / "_build" / "html" / "chapters" / "tiny.html").read_text(encoding="utf-8")


def frames(folder):
    """The published frames, by the name of their folder."""
    return {each.name: (each / "light" / "1.webp").read_bytes() for each in (folder / "_build/html/_frames").iterdir()}


def test_a_change_in_the_package_reaches_pages_and_frames(tiny):
    before = frames(tiny)
    assert "It is 2 of 7." in page(tiny)
    with changed(tiny / "utils" / "explorables" / "tiny.py", "CONSTANT = 7", "CONSTANT = 8"):
        assert make_book(tiny).returncode == 0
        assert "It is 2 of 8." in page(tiny)
        assert "of 7." not in page(tiny)
        assert len(frames(tiny)) == 1
        assert not before.keys() & frames(tiny).keys()
        assert list(before.values()) != list(frames(tiny).values())
    assert make_book(tiny).returncode == 0
    assert frames(tiny) == before


def test_without_a_change_no_cell_runs(tiny):
    assert make_book(tiny).returncode == 0
    ran = (tiny / "chapters" / "ran").read_text(encoding="utf-8")
    start = time.monotonic()
    assert "jupyter-book build" not in make_book(tiny).stdout
    assert time.monotonic() - start < 10
    touch(tiny / "_toc.yml")
    again = make_book(tiny)
    assert (again.returncode, "jupyter-book build" in again.stdout) == (0, True)
    assert (tiny / "chapters" / "ran").read_text(encoding="utf-8") == ran


def test_a_failing_cell_fails_the_build(tiny):
    with changed(tiny / "chapters" / "tiny.ipynb", "tiny()", "tiny() / 0"):
        built = make_book(tiny)
    assert built.returncode != 0
    assert "TypeError: unsupported operand" in built.stdout


def test_a_page_that_is_missing_fails_the_build_even_where_warnings_are_let_through(tiny):
    with changed(tiny / "_toc.yml", "tiny", "tiny\nchapters:\n- file: chapters/absent"):
        assert make_book(tiny).returncode != 0
        lenient = run(tiny, VENV / "bin" / "jupyter-book", "build", ".")
    assert lenient.returncode != 0
    assert "expected a page for every entry of _toc.yml, got none for ['chapters/absent.html']" in lenient.stdout


def test_links_follow_the_publishing_repository_or_are_absent(tiny):
    touch(tiny / "_toc.yml")
    assert make_book(tiny, GITHUB_REPOSITORY="someone/book").returncode == 0
    assert 'href="https://github.com/someone/book"' in page(tiny)
    assert "https://mybinder.org/v2/gh/someone/book/main?urlpath=lab/tree/chapters/tiny.ipynb" in page(tiny)
    touch(tiny / "_toc.yml")
    assert make_book(tiny).returncode == 0
    assert not [
        host for host in ("mybinder.org", "github.com", "repository", "jsdelivr", "unpkg") if host in page(tiny)
    ]
