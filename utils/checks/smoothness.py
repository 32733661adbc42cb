"""The check of the exercise in "The smoothness argument"."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.checks import RIGHT, tried


def check_effective_smoothness(smoothness: Callable[[Callable, Tensor, Tensor], Tensor]) -> str:
    """Check the effective L from a gradient function and two places: gradient, (D,), (D,) -> a number.

    >>> check_effective_smoothness(lambda gradient, a, b: (gradient(b) - gradient(a)).norm() / (b - a).norm())
    'Right.'
    """
    curvatures = torch.tensor([1.0, 4.0, 9.0]).double()
    for here, there in (([1.0, 1.0, 1.0], [0.0, 1.0, 1.0]), ([1.0, 2.0, 0.0], [0.5, -1.0, 2.0])):
        a, b = torch.tensor(here).double(), torch.tensor(there).double()
        given, trouble = tried(smoothness, lambda w: curvatures * w, a, b, shape=())
        if given is None:
            return trouble
        right = (curvatures * (b - a)).norm() / (b - a).norm()
        if not torch.allclose(given, right, rtol=1e-6):
            return (
                f"On a bowl with curvatures 1, 4, 9, from {here} to {there}, it should be {right:.3f}; yours is "
                f"{given:.3f}. How far has the gradient changed, over how far have we moved?"
            )
    return RIGHT
