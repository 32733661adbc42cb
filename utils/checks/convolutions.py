"""A check of the chapter "Convolutions and batches"; it belongs into `utils.checks`."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.batchnorm import BatchNorm1d
from utils.checks import RIGHT, tried
from utils.seeds import torch_rng


class _OfTables(BatchNorm1d):
    """A BN layer that takes tables (N, C) and nothing else."""

    def forward(self, input: Tensor) -> Tensor:
        """Return values of the shape of `input`; ValueError where it is no table with the layer's channels."""
        if input.dim() != 2 or input.shape[1] != self.num_features:
            raise ValueError(f"expected a table (N, {self.num_features}), got {tuple(input.shape)}")
        return super().forward(input)


def check_with_tables(batch_norm_images: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]) -> str:
    """Check BN of images made with a layer for tables: (N, C, H, W), layer of (N, C) -> (N, C, H, W).

    >>> def right(x, layer):
    ...     rows = x.permute(0, 2, 3, 1)
    ...     return layer(rows.flatten(0, 2)).view(rows.shape).permute(0, 3, 1, 2)
    >>> check_with_tables(right)
    'Right.'
    >>> check_with_tables(lambda x, layer: x)
    'It gives back what it was given: where is the layer?'
    """
    scale, shift = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([-2.0, 0.0, 2.0])
    x = torch.randn(4, 3, 5, 6, generator=torch_rng(0)) * scale[:, None, None] + shift[:, None, None]
    given, trouble = tried(batch_norm_images, x.clone(), _OfTables(3), shape=x.shape)
    if given is None:
        return trouble
    right = F.batch_norm(x, None, None, training=True).double()
    if torch.allclose(given, right, atol=1e-4):
        return RIGHT
    if torch.allclose(given, x.double()):
        return "It gives back what it was given: where is the layer?"
    if torch.allclose(given.flatten().sort().values, right.flatten().sort().values, atol=1e-4):
        return "The values are right, and lie in the wrong places: undo the steps in the opposite order."
    mean = given.mean((0, 2, 3))
    if mean.abs().max() > 0.05:
        return (
            "A row of the table must hold the channels of one place. After it, the channels should have mean 0; "
            f"yours have means from {mean.min():.2f} to {mean.max():.2f}."
        )
    return "The channels have mean 0, but these are not the values of BN over all images and places."
