"""What the page "Other mechanisms" measures: rank, gradients and boundaries before training; during it saturation, and
how fast weights turn under weight decay."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.batchnorm import normalize
from utils.cache import cached
from utils.networks import LINEAR, Residual, initialized
from utils.observe import observe, trace
from utils.seeds import torch_rng
from utils.training import SEEDS, Settings, Update, with_gradients

# --- rank -------------------------------------------------------------------------------------------------------------

DEPTH = 50
WIDTH = 64
DIGITS = 60
NORMS = ("plain", "bn", "layer")
NONLINEARITIES = ("ReLU", "none")


def effective_rank(x: Tensor) -> float:
    """exp of the entropy of the squared singular values, as shares of their sum (Roy & Vetterli 2007): (N, C) -> >= 1.

    How many directions the rows fill: 1 if all lie on one line through 0.

    >>> round(effective_rank(torch.eye(3)), 3), round(effective_rank(torch.ones(5, 3)), 3)
    (3.0, 1.0)
    """
    share = torch.linalg.svdvals(x.double()).square()
    share = share / share.sum()
    return math.exp(-torch.special.xlogy(share, share).sum().item())


def mean_cosine(x: Tensor) -> float:
    """The mean cosine of the angle between two different rows: (N, C) -> from -1 to 1.

    >>> mean_cosine(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))
    0.3333333333333333
    """
    unit = F.normalize(x.double(), dim=1)
    n = len(unit)
    return ((unit @ unit.T).sum().item() - n) / (n * (n - 1))


class Depths(NamedTuple):
    """Of the values behind each layer of untrained networks, (seeds, layers)."""

    rank: np.ndarray
    cosine: np.ndarray


@cached
def by_depth(norm: str, nonlinearity: str = "ReLU", seeds: int = SEEDS) -> Depths:
    """Send 60 digits, others for each seed, through 50 random layers of 64 units, and look behind every layer.

    Weights have He's variance, 2 / in with ReLU and 1 / in without a nonlinearity. Raises ValueError for other names.

    >>> by_depth("bn", seeds=2).rank.shape
    (2, 50)
    """
    if norm not in NORMS or nonlinearity not in NONLINEARITIES:
        raise ValueError(f"expected one of {NORMS} and one of {NONLINEARITIES}, got {norm!r} and {nonlinearity!r}")
    gain = 2 if nonlinearity == "ReLU" else 1
    ranks, cosines = [], []
    for seed in range(seeds):
        rng, images = torch_rng(seed), Settings().task().x_train
        x, behind = images[torch.randperm(len(images), generator=rng)[:DIGITS]], []
        for _ in range(DEPTH):
            x = x @ torch.randn(x.shape[1], WIDTH, generator=rng) * math.sqrt(gain / x.shape[1])
            x = normalize(x) if norm == "bn" else F.layer_norm(x, (WIDTH,)) if norm == "layer" else x
            x = torch.relu(x) if nonlinearity == "ReLU" else x
            behind.append(x)
        ranks.append([effective_rank(each) for each in behind])
        cosines.append([mean_cosine(each) for each in behind])
    return Depths(np.array(ranks), np.array(cosines))


# --- gradients --------------------------------------------------------------------------------------------------------

LAYERS = 30
BATCH = 128
WIDE = 96
ARCHITECTURES = ("plain", "bn", "bn, skips")
RATE = math.sqrt(math.pi / (math.pi - 1))
"""By how much the gradient grows at each BN and ReLU layer in the limit of wide layers and large batches, going back
(Yang et al. 2019, abstract and section 4: its square by pi / (pi - 1))."""


@with_gradients
def gradients_by_depth(architecture: str, seeds: int = SEEDS) -> np.ndarray:
    """How long the gradient at each layer's input is, over that at the last layer's: (seeds, layers), untrained.

    A random gradient arrives at the end of 30 layers, W then the norm then ReLU, with He's start; with skips each is
    a block that adds W's normalised output to its input. Raises ValueError for another architecture.

    >>> gradients_by_depth("plain", seeds=2).shape
    (2, 30)
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture: expected one of {ARCHITECTURES}, got {architecture!r}")
    rows = []
    for seed in range(seeds):
        rng = torch_rng(seed)
        x, inputs = torch.randn(BATCH, WIDE, generator=rng).requires_grad_(), []
        for _ in range(LAYERS):
            inputs.append(x)
            x = _layer(architecture, rng)(x)
        found = torch.autograd.grad(x, inputs, torch.randn(x.shape, generator=rng))
        lengths = np.array([each.norm().item() for each in found])
        rows.append(lengths / lengths[-1])
    return np.array(rows)


def _layer(architecture: str, rng: torch.Generator) -> nn.Module:
    linear = initialized(nn.Linear(WIDE, WIDE, bias=False), "he", rng)
    if architecture == "plain":
        return nn.Sequential(linear, nn.ReLU())
    norm = nn.BatchNorm1d(WIDE)
    return nn.Sequential(linear, norm, nn.ReLU()) if architecture == "bn" else Residual(nn.ReLU(), linear, norm)


@cache
def growth(architecture: str) -> np.ndarray:
    """The factor by which the gradient grows at one layer, going back: the mean over 25 layers, (seeds,).

    >>> bool((growth("bn") > growth("bn, skips")).all())
    True
    """
    lengths = gradients_by_depth(architecture)
    return (lengths[:, 0] / lengths[:, 25]) ** (1 / 25)


# --- boundaries -------------------------------------------------------------------------------------------------------

POINTS, UNITS = 400, 50
OFFSETS = (0.0, 1.0, 2.0, 4.0)  # of the data from the origin, along (1, -1), in units of their width


def two_moons(offset: float, seed: int = 0) -> Tensor:
    """Two half circles that reach into each other, with noise, moved away from the origin: (400, 2).

    >>> two_moons(0.0).shape
    torch.Size([400, 2])
    """
    rng = torch_rng(seed)
    angle = math.pi * torch.rand(POINTS, generator=rng)
    upper = torch.arange(POINTS) % 2 == 0
    x = torch.stack(
        [torch.where(upper, angle.cos(), 1 - angle.cos()), torch.where(upper, angle.sin(), 0.5 - angle.sin())], 1
    )
    x = x + 0.1 * torch.randn(x.shape, generator=rng)
    return x - x.mean(0) + offset * torch.tensor([1.0, -1.0])


class Boundaries(NamedTuple):
    """The lines w x + b = 0 on which the units of one ReLU layer bend."""

    weight: Tensor  # (units, 2)
    bias: Tensor  # (units,)
    cuts: Tensor  # (units,) whether a line has data on both its sides
    patterns: int  # of active units, among all points


def boundaries(norm: str, offset: float, seed: int = 0) -> Boundaries:
    """Draw one layer of 50 ReLU units with torch's own start, before the points or, with "bn", normalised over them.

    BN takes the mean off: w x + b becomes w x - w mean(x), a line through the middle of the data.

    >>> bool(boundaries("bn", 4.0).cuts.all())
    True
    """
    rng, x = torch_rng(seed), two_moons(offset, seed)
    weight, bias = ((2 * torch.rand(shape, generator=rng) - 1) / math.sqrt(2) for shape in ((UNITS, 2), (UNITS,)))
    if norm == "bn":
        bias = -(x @ weight.T).mean(0)
    active = x @ weight.T + bias > 0
    return Boundaries(weight, bias, active.any(0) & ~active.all(0), len(active.unique(dim=0)))


def cut_shares(norm: str, offset: float, seeds: int = SEEDS) -> np.ndarray:
    """The share of the units whose boundary cuts the data, (seeds,).

    >>> cut_shares("bn", 2.0, seeds=2).tolist()
    [1.0, 1.0]
    """
    return np.array([boundaries(norm, offset, seed).cuts.float().mean().item() for seed in range(seeds)])


# --- saturation -------------------------------------------------------------------------------------------------------

SIGMOIDS = Settings(depth=5, width=64, lr=1.0, steps=200)
STARTS = {"Glorot's start": "glorot", "a larger start": 0.5}
FLAT = 4.0  # |input| beyond which a sigmoid's slope is less than a tenth of its largest
LOOKS = (0, 5, 10, 20, 50, 100, 150, 200)


class Saturation(NamedTuple):
    """What the sigmoids of one network do on fixed images, (looks, layers); it ends where the network diverged."""

    step: np.ndarray  # (looks,)
    flat: np.ndarray  # the share of inputs beyond FLAT
    slope: np.ndarray  # the mean slope, over its largest, 1/4


@cached
def saturation(norm: str, start: str, seeds: int = SEEDS) -> list[Saturation]:
    """Train five layers of sigmoids and look at what enters them, on 500 training images: for each seed.

    >>> saturation("bn", "a larger start", seeds=2)[0].flat.shape
    (8, 5)
    """
    settings = Settings(**{**vars(SIGMOIDS), "norm": norm, "init": STARTS[start]})
    images = settings.task().x_train[:500]

    def look(update: Update) -> tuple[np.ndarray, np.ndarray]:
        inputs = [layer.activation_input for layer in trace(update.net, images)[0]]
        slopes = [4 * torch.sigmoid(z) * (1 - torch.sigmoid(z)) for z in inputs]
        return (
            np.array([(z.abs() > FLAT).float().mean().item() for z in inputs]),
            np.array([slope.mean().item() for slope in slopes]),
        )

    return [Saturation(*each) for each in observe(settings, seeds, LOOKS, look)]


def early_slopes(norm: str, start: str, look: int = 0) -> np.ndarray:
    """The mean slope of all sigmoids at one of the :data:`LOOKS`, over the largest slope: (seeds,).

    >>> early_slopes("bn", "a larger start").shape
    (10,)
    """
    return np.array([each.slope[look].mean() for each in saturation(norm, start)])


# --- the effective rate -----------------------------------------------------------------------------------------------

DECAYING = Settings("bn", depth=3, width=48, nonlinearity="relu", init="he", batch_size=32, steps=600)
PRODUCTS = (0.006, 0.012)  # of rate and weight decay
DECAY_RATES = (0.1, 0.3, 1.0)
TURNING = 50  # updates over which a turn is averaged
EVERY = 5  # updates between two looks


class Turning(NamedTuple):
    """The weights of the second hidden layer under weight decay, after each look; (looks,) each."""

    step: np.ndarray
    rate: np.ndarray  # the effective rate, rate / length^2
    turn: np.ndarray  # the angle in radians of the update before the look, rate * |gradient| / length; at first nan
    accuracy: np.ndarray  # on the mini-batch of that update


@cached
def turning(lr: float, product: float, seeds: int = SEEDS) -> list[Turning]:
    """Train a BN network at a rate with the weight decay that makes their product: for each seed.

    The gradient of normalised weights stands at a right angle to them, so that a small step along it is a turn; decay
    shortens them and turns nothing.

    >>> turning(1.0, 0.006, seeds=2)[0].turn.shape
    (121,)
    """
    settings = Settings(**{**vars(DECAYING), "lr": lr, "weight_decay": product / lr})

    def look(update: Update) -> tuple[float, ...]:
        weight = [layer.weight for layer in update.net if isinstance(layer, LINEAR)][1]
        length = weight.detach().double().norm().item()
        step = lr * weight.grad.double().norm().item() if update.step else math.nan
        return lr / length**2, step / length, update.accuracy

    return [Turning(*each) for each in observe(settings, seeds, range(0, settings.steps + 1, EVERY), look)]


def balance(product: float) -> float:
    """The turn of a step at which growth and decay balance, the root of 2 * rate * decay.

    A step at a right angle adds (length * turn)^2 to the squared length, decay takes 2 * rate * decay of it (van
    Laarhoven 2017; Wan et al. 2021).

    >>> round(balance(0.005), 4)
    0.1
    """
    return math.sqrt(2 * product)


def last_turn(lr: float, product: float, until: int = DECAYING.steps) -> np.ndarray:
    """The turn of a step, root mean square over 50 updates, over :func:`balance`: (seeds,).

    >>> last_turn(1.0, 0.006).shape
    (10,)
    """
    turns = [run.turn[_window(until)] for run in turning(lr, product)]
    return np.sqrt(np.square(turns).mean(1)) / balance(product)


def last_rate(lr: float, product: float, until: int = DECAYING.steps) -> np.ndarray:
    """The effective rate after so many updates: (seeds,).

    >>> bool((last_rate(1.0, 0.006) > 0).all())
    True
    """
    return np.array([run.rate[until // EVERY] for run in turning(lr, product)])


def last_accuracy(lr: float, product: float, until: int = DECAYING.steps) -> np.ndarray:
    """The training accuracy over 50 updates: (seeds,).

    >>> bool((last_accuracy(1.0, 0.006) > 0.5).all())
    True
    """
    return np.array([run.accuracy[_window(until)].mean() for run in turning(lr, product)])


def _window(until: int) -> slice:
    return slice((until - TURNING) // EVERY + 1, until // EVERY + 1)
