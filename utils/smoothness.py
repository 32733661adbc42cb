"""How smooth a loss is along the steps that training takes (Santurkar et al. 2018, section 3.1, appendix A.2.2).

At one moment of training, with one batch: take the gradient, go along it without training, and look from there. And,
for comparison, a slice of the loss in two random directions (Li et al. 2018).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from utils.networks import LINEAR, looking
from utils.runs import kept
from utils.seeds import torch_rng
from utils.training import Settings, Update, one_thread, updates, with_gradients

LENGTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)  # times the learning rate; the paper gives the two ends only
QUANTITIES = ("loss", "gradient", "beta")

Point = Sequence[Tensor]  # the weights of a network, or any other tensors
Loss = Callable[[Point], Tensor]


class Probes(NamedTuple):
    """A loss along its own gradient: here, and at several places."""

    loss: float  # here
    slope: float  # the length of the gradient here
    moved: np.ndarray  # (lengths,) how far each place is from here
    losses: np.ndarray  # (lengths,) the loss at each place
    changes: np.ndarray  # (lengths,) the length of the difference between the gradient there and here


def along_gradient(loss: Loss, point: Point, rates: Sequence[float]) -> Probes:
    """Go from `point` against the gradient of `loss`, `rate` times as far as the gradient is long, and look around.

    `loss` takes a sequence of tensors like `point` and returns a scalar. Nothing is trained. Where the loss is not
    finite, neither are these numbers.

    >>> probes = along_gradient(lambda w: (3 * w[0] ** 2).sum() / 2, [torch.tensor([2.0])], rates=[0.1, 0.5])
    >>> probes.slope, probes.losses.round(2).tolist()   # at 2 - 0.6 and 2 - 3
    (6.0, [2.94, 1.5])
    >>> (probes.changes / probes.moved).round(3).tolist()   # the curvature
    [3.0, 3.0]
    """
    here, gradient = _with_gradient(loss, point)
    losses, changes = [], []
    for rate in rates:
        there, turned = _with_gradient(loss, [w - rate * g for w, g in zip(point, gradient, strict=True)])
        losses.append(there)
        changes.append(_length([new - old for new, old in zip(turned, gradient, strict=True)]))
    slope = _length(gradient)
    return Probes(here, slope, slope * np.array(rates), np.array(losses), np.array(changes))


@with_gradients
def _with_gradient(loss: Loss, point: Point) -> tuple[float, Sequence[Tensor]]:
    point = [w.detach().requires_grad_() for w in point]
    value = loss(point)
    return value.item(), torch.autograd.grad(value, point)


def _length(tensors: Sequence[Tensor]) -> float:
    return torch.linalg.vector_norm(torch.cat([t.flatten() for t in tensors])).item()


def loss_of(net: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Return the loss on the batch (x, y) as a function of the weights and of nothing else.

    The network is in training mode: BN uses the batch's own statistics. Running statistics stay as they are, and so
    does the noise to come: whatever is drawn at random (noise, dropout) is the same at every call, and the same that
    the next training step will draw.

    >>> net = nn.Sequential(nn.Linear(3, 2))
    >>> loss = loss_of(net, torch.ones(4, 3), torch.zeros(4, dtype=int), nn.functional.cross_entropy)
    >>> bool(loss(list(net.parameters())) == loss([w.clone() for w in net.parameters()]))
    True
    """
    names = [name for name, _ in net.named_parameters()]

    def value(weights: Point) -> Tensor:
        # copies: what `looking` puts back, the backward pass may need as it was
        buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
        with looking(net):
            scores = functional_call(net, {**dict(zip(names, weights, strict=True)), **buffers}, (x,))
        return loss(scores, y)

    return value


class Course(NamedTuple):
    """The probes of one training run, a row for each moment, and how training went."""

    step: np.ndarray  # (moments,) how many updates came before
    loss: np.ndarray  # (moments,) of the batch that the next update is for
    slope: np.ndarray  # (moments,)
    moved: np.ndarray  # (moments, lengths), as are the next two
    losses: np.ndarray
    changes: np.ndarray
    trained: np.ndarray  # (steps,) the loss of each mini-batch
    accuracy: np.ndarray  # (steps,) on each mini-batch, before its update


def stop_before(settings: Settings, seed: int, step: int) -> Update:
    """Train as `train` does, for `step` updates, and return what is there: the network, and the next update's batch.

    Raises StopIteration where training has diverged before.

    >>> stop_before(Settings("bn"), seed=0, step=3).step
    3
    """
    with one_thread():
        return next(update for update in updates(replace(settings, steps=step), seed) if update.step == step)


@kept
@one_thread()
def watch_course(settings: Settings, seed: int, every: int = 10, lengths: Sequence[float] = LENGTHS) -> Course:
    """Train as `train` does and probe before every n-th update, with the batch and the noise of that update.

    `lengths` are multiples of the learning rate. Training is the same, bit for bit, as without probing.

    >>> course = watch_course(Settings("bn", steps=20), seed=0)
    >>> course.step.tolist(), course.losses.shape
    ([0, 10], (2, 8))
    """
    rates, moments, told = [settings.lr * length for length in lengths], [], []
    for update in updates(settings, seed):
        told.append((update.loss, update.accuracy))
        if update.step % every == 0 and update.step < settings.steps:
            loss = loss_of(update.net, *update.batch, settings.loss)
            moments.append((update.step, *along_gradient(loss, list(update.net.parameters()), rates)))
    return Course(*map(np.array, zip(*moments, strict=True)), *np.array(told[1:]).T)


def band(course: Course, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest value along the gradient, for each moment: (moments,) each.

    "loss": the loss (the paper's figure 4a); "gradient": how far the gradient there is from the gradient here (4b);
    "beta": that distance over the distance moved, whose highest value is the effective beta-smoothness (4c). The
    place where the gradient was taken is not among them. Raises ValueError for another quantity.

    >>> low, high = band(watch_course(Settings("bn", steps=20), seed=0), "loss")
    >>> (low <= high).all()
    np.True_
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity: expected one of {QUANTITIES}, got {quantity!r}")
    values = course.losses if quantity == "loss" else course.changes
    if quantity == "beta":
        values = np.divide(values, course.moved, out=np.zeros_like(values), where=course.moved > 0)
    return values.min(1), values.max(1)


def size(course: Course, quantity: str) -> np.ndarray:
    """Return one number for each moment: the range of the loss, the largest change of the gradient, or beta.

    >>> (size(watch_course(Settings("bn", steps=20), seed=0), "beta") > 0).tolist()
    [True, True]
    """
    low, high = band(course, quantity)
    return high - low if quantity == "loss" else high


def typical(course: Course, quantity: str, part: tuple[float, float] = (0.5, 1)) -> float:
    """Return the median size over a part of training, at first the second half.

    >>> typical(watch_course(Settings("bn", steps=20), seed=0), "beta", (0, 1)) > 0
    True
    """
    return float(np.median(size(course, quantity)[_part(course, part)]))


def times(course: Course, other: Course, quantity: str, part: tuple[float, float] = (0.5, 1)) -> float:
    """Return how many times as large one run's size is as another's at the same moments: the median of the ratios.

    >>> course = watch_course(Settings("bn", steps=20), seed=0)
    >>> times(course, course, "loss", (0, 1))
    1.0
    """
    return float(np.median((size(course, quantity) / size(other, quantity))[_part(course, part)]))


def _part(course: Course, part: tuple[float, float]) -> slice:
    return slice(*(round(share * len(course.step)) for share in part))


def times_at_loss(course: Course, other: Course, quantity: str, low: float, high: float) -> float:
    """Return the ratio of two runs' median sizes at the moments at which each one's loss is between `low` and `high`.

    So networks are compared where they are equally good, not where they are equally old; nan without such moments.

    >>> course = watch_course(Settings("bn", steps=20), seed=0)
    >>> times_at_loss(course, course, "loss", 0, 100), times_at_loss(course, course, "loss", 99, 100)
    (1.0, nan)
    """
    found = [size(run, quantity)[(low < run.loss) & (run.loss < high)] for run in (course, other)]
    return float(np.median(found[0]) / np.median(found[1])) if all(map(len, found)) else float("nan")


def overshoots(course: Course, part: tuple[float, float] = (0.5, 1)) -> float:
    """Return the share of moments at which the loss at the longest length is higher than where training is.

    >>> 0 <= overshoots(watch_course(Settings("bn", steps=20), seed=0)) <= 1
    True
    """
    return float((course.losses[:, -1] > course.loss)[_part(course, part)].mean())


def random_direction(point: Point, generator: torch.Generator, filterwise: bool = True) -> list[Tensor]:
    """Draw a Gaussian direction in the space of the weights; biases, gamma and beta (one axis) do not move.

    With `filterwise` each unit's part is made as long as the unit's weights are (Li et al. 2018, section 4), a filter
    being a row of W.

    >>> W = torch.tensor([[3.0, 4.0], [0.0, 0.1]])
    >>> random_direction([W], torch.Generator().manual_seed(0))[0].norm(dim=1)
    tensor([5.0000, 0.1000])
    """
    drawn = [torch.randn(w.shape, generator=generator, dtype=w.dtype) if w.dim() > 1 else 0 * w for w in point]
    if not filterwise:
        return drawn
    return [d * _lengths(w) / _lengths(d) if w.dim() > 1 else d for d, w in zip(drawn, point, strict=True)]


def _lengths(w: Tensor) -> Tensor:
    """The length of each unit's weights, (C, 1, ...)."""
    return torch.linalg.vector_norm(w, dim=tuple(range(1, w.dim())), keepdim=True)


@torch.no_grad()
def surface(loss: Loss, point: Point, first: Point, second: Point, spots: Sequence[float]) -> np.ndarray:
    """Return the loss at point + a first + b second for all a and b in `spots`: (b, a).

    >>> zero, one = torch.tensor([0.0]), torch.tensor([1.0])
    >>> surface(lambda w: w[0].sum() + 10 * w[1].sum(), [zero, zero], [one, zero], [zero, one], [0, 1]).tolist()
    [[0.0, 1.0], [10.0, 11.0]]
    """
    return np.array(
        [
            [loss([w + a * d + b * e for w, d, e in zip(point, first, second, strict=True)]).item() for a in spots]
            for b in spots
        ]
    )


@torch.no_grad()
def lengthen(net: nn.Sequential, factor: float) -> None:
    """Multiply the weights of all linear and convolutional layers but the last, in place.

    A net whose layers are normalised computes what it did before, up to BN's epsilon.

    >>> net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> first, last = (layer.weight.item() for layer in net)
    >>> lengthen(net, 2)
    >>> net[0].weight.item() == 2 * first, net[1].weight.item() == last
    (True, True)
    """
    for layer in [layer for layer in net if isinstance(layer, LINEAR)][:-1]:
        layer.weight *= factor


@kept
@one_thread()
def slice_around(
    settings: Settings, seed: int, factor: float = 1.0, filterwise: bool = True, reach: float = 1.0, many: int = 21
) -> np.ndarray:
    """Train, then return the loss of the first 200 training examples around the weights: (many, many).

    The two random directions are drawn with the run's seed, and the slice goes from -reach to reach in both. The
    weights of the hidden layers are first made `factor` times as long.

    >>> slice_around(Settings("bn", steps=3), seed=0, many=3).shape
    (3, 3)
    """
    last = stop_before(settings, seed, settings.steps)
    lengthen(last.net, factor)
    x, y, *_ = settings.task()
    loss, point = loss_of(last.net, x[:200], y[:200], settings.loss), [w.detach() for w in last.net.parameters()]
    chance = torch_rng(seed)
    first, second = (random_direction(point, chance, filterwise) for _ in range(2))
    return surface(loss, point, first, second, np.linspace(-reach, reach, many).tolist())
