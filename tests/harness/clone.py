"""A fresh clone of the repository, what is run in it, and notebooks that are written for a test."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.prefix)
MAKE_BOOK = ("make", "book", "--assume-old=.venv/.installed")
PAGES = re.findall(r"(?:root|file): *(\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))


def copy_tree(to):
    """Copy the repository without its history and what `.gitignore` names, with this environment; it needs no git."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    names = [line.strip("/") for line in ignored if line and line[0] != "#"]
    shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(".git", *names), dirs_exist_ok=True)
    (to / ".venv").symlink_to(VENV)  # make knows no path with a space in it
    return to


def inside(folder, **settings):
    """The environment of a process whose `utils` is that of `folder`; settings of the book are only these."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("BOOK_", "GITHUB_"))}
    return {**own, "PYTHONPATH": str(folder), "BOOK_RUNS": str(ROOT / "_build" / "runs"), **settings}


def run(folder, *command, **settings):
    """Run a command in `folder` and return its result, with all that it said, without colours, in `stdout`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    ended = subprocess.run(command, cwd=folder, env=inside(folder, **settings), **pipes)
    ended.stdout = re.sub(r"\x1b\[[\d;]*m", "", ended.stdout)
    return ended


def make_book(folder, **settings):
    """Run `make book` in `folder` with the tools of this environment."""
    return run(folder, *MAKE_BOOK, **settings)


def write_notebook(path, *cells):
    """Write a notebook: a cell that begins with `#` and a space is text, any other is code."""
    new = nbformat.v4
    made = [new.new_markdown_cell(cell) if cell.startswith("# ") else new.new_code_cell(cell) for cell in cells]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new.new_notebook(cells=made, metadata={"kernelspec": kernel}), path)
