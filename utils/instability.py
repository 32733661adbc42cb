"""Networks whose layers are made unstable on purpose, trained side by side, and what their layers then see.

Noise on the output of BN is meant to make the inputs of the layers after it unstable (Santurkar et al. 2018, section
2.1). Here the noise can stand on every hidden layer or on the last only, on a plain network as well, and the BN after
it can be kept from taking it out again. All variants and seeds of one shape are one tensor computation, which changes
nothing about any one of them: with one variant and one seed it is the run of `utils.training`, to rounding.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.drift import YARDSTICKS, drift, hidden_values, looks_at
from utils.networks import LINEAR, NONLINEARITIES, looking
from utils.noise import PAPERS, Noise, Recipe
from utils.progress import each, steps
from utils.runs import kept
from utils.seeds import torch_rng
from utils.training import Settings, one_thread, updates, with_gradients

PROBE = 200  # images, the first of the training images
PLACES = ("the noisy output", "the next Wu + b", "after the next norm")
MODES = ("noise off", "noise on", "statistics re-estimated", "as in training")
CLEAN = 500  # training images by which the statistics are re-estimated
AT_ONCE = 5  # variants trained side by side, for memory
EPS, MOMENTUM = 1e-5, 0.1  # of BN, as in utils.batchnorm
NONE = PAPERS.times(0)


@dataclass(frozen=True)
class Variant:
    """With BN or without, how noisy, where, and whose statistics the BN layers use.

    With `stays` a batch goes through the network twice, without noise and with it, and each BN layer normalises both by
    the mean and variance of the first, so that it cannot take out what the noise before it has put in. Without noise
    that is BN. In evaluation such a network uses running averages of the first, as BN does.
    """

    bn: bool = True
    noise: Recipe = NONE
    last_only: bool = False  # noise on the last hidden layer only
    stays: bool = False


PLAIN, BN, NOISY, NOISY_PLAIN = Variant(bn=False), Variant(), Variant(noise=PAPERS), Variant(bn=False, noise=PAPERS)
STAYS = replace(NOISY, stays=True)


class Draws(NamedTuple):
    """One layer's noise before it is given its strength, for every seed (seeds, N or 1, units)."""

    mu: Tensor  # U(-1, 1), shared by the batch
    sigma: Tensor  # U(0, 1), shared by the batch
    m: Tensor  # U(-1, 1), each sample's own
    s: Tensor  # N(0, 1), each sample's own


def draw(generators: Sequence[torch.Generator], examples: int, units: int) -> Draws:
    """Draw the noise of one layer, with each seed's own generator and in the order of `utils.noise.draw_noise`.

    >>> [tuple(part.shape) for part in draw([torch.Generator()], 5, 3)]
    [(1, 1, 3), (1, 1, 3), (1, 5, 3), (1, 5, 3)]
    """
    drawn = []
    for generator in generators:
        mu, sigma = (torch.rand(1, units, generator=generator) for _ in range(2))
        m = torch.rand(examples, units, generator=generator)
        drawn.append((2 * mu - 1, sigma, 2 * m - 1, torch.randn(examples, units, generator=generator)))
    return Draws(*(torch.stack(part) for part in zip(*drawn, strict=True)))


class Seen(NamedTuple):
    """One hidden layer's values for a batch: (variants, seeds, N, units)."""

    before: Tensor  # Wu + b
    normed: Tensor  # after the norm: without one Wu + b again
    entering: Tensor  # after the noise: what enters the nonlinearity
    statistics: tuple[Tensor, Tensor] | None  # the mean and variance (variants, seeds, 1, units) that BN has used


class SideBySide:
    """Fully connected networks of one shape, all with BN or all without, one for each variant and seed.

    The weights of a seed are those of `settings.network(seed)`, in every variant; so is the noise but for its strength.
    Raises ValueError where the variants differ in `bn` or `stays`.

    >>> group = SideBySide(Settings(depth=2, width=8), [BN, NOISY], seeds=3)
    >>> scores, layers = group.forward(torch.rand(3, 5, 64))   # (seeds, N, inputs)
    >>> scores.shape, layers[0].before.shape
    (torch.Size([2, 3, 5, 10]), torch.Size([2, 3, 5, 8]))
    """

    def __init__(self, settings: Settings, variants: Sequence[Variant], seeds: int):
        kinds = {(variant.bn, variant.stays) for variant in variants}
        if len(kinds) != 1:
            raise ValueError(f"variants: expected all alike in bn and stays, got {sorted(kinds)}")
        ((self.bn, self.stays),) = kinds
        norm = "noisy" if self.bn else "noisy plain"
        nets = [replace(settings, norm=norm, noise=NONE).network(seed) for seed in range(seeds)]
        self.bend, self.shape = NONLINEARITIES[settings.nonlinearity](), (len(variants), seeds)
        self.generators = [next(layer.generator for layer in net.modules() if isinstance(layer, Noise)) for net in nets]
        linear = [[layer for layer in net if isinstance(layer, LINEAR)] for net in nets]
        *hidden, last = zip(*linear, strict=True)
        self.weights = [self._leaf([each.weight.T for each in layers]) for layers in (*hidden, last)]
        zeros = [self._leaf([torch.zeros(1, each.out_features) for each in layers]) for layers in (*hidden, last)]
        self.shifts = zeros  # b, or with BN beta; of the scores b
        self.gammas = [self._leaf([torch.ones(1, each.out_features) for each in layers]) for layers in hidden]
        self.running = [(torch.zeros_like(gamma), torch.ones_like(gamma)) for gamma in self.gammas]
        self.strengths = [self._strengths(variants, place == len(hidden) - 1) for place in range(len(hidden))]

    def _leaf(self, values: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack([value.detach() for value in values])
        return stacked.expand(self.shape[0], *stacked.shape).clone().requires_grad_()

    @staticmethod
    def _strengths(variants: Sequence[Variant], is_last: bool) -> Tensor | None:
        """What multiplies each part of :class:`Draws`: (parts, variants, 1, 1, 1); None where all are 0."""
        recipes = [NONE if variant.last_only and not is_last else variant.noise for variant in variants]
        parts = torch.tensor([(each.shift, each.scale, each.own_shift, each.own_scale) for each in recipes])
        return parts.T[:, :, None, None, None] if parts.any() else None

    def parameters(self) -> list[Tensor]:
        """Everything that is trained."""
        return [*self.weights, *self.shifts, *(self.gammas if self.bn else [])]

    def draws(self, examples: int, generators: Sequence[torch.Generator] | None = None) -> list[Draws]:
        """Draw noise for every hidden layer and `examples` samples."""
        return [draw(generators or self.generators, examples, gamma.shape[-1]) for gamma in self.gammas]

    def walk(
        self, x: Tensor, noise: Sequence[Draws] | None = None, statistics: Sequence[tuple] | None = None
    ) -> Iterator[Seen]:
        """Give the values of one hidden layer after another for `x` (seeds, N, inputs).

        Without `noise` there is none. Without `statistics`, a mean and a variance for each layer, BN uses the batch's.
        """
        clean = x
        for place, gamma in enumerate(self.gammas):
            weight, shift, used = self.weights[place], self.shifts[place], None
            if not self.bn:
                before = normed = x @ weight + shift
            else:
                before, by = x @ weight, None
                if statistics is not None:
                    used = statistics[place]
                else:
                    by = clean @ weight if self.stays else before
                    used = _statistics(by)
                normed = _normalize(before, used, gamma, shift)
                if self.stays and by is not None:
                    clean = self.bend(_normalize(by, used, gamma, shift))
            entering = _perturb(normed, noise[place], self.strengths[place]) if noise else normed
            yield Seen(before, normed, entering, used)
            x = self.bend(entering)

    def forward(self, x: Tensor, *given: Sequence | None) -> tuple[Tensor, list[Seen]]:
        """Return the scores (variants, seeds, N, classes) and all that :meth:`walk` gives."""
        layers = list(self.walk(x, *given))
        return self._scores(layers[-1]), layers

    def right(self, x: Tensor, y: Tensor, *given: Sequence | None) -> Tensor:
        """The share of `y` that is found, (variants, seeds); it keeps no layer's values."""
        (last,) = deque(self.walk(x, *given), maxlen=1)
        return (self._scores(last).argmax(-1) == y).float().mean(-1)

    def _scores(self, last: Seen) -> Tensor:
        return self.bend(last.entering) @ self.weights[-1] + self.shifts[-1]

    @torch.no_grad()
    def remember(self, layers: Sequence[Seen], examples: int) -> None:
        """Move the running statistics towards a batch's, as BN does: the variance with the factor m / (m - 1)."""
        for (mean, var), seen in zip(self.running, layers, strict=True):
            if seen.statistics:
                mean.lerp_(seen.statistics[0], MOMENTUM)
                var.lerp_(seen.statistics[1] * (examples / (examples - 1)), MOMENTUM)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(-2, keepdim=True)
    return mean, (x - mean).square().mean(-2, keepdim=True)


def _normalize(x: Tensor, statistics: tuple[Tensor, Tensor], gamma: Tensor, beta: Tensor) -> Tensor:
    mean, var = statistics
    return torch.addcmul(beta, x - mean, gamma * torch.rsqrt(var + EPS))


def _perturb(x: Tensor, drawn: Draws, strengths: Tensor | None) -> Tensor:
    """Return s x + m, with s and m of each variant's own strength."""
    if strengths is None:
        return x
    shift, scale, own_shift, own_scale = strengths
    m = torch.addcmul(shift * drawn.mu, own_shift, drawn.m)
    s = torch.addcmul(1 + scale * drawn.sigma, own_scale, drawn.s)
    return torch.addcmul(m, x, s)


class Race(NamedTuple):
    """What a race gives. The axes V and S are variants and seeds, L the hidden layers."""

    accuracy: np.ndarray  # (V, S, steps) on each mini-batch, before its update
    diverged: np.ndarray  # (V, S) whether the loss of the last mini-batch was no longer finite
    test_accuracy: np.ndarray  # (modes, V, S); the modes are those of MODES
    looked: np.ndarray  # (looks,) after how many updates
    drift: np.ndarray  # (2, looks, V, S, L) the distance from the first look, at Wu + b and at the nonlinearity
    jump: np.ndarray  # the same of the distance covered by the last single update before each look; at first 0
    width: np.ndarray  # the same of a unit's standard deviation over the probe
    moved: np.ndarray  # (2, 3, V, S, L) start and end of training, PLACES: the batch mean's move between two draws
    changed: np.ndarray  # the same, of the root mean square change of the single values


@kept
@one_thread()
def side_by_side(settings: Settings, variants: tuple[Variant, ...], seeds: int = 5, looks: int = 11) -> Race:
    """Train every variant with seeds 0 to `seeds - 1` on the same batches, with the same noise but for its strength.

    Jumps and drifts are distances between a unit's means over the fixed probe (200 training images), averaged over the
    layer's units; noise is drawn afresh at each look, as it is at each step. A network whose loss has become infinite
    counts as guessing from then on. Raises ValueError for settings other than plain SGD in mini-batches on flat data.

    >>> run = side_by_side(Settings(depth=2, width=8, steps=3), (PLAIN, NOISY), seeds=2, looks=2)
    >>> run.accuracy.shape, run.jump.shape, run.test_accuracy.shape
    ((2, 2, 3), (2, 2, 2, 2, 2), (4, 2, 2))
    """
    _check(settings)
    kinds = {}
    for place, variant in enumerate(variants):
        kinds.setdefault((variant.bn, variant.stays), []).append(place)
    groups = [alike[i : i + AT_ONCE] for alike in kinds.values() for i in range(0, len(alike), AT_ONCE)]
    runs, order = [], []
    for places in each(groups):
        group = SideBySide(settings, [variants[place] for place in places], seeds)
        runs.append(_race(settings, group, seeds, looks))
        order += places
    back = np.argsort(order)
    axes = {"accuracy": 0, "diverged": 0, "test_accuracy": 1}
    joined = {
        name: np.concatenate([getattr(run, name) for run in runs], axes.get(name, 2)).take(back, axes.get(name, 2))
        for name in Race._fields
        if name != "looked"
    }
    return Race(looked=runs[0].looked, **joined)


def _check(settings: Settings) -> None:
    for name, unwanted in (("data", ("fashion", "linear map")), ("batch_size", (0,))):
        if getattr(settings, name) in unwanted:
            raise ValueError(f"{name}: expected none of {unwanted}, got {getattr(settings, name)!r}")
    for name in ("momentum", "dropout"):
        if getattr(settings, name):
            raise ValueError(f"{name}: expected 0, got {getattr(settings, name)!r}")


def _race(settings: Settings, group: SideBySide, seeds: int, looks: int) -> Race:
    images, labels, *test = settings.task()
    probe, wanted = images[:PROBE].expand(seeds, -1, -1), looks_at(settings.steps, looks)
    eyes = [torch_rng(1_000 + seed) for seed in range(seeds)]  # noise of the looks
    at_first, seen, accuracy, last = _two_draws(group, probe, eyes), [], [], None
    for step, right, finite in _updates(settings, group, images, labels, seeds):
        if step:
            accuracy.append(right)
            diverged = ~finite
        if step in wanted or step + 1 in wanted:
            now = _means_and_widths(group, probe, eyes)
        if step in wanted:
            seen.append((now, last if step else now))
        last = now
    moved, changed = (np.stack(both) for both in zip(at_first, _two_draws(group, probe, eyes), strict=True))
    return Race(
        np.stack(accuracy, -1),
        diverged,
        _tested(group, images, *test, eyes),
        np.array(wanted),
        *_distances(seen),
        moved,
        changed,
    )


@with_gradients
def _updates(
    settings: Settings, group: SideBySide, images: Tensor, labels: Tensor, seeds: int
) -> Iterator[tuple[int, np.ndarray | None, np.ndarray | None]]:
    """Train by plain SGD; after each update give its number, the accuracies and whether the losses were finite."""
    optimizer = torch.optim.SGD(group.parameters(), lr=settings.lr)
    batches = [torch_rng(seed) for seed in range(seeds)]
    many = settings.batch_size
    yield 0, None, None
    for step in steps(settings.steps):
        batch = torch.stack([torch.randint(len(images), (many,), generator=chance) for chance in batches])
        y = labels[batch]
        scores, layers = group.forward(images[batch], group.draws(many))
        losses = F.cross_entropy(scores.flatten(0, 2), y.expand(*group.shape, many).flatten(), reduction="none")
        losses = losses.view(*group.shape, many).mean(-1)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        group.remember(layers, many)
        right = (scores.argmax(-1) == y).float().mean(-1)
        yield step + 1, right.numpy(), losses.detach().isfinite().numpy()


@torch.no_grad()
def _means_and_widths(group: SideBySide, probe: Tensor, eyes: Sequence[torch.Generator]) -> tuple:
    """Mean and standard deviation over the probe, each (2 places, V, S, L, units)."""
    places = [], []
    for seen in group.walk(probe, group.draws(probe.shape[1], eyes)):
        for place, values in zip(places, (seen.before, seen.entering), strict=True):
            place.append([part.squeeze(-2).numpy() for part in _statistics(values)])
    means, variances = np.array(places).transpose(2, 0, 3, 4, 1, 5)
    return means, np.sqrt(variances)


def _distances(seen: Sequence[tuple]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drift, jumps and widths (2 places, looks, V, S, L), each the mean over units."""
    means, widths, lasts = (np.stack(each) for each in zip(*((*now, last[0]) for now, last in seen), strict=True))
    jumps = [drift(np.stack(pair), widths[:2], YARDSTICKS[0])[1] for pair in zip(lasts, means, strict=True)]
    far = drift(means, widths, YARDSTICKS[0])
    return tuple(each.mean(-1).swapaxes(0, 1) for each in (far, np.stack(jumps), widths))


@torch.no_grad()
def _two_draws(group: SideBySide, probe: Tensor, eyes: Sequence[torch.Generator]) -> tuple[np.ndarray, np.ndarray]:
    """Send the probe through twice, with the same weights and two draws of noise, and compare at :data:`PLACES`.

    Each (3, V, S, L): layer l's noisy output, and the next layer's Wu + b and norm, which the last layer has not: nan.
    """
    compared = np.full((2, 3, *group.shape, len(group.gammas)), np.nan)
    walks = (group.walk(probe, group.draws(probe.shape[1], eyes)) for _ in range(2))
    for layer, (one, other) in enumerate(zip(*walks, strict=True)):
        compared[:, 0, ..., layer] = between_draws(one.entering, other.entering)
        if layer:
            compared[:, 1, ..., layer - 1] = between_draws(one.before, other.before)
            compared[:, 2, ..., layer - 1] = between_draws(one.normed, other.normed)
    return tuple(compared)


def between_draws(one: Tensor, other: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """How far apart two draws of noise set one batch (..., N, units), in average widths of `one`: two arrays (...).

    The distance between the units' batch means, which is what the batch shares; and the root mean square distance
    between single values, which counts each sample's own part as well.

    >>> x = torch.tensor([[-1.0], [1.0]])
    >>> between_draws(x, x + 3)
    (array(3.), array(3.))
    >>> between_draws(x, -x)   # the batch as a whole has not moved
    (array(0.), array(2.))
    """
    one, other = one.double().numpy(), other.double().numpy()
    widths = one.std(-2)
    means = drift(np.stack([one.mean(-2), other.mean(-2)]), np.stack([widths, widths]), YARDSTICKS[0])[1]
    singles = np.sqrt(((other - one) ** 2).mean(-2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return tuple(np.asarray(far.mean(-1) / widths.mean(-1)) for far in (means, singles))


@torch.no_grad()
def _tested(group: SideBySide, images: Tensor, x: Tensor, y: Tensor, eyes: Sequence[torch.Generator]) -> np.ndarray:
    """Accuracy on the test data in each of the :data:`MODES`: (modes, V, S)."""
    seeds = group.shape[1]
    images, x = (each.expand(seeds, -1, -1) for each in (images, x))
    exact = [seen.statistics for seen in group.walk(images[:, :CLEAN])]  # without noise, as one batch
    noise = group.draws(x.shape[1], eyes)
    ways = ((None, group.running), (noise, group.running), (None, exact), (noise, None))
    return np.stack([group.right(x, y, *way).numpy() for way in ways])


def share_kept(plain: np.ndarray, bn: np.ndarray, noisy: np.ndarray, clear: float = 0.05) -> np.ndarray | None:
    """Return which share of BN's gain over the plain network noisy BN keeps, (noisy - plain) / (bn - plain), by seed.

    None where the gain is less than `clear` in any seed: a share of nearly nothing says nothing.

    >>> share_kept(np.array([0.5, 0.6]), np.array([0.9, 0.8]), np.array([0.9, 0.7]))
    array([1. , 0.5])
    >>> share_kept(np.array([0.5]), np.array([0.51]), np.array([0.7])) is None
    True
    """
    return (noisy - plain) / (bn - plain) if (bn - plain >= clear).all() else None


class Watch(NamedTuple):
    """What one network did; the axis L is its hidden layers, the axis `looks` that of `looked`."""

    accuracy: np.ndarray  # (steps,) on each mini-batch, before its update
    test_accuracy: float  # at the end, in evaluation: without noise, by running statistics
    looked: np.ndarray  # (looks,) after how many updates
    drift: np.ndarray  # (looks, L) at the nonlinearity's entrance, as in :class:`Race`
    jump: np.ndarray
    width: np.ndarray


@kept
@one_thread()
def watch(settings: Settings, seed: int, looks: int = 6) -> Watch:
    """Train one network of any kind, and look at what enters its nonlinearities, as `side_by_side` does.

    In images a unit is a channel, and height and width count as samples.

    >>> seen = watch(Settings("noisy", data="fashion", depth=2, width=4, steps=3, batch_size=8), seed=0, looks=2)
    >>> seen.accuracy.shape, seen.jump.shape
    ((3,), (2, 2))
    """
    task, wanted = settings.task(), looks_at(settings.steps, looks)
    accuracy, seen, last = [], [], None
    for update in updates(settings, seed):
        accuracy.append(update.accuracy)
        if update.step in wanted or update.step + 1 in wanted:
            now = _entering(update.net, task.x_train[:PROBE])
        if update.step in wanted:
            seen.append((*now, last[0] if update.step else now[0]))
        last = now
    means, widths, lasts = (list(each) for each in zip(*seen, strict=True))

    def far(pairs: Sequence[Sequence]) -> np.ndarray:
        """The mean distance over the units of every layer, between the two of every pair: (pairs, L)."""
        return np.array([[np.abs(b - a).mean() for a, b in zip(*pair, strict=True)] for pair in pairs])

    with looking(update.net, training=False), torch.no_grad():
        right = (update.net(task.x_test).argmax(1) == task.y_test).float().mean().item()
    return Watch(
        np.array(accuracy[1:]),
        right,
        np.array(wanted),
        far([(means[0], mean) for mean in means]),
        far(list(zip(lasts, means, strict=True))),
        np.array([[width.mean() for width in layers] for layers in widths]),
    )


def _entering(net: torch.nn.Sequential, probe: Tensor) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Mean and standard deviation of each unit of each hidden layer at the nonlinearity's entrance."""
    values = [layer.entering.transpose(0, 1).flatten(1) for layer in hidden_values(net, probe)]
    return [each.mean(1).numpy() for each in values], [each.std(1, correction=0).numpy() for each in values]
