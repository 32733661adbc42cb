"""Three small data sets in the plane, two classes each, drawn anew at every call and always the same.

The playground's script computes the same points (`utils/playground/playground.js`): they are made of torch's uniform
numbers and sines only, which agree on every machine, and of no normal ones, which do not.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.data import Split

TRAIN, TEST = 600, 300
NOISE = 0.2  # of each coordinate, the largest shift either way; small ones are the most common


def moons() -> Split:
    """Two half circles of radius 1 that reach into each other.

    >>> moons().x_train.shape   # (N, C)
    torch.Size([600, 2])
    """
    return _made(
        lambda t, label: torch.where(
            label == 1,
            torch.stack([1 - torch.cos(torch.pi * t), 0.5 - torch.sin(torch.pi * t)]),
            torch.stack([torch.cos(torch.pi * t), torch.sin(torch.pi * t)]),
        )
    )


def circles() -> Split:
    """A circle of radius 1 around one of radius 1/2.

    >>> circles().y_test[:4]
    tensor([0, 1, 0, 1])
    """
    return _made(lambda t, label: _polar(1 - label / 2, 2 * torch.pi * t))


def spirals() -> Split:
    """Two spiral arms, one and a half turns each.

    >>> bool(spirals().x_train.abs().max() < 1.5 + NOISE)
    True
    """
    return _made(lambda t, label: _polar(1.5 * t.sqrt(), torch.pi * (3 * t.sqrt() + label)))


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)])


def _made(place: Callable[[Tensor, Tensor], Tensor]) -> Split:
    """Put a point at `place(t, label)`, (2, N), for chance t in [0, 1) and labels in turn, and shift each a little."""
    chance = torch.rand((TRAIN + TEST, 5), generator=torch.Generator().manual_seed(0)).double()
    t, shifts = chance[:, 0], NOISE * (chance[:, 1::2] + chance[:, 2::2] - 1)
    y = torch.arange(len(t)) % 2
    x = (place(t, y).T + shifts).float()
    return Split(x[:TRAIN], y[:TRAIN], x[TRAIN:], y[TRAIN:])
