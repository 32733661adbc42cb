"""The time of a sweep in one process, in two, and on a Dask cluster of two; and of our loop over a bare one.

The processes are started, and have imported torch, before the clock starts; what that takes is told beside. Each
sweep finds nothing on disk. The loops take turns within a round, and the median of the rounds' ratios is reported.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

import joblib
import torch
from torch.nn import functional as F

from utils.sweeps import sweep
from utils.training import Settings, train

DEEP = Settings("bn", depth=10, nonlinearity="relu", lr=0.1, steps=600)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
RUNS = [(replace(DEEP, norm=norm, lr=lr), seed) for norm in ("plain", "bn") for lr in RATES for seed in range(3)]
WARM_UP = [(replace(DEEP, steps=1), seed) for seed in range(8)]
ROUNDS = 7


def seconds(work: Callable[[], object]) -> float:
    """Return the time that a piece of work takes, in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sweep_seconds(on: object, runs: list[tuple] = RUNS) -> float:
    """Return the time of a sweep that finds nothing on disk."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = joblib.Memory(folder, verbose=0).cache(lambda settings, seed: train.func(settings, seed))
        return seconds(lambda: sweep(fresh, runs, on))


def bare_loop(settings: Settings, seed: int) -> None:
    """Train the same network on the same batches with nothing but torch."""
    net, (images, labels, *_) = settings.network(seed), settings.task()
    optimizer = torch.optim.SGD(net.parameters(), lr=settings.lr)
    batches = torch.Generator().manual_seed(seed)
    for _ in range(settings.steps):
        batch = torch.randint(len(images), (settings.batch_size,), generator=batches)
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def compare_loops(settings: Settings, rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median ratio of our loop's time, with all it records, to the bare one's, and the latter in seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        short = replace(settings, steps=20)
        bare_loop(short, 0), train.func(short, 0)
        times = [
            (seconds(lambda: train.func(settings, 0)), seconds(lambda: bare_loop(settings, 0))) for _ in range(rounds)
        ]
    finally:
        torch.set_num_threads(threads)
    return median(ours / bare for ours, bare in times), median(bare for _, bare in times)


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach) for the loops and the sweeps."""
    for norm, n_evals, reach in (("plain", 2, "at most 1.10 x"), ("bn", 2, "at most 1.10 x"), ("plain", 25, "")):
        ratio, bare = compare_loops(replace(DEEP, norm=norm, n_evals=n_evals))
        what = f"600 steps of a 10-layer {norm} net, {n_evals} evaluations: our loop over a bare torch loop"
        yield what, f"{ratio:.2f} x ({bare:.2f} s)", reach
    one = sweep_seconds(1)
    yield "sweep of 42 runs, one process", f"{one:.1f} s", ""
    start = sweep_seconds(2, WARM_UP)
    two = sweep_seconds(2)
    yield "the same, two processes", f"{one / two:.2f} x ({two:.1f} s; {start:.1f} s to start)", "at least 1.8 x"
    start, dask = _dask_seconds()
    told = f"{dask / two:.2f} x the time of two processes ({one / dask:.2f} x; {dask:.1f} s; {start:.1f} s to start)"
    yield "the same, Dask, two workers", told, "at most 1.10 x"


def _dask_seconds() -> tuple[float, float]:
    from distributed import Client, LocalCluster

    start = time.perf_counter()
    with (
        LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        sweep_seconds(client, WARM_UP)
        return time.perf_counter() - start, sweep_seconds(client)


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
