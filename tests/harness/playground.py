"""The playground on a blank page of its own: what the book publishes of it, without a book."""

import shutil

from utils.playground import company, digits_script, one_batch, page, projection, sigmoid_range

from .clone import ROOT

FILES = ("explore/explore.js", "explore/explore.css", "playground/playground.js", "playground/playground.css")
FILES += ("playground/batch.js",)
BLANK = """<!doctype html>
<html lang="en" data-theme="light">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Playground</title>
<link rel="stylesheet" href="explore.css"><link rel="stylesheet" href="playground.css">
<style>body {{ font: 16px sans-serif; margin: 0 16px; }} html[data-theme="dark"] body {{ background: #14181e; }}</style>
<main>{figures}</main>
<script src="explore.js"></script><script src="playground.js"></script><script src="batch.js"></script>
</html>
"""
OWN = (one_batch, company, sigmoid_range, projection)


def write_page(folder):
    """Write the page with all that it needs into a folder, and return its path."""
    for file in FILES:
        shutil.copy(ROOT / "utils" / file, folder)
    (folder / "digits.js").write_text(digits_script(), encoding="utf-8")
    figures = page.markup().replace("static:/", "") + "".join(figure().html for figure in OWN)
    path = folder / "index.html"
    path.write_text(BLANK.format(figures=figures), encoding="utf-8")
    return path


def choose(root, **chosen):
    """Set controls by their names in addresses, through the keyboard's own event."""
    for name, value in chosen.items():
        place = page.CONTROLS[name].values.index(value)
        field = root.locator(f"[data-name={name}] :is(select, input)")
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(index=place)
        else:
            field.fill(str(place))
