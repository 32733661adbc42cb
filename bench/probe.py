"""The time that probing along the gradient adds to training: before every 20th step, 8 lengths, one network and thread.

Training alone and training with probes take turns within a round; the median of the rounds' ratios is reported.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

from utils.experiments.smoothness import DEEP, FIRST, NETWORKS, probe_training
from utils.training import Settings, one_thread, updates_together

DEEP_200 = replace(NETWORKS[DEEP], steps=200)
TRAINED = {
    "5 layers, plain": NETWORKS[FIRST],
    "5 layers, BN": replace(NETWORKS[FIRST], norm="bn"),
    "10 layers, plain": DEEP_200,
    "10 layers, BN": replace(DEEP_200, norm="bn"),
    "10 layers, noisy BN": replace(DEEP_200, norm="noisy"),
}
ROUNDS = 5


def seconds(work: Callable[[], object]) -> float:
    """Return the time that a piece of work takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def train_alone(settings: Settings) -> None:
    """Train, and look at nothing."""
    with one_thread():
        for _ in updates_together(settings, 1):
            pass


def compare(settings: Settings, rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median ratio of the time with probes to that of training alone, and the latter in seconds."""
    train_alone(replace(settings, steps=20))
    times = [
        (seconds(lambda: probe_training.func(settings, 1)), seconds(lambda: train_alone(settings)))
        for _ in range(rounds)
    ]
    return median(probed / alone for probed, alone in times), median(alone for _, alone in times)


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach) for every network."""
    for name, settings in TRAINED.items():
        ratio, alone = compare(settings)
        what = f"200 steps with probes before every 20th, 8 lengths, over training alone: {name}"
        yield what, f"{ratio:.2f} x ({alone:.2f} s)", "at most 3 x"


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
