"""What the page for teachers shows: every figure that moves, with the page and the address that it has."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import nbformat

from utils.explore import Explorable
from utils.explore.table import Table


def addresses() -> Table:
    """A table of all explorables by page: the title, which links to it, and the names of its controls.

    It reads the chapters beside the one that asks.
    """
    rows = []
    for page in sorted(Path().glob("*.ipynb")):
        notebook = nbformat.read(page, as_version=4)
        title = notebook.cells[0].source.partition("\n")[0].lstrip("# ")
        for explorable in _shown(notebook):
            controls = ", ".join(f"`{name}`" for name in explorable.controls)
            address = f"{page.stem}.html#{explorable.name}"
            rows.append((title, f'<a href="{address}">{explorable.title}</a>', controls))
            title = ""
    return Table(("page", "figure", "its controls"), rows)


def _shown(notebook: nbformat.NotebookNode) -> Iterator[Explorable]:
    """The explorables that a chapter calls, in their order."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    modules = {
        alias or name: import_module(f"utils.figures.{name}")
        for names in re.findall(r"^from utils\.figures import (.+)$", code, re.MULTILINE)
        for name, alias in re.findall(r"(\w+)(?: as (\w+))?", names)
    }
    for module, name in re.findall(r"^(\w+)\.(\w+)\(", code, re.MULTILINE):
        found = getattr(modules.get(module), name, None)
        if isinstance(found, Explorable) and found.controls:
            yield found
