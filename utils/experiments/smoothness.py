"""How smooth a loss is along the steps that training takes (Santurkar et al. 2018, section 3.1, appendix A.2.2).

At one moment of training, with one batch: take the gradient, go along it without training, and look from there. And,
for comparison, a slice of the loss in two random directions (Li et al. 2018).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from utils.cache import cached
from utils.ensemble import Ensemble
from utils.experiments.intro import final_accuracy
from utils.experiments.what_batchnorm_buys import best_rate, usable
from utils.networks import LINEAR, preserve_state
from utils.observe import observe, trace
from utils.seeds import torch_rng
from utils.training import (
    SEEDS,
    Moment,
    Settings,
    Update,
    one_thread,
    train_all,
    updates,
    updates_together,
    with_gradients,
)

LENGTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)  # times the learning rate; the paper gives the two ends only
# parts of training: the moment before the first update, the first fifth, the second half
START, EARLY, LATE = (0.0, 0.0), (0.0, 0.2), (0.5, 1.0)
LAST = 20  # mini-batches whose mean loss says how far training has come

FIRST, DEEP, GOOD = "5 layers, Glorot", "10 layers, Glorot", "3 layers, He"
NETWORKS = {
    FIRST: Settings(depth=5, width=64, nonlinearity="relu", lr=0.1, batch_size=128, steps=200, data="fashion, flat"),
    DEEP: Settings(depth=10, width=64, nonlinearity="relu", lr=0.05, steps=400),
    GOOD: Settings(depth=3, width=64, nonlinearity="relu", init="he", lr=0.1, steps=200),
}
EVERY = {FIRST: 20, DEEP: 20, GOOD: 5}  # updates between two probes; the third learns fast
EQUAL_LOSS = {FIRST: 0.7, DEEP: 0.5, GOOD: 0.3}  # in nats: where networks are compared that are equally good
ARMS = ("plain", "bn")
GRID = (0.5, 2.0, 8.0, 32.0, 128.0)  # times a network's own rate: where each arm's are chosen
CHOOSING_SEEDS = min(SEEDS, 3)
SHARE = 0.8  # of the best accuracy of either arm: from there on a rate is usable
FAST, TIMES = "fast plain", 4  # the plain network trained at so many times the rate, and probed at the same places
RELATIVES, RELATIVE_SEEDS = ("noisy", "l1", "l2", "linf"), min(SEEDS, 6)  # of BN
DEPTHS, INITS = (2, 5, 10, 20), ("glorot", "he")  # of untrained networks
BOWL_RATE = 0.1
SLICE_STEPS, SLICE_POINTS = (0, 200), 15
REACH = {True: 1.0, False: 0.1}  # of a slice whose directions are filter by filter, or as drawn

Point = Sequence[Tensor]  # the weights of a network, or any other tensors
Loss = Callable[[Point], Tensor]


class Line(NamedTuple):
    """A loss along its own gradient: here, and at several places."""

    loss: float  # here
    gradient_norm: float  # here
    distances: np.ndarray  # (lengths,) of each place from here
    losses: np.ndarray  # (lengths,) at each place
    gradient_changes: np.ndarray  # (lengths,) the norm of the difference between the gradient there and here


def along_gradient(loss: Loss, point: Point, rates: Sequence[float]) -> Line:
    """Go from `point` against the gradient of `loss`, `rate` times as far as the gradient is long, and look around.

    `loss` takes a sequence of tensors like `point` and returns a scalar. Nothing is trained. Where the loss is not
    finite, neither are these numbers.

    >>> line = along_gradient(lambda w: (3 * w[0] ** 2).sum() / 2, [torch.tensor([2.0])], rates=[0.1, 0.5])
    >>> line.gradient_norm, line.losses.round(2).tolist()   # at 2 - 0.6 and 2 - 3
    (6.0, [2.94, 1.5])
    >>> (line.gradient_changes / line.distances).round(3).tolist()   # the curvature
    [3.0, 3.0]
    """
    here, gradient = _with_gradient(loss, point)
    losses, changes = [], []
    for rate in rates:
        there, turned = _with_gradient(loss, [w - rate * g for w, g in zip(point, gradient, strict=True)])
        losses.append(there)
        changes.append(_norm([new - old for new, old in zip(turned, gradient, strict=True)]))
    norm = _norm(gradient)
    return Line(here, norm, norm * np.array(rates), np.array(losses), np.array(changes))


@with_gradients
def _with_gradient(loss: Loss, point: Point) -> tuple[float, Sequence[Tensor]]:
    point = [w.detach().requires_grad_() for w in point]
    value = loss(point)
    return value.item(), torch.autograd.grad(value, point)


def _norm(tensors: Sequence[Tensor]) -> float:
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
        # copies: what `preserve_state` puts back, the backward pass may need as it was
        buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
        with preserve_state(net):
            scores = functional_call(net, {**dict(zip(names, weights, strict=True)), **buffers}, (x,))
        return loss(scores, y)

    return value


def bowl(w: Point, curvature: float) -> Tensor:
    """A loss with the curvatures 1 and `curvature`: half of w1^2 + curvature w2^2.

    >>> bowl([torch.tensor([1.0, 1.0])], 3.0).item()
    2.0
    """
    return (w[0] ** 2 * torch.tensor([1.0, curvature])).sum() / 2


@with_gradients
def along_gradients(moment: Moment, settings: Settings, rates: Sequence[float]) -> Line:
    """Do what :func:`along_gradient` does for all networks of one moment of training, each with its batch, at once.

    Every number of the line gets a first axis, that of the networks. They are left as they were, and so is the noise
    to come.

    >>> moment = next(updates_together(Settings("bn"), seeds=3))
    >>> along_gradients(moment, Settings("bn"), rates=[0.1, 0.5]).losses.shape
    (3, 2)
    """
    ensemble = moment.ensemble
    home, found = ensemble.flat.clone(), []
    here, gradient = _losses_and_gradient(moment, settings)
    try:
        for rate in rates:
            ensemble.flat.copy_(home - rate * gradient)
            there, turned = _losses_and_gradient(moment, settings)
            found.append((there, _norms(ensemble, turned - gradient)))
    finally:
        ensemble.flat.copy_(home)
    losses, changes = np.array(found).transpose(1, 2, 0)
    norms = _norms(ensemble, gradient)
    return Line(here, norms, norms[:, None] * np.array(rates), losses, changes)


def _losses_and_gradient(moment: Moment, settings: Settings) -> tuple[np.ndarray, Tensor]:
    """The loss of each network where it stands, (S,), and all gradients as one vector."""
    ensemble, (x, y) = moment.ensemble, moment.batch
    with ExitStack() as stack:
        for net in ensemble.nets:
            stack.enter_context(preserve_state(net))
        losses = settings.losses(ensemble.forward(x), y)
        ensemble.gradient.zero_()
        losses.sum().backward()
    return losses.detach().double().numpy(), ensemble.gradient.clone()


def _norms(ensemble: Ensemble, vector: Tensor) -> np.ndarray:
    """The length of each network's part of a vector of all parameters, (S,)."""
    parts = vector.split([leaf.numel() for leaf in ensemble.leaves.values()])
    each = torch.cat([part.view(len(ensemble.nets), -1) for part in parts], 1)
    return torch.linalg.vector_norm(each, dim=1).double().numpy()


def stop_before(settings: Settings, seed: int, step: int) -> Update:
    """Train one network for `step` updates, and return what is there: the network, and the next update's batch.

    Raises StopIteration where training has diverged before.

    >>> stop_before(Settings("bn"), seed=0, step=3).step
    3
    """
    with one_thread():
        return next(update for update in updates(replace(settings, steps=step), seed) if update.step == step)


# --- whole runs ----------------------------------------------------------------------------------------------------


class LineProbes(NamedTuple):
    """The lines of one training run, a row for each moment, and how training went. Where it diverged, they end."""

    step: np.ndarray  # (moments,) how many updates came before
    loss: np.ndarray  # (moments,) of the batch that the next update is for
    gradient_norm: np.ndarray  # (moments,)
    distances: np.ndarray  # (moments, lengths), as are the next two
    losses: np.ndarray
    gradient_changes: np.ndarray
    batch_losses: np.ndarray  # (steps,) of each mini-batch that was trained on

    @property
    def betas(self) -> np.ndarray:
        """The change of the gradient over the distance, (moments, lengths); 0 where nothing has moved.

        >>> probe_training(Settings("bn", steps=2), seeds=1)[0].betas.shape
        (1, 8)
        """
        moved = self.distances > 0
        return np.divide(self.gradient_changes, self.distances, out=np.zeros_like(self.distances), where=moved)


@cached
def probe_training(
    settings: Settings, seeds: int = SEEDS, every: int = 20, lengths: Sequence[float] = LENGTHS
) -> list[LineProbes]:
    """Train every seed and probe before every n-th update, with the batch and the noise of that update.

    `lengths` are multiples of the learning rate. Training is the same, bit for bit, as without probing.

    >>> probes, _ = probe_training(Settings("bn", steps=4), seeds=2, every=2)
    >>> probes.step.tolist(), probes.losses.shape
    ([0, 2], (2, 8))
    """
    rates = [settings.lr * length for length in lengths]
    rows, losses = [[] for _ in range(seeds)], [[] for _ in range(seeds)]
    with one_thread():
        for moment in updates_together(settings, seeds):
            probed = moment.step % every == 0 and moment.step < settings.steps
            line = along_gradients(moment, settings, rates) if probed else ()
            for i in np.flatnonzero(np.isfinite(moment.loss)):
                losses[i].append(moment.loss[i])
                if probed:
                    rows[i].append((moment.step, *(column[i] for column in line)))
    return [
        LineProbes(*map(np.array, zip(*seen, strict=True)), np.array(every_loss[1:]))
        for seen, every_loss in zip(rows, losses, strict=True)
    ]


class Quantity(StrEnum):
    """What is looked at along the gradient."""

    LOSS = "loss"  # figure 4a of the paper
    GRADIENT = "change of gradient"  # how far the gradient there is from the gradient here, 4b
    BETA = "effective L"  # that distance over the distance moved, 4c: the paper's beta, which is BN's shift here
    FAR = "L at the end"  # the same at the longest length alone


def along(probes: LineProbes, quantity: Quantity) -> np.ndarray:
    """Return a quantity at every place along the gradient, (moments, lengths): not where the gradient was taken.

    >>> probes = probe_training(Settings("bn", steps=2), seeds=1)[0]
    >>> [along(probes, quantity).shape for quantity in (Quantity.LOSS, Quantity.FAR)]
    [(1, 8), (1, 1)]
    """
    if quantity == Quantity.LOSS:
        return probes.losses
    if quantity == Quantity.GRADIENT:
        return probes.gradient_changes
    return probes.betas if quantity == Quantity.BETA else probes.betas[:, -1:]


def envelope(probes: LineProbes, quantity: Quantity) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest value along the gradient, for each moment: (moments,) each.

    >>> low, high = envelope(probe_training(Settings("bn", steps=2), seeds=1)[0], Quantity.LOSS)
    >>> bool((low < high).all())
    True
    """
    values = along(probes, quantity)
    return values.min(1), values.max(1)


def extent(probes: LineProbes, quantity: Quantity) -> np.ndarray:
    """Return one number for each moment: the range of the loss; of the others, the largest value along the gradient.

    Where a value is not finite, it is infinite.

    >>> extent(probe_training(Settings("bn", steps=2), seeds=1)[0], Quantity.BETA).shape
    (1,)
    """
    low, high = envelope(probes, quantity)
    finite = np.isfinite(low) & np.isfinite(high)
    return np.subtract(high, low if quantity == Quantity.LOSS else 0, out=np.full(len(high), np.inf), where=finite)


def _part(rows: np.ndarray, part: tuple[float, float]) -> np.ndarray:
    start, stop = (round(share * len(rows)) for share in part)
    return rows[start : max(stop, start + 1)]


def extent_ratios(
    runs: Sequence[LineProbes], others: Sequence[LineProbes], quantity: Quantity, part: tuple[float, float] = LATE
) -> np.ndarray:
    """How many times as large the first runs' extent is at the same moments, the median of each pair: (seeds,).

    Of a run that has diverged it is infinite.

    >>> runs = probe_training(Settings("bn", steps=2), seeds=2)
    >>> extent_ratios(runs, runs, Quantity.LOSS, START).tolist()
    [1.0, 1.0]
    """
    moments = max(len(run.step) for run in (*runs, *others))

    def sizes(run: LineProbes) -> np.ndarray:
        found = extent(run, quantity)
        return _part(np.pad(found, (0, moments - len(found)), constant_values=np.inf), part)

    return np.array([np.median(sizes(a) / sizes(b)) for a, b in zip(runs, others, strict=True)])


def extent_ratios_at_loss(
    runs: Sequence[LineProbes], others: Sequence[LineProbes], quantity: Quantity, level: float, n: int = 3
) -> np.ndarray:
    """The same where both have the same loss: the median of the n moments whose loss is nearest to `level`, (seeds,).

    So networks are compared where they are equally good, not where they are equally old.

    >>> runs = probe_training(Settings("bn", steps=2), seeds=2)
    >>> extent_ratios_at_loss(runs, runs, Quantity.LOSS, 1.0).tolist()
    [1.0, 1.0]
    """

    def there(probes: LineProbes) -> float:
        near = np.abs(np.log(probes.loss / level)).argsort()[:n]
        return float(np.median(extent(probes, quantity)[near]))

    return np.array([there(a) / there(b) for a, b in zip(runs, others, strict=True)])


def overshoots(probes: LineProbes, part: tuple[float, float] = LATE) -> float:
    """Return the share of moments at which the loss at the longest length is higher than where training is.

    >>> 0 <= overshoots(probe_training(Settings("bn", steps=2), seeds=1)[0], START) <= 1
    True
    """
    return float(_part(probes.losses[:, -1] > probes.loss, part).mean())


def final_losses(runs: Sequence[LineProbes]) -> np.ndarray:
    """The mean loss of the last mini-batches of each run, (seeds,); infinite where it has diverged.

    >>> final_losses(probe_training(Settings("bn", steps=2), seeds=2)).shape
    (2,)
    """
    steps = max(len(run.batch_losses) for run in runs)
    return np.array([run.batch_losses[-LAST:].mean() if len(run.batch_losses) == steps else np.inf for run in runs])


# --- the networks of the chapter -------------------------------------------------------------------------------------


class Rate(StrEnum):
    """At which learning rates the two arms of a network are compared."""

    EQUAL = "equal"
    BEST = "each at its best"
    LARGEST = "each at its largest usable"


@cache
def rates_of(network: str, seeds: int = CHOOSING_SEEDS) -> dict[Rate, dict[str, float]]:
    """The learning rate of each arm in every comparison, chosen on images set aside, from :data:`GRID` for both.

    The best has the highest accuracy, the mean over the whole training. The largest usable is the largest rate of the
    grid with a final accuracy, the mean over the seeds, of four fifths of the best of either arm.

    >>> rates_of(GOOD, seeds=2)[Rate.EQUAL]
    {'plain': 0.1, 'bn': 0.1}
    """
    settings = NETWORKS[network]
    grid = [float(f"{times * settings.lr:.6g}") for times in GRID]
    trial = replace(settings, validation=True, n_evals=11)
    runs = train_all({(arm, lr): replace(trial, norm=arm, lr=lr) for arm in ARMS for lr in grid}, seeds)
    ends = {key: final_accuracy(each).mean() for key, each in runs.items()}
    best = {arm: best_rate({lr: runs[arm, lr] for lr in grid}) for arm in ARMS}
    good = {arm: usable(grid, [ends[arm, lr] for lr in grid], max(ends.values()), SHARE) for arm in ARMS}
    return {
        Rate.EQUAL: dict.fromkeys(ARMS, settings.lr),
        Rate.BEST: best,
        Rate.LARGEST: {arm: max(good[arm], default=best[arm]) for arm in ARMS},
    }


def probes_of(
    network: str = FIRST, arm: str = "plain", seeds: int = SEEDS, rate: Rate = Rate.EQUAL
) -> list[LineProbes]:
    """Train and probe a network of the chapter: with the norm `arm`, or :data:`FAST`. BN's relatives get fewer seeds.

    Each is probed along its own step: the lengths are multiples of the rate that it is trained at. :data:`FAST` alone
    is probed at the same places as the plain network at its usual rate.

    >>> [probes.step[:3].tolist() for probes in probes_of(seeds=2)]
    [[0, 20, 40], [0, 20, 40]]
    """
    settings, every = NETWORKS[network], EVERY[network]
    if arm in RELATIVES:
        seeds = min(seeds, RELATIVE_SEEDS)
    if arm == FAST:
        lengths = tuple(length / TIMES for length in LENGTHS)
        return probe_training(replace(settings, lr=TIMES * settings.lr), seeds, every, lengths)
    lr = settings.lr if rate == Rate.EQUAL else rates_of(network)[rate][arm]
    return probe_training(replace(settings, norm=arm, lr=lr), seeds, every)


def ratios(
    network: str,
    quantity: Quantity,
    part: tuple[float, float] = LATE,
    arm: str = "plain",
    over: str = "bn",
    seeds: int = SEEDS,
    rate: Rate = Rate.EQUAL,
) -> np.ndarray:
    """How many times as large a quantity's extent is in one arm as in another, (seeds,).

    >>> bool((ratios(FIRST, Quantity.GRADIENT, START, seeds=2) < 1).all())
    True
    """
    return extent_ratios(*_common_seeds(network, arm, over, seeds, rate), quantity, part)


def ratios_at_loss(network: str, quantity: Quantity, rate: Rate = Rate.EQUAL, seeds: int = SEEDS) -> np.ndarray:
    """The plain network's extent over BN's at moments of the network's :data:`EQUAL_LOSS`, (seeds,).

    >>> bool((ratios_at_loss(FIRST, Quantity.GRADIENT, seeds=2) > 1).all())
    True
    """
    runs = _common_seeds(network, *ARMS, seeds, rate)
    return extent_ratios_at_loss(*runs, quantity, EQUAL_LOSS[network])


def final_loss_ratios(
    network: str, arm: str = "plain", over: str = "bn", seeds: int = SEEDS, rate: Rate = Rate.EQUAL
) -> np.ndarray:
    """How many times as large the final training loss is in one arm as in another, (seeds,).

    >>> final_loss_ratios(FIRST, "bn", "bn", seeds=2).tolist()
    [1.0, 1.0]
    """
    runs, others = _common_seeds(network, arm, over, seeds, rate)
    return final_losses(runs) / final_losses(others)


def _common_seeds(
    network: str, arm: str, over: str, seeds: int, rate: Rate = Rate.EQUAL
) -> tuple[list[LineProbes], list[LineProbes]]:
    runs, others = probes_of(network, arm, seeds, rate), probes_of(network, over, seeds, rate)
    n = min(len(runs), len(others))
    return runs[:n], others[:n]


def falls_of_beta(network: str, arm: str, seeds: int = SEEDS) -> np.ndarray:
    """How many times as large beta is at the shortest length as at the longest: the late median, (seeds,).

    >>> falls_of_beta(FIRST, "bn", seeds=2).shape
    (2,)
    """
    betas = [_part(probes.betas, LATE) for probes in probes_of(network, arm, seeds)]
    return np.array([np.median(beta[:, 0] / beta[:, -1]) for beta in betas])


# --- the edge of stability --------------------------------------------------------------------------------------------

FULL_BATCH = Settings(
    data="fashion, flat", examples=300, depth=4, width=48, nonlinearity="relu", init="he", batch_size=0, steps=200
)
EDGE_RATES = (0.03, 0.1)
LOOKS = (0, 5, 10, 20, 40, 70, 100, 150, 200)
POWERS = 20  # steps of the power iteration


@with_gradients
def sharpness(net: nn.Sequential, x: Tensor, y: Tensor, powers: int = POWERS) -> float:
    """The largest eigenvalue of the loss's Hessian, by power iteration; the network is left as it was.

    The iteration finds the eigenvalue of largest size. Where that is negative, the Hessian is moved up by its size.

    >>> net = nn.Sequential(nn.Linear(1, 2))
    >>> with torch.no_grad():
    ...     _ = [w.zero_() for w in net.parameters()]
    >>> round(sharpness(net, torch.tensor([[1.0]]), torch.tensor([0]), powers=100), 4)   # two scores, each half
    1.0
    """
    parameters = list(net.parameters())
    with preserve_state(net):
        parts = torch.autograd.grad(F.cross_entropy(net(x), y), parameters, create_graph=True)
    gradient = torch.cat([part.flatten() for part in parts])

    def largest(shift: float) -> float:
        v = torch.randn(gradient.shape, generator=torch_rng(0))
        for _ in range(powers):
            v = v / v.norm()
            found = torch.autograd.grad(gradient @ v, parameters, retain_graph=True)
            product = torch.cat([each.flatten() for each in found]) + shift * v
            value, v = (v @ product).item(), product
        return value - shift

    value = largest(0.0)
    return value if value > 0 else largest(-value)


class Course(NamedTuple):
    """One full-batch training, (looks,) each; where it diverged they end."""

    step: np.ndarray
    sharpness: np.ndarray
    loss: np.ndarray


@cached
def courses(norm: str, lr: float, seeds: int = SEEDS) -> list[Course]:
    """Train on all of 300 images at once, and follow the largest curvature: for each seed.

    >>> [course.sharpness.shape for course in courses("bn", 0.1, seeds=2)]
    [(9,), (9,)]
    """

    def look(update: Update) -> tuple[float, float]:
        with torch.no_grad(), preserve_state(update.net):
            loss = FULL_BATCH.loss(update.net(update.batch[0]), update.batch[1]).item()
        return sharpness(update.net, *update.batch), loss

    return [Course(*each) for each in observe(replace(FULL_BATCH, norm=norm, lr=lr), seeds, LOOKS, look)]


def at_the_end(norm: str, lr: float) -> dict[str, np.ndarray]:
    """The curvature in units of 2 / rate and the loss, both at the last look: (seeds,).

    >>> sorted(at_the_end("bn", 0.1))
    ['loss', 'sharpness']
    """
    last = [(course.sharpness[-1], course.loss[-1]) for course in courses(norm, lr)]
    curvature, loss = np.array(last).T
    return {"sharpness": curvature * lr / 2, "loss": loss}


# --- before the first update -----------------------------------------------------------------------------------------


class Start(NamedTuple):
    """Networks that have not been trained, of several depths."""

    gradient_norm: np.ndarray  # (seeds, depths)
    loss_range: np.ndarray  # (seeds, depths) along the gradient
    score_std: np.ndarray  # (seeds, depths) over a batch, the mean over the classes


@cached
def at_start(init: str, arm: str, depths: Sequence[int] = DEPTHS, seeds: int = SEEDS) -> Start:
    """Probe untrained networks: the digits and the settings of :data:`DEEP`, but for the depth and the initialisation.

    >>> at_start("he", "plain", depths=(2,), seeds=2).loss_range.shape
    (2, 1)
    """
    found = []
    for depth in depths:
        settings = replace(NETWORKS[DEEP], norm=arm, init=init, depth=depth, steps=1)
        lines = probe_training.func(settings, seeds)
        batch = settings.task().x_train[: settings.batch_size]
        stds = [trace(settings.network(seed), batch)[1].std(0).mean().item() for seed in range(seeds)]
        rows = zip(lines, stds, strict=True)
        found.append([(line.gradient_norm[0], extent(line, Quantity.LOSS)[0], std) for line, std in rows])
    return Start(*np.array(found).transpose(2, 1, 0))


# --- a slice in two random directions --------------------------------------------------------------------------------


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
    return [d * _unit_norms(w) / _unit_norms(d) if w.dim() > 1 else d for d, w in zip(drawn, point, strict=True)]


def _unit_norms(w: Tensor) -> Tensor:
    """The norm of each unit's weights, (C, 1, ...)."""
    return torch.linalg.vector_norm(w, dim=tuple(range(1, w.dim())), keepdim=True)


@torch.no_grad()
def surface(loss: Loss, point: Point, first: Point, second: Point, grid: Sequence[float]) -> np.ndarray:
    """Return the loss at point + a first + b second for all a and b in `grid`: (b, a).

    >>> zero, one = torch.tensor([0.0]), torch.tensor([1.0])
    >>> surface(lambda w: w[0].sum() + 10 * w[1].sum(), [zero, zero], [one, zero], [zero, one], [0, 1]).tolist()
    [[0.0, 1.0], [10.0, 11.0]]
    """

    def at(a: float, b: float) -> float:
        return loss([w + a * d + b * e for w, d, e in zip(point, first, second, strict=True)]).item()

    return np.array([[at(a, b) for a in grid] for b in grid])


@torch.no_grad()
def rescale_weights(net: nn.Sequential, factor: float) -> None:
    """Multiply the weights of all linear and convolutional layers but the last, in place.

    A net whose layers are normalised computes what it did before, up to BN's epsilon.

    >>> net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    >>> first, last = (layer.weight.item() for layer in net)
    >>> rescale_weights(net, 2)
    >>> net[0].weight.item() == 2 * first, net[1].weight.item() == last
    (True, True)
    """
    for layer in [layer for layer in net if isinstance(layer, LINEAR)][:-1]:
        layer.weight *= factor


@cached
@one_thread()
def slice_around(
    settings: Settings, seed: int = 0, factor: float = 1.0, filterwise: bool = True, n: int = SLICE_POINTS
) -> np.ndarray:
    """Train, then return the loss of the first 200 training examples around the weights: (n, n).

    The two random directions are drawn with the run's seed; the slice reaches as far as :data:`REACH` says. The
    weights of the hidden layers are first made `factor` times as long.

    >>> slice_around(Settings("bn", steps=3), n=3).shape
    (3, 3)
    """
    net = stop_before(settings, seed, settings.steps).net
    rescale_weights(net, factor)
    x, y, *_ = settings.task(seed)
    loss, point = loss_of(net, x[:200], y[:200], settings.loss), [w.detach() for w in net.parameters()]
    rng, reach = torch_rng(seed), REACH[filterwise]
    first, second = (random_direction(point, rng, filterwise) for _ in range(2))
    return surface(loss, point, first, second, np.linspace(-reach, reach, n).tolist())


@cached
def rescaled_betas(seeds: int = SEEDS, factor: float = 3.0) -> np.ndarray:
    """How many times as large the effective beta is after the weights of a BN network are made `factor` times as long.

    The first network, untrained; it computes the same. Returns (seeds,).

    >>> bool((rescaled_betas(seeds=2) < 1).all())
    True
    """
    settings, found = replace(NETWORKS[FIRST], norm="bn"), []
    for seed in range(seeds):
        start, betas = stop_before(settings, seed, 0), []
        loss = loss_of(start.net, *start.batch, settings.loss)
        for each in (1.0, factor):
            rescale_weights(start.net, each)
            line = along_gradient(loss, list(start.net.parameters()), [settings.lr * length for length in LENGTHS])
            betas.append(max(line.gradient_changes / line.distances))
        found.append(betas[1] / betas[0])
    return np.array(found)
