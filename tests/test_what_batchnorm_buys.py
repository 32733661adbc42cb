"""What BatchNorm buys: counting on runs made by hand, and that no rate is chosen on what is tested."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from utils.experiments import what_batchnorm_buys as experiment
from utils.experiments.what_batchnorm_buys import best_rate, steps_to, usable
from utils.training import Run


def run_of(*accuracies, eval_steps=None):
    """A run with these test accuracies, one every ten steps."""
    steps = 10 * np.arange(len(accuracies)) if eval_steps is None else eval_steps
    nothing = np.empty(0)
    return Run(nothing, nothing, steps, np.array(accuracies), 1 - np.array(accuracies), [], [], None)


def test_steps_are_counted_to_the_first_evaluation_that_reaches_the_accuracy():
    steps, accuracies = [0, 10, 20, 30, 40], [0.1, 0.5, 0.9, 0.7, 0.9]
    assert [steps_to(steps, accuracies, goal) for goal in (0.5, 0.6, 0.9, 0.91)] == [10, 20, 20, np.inf]


def test_usable_rates_are_measured_against_the_best_of_all_arms():
    assert usable([1, 2, 3, 4], [0.80, 0.90, 0.81, np.nan], best=0.90) == [2, 3]
    assert usable([1, 2], [0.5, 0.5], best=0.9) == []
    assert usable([1, 2], [0.5, 0.4], best=0.9, share=0.5) == [1]


def test_the_best_rate_is_early_and_high_in_the_mean_over_seeds():
    low, early, late = run_of(0.1, 0.2, 0.3), run_of(0.1, 0.8, 0.8), run_of(0.1, 0.2, 0.9)
    assert best_rate({0.1: [early, early], 1.0: [late, late], 3.0: [early, low]}) == 0.1


def test_a_run_that_diverged_is_not_better_for_having_ended():
    ended = run_of(0.9, 0.9, 0.1, eval_steps=np.array([0, 10, 15]))
    whole = run_of(0.1, 0.4, 0.5, 0.6, 0.6)
    assert best_rate({0.1: [whole], 1.0: [ended]}) == 0.1


@pytest.fixture
def small(monkeypatch):
    """Two tiny networks to race, two seeds."""
    network = replace(experiment.NETWORKS["ReLU"], width=8, depth=1, steps=20, n_evals=5)
    monkeypatch.setattr(experiment, "NETWORKS", {"ReLU": network, f"{experiment.DEEP}, Adam": network})
    monkeypatch.setattr(experiment, "GRIDS", dict.fromkeys(experiment.NETWORKS, (0.01, 0.3)))
    asked, train_all, kept = [], experiment.train_all, (experiment.validated, experiment.race)

    def train_two(arms, seeds=2):
        asked.extend(arms.values())
        return train_all(arms, 2)

    monkeypatch.setattr(experiment, "train_all", train_two)
    for cached in kept:
        cached.cache_clear()
    yield SimpleNamespace(asked=asked)
    for cached in kept:
        cached.cache_clear()


def test_rates_are_chosen_on_validation_and_each_arm_is_tested_at_its_own(small):
    rates = experiment.own_rates("ReLU")
    assert len(small.asked) == 4 and all(settings.validation for settings in small.asked)
    runs = experiment.race("ReLU")
    assert {settings.norm: settings.lr for settings in small.asked[4:]} == rates
    assert not any(settings.validation for settings in small.asked[4:])
    assert set(runs) == {"plain", "bn"}
    experiment.race("ReLU", 10.0)
    assert [settings.lr for settings in small.asked[6:]] == pytest.approx([10 * rates[n] for n in ("plain", "bn")])


def test_ratios_are_of_the_steps_of_one_seed(small, monkeypatch):
    taken = {"plain": np.array([40.0, np.inf, 30.0]), "bn": np.array([10.0, 10.0, np.inf])}
    monkeypatch.setattr(experiment, "steps_taken", lambda network: taken)
    assert experiment.step_ratios()["ReLU"].tolist() == [4.0, np.inf, 0.0]
    assert list(experiment.step_ratios()) == ["ReLU"]


def test_leads_are_bns_less_plains_of_one_seed(small, monkeypatch):
    race = {"plain": [run_of(0.1, 0.7), run_of(0.1, 0.9)], "bn": [run_of(0.9, 0.8), run_of(0.1, 0.8)]}
    monkeypatch.setattr(experiment, "race", lambda network, factor=1.0: race)
    assert experiment.generalised()["ReLU"] == pytest.approx([0.1, -0.1])
    assert experiment.mistuned("ReLU")[10.0] == pytest.approx([0.1, -0.1])


def test_the_ratio_of_usable_rates_is_of_each_seed_by_its_own_best(monkeypatch):
    plain, bn = np.zeros((3, 7, 3)), np.zeros((3, 7, 3))
    plain[0, 1] = 0.95, 0.5, 0.5  # usable at 0.03 with the first seed only, and there only
    bn[0, [1, 3]] = [0.9, 0.9, 0.9], [0.9, 0.9, 0.5]  # usable up to 0.3, with the third seed up to 0.03
    plain[0, 0, 2] = 0.85  # at 0.01
    monkeypatch.setattr(experiment, "rate_map", lambda: {"plain": plain, "bn": bn})
    assert experiment.usable_rate_ratio(5) == pytest.approx([10.0, np.inf, 3.0])


def test_few_examples_are_compared_with_the_plain_network_of_the_same_examples(monkeypatch):
    ends = {"plain": (0.8, 0.6), "bn": (0.7, 0.9), "dropout": (0.9, 0.6)}
    few = {arm: [run_of(0.1, end) for end in each] for arm, each in ends.items()}
    monkeypatch.setattr(experiment, "few_examples", lambda examples: few)
    assert set(experiment.regularised()) == {(n, arm) for n in experiment.EXAMPLES for arm in ("bn", "dropout")}
    assert experiment.regularised()[100, "bn"] == pytest.approx([-0.1, 0.3])
    assert experiment.regularised("test_loss")[200, "dropout"] == pytest.approx([-0.1, 0.0])


def test_the_arms_of_few_examples_differ_in_norm_and_dropout_alone():
    plain = experiment.FEW_ARMS["plain"]
    assert replace(experiment.FEW_ARMS["bn"], norm="plain") == plain
    assert replace(experiment.FEW_ARMS["dropout"], dropout=0.0) == plain
