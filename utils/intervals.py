"""Estimates over seeds with their 95 % intervals. Runs are paired: each seed gives one difference or one ratio."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate, and where the truth lies in 95 of 100 such experiments."""

    estimate: float
    low: float
    high: float

    def map(self, function) -> "Interval":
        """The same after an increasing function, such as np.exp.

        >>> Interval(0.0, -1.0, 1.0).map(lambda x: 10**x).high
        10.0
        """
        return Interval(*(float(function(each)) for each in self))


def mean(values: ArrayLike) -> Interval:
    """The mean of independent values, with Student's t interval. Raises ValueError for fewer than two values.

    >>> [round(each, 2) for each in mean([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    values = _checked(values)
    middle, error = values.mean(), stats.sem(values)
    reach = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * error
    return Interval(float(middle), float(middle - reach), float(middle + reach))


def ratio(values: ArrayLike) -> Interval:
    """The geometric mean of positive ratios: the mean of their logarithms, and its interval, as a ratio again.

    >>> [round(each, 2) for each in ratio([1.0, 2.0, 4.0])]
    [2.0, 0.36, 11.19]
    """
    return mean(np.log(_checked(values))).map(np.exp)


def median(values: ArrayLike) -> Interval:
    """The median, with the interval between two order statistics (binomial): for values that may be infinite.

    With n values it covers the median with at least 95 % where n is 6 or more.

    >>> median([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, np.inf])
    Interval(estimate=5.5, low=2.0, high=9.0)
    """
    ordered = np.sort(_checked(values))
    n = len(ordered)
    rank = max(int(stats.binom.ppf((1 - LEVEL) / 2, n, 0.5)), 1)  # P(fewer than rank are below the median) <= 2.5 %
    return Interval(float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[n - rank]))


def rank_correlation(a: ArrayLike, b: ArrayLike) -> Interval:
    """Spearman's correlation of n pairs, with the interval of Bonett & Wright 2000; n is 4 at least.

    >>> [round(each, 2) for each in rank_correlation([1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 8, 7, 6, 5])]
    [0.71, -0.09, 0.95]
    """
    found, n = float(stats.spearmanr(a, b).statistic), len(_checked(a))
    if n < 4:
        raise ValueError(f"a: expected four values or more, got {n}")
    reach = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt((1 + found**2 / 2) / (n - 3))
    centre = np.arctanh(np.clip(found, -1 + 1e-12, 1 - 1e-12))
    return Interval(found, float(np.tanh(centre - reach)), float(np.tanh(centre + reach)))


def share(those: ArrayLike) -> Interval:
    """The share of True, with the exact binomial interval (Clopper & Pearson 1934).

    >>> [round(each, 2) for each in share([True] * 10)]
    [1.0, 0.69, 1.0]
    """
    those = np.asarray(those, dtype=bool).ravel()
    found = stats.binomtest(int(those.sum()), those.size).proportion_ci(LEVEL)
    return Interval(float(those.mean()), float(found.low), float(found.high))


def _checked(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=float).ravel()
    if len(values) < 2:
        raise ValueError(f"values: expected two or more, got {len(values)}")
    return values
