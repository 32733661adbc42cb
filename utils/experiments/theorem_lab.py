"""The theory of Santurkar et al. 2018 ("How Does Batch Normalization Help Optimization?", arXiv 1805.11604v3; "S").

One BN after one layer. For one unit, over a batch of m examples: `y` is the layer's output, `y_hat` that normalised,
`sigma` its standard deviation (with 1/m), gamma * y_hat + beta what BN hands on, `g` the gradient of the loss there, at
BN's *output*, and `v` the gradient of the loss at `y`. gamma and beta are constants. All vectors are (..., m): the
batch is the last axis. Everything is meant for float64. Of Theorem C.1, in S's appendix C, one reading is tested.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.cache import cached
from utils.networks import preserve_state
from utils.observe import observe
from utils.seeds import torch_rng
from utils.sweeps import by_arm
from utils.training import SEEDS, Settings, Update, by_norm, evenly_spaced, train_all, with_gradients

ACTIVATIONS = {"tanh": torch.tanh, "ReLU": torch.relu, "sigmoid": torch.sigmoid}
Loss = Callable[[Tensor], Tensor]  # (n, units, m) -> (n,)

N = 1000  # random networks of a kind
BATCH_SIZES = (4, 8, 16, 32, 64, 128, 256)
SPREADS = (0.15, 1.0, 3.0)  # of the layer's output
MORE_SPREADS = (0.1, 0.3, 1.0, 3.0, 10.0)
LOSS_UNITS = (0.01, 1.0, 10.0, 32.0, 100.0, 1000.0)  # 32 turns the mean over the batch into the sum
PARTS = {"60 images": 60, "all 1,437 images": None}  # of the training data, at which trained networks are looked at
TRAINED = {
    "sigmoid": Settings(lr=1.0, steps=300),
    "ReLU": Settings(nonlinearity="relu", init="he", steps=300),
}


# --- the algebra ------------------------------------------------------------------------------------------------------


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


def bn_backward(g: Tensor, y: Tensor, gamma: Tensor | float = 1.0, eps: float = 0.0) -> Tensor:
    """BN's backward pass: the gradient at `y`, gamma / sigma times the projected `g`. Exact for any eps >= 0.

    All that comes in along 1 or along y_hat is lost:

    >>> bn_backward(torch.ones(3), torch.tensor([0.0, 1.0, 5.0])).abs().max().item() < 1e-6
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


# --- the statements ---------------------------------------------------------------------------------------------------


def theorem_4_1(
    g: Tensor, y: Tensor, gamma: Tensor | float = 1.0, exponent: float = 1.0, eps: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms, (...) each, whose sum is compared with the squared length of the gradient at `y`.

    gamma^2 / sigma^2 times ||g||^2, -<1, g>^2 / m and -<g, y_hat>^2 / m^exponent. The sum is an equality with the
    exponent 1 and eps = 0; S prints 1/2 and "at most".

    >>> g, y = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 5.0])
    >>> torch.allclose(sum(theorem_4_1(g, y)), inner(bn_backward(g, y), bn_backward(g, y)))
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


def theorem_4_2(g: Tensor, y: Tensor, v: Tensor, form: Tensor, gamma: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """The two terms, (...) each, of the loss's curvature v' H_y v along its own gradient `v` at `y`.

    gamma^2 / sigma^2 times `form`, and -gamma / (m sigma^2) <g, y_hat> ||v||^2. With form = v' H v, where H is the
    Hessian at BN's output, their sum is an equality (S: "at most"); with g' H g it is S's second form.

    >>> y, g = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
    >>> v = bn_backward(g, y)
    >>> sum(theorem_4_2(g, y, v, torch.tensor(0.0))).item() > 0   # no curvature after BN, and yet some before it
    True
    """
    y_hat, sigma = standardize(y)
    gamma, variance = torch.as_tensor(gamma, dtype=y.dtype), sigma.square()[..., 0]
    gamma = gamma[..., 0] if gamma.dim() else gamma
    return (
        gamma**2 / variance * form,
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


def theorem_c_1(
    g: Tensor, y: Tensor, v: Tensor, largest: Tensor, gamma: Tensor | float = 1.0, printed: bool = False
) -> tuple[Tensor, ...]:
    """The terms, (...) each, of a bound on the curvature in the weights, along their gradient, for inputs of size 1.

    What is bounded is the largest v' X X' H_y X X' v, with ||X|| <= 1 and `v` and H_y held fixed; `largest` is that
    without BN, of g' X X' H X X' g. Inputs of size s multiply every term by s^4. With `printed`, S's Theorem C.1 in a
    reading of ours (its wording was not at hand): the last term of Theorem 4.2 is taken off. Otherwise a bound that
    holds, in which BN's own curvature is added, with its part along y_hat, that `v` does not see:
    H_y = gamma^2 / sigma^2 P H P - gamma <g, y_hat> / (m sigma^2) P - (v y_hat' + y_hat v') / (m sigma).

    >>> y, g = torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
    >>> v = bn_backward(g, y)
    >>> printed, holds = (sum(theorem_c_1(g, y, v, torch.tensor(0.0), printed=which)) for which in (True, False))
    >>> bool(holds > printed)   # no curvature after BN
    True
    """
    _, own = terms = theorem_4_2(g, y, v, largest, gamma)
    if printed:
        return terms
    sigma, length = standardize(y)[1][..., 0], v.norm(dim=-1)
    factor = (gamma / standardize(y)[1])[..., 0] ** 4
    return factor * largest, own.clamp_min(0), 27**0.5 / 8 * length**3 / (y.shape[-1] ** 0.5 * sigma)


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


# --- random networks to try them on -----------------------------------------------------------------------------------


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
    if family.nonlinearity not in ACTIVATIONS:
        raise ValueError(f"nonlinearity: expected one of {list(ACTIVATIONS)}, got {family.nonlinearity!r}")
    if family.matched not in ("nothing", "scale", "both"):
        raise ValueError(f"matched: expected 'nothing', 'scale' or 'both', got {family.matched!r}")
    rng = torch_rng(seed)

    def gaussian(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    inputs, hidden, scores, units, m = 8, 6, 3, family.units, family.m
    W, x, b = gaussian(n, units, inputs) / inputs**0.5, gaussian(n, inputs, m), gaussian(n, units, 1)
    y = family.spread * (W @ x + b)
    V, U = gaussian(n, hidden, units) / units**0.5, gaussian(n, scores, hidden) / hidden**0.5
    right = torch.randint(scores, (n, 1, m), generator=rng)
    activation = ACTIVATIONS[family.nonlinearity]

    def loss(z: Tensor) -> Tensor:
        logits = U @ torch.tanh(V @ activation(z))
        return -torch.log_softmax(logits, 1).gather(1, right).mean((1, 2))

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


class Forms(NamedTuple):
    """Three quadratic forms of Hessians for the first unit of each of n networks, (n,)."""

    at_y: Tensor  # of the loss at y, along the gradient v there
    along_v: Tensor  # of the loss at BN's output, along the same v
    along_g: Tensor  # of the loss at BN's output, along the gradient g there


def second_order(nets: Networks) -> Forms:
    """Measure, with autograd taken twice, what Theorem 4.2 speaks of.

    >>> second_order(draw(Family(m=8), n=3)).at_y.shape
    torch.Size([3])
    """
    z = nets.bn(nets.y)
    v, g = torch.zeros_like(z), torch.zeros_like(z)
    v[:, 0], g[:, 0] = gradient(nets.loss_at_y, nets.y)[:, 0], gradient(nets.loss, z)[:, 0]
    return Forms(curvature(nets.loss_at_y, nets.y, v), curvature(nets.loss, z, v), curvature(nets.loss, z, g))


# --- the statements on random networks --------------------------------------------------------------------------------


@cache
def units(family: Family, n: int = N, seed: int = 0) -> Unit:
    """The first unit of each of n random networks, remembered.

    >>> units(Family(m=8), n=3).y.shape
    torch.Size([3, 8])
    """
    return first_unit(draw(family, n, seed))


@cache
def forms(family: Family, n: int = N, seed: int = 0) -> Forms:
    """The same networks' quadratic forms, remembered.

    >>> forms(Family(m=8), n=3).at_y.shape
    torch.Size([3])
    """
    return second_order(draw(family, n, seed))


@cache
def factors_needed(m: int, n: int = 40) -> np.ndarray:
    """What must stand before <g, y_hat>^2 to make both sides of Theorem 4.1 equal, in up to n networks.

    >>> abs(factors_needed(8) - 1 / 8).max() < 1e-9
    np.True_
    """
    unit = units(Family(m=m), n, seed=1)
    first, second, without_factor = theorem_4_1(unit.g, unit.y, exponent=0)
    found = (first + second - inner(unit.v, unit.v)) / -without_factor
    return found[inner(unit.g, standardize(unit.y)[0]).square() > 1e-6 * inner(unit.g, unit.g)].numpy()


def right_over_left_4_1(exponent: float, family: Family = Family(), n: int = N, seed: int = 0) -> np.ndarray:
    """Theorem 4.1's right side over its left, with 1/m to a power, for every network: (n,).

    >>> right_over_left_4_1(0.5, Family(m=8), n=3).max() < 1   # as v3 prints it
    np.True_
    """
    unit = units(family, n, seed)
    return (sum(theorem_4_1(unit.g, unit.y, unit.gamma, exponent)) / inner(unit.v, unit.v)).numpy()


class TwoNetworks(NamedTuple):
    """Networks of the same weights with and without BN, those whose unit is alive: (n,) each."""

    with_bn: np.ndarray  # the squared length of the gradient at y
    without: np.ndarray
    bound: np.ndarray  # Theorem 4.1's, with 1/m, made with the gradient of the network without BN

    @property
    def holds(self) -> np.ndarray:
        """Where the bound holds, but for rounding."""
        return self.with_bn <= self.bound * (1 + 1e-12)

    @property
    def ratio(self) -> np.ndarray:
        """The length of BN's gradient over that of the plain one."""
        return np.sqrt(self.with_bn / self.without)


@cache
def two_networks(family: Family, n: int = N, seed: int = 0) -> TwoNetworks:
    """Compare BN's gradient at y with the bound that the plain network's own gradient gives.

    >>> two_networks(Family(m=8, matched="both"), n=5).holds.all()
    np.True_
    """
    unit = units(family, n, seed)
    with_bn, without = inner(unit.v, unit.v), inner(unit.plain, unit.plain)
    alive, bound = (without > 0) & (with_bn > 0), sum(theorem_4_1(unit.plain, unit.y, unit.gamma))
    return TwoNetworks(*(each[alive].numpy() for each in (with_bn, without, bound)))


class Curvatures(NamedTuple):
    """Theorem 4.2's two forms in n networks, (n,) each."""

    left: np.ndarray  # v' H_y v over the largest term of the first form
    right: np.ndarray  # the first form's right side over the same
    residual: np.ndarray  # of the first form
    margin: np.ndarray  # the second form's right side less its left, over its largest term; negative where it fails
    condition: np.ndarray  # whether v' H v <= g' H g


@cache
def curvatures(family: Family, n: int = N, seed: int = 0) -> Curvatures:
    """Try both forms of Theorem 4.2.

    >>> tried = curvatures(Family(m=8), n=20)
    >>> tried.residual.max() < 1e-10, ((tried.margin >= 0) == tried.condition).all()
    (np.True_, np.True_)
    """
    unit, found = units(family, n, seed), forms(family, n, seed)
    first, second = (theorem_4_2(unit.g, unit.y, unit.v, form, unit.gamma) for form in (found.along_v, found.along_g))
    size = torch.stack(first).abs().amax(0)
    margin = (sum(second) - found.at_y) / torch.stack([*second, found.at_y]).abs().amax(0)
    condition = found.along_v <= found.along_g
    columns = (found.at_y / size, sum(first) / size, residual(found.at_y, *first), margin, condition)
    return Curvatures(*(each.numpy() for each in columns))


def right_over_left_4_4(
    loss_unit: float,
    printed: bool,
    family: Family = Family(),
    n: int = N,
    seed: int = 0,
) -> np.ndarray:
    """Theorem 4.4's right side over its left, for inputs of size 1 and a loss in another unit: (n,).

    >>> right_over_left_4_4(0.01, printed=True, n=5).max() < 0   # a bound for a squared length
    np.True_
    """
    unit = units(family, n, seed)
    largest = inner(loss_unit * unit.v, loss_unit * unit.v)
    return (sum(theorem_4_4(loss_unit * unit.g, unit.y, 1.0, unit.gamma, printed)) / largest).numpy()


@with_gradients
def hessians(loss: Loss, at: Tensor) -> Tensor:
    """The Hessian of each network's loss for the first unit's values at `at`, by autograd twice: (n, m, m).

    >>> hessians(lambda z: z.pow(3).sum((1, 2)), torch.tensor([[[1.0, 2.0]]]))
    tensor([[[ 6.,  0.],
             [ 0., 12.]]])
    """
    at = at.detach().requires_grad_()
    (first,) = torch.autograd.grad(loss(at).sum(), at, create_graph=True)
    rows = [torch.autograd.grad(each.sum(), at, retain_graph=True)[0][:, 0] for each in first[:, 0].unbind(1)]
    return torch.stack(rows, 1)


def worst_inputs(v: Tensor, hessian: Tensor) -> Tensor:
    """The inputs X of size 1 with the largest v' X X' H X X' v, as one column x: (n, m), (n, m, m) -> (n, m).

    X X' v runs over the ball whose diameter reaches from 0 to v, where z' z <= z' v, and the one column
    x = z / sqrt(z' v), no longer than 1, makes each z in it. There z' H z is largest at z = mu / 2 (mu - H)^-1 v, with
    the mu, between H's largest eigenvalue and its double, for which z is on the ball's edge; where no eigenvalue is
    positive, at z = 0.

    >>> v, hessian = torch.tensor([[1.0, 0.0]]).double(), torch.diag(torch.tensor([-1.0, 4.0])).double()[None]
    >>> x = worst_inputs(v, hessian)
    >>> x * (x * v).sum()
    tensor([[0.4000, 0.4899]], dtype=torch.float64)
    """
    values, vectors = torch.linalg.eigh(hessian)
    values = values / values.abs().amax(-1, keepdim=True).clamp_min(1e-300)
    top = values[:, -1:].clamp_min(1e-12)
    along, least = (v[:, None] @ vectors)[:, 0], 1e-10 * v.norm(dim=-1, keepdim=True)
    along = torch.where(along.abs() < least, least, along)  # else no mu may bring z to the edge
    low, high = torch.zeros_like(top), top  # of mu - top
    for _ in range(100):
        beyond = (low + high) / 2
        outside = ((2 * values - top - beyond) * (along / (top - values + beyond)).square()).sum(-1, keepdim=True) > 0
        low, high = torch.where(outside, beyond, low), torch.where(outside, high, beyond)
    z = (vectors @ ((top + high) / 2 * along / (top - values + high))[..., None])[..., 0]
    return z / inner(z, v).clamp_min(1e-300).sqrt()[..., None]


class InTheWeights(NamedTuple):
    """The curvature in a unit's weights along their gradient, for the worst inputs of size 1, in n networks, (n,)."""

    with_bn: np.ndarray
    without: np.ndarray
    at_identity: np.ndarray  # without BN, at X = the identity, which S takes for the worst
    printed: np.ndarray  # Theorem C.1's bound on the one with BN, as we read it
    repaired: np.ndarray

    @property
    def holds(self) -> np.ndarray:
        """Where the printed bound holds, but for rounding."""
        return self.with_bn <= self.printed + 1e-9 * np.abs(self.printed)


@cache
def in_the_weights(family: Family = Family(m=16, matched="both"), n: int = 200, seed: int = 0) -> InTheWeights:
    """Try Theorem C.1 (S, appendix C), with all gradients and Hessians held fixed; networks whose unit is alive.

    >>> tried = in_the_weights(n=5)
    >>> (tried.without > tried.at_identity).all(), (tried.with_bn < tried.repaired).all()
    (np.True_, np.True_)
    """
    nets, unit = draw(family, n, seed), units(family, n, seed)
    met, at_y = hessians(nets.loss, nets.bn(nets.y)), hessians(nets.loss_at_y, nets.y)
    without, with_bn = _largest(unit.g, met), _largest(unit.v, at_y)
    at_identity = torch.einsum("ni,nij,nj->n", unit.g, met, unit.g)
    bounds = (sum(theorem_c_1(unit.g, unit.y, unit.v, without, unit.gamma, printed)) for printed in (True, False))
    alive = inner(unit.v, unit.v) > 0
    return InTheWeights(*(each[alive].numpy() for each in (with_bn, without, at_identity, *bounds)))


def _largest(v: Tensor, hessian: Tensor) -> Tensor:
    """The largest v' X X' H X X' v over the inputs X of size 1; at X = 0 it is 0."""
    x = worst_inputs(v, hessian)
    z = x * inner(x, v)[:, None]
    return torch.einsum("ni,nij,nj->n", z, hessian, z).clamp_min(0)


# --- for the claims: each seed draws networks of its own --------------------------------------------------------------

KINDS = tuple(Family(nonlinearity=name, gamma=gamma) for name, gamma in product(ACTIVATIONS, (0.3, 1.0, -3.0)))


@cached
def residuals(seed: int, n: int = 40) -> dict[str, float]:
    """The largest residual of every equality over n networks of each of nine kinds.

    >>> max(residuals(seed=0, n=5).values()) < 1e-10
    True
    """
    rows = []
    for kind in KINDS:
        unit, found = first_unit(draw(kind, n, seed)), second_order(draw(kind, n, seed))
        eps = 1e-5
        other = first_unit(draw(replace(kind, spread=0.1, eps=eps), n, seed))
        with_eps = (*theorem_4_1(other.g, other.y, kind.gamma, eps=eps), eps_term(other.g, other.y, kind.gamma, eps))
        squared = inner(unit.v, unit.v)
        near = lemma_4_5(*torch.randn(2, n, 8, dtype=torch.float64, generator=torch_rng(seed)))
        apart = (bn_backward(unit.g, unit.y, kind.gamma) - unit.v).abs().amax(-1) / unit.v.abs().amax(-1)
        rows.append(
            {
                "backward pass": apart,
                "Theorem 4.1": residual(squared, *theorem_4_1(unit.g, unit.y, kind.gamma)),
                "Theorem 4.1 with eps": residual(inner(other.v, other.v), *with_eps),
                "Theorem 4.2": residual(found.at_y, *theorem_4_2(unit.g, unit.y, unit.v, found.along_v, kind.gamma)),
                "Theorem 4.4": residual(9 * squared, *theorem_4_4(unit.g, unit.y, 3.0, kind.gamma)),
                "Lemma 4.5": residual(near.distance, near.lemma),
            }
        )
    return {name: max(row[name].max().item() for row in rows) for name in rows[0]}


def residuals_of_seeds(*names: str, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The residuals of the equalities of these names, (seeds,) each.

    >>> list(residuals_of_seeds("Lemma 4.5", seeds=2))
    ['Lemma 4.5']
    """
    return {name: np.array([residuals(seed)[name] for seed in range(seeds)]) for name in names}


def shares(holds: Callable[[int], np.ndarray], seeds: int = SEEDS) -> np.ndarray:
    """The share of networks, of those that each seed draws, in which something holds: (seeds,).

    >>> shares(lambda seed: np.array([True, False]), seeds=2).tolist()
    [0.5, 0.5]
    """
    return np.array([holds(seed).mean() for seed in range(seeds)])


@cached
def shares_of_4_1(seeds: int = SEEDS, n: int = 100) -> dict[str, np.ndarray]:
    """In which share Theorem 4.1 holds as arXiv v3 prints it, with 1/sqrt(m): (seeds,) a kind.

    >>> len(shares_of_4_1(seeds=2, n=5))
    9
    """
    return _by_kind(lambda kind, seed: right_over_left_4_1(0.5, kind, n, seed) >= 1, seeds)


@cached
def shares_of_second_form(seeds: int = SEEDS, n: int = 100) -> dict[str, np.ndarray]:
    """In which share Theorem 4.2's second form holds, whatever the Hessian: (seeds,) a kind.

    >>> len(shares_of_second_form(seeds=2, n=5))
    9
    """
    return _by_kind(lambda kind, seed: curvatures(kind, n, seed).margin >= 0, seeds)


def _by_kind(holds: Callable[[Family, int], np.ndarray], seeds: int) -> dict[str, np.ndarray]:
    return {
        f"{kind.nonlinearity}, gamma {kind.gamma:g}": shares(lambda seed, kind=kind: holds(kind, seed), seeds)
        for kind in KINDS
    }


@cached
def shares_by_spread(seeds: int = SEEDS, n: int = 200) -> dict[str, np.ndarray]:
    """In which share the bound holds with the plain network's own gradient, gamma = 1, (seeds,) a kind of network.

    >>> list(shares_by_spread(seeds=2, n=5))
    ['spread 0.15', 'spread 1', 'spread 3', 'matched']
    """
    kinds = {f"spread {spread:g}": Family(spread=spread) for spread in SPREADS} | {"matched": Family(matched="both")}
    return {
        name: shares(lambda seed, kind=kind: two_networks(kind, n, seed).holds, seeds) for name, kind in kinds.items()
    }


@cached
def shares_of_c_1(seeds: int = SEEDS, n: int = 50) -> dict[str, np.ndarray]:
    """In which share Theorem C.1 holds as printed, gamma = sigma and beta = mu, (seeds,) a spread.

    >>> list(shares_of_c_1(seeds=2, n=5))
    ['spread 0.15', 'spread 1', 'spread 3']
    """
    kinds = {f"spread {spread:g}": Family(m=16, spread=spread, matched="both") for spread in SPREADS}
    return {
        name: shares(lambda seed, kind=kind: in_the_weights(kind, n, seed).holds, seeds) for name, kind in kinds.items()
    }


@cached
def missed_in_c_1(seeds: int = SEEDS) -> np.ndarray:
    """The share of 200 networks in which the worst inputs exceed the identity by a hundredth, (seeds,).

    >>> bool((missed_in_c_1(seeds=2) > 0.9).all())
    True
    """
    tried = (in_the_weights(seed=seed) for seed in range(seeds))
    return np.array([np.mean(each.without > each.at_identity + 0.01 * abs(each.at_identity)) for each in tried])


@cached
def used_of_repaired_c_1(seeds: int = SEEDS, n: int = 10) -> dict[str, np.ndarray]:
    """The largest curvature in the weights over its repaired bound, in any of n networks, (seeds,) a kind.

    >>> all((each < 1).all() for each in used_of_repaired_c_1(seeds=2, n=5).values())
    True
    """
    tried = {
        f"{kind.nonlinearity}, gamma {kind.gamma:g}": [
            in_the_weights(replace(kind, m=16), n, seed) for seed in range(seeds)
        ]
        for kind in KINDS
    }
    return {name: np.array([(each.with_bn / each.repaired).max() for each in row]) for name, row in tried.items()}


# --- and networks that are trained ------------------------------------------------------------------------------------


class Projected(NamedTuple):
    """What the projection does in a training run; the axes are evals, parts of the data, hidden layers."""

    step: np.ndarray  # (evals,)
    left: np.ndarray  # the length of the projected gradients of all units over that of the gradients
    positive: np.ndarray  # the share of units in which <g, y_hat> is positive


@cached
def watch_projection(settings: Settings, seeds: int = SEEDS, n_evals: int = 7) -> list[Projected]:
    """Train networks and look, on the same images each time, at the gradient that meets each BN layer's output.

    In a network without BN that is the gradient at y: the same as BN would meet with gamma = sigma and beta = mu.

    >>> watch_projection(Settings(steps=2), seeds=1, n_evals=2)[0].left.shape
    (2, 2, 3)
    """
    x, target, *_ = settings.task()

    def measure(update: Update) -> tuple[np.ndarray, np.ndarray]:
        parts = [_projected(update.net, settings, x[:m], target[:m]) for m in PARTS.values()]
        return tuple(np.array(parts).transpose(1, 0, 2))

    seen = observe(settings, seeds, evenly_spaced(settings.steps, n_evals), measure)
    return [Projected(*columns) for columns in seen]


@with_gradients
def _projected(net: nn.Sequential, settings: Settings, x: Tensor, target: Tensor) -> tuple[list[float], list[float]]:
    """Both quantities of :class:`Projected` for one batch, (2, layers)."""
    given, met = [], []  # y, and what BN makes of it
    with preserve_state(net):
        for layer in net:
            x = layer(x)
            if isinstance(layer, nn.Linear):
                given.append(x)
                met.append(x)
            elif hasattr(layer, "running_mean"):
                met[-1] = x
        gradients = torch.autograd.grad(settings.loss(x, target), met[:-1])
    left, positive = [], []
    for y, g in zip(given, gradients, strict=False):
        y, g = y.detach().double().T, g.double().T
        y_hat, _ = standardize(y)
        left.append((project(g, y_hat).norm() / g.norm()).item())
        positive.append((inner(g, y_hat) > 0).double().mean().item())
    return left, positive


def projections(network: str) -> dict[str, list[Projected]]:
    """The runs of one of the :data:`TRAINED` networks, without BN and with it.

    >>> list(projections("ReLU"))
    ['plain', 'bn']
    """
    return by_arm(watch_projection, by_norm(TRAINED[network]), SEEDS)


def removed(network: str, arm: str = "bn", part: str = "all 1,437 images", at: int = -1) -> np.ndarray:
    """The share of the gradients' length that the projection removes at one evaluation, (seeds, layers).

    >>> bool((0 <= removed("ReLU")).all())
    True
    """
    place = list(PARTS).index(part)
    return np.array([1 - run.left[at, place] for run in projections(network)[arm]])


def without_projection(network: str) -> dict[str, np.ndarray]:
    """The training loss at the end, of the last 30 batches, with BN and with its mean held, (seeds,) each.

    Held, the mean is a constant in the backward pass, which therefore leaves the gradient's mean in
    (:class:`utils.norms.PartialNorm`).

    >>> losses = without_projection("sigmoid")
    >>> bool((losses["bn, mean held"] > losses["bn"]).all())
    True
    """
    runs = train_all(by_norm(TRAINED[network], ("bn", "bn, mean held")))
    return {norm: np.array([run.final_loss(30) for run in each]) for norm, each in runs.items()}
