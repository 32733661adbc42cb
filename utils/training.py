"""One plain training loop. A run is a pure function of its settings and its seed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.sgd import sgd

from utils.data import Split, digits, fashion_mnist
from utils.networks import looking, mlp, preactivations, vgg
from utils.noise import PAPERS, Recipe
from utils.progress import steps
from utils.runs import kept
from utils.seeds import torch_rng
from utils.sweeps import sweep

if TYPE_CHECKING:
    from distributed import Client

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Settings:
    """What is trained, on what, and how: plain SGD, or SGD with momentum."""

    norm: str = "plain"
    depth: int = 3  # hidden layers
    width: int = 100  # units a hidden layer; channels of the first convolution
    nonlinearity: str = "sigmoid"
    init: str | float = "glorot"
    lr: float = 0.1
    batch_size: int = 60  # 0 for all data at once
    steps: int = 600
    looks: int = 25  # how often to look at the test data, gamma and beta
    data: str = "digits"
    momentum: float = 0.0
    dropout: float = 0.0
    examples: int = 0  # train on the first so many only; 0 for all
    noise: Recipe = PAPERS  # of the norms "noisy" and "noisy plain"

    @torch.inference_mode(False)  # it may be kept, and trained later
    def network(self, seed: int) -> nn.Sequential:
        """Build the untrained network of this seed: a VGG for images, else a fully connected one.

        >>> len(Settings(depth=2).network(seed=0))
        5
        """
        generator = torch_rng(seed)
        if self.data == "fashion":
            return vgg(self.depth, self.width, self.norm, self.nonlinearity, self.init, generator, self.noise)
        wide_in, wide_out = {"digits": (64, 10), "fashion, flat": (196, 10), "linear map": (10, 10)}[self.data]
        sizes = [wide_in, *[self.width] * self.depth, wide_out]
        return mlp(sizes, self.norm, self.nonlinearity, self.init, generator, self.dropout, self.noise)

    @torch.inference_mode(False)
    def task(self) -> Split:
        """Return the data to train and test on.

        "digits" (8x8, flat), "fashion" (Fashion-MNIST, 14x14), the same "fashion, flat", or "linear map": 1,000
        Gaussian x in ten dimensions and A x, A a Gaussian matrix (Santurkar et al. 2018, the deep linear network).
        Raises ValueError for another name.

        >>> Settings(data="linear map").task().y_train.shape
        torch.Size([1000, 10])
        """
        if self.data not in DATA:
            raise ValueError(f"data: expected one of {list(DATA)}, got {self.data!r}")
        x, y, *test = DATA[self.data]()
        many = self.examples or len(x)
        return Split(x[:many], y[:many], *test)

    def loss(self, given: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy in nats, the mean over the batch; for the linear map, the sum of squares.

        >>> Settings().loss(torch.zeros(5, 10), torch.zeros(5, dtype=int))
        tensor(2.3026)
        """
        if self.data == "linear map":
            return F.mse_loss(given, wanted, reduction="sum")
        return F.cross_entropy(given, wanted)


def _linear_map() -> Split:
    chance = torch.Generator().manual_seed(0)
    x, a = torch.randn(1000, 10, generator=chance), torch.randn(10, 10, generator=chance)
    return Split(x, x @ a.T, x, x @ a.T)


def _flat() -> Split:
    x, y, x_test, y_test = fashion_mnist(size=14)
    return Split(x.flatten(1), y, x_test.flatten(1), y_test)


DATA = {
    "digits": cache(digits),
    "fashion": cache(lambda: fashion_mnist(size=14)),
    "fashion, flat": cache(_flat),
    "linear map": cache(_linear_map),
}


class Run(NamedTuple):
    """What a run gives: plain arrays. Where it diverged, they end there."""

    loss: np.ndarray  # (steps,) of each mini-batch
    accuracy: np.ndarray  # (steps,) on each mini-batch, before its update
    looked: np.ndarray  # (looks,) the steps after which it was looked at
    test_accuracy: np.ndarray  # (looks,)
    test_loss: np.ndarray  # (looks,)
    gamma: list[np.ndarray]  # for each normalised layer (looks, width)
    beta: list[np.ndarray]  # the same
    diverged_at: int | None  # the update at which the loss was no longer finite


@kept
def train(settings: Settings, seed: int) -> Run:
    """Train one network, on one thread so that a seed gives the same bits every time.

    >>> run = train(Settings(norm="bn", lr=1.0, steps=100), seed=0)
    >>> run.loss.shape, bool(run.loss[-1] < run.loss[0]), run.diverged_at
    ((100,), True, None)
    """
    with one_thread():
        return _train(settings, seed)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread inside: small networks are faster so, and a seed gives the same bits every time.

    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train(settings: Settings, seed: int) -> Run:
    test = settings.task()[2:]
    look_at = set(np.linspace(0, settings.steps, settings.looks).round().astype(int).tolist())
    losses, accuracies, looks = [], [], []
    for update in updates(settings, seed):
        losses.append(update.loss)
        accuracies.append(update.accuracy)
        if update.step in look_at or not np.isfinite(update.loss):
            looks.append((update.step, *_look(settings, update.net, *test)))
    diverged_at = None if np.isfinite(update.loss) else update.step
    looked, accuracy, loss, gamma, beta = zip(*looks, strict=True)
    gamma, beta = ([np.array(layer) for layer in zip(*each_look, strict=True)] for each_look in (gamma, beta))
    numbers = (np.array(column) for column in (losses[1:], accuracies[1:], looked, accuracy, loss))
    return Run(*numbers, gamma, beta, diverged_at)


class Update(NamedTuple):
    """Training after `step` updates; `loss` and `accuracy` are those of the last mini-batch, at first 0."""

    step: int
    net: nn.Sequential
    loss: float
    accuracy: float
    batch: tuple[Tensor, Tensor]  # the images and labels that the next update is for


def with_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function, or a generator, that needs gradients wherever its caller stands.

    >>> with torch.inference_mode():
    ...     with_gradients(torch.is_grad_enabled)()
    True
    """
    return torch.inference_mode(False)(torch.enable_grad()(function))


@with_gradients
def updates(settings: Settings, seed: int) -> Iterator[Update]:
    """Train by plain SGD and stop at every update, the untrained network first. A loss that is not finite ends it.

    >>> [update.step for update in updates(Settings(steps=2), seed=0)]
    [0, 1, 2]
    """
    net, (images, labels, *_) = settings.network(seed), settings.task()
    parameters = list(net.parameters())
    velocities: list[Tensor | None] = [None] * len(parameters)
    batches = torch_rng(seed)

    def draw() -> tuple[Tensor, Tensor]:
        if not settings.batch_size:
            return images, labels
        batch = torch.randint(len(images), (settings.batch_size,), generator=batches)
        return images[batch], labels[batch]

    x, y = draw()
    yield Update(0, net, 0.0, 0.0, (x, y))
    for step in steps(settings.steps):
        scores = net(x)
        loss = settings.loss(scores, y)
        net.zero_grad()
        loss.backward()
        _step(parameters, velocities, settings)
        accuracy = _accuracy(scores, y)
        x, y = draw()
        yield Update(step + 1, net, loss.item(), accuracy, (x, y))
        if not loss.isfinite():
            return


@torch.no_grad()
def _step(parameters: list[Tensor], velocities: list[Tensor | None], settings: Settings) -> None:
    """Take one step of SGD, by torch's function: `torch.optim.SGD` would load torch's compiler first, for a second."""
    gradients = [parameter.grad for parameter in parameters]
    how = {"weight_decay": 0.0, "dampening": 0.0, "nesterov": False, "maximize": False, "foreach": False}
    sgd(parameters, gradients, velocities, lr=settings.lr, momentum=settings.momentum, **how)


def _accuracy(scores: Tensor, y: Tensor) -> float:
    return (scores.argmax(1) == y).float().mean().item() if y.dim() == 1 else float("nan")


@torch.no_grad()
def _look(settings: Settings, net: nn.Sequential, x: Tensor, y: Tensor) -> tuple[float, float, list, list]:
    """Accuracy and loss on the test data in evaluation mode, and the gamma and beta of every normalised layer."""
    with looking(net, training=False):
        scores = net(x)
    norms = [layer for layer in net if hasattr(layer, "running_mean") and layer.affine]
    gamma, beta = ([getattr(layer, name).numpy().copy() for layer in norms] for name in ("weight", "bias"))
    return _accuracy(scores, y), settings.loss(scores, y).item(), gamma, beta


@kept
@one_thread()
def weights(settings: Settings, seed: int) -> dict[str, np.ndarray]:
    """Train as :func:`train` does and return the network's state dict: with every run it would be most of what is kept.

    >>> list(weights(Settings(depth=1, steps=1), seed=0))
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    for update in updates(settings, seed):
        net = update.net
    return {name: value.numpy() for name, value in net.state_dict().items()}


def trained(settings: Settings, seed: int = 0) -> nn.Sequential:
    """Return the network that :func:`train` trains, with its trained weights.

    >>> trained(Settings(steps=10)) is trained(Settings(steps=10))
    False
    """
    net = settings.network(seed)
    net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights(settings, seed).items()})
    return net


def train_all(arms: Sequence[Settings], seeds: int, on: "int | Client" = 1) -> list[list[Run]]:
    """Train every arm with seeds 0 to `seeds - 1`, here or elsewhere (see `sweep`): a list of runs for each arm.

    >>> runs = train_all([Settings(steps=5), Settings(norm="bn", steps=5)], seeds=3)
    >>> len(runs), len(runs[0])
    (2, 3)
    """
    runs = sweep(train, [(arm, seed) for arm in arms for seed in range(seeds)], on)
    return [runs[i : i + seeds] for i in range(0, len(runs), seeds)]


class Watched(NamedTuple):
    """Mean and biased variance of one unit's Wu before each update: in the mini-batch, and in all training data."""

    batch_mean: np.ndarray  # (steps,), as are the others
    batch_var: np.ndarray
    mean: np.ndarray
    var: np.ndarray


@kept
@one_thread()
def watch_statistics(settings: Settings, seed: int, layer: int = 1, unit: int = 0) -> Watched:
    """Train a normalised network and watch what one of its layers normalises, unit by unit and step by step.

    >>> watched = watch_statistics(Settings(norm="bn", steps=5), seed=0)
    >>> watched.batch_mean.shape
    (5,)
    """
    images, batch, whole = settings.task().x_train, [], []

    def record(_: nn.Module, inputs: tuple[Tensor]) -> None:
        values = inputs[0].detach()[:, unit]
        seen = whole if len(values) == len(images) else batch
        seen.append((values.mean().item(), values.var(correction=0).item()))

    for update in updates(settings, seed):
        if update.step == 0:
            norms = [module for module in update.net if hasattr(module, "running_mean")]
            norms[layer - 1].register_forward_pre_hook(record)
        if update.step < settings.steps:
            preactivations(update.net, images)
    return Watched(*np.array(batch).T, *np.array(whole).T)
