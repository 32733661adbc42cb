"""The page of all claims: a picture of their verdicts, and a table made from the registry."""

from collections import Counter

from utils.claims import AUTHORS, CHAPTERS, Checked, Verdict, ledger
from utils.explore import Drawing, explore
from utils.explore.table import Markup, Table
from utils.style import ARMS, DATA, FAINT, INK, MUTED, between, category_axis, figure

MARKS = {
    Verdict.HOLDS: ("o", DATA, DATA),
    Verdict.IN_PART: ("D", FAINT, DATA),
    Verdict.OPEN: ("o", "none", MUTED),
    Verdict.CONTRADICTED: ("X", ARMS["plain"].colour, ARMS["plain"].colour),
}
EVERYBODY = "everybody"


@explore(whose=[EVERYBODY, *AUTHORS])
def at_a_glance(whose: str = EVERYBODY) -> Drawing:
    """Every claim of the book, one mark each: what the runs make of it."""
    shown = [each for each in ledger() if whose in (EVERYBODY, each.claim.whose)]
    rows = [chapter for chapter in CHAPTERS if any(each.claim.chapter == chapter for each in ledger())]
    fig, (ax,) = figure("one mark a claim", height=0.32 * len(rows) + 1.25, left=1.75, bottom=0.2)
    most = 0
    for row, chapter in enumerate(rows):
        own = sorted((each.verdict for each in shown if each.claim.chapter == chapter), key=list(Verdict).index)
        for place, verdict in enumerate(own):
            marker, face, edge = MARKS[verdict]
            ax.plot(place, row, marker, markersize=9.5, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=1.6)
        most = max(most, sum(each.claim.chapter == chapter for each in ledger()))
    category_axis(ax, [CHAPTERS[chapter] for chapter in rows])
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    for place, verdict in enumerate(Verdict):
        x, y = (0.0, 0.55)[place % 2] * (most - 0.4), len(rows) + 0.1 + 0.75 * (place // 2)
        marker, face, edge = MARKS[verdict]
        ax.plot(x, y, marker, markersize=9.5, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=1.6)
        ax.text(x + 0.4, y, verdict, color=INK, fontsize=10, va="center")
    ax.set(xlim=(-0.6, most - 0.4), ylim=(len(rows) + 1.4, -0.6), xticks=[])
    ax.spines[:].set_visible(False)
    counts = Counter(each.verdict for each in shown)
    said = ", ".join(f"{counts[verdict]} {_words(verdict)}" for verdict in Verdict)
    return fig, f"Of {len(shown)} claims ({whose if whose == EVERYBODY else f'of {whose}'}) here: {said}."


def _words(verdict: Verdict) -> str:
    return {Verdict.HOLDS: "hold", Verdict.IN_PART: "hold in part", Verdict.OPEN: "are open at this scale"}.get(
        verdict, "are contradicted"
    )


def table() -> Markup:
    """All claims by chapter: the sentence, where it is shown and who says it, its verdict, its weakest estimate."""
    lines = []
    for chapter in CHAPTERS:
        own = [each for each in ledger() if each.claim.chapter == chapter and not each.claim.repeats]
        if own:
            found = Table(("Claim", "Verdict", "Estimate [95 %]"), map(_cells, own))
            lines += [f"\n**{CHAPTERS[chapter]}**\n", found.markdown]
    return Markup("\n".join(lines))


def _cells(checked: Checked) -> tuple[str, str, str]:
    claim, (setting, interval) = checked.claim, checked.weakest
    page, _, section = claim.shown.partition("#")
    estimate = f"{between(interval)} {claim.unit}".strip() + f" ({setting}; wanted: {claim.rule})"
    verdict = f"**{checked.verdict}**"
    for again in ledger():
        if again.claim.repeats == claim.id:
            verdict += f"; [at the papers' size](paper_scale.ipynb#both-sizes): **{again.verdict}**"
    return f"[{claim.sentence}]({page}.ipynb#{section}) *{claim.source}*", verdict, estimate
