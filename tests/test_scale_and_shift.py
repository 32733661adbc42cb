"""The evidence of "Scale and shift", against what is written out by hand and against the layer itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from utils.experiments import scale_and_shift as experiment
from utils.experiments.scale_and_shift import WATCHED, running_statistic, watch_statistics
from utils.training import Settings, train_seeds, updates, updates_together

SMALL = Settings("bn", depth=2, width=20, lr=0.5, steps=30)


def test_a_straight_line_is_fitted_as_by_hand():
    z = np.random.default_rng(0).normal(size=2000)
    line = experiment.straight_line(z)
    out = torch.sigmoid(torch.from_numpy(z)).numpy()
    assert np.allclose(line.out, out)
    assert line.explained == pytest.approx(np.corrcoef(z, out)[0, 1] ** 2)
    assert line.slope == pytest.approx(np.cov(z, out)[0, 1] / np.var(z, ddof=1))


def test_watched_statistics_are_those_that_the_layer_runs_on():
    watched = watch_statistics.func(SMALL, 2)[1]
    *_, last = updates_together(SMALL, 2)
    norm = [module for module in last.of(1).net if hasattr(module, "running_mean")][1]
    for statistic, kept in (("mean", norm.running_mean), ("variance", norm.running_var)):
        now = running_statistic(watched, statistic, momentum=0.1)
        assert now.running[-1, 1] == pytest.approx(kept[:5].numpy(), rel=1e-3, abs=1e-5)
    assert watched.batch_mean.shape == (30, 2, 5)
    assert watched.mean.shape == (6, 2, 5)


def test_the_whole_data_are_looked_at_with_the_weights_of_the_moment():
    watched = watch_statistics.func(SMALL, 1)[0]
    for update in updates(SMALL, 0):
        if update.step == 10:
            y = update.net[0](SMALL.task().x_train)[:, :5].detach()
    assert watched.eval_steps[2] == 10
    assert watched.mean[2, 0] == pytest.approx(y.mean(0).numpy(), abs=1e-3)
    assert watched.var[2, 0] == pytest.approx(y.var(0, correction=0).numpy(), rel=1e-2)


def test_an_error_is_judged_where_the_truth_is_known_and_only_late():
    steps = np.arange(40.0)[:, None, None]
    late = np.array([0, 20, 35])
    now = experiment.Running(steps, steps + 2, late, steps[late])
    assert now.error(now.running).tolist() == [[2.0]]
    now.running[0] = 99
    assert now.error(now.running).tolist() == [[2.0]]


def test_what_is_unknown_is_refused():
    (watched,) = watch_statistics(replace(WATCHED, steps=6), seeds=1)
    with pytest.raises(ValueError, match="statistic: expected 'mean' or 'variance', got 'median'"):
        running_statistic(watched, "median", momentum=0.1)


def test_a_run_that_diverged_has_an_infinite_loss():
    runs = train_seeds.func(replace(SMALL, norm="plain", nonlinearity="relu", init="he", lr=1e6, steps=10), 2)
    assert all(run.diverged_at is not None for run in runs)
    assert np.isinf(experiment.outcomes({"plain": runs})["plain"].loss).all()


def test_rates_are_chosen_on_images_set_aside(monkeypatch):
    asked = {}

    def pretend(arms, seeds):
        asked.update(arms)
        return {key: train_seeds(replace(SMALL, steps=2, n_evals=2, lr=key[1] / 100), seeds) for key in arms}

    monkeypatch.setattr(experiment, "train_all", pretend)
    rates = experiment.chosen_rates.__wrapped__("sigmoid, 1 layer", seeds=2)
    assert set(rates) == set(experiment.ARMS)
    assert all(settings.validation and settings.depth == 1 for settings in asked.values())
    assert {key: (settings.norm, settings.lr) for key, settings in asked.items()} == {key: key for key in asked}


def test_the_identity_and_folding_are_exact_and_a_wrong_fold_is_not():
    assert experiment.identity_errors(seeds=2).max() < 1e-12
    assert experiment.folding_errors(seeds=2).max() < 1e-12
    assert experiment.identity_errors(seeds=2, eps=1.0).max() < 1e-12
