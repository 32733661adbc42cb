"""What protects a chapter's reader: no outputs of another machine, short cells between sentences, links that lead."""

import ast
import itertools
import re
import statistics

import nbformat
import pytest
from harness.clone import ROOT

CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
UNWANTED = {
    "plotting": r"\bplt\.|pyplot|\bax\.\w+\(|\bfig\.\w+\(|\baxes\b",
    "a magic or a shell command": r"^\s*[%!]",
    "a path line": r"sys\.path",
    "a star import": r"import \*",
    "an installation": r"\bpip\b",
}
MACHINE = r"/(root|home|work|tmp|Users)/"

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def sources(path, kind):
    return [cell.source for cell in read(path).cells if cell.cell_type == kind]


def lines(source):
    return [line for line in source.splitlines() if line.strip()]


def explorable_names():
    """Every function that a module of figures decorates with `explore`."""
    for module in (ROOT / "utils" / "figures").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                "explore(" in ast.unparse(each) for each in node.decorator_list
            ):
                yield node.name


def test_there_are_chapters_and_explorables():
    assert CHAPTERS and list(explorable_names())


def test_every_explorable_is_shown_in_a_chapter():
    code = "\n".join(source for path in CHAPTERS for source in sources(path, "code"))
    assert not [name for name in explorable_names() if not re.search(rf"\b{name}\(", code)]


@each_chapter
def test_it_is_committed_as_written_not_as_run(path):
    book = read(path)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not [cell.id for cell in code if cell.outputs or cell.execution_count]
    assert "widgets" not in book.metadata
    assert not book.metadata.get("execution")  # nbmake would let errors through
    nbformat.validate(book)


@each_chapter
def test_cells_are_short_and_stand_between_sentences(path):
    cells = read(path).cells
    sizes = sorted(len(lines(source)) for source in sources(path, "code"))
    assert sizes[0] > 0
    assert statistics.median(sizes) <= 5
    assert statistics.quantiles(sizes, n=10, method="inclusive")[-1] <= 10
    assert sizes[-1] <= 15
    runs = [(kind, len(list(run))) for kind, run in itertools.groupby(cells, lambda cell: cell.cell_type)]
    assert max(count for kind, count in runs if kind == "code") <= 2
    assert runs[0][0] == runs[-1][0] == "markdown"


@each_chapter
def test_code_is_about_the_subject(path):
    code = sources(path, "code")
    found = {what: [s for s in code if re.search(sign, s, re.MULTILINE)] for what, sign in UNWANTED.items()}
    assert not {what: where for what, where in found.items() if where}
    assert any(re.search(r"^(from|import) utils\b", source, re.MULTILINE) for source in code)
    assert not re.search(MACHINE, path.read_text(encoding="utf-8"))


@each_chapter
def test_links_and_citations_lead_somewhere(path):
    text = "\n".join(sources(path, "markdown"))
    linked = re.findall(r"\]\((?!\w+:)([^)#\s]+)", text)
    assert not [link for link in linked if not (path.parent / link).exists()]
    keys = [key.strip() for keys in re.findall(r"\{cite[:\w]*\}`([^`]+)`", text) for key in keys.split(",")]
    known = set(re.findall(r"^@\w+\{([^,\s]+)", (ROOT / "references.bib").read_text(encoding="utf-8"), re.MULTILINE))
    assert not set(keys) - known
