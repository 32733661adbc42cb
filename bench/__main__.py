"""Measure what the book promises: `python -m bench`, or only some of it: `python -m bench layer page --verbose`."""

import sys
from importlib import import_module

from bench import VERBOSE

MODULES = ("layer", "theory", "probe", "sweep", "page", "playground", "lab", "build", "claims")


def main() -> None:
    """Print one aligned table of what was measured and what is within reach."""
    wanted = [argument for argument in sys.argv[1:] if argument != VERBOSE] or MODULES
    rows = [("what", "measured", "reach")]
    for name in wanted:
        print(f"measuring {name} ...", file=sys.stderr)
        rows += import_module(f"bench.{name}").rows()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


main()
