"""What the chapter "The gradient" rests on: BN's backward pass, node by node, gathered, and tested.

A batch is (..., N, C), with its N examples on the axis before the last, in float64. `g` is the gradient that arrives at
BN's output. The formulae are those of Ioffe & Szegedy 2015, section 3.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.seeds import torch_rng
from utils.training import SEEDS, Settings, trained, with_gradients

EPS = 1e-5
EXAMPLES, UNITS = 12, 3  # of the batch that formulae are tested on
STEP, ATOL, RTOL = 1e-6, 1e-5, 1e-3  # of the central differences, and when they agree: torch.autograd.gradcheck's own
STEPS = tuple(10.0**-power for power in range(1, 13))
BATCH_SIZES = (2, 3, 4, 8, 16)
NETWORK = Settings("bn", lr=1.0, steps=40)  # whose last hidden layer the graph is drawn for
Loss = Callable[[Tensor], Tensor]  # (..., N, C) -> (...)
Backward = Callable[[Tensor, Tensor, Tensor], Tensor]  # g, x, gamma -> the gradient at x


# --- the graph --------------------------------------------------------------------------------------------------------


def _sum(values: Tensor) -> Tensor:
    return values.sum(-2, keepdim=True)


def _mean(values: Tensor) -> Tensor:
    return values.mean(-2, keepdim=True)


def forward(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = EPS) -> dict[str, Tensor]:
    """The value of every node of BN's graph: vectors (..., N, C), and numbers of a unit, (..., 1, C).

    >>> nodes = forward(torch.tensor([[1.0], [3.0]]), torch.tensor(2.0), torch.tensor(5.0), eps=0)
    >>> {name: value.flatten().tolist() for name, value in nodes.items() if name in ("mean", "var", "x_hat", "y")}
    {'mean': [2.0], 'var': [1.0], 'x_hat': [-1.0, 1.0], 'y': [3.0, 7.0]}
    """
    mean = _mean(x)
    centred = x - mean
    var = _mean(centred.square())
    inv_sigma = (var + eps).rsqrt()
    x_hat = centred * inv_sigma
    y = gamma * x_hat + beta
    names = ("x", "mean", "centred", "var", "inv_sigma", "x_hat", "gamma", "beta", "y")
    return dict(zip(names, (x, mean, centred, var, inv_sigma, x_hat, gamma, beta, y), strict=True))


def walk_back(g: Tensor, nodes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient at every node, from the output back: one line of the chain rule each (section 3 of the paper).

    >>> nodes = forward(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor(1.0), torch.tensor(0.0))
    >>> back = walk_back(torch.ones(3, 1), nodes)
    >>> back["beta"].item(), bool(back["x"].abs().max() < 1e-6)   # all ones: nothing reaches x
    (3.0, True)
    """
    m, centred, inv_sigma = g.shape[-2], nodes["centred"], nodes["inv_sigma"]
    back = {"y": g, "beta": _sum(g), "gamma": _sum(g * nodes["x_hat"])}
    back["x_hat"] = g * nodes["gamma"]
    back["inv_sigma"] = _sum(back["x_hat"] * centred)
    back["var"] = -0.5 * inv_sigma**3 * back["inv_sigma"]
    back["centred"] = inv_sigma * back["x_hat"] + 2 / m * centred * back["var"]
    back["mean"] = -_sum(back["centred"])
    back["x"] = back["centred"] + back["mean"] / m
    return back


@with_gradients
def by_autograd(g: Tensor, x: Tensor, gamma: Tensor, beta: Tensor) -> dict[str, Tensor]:
    """What autograd says of the same nodes, and knows none of the lines of :func:`walk_back`.

    >>> found = by_autograd(torch.ones(3, 1), torch.rand(3, 1), torch.ones(1, 1), torch.zeros(1, 1))
    >>> found["beta"].item()
    3.0
    """
    leaves = [each.detach().clone().requires_grad_() for each in (x, gamma, beta)]
    nodes = forward(*leaves)
    return dict(zip(nodes, torch.autograd.grad(nodes["y"], list(nodes.values()), g), strict=True))


def closed_form(g: Tensor, x: Tensor, gamma: Tensor, eps: float = EPS) -> Tensor:
    """The lines of :func:`walk_back` gathered into one: gamma / sigma (g - mean(g) - x_hat mean(g x_hat)).

    >>> closed_form(torch.tensor([[1.0], [0.0], [-1.0]]), torch.tensor([[0.0], [3.0], [0.0]]), torch.tensor(2.0), 0)
    tensor([[ 1.4142],
            [ 0.0000],
            [-1.4142]])
    """
    nodes = forward(x, gamma, torch.zeros_like(gamma), eps)
    return gamma * nodes["inv_sigma"] * (g - _mean(g) - nodes["x_hat"] * _mean(g * nodes["x_hat"]))


class Batch(NamedTuple):
    """One unit of a real layer, for a batch: (N, 1) twice and (1, 1) twice."""

    x: Tensor
    g: Tensor
    gamma: Tensor
    beta: Tensor


@cache
def real_batch(examples: int = 4) -> Batch:
    """A unit of the last hidden layer of a network that has begun to learn, on its first test images, in float64.

    The loss is the *sum* of the cross-entropy over the images; the unit is the one that all images speak to most.

    >>> [tuple(each.shape) for each in real_batch()]
    [(4, 1), (4, 1), (1, 1), (1, 1)]
    """
    task, net = NETWORK.task(), trained(NETWORK).double()
    *before, linear, norm, nonlinearity, scores = net
    with torch.enable_grad():
        u = task.x_test[:examples].double()
        for layer in before:
            u = layer(u)
        x = linear(u).detach()
        y = norm(x).detach().requires_grad_()
        loss = F.cross_entropy(scores(nonlinearity(y)), task.y_test[:examples], reduction="sum")
        (g,) = torch.autograd.grad(loss, y)
    unit = [int(g.abs().amin(0).argmax())]
    return Batch(x[:, unit], g[:, unit], norm.weight.detach()[None, unit], norm.bias.detach()[None, unit])


UPSTREAM_OF_ONE_UNIT = {
    "from a loss": lambda batch, x_hat: batch.g,
    "all ones": lambda batch, x_hat: torch.ones_like(batch.x),
    "x̂ itself": lambda batch, x_hat: x_hat,
}


class Walked(NamedTuple):
    """Values and gradients of the graph's nodes, flat, and how far the gradients are from autograd's, at most."""

    values: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    apart: dict[str, float]


@cache
def walked(upstream: str = "from a loss") -> Walked:
    """The graph of :func:`real_batch` with one of :data:`UPSTREAM_OF_ONE_UNIT` arriving.

    >>> max(walked("all ones").apart.values()) < 1e-12
    True
    """
    batch = real_batch()
    nodes = forward(batch.x, batch.gamma, batch.beta)
    g = UPSTREAM_OF_ONE_UNIT[upstream](batch, nodes["x_hat"])
    back, known = walk_back(g, nodes), by_autograd(g, batch.x, batch.gamma, batch.beta)
    apart = {name: (back[name] - known[name]).abs().max().item() for name in back}
    values, gradients = ({name: each.flatten().numpy() for name, each in some.items()} for some in (nodes, back))
    return Walked(values, gradients, apart)


# --- the derivative as a matrix ---------------------------------------------------------------------------------------


class Paths(NamedTuple):
    """The derivative of x_hat by x in units of 1 / sigma, by the way that it takes: (m, m) each."""

    own: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @property
    def together(self) -> np.ndarray:
        """The sum of the three."""
        return self.own + self.mean + self.variance


def paths(x: Tensor) -> Paths:
    """The three ways from each of m examples to each other, for one unit, (m,), with eps = 0.

    >>> paths(torch.tensor([0.0, 1.0])).together.tolist()   # of a batch of two nothing gets through
    [[0.0, 0.0], [0.0, 0.0]]
    """
    m = len(x)
    x_hat = forward(x[:, None].double(), torch.tensor(1.0), torch.tensor(0.0), 0.0)["x_hat"][:, 0].numpy()
    return Paths(np.eye(m), np.full((m, m), -1 / m), -np.outer(x_hat, x_hat) / m)


@cache
def real_paths(m: int) -> Paths:
    """The same for m test images at a unit of a real layer, in the order of its values.

    >>> real_paths(8).together.sum(0).round(12).tolist() == [0.0] * 8   # what all share is gone
    True
    """
    return paths(real_batch(m).x[:, 0].sort().values)


# --- a test, and what passes it ---------------------------------------------------------------------------------------


def _with(mean: bool = True, x_hat: bool = True, gamma: bool = True, correction: int = 0) -> Backward:
    """The backward pass with or without its parts, and with the variance's 1/N or 1/(N - 1)."""

    def backward(g: Tensor, x: Tensor, scale: Tensor) -> Tensor:
        sigma = x.std(-2, correction=correction, keepdim=True)
        normalized = (x - _mean(x)) / sigma
        left = g - mean * _mean(g) - x_hat * normalized * _mean(g * normalized)
        return (scale if gamma else 1) / sigma * left

    return backward


FORMULAE: dict[str, Backward] = {
    "right": _with(),
    "the mean's part forgotten": _with(mean=False),
    "x̂'s part forgotten": _with(x_hat=False),
    "statistics detached": _with(mean=False, x_hat=False),
    "1/(m − 1)": _with(correction=1),
    "γ forgotten": _with(gamma=False),
    "zero, always": lambda g, x, gamma: torch.zeros_like(g),
}
MISTAKES = tuple(FORMULAE)[1:]
UPSTREAMS = ("all ones", "a sum of squares", "random", "from a loss")


class Case(NamedTuple):
    """A batch, BN's constants, and a loss of BN's output."""

    x: Tensor  # (N, C)
    gamma: Tensor  # (C,)
    beta: Tensor
    loss: Loss

    def bn(self, x: Tensor) -> Tensor:
        """BN's output for a batch (..., N, C), with eps = 0."""
        gamma, beta = self.gamma.to(x.dtype), self.beta.to(x.dtype)
        return forward(x, gamma, beta, 0.0)["y"]


def case(upstream: str, fresh: bool = False, seed: int = 0) -> Case:
    """A random batch of twelve examples and three units, and the loss whose gradient arrives at BN's output; eps is 0.

    "all ones" is the sum of BN's outputs, "a sum of squares" half of that of their squares, "random" a sum with random
    weights, and "from a loss" the cross-entropy of a random layer behind a tanh. A `fresh` layer has gamma = 1 and
    beta = 0, another one random constants. Raises ValueError for another upstream.

    >>> one = case("all ones")
    >>> one.loss(torch.ones(12, 3)).item()
    36.0
    """
    rng = torch_rng(seed)

    def gaussian(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    x, gamma, beta = 2 * gaussian(EXAMPLES, UNITS) + 1, 1 + 0.5 * gaussian(UNITS).abs(), gaussian(UNITS)
    if fresh:
        gamma, beta = torch.ones_like(gamma), torch.zeros_like(beta)
    weights, scores = gaussian(EXAMPLES, UNITS), gaussian(UNITS, UNITS)
    target = torch.randint(UNITS, (EXAMPLES, 1), generator=rng)

    def cross_entropy(y: Tensor) -> Tensor:
        chances = torch.log_softmax(torch.tanh(y) @ scores.to(y.dtype), -1)
        return -chances.gather(-1, target.expand(*y.shape[:-1], 1)).sum((-2, -1))

    losses: dict[str, Loss] = {
        "all ones": lambda y: y.sum((-2, -1)),
        "a sum of squares": lambda y: y.square().sum((-2, -1)) / 2,
        "random": lambda y: (y * weights.to(y.dtype)).sum((-2, -1)),
        "from a loss": cross_entropy,
    }
    if upstream not in losses:
        raise ValueError(f"upstream: expected one of {list(losses)}, got {upstream!r}")
    return Case(x, gamma, beta, losses[upstream])


def central_differences(function: Loss, x: Tensor, step: float = STEP) -> Tensor:
    """The gradient of a function at `x` by moving each value up and down: (f(x + h) - f(x - h)) / 2h, as `x`.

    Its error falls with the square of the step, until rounding, which grows as the step gets smaller, takes over.

    >>> round(central_differences(lambda x: x.pow(3).sum((-2, -1)), torch.tensor([[2.0]]).double()).item(), 6)
    12.0
    """
    moved = step * torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape)
    return ((function(x + moved) - function(x - moved)) / (2 * step)).view(x.shape)


def relative_error(a: Tensor, b: Tensor) -> float:
    """The length of the difference over the length of the sum: what many gradient checks print; 0 where both are 0.

    >>> relative_error(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]))
    0.5
    """
    apart, together = (a - b).norm().item(), (a + b).norm().item()
    return apart / together if together else 0.0


class Tried(NamedTuple):
    """A formula beside the central differences of the same case, and what a test makes of it."""

    numerical: np.ndarray  # (N * C,)
    by_formula: np.ndarray
    passes: bool  # they agree within gradcheck's tolerances
    relative: float


@with_gradients
def _upstream(of: Case) -> Tensor:
    y = of.bn(of.x).detach().requires_grad_()
    return torch.autograd.grad(of.loss(y), y)[0]


@cache
def tried(formula: str, upstream: str, fresh: bool = False, seed: int = 0) -> Tried:
    """Test one of :data:`FORMULAE` with one of :data:`UPSTREAMS`, by central differences in float64.

    >>> [tried(*each).passes for each in (("right", "random"), ("γ forgotten", "random"), ("γ forgotten", "all ones"))]
    [True, False, True]
    """
    of = case(upstream, fresh, seed)
    numerical = _numerical(of, STEP, torch.float64)
    found = FORMULAE[formula](_upstream(of), of.x, of.gamma)
    passes = torch.allclose(found, numerical, atol=ATOL, rtol=RTOL)
    return Tried(numerical.flatten().numpy(), found.flatten().numpy(), passes, relative_error(found, numerical))


def _numerical(of: Case, step: float, dtype: torch.dtype) -> Tensor:
    return central_differences(lambda x: of.loss(of.bn(x)), of.x.to(dtype), step)


@cache
def errors_by_step(formula: str, upstream: str, fresh: bool = False, single: bool = False) -> np.ndarray:
    """The relative error of a formula against central differences with each of :data:`STEPS`, (steps,).

    In float64, or with `single` in float32.

    >>> errors_by_step("right", "random").min() < 1e-8 < errors_by_step("right", "random", single=True).min()
    np.True_
    """
    of = case(upstream, fresh)
    found = FORMULAE[formula](_upstream(of), of.x, of.gamma)
    dtype = torch.float32 if single else torch.float64
    return np.array([relative_error(found, _numerical(of, step, dtype).double()) for step in STEPS])


def verdicts(fresh: bool = False, seed: int = 0) -> dict[str, list[str]]:
    """Whether each formula "passes" the test or is "caught", in the order of :data:`UPSTREAMS`.

    >>> verdicts()["right"]
    ['passes', 'passes', 'passes', 'passes']
    """
    return {
        formula: ["passes" if tried(formula, upstream, fresh, seed).passes else "caught" for upstream in UPSTREAMS]
        for formula in FORMULAE
    }


# --- for the claims ---------------------------------------------------------------------------------------------------


def passing(formula: str, upstream: str, fresh: bool = False, seeds: int = SEEDS, cases: int = 5) -> np.ndarray:
    """The share of random cases in which a formula passes the test, (seeds,).

    >>> passing("zero, always", "all ones", seeds=2).tolist()
    [1.0, 1.0]
    """
    draws = np.arange(seeds * cases).reshape(seeds, cases)
    return np.array([[tried(formula, upstream, fresh, int(i)).passes for i in row] for row in draws]).mean(1)


def errors(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How far apart are hand and autograd, relative to the largest: the graph's nodes, and the one line, (seeds,).

    >>> bool(max(each.max() for each in errors(seeds=2).values()) < 1e-12)
    True
    """
    rows = []
    for seed in range(seeds):
        of = case("random", seed=seed)
        gamma, beta, g = of.gamma[None], of.beta[None], _upstream(of)
        back, known = walk_back(g, forward(of.x, gamma, beta)), by_autograd(g, of.x, gamma, beta)
        by_node = max(_apart(back[name], known[name]) for name in back)
        rows.append((by_node, _apart(closed_form(g, of.x, of.gamma), known["x"])))
    return dict(zip(("node by node", "in one line"), np.array(rows).T, strict=True))


def _apart(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def left_of_two(seeds: int = SEEDS) -> np.ndarray:
    """The largest gradient that gets through BN from a batch of two, eps = 0 and sigma = 1, random g: (seeds,).

    >>> bool(left_of_two(seeds=2).max() < 1e-12)
    True
    """
    found = []
    for seed in range(seeds):
        g = torch.randn(2, UNITS, generator=torch_rng(seed), dtype=torch.float64)
        x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64).expand(2, UNITS)
        found.append(closed_form(g, x, torch.ones(UNITS), 0.0).abs().max().item())
    return np.array(found)
