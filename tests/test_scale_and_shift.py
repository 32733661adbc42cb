"""The evidence of "Scale and shift", against what is written out by hand and against the layer itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from utils.experiments import scale_and_shift as experiment
from utils.figures import scale_and_shift as figures
from utils.training import Settings, train_seeds

SMALL = Settings("bn", depth=2, width=20, lr=0.5, steps=30)


def test_a_straight_line_is_fitted_as_by_hand():
    z = np.random.default_rng(0).normal(size=2000)
    line = experiment.straight_line(z)
    out = torch.sigmoid(torch.from_numpy(z)).numpy()
    assert np.allclose(line.out, out)
    assert line.explained == pytest.approx(np.corrcoef(z, out)[0, 1] ** 2)
    assert line.slope == pytest.approx(np.cov(z, out)[0, 1] / np.var(z, ddof=1))


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


def test_the_identity_is_exact_for_any_epsilon():
    assert experiment.identity_errors(seeds=2).max() < 1e-12
    assert experiment.identity_errors(seeds=2, eps=1.0).max() < 1e-12


def test_questions_are_answered_as_their_mathematics_says():
    x = torch.tensor([[1.0], [5.0]]).double()  # mean 3, variance 4
    x_hat = (x - 3) / 2
    gamma, beta = figures.quiz_back.choices[figures.quiz_back.answer[0][0]].replace("γ = ", "").split(", β = ")
    assert torch.equal(float(gamma) * x_hat + float(beta), x)
    assert (
        figures.quiz_parameters.answer[0] == [sum(each.numel() for each in torch.nn.BatchNorm1d(100).parameters())] * 2
    )
    norm, leaf = torch.nn.BatchNorm1d(1).double(), x.clone().requires_grad_()
    torch.nn.init.zeros_(norm.weight)
    norm(leaf).backward(x)
    assert leaf.grad.abs().max() == 0 != norm.weight.grad.item()
    assert "γ may grow again" in figures.quiz_zero.verdict
