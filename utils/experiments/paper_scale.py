"""What the runs at the papers' own size say, read from the results that `python -m utils.reproduce` has left.

Nothing is trained here. An arm's values are those of :func:`utils.reproduce.paper.run`, one for each seed.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from utils.experiments.noise_on_purpose import GUESSING
from utils.experiments.what_batchnorm_buys import steps_to
from utils.results import results

VGG, SIGMOIDS = "vgg-fashion-mnist", "sigmoids-mnist"
FILES = {VGG: "VGG, Fashion-MNIST", "vgg-cifar-10": "VGG, CIFAR-10", SIGMOIDS: "three layers of sigmoids, MNIST"}
RATE, LARGE = 0.1, 0.5  # of the VGG: those of the paper's figure 1
UNITS = 5  # of the sigmoids, whose inputs are watched
GOAL = 0.9  # the share of right answers that the sigmoids race to
EARLY, LATE = (1, 0.2), (0.5, 1.0)  # parts of the probes; the early one without the untrained network


class Seeds(NamedTuple):
    """The runs of one arm, for the seeds that it has in common with others."""

    runs: list[dict]

    def each(self, measure: Callable[[dict], float]) -> np.ndarray:
        """One number for each seed: (seeds,)."""
        return np.array([measure(run) for run in self.runs], dtype=float)


def arms(file: str, *names: str) -> list[Seeds]:
    """The runs of some arms, for the seeds that all of them have.

    >>> plain, bn = arms(VGG, "plain, rate 0.1", "bn, rate 0.1")
    >>> len(plain.runs) == len(bn.runs) >= 3
    True
    """
    found = {name: {run["seeds"][0]: run["values"] for run in results(file) if run["arm"] == name} for name in names}
    common = sorted(set.intersection(*(set(each) for each in found.values())))
    return [Seeds([found[name][seed] for seed in common]) for name in names]


def made(file: str) -> dict[str, str]:
    """How the runs of a file were made: "device", "date", "torch" and "command" of the first of them.

    >>> made(VGG)["device"] != ""
    True
    """
    first = results(file)[0]
    return {"torch": first["versions"]["torch"], **{name: first[name] for name in ("device", "date", "command")}}


def curve(run: Mapping, windows: int) -> np.ndarray:
    """The accuracy on mini-batches, the mean of each window; from a divergence on that of guessing: (windows,).

    >>> curve({"accuracy": [0.5]}, 3).tolist()
    [0.5, 0.1, 0.1]
    """
    accuracy = np.array(run["accuracy"], dtype=float)
    return np.pad(accuracy, (0, windows - len(accuracy)), constant_values=GUESSING)


def areas(file: str, *names: str) -> list[np.ndarray]:
    """The area under the training curve of each arm, which is its mean accuracy over all mini-batches: (seeds,).

    >>> plain, bn = areas(VGG, "plain, rate 0.1", "bn, rate 0.1")
    >>> bool((0 < plain).all() and (bn < 1).all())
    True
    """
    found = arms(file, *names)
    windows = max(len(run["accuracy"]) for each in found for run in each.runs)
    return [each.each(lambda run: curve(run, windows).mean()) for each in found]


def retained() -> np.ndarray:
    """The share of BN's gain in area that noisy BN keeps, at rate 0.1: (seeds,).

    >>> retained().shape == areas(VGG, "noisy, rate 0.1")[0].shape
    True
    """
    plain, bn, noisy = areas(VGG, *(f"{norm}, rate {RATE:g}" for norm in ("plain", "bn", "noisy")))
    return (noisy - plain) / (bn - plain)


def final_accuracy(run: Mapping) -> float:
    """The test accuracy at the end; of a run that diverged, that of guessing.

    >>> final_accuracy({"diverged_at": 750, "test_accuracy": [0.1, 0.8]})
    0.1
    """
    return GUESSING if run["diverged_at"] is not None else run["test_accuracy"][-1]


def accuracy_gains(file: str, plain: str, bn: str) -> np.ndarray:
    """How much higher the test accuracy of one arm is at the end than that of another, a share: (seeds,).

    >>> accuracy_gains(VGG, "bn, rate 0.1", "bn, rate 0.1").any()
    np.False_
    """
    lower, higher = (each.each(final_accuracy) for each in arms(file, plain, bn))
    return higher - lower


def probed(run: Mapping, quantity: str, part: tuple[float, float] = LATE) -> float:
    """The median of a band's extent over a part of the training; infinite where the run had diverged.

    `quantity` is "range", "gradient", "beta" or "beta_far", of which the first two are the paper's figure 4a and b.

    >>> probed({"range": [9.0, 1.0, 2.0, 3.0]}, "range")
    2.5
    """
    values = np.array([np.inf if value is None else value for value in run[quantity]])
    start, stop = (round(each * len(values)) if each <= 1 and isinstance(each, float) else each for each in part)
    return float(np.median(values[start : max(stop, start + 1)]))


def band_ratios(quantity: str, part: tuple[float, float] = LATE) -> np.ndarray:
    """How many times as large a band's extent is in the plain VGG as with BN, at rate 0.1: (seeds,).

    >>> bool((band_ratios("range", (0, 0.0)) < 1).all())    # before training the plain network is the flatter one
    True
    """
    plain, bn = (each.each(lambda run: probed(run, quantity, part)) for each in _pair())
    return plain / bn


def _pair() -> list[Seeds]:
    return arms(VGG, f"plain, rate {RATE:g}", f"bn, rate {RATE:g}")


def gradient_shift_ratios(first: bool) -> np.ndarray:
    """How many times larger ||G - G'|| of Definition 2.1 is with BN, the median over layers and looks: (seeds,).

    At the very first update, or at all looks of the run; without the first layer, below which nothing lies.

    >>> bool((gradient_shift_ratios(first=True) > 1).all())
    True
    """
    plain, bn = (
        [np.array(run["distance"], dtype=float)[: 1 if first else None, 1:] for run in each.runs] for each in _pair()
    )
    return np.array([np.median(ours / theirs) for theirs, ours in zip(plain, bn, strict=True)])


def jumps() -> np.ndarray:
    """How many times as far noisy BN's activation inputs jump at one update as the plain net's: (seeds,).

    The mean over the layers and over all looks but the first four, which are early.

    >>> bool((jumps() > 1).all())
    True
    """
    plain, noisy = arms(VGG, f"plain, rate {RATE:g}", f"noisy, rate {RATE:g}")
    far, near = (each.each(lambda run: np.mean(run["jump"][4:])) for each in (noisy, plain))
    return far / near


def sigmoid_rates() -> list[float]:
    """The rates of the sigmoids' runs that there are.

    >>> all(rate > 0 for rate in sigmoid_rates())
    True
    """
    return sorted({run["settings"]["lr"] for run in results(SIGMOIDS)})


def own_rate(norm: str) -> float:
    """The rate at which the sigmoids' training accuracy is highest, the mean over the run and over seeds.

    >>> own_rate("bn") in sigmoid_rates()
    True
    """
    rates = sigmoid_rates()
    return max(rates, key=lambda rate: areas(SIGMOIDS, f"{norm}, rate {rate:g}")[0].mean())


def steps_taken(norm: str, rate: float) -> np.ndarray:
    """The steps to 90 % of a window's mini-batches, infinite where it is never reached: (seeds,).

    >>> bool((steps_taken("bn", own_rate("bn")) < 50_000).all())
    True
    """
    (found,) = arms(SIGMOIDS, f"{norm}, rate {rate:g}")
    return found.each(lambda run: steps_to(run["curve_steps"], run["accuracy"], GOAL))


def median_wanders(norm: str, rate: float) -> np.ndarray:
    """How far the median input of a sigmoid of the last layer wanders: its standard deviation over training: (seeds,).

    The mean over the units watched; Ioffe & Szegedy 2015, figure 1b and c.

    >>> bool((median_wanders("bn", own_rate("bn")) > 0).all())
    True
    """
    (found,) = arms(SIGMOIDS, f"{norm}, rate {rate:g}")
    return found.each(lambda run: np.array(run["quantiles"], dtype=float)[:, 1].std(0).mean())
