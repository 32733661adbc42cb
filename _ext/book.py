"""The book's own part of the build: fresh runs, frames as files, no request to anybody else.

1. A chapter runs again when its cells, the code in `utils/` or the pins have changed, and only then. What counts is
   content, never the time of a file: every build reads and writes all pages, and runs what is missing or damaged.
2. The frames that the chapters drew (`utils/explore/`), and the playground's data, are published beside the pages.
3. MathJax and the icons are served from the book; scripts that would ask another host are left out (`lighter.py`).
4. Every page tells its reading time and its neighbours, and folds the code that only calls a figure (`reader.py`).
5. The repository link and the launch button follow the repository that publishes the book, or are absent.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from hashlib import sha256
from multiprocessing.pool import ThreadPool
from pathlib import Path

import nbformat
import psutil
import reader
import yaml
from lighter import MATHJAX_PARTS, lighten
from nbclient import NotebookClient
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util.logging import getLogger

from utils.cache import PACKAGE, ROOT, digest

HERE = Path(__file__).parent
STATIC = HERE / "static"
SCRIPTS = {  # and the attributes that ask for each
    "explore.js": ("explorable", "question", "playground", "own"),
    "playground.js": ("playground",),
    "batch.js": ("own",),
}


def prepare(app: Sphinx, config: Config) -> None:
    """Say where results are kept and what the pages link to, before the other extensions read the settings."""
    code = digest([*PACKAGE.rglob("*.py"), *PACKAGE.glob("explore/explore.*"), ROOT / "requirements.txt"])
    keep = ROOT / "_build" / "executed" / f"{code}-{os.environ.get('BOOK_FIRST_SEED', '0')}"
    for old in keep.parent.glob("*"):
        if old != keep:
            shutil.rmtree(old)
    os.environ["BOOK_FRAMES"] = str(keep / "frames")  # kernels inherit it
    # By this Sphinx would judge pages by their time.
    Path(app.doctreedir, "environment.pickle").unlink(missing_ok=True)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a chapter a core, not two threads each
    config.nb_ipywidgets_js = {}
    config.mathjax_path = "mathjax/startup.js"
    config.mathjax3_config = {"loader": {"load": MATHJAX_PARTS}, "startup": {"typeset": False}}
    scripts = [*PACKAGE.glob("explore/explore.*s"), *PACKAGE.glob("playground/*.*s")]
    config.html_static_path = [*config.html_static_path, str(STATIC), *map(str, scripts)]
    config.templates_path = [*config.templates_path, str(HERE / "templates")]
    config.ogp_social_cards = {"enable": False}
    if address := repository():
        config.ogp_site_url = re.sub(r"https://github\.com/([\w-]+)/(.+)", r"https://\1.github.io/\2/", address)
        config.ogp_social_cards = {"enable": True}  # a picture has an address only where the book has one
        config.html_theme_options |= {
            "repository_url": address,
            "repository_branch": "main",
            "use_repository_button": True,
            "use_issues_button": True,
            "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
        }
    for listeners in app.events.listeners.values():  # thebe would bring a CDN and an error to every page
        listeners[:] = [each for each in listeners if each.handler.__module__ != "sphinx_thebe"]
    app.registry.css_files[:] = [each for each in app.registry.css_files if each[0] != "sphinx-thebe.css"]


def repository() -> str | None:
    """The web address of the repository that publishes the book, from the workflow's environment or the git remote."""
    if name := os.environ.get("GITHUB_REPOSITORY"):
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    if not (git := shutil.which("git")):
        return None
    asked = subprocess.run([git, "-C", ROOT, "remote", "get-url", "origin"], capture_output=True, encoding="utf-8")
    match = re.search(r"(github\.com|gitlab\.com)[:/]([\w.-]+/[\w.-]+?)(\.git)?/?$", asked.stdout.strip())
    return f"https://{match[1]}/{match[2]}" if match else None


def execute(app: Sphinx) -> None:
    """Run the chapters whose outputs are not kept, one on each core. Raises ExtensionError if one fails.

    Their kernels are processes, which end with this one: at Ctrl-C, too.
    """
    pages = [Path(app.srcdir, entry).with_suffix(".ipynb") for entry in _entries(_contents(app))]
    waiting = [page for page in pages if page.exists() and not _is_whole(_kept(page, _read(page)))]
    troubles, told = [], getLogger(__name__)
    try:
        with ThreadPool() as pool:
            for page, trouble in pool.imap_unordered(partial(_run, timeout=app.config.nb_execution_timeout), waiting):
                troubles += [trouble] * bool(trouble)
                told.info(f"{'failed' if trouble else 'ran'} {page.relative_to(app.srcdir)}")
    except BaseException:
        for process in psutil.Process().children(recursive=True):  # kernels, and what they have started
            with suppress(psutil.Error):
                process.kill()
        raise
    if troubles:
        raise ExtensionError("\n\n".join(troubles))


def _run(page: Path, timeout: int) -> tuple[Path, str]:
    """Run a chapter and keep it with its outputs; return it with what failed, if anything did."""
    notebook = _read(page)
    kept = _kept(page, notebook)
    try:
        NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": str(page.parent)}}).execute()
    except Exception as error:  # a cell's, a timeout, a dead kernel
        return page, f"{page}: {type(error).__name__}\n{error}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}")
    nbformat.write(notebook, part)
    part.replace(kept)
    return page, ""


def _read(page: Path) -> NotebookNode:
    return nbformat.read(page, as_version=4)


def _kept(page: Path, notebook: NotebookNode) -> Path:
    """The file for a chapter with the outputs of just these cells."""
    cells = json.dumps([[cell.source, cell.metadata.get("tags")] for cell in _code(notebook)])
    return Path(os.environ["BOOK_FRAMES"]).parent / f"{page.stem}-{sha256(cells.encode()).hexdigest()[:12]}.ipynb"


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _is_whole(kept: Path) -> bool:
    """Whether a chapter's outputs are there, and all frames that they show, as their names tell: by their content."""
    try:
        _read(kept)
    except Exception:  # it is not there, or damaged
        return False
    for name in set(re.findall(r"frames:/([\w-]+)", kept.read_text(encoding="utf-8"))):
        frames = Path(os.environ["BOOK_FRAMES"], name).glob("*/*.webp")
        ordered = sorted(frames, key=lambda frame: (int(frame.stem), frame.parent.name != "light"))
        if not name.endswith(sha256(b"".join(frame.read_bytes() for frame in ordered)).hexdigest()[:12]):
            return False
    return True


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    """Give a chapter's cells the outputs that are kept of them."""
    path = Path(app.env.doc2path(page))
    if path.suffix == ".ipynb":
        notebook = nbformat.reads(source[0], as_version=4)
        ran = _read(_kept(path, notebook))
        for cell, done in zip(_code(notebook), _code(ran), strict=True):
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
        notebook.metadata = ran.metadata
        reader.prepare(notebook)
        source[0] = nbformat.writes(notebook)


def serve(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Point a page's figures to their files; give their scripts to the pages that have some."""
    body = context.get("body") or ""
    wanted = [script for script, marks in SCRIPTS.items() if any(f"data-{mark}=" in body for mark in marks)]
    for place, script in enumerate(wanted):  # before the theme's scripts
        app.add_js_file(script, loading_method="defer", priority=place)
    if len(wanted) > 1:
        app.add_css_file("playground.css", priority=901)
    body = body.replace("frames:/", context["pathto"]("_frames/", resource=True))
    body = body.replace("static:/", context["pathto"]("_static/", resource=True))
    # Roles that ARIA has dropped, and a name that hides what is written.
    for attribute in (' role="doc-biblioentry"', ' role="list"', ' aria-label="Toggle hidden content"'):
        body = body.replace(attribute, "")
    context["body"] = re.sub(r'<div class="(?:amsmath )?math [^>]*>(.*?)</div>', _with_height, body, flags=re.DOTALL)


def _with_height(formula: re.Match) -> str:
    """Keep free about the height that a displayed formula will have, so that the page does not move at typesetting."""
    lines = re.split(r"\\\\", formula[1])
    height = 2 + sum(2.8 if re.search(r"\\(frac|sum|int|underbrace)", line) else 1.7 for line in lines)
    return formula[0].replace("<div ", f'<div style="--typeset: {height:.1f}em" ', 1)


def finish(app: Sphinx, error: Exception | None) -> None:
    """Count the pages, make them lighter, and put the frames beside them."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    missing = [entry for entry in _entries(_contents(app)) if not (out / entry).exists()]
    if missing:
        raise ExtensionError(f"expected a page for every entry of _toc.yml, got none for {missing}")
    html = lighten(out)
    _publish_frames(out, html)
    if "data-playground" in html:
        from utils.playground import digits_script  # which brings torch

        (out / "_static" / "digits.js").write_text(digits_script(), encoding="utf-8")


def _contents(app: Sphinx) -> dict:
    return yaml.safe_load(Path(app.srcdir, "_toc.yml").read_text(encoding="utf-8"))


def _entries(toc: dict | list) -> list[str]:
    """The pages that a table of contents names."""
    if isinstance(toc, list):
        return [entry for item in toc for entry in _entries(item)]
    own = [f"{toc[key]}.html" for key in ("root", "file") if key in toc]
    return own + [entry for value in toc.values() if isinstance(value, list) for entry in _entries(value)]


def _publish_frames(out: Path, html: str) -> None:
    drawn, published = Path(os.environ["BOOK_FRAMES"]), out / "_frames"
    wanted = set(re.findall(r"_frames/([\w-]+)", html))
    for stale in published.glob("*"):
        if stale.name not in wanted:
            shutil.rmtree(stale)
    for name in wanted:
        shutil.copytree(drawn / name, published / name, dirs_exist_ok=True)


def end(*_: object) -> None:
    """End as tidily as at Ctrl-C, once: make sends its own signal after that of the terminal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("Terminated")


def setup(app: Sphinx) -> dict[str, bool]:
    """Join the build."""
    signal.signal(signal.SIGTERM, end)
    app.add_js_file("print.js", loading_method="defer")
    app.add_css_file("book.css", priority=900)
    app.add_css_file("explore.css", priority=900)
    reader.setup(app)
    app.connect("config-inited", prepare, priority=100)
    app.connect("builder-inited", execute, priority=900)
    app.connect("source-read", fill)
    app.connect("html-page-context", serve, priority=400)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
