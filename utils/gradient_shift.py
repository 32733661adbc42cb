"""Internal covariate shift in its second meaning (Santurkar et al. 2018, Definition 2.1), beside the first.

Update the layers below a layer and nothing else. Then two questions can be asked about the layer above. Does it receive
other values? That is what Ioffe & Szegedy 2015 mean. Does its own gradient change, on the same mini-batch? That is
Definition 2.1. Both are asked here of the same updates of the same run.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.drift import PROBE, YARDSTICKS, drift, looks_at
from utils.networks import LINEAR, looking
from utils.noise import Noise
from utils.runs import kept
from utils.training import Settings, one_thread, updates, with_gradients

Loss = Callable[[Tensor, Tensor], Tensor]


def layers_of(net: nn.Sequential) -> list[nn.Sequential]:
    """Cut a network into its layers: each is Wu + b and all that follows, up to the next Wu + b.

    The modules are the network's own. A layer's norm, with its gamma and beta, belongs to it.

    >>> from utils.networks import mlp
    >>> [len(layer) for layer in layers_of(mlp([4, 8, 3], norm="bn"))]
    [3, 1]
    """
    starts = [i for i, module in enumerate(net) if isinstance(module, LINEAR)]
    return [net[i:j] for i, j in pairwise([*starts, len(net)])]


class Pair(NamedTuple):
    """The gradient of the loss with respect to one layer's W, before and after the layers below it are updated."""

    before: Tensor  # G
    after: Tensor  # G'

    @property
    def l2(self) -> float:
        """The distance ||G - G'||, in units of a gradient.

        >>> Pair(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])).l2
        5.0
        """
        return (self.before - self.after).norm().item()

    @property
    def relative(self) -> float:
        """The distance in lengths of G: ||G - G'|| / ||G||; 0 where nothing has changed.

        >>> Pair(torch.tensor([3.0, 0.0]), torch.tensor([6.0, 0.0])).relative
        1.0
        """
        return self.l2 / self.before.norm().item() if self.l2 else 0.0

    @property
    def cosine(self) -> float:
        """The cosine of the angle between G and G'; not a number where one of them is zero.

        >>> Pair(torch.tensor([3.0, 0.0]), torch.tensor([-6.0, 0.0])).cosine
        -1.0
        """
        lengths = self.before.norm() * self.after.norm()
        return ((self.before * self.after).sum() / lengths).item()


@with_gradients
def gradient_pairs(before: nn.Sequential, after: nn.Sequential, x: Tensor, y: Tensor, loss: Loss) -> list[Pair]:
    """Return G and G' of every layer for one update, from `before` to `after`, of one mini-batch (Definition 2.1).

    G is the gradient with respect to the layer's W with all layers as in `before`; for G' the layers *below* it, with
    their biases, gammas and betas, are as in `after`, and all others as in `before`. The batch `x`, `y` should be the
    one that the update was made with. The networks are in training mode; running statistics stay as they are. For the
    norms without noise, which would be drawn anew: ValueError for the others. The gradients come flat, in float64.

    >>> from utils.networks import mlp
    >>> before, after = mlp([4, 8, 3]), mlp([4, 8, 3])
    >>> pairs = gradient_pairs(before, after, torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]), nn.CrossEntropyLoss())
    >>> pairs[0].l2, pairs[1].l2 > 0        # nothing lies below layer 1
    (0.0, True)
    """
    if any(isinstance(module, Noise) for module in before.modules()):
        raise ValueError("norm: expected one without noise, which would be another for G than for G'")
    old, new, pairs, u = layers_of(before), layers_of(after), [], x
    with looking(before), looking(after):
        weights = [layer[0].weight for layer in old]
        gradients = torch.autograd.grad(loss(before(x), y), weights)
        for i, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
            scores = u  # what the layers below hand on after their update
            for layer in old[i:]:
                scores = layer(scores)
            (moved,) = torch.autograd.grad(loss(scores, y), [weight])
            pairs.append(Pair(gradient.double().flatten(), moved.double().flatten()))
            with torch.no_grad():
                u = new[i](u)
    return pairs


@torch.no_grad()
def arrivals(before: nn.Sequential, after: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Return every layer's Wu + b for the batch `x` when only the layers below it are as in `after`: (N, units) each.

    The counterpart of :func:`gradient_pairs`: the same surgery, but what is looked at is the value and not the
    gradient. With `after` the same as `before` these are the network's own. In images height and width count as
    samples.

    >>> from utils.networks import mlp, preactivations
    >>> net, x = mlp([4, 8, 3], norm="bn"), torch.rand(5, 4)
    >>> torch.equal(arrivals(net, net, x)[1], preactivations(net, x)[1])
    True
    """
    given, u = [], x
    with looking(before), looking(after):
        for old, new in zip(layers_of(before), layers_of(after), strict=True):
            values = old[0](u)
            given.append(values.movedim(1, -1).flatten(0, -2))
            u = new(u)
    return given


def step_below(before: nn.Sequential, after: nn.Sequential) -> np.ndarray:
    """How far, for every layer, the parameters of all layers below it were moved by the update: (layers,).

    >>> from utils.networks import mlp
    >>> before, after = mlp([1, 1, 1]), mlp([1, 1, 1])
    >>> after.load_state_dict({**before.state_dict(), "0.bias": torch.tensor([3.0])})
    <All keys matched successfully>
    >>> step_below(before, after).tolist()
    [0.0, 3.0]
    """
    squares = [
        sum((q - p).double().pow(2).sum().item() for p, q in zip(old.parameters(), new.parameters(), strict=True))
        for old, new in zip(layers_of(before), layers_of(after), strict=True)
    ]
    return np.sqrt(np.cumsum([0.0, *squares[:-1]]))


def two_gradients(w: Tensor, v: Tensor, target: float, lr: float) -> tuple[Pair, Tensor]:
    """Definition 2.1 for a network that can be computed by hand: two linear layers, one input x = 1.

    The scores are f = v . (w x), the loss (f - target)^2 / 2. Returns G and G' of the upper layer, v, and what the
    update makes of the lower one, w.

    >>> pair, w_new = two_gradients(torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0]), target=3.0, lr=0.25)
    >>> w_new.tolist(), pair.before.tolist(), pair.after.tolist()
    ([2.5, 0.5], [-4.0, -2.0], [-2.5, -0.5])
    """
    error = v @ w - target
    w_new = w - lr * error * v
    return Pair(error * w, (v @ w_new - target) * w_new), w_new


MOMENTS = ("mean", "width")  # the width of a unit is its standard deviation (1/m) over the probe


class Both(NamedTuple):
    """The two meanings, for the same updates of one run. An axis of `layers` has the last one, the scores, too."""

    looked: np.ndarray  # (looks,) the number of updates made before the one that is looked at
    l2: np.ndarray  # (looks, layers) ||G - G'||
    relative: np.ndarray  # (looks, layers) the same over ||G||
    cosine: np.ndarray  # (looks, layers)
    below: np.ndarray  # (looks, layers) how far this update moved the parameters of all layers below
    drift: np.ndarray  # (moments, yardsticks, looks, layers) of Wu + b on the probe since the start, mean over units
    jump: np.ndarray  # (the same) by this one update of the layers below
    loss: np.ndarray  # (steps,) of each mini-batch, before its update


@kept
@one_thread()
def watch_both(settings: Settings, seed: int, looks: int = 11, probe: int = PROBE) -> Both:
    """Train a network and measure both meanings for `looks` of its updates, evenly spread from the first to the last.

    Gradients are taken on the mini-batch that the update is made with, values on the first `probe` training images.
    Training goes on as if nobody looked; where the loss diverges the looks end.

    >>> seen = watch_both(Settings(steps=5), seed=0, looks=3)
    >>> seen.looked.tolist(), seen.l2.shape, float(abs(seen.l2[:, 0]).max())
    ([0, 2, 4], (3, 4), 0.0)
    """
    task, wanted = settings.task(), looks_at(settings.steps - 1, looks)
    fixed, seen, losses, last = task.x_train[:probe], [], [], None
    for update in updates(settings, seed):
        if update.step == 0:
            start = moments(arrivals(update.net, update.net, fixed))
        else:
            losses.append(update.loss)
        if last and np.isfinite(update.loss):
            (before, x, y), after = last, update.net
            pairs = gradient_pairs(before, after, x, y, settings.loss)
            gradients = [[getattr(pair, name) for pair in pairs] for name in ("l2", "relative", "cosine")]
            values = _moved(before, after, fixed, start)
            seen.append((update.step - 1, *gradients, step_below(before, after), *values))
        last = (deepcopy(update.net), *update.batch) if update.step in wanted else None
    *columns, far, jump = (np.array(column) for column in zip(*seen, strict=True))
    return Both(*columns, *(np.moveaxis(values, 0, 2) for values in (far, jump)), np.array(losses))


class OneUpdate(NamedTuple):
    """A network before and after an update, and the mini-batch that it was made with."""

    before: nn.Sequential
    after: nn.Sequential
    x: Tensor
    y: Tensor


@one_thread()
def one_update(settings: Settings, seed: int, step: int) -> OneUpdate:
    """Train for `step` updates and take the next one apart. Raises ValueError if training ends before.

    >>> before, after, x, y = one_update(Settings(lr=0.1, steps=3), seed=0, step=2)
    >>> bool((before[0].weight == after[0].weight).all()), len(x)
    (False, 60)
    """
    for update in updates(settings, seed):
        if update.step == step:
            before, (x, y) = deepcopy(update.net), update.batch
        if update.step == step + 1:
            return OneUpdate(before, update.net, x, y)
    raise ValueError(f"step: expected fewer than the {update.step} updates of this run, got {step}")


Moments = tuple[np.ndarray, np.ndarray]


def moments(values: Sequence[Tensor]) -> list[Moments]:
    """Mean and width of every unit, for each layer's values (N, units): two arrays (units,) a layer.

    >>> moments([torch.tensor([[1.0], [3.0]])])
    [(array([2.]), array([1.]))]
    """
    return [(layer.numpy().mean(0, dtype=float), layer.numpy().std(0, dtype=float)) for layer in values]


def _moved(before: nn.Sequential, after: nn.Sequential, x: Tensor, start: list[Moments]) -> tuple[np.ndarray, ...]:
    """The drift since the start and the jump by this update of the layers below: (moments, yardsticks, layers) each."""
    now, arrived = moments(arrivals(before, before, x)), moments(arrivals(before, after, x))
    layers = [*zip(start, now, arrived, strict=True)]
    far = [_far(then, at, (then[1], at[1])) for then, at, _ in layers]
    jump = [_far(at, new, (then[1], at[1])) for then, at, new in layers]
    return np.moveaxis(far, 0, -1), np.moveaxis(jump, 0, -1)


def _far(then: Moments, now: Moments, widths: Moments) -> list[list[float]]:
    """How far each moment has moved, in each yardstick, mean over units; `widths` are those of the start and of now."""
    pairs = [np.stack(pair) for pair in zip(then, now, strict=True)]
    return [[drift(pair, np.stack(widths), way)[-1].mean() for way in YARDSTICKS] for pair in pairs]


ABOVE = slice(1, None)  # all layers but the first, which has none below it


def measured(run: Both, what: str) -> np.ndarray:
    """One quantity of a run, for every look and every layer but the first: (looks, layers - 1).

    `what` is "l2", "relative", "cosine", "angle" (1 - cosine), "length" (of G), "below" (how far the layers below have
    been moved), "l2 per length" (of that step), or "drift" or "jump" with a moment and a yardstick, as in "drift, mean,
    width now".

    >>> measured(watch_both(Settings(steps=5), seed=0, looks=3), "drift, mean, width now").shape
    (3, 3)
    """
    kind, *which = what.split(", ")
    if which:
        return getattr(run, kind)[MOMENTS.index(which[0]), YARDSTICKS.index(which[1])][:, ABOVE]
    if kind == "angle":
        return 1 - run.cosine[:, ABOVE]
    if kind == "length":
        return run.l2[:, ABOVE] / run.relative[:, ABOVE]
    if kind == "l2 per length":
        return run.l2[:, ABOVE] / run.below[:, ABOVE]
    return getattr(run, kind)[:, ABOVE]


def over_layers(run: Both, what: str) -> np.ndarray:
    """One number for each look: the geometric mean over all layers but the first, the plain mean for a cosine.

    `what` is as in :func:`measured`.

    >>> over_layers(watch_both(Settings(steps=5), seed=0, looks=3), "l2").shape
    (3,)
    """
    values = measured(run, what)
    return values.mean(1) if what == "cosine" else np.exp(np.log(values).mean(1))


def ratio(plain: Both, bn: Both, what: str, part: tuple[float, float] = (0.0, 1.0)) -> float:
    """How many times larger BN's is: the median over looks and over all layers but the first.

    `part` is the part of the training from which looks are taken; `what` is as in :func:`measured`.

    >>> runs = [watch_both(Settings(norm, steps=5), seed=0, looks=3) for norm in ("plain", "bn")]
    >>> ratio(*runs, "l2") > 1, ratio(runs[0], runs[0], "jump, mean, as it is")
    (True, 1.0)
    """
    taken = (part[0] <= plain.looked / plain.looked[-1]) & (plain.looked / plain.looked[-1] <= part[1])
    ours, theirs = (measured(run, what)[taken] for run in (bn, plain))
    some = theirs > 0  # there is no drift at the first look
    return float(np.median(ours[some] / theirs[some]))


def within(runs: Sequence[Both], what: str, low: float, high: float) -> np.ndarray:
    """A quantity, as in :func:`over_layers`, at those looks of `runs` where the loss was between `low` and `high`.

    >>> within([watch_both(Settings(steps=5), seed=0, looks=3)], "l2", 0.0, 10.0).shape
    (3,)
    """
    loss = np.concatenate([run.loss[run.looked] for run in runs])
    return np.concatenate([over_layers(run, what) for run in runs])[(low < loss) & (loss < high)]
