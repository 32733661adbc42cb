"""The check of the exercise in "Normalisation"."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.checks import RIGHT, tried
from utils.seeds import torch_rng


def check_normalize(normalize: Callable[[Tensor], Tensor]) -> str:
    """Check a function that normalises images by channel: (N, C, H, W) -> (N, C, H, W).

    >>> check_normalize(lambda x: F.batch_norm(x, None, None, training=True))
    'Right.'
    >>> check_normalize(lambda x: (x - x.mean()) / x.std()).startswith("One mean for all channels")
    True
    """
    scale, shift = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([-2.0, 0.0, 2.0])
    x = torch.randn(4, 3, 5, 6, generator=torch_rng(0)) * scale[:, None, None] + shift[:, None, None]
    given, trouble = tried(normalize, x, shape=x.shape)
    if given is None:
        return trouble
    mean, var = given.mean((0, 2, 3)), given.var((0, 2, 3), correction=0)
    if torch.allclose(given, F.batch_norm(x, None, None, training=True).double(), atol=1e-4):
        constant, _ = tried(normalize, torch.ones_like(x), shape=x.shape)
        no_number = constant is None or not constant.isfinite().all()
        return "Right, but a channel that does not vary gives 0 / 0: where is ε?" if no_number else RIGHT
    if mean.abs().max() > 0.05:
        whose = "One mean for all channels" if given.mean().abs() < 0.05 else "A channel's mean should be 0"
        return f"{whose}: after it, the channels have means from {mean.min():.2f} to {mean.max():.2f}."
    if torch.allclose(given.mean((2, 3)), torch.zeros(4, 3).double(), atol=1e-3):
        return "Each image has its own mean: the mean of a channel runs over the batch as well."
    return f"A channel's variance should be 1 (with 1/m); yours go from {var.min():.3f} to {var.max():.3f}."
