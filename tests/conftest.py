"""What tests share. Nothing here needs a browser's package but what opens a browser: see `harness/`."""

import pytest
from harness.chapter import run_all_of_it
from harness.clone import copy_tree, make_book


def pytest_collection_modifyitems(items):
    """Mark what builds a book or opens a browser (`-m "not browser"` runs the rest); run whole chapters."""
    for item in items:
        if getattr(item, "nbmake", False):
            run_all_of_it(item)
        if {"clone", "browser", "tiny"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("browser")


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    return copy_tree(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def book(clone):
    """The folder of pages that a fresh clone built."""
    built = make_book(clone)
    assert built.returncode == 0, built.stdout[-4000:]
    return clone / "_build" / "html"


@pytest.fixture(scope="module")
def browser():
    """One Chromium a module: Playwright leaves an event loop running in this thread, which other tests must not see."""
    from harness.browser import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(book):
    from harness.browser import serving

    with serving(book) as address:
        yield address


@pytest.fixture(scope="module")
def light(browser, site, name):
    """A page of the module that asks, which names its pages by a fixture `name`."""
    from harness.browser import visiting

    with visiting(browser, f"{site}/{name}.html") as page:
        yield page


@pytest.fixture(scope="module")
def dark(browser, site, name):
    from harness.browser import visiting

    with visiting(browser, f"{site}/{name}.html", color_scheme="dark") as page:
        yield page


@pytest.fixture
def visit(browser, site, name):
    """Open a fresh page: `with visit(**settings) as page`."""
    from harness.browser import visiting

    return lambda **settings: visiting(browser, f"{site}/{name}.html", **settings)
