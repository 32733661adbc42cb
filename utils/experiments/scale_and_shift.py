"""What the chapter "Scale and shift" measures: the straight part of a sigmoid, gamma and beta, running statistics."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from utils.batchnorm import normalize, scale_and_shift
from utils.cache import cached
from utils.networks import preactivations
from utils.observe import Layer, observe, trace
from utils.training import SEEDS, Run, Settings, Update, train_all, train_seeds, trained, trained_seeds

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
WATCHED = Settings("bn", lr=1.0, steps=200)
EVERY = 5  # updates, after which all training data are looked at
SETTLED = 20  # updates, before which running statistics are not judged


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


# --- the identity, in training and folded -----------------------------------------------------------------------------


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


def folding_errors(seeds: int = SEEDS) -> np.ndarray:
    """How far a layer with BN folded into its weights is from the two layers in evaluation, at most, (seeds,).

    In float64, for the first layer of a network that has seen one batch (Ioffe & Szegedy 2015, Algorithm 2).

    >>> bool(folding_errors(seeds=2).max() < 1e-12)
    True
    """
    found, images = [], WATCHED.task().x_train.double()
    for seed in range(seeds):
        linear, norm, *_ = WATCHED.network(seed).double()
        norm(linear(images[:60]))
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        folded = F.linear(images, factor[:, None] * linear.weight, norm.bias - factor * norm.running_mean)
        found.append((folded - norm.eval()(linear(images))).abs().max().item())
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

    >>> outcomes(train_all({"bn": replace(WATCHED, steps=2)}, seeds=3))["bn"].loss.shape
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

    >>> loss_curves(train_seeds(replace(WATCHED, steps=2), seeds=3)).shape
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

    >>> mean_gammas(train_seeds(replace(WATCHED, steps=2), seeds=3)).shape
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


# --- running statistics -----------------------------------------------------------------------------------------------


class Watched(NamedTuple):
    """Means and biased variances of a layer's first units before updates; the axes are steps, layers, units."""

    batch_mean: np.ndarray  # in the mini-batch, before every update
    batch_var: np.ndarray
    eval_steps: np.ndarray  # (evals,) the updates before which all training data were looked at
    mean: np.ndarray  # in all training data, (evals, layers, units)
    var: np.ndarray


@cached
def watch_statistics(settings: Settings, seeds: int = SEEDS, units: int = 5, every: int = EVERY) -> list[Watched]:
    """Train normalised networks and watch what their layers normalise: for each seed, step by step.

    >>> (watched,) = watch_statistics(replace(WATCHED, steps=6), seeds=1)
    >>> watched.batch_mean.shape, watched.mean.shape, watched.eval_steps.tolist()
    ((6, 3, 5), (2, 3, 5), [0, 5])
    """

    def moments(layers: list[Layer]) -> tuple[np.ndarray, np.ndarray]:
        values = torch.stack([layer.preactivation[:, :units] for layer in layers])
        return values.mean(1).numpy(), values.var(1, correction=0).numpy()

    def measure(update: Update) -> tuple[np.ndarray, ...]:
        batch = moments(trace(update.net, update.batch[0])[0])
        if update.step % every:
            return *batch, *np.full_like(batch, np.nan)
        return *batch, *moments(trace(update.net, settings.task().x_train)[0])

    seen = observe(settings, seeds, range(settings.steps), measure)
    return [
        Watched(batch_mean, batch_var, step[::every], mean[::every], var[::every])
        for step, batch_mean, batch_var, mean, var in seen
    ]


class Running(NamedTuple):
    """A running statistic, the statistic of each mini-batch and that of all data; the axes are steps, layers, units."""

    batch: np.ndarray
    running: np.ndarray  # after each batch
    eval_steps: np.ndarray
    whole: np.ndarray  # (evals, layers, units)

    def error(self, values: np.ndarray) -> np.ndarray:
        """How far `values` (steps, ...) are from the whole data's, the mean over the later part: (layers, units)."""
        late = self.eval_steps >= SETTLED
        return np.abs(values[self.eval_steps[late]] - self.whole[late]).mean(0)


def running_statistic(watched: Watched, statistic: str, momentum: float, m: int = WATCHED.batch_size) -> Running:
    """Follow the "mean" or the "variance" (unbiased) with a momentum in PyTorch's sense, the weight of the new value.

    >>> (watched,) = watch_statistics(replace(WATCHED, steps=6), seeds=1)
    >>> now = running_statistic(watched, "mean", momentum=1.0)
    >>> bool((now.running == now.batch).all())
    True

    Raises ValueError for another statistic.
    """
    if statistic not in ("mean", "variance"):
        raise ValueError(f"statistic: expected 'mean' or 'variance', got {statistic!r}")
    is_mean = statistic == "mean"
    batch = watched.batch_mean if is_mean else watched.batch_var * m / (m - 1)
    running, value = [], np.full_like(batch[0], 0.0 if is_mean else 1.0)
    for each in batch:
        value = (1 - momentum) * value + momentum * each
        running.append(value)
    return Running(batch, np.array(running), watched.eval_steps, watched.mean if is_mean else watched.var)


def errors_against(momentum: float, other: float, layer: int, statistic: str = "mean") -> np.ndarray:
    """The error of a running statistic over that with another momentum, the mean over five units, (seeds,).

    >>> bool(errors_against(0.01, 0.1, layer=3).mean() > 1)
    True
    """
    rows = []
    for watched in watch_statistics(WATCHED):
        pair = [running_statistic(watched, statistic, each) for each in (momentum, other)]
        rows.append(np.divide(*(each.error(each.running)[layer - 1].mean() for each in pair)))
    return np.array(rows)
