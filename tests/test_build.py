"""The build is fresh, quick, strict, and links to nobody but its own repository: tried on a book of two pages."""

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from harness.clone import MAKE_BOOK, VENV, copy_tree, inside, make_book, run, write_notebook

EXPLORABLE = '''"""The explorable of a tiny book."""

from utils.explore import explore
from utils.style import figure

CONSTANT = 7


@explore(x=[1, 2, 3])
def tiny(x=1):
    """A tiny explorable."""
    return figure(f"{x} of {CONSTANT}")[0], f"It is {x} of {CONSTANT}."
'''
CELL = """from pathlib import Path
from utils.figures.tiny import tiny
Path('ran').open('a').write('x')
tiny()"""
OTHER = "# A second page"
TOC = "format: jb-book\nroot: chapters/tiny\nchapters:\n- file: chapters/other\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A built book of two pages, one with an explorable, in a folder with a difficult name."""
    folder = copy_tree(tmp_path_factory.mktemp("tiny") / "ein schönes Buch")
    shutil.rmtree(folder / "chapters")
    (folder / "chapters").mkdir()
    (folder / "utils" / "figures" / "tiny.py").write_text(EXPLORABLE, encoding="utf-8")
    (folder / "_toc.yml").write_text(TOC, encoding="utf-8")
    write_notebook(folder / "chapters" / "tiny.ipynb", "# A tiny page\n\nIts naïve text.", CELL)
    write_notebook(folder / "chapters" / "other.ipynb", OTHER)
    built = make_book(folder)
    assert built.returncode == 0, built.stdout[-4000:]
    return folder


@contextmanager
def changed(file, old, new):
    """A file in which `old` is for a while `new`; by its time it is older than any build."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    try:
        write_old(file, text.replace(old, new))
        yield
    finally:
        write_old(file, text)


def write_old(file, text):
    file.write_text(text, encoding="utf-8")
    os.utime(file, (0, 0))


def build_again(folder, **settings):
    """Build although nothing has changed."""
    for stamp in (folder / "_build" / "html").glob(".built-*"):
        stamp.unlink()
    return make_book(folder, **settings)


def page(folder):
    return (folder / "_build" / "html" / "chapters" / "tiny.html").read_text(encoding="utf-8")


def times_run(folder):
    return len((folder / "chapters" / "ran").read_text(encoding="utf-8"))


def frames(folder):
    """The published frames, by the name of their folder."""
    return {each.name: (each / "light" / "1.webp").read_bytes() for each in (folder / "_build/html/_frames").iterdir()}


def test_a_change_in_the_package_reaches_pages_and_frames(tiny):
    before = frames(tiny)
    assert "It is 2 of 7." in page(tiny)
    with changed(tiny / "utils" / "figures" / "tiny.py", "CONSTANT = 7", "CONSTANT = 8"):
        assert make_book(tiny).returncode == 0
        assert "It is 2 of 8." in page(tiny)
        assert "of 7." not in page(tiny)
        assert len(frames(tiny)) == 1
        assert not before.keys() & frames(tiny).keys()
        assert list(before.values()) != list(frames(tiny).values())
    assert make_book(tiny).returncode == 0
    assert frames(tiny) == before


def test_a_change_of_a_page_reaches_it_and_runs_no_cell_but_its_own(tiny):
    ran = times_run(tiny)
    with changed(tiny / "chapters" / "tiny.ipynb", "naïve", "simple"):
        assert make_book(tiny).returncode == 0
        assert "Its simple text." in page(tiny)
        assert "It is 2 of 7." in page(tiny)
        assert times_run(tiny) == ran
    with changed(tiny / "chapters" / "tiny.ipynb", "write('x')", "write('xx')"):
        assert make_book(tiny).returncode == 0
    assert times_run(tiny) == ran + 2


@pytest.mark.parametrize(("old", "new", "again"), [("CONSTANT = 7", "CONSTANT = 7  # so", 0), ("A tiny", "One", 1)])
def test_a_comment_runs_no_cell_and_the_title_of_a_figure_does(tiny, old, new, again):
    ran = times_run(tiny)
    with changed(tiny / "utils" / "figures" / "tiny.py", f"{old}", f"{new}"):
        assert make_book(tiny).returncode == 0
    assert times_run(tiny) == ran + again


def test_without_a_change_no_cell_runs(tiny):
    assert make_book(tiny).returncode == 0
    ran = times_run(tiny)
    for file in (*tiny.rglob("*.py"), tiny / "_toc.yml"):
        os.utime(file)
    start = time.monotonic()
    assert "jupyter-book build" not in make_book(tiny).stdout
    assert time.monotonic() - start < 10
    again = build_again(tiny)
    assert (again.returncode, "jupyter-book build" in again.stdout) == (0, True)
    assert times_run(tiny) == ran


def damage(file):
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize(
    ("what", "harm"),
    [
        ("*/frames", shutil.rmtree),
        ("*/frames/*/dark/2.webp", damage),
        ("*/tiny-*.ipynb", damage),
    ],
)
def test_what_is_lost_or_damaged_is_made_again(tiny, what, harm):
    assert make_book(tiny).returncode == 0
    before, drawn, ran = page(tiny), frames(tiny), times_run(tiny)
    (harmed,) = (tiny / "_build" / "executed").glob(what)
    harm(harmed)
    shutil.rmtree(tiny / "_build" / "html")
    built = make_book(tiny)
    assert built.returncode == 0, built.stdout[-4000:]
    assert times_run(tiny) == ran + 1
    assert frames(tiny) == drawn
    assert "It is 2 of 7." in before and "It is 2 of 7." in page(tiny)


def test_a_failing_cell_fails_the_build_and_loses_no_other_chapter(tiny):
    with changed(tiny / "chapters" / "tiny.ipynb", "tiny()", "tiny() / 0"):
        with changed(tiny / "chapters" / "other.ipynb", OTHER, "print(1)"):
            built = make_book(tiny)
        kept = {file.name.split("-")[0] for file in (tiny / "_build" / "executed").glob("*/*.ipynb")}
    assert built.returncode != 0
    assert "TypeError: unsupported operand" in built.stdout
    assert kept == {"tiny", "other"}  # `tiny` as it was


def test_a_page_that_is_missing_fails_the_build_even_where_warnings_are_let_through(tiny):
    with changed(tiny / "_toc.yml", "chapters/other", "chapters/absent"):
        assert make_book(tiny).returncode != 0
        lenient = run(tiny, VENV / "bin" / "jupyter-book", "build", ".")
    assert lenient.returncode != 0
    assert "expected a page for every entry of _toc.yml, got none for ['chapters/absent.html']" in lenient.stdout


def test_links_follow_the_publishing_repository_or_are_absent(tiny):
    assert make_book(tiny, GITHUB_REPOSITORY="someone/book").returncode == 0
    assert 'href="https://github.com/someone/book"' in page(tiny)
    assert "https://mybinder.org/v2/gh/someone/book/main?urlpath=lab/tree/chapters/tiny.ipynb" in page(tiny)
    picture = re.search(r'"og:image" content="https://someone.github.io/book/([^"]+)"', page(tiny))[1]
    assert (tiny / "_build" / "html" / picture).exists()
    assert make_book(tiny).returncode == 0
    assert not [
        host for host in ("mybinder.org", "github.com", "repository", "jsdelivr", "unpkg") if host in page(tiny)
    ]


def test_it_needs_no_git(tiny, tmp_path):
    for folder in reversed(os.get_exec_path()):
        for tool in Path(folder).glob("*"):
            if not tool.name.startswith("git"):
                (tmp_path / tool.name).unlink(missing_ok=True)
                (tmp_path / tool.name).symlink_to(tool)
    built = build_again(tiny, PATH=str(tmp_path))
    assert built.returncode == 0, built.stdout[-4000:]


def test_it_needs_no_utf_8_of_the_machine(tiny, tmp_path):
    folder = shutil.copytree(
        tiny, tmp_path / "book", symlinks=True
    )  # Sphinx asks for UTF-8 where the folder's name does
    shutil.rmtree(folder / "_build")
    built = make_book(folder, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert built.returncode == 0, built.stdout[-4000:]
    assert "Its naïve text." in page(folder)


def test_clean_leaves_the_runs(tiny):
    shutil.copytree(tiny, tiny.parent / "copy", symlinks=True)
    (tiny.parent / "copy" / "_build" / "runs" / "module").mkdir(parents=True)
    assert run(tiny.parent / "copy", "make", "clean").returncode == 0
    assert [each.name for each in (tiny.parent / "copy" / "_build").iterdir()] == ["runs"]
    assert run(tiny.parent / "copy", "make", "clean-runs").returncode == 0
    assert not list((tiny.parent / "copy" / "_build").iterdir())


BUSY = """import time
from pathlib import Path
from joblib import Parallel, delayed
def work(i):
    Path(f'busy{i}').touch()
    time.sleep(60)
Parallel(2)(delayed(work)(i) for i in range(2))"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_a_build_and_loses_nothing(tiny, number):
    """While a chapter runs in a kernel and in processes that this has started."""
    write_notebook(tiny / "chapters" / "other.ipynb", OTHER, BUSY)
    with changed(tiny / "chapters" / "tiny.ipynb", "write('x')", f"write({number:d} * 'x')"):
        ran, kept = times_run(tiny), kept_chapters(tiny)
        build = subprocess.Popen(MAKE_BOOK, cwd=tiny, env=inside(tiny), start_new_session=True)
        wait_for(lambda: (tiny / "chapters" / "busy1").exists() and kept_chapters(tiny) == kept + 1)
        family = psutil.Process(build.pid).children(recursive=True)
        assert len(family) > 3
        os.killpg(build.pid, number)
        assert build.wait(timeout=30) != 0  # and not after the minute that its cell takes
        _, left = psutil.wait_procs(family, timeout=10)
        assert not [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        write_notebook(tiny / "chapters" / "other.ipynb", OTHER)
        assert make_book(tiny).returncode == 0
        assert times_run(tiny) == ran + number
    for file in (tiny / "chapters").glob("busy*"):
        file.unlink()


def kept_chapters(folder):
    return len(list((folder / "_build" / "executed").glob("*/*.ipynb")))


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)
