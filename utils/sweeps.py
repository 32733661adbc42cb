"""A sweep: many calls of one pure function, in this process, in several, or on a Dask cluster.

Where a run is computed changes nothing about it: results come in the order of the jobs, each is read from disk if it
is there, and a worker that dies is replaced.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, TypeVar

from joblib.externals.loky import ProcessPoolExecutor

from utils.progress import progress_range, track

if TYPE_CHECKING:
    from distributed import Client

R = TypeVar("R")
TRIES = 2  # of a job whose worker is killed
_idle: dict[frozenset, list[ProcessPoolExecutor]] = {}  # processes that wait for the next sweep


def sweep(function: Callable[..., R], jobs: Sequence[tuple], on: "int | Client" = 1) -> list[R]:
    """Call `function(*job)` for every job; `function` is one that :func:`utils.cache.cached` decorates.

    `on` says where: 1 for this process, which tells its progress step by step; a larger number for that many processes
    of this machine; or a Dask client for its cluster, whose workers need this package and one thread each (threads of
    one process would disturb each other's number of torch threads). The last two tell their progress run by run. A
    listener may end the sweep in all three; what is finished by then stays on disk.

    >>> from utils.training import Settings, train
    >>> jobs = [(Settings(steps=2, lr=lr), seed) for lr in (0.1, 1.0) for seed in range(2)]
    >>> [run.loss.shape for run in sweep(train, jobs)]
    [(2,), (2,), (2,), (2,)]
    """
    if on == 1:
        return [function(*job) for job in track(jobs)]
    missing = [job for job in dict.fromkeys(jobs) if not function.check_call_in_cache(*job)]
    computed = {}
    with closing(completed(function, missing, on)) as ended:
        for _ in progress_range(len(missing)):
            place, result = next(ended)
            if isinstance(result, Exception):
                raise result
            computed[missing[place]] = result
    return [computed[job] if job in computed else function(*job) for job in jobs]


def completed(
    function: Callable[..., R], jobs: Sequence[tuple], on: "int | Client"
) -> Iterator[tuple[int, R | Exception]]:
    """Call `function(*job)` for every job elsewhere (see :func:`sweep`), and yield (its place, result) as each ends.

    Where a job raises, its exception stands for its result, and the others go on. A worker that is killed costs its own
    job alone, which is done once more by another; where that one is killed, too, the job ends with an exception.

    >>> sorted(completed(pow, [(2, 3), (2, 4)], on=2))
    [(0, 8), (1, 16)]
    """
    return _on_processes(function, jobs, on) if isinstance(on, int) else _on_cluster(function, jobs, on)


def _on_processes(function: Callable[..., R], jobs: Sequence[tuple], n: int) -> Iterator[tuple[int, R | Exception]]:
    """Let n threads take the jobs in turn, each with a process of its own, so that no process pulls others down."""
    waiting, ended, busy, lock, over = deque(enumerate(jobs)), SimpleQueue(), {}, Lock(), Event()
    idle = _idle.setdefault(frozenset(os.environ.items()), [])  # a process keeps the settings that it was born with

    def attempt(me: int, job: tuple) -> R | Exception:
        for _ in range(TRIES):
            with lock:
                if over.is_set():
                    return RuntimeError("the sweep was ended")
                if me not in busy:
                    busy[me] = idle.pop() if idle else ProcessPoolExecutor(1)
                own = busy[me]
            try:
                return own.submit(function, *job).result()
            except BrokenProcessPool as error:
                result = error
                with lock:
                    busy.pop(me, None)
            except Exception as error:
                return error
        return result

    def work(me: int) -> None:
        while True:
            with lock:
                if not waiting:
                    idle.extend([busy.pop(me)] if me in busy else [])
                    return
                place, job = waiting.popleft()
            ended.put((place, attempt(me, job)))

    for me in range(min(n, len(jobs))):
        Thread(target=work, args=(me,), daemon=True).start()
    left = len(jobs)
    try:
        while left:
            result = ended.get()
            left -= 1
            yield result
    finally:
        with lock:
            if left:  # told to stop
                over.set()
                waiting.clear()
                while busy:
                    busy.popitem()[1].shutdown(wait=False, kill_workers=True)


def _on_cluster(
    function: Callable[..., R], jobs: Sequence[tuple], client: "Client"
) -> Iterator[tuple[int, R | Exception]]:
    from distributed import as_completed

    futures = [client.submit(function, *job, pure=False) for job in jobs]
    places = {future.key: place for place, future in enumerate(futures)}
    try:
        for future, result in as_completed(futures, with_results=True, raise_errors=False):
            yield places[future.key], result[1] if future.status == "error" else result
    finally:
        client.cancel(futures)


def by_arm(
    function: Callable[..., R], arms: Mapping[str, object], *rest: object, on: "int | Client" = 1
) -> dict[str, R]:
    """Call `function(settings, *rest)` for the settings of every arm, as :func:`sweep` does: a result for each name.

    >>> from utils.training import Settings, train_seeds
    >>> runs = by_arm(train_seeds, {"plain": Settings(steps=2), "bn": Settings("bn", steps=2)}, 3)
    >>> len(runs["bn"])
    3
    """
    return dict(zip(arms, sweep(function, [(settings, *rest) for settings in arms.values()], on), strict=True))
