"""Putting runs side by side: gains and reductions by hand, chance against simulation."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from utils.experiments import two_meanings
from utils.experiments import what_can_be_said as experiment
from utils.experiments.smoothness import extent
from utils.experiments.two_meanings import Network, Part, Quantity
from utils.experiments.what_can_be_said import BANDS, SHIFTS, Companion, permutation_p_value
from utils.training import Settings, train_seeds

SMALL = Network(Settings(steps=24, width=20, lr=0.5), n_evals=4, seeds=3, probe=50)


def test_the_gain_is_plain_loss_over_bns():
    plain, bn = (np.array([run.loss for run in train_seeds(each, 3)]) for each in two_meanings.arms_of(SMALL).values())
    by_hand = [np.prod(a[16:] / b[16:]) ** (1 / 8) for a, b in zip(plain, bn, strict=True)]
    assert experiment.gain(SMALL, Part.LATE) == pytest.approx(by_hand)
    assert len(experiment.gain(SMALL)) == 3


@pytest.mark.parametrize("companion", SHIFTS)
def test_a_reduction_of_shift_is_one_over_bns_share(companion):
    wanted = 1 / two_meanings.ratios(SMALL, SHIFTS[companion])
    assert np.array_equal(experiment.reduction(SMALL, companion), wanted)


@pytest.mark.parametrize("companion", BANDS)
def test_a_reduction_of_a_band_is_plains_over_bns_at_the_same_moments(companion):
    plain, bn = experiment.probes(SMALL).values()
    ratios = [extent(a, BANDS[companion]) / extent(b, BANDS[companion]) for a, b in zip(plain, bn, strict=True)]
    assert [len(each) for each in ratios] == [8] * 3
    assert experiment.reduction(SMALL, companion) == pytest.approx(np.median(ratios, 1))


def test_networks_are_ranked_by_their_median_seeds(monkeypatch):
    chance = np.random.default_rng(0)
    values = {name: chance.uniform(0.5, 3, size=(5, 2)) for name in "abcdefgh"}
    monkeypatch.setattr(experiment, "compared", lambda companion, part: values)
    points = np.array([np.median(each, 0) for each in values.values()])
    found = experiment.agreement(Companion.DRIFT)
    assert found.less == (points[:, 0] > 1).sum()
    assert found.rank.estimate == pytest.approx(spearmanr(*points.T).statistic)
    without = [spearmanr(*np.delete(points, i, 0).T).statistic for i in range(8)]
    assert found.without_one == pytest.approx((min(without), max(without)))


@pytest.mark.parametrize("many", [1, 5])
def test_chance_is_what_random_orders_give(many):
    chance = np.random.default_rng(1)
    quantities = chance.normal(size=(many, 7))
    best = []
    for _ in range(1500):
        order = chance.permutation(7)
        best.append(max(spearmanr(quantity, order).statistic for quantity in quantities))
    for correlation in (0.0, 0.4, 0.8):
        assert permutation_p_value(correlation, quantities) == pytest.approx(
            np.mean(np.array(best) >= correlation - 1e-9), abs=0.04
        )


def test_the_best_of_many_is_high_more_often_than_one():
    quantities = np.random.default_rng(2).normal(size=(8, 8))
    assert permutation_p_value(0.4, quantities) > 2 * permutation_p_value(0.4, quantities[:1])


def test_the_eight_networks_have_the_quantity_of_their_names():
    assert len(experiment.NETWORKS) == 8
    assert set(SHIFTS) | set(BANDS) == set(Companion)
    assert SHIFTS[Companion.DISTANCE] is Quantity.DISTANCE
