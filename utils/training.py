"""Training. A run is a pure function of its settings and its seed.

:func:`updates` is the loop, for one network. :func:`updates_together` is the same loop for several of one shape.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from utils.cache import cached
from utils.data import Split, digits, fashion_mnist, standardized
from utils.ensemble import Alone, Ensemble
from utils.networks import mlp, residual_mlp, vgg
from utils.norms import PAPER_DEFAULTS, Recipe
from utils.progress import progress_range
from utils.seeds import first_seed, run_count, torch_rng
from utils.sweeps import by_arm

if TYPE_CHECKING:
    from distributed import Client

P = ParamSpec("P")
R = TypeVar("R")

SEEDS = run_count()  # of every experiment that does not say otherwise
VALIDATION = 5  # the share of the training data that a rate is chosen on: one in so many


class Task(NamedTuple):
    """What there is to learn: the data, and what a network must be like for them."""

    load: Callable[[], Split]
    inputs: int  # features; of images the channels
    outputs: int
    classes: bool = True  # else a regression
    images: bool = False


def _flat() -> Split:
    x, y, x_test, y_test = fashion_mnist(size=14)
    return Split(x.flatten(1), y, x_test.flatten(1), y_test)


def _linear_map() -> Split:
    rng = torch.Generator().manual_seed(0)
    x, a = torch.randn(1000, 10, generator=rng), torch.randn(10, 10, generator=rng)
    return Split(x, x @ a.T, x, x @ a.T)


TASKS = {
    "digits": Task(digits, 64, 10),
    "fashion": Task(lambda: fashion_mnist(size=14), 1, 10, images=True),
    "fashion, flat": Task(_flat, 196, 10),
    "linear map": Task(_linear_map, 10, 10, classes=False),
}
"""Digits (8x8, flat), Fashion-MNIST (14x14), the same flat; and 1,000 Gaussian x in ten dimensions with A x, A a
Gaussian matrix (Santurkar et al. 2018, the deep linear network)."""


@dataclass(frozen=True)
class Settings:
    """What is trained, on what, and how."""

    norm: str = "plain"
    depth: int = 3  # hidden layers
    width: int = 100  # units a hidden layer; channels of the first convolution
    nonlinearity: str = "sigmoid"
    init: str | float = "glorot"
    optimizer: str = "sgd"  # or "adam", with torch's defaults but for the rate
    lr: float = 0.1
    momentum: float = 0.0  # of SGD
    weight_decay: float = 0.0  # of all parameters: the gradient of half their squared length, times this, is added
    batch_size: int = 60  # 0 for all data at once
    micro_batch: int = 0  # forward so many examples at a time, and take the mean of their gradients; 0 for all
    classes_per_batch: int = 0  # draw each batch from so many classes, chosen anew; 0 for all
    steps: int = 600
    n_evals: int = 25  # how often the test data, gamma and beta are looked at
    data: str = "digits"  # one of TASKS
    inputs: str = "standardized"  # by the training data's mean and standard deviation; or "raw"
    examples: int = 0  # train on so many only, chosen by the seed; 0 for all
    validation: bool = False  # train without one in five, and test on these: the way to choose a rate
    dropout: float = 0.0
    dropout_before_norm: bool = False
    placement: str = "before"  # where the norm stands: before the nonlinearity, or "after" it
    skips: bool = False  # a residual network
    fixed_lengths: bool = False  # give the weights of each hidden unit their first length again after each step
    noise: Recipe = PAPER_DEFAULTS  # of the noisy norms
    noise_on: str = "all layers"  # or "the last"

    @torch.inference_mode(False)  # it may be stored, and trained later
    def network(self, seed: int) -> nn.Sequential:
        """Build the untrained network of this seed: a VGG for images, else a fully connected one; or one with skips.

        >>> len(Settings(depth=2).network(seed=0))
        5
        """
        task, rng = self._task(), torch_rng(seed)
        if task.images:
            return vgg(self.depth, self.width, self.norm, self.nonlinearity, self.init, rng, self.noise)
        sizes = [task.inputs, *[self.width] * self.depth, task.outputs]
        common = (sizes, self.norm, self.nonlinearity, self.init, rng)
        if self.skips:
            return residual_mlp(*common)
        return mlp(*common, self.dropout, self.noise, self.noise_on, self.placement, self.dropout_before_norm)

    @torch.inference_mode(False)
    def task(self, seed: int = 0) -> Split:
        """Return the data to train and test on. The seed matters with few `examples` only, which it chooses.

        Raises ValueError for unknown data or inputs.

        >>> Settings(data="linear map").task().y_train.shape, len(Settings(validation=True).task().x_test)
        (torch.Size([1000, 10]), 288)
        """
        self._task()
        if self.inputs not in ("standardized", "raw"):
            raise ValueError(f"inputs: expected 'standardized' or 'raw', got {self.inputs!r}")
        chosen_by = seed if self.examples else 0
        return _split(self.data, self.inputs, self.validation, self.examples, chosen_by, first_seed())

    def _task(self) -> Task:
        if self.data not in TASKS:
            raise ValueError(f"data: expected one of {list(TASKS)}, got {self.data!r}")
        return TASKS[self.data]

    def loss(self, scores: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy in nats, the mean over the batch; for the linear map, the sum of squares.

        >>> Settings().loss(torch.zeros(5, 10), torch.zeros(5, dtype=int))
        tensor(2.3026)
        """
        return self.losses(scores[None], target[None])[0]

    def losses(self, scores: Tensor, target: Tensor) -> Tensor:
        """The loss of each of S networks, for its own batch: (S, N, outputs), (S, N, ...) -> (S,).

        >>> Settings().losses(torch.zeros(2, 5, 10), torch.zeros(2, 5, dtype=int))
        tensor([2.3026, 2.3026])
        """
        if not self._task().classes:
            return (scores - target).square().sum((1, 2))
        each = F.cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="none")
        return each.view(target.shape).mean(1)


def by_norm(settings: Settings, norms: Sequence[str] = ("plain", "bn")) -> dict[str, Settings]:
    """The same settings with each of some norms, by its name: the arms of an experiment.

    >>> by_norm(Settings(depth=5))["bn"].depth
    5
    """
    return {norm: replace(settings, norm=norm) for norm in norms}


@cache
def _loaded(data: str) -> Split:
    return TASKS[data].load()


@cache
def _split(data: str, inputs: str, validation: bool, examples: int, seed: int, first: int) -> Split:
    """The data of a task; `first` is the first seed, to which `seed` is added."""
    x, y, x_test, y_test = _loaded(data)
    if validation:
        out = torch.arange(len(x)) % VALIDATION == 0
        x, y, x_test, y_test = x[~out], y[~out], x[out], y[out]
    if examples:
        chosen = torch.randperm(len(x), generator=torch_rng(seed))[:examples]
        x, y = x[chosen], y[chosen]
    split = Split(x, y, x_test, y_test)
    return standardized(split) if inputs == "standardized" and TASKS[data].classes else split


def evenly_spaced(steps: int, n: int) -> list[int]:
    """At most `n` updates from 0 to `steps`, as evenly spaced as whole numbers can be. ValueError for fewer than two.

    >>> evenly_spaced(600, 4)
    [0, 200, 400, 600]
    """
    if n < 2:
        raise ValueError(f"n: expected two or more, got {n}")
    return np.unique(np.linspace(0, steps, n).round().astype(int)).tolist()


class Run(NamedTuple):
    """What a run gives: plain arrays. Where it diverged, they end there."""

    loss: np.ndarray  # (steps,) of each mini-batch
    accuracy: np.ndarray  # (steps,) on each mini-batch, before its update
    eval_steps: np.ndarray  # (evals,) the updates after which it was evaluated
    test_accuracy: np.ndarray  # (evals,)
    test_loss: np.ndarray  # (evals,)
    gamma: list[np.ndarray]  # for each normalised layer (evals, width)
    beta: list[np.ndarray]  # the same
    diverged_at: int | None  # the update at which the loss was no longer finite

    def accuracy_at(self, steps: np.ndarray) -> np.ndarray:
        """The test accuracy last seen at each of `steps`: a run that diverged keeps its last.

        >>> train(Settings(steps=2), seed=0).accuracy_at(np.array([0, 2])).shape
        (2,)
        """
        return self.test_accuracy[np.searchsorted(self.eval_steps, np.round(steps), side="right") - 1]

    def final_loss(self, last: int) -> float:
        """The mean loss of the `last` mini-batches; infinite where the run diverged.

        >>> bool(np.isfinite(train(Settings(steps=2), seed=0).final_loss(2)))
        True
        """
        return float(self.loss[-last:].mean()) if self.diverged_at is None else np.inf


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
    """Train and stop at every update, the untrained network first. A loss that is not finite ends it.

    >>> [update.step for update in updates(Settings(steps=2), seed=0)]
    [0, 1, 2]
    """
    net, task, rng = settings.network(seed), settings.task(seed), torch_rng(seed)
    parameters = list(net.parameters())
    optimizer = Optimizer(settings, parameters)
    restore = lengths_of([net]) if settings.fixed_lengths else lambda: None
    x, y = _draw(task, settings, rng)
    yield Update(0, net, 0.0, 0.0, (x, y))
    for step in progress_range(settings.steps):
        scores = torch.cat([net(part) for part in x.split(settings.micro_batch or len(x))])
        loss = settings.loss(scores, y)
        net.zero_grad()
        loss.backward()
        optimizer.step([parameter.grad for parameter in parameters])
        restore()
        accuracy = _share_right(scores, y).item()
        x, y = _draw(task, settings, rng)
        yield Update(step + 1, net, loss.item(), accuracy, (x, y))
        if not loss.isfinite():
            return


def _draw(task: Split, settings: Settings, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The next mini-batch of the training data, drawn with replacement; all of them where its size is 0."""
    x, y, size = task.x_train, task.y_train, settings.batch_size
    if not size:
        return x, y
    if settings.classes_per_batch:
        chosen = torch.randperm(int(y.max()) + 1, generator=rng)[: settings.classes_per_batch]
        among = torch.isin(y, chosen).nonzero().flatten()
        batch = among[torch.randint(len(among), (size,), generator=rng)]
    else:
        batch = torch.randint(len(x), (size,), generator=rng)
    return x[batch], y[batch]


@torch.no_grad()
def lengths_of(nets: Sequence[nn.Sequential]) -> Callable[[], None]:
    """Remember how long the weights of each hidden unit are; what is returned gives them that length again.

    >>> net = Settings(depth=1).network(seed=0)
    >>> restore = lengths_of([net])
    >>> before = net[0].weight.detach().clone()
    >>> _ = net[0].weight.data.mul_(3), restore()
    >>> torch.allclose(net[0].weight, before)
    True
    """
    hidden = [layer.weight for net in nets for layer in net if isinstance(layer, nn.Linear) and layer is not net[-1]]
    lengths = [weight.norm(dim=1, keepdim=True).clone() for weight in hidden]

    @torch.no_grad()
    def restore() -> None:
        for weight, length in zip(hidden, lengths, strict=True):
            weight.mul_(length / weight.norm(dim=1, keepdim=True))

    return restore


class Optimizer:
    """SGD, with momentum or without, or Adam, by torch's functions: its classes load its compiler, for a second.

    >>> weight = torch.ones(2)
    >>> Optimizer(Settings(lr=0.5), [weight]).step([torch.ones(2)])
    >>> weight
    tensor([0.5000, 0.5000])

    Raises ValueError for another optimizer.
    """

    def __init__(self, settings: Settings, parameters: Sequence[Tensor]):
        if settings.optimizer not in ("sgd", "adam"):
            raise ValueError(f"optimizer: expected 'sgd' or 'adam', got {settings.optimizer!r}")
        self.settings, self.parameters = settings, list(parameters)
        self.velocities: list[Tensor | None] = [None] * len(self.parameters)
        if settings.optimizer == "adam":
            self.averages = [[torch.zeros_like(parameter) for parameter in self.parameters] for _ in range(2)]
            self.counts = [torch.zeros(()) for _ in self.parameters]

    @torch.no_grad()
    def step(self, gradients: list[Tensor]) -> None:
        """Move the parameters by one step."""
        common = {
            "lr": self.settings.lr,
            "weight_decay": self.settings.weight_decay,
            "maximize": False,
            "foreach": False,
        }
        if self.settings.optimizer == "sgd":
            how = {"momentum": self.settings.momentum, "dampening": 0.0, "nesterov": False, **common}
            sgd(self.parameters, gradients, self.velocities, **how)
        else:
            how = {"amsgrad": False, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, **common}
            adam(self.parameters, gradients, *self.averages, [], self.counts, **how)


def _share_right(scores: Tensor, y: Tensor) -> Tensor:
    """The share of right answers, the mean over the last axis of `y`: (..., N, classes), (..., N) -> (...)."""
    if scores.dim() == y.dim():  # a regression
        return torch.full(y.shape[:-2], torch.nan)
    return (scores.argmax(-1) == y).float().mean(-1)


class Moment(NamedTuple):
    """S networks after `step` updates, as in :class:`Update`."""

    step: int
    ensemble: Ensemble
    loss: np.ndarray  # (S,)
    accuracy: np.ndarray  # (S,)
    batch: tuple[Tensor, Tensor]  # (S, N, ...) twice

    def of(self, i: int) -> Update:
        """One of the networks."""
        return Update(
            self.step, self.ensemble.nets[i], self.loss[i], self.accuracy[i], tuple(part[i] for part in self.batch)
        )


@with_gradients
def updates_together(settings: Settings, seeds: int) -> Iterator[Moment]:
    """Train the networks of seeds 0 to `seeds - 1` as :func:`updates` does each, as one computation.

    Where a network's loss is no longer finite, the others go on; where none is left, training ends.

    >>> [moment.loss.shape for moment in updates_together(Settings(steps=1), seeds=3)]
    [(3,), (3,)]
    """
    ensemble = Ensemble([settings.network(seed) for seed in range(seeds)])
    tasks = [settings.task(seed) for seed in range(seeds)]
    optimizer, rngs = Optimizer(settings, [ensemble.flat]), [torch_rng(seed) for seed in range(seeds)]

    def draw() -> tuple[Tensor, Tensor]:
        pairs = [_draw(task, settings, rng) for task, rng in zip(tasks, rngs, strict=True)]
        return tuple(torch.stack(each) for each in zip(*pairs, strict=True))

    restore = lengths_of(ensemble.nets) if settings.fixed_lengths else lambda: None
    x, y = draw()
    yield Moment(0, ensemble, np.zeros(seeds), np.zeros(seeds), (x, y))
    alive = np.ones(seeds, dtype=bool)
    for step in progress_range(settings.steps):
        scores = torch.cat([ensemble.forward(part) for part in x.split(settings.micro_batch or x.shape[1], 1)], 1)
        losses = settings.losses(scores, y)
        ensemble.gradient.zero_()
        losses.sum().backward()
        optimizer.step([ensemble.gradient])
        restore()
        accuracy, loss = (each.detach().double().numpy() for each in (_share_right(scores, y), losses))
        loss = np.where(alive, loss, np.nan)
        x, y = draw()
        yield Moment(step + 1, ensemble, loss, accuracy, (x, y))
        alive &= np.isfinite(loss)
        if not alive.any():
            return


@cached
@one_thread()
def train(settings: Settings, seed: int) -> Run:
    """Train one network, on one thread so that a seed gives the same bits every time.

    >>> run = train(Settings(norm="bn", lr=1.0, steps=100), seed=0)
    >>> run.loss.shape, bool(run.loss[-1] < run.loss[0]), run.diverged_at
    ((100,), True, None)
    """

    def moments() -> Iterator[Moment]:
        for now in updates(settings, seed):
            yield Moment(now.step, Alone([now.net]), np.array([now.loss]), np.array([now.accuracy]), now.batch)

    (run,) = _runs(settings, [seed], moments())
    return run


@cached
@one_thread()
def train_seeds(settings: Settings, seeds: int = SEEDS) -> list[Run]:
    """Train the networks of seeds 0 to `seeds - 1` side by side: a run for each.

    >>> runs = train_seeds(Settings(norm="bn", lr=1.0, steps=5), seeds=3)
    >>> [run.loss.shape for run in runs]
    [(5,), (5,), (5,)]
    """
    return _runs(settings, range(seeds), updates_together(settings, seeds))


def train_all(arms: Mapping[str, Settings], seeds: int = SEEDS, on: "int | Client" = 1) -> dict[str, list[Run]]:
    """Train every arm with seeds 0 to `seeds - 1`, here or elsewhere (see :func:`utils.sweeps.sweep`).

    >>> runs = train_all({"plain": Settings(steps=5), "bn": Settings(norm="bn", steps=5)}, seeds=3)
    >>> {arm: len(each) for arm, each in runs.items()}
    {'plain': 3, 'bn': 3}
    """
    return by_arm(train_seeds, arms, seeds, on=on)


def _runs(settings: Settings, seeds: Sequence[int], moments: Iterator[Moment]) -> list[Run]:
    """Follow some networks to the end of their training, and evaluate them on the way."""
    x, y = (torch.stack(each) for each in zip(*(settings.task(seed)[2:] for seed in seeds), strict=True))
    eval_at = evenly_spaced(settings.steps, settings.n_evals)
    losses, accuracies, evals = [], [], [[] for _ in seeds]
    diverged_at: list[int | None] = [None for _ in seeds]
    for moment in moments:
        losses.append(moment.loss)
        accuracies.append(moment.accuracy)
        alive = [i for i, when in enumerate(diverged_at) if when is None]
        ended = [i for i in alive if not np.isfinite(moment.loss[i])]
        if ended or moment.step in eval_at:
            scores = moment.ensemble.evaluate(x)
            figures = (_share_right(scores, y).tolist(), settings.losses(scores, y).tolist())
            for i in alive if moment.step in eval_at else ended:
                evals[i].append((moment.step, *(each[i] for each in figures), *_learned(moment.ensemble.nets[i])))
        for i in ended:
            diverged_at[i] = moment.step
    runs = []
    for i, (rows, until) in enumerate(zip(evals, diverged_at, strict=True)):
        curves = (np.array([values[i] for values in each[1:]])[:until] for each in (losses, accuracies))
        *numbers, gamma, beta = zip(*rows, strict=True)
        gamma, beta = ([np.array(layer) for layer in zip(*each, strict=True)] for each in (gamma, beta))
        runs.append(Run(*curves, *map(np.array, numbers), gamma, beta, until))
    return runs


def _learned(net: nn.Sequential) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The gamma and the beta of every normalised layer."""
    norms = [layer for layer in net if hasattr(layer, "running_mean") and layer.affine]
    return tuple([getattr(norm, name).detach().numpy().copy() for norm in norms] for name in ("weight", "bias"))


@cached
@one_thread()
def weights(settings: Settings, seed: int) -> dict[str, np.ndarray]:
    """Train as :func:`train` does and return the network's state dict: with every run it would be most of what is kept.

    >>> list(weights(Settings(depth=1, steps=1), seed=0))
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    for update in updates(settings, seed):
        net = update.net
    return _state(net)


@cached
@one_thread()
def weights_of_seeds(settings: Settings, seeds: int = SEEDS) -> list[dict[str, np.ndarray]]:
    """Train as :func:`train_seeds` does and return the networks' state dicts.

    >>> len(weights_of_seeds(Settings(depth=1, steps=1), seeds=3))
    3
    """
    for moment in updates_together(settings, seeds):
        nets = moment.ensemble.nets
    return [_state(net) for net in nets]


def _state(net: nn.Sequential) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}


def trained(settings: Settings, seed: int = 0) -> nn.Sequential:
    """Return the network that :func:`train` trains, with its trained weights.

    >>> trained(Settings(steps=10)) is trained(Settings(steps=10))
    False
    """
    return _network(settings, seed, weights(settings, seed))


def trained_seeds(settings: Settings, seeds: int = SEEDS) -> list[nn.Sequential]:
    """Return the networks that :func:`train_seeds` trains, with their trained weights.

    >>> len(trained_seeds(Settings(steps=10), seeds=3))
    3
    """
    return [_network(settings, seed, state) for seed, state in enumerate(weights_of_seeds(settings, seeds))]


def _network(settings: Settings, seed: int, state: Mapping[str, np.ndarray]) -> nn.Sequential:
    net = settings.network(seed)
    net.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    return net
