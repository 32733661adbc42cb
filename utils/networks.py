"""The networks of the book; what normalises their layers is a parameter.

Every network is a plain sequence that you can walk through: Wu + b, then the norm, then the nonlinearity.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from utils.batchnorm import BatchNorm1d, BatchNorm2d
from utils.norms import (
    PAPER_DEFAULTS,
    DyT,
    LpNorm,
    Noise,
    NoisyBatchNorm1d,
    NoisyBatchNorm2d,
    PartialNorm,
    PersistentNoisyBatchNorm1d,
    Recipe,
    SkipInit,
)

Norm = Callable[[int, bool, Noise], nn.Module]  # (width, whether it stands on images, its noise) -> the layer
GROUPS = 4  # of units, or of channels, that share a mean in group normalisation
EPS = 1e-5


NORMS: dict[str, Norm | None] = {
    "plain": None,
    "bn": lambda width, images, noise: (BatchNorm2d if images else BatchNorm1d)(width),
    "bn, no scale and shift": lambda width, images, noise: (BatchNorm2d if images else BatchNorm1d)(
        width, affine=False
    ),
    "torch": lambda width, images, noise: (nn.BatchNorm2d if images else nn.BatchNorm1d)(width),
    "noisy": lambda width, images, noise: (NoisyBatchNorm2d if images else NoisyBatchNorm1d)(width, noise),
    "noisy plain": lambda width, images, noise: noise,
    "noisy, persistent": lambda width, images, noise: PersistentNoisyBatchNorm1d(width, noise),
    "l1": lambda width, images, noise: LpNorm(width, p=1),
    "l2": lambda width, images, noise: LpNorm(width, p=2),
    "linf": lambda width, images, noise: LpNorm(width, p=float("inf")),
    "layer": lambda width, images, noise: nn.GroupNorm(1, width) if images else nn.LayerNorm(width),
    "group": lambda width, images, noise: nn.GroupNorm(GROUPS, width),
    "instance": lambda width, images, noise: nn.InstanceNorm2d(width, affine=True),
    "rms": lambda width, images, noise: nn.RMSNorm(width, EPS),
    "dyt": lambda width, images, noise: DyT(width),
    "bn, zero gamma": lambda width, images, noise: _with_gamma(NORMS["bn"](width, images, noise), 0.0),
    "skipinit": lambda width, images, noise: SkipInit(),
    "centre": lambda width, images, noise: PartialNorm(width, scale=False),
    "scale": lambda width, images, noise: PartialNorm(width, centre=False),
    "centre, rms": lambda width, images, noise: nn.Sequential(
        PartialNorm(width, scale=False, affine=False), nn.RMSNorm(width, EPS)
    ),
    "bn, mean held": lambda width, images, noise: PartialNorm(width, held=["mean"]),
    "bn, variance held": lambda width, images, noise: PartialNorm(width, held=["var"]),
    "bn, both held": lambda width, images, noise: PartialNorm(width, held=["mean", "var"]),
}
NOT_CENTRED = ("plain", "noisy plain", "layer", "group", "instance", "rms", "dyt", "skipinit", "scale")
"""Where Wu + b keeps its bias b: no mean over the batch takes it out again."""
IMAGES_ONLY, NEVER_IMAGES = ("instance",), ("noisy, persistent", "rms", "centre, rms")
NONLINEARITIES = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "none": nn.Identity}
PLACEMENTS = ("before", "after")
LINEAR = (nn.Linear, nn.Conv2d)


def _with_gamma(norm: nn.Module, gamma: float) -> nn.Module:
    nn.init.constant_(norm.weight, gamma)
    return norm


def mlp(
    sizes: Sequence[int],
    norm: str = "plain",
    nonlinearity: str = "sigmoid",
    init: str | float = "glorot",
    generator: torch.Generator | None = None,
    dropout: float = 0.0,
    noise: Recipe = PAPER_DEFAULTS,
    noise_on: str = "all layers",
    placement: str = "before",
    dropout_before_norm: bool = False,
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
    norms is, and `noise_on` is "all layers" or "the last", of the hidden ones. `placement` says where the norm stands,
    "before" the nonlinearity or "after" it; `dropout_before_norm` puts dropout between Wu + b and the norm. With
    `nonlinearity="none"` this is the deep linear network of Santurkar et al. 2018. Raises ValueError for an unknown
    name or fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected an input and an output width at least, got {list(sizes)}")
    _check("noise_on", noise_on, ("all layers", "the last"))
    _check("placement", placement, PLACEMENTS)
    layers, keeps_bias = [], norm in NOT_CENTRED or placement == "after"
    for place, (wide_in, wide_out) in enumerate(pairwise(sizes[:-1])):
        linear = initialized(nn.Linear(wide_in, wide_out, bias=keeps_bias), init, generator)
        is_noisy = noise_on == "all layers" or place == len(sizes) - 3
        own = Noise(noise if is_noisy else noise.scaled(0), generator)
        dropped = [Dropout(dropout, generator)] if dropout else []
        after = _after(wide_out, norm, nonlinearity, False, own, placement)
        layers += [linear, *dropped, *after] if dropout_before_norm else [linear, *after, *dropped]
    layers.append(initialized(nn.Linear(*sizes[-2:]), init, generator))
    return nn.Sequential(Twice(), *layers, SecondHalf()) if norm == "noisy, persistent" else nn.Sequential(*layers)


class Residual(nn.Module):
    """A block that adds what it makes of its input to its input, x + f(x); f is a sequence that you can walk through.

    >>> Residual(nn.Identity(), SkipInit())(torch.ones(2))
    tensor([1., 1.], grad_fn=<AddBackward0>)
    """

    def __init__(self, *body: nn.Module):
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the shape of `x`."""
        return x + self.body(x)


def residual_mlp(
    sizes: Sequence[int],
    norm: str = "plain",
    nonlinearity: str = "relu",
    init: str | float = "he",
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """Build a residual network: a linear layer, then blocks x + norm(W nonlinearity(x) + b), then scores.

    All of `sizes[1:-1]` are one width; there is a block less than there are of them. The norm stands at the end of a
    block, so that "bn, zero gamma" (Goyal et al. 2017) and "skipinit" let each block begin as the identity. Raises
    ValueError for other sizes or an unknown name.

    >>> residual_mlp([4, 8, 8, 3], "bn")[1].body
    Sequential(
      (0): ReLU()
      (1): Linear(in_features=8, out_features=8, bias=False)
      (2): BatchNorm1d(8, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    )
    """
    wide_in, *hidden, wide_out = sizes
    if len(set(hidden)) != 1:
        raise ValueError(f"sizes: expected hidden layers of one width, got {list(sizes)}")
    width, blocks = hidden[0], []
    for _ in hidden[1:]:
        linear = initialized(nn.Linear(width, width, bias=norm in NOT_CENTRED), init, generator)
        *made, activation = _after(width, norm, nonlinearity, False, Noise(generator=generator))
        blocks.append(Residual(activation, linear, *made))
    first, last = (initialized(nn.Linear(*ends), init, generator) for ends in ((wide_in, width), (width, wide_out)))
    return nn.Sequential(first, *blocks, last)


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
        conv = nn.Conv2d(channels, wide, 3, padding=1, bias=norm in NOT_CENTRED)
        layers += [initialized(conv, init, generator), *_after(wide, norm, nonlinearity, True, Noise(noise, generator))]
        layers += [nn.MaxPool2d(2)] if place in (1, 3) else []
        channels = wide
    last = initialized(nn.Linear(channels, 10), init, generator)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)


def _after(
    width: int, norm: str, nonlinearity: str, images: bool, noise: Noise, placement: str = "before"
) -> list[nn.Module]:
    """What follows Wu + b: the norm, if any, and the nonlinearity."""
    _check("norm", norm, NORMS)
    _check("nonlinearity", nonlinearity, NONLINEARITIES)
    if norm in (NEVER_IMAGES if images else IMAGES_ONLY):
        raise ValueError(f"norm: {norm!r} has no meaning {'in' if images else 'outside'} a convolutional network")
    make = NORMS[norm]
    after = [*([make(width, images, noise)] if make else []), NONLINEARITIES[nonlinearity]()]
    return after if placement == "before" else after[::-1]


def _check(what: str, given: str, known: Collection[str]) -> None:
    if given not in known:
        raise ValueError(f"{what}: expected one of {list(known)}, got {given!r}")


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
