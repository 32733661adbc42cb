"""Internal covariate shift put back on purpose: a network with BN whose inputs drift as those of a plain network did.

A plain network is followed: of every hidden unit the mean and the width of what enters its nonlinearity, on fixed
images, after every update. Then the network with BN trains from the same seed, and what its BN layers hand on is moved
by as much as the plain unit had moved by then. The next BN takes the mean off again, so that the inputs of each
nonlinearity move as the plain network's do, and not by the sum of all that was put in before them. This is the quantity
of Ioffe & Szegedy 2015, section 2; for the intervention that jumps instead see `noise_on_purpose`.

Distances are in widths of the moment where the units are ReLUs, which have no scale of their own. Sigmoids have one,
and a plain network's widths nearly vanish there: theirs are distances as they are.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.cache import cached
from utils.ensemble import Ensemble
from utils.experiments.internal_covariate_shift import FIGURE_1
from utils.experiments.interventions import RELU
from utils.experiments.noise_on_purpose import GUESSING, accuracy_curves, area
from utils.observe import ACTIVATIONS
from utils.training import SEEDS, Settings, one_thread, updates_together

STEPS = 100
NETWORKS = {
    "ReLU, rate 0.3": replace(RELU, lr=0.3, steps=STEPS),
    "ReLU, rate 0.1": replace(RELU, lr=0.1, steps=STEPS),
    "sigmoid, Figure 1": replace(FIGURE_1, steps=STEPS),  # the network of the first paper's figure, reduced
}
DRIFTING, SLOWLY, STILL = "BN, drift put back", "BN, its slow part only", "BN, displaced but still"
INNER = "BN, not in the last layer"
INPUTS = (DRIFTING, SLOWLY, STILL, INNER)  # what the inputs of BN's nonlinearities do
PLAIN_STILL = "plain, drift taken out"  # the other way round
PROBE = 200  # training images
WINDOW = 30  # updates, over which the slow drift is a running mean
LOOKS = 10  # updates between two looks at an arm

Move = Callable[[int, int, Tensor], Tensor]  # (updates made, layer, values (S, N, C)) -> values


class Path(NamedTuple):
    """Where the inputs of the nonlinearities of S networks were after each look, on the probe: (looks, L, S, C)."""

    mean: np.ndarray
    width: np.ndarray  # their standard deviation
    accuracy: np.ndarray  # (S, steps) on each mini-batch, before its update; from a divergence on that of guessing


class _Entrances:
    """What enters the nonlinearities of networks that train side by side, moved, and on request looked at.

    A nonlinearity has no parameters: one module, the first network's, serves them all (`utils.ensemble`).
    """

    def __init__(self, ensemble: Ensemble, move: Move):
        self.ensemble, self.move, self.updates, self.seen = ensemble, move, 0, []
        for layer, module in enumerate(m for m in ensemble.nets[0] if isinstance(m, ACTIVATIONS)):
            module.register_forward_pre_hook(partial(self._enter, layer))

    def _enter(self, layer: int, _: nn.Module, given: tuple[Tensor]) -> Tensor:
        moved = self.move(self.updates, layer, given[0])
        self.seen.append(moved)
        return moved

    @torch.no_grad()
    def look(self, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the width of each layer's inputs, over the images of `x`: (L, S, C) twice."""
        self.seen = []
        self.ensemble.forward(x)
        values = torch.stack(self.seen)
        return values.mean(2).numpy(), values.std(2, correction=0).numpy()


def follow(settings: Settings, move: Move | None = None, seeds: int = SEEDS, every: int = 1) -> Path:
    """Train all seeds, with what enters each nonlinearity moved, and look at it there before the first update and on.

    `move` gets the number of updates made, the layer, counted from 0, and the values (S, N, C). The looks are at the
    batch statistics of the probe, 200 training images, `every` so many updates; they touch the running statistics, so
    nothing here is said of evaluation.

    >>> path = follow(Settings(depth=2, width=8, steps=3), seeds=4)
    >>> path.mean.shape, path.accuracy.shape
    ((4, 2, 4, 8), (4, 3))
    """
    probe = torch.stack([settings.task(seed).x_train[:PROBE] for seed in range(seeds)])
    looks, accuracies = [], []
    with one_thread():
        for moment in updates_together(settings, seeds):
            if moment.step == 0:
                entrances = _Entrances(moment.ensemble, move or (lambda updates, layer, values: values))
            else:
                accuracies.append(np.where(np.isfinite(moment.loss), moment.accuracy, GUESSING))
            entrances.updates = moment.step
            if moment.step % every == 0:
                looks.append(entrances.look(probe))
            entrances.seen = []
    found = np.full((seeds, settings.steps), GUESSING)
    found[:, : len(accuracies)] = np.array(accuracies).T
    return Path(*map(np.array, zip(*looks, strict=True)), found)


@cached
def plain_path(network: str, seeds: int = SEEDS) -> Path:
    """Follow the plain network of one of the :data:`NETWORKS`, after every update.

    >>> plain_path("ReLU, rate 0.1", seeds=2).mean.shape
    (101, 10, 2, 48)
    """
    return follow(NETWORKS[network], seeds=seeds)


def distances(path: Path, network: str) -> np.ndarray:
    """How far each unit's mean is from its first, with its sign, in the network's measure: (looks, L, S, C).

    A seed that has diverged stays where it was last.

    >>> distances(plain_path("ReLU, rate 0.1", seeds=2), "ReLU, rate 0.1")[0].any()
    np.False_
    """
    with np.errstate(all="ignore"):
        far = path.mean - path.mean[0]
        far = far / path.width if NETWORKS[network].nonlinearity == "relu" else far
    whole = np.logical_and.accumulate(np.isfinite(far).all((1, 3)), 0)  # (looks, S)
    last = np.maximum.accumulate(np.where(whole, np.arange(len(far))[:, None], 0), 0)
    return np.take_along_axis(far, last[:, None, :, None], 0)


def put_back(far: np.ndarray, inputs: str) -> np.ndarray:
    """What is added to BN's output, from the plain network's distances (updates + 1, L, S, C); the same shape.

    It drifts as they do; slowly, as their running mean over 30 updates; it stands from the first update to the last
    where they were at one moment, another for each seed, evenly over the training, so that over all seeds it is as far
    out as what drifts; or it drifts in all layers but the last. ValueError for another of the :data:`INPUTS`.

    >>> far = np.arange(4.0).reshape(4, 1, 1, 1)
    >>> put_back(far, STILL).ravel().tolist()
    [2.0, 2.0, 2.0, 2.0]
    """
    if inputs not in INPUTS:
        raise ValueError(f"inputs: expected one of {INPUTS}, got {inputs!r}")
    if inputs == SLOWLY:
        ends = [(WINDOW // 2, WINDOW - 1 - WINDOW // 2), *[(0, 0)] * 3]
        return np.lib.stride_tricks.sliding_window_view(np.pad(far, ends, mode="edge"), WINDOW, 0).mean(-1)
    if inputs == STILL:
        moments = ((np.arange(far.shape[2]) + 0.5) / far.shape[2] * len(far)).astype(int)
        return np.broadcast_to(np.take_along_axis(far, moments[None, None, :, None], 0), far.shape)
    return far * (np.arange(far.shape[1]) < far.shape[1] - (inputs == INNER))[:, None, None]


@cached
def arm(network: str, inputs: str, seeds: int = SEEDS) -> Path:
    """Train BN with one of the :data:`INPUTS`, or the plain network with the drift of its means taken out.

    Taken out means: of every batch the mean is put back to what it was on the probe before the first update. Nothing is
    centred, for that first mean stays; the gradient knows of it.

    >>> arm("ReLU, rate 0.1", DRIFTING, seeds=2).accuracy.shape
    (2, 100)
    """
    settings, path = NETWORKS[network], plain_path(network, seeds)
    if inputs == PLAIN_STILL:
        first = torch.from_numpy(path.mean[0])
        return follow(settings, lambda _, layer, x: x - x.mean(1, True) + first[layer][:, None], seeds, LOOKS)
    moved = torch.from_numpy(put_back(distances(path, network), inputs).astype(np.float32))
    return follow(
        replace(settings, norm="bn"), lambda updates, layer, x: x + moved[updates, layer][:, None], seeds, LOOKS
    )


def race(network: str, inputs: str) -> dict[str, np.ndarray]:
    """The training curves of the plain network, of BN, and of one arm by the name "moved": (seeds, steps) each.

    >>> list(race("ReLU, rate 0.1", DRIFTING))
    ['plain', 'bn', 'moved']
    """
    return {
        "plain": plain_path(network).accuracy,
        "bn": accuracy_curves(replace(NETWORKS[network], norm="bn")),
        "moved": arm(network, inputs).accuracy,
    }


def gone(network: str, inputs: str) -> np.ndarray:
    """The share of BN's gain in area that an arm is without, (BN - it) / mean(BN - plain): (seeds,).

    >>> bool(gone("ReLU, rate 0.3", DRIFTING).mean() > 0)
    True
    """
    plain, bn, moved = (area(curves) for curves in race(network, inputs).values())
    return (bn - moved) / (bn - plain).mean()


def returned(network: str, inputs: str = DRIFTING) -> np.ndarray:
    """How far an arm's inputs are from their first means, over how far the plain network's were: (seeds,).

    Means over units, layers and looks. 1 or more says that gamma and beta have not learned to take the drift out.

    >>> returned("ReLU, rate 0.3").shape
    (10,)
    """
    plain = np.abs(distances(plain_path(network), network)[LOOKS::LOOKS]).mean((0, 1, 3))
    return np.abs(distances(arm(network, inputs), network)[1:]).mean((0, 1, 3)) / plain


def of_one_unit(network: str, change: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The distances of one unit in the plain network, and what the change makes of them: (updates + 1,) twice.

    The unit of the last hidden layer but one whose mean distance is in the middle of its layer's.

    >>> plain, still = of_one_unit("ReLU, rate 0.3", PLAIN_STILL)
    >>> plain.shape, bool(still.any())
    ((101,), False)
    """
    far = distances(plain_path(network), network)
    moved = 0 * far if change == PLAIN_STILL else put_back(far, change)
    middle = np.argsort(np.abs(far[:, -2, seed]).mean(0))[far.shape[-1] // 2]
    return far[:, -2, seed, middle], moved[:, -2, seed, middle]
