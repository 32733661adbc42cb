"""The first page: deep networks with and without BN, at a learning rate and a depth of the reader's choice."""

from dataclasses import replace
from functools import cache

import numpy as np

from utils.experiments.noise_on_purpose import accuracy_curves, area
from utils.training import SEEDS, Run, Settings, by_norm, train_all

DEEP = Settings(depth=10, width=48, nonlinearity="relu", init="he", batch_size=32, steps=200, n_evals=9)
DEPTHS = (5, 10, 20)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@cache
def deep_runs(depth: int, lr: float, seeds: int = SEEDS) -> dict[str, list[Run]]:
    """Train the first page's network of `depth` hidden layers at the rate `lr`, "plain" and "bn": a run a seed.

    >>> runs = deep_runs(5, 0.1, seeds=2)
    >>> sorted(runs), runs["bn"][0].test_accuracy.shape
    (['bn', 'plain'], (9,))
    """
    settings = replace(DEEP, depth=depth, lr=lr)
    return train_all(by_norm(settings), seeds)


def final_accuracy(runs: list[Run]) -> np.ndarray:
    """The test accuracy at the end of each run, a share: (seeds,). A run that diverged keeps its last.

    >>> final_accuracy(deep_runs(5, 0.1, seeds=2)["bn"]).shape
    (2,)
    """
    return np.array([run.test_accuracy[-1] for run in runs])


def lead(depth: int, lr: float) -> np.ndarray:
    """How much higher BN's final test accuracy is than the plain network's, a share: (seeds,).

    >>> bool(lead(10, 0.3).mean() > 0.1)
    True
    """
    runs = deep_runs(depth, lr)
    return final_accuracy(runs["bn"]) - final_accuracy(runs["plain"])


def lead_in_area(depth: int, lr: float) -> np.ndarray:
    """How much higher BN's mean accuracy over all mini-batches is than the plain network's, a share: (seeds,).

    >>> bool(lead_in_area(10, 0.3).mean() > 0.1)
    True
    """
    arms = by_norm(replace(DEEP, depth=depth, lr=lr))
    return area(accuracy_curves(arms["bn"])) - area(accuracy_curves(arms["plain"]))
