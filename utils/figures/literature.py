"""The picture, the tables and the questions of the page "The map of the literature", all from one file."""

import pkgutil
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils import claims
from utils.claims import Claim, Verdict, check, registry
from utils.experiments.literature import FIRST, LAST, READ, STANCES, THEMES, Work, about, claims_beside, counts, works
from utils.explore import Answer, Drawing, exercise, explore, predict
from utils.explore.table import Markup, Table
from utils.style import ARMS, DATA, FAINT, INK, MUTED, category_axis, figure

ALL_THEMES, ALL_STANCES = "all four", "all"
SHAPES = {  # of a mark: its marker, its colour
    "for": ("^", ARMS["bn"].colour),
    "against": ("v", ARMS["plain"].colour),
    "in part": ("D", DATA),
}
FILLS = {"experiment": "full", "both": "left", "theory": "none", "argument": "none"}
STACKED = ("for", "in part", "against")  # in the picture, from below
SIDES = {1: "left", -1: "right"}
ARROWS = {"for": "▲", "against": "▼", "in part": "◆"}
BELOW = 0.98  # inches, for the years and what shapes and fills mean
LONGEST = 12  # rows of a table that is not folded
YEARS = (FIRST - 0.6, LAST + 0.6)
MOST = max(len(about(theme)) for theme in THEMES)  # works in a theme
HEIGHT = 0.2 * MOST + BELOW + 0.6  # inches, the same in every state


# --- the picture -----------------------------------------------------------------------------------------------------


@explore(theme=[ALL_THEMES, *THEMES.values()], stance=[ALL_STANCES, *STANCES])
def the_map(theme: str = ALL_THEMES, stance: str = ALL_STANCES) -> Drawing:
    """Who takes which stand on why BN helps, over the years; one mark a work and theme."""
    if theme == ALL_THEMES:
        return _overview(stance), _overview_told(stance)
    key = next(key for key, name in THEMES.items() if name == theme)
    return _listed(key, stance), _theme_told(key, stance)


def _overview(stance: str) -> Figure:
    """A band a theme, a column a year; the works of a year stand on each other."""
    columns = {theme: Counter(work.year for work in about(theme)) for theme in THEMES}
    heights = {theme: max(years.values()) + 1 for theme, years in columns.items()}
    rows = sum(heights.values())
    fig, (ax,) = figure("one mark a work and theme", height=HEIGHT, left=1.3, bottom=BELOW)
    floor, middles = 0, []
    for theme, height in heights.items():
        floor += height
        middles.append(floor - height / 2 - 0.5)
        ax.axhline(floor - 0.5, color=FAINT, linewidth=1)
        stacked = Counter()
        for work in sorted(about(theme), key=partial(_height, theme)):
            stacked[work.year] += 1
            is_lit = stance in (ALL_STANCES, work.stance[theme])
            _mark(ax, work.year, floor - stacked[work.year], work, work.stance[theme], is_lit=is_lit)
    ax.set_yticks(middles, [name.replace(" ", "\n") for name in THEMES.values()])
    ax.set_ylim(rows - 0.4, -0.5)
    ax.grid(axis="y", visible=False)
    _finish(fig, ax)
    return fig


def _height(theme: str, work: Work) -> int:
    return STACKED.index(work.stance[theme])


def _listed(theme: str, stance: str) -> Figure:
    """A row a work, named at the left; the mechanism beside the mark where there is one."""
    found = about(theme)
    fig, (ax,) = figure(f"{THEMES[theme]}: {len(found)} works", height=HEIGHT, left=1.75, bottom=BELOW)
    category_axis(ax, [_short(work.authors) for work in found])
    ax.set_ylim(max(len(found), MOST / 2) - 0.5, -0.5)  # few rows stand at the top
    _finish(fig, ax)
    for row, (work, name) in enumerate(zip(found, ax.get_yticklabels(), strict=True)):
        is_lit = stance in (ALL_STANCES, work.stance[theme])
        look = {"fontsize": 9, "color": INK if is_lit else MUTED, "alpha": 1 if is_lit else 0.6}
        _mark(ax, work.year, row, work, work.stance[theme], is_lit=is_lit)
        name.set(**look)
        if theme == "other":
            side = 1 if work.year <= 2020 else -1  # where there is room
            ax.text(work.year + 0.35 * side, row, work.mechanism, ha=SIDES[side], va="center", **look)
    return fig


def _short(authors: str) -> str:
    return authors.replace(" and ", " & ")


def _mark(ax: Axes, x: float, y: float, work: Work, stand: str, *, is_lit: bool) -> None:
    marker, colour = SHAPES[stand]
    ax.plot(x, y, **_look(marker, colour if is_lit else FAINT, FILLS[work.kind]))


def _look(marker: str, colour: str, fill: str) -> dict:
    """How a mark is drawn: full, half full or hollow."""
    size = 6 if marker == "D" else 7.5
    look = {"marker": marker, "linestyle": "", "color": colour, "markersize": size, "markeredgewidth": 1.3}
    return {**look, "markeredgecolor": colour, "fillstyle": fill, "markerfacecoloralt": "none", "zorder": 3}


def _finish(fig: Figure, ax: Axes) -> None:
    """The years, and below them what shapes and fills mean."""
    ax.set(xlim=YEARS, xticks=range(FIRST, LAST + 1, 2))
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    inches = fig.dpi_scale_trans
    rows = (
        (0.52, [(marker, colour, "full", stand) for stand, (marker, colour) in SHAPES.items()]),
        (0.24, [("o", MUTED, FILLS[kind], words) for kind, words in KEY.items()]),
    )
    for y, marks in rows:
        for x, (marker, colour, fill, words) in zip((0.4, 1.75, 3.1), marks, strict=True):
            look = {**_look(marker, colour, fill), "zorder": 1}
            fig.add_artist(Line2D([x], [y], transform=inches, **look))
            fig.text(x + 0.13, y, words, transform=inches, color=INK, fontsize=9, va="center")


KEY = {"experiment": "experiment", "both": "both", "theory": "theory, or an argument"}


def _overview_told(stance: str) -> str:
    if stance == ALL_STANCES:
        told = "; ".join(f"on {name} {_counted(theme)}" for theme, name in THEMES.items())
        return f"{len(works())} works: {told}."
    told = ", ".join(f"on {name} {counts(theme)[stance]}" for theme, name in THEMES.items())
    return f"Works whose stand is “{stance}”: {told}."


def _counted(theme: str) -> str:
    return ", ".join(f"{count} {stance}" for stance, count in counts(theme).items() if count)


def _theme_told(theme: str, stance: str) -> str:
    name = THEMES[theme].capitalize()
    if stance == ALL_STANCES:
        if theme == "other":
            helps, harms, partly = counts(theme).values()
            return (
                f"{name}: {helps} works name one by which BN helps, {harms} a harm, or how to do without it; "
                f"{partly} are in part."
            )
        told = "; ".join(f"{stand}: {_names(theme, stand)}" for stand in STANCES if about(theme, stand))
        return f"{name}, {told}."
    if not (found := about(theme, stance)):
        return f"{name}: no work here whose stand is “{stance}”."
    if theme == "other":
        told = Counter(work.mechanism for work in found)
        return f"{name}, {stance}: " + ", ".join(f"{what} ({count})" for what, count in told.items()) + "."
    return f"{name}, {stance}: {_names(theme, stance)}."


def _names(theme: str, stance: str) -> str:
    return ", ".join(work.name for work in about(theme, stance))


# --- the tables ------------------------------------------------------------------------------------------------------


def listed(theme: str) -> Markup:
    """The works that take a stand on a theme of :data:`THEMES`: what they say, on what, and what runs here show."""
    found = about(theme)
    table = Table(("Work", "It says", "Runs of this book beside it"), [_cells(work, theme) for work in found])
    return _folded(f"The {len(found)} works", table)


def _cells(work: Work, theme: str) -> tuple[str, str, str]:
    name = f"[{work.name}]({work.url})" if work.url else f"{work.name}, {work.venue}"
    what = f", {work.mechanism}" if theme == "other" else ""
    stand = f"{ARROWS[work.stance[theme]]} {work.stance[theme]}{what}"
    note = f" *{work.note}*" if work.note else ""
    return f"{name}. {stand}", f"{work.claim} ({work.kind}: {work.on}; read: {work.read}){note}", _beside(work)


def _beside(work: Work) -> str:
    page, _, section = work.shown.partition("#")
    return f"{work.beside} [{page.replace('_', ' ').capitalize()}]({page}.ipynb#{section})" if page else work.beside


def _folded(title: str, table: Table) -> Markup:
    """A long table stays closed until it is asked for."""
    if len(table.rows) <= LONGEST:
        return Markup(table.markdown)
    return Markup(f"<details>\n<summary>{title}</summary>\n\n{table.markdown}\n\n</details>")


def unread() -> Table:
    """The works of which more, or less, was seen than an abstract that says it, with what that means."""
    rows = [(work.name, work.read, work.note or "-") for work in works() if work.read != "abstract"]
    return Table(("Work", "Read", "Remark"), sorted(rows, key=lambda row: READ.index(row[1])))


@cache
def claims_here() -> dict[str, Claim]:
    """Every claim of this book that bears on a work of the map, by its id, in the order of the registry."""
    chapters = [module.name for module in pkgutil.iter_modules(claims.__path__) if not module.name.startswith("_")]
    wanted = set(claims_beside(works()))
    return {name: claim for name, claim in registry(chapters).items() if name in wanted}


def verdicts(computed: bool = False) -> Markup:
    """These claims, the works that they stand beside, and their verdicts.

    The verdicts are those that the book states, which its tests hold to the runs; `computed` makes the runs again,
    which takes minutes where none are kept.
    """
    found = {name: check(claim).verdict if computed else claim.stated for name, claim in claims_here().items()}
    rows = [(_sentence(claim), _stands_beside(name), f"**{found[name]}**") for name, claim in claims_here().items()]
    made = Counter(found.values())
    said = ", ".join(f"{verdict} {made[verdict]}" for verdict in Verdict if made[verdict])
    return _folded(f"{len(rows)} claims of this book: {said}", Table(("Claim", "Beside", "Verdict"), rows))


def _sentence(claim: Claim) -> str:
    page, _, section = claim.shown.partition("#")
    return f"[{claim.sentence}]({page}.ipynb#{section})"


def _stands_beside(name: str) -> str:
    return ", ".join(work.name for work in works() if name in work.claims)


# --- questions -------------------------------------------------------------------------------------------------------


@predict("one in twenty", "one in three", "most")
def predict_defenders() -> Answer:
    """Of all works on the map, how many say that BN helps by steadying the inputs of its layers?"""
    share = len(about("drift", "for")) / len(works())
    choice = "one in twenty" if share < 0.12 else "one in three" if share < 0.5 else "most"
    return choice, f"{_told_of(about('drift', 'for'))}. Against: {_told_of(about('drift', 'against'))}."


def _told_of(found: Sequence[Work]) -> str:
    return f"{len(found)} of {len(works())}: " + ", ".join(work.name for work in found)


@exercise(
    "one looks along a step, the other at the curvature of a point",
    "one has networks without skip connections, the other residual ones",
    "one of them proves that the other is wrong",
)
def quiz_both_right() -> Answer:
    """Santurkar and others find that BN smooths the loss, Yao and others that it need not. Which of these does *not*
    explain how both can be right?
    """
    return "one of them proves that the other is wrong", (
        "Other quantities in other networks may well behave otherwise; here, too, depth changes the answer."
    )
