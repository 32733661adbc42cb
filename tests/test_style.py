"""One visual language: readable in light and in dark, and without colour."""

import itertools

import numpy as np
import pytest
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.text import Text

from utils import style
from utils.style import ARMS, DARK, INK, MUTED, PAPER, darken, draw_arm, figure, label, render

LEGIBLE = 4.5  # WCAG 2.2, 1.4.3


def contrast(one, other):
    """The contrast ratio of WCAG 2.2."""
    linear = [
        np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        for c in map(np.array, map(to_rgb, (one, other)))
    ]
    dark, light = sorted(float(each @ [0.2126, 0.7152, 0.0722]) for each in linear)
    return (light + 0.05) / (dark + 0.05)


def scene():
    """A figure with every kind of artist in every colour of the palette."""
    fig, (left, right) = figure("left", "right")
    for i, colour in enumerate(DARK):
        left.plot([0, 1], [i, i], "o-", color=colour)
        left.plot([0, 1], [i, i], "o", markerfacecolor=colour, markeredgecolor=colour)
        left.text(0.5, i, "text", color=colour)
        left.fill_between([0, 1], i, i + 0.5, color=colour, alpha=0.3)
        right.scatter([0, 1], [i, i], color=colour)
        right.hist([i], color=colour, edgecolor=colour)
        right.add_patch(Circle((0, i), 1, color=colour))
        right.annotate("", (0, i), (1, i), arrowprops={"arrowstyle": "->", "color": colour})
        right.axvline(i, color=colour)
    left.set(xlabel="x", ylabel="y")
    draw_arm(left, "bn", [0, 1], np.ones((3, 2)))
    label(left, "bn", 0, 0)
    return fig


def colours(fig):
    """Every colour that an artist of the figure is drawn with."""
    for artist in fig.findobj():
        if isinstance(artist, Line2D):
            yield from (artist.get_color(), artist.get_markerfacecolor(), artist.get_markeredgecolor())
        elif isinstance(artist, Text):
            yield artist.get_color()
        elif isinstance(artist, Patch):
            yield from (artist.get_facecolor(), artist.get_edgecolor())
        elif isinstance(artist, Collection):
            yield from (*artist.get_facecolor(), *artist.get_edgecolor())


def test_every_colour_of_the_palette_is_exchanged():
    used = {to_hex(colour) for colour in colours(scene())}
    assert set(DARK) <= used
    left = {to_hex(colour) for colour in colours(darken(scene()))}
    assert set(DARK.values()) <= left
    assert not left & set(DARK)


def test_darkening_does_not_wait_for_a_first_drawing():
    drawn = scene()
    render(drawn)
    assert render(darken(drawn)).tobytes() == render(darken(scene())).tobytes()


def test_opacity_and_images_are_left_alone():
    fig, (ax,) = figure("image")
    ax.imshow(np.linspace(0, 1, 64).reshape(8, 8), cmap="gray")
    (line,) = ax.plot([0, 1], [0, 1], color=INK, alpha=0.3)
    light, dark = render(fig), render(darken(fig))
    box = ax.get_window_extent()
    middle = (box.x0 + 60, light.height - box.y0 - 60)  # a pixel of the image, away from the line
    assert light.getpixel(tuple(map(int, middle))) == dark.getpixel(tuple(map(int, middle)))
    assert line.get_alpha() == 0.3


@pytest.mark.parametrize("colour", [INK, MUTED, *(arm.colour for arm in ARMS.values())])
def test_every_ink_is_legible_on_its_paper(colour):
    assert contrast(colour, PAPER) >= LEGIBLE
    assert contrast(DARK[colour], DARK[PAPER]) >= LEGIBLE


def test_arms_differ_without_colour():
    n_evals = [str(arm.dashes) for arm in ARMS.values()]
    assert len(set(n_evals)) == len(n_evals)


def test_arms_that_stand_together_differ_in_colour():
    assert {arm for family in style.FAMILIES for arm in family} == set(ARMS)
    for family in style.FAMILIES:
        assert len({ARMS[arm].colour for arm in family}) == len(family)


def test_a_drawing_is_as_large_as_it_says_and_keeps_its_margins():
    one, two = (figure("one", "two", height=3) for _ in range(2))
    two[1][0].plot([1e9, 2e9], [1e-9, 2e-9])
    assert render(one[0]).size == render(two[0]).size == (918, 510)
    for a, b in itertools.pairwise([one[1][0], two[1][0]]):
        assert a.get_position().bounds == b.get_position().bounds


# --- the drawing vocabulary ------------------------------------------------------------------------------------------


def shown(fig, axis):
    """What stands at the ticks that lie inside the axis."""
    render(fig)
    low, high = sorted(axis.get_view_interval())
    return [
        tick.get_text()
        for tick, at in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
        if low <= at <= high
    ]


def overlaps(texts, fig):
    """The pairs of texts that lie upon each other."""
    boxes = [text.get_window_extent(fig.canvas.get_renderer()) for text in texts]
    return [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.overlaps(b)]


def test_per_cents_logarithms_and_steps_read_as_a_reader_expects():
    fig, (ax,) = figure("one")
    style.percent_axis(ax.yaxis, 0.5, 1.0)
    style.step_axis(ax, 1200)
    assert shown(fig, ax.yaxis) == ["50 %", "75 %", "100 %"]
    assert shown(fig, ax.xaxis)[-1].replace(",", "") == "1200" and ax.get_xlabel() == "training step"
    style.log_axis(ax.yaxis, (0.0005, 2e4))
    assert shown(fig, ax.yaxis) == ["0.001", "0.01", "0.1", "1", "10", "100", "1,000", "10,000"]
    style.log_axis(ax.xaxis, (10, 300), (20, 50, 200))
    assert shown(fig, ax.xaxis) == ["20", "50", "200"]
    assert not ax.xaxis.get_minorticklocs().size


@pytest.mark.parametrize("arms", [("plain", "bn"), *style.FAMILIES])
def test_names_at_the_ends_of_lines_stand_apart_and_inside_the_figure(arms):
    fig, (ax,) = figure("one")
    ax.set(ylim=(0, 1))
    style.draw_arms(ax, [0, 1], {arm: [[0.2, 0.5], [0.4, 0.5]] for arm in arms})
    render(fig)
    names = [text for text in ax.texts if text.get_text().strip() in {ARMS[arm].label for arm in arms}]
    assert len(names) == len(arms)
    assert not overlaps(names, fig)
    assert max(text.get_window_extent(fig.canvas.get_renderer()).x1 for text in names) <= fig.bbox.x1


def test_a_row_of_dots_has_one_for_each_seed_and_one_for_their_mean():
    fig, (ax,) = figure("one")
    style.dot_rows(ax, {"first": {"plain": [1.0, 3.0], "bn": [5.0, 6.0]}, "second": {"bn": [2.0, 2.0]}})
    dots = [line.get_xdata().tolist() for line in ax.lines]
    assert dots == [[1, 3], [2], [5, 6], [5.5], [2, 2], [2]]
    assert shown(fig, ax.yaxis) == ["first", "second"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first at the top


def test_a_key_names_every_arm_in_its_colour():
    fig, (ax,) = figure("one")
    family = max(style.FAMILIES, key=len)
    style.key(ax, family)
    render(fig)
    assert [text.get_text() for text in ax.texts] == [ARMS[arm].label for arm in family]
    assert [text.get_color() for text in ax.texts] == [ARMS[arm].colour for arm in family]
    assert not overlaps(ax.texts, fig)


def test_panels_share_their_vertical_axis():
    fig, (left, right) = figure("left", "right")
    left.set_ylim(-3, 5)
    style.share_y(left, right)
    assert right.get_ylim() == (-3, 5)
    render(fig)
    assert not any(tick.label1.get_visible() for tick in right.yaxis.get_major_ticks())


def test_a_running_mean_is_numpys():
    values = np.random.default_rng(0).normal(size=(3, 50))
    wanted = [np.convolve(row, np.full(7, 1 / 7), "valid") for row in values]
    assert np.allclose(style.running_mean(values, 7), wanted)
