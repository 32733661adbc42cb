"""What a first visit loads, made less: one sheet of styles, no script that waits, and only the icons that are used."""

import logging
import posixpath
import re
import shutil
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

MATHJAX = Path(str(files("mathjax"))) / "static" / "mathjax" / "es5"
# No menu: it offers parts that are not published, is a Tab stop at every formula, and obeys what another book stored.
MATHJAX_PARTS = ["core", "input/tex", "output/chtml", "a11y/assistive-mml"]
MATHJAX_FILES = ["startup", *MATHJAX_PARTS, "output/chtml/fonts/tex"]  # the output asks for its font when it runs

SHEET = re.compile(r'\s*<link (?=[^>]*rel="stylesheet")(?![^>]*media=)[^>]*href="([^"?]+)[^>]*>')
ICON = re.compile(r'(?:\.fa-[\w-]+:before,?)+\{content:"[^"]*"\}')
SEARCH = re.compile(r'\s*<script [^>]*src="[^"]*/(?:searchtools|language_data|searchindex)\.js[^>]*></script>')
PICTURE = re.compile(r'<figure [^>]*data-explorable=.*?<img class="only-light" src="([^"]*)/light/([^"]*)"', re.DOTALL)
INLINE = re.compile(r"\s*<script(?: data-cfasync=\"false\")?>.*?</script>", re.DOTALL)
MATHS_LATER = """{parts}
    <script type="module">
      const reach = () => {{ // with the Tab key, a formula that is too wide and scrolls
        for (const formula of document.querySelectorAll("mjx-container[display]"))
          if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
          else formula.removeAttribute("tabindex");
      }};
      const isSeen = (formula) => // and is not folded
        formula.checkVisibility() && formula.getBoundingClientRect().top < innerHeight;
      const typeset = async () => {{
        await MathJax.startup.promise;
        const formulae = [...document.querySelectorAll(".math")];
        const later = formulae.filter((formula) => !isSeen(formula)).map((formula) => [formula]);
        // What is in view at once, so that it moves once; then one by one, so that no key waits for all of them.
        for (const part of [formulae.filter(isSeen), ...later]) {{
          await MathJax.typesetPromise(part);
          await new Promise((goOn) => setTimeout(goOn));
        }}
        reach();
      }};
      const maths = Object.assign(document.createElement("script"), {{ src: "{startup}", onload: typeset }});
      addEventListener("load", () => document.head.append(maths));
      addEventListener("resize", reach);
    </script>"""


def lighten(out: Path) -> str:
    """Make all pages in a folder lighter; return their HTML, one after the other."""
    static = out / "_static"
    pages = {page: page.read_text(encoding="utf-8") for page in out.rglob("*.html") if static not in page.parents}
    icons = frozenset(_keep_used_icons(static, "".join(pages.values())))
    for page, text in pages.items():
        lighter = _without_waiting(text, is_search=page == out / "search.html")
        pages[page] = _with_one_sheet(lighter, page.parent, static, icons)
        if pages[page] != text:
            page.write_text(pages[page], encoding="utf-8")
    _publish_mathjax(static / "mathjax")
    html = "".join(pages.values())
    for sheet in static.glob("styles-*.css"):
        if sheet.name not in html:
            sheet.unlink()
    return html


def _without_waiting(page: str, is_search: bool) -> str:
    """Let no script hold up a page.

    The theme's run after it, MathJax once it is there, Font Awesome's never; what the page itself says to them stands
    before the styles, for which an inline script would wait, and with it all that follows.
    """
    page = re.sub(r"\s*<script defer src=\"[^\"]*/fontawesome\.js[^>]*></script>", "", page)
    head, end, body = page.partition("</head>")
    if not is_search:  # elsewhere they serve a search while one types, which this book has not
        head = SEARCH.sub("", head)
    head = re.sub(r'<script [^>]*src="([^"]*/mathjax/)startup\.js[^"]*"></script>', _maths_later, head)
    head = re.sub(r"<script (?!defer)(?=[^>]*\bsrc=)", "<script defer ", head)
    head = head.replace("<script>DOCUMENTATION_OPTIONS.", '<script type="module">DOCUMENTATION_OPTIONS.')  # is deferred
    head = re.sub(r'<link (?=[^>]*rel="preload")', '<link fetchpriority="low" ', head)
    inline = "".join(INLINE.findall(head))
    head = INLINE.sub("", head).replace("</title>", f"</title>{inline}", 1)
    return head + end + body


def _maths_later(tag: re.Match) -> str:
    scripts = [f"{tag[1]}{part}.js" for part in MATHJAX_FILES]
    parts = "\n    ".join(f'<link rel="preload" as="script" href="{script}"/>' for script in scripts)
    return MATHS_LATER.format(parts=parts, startup=scripts[0])


def _with_one_sheet(page: str, folder: Path, static: Path, icons: frozenset[str]) -> str:
    """Put the sheets of styles of a page into one; the first picture that can be moved comes beside it."""
    sheets = tuple((folder / name).resolve() for name in SHEET.findall(page))
    if not sheets:
        return page
    place = posixpath.relpath(static / _one_sheet(sheets, static.resolve(), icons), folder)
    links = [f'<link rel="stylesheet" href="{place}"/>']
    if picture := PICTURE.search(page):
        links += [
            f'<link rel="preload" as="image" href="{picture[1]}/{theme}/{picture[2]}" '
            f'media="(prefers-color-scheme: {theme})"/>'
            for theme in ("light", "dark")
        ]
    start = SHEET.search(page).start()
    return page[:start] + "\n    " + "\n    ".join(links) + SHEET.sub("", page[start:])


@cache
def _one_sheet(sheets: tuple[Path, ...], static: Path, icons: frozenset[str]) -> str:
    """Write the sheets into one file, in their order, without the icons that nobody uses; return its name."""
    styles = "\n".join(_read_sheet(sheet, static) for sheet in sheets)
    styles = ICON.sub(lambda rule: rule[0] if icons & set(re.findall(r"\.(fa-[\w-]+)", rule[0])) else "", styles)
    name = f"styles-{sha256(styles.encode()).hexdigest()[:12]}.css"
    (static / name).write_text(styles, encoding="utf-8")
    return name


def _read_sheet(sheet: Path, static: Path) -> str:
    """A sheet with what it imports, as it reads in the folder of static files."""
    text = re.sub(r'@charset "UTF-8";|/\*# sourceMappingURL=.*?\*/', "", sheet.read_text(encoding="utf-8"))
    home = sheet.parent.relative_to(static).as_posix()
    text = re.sub(r"url\((?!data:)([\w./-]+)\)", lambda told: f"url({posixpath.normpath(f'{home}/{told[1]}')})", text)
    return re.sub(r'@import "([^"]+)";', lambda told: _read_sheet((sheet.parent / told[1]).resolve(), static), text)


def _publish_mathjax(to: Path) -> None:
    fonts = Path("output", "chtml", "fonts", "woff-v2")
    if not (to / "startup.js").exists():
        shutil.rmtree(to, ignore_errors=True)
        for part in MATHJAX_FILES:
            script = Path(f"{part}.js")
            (to / script).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(MATHJAX / script, to / script)
        shutil.copytree(MATHJAX / fonts, to / fonts)


def _keep_used_icons(static: Path, html: str) -> set[str]:
    """Cut the theme's icon fonts (300 kB) to the icons that pages and scripts use (a few kB); return their names."""
    scripts = "".join(script.read_text(encoding="utf-8") for script in (static / "scripts").glob("*theme.js"))
    styles = "".join(style.read_text(encoding="utf-8") for style in (static / "styles").glob("*.css"))
    names = set(re.findall(r"\bfa-[a-z0-9-]+", html + scripts))
    codes = {
        int(code, 16)
        for rule, code in re.findall(r'([^{}]*)\{[^{}]*content:"\\(f[0-9a-f]+)"', styles)
        if names & set(re.findall(r"\.(fa-[a-z0-9-]+)", rule)) or ".fa-" not in rule
    }
    codes |= {ord(sign) for sign in styles if "\ue000" <= sign <= "\uf8ff"}  # those of admonitions are in variables
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    source = Path(str(files("pydata_sphinx_theme"))) / "theme" / "pydata_sphinx_theme" / "static"
    for font in (source / "vendor" / "fontawesome" / "webfonts").glob("*.woff2"):
        whole = TTFont(font)
        subsetter = Subsetter(Options(flavor="woff2"))
        subsetter.populate(unicodes=codes)
        subsetter.subset(whole)
        whole.flavor = "woff2"
        whole.save(static / "vendor" / "fontawesome" / "webfonts" / font.name)
    for unused in [static / "scripts" / "fontawesome.js", *(static / "vendor").rglob("*.ttf"), *static.rglob("*.map")]:
        unused.unlink(missing_ok=True)
    return names
