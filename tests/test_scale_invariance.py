"""Scale invariance: against torch's layer, and a training run that keeps Pythagoras' theorem."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from utils.experiments import scale_invariance as experiment
from utils.experiments.scale_invariance import scaled, watch_lengths
from utils.training import Settings


@pytest.fixture
def layer():
    chance = torch.Generator().manual_seed(0)
    weight, u, head = (torch.randn(*s, generator=chance, dtype=torch.float64) for s in ((5, 7), (20, 7), (3, 5)))
    return weight, u, head, torch.arange(20) % 3


def test_a_scaled_layer_is_torchs_and_its_step_turns_by_the_angle_between_the_weights(layer):
    weight, u, head, y = layer
    ours = scaled(*layer, a=2.0, lr=0.3, eps=1e-3)
    longer = (2 * weight).requires_grad_()
    output = F.batch_norm(u @ longer.T, None, None, training=True, eps=1e-3)
    F.cross_entropy(output.relu() @ head.T, y).backward()
    assert_close(ours.output, output.detach())
    assert_close(ours.gradient, longer.grad)
    stepped = longer.detach() - 0.3 * longer.grad
    assert_close(ours.turn, F.cosine_similarity(stepped, weight).acos(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("a", [1e-3, 0.5, 1e3])
def test_output_gradient_and_turn_follow_a(layer, a):
    one, now = scaled(*layer, lr=1e-9), scaled(*layer, a=a, lr=1e-9)
    assert_close(now.output, one.output)
    assert_close(now.gradient, one.gradient / a)
    assert_close(now.turn, one.turn / a**2, rtol=1e-4, atol=0)


def test_epsilon_breaks_the_invariance_where_weights_are_short(layer):
    one, short, long = (scaled(*layer, a=a, eps=1e-3) for a in (1.0, 1e-2, 1e2))
    assert (short.output - one.output).abs().max() > 0.1
    assert (long.output - one.output).abs().max() < 1e-2


def test_the_factors_of_a_trained_layer_are_those_of_its_scaled_copies():
    found = experiment.factors(100.0, 0.0)
    one, now = experiment.scaled_layer(1.0, 0.0), experiment.scaled_layer(100.0, 0.0)
    assert found["gradient"] == pytest.approx((now.gradient.norm() / one.gradient.norm()).item())
    assert found["gradient"] == pytest.approx(0.01, rel=1e-9)
    assert found["turn"] == pytest.approx(1e-4, rel=1e-3)
    assert found["error"] < 1e-10
    assert experiment.factors(0.001, 1e-3)["gradient"] < 900


def growth(norm, lr):
    run = watch_lengths.func(Settings(norm, nonlinearity="relu", init="he", lr=lr, steps=60), 1)[0]
    return run.length[-1] ** 2 - run.length[0] ** 2, (run.step**2).sum(0)


def test_normalised_weights_grow_by_the_square_of_each_step_and_plain_ones_need_not():
    """Pythagoras to rounding, since their gradient is at right angles to them; plain ones grow by a term in lr, too."""
    grown, squares = growth("bn", lr=1.0)
    assert np.allclose(grown, squares, rtol=0.01)
    grown, squares = growth("plain", lr=0.01)
    assert (np.abs(grown) > 3 * squares).all()


def test_lengths_and_steps_are_those_of_the_hidden_layers():
    settings = Settings("bn", depth=2, width=8, lr=0.5, steps=3)
    watched, net = watch_lengths.func(settings, 2)[1], settings.network(1)
    weights = [layer.weight.detach() for layer in net if isinstance(layer, nn.Linear)][:2]
    assert watched.length.shape == (4, 2)
    assert watched.step.shape == (3, 2)
    assert watched.loss.shape == (3,)
    assert watched.length[0] == pytest.approx([weight.norm().item() for weight in weights], rel=1e-5)


@pytest.fixture
def small(monkeypatch):
    """The growth of small networks, two seeds."""
    runs = {rate: watch_lengths(replace(experiment.NETWORK, width=8, steps=5, lr=rate), 2) for rate in (1.0, 3.0)}
    monkeypatch.setattr(experiment, "lengths_by_rate", lambda: runs)
    return runs


def test_the_effective_rate_is_the_rate_over_the_square_of_the_length(small):
    found = experiment.effective_rate(3.0, layer=2)
    assert found.shape == (2, 6)
    assert found[1, 4] == pytest.approx(3.0 / small[3.0][1].length[4, 1] ** 2)


def test_growth_that_is_not_that_of_the_steps_is_an_error(small):
    assert experiment.growth_errors(3.0).shape == (2, 3)
    assert experiment.growth_errors(3.0).max() < 0.02
    small[3.0][1].length[-1, 2] *= 1.1
    assert experiment.growth_errors(3.0)[1, 2] > 0.02
    assert experiment.growth_errors(3.0)[0].max() < 0.02
