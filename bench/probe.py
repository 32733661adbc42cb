"""The time that probing along the gradient adds to training: bands at every 10th step, 8 lengths, one thread.

Training alone and training with probes take turns within a round; the median of the rounds' ratios is reported.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

from utils.smoothness import watch_course
from utils.training import Settings, one_thread, updates

FASHION = Settings(depth=5, width=64, nonlinearity="relu", lr=0.1, batch_size=128, steps=200, data="fashion, flat")
DIGITS = Settings(depth=10, width=64, nonlinearity="relu", lr=0.03, steps=200)
NETWORKS = {
    "5 layers, plain": FASHION,
    "5 layers, BN": replace(FASHION, norm="bn"),
    "10 layers, plain": DIGITS,
    "10 layers, BN": replace(DIGITS, norm="bn"),
    "10 layers, noisy BN": replace(DIGITS, norm="noisy"),
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
        for _ in updates(settings, 0):
            pass


def compare(settings: Settings, rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median ratio of the time with probes to that of training alone, and the latter in seconds."""
    train_alone(replace(settings, steps=20))
    times = [
        (seconds(lambda: watch_course.func(settings, 0)), seconds(lambda: train_alone(settings))) for _ in range(rounds)
    ]
    return median(probed / alone for probed, alone in times), median(alone for _, alone in times)


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach) for every network."""
    for name, settings in NETWORKS.items():
        ratio, alone = compare(settings)
        what = f"200 steps with probes at every 10th, 8 lengths, over training alone: {name}"
        yield what, f"{ratio:.2f} x ({alone:.2f} s)", "at most 3 x"


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
