"""What BatchNorm buys, in numbers: steps saved, usable learning rates, and weights whose length does not matter."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from utils import drift
from utils.batchnorm import normalize
from utils.runs import kept
from utils.training import Run, Settings, one_thread, updates, with_gradients

DEEP = Settings(width=64, nonlinearity="relu", init="he", steps=300, looks=13)  # the network of the first page


def held(run: Run, at: np.ndarray) -> np.ndarray:
    """Return the accuracy last seen at each step of `at`: a run that diverged keeps its last.

    >>> from utils.training import train
    >>> held(train(Settings(steps=2), seed=0), np.array([0, 2])).shape
    (2,)
    """
    return run.test_accuracy[np.searchsorted(run.looked, at.round(), side="right") - 1]


def steps_to(run: Run, accuracy: float) -> float:
    """Return the step at which a run was first seen to have this test accuracy; infinity where it never was.

    >>> from utils.training import train
    >>> run = train(Settings(norm="bn", lr=1.0, steps=100), seed=0)
    >>> steps_to(run, 0.0), steps_to(run, 1.1)
    (0.0, inf)
    """
    return drift.steps_to(run.looked, run.test_accuracy, accuracy)


def steps_saved(plain: Run, bn: Run) -> tuple[float, float]:
    """Return the steps that each run takes to the plain run's best test accuracy (Ioffe & Szegedy 2015, figure 3).

    >>> from utils.training import train
    >>> run = train(Settings(norm="bn", lr=1.0, steps=100), seed=0)
    >>> first, second = steps_saved(run, run)
    >>> first == second <= 100
    True
    """
    best = plain.test_accuracy.max()
    return steps_to(plain, best), steps_to(bn, best)


def at_own_rates(races: Mapping[float, tuple[list[Run], list[Run]]]) -> tuple[float, float, np.ndarray]:
    """Let each arm race at its own best learning rate, the one with the highest best accuracy in the mean over seeds.

    `races` gives the plain runs and the BN runs, a seed each, for every learning rate. Returns the plain network's
    rate, BN's, and the steps of both to the plain network's best: (seeds, 2).

    >>> from utils.training import train_all
    >>> arms = [Settings("bn", lr=lr, steps=50) for lr in (0.001, 0.3)]
    >>> slow, fast = train_all(arms, seeds=2)
    >>> at_own_rates({0.1: (slow, fast), 3.0: (slow, slow)})[:2]
    (0.1, 0.1)
    """

    def rate(arm: int) -> float:
        return max(races, key=lambda lr: np.mean([run.test_accuracy.max() for run in races[lr][arm]]))

    own = rate(0), rate(1)
    pairs = zip(races[own[0]][0], races[own[1]][1], strict=True)
    return *own, np.array([steps_saved(plain, bn) for plain, bn in pairs])


def usable(rates: Sequence[float], accuracies: ArrayLike, best: float, share: float = 0.9) -> list[float]:
    """Return the learning rates whose accuracy, a mean over seeds, is at least `share` of the best of all arms.

    >>> usable([0.1, 1.0, 10.0], [0.80, 0.95, 0.10], best=0.96)
    [1.0]
    """
    return [rate for rate, accuracy in zip(rates, accuracies, strict=True) if accuracy >= share * best]


class Scaled(NamedTuple):
    """A normalised layer whose weights are a times as long, and one step of SGD on them."""

    output: Tensor  # (N, C) = BN(aWu)
    gradient: Tensor  # (C, D), of the loss with respect to aW
    turn: Tensor  # (C,) the angle in radians by which one step turns each unit's weights


@with_gradients
def scaled(
    weight: Tensor, u: Tensor, head: Tensor, y: Tensor, a: float = 1.0, lr: float = 0.01, eps: float = 0.0
) -> Scaled:
    """Run a normalised ReLU layer with weights aW, and take one SGD step (Ioffe & Szegedy 2015, section 3.3).

    `weight` is (C, D), `u` a batch (N, D), `head` the (K, C) weights of the scores that follow, `y` (N,) the classes;
    the loss is cross-entropy. `lr` is the learning rate of the step, `eps` the constant of BN.

    >>> chance = torch.Generator().manual_seed(0)
    >>> W, u, head = (torch.randn(size, generator=chance).double() for size in ((4, 3), (8, 3), (2, 4)))
    >>> one, seven = (scaled(W, u, head, torch.arange(8) % 2, a) for a in (1.0, 7.0))
    >>> torch.allclose(one.output, seven.output), torch.allclose(one.gradient, 7 * seven.gradient)
    (True, True)
    """
    weight = (a * weight).requires_grad_()
    output = normalize(u @ weight.T, eps)
    loss = F.cross_entropy(output.relu() @ head.T, y)
    (gradient,) = torch.autograd.grad(loss, weight)
    direction = F.normalize(weight.detach(), dim=1)
    along = (gradient * direction).sum(1)
    across = (gradient - along[:, None] * direction).norm(dim=1)
    turn = torch.atan2(lr * across, weight.detach().norm(dim=1) - lr * along)
    return Scaled(output.detach(), gradient, turn)


class Lengths(NamedTuple):
    """The weights of each hidden layer during training, and the steps that they make."""

    length: np.ndarray  # (steps + 1, layers) the root of the sum of squares of all weights of a layer
    step: np.ndarray  # (steps, layers) the length of each update, lr |gradient|
    loss: np.ndarray  # (steps,)


@kept
def watch_lengths(settings: Settings, seed: int) -> Lengths:
    """Train by SGD without momentum and measure how long each hidden layer's weights are, before and after each step.

    >>> watched = watch_lengths(Settings("bn", steps=5), seed=0)
    >>> watched.length.shape, watched.step.shape
    ((6, 3), (5, 3))
    """
    lengths, moves, losses = [], [], []
    with one_thread():
        for update in updates(settings, seed):
            weights = [layer.weight for layer in update.net if hasattr(layer, "in_features")][:-1]
            lengths.append([weight.detach().double().norm().item() for weight in weights])
            if update.step:
                moves.append([settings.lr * weight.grad.double().norm().item() for weight in weights])
                losses.append(update.loss)
    return Lengths(np.array(lengths), np.array(moves), np.array(losses))
