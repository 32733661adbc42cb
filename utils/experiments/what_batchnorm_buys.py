"""What BatchNorm buys, in numbers: steps, learning rates, regularisation, accuracy; and what a step costs.

A rate is chosen on validation digits, for each arm from the same grid; then the arm is trained once more on all
training digits, and tested.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from utils.experiments import intro
from utils.training import SEEDS, Run, Settings, by_norm, one_thread, train_all, updates

ARMS = ("plain", "bn")
CHOOSING_SEEDS = min(SEEDS, 5)  # a rate is chosen on so many

# --- counting --------------------------------------------------------------------------------------------------------


def steps_to(eval_steps: ArrayLike, accuracy: ArrayLike, goal: float) -> float:
    """Return the step of the first evaluation with at least this accuracy; infinity where there is none.

    >>> steps_to([0, 10, 20], [0.1, 0.5, 0.9], 0.5), steps_to([0, 10, 20], [0.1, 0.5, 0.9], 0.95)
    (10.0, inf)
    """
    there = np.flatnonzero(np.asarray(accuracy) >= goal)
    return float(eval_steps[there[0]]) if len(there) else np.inf


def usable(rates: Sequence[float], accuracies: ArrayLike, best: float, share: float = 0.9) -> list[float]:
    """Return the learning rates whose accuracy is at least `share` of the best of all arms.

    >>> usable([0.1, 1.0, 10.0], [0.80, 0.95, 0.10], best=0.96)
    [1.0]
    """
    return [rate for rate, accuracy in zip(rates, accuracies, strict=True) if accuracy >= share * best]


def best_rate(runs: Mapping[float, Sequence[Run]]) -> float:
    """Return the rate with the highest accuracy, the mean over the whole run and over seeds: early and high counts.

    A run that diverged keeps its last accuracy until the others' end.

    >>> from utils.training import train_seeds
    >>> best_rate({lr: train_seeds(Settings("bn", lr=lr, steps=20), seeds=2) for lr in (0.001, 1.0)})
    1.0
    """
    at = max((run.eval_steps for each in runs.values() for run in each), key=len)
    return max(runs, key=lambda rate: np.mean([run.accuracy_at(at) for run in runs[rate]]))


# --- steps, each arm at its own rate ---------------------------------------------------------------------------------

GOAL = 0.9  # the test accuracy that both race to
RACE = Settings(steps=500, n_evals=51)
DEEP = "ten ReLU layers"
NETWORKS = {
    "sigmoid": replace(RACE, init=0.1),
    "sigmoid, raw pixels": replace(RACE, init=0.1, inputs="raw"),
    "ReLU": replace(RACE, nonlinearity="relu", init="he", steps=200, n_evals=41),
    DEEP: intro.DEEP,
    f"{DEEP}, Adam": replace(intro.DEEP, optimizer="adam"),
}
GRIDS = {  # of learning rates, the same for both arms
    "sigmoid": (0.3, 1.0, 3.0),
    "sigmoid, raw pixels": (1.0, 3.0),
    "ReLU": (0.1, 0.3, 1.0, 3.0),
    DEEP: (0.03, 0.1, 0.3, 1.0),
    f"{DEEP}, Adam": (0.0003, 0.001, 0.003, 0.01, 0.03),
}


@cache
def validated(network: str) -> dict[str, dict[float, list[Run]]]:
    """Train each arm of a network at every rate of its grid without one digit in five, and test on these.

    >>> {norm: len(runs) for norm, runs in validated("ReLU").items()}
    {'plain': 4, 'bn': 4}
    """
    trial = replace(NETWORKS[network], validation=True)
    keys = [(norm, rate) for norm in ARMS for rate in GRIDS[network]]
    runs = train_all({key: replace(trial, norm=key[0], lr=key[1]) for key in keys}, CHOOSING_SEEDS)
    return {norm: {rate: runs[norm, rate] for rate in GRIDS[network]} for norm in ARMS}


def own_rates(network: str) -> dict[str, float]:
    """The learning rate that validation chooses for each arm.

    >>> own_rates("ReLU")["bn"] >= own_rates("ReLU")["plain"]
    True
    """
    return {norm: best_rate(runs) for norm, runs in validated(network).items()}


@cache
def race(network: str, factor: float = 1.0) -> dict[str, list[Run]]:
    """Train each arm on all training digits, at `factor` times its own rate, and test it.

    >>> bool(race("ReLU")["bn"][0].test_accuracy[-1] > 0.9)
    True
    """
    rates = {norm: float(f"{factor * rate:.6g}") for norm, rate in own_rates(network).items()}
    return train_all({norm: replace(NETWORKS[network], norm=norm, lr=rate) for norm, rate in rates.items()})


def steps_taken(network: str) -> dict[str, np.ndarray]:
    """The steps that each run of :func:`race` takes to the accuracy `GOAL`; infinite where it never has it: (seeds,).

    >>> bool(np.median(steps_taken("ReLU")["bn"]) < 50)
    True
    """
    return {
        norm: np.array([steps_to(run.eval_steps, run.test_accuracy, GOAL) for run in runs])
        for norm, runs in race(network).items()
    }


def step_ratios() -> dict[str, np.ndarray]:
    """How many times fewer steps BN takes to the same accuracy, each arm at its own rate, by network: (seeds,).

    Infinite where only BN gets there, 0 where only the plain network does, nan where neither does.

    >>> [network for network, ratios in step_ratios().items() if np.median(ratios) > 3]
    ['sigmoid', 'sigmoid, raw pixels']
    """
    taken = {network: steps_taken(network) for network in NETWORKS if DEEP not in network}
    with np.errstate(invalid="ignore"):
        return {network: each["plain"] / each["bn"] for network, each in taken.items()}


def generalised() -> dict[str, np.ndarray]:
    """How much higher BN's test accuracy is at the end, each arm at its own rate, a share, by network: (seeds,).

    >>> bool(generalised()["sigmoid"].mean() > 0)
    True
    """
    return {network: _lead(race(network)) for network in NETWORKS if "raw" not in network}


def mistuned(network: str) -> dict[float, np.ndarray]:
    """How much higher BN's test accuracy is, each arm at 0.1, 1 and 10 times its own rate, by factor: (seeds,).

    >>> bool(mistuned("ten ReLU layers")[10.0].mean() > 0.05)
    True
    """
    return {factor: _lead(race(network, factor)) for factor in FACTORS}


FACTORS = (0.1, 1.0, 10.0)  # times an arm's own rate


def _lead(runs: Mapping[str, list[Run]]) -> np.ndarray:
    return intro.final_accuracy(runs["bn"]) - intro.final_accuracy(runs["plain"])


def seconds_per_step(settings: Settings, steps: int = 100) -> float:
    """The time that one update of one network takes on this machine, the median of `steps`, in seconds.

    >>> 0 < seconds_per_step(Settings(width=8), steps=5) < 1
    True
    """
    with one_thread():
        ends = [time.perf_counter() for _ in updates(replace(settings, steps=steps), 0)]
    return float(np.median(np.diff(ends)))


# --- sigmoids in depth -----------------------------------------------------------------------------------------------

SIGMOIDS = {"Glorot's start": "glorot", "a larger start": 0.5}
SIGMOID_RATES = (0.1, 1.0)


def five_sigmoid_layers(start: str, rate: float) -> dict[str, list[Run]]:
    """Train five hidden layers of sigmoids from one of `SIGMOIDS`: a run a seed, by arm.

    >>> runs = five_sigmoid_layers("Glorot's start", 1.0)
    >>> {norm: bool(intro.final_accuracy(each).mean() > 0.5) for norm, each in runs.items()}
    {'plain': False, 'bn': True}
    """
    settings = Settings(depth=5, width=64, init=SIGMOIDS[start], lr=rate, steps=200, n_evals=2)
    return train_all(by_norm(settings))


# --- the range of learning rates -------------------------------------------------------------------------------------


@cache
def rate_map() -> dict[str, np.ndarray]:
    """The final test accuracy of the first page's networks: (depths, rates, seeds) an arm.

    >>> rate_map()["bn"].shape[:2]
    (3, 7)
    """
    cells = [[intro.deep_runs(depth, rate) for rate in intro.RATES] for depth in intro.DEPTHS]
    return {norm: np.array([[intro.final_accuracy(cell[norm]) for cell in row] for row in cells]) for norm in ARMS}


def usable_rate_ratio(depth: int) -> np.ndarray:
    """How many times as large the largest usable rate of the first page's network is with BN: (seeds,).

    Usable: at least 0.9 of the best that either arm reaches at any rate with this seed. Infinite where the plain
    network has no usable rate.

    >>> bool(np.median(usable_rate_ratio(5)) > 2)
    True
    """
    row = intro.DEPTHS.index(depth)
    plain, bn = (rate_map()[norm][row].T for norm in ARMS)  # (seeds, rates)
    best = np.maximum(plain, bn).max(1)

    def largest(arm: np.ndarray) -> list[float]:
        return [max(usable(intro.RATES, *each), default=0.0) for each in zip(arm, best, strict=True)]

    with np.errstate(divide="ignore"):
        return np.divide(largest(bn), largest(plain))


# --- few examples ----------------------------------------------------------------------------------------------------

EXAMPLES = (100, 200, 800)
FEW = Settings(nonlinearity="relu", init="he", lr=0.1, batch_size=32, steps=200, n_evals=11)
FEW_ARMS = {"plain": FEW, "bn": replace(FEW, norm="bn"), "dropout": replace(FEW, dropout=0.3)}


@cache
def few_examples(examples: int) -> dict[str, list[Run]]:
    """Train the arms of `FEW_ARMS` on so many digits, which the seed chooses: a run a seed.

    >>> sorted(few_examples(100))
    ['bn', 'dropout', 'plain']
    """
    return train_all({arm: replace(settings, examples=examples) for arm, settings in FEW_ARMS.items()})


def regularised(measure: str = "test_accuracy") -> dict[tuple[int, str], np.ndarray]:
    """How much higher than the plain network's the test accuracy is, a share, or `"test_loss"`, by examples and arm.

    >>> list(regularised())[:2]
    [(100, 'bn'), (100, 'dropout')]
    """
    ends = {
        (examples, arm): np.array([getattr(run, measure)[-1] for run in runs])
        for examples in EXAMPLES
        for arm, runs in few_examples(examples).items()
    }
    return {key: each - ends[key[0], "plain"] for key, each in ends.items() if key[1] != "plain"}
