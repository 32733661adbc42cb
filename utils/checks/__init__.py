"""Exercises that check themselves: give your function to a check, and it says what is wrong with it, or "Right.".

One module a chapter.
"""

from collections.abc import Callable

import torch
from torch import Tensor

RIGHT = "Right."


def tried(function: Callable, *arguments: object, shape: tuple[int, ...]) -> tuple[Tensor | None, str]:
    """What a reader's function gives as a tensor, or why it gives nothing that can be compared.

    >>> tried(lambda: [1.0], shape=(2,))[1]
    'Expected the shape (2,), got (1,).'
    """
    try:
        given = function(*arguments)
    except Exception as error:
        return None, f"It raises {type(error).__name__}: {error}"
    try:
        given = torch.as_tensor(given).detach().double()
    except (RuntimeError, TypeError, ValueError):
        return None, f"Expected an array, got {type(given).__name__}."
    if given.shape != shape:
        return None, f"Expected the shape {tuple(shape)}, got {tuple(given.shape)}."
    return given, ""
