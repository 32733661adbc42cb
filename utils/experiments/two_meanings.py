"""Internal covariate shift in its second meaning (Santurkar et al. 2018, Definition 2.1), beside the first.

Update the layers below a layer and nothing else. Then two questions can be asked about the layer above. Does it receive
other values? That is what Ioffe & Szegedy 2015 mean. Does its own gradient change, on the same mini-batch? That is
Definition 2.1. Both are asked here of the same updates of the same run.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from utils.cache import cached
from utils.experiments.internal_covariate_shift import PROBE, Yardstick, displacement
from utils.networks import LINEAR, preserve_state
from utils.norms import Noise
from utils.observe import unit_statistics
from utils.sweeps import by_arm
from utils.training import (
    SEEDS,
    Settings,
    by_norm,
    evenly_spaced,
    one_thread,
    updates,
    updates_together,
    with_gradients,
)

Loss = Callable[[Tensor, Tensor], Tensor]
RECENT = 5  # mini-batches whose mean loss says that a run has come down to a level


@dataclass(frozen=True)
class Network:
    """One network of the chapter: its settings without BN, and how it is measured."""

    settings: Settings
    levels: tuple[float, ...] = (2.0, 1.0, 0.5, 0.25)  # of the loss, where the two nets are compared
    n_evals: int = 5
    probe: int = PROBE  # training images that the values are taken on
    seeds: int = SEEDS
    examples: int = 1  # by whose number the loss is divided, where it is a sum


MLP = Settings(width=64, depth=3, nonlinearity="sigmoid", batch_size=60)
RELU = replace(MLP, nonlinearity="relu", lr=0.1, steps=300)
IMAGES = Settings(data="fashion", width=8, depth=6, nonlinearity="relu", batch_size=32, lr=0.1, steps=150)
DEEP_LINEAR = Settings(data="linear map", width=10, depth=24, nonlinearity="none", batch_size=0, lr=1e-7, steps=60)
NETWORKS = {
    "sigmoid, rate 0.1": Network(replace(MLP, lr=0.1, steps=300), levels=(2.0,)),
    "sigmoid, rate 0.3": Network(replace(MLP, lr=0.3, steps=800), n_evals=9),
    "ReLU, 5 layers": Network(replace(RELU, depth=5)),
    "ReLU, 10 layers": Network(replace(RELU, depth=10)),
    "convolutions": Network(IMAGES, levels=(2.2, 2.0), probe=50, seeds=min(SEEDS, 5)),
    "deep linear": Network(DEEP_LINEAR, levels=(), examples=1000),
}

RAW_PIXELS = Network(replace(RELU, depth=5, inputs="raw"))  # the third of these but for its inputs


def layers_of(net: nn.Sequential) -> list[nn.Sequential]:
    """Cut a network into its layers: each is Wu + b and all that follows, up to the next Wu + b.

    The modules are the network's own. A layer's norm, with its gamma and beta, belongs to it.

    >>> from utils.networks import mlp
    >>> [len(layer) for layer in layers_of(mlp([4, 8, 3], norm="bn"))]
    [3, 1]
    """
    starts = [i for i, module in enumerate(net) if isinstance(module, LINEAR)]
    return [net[i:j] for i, j in pairwise([*starts, len(net)])]


class GradientPair(NamedTuple):
    """The gradient of the loss with respect to one layer's W, before and after the layers below it are updated."""

    before: Tensor  # G
    after: Tensor  # G'

    @property
    def distance(self) -> float:
        """The distance ||G - G'||, in units of a gradient.

        >>> GradientPair(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])).distance
        5.0
        """
        return (self.before - self.after).norm().item()

    @property
    def relative(self) -> float:
        """The distance in lengths of G: ||G - G'|| / ||G||; 0 where nothing has changed.

        >>> GradientPair(torch.tensor([3.0, 0.0]), torch.tensor([6.0, 0.0])).relative
        1.0
        """
        return self.distance / self.before.norm().item() if self.distance else 0.0

    @property
    def cosine(self) -> float:
        """The cosine of the angle between G and G'; not a number where one of them is zero.

        >>> GradientPair(torch.tensor([3.0, 0.0]), torch.tensor([-6.0, 0.0])).cosine
        -1.0
        """
        lengths = self.before.norm() * self.after.norm()
        return ((self.before * self.after).sum() / lengths).item()


@with_gradients
def gradient_pairs(before: nn.Sequential, after: nn.Sequential, x: Tensor, y: Tensor, loss: Loss) -> list[GradientPair]:
    """Return G and G' of every layer for one update, from `before` to `after`, of one mini-batch (Definition 2.1).

    G is the gradient with respect to the layer's W with all layers as in `before`; for G' the layers *below* it, with
    their biases, gammas and betas, are as in `after`, and all others as in `before`. The batch `x`, `y` should be the
    one that the update was made with. The networks are in training mode; running statistics stay as they are. For the
    norms without noise, which would be drawn anew: ValueError for the others. The gradients come flat, in float64.

    >>> from utils.networks import mlp
    >>> before, after = mlp([4, 8, 3]), mlp([4, 8, 3])
    >>> pairs = gradient_pairs(before, after, torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]), nn.CrossEntropyLoss())
    >>> pairs[0].distance, pairs[1].distance > 0        # nothing lies below layer 1
    (0.0, True)
    """
    if any(isinstance(module, Noise) for module in before.modules()):
        raise ValueError("norm: expected one without noise, which would be another for G than for G'")
    old, new, pairs, u = layers_of(before), layers_of(after), [], x
    with preserve_state(before), preserve_state(after):
        weights = [layer[0].weight for layer in old]
        gradients = torch.autograd.grad(loss(before(x), y), weights)
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            scores = u  # what the layers below hand on after their update
            for layer in old[i:]:
                scores = layer(scores)
            (moved,) = torch.autograd.grad(loss(scores, y), [weight])
            pairs.append(GradientPair(gradient.double().flatten(), moved.double().flatten()))
            with torch.no_grad():
                u = new[i](u)
    return pairs


@torch.no_grad()
def preactivations_from_below(before: nn.Sequential, after: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Return every layer's Wu + b for the batch `x` when only the layers below it are as in `after`: (N, units, ...).

    The counterpart of :func:`gradient_pairs`: the same surgery, but what is looked at is the value and not the
    gradient. With `after` the same as `before` these are the network's own.

    >>> from utils.networks import mlp, preactivations
    >>> net, x = mlp([4, 8, 3], norm="bn"), torch.rand(5, 4)
    >>> torch.equal(preactivations_from_below(net, net, x)[1], preactivations(net, x)[1])
    True
    """
    values, u = [], x
    with preserve_state(before), preserve_state(after):
        for old, new in zip(layers_of(before), layers_of(after), strict=True):
            values.append(old[0](u))
            u = new(u)
    return values


def step_below(before: nn.Sequential, after: nn.Sequential) -> np.ndarray:
    """How far, for every layer, the parameters of all layers below it were moved by the update: (layers,).

    >>> from utils.networks import mlp
    >>> before, after = mlp([1, 1, 1]), mlp([1, 1, 1])
    >>> after.load_state_dict({**before.state_dict(), "0.bias": torch.tensor([3.0])})
    <All keys matched successfully>
    >>> step_below(before, after).tolist()
    [0.0, 3.0]
    """
    squares = [
        sum((q - p).double().pow(2).sum().item() for p, q in zip(old.parameters(), new.parameters(), strict=True))
        for old, new in zip(layers_of(before), layers_of(after), strict=True)
    ]
    return np.sqrt(np.cumsum([0.0, *squares[:-1]]))


def two_gradients(w: Tensor, v: Tensor, target: float, lr: float) -> tuple[GradientPair, Tensor]:
    """Definition 2.1 for a network that can be computed by hand: two linear layers, one input x = 1.

    The scores are f = v . (w x), the loss (f - target)^2 / 2. Returns G and G' of the upper layer, v, and what the
    update makes of the lower one, w.

    >>> pair, w_new = two_gradients(torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0]), target=3.0, lr=0.25)
    >>> w_new.tolist(), pair.before.tolist(), pair.after.tolist()
    ([2.5, 0.5], [-4.0, -2.0], [-2.5, -0.5])
    """
    error = v @ w - target
    w_new = w - lr * error * v
    return GradientPair(error * w, (v @ w_new - target) * w_new), w_new


class OneUpdate(NamedTuple):
    """A network before and after an update, and the mini-batch that it was made with."""

    before: nn.Sequential
    after: nn.Sequential
    x: Tensor
    y: Tensor


@one_thread()
def one_update(settings: Settings, seed: int, step: int) -> OneUpdate:
    """Train for `step` updates and take the next one apart. Raises ValueError if training ends before.

    >>> before, after, x, y = one_update(Settings(lr=0.1, steps=3), seed=0, step=2)
    >>> bool((before[0].weight == after[0].weight).all()), len(x)
    (False, 60)
    """
    for update in updates(settings, seed):
        if update.step == step:
            before, (x, y) = deepcopy(update.net), update.batch
        if update.step == step + 1:
            return OneUpdate(before, update.net, x, y)
    raise ValueError(f"step: expected fewer than the {update.step} updates of this run, got {step}")


# --- both meanings on a run -------------------------------------------------------------------------------------------


class ICSRecord(NamedTuple):
    """The two meanings, for the same updates of one run. An axis of `layers` has the last one, the scores, too.

    Displacements are of Wu + b on the probe, the mean over units; a unit's mean and its standard deviation (1/m) are
    over the probe. They are counted in the unit's standard deviation at that update, but for the absolute one.
    """

    eval_steps: np.ndarray  # (evals,) the number of updates made before the one that is measured
    level: np.ndarray  # (evals,) the loss that the run had just come down to; nan for an update of the schedule
    distance: np.ndarray  # (evals, layers) ||G - G'||
    relative: np.ndarray  # (evals, layers) the same over ||G||
    cosine: np.ndarray  # (evals, layers)
    gradient_norm: np.ndarray  # (evals, layers) ||G||
    step_below: np.ndarray  # (evals, layers) how far this update moved the parameters of all layers below
    drift: np.ndarray  # (evals, layers) of the means, since the start
    drift_absolute: np.ndarray  # (evals, layers) the same, in the units of Wu + b
    drift_of_std: np.ndarray  # (evals, layers) of the standard deviations, since the start
    jump: np.ndarray  # (evals, layers) of the means, by this one update of the layers below
    jump_of_std: np.ndarray  # (evals, layers) of the standard deviations, the same
    loss: np.ndarray  # (steps,) of each mini-batch, before its update

    @property
    def angle(self) -> np.ndarray:
        """What the cosine lacks to 1: (evals, layers)."""
        return 1 - self.cosine

    @property
    def distance_per_step(self) -> np.ndarray:
        """The distance over the step below: (evals, layers), nan for the first layer."""
        return self.distance / np.where(self.step_below > 0, self.step_below, np.nan)


class Quantity(StrEnum):
    """What can be asked of an :class:`ICSRecord`, by the name that it has there."""

    DISTANCE = "distance"
    RELATIVE = "relative"
    COSINE = "cosine"
    ANGLE = "angle"
    GRADIENT_NORM = "gradient_norm"
    STEP_BELOW = "step_below"
    DISTANCE_PER_STEP = "distance_per_step"
    DRIFT = "drift"
    DRIFT_ABSOLUTE = "drift_absolute"
    DRIFT_OF_STD = "drift_of_std"
    JUMP = "jump"
    JUMP_OF_STD = "jump_of_std"


@cached
@one_thread()
def measure_ics(
    settings: Settings, seeds: int, n_evals: int = 11, probe: int = 500, levels: tuple[float, ...] = ()
) -> list[ICSRecord]:
    """Train seeds 0 to `seeds - 1` side by side and measure both meanings for some updates: a record for each seed.

    These are `n_evals` updates, evenly spread from the first to the last; and for each of `levels` the first update at
    which the mean loss of the last five mini-batches is no longer above it. Gradients are taken on the mini-batch that
    the update is made with, values on the first `probe` training images. Training goes on as if nobody looked; where
    the loss diverges the record ends.

    >>> record, _ = measure_ics(Settings(steps=5), seeds=2, n_evals=3)
    >>> record.eval_steps.tolist(), record.distance.shape, float(abs(record.distance[:, 0]).max())
    ([0, 2, 4], (3, 4), 0.0)
    """
    x, scheduled = settings.task().x_train[:probe], evenly_spaced(settings.steps - 1, n_evals)
    rows, losses, at_start, pending = ([[] for _ in range(seeds)] for _ in range(4))
    ahead = [sorted(levels, reverse=True) for _ in range(seeds)]  # levels that a run has not come down to
    for moment in updates_together(settings, seeds):
        for i in np.flatnonzero(np.isfinite(moment.loss)):
            net = moment.ensemble.nets[i]
            if moment.step == 0:
                at_start[i] = _statistics(net, net, x)
            else:
                losses[i].append(moment.loss[i])
            if pending[i]:
                due, before, batch = pending[i]
                measured = _measured(settings, before, net, *batch, x, at_start[i])
                rows[i] += [(moment.step - 1, level, *measured) for level in due]
            due = [np.nan] if moment.step in scheduled else []
            while ahead[i] and len(losses[i]) >= RECENT and np.mean(losses[i][-RECENT:]) <= ahead[i][0]:
                due.append(ahead[i].pop(0))
            pending[i] = (due, deepcopy(net), moment.of(i).batch) if due and moment.step < settings.steps else ()
    return [
        ICSRecord(*map(np.array, zip(*seen, strict=True)), np.array(loss))
        for seen, loss in zip(rows, losses, strict=True)
    ]


Statistics = tuple[np.ndarray, np.ndarray]  # mean and standard deviation of every unit of a layer: (units,) each


def _statistics(before: nn.Sequential, after: nn.Sequential, x: Tensor) -> list[Statistics]:
    """Of every layer's Wu + b when the layers below it are as in `after`."""
    return [unit_statistics(values) for values in preactivations_from_below(before, after, x)]


def _measured(
    settings: Settings,
    before: nn.Sequential,
    after: nn.Sequential,
    x: Tensor,
    y: Tensor,
    probe: Tensor,
    at_start: list[Statistics],
) -> tuple[np.ndarray, ...]:
    """The columns of an :class:`ICSRecord` for one update, from `distance` to `jump_of_std`: (layers,) each."""
    pairs = gradient_pairs(before, after, x, y, settings.loss)
    gradients = [(pair.distance, pair.relative, pair.cosine, pair.before.norm().item()) for pair in pairs]
    now, moved = _statistics(before, before, probe), _statistics(before, after, probe)
    values = []
    for (mean_0, std_0), (mean, std), (mean_1, std_1) in zip(at_start, now, moved, strict=True):
        changes = (mean - mean_0, std - std_0, mean_1 - mean, std_1 - std)
        drift, drift_of_std, *jumps = (displacement(change, std_0, std) for change in changes)
        absolute = displacement(mean - mean_0, std_0, std, Yardstick.ABSOLUTE)
        values.append([each.mean() for each in (drift, absolute, drift_of_std, *jumps)])
    return (*np.transpose(gradients), step_below(before, after), *np.transpose(values))


def arms_of(network: Network) -> dict[str, Settings]:
    """The settings of a network without BN and with it, at the same learning rate.

    >>> list(arms_of(NETWORKS["deep linear"]))
    ['plain', 'bn']
    """
    return by_norm(network.settings)


@cache
def records(network: Network) -> dict[str, list[ICSRecord]]:
    """Measure a network without BN and with it: a record for each arm and seed.

    >>> small = Network(Settings(steps=5), n_evals=3, seeds=2)
    >>> {arm: len(each) for arm, each in records(small).items()}
    {'plain': 2, 'bn': 2}
    """
    rest = (network.seeds, network.n_evals, network.probe, network.levels)
    return by_arm(measure_ics, arms_of(network), *rest)


# --- what is made of it: for layers 2 and up, since nothing lies below the first --------------------------------------


class Part(StrEnum):
    """A part of the training."""

    WHOLE = "whole run"
    FIRST = "first update"
    EARLY = "first third"
    LATE = "last third"


SPANS = {Part.WHOLE: (0.0, 1.0), Part.FIRST: (0.0, 0.0), Part.EARLY: (0.0, 1 / 3), Part.LATE: (2 / 3, 1.0)}


def measured(record: ICSRecord, quantity: Quantity, part: Part = Part.WHOLE) -> np.ndarray:
    """A quantity for every update of the schedule in this part, and every layer but the first: (evals, layers - 1).

    >>> record, _ = measure_ics(Settings(steps=5), seeds=2, n_evals=3)
    >>> measured(record, Quantity.DRIFT).shape, measured(record, Quantity.ANGLE, Part.FIRST).shape
    ((3, 3), (1, 3))
    """
    steps, (low, high) = record.eval_steps / (len(record.loss) - 1), SPANS[part]
    return getattr(record, quantity)[np.isnan(record.level) & (low <= steps) & (steps <= high), 1:]


def over_layers(values: np.ndarray, quantity: Quantity) -> np.ndarray:
    """The geometric mean over layers, the last axis; for a cosine the plain mean.

    >>> over_layers(np.array([[1.0, 100.0]]), Quantity.DISTANCE)
    array([10.])
    """
    return values.mean(-1) if quantity is Quantity.COSINE else np.exp(np.log(values).mean(-1))


def ratio(plain: ICSRecord, bn: ICSRecord, quantity: Quantity, part: Part = Part.WHOLE) -> float:
    """How many times larger BN's is, at equal steps: the median over updates and over all layers but the first.

    >>> plain, bn = (measure_ics(Settings(norm, steps=5), seeds=1, n_evals=3)[0] for norm in ("plain", "bn"))
    >>> ratio(plain, bn, Quantity.DISTANCE) > 1, ratio(plain, plain, Quantity.JUMP)
    (True, 1.0)
    """
    theirs, ours = measured(plain, quantity, part), measured(bn, quantity, part)
    some = theirs > 0  # there is no drift at the first update
    return float(np.median(ours[some] / theirs[some])) if some.any() else np.nan


def ratios(network: Network, quantity: Quantity, part: Part = Part.WHOLE) -> np.ndarray:
    """BN's over plain's at equal steps, as in :func:`ratio`: (seeds,).

    >>> small = Network(Settings(steps=5), n_evals=3, seeds=2)
    >>> ratios(small, Quantity.DISTANCE).shape
    (2,)
    """
    pairs = zip(*records(network).values(), strict=True)
    return np.array([ratio(plain, bn, quantity, part) for plain, bn in pairs])


def history(network: Network, quantity: Quantity) -> dict[str, np.ndarray]:
    """A quantity for every update of the schedule and every layer but the first: (seeds, evals, layers - 1) an arm.

    >>> small = Network(Settings(steps=5), n_evals=3, seeds=2)
    >>> history(small, Quantity.COSINE)["bn"].shape
    (2, 3, 3)
    """
    return {arm: np.array([measured(record, quantity) for record in seen]) for arm, seen in records(network).items()}


def at_levels(network: Network, quantity: Quantity) -> dict[str, np.ndarray]:
    """A quantity, over layers, where each run had come down to each level of the loss: (seeds, levels) an arm.

    It is nan where a run never did.

    >>> small = Network(Settings(steps=10), levels=(9.0, 0.0), n_evals=3, seeds=2)
    >>> np.isnan(at_levels(small, Quantity.DISTANCE)["bn"]).tolist()
    [[False, True], [False, True]]
    """

    def one(record: ICSRecord) -> list[float]:
        values = over_layers(getattr(record, quantity)[:, 1:], quantity)
        found = dict(zip(record.level, values, strict=True))
        return [found.get(level, np.nan) for level in network.levels]

    return {arm: np.array([one(record) for record in seen]) for arm, seen in records(network).items()}


def equal_loss_ratios(network: Network, quantity: Quantity, levels: Sequence[float]) -> np.ndarray:
    """BN's over plain's at equal loss: the geometric mean over those of `levels` that both came down to, (seeds,).

    Seeds that have no such level are left out.

    >>> small = Network(Settings(steps=10), levels=(9.0, 0.0), n_evals=3, seeds=2)
    >>> equal_loss_ratios(small, Quantity.DISTANCE, levels=[9.0]).shape
    (2,)
    """
    values = at_levels(network, quantity)
    logs = np.log(values["bn"] / values["plain"])[:, [network.levels.index(level) for level in levels]]
    return np.exp([np.nanmean(row) for row in logs if np.isfinite(row).any()])


def loss_curves(network: Network) -> dict[str, np.ndarray]:
    """The loss of every mini-batch, for each arm: (seeds, steps); of the linear map, per example.

    >>> small = Network(Settings(steps=5), n_evals=3, seeds=2)
    >>> loss_curves(small)["bn"].shape
    (2, 5)
    """
    return {
        arm: np.array([record.loss for record in seen]) / network.examples for arm, seen in records(network).items()
    }


def final_losses(network: Network) -> dict[str, np.ndarray]:
    """The loss of each seed, the mean over the last 20 updates: (seeds,) an arm.

    >>> small = Network(Settings(steps=5), n_evals=3, seeds=2)
    >>> final_losses(small)["plain"].shape
    (2,)
    """
    return {arm: curves[:, -20:].mean(1) for arm, curves in loss_curves(network).items()}


class Agreement(NamedTuple):
    """How far two quantities agree about pairs of runs, plain and BN."""

    pairs: int
    less_first: int  # in how many BN has less of the first
    less_second: int
    agree: int  # in how many BN has less of both, or more of both
    rank: float  # Spearman's correlation of the two ratios, BN over plain


def agreement(
    first: Quantity, second: Quantity, part: Part = Part.WHOLE, networks: Sequence[Network] = tuple(NETWORKS.values())
) -> Agreement:
    """Compare two quantities over all networks and seeds.

    >>> small = Network(Settings(steps=5), n_evals=3, seeds=2)
    >>> agreement(Quantity.STEP_BELOW, Quantity.STEP_BELOW, networks=[small]).agree
    2
    """
    a, b = (np.concatenate([ratios(network, each, part) for network in networks]) for each in (first, second))
    less = a < 1, b < 1
    return Agreement(len(a), *(int(each.sum()) for each in (*less, less[0] == less[1])), float(spearmanr(a, b)[0]))


# --- algebra ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def doubled(net: nn.Sequential) -> nn.Sequential:
    """A copy that computes the same with twice as long weights before each BN; eps, added to the variance, times 4.

    >>> from utils.networks import mlp
    >>> net, x = mlp([4, 8, 3], norm="bn"), torch.rand(5, 4)
    >>> torch.allclose(doubled(net)(x), net(x), atol=1e-5)
    True
    """
    net = deepcopy(net)
    for layer in layers_of(net)[:-1]:
        layer[0].weight *= 2
        layer[1].eps *= 4
    return net


FIVE_LAYERS = Settings("bn", depth=5, width=64, nonlinearity="relu", lr=0.1)  # whose 101st update is taken apart


@cached
def errors_of_rescaling(seeds: int = 2, step: int = 100, settings: Settings = FIVE_LAYERS) -> dict[str, np.ndarray]:
    """How far doubled weights are from halving the distance and keeping the cosine, the largest of layers: (seeds,).

    >>> {what: bool((errors < 1e-2).all()) for what, errors in errors_of_rescaling(seeds=1, step=1).items()}
    {'distance': True, 'cosine': True}
    """
    errors = {"distance": [], "cosine": []}
    for seed in range(seeds):
        before, after, *batch = one_update(settings, seed, step)
        pairs = gradient_pairs(before, after, *batch, settings.loss)[1:-1]
        twice = gradient_pairs(doubled(before), doubled(after), *batch, settings.loss)[1:-1]
        both = list(zip(pairs, twice, strict=True))
        errors["distance"].append(max(abs(new.distance / old.distance - 0.5) for old, new in both))
        errors["cosine"].append(max(abs(new.cosine - old.cosine) for old, new in both))
    return {what: np.array(each) for what, each in errors.items()}
