"""What is looked at while a network trains: the values of its layers, and a few numbers of them.

An observer is a function of one moment of training (an `Update`); :func:`observe` calls it at chosen updates.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.networks import LINEAR, NONLINEARITIES, preserve_state
from utils.training import Settings, Update, one_thread, updates_together

ACTIVATIONS = tuple(NONLINEARITIES.values())


class Layer(NamedTuple):
    """The values of one hidden layer for a batch, (N, C) or in images (N, C, H, W)."""

    input: Tensor  # u, what the layer before hands on
    preactivation: Tensor  # Wu + b
    activation_input: Tensor  # what enters the nonlinearity: without a norm Wu + b again


@torch.no_grad()
def trace(net: nn.Sequential, x: Tensor) -> tuple[list[Layer], Tensor]:
    """Return the values of every hidden layer for the batch `x`, and the scores, with the network in training mode.

    A norm uses the statistics of this very batch. The network is left as it was.

    >>> from utils.networks import mlp
    >>> (layer,), scores = trace(mlp([4, 8, 3], norm="bn"), torch.rand(5, 4))
    >>> layer.preactivation.shape, bool(layer.activation_input.mean(0).abs().max() < 1e-6), scores.shape
    (torch.Size([5, 8]), True, torch.Size([5, 3]))
    """
    layers, u, preactivation = [], x, x
    with preserve_state(net):
        for module in net:
            if isinstance(module, ACTIVATIONS):
                layers.append(Layer(u, preactivation, x))
            given = module(x)
            if isinstance(module, LINEAR):
                u, preactivation = x, given
            x = given
    return layers, x


def unit_statistics(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (1/m) of every unit or channel: (N, C, ...) -> (C,) twice, in float64.

    >>> unit_statistics(torch.tensor([[1.0], [3.0]]))
    (array([2.]), array([1.]))
    """
    flat = values.detach().transpose(0, 1).flatten(1).numpy()
    return flat.mean(1, dtype=float), flat.std(1, dtype=float)


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of right answers in evaluation mode; the network is left as it was.

    >>> accuracy(nn.Linear(2, 2), torch.zeros(1, 2), torch.zeros(1)) in (0.0, 1.0)
    True
    """
    with preserve_state(net, training=False):
        return (net(x).argmax(1) == y).float().mean().item()


def observe(
    settings: Settings, seeds: int, at: Sequence[int], measure: Callable[[Update], tuple]
) -> list[list[np.ndarray]]:
    """Train seeds 0 to `seeds - 1` side by side, call `measure` after the updates `at`, and stack what it returns.

    For each seed the steps, then a column (an array whose first axis is that of the steps) for every value of
    `measure`. Where a loss is no longer finite, that seed's columns end.

    >>> (step, loss), _ = observe(Settings(steps=4), 2, (0, 2, 4), lambda update: (update.loss,))
    >>> step.tolist(), loss.shape
    ([0, 2, 4], (3,))
    """
    at, rows = set(at), [[] for _ in range(seeds)]
    with one_thread():
        for moment in updates_together(settings, seeds):
            if moment.step in at:
                for i in np.flatnonzero(np.isfinite(moment.loss)):
                    rows[i].append((moment.step, *measure(moment.of(i))))
    return [[np.array(column) for column in zip(*seen, strict=True)] for seen in rows]
