"""Twelve wrong implementations, as they are found in public code, and what each of them makes when it is run.

The chapter shows the code without its docstrings (:func:`listing`); a test holds the two equal. The mistakes are real,
the code is ours: it is as short and as bare as such code is, without annotations.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from utils.cache import cached
from utils.data import fashion_mnist
from utils.networks import mlp
from utils.seeds import torch_rng
from utils.training import SEEDS, Settings, one_thread

# --- the layer, in training ------------------------------------------------------------------------------------------


def normalize_batch(x, eps=1e-5):
    """Give each unit of a batch (N, C) the mean 0 and the variance 1: it has one mean for all of them.

    >>> normalize_batch(torch.tensor([[1.0, 10.0], [3.0, 10.0]])).mean(0)
    tensor([-0.9847,  0.9847])
    """
    mean = x.mean()
    var = x.var(correction=0)
    return (x - mean) / torch.sqrt(var + eps)


def normalize_channels(x, eps=1e-5):
    """Give each channel of images (N, C, H, W) the mean 0 and the variance 1: its rows mix the channels.

    >>> normalize_channels(torch.rand(4, 3, 5, 5)).shape
    torch.Size([4, 3, 5, 5])
    """
    N, C, H, W = x.shape
    rows = x.reshape(-1, C)
    mean, var = rows.mean(0), rows.var(0, correction=0)
    rows = (rows - mean) / torch.sqrt(var + eps)
    return rows.reshape(N, C, H, W)


def normalize_images(x, gamma, beta, eps=1e-5):
    """Normalise images (N, C, H, W) by channel, scale and shift: each image has a mean of its own.

    >>> normalize_images(torch.rand(4, 3, 5, 5), torch.ones(3), torch.zeros(3)).mean((2, 3)).abs().max() < 1e-5
    tensor(True)
    """
    mean = x.mean((2, 3), keepdim=True)
    var = x.var((2, 3), correction=0, keepdim=True)
    x_hat = (x - mean) / torch.sqrt(var + eps)
    return gamma[:, None, None] * x_hat + beta[:, None, None]


def normalize_safely(x, eps=1e-5):
    """Normalise (N, C) without a division by zero: epsilon stands outside of the root.

    >>> normalize_safely(torch.tensor([[0.0], [0.002]])).ravel()
    tensor([-0.9901,  0.9901])
    """
    mean, var = x.mean(0), x.var(0, correction=0)
    sigma = torch.sqrt(var) + eps
    return (x - mean) / sigma


def normalize_fast(x, eps=1e-5):
    """Normalise (N, C) in one pass over the data: the variance is a difference of two large numbers.

    >>> normalize_fast(torch.tensor([[1.0], [3.0]])).ravel()
    tensor([-1.0000,  1.0000])
    """
    mean = x.mean(0)
    var = (x**2).mean(0) - mean**2
    return (x - mean) / torch.sqrt(var + eps)


def normalize_in_training(x, gamma, beta, eps=1e-5):
    """Normalise, scale and shift (N, C): the statistics are constants in the backward pass.

    >>> normalize_in_training(torch.tensor([[1.0], [3.0]]), torch.ones(1), torch.zeros(1)).ravel()
    tensor([-1.0000,  1.0000])
    """
    with torch.no_grad():
        mean = x.mean(0)
        var = x.var(0, correction=0)
    x_hat = (x - mean) / torch.sqrt(var + eps)
    return gamma * x_hat + beta


# --- in use, and measuring -------------------------------------------------------------------------------------------


def remember(running_mean, running_var, x, momentum=0.1):
    """Return the running statistics after one more batch: momentum weighs the old ones.

    >>> remember(torch.zeros(1), torch.ones(1), torch.tensor([[1.0], [3.0]]))
    (tensor([1.8000]), tensor([1.9000]))
    """
    mean, var = x.mean(0), x.var(0, correction=1)
    running_mean = momentum * running_mean + (1 - momentum) * mean
    running_var = momentum * running_var + (1 - momentum) * var
    return running_mean, running_var


def training_step(x, running_mean, running_var, momentum=0.1, eps=1e-5):
    """Normalise a batch (N, C), and move the running statistics: it keeps the biased variance.

    >>> mean, var = torch.zeros(1), torch.ones(1)
    >>> _ = training_step(torch.tensor([[1.0], [3.0]]), mean, var)
    >>> mean, var
    (tensor([0.2000]), tensor([1.]))
    """
    mean, var = x.mean(0), x.var(0, correction=0)
    running_mean.lerp_(mean.detach(), momentum)
    running_var.lerp_(var.detach(), momentum)
    return (x - mean) / torch.sqrt(var + eps)


class Layer(nn.BatchNorm1d):
    """A layer with torch's parameters and buffers: it asks for gradients where it should ask for its mode.

    >>> layer = Layer(1).eval()
    >>> layer(torch.tensor([[1.0], [3.0]])).detach().ravel(), layer.running_mean
    (tensor([-1.0000,  1.0000]), tensor([0.2000]))
    """

    def forward(self, x):
        """Normalise (N, C)."""
        mean, var = self.running_mean, self.running_var
        if torch.is_grad_enabled():
            mean, var, seen = x.mean(0), x.var(0, correction=0), x.detach()
            self.running_mean.lerp_(seen.mean(0), self.momentum)
            self.running_var.lerp_(seen.var(0), self.momentum)
        return self.weight * (x - mean) / torch.sqrt(var + self.eps) + self.bias


def gradient_is_right(backward, x, gamma):
    """Compare a backward pass with autograd's: the gradient that comes in is all ones, and the right answer zero.

    >>> gradient_is_right(lambda g, x, gamma: 0 * g, torch.randn(5, 3), torch.ones(3))
    True
    """
    x = x.clone().requires_grad_()
    out = F.batch_norm(x, None, None, gamma, training=True)
    out.sum().backward()
    ours = backward(torch.ones_like(out), x.detach(), gamma)
    return torch.allclose(ours, x.grad, atol=1e-5)


def gradient_change(gradient, batches, w, lr):
    """How far one step changes the gradient: the two gradients are those of different mini-batches.

    >>> round(gradient_change(lambda w, batch: w + batch, iter([0.0, 1.0]), torch.zeros(4), lr=0.0).item(), 3)
    2.0
    """
    here = gradient(w, next(batches))
    there = gradient(w - lr * here, next(batches))
    return (there - here).norm()


def loss_band(loss, gradient, w, rates, steps):
    """The lowest and the highest loss along the gradient at each step: each rate trains a network of its own.

    >>> low, high = loss_band(lambda w: (w**2).sum() / 2, lambda w: w, torch.ones(2), [0.1, 0.5], steps=2)
    >>> low, high
    (tensor([0.2500, 0.0625]), tensor([0.8100, 0.6561]))
    """
    losses = torch.empty(len(rates), steps)
    for i, lr in enumerate(rates):
        v = w.clone()
        for step in range(steps):
            v = v - lr * gradient(v)
            losses[i, step] = loss(v)
    return losses.amin(0), losses.amax(0)


BUGS: dict[str, Callable] = {
    bug.__name__: bug
    for bug in (
        normalize_batch,
        normalize_channels,
        normalize_images,
        normalize_safely,
        normalize_fast,
        normalize_in_training,
        remember,
        training_step,
        Layer,
        gradient_is_right,
        gradient_change,
        loss_band,
    )
}
"""All twelve by their names, from easy to hard."""


def listing(bug: Callable) -> str:
    """The code of a function or a class of this module as the chapter shows it: without its docstrings.

    >>> print(listing(normalize_batch))
    def normalize_batch(x, eps=1e-5):
        mean = x.mean()
        var = x.var(correction=0)
        return (x - mean) / torch.sqrt(var + eps)
    """
    source = textwrap.dedent(inspect.getsource(bug))
    lines, hidden = source.splitlines(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            hidden |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    shown = [line for i, line in enumerate(lines, start=1) if i not in hidden]
    while "" in shown and isinstance(bug, type):
        shown.remove("")
    return "\n".join(shown)


# --- what they make: the layer, in training --------------------------------------------------------------------------


@cache
def units(examples: int = 60) -> Tensor:
    """Wu + b of the 100 units of an untrained first layer for raw digits: (examples, 100).

    >>> units().shape
    torch.Size([60, 100])
    """
    settings = Settings(inputs="raw")
    with torch.no_grad():
        return settings.network(0)[0](settings.task().x_train[:examples])


@cache
def channels(examples: int = 60) -> Tensor:
    """What an untrained convolution makes of pictures of clothes: (examples, 8, 14, 14).

    >>> channels().shape
    torch.Size([60, 8, 14, 14])
    """
    conv = Settings(data="fashion", depth=1, width=8).network(0)[0]
    with torch.no_grad():
        return conv(fashion_mnist(size=14).x_train[:examples])


class Moments(NamedTuple):
    """Mean and standard deviation of each unit or channel after normalising, (C,) each."""

    mean: np.ndarray
    std: np.ndarray


def moments(x: Tensor, normalize: Callable[[Tensor], Tensor]) -> Moments:
    """The moments of every unit of (N, C), or channel of (N, C, H, W), after `normalize`.

    >>> moments(units(), by_torch).mean.round(3).max() == 0
    np.True_
    """
    y = normalize(x).transpose(0, 1).flatten(1).numpy()
    return Moments(y.mean(1, dtype=float), y.std(1, dtype=float))


def by_torch(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
    """Normalise a batch as PyTorch does in training.

    >>> by_torch(torch.tensor([[1.0], [3.0]])).ravel()
    tensor([-1.0000,  1.0000])
    """
    return F.batch_norm(x, None, None, gamma, beta, training=True)


class Brightness(NamedTuple):
    """The mean of one channel in every image, (N,) each."""

    before: np.ndarray
    torch: np.ndarray
    code: np.ndarray


def brightness(channel: int = 0) -> Brightness:
    """How bright each of 60 images is in one channel, before normalising and after it, by torch and by the code.

    >>> bool(np.abs(brightness().code).max() < 1e-4 < np.ptp(brightness().torch))
    True
    """
    x, one, zero = channels(), torch.ones(8), torch.zeros(8)
    return Brightness(*(y[:, channel].mean((1, 2)).numpy() for y in (x, by_torch(x), normalize_images(x, one, zero))))


def widths_out(widths: np.ndarray, normalize: Callable[[Tensor], Tensor]) -> np.ndarray:
    """The standard deviation after normalising of units that go in with these: (n,) -> (n,).

    >>> widths_out(np.array([1e-4]), normalize_safely).round(2)
    array([0.91])
    """
    z = torch.randn(200, 1, generator=torch_rng(0), dtype=torch.float64)
    z = (z - z.mean()) / z.std(correction=0)
    return normalize(z * torch.from_numpy(widths)).std(0, correction=0).numpy()


class Shifted(NamedTuple):
    """Units of standard deviation 1 far from zero, after normalising."""

    offsets: np.ndarray  # (offsets,) the mean that goes in
    std: np.ndarray  # (offsets, units) the standard deviation that comes out
    lost: np.ndarray  # (offsets,) the share of units that are no numbers any more


def far_from_zero(normalize: Callable[[Tensor], Tensor], n: int = 200) -> Shifted:
    """Normalise `n` units in float32, whose means are 1 to 100,000 times their standard deviations.

    >>> far_from_zero(by_torch).lost.max() == 0
    np.True_
    """
    z = torch.randn(60, n, generator=torch_rng(0))
    offsets = 10.0 ** np.arange(0, 5.5, 0.5)
    outs = [normalize(z + float(offset)).double().std(0, correction=0).numpy() for offset in offsets]
    std = np.stack(outs)
    return Shifted(offsets, std, np.isnan(std).mean(1))


def lost_in_one_pass(seeds: int = SEEDS, offset: float = 10_000.0) -> np.ndarray:
    """At this offset the code's share of wrong units less torch's, (seeds,): wrong by a tenth, or no number.

    >>> lost_in_one_pass(seeds=2, offset=1.0).tolist()
    [0.0, 0.0]
    """

    def share(normalize: Callable[[Tensor], Tensor], z: Tensor) -> float:
        std = normalize(z + offset).double().std(0, correction=0)
        return 1 - (torch.abs(std - 1) < 0.1).double().mean().item()

    drawn = [torch.randn(60, 200, generator=torch_rng(seed)) for seed in range(seeds)]
    return np.array([share(normalize_fast, z) - share(by_torch, z) for z in drawn])


class Descent(NamedTuple):
    """Gradient descent on a bias that stands before the layer, (steps + 1,) each."""

    bias: np.ndarray
    loss: np.ndarray


@one_thread()
def descend(normalize: Callable[[Tensor, Tensor, Tensor], Tensor], steps: int = 100, lr: float = 0.5) -> Descent:
    """Train the bias b of one unit, x = u + b, so that what the layer makes of x comes nearer to 1.

    Ioffe & Szegedy 2015, section 2: no b can do that. In float64.

    >>> bool(np.abs(descend(by_torch).bias).max() < 1e-9)
    True
    """
    u, one, zero = units()[:, :1].double(), torch.ones(1).double(), torch.zeros(1).double()
    b, found = torch.zeros(1).double().requires_grad_(), []
    for _ in range(steps + 1):
        loss = (normalize(u + b, one, zero) - 1).square().mean()
        (slope,) = torch.autograd.grad(loss, b)
        found.append((b.item(), loss.item()))
        b.data -= lr * slope
    return Descent(*np.array(found).T)


def loss_for_the_way() -> np.ndarray:
    """By how much the loss changes over how far the code's bias travels, and how far torch's bias travels: two errors.

    >>> bool(loss_for_the_way().max() < 1e-9)
    True
    """
    code, torchs = descend(normalize_in_training), descend(by_torch)
    return np.array([np.ptp(code.loss) / np.ptp(code.bias), np.ptp(torchs.bias)])


# --- in use ----------------------------------------------------------------------------------------------------------


class Remembered(NamedTuple):
    """A running mean of one unit, (steps,) each."""

    batch: np.ndarray
    torch: np.ndarray
    code: np.ndarray


@one_thread()
def running_means(momentum: float = 0.1, steps: int = 100, m: int = 20, seed: int = 0) -> Remembered:
    """Follow the mean of one unit, 1 with a standard deviation of 1, over batches of `m`, by torch and by the code.

    >>> found = running_means(momentum=0.5)
    >>> bool(np.allclose(found.torch, found.code))
    True
    """
    x = 1 + torch.randn(steps, m, 1, generator=torch_rng(seed))
    layer, mean, var, kept = nn.BatchNorm1d(1, momentum=momentum), torch.zeros(1), torch.ones(1), []
    for batch in x:
        layer(batch)
        mean, var = remember(mean, var, batch, momentum)
        kept.append((batch.mean().item(), layer.running_mean.item(), mean.item()))
    return Remembered(*np.array(kept).T)


def error_ratios(seeds: int = SEEDS) -> np.ndarray:
    """How far the code's running mean is from the true one over steps 50 to 100, over torch's: (seeds,).

    >>> bool(error_ratios(seeds=2).min() > 1)
    True
    """
    runs = [running_means(seed=seed) for seed in range(seeds)]
    return np.array([np.divide(*(np.abs(each[50:] - 1).mean() for each in (run.code, run.torch))) for run in runs])


class Modes(NamedTuple):
    """The mean width of what comes out, in training and in evaluation, for each batch size: (sizes,) each."""

    sizes: np.ndarray
    training: np.ndarray
    torch: np.ndarray
    code: np.ndarray


@cached
def widths_in_evaluation(steps: int = 300) -> Modes:
    """Feed batches of several sizes, then compare the width of 5,000 values in evaluation: 100 normal units.

    >>> widths_in_evaluation(steps=2).sizes.tolist()
    [2, 4, 8, 16, 32, 64]
    """
    rng, sizes = torch_rng(0), 2 ** np.arange(1, 7)
    with one_thread(), torch.no_grad():
        found = [_widths(m, steps, rng) for m in sizes.tolist()]
    return Modes(sizes, *np.array(found).T)


def _widths(m: int, steps: int, rng: torch.Generator) -> tuple[float, float, float]:
    """In training, and in evaluation by torch and by the code."""
    layer, mean, var = nn.BatchNorm1d(100, momentum=0.02), torch.zeros(100), torch.ones(100)
    for _ in range(steps):
        x = torch.randn(m, 100, generator=rng)
        in_training = layer(x)
        training_step(x, mean, var, momentum=0.02)
    fresh = torch.randn(5000, 100, generator=rng)
    in_use = layer.eval()(fresh), F.batch_norm(fresh, mean, var)
    return tuple(each.std(0, correction=0).mean().item() for each in (in_training, *in_use))


def off_from_the_root() -> np.ndarray:
    """How far the width in evaluation over torch's is from the root of m / (m - 1), in parts of it: (sizes,).

    >>> bool(off_from_the_root().max() < 0.01)
    True
    """
    found = widths_in_evaluation()
    return np.abs(found.code / found.torch / np.sqrt(found.sizes / (found.sizes - 1)) - 1)


class Asked(NamedTuple):
    """One image, asked about again and again in evaluation, (times,) each."""

    answer: np.ndarray  # what the layer gives for it, one unit
    running_mean: np.ndarray  # of that unit, before each time


def ask_again(layer: type[nn.BatchNorm1d], no_grad: bool = False, times: int = 10) -> Asked:
    """Ask a layer in evaluation about one image beside nine others, which change each time.

    >>> bool(np.ptp(ask_again(nn.BatchNorm1d).answer) == 0)
    True
    """
    x, norm, found = units(500), layer(100), []
    norm(x[:60])
    norm.eval()
    with torch.set_grad_enabled(not no_grad):
        for i in range(times):
            kept = norm.running_mean[0].item()
            company = x[60 + 9 * i : 69 + 9 * i]
            found.append((norm(torch.cat([x[:1], company]))[0, 0].item(), kept))
    return Asked(*np.array(found).T)


# --- measuring -------------------------------------------------------------------------------------------------------


def backward(g, x, gamma, eps=1e-5):
    """The right backward pass of BN, (N, C), (N, C), (C,) -> (N, C).

    >>> gradient_is_right(backward, torch.randn(5, 3), torch.ones(3))
    True
    """
    sigma = torch.sqrt(x.var(0, correction=0) + eps)
    x_hat = (x - x.mean(0)) / sigma
    return gamma / sigma * (g - g.mean(0) - x_hat * (g * x_hat).mean(0))


WRONG: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "always zero": lambda g, x, gamma: 0 * g,
    "the wrong sign": lambda g, x, gamma: -backward(g, x, gamma),
    "γ forgotten": lambda g, x, gamma: backward(g, x, torch.ones_like(gamma)),
    "x̂'s part left in": lambda g, x, gamma: gamma * (g - g.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5),
    "the mean left in": lambda g, x, gamma: backward(g, x, gamma) + g.mean(0),
}


class Judged(NamedTuple):
    """Whether a backward pass passes the check, and whether it passes one with a random gradient."""

    ones: bool
    random: bool


def judge(backward: Callable[[Tensor, Tensor, Tensor], Tensor], seed: int = 0) -> Judged:
    """Try a backward pass on 30 examples of 5 units, with each of the two checks.

    >>> judge(backward), judge(WRONG["always zero"])
    (Judged(ones=True, random=True), Judged(ones=True, random=False))
    """
    rng = torch_rng(seed)
    x, g, gamma = torch.randn(30, 5, generator=rng), torch.randn(30, 5, generator=rng), torch.rand(5, generator=rng)
    leaf = x.clone().requires_grad_()
    by_torch(leaf, gamma + 0.5).backward(g)
    at_random = torch.allclose(backward(g, x, gamma + 0.5), leaf.grad, atol=1e-5)
    return Judged(gradient_is_right(backward, x, gamma + 0.5), at_random)


def passes_too_many(seeds: int = SEEDS) -> np.ndarray:
    """Of :data:`WRONG`, how many more pass the code's check than one with a random gradient, (seeds,).

    >>> passes_too_many(seeds=2).tolist()
    [4, 4]
    """
    judged = [[judge(wrong, seed) for wrong in WRONG.values()] for seed in range(seeds)]
    return np.array([sum(each.ones - each.random for each in row) for row in judged])


RATES_ALONG = (0.05, 0.2, 0.8)
STEPS = 60


class Flat(NamedTuple):
    """A network as a function of all its parameters in one vector, on the digits."""

    w: Tensor  # the first parameters
    loss: Callable[[Tensor], Tensor]  # on 300 digits
    gradient: Callable[..., Tensor]  # on the same, or on another batch
    batches: Iterator[tuple[Tensor, Tensor]]  # of 60 of them, for ever


def flat_network(norm: str, seed: int = 0, depth: int = 3, width: int = 30) -> Flat:
    """Build a small ReLU network with this norm.

    >>> net = flat_network("bn")
    >>> bool(net.loss(net.w - 0.1 * net.gradient(net.w)) < net.loss(net.w))
    True
    """
    net = mlp([64, *[width] * depth, 10], norm, "relu", "he", torch_rng(seed))
    shapes = {name: p.shape for name, p in net.named_parameters()}
    x, y = (each[:300] for each in Settings().task()[:2])

    def loss(w: Tensor, batch: tuple[Tensor, Tensor] = (x, y)) -> Tensor:
        parts = w.split([shape.numel() for shape in shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return F.cross_entropy(functional_call(net, named, batch[0]), batch[1])

    def gradient(w: Tensor, batch: tuple[Tensor, Tensor] = (x, y)) -> Tensor:
        w = w.detach().requires_grad_()
        return torch.autograd.grad(loss(w, batch), w)[0]

    w = torch.cat([p.detach().flatten() for p in net.parameters()])
    parts = list(zip(x.split(60), y.split(60), strict=True))
    return Flat(w, torch.no_grad()(loss), gradient, cycle(parts))


LENGTHS = 10.0 ** np.arange(-3.0, 0.1, 0.5)


class Changes(NamedTuple):
    """How far a step changes the gradient, for every rate of :data:`LENGTHS`."""

    code: np.ndarray
    right: np.ndarray


@cached
def gradient_changes(norm: str, seed: int = 0) -> Changes:
    """Measure it at the start, by the code, and with one batch for both gradients.

    >>> found = gradient_changes("bn")
    >>> bool(found.right[0] < 0.1 * found.code[0])
    True
    """
    net, found = flat_network(norm, seed), []
    with one_thread():
        for lr in LENGTHS:
            first = next(net.batches)
            other = next(net.batches)
            code = gradient_change(net.gradient, iter([first, other]), net.w, lr)
            found.append((code.item(), gradient_change(net.gradient, iter([first, first]), net.w, lr).item()))
    return Changes(*np.array(found).T)


def floors(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """At the smallest step, the change that the code measures over that with one batch, (seeds,) for each norm.

    >>> sorted(floors(seeds=2))
    ['bn', 'plain']
    """
    runs = {norm: [gradient_changes(norm, seed) for seed in range(seeds)] for norm in ("plain", "bn")}
    return {norm: np.array([run.code[0] / run.right[0] for run in each]) for norm, each in runs.items()}


class Bands(NamedTuple):
    """The loss at each step, by the code and along the gradient of one run: (steps,) each, and the code's own runs."""

    runs: np.ndarray  # (rates, steps)
    code: np.ndarray  # (2, steps): lowest, highest
    along: np.ndarray  # the same


def probe(loss, gradient, w, rates, steps):
    """The lowest and the highest loss along the gradient at each step of training at the first of the rates.

    >>> probe(lambda w: (w**2).sum() / 2, lambda w: w, torch.ones(2), [0.1, 0.5], steps=2)
    (tensor([0.2500, 0.2025]), tensor([0.8100, 0.6561]))
    """
    losses = torch.empty(len(rates), steps)
    for step in range(steps):
        g = gradient(w)
        for i, lr in enumerate(rates):
            losses[i, step] = loss(w - lr * g)
        w = w - rates[0] * g
    return losses.amin(0), losses.amax(0)


@cached
def bands(norm: str, seed: int = 0, steps: int = STEPS) -> Bands:
    """Train a small network at each of :data:`RATES_ALONG`, and probe along the gradient of the first run.

    >>> found = bands("bn", steps=3)
    >>> found.runs.shape, found.along.shape
    ((3, 3), (2, 3))
    """
    net = flat_network(norm, seed)
    asked = SimpleNamespace(loss=net.loss, gradient=net.gradient, w=net.w, steps=steps)
    with one_thread():
        each = [loss_band(**vars(asked), rates=[lr])[0] for lr in RATES_ALONG]
        code, along = (torch.stack(band(**vars(asked), rates=RATES_ALONG)) for band in (loss_band, probe))
    return Bands(torch.stack(each).numpy(), code.numpy(), along.numpy())


def edges_are_runs(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """Whether late in training the code's edges are two runs' own curves, the slowest's and the fastest's: (seeds,).

    >>> {norm: hits.tolist() for norm, hits in edges_are_runs(seeds=2).items()}
    {'plain': [True, True], 'bn': [True, True]}
    """
    return {norm: np.array([_ordered(bands(norm, seed)) for seed in range(seeds)]) for norm in ("plain", "bn")}


def _ordered(found: Bands) -> bool:
    low, high = found.code[:, STEPS // 2 :]
    slow, *_, fast = found.runs[:, STEPS // 2 :]
    return bool((np.isclose(high, slow) & np.isclose(low, fast)).mean() > 0.9)


def band_ratios(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How many times as wide the code's band is as that along the gradient, late in training: (seeds,) for each norm.

    >>> sorted(band_ratios(seeds=2))
    ['bn', 'plain']
    """
    return {norm: np.array([_ratio(bands(norm, seed)) for seed in range(seeds)]) for norm in ("plain", "bn")}


def _ratio(found: Bands) -> float:
    code, along = (np.ptp(band[:, STEPS // 2 :], axis=0).mean() for band in (found.code, found.along))
    return float(code / along)


# --- the claims of others --------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """What does not change when values are moved and stretched, of each unit, (units,) each."""

    skewness: np.ndarray
    peaks: np.ndarray  # the mean fourth power of the normalised values; 3 for a normal distribution


def shapes(x: Tensor) -> Shape:
    """Skewness and kurtosis of every unit of (N, C), in float64.

    >>> shapes(torch.tensor([[0.0], [0.0], [3.0]])).skewness.round(3)
    array([0.707])
    """
    z = x.double() - x.double().mean(0)
    z = z / z.std(0, correction=0)
    return Shape(z.pow(3).mean(0).numpy(), z.pow(4).mean(0).numpy())


@cache
def pixels() -> tuple[Shape, Shape]:
    """The shapes of the pixels of all training digits that vary much, before normalising and after it.

    >>> before, after = pixels()
    >>> bool(np.allclose(before.skewness, after.skewness, atol=1e-3))
    True
    """
    x = Settings(inputs="raw").task().x_train.double()
    x = x[:, x.std(0) > 0.1]
    return shapes(x), shapes(by_torch(x))


def shift_seen(norm: Callable[[Tensor], Tensor]) -> float:
    """How far a shift that a whole batch shares, another for each unit, changes what a norm makes of it, at most.

    >>> shift_seen(by_torch) < 1e-4 < shift_seen(lambda x: F.layer_norm(x, x.shape[1:]))
    True
    """
    x = units()
    return (norm(x + torch.randn(100, generator=torch_rng(0))) - norm(x)).abs().max().item()
