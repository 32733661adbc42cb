"""The evidence of "Take it apart", against what is written out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from utils.batchnorm import BatchNorm1d
from utils.experiments import interventions as experiment
from utils.networks import mlp, preserve_state
from utils.norms import PartialNorm
from utils.training import updates

X = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
G = torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def backward(layer):
    x = X.clone().requires_grad_()
    layer.double()(x).backward(G)
    return x.grad


def test_held_statistics_leave_the_forward_pass_and_take_their_part_out_of_the_backward_pass():
    sigma = torch.sqrt(X.var(0, correction=0) + 1e-5)
    x_hat = (X - X.mean(0)) / sigma
    shared, along = G.mean(0), x_hat * (G * x_hat).mean(0)
    for held, expected in (
        ((), G - shared - along),
        (["var"], G - shared),
        (["mean"], G - along),
        (["mean", "var"], G),
    ):
        layer = PartialNorm(5, held=held)
        assert_close(layer.double()(X), BatchNorm1d(5).double()(X))
        assert_close(backward(layer), expected / sigma)


def test_a_part_alone_is_what_it_says_in_training_and_in_evaluation():
    centre, scale = PartialNorm(5, scale=False).double(), PartialNorm(5, centre=False).double()
    assert_close(centre(X), X - X.mean(0))
    assert_close(scale(X), X / torch.sqrt(X.var(0, correction=0) + 1e-5))
    assert_close(centre.running_mean, 0.1 * X.mean(0))
    assert_close(scale.running_var, 0.9 + 0.1 * X.var(0))
    assert_close(centre.eval()(X), X - centre.running_mean)


@pytest.mark.parametrize("norm", ["plain", "bn"])
def test_the_hessian_is_that_of_differences_of_the_gradient(norm):
    net = mlp([3, 4, 4, 3], norm, "tanh", generator=torch.Generator().manual_seed(0)).double()
    x, y = X[:, :3], torch.arange(12) % 3
    found = experiment.hessian(net, x, y)
    parameters = list(net.parameters())

    def gradient():
        with preserve_state(net):
            parts = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
        return torch.cat([part.flatten() for part in parts])

    rows, h = [], 1e-5
    for parameter in parameters:
        for i in range(parameter.numel()):
            sides = []
            for sign in (1, -1):
                parameter.data.view(-1)[i] += sign * h
                sides.append(gradient())
                parameter.data.view(-1)[i] -= sign * h
            rows.append((sides[0] - sides[1]) / (2 * h))
    assert_close(found, torch.stack(rows), rtol=1e-4, atol=1e-7)


def test_a_hessian_leaves_the_network_as_it_was():
    net = experiment.SMALL_NET.network(seed=0)
    before = [value.clone() for value in net.state_dict().values()]
    experiment.hessian(net, torch.rand(20, 64), torch.arange(20) % 10)
    assert all(torch.equal(now, then) for now, then in zip(net.state_dict().values(), before, strict=True))
    assert net.training and next(net.parameters()).dtype == torch.float32


def test_with_held_statistics_a_network_has_the_hessian_of_evaluation_with_the_batchs_statistics():
    net = replace(experiment.SMALL_NET, norm="bn", width=6, depth=2).network(seed=0).double()
    x, y = (each[:40] for each in experiment.SMALL_NET.task()[:2])
    held = replace(experiment.SMALL_NET, norm="bn, both held", width=6, depth=2).network(seed=0).double()
    evaluated = mlp([64, 6, 6, 10], "plain", "relu", generator=torch.Generator().manual_seed(0))
    layers, now = [], x.double()
    for layer in net:  # statistics of this very batch as constants: an affine map
        if isinstance(layer, BatchNorm1d):
            mean, var = now.mean(0).detach(), now.var(0, correction=0).detach()
            layers.append(Affine(mean, torch.sqrt(var + layer.eps)))
        else:
            layers.append(layer)
        now = layers[-1](now)
    evaluated = nn.Sequential(*layers)
    assert_close(experiment.hessian(held, x, y), experiment.hessian(evaluated, x, y))


class Affine(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones_like(mean)), nn.Parameter(torch.zeros_like(mean))
        self.mean, self.std = mean, std

    def forward(self, x):
        return (x - self.mean) / self.std * self.weight + self.bias


@pytest.mark.parametrize("sign", [1, -1])
def test_the_sharpness_is_the_largest_eigenvalue_even_where_a_negative_one_is_larger_in_size(monkeypatch, sign):
    matrix = torch.diag(torch.tensor([sign * 5.0, 2.0, -1.0]))
    net = nn.Linear(1, 2)  # its three parameters make a quadratic form
    net.bias = nn.Parameter(torch.zeros(1))

    def loss(_, __):
        w = torch.cat([each.flatten() for each in net.parameters()])
        return w @ matrix @ w / 2

    monkeypatch.setattr(experiment.F, "cross_entropy", loss)
    monkeypatch.setattr(net, "forward", lambda x: x)
    assert experiment.sharpness(net, X, X, powers=200) == pytest.approx(5.0 if sign == 1 else 2.0, rel=1e-3)


def test_a_share_is_removed_of_the_gain(monkeypatch):
    known = {"plain": np.array([0.4, 0.6]), "bn": np.array([0.9, 0.9])}

    def areas(network, norm, lr, seeds, **changed):
        return known.get(norm, np.array([0.7, 0.5]))

    monkeypatch.setattr(experiment, "areas", areas)
    found = experiment.removed(0.3, seeds=2)
    assert found["no centring"].tolist() == pytest.approx([0.2 / 0.4, 0.4 / 0.4])
    assert found["weights' lengths held"].tolist() == [0, 0]


def test_every_intervention_trains_and_is_one_change():
    for name, how in experiment.INTERVENTIONS.items():
        settings = replace(experiment.RELU, depth=2, steps=1, **how)
        assert len(list(updates(settings, 0))) == 2, name
        assert len(how) == 1 or how == {"norm": "bn", "fixed_lengths": True}
