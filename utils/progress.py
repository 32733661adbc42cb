"""How long work says how far it is, and hears that nobody waits for it any more.

Mathematics counts its steps with :func:`progress_range`; whoever cares (a widget) listens with :func:`report_progress`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


class Cancelled(Exception):
    """Raised by a listener to end work whose result is no longer wanted."""


def progress_range(total: int) -> Iterator[int]:
    """Count from 0 to `total - 1` as `range` does, and tell the listener, if any, before each step.

    >>> list(progress_range(3))
    [0, 1, 2]
    """
    listener = _listener.get()
    for step in range(total):
        if listener:
            listener(step, total)
        yield step


@contextmanager
def report_progress(listener: Listener) -> Iterator[None]:
    """Call `listener(done, total)` before each step counted inside; it may raise :class:`Cancelled`.

    >>> with report_progress(lambda done, total: print(f"{done} of {total}")):
    ...     list(progress_range(2))
    0 of 2
    1 of 2
    [0, 1]
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def track(items: Sequence[T]) -> Iterator[T]:
    """Iterate over `items`; steps counted while one is in hand are told as a part of the whole.

    >>> with report_progress(lambda done, total: print(f"{done} of {total}")):
    ...     [list(progress_range(2)) for _ in track("ab")]
    0 of 4
    1 of 4
    2 of 4
    3 of 4
    [[0, 1], [0, 1]]
    """
    outer = _listener.get()
    for i, item in enumerate(items):
        if outer is None:
            yield item
        else:
            with report_progress(lambda done, total, i=i: outer(i * total + done, len(items) * total)):
                yield item
