"""One visual language: readable in light and in dark, and without colour."""

import itertools

import numpy as np
import pytest
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.text import Text

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
    looks = [str(arm.dashes) for arm in ARMS.values()]
    assert len(set(looks)) == len(looks)
    assert len({arm.colour for arm in ARMS.values()}) == len(ARMS)


def test_a_drawing_is_as_large_as_it_says_and_keeps_its_margins():
    one, two = (figure("one", "two", height=3) for _ in range(2))
    two[1][0].plot([1e9, 2e9], [1e-9, 2e-9])
    assert render(one[0]).size == render(two[0]).size == (918, 510)
    for a, b in itertools.pairwise([one[1][0], two[1][0]]):
        assert a.get_position().bounds == b.get_position().bounds
