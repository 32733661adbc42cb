"""What the page "The failure lab" measures: how batch normalisation fails in use, and what mends it.

What happens on two devices is measured in :mod:`utils.experiments.two_processes`.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from utils.batchnorm import BatchNorm1d, batch_statistics
from utils.cache import cached
from utils.data import digits
from utils.ensemble import Ensemble
from utils.experiments import two_processes
from utils.experiments.test_time_statistics import NETWORKS, adjusted, recalibrated, standardized_as_in_training
from utils.networks import LINEAR, Dropout, preactivations
from utils.observe import accuracy, observe
from utils.seeds import torch_rng
from utils.training import (
    SEEDS,
    Optimizer,
    Run,
    Settings,
    Update,
    one_thread,
    train_all,
    trained_seeds,
    with_gradients,
)

NETWORK = NETWORKS["bn"]  # three layers of 100 ReLU units, 400 steps at the rate 0.1

LIGHTS = {  # of the new images: brightness and contrast
    "as before": (0.0, 1.0),
    "brighter": (0.25, 1.0),
    "half the contrast": (0.0, 0.5),
}
MODES = ("train()", "eval()")  # of the norms while the new head learns
LOOKS = tuple(range(0, 61, 5))  # updates of the new head, after which is looked

ACCUMULATING = replace(NETWORK, batch_size=64, steps=60, n_evals=7)
NORMS = ("plain", "bn", "layer")
MICRO_BATCHES = (64, 16, 4, 2)  # of a batch of 64

ORDERS = ("before the norm", "after the ReLU", "after the last ReLU only")
DROPPED = 0.5  # the share of the units
DROPPING = replace(NETWORK, steps=200, n_evals=2)

DECAYS = (0.0, 0.01, 0.03)
DECAYING = replace(NETWORK, lr=0.3, steps=300, n_evals=2)
LAST = 50  # batches, over which a training loss is averaged

PADDING = (0.0, 0.25, 0.5, 0.75, 0.9)  # the share of places that hold no example
EXAMPLES = 180  # whose number of padded places is whole for each share
UNITS = ("a mean near 0", "a mean far from 0")

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
METHODS = ("mean of squares − squared mean", "two passes", "this book's layer", "PyTorch's layer")
MEANS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # in widths
WIDTHS = (1.0, 100.0, 300.0)

PREDICTING = Settings(depth=2, nonlinearity="relu", init="he", steps=300)  # how much ink a digit has
PREDICTORS = ("plain", "bn", "bn on the output, too")
PREDICTING_RATES = (0.01, 0.02, 0.05)
BATCH_SIZES = (8, 64)
SEEDS_TO_CHOOSE = 3


# --- freezing ---------------------------------------------------------------------------------------------------------


class FineTuned(NamedTuple):
    """A frozen network while a new head learns new images, after the updates LOOKS: (seeds, looks) each."""

    moved: np.ndarray  # the running means of the first layer, in widths, the mean over its units
    old: np.ndarray  # accuracy of the network with its own head on the test digits that it was trained for
    new: np.ndarray  # accuracy of the new head on the new test images


@cached
@one_thread()
@with_gradients
def fine_tuned(mode: str = "train()", light: str = "brighter", seeds: int = SEEDS) -> FineTuned:
    """Freeze all of a trained BN network with `requires_grad=False`, and train a copy of its head on new images.

    The norms are in one of MODES meanwhile; the new images are the digits in one of LIGHTS. Raises ValueError for
    another mode.

    >>> frozen = fine_tuned("eval()", "brighter", seeds=2)
    >>> frozen.moved.shape, frozen.moved.max()
    ((2, 13), np.float64(0.0))
    """
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {MODES}, got {mode!r}")
    train, y_train, test, y_test = digits()
    old = standardized_as_in_training(test)
    new, new_test = (standardized_as_in_training(adjusted(images, *LIGHTS[light])) for images in (train, test))
    rows = []
    for seed, net in enumerate(trained_seeds(NETWORK, seeds)):
        net.requires_grad_(False)
        body, own_head, head = net[:-1], net[-1], deepcopy(net[-1]).requires_grad_()
        first, rng, row = body[1], torch_rng(seed), []
        mean, width = first.running_mean.clone(), first.running_var.sqrt()
        for step in range(LOOKS[-1] + 1):
            if step in LOOKS:
                moved = ((first.running_mean - mean).abs() / width).mean().item()
                heads = ((own_head, old), (head, new_test))
                row.append((moved, *(accuracy(nn.Sequential(*body, each), x, y_test) for each, x in heads)))
            net.train()
            if mode == "eval()":
                _freeze(net)
            batch = torch.randint(len(new), (NETWORK.batch_size,), generator=rng)
            _descend(head, F.cross_entropy(head(body(new[batch])), y_train[batch]), NETWORK.lr)
        rows.append(row)
    return FineTuned(*np.array(rows).transpose(2, 0, 1))


def _freeze(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def _descend(module: nn.Module, loss: Tensor, lr: float) -> None:
    parameters = list(module.parameters())
    with torch.no_grad():
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.sub_(gradient, alpha=lr)


def lost_by_freezing(mode: str, light: str, seeds: int = SEEDS) -> np.ndarray:
    """What the frozen network has lost on its old images, in percentage points: (seeds,).

    >>> lost_by_freezing("eval()", "brighter", seeds=2).tolist()
    [0.0, 0.0]
    """
    old = fine_tuned(mode, light, seeds).old
    return 100 * (old[:, 0] - old[:, -1])


# --- accumulating gradients -------------------------------------------------------------------------------------------


@cached
@one_thread()
@with_gradients
def accumulated_gradients(norm: str, micro_batch: int, seeds: int = SEEDS) -> np.ndarray:
    """The gradient of a batch of 64, the mean of those of its micro-batches, of untrained networks, in float64.

    Of the weights of the first hidden layer: (seeds, 6400).

    >>> accumulated_gradients("plain", 16, seeds=2).shape
    (2, 6400)
    """
    rows = []
    for seed in range(seeds):
        net = replace(ACCUMULATING, norm=norm).network(seed).double()
        x, y = two_processes.batch_of(ACCUMULATING, seed, ACCUMULATING.batch_size)
        for images, labels in zip(x.split(micro_batch), y.split(micro_batch), strict=True):
            (F.cross_entropy(net(images), labels) * len(images) / len(x)).backward()
        rows.append(net[0].weight.grad.flatten().numpy())
    return np.array(rows)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cosine of the angle between the vectors of two lists, (seeds, n) each: (seeds,).

    >>> cosines(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])).round(3)
    array([0.707])
    """
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def relative_errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far each vector of `a` is from that of `b`, in lengths of the latter: (seeds, n) twice -> (seeds,).

    >>> relative_errors(np.array([[1.0, 1.0]]), np.array([[1.0, 0.0]]))
    array([1.])
    """
    return np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)


def accumulation_cosines(norm: str, micro_batch: int) -> np.ndarray:
    """The cosine between the accumulated gradient and that of the batch as one, (seeds,).

    >>> bool(np.allclose(accumulation_cosines("layer", 4), 1))
    True
    """
    return cosines(accumulated_gradients(norm, micro_batch), accumulated_gradients(norm, 64))


@cache
def accumulated(micro_batch: int, seeds: int = SEEDS) -> dict[str, list[Run]]:
    """Train each of NORMS with a batch of 64 that goes through it in micro-batches: a run for each seed.

    >>> list(accumulated(64))
    ['plain', 'bn', 'layer']
    """
    return train_all({norm: replace(ACCUMULATING, norm=norm, micro_batch=micro_batch) for norm in NORMS}, seeds)


def lost_by_accumulating(norm: str, micro_batch: int) -> np.ndarray:
    """What micro-batches cost in test accuracy at the end of training, in percentage points, paired by seed: (seeds,).

    >>> bool(lost_by_accumulating("bn", 2).mean() > lost_by_accumulating("bn", 4).mean())
    True
    """
    whole, parts = ([run.test_accuracy[-1] for run in accumulated(each)[norm]] for each in (64, micro_batch))
    return 100 * (np.array(whole) - np.array(parts))


# --- dropout ----------------------------------------------------------------------------------------------------------


class DropoutAtTheEnd(Settings):
    """Settings whose networks have dropout behind the last hidden layer alone."""

    def network(self, seed: int) -> nn.Sequential:
        """Build the untrained network of this seed."""
        net = super().network(seed)
        *others, _ = [layer for layer in net if isinstance(layer, Dropout)]
        for layer in others:
            layer.p = 0.0
        return net


def dropping(order: str, share: float = DROPPED) -> Settings:
    """The settings of a BN network with dropout in one of ORDERS.

    >>> [getattr(layer, "p", "") for layer in dropping("after the last ReLU only", 0.5).network(0)][3::4]
    [0.0, 0.0, 0.5]

    Raises ValueError for another order.
    """
    if order not in ORDERS:
        raise ValueError(f"order: expected one of {ORDERS}, got {order!r}")
    kind = DropoutAtTheEnd if order == ORDERS[2] else Settings
    return kind(**{**vars(DROPPING), "dropout": share, "dropout_before_norm": order == ORDERS[0]})


class Dropped(NamedTuple):
    """Networks that were trained with dropout, in evaluation; statistics as stored, or taken anew without dropout."""

    variance: np.ndarray  # (seeds, layers) that of what a norm meets over the stored one, the mean over units
    loss: np.ndarray  # (seeds, 2) on the test digits: stored, anew
    accuracy: np.ndarray  # (seeds, 2)


@cached
@one_thread()
@torch.no_grad()
def dropped(order: str = ORDERS[0], seeds: int = SEEDS) -> Dropped:
    """Train with dropout, and compare what the norms meet in use with what they have stored (Li et al. 2018).

    >>> found = dropped("before the norm", seeds=2)
    >>> bool((found.variance < 0.8).all()), found.loss.shape
    (True, (2, 2))
    """
    settings = dropping(order)
    return _in_use(settings, trained_seeds(settings, seeds))


@cached
@one_thread()
@torch.no_grad()
def undropped(seeds: int = SEEDS) -> Dropped:
    """The same of networks that were trained without dropout.

    >>> bool((abs(undropped(seeds=2).variance - 1) < 0.2).all())
    True
    """
    return _in_use(DROPPING, trained_seeds(DROPPING, seeds))


def _in_use(settings: Settings, nets: Sequence[nn.Sequential]) -> Dropped:
    x, _, x_test, y_test = settings.task()
    rows = []
    for net in nets:
        ratios, values = [], x
        for layer in net.eval():
            if isinstance(layer, _BatchNorm):
                ratios.append((values.var(0) / layer.running_var).mean().item())
            values = layer(values)
        both = (net, recalibrated(net, x))
        losses = [F.cross_entropy(each(x_test), y_test).item() for each in both]
        rows.append((ratios, losses, [accuracy(each, x_test, y_test) for each in both]))
    return Dropped(*map(np.array, zip(*rows, strict=True)))


# --- weight decay -----------------------------------------------------------------------------------------------------


class Decayed(NamedTuple):
    """Training under weight decay: (seeds, steps + 1) or (seeds,)."""

    rate: np.ndarray  # the effective rate of the second hidden layer, the rate over the squared length of its weights
    loss: np.ndarray  # of each mini-batch; that of step 0 is no loss
    test_loss: np.ndarray  # at the end
    accuracy: np.ndarray


@cached
def decayed(decay: float, fixed_lengths: bool = False, seeds: int = SEEDS) -> Decayed:
    """Train a BN network under weight decay; with `fixed_lengths` the hidden weights get their length back each step.

    Then decay acts on gamma, beta and the last layer only, and the effective rate stays as it is.

    >>> decayed(0.01, seeds=2).rate.shape
    (2, 301)
    """
    settings = replace(DECAYING, weight_decay=decay, fixed_lengths=fixed_lengths)
    x_test, y_test = settings.task()[2:]

    def measure(update: Update) -> tuple[float, ...]:
        second = [layer for layer in update.net if isinstance(layer, LINEAR)][1]
        rate = settings.lr / second.weight.detach().double().square().sum().item()
        if update.step < settings.steps:
            return rate, update.loss, np.nan, np.nan
        with torch.no_grad():
            net = deepcopy(update.net).eval()
            return rate, update.loss, F.cross_entropy(net(x_test), y_test).item(), accuracy(net, x_test, y_test)

    rows = observe(settings, seeds, range(settings.steps + 1), measure)
    _, rate, loss, test_loss, right = (np.array(column) for column in zip(*rows, strict=True))
    return Decayed(rate, loss, test_loss[:, -1], right[:, -1])


def rate_ratio(decay: float) -> np.ndarray:
    """The effective rate after training with a decay over that without, (seeds,).

    >>> bool(rate_ratio(0.01).mean() > 1)
    True
    """
    return decayed(decay).rate[:, -1] / decayed(0.0).rate[:, -1]


def last_loss(decay: float, fixed_lengths: bool) -> np.ndarray:
    """The training loss at the end, the mean over the last 50 batches, (seeds,).

    >>> bool(last_loss(0.01, True).mean() > last_loss(0.0, True).mean())
    True
    """
    return decayed(decay, fixed_lengths).loss[:, -LAST:].mean(1)


@torch.no_grad()
def shrunk(net: nn.Sequential, factor: float) -> nn.Sequential:
    """A copy of a BN network whose hidden weights, and every gamma and beta but the last, are `factor` times as large.

    >>> net = NETWORK.network(0)
    >>> bool(torch.equal(shrunk(net, 0.5)[0].weight, net[0].weight / 2)), shrunk(net, 0.5)[7].weight[0].item()
    (True, 1.0)
    """
    net = deepcopy(net)
    *norms, _ = [layer for layer in net if isinstance(layer, _BatchNorm)]
    *hidden, _ = [layer for layer in net if isinstance(layer, LINEAR)]
    for parameter in [parameter for layer in (*hidden, *norms) for parameter in layer.parameters()]:
        parameter.mul_(factor)
    return net


@one_thread()
@torch.no_grad()
def shrinking_errors(factor: float = 0.1, seeds: int = SEEDS) -> np.ndarray:
    """How far the scores of a shrunk network are from those of the network, at most, in float64, eps near 0: (seeds,).

    >>> bool(shrinking_errors(seeds=2).max() < 1e-6)
    True
    """
    found, x = [], NETWORK.task().x_train[:60].double()
    for seed in range(seeds):
        net = NETWORK.network(seed).double()
        for layer in net:
            if isinstance(layer, _BatchNorm):
                layer.eps = 1e-16
        found.append((shrunk(net, factor)(x) - net(x)).abs().max().item())
    return np.array(found)


# --- padding ----------------------------------------------------------------------------------------------------------


@cache
@one_thread()
def real_values(unit: str = UNITS[1]) -> np.ndarray:
    """What a unit of the second layer of a trained network computes before its norm for real examples, (180,).

    The unit with the mean nearest to 0 in its own widths, or farthest from it.

    >>> real_values().shape
    (180,)
    """
    (net,) = trained_seeds(NETWORK, 1)
    values = preactivations(net, NETWORK.task().x_train[:EXAMPLES])[1].double()
    size = (values.mean(0) / values.std(0, correction=0)).abs()
    return values[:, size.argmin() if unit == UNITS[0] else size.argmax()].numpy()


def padded(values: np.ndarray, share: float) -> np.ndarray:
    """The values with so many zeros behind them that these have the given share of all places.

    >>> padded(np.ones(3), 0.25).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    zeros = round(len(values) * share / (1 - share))
    return np.concatenate([values, np.zeros(zeros)])


def padded_statistics(mean: float, var: float, share: float) -> tuple[float, float]:
    """Mean and variance of all places, where the real ones have `mean` and `var` and a share of all is 0.

    >>> padded_statistics(1.0, 1.0, 0.5)
    (0.5, 0.75)
    """
    return (1 - share) * mean, (1 - share) * var + share * (1 - share) * mean**2


def padding_errors() -> dict[str, np.ndarray]:
    """How far that formula is from the statistics of padded values, for each share: two settings of (4,).

    >>> bool(max(each.max() for each in padding_errors().values()) < 1e-12)
    True
    """
    found = {}
    for unit in UNITS:
        values = real_values(unit)
        pairs = [
            (padded_statistics(values.mean(), values.var(), share), padded(values, share)) for share in PADDING[1:]
        ]
        found[unit] = np.array([max(abs(all_.mean() - m), abs(all_.var() - v)) for (m, v), all_ in pairs])
    return found


# --- half precision ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def variance_by(method: str, x: Tensor) -> Tensor:
    """The biased variance of each column of a batch, (N, C) -> (C,), by one of METHODS, in the precision of `x`.

    The layers compute in float32 whatever they are given. Raises ValueError for another method.

    >>> variance_by("mean of squares − squared mean", torch.tensor([[300.0], [302.0]]).half())
    tensor([nan], dtype=torch.float16)
    >>> variance_by("PyTorch's layer", torch.tensor([[300.0], [302.0]]).half())
    tensor([1.])
    """
    if method == METHODS[0]:
        return x.square().mean(0) - x.mean(0).square()
    if method == METHODS[1]:
        return (x - x.mean(0)).square().mean(0)
    if method == METHODS[2]:
        return batch_statistics(x)[1]
    if method == METHODS[3]:
        mean, var = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
        F.batch_norm(x, mean, var, training=True, momentum=1.0)
        return var * (len(x) - 1) / len(x)
    raise ValueError(f"method: expected one of {METHODS}, got {method!r}")


@cache
@one_thread()
def variance_ratios(precision: str, width: float, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The variance that each of METHODS finds over the true one of the same rounded numbers: (seeds, means).

    1,000 Gaussian numbers a seed of standard deviation `width`, and the mean so many widths away as MEANS says. Where
    a number is too large for the precision it is infinite or no number.

    >>> bool(np.isfinite(variance_ratios("float16", 300.0)["PyTorch's layer"][:, 0]).all())
    True
    """
    drawn = torch.stack([torch.randn(1000, generator=torch_rng(seed)) for seed in range(seeds)], 1).double()
    batches = [(width * (drawn + mean)).to(PRECISIONS[precision]) for mean in MEANS]
    truth = [batch.double().var(0, correction=0) for batch in batches]
    return {
        method: np.array(
            [(variance_by(method, x).double() / var).numpy() for x, var in zip(batches, truth, strict=True)]
        ).T
        for method in METHODS
    }


def variance_errors(precision: str, method: str, width: float = 1.0, mean: float = 100.0) -> np.ndarray:
    """The size of the relative error of the variance by one method, with the mean so many widths away: (seeds,).

    >>> bool(variance_errors("bfloat16", "two passes").max() < 0.01)
    True
    """
    return np.abs(variance_ratios(precision, width)[method][:, MEANS.index(mean)] - 1)


def largest_variance_errors(method: str) -> np.ndarray:
    """The largest relative error of the variance by one method in each precision and width, where numbers are finite.

    >>> largest_variance_errors("PyTorch's layer").shape   # three precisions, three widths
    (9,)
    """
    found = []
    for precision, dtype in PRECISIONS.items():
        for width in WIDTHS:
            fits = width * (np.array(MEANS) + 6) < torch.finfo(dtype).max  # no value is six widths from the mean
            found.append(np.abs(variance_ratios(precision, width)[method][:, fits] - 1).max())
    return np.array(found)


# --- several devices --------------------------------------------------------------------------------------------------


def device_cosines(size: int) -> np.ndarray:
    """The cosine between the gradient of two processes with their own statistics and that of the whole batch, (seeds,).

    >>> bool(device_cosines(8).mean() < device_cosines(64).mean())
    True
    """
    found = two_processes.gradients()[size]
    return cosines(found.own, found.whole)


# --- regression -------------------------------------------------------------------------------------------------------


class Predicted(NamedTuple):
    """Mean squared errors as a share of the targets' variance, (seeds,)."""

    training: np.ndarray  # of the last 50 mini-batches, each by its own statistics
    in_use: np.ndarray  # on the test digits, by the running statistics


def predictor(arm: str, seed: int) -> nn.Sequential:
    """An untrained network with one output for how much ink a digit has; it is one of PREDICTORS.

    >>> [type(layer).__name__ for layer in predictor("bn on the output, too", 0)][-2:]
    ['Linear', 'BatchNorm1d']
    """
    net = replace(PREDICTING, norm="plain" if arm == "plain" else "bn").network(seed)
    net[-1] = nn.Linear(PREDICTING.width, 1)
    nn.init.normal_(net[-1].weight, 0, PREDICTING.width**-0.5, generator=torch_rng(seed))
    nn.init.zeros_(net[-1].bias)
    return nn.Sequential(*net, BatchNorm1d(1)) if arm == PREDICTORS[2] else net


@cached
@one_thread()
@with_gradients
def predicted(arm: str, batch_size: int, lr: float, validation: bool = False, seeds: int = SEEDS) -> Predicted:
    """Train one of PREDICTORS on the standardised amount of ink, by SGD on the squared error.

    >>> predicted("plain", 64, 0.03, seeds=2).in_use.shape
    (2,)
    """
    settings = replace(PREDICTING, lr=lr, validation=validation)
    x, _, x_test, _ = settings.task()
    raw = replace(settings, inputs="raw").task()
    ink, ink_test = raw.x_train.sum(1, keepdim=True), raw.x_test.sum(1, keepdim=True)
    target, target_test = ((each - ink.mean()) / ink.std(correction=0) for each in (ink, ink_test))
    ensemble = Ensemble([predictor(arm, seed) for seed in range(seeds)])
    optimizer, rngs, losses = Optimizer(settings, [ensemble.flat]), [torch_rng(seed) for seed in range(seeds)], []
    for _ in range(settings.steps):
        batch = torch.stack([torch.randint(len(x), (batch_size,), generator=rng) for rng in rngs])
        loss = (ensemble.forward(x[batch]) - target[batch]).square().mean((1, 2))
        ensemble.gradient.zero_()
        loss.sum().backward()
        optimizer.step([ensemble.gradient])
        losses.append(loss.detach().numpy())
    errors = (ensemble.evaluate(x_test.expand(seeds, -1, -1)) - target_test).square().mean((1, 2))
    return Predicted(np.mean(losses[-LAST:], 0), errors.numpy() / target_test.var(correction=0).item())


@cache
def predicted_at_its_best(arm: str, batch_size: int) -> Predicted:
    """The same at the rate of PREDICTING_RATES with the lowest error on images set aside.

    >>> predicted_at_its_best("plain", 64).training.shape == (SEEDS,)
    True
    """
    tried = {lr: predicted(arm, batch_size, lr, True, SEEDS_TO_CHOOSE).in_use.mean() for lr in PREDICTING_RATES}
    return predicted(arm, batch_size, min(tried, key=lambda lr: tried[lr] if np.isfinite(tried[lr]) else np.inf))
