"""Internal covariate shift, measured: what happens to a layer's values on the SAME images when weights are updated.

All looks of a run are at one fixed probe, the first 500 training images, so that no difference between two looks can
be a difference between two samples. A layer is looked at in two places: at the preactivation Wu + b, and at what enters
the nonlinearity, which with BN is something else (Ioffe & Szegedy 2015, sections 2 and 4.1).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.cache import cached
from utils.networks import LINEAR
from utils.observe import Layer, accuracy, observe, trace, unit_statistics
from utils.seeds import torch_rng
from utils.sweeps import by_arm
from utils.training import SEEDS, Settings, Update, by_norm, evenly_spaced

# --- settings --------------------------------------------------------------------------------------------------------

ARMS = ("plain", "bn")
FIGURE_1 = Settings(depth=3, nonlinearity="sigmoid", init=0.1, lr=1.0, steps=500)
DEEP = Settings(depth=10, width=50, lr=0.1, steps=200)
NETWORKS = {
    "sigmoid, 1 layer": replace(FIGURE_1, depth=1),
    "sigmoid, 3 layers": FIGURE_1,
    "sigmoid, 5 layers": replace(FIGURE_1, depth=5),
    "ReLU, 10 layers": replace(DEEP, nonlinearity="relu", init="he"),
    "tanh, 10 layers": replace(DEEP, nonlinearity="tanh"),
    "tanh, 10 layers, raw pixels": replace(DEEP, nonlinearity="tanh", inputs="raw"),
}
SIGMOIDS = {name: NETWORKS[name] for name in ("sigmoid, 3 layers", "sigmoid, 5 layers")}
N_EVALS = 11
SHOWN = tuple(sorted({1, 10, *evenly_spaced(FIGURE_1.steps, N_EVALS)}))  # updates after which single units are shown
SLOW = replace(FIGURE_1, lr=0.001, steps=300)  # a network that hardly moves
FIRST_LOOK = 300  # updates, of `look_twice`
WAITS = (0, 1, 3, 10, 30, 100)  # updates
BATCH_SIZES = (4, 16, 60, 250)
SATURATED = 4.0  # a sigmoid's slope beyond is less than 8 % of its largest

# --- displacement ----------------------------------------------------------------------------------------------------

PROBE = 500  # images
PLACES = ("preactivation", "activation_input")  # fields of `utils.observe.Layer`
LEVELS = (15, 50, 85)  # the percentiles of Ioffe & Szegedy 2015, figure 1


class Yardstick(StrEnum):
    """What a displacement of a unit's mean is counted in."""

    ABSOLUTE = "absolute"  # as it is
    INITIAL_STD = "initial std"  # the unit's standard deviation over the probe at the first look
    CURRENT_STD = "current std"  # the same at this look


def displacement(
    change: np.ndarray, initial_std: np.ndarray, current_std: np.ndarray, yardstick: Yardstick = Yardstick.CURRENT_STD
) -> np.ndarray:
    """The size of a change of means, in a yardstick; the shape is that of `change`. ValueError for another yardstick.

    >>> [displacement(-6.0, 2.0, 3.0, yardstick) for yardstick in Yardstick]
    [6.0, 3.0, 2.0]
    """
    stds = {Yardstick.ABSOLUTE: 1.0, Yardstick.INITIAL_STD: initial_std, Yardstick.CURRENT_STD: current_std}
    return abs(change) / stds[Yardstick(yardstick)]


def drift(mean: np.ndarray, std: np.ndarray, yardstick: Yardstick = Yardstick.CURRENT_STD) -> np.ndarray:
    """The displacement of each unit's mean since the first look: (evals, ...), of means and stds of that shape.

    >>> drift(np.array([1.0, 3.0, -3.0]), np.array([2.0, 4.0, 8.0])).tolist()
    [0.0, 0.5, 0.5]
    """
    return displacement(mean - mean[0], std[0], std, yardstick)


@torch.no_grad()
def from_below(net: nn.Sequential, then: Sequence[Layer], now: Sequence[Layer]) -> np.ndarray:
    """The displacement of each unit's mean Wu + b that its layer's input u alone makes: W (mean u now - mean u then).

    W are the weights of `net`, dense or convolutional. What is left of the whole displacement is the layer's own doing.
    Returns (layers, units), nan where a layer has fewer units than another.

    >>> from utils.networks import mlp
    >>> net, x = mlp([4, 2, 3]), torch.ones(5, 4)
    >>> from_below(net, trace(net, x)[0], trace(net, 2 * x)[0]).shape
    (1, 2)
    """
    linear = [layer for layer in net if isinstance(layer, LINEAR)]
    inputs = [[layer.input.mean(0, keepdim=True) for layer in layers] for layers in (then, now)]
    changes = [layer(u_now) - layer(u_then) for layer, u_then, u_now in zip(linear, *inputs, strict=False)]
    return _stacked([unit_statistics(change)[0] for change in changes])


def _stacked(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Layers of (units,) as (layers, units), with nan where a layer has fewer units than another."""
    table = np.full((len(layers), max(map(len, layers))), np.nan, dtype=np.float32)
    for row, layer in zip(table, layers, strict=True):
        row[: len(layer)] = layer
    return table


# --- watching --------------------------------------------------------------------------------------------------------


class Drift(NamedTuple):
    """What was seen of one network on the probe; units of channels where it is convolutional, else of features.

    Where layers differ in units, the shorter ones end in nan.
    """

    eval_steps: np.ndarray  # (evals,) after how many updates
    test_accuracy: np.ndarray  # (evals,) in evaluation mode
    mean: dict[str, np.ndarray]  # of each place, (evals, layers, units)
    std: dict[str, np.ndarray]  # the same, with 1/m
    jump: dict[str, np.ndarray]  # the same: what the last single update changed in that mean; at first 0
    percentiles: np.ndarray  # (evals, levels, units) of what enters the last hidden layer's nonlinearity
    saturated: np.ndarray  # (evals, layers) the share of values beyond +-4 there
    from_below: dict[str, np.ndarray]  # by the "initial weights", the "current weights": (layers, units), at the end


@cached
def watch_drift(settings: Settings, seeds: int = SEEDS, n_evals: int = N_EVALS) -> list[Drift]:
    """Train, and look at each hidden layer on the fixed probe `n_evals` times from before the first update.

    Returns one result a seed; where a loss diverges its looks end. Raises ValueError for fewer than two looks.

    >>> run, _ = watch_drift(Settings(steps=4), seeds=2, n_evals=3)
    >>> run.eval_steps.tolist(), run.mean["preactivation"].shape
    ([0, 2, 4], (3, 3, 100))
    """
    wanted, task, first = evenly_spaced(settings.steps, n_evals), settings.task(), {}

    def measure(update: Update) -> tuple:
        layers = trace(update.net, task.x_train[:PROBE])[0]
        if update.step == 0:
            first[update.net] = deepcopy(update.net), layers
        net_then, then = first[update.net]
        entering = [layer.activation_input for layer in layers]
        return (
            accuracy(update.net, task.x_test, task.y_test) if update.step in wanted else np.nan,
            *summary(layers),
            _percentiles(entering[-1]),
            [(values.abs() > SATURATED).float().mean().item() for values in entering],
            from_below(net_then, then, layers),
            from_below(update.net, then, layers),
            all(bool(values.isfinite().all()) for values in entering),
        )

    before = {max(step - 1, 0) for step in wanted}
    return [_drift(*columns, wanted) for columns in observe(settings, seeds, {*wanted, *before}, measure)]


def _drift(steps, test_accuracy, mean, std, percentiles, saturated, by_initial, by_current, finite, wanted) -> Drift:
    """Take the wanted looks of the columns, up to where all is finite: an update may overflow before the loss does."""
    jump = np.diff(mean, axis=0, prepend=mean[:1])
    some = np.isin(steps, wanted) & np.logical_and.accumulate(finite)
    places = ({place: values[some, i] for i, place in enumerate(PLACES)} for values in (mean, std, jump))
    parts = {"initial weights": by_initial[some][-1], "current weights": by_current[some][-1]}
    return Drift(steps[some], test_accuracy[some], *places, percentiles[some], saturated[some], parts)


def summary(layers: Sequence[Layer]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (with 1/m) of every unit, for both places of every layer: (places, layers, units).

    >>> x = torch.tensor([[0.0], [2.0], [4.0]])
    >>> summary([Layer(x, x, x / 2)])[0].tolist()
    [[[2.0]], [[1.0]]]
    """
    found = [[unit_statistics(getattr(layer, place)) for layer in layers] for place in PLACES]
    mean, std = (np.stack([_stacked([each[i] for each in place]) for place in found]) for i in (0, 1))
    return mean, std


def _percentiles(values: Tensor) -> np.ndarray:
    """The percentiles of every unit or channel: (N, C, ...) -> (levels, C)."""
    flat = values.transpose(0, 1).flatten(1).numpy()
    return np.percentile(flat, LEVELS, axis=1).astype(np.float32)


EDGES = np.linspace(-10.0, 10.0, 81)  # of the histograms; what lies outside is counted in the first or the last bin


class Units(NamedTuple):
    """One unit of each hidden layer on the probe's images, for each place."""

    counts: dict[str, np.ndarray]  # (looks, layers, bins) of images by the unit's value
    mean: dict[str, np.ndarray]  # (looks, layers)
    test_accuracy: np.ndarray  # (looks,) of the network


@cached
def watch_units(settings: Settings, units: tuple[int, ...], at: tuple[int, ...]) -> Units:
    """Train seed 0 as :func:`watch_drift` does with one seed; look at `units`, one of each layer, after `at` updates.

    >>> watch_units(Settings(steps=4), units=(7, 7, 7), at=(0, 2, 4)).counts["preactivation"].shape
    (3, 3, 80)
    """
    task = settings.task()
    probe = task.x_train[:PROBE]

    def measure(update: Update) -> tuple:
        layers = trace(update.net, probe)[0]
        shown = [
            [getattr(layer, place)[:, unit] for layer, unit in zip(layers, units, strict=True)] for place in PLACES
        ]
        return (
            [[_counts(values) for values in place] for place in shown],
            [[values.mean().item() for values in place] for place in shown],
            accuracy(update.net, task.x_test, task.y_test),
        )

    ((_, counts, means, accuracies),) = observe(settings, 1, at, measure)
    return Units(*({place: values[:, i] for i, place in enumerate(PLACES)} for values in (counts, means)), accuracies)


def _counts(values: Tensor) -> np.ndarray:
    bins, low, high = len(EDGES) - 1, EDGES[0], EDGES[-1]
    return torch.histc(values.clamp(low, high), bins, low, high).numpy().astype(np.uint16)


class TwoLooks(NamedTuple):
    """Changes of the mean of each unit's Wu + b, last hidden layer, in its standard deviations at the first look."""

    between_batches: np.ndarray  # (batch sizes, pairs, units): two batches, one moment
    between_moments: np.ndarray  # (waits, batch sizes, pairs, units): one batch, two moments
    both: np.ndarray  # (waits, batch sizes, pairs, units): another batch at another moment


@cached
def look_twice(
    settings: Settings, seeds: int, start: int, waits: tuple[int, ...], batch_sizes: tuple[int, ...], pairs: int = 4
) -> list[TwoLooks]:
    """Look after `start` updates and again `waits` updates later, on `pairs` of two batches of each size.

    >>> seen, _ = look_twice(Settings(steps=3), 2, start=1, waits=(0, 2), batch_sizes=(4, 8))
    >>> seen.both.shape, float(abs(seen.between_moments[0]).max())
    ((2, 2, 4, 100), 0.0)
    """
    images, rng, drawn = settings.task().x_train, torch_rng(1_000), {}

    def measure(update: Update) -> tuple:
        if update.net not in drawn:  # the pairs of batches of this seed
            drawn[update.net] = [
                images[torch.randint(len(images), (2, pairs, size), generator=rng)] for size in batch_sizes
            ]
        std = trace(update.net, images)[0][-1].preactivation.std(0, correction=0).numpy()
        return [_batch_means(update.net, batches) for batches in drawn[update.net]], std

    def compared(steps: np.ndarray, means: np.ndarray, std: np.ndarray) -> TwoLooks:
        ones, others = means[:, :, 0], means[:, :, 1]
        later = np.searchsorted(steps, [start + wait for wait in waits])
        changes = others[0] - ones[0], ones[later] - ones[0], others[later] - ones[0]
        return TwoLooks(*((change / std[0]).astype(np.float32) for change in changes))

    return [compared(*columns) for columns in observe(settings, seeds, (start, *(start + w for w in waits)), measure)]


def _batch_means(net: nn.Sequential, batches: Tensor) -> list[list[np.ndarray]]:
    """The means of the last hidden layer's Wu + b in each batch: (2, pairs, N, inputs) -> (2, pairs, units)."""
    return [[trace(net, batch)[0][-1].preactivation.mean(0).numpy() for batch in side] for side in batches]


# --- what a run says -------------------------------------------------------------------------------------------------


def drifts(runs: Sequence[Drift], yardstick: Yardstick, place: str = "preactivation") -> np.ndarray:
    """The drift since the first look, the mean over a layer's units: (seeds, evals, layers).

    >>> drifts(watch_drift(Settings(steps=4), 2, 3), Yardstick.ABSOLUTE).shape
    (2, 3, 3)
    """
    return np.array([np.nanmean(drift(run.mean[place], run.std[place], yardstick), -1) for run in runs])


def jumps(runs: Sequence[Drift], yardstick: Yardstick, place: str = "preactivation") -> np.ndarray:
    """The displacement by the last single update before each look, the mean over units: (seeds, evals, layers).

    >>> jumps(watch_drift(Settings(steps=4), 2, 3), Yardstick.ABSOLUTE).shape
    (2, 3, 3)
    """
    sizes = [displacement(run.jump[place], run.std[place][0], run.std[place], yardstick) for run in runs]
    return np.nanmean(sizes, -1)


def share_from_below(runs: Sequence[Drift], weights: str = "initial weights") -> np.ndarray:
    """The rms of what the layers below displace over that of the whole drift, last hidden layer, last look: (seeds,).

    It can exceed 1, where the layer itself displaces its means the other way.

    >>> share_from_below(watch_drift(Settings(steps=4), 2, 3)).shape
    (2,)
    """
    whole = [run.mean["preactivation"][-1, -1] - run.mean["preactivation"][0, -1] for run in runs]
    return rms([run.from_below[weights][-1] for run in runs]) / rms(whole)


def rms(values: np.ndarray, axis: int | tuple[int, ...] = -1) -> np.ndarray:
    """The root mean square over an axis or several.

    >>> rms([3.0, -3.0]).item()
    3.0
    """
    return np.sqrt(np.square(values).mean(axis))


def temporal_std(run: Drift) -> np.ndarray:
    """The standard deviation over the looks of each unit's median at the last nonlinearity's entrance: (units,).

    >>> temporal_std(watch_drift(Settings(steps=4), 2, 3)[0]).shape
    (100,)
    """
    return run.percentiles[:, LEVELS.index(50)].std(0)


def unit_at_rank(scores: np.ndarray, rank: float = 0.5) -> int:
    """The index of the unit whose score is the median one, or stands at another rank from 0 (least) to 1 (most).

    >>> unit_at_rank(np.array([9.0, 1.0, 5.0])), unit_at_rank(np.array([9.0, 1.0, 5.0]), rank=1.0)
    (2, 0)
    """
    order = np.argsort(scores, kind="stable")
    return int(order[round(rank * (len(order) - 1))])


# --- the chapter's experiments ---------------------------------------------------------------------------------------


def watch_arms(settings: Settings, seeds: int = SEEDS) -> dict[str, list[Drift]]:
    """Watch a network without and with BN: deep ones at three looks, which is enough for where they end.

    >>> list(watch_arms(Settings(steps=2), seeds=2))
    ['plain', 'bn']
    """
    return by_arm(watch_drift, by_norm(settings, ARMS), seeds, 3 if settings.depth == DEEP.depth else N_EVALS)


def two_looks(norm: str, seeds: int = SEEDS) -> list[TwoLooks]:
    """Look twice at the network of figure 1 in the middle of its training, on batches of every size.

    >>> two_looks("bn", seeds=2)[0].both.shape
    (6, 4, 4, 100)
    """
    settings = replace(FIGURE_1, norm=norm, steps=FIRST_LOOK + WAITS[-1])
    return look_twice(settings, seeds, FIRST_LOOK, WAITS, BATCH_SIZES)


def shown_units(norm: str) -> tuple[Drift, Units]:
    """Seed 0 of the network of figure 1, and each layer's unit that wanders by the median amount, at all moments shown.

    >>> shown_units("plain")[1].counts["preactivation"].sum(-1).max().item()
    500
    """
    settings = replace(FIGURE_1, norm=norm)
    (run,) = watch_drift(settings, 1)
    units = tuple(unit_at_rank(layer) for layer in run.mean["activation_input"].std(0))
    return run, watch_units(settings, units, SHOWN)


# --- evidence: for every setting its values, (seeds,) ----------------------------------------------------------------


def plain_over_bn(settings: Settings, measure: Callable[[list[Drift]], np.ndarray], seeds: int = SEEDS) -> np.ndarray:
    """What `measure` finds in the plain runs over what it finds in the BN runs, seed by seed: (seeds,).

    >>> plain_over_bn(Settings(steps=2), lambda runs: drifts(runs, Yardstick.ABSOLUTE)[:, -1, -1], seeds=2).shape
    (2,)
    """
    runs = watch_arms(settings, seeds)
    return measure(runs["plain"]) / measure(runs["bn"])


def last_layer_ratios(networks: Mapping[str, Settings] = NETWORKS, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The drift of Wu + b in the last hidden layer, plain over BN, for each network and yardstick.

    >>> list(last_layer_ratios({"small": Settings(steps=2)}, seeds=2))
    ['small, absolute', 'small, initial std', 'small, current std']
    """
    return {
        f"{name}, {yardstick}": plain_over_bn(settings, lambda runs, way=yardstick: drifts(runs, way)[:, -1, -1], seeds)
        for name, settings in networks.items()
        for yardstick in Yardstick
    }


def depth_ratios(networks: Mapping[str, Settings] = NETWORKS, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The drift of Wu + b of plain networks, last hidden layer over first, for each network and yardstick.

    >>> depth_ratios({"small": Settings(steps=2)}, seeds=2)["small, absolute"].shape
    (2,)
    """
    plain = {name: watch_arms(each, seeds)["plain"] for name, each in networks.items() if each.depth > 1}
    far = {f"{name}, {each}": drifts(runs, each)[:, -1] for name, runs in plain.items() for each in Yardstick}
    return {setting: each[:, -1] / each[:, 0] for setting, each in far.items()}


def update_ratios(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How far 1 and 30 updates in the middle of training displace the last layer's means (rms), plain over BN.

    >>> list(update_ratios(seeds=2))
    ['1 update', '30 updates']
    """
    moved = {arm: [rms(run.between_moments[:, -1], (-2, -1)) for run in two_looks(arm, seeds)] for arm in ARMS}
    plain, bn = (np.transpose(moved[arm]) for arm in ARMS)
    return {name: plain[WAITS.index(n)] / bn[WAITS.index(n)] for name, n in (("1 update", 1), ("30 updates", 30))}


def construction_errors(seeds: int = SEEDS, steps: int = 100) -> dict[str, np.ndarray]:
    """The largest difference of the means that BN hands on to beta, and of their stds to |gamma|, on the probe.

    >>> bool(max(construction_errors(seeds=2, steps=2)["mean and beta"]) < 1e-5)
    True
    """
    settings = replace(FIGURE_1, norm="bn", steps=steps)
    probe = settings.task().x_train[:PROBE]

    def measure(update: Update) -> tuple:
        mean, std = summary(trace(update.net, probe)[0])
        norms = [layer for layer in update.net if hasattr(layer, "running_mean")]
        beta, gamma = (
            np.stack([getattr(norm, name).detach().numpy() for norm in norms]) for name in ("bias", "weight")
        )
        return abs(mean[1] - beta).max(), abs(std[1] - abs(gamma)).max()

    ends = observe(settings, seeds, (steps,), measure)
    return {
        what: np.concatenate([end[i] for end in ends]) for i, what in ((1, "mean and beta"), (2, "std and |gamma|"))
    }


def saturated_while_guessing(networks: Mapping[str, Settings] = SIGMOIDS, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The largest share of saturated sigmoids in any layer of plain networks, while their accuracy is below 20 %.

    >>> saturated_while_guessing({"small": Settings(init=0.1, steps=2)}, seeds=2)["small"].tolist()
    [0.0, 0.0]
    """
    plain = {name: watch_arms(settings, seeds)["plain"] for name, settings in networks.items()}
    return {
        name: np.array([run.saturated[run.test_accuracy < 0.2].max() for run in runs]) for name, runs in plain.items()
    }


def wandering_ratios(networks: Mapping[str, Settings] = SIGMOIDS, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The mean over units of :func:`temporal_std`, plain over BN, by the network.

    >>> wandering_ratios({"small": Settings(steps=2)}, seeds=2)["small"].shape
    (2,)
    """

    def wandering(runs: list[Drift]) -> np.ndarray:
        return np.array([temporal_std(run).mean() for run in runs])

    return {name: plain_over_bn(settings, wandering, seeds) for name, settings in networks.items()}


def stillness_ratios(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The drift, as it is, of plain networks that learn nothing over that of BN networks that learn.

    One at a learning rate of 0.001, layer by layer, over BN after its first 50 updates; and the first layer of five.

    >>> len(stillness_ratios())
    4
    """
    slow = drifts(watch_drift(SLOW, seeds, 2), Yardstick.ABSOLUTE)[:, -1]
    bn = drifts(watch_arms(FIGURE_1, seeds)["bn"], Yardstick.ABSOLUTE)[:, 1]
    by_layer = {f"rate 0.001, layer {i + 1}": slow[:, i] / bn[:, i] for i in range(FIGURE_1.depth)}
    deep = NETWORKS["sigmoid, 5 layers"]
    first = plain_over_bn(deep, lambda runs: drifts(runs, Yardstick.ABSOLUTE)[:, -1, 0], seeds)
    return {**by_layer, "5 layers, layer 1": first}
