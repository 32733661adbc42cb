"""Noise on purpose: the shift and scale that Santurkar et al. 2018 put on BN's output to make it unstable again."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utils.batchnorm import BatchNorm1d, BatchNorm2d


@dataclass(frozen=True)
class Recipe:
    """How strong the noise is (Santurkar et al. 2018, appendix A.2.1, Algorithm 1; the defaults are theirs).

    For each unit mu ~ U(-shift, shift) and sigma ~ U(1, 1 + scale), which all samples of the batch share; then for each
    sample m ~ U(mu - own_shift, mu + own_shift) and s ~ N(sigma, own_scale), with `own_scale` a standard deviation.

    >>> Recipe().times(2)
    Recipe(shift=1.0, scale=0.5, own_shift=0.2, own_scale=0.2)
    """

    shift: float = 0.5
    scale: float = 0.25
    own_shift: float = 0.1
    own_scale: float = 0.1

    def times(self, strength: float) -> "Recipe":
        """Return the recipe with everything `strength` times as large; 0 is no noise at all.

        >>> Recipe().times(0).shift
        0.0
        """
        return Recipe(*(strength * value for value in (self.shift, self.scale, self.own_shift, self.own_scale)))


PAPERS = Recipe()


def draw_noise(x: Tensor, recipe: Recipe, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw the factor s and the shift m for every value of a batch `x` (N, C, ...): two tensors of the shape of `x`.

    In images height and width count as samples.

    >>> s, m = draw_noise(torch.zeros(4, 3), Recipe().times(0))
    >>> bool((s == 1).all()), bool((m == 0).all())
    (True, True)
    """
    units = (1, x.shape[1], *[1] * (x.dim() - 2))

    def uniform(shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=x.dtype)

    mu = recipe.shift * (2 * uniform(units) - 1)
    sigma = 1 + recipe.scale * uniform(units)
    m = mu + recipe.own_shift * (2 * uniform(x.shape) - 1)
    s = sigma + recipe.own_scale * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return s, m


class Noise(nn.Module):
    """Give back s x + m in training, drawn afresh at every call; in evaluation x itself. It learns nothing.

    The paper does not say what it does in evaluation; here the noise is off unless `in_evaluation`.

    >>> layer = Noise(Recipe(), torch.Generator().manual_seed(0))
    >>> x = torch.zeros(2, 3)
    >>> bool((layer(x) == layer(x)).any()), bool((layer.eval()(x) == x).all())
    (False, True)
    """

    def __init__(self, recipe: Recipe = PAPERS, generator: torch.Generator | None = None, in_evaluation: bool = False):
        super().__init__()
        self.recipe, self.generator, self.in_evaluation = recipe, generator, in_evaluation

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the shape of `x` (N, C, ...)."""
        if not (self.training or self.in_evaluation):
            return x
        s, m = draw_noise(x, self.recipe, self.generator)
        return s * x + m


class NoisyBatchNorm1d(BatchNorm1d):
    """BatchNorm1d with noise on its output (Santurkar et al. 2018, section 2.1 and Algorithm 1).

    >>> layer = NoisyBatchNorm1d(3, Noise(Recipe().times(0)))
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
