"""What is looked at while networks train is what they compute, and looking changes nothing."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from utils.data import digits
from utils.networks import mlp, preactivations, vgg
from utils.observe import accuracy, observe, trace, unit_statistics
from utils.training import Settings, evenly_spaced, train_seeds, updates

SMALL = Settings("bn", depth=2, width=10, steps=6, lr=0.5)


@pytest.mark.parametrize("norm", ["plain", "bn", "noisy", "l1"])
def test_a_trace_holds_what_the_layers_hand_on(norm):
    rng = torch.Generator().manual_seed(0)
    net, x = mlp([64, 10, 8, 10], norm, "tanh", generator=rng), digits().x_train[:50]
    before = deepcopy(net.state_dict()), rng.get_state()
    layers, scores = trace(net, x)
    assert_close(layers[0].input, x)
    assert_close(layers[1].input, torch.tanh(layers[0].activation_input))
    for layer, wanted in zip(layers, preactivations(net, x), strict=False):
        assert_close(layer.preactivation, wanted)
    _, same = trace(net, x)
    assert_close(scores, same)  # the noise to come is the same
    assert torch.equal(rng.get_state(), before[1])
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[0][name]), name
    if norm == "plain":
        assert torch.equal(layers[1].activation_input, layers[1].preactivation)
    if norm == "bn":
        assert layers[1].activation_input.mean(0).abs().max() < 1e-5


def test_channels_of_images_are_units():
    layers, scores = trace(vgg(2, 4), torch.rand(5, 1, 14, 14))
    assert [tuple(layer.preactivation.shape) for layer in layers] == [(5, 4, 14, 14)] * 2
    mean, std = unit_statistics(layers[0].preactivation)
    values = layers[0].preactivation[:, 2].double().numpy()
    assert (mean[2], std[2]) == pytest.approx((values.mean(), values.std()))
    assert scores.shape == (5, 10)


def test_accuracy_is_that_of_evaluation_and_leaves_the_mode():
    net = mlp([64, 10, 10], "bn")
    x, y, *_ = digits()
    found = accuracy(net, x, y)
    assert net.training
    assert found == pytest.approx((net.eval()(x).argmax(1) == y).float().mean().item())


def test_steps_are_even_and_end_with_training():
    assert evenly_spaced(10, 4) == [0, 3, 7, 10]
    assert evenly_spaced(2, 9) == [0, 1, 2]
    with pytest.raises(ValueError, match="n: expected two or more, got 1"):
        evenly_spaced(10, 1)


def test_an_observer_sees_every_seed_at_the_steps_asked_for():
    found = observe(SMALL, 3, (0, 2, 6), lambda update: (update.net[0].weight.detach().clone().numpy(), update.loss))
    assert len(found) == 3
    for seed, (steps, weight, loss) in enumerate(found):
        alone = {update.step: update for update in updates(SMALL, seed) if update.step in (6,)}
        assert steps.tolist() == [0, 2, 6]
        assert weight.shape == (3, 10, 64) and loss.shape == (3,)
        assert_close(weight[-1], alone[6].net[0].weight.detach().numpy(), rtol=1e-4, atol=1e-4)
        assert_close(weight[0], SMALL.network(seed)[0].weight.detach().numpy())


def test_looking_changes_nothing_about_the_training():
    x = SMALL.task().x_train[:50]
    seen = observe(SMALL, 2, range(7), lambda update: (trace(update.net, x)[1].numpy(), update.loss))
    for (_, _, losses), run in zip(seen, train_seeds.func(SMALL, 2), strict=True):
        assert np.array_equal(losses[1:], run.loss)


def test_where_a_loss_is_not_finite_that_seeds_columns_end():
    wild = Settings(depth=10, nonlinearity="relu", init="he", lr=10.0, steps=20)
    for steps, loss in observe(wild, 3, range(21), lambda update: (update.loss,)):
        assert len(steps) < 21
        assert np.isfinite(loss).all()
