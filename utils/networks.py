"""The networks of the book; what normalises their layers is a parameter.

Every network is a plain sequence that you can walk through: Wu + b, then the norm, then the nonlinearity.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from utils.batchnorm import BatchNorm1d, BatchNorm2d
from utils.norms import (
    PAPER_DEFAULTS,
    LpNorm,
    Noise,
    NoisyBatchNorm1d,
    NoisyBatchNorm2d,
    PersistentNoisyBatchNorm1d,
    Recipe,
)

Norm = Callable[[int, bool, Noise], nn.Module]  # (width, whether it stands on images, its noise) -> the layer

NORMS: dict[str, Norm | None] = {
    "plain": None,
    "bn": lambda width, images, _: (BatchNorm2d if images else BatchNorm1d)(width),
    "bn, no scale and shift": lambda width, images, _: (BatchNorm2d if images else BatchNorm1d)(width, affine=False),
    "torch": lambda width, images, _: (nn.BatchNorm2d if images else nn.BatchNorm1d)(width),
    "noisy": lambda width, images, noise: (NoisyBatchNorm2d if images else NoisyBatchNorm1d)(width, noise),
    "noisy plain": lambda width, images, noise: noise,
    "noisy, persistent": lambda width, _, noise: PersistentNoisyBatchNorm1d(width, noise),  # not on images
    "l1": lambda width, images, _: LpNorm(width, p=1),
    "l2": lambda width, images, _: LpNorm(width, p=2),
    "linf": lambda width, images, _: LpNorm(width, p=float("inf")),
}
UNNORMALIZED = ("plain", "noisy plain")  # their layers keep the bias b
NONLINEARITIES = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "none": nn.Identity}
LINEAR = (nn.Linear, nn.Conv2d)


def mlp(
    sizes: Sequence[int],
    norm: str = "plain",
    nonlinearity: str = "sigmoid",
    init: str | float = "glorot",
    generator: torch.Generator | None = None,
    dropout: float = 0.0,
    noise: Recipe = PAPER_DEFAULTS,
    noise_on: str = "all layers",
) -> nn.Sequential:
    """Build a fully connected network: hidden layers of the widths `sizes[1:-1]`, then scores.

    >>> mlp([64, 100, 10], norm="bn")
    Sequential(
      (0): Linear(in_features=64, out_features=100, bias=False)
      (1): BatchNorm1d(100, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
      (2): Sigmoid()
      (3): Linear(in_features=100, out_features=10, bias=True)
    )

    A normalised layer has no bias b, since normalising would take it out again and beta replaces it (Ioffe &
    Szegedy 2015, section 3.2). `init` is "glorot", "he" or the standard deviation of a normal distribution; `dropout`
    is the share of a hidden layer's outputs that training sets to zero; `noise` is how strong the noise of the noisy
    norms is, and `noise_on` is "all layers" or "the last", of the hidden ones. With `nonlinearity="none"` this is the
    deep linear network of Santurkar et al. 2018. Raises ValueError for an unknown name or fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected an input and an output width at least, got {list(sizes)}")
    if noise_on not in ("all layers", "the last"):
        raise ValueError(f"noise_on: expected 'all layers' or 'the last', got {noise_on!r}")
    layers = []
    for place, (wide_in, wide_out) in enumerate(pairwise(sizes[:-1])):
        linear = initialized(nn.Linear(wide_in, wide_out, bias=norm in UNNORMALIZED), init, generator)
        is_noisy = noise_on == "all layers" or place == len(sizes) - 3
        own = Noise(noise if is_noisy else noise.scaled(0), generator)
        layers += [linear, *_after(wide_out, norm, nonlinearity, False, own)]
        layers += [Dropout(dropout, generator)] if dropout else []
    layers.append(initialized(nn.Linear(*sizes[-2:]), init, generator))
    return nn.Sequential(Twice(), *layers, SecondHalf()) if norm == "noisy, persistent" else nn.Sequential(*layers)


class Twice(nn.Module):
    """Repeat a batch in training, (N, C) -> (2N, C): once to stay clean, and once to become noisy.

    >>> Twice()(torch.rand(5, 3)).shape
    torch.Size([10, 3])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the batch twice; in evaluation once."""
        return torch.cat([x, x], -2) if self.training else x


class SecondHalf(nn.Module):
    """Take what became of the second half in training, (2N, C) -> (N, C).

    >>> SecondHalf()(torch.tensor([[1.0], [2.0]])).tolist()
    [[2.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the noisy half; in evaluation all."""
        return x.chunk(2, -2)[1] if self.training else x


class Dropout(nn.Module):
    """Set a share `p` of the values to zero in training, chosen by a generator of its own, and scale the others up.

    torch's layer asks torch's global generator, so that a run would depend on what ran before it.

    >>> Dropout(0.5, torch.Generator().manual_seed(0))(torch.ones(5))
    tensor([0., 2., 0., 0., 0.])
    """

    def __init__(self, p: float, generator: torch.Generator | None = None):
        super().__init__()
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the shape of `x`; in evaluation `x` itself."""
        if not self.training:
            return x
        return x * (torch.rand(x.shape, generator=self.generator) >= self.p) / (1 - self.p)


def vgg(
    depth: int,
    width: int = 8,
    norm: str = "plain",
    nonlinearity: str = "relu",
    init: str | float = "glorot",
    generator: torch.Generator | None = None,
    noise: Recipe = PAPER_DEFAULTS,
) -> nn.Sequential:
    """Build a small VGG-like network for images of one channel and ten classes.

    `depth` 3x3 convolutions; after every second one the image is halved, and the first time the channels double,
    from `width`. Then the mean over what is left of the image, and ten scores.

    >>> vgg(depth=4, width=8)(torch.zeros(5, 1, 14, 14)).shape   # (N, C, H, W) -> (N, 10)
    torch.Size([5, 10])
    """
    layers, channels = [], 1
    for place in range(depth):
        wide = width if place < 2 else 2 * width
        conv = nn.Conv2d(channels, wide, 3, padding=1, bias=norm in UNNORMALIZED)
        layers += [initialized(conv, init, generator), *_after(wide, norm, nonlinearity, True, Noise(noise, generator))]
        layers += [nn.MaxPool2d(2)] if place in (1, 3) else []
        channels = wide
    last = initialized(nn.Linear(channels, 10), init, generator)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)


def _after(width: int, norm: str, nonlinearity: str, images: bool, noise: Noise) -> list[nn.Module]:
    """What follows Wu + b: the norm, if any, and the nonlinearity."""
    for given, known, what in ((norm, NORMS, "norm"), (nonlinearity, NONLINEARITIES, "nonlinearity")):
        if given not in known:
            raise ValueError(f"{what}: expected one of {list(known)}, got {given!r}")
    make = NORMS[norm]
    return [*([make(width, images, noise)] if make else []), NONLINEARITIES[nonlinearity]()]


@torch.no_grad()
def initialized(
    layer: nn.Linear | nn.Conv2d, init: str | float, generator: torch.Generator | None = None
) -> nn.Linear | nn.Conv2d:
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
    """Return what each linear or convolutional layer gives for the batch `x`: Wu + b, before norm and nonlinearity.

    Running statistics stay as they are, and a normalised layer uses the batch's own statistics.

    >>> [tuple(layer.shape) for layer in preactivations(mlp([4, 8, 3]), torch.rand(5, 4))]   # (N, C) each
    [(5, 8), (5, 3)]
    """
    given = []
    with preserve_state(net):
        for layer in net:
            x = layer(x)
            if isinstance(layer, LINEAR):
                given.append(x)
    return given


@contextmanager
def preserve_state(net: nn.Module, training: bool = True) -> Iterator[None]:
    """Look into a network in training mode, or in evaluation mode; then all is as it was.

    That is: every layer's mode, running statistics, and the noise to come. A layer that was frozen (in evaluation mode
    within a network in training mode) stays so while it is looked at.

    >>> layer = BatchNorm1d(1).eval()
    >>> with preserve_state(layer):
    ...     _ = layer(torch.rand(5, 1) + 10)
    >>> layer.running_mean, layer.training
    (tensor([0.]), False)
    """
    stored = {name: buffer.clone() for name, buffer in net.named_buffers()}
    generators = {layer.generator for layer in net.modules() if getattr(layer, "generator", None)}
    states = [(generator, generator.get_state()) for generator in generators]
    modes = {module: module.training for module in net.modules()}
    if net.training != training:
        net.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for name, buffer in net.named_buffers():
            buffer.copy_(stored[name])
        for generator, state in states:
            generator.set_state(state)
