"""Internal covariate shift, measured: what happens to a layer's values on the SAME images when weights are updated.

All looks of a run are at one fixed probe, the first 500 training images, so that no difference between two looks can
be a difference between two samples. A layer is looked at in two places: at Wu + b, and at what enters the
nonlinearity, which with BN is something else (Ioffe & Szegedy 2015, sections 2 and 4.1).
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.networks import LINEAR, looking
from utils.runs import kept
from utils.seeds import torch_rng
from utils.sweeps import sweep
from utils.training import Settings, one_thread, updates

PROBE = 500  # images
LEVELS = (15, 50, 85)  # the percentiles of Ioffe & Szegedy 2015, figure 1
EDGES = np.linspace(-10.0, 10.0, 81)  # of the histograms; what lies outside is counted in the first or the last bin
PLACES = ("Wu + b", "what enters the nonlinearity")
NONLINEARITY = (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.Identity)


class Hidden(NamedTuple):
    """The values of one hidden layer for a batch."""

    u: Tensor  # (N, inputs) what the layer before hands on
    before: Tensor  # (N, C) Wu + b
    entering: Tensor  # (N, C) what enters the nonlinearity: without a norm Wu + b again


@torch.no_grad()
def hidden_values(net: nn.Sequential, x: Tensor) -> list[Hidden]:
    """Return the values of every hidden layer for the batch `x`, with the network in training mode.

    A norm uses the statistics of this very batch. Running statistics stay as they are.

    >>> from utils.networks import mlp
    >>> layer, = hidden_values(mlp([4, 8, 3], norm="bn"), torch.rand(5, 4))
    >>> layer.before.shape, bool(layer.entering.mean(0).abs().max() < 1e-6)
    (torch.Size([5, 8]), True)
    """
    values, u, before = [], x, x
    with looking(net):
        for layer in net:
            if isinstance(layer, NONLINEARITY):
                values.append(Hidden(u, before, x))
            given = layer(x)
            if isinstance(layer, LINEAR):
                u, before = x, given
            x = given
    return values


@torch.no_grad()
def inherited(net: nn.Sequential, u_then: Sequence[Tensor], u_now: Sequence[Tensor]) -> np.ndarray:
    """How far each hidden layer's mean Wu + b has moved because of its input u alone: W (mean u now - mean u then).

    W are the weights of `net`. What is left of the whole move is the layer's own doing, since its W and b have changed
    as well. `u_then` and `u_now` hold each hidden layer's input (N, inputs); all hidden layers have the same width.
    Returns (layers, units).

    >>> from utils.networks import mlp
    >>> inherited(mlp([4, 2, 3]), [torch.ones(5, 4)], [torch.ones(5, 4)]).tolist()
    [[0.0, 0.0]]
    """
    linear = [layer for layer in net if isinstance(layer, LINEAR)]
    pairs = zip(linear, u_then, u_now, strict=False)  # the last linear layer gives the scores
    return np.stack([((now - was).mean(0) @ layer.weight.T).numpy() for layer, was, now in pairs])


class Drift(NamedTuple):
    """What was seen at each look at the probe. The axis `places` is that of :data:`PLACES`."""

    tested: np.ndarray  # (tests,) after how many updates
    test_accuracy: np.ndarray  # (tests,) in evaluation mode
    looked: np.ndarray  # (looks,) after how many updates
    mean: np.ndarray  # (places, looks, layers, units), over the probe
    std: np.ndarray  # the same, with 1/m
    percentiles: np.ndarray  # (places, looks, layers, levels, units)
    inherited: (
        np.ndarray
    )  # (2, looks, layers, units) part of mean - mean[0], by the weights of the first look, of this one
    jump: np.ndarray  # (looks, layers, units) what the last single update changed in that mean; at first 0


@kept
@one_thread()
def watch_drift(settings: Settings, seed: int, looks: int = 31, test_every: int = 5) -> Drift:
    """Train a network and look at each hidden layer on the fixed probe, `looks` times from before the first update.

    Where the loss diverges the looks end. Raises ValueError for fewer than two looks.

    >>> seen = watch_drift(Settings(steps=4), seed=0, looks=3)
    >>> seen.looked.tolist(), seen.mean.shape
    ([0, 2, 4], (2, 3, 3, 100))
    """
    if looks < 2:
        raise ValueError(f"looks: expected two or more, got {looks}")
    task, wanted = settings.task(), looks_at(settings.steps, looks)
    probe, seen, tests = task.x_train[:PROBE], [], []
    for update in updates(settings, seed):
        if not np.isfinite(update.loss):
            break
        if update.step % test_every == 0:
            tests.append((update.step, _accuracy(update.net, task.x_test, task.y_test)))
        if update.step in wanted or update.step + 1 in wanted:
            layers = hidden_values(update.net, probe)
            means = np.stack([layer.before.mean(0).numpy() for layer in layers])
            if not np.isfinite(means).all():  # the update overflowed; its loss comes with the next one
                break
        if update.step == 0:
            first, u_first, last = deepcopy(update.net), [layer.u for layer in layers], means
        if update.step in wanted:
            moved = [inherited(net, u_first, [layer.u for layer in layers]) for net in (first, update.net)]
            moved = np.stack(moved)
            seen.append((update.step, *summary(layers), moved, means - last))
        last = means
    looked, *by_place, moved, jump = (np.array(column) for column in zip(*seen, strict=True))
    tested, accuracy = (np.array(column) for column in zip(*tests, strict=True))
    return Drift(tested, accuracy, looked, *(column.swapaxes(0, 1) for column in (*by_place, moved)), jump)


def watch_all(arms: Sequence[Settings], seeds: int, looks: int = 31) -> list[list[Drift]]:
    """Watch every arm with seeds 0 to `seeds - 1`, one after another: a list of runs for each arm.

    >>> [len(runs) for runs in watch_all([Settings(steps=2), Settings("bn", steps=2)], seeds=3, looks=2)]
    [3, 3]
    """
    runs = sweep(watch_drift, [(arm, seed, looks) for arm in arms for seed in range(seeds)])
    return [runs[i : i + seeds] for i in range(0, len(runs), seeds)]


def looks_at(steps: int, looks: int) -> list[int]:
    """The updates after which to look: evenly spread, the first before training, the last at its end.

    >>> looks_at(600, 4)
    [0, 200, 400, 600]
    """
    return np.unique(np.linspace(0, steps, looks).round().astype(int)).tolist()


@torch.no_grad()
def _accuracy(net: nn.Sequential, x: Tensor, y: Tensor) -> float:
    with looking(net, training=False):
        return (net(x).argmax(1) == y).float().mean().item()


def summary(layers: Sequence[Hidden]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation (with 1/m) and percentiles of every unit, for both places of every layer.

    Shapes: (places, layers, units) twice, (places, layers, levels, units).

    >>> x = torch.tensor([[0.0], [2.0], [4.0]])
    >>> mean, std, percentiles = summary([Hidden(x, x, x / 2)])
    >>> mean.ravel().tolist(), percentiles[0, 0, 1].tolist()
    ([2.0, 1.0], [2.0])
    """
    values = np.sort(_by_place(layers), axis=-1)
    where = np.array(LEVELS) / 100 * (values.shape[-1] - 1)
    low, part = np.floor(where).astype(int), where % 1
    percentiles = (1 - part) * values[..., low] + part * values[..., np.minimum(low + 1, values.shape[-1] - 1)]
    return values.mean(-1, dtype=float), values.std(-1, dtype=float), percentiles.swapaxes(-1, -2)


def _by_place(layers: Sequence[Hidden]) -> np.ndarray:
    """The values of all layers: (places, layers, units, examples)."""
    places = [[layer.before for layer in layers], [layer.entering for layer in layers]]
    return np.stack([np.stack([values.T.numpy() for values in place]) for place in places])


@kept
@one_thread()
def watch_units(settings: Settings, seed: int, units: tuple[int, ...], looks: int = 31) -> np.ndarray:
    """Train as :func:`watch_drift` does and count the probe's images in the bins of :data:`EDGES`, by a unit's value.

    `units` names one unit of each hidden layer. Returns (places, looks, layers, bins).

    >>> watch_units(Settings(steps=4), 0, units=(7, 7, 7), looks=3).shape
    (2, 3, 3, 80)
    """
    probe, wanted = settings.task().x_train[:PROBE], looks_at(settings.steps, looks)
    seen = [
        _by_place(hidden_values(update.net, probe))[:, range(len(units)), units]
        for update in updates(settings, seed)
        if update.step in wanted and np.isfinite(update.loss)
    ]
    return _histograms(np.stack(seen, axis=1))


def _histograms(values: np.ndarray) -> np.ndarray:
    bins = len(EDGES) - 1
    which = ((values - EDGES[0]) * (bins / (EDGES[-1] - EDGES[0]))).clip(0, bins - 1).astype(int)
    rows = np.arange(which[..., 0].size).reshape(*which.shape[:-1], 1)
    counted = np.bincount((rows * bins + which).ravel(), minlength=rows.size * bins)
    return counted.reshape(*which.shape[:-1], bins).astype(np.uint16)


YARDSTICKS = ("as it is", "width at the start", "width now")


def drift(mean: np.ndarray, std: np.ndarray, yardstick: str = "width now") -> np.ndarray:
    """How far each unit's mean is from where it was at the first look: the drift since the start, (looks, ...).

    It is counted in one of three yardsticks: as it is, in the unit's own standard deviation over
    the probe at the first look ("width at the start"), or in the one at this look ("width now"). Raises ValueError for
    another.

    >>> drift(np.array([1.0, 3.0, -3.0]), np.array([2.0, 4.0, 8.0])).tolist()
    [0.0, 0.5, 0.5]
    """
    if yardstick not in YARDSTICKS:
        raise ValueError(f"yardstick: expected one of {YARDSTICKS}, got {yardstick!r}")
    far = np.abs(mean - mean[0])
    widths = {YARDSTICKS[0]: 1.0, YARDSTICKS[1]: std[0], YARDSTICKS[2]: std}
    return far / widths[yardstick]


def final_drift(runs: Sequence[Drift], yardstick: str = "width now", place: int = 0) -> np.ndarray:
    """The drift from the first look to the last, the mean over a layer's units: (seeds, layers).

    `place` is an index of :data:`PLACES`: 0 for Wu + b, 1 for what enters the nonlinearity.

    >>> final_drift([watch_drift(Settings(steps=4), seed=0, looks=3)]).shape
    (1, 3)
    """
    return np.array([drift(run.mean[place], run.std[place], yardstick)[-1].mean(-1) for run in runs])


def jumps(run: Drift, yardstick: str = "width now") -> np.ndarray:
    """How far the last single update before each look moved each unit's mean of Wu + b: (looks, layers, units).

    The yardsticks are those of :func:`drift`.

    >>> jumps(watch_drift(Settings(steps=4), seed=0, looks=3)).shape
    (3, 3, 100)
    """
    mean, std = run.mean[0], run.std[0]
    return drift(np.stack([mean[0], *mean[0] + run.jump]), np.stack([std[0], *std]), yardstick)[1:]


def wander(run: Drift) -> np.ndarray:
    """How much each unit's median at the nonlinearity's entrance varies over training: (layers, units).

    The median is over the probe, the standard deviation over the looks.

    >>> wander(watch_drift(Settings(steps=4), seed=0, looks=3)).shape
    (3, 100)
    """
    return run.percentiles[1, :, :, LEVELS.index(50)].std(0)


def typical(scores: np.ndarray, rank: float = 0.5) -> int:
    """The index of the unit whose score is the median one, or stands at another rank from 0 (least) to 1 (most).

    >>> typical(np.array([9.0, 1.0, 5.0])), typical(np.array([9.0, 1.0, 5.0]), rank=1.0)
    (2, 0)
    """
    order = np.argsort(scores, kind="stable")
    return int(order[round(rank * (len(order) - 1))])


def steps_to(looked: np.ndarray, accuracy: np.ndarray, goal: float) -> float:
    """After how many updates the accuracy was first seen to reach `goal`: infinitely many if it never was.

    >>> steps_to(np.array([0, 25, 50]), np.array([0.1, 0.9, 0.8]), goal=0.8)
    25.0
    """
    reached = np.flatnonzero(accuracy >= goal)
    return float(looked[reached[0]]) if len(reached) else np.inf


class TwoLooks(NamedTuple):
    """The mean of each unit's Wu + b, in standard deviations of that unit at the first look: differences."""

    between_batches: np.ndarray  # (batch sizes, pairs, units): two batches, one moment
    between_moments: np.ndarray  # (waits, batch sizes, pairs, units): one batch, two moments
    both: np.ndarray  # (waits, batch sizes, pairs, units): another batch at another moment


@kept
@one_thread()
def look_twice(
    settings: Settings, seed: int, start: int, waits: tuple[int, ...], batch_sizes: tuple[int, ...], pairs: int = 8
) -> TwoLooks:
    """Look at the last hidden layer after `start` updates and again `waits` updates later, on batches of each size.

    >>> seen = look_twice(Settings(steps=3), 0, start=1, waits=(0, 2), batch_sizes=(4, 8))
    >>> seen.both.shape, float(abs(seen.between_moments[0]).max())
    ((2, 2, 8, 100), 0.0)
    """
    images = settings.task().x_train
    chance = torch_rng(1_000 + seed)
    drawn = [torch.randint(len(images), (pairs, 2, size), generator=chance) for size in batch_sizes]
    seen = {}
    for update in updates(settings, seed):
        if update.step - start in (0, *waits):
            seen[update.step - start] = [_batch_means(update.net, images[batches]) for batches in drawn]
        if update.step == start:
            width = hidden_values(update.net, images)[-1].before.std(0, correction=0).numpy()
    ones, others = ([np.stack([size[:, i] for size in seen[wait]]) for wait in (0, *waits)] for i in (0, 1))
    return TwoLooks(
        (others[0] - ones[0]) / width,
        (np.stack(ones[1:]) - ones[0]) / width,
        (np.stack(others[1:]) - ones[0]) / width,
    )


def _batch_means(net: nn.Sequential, batches: Tensor) -> np.ndarray:
    """The means of the last hidden layer's Wu + b in each batch: (pairs, 2, N, inputs) -> (pairs, 2, units)."""
    means = [[hidden_values(net, batch)[-1].before.mean(0).numpy() for batch in pair] for pair in batches]
    return np.array(means)


def size(differences: np.ndarray) -> np.ndarray:
    """The root mean square over pairs and units, the last two axes.

    >>> size(np.array([[3.0, -3.0], [3.0, 3.0]])).item()
    3.0
    """
    return np.sqrt((differences**2).mean((-2, -1)))
