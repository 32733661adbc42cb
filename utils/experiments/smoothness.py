"""How smooth a loss is along the steps that training takes (Santurkar et al. 2018, section 3.1, appendix A.2.2).

At one moment of training, with one batch: take the gradient, go along it without training, and look from there. And,
for comparison, a slice of the loss in two random directions (Li et al. 2018).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from utils.cache import cached
from utils.networks import LINEAR, preserve_state
from utils.observe import observe, trace
from utils.seeds import torch_rng
from utils.training import SEEDS, Settings, Update, one_thread, updates, with_gradients

LENGTHS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)  # times the learning rate; the paper gives the two ends only
EVERY = 20  # updates between two probes
# parts of training: the moment before the first update, the first fifth, the second half
START, EARLY, LATE = (0.0, 0.0), (0.0, 0.2), (0.5, 1.0)
LAST = 20  # mini-batches whose mean loss says how far training has come

FIRST, DEEP, GOOD = "5 layers, Glorot", "10 layers, Glorot", "3 layers, He, rate 0.1"
NETWORKS = {
    FIRST: Settings(depth=5, width=64, nonlinearity="relu", lr=0.1, batch_size=128, steps=200, data="fashion, flat"),
    DEEP: Settings(depth=10, width=64, nonlinearity="relu", lr=0.05, steps=400),
    GOOD: Settings(depth=3, width=64, nonlinearity="relu", init="he", lr=0.1, steps=200),
}
EQUAL_LOSS = {FIRST: 0.7, DEEP: 0.5, GOOD: 0.3}  # in nats: where networks are compared that are equally good
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
    settings: Settings, seeds: int = SEEDS, every: int = EVERY, lengths: Sequence[float] = LENGTHS
) -> list[LineProbes]:
    """Train every seed and probe before every n-th update, with the batch and the noise of that update.

    `lengths` are multiples of the learning rate. Training is the same, bit for bit, as without probing.

    >>> probes, _ = probe_training(Settings("bn", steps=4), seeds=2, every=2)
    >>> probes.step.tolist(), probes.losses.shape
    ([0, 2], (2, 8))
    """
    rates = [settings.lr * length for length in lengths]
    unseen = Line(np.nan, np.nan, *np.full((3, len(rates)), np.nan))

    def measure(update: Update) -> tuple:
        if update.step % every or update.step == settings.steps:
            return update.loss, *unseen
        loss = loss_of(update.net, *update.batch, settings.loss)
        return update.loss, *along_gradient(loss, list(update.net.parameters()), rates)

    found = []
    for step, batch_losses, *columns in observe(settings, seeds, range(settings.steps + 1), measure):
        probed = (step % every == 0) & (step < settings.steps)
        found.append(LineProbes(step[probed], *(column[probed] for column in columns), batch_losses[1:]))
    return found


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


def median_extent(probes: LineProbes, quantity: Quantity, part: tuple[float, float] = LATE) -> float:
    """Return the median over the moments of a part of training.

    >>> median_extent(probe_training(Settings("bn", steps=2), seeds=1)[0], Quantity.BETA, START) > 0
    True
    """
    return float(np.median(_part(extent(probes, quantity), part)))


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


def probes_of(network: str = FIRST, arm: str = "plain", seeds: int = SEEDS) -> list[LineProbes]:
    """Train and probe a network of the chapter: with the norm `arm`, or :data:`FAST`. BN's relatives get fewer seeds.

    >>> [probes.step[:3].tolist() for probes in probes_of(seeds=2)]
    [[0, 20, 40], [0, 20, 40]]
    """
    settings = NETWORKS[network]
    if arm in RELATIVES:
        seeds = min(seeds, RELATIVE_SEEDS)
    if arm != FAST:
        return probe_training(replace(settings, norm=arm), seeds)
    lengths = tuple(length / TIMES for length in LENGTHS)
    return probe_training(replace(settings, lr=TIMES * settings.lr), seeds, EVERY, lengths)


def ratios(
    network: str,
    quantity: Quantity,
    part: tuple[float, float] = LATE,
    arm: str = "plain",
    over: str = "bn",
    seeds: int = SEEDS,
) -> np.ndarray:
    """How many times as large a quantity's extent is in one arm as in another, (seeds,).

    >>> bool((ratios(FIRST, Quantity.GRADIENT, START, seeds=2) < 1).all())
    True
    """
    return extent_ratios(*_common_seeds(network, arm, over, seeds), quantity, part)


def final_loss_ratios(network: str, arm: str = "plain", over: str = "bn", seeds: int = SEEDS) -> np.ndarray:
    """How many times as large the final training loss is in one arm as in another, (seeds,).

    >>> final_loss_ratios(FIRST, "bn", "bn", seeds=2).tolist()
    [1.0, 1.0]
    """
    runs, others = _common_seeds(network, arm, over, seeds)
    return final_losses(runs) / final_losses(others)


def _common_seeds(network: str, arm: str, over: str, seeds: int) -> tuple[list[LineProbes], list[LineProbes]]:
    runs, others = probes_of(network, arm, seeds), probes_of(network, over, seeds)
    n = min(len(runs), len(others))
    return runs[:n], others[:n]


def falls_of_beta(network: str, arm: str, seeds: int = SEEDS) -> np.ndarray:
    """How many times as large beta is at the shortest length as at the longest: the late median, (seeds,).

    >>> falls_of_beta(FIRST, "bn", seeds=2).shape
    (2,)
    """
    betas = [_part(probes.betas, LATE) for probes in probes_of(network, arm, seeds)]
    return np.array([np.median(beta[:, 0] / beta[:, -1]) for beta in betas])


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
