"""What the chapter "Normalisation" looks at: the values of a hidden layer of plain networks, and their batches."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.batchnorm import normalize
from utils.networks import NONLINEARITIES, preactivations
from utils.observe import trace, unit_statistics
from utils.seeds import torch_rng
from utils.training import SEEDS, Settings, trained, trained_seeds

NETWORKS = {
    "ReLU": Settings(nonlinearity="relu", init="he", lr=0.1),
    "tanh": Settings(nonlinearity="tanh", lr=0.1),
    "sigmoid": Settings(nonlinearity="sigmoid", lr=1.0),
}
BATCH_SIZES = (2, 4, 8, 16, 32, 64, 128, 256)
IMAGES = {"typical": 0.5, "unusual": 2.5}  # how far from the mean of all, in standard deviations
DRAWN = 1000  # random batches


@cache
def layer_values(nonlinearity: str = "ReLU", layer: int = 2, is_trained: bool = True) -> Tensor:
    """Return Wu + b of one hidden layer, in float64, for all 1,437 training images: (N, C) = (1437, 100).

    The network is plain, three layers of 100 units, trained for 600 steps with seed 0, or not at all.

    >>> layer_values(is_trained=False).shape
    torch.Size([1437, 100])
    """
    settings = NETWORKS[nonlinearity]
    net = trained(settings) if is_trained else settings.network(seed=0)
    return preactivations(net, settings.task().x_train)[layer - 1].double()


def small_batch(examples: int = 6, units: int = 4) -> Tensor:
    """The first examples and units of the second layer of the ReLU network: (N, C), in float64.

    >>> small_batch().shape
    torch.Size([6, 4])
    """
    return layer_values()[:examples, :units]


# --- a batch is a guess -----------------------------------------------------------------------------------------------


class Company(NamedTuple):
    """One image in random batches, in standard deviations of its unit over all images."""

    by_whole_data: float  # the image's value, normalised by all images
    means: Tensor  # (batches,) of random batches, off the mean of all images
    values: Tensor  # (batches,) the image's value, normalised in each random batch that it is in


def image_at(unit: Tensor, distance: float) -> int:
    """The image whose value (N,) is nearest to so many standard deviations from the mean, on either side.

    >>> image_at(torch.tensor([-2.0, 0.1, 2.1]), distance=0.0)
    1
    """
    off = (unit - unit.mean()).abs() / unit.std(correction=0)
    return int((off - distance).abs().argmin())


def in_company(unit: Tensor, image: int, batch_size: int, batches: int = DRAWN) -> Company:
    """Put the `image` of a unit's values (N,) into random batches, drawn with replacement; the same ones at each call.

    >>> pairs = in_company(torch.tensor([1.0, 2.0, 5.0]), image=1, batch_size=2, batches=50).values
    >>> sorted({round(value, 2) for value in pairs.tolist()})
    [-1.0, 1.0]
    """
    rng, mean, std = torch_rng(batch_size), unit.mean(), unit.std(correction=0)
    others = torch.cat([unit[:image], unit[image + 1 :]])
    companions = others[torch.randint(len(others), (batches, batch_size - 1), generator=rng)]
    with_image = torch.cat([unit[image].expand(batches, 1), companions], 1)
    whole = unit[torch.randint(len(unit), (batches, batch_size), generator=rng)]
    values = normalize(with_image.T, eps=0)[0]  # each batch is a column, its first row our image
    return Company(((unit[image] - mean) / std).item(), (whole.mean(1) - mean) / std, values)


@cache
def _values_of_seeds(seeds: int) -> list[Tensor]:
    """The second layer's values of each seed's trained ReLU network, (1437, 100) in float64."""
    settings = NETWORKS["ReLU"]
    nets, images = trained_seeds(settings, seeds), settings.task().x_train
    return [preactivations(net, images)[1].double() for net in nets]


def noise_of_the_mean(m: Sequence[int] = BATCH_SIZES, seeds: int = SEEDS, batches: int = 200) -> dict[str, np.ndarray]:
    """How far batch means stray, times sqrt(m), in standard deviations of a unit: (seeds,) for every batch size.

    The root of the mean square over the layer's 100 units; 1 is what statistics says of independent draws.

    >>> list(noise_of_the_mean(m=(4, 16), seeds=2, batches=5))
    ['m = 4', 'm = 16']
    """
    found = {}
    for size in m:
        rows = []
        for seed, values in enumerate(_values_of_seeds(seeds)):
            mean, std = unit_statistics(values)
            drawn = torch.randint(len(values), (batches, size), generator=torch_rng(seed))
            off = (values[drawn].mean(1).numpy() - mean) / std
            rows.append(np.sqrt(size * np.square(off).mean()))
        found[f"m = {size}"] = np.array(rows)
    return found


def largest_off_one(seeds: int = SEEDS) -> np.ndarray:
    """In batches of two: how far the size of a normalised value is from 1, at most, (seeds,).

    >>> bool(largest_off_one(seeds=2).max() < 1e-9)
    True
    """
    return np.array([(normalize(x[:2], eps=0).abs() - 1).abs().max().item() for x in _values_of_seeds(seeds)])


# --- what is thrown away ----------------------------------------------------------------------------------------------


class Moved(NamedTuple):
    """A unit before and after it is scaled and shifted, (N, C) each, and what normalising makes of both."""

    moved: Tensor
    x_hat: Tensor
    x_hat_moved: Tensor

    @property
    def largest_difference(self) -> float:
        """Of the normalised values, as a number."""
        return (self.x_hat - self.x_hat_moved).abs().max().item()


def scaled_and_shifted(x: Tensor, scale: float, shift: float, eps: float = 0.0) -> Moved:
    """Scale and shift the values `x` (N, C) before they are normalised.

    >>> scaled_and_shifted(torch.tensor([[1.0], [3.0]]), scale=4.0, shift=1.0).largest_difference
    0.0
    """
    moved = scale * x + shift
    return Moved(moved, normalize(x, eps), normalize(moved, eps))


def invariance_errors(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The largest change of a normalised value when a unit is scaled and shifted, (seeds,), with eps = 0.

    >>> list(invariance_errors(seeds=2))
    ['times 1,000, plus 10', 'times 0.01, minus 10', 'weights times 7, and a bias']
    """
    settings, found = NETWORKS["ReLU"], {}
    for name, scale, shift in (("times 1,000, plus 10", 1000.0, 10.0), ("times 0.01, minus 10", 0.01, -10.0)):
        each = [scaled_and_shifted(x[:60], scale, shift).largest_difference for x in _values_of_seeds(seeds)]
        found[name] = np.array(each)
    by_weights = []
    for net in trained_seeds(settings, seeds):
        layers, _ = trace(net, settings.task().x_train[:60])
        u, W, b = layers[1].input.double(), net[2].weight.double(), net[2].bias.double()
        by_weights.append((normalize(u @ (7 * W).T + b, eps=0) - normalize(u @ W.T, eps=0)).abs().max().item())
    return {**found, "weights times 7, and a bias": np.array(by_weights)}


def distance_of_zeros(values: Tensor) -> tuple[float, float]:
    """How far 60 images of a zero are from mean 0, in standard deviations, the average over units (N, C).

    Normalised by all images, and among themselves.

    >>> among_all, among_themselves = distance_of_zeros(layer_values())
    >>> among_all > 0.3, among_themselves < 1e-12
    (True, True)
    """
    zeros = values[NETWORKS["ReLU"].task().y_train == 0][:60]
    among_all = (zeros - values.mean(0)) / values.std(0, correction=0)
    return tuple(each.mean(0).abs().mean().item() for each in (among_all, normalize(zeros)))


def shared_part(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """Both distances of :func:`distance_of_zeros`, (seeds,) each.

    >>> list(shared_part(seeds=2))
    ['by all images', 'among themselves']
    """
    found = np.array([distance_of_zeros(values) for values in _values_of_seeds(seeds)])
    return dict(zip(("by all images", "among themselves"), found.T, strict=True))


# --- where it stands --------------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """The values at one place, each unit standardised: (N, units that vary)."""

    values: Tensor
    skewness: float  # of the median unit, without its sign
    zeros: float  # the share of values that were exactly 0


def shapes(nonlinearity: str = "ReLU", layer: int = 2, is_trained: bool = True) -> tuple[Shape, Shape]:
    """The shape of a layer's values before and after its nonlinearity.

    >>> before, after = shapes(is_trained=False)
    >>> before.skewness < after.skewness
    True
    """
    before = layer_values(nonlinearity, layer, is_trained)
    return _shape(before), _shape(NONLINEARITIES[nonlinearity.lower()]()(before))


def _shape(values: Tensor) -> Shape:
    standard = normalize(values[:, values.std(0) > 0], eps=0)
    skewness = (standard**3).mean(0).abs().median().item()
    return Shape(standard, skewness, (values == 0).double().mean().item())


def skewness_after_relu(seeds: int = SEEDS) -> np.ndarray:
    """How many times as skewed a layer is after ReLU as before it, (seeds,): the median unit of the second layer.

    >>> skewness_after_relu(seeds=2).shape
    (2,)
    """
    each = [(_shape(x), _shape(torch.relu(x))) for x in _values_of_seeds(seeds)]
    return np.array([after.skewness / before.skewness for before, after in each])
