"""The networks of the book; what normalises their layers is a parameter."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from utils.batchnorm import BatchNorm1d

NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "plain": None,
    "bn": BatchNorm1d,
    "bn, no scale and shift": lambda width: BatchNorm1d(width, affine=False),
    "torch": nn.BatchNorm1d,
}
NONLINEARITIES = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def mlp(
    sizes: Sequence[int],
    norm: str = "plain",
    nonlinearity: str = "sigmoid",
    init: str | float = "glorot",
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Build a fully connected network whose hidden layers are Wu + b, then `norm`, then the nonlinearity.

    >>> mlp([64, 100, 10], norm="bn")
    Sequential(
      (0): Linear(in_features=64, out_features=100, bias=False)
      (1): BatchNorm1d(100, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
      (2): Sigmoid()
      (3): Linear(in_features=100, out_features=10, bias=True)
    )

    A normalised layer has no bias b, since normalising would take it out again and beta replaces it (Ioffe &
    Szegedy 2015, section 3.2). `sizes` are the widths from input to output; `init` is "glorot", "he" or the standard
    deviation of a normal distribution. Raises ValueError for an unknown name or fewer than two sizes.
    """
    for given, known, what in ((norm, NORMS, "norm"), (nonlinearity, NONLINEARITIES, "nonlinearity")):
        if given not in known:
            raise ValueError(f"{what}: expected one of {list(known)}, got {given!r}")
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected an input and an output width at least, got {list(sizes)}")
    make, layers = NORMS[norm], []
    for wide_in, wide_out in pairwise(sizes[:-1]):
        layers.append(initialized(nn.Linear(wide_in, wide_out, bias=make is None), init, generator))
        layers += [make(wide_out)] if make else []
        layers.append(NONLINEARITIES[nonlinearity]())
    return nn.Sequential(*layers, initialized(nn.Linear(*sizes[-2:]), init, generator))


@torch.no_grad()
def initialized(layer: nn.Linear, init: str | float, generator: torch.Generator | None = None) -> nn.Linear:
    """Draw a layer's weights anew, in place, and set its bias to zero.

    "glorot": uniform, variance 2 / (in + out) (Glorot & Bengio 2010); "he": normal, variance 2 / in (He et al. 2015);
    a number: normal with that standard deviation. Raises ValueError for any other `init`.

    >>> round(initialized(nn.Linear(1000, 500), 0.1).weight.std().item(), 2)
    0.1
    """
    if init == "glorot":
        nn.init.xavier_uniform_(layer.weight, generator=generator)
    elif init == "he":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    elif isinstance(init, (int, float)):
        layer.weight.normal_(0, init, generator=generator)
    else:
        raise ValueError(f"init: expected 'glorot', 'he' or a standard deviation, got {init!r}")
    if layer.bias is not None:
        layer.bias.zero_()
    return layer


@torch.no_grad()
def preactivations(net: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Return what each linear layer of `net` gives for the batch `x`: Wu + b, before norm and nonlinearity.

    Running statistics stay as they are, and a normalised layer uses the batch's own statistics.

    >>> [tuple(layer.shape) for layer in preactivations(mlp([4, 8, 3]), torch.rand(5, 4))]   # (N, C) each
    [(5, 8), (5, 3)]
    """
    given = []
    kept = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.train()
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Linear):
            given.append(x)
    for name, buffer in net.named_buffers():
        buffer.copy_(kept[name])
    return given
