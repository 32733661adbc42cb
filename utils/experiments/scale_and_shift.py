"""What the chapter "Scale and shift" measures: the straight part of a sigmoid, and gamma and beta."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from utils.batchnorm import normalize, scale_and_shift
from utils.networks import preactivations
from utils.training import SEEDS, Run, Settings, train_all, train_seeds, trained, trained_seeds

PLAIN = Settings(lr=1.0, steps=400)  # three layers of sigmoids, whose values are normalised afterwards
STEPS = 300
NETWORKS = {
    "sigmoid, 3 layers": Settings(steps=STEPS),
    "sigmoid, 1 layer": Settings(steps=STEPS, depth=1),
    "ReLU, 3 layers": Settings(steps=STEPS, nonlinearity="relu", init="he"),
}
ARMS = ("plain", "bn", "bn, no scale and shift")
RATES = (0.3, 1.0, 3.0)
CHOOSING = {"validation": True, "steps": 150, "n_evals": 16}
SEEDS_TO_CHOOSE = 3
LEARNED = {name: replace(NETWORKS[f"{name}, 3 layers"], norm="bn", lr=1.0) for name in ("sigmoid", "ReLU")}
LAST = 50  # batches, over which a training loss is averaged


# --- the straight part ------------------------------------------------------------------------------------------------


@cache
def normalized_values(layer: int = 2) -> np.ndarray:
    """Every unit of one hidden layer of the plain network of seed 0, normalised over the training images.

    >>> normalized_values().shape
    (143700,)
    """
    return _normalized(preactivations(trained(PLAIN), PLAIN.task().x_train)[layer - 1])


def _normalized(values: Tensor) -> np.ndarray:
    return normalize(values.double(), eps=0).flatten().numpy()


class Line(NamedTuple):
    """The straight line nearest to a sigmoid's outputs, and how good it is."""

    out: np.ndarray  # the sigmoid's outputs
    slope: float
    intercept: float
    explained: float  # the share of the outputs' variance


def straight_line(z: np.ndarray) -> Line:
    """Fit a straight line to the sigmoid's outputs for the inputs `z`, by least squares.

    >>> round(float(straight_line(np.linspace(-0.1, 0.1, 5)).explained), 4)
    1.0
    """
    out = expit(z)
    slope, intercept = np.polyfit(z, out, 1)
    return Line(out, slope, intercept, 1 - np.var(out - slope * z - intercept) / np.var(out))


def shares_not_straight(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The share of a sigmoid's variance that no straight line explains on normalised inputs, (seeds,) a layer.

    >>> {layer: len(each) for layer, each in shares_not_straight(seeds=2).items()}
    {'layer 1': 2, 'layer 2': 2, 'layer 3': 2}
    """
    nets, images = trained_seeds(PLAIN, seeds), PLAIN.task().x_train
    rows = [[1 - straight_line(_normalized(y)).explained for y in preactivations(net, images)[:-1]] for net in nets]
    return {f"layer {i + 1}": each for i, each in enumerate(np.array(rows).T)}


# --- the identity -----------------------------------------------------------------------------------------------------


def identity_errors(seeds: int = SEEDS, eps: float = 1e-5) -> np.ndarray:
    """With gamma = sqrt(var + eps) and beta = mean, how far what comes back is from what went in, at most: (seeds,).

    >>> bool(identity_errors(seeds=2).max() < 1e-12)
    True
    """
    found, images = [], PLAIN.task().x_train
    for seed in range(seeds):
        x = preactivations(PLAIN.network(seed), images)[1].double()
        gamma, beta = torch.sqrt(x.var(0, correction=0) + eps), x.mean(0)
        found.append((scale_and_shift(normalize(x, eps), gamma, beta) - x).abs().max().item())
    return np.array(found)


# --- with and without gamma and beta ----------------------------------------------------------------------------------


@cache
def chosen_rates(network: str, seeds: int = SEEDS_TO_CHOOSE) -> dict[str, float]:
    """The learning rate of each arm with the lowest loss on images set aside, of :data:`RATES`, the same for all.

    >>> list(chosen_rates("sigmoid, 1 layer", seeds=2)) == list(ARMS)
    True
    """
    base = replace(NETWORKS[network], **CHOOSING)
    runs = train_all({(arm, lr): replace(base, norm=arm, lr=lr) for arm in ARMS for lr in RATES}, seeds)
    losses = {key: np.mean([_late_test_loss(run) for run in each]) for key, each in runs.items()}
    return {arm: min(RATES, key=lambda lr: losses[arm, lr]) for arm in ARMS}


def _late_test_loss(run: Run) -> float:
    return run.test_loss[-4:].mean() if run.diverged_at is None else np.inf


@cache
def compared(network: str) -> dict[str, list[Run]]:
    """Train the arms of one network, each at its own rate, on all training data: a run for each seed.

    >>> sorted(compared("sigmoid, 1 layer"))
    ['bn', 'bn, no scale and shift', 'plain']
    """
    rates = chosen_rates(network)
    return train_all({arm: replace(NETWORKS[network], norm=arm, lr=rates[arm]) for arm in ARMS})


class Outcome(NamedTuple):
    """What an arm's runs come to, (seeds,) each."""

    loss: np.ndarray  # of training, the mean over the last 50 batches
    accuracy: np.ndarray  # on unseen images, the mean of the last evaluations


def outcomes(runs: Mapping[str, list[Run]]) -> dict[str, Outcome]:
    """The final training loss and test accuracy of every arm.

    >>> outcomes(train_all({"bn": replace(LEARNED["ReLU"], steps=2)}, seeds=3))["bn"].loss.shape
    (3,)
    """
    return {
        arm: Outcome(
            np.array([run.final_loss(LAST) for run in each]),
            np.array([run.test_accuracy[-4:].mean() for run in each]),
        )
        for arm, each in runs.items()
    }


def loss_curves(runs: list[Run]) -> np.ndarray:
    """The loss of every mini-batch, (seeds, steps); where a run diverged, infinity to its end.

    >>> loss_curves(train_seeds(replace(LEARNED["ReLU"], steps=2), seeds=3)).shape
    (3, 2)
    """
    steps = max(len(run.loss) for run in runs)
    curves = np.full((len(runs), steps), np.inf)
    for curve, run in zip(curves, runs, strict=True):
        end = len(run.loss) if run.diverged_at is None else run.diverged_at - 1
        curve[:end] = run.loss[:end]
    return curves


class Price(NamedTuple):
    """What a network pays for having no gamma and beta, paired by seed: (seeds,) each."""

    loss_ratio: np.ndarray  # its training loss over that with them
    points_lost: np.ndarray  # of test accuracy, in percentage points


def prices() -> dict[str, Price]:
    """The price in every network of :data:`NETWORKS`.

    >>> list(prices()) == list(NETWORKS)
    True
    """
    found = {}
    for network in NETWORKS:
        of = outcomes(compared(network))
        bn, without = of["bn"], of["bn, no scale and shift"]
        found[network] = Price(without.loss / bn.loss, 100 * (bn.accuracy - without.accuracy))
    return found


def points_ahead(network: str, arm: str) -> np.ndarray:
    """The test accuracy of an arm less that of the plain network, in percentage points, (seeds,).

    >>> bool(points_ahead("sigmoid, 3 layers", "bn").mean() > 0)
    True
    """
    of = outcomes(compared(network))
    return 100 * (of[arm].accuracy - of["plain"].accuracy)


@cache
def learned(nonlinearity: str) -> list[Run]:
    """Train the BN network of one of the :data:`LEARNED` nonlinearities: a run for each seed.

    >>> learned("ReLU")[0].gamma[0].shape[1]
    100
    """
    return train_seeds(LEARNED[nonlinearity])


def mean_gammas(runs: list[Run]) -> np.ndarray:
    """The mean gamma of every hidden layer after training, (seeds, layers).

    >>> mean_gammas(train_seeds(replace(LEARNED["ReLU"], steps=2), seeds=3)).shape
    (3, 3)
    """
    return np.array([[gamma[-1].mean() for gamma in run.gamma] for run in runs])


def last_gamma_over_others() -> np.ndarray:
    """The mean gamma of the sigmoid network's last layer over the largest of all the other layers, (seeds,).

    >>> bool(last_gamma_over_others().mean() > 1)
    True
    """
    sigmoid, relu = (mean_gammas(learned(name)) for name in ("sigmoid", "ReLU"))
    return sigmoid[:, -1] / np.concatenate([sigmoid[:, :-1], relu], 1).max(1)
