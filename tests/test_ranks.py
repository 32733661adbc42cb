"""Rank correlations against SciPy, and chance against simulation."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from utils.ranks import by_chance, rank_correlation


def test_it_is_spearmans():
    chance = np.random.default_rng(0)
    for _ in range(20):
        a, b = chance.normal(size=(2, 8))
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
        assert rank_correlation(a, np.exp(b)) == rank_correlation(a, b)  # only the order counts


@pytest.mark.parametrize("many", [1, 5])
def test_chance_is_what_random_orders_give(many):
    chance = np.random.default_rng(1)
    quantities = chance.normal(size=(many, 7))
    best = []
    for _ in range(1500):
        order = chance.permutation(7)
        best.append(max(rank_correlation(quantity, order) for quantity in quantities))
    for correlation in (0.0, 0.4, 0.8):
        assert by_chance(correlation, quantities) == pytest.approx(np.mean(np.array(best) >= correlation), abs=0.04)


def test_the_best_of_many_is_high_more_often_than_one():
    quantities = np.random.default_rng(2).normal(size=(8, 8))
    assert by_chance(0.4, quantities) > 2 * by_chance(0.4, quantities[:1])
