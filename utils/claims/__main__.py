"""Check the book's claims on this machine: `python -m utils.claims`."""

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path


def _seeds(text: str) -> tuple[int, int]:
    """The first seed and how many there are, of a range such as 10-19."""
    first, dash, last = text.partition("-")
    if not (first.isdigit() and (last.isdigit() if dash else True)) or (dash and int(last) <= int(first)) or not dash:
        raise argparse.ArgumentTypeError(f"expected two or more seeds in a row, such as 10-19, got {text!r}")
    return int(first), int(last) - int(first) + 1


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m utils.claims", description="Check every claim of the book.")
    parser.add_argument("--seeds", type=_seeds, metavar="A-B", help="with these seeds, two or more; 0-9 by default")
    parser.add_argument("--only", nargs="+", metavar="ID", help="these claims, or all whose id begins so")
    parser.add_argument("--list", action="store_true", help="say what is claimed, and measure nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found into a file")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="the same as a table, one line a setting of a claim")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if every verdict is the one that the book states, else 1."""
    asked = _arguments(given)
    if asked.seeds:
        os.environ["BOOK_FIRST_SEED"], os.environ["BOOK_SEEDS"] = map(str, asked.seeds)
    from utils.claims import check, registry  # the number of seeds is read where experiments are imported
    from utils.progress import report_progress

    claims = list(registry().values())
    if asked.only:
        unknown = [name for name in asked.only if not any(claim.id.startswith(name) for claim in claims)]
        if unknown:
            print(f"--only: no claim is called {', '.join(unknown)}; --list names them all", file=sys.stderr)
            return 2
        claims = [claim for claim in claims if claim.id.startswith(tuple(asked.only))]
    if asked.list:
        print(*(f"{claim.id:34} {claim.sentence}" for claim in claims), sep="\n")
        return 0
    found, wide = [], max(len(claim.id) for claim in claims)
    print(f"{'claim':{wide}} {'verdict':18} {'weakest estimate [95 %]':54} seeds  seconds")
    try:
        for i, claim in enumerate(claims):
            with report_progress(_Line(f"{i + 1} of {len(claims)}: {claim.id}")):
                checked = check(claim)
            found.append(checked)
            line = f"{claim.id:{wide}} {checked.verdict:18} {_weakest(checked):54}"
            line += f" {checked.seeds:5} {checked.seconds:8.1f}"
            print(line + ("" if checked.as_stated else f"   the book says: {claim.stated}"), flush=True)
    except KeyboardInterrupt:
        print(f"interrupted after {len(found)} of {len(claims)}; the runs that were finished are kept", file=sys.stderr)
        return 130
    finally:
        if asked.json:
            asked.json.write_text(json.dumps([_plain(each) for each in found], indent=1), encoding="utf-8")
        if asked.csv:
            _write_table(asked.csv, map(_plain, found))
    others = [each.claim.id for each in found if not each.as_stated]
    print(
        f"{len(found) - len(others)} of {len(found)} verdicts are the book's"
        + (f"; not: {', '.join(others)}" * bool(others))
    )
    return int(bool(others))


class _Line:
    """Tells on one line of a terminal how far a claim is."""

    def __init__(self, name: str):
        self.name, self.told = name, 0.0

    def __call__(self, done: int, total: int) -> None:
        if sys.stderr.isatty() and time.monotonic() - self.told > 0.2:
            self.told = time.monotonic()
            print(f"\r{self.name}: {done / total:4.0%}\033[K\r", end="", file=sys.stderr, flush=True)


def _weakest(checked) -> str:
    from utils.style import between

    setting, interval = checked.weakest
    return f"{between(interval)} {checked.claim.unit} ({setting})".replace("  ", " ")


def _plain(checked) -> dict:
    claim = checked.claim
    return {
        "id": claim.id,
        "sentence": claim.sentence,
        "source": claim.source,
        "rule": str(claim.rule),
        "verdict": checked.verdict,
        "stated": claim.stated,
        "estimates": {setting: list(interval) for setting, interval in checked.intervals.items()},
        "seeds": checked.seeds,
        "seconds": round(checked.seconds, 2),
    }


def _write_table(path: Path, found: Iterable[dict]) -> None:
    columns = ("id", "verdict", "setting", "estimate", "low", "high", "seeds", "rule", "sentence", "source")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for claim in found:
            for setting, (estimate, low, high) in claim["estimates"].items():
                writer.writerow({**claim, "setting": setting, "estimate": estimate, "low": low, "high": high})


if __name__ == "__main__":
    sys.exit(main())
