"""The explorables of a published page: what a reader sees of them, and a move."""

from .browser import press

# What a reader sees of one explorable: which picture, and its words.
LOOK = """root => ({
    picture: [...root.querySelectorAll('img')].find(each => each.checkVisibility()).currentSrc,
    alt: root.querySelector('img').alt,
    readout: root.querySelector('.explorable-readout').textContent,
})"""
ANOTHER_PICTURE = """([root, before]) => {
    const image = [...root.querySelectorAll('img')].find(each => each.checkVisibility());
    return image.currentSrc !== before && image.complete && image.naturalWidth > 0
}"""


def explorables(page):
    """The explorables of a page, once they answer and their pictures are loaded."""
    found = page.query_selector_all("[data-explorable]")
    for root in found:
        root.wait_for_selector("xpath=self::*[@data-ready]")
        root.scroll_into_view_if_needed()
        page.wait_for_function(ANOTHER_PICTURE, arg=[root, ""])
    return found


def move(page, root, field):
    """Move a control to its next value with the keyboard, and return what is then seen."""
    before = root.evaluate(LOOK)["picture"]
    press(page, field)
    page.wait_for_function(ANOTHER_PICTURE, arg=[root, before])
    return root.evaluate(LOOK)
