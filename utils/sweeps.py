"""A sweep: many calls of one pure function, in this process, in several, or on a Dask cluster.

Where a run is computed changes nothing about it: results come in the order of the jobs, each is read from disk if it
is there, and a worker that dies is replaced.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import joblib

from utils.progress import progress_range, track

if TYPE_CHECKING:
    from distributed import Client

R = TypeVar("R")


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
    where = {"backend": "loky", "n_jobs": on} if isinstance(on, int) else {"backend": "dask", "client": on}
    computed = {}
    if missing:
        with joblib.parallel_config(**where):
            results = joblib.Parallel(return_as="generator")(joblib.delayed(function)(*job) for job in missing)
            computed = {missing[i]: next(results) for i in progress_range(len(missing))}
    return [computed[job] if job in computed else function(*job) for job in jobs]


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
