"""Intervals cover what they are said to cover."""

import numpy as np
import pytest
from scipy import stats

from utils import intervals


@pytest.mark.parametrize(("estimate", "truth"), [(intervals.mean, 0.0), (intervals.median, 0.0)])
@pytest.mark.parametrize("n", [6, 10, 20])
def test_an_interval_of_a_normal_sample_covers_the_truth_in_95_of_100(estimate, truth, n):
    rng = np.random.default_rng(0)
    found = [estimate(rng.normal(size=n)) for _ in range(2000)]
    covered = np.mean([each.low <= truth <= each.high for each in found])
    assert 0.93 < covered < 0.99


def test_the_mean_is_students():
    values = np.array([1.0, 4.0, 2.0, 8.0])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert intervals.mean(values) == pytest.approx((values.mean(), low, high))


def test_a_ratio_and_its_inverse_have_inverse_intervals():
    values = np.array([1.5, 4.0, 2.0, 8.0])
    one, other = intervals.ratio(values), intervals.ratio(1 / values)
    assert one == pytest.approx((1 / other.estimate, 1 / other.high, 1 / other.low))


def test_a_median_bears_infinite_values():
    found = intervals.median([2.0] * 5 + [np.inf] * 5)
    assert (found.low, found.high) == (2.0, np.inf)


def test_a_share_of_all_is_not_certain():
    assert 0.6 < intervals.share([True] * 10).low < 0.75


@pytest.mark.parametrize("estimate", [intervals.mean, intervals.ratio, intervals.median])
def test_one_value_has_no_interval(estimate):
    with pytest.raises(ValueError, match="values: expected two or more, got 1"):
        estimate([1.0])
