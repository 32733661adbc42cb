"""What BatchNorm buys: known answers, brute force, and a training run that keeps Pythagoras' theorem."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from utils.gains import at_own_rates, scaled, steps_saved, steps_to, usable, watch_lengths
from utils.training import Settings


def run_of(*accuracies):
    return SimpleNamespace(looked=10 * np.arange(len(accuracies)), test_accuracy=np.array(accuracies))


def test_steps_are_counted_to_the_first_look_that_reaches_the_accuracy():
    run = run_of(0.1, 0.5, 0.9, 0.7, 0.9)
    assert steps_to(run, 0.5) == 10
    assert steps_to(run, 0.6) == 20
    assert steps_to(run, 0.9) == 20
    assert steps_to(run, 0.91) == np.inf


def test_the_goal_is_the_plain_runs_best_and_not_its_last():
    plain, bn = run_of(0.1, 0.3, 0.8, 0.7), run_of(0.1, 0.79, 0.79, 0.85)
    assert steps_saved(plain, bn) == (20, 30)
    assert steps_saved(bn, plain) == (30, np.inf)


def test_each_arm_races_at_the_rate_that_is_best_in_the_mean():
    low, middle, high = run_of(0.1, 0.2, 0.3), run_of(0.1, 0.5, 0.55), run_of(0.1, 0.9, 0.9)
    races = {
        0.1: ([low, high], [middle, middle]),
        1.0: ([middle, middle], [high, low]),
        3.0: ([low, low], [high, high]),
    }
    plain, bn, taken = at_own_rates(races)
    assert (plain, bn) == (0.1, 3.0)
    assert taken.tolist() == [[20, 10], [10, 10]]


def test_usable_rates_are_measured_against_the_best_of_all_arms():
    assert usable([1, 2, 3, 4], [0.80, 0.90, 0.81, np.nan], best=0.90) == [2, 3]
    assert usable([1, 2], [0.5, 0.5], best=0.9) == []
    assert usable([1, 2], [0.5, 0.4], best=0.9, share=0.5) == [1]


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


def test_normalised_weights_grow_by_the_square_of_each_step_and_plain_ones_need_not():
    """Pythagoras to rounding, since their gradient is at right angles to them; plain ones grow by a term in lr, too."""

    def growth(norm, lr):
        run = watch_lengths.func(Settings(norm, nonlinearity="relu", init="he", lr=lr, steps=60), 0)
        return run.length[-1] ** 2 - run.length[0] ** 2, (run.step**2).sum(0)

    grown, squares = growth("bn", lr=1.0)
    assert np.allclose(grown, squares, rtol=0.01)
    grown, squares = growth("plain", lr=0.01)
    assert (np.abs(grown) > 3 * squares).all()


def test_lengths_and_steps_are_those_of_the_hidden_layers():
    settings = Settings("bn", depth=2, width=8, lr=0.5, steps=3)
    watched, net = watch_lengths.func(settings, 1), settings.network(1)
    weights = [layer.weight.detach() for layer in net if isinstance(layer, nn.Linear)][:2]
    assert watched.length.shape == (4, 2)
    assert watched.step.shape == (3, 2)
    assert watched.loss.shape == (3,)
    assert watched.length[0] == pytest.approx([weight.norm().item() for weight in weights], rel=1e-5)
