"""The theory of Santurkar et al. 2018 ("How Does Batch Normalization Help Optimization?", arXiv 1805.11604v3; "S").

One BN after one layer. For one unit, over a batch of m examples: `y` is the layer's output, `y_hat` that normalised,
`sigma` its standard deviation (with 1/m), gamma * y_hat + beta what BN hands on, `g` the gradient of the loss there, at
BN's *output*, and `v` the gradient of the loss at `y`. gamma and beta are constants. All vectors are (..., m): the
batch is the last axis. Everything is meant for float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.networks import looking
from utils.runs import kept
from utils.seeds import torch_rng
from utils.training import Settings, one_thread, updates, with_gradients

AFTER = {"tanh": torch.tanh, "ReLU": torch.relu, "sigmoid": torch.sigmoid}
Loss = Callable[[Tensor], Tensor]  # (n, units, m) -> (n,)


# --- the algebra -------------------------------------------------------------------------------------------------


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product over the batch, (..., m), (..., m) -> (...).

    >>> inner(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])).item()
    11.0
    """
    return (a * b).sum(-1)


def standardize(y: Tensor, eps: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return y_hat (..., m) and sigma (..., 1), here sqrt(variance + eps), in operations that autograd knows.

    >>> standardize(torch.tensor([1.0, 3.0]))
    (tensor([-1.,  1.]), tensor([1.]))
    """
    centred = y - y.mean(-1, keepdim=True)
    sigma = torch.sqrt(centred.square().mean(-1, keepdim=True) + eps)
    return centred / sigma, sigma


def project(g: Tensor, y_hat: Tensor) -> Tensor:
    """Take from `g` its mean and its component along `y_hat`: what is left is at right angles to 1 and to y_hat.

    >>> project(torch.tensor([4.0, 0.0, 0.0, 0.0]), torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    tensor([ 2., -2.,  0.,  0.])
    """
    return g - g.mean(-1, keepdim=True) - y_hat * (g * y_hat).mean(-1, keepdim=True)


def through_bn(g: Tensor, y: Tensor, gamma: Tensor | float = 1.0, eps: float = 0.0) -> Tensor:
    """BN's backward pass: the gradient at `y`, gamma / sigma times the projected `g`. Exact for any eps >= 0.

    All that comes in along 1 or along y_hat is lost:

    >>> through_bn(torch.ones(3), torch.tensor([0.0, 1.0, 5.0])).abs().max().item() < 1e-6
    True
    """
    y_hat, sigma = standardize(y, eps)
    return gamma / sigma * project(g, y_hat)


def residual(left: Tensor, *terms: Tensor) -> Tensor:
    """How far `left` is from the sum of the `terms`, in units of the largest term; 0 where all of them are 0.

    >>> residual(torch.tensor(5.0), torch.tensor(8.0), torch.tensor(-2.0)).item()
    0.125
    """
    return (left - sum(terms)).abs() / torch.stack(terms).abs().amax(0).clamp_min(torch.finfo(left.dtype).tiny)


# --- the statements ----------------------------------------------------------------------------------------------


def theorem_4_1(
    g: Tensor, y: Tensor, gamma: Tensor | float = 1.0, exponent: float = 1.0, eps: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms, (...) each, whose sum is compared with the squared length of the gradient at `y`.

    gamma^2 / sigma^2 times ||g||^2, -<1, g>^2 / m and -<g, y_hat>^2 / m^exponent. The sum is an equality with the
    exponent 1 and eps = 0; S prints 1/2 and "at most".

    >>> g, y = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 5.0])
    >>> torch.allclose(sum(theorem_4_1(g, y)), inner(through_bn(g, y), through_bn(g, y)))
    True
    """
    m = y.shape[-1]
    y_hat, sigma = standardize(y, eps)
    factor = (gamma / sigma).square()[..., 0]
    return (
        factor * inner(g, g),
        -factor * g.sum(-1).square() / m,
        -factor * inner(g, y_hat).square() / m**exponent,
    )


def eps_term(g: Tensor, y: Tensor, gamma: Tensor | float = 1.0, eps: float = 0.0) -> Tensor:
    """The fourth term that makes Theorem 4.1 exact with eps > 0, (...): -(1 - ||y_hat||^2 / m) times <g, y_hat>^2 / m.

    With eps the vector y_hat is shorter than sqrt(m), so that taking away its component takes away too little of it.

    >>> eps_term(torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 5.0]), eps=0.0).abs().item() < 1e-6
    True
    """
    y_hat, _ = standardize(y, eps)
    *_, last = theorem_4_1(g, y, gamma, 1.0, eps)
    return last * (1 - y_hat.square().mean(-1))


def theorem_4_2(g: Tensor, y: Tensor, v: Tensor, curved: Tensor, gamma: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """The two terms, (...) each, of the loss's curvature v' H_y v along its own gradient `v` at `y`.

    gamma^2 / sigma^2 times `curved`, and -gamma / (m sigma^2) <g, y_hat> ||v||^2. With curved = v' H v, where H is the
    Hessian at BN's output, their sum is an equality (S: "at most"); with g' H g it is S's second form.

    >>> y, g = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
    >>> v = through_bn(g, y)
    >>> sum(theorem_4_2(g, y, v, torch.tensor(0.0))).item() > 0   # no curvature after BN, and yet some before it
    True
    """
    y_hat, sigma = standardize(y)
    gamma, variance = torch.as_tensor(gamma, dtype=y.dtype), sigma.square()[..., 0]
    gamma = gamma[..., 0] if gamma.dim() else gamma
    return (
        gamma**2 / variance * curved,
        -gamma / (y.shape[-1] * variance) * inner(g, y_hat) * inner(v, v),
    )


def theorem_4_4(
    g: Tensor, y: Tensor, size: float, gamma: Tensor | float = 1.0, printed: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms, (...) each, for the largest squared gradient of the weights when the inputs have ||X|| <= size.

    The gradient at the layer's output is held fixed while X varies, so that without BN the largest is
    size^2 ||g||^2. With BN it is the *sum* of these terms. With `printed`, S's terms: that largest value squared, and
    size^2 missing from the second term, 1/m from the third.

    >>> g, y = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 5.0])
    >>> torch.allclose(sum(theorem_4_4(g, y, size=2.0)), 4 * sum(theorem_4_1(g, y)))
    True
    """
    m = y.shape[-1]
    if not printed:
        return tuple(size**2 * term for term in theorem_4_1(g, y, gamma))
    y_hat, sigma = standardize(y)
    factor = (gamma / sigma).square()[..., 0]
    return (
        factor * (size**2 * inner(g, g)).square(),
        -factor * m * g.mean(-1).square(),
        -factor * size**2 * inner(g, y_hat).square(),
    )


class Nearest(NamedTuple):
    """The optimum of the BN network nearest to a start, and two squared distances."""

    factor: Tensor  # (...) k: the optimum is k times the plain network's
    distance: Tensor  # (...) squared, from the start to it
    lemma: Tensor  # (...) what Lemma 4.5 says that is


def lemma_4_5(start: Tensor, optimum: Tensor) -> Nearest:
    """How near the start of a unit's weights (..., d) is to a BN optimum, if (..., d) is one without BN (S, Lemma 4.5).

    BN does not see the length of the weights, so k * optimum is an optimum for every k > 0; the nearest has k =
    <optimum, start> / ||optimum||^2. Meant for a start within a right angle of the optimum, where k > 0.

    >>> near = lemma_4_5(torch.tensor([1.0, 1.0]), torch.tensor([4.0, 0.0]))
    >>> near.factor.item(), near.distance.item(), near.lemma.item()   # 1 = (3^2 + 1^2) - 3^2
    (0.25, 1.0, 1.0)
    """
    square, along = inner(optimum, optimum), inner(optimum, start)
    factor = along / square
    apart, without = start - factor[..., None] * optimum, start - optimum
    return Nearest(factor, inner(apart, apart), inner(without, without) - (square - along).square() / square)


# --- random networks to try them on ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """A kind of random network: a layer of `units`, BN, `nonlinearity`, a tanh layer, three scores, cross-entropy."""

    m: int = 32  # examples in the batch
    units: int = 5  # of the layer that BN stands after
    nonlinearity: str = "tanh"  # after BN
    spread: float = 1.0  # the standard deviation that a unit's y is drawn with; also that of its mean
    gamma: float = 1.0
    beta: float = 0.0
    matched: str = "nothing"  # "scale": gamma = sigma in each unit; "both": beta = mu, too
    eps: float = 0.0


class Networks(NamedTuple):
    """Some random networks of a family, side by side."""

    y: Tensor  # (n, units, m) the layer's output
    gamma: Tensor | float  # a number, or (n, units, 1)
    beta: Tensor | float
    eps: float
    loss: Loss  # what stands after BN: (n, units, m) -> (n,), the mean over the batch

    def bn(self, y: Tensor) -> Tensor:
        """BN's output, (n, units, m)."""
        return self.gamma * standardize(y, self.eps)[0] + self.beta

    def loss_at_y(self, y: Tensor) -> Tensor:
        """The loss of the networks with BN as a function of the layer's output, (n, units, m) -> (n,)."""
        return self.loss(self.bn(y))


def draw(family: Family, n: int = 2000, seed: int = 0) -> Networks:
    """Draw `n` networks, not trained, each with a batch of its own, in float64; gaussian weights, inputs and biases.

    Raises ValueError for an unknown nonlinearity or an unknown `matched`.

    >>> nets = draw(Family(m=8), n=3)
    >>> nets.y.shape, nets.loss(nets.y).shape
    (torch.Size([3, 5, 8]), torch.Size([3]))
    """
    if family.nonlinearity not in AFTER:
        raise ValueError(f"nonlinearity: expected one of {list(AFTER)}, got {family.nonlinearity!r}")
    if family.matched not in ("nothing", "scale", "both"):
        raise ValueError(f"matched: expected 'nothing', 'scale' or 'both', got {family.matched!r}")
    chance = torch_rng(seed)

    def gaussian(*shape: int) -> Tensor:
        return torch.randn(shape, generator=chance, dtype=torch.float64)

    inputs, hidden, scores, units, m = 8, 6, 3, family.units, family.m
    W, x, b = gaussian(n, units, inputs) / inputs**0.5, gaussian(n, inputs, m), gaussian(n, units, 1)
    y = family.spread * (W @ x + b)
    V, U = gaussian(n, hidden, units) / units**0.5, gaussian(n, scores, hidden) / hidden**0.5
    right = torch.randint(scores, (n, 1, m), generator=chance)
    bend = AFTER[family.nonlinearity]

    def loss(z: Tensor) -> Tensor:
        told = U @ torch.tanh(V @ bend(z))
        return -torch.log_softmax(told, 1).gather(1, right).mean((1, 2))

    gamma = family.gamma if family.matched == "nothing" else standardize(y)[1]
    beta = y.mean(-1, keepdim=True) if family.matched == "both" else family.beta
    return Networks(y, gamma, beta, family.eps, loss)


@with_gradients
def gradient(loss: Loss, at: Tensor) -> Tensor:
    """The gradient of each network's loss at `at`, by autograd: (n, units, m).

    >>> gradient(lambda z: z.square().sum((1, 2)), torch.ones(1, 1, 2))
    tensor([[[2., 2.]]])
    """
    at = at.detach().requires_grad_()
    return torch.autograd.grad(loss(at).sum(), at)[0]


@with_gradients
def curvature(loss: Loss, at: Tensor, along: Tensor) -> Tensor:
    """The quadratic form along' H along of each network's Hessian at `at`, by autograd twice: (n,).

    >>> curvature(lambda z: z.pow(3).sum((1, 2)), torch.ones(1, 1, 2), torch.tensor([[[1.0, 2.0]]]))
    tensor([30.])
    """
    at = at.detach().requires_grad_()
    (first,) = torch.autograd.grad(loss(at).sum(), at, create_graph=True)
    (second,) = torch.autograd.grad((first * along).sum(), at)
    return (second * along).sum((1, 2))


class Unit(NamedTuple):
    """The first unit of each of n networks: vectors over its batch, (n, m)."""

    y: Tensor
    g: Tensor  # the gradient at BN's output
    v: Tensor  # the gradient at y, of the network with BN
    plain: Tensor  # the gradient at y of the network with the same weights and no BN
    gamma: Tensor | float  # a number or (n, 1)


def first_unit(nets: Networks) -> Unit:
    """Measure, with autograd and none of the formulae above, what the theorems speak of.

    >>> first_unit(draw(Family(m=8), n=3)).v.shape
    torch.Size([3, 8])
    """
    gradients = ((nets.loss, nets.bn(nets.y)), (nets.loss_at_y, nets.y), (nets.loss, nets.y))
    g, v, plain = (gradient(loss, at)[:, 0].clone() for loss, at in gradients)  # a view would keep the other units
    gamma = nets.gamma[:, 0] if isinstance(nets.gamma, Tensor) else nets.gamma
    return Unit(nets.y[:, 0].clone(), g, v, plain, gamma)


class Curved(NamedTuple):
    """Three quadratic forms of Hessians for the first unit of each of n networks, (n,)."""

    at_y: Tensor  # of the loss at y, along the gradient v there
    along_v: Tensor  # of the loss at BN's output, along the same v
    along_g: Tensor  # of the loss at BN's output, along the gradient g there


def second_order(nets: Networks) -> Curved:
    """Measure, with autograd taken twice, what Theorem 4.2 speaks of.

    >>> second_order(draw(Family(m=8), n=3)).at_y.shape
    torch.Size([3])
    """
    z = nets.bn(nets.y)
    v, g = torch.zeros_like(z), torch.zeros_like(z)
    v[:, 0], g[:, 0] = gradient(nets.loss_at_y, nets.y)[:, 0], gradient(nets.loss, z)[:, 0]
    return Curved(curvature(nets.loss_at_y, nets.y, v), curvature(nets.loss, z, v), curvature(nets.loss, z, g))


# --- and networks that are trained ---------------------------------------------------------------------------------


class Watched(NamedTuple):
    """What the projection does in a training run; the axes are looks, batches (60 images, all 1,437), hidden layers."""

    step: np.ndarray  # (looks,)
    left: np.ndarray  # the length of the projected gradients of all units over that of the gradients
    positive: np.ndarray  # the share of units in which <g, y_hat> is positive


@kept
def watch(settings: Settings, seed: int, looks: int = 13) -> Watched:
    """Train a network and look, on the same images each time, at the gradient that meets each BN layer's output.

    In a network without BN that is the gradient at y: the same as BN would meet with gamma = sigma and beta = mu. A
    running statistic is not moved by a look.

    >>> watch(Settings(steps=2), seed=0, looks=2).left.shape
    (2, 2, 3)
    """
    at = set(np.linspace(0, settings.steps, looks).round().astype(int).tolist())
    x, wanted, *_ = settings.task()
    with one_thread():
        seen = {
            update.step: [_projected(update.net, settings, x[:m], wanted[:m]) for m in (60, len(x))]
            for update in updates(settings, seed)
            if update.step in at
        }
    left, positive = np.moveaxis(np.array(list(seen.values())), 2, 0)
    return Watched(np.array(list(seen)), left, positive)


@with_gradients
def _projected(net: nn.Sequential, settings: Settings, x: Tensor, wanted: Tensor) -> list[list[float]]:
    """Both quantities of :class:`Watched` for one batch, (2, layers)."""
    given, met = [], []  # y, and what BN makes of it
    with looking(net):
        for layer in net:
            x = layer(x)
            if isinstance(layer, nn.Linear):
                given.append(x)
                met.append(x)
            elif hasattr(layer, "running_mean"):
                met[-1] = x
        gradients = torch.autograd.grad(settings.loss(x, wanted), met[:-1])
    left, positive = [], []
    for y, g in zip(given, gradients, strict=False):
        y, g = y.detach().double().T, g.double().T
        y_hat, _ = standardize(y)
        left.append((project(g, y_hat).norm() / g.norm()).item())
        positive.append((inner(g, y_hat) > 0).double().mean().item())
    return [left, positive]
