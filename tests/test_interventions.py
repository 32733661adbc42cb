"""The evidence of "Take it apart", against what is written out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from utils.batchnorm import BatchNorm1d
from utils.experiments import drift
from utils.experiments import interventions as experiment
from utils.networks import mlp, preserve_state
from utils.norms import PartialNorm
from utils.observe import trace
from utils.training import Settings, train_seeds, updates

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


# --- drift ------------------------------------------------------------------------------------------------------------

TINY = Settings(depth=2, width=6, nonlinearity="relu", steps=4, batch_size=20, lr=0.3)


def test_a_plain_network_is_followed_where_its_values_enter_the_nonlinearity():
    path = drift.follow(TINY, seeds=3)
    images = TINY.task().x_train[: drift.PROBE]
    for seed in range(3):
        for update in updates(TINY, seed):
            for layer, values in enumerate(trace(update.net, images)[0]):
                seen = torch.from_numpy(path.mean[update.step, layer, seed])
                assert_close(seen, values.activation_input.mean(0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("norm", ["plain", "bn"])
def test_what_moves_networks_side_by_side_is_a_layer_that_moves_one_alone(norm):
    settings = replace(TINY, norm=norm)
    shifts = torch.randn(settings.steps + 1, 2, 3, 6, generator=torch.Generator().manual_seed(0))
    path = drift.follow(settings, lambda made, layer, x: x + shifts[made, layer][:, None], seeds=3)
    for seed in range(3):
        assert path.accuracy[seed].tolist() == pytest.approx(accuracies_alone(settings, seed, shifts[:, :, seed]))


def accuracies_alone(settings, seed, shifts):
    made, accuracies = 0, []

    def hook(layer):
        return lambda _, x: x[0] + shifts[made, layer]

    for update in updates(settings, seed):
        if update.step == 0:
            for layer, relu in enumerate(module for module in update.net if isinstance(module, nn.ReLU)):
                relu.register_forward_pre_hook(hook(layer))
        else:
            accuracies.append(update.accuracy)
        made = update.step
    return accuracies


def test_nothing_is_changed_where_nothing_is_moved():
    bn = replace(TINY, norm="bn")
    assert drift.follow(bn, seeds=3).accuracy.tolist() == [run.accuracy.tolist() for run in train_seeds.func(bn, 3)]


def test_behind_bn_the_inputs_move_by_what_is_put_in_and_by_no_more():
    """With gamma 1 and beta 0: what a layer before was moved by does not add up."""
    shifts = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    bn = replace(TINY, norm="bn", steps=1, lr=0.0)
    path = drift.follow(bn, lambda made, layer, x: x + made * shifts[layer][:, None], seeds=3)
    assert_close(torch.from_numpy(path.mean[1] - path.mean[0]), shifts, rtol=0, atol=1e-5)


def test_what_stands_displaced_is_as_far_out_as_what_drifts():
    far = np.random.default_rng(0).normal(size=(101, 3, 10, 4)).cumsum(0)
    still = drift.put_back(far, drift.STILL)
    assert not np.ptp(still, axis=0).any()
    assert all(any((still[0, :, i] == row).all() for row in far[:, :, i]) for i in range(10))
    times = [next(t for t, row in enumerate(far[:, :, i]) if (still[0, :, i] == row).all()) for i in range(10)]
    assert np.diff(times).tolist() == pytest.approx([10] * 9, abs=1)


def test_the_slow_part_is_a_running_mean_and_the_last_layer_can_be_left_out():
    far = np.random.default_rng(0).normal(size=(101, 3, 10, 4)).cumsum(0)
    slow = drift.put_back(far, drift.SLOWLY)
    assert slow.shape == far.shape
    assert_close(slow[50], far[35:65].mean(0))
    inner = drift.put_back(far, drift.INNER)
    assert (inner[:, :-1] == far[:, :-1]).all() and not inner[:, -1].any()
    with pytest.raises(ValueError, match="inputs"):
        drift.put_back(far, "loudly")


def test_a_seed_that_diverges_stays_where_it_was():
    mean, width = np.arange(4.0).reshape(4, 1, 1, 1) * np.ones((4, 2, 2, 3)), np.ones((4, 2, 2, 3))
    mean[2:, 1, 0, 1] = np.nan
    far = drift.distances(drift.Path(mean, 2 * width, np.zeros((2, 3))), "ReLU, rate 0.1")
    assert far[:, 0, 0, 0].tolist() == [0, 0.5, 0.5, 0.5]
    assert far[:, 0, 1, 0].tolist() == [0, 0.5, 1, 1.5]
    assert drift.distances(drift.Path(mean, 2 * width, None), "sigmoid, Figure 1")[3, 0, 1, 0] == 3


def test_the_drift_is_there_again_and_beta_does_not_take_it_out():
    for network in drift.NETWORKS:
        assert drift.returned(network).mean() > 0.9
        assert drift.returned(network, drift.PLAIN_STILL).mean() < 1e-3
