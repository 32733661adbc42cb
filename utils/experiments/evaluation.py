"""What the chapter "Training and evaluation" measures: running statistics, a validation loss, a diagnosis, folding."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.cache import cached
from utils.data import digits
from utils.experiments.test_time_statistics import adjusted, recalibrated, standardized_as_in_training
from utils.networks import LINEAR, preserve_state
from utils.observe import Layer, observe, trace
from utils.training import SEEDS, Settings, Update, one_thread, updates_together

WATCHED = Settings("bn", lr=1.0, steps=200)
EVERY = 5  # updates, after which all data are looked at
SETTLED = 20  # updates, before which running statistics are not judged
USUAL = Settings("bn", nonlinearity="relu", init="he", lr=0.1, steps=200, validation=True)
VALIDATED = {
    "3 layers, rate 0.1": USUAL,
    "3 layers, rate 1": replace(USUAL, lr=1.0),
    "10 layers, rate 1": replace(USUAL, lr=1.0, depth=10),
    "batches of 8": replace(USUAL, batch_size=8),
}
MOMENTA = (0.01, 0.1, 1.0)
ANEW = "anew"
TAKEN_ANEW = 600  # training images, as many as ten batches have
PATIENT = Settings("bn", lr=1.0, steps=100)
COMPANY = 30  # test images of one class that are sent in together
_DENSE = Settings("torch", nonlinearity="relu", init="he")
_CONVOLUTIONS = Settings("torch", data="fashion", depth=4, width=16, nonlinearity="relu")
FOLDED = {  # what is timed: a network, and how many images at a time
    "dense, 1 image": (_DENSE, 1),
    "dense, 60 images": (_DENSE, 60),
    "convolutions, 1 image": (_CONVOLUTIONS, 1),
    "convolutions, 60 images": (_CONVOLUTIONS, 60),
}


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


def running_statistic(watched: Watched, statistic: str, momentum: float | None, m: int = WATCHED.batch_size) -> Running:
    """Follow the "mean" or the "variance" (unbiased) with a momentum in PyTorch's sense, the weight of the new value.

    With None it is the plain average of all batches so far, as in PyTorch.

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
    for count, each in enumerate(batch, start=1):
        weight = 1 / count if momentum is None else momentum
        value = (1 - weight) * value + weight * each
        running.append(value)
    return Running(batch, np.array(running), watched.eval_steps, watched.mean if is_mean else watched.var)


def errors_against(momentum: float | None, other: float, layer: int, statistic: str = "mean") -> np.ndarray:
    """The error of a running statistic over that with another momentum, the mean over five units, (seeds,).

    >>> bool(errors_against(0.01, 0.1, layer=3).mean() > 1)
    True
    """
    rows = []
    for watched in watch_statistics(WATCHED):
        pair = [running_statistic(watched, statistic, each) for each in (momentum, other)]
        rows.append(np.divide(*(each.error(each.running)[layer - 1].mean() for each in pair)))
    return np.array(rows)


# --- a validation loss that jumps -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WithMomentum(Settings):
    """Settings whose BN layers keep their running statistics with another momentum."""

    bn_momentum: float = 0.1

    def network(self, seed: int) -> nn.Sequential:
        """Build the untrained network of this seed.

        >>> WithMomentum("bn", depth=1, bn_momentum=0.5).network(seed=0)[1].momentum
        0.5
        """
        net = super().network(seed)
        for norm in _norms(net):
            norm.momentum = self.bn_momentum
        return net


def with_momentum(settings: Settings, bn_momentum: float) -> WithMomentum:
    """The same settings with another momentum of BN.

    >>> with_momentum(Settings("bn", depth=7), 0.01).depth
    7
    """
    own = {each.name: getattr(settings, each.name) for each in fields(Settings)}
    return WithMomentum(**own, bn_momentum=bn_momentum)


def _norms(net: nn.Module) -> list[nn.Module]:
    return [layer for layer in net.modules() if getattr(layer, "running_mean", None) is not None]


class Looks(NamedTuple):
    """What a validation set says while networks train; by momentum, and with statistics taken anew at each look."""

    step: np.ndarray  # (looks,)
    loss: dict[float | str, np.ndarray]  # (seeds, looks) each
    accuracy: dict[float | str, np.ndarray]
    training: np.ndarray  # (seeds, steps) the loss of each mini-batch


@cached
@one_thread()
def validation_losses(settings: Settings, seeds: int = SEEDS, every: int = EVERY) -> Looks:
    """Train networks, and look at images set aside with each of :data:`MOMENTA` and with statistics taken anew.

    Running statistics change nothing about training, so one training serves all momenta: its layers keep the statistics
    of the last batch, and the averages of these are followed beside. "anew" are the statistics of 600 training images.

    >>> looks = validation_losses(replace(USUAL, steps=10), seeds=2)
    >>> looks.step.tolist(), list(looks.loss), looks.loss["anew"].shape, looks.training.shape
    ([5, 10], [0.01, 0.1, 1.0, 'anew'], (2, 2), (2, 10))
    """
    task = settings.task()
    images, labels = task.x_test.expand(seeds, -1, -1), task.y_test.expand(seeds, -1)
    taken = task.x_train[:TAKEN_ANEW].expand(seeds, -1, -1)
    averages, steps, losses, accuracies, training = {}, [], {}, {}, []
    for moment in updates_together(with_momentum(settings, 1.0), seeds):
        nets = moment.ensemble.nets
        batch = _statistics(nets)
        if not moment.step:
            averages = dict.fromkeys(MOMENTA, batch)
            continue
        training.append(moment.loss)
        for momentum, running in averages.items():
            averages[momentum] = [old.lerp(new, momentum) for old, new in zip(running, batch, strict=True)]
        if moment.step % every:
            continue
        steps.append(moment.step)
        with torch.no_grad():
            moment.ensemble.forward(taken)
        for arm, statistics in {**averages, ANEW: _statistics(nets)}.items():
            _put(nets, statistics)
            scores = moment.ensemble.evaluate(images)
            losses.setdefault(arm, []).append(settings.losses(scores, labels).numpy())
            accuracies.setdefault(arm, []).append((scores.argmax(-1) == labels).float().mean(1).numpy())
    columns = ({arm: np.array(rows).T for arm, rows in each.items()} for each in (losses, accuracies))
    return Looks(np.array(steps), *columns, np.array(training).T)


def _statistics(nets: Sequence[nn.Module]) -> list[Tensor]:
    """The running mean and variance of every BN layer, (networks, units) each."""
    layers = zip(*(_norms(net) for net in nets), strict=True)
    return [
        torch.stack([getattr(norm, name) for norm in row]) for row in layers for name in ("running_mean", "running_var")
    ]


@torch.no_grad()
def _put(nets: Sequence[nn.Module], statistics: Sequence[Tensor]) -> None:
    """Let the BN layers of some networks have these running statistics."""
    layers = [*zip(*(_norms(net) for net in nets), strict=True)]
    for row, mean, var in zip(layers, statistics[::2], statistics[1::2], strict=True):
        for norm, own_mean, own_var in zip(row, mean, var, strict=True):
            norm.running_mean.copy_(own_mean)
            norm.running_var.copy_(own_var)


def heights(looks: Looks, momentum: float) -> np.ndarray:
    """The validation loss over that with statistics taken anew, its geometric mean over the later looks, (seeds,).

    >>> heights(validation_losses(replace(USUAL, steps=30), seeds=2), 0.01).shape
    (2,)
    """
    late = looks.step >= SETTLED
    return np.exp(np.log(looks.loss[momentum][:, late] / looks.loss[ANEW][:, late]).mean(1))


def jumps(looks: Looks, arm: float | str) -> np.ndarray:
    """By how much the logarithm of a validation loss moves from look to look, the mean over the later ones, (seeds,).

    >>> jumps(validation_losses(replace(USUAL, steps=30), seeds=2), "anew").shape
    (2,)
    """
    late = looks.step >= SETTLED
    return np.abs(np.diff(np.log(looks.loss[arm][:, late]))).mean(1)


def heights_of(momentum: float) -> dict[str, np.ndarray]:
    """:func:`heights` in every network of :data:`VALIDATED`, (seeds,) each.

    >>> list(heights_of(0.1)) == list(VALIDATED)
    True
    """
    return {name: heights(validation_losses(settings), momentum) for name, settings in VALIDATED.items()}


def jumps_of(momentum: float) -> dict[str, np.ndarray]:
    """The jumps with a momentum over those with statistics taken anew, in every network of :data:`VALIDATED`.

    >>> list(jumps_of(0.1)) == list(VALIDATED)
    True
    """
    looks = {name: validation_losses(settings) for name, settings in VALIDATED.items()}
    return {name: jumps(each, momentum) / jumps(each, ANEW) for name, each in looks.items()}


def jumps_by_rate(arm: float | str = ANEW) -> np.ndarray:
    """The jumps at the rate 1 over those at 0.1, three layers, with statistics taken anew: (seeds,).

    >>> jumps_by_rate().shape == (SEEDS,)
    True
    """
    large, usual = (validation_losses(VALIDATED[f"3 layers, rate {rate}"]) for rate in ("1", "0.1"))
    return jumps(large, arm) / jumps(usual, arm)


# --- found out --------------------------------------------------------------------------------------------------------

PATIENTS = {  # what is wrong
    "A": "running statistics that are too young",
    "B": "another light in use",
    "C": "left in training mode in use",
    "D": "too few training images",
}
TESTS = (
    "in use, as it is",
    "in use, after eval()",
    "training images, train()",
    "training images, eval()",
    "the same, statistics anew",
    "in use, statistics anew",
)


@cached
@one_thread()
def examined(patient: str, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The accuracy of ten ill networks in each of :data:`TESTS`, (seeds,) each.

    A keeps its statistics with a momentum of 0.01; B meets brighter digits; C is asked in training mode, about images
    of one class at a time; D has learned from 100 images. "Anew" are statistics of the training images, in the last
    test of the images in use (without their labels). Raises ValueError for another patient.

    >>> list(examined("C", seeds=2))[0]
    'in use, as it is'
    """
    if patient not in PATIENTS:
        raise ValueError(f"patient: expected one of {list(PATIENTS)}, got {patient!r}")
    settings = with_momentum(PATIENT, 0.01) if patient == "A" else PATIENT
    settings = replace(settings, examples=100) if patient == "D" else settings
    for moment in updates_together(settings, seeds):
        nets = moment.ensemble.nets
    rows = [_examine(patient, net, settings, seed) for seed, net in enumerate(nets)]
    return dict(zip(TESTS, np.array(rows).T, strict=True))


@torch.no_grad()
def _examine(patient: str, net: nn.Sequential, settings: Settings, seed: int) -> list[float]:
    task = settings.task(seed)
    x, y, images, labels = task
    if patient == "B":
        images = standardized_as_in_training(adjusted(digits().x_test, brightness=0.25))

    def right(net: nn.Module, x: Tensor, y: Tensor, training: bool = False) -> float:
        with preserve_state(net, training=training):
            return (net(x).argmax(1) == y).float().mean().item()

    by_class = [right(net, images[labels == k][:COMPANY], labels[labels == k][:COMPANY], True) for k in range(10)]
    in_use, batches = right(net, images, labels), [*zip(x.split(60), y.split(60), strict=True)]
    return [
        np.mean(by_class) if patient == "C" else in_use,
        in_use,
        np.mean([right(net, *batch, True) for batch in batches if len(batch[0]) > 1]),
        right(net, x, y),
        right(recalibrated(net, x), x, y),
        right(recalibrated(net, images), images, labels),
    ]


# --- folding ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def fold(layer: nn.Linear | nn.Conv2d, norm: nn.Module) -> nn.Linear | nn.Conv2d:
    """One layer that does what a dense layer or a convolution and the BN behind it do in evaluation.

    Its weights are gamma / sqrt(running variance + eps) times the layer's, output by output (Ioffe & Szegedy 2015,
    section 3.1 and Algorithm 2; of a convolution each output channel).

    >>> layer, norm = nn.Linear(3, 2), nn.BatchNorm1d(2)
    >>> _ = norm(layer(torch.rand(5, 3)))
    >>> x = torch.rand(4, 3)
    >>> torch.allclose(fold(layer, norm)(x), norm.eval()(layer(x)), atol=1e-6)
    True
    """
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    folded = torch.nn.utils.skip_init(type(layer), **_arguments(layer), dtype=layer.weight.dtype)
    folded.weight.copy_(layer.weight * factor.view(-1, *[1] * (layer.weight.dim() - 1)))
    before = norm.running_mean if layer.bias is None else norm.running_mean - layer.bias
    folded.bias.copy_(norm.bias - factor * before)
    return folded


def _arguments(layer: nn.Linear | nn.Conv2d) -> dict:
    """What to build a layer of the same shape with, and with a bias."""
    if isinstance(layer, nn.Linear):
        return {"in_features": layer.in_features, "out_features": layer.out_features}
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return {name: getattr(layer, name) for name in names}


def folded(net: nn.Sequential) -> nn.Sequential:
    """A copy of a network for use, in which every BN layer is folded into the layer before it.

    >>> net = Settings("bn", depth=2).network(seed=0)
    >>> len(net), len(folded(net))
    (7, 5)
    """
    layers: list[nn.Module] = []
    for layer in net:
        if layers and isinstance(layers[-1], LINEAR) and getattr(layer, "running_mean", None) is not None:
            layers[-1] = fold(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval()


@one_thread()
@torch.no_grad()
def folding_errors(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How far a folded network's scores are from the network's in evaluation, at most, in float64: (seeds,) a kind.

    The networks have seen one batch, so that their statistics are not those of the start.

    >>> bool(max(each.max() for each in folding_errors(seeds=2).values()) < 1e-12)
    True
    """
    found: dict[str, list[float]] = {}
    for kind, name in (("dense", "dense, 60 images"), ("convolutions", "convolutions, 60 images")):
        settings, _ = FOLDED[name]
        images = settings.task().x_train[:60].double()
        for seed in range(seeds):
            net = settings.network(seed).double()
            net(images)
            net.eval()
            found.setdefault(kind, []).append((folded(net)(images) - net(images)).abs().max().item())
    return {kind: np.array(each) for kind, each in found.items()}


@cache
@one_thread()
@torch.no_grad()
def times_faster(name: str, repeats: int = SEEDS, calls: int = 20) -> np.ndarray:
    """How many times faster the folded network of :data:`FOLDED` is in evaluation, on this machine: (repeats,).

    Its layers are PyTorch's. The two are called in turn, on one thread, and a repeat is the median ratio of neighbours,
    in the processor's time: so what else the machine does counts little.

    >>> times_faster("dense, 1 image", repeats=2, calls=2).shape
    (2,)
    """
    settings, images = FOLDED[name]
    x = settings.task().x_test[:images]
    net = settings.network(seed=0).eval()
    pair = (net, folded(net))
    for each in pair:
        each(x)
    found = []
    for _ in range(repeats):
        whole, short = np.array([[_seconds(each, x) for each in pair] for _ in range(calls)]).T
        found.append(np.median(whole / short))
    return np.array(found)


def _seconds(net: nn.Module, x: Tensor) -> float:
    start = time.thread_time()
    net(x)
    return time.thread_time() - start
