"""One plain training loop. A run is a pure function of its settings and its seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.data import digits
from utils.networks import mlp, preactivations
from utils.progress import each, steps
from utils.runs import kept


@dataclass(frozen=True)
class Settings:
    """What is trained, and how: a fully connected network on the digits, by plain SGD."""

    norm: str = "plain"
    depth: int = 3  # hidden layers
    width: int = 100
    nonlinearity: str = "sigmoid"
    init: str | float = "glorot"
    lr: float = 0.1
    batch_size: int = 60
    steps: int = 600
    looks: int = 25  # how often to look at test accuracy, gamma and beta

    def network(self, seed: int) -> nn.Sequential:
        """Build the untrained network of this seed.

        >>> len(Settings(depth=2).network(seed=0))
        5
        """
        sizes = [64, *[self.width] * self.depth, 10]
        return mlp(sizes, self.norm, self.nonlinearity, self.init, torch.Generator().manual_seed(seed))


class Run(NamedTuple):
    """What a run gives: plain arrays. Where it diverged, they end there."""

    loss: np.ndarray  # (steps,) cross-entropy of each mini-batch, in nats
    accuracy: np.ndarray  # (steps,) on each mini-batch, before its update
    looked: np.ndarray  # (looks,) the steps after which it was looked at
    test_accuracy: np.ndarray  # (looks,)
    gamma: np.ndarray  # (looks, hidden layers, width), or empty
    beta: np.ndarray  # the same
    diverged_at: int | None  # the update at which the loss was no longer finite
    state: dict[str, np.ndarray]  # the trained network's state dict


@kept
def train(settings: Settings, seed: int) -> Run:
    """Train one network, on one thread so that a seed gives the same bits every time.

    >>> run = train(Settings(norm="bn", lr=1.0, steps=100), seed=0)
    >>> run.loss.shape, bool(run.test_accuracy[-1] > 0.9), run.diverged_at
    ((100,), True, None)
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(settings, seed)
    finally:
        torch.set_num_threads(threads)


def _train(settings: Settings, seed: int) -> Run:
    data = digits()
    look_at = set(np.linspace(0, settings.steps, settings.looks).round().astype(int).tolist())
    losses, accuracies, looks = [], [], []
    for update in updates(settings, seed):
        losses.append(update.loss)
        accuracies.append(update.accuracy)
        if update.step in look_at or not np.isfinite(update.loss):
            looks.append((update.step, *_look(update.net, data.x_test, data.y_test)))
    looked, test_accuracy, gamma, beta = (np.array(column) for column in zip(*looks, strict=True))
    state = {name: value.numpy() for name, value in update.net.state_dict().items()}
    diverged_at = None if np.isfinite(update.loss) else update.step
    return Run(np.array(losses[1:]), np.array(accuracies[1:]), looked, test_accuracy, gamma, beta, diverged_at, state)


class Update(NamedTuple):
    """Training after `step` updates; `loss` and `accuracy` are those of the last mini-batch, at first 0."""

    step: int
    net: nn.Sequential
    loss: float
    accuracy: float


def updates(settings: Settings, seed: int) -> Iterator[Update]:
    """Train by plain SGD and stop at every update, the untrained network first. A loss that is not finite ends it.

    >>> [update.step for update in updates(Settings(steps=2), seed=0)]
    [0, 1, 2]
    """
    data, net = digits(), settings.network(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=settings.lr)
    batches = torch.Generator().manual_seed(seed)
    yield Update(0, net, 0.0, 0.0)
    for step in steps(settings.steps):
        batch = torch.randint(len(data.x_train), (settings.batch_size,), generator=batches)
        x, y = data.x_train[batch], data.y_train[batch]
        scores = net(x)
        loss = F.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield Update(step + 1, net, loss.item(), (scores.argmax(1) == y).float().mean().item())
        if not loss.isfinite():
            return


@torch.no_grad()
def _look(net: nn.Sequential, x: Tensor, y: Tensor) -> tuple[float, np.ndarray, np.ndarray]:
    """Test accuracy in evaluation mode, and the gamma and beta of every normalised layer."""
    net.eval()
    accuracy = (net(x).argmax(1) == y).float().mean().item()
    net.train()
    norms = [layer for layer in net if getattr(layer, "running_mean", None) is not None and layer.affine]
    gamma, beta = ([getattr(layer, name).numpy().copy() for layer in norms] for name in ("weight", "bias"))
    return accuracy, np.array(gamma), np.array(beta)


def trained(settings: Settings, seed: int = 0) -> nn.Sequential:
    """Return the network that :func:`train` trains, with its trained weights.

    >>> trained(Settings(steps=10)) is trained(Settings(steps=10))
    False
    """
    net = settings.network(seed)
    net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in train(settings, seed).state.items()})
    return net


def train_all(arms: Sequence[Settings], seeds: int) -> list[list[Run]]:
    """Train every arm with seeds 0 to `seeds - 1`, one after another: a list of runs for each arm.

    >>> runs = train_all([Settings(steps=5), Settings(norm="bn", steps=5)], seeds=3)
    >>> len(runs), len(runs[0])
    (2, 3)
    """
    jobs = [(arm, seed) for arm in arms for seed in range(seeds)]
    runs = [train(*job) for job in each(jobs)]
    return [runs[i : i + seeds] for i in range(0, len(runs), seeds)]


class Watched(NamedTuple):
    """Mean and biased variance of one unit's Wu before each update: in the mini-batch, and in all training data."""

    batch_mean: np.ndarray  # (steps,), as are the others
    batch_var: np.ndarray
    mean: np.ndarray
    var: np.ndarray


@kept
def watch_statistics(settings: Settings, seed: int, layer: int = 1, unit: int = 0) -> Watched:
    """Train a normalised network and watch what one of its layers normalises, unit by unit and step by step.

    >>> watched = watch_statistics(Settings(norm="bn", steps=5), seed=0)
    >>> watched.batch_mean.shape
    (5,)
    """
    data, batch, whole = digits(), [], []

    def record(_: nn.Module, inputs: tuple[Tensor]) -> None:
        values = inputs[0].detach()[:, unit]
        seen = whole if len(values) == len(data.x_train) else batch
        seen.append((values.mean().item(), values.var(correction=0).item()))

    for update in updates(settings, seed):
        if update.step == 0:
            norms = [module for module in update.net if hasattr(module, "running_mean")]
            norms[layer - 1].register_forward_pre_hook(record)
        if update.step < settings.steps:
            preactivations(update.net, data.x_train)
    return Watched(*np.array(batch).T, *np.array(whole).T)
