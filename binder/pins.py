"""Compile the two lists of pins from requirements.in: the root's, and the one that Binder installs.

    python binder/pins.py [--upgrade] [--upgrade-package NAME]

The root's requirements.txt is compiled from the whole of requirements.in and ends with `-e .`.
binder/requirements.txt is compiled from its first section alone (what a notebook needs), with the
root's versions; its own option line, the index of torch's CPU builds, is kept as it is. Without
options, versions already in requirements.txt stay where requirements.in allows them.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "requirements.in"
PINS = ROOT / "requirements.txt"
BINDER = ROOT / "binder" / "requirements.txt"
END_OF_FIRST_SECTION = "# What the book is built with."
HEADER = """\
# Compiled by `make pins` from the first section of requirements.in: what a notebook needs.
# The versions are those of the root's requirements.txt. A line that starts with -r, -c or -e would
# cost Binder the cached layer, and torch would be installed again at every commit.
"""


def compile_pins(source: Path, target: Path, *options: str) -> list[str]:
    """Run pip-compile and return the lines of `target`, with plain `torch==X` and no `+cpu`.

    Raises CalledProcessError where pip-compile fails, and SystemExit where it chose the CUDA build.
    """
    command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]
    command += ["--no-annotate", f"--output-file={target}", *options, str(source)]
    subprocess.run(command, cwd=ROOT, check=True)
    lines = target.read_text(encoding="utf-8").replace("+cpu\n", "\n").splitlines()
    if any(line.startswith(("nvidia-", "triton==", "cuda-")) for line in lines):
        raise SystemExit(
            "pip chose torch's CUDA build. Set PIP_EXTRA_INDEX_URL to the index that "
            "binder/requirements.txt names, then run this again."
        )
    return lines


def compile_root(*options: str) -> None:
    """Compile requirements.txt; versions already there stay unless `options` say otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "requirements.txt")
        kept.write_text("\n".join(pins(PINS)) + "\n", encoding="utf-8")
        lines = compile_pins(SOURCE, kept, "--no-header", *options)
    header = "# Compiled from requirements.in by `make pins` with Python 3.11."
    PINS.write_text("\n".join([header, *(line for line in lines if "==" in line), "-e .", ""]), encoding="utf-8")


def compile_binder() -> None:
    """Compile binder/requirements.txt, held to the versions of the root's."""
    first, found, _ = SOURCE.read_text(encoding="utf-8").partition(END_OF_FIRST_SECTION)
    if not found:
        raise SystemExit(f"requirements.in has no line {END_OF_FIRST_SECTION!r}")
    with tempfile.TemporaryDirectory() as folder:
        source, held, target = (Path(folder, name) for name in ("in", "held", "out"))
        source.write_text(first, encoding="utf-8")
        held.write_text("\n".join(pins(PINS)) + "\n", encoding="utf-8")
        lines = compile_pins(source, target, "--no-header", f"--constraint={held}")
    index = [line for line in BINDER.read_text(encoding="utf-8").splitlines() if line.startswith("--")]
    BINDER.write_text(HEADER + "\n".join([*index, *(line for line in lines if "==" in line), ""]), encoding="utf-8")


def pins(path: Path) -> list[str]:
    """Give the `name==version` lines of a compiled file."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if "==" in line and line[0] != "#"]


if __name__ == "__main__":
    compile_root(*sys.argv[1:])
    compile_binder()
