"""The whole book put together: four benefits, and whether any quantity follows BN's gain from network to network."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata, spearmanr

from utils import training
from utils.experiments import intro, smoothness, two_meanings
from utils.experiments import what_batchnorm_buys as buys
from utils.experiments.smoothness import LineProbes, extent_ratios, probe_training
from utils.experiments.two_meanings import Network, Part, Quantity
from utils.intervals import Interval, rank_correlation

# --- four benefits ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One setting in which a benefit was measured."""

    setting: str
    values: np.ndarray  # (seeds,) infinite where only BN gets there, nan where only the plain network does
    arm: str = "bn"

    @property
    def finite(self) -> np.ndarray:
        """The values that are finite."""
        return self.values[np.isfinite(self.values)]


@cache
def stability() -> list[Row]:
    """How many times as large the largest usable learning rate is with BN, in the first page's networks.

    >>> [row.setting for row in stability()]
    ['ReLU, He, 5 layers', 'ReLU, He, 10 layers', 'ReLU, He, 20 layers']
    """
    return [Row(f"ReLU, He, {depth} layers", buys.usable_rate_ratio(depth)) for depth in intro.DEPTHS]


@cache
def speed() -> list[Row]:
    """How many times fewer steps BN takes to the same accuracy.

    >>> [row.setting for row in speed()]
    ['sigmoid', 'sigmoid, raw pixels', 'ReLU']
    """
    return [Row(setting, values) for setting, values in buys.step_ratios().items()]


@cache
def regularisation() -> list[Row]:
    """Test accuracy after training on few examples, in points above the plain network's: BN's and dropout's.

    >>> [row.setting for row in regularisation()][:2]
    ['BN, 100 examples', 'dropout, 100 examples']
    """
    return [
        Row(f"{ARM_NAMES[arm]}, {examples} examples", 100 * values, arm)
        for (examples, arm), values in buys.regularised().items()
    ]


@cache
def generalisation() -> list[Row]:
    """Test accuracy with all examples, in points above the plain network's, each arm at its own best rate.

    >>> len(generalisation())
    4
    """
    return [Row(setting, 100 * values) for setting, values in buys.generalised().items()]


ARM_NAMES = {"bn": "BN", "dropout": "dropout"}

# --- which quantity goes with the gain -------------------------------------------------------------------------------

SEEDS = min(training.SEEDS, 5)  # of each network whose gradient is followed
MOMENTS = 8  # at which the gradient is followed
LINEAR_LENGTHS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 20.0, 30.0)  # of the deep linear network, times the learning rate
NETWORKS: dict[str, Network] = two_meanings.NETWORKS | {
    "ReLU, He, 3 layers": Network(smoothness.NETWORKS[smoothness.GOOD]),
    "ReLU, Fashion-MNIST": Network(smoothness.NETWORKS["5 layers, Glorot"]),
}


class Companion(StrEnum):
    """What BN has less of, perhaps: five quantities of internal covariate shift, and three of the bands."""

    DRIFT = "drift of the mean"
    JUMP = "move from below"
    DISTANCE = "change of G"
    RELATIVE = "relative change of G"
    ANGLE = "angle of G"
    LOSS = "range of the loss"
    GRADIENT = "change of gradient"
    BETA = "effective beta"


SHIFTS = {
    Companion.DRIFT: Quantity.DRIFT,
    Companion.JUMP: Quantity.JUMP,
    Companion.DISTANCE: Quantity.DISTANCE,
    Companion.RELATIVE: Quantity.RELATIVE,
    Companion.ANGLE: Quantity.ANGLE,
}
BANDS = {
    Companion.LOSS: smoothness.Quantity.LOSS,
    Companion.GRADIENT: smoothness.Quantity.GRADIENT,
    Companion.BETA: smoothness.Quantity.BETA,
}


def probes(network: Network) -> dict[str, list[LineProbes]]:
    """Walk along the gradient in a network without and with BN: for each arm a course a seed.

    The deep linear network is probed over its paper's range, 1/100 to 30 learning rates (Santurkar et al. 2018, A.2.2).

    >>> small = Network(training.Settings(steps=8), seeds=2)
    >>> [course.losses.shape for course in probes(small)["bn"]]
    [(8, 8), (8, 8)]
    """
    lengths = LINEAR_LENGTHS if network.settings.data == "linear map" else smoothness.LENGTHS
    seeds, every = min(network.seeds, SEEDS), network.settings.steps // MOMENTS
    arms = two_meanings.arms_of(network)
    return {arm: probe_training(settings, seeds, every, lengths) for arm, settings in arms.items()}


def gain(network: Network, part: Part = Part.WHOLE) -> np.ndarray:
    """How many times as large the plain network's loss is: the geometric mean over the steps of a part, (seeds,).

    >>> gain(Network(training.Settings(steps=3), n_evals=3, seeds=2)).shape
    (2,)
    """
    plain, bn = two_meanings.loss_curves(network).values()
    start, end = (round(share * plain.shape[1]) for share in two_meanings.SPANS[part])
    return np.exp(np.log(plain / bn)[:, start:end].mean(1))


def reduction(network: Network, companion: Companion, part: Part = Part.WHOLE) -> np.ndarray:
    """How many times less BN has of a quantity, the median over a part of training: (seeds,).

    >>> reduction(Network(training.Settings(steps=8), n_evals=3, seeds=2), Companion.LOSS).shape
    (2,)
    """
    if companion in SHIFTS:
        return 1 / two_meanings.ratios(network, SHIFTS[companion], part)
    return extent_ratios(*probes(network).values(), BANDS[companion], two_meanings.SPANS[part])


@cache
def compared(companion: Companion, part: Part = Part.WHOLE) -> dict[str, np.ndarray]:
    """For every network, reduction and gain of every seed that was measured: (seeds, 2).

    >>> len(compared(Companion.DRIFT))
    8
    """
    found = {name: reduction(network, companion, part) for name, network in NETWORKS.items()}
    return {name: np.column_stack([less, gain(NETWORKS[name], part)[: len(less)]]) for name, less in found.items()}


class Agreement(NamedTuple):
    """Does the reduction of a quantity go with the gain, from network to network?"""

    less: int  # networks in which BN has less of it, in the median seed
    rank: Interval  # Spearman's correlation of reduction and gain, medians over seeds, over the networks
    without_one: tuple[float, float]  # its lowest and highest value where one network is left out


def agreement(companion: Companion, part: Part = Part.WHOLE) -> Agreement:
    """Rank the networks by reduction and by gain.

    >>> 0 <= agreement(Companion.DRIFT).less <= 8
    True
    """
    points = medians(companion, part)
    without = [spearmanr(*np.delete(points, i, 0).T).statistic for i in range(len(points))]
    return Agreement(int((points[:, 0] > 1).sum()), rank_correlation(*points.T), (min(without), max(without)))


def medians(companion: Companion, part: Part = Part.WHOLE) -> np.ndarray:
    """Reduction and gain of every network, the median over seeds: (networks, 2).

    >>> medians(Companion.DRIFT).shape
    (8, 2)
    """
    return np.array([np.median(values, 0) for values in compared(companion, part).values()])


def permutation_p_value(correlation: float, quantities: ArrayLike) -> float:
    """In what share of all orders of n things is the best of some rank correlations at least this high?

    `quantities` is (quantities, n), up to n = 8: each order is compared with the orders that these give, which may go
    together. With one quantity this is the one-sided permutation test; with several it allows for choosing the best.

    >>> permutation_p_value(1.0, [[1.0, 2.0, 3.0]]) * 6
    1.0
    >>> permutation_p_value(1.0, [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]) * 6
    2.0
    """
    ranks = rankdata(np.atleast_2d(quantities), axis=1) - 1
    n = ranks.shape[1]
    orders = np.array([*permutations(range(n))])
    apart = np.stack([((orders - own) ** 2).sum(1) for own in ranks]).min(0)
    return float((1 - 6 * apart / (n * (n**2 - 1)) >= correlation - 1e-9).mean())
