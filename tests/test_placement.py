"""The evidence of "Before or after the nonlinearity", against what is written out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils.batchnorm import BatchNorm1d
from utils.experiments import placement as experiment
from utils.experiments.placement import AFTER, BEFORE, NETWORKS, RATES
from utils.networks import mlp
from utils.training import train_seeds

NETWORK = "ReLU, 3 layers"


@pytest.fixture
def curves(monkeypatch):
    """Curves that are straight over the logarithm of the rate, of two seeds; after is before at twice the rate."""
    logs = np.log(RATES)

    def pretend(network):
        before = np.stack([0.1 * logs, 0.2 * logs], 1)
        after = np.stack([0.1 * (logs + np.log(2)), 0.2 * (logs + np.log(2))], 1)
        return {"plain": 0 * before, BEFORE: before, AFTER: after}

    monkeypatch.setattr(experiment, "areas", pretend)


def test_after_is_after_and_keeps_its_bias():
    kinds = [type(module) for module in experiment.settings(NETWORK, AFTER, 0.1).network(0)[:3]]
    assert kinds == [nn.Linear, nn.ReLU, BatchNorm1d]
    before, after = (experiment.settings(NETWORK, arm, 0.1).network(0)[0] for arm in (BEFORE, AFTER))
    assert before.bias is None
    assert after.bias is not None


def test_a_shift_of_the_rate_is_found_again(curves):
    assert experiment.rate_shift(NETWORK) == pytest.approx([2.0, 2.0])
    assert experiment.apart(NETWORK, 2.0) == pytest.approx(0.0, abs=1e-12)
    assert experiment.apart(NETWORK, 1.0) == pytest.approx(0.15 * np.log(2))


def test_gains_are_differences_at_equal_rates(curves):
    (gain,) = experiment.gains(NETWORK, (0.3,)).values()
    assert gain == pytest.approx(np.log(2) * np.array([0.1, 0.2]))


def test_rates_are_chosen_on_digits_set_aside(monkeypatch):
    asked = {}

    def pretend(arms):
        asked.update(arms)
        small = {key: replace(each, steps=2, width=8, lr=key[1] / 100) for key, each in arms.items()}
        return {key: train_seeds.func(each, 2) for key, each in small.items()}

    monkeypatch.setattr(experiment, "train_all", pretend)
    found = experiment.validated.__wrapped__(NETWORK)
    assert all(settings.validation for settings in asked.values())
    assert {arm: len(each) for arm, each in found.items()} == dict.fromkeys(experiment.ARMS, len(RATES))


def test_only_what_scales_with_its_input_forgets_the_length_when_bn_comes_after():
    changes = experiment.scaling_changes(seeds=2)
    kept = [case for case, each in changes.items() if each.max() < 1e-9]
    assert kept == ["relu, before", "relu, after", "tanh, before", "sigmoid, before"]


def test_layers_are_scaled_as_by_hand():
    found = experiment.scaled("tanh", 3.0, units=2)
    x = NETWORKS[NETWORK].task().x_train.double()
    weight = torch.randn(2, 64, generator=experiment.torch_rng(0)).double() / 8
    y = torch.tanh(3 * x @ weight.T)
    torch.testing.assert_close(found.after, (y - y.mean(0)) / y.std(0, correction=0))
    z = x @ weight.T
    torch.testing.assert_close(found.before, torch.tanh((z - z.mean(0)) / z.std(0, correction=0)))


def test_outputs_at_the_ends_are_counted():
    net = nn.Sequential(nn.Identity(), nn.Tanh(), nn.Identity(), nn.Sigmoid())
    x = torch.tensor([[0.0, 10.0, -10.0, 1.0]])
    assert experiment._at_the_ends(net, x) == pytest.approx((0.5 + 0.0) / 2)


def test_it_folds_into_the_next_layer_and_not_with_padding():
    assert experiment.folding_errors(seeds=2).max() < 1e-12
    net = mlp([8, 6, 3], "bn", "relu", placement="after").double()
    x = torch.randn(40, 8).double()
    net(x)
    linear, relu, norm, last = net.eval()
    weight, bias = experiment.folded_into_next(last, norm)
    torch.testing.assert_close(F.linear(relu(linear(x)), weight, bias), net(x))


def test_a_padded_convolution_cannot_take_it_exactly():
    """Zeros that are padded behind the norm are not its normalised zeros: the page warns of the border."""
    conv, norm = nn.Conv2d(2, 1, 3, padding=1).double(), nn.BatchNorm2d(2).double()
    norm(3 * torch.rand(8, 2, 6, 6).double() + 1)
    x = torch.rand(1, 2, 6, 6).double()
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = conv.weight * factor[:, None, None]
    shift = norm.bias - factor * norm.running_mean
    bias = conv.bias + (conv.weight.sum((2, 3)) * shift).sum(1)
    difference = (F.conv2d(x, weight, bias, padding=1) - conv(norm.eval()(x))).abs()[0, 0]
    assert difference[1:-1, 1:-1].max() < 1e-12
    assert difference.max() > 1e-3


def test_zeros_are_kept_before_and_gone_after():
    zeros = experiment.exact_zeros(seeds=2)
    assert (np.abs(zeros[BEFORE] - 0.5) < 0.1).all()
    assert not zeros[AFTER].any()
