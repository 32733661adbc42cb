"""Batch normalisation before or after the nonlinearity: every rate, each one's own rate, and what weights can do."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.batchnorm import BatchNorm1d, normalize
from utils.cache import cached
from utils.experiments.relatives import area
from utils.networks import NONLINEARITIES, mlp, preserve_state
from utils.observe import observe
from utils.seeds import torch_rng
from utils.training import SEEDS, Run, Settings, Update, train_all

BEFORE, AFTER = "bn", "bn, after"
ARMS = {"plain": ("plain", "before"), BEFORE: ("bn", "before"), AFTER: ("bn", "after")}  # norm and placement
BASE = Settings(width=48, nonlinearity="relu", init="he", steps=100, n_evals=2)
NETWORKS = {
    "ReLU, 3 layers": BASE,
    "ReLU, 10 layers": replace(BASE, depth=10),
    "tanh, 3 layers": replace(BASE, nonlinearity="tanh", init="glorot"),
    "sigmoid, 3 layers": replace(BASE, nonlinearity="sigmoid", init="glorot"),
}
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SMALL, LARGE = RATES[:2], RATES[-1]

# --- training ---------------------------------------------------------------------------------------------------------


def settings(network: str, arm: str, rate: float) -> Settings:
    """The settings of one arm of a network at one rate.

    >>> settings("tanh, 3 layers", "bn, after", 0.1).placement
    'after'
    """
    norm, placement = ARMS[arm]
    return replace(NETWORKS[network], norm=norm, placement=placement, lr=rate)


@cache
def validated(network: str) -> dict[str, list[list[Run]]]:
    """Train every arm at every rate without one digit in five, and test on these: runs by arm, rate and seed.

    >>> [len(each) for each in validated("ReLU, 3 layers").values()] == 3 * [len(RATES)]
    True
    """
    keys = [(arm, rate) for arm in ARMS for rate in RATES]
    runs = train_all({key: replace(settings(network, *key), validation=True) for key in keys})
    return {arm: [runs[arm, rate] for rate in RATES] for arm in ARMS}


def areas(network: str) -> dict[str, np.ndarray]:
    """The area under the training curve at each of :data:`RATES`: (rates, seeds) by arm.

    >>> areas("ReLU, 3 layers")["bn"].shape[0]
    6
    """
    steps = NETWORKS[network].steps
    return {arm: np.array([area(runs, steps) for runs in each]) for arm, each in validated(network).items()}


def gains(network: str, rates: Sequence[float] = RATES) -> dict[str, np.ndarray]:
    """How much larger the area is with BN after than with BN before, by network and rate: (seeds,).

    >>> bool(gains("ReLU, 3 layers", (0.01,))["ReLU, 3 layers, rate 0.01"].mean() > 0)
    True
    """
    found = areas(network)
    places = [RATES.index(rate) for rate in rates]
    return {f"{network}, rate {RATES[i]:g}": found[AFTER][i] - found[BEFORE][i] for i in places}


def own_rates(network: str) -> dict[str, float]:
    """The rate with the highest accuracy at the end, the mean over seeds, on the digits set aside: by arm.

    >>> own_rates("ReLU, 3 layers")["bn"] >= 0.1
    True
    """
    found = {}
    for arm, each in validated(network).items():
        ends = [np.mean([run.test_accuracy[-1] for run in runs]) for runs in each]
        found[arm] = RATES[int(np.argmax(ends))]
    return found


@cache
def at_own_rates(network: str) -> dict[str, list[Run]]:
    """Train every arm at its own rate on all training digits, and test it on the test digits: a run a seed.

    >>> sorted(at_own_rates("ReLU, 3 layers")) == sorted(ARMS)
    True
    """
    return train_all({arm: settings(network, arm, rate) for arm, rate in own_rates(network).items()})


def points(network: str) -> np.ndarray:
    """How much higher the test accuracy is with BN after than before, each at its own rate, in points: (seeds,).

    >>> bool(np.abs(points("ReLU, 3 layers")).max() < 10)
    True
    """
    ends = {arm: np.array([run.test_accuracy[-1] for run in runs]) for arm, runs in at_own_rates(network).items()}
    return 100 * (ends[AFTER] - ends[BEFORE])


def rate_shift(network: str) -> np.ndarray:
    """How many times larger a rate BN before needs for the area that BN after has at the smallest rate: (seeds,).

    Between the rates the area is taken to be straight over the logarithm of the rate, up to its largest value.

    >>> bool(rate_shift("ReLU, 3 layers").mean() > 1)
    True
    """
    found, logs = areas(network), np.log(RATES)
    top = int(found[BEFORE].mean(1).argmax()) + 1
    needed = [
        np.interp(goal, np.maximum.accumulate(curve[:top]), logs[:top])
        for goal, curve in zip(found[AFTER][0], found[BEFORE].T, strict=True)
    ]
    return np.exp(np.array(needed) - logs[0])


def apart(network: str, shift: float, highest: float = 1.0) -> float:
    """How far the mean areas of the two are apart when BN after is given its rates times `shift`, mean of rates.

    At BN before's own rates up to `highest` where both are known; between rates as in :func:`rate_shift`.

    >>> apart("ReLU, 3 layers", 1.7) < apart("ReLU, 3 layers", 1.0)
    True
    """
    found = {arm: each.mean(1) for arm, each in areas(network).items()}
    logs = np.log(RATES)
    moved = logs + np.log(shift)
    common = logs[(logs >= moved[0] - 1e-9) & (logs <= np.log(highest) + 1e-9)]
    differences = np.interp(common, moved, found[AFTER]) - np.interp(common, logs, found[BEFORE])
    return float(np.abs(differences).mean())


# --- what the length of the weights does ------------------------------------------------------------------------------


class Scaled(NamedTuple):
    """What leaves a layer whose weights are a times as long, (N, C) each."""

    before: Tensor  # f(BN(aWu))
    after: Tensor  # BN(f(aWu))


@cache
def scaled(nonlinearity: str, a: float, units: int = 12, seed: int = 0) -> Scaled:
    """A layer's outputs with weights times `a`, BN before or after the nonlinearity f, without ε, in float64.

    >>> one, ten = scaled("relu", 1.0), scaled("relu", 10.0)
    >>> torch.allclose(one.before, ten.before), torch.allclose(one.after, ten.after)
    (True, True)
    """
    x = BASE.task().x_train.double()
    weight = torch.randn(units, x.shape[1], generator=torch_rng(seed)).double() / x.shape[1] ** 0.5
    y, f = x @ (a * weight).T, NONLINEARITIES[nonlinearity]()
    return Scaled(f(normalize(y, eps=0)), normalize(f(y), eps=0))


def scaling_changes(a: float = 10.0, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How far outputs move, at most, when the weights become `a` times as long, by case: (seeds,).

    >>> list(scaling_changes(seeds=2))[:3]
    ['relu, before', 'relu, after', 'tanh, before']
    """
    found = {}
    for nonlinearity in ("relu", "tanh", "sigmoid"):
        pairs = [[scaled(nonlinearity, each, seed=seed) for each in (1.0, a)] for seed in range(seeds)]
        for i, name in enumerate(Scaled._fields):
            changes = [(ten[i] - one[i]).abs().max().item() for one, ten in pairs]
            found[f"{nonlinearity}, {name}"] = np.array(changes)
    return found


SATURATING = {"tanh": NETWORKS["tanh, 3 layers"], "sigmoid": NETWORKS["sigmoid, 3 layers"]}
SATURATING_RATES = (0.1, 1.0, 3.0)
LOOKED_AT = (0, 1, 2, 3, 5, 10, 15)
EDGE = 0.01  # of the range between a nonlinearity's two ends


@cached
def saturated(nonlinearity: str, rate: float, arm: str, seeds: int = SEEDS) -> np.ndarray:
    """The share of a saturating nonlinearity's outputs that lie at its ends, at some steps: (seeds, steps).

    Of all hidden layers together, on 300 training images; at :data:`LOOKED_AT`, as long as no loss is lost.

    >>> saturated("tanh", 0.1, "bn", seeds=2).shape
    (2, 7)
    """
    norm, placement = ARMS[arm]
    base = replace(SATURATING[nonlinearity], norm=norm, placement=placement, lr=rate, steps=max(LOOKED_AT))
    x = base.task().x_train[:300]

    def measure(update: Update) -> tuple[float]:
        return (_at_the_ends(update.net, x),)

    columns = [share for _, share in observe(base, seeds, LOOKED_AT, measure)]
    there = min(map(len, columns))
    return np.array([each[:there] for each in columns])


@torch.no_grad()
def _at_the_ends(net: nn.Sequential, x: Tensor) -> float:
    shares = []
    with preserve_state(net):
        for module in net:
            x = module(x)
            if isinstance(module, (nn.Sigmoid, nn.Tanh)):
                low = 0.0 if isinstance(module, nn.Sigmoid) else -1.0
                place = (x - low) / (1 - low)
                shares.append(((place < EDGE) | (place > 1 - EDGE)).float().mean().item())
    return float(np.mean(shares))


def saturated_more() -> dict[str, np.ndarray]:
    """How much larger that share is with BN after than before, at the largest rate after ten steps: (seeds,).

    >>> list(saturated_more())
    ['tanh', 'sigmoid']
    """
    at = LOOKED_AT.index(10)
    found = {}
    for name in SATURATING:
        after, before = (saturated(name, LARGE, arm)[:, at] for arm in (AFTER, BEFORE))
        found[name] = after - before
    return found


# --- what changes in the code -----------------------------------------------------------------------------------------


@torch.no_grad()
def folded_into_next(linear: nn.Linear, norm: BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Weights and bias of the layer that does in one what `norm` in evaluation, then `linear`, do: (K, C), (K,).

    >>> next_, norm = nn.Linear(3, 2), BatchNorm1d(3).eval()
    >>> folded_into_next(next_, norm)[0].shape
    torch.Size([2, 3])
    """
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return linear.weight * factor, linear.bias + linear.weight @ (norm.bias - factor * norm.running_mean)


def folding_errors(seeds: int = SEEDS) -> np.ndarray:
    """How far a folded network is from the one that it came from, BN after ReLU, in float64, at most: (seeds,).

    >>> bool(folding_errors(seeds=2).max() < 1e-12)
    True
    """
    found, x = [], BASE.task().x_train.double()
    for seed in range(seeds):
        net = mlp([64, 48, 10], "bn", "relu", "he", torch_rng(seed), placement="after").double()
        net(x[:60])
        linear, relu, norm, last = net.eval()
        folded = F.linear(relu(linear(x)), *folded_into_next(last, norm))
        found.append((folded - net(x)).abs().max().item())
    return np.array(found)


def exact_zeros(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The share of exact zeros in what the next layer gets, untrained, ReLU: (seeds,) by arm.

    >>> {arm: bool(each.mean() > 0.3) for arm, each in exact_zeros(seeds=2).items()}
    {'bn': True, 'bn, after': False}
    """
    x, found = BASE.task().x_train[:300], {}
    for arm in (BEFORE, AFTER):
        nets = [settings("ReLU, 3 layers", arm, 0.1).network(seed)[:3] for seed in range(seeds)]
        with torch.no_grad():
            found[arm] = np.array([(net(x) == 0).float().mean().item() for net in nets])
    return found
