"""The time our batch normalization takes over torch's: forward and backward, training, one thread.

Ours and torch's take turns within a round, so that both meet the same disturbances; the median of
the rounds' ratios is reported. The largest batch comes first: by then the allocator keeps
what it got, and the smaller batches are not timed while memory is fetched and given back.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import nn

from utils import batchnorm

REACH = {  # shape -> the ratio that we want to stay within
    (64, 64, 28, 28): 1.2,
    (64, 32, 14, 14): 1.2,
    (128, 16, 8, 8): 1.2,
    (256, 1000): 1.2,
    (128, 512): 1.2,
    (60, 100): 1.5,
}
ROUNDS = 41
ROUND_SECONDS = 0.004  # of torch's layer, in every round


def training_step(library: object, shape: tuple[int, ...]) -> Callable[[], None]:
    """Return one forward and backward pass of the library's layer on a batch of that shape.

    >>> from utils import batchnorm
    >>> training_step(batchnorm, (4, 3))()
    """
    layer = {2: "BatchNorm1d", 4: "BatchNorm2d"}[len(shape)]
    bn = getattr(library, layer)(shape[1])
    x = torch.randn(shape, requires_grad=True)
    grad = torch.randn(shape)

    def step() -> None:
        bn(x).backward(grad)
        x.grad = bn.weight.grad = bn.bias.grad = None

    return step


def seconds(step: Callable[[], None], repeats: int) -> float:
    """Return the time that one of the repeated steps takes, in seconds."""
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - start) / repeats


def compare(shape: tuple[int, ...], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median ratio of our time to torch's, and torch's median time in seconds."""
    ours, torchs = training_step(batchnorm, shape), training_step(nn, shape)
    seconds(ours, 10)
    repeats = max(2, round(ROUND_SECONDS / seconds(torchs, 10)))
    times = [(seconds(ours, repeats), seconds(torchs, repeats)) for _ in range(rounds)]
    return median(a / b for a, b in times), median(b for _, b in times)


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach) for every shape."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for shape, reach in REACH.items():
            ratio, torchs = compare(shape)
            what = f"our batch norm over torch's, forward + backward, 1 thread, {shape}"
            yield what, f"{ratio:.2f} x ({torchs * 1e6:.0f} µs)", f"at most {reach} x"
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
