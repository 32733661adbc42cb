"""Where the seed of a run becomes chance: one place, so that the whole book can be run with other seeds.

The environment variable BOOK_FIRST_SEED (0 where it is not set) is added to every seed. With 10 the book's seeds 0 to 4
are 10 to 14: other weights, batches, noise and samples of the same data. What the book asserts has to hold there, too.
"""

import os

import numpy as np
import torch


def first_seed() -> int:
    """Return BOOK_FIRST_SEED, to which a seed is added. Raises ValueError where it is no whole number from 0 on.

    >>> first_seed() >= 0
    True
    """
    told = os.environ.get("BOOK_FIRST_SEED", "0")
    if not (told.isascii() and told.isdigit()):
        raise ValueError(f"BOOK_FIRST_SEED: expected a whole number from 0 on, got {told!r}")
    return int(told)


def run_count() -> int:
    """Return BOOK_SEEDS, how many seeds an experiment has (10 where it is not set); ValueError for fewer than two.

    >>> run_count() >= 2
    True
    """
    told = os.environ.get("BOOK_SEEDS", "10")
    if not (told.isascii() and told.isdigit() and int(told) >= 2):
        raise ValueError(f"BOOK_SEEDS: expected a whole number from 2 on, got {told!r}")
    return int(told)


def torch_rng(seed: int) -> torch.Generator:
    """Return the torch generator of a seed, fresh at each call.

    >>> torch.equal(torch.rand(3, generator=torch_rng(1)), torch.rand(3, generator=torch_rng(1)))
    True
    """
    return torch.Generator().manual_seed(first_seed() + seed)


def numpy_rng(seed: int) -> np.random.Generator:
    """Return the NumPy generator of a seed, fresh at each call.

    >>> np.array_equal(numpy_rng(1).random(3), numpy_rng(1).random(3))
    True
    """
    return np.random.default_rng(first_seed() + seed)
