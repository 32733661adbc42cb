"""Normalisation by an average lp norm in place of the standard deviation (Santurkar et al. 2018, section 3.3)."""

import torch
from torch import Tensor, nn

P = (1, 2, float("inf"))


def lp_size(x: Tensor, p: float) -> Tensor:
    """The average size of each unit's values over the batch, (sum |x|^p / m)^(1/p); for p = infinity the largest |x|.

    `x` is (N, C, ...); returns (1, C, 1, ...), so that it divides `x`. Raises ValueError unless p is 1, 2 or infinity.

    >>> x = torch.tensor([[1.0], [-3.0]])
    >>> lp_size(x, 1).item(), lp_size(x, float("inf")).item()
    (2.0, 3.0)
    """
    if p not in P:
        raise ValueError(f"p: expected one of {P}, got {p!r}")
    samples = [axis for axis in range(x.dim()) if axis != 1]
    m = x.shape[0] * x.shape[2:].numel()
    return torch.linalg.vector_norm(x, p, samples, keepdim=True) / m ** (1 / p)  # has a gradient at zero, too


class LpNorm(nn.Module):
    """Centre each unit over the batch, divide by its average lp norm, then scale by gamma and shift by beta.

    The norm is that of the values *before* they are centred, as the paper has it, so that p = 2 is not BN unless the
    mean is zero. In evaluation running averages stand in for the batch's mean and norm, as in BN.

    >>> layer = LpNorm(1, p=1, eps=0)
    >>> layer(torch.tensor([[1.0], [-3.0]])).ravel().tolist()   # mean -1, average |x| 2
    [1.0, -1.0]
    """

    def __init__(self, num_features: int, p: float, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.p, self.eps, self.momentum, self.affine = p, eps, momentum, True
        self.weight, self.bias = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_size", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the shape of `x` (N, C, ...)."""
        units = (1, -1, *[1] * (x.dim() - 2))
        if self.training:
            mean = x.mean([axis for axis in range(x.dim()) if axis != 1], keepdim=True)
            size = lp_size(x, self.p)
            for running, now in ((self.running_mean, mean), (self.running_size, size)):
                running.lerp_(now.detach().flatten(), self.momentum)
        else:
            mean, size = self.running_mean.view(units), self.running_size.view(units)
        return (x - mean) / (size + self.eps) * self.weight.view(units) + self.bias.view(units)
