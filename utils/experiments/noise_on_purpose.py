"""Noise put on purpose behind BN, to make the inputs of the layers after it unstable (Santurkar et al. 2018, 2.1).

The arms are norms of `utils.networks`: without noise, with noise on BN's output, on a plain net's preactivations, and
with noise that no later BN can take out again ("noisy, persistent").
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from utils.cache import cached
from utils.experiments.internal_covariate_shift import Yardstick, displacement
from utils.experiments.test_time_statistics import recalibrated
from utils.networks import preserve_state
from utils.norms import PAPER_DEFAULTS, Noise, Recipe
from utils.observe import accuracy, observe, trace, unit_statistics
from utils.sweeps import by_arm
from utils.training import SEEDS, Settings, by_norm, evenly_spaced, train_seeds

NETWORK = Settings(depth=10, width=32, nonlinearity="relu", lr=0.1, batch_size=32, steps=120, n_evals=3)
NETWORKS = {
    "ReLU, 3 layers": replace(NETWORK, depth=3),
    "ReLU, 10 layers": NETWORK,
    "tanh, 10 layers": replace(NETWORK, nonlinearity="tanh"),
    "sigmoid, 10 layers": replace(NETWORK, nonlinearity="sigmoid"),
}
DEEP = "ReLU, 10 layers"
GAINING = (DEEP, "sigmoid, 10 layers")  # the networks in which BN gains much, each arm at its best rate
PERSISTENT = "noisy, persistent"
ARMS = ("plain", "bn", "noisy", "noisy plain")
TWIN = {"noisy": "bn", "noisy plain": "plain", PERSISTENT: "bn"}  # the same net without noise
RATES = (0.03, 0.1, 0.3)
STRENGTHS = (1.0, 4.0)  # times the paper's
SIZES = (0.5, 1.0)  # of a shift, shared by the batch or each sample's own
PARTS = {
    "all of it": PAPER_DEFAULTS,
    "shared shift": Recipe(0.5, 0.0, 0.0, 0.0),
    "shared scale": Recipe(0.0, 0.25, 0.0, 0.0),
    "each sample's own": Recipe(0.0, 0.0, 0.1, 0.1),
}
IMAGES = Settings(data="fashion", depth=4, width=8, nonlinearity="relu", lr=0.3, batch_size=32, steps=30, n_evals=2)
IMAGE_SEEDS = min(SEEDS, 5)  # convolutional nets run one after another

PROBE = 200  # training images
CALIBRATION = 500  # training images, whose statistics replace the running ones
GUESSING = 0.1  # the accuracy of a net that has diverged
YARDSTICKS = (Yardstick.ABSOLUTE, Yardstick.CURRENT_STD)
MOMENTS = ("before training", "after training")
QUANTITIES = ("batch mean", "single values")
PLACES = ("noisy output", "next preactivation", "after the next norm")
LOOKS = {"12 updates in a row": tuple(range(60, 72)), "the whole training": tuple(range(0, 121, 10))}
MODES = ("noise off", "noise on", "recalibrated", "as in training")


# --- one run ---------------------------------------------------------------------------------------------------------


class NoisyRun(NamedTuple):
    """What one network did; L are its hidden layers, looked at where values enter the nonlinearity."""

    accuracy: np.ndarray  # (steps,) on each mini-batch, before its update; from a divergence on that of guessing
    jump: dict[str, np.ndarray]  # by yardstick (L,): how far one update moves a unit's mean, mean over units and looks
    drift: dict[str, np.ndarray]  # the same of all updates together
    draws: dict[str, dict]  # by moment what `two_draws` says; empty without noise, nan after a divergence
    test_accuracy: dict[str, float]  # by the modes of `MODES`, at the end


@cached
def watch(settings: Settings, seeds: int = SEEDS) -> list[NoisyRun]:
    """Train all seeds and look at them on a fixed probe, `settings.n_evals` times, with the noise fresh at each look.

    Jumps and drifts are distances between a unit's means over the probe, 200 training images; where counted in
    standard deviations, in those of the layer on average.

    >>> run, _ = watch(Settings("noisy", depth=2, width=8, steps=4, n_evals=2), seeds=2)
    >>> run.accuracy.shape, run.jump["absolute"].shape, sorted(run.draws)
    ((4,), (2,), ['after training', 'before training'])
    """
    task, wanted = settings.task(), evenly_spaced(settings.steps, settings.n_evals)
    probe, ends = task.x_train[:PROBE], dict(zip((0, settings.steps), MOMENTS, strict=True))

    def measure(update) -> tuple[float, dict]:
        seen, net = {}, update.net
        if update.step in wanted or update.step + 1 in wanted:
            layers, _ = trace(net, probe)
            seen["units"] = [unit_statistics(_noisy_half(layer.activation_input, probe)) for layer in layers]
        if update.step in ends:
            seen["draws"] = two_draws(net, probe)
        if update.step == settings.steps:
            seen["test_accuracy"] = evaluate(net, task.x_train[:CALIBRATION], task.x_test, task.y_test)
        return update.accuracy, seen

    rows = observe(settings, seeds, range(settings.steps + 1), measure)
    return [_run(settings, wanted, accuracies, looks) for _, accuracies, looks in rows]


def _run(settings: Settings, wanted: Sequence[int], accuracies: np.ndarray, looks: np.ndarray) -> NoisyRun:
    seen, first, last = [step for step in wanted if step < len(looks)], looks[0], looks[-1]
    jumps, drift = [_moved(looks[step - 1], looks[step]) for step in seen[1:]], _moved(first, looks[seen[-1]])
    if not jumps:  # diverged before the second look
        jumps = [{unit: np.full_like(values, np.nan) for unit, values in drift.items()}]
    unseen = {what: dict.fromkeys(PLACES, np.full(len(first["units"]) - 1, np.nan)) for what in QUANTITIES}
    after = last["draws"] if len(looks) > settings.steps else unseen
    return NoisyRun(
        _filled(accuracies[1:], settings.steps),
        {unit: np.mean([jump[unit] for jump in jumps], 0) for unit in YARDSTICKS},
        drift,
        dict(zip(MOMENTS, (first["draws"], after), strict=True)) if first["draws"] else {},
        last.get("test_accuracy", dict.fromkeys(MODES, GUESSING)),
    )


def _moved(before: dict, now: dict) -> dict[str, np.ndarray]:
    """The mean distance between the units' means at two looks, for each layer: by yardstick (L,)."""
    layers = [
        (np.abs(mean - old).mean(), old_std.mean(), std.mean())
        for (old, old_std), (mean, std) in zip(before["units"], now["units"], strict=True)
    ]
    return {unit: displacement(*np.array(layers).T, unit) for unit in YARDSTICKS}


def _noisy_half(values: Tensor, x: Tensor) -> Tensor:
    """Where the batch `x` went through the network twice, what became of the noisy one."""
    return values[-len(x) :]


def two_draws(net: nn.Sequential, x: Tensor) -> dict[str, dict[str, np.ndarray]]:
    """Send `x` through a noisy net twice, with the same weights and two draws of noise, and compare at the `PLACES`.

    By quantity, and by place for each hidden layer but the last: the noisy output of that layer, and what the next
    makes of it. Distances as in :func:`distances_between`. Empty for a net without noise.

    >>> net = Settings("noisy", depth=3, width=8).network(0)
    >>> means = two_draws(net, torch.rand(50, 64))["batch mean"]
    >>> bool(means["noisy output"].min() > 0.1), bool(means["after the next norm"].max() < 1e-5)
    (True, True)
    """
    noises, walks = [module for module in net.modules() if isinstance(module, Noise)], []
    if not noises:
        return {}
    with preserve_state(net):
        generator = noises[0].generator
        for seed in 2 * generator.initial_seed() + np.arange(2):
            generator.manual_seed(int(seed))
            walks.append(_noisy_places(net, x, noises))
    pairs = [
        {place: distances_between(one[place], other[place]) for place in PLACES}
        for one, other in zip(*walks, strict=True)
    ]
    return {what: {place: np.array([pair[place][what] for pair in pairs]) for place in PLACES} for what in QUANTITIES}


def _noisy_places(net: nn.Sequential, x: Tensor, noises: Sequence[Noise]) -> list[dict[str, Tensor]]:
    """The values at the `PLACES`, of each hidden layer but the last."""
    seen = []
    hooks = [noise.register_forward_hook(lambda _, given, output: seen.append((given[0], output))) for noise in noises]
    layers, _ = trace(net, x)
    for hook in hooks:
        hook.remove()
    before = [_noisy_half(layer.preactivation, x) for layer in layers[1:]]
    values = zip([output for _, output in seen[:-1]], before, [given for given, _ in seen[1:]], strict=True)
    return [dict(zip(PLACES, each, strict=True)) for each in values]


def distances_between(one: Tensor, other: Tensor) -> dict[str, float]:
    """How far apart two draws of noise set the values of a batch (N, C, ...), in average standard deviations of `one`.

    "batch mean": between the units' means, which is what the batch shares; "single values": the root mean square over
    the values, which counts each sample's own part as well.

    >>> x = torch.tensor([[-1.0], [1.0]])
    >>> distances_between(x, x + 3), distances_between(x, -x)
    ({'batch mean': 3.0, 'single values': 3.0}, {'batch mean': 0.0, 'single values': 2.0})
    """
    one, other = (each.detach().double().transpose(0, 1).flatten(1).numpy() for each in (one, other))
    apart = np.abs(other.mean(1) - one.mean(1)), np.sqrt(((other - one) ** 2).mean(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: float(each.mean() / one.std(1).mean()) for name, each in zip(QUANTITIES, apart, strict=True)}


@torch.no_grad()
def evaluate(net: nn.Sequential, calibration: Tensor, x: Tensor, y: Tensor) -> dict[str, float]:
    """Test one trained net in four ways, :data:`MODES`.

    "noise off" and "noise on" use the running statistics, which were taken under the noise of the layers before;
    "recalibrated" those of the batch `calibration`, without noise; "as in training" noise and the statistics of `x`.

    >>> net, x = Settings("bn", depth=1, width=8).network(0), torch.rand(20, 64)
    >>> list(evaluate(net, x, x, torch.zeros(20)))
    ['noise off', 'noise on', 'recalibrated', 'as in training']
    """
    noises = [module for module in net.modules() if isinstance(module, Noise)]
    found = {"noise off": accuracy(net, x, y)}
    for noise in noises:
        noise.in_evaluation = True
    found["noise on"] = accuracy(net, x, y)
    for noise in noises:
        noise.in_evaluation = False
    found["recalibrated"] = accuracy(recalibrated(net, calibration), x, y)
    _, scores = trace(net, x)
    return found | {"as in training": (scores.argmax(1) == y).float().mean().item()}


# --- one unit, watched ----------------------------------------------------------------------------------------------

EDGES = np.linspace(-6.0, 6.0, 61)  # of the histograms, in standard deviations at the first look


class Watched(NamedTuple):
    """The first unit of each hidden layer on the probe at some looks, where it enters the nonlinearity (seed 0)."""

    counts: np.ndarray  # (looks, L, bins) of images by their value, from the mean at the first look, in its widths
    jump: np.ndarray  # (looks - 1, L) how far the units' means moved between looks, mean over units, in their widths


@cached
def watch_unit(settings: Settings, looks: tuple[int, ...]) -> Watched:
    """Train seed 0, and look after each of `looks` updates, with fresh noise at every look.

    >>> watch_unit(Settings("noisy", depth=2, width=8, steps=3), (1, 2, 3)).counts.shape
    (3, 2, 60)
    """
    probe = settings.task().x_train[:PROBE]

    def measure(update) -> tuple:
        layers = [_noisy_half(layer.activation_input, probe).numpy() for layer in trace(update.net, probe)[0]]
        return np.array(layers)[..., 0], *np.array([[each.mean(0), each.std(0)] for each in layers]).swapaxes(0, 1)

    ((_, values, mean, std),) = observe(settings, 1, looks, measure)
    first, width = (values[0].mean(-1)[:, None], values[0].std(-1)[:, None])
    counts = [[np.histogram(np.clip(v, -5.99, 5.99), EDGES)[0] for v in (look - first) / width] for look in values]
    return Watched(np.array(counts), np.abs(np.diff(mean, axis=0)).mean(-1) / std[:-1].mean(-1))


def watched(norm: str, how: str) -> Watched:
    """One arm of the ten-layer ReLU net at rate 0.1, at one of the :data:`LOOKS`.

    >>> watched("noisy", "12 updates in a row").counts.shape
    (12, 10, 60)
    """
    return watch_unit(replace(NETWORK, norm=norm), LOOKS[how])


# --- races -----------------------------------------------------------------------------------------------------------


@cached
def best_rate(settings: Settings, seeds: int = 3) -> float:
    """The rate of :data:`RATES` with the best accuracy on validation data, the mean over the training and all seeds.

    >>> best_rate(Settings("bn", depth=1, width=8, steps=10, n_evals=2), seeds=2) in RATES
    True
    """

    def score(lr: float) -> float:
        runs = train_seeds(replace(settings, lr=lr, validation=True), seeds)
        return float(np.mean([run.accuracy_at(np.arange(settings.steps + 1)) for run in runs]))

    return max(RATES, key=score)


def arm(norm: str, network: str = DEEP) -> Settings:
    """One arm in one of the :data:`NETWORKS`, with the paper's noise, at its best rate; noise has that of its twin.

    In the ten-layer ReLU net persistent noise has a rate of its own, so that its cost is no matter of the rate.

    >>> arm("noisy").lr in RATES
    True
    """
    settings, tuned = NETWORKS[network], TWIN.get(norm, norm)
    if (norm, network) == (PERSISTENT, DEEP):
        tuned = norm
    return replace(settings, norm=norm, lr=best_rate(replace(settings, norm=tuned)))


def race_in(network: str = DEEP, norms: Sequence[str] = (*ARMS, PERSISTENT)) -> dict[str, list[NoisyRun]]:
    """Race some arms in one of the :data:`NETWORKS`: what :func:`watch` says of each.

    >>> list(race_in(DEEP, ["bn"]))
    ['bn']
    """
    return by_arm(watch, {norm: arm(norm, network) for norm in norms}, SEEDS)


def race_images() -> dict[str, list[NoisyRun]]:
    """Race the four arms in a small VGG on Fashion-MNIST, where height and width count as samples.

    >>> sorted(race_images())
    ['bn', 'noisy', 'noisy plain', 'plain']
    """
    return by_arm(watch, by_norm(IMAGES, ARMS), IMAGE_SEEDS)


def accuracy_curves(settings: Settings, seeds: int = SEEDS) -> np.ndarray:
    """The accuracy on each mini-batch, before its update; from a divergence on that of guessing: (seeds, steps).

    >>> accuracy_curves(Settings(depth=1, width=8, steps=3), seeds=2).shape
    (2, 3)
    """
    return np.array([_filled(run.accuracy, settings.steps) for run in train_seeds(settings, seeds)])


def _filled(accuracies: np.ndarray, steps: int) -> np.ndarray:
    return np.pad(accuracies, (0, steps - len(accuracies)), constant_values=GUESSING)


def race_at(lr: float, strength: float = 1.0) -> dict[str, np.ndarray]:
    """The curves of the four arms in the ten-layer ReLU net, all at one rate, (seeds, steps) each.

    `strength` is that of the noise, in multiples of the paper's; where it is 0 a noisy arm is its twin.

    >>> sorted(race_at(0.1))
    ['bn', 'noisy', 'noisy plain', 'plain']
    """
    twin, noise = {} if strength else TWIN, PAPER_DEFAULTS.scaled(strength)
    arms = {norm: replace(NETWORK, norm=twin.get(norm, norm), lr=lr) for norm in ARMS}
    arms |= {name: replace(each, noise=noise) for name, each in arms.items() if each.norm in TWIN}
    return by_arm(accuracy_curves, arms, SEEDS)


def race_with(recipes: Mapping[str, Recipe]) -> dict[str, dict[str, np.ndarray]]:
    """The curves of noisy BN in the ten-layer ReLU net at rate 0.1, with other noise: by recipe's name and by norm.

    >>> list(race_with(shifts(1.0)))
    ['shared', 'each its own']
    """
    return {
        name: by_arm(accuracy_curves, by_norm(replace(NETWORK, noise=recipe), ("noisy", PERSISTENT)), SEEDS)
        for name, recipe in recipes.items()
    }


def shifts(size: float) -> dict[str, Recipe]:
    """A uniform shift from `-size` to `size`, drawn once for the batch, or once for each sample.

    >>> shifts(1.0)["each its own"]
    Recipe(shift=0.0, scale=0.0, own_shift=1.0, own_scale=0.0)
    """
    return {"shared": Recipe(size, 0.0, 0.0, 0.0), "each its own": Recipe(0.0, 0.0, size, 0.0)}


# --- what the runs say -----------------------------------------------------------------------------------------------


def curves(runs: Sequence[NoisyRun]) -> np.ndarray:
    """Their accuracies on each mini-batch: (seeds, steps).

    >>> curves(race_in(DEEP, ["bn"])["bn"]).shape[1] == NETWORK.steps
    True
    """
    return np.array([run.accuracy for run in runs])


def area(curves: np.ndarray) -> np.ndarray:
    """The area under each training curve (seeds, steps), which is the mean accuracy on all mini-batches: (seeds,).

    >>> area(np.array([[0.1, 0.3], [0.1, 0.5]])).tolist()
    [0.2, 0.3]
    """
    return curves.mean(-1)


def areas_in(network: str, norms: Sequence[str] = (*ARMS, PERSISTENT)) -> dict[str, np.ndarray]:
    """The areas of some arms in one of the :data:`NETWORKS`, each at its best rate: (seeds,).

    >>> bool((areas_in(DEEP, ["bn"])["bn"] > GUESSING).all())
    True
    """
    return {norm: area(curves(runs)) for norm, runs in race_in(network, norms).items()}


def retained_gain(plain: np.ndarray, bn: np.ndarray, other: np.ndarray, clear: float = 0.05) -> np.ndarray | None:
    """The share of BN's gain over the plain net that another net retains, (other - plain) / (bn - plain), by seed.

    None where the gain is less than `clear` in any seed: a share of nearly nothing says nothing.

    >>> retained_gain(np.array([0.5, 0.6]), np.array([0.9, 0.8]), np.array([0.9, 0.7]))
    array([1. , 0.5])
    >>> retained_gain(np.array([0.5]), np.array([0.51]), np.array([0.7])) is None
    True
    """
    return (other - plain) / (bn - plain) if (bn - plain >= clear).all() else None


def retained_in(network: str, norm: str) -> np.ndarray | None:
    """What :func:`retained_gain` says of an arm in one of the :data:`NETWORKS`: (seeds,).

    >>> bool(retained_in(DEEP, "noisy").mean() < 1)
    True
    """
    areas = areas_in(network, ("plain", "bn", norm))
    return retained_gain(areas["plain"], areas["bn"], areas[norm])


def retained_at(lr: float, strength: float = 1.0) -> np.ndarray | None:
    """What :func:`retained_gain` says of noisy BN in the ten-layer ReLU net at one rate: (seeds,).

    >>> bool(retained_at(0.3).mean() < 1.1)
    True
    """
    race = race_at(lr, strength)
    return retained_gain(*(area(race[norm]) for norm in ("plain", "bn", "noisy")))


def retained_third(share: float) -> int:
    """Whether a share of BN's gain is near nothing (0), near all of it (2), or between (1).

    >>> [retained_third(share) for share in (0.2, 0.5, 0.8)]
    [0, 1, 2]
    """
    return int(np.digitize(share, (1 / 3, 0.6)))


def retained_with(recipes: Mapping[str, Recipe]) -> dict[str, dict[str, np.ndarray | None]]:
    """What :func:`retained_gain` says of the curves of :func:`race_with`.

    >>> list(retained_with(shifts(1.0))["shared"])
    ['noisy', 'noisy, persistent']
    """
    clean = race_at(NETWORK.lr)
    plain, bn = area(clean["plain"]), area(clean["bn"])
    return {
        name: {norm: retained_gain(plain, bn, area(each)) for norm, each in race.items()}
        for name, race in race_with(recipes).items()
    }


def mean_displacement(runs: Sequence[NoisyRun], what: str, yardstick: str = Yardstick.ABSOLUTE) -> np.ndarray:
    """The mean "jump" or "drift" over the layers: (seeds,).

    >>> mean_displacement(watch(Settings("bn", depth=1, width=8, steps=3, n_evals=2), seeds=2), "jump").shape
    (2,)
    """
    return np.array([getattr(run, what)[yardstick].mean() for run in runs])


def displacement_ratios(what: str = "jump", yardstick: str = Yardstick.ABSOLUTE) -> dict[str, np.ndarray]:
    """How many times as far noisy BN's activation inputs jump or drift as the plain net's, by network: (seeds,).

    >>> list(displacement_ratios()) == list(NETWORKS)
    True
    """
    races = {network: race_in(network, ("plain", "noisy")) for network in NETWORKS}
    far = {
        network: [mean_displacement(race[norm], what, yardstick) for norm in ("noisy", "plain")]
        for network, race in races.items()
    }
    return {network: noisy / plain for network, (noisy, plain) in far.items()}


def between_draws(runs: Sequence[NoisyRun], quantity: str, moment: str) -> dict[str, np.ndarray]:
    """How far apart two draws of noise set what follows it, by place: (seeds, layers - 1).

    >>> list(between_draws(race_in(DEEP, ["noisy"])["noisy"], QUANTITIES[0], MOMENTS[0])) == list(PLACES)
    True
    """
    return {place: np.array([run.draws[moment][quantity][place] for run in runs]) for place in PLACES}


def after_next_norm(quantity: str) -> dict[str, np.ndarray]:
    """The same for noisy BN after the next norm, the mean over layers, by network and moment: (seeds,).

    >>> len(after_next_norm(QUANTITIES[0])) == len(NETWORKS) * len(MOMENTS)
    True
    """
    return {
        f"{network}, {moment}": between_draws(race_in(network, ["noisy"])["noisy"], quantity, moment)[PLACES[2]].mean(
            -1
        )
        for network in NETWORKS
        for moment in MOMENTS
    }


def persistence_costs(size: float) -> dict[str, np.ndarray]:
    """What a shift loses of BN's gain where it persists, shared or each its own, ten-layer ReLU net: (seeds,).

    >>> list(persistence_costs(1.0))
    ['shared', 'each its own']
    """
    return {name: each["noisy"] - each[PERSISTENT] for name, each in retained_with(shifts(size)).items()}


def accuracy_by_mode(runs: Sequence[NoisyRun]) -> dict[str, np.ndarray]:
    """The test accuracy by mode: (seeds,).

    >>> list(accuracy_by_mode(race_in(DEEP, ["bn"])["bn"])) == list(MODES)
    True
    """
    return {mode: np.array([run.test_accuracy[mode] for run in runs]) for mode in MODES}
