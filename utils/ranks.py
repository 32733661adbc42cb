"""Do two quantities put the same things in the same order, and how often would chance do that?"""

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's: the correlation of the ranks, 1 where `b` rises whenever `a` does. For values without ties.

    >>> rank_correlation([1.0, 10.0, 100.0], [0.1, 0.2, 0.5])
    1.0
    """
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1].round(12))


def _ranks(values: ArrayLike) -> np.ndarray:
    return np.argsort(np.argsort(values))


def by_chance(correlation: float, quantities: ArrayLike) -> float:
    """In what share of all orders of n things is the best of some rank correlations at least this high?

    `quantities` is (quantities, n), up to n = 8: each order is compared with the orders that these give, which may go
    together. With one quantity this is the one-sided permutation test; with several it allows for choosing the best.

    >>> by_chance(1.0, [[1.0, 2.0, 3.0]]) * 6, by_chance(1.0, [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]) * 6
    (1.0, 2.0)
    """
    ranks = np.array([_ranks(quantity) for quantity in np.atleast_2d(quantities)])
    many = ranks.shape[1]
    orders = np.array([*permutations(range(many))])
    apart = np.stack([((orders - own) ** 2).sum(1) for own in ranks]).min(0)
    return float((1 - 6 * apart / (many * (many**2 - 1)) >= correlation - 1e-9).mean())
