"""A chapter as a reader on Binder has it: with every move of its figures, its folded solutions, and Binder's memory."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest

MEMORY_MB = 700  # Binder promises 1 GB, and the server needs some of it

# The kernel's own peak. getrusage() would not do: a child inherits its parent's maximum.
READ_MEMORY = f"""from pathlib import Path as _Path
_status = _Path("/proc/self/status")
_peak = int(_status.read_text().partition("VmHWM:")[2].split()[0]) / 1024 if _status.exists() else 0
assert _peak < {MEMORY_MB}, f"the kernel needed {{_peak:.0f}} MB: expected at most {MEMORY_MB}"
"""


def solutions(notebook):
    """The code that a chapter's folded solutions give."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for folded in re.findall(r"<summary>Solution</summary>(.*?)</details>", text, re.DOTALL):
        yield from re.findall(r"^```python\n(.*?)^```", folded, re.MULTILINE | re.DOTALL)


def run_all_of_it(item):
    """Let nbmake's one execution of a chapter, `item`, hold all that a reader can run there."""
    run, path = item.runtest, Path(item.filename)

    def runtest():
        notebook = nbformat.read(path, as_version=4)
        notebook.cells += [nbformat.v4.new_code_cell(code) for code in (*solutions(notebook), READ_MEMORY)]
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            item.filename = str(Path(folder, path.name))
            nbformat.write(notebook, item.filename)
            patch.setenv("BOOK_EXERCISE", "1")  # a figure makes all its moves
            run()

    item.runtest = runtest
