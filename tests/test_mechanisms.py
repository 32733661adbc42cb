"""The evidence of "Other mechanisms", against what is known exactly."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from utils.experiments import mechanisms as experiment
from utils.networks import mlp
from utils.observe import trace
from utils.training import updates


def test_the_effective_rank_counts_directions():
    q, _ = torch.linalg.qr(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)))
    assert experiment.effective_rank(q) == pytest.approx(4)
    two = torch.outer(q[:, 0], torch.ones(6)) + 1e-9 * torch.outer(q[:, 1], torch.arange(6.0))
    assert experiment.effective_rank(two) == pytest.approx(1, abs=1e-3)
    assert experiment.effective_rank(3 * q) == pytest.approx(4)  # no unit


def test_the_mean_cosine_is_that_of_all_pairs():
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).double()
    pairs = [torch.cosine_similarity(x[i], x[j], 0).item() for i in range(7) for j in range(i)]
    assert experiment.mean_cosine(x) == pytest.approx(np.mean(pairs))


def test_a_linear_network_keeps_its_mean_cosine_and_loses_its_rank():
    found = experiment.by_depth("plain", "none", seeds=3)
    assert (found.rank[:, -1] < 0.5 * found.rank[:, 0]).all()
    assert abs(found.cosine[:, -1]).max() < 0.2  # as many images on one side of 0 as on the other


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="got 'group' and 'ReLU'"):
        experiment.by_depth.func("group")
    with pytest.raises(ValueError, match=r"architecture: expected one of .*got 'skips'"):
        experiment.gradients_by_depth("skips")


def test_gradients_are_those_that_arrive_at_each_layers_input():
    """Layer by layer, by the chain rule written out: He's plain layers."""
    rng = experiment.torch_rng(0)
    x = torch.randn(experiment.BATCH, experiment.WIDE, generator=rng)
    layers = []
    for _ in range(experiment.LAYERS):
        weight = experiment.initialized(nn.Linear(experiment.WIDE, experiment.WIDE, bias=False), "he", rng).weight
        z = x @ weight.T
        layers.append((weight.detach(), (z > 0).detach()))
        x = torch.relu(z)
    gradient, lengths = torch.randn(x.shape, generator=rng), []
    for weight, active in reversed(layers):
        gradient = (gradient * active) @ weight
        lengths.append(gradient.norm().item())
    lengths = np.array(lengths[::-1])
    assert experiment.gradients_by_depth("plain", seeds=1)[0] == pytest.approx(lengths / lengths[-1], rel=1e-3)


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_a_boundary_cuts_where_points_lie_on_both_sides(offset):
    x = experiment.two_moons(offset)
    assert x.mean(0).tolist() == pytest.approx([offset, -offset], abs=1e-5)
    for norm in ("plain", "bn"):
        found = experiment.boundaries(norm, offset)
        side = torch.sign(x @ found.weight.T + found.bias)
        assert torch.equal(found.cuts, side.abs().sum(0) > side.sum(0).abs())
        assert 1 <= found.patterns <= experiment.POINTS
    centre = x.mean(0) @ found.weight.T + found.bias
    assert centre.abs().max() < 1e-5  # BN's lines go through the middle of the data


def test_saturation_is_measured_on_what_enters_the_sigmoids():
    (run,) = experiment.saturation.func("plain", "a larger start", seeds=1)
    settings = experiment.Settings(**{**vars(experiment.SIGMOIDS), "init": 0.5})
    layers, _ = trace(settings.network(0), settings.task().x_train[:500])
    first = torch.sigmoid(layers[0].preactivation)
    assert run.slope[0, 0] == pytest.approx((4 * first * (1 - first)).mean().item(), rel=1e-5)
    assert run.flat[0, 0] == pytest.approx((layers[0].preactivation.abs() > 4).float().mean().item(), rel=1e-5)
    assert 4 * (s := 1 / (1 + math.exp(-experiment.FLAT))) * (1 - s) < 0.1


def test_a_turn_is_the_angle_between_the_weights_before_a_step_and_after_it():
    lr, decay = 1.0, 0.006
    (run,) = experiment.turning.func(lr, lr * decay, seeds=1)
    settings = replace(experiment.DECAYING, lr=lr, weight_decay=decay, steps=10)
    weights = [update.net[3].weight.detach().double().clone() for update in updates(settings, 0)]
    for look in (1, 2):
        before, after = weights[5 * look - 1].flatten(), weights[5 * look].flatten()
        cosine = torch.dot(before, after) / (before.norm() * after.norm())
        assert run.turn[look] == pytest.approx(torch.acos(cosine).item(), rel=0.02)
        assert run.rate[look] == pytest.approx(lr / after.square().sum().item(), rel=1e-4)


def test_at_the_balance_a_step_takes_from_the_length_what_decay_takes():
    product = 0.004
    length, turn = 3.0, experiment.balance(product)
    assert (length * turn) ** 2 == pytest.approx(2 * product * length**2)


def test_a_sigmoid_of_zero_weights_has_its_largest_slope():
    net = mlp([64, 8, 10], nonlinearity="sigmoid", init=1e-9)
    (layer,), _ = trace(net, torch.rand(5, 64))
    assert torch.sigmoid(layer.activation_input).sub(0.5).abs().max() < 1e-6
