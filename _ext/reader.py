"""What a page gets that its notebook has not: folded code, a reading time, and terms that lead to the glossary."""

import ast
import re
from collections.abc import Iterator, Set
from typing import Any

from docutils import nodes
from nbformat import NotebookNode
from sphinx.application import Sphinx

GLOSSARY = "chapters/glossary"
WORDS_A_MINUTE, MINUTES_A_FIGURE = 180, 0.5
UNREAD = r"<details>.*?</details>|```.*?```|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|`[^`]*`"
ELSEWHERE = (nodes.title, nodes.reference, nodes.literal, nodes.math, nodes.raw, nodes.table, nodes.caption)


def prepare(notebook: NotebookNode) -> None:
    """Fold the cells that no reader of a page needs, and tell under the title how long the page takes."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    figures = {name for cell in code for name in _imported_figures(cell.source)}
    for cell in code:
        if is_scenery(cell.source, figures):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    first = notebook.cells[0]
    title, _, rest = first.source.partition("\n")
    told = f'<p class="reading-time">{minutes(notebook)} minutes to read</p>'
    first.source = f"{title}\n\n{told}\n{rest}"


def is_scenery(source: str, figures: Set[str] = frozenset()) -> bool:
    """Whether a cell only imports and asks `figures` (modules, by name) for a figure, a question or a table."""
    return all(
        isinstance(line, ast.Import | ast.ImportFrom)
        or (isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "_")
        or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Call) and _asked(line.value.func) in figures)
        for line in ast.parse(source).body
    )


def _asked(called: ast.expr) -> str:
    return ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""


def _imported_figures(source: str) -> Iterator[str]:
    for line in ast.parse(source).body:
        if isinstance(line, ast.ImportFrom) and line.module in ("utils", "utils.figures"):
            yield from (name.asname or name.name for name in line.names)


def minutes(notebook: NotebookNode) -> int:
    """How long a page takes, aloud, with half a minute for each figure."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    words = len(re.sub(UNREAD, " ", text, flags=re.DOTALL).split())
    figures = sum("hide-input" in cell.metadata.get("tags", ()) for cell in notebook.cells)
    return max(1, round(words / WORDS_A_MINUTE + figures * MINUTES_A_FIGURE))


def link_terms(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let the first use of each term of the glossary lead there, with the definition as its title."""
    if page == GLOSSARY or GLOSSARY not in app.env.all_docs or app.builder.format != "html":
        return
    home, waiting = app.builder.get_relative_uri(page, GLOSSARY), dict(_terms(app))
    for text in list(doctree.findall(nodes.Text)):
        if not waiting:
            return
        if not any(isinstance(above, ELSEWHERE) for above in _above(text)) and not _in_raw_link(text):
            _link(text, waiting, home)


def _link(text: nodes.Text, waiting: dict[str, tuple[str, str]], home: str) -> None:
    names = "|".join(re.escape(name) for name in sorted(waiting, key=len, reverse=True))
    found = re.search(rf"(?<![\w-])({names})s?(?![\w-])", str(text), re.IGNORECASE)
    if not found:
        return
    place, definition = waiting.pop(found[1].lower())
    link = nodes.reference("", found[0], internal=True, refuri=f"{home}#{place}", classes=["term"])
    link["reftitle"] = definition
    before, after = nodes.Text(str(text)[: found.start()]), nodes.Text(str(text)[found.end() :])
    text.parent.replace(text, [before, link, after])
    _link(after, waiting, home)


def _in_raw_link(text: nodes.Text) -> bool:
    """Whether the text stands in a link that a chapter writes as HTML."""
    before = text.parent.children[: text.parent.index(text)]
    tags = [each.astext() for each in before if isinstance(each, nodes.raw) and re.match(r"</?a\b", each.astext())]
    return bool(tags) and tags[-1] != "</a>"


def _terms(app: Sphinx) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each term of the glossary in small letters: where it stands, and what it means."""
    for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        meaning = next(item.findall(nodes.definition)).astext().split("\n")[0]
        for term in item.findall(nodes.term):
            yield term.astext().lower(), (term["ids"][0], meaning)


def _above(node: nodes.Node) -> Iterator[nodes.Node]:
    while node := node.parent:
        yield node


def setup(app: Sphinx) -> dict[str, Any]:
    """Join the build; `book.py` calls :func:`prepare`."""
    app.connect("doctree-resolved", link_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
