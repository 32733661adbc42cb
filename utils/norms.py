"""BN's relatives: the average lp norms and the noisy BN of Santurkar et al. 2018, and what stands where a norm stands.

Layer, group, instance and RMS normalisation are torch's own layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utils.batchnorm import BatchNorm1d, BatchNorm2d, batch_statistics, scale_and_shift

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


@dataclass(frozen=True)
class Recipe:
    """How strong the noise is (Santurkar et al. 2018, appendix A.2.1, Algorithm 1; the defaults are theirs).

    For each unit mu ~ U(-shift, shift) and sigma ~ U(1, 1 + scale), which all samples of the batch share; then for each
    sample m ~ U(mu - own_shift, mu + own_shift) and s ~ N(sigma, own_scale), with `own_scale` a standard deviation.

    >>> Recipe().scaled(2)
    Recipe(shift=1.0, scale=0.5, own_shift=0.2, own_scale=0.2)
    """

    shift: float = 0.5
    scale: float = 0.25
    own_shift: float = 0.1
    own_scale: float = 0.1

    def scaled(self, strength: float) -> "Recipe":
        """Return the recipe with everything `strength` times as large; 0 is no noise at all.

        >>> Recipe().scaled(0).shift
        0.0
        """
        return Recipe(*(strength * value for value in (self.shift, self.scale, self.own_shift, self.own_scale)))


PAPER_DEFAULTS = Recipe()


def draw_noise(x: Tensor, recipe: Recipe, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw the factor s and the shift m for every value of a batch `x` (N, C, ...): two tensors of the shape of `x`.

    In images height and width count as samples.

    >>> s, m = draw_noise(torch.zeros(4, 3), Recipe().scaled(0))
    >>> bool((s == 1).all()), bool((m == 0).all())
    (True, True)
    """
    s, m = draw_noises(x[None], recipe, [generator])
    return s[0], m[0]


def draw_noises(x: Tensor, recipe: Recipe, generators: Sequence[torch.Generator | None]) -> tuple[Tensor, Tensor]:
    """Do the same for S batches (S, N, C, ...), with a generator for each, which draws mu, sigma, m and s in turn.

    >>> s, _ = draw_noises(torch.zeros(2, 4, 3), Recipe(), [torch.Generator(), torch.Generator()])
    >>> torch.equal(s[0], s[1])
    True
    """
    units, samples = x.shape[2], x[0].numel()
    uniform, normal = x.new_empty(len(x), 2 * units + samples), x.new_empty(x.shape)
    for generator, *rows in zip(generators, uniform, normal, strict=True):
        rows[0].uniform_(generator=generator), rows[1].normal_(generator=generator)
    mu, sigma, own = uniform.split([units, units, samples], 1)
    mu, sigma = (each.reshape(len(x), 1, units, *[1] * (x.dim() - 3)) for each in (mu, sigma))
    m = torch.add(recipe.shift * (2 * mu - 1) - recipe.own_shift, own.view(x.shape), alpha=2 * recipe.own_shift)
    s = torch.add(1 + recipe.scale * sigma, normal, alpha=recipe.own_scale)
    return s, m


class Noise(nn.Module):
    """Give back s x + m in training, drawn afresh at every call; in evaluation x itself. It learns nothing.

    The paper does not say what it does in evaluation; here the noise is off unless `in_evaluation`.

    >>> layer = Noise(Recipe(), torch.Generator().manual_seed(0))
    >>> x = torch.zeros(2, 3)
    >>> bool((layer(x) == layer(x)).any()), bool((layer.eval()(x) == x).all())
    (False, True)
    """

    def __init__(
        self, recipe: Recipe = PAPER_DEFAULTS, generator: torch.Generator | None = None, in_evaluation: bool = False
    ):
        super().__init__()
        self.recipe, self.generator, self.in_evaluation = recipe, generator, in_evaluation

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the shape of `x` (N, C, ...)."""
        if not (self.training or self.in_evaluation):
            return x
        s, m = draw_noise(x, self.recipe, self.generator)
        return torch.addcmul(m, s, x)


class Noises(nn.Module):
    """The :class:`Noise` of several networks side by side: each part gets what its own layer would give it.

    >>> noises = Noises([Noise(generator=torch.Generator().manual_seed(seed)) for seed in range(2)])
    >>> torch.equal(noises(torch.ones(2, 5, 3))[1], Noise(generator=torch.Generator().manual_seed(1))(torch.ones(5, 3)))
    True
    """

    def __init__(self, noises: Sequence[Noise]):
        super().__init__()
        self.recipe, self.generators = noises[0].recipe, [noise.generator for noise in noises]

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the shape of `x`: (S, N, C), or (N, S C) with the units of all networks in one row."""
        if not self.training:
            return x
        if x.dim() == 2:
            return self(x.unflatten(1, (len(self.generators), -1)).transpose(0, 1)).transpose(0, 1).flatten(1)
        s, m = draw_noises(x, self.recipe, self.generators)
        return torch.addcmul(m, s, x)


class NoisyBatchNorm1d(BatchNorm1d):
    """BatchNorm1d with noise on its output (Santurkar et al. 2018, section 2.1 and Algorithm 1).

    >>> layer = NoisyBatchNorm1d(3, Noise(Recipe().scaled(0)))
    >>> x = torch.rand(5, 3)
    >>> torch.equal(layer(x), BatchNorm1d(3)(x))
    True
    """

    def __init__(self, num_features: int, noise: Noise | None = None):
        super().__init__(num_features)
        self.noise = noise or Noise()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (N, C), scale and shift, then perturb."""
        return self.noise(super().forward(x))


class NoisyBatchNorm2d(BatchNorm2d):
    """The same for images (N, C, H, W).

    >>> NoisyBatchNorm2d(3)(torch.rand(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    def __init__(self, num_features: int, noise: Noise | None = None):
        super().__init__(num_features)
        self.noise = noise or Noise()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (N, C, H, W), scale and shift, then perturb."""
        return self.noise(super().forward(x))


class PersistentNoisyBatchNorm1d(NoisyBatchNorm1d):
    """Noise that no later BN can take out again, since none of them has seen it.

    In training a batch comes twice in one, (2N, C): the first half stays without noise, and its mean and variance
    normalise both. In evaluation, without noise, it is BN, with running averages of the first half. See
    :class:`utils.networks.Twice`.

    >>> x = torch.rand(5, 3)
    >>> clean, noisy = PersistentNoisyBatchNorm1d(3)(torch.cat([x, x + 1])).chunk(2)
    >>> torch.equal(clean, BatchNorm1d(3)(x)), bool(noisy.mean() > 1)
    (True, True)
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise both halves of `x` (2N, C) by the first one; in evaluation `x` is (N, C)."""
        if not self.training:
            return BatchNorm1d.forward(self, x)
        clean, other = x.chunk(2)
        mean, var = batch_statistics(clean)
        other = scale_and_shift((other - mean) * torch.rsqrt(var + self.eps), self.weight, self.bias)
        return torch.cat([BatchNorm1d.forward(self, clean), self.noise(other)])


class PartialNorm(nn.Module):
    """BN with some of its parts only, over the batch of (N, C, ...).

    `centre` takes the mean off, `scale` divides by the standard deviation (1/m, about the mean in either case). `held`
    names the statistics, "mean" or "var", that are constants in the backward pass; the forward pass is the same.

    >>> x = torch.tensor([[1.0], [3.0]])
    >>> PartialNorm(1, scale=False)(x).ravel().tolist(), PartialNorm(1, centre=False, eps=0)(x).ravel().tolist()
    ([-1.0, 1.0], [1.0, 3.0])
    >>> bool(torch.allclose(PartialNorm(1)(x), BatchNorm1d(1)(x)))
    True
    """

    def __init__(
        self,
        num_features: int,
        centre: bool = True,
        scale: bool = True,
        held: Sequence[str] = (),
        affine: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ):
        super().__init__()
        self.centre, self.scale, self.held = centre, scale, tuple(held)
        self.affine, self.eps, self.momentum = affine, eps, momentum
        if affine:
            self.weight, self.bias = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the shape of `x` (N, C, ...)."""
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = batch_statistics(x)
            m = x.numel() / len(mean)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(var.detach() * m / (m - 1), self.momentum)
            mean = mean.detach() if "mean" in self.held else mean
            var = var.detach() if "var" in self.held else var
        units = (1, -1, *[1] * (x.dim() - 2))
        y = x - mean.view(units) if self.centre else x
        y = y * torch.rsqrt(var + self.eps).view(units) if self.scale else y
        return scale_and_shift(y, self.weight, self.bias) if self.affine else y


class DyT(nn.Module):
    """Dynamic tanh, gamma * tanh(alpha x) + beta, with one alpha for the layer (Zhu et al. 2025, section 4).

    It stands where a norm stands, and asks neither the batch nor the example for a statistic. `x` is (N, C, ...).

    >>> DyT(1, alpha=1.0)(torch.tensor([[0.5], [100.0]])).ravel().tolist()
    [0.46211716532707214, 1.0]
    """

    def __init__(self, num_features: int, alpha: float = 0.5):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.weight, self.bias = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the shape of `x`."""
        return scale_and_shift(torch.tanh(self.alpha * x), self.weight, self.bias)


class SkipInit(nn.Module):
    """One learned factor, at first 0, at the end of a residual block: the block begins as the identity.

    De & Smith 2020, section 4; `x` has any shape.

    >>> SkipInit()(torch.ones(2)).tolist()
    [0.0, 0.0]
    """

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` times the factor."""
        return self.factor * x
