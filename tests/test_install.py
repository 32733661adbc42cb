"""Which PyTorch `make` installs: the CPU build where its index answers, else, or where one says so, PyPI's."""

import socket
import sys
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler

import pytest
from harness.browser import serving
from harness.clone import copy_tree, run

PIP = """#!/bin/sh
echo "$PIP_EXTRA_INDEX_URL" > asked
"""


@pytest.fixture
def install(tmp_path):
    """Run the Makefile's installing with a pip that only notes which index it was given: `install(index)`."""
    folder = copy_tree(tmp_path / "a folder")
    pip = folder / "environment" / "bin" / "python"
    pip.parent.mkdir(parents=True)
    pip.write_text(PIP, encoding="utf-8")
    pip.chmod(0o755)

    def start(index, *options, **settings):
        (folder / "binder" / "requirements.txt").write_text(f"--extra-index-url {index}\n", encoding="utf-8")
        settings = {"PIP_INDEX_URL": "", "PIP_EXTRA_INDEX_URL": "", **settings}
        target = ("VENV=environment", "environment/.installed")
        done = run(folder, "make", *options, *target, **settings)
        assert done.returncode == 0, done.stdout
        return (folder / "asked").read_text(encoding="utf-8").strip()

    return start


class Index(SimpleHTTPRequestHandler):
    """Has a page for torch, and nothing else."""

    def do_GET(self):
        self.send_response(200 if self.path == "/torch/" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def silent():
    """A host that takes a connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux does PyPI's torch bring CUDA")
def test_the_cpu_build_is_taken_where_its_index_answers(install, tmp_path):
    with serving(tmp_path, Index) as index:
        assert install(index) == index
        assert install(index, "TORCH=pypi", "--always-make") == ""
        assert install(index, "--always-make", PIP_EXTRA_INDEX_URL="https://mine.example/") == "https://mine.example/"
        assert install(index, "--always-make", PIP_INDEX_URL="https://mine.example/") == ""


def test_pypis_is_taken_where_the_index_is_absent_or_silent_or_knows_no_torch(install, tmp_path):
    with silent() as index:
        assert install(index) == ""
    assert install(index, "--always-make") == ""  # nobody is there any more
    with serving(tmp_path) as index:
        assert install(index, "--always-make") == ""
