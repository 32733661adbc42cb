"""The papers' experiments at the papers' size: a VGG for 15,000 steps, and MNIST's three sigmoid layers for 50,000.

Each run is a function of its :class:`Paper` settings, a seed and a device, and returns plain numbers. On a GPU the last
digits, and so the course of a chaotic training, are not the same twice; what the book says of these runs are intervals.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.data import Split
from utils.experiments.internal_covariate_shift import PROBE
from utils.experiments.paper_scale import UNITS
from utils.experiments.smoothness import LENGTHS, Line, along_gradient, loss_of
from utils.experiments.two_meanings import gradient_pairs
from utils.networks import initialized, preserve_state
from utils.norms import PAPER_DEFAULTS, Noise
from utils.progress import progress_range
from utils.reproduce.datasets import load
from utils.seeds import torch_rng
from utils.training import evenly_spaced, one_thread, with_gradients

VGG_A = (64, "halve", 128, "halve", 256, 256, "halve", 512, 512, "halve", 512, 512, "halve")
"""Configuration A of Simonyan & Zisserman 2015: channels of 3x3 convolutions, and where the image is halved.

Santurkar et al. 2018 say "VGG" and not which; this is the smallest."""
SIDE = 32  # of a VGG's images, in pixels; smaller ones get an equal border
WINDOW = 250  # mini-batches whose mean accuracy and loss are one point of a curve
TESTS = 16  # how often a run is tested
LOOKS = (0, 1, 10, 100)  # the first updates at which gradients are compared; more follow, one each WINDOW * 5
NORMS = ("plain", "bn", "noisy", "noisy plain")


@dataclass(frozen=True)
class Paper:
    """One arm at a paper's size."""

    network: str  # "vgg" or "sigmoids"
    data: str
    norm: str
    lr: float
    steps: int
    batch_size: int

    @property
    def name(self) -> str:
        """What the arm is called in the file of results.

        >>> VGG["bn, rate 0.1"].name
        'bn, rate 0.1'
        """
        return f"{self.norm}, rate {self.lr:g}"


def _arms(pairs: Sequence[tuple[str, float]], **common: object) -> dict[str, Paper]:
    return {arm.name: arm for norm, lr in pairs for arm in [Paper(norm=norm, lr=lr, **common)]}


VGG = _arms(
    [("plain", 0.1), ("bn", 0.1), ("noisy", 0.1), ("bn", 0.5), ("plain", 0.5), ("noisy plain", 0.1)],
    network="vgg",
    data="fashion-mnist",
    steps=15_000,
    batch_size=128,
)
"""Santurkar et al. 2018, figures 1 to 4: SGD without momentum, Glorot, no augmentation. Noise as in their A.2.1."""
SIGMOIDS = _arms(
    [(norm, lr) for lr in (0.1, 1.0, 3.0) for norm in ("plain", "bn")],
    network="sigmoids",
    data="mnist",
    steps=50_000,
    batch_size=60,
)
"""Ioffe & Szegedy 2015, section 4.1: 28x28 binary images, three layers of 100 sigmoids, small Gaussian weights. They do
not say at which rate, so there are several."""


def run(paper: Paper, seed: int, device: str = "cpu") -> dict[str, object]:
    """Train one network on a device and return what was measured, as numbers, lists of them, and dicts of lists.

    "curve_steps", "loss" and "accuracy": of the mini-batches, the means of 250 each.
    "test_steps" and "test_accuracy". "diverged_at": the step by which the loss was no longer finite, or None. Of a VGG
    also what :func:`watch_vgg` measures, of the sigmoids what :func:`watch_sigmoids` does.

    >>> run(Paper("sigmoids", "none", "bn", 0.1, 2, 60), seed=0)
    Traceback (most recent call last):
    ValueError: data: expected one of ['mnist', 'fashion-mnist', 'cifar-10'], got 'none'
    """
    return train(paper, seed, torch.device(device), prepared(paper, load(paper.data)))


def prepared(paper: Paper, split: Split) -> Split:
    """Make the inputs of a paper: for the sigmoids binary images, flat; for a VGG 32x32, each channel standardised.

    >>> split = Split(torch.rand(5, 1, 28, 28), torch.zeros(5), torch.rand(3, 1, 28, 28), torch.zeros(3))
    >>> prepared(VGG["bn, rate 0.1"], split).x_train.shape
    torch.Size([5, 1, 32, 32])
    >>> prepared(SIGMOIDS["bn, rate 0.1"], split).x_test.unique().tolist()
    [0.0, 1.0]
    """
    x, _, x_test, _ = split
    if paper.network == "sigmoids":
        x, x_test = ((each.flatten(1) > 0.5).float() for each in (x, x_test))
    else:
        border = [(SIDE - x.shape[-1]) // 2] * 4
        mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
        x, x_test = (F.pad((each - mean) / std, border, value=-(mean / std).mean().item()) for each in (x, x_test))
    return split._replace(x_train=x, x_test=x_test)


@one_thread()
@with_gradients
def train(paper: Paper, seed: int, device: torch.device, split: Split) -> dict[str, object]:
    """Do what :func:`run` does, on data that are ready. A loss that is not finite ends it.

    >>> arm = Paper("sigmoids", "mnist", "bn", 0.1, steps=50, batch_size=8)
    >>> digits = Split(torch.rand(20, 784), torch.zeros(20).long(), torch.rand(5, 784), torch.zeros(5).long())
    >>> found = train(arm, 0, torch.device("cpu"), digits)
    >>> len(found["loss"]), found["test_steps"][-1], found["diverged_at"]
    (1, 50, None)
    """
    torch.backends.cudnn.benchmark = True
    net = network(paper, split.x_train.shape[1], seed, device)
    x, y, x_test, y_test = (part.to(device) for part in split)
    batches = torch.randint(len(x), (paper.steps + 1, paper.batch_size), generator=torch_rng(seed)).to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=paper.lr)
    watch = (watch_vgg if paper.network == "vgg" else watch_sigmoids)(paper, net, x)
    found = {"curve_steps": [], "loss": [], "accuracy": [], "test_steps": [], "test_accuracy": [], "diverged_at": None}
    tested, sums = set(evenly_spaced(paper.steps, TESTS)), torch.zeros(2, device=device)
    next(watch)
    for step in progress_range(paper.steps + 1):
        batch = x[batches[step]], y[batches[step]]
        if step in tested:
            found["test_steps"].append(step)
            found["test_accuracy"].append(accuracy(net, x_test, y_test))
        watch.send((step, batch))
        if step == paper.steps:
            break
        scores = net(batch[0])
        loss = F.cross_entropy(scores, batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sums += torch.stack([loss.detach(), (scores.argmax(1) == batch[1]).float().mean()])
        if (step + 1) % WINDOW == 0 or step + 1 == paper.steps:
            since = step % WINDOW + 1
            mean_loss, right = (sums / since).tolist()
            sums.zero_()
            if not np.isfinite(mean_loss):
                found["diverged_at"] = step + 1
                break
            for name, value in (("curve_steps", step + 1), ("loss", mean_loss), ("accuracy", right)):
                found[name].append(value)
    return found | watch.send(None)


def network(paper: Paper, inputs: int, seed: int, device: torch.device) -> nn.Sequential:
    """Build the untrained network: the same weights for a seed, wherever it is trained.

    >>> len(network(SIGMOIDS["bn, rate 0.1"], 784, 0, torch.device("cpu")))
    10
    """
    rng = torch_rng(seed)
    if paper.norm not in NORMS:
        raise ValueError(f"norm: expected one of {NORMS}, got {paper.norm!r}")
    noise = torch.Generator(device).manual_seed(torch_rng(seed).initial_seed())
    layers: list[nn.Module] = []
    if paper.network == "sigmoids":
        for wide_in, wide_out in ((inputs, 100), (100, 100), (100, 100)):
            linear = initialized(nn.Linear(wide_in, wide_out, bias=paper.norm == "plain"), 0.1, rng)
            layers += [linear, *_norm(paper.norm, nn.BatchNorm1d, wide_out, noise), nn.Sigmoid()]
        return nn.Sequential(*layers, initialized(nn.Linear(100, 10), 0.1, rng)).to(device)
    for each in VGG_A:
        if each == "halve":
            layers.append(nn.MaxPool2d(2))
            continue
        conv = nn.Conv2d(inputs, each, 3, padding=1, bias="plain" in paper.norm)
        layers += [initialized(conv, "glorot", rng), *_norm(paper.norm, nn.BatchNorm2d, each, noise), nn.ReLU()]
        inputs = each
    layers += [nn.Flatten(), initialized(nn.Linear(inputs, 10), "glorot", rng)]
    return nn.Sequential(*layers).to(device, memory_format=torch.channels_last)  # the faster one on a GPU


def _norm(name: str, norm: Callable[[int], nn.Module], width: int, generator: torch.Generator) -> list[nn.Module]:
    """torch's own BN, which tests hold the book's to, and the noise."""
    return [norm(width)] * (name in ("bn", "noisy")) + [Noise(PAPER_DEFAULTS, generator)] * ("noisy" in name)


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of right answers in evaluation mode, a thousand images at a time.

    >>> accuracy(nn.Linear(2, 2), torch.zeros(1, 2), torch.zeros(1)) in (0.0, 1.0)
    True
    """
    net.eval()
    right = sum(
        (net(part).argmax(1) == target).sum() for part, target in zip(x.split(1000), y.split(1000), strict=True)
    )
    net.train()
    return right.item() / len(x)


Watch = Iterator[dict[str, object] | None]  # is sent (step, batch) before every update, and None at the end


def watch_vgg(paper: Paper, net: nn.Sequential, x: Tensor) -> Watch:
    """Measure along the way what the book measures of its small networks, with the book's own functions.

    "probe_steps", every 250 updates, and for each "range" (of the loss along the gradient), "gradient" (its largest
    change), "beta" (the largest change over the distance), "beta_far" (the same at the longest length): Santurkar et
    al., figure 4. "look_steps" and "distance", "cosine": Definition 2.1, a list of the layers at each, without noise.
    "jump" and "drift": how far the means of what enters each nonlinearity moved by one update, and since the start, on
    500 training images, in standard deviations, the mean over the units: a list of the layers at each look.

    >>> arm = VGG["bn, rate 0.1"]
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 10))
    >>> x = torch.rand(8, 1, 2, 2)
    >>> watch = watch_vgg(arm, net, x)
    >>> next(watch), watch.send((0, (x, torch.zeros(8).long()))), watch.send(None)["probe_steps"]
    (None, None, [0])
    """
    rates, probe = [paper.lr * length for length in LENGTHS], x[:PROBE]
    looks = {*LOOKS, *range(WINDOW * 5, paper.steps, WINDOW * 5)} - {paper.steps}
    found = {name: [] for name in ("probe_steps", "range", "gradient", "beta", "beta_far")}
    found |= {name: [] for name in ("look_steps", "distance", "cosine", "jump", "drift")}
    start = activation_statistics(net, probe)
    before, has_noise = None, "noisy" in paper.norm  # before: the network, its batch and its statistics, at a look
    while (given := (yield)) is not None:
        step, batch = given
        if before is not None:
            old, old_batch, (mean, std) = before
            if not has_noise:
                pairs = gradient_pairs(old, net, *old_batch, F.cross_entropy)
                found["distance"].append([pair.distance for pair in pairs])
                found["cosine"].append([pair.cosine for pair in pairs])
            now = activation_statistics(net, probe)
            found["jump"].append(_moved((mean, std), now))
            found["drift"].append(_moved(start, now))
            before = None
        if step % WINDOW == 0 and step < paper.steps:
            line = along_gradient(loss_of(net, *batch, F.cross_entropy), list(net.parameters()), rates)
            found["probe_steps"].append(step)
            for name, value in extents(line).items():
                found[name].append(value)
        if step in looks:
            found["look_steps"].append(step)
            before = None if has_noise else deepcopy(net), batch, activation_statistics(net, probe)
    found["look_steps"] = found["look_steps"][: len(found["jump"])]
    yield found


def extents(line: Line) -> dict[str, float]:
    """The extents of a line along the gradient, as `watch_vgg` names them.

    >>> line = Line(1.0, 2.0, np.array([1.0, 2.0]), np.array([0.5, 3.0]), np.array([4.0, 4.0]))
    >>> {name: float(value) for name, value in extents(line).items()}
    {'range': 2.5, 'gradient': 4.0, 'beta': 4.0, 'beta_far': 2.0}
    """
    betas = np.divide(line.gradient_changes, line.distances, out=np.zeros(len(line.losses)), where=line.distances > 0)
    values = (np.ptp(line.losses), line.gradient_changes.max(), betas.max(), betas[-1])
    return dict(zip(("range", "gradient", "beta", "beta_far"), values, strict=True))


@torch.no_grad()
def activation_statistics(net: nn.Sequential, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Mean and standard deviation (1/m) of each unit of what enters every nonlinearity, in training mode.

    >>> mean, std = activation_statistics(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.rand(5, 3))
    >>> [tuple(each.shape) for each in (*mean, *std)]
    [(2,), (2,)]
    """
    means, stds = [], []
    with preserve_state(net):
        for module in net:
            if isinstance(module, (nn.ReLU, nn.Sigmoid)):
                values = x.transpose(0, 1).flatten(1).double()
                means.append(values.mean(1))
                stds.append(values.std(1, correction=0))
            x = module(x)
    return means, stds


def _moved(before: tuple, now: tuple) -> list[float]:
    """How far a layer's means moved, the mean over units, in the layer's mean standard deviation now."""
    layers = zip(before[0], *now, strict=True)
    return [((mean - old).abs().mean() / std.mean()).item() for old, mean, std in layers]


def watch_sigmoids(paper: Paper, net: nn.Sequential, x: Tensor) -> Watch:
    """Measure what Ioffe & Szegedy draw in figure 1b and c: the inputs of the last hidden layer's sigmoids.

    "quantile_steps", and at each "quantiles": the 15th, 50th and 85th percentile of what enters each of the last 100
    sigmoids, on 1,000 training images, for the first :data:`UNITS` of them: (3, units).

    >>> arm = Paper("sigmoids", "mnist", "bn", 0.1, steps=50, batch_size=8)
    >>> watch = watch_sigmoids(arm, network(arm, 784, 0, torch.device("cpu")), torch.rand(20, 784))
    >>> next(watch), watch.send((0, ())), np.shape(watch.send(None)["quantiles"])
    (None, None, (1, 3, 5))
    """
    probe, wanted = x[:1000], set(evenly_spaced(paper.steps, 26))
    found = {"quantile_steps": [], "quantiles": []}
    while (given := (yield)) is not None:
        if given[0] in wanted:
            found["quantile_steps"].append(given[0])
            found["quantiles"].append(_quantiles(net, probe))
    yield found


@torch.no_grad()
def _quantiles(net: nn.Sequential, x: Tensor) -> list[list[float]]:
    with preserve_state(net):
        for module in net[:-2]:
            x = module(x)
    return torch.quantile(x[:, :UNITS], x.new_tensor([0.15, 0.5, 0.85]), 0).tolist()
