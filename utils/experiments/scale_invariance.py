"""Weights whose length does not matter: what a normalised layer does with them, and what training does to them."""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import norm
from torch import Tensor
from torch.nn import functional as F

from utils.batchnorm import normalize
from utils.cache import cached
from utils.networks import LINEAR
from utils.observe import observe, trace
from utils.sweeps import by_arm
from utils.training import SEEDS, Settings, trained, with_gradients

NETWORK = Settings("bn", nonlinearity="relu", init="he", lr=0.3, steps=200, n_evals=2)  # whose weights are measured
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
FACTORS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
STEP = 1e-7  # the learning rate of the one step that a scaled layer takes


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

    >>> rng = torch.Generator().manual_seed(0)
    >>> W, u, head = (torch.randn(size, generator=rng).double() for size in ((4, 3), (8, 3), (2, 4)))
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


@cache
def scaled_layer(a: float, eps: float) -> Scaled:
    """Take the second layer of a trained BN network, its weights times `a`, and one SGD step on them.

    >>> scaled_layer(1.0, 0.0).output.shape   # 60 digits, 100 units
    torch.Size([60, 100])
    """
    net, task = trained(NETWORK, 0), NETWORK.task()
    _, second, *_ = trace(net, task.x_train[:60])[0]
    weights = [layer.weight.detach().double() for layer in net if isinstance(layer, LINEAR)]
    return scaled(weights[1], second.input.double(), weights[-1], task.y_train[:60], a, STEP, eps)


def factors(a: float, eps: float) -> dict[str, float]:
    """How many times as long the gradient becomes, and as large the turn, in weights `a` times as long.

    "error" is the largest change of an output.

    >>> {name: round(value, 4) for name, value in factors(10.0, 0.0).items()}
    {'error': 0.0, 'gradient': 0.1, 'turn': 0.01}
    """
    one, now = scaled_layer(1.0, eps), scaled_layer(a, eps)
    return {
        "error": (one.output - now.output).abs().max().item(),
        "gradient": (now.gradient.norm() / one.gradient.norm()).item(),
        "turn": (now.turn.mean() / one.turn.mean()).item(),
    }


class Lengths(NamedTuple):
    """The weights of each hidden layer during training, and the steps that they make."""

    length: np.ndarray  # (steps + 1, layers) the root of the sum of squares of all weights of a layer
    step: np.ndarray  # (steps, layers) the length of each update, lr |gradient|
    loss: np.ndarray  # (steps,) in nats


@cached
def watch_lengths(settings: Settings, seeds: int = SEEDS) -> list[Lengths]:
    """Train by SGD without momentum and measure how long each hidden layer's weights are, before and after each step.

    >>> watched, _ = watch_lengths(Settings("bn", steps=5), seeds=2)
    >>> watched.length.shape, watched.step.shape
    ((6, 3), (5, 3))
    """

    def measure(update) -> tuple:
        weights = [layer.weight for layer in update.net if isinstance(layer, LINEAR)][:-1]
        lengths = [norm(weight.detach().double().numpy()) for weight in weights]
        return lengths, [settings.lr * norm(weight.grad.double().numpy()) for weight in weights], update.loss

    rows = observe(settings, seeds, range(settings.steps + 1), measure)
    return [Lengths(lengths, steps[1:], loss[1:]) for _, lengths, steps, loss in rows]


@cache
def lengths_by_rate(seeds: int = SEEDS) -> dict[float, list[Lengths]]:
    """Watch the lengths at each learning rate of `RATES`.

    >>> lengths_by_rate()[3.0][0].length.shape
    (201, 3)
    """
    return by_arm(watch_lengths, {rate: replace(NETWORK, lr=rate) for rate in RATES}, seeds)


def effective_rate(rate: float, layer: int) -> np.ndarray:
    """The effective learning rate, rate / length², of a hidden layer (1 to 3): (seeds, steps + 1).

    >>> rates = effective_rate(3.0, layer=2)
    >>> bool((rates[:, -1] < rates[:, 0]).all())
    True
    """
    return rate / np.array([run.length[:, layer - 1] for run in lengths_by_rate()[rate]]) ** 2


def growth_errors(rate: float) -> np.ndarray:
    """How far the growth of the squared lengths is from the sum of the squared steps, a share of it: (seeds, layers).

    >>> bool(growth_errors(3.0).max() < 0.01)
    True
    """
    runs = lengths_by_rate()[rate]
    grown = np.array([run.length[-1] ** 2 - run.length[0] ** 2 for run in runs])
    squares = np.array([(run.step**2).sum(0) for run in runs])
    return np.abs(grown / squares - 1)
