"""Drift is measured on the same images: known answers, brute force, and what BN gives by construction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from utils.data import digits
from utils.drift import (
    EDGES,
    PROBE,
    YARDSTICKS,
    Hidden,
    drift,
    hidden_values,
    inherited,
    jumps,
    look_twice,
    looks_at,
    size,
    steps_to,
    summary,
    typical,
    wander,
    watch_drift,
    watch_units,
)
from utils.networks import mlp, preactivations
from utils.training import Settings, one_thread, train, updates

SMALL = Settings(depth=2, width=12, lr=0.5, steps=12, nonlinearity="tanh")
BN = replace(SMALL, norm="bn")
watch, twice = watch_drift.func, look_twice.func  # the functions behind the disk


@one_thread()
def states(settings, seed=0):
    """The hidden values on the probe after every update, computed apart."""
    probe = digits().x_train[:PROBE]
    return [hidden_values(update.net, probe) for update in updates(settings, seed)]


@pytest.mark.parametrize("norm", ["plain", "bn", "torch"])
def test_hidden_values_are_those_of_a_forward_pass(norm):
    net, x = mlp([6, 5, 4, 3], norm, "tanh"), torch.randn(20, 6)
    seen = {}
    for i, layer in enumerate(net):
        layer.register_forward_hook(lambda _, inputs, output, i=i: seen.update({i: (inputs[0], output)}))
    layers = hidden_values(net, x)
    expected = dict(seen)
    linear = [i for i, layer in enumerate(net) if isinstance(layer, nn.Linear)]
    bends = [i for i, layer in enumerate(net) if isinstance(layer, nn.Tanh)]
    assert len(layers) == 2
    for layer, i, j in zip(layers, linear, bends, strict=False):
        assert_close(layer.u, expected[i][0])
        assert_close(layer.before, expected[i][1])
        assert_close(layer.entering, expected[j][0])
    for layer, wu in zip(layers, preactivations(net, x), strict=False):
        assert_close(layer.before, wu)


def test_looking_leaves_the_running_statistics_alone():
    net = mlp([4, 8, 3], "bn")
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    hidden_values(net, torch.randn(9, 4))
    for name, buffer in net.named_buffers():
        assert_close(buffer, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("settings", [SMALL, BN])
def test_looking_does_not_change_the_training(settings):
    seen, run = watch(settings, 3, looks=5, test_every=1), train.func(replace(settings, looks=13), 3)
    assert np.array_equal(seen.test_accuracy, run.test_accuracy)
    assert seen.tested.tolist() == list(range(13))


def test_statistics_are_those_of_numpy_unit_by_unit():
    chance = np.random.default_rng(0)
    before, entering = (torch.from_numpy(chance.normal(size=(37, 3)) * 4) for _ in range(2))
    mean, std, percentiles = summary([Hidden(before, before, entering)])
    for place, values in enumerate((before.numpy(), entering.numpy())):
        assert np.allclose(mean[place, 0], values.mean(0))
        assert np.allclose(std[place, 0], values.std(0))
        assert np.allclose(percentiles[place, 0], np.percentile(values, (15, 50, 85), axis=0))


@pytest.mark.parametrize("settings", [SMALL, BN])
def test_histograms_are_those_of_numpy(settings):
    units = (1, 4)
    counts, layers = watch_units.func(settings, 0, units, looks=4), states(settings)
    for look, step in enumerate((0, 4, 8, 12)):
        for layer, unit in enumerate(units):
            for place, values in enumerate((layers[step][layer].before, layers[step][layer].entering)):
                inside = values[:, unit].numpy().clip(EDGES[0], EDGES[-1] - 1e-6)
                assert np.array_equal(counts[place, look, layer], np.histogram(inside, EDGES)[0])


@pytest.mark.parametrize("settings", [SMALL, BN])
def test_a_run_holds_what_brute_force_finds(settings):
    seen, layers = watch(settings, 0, looks=4), states(settings)
    assert seen.looked.tolist() == [0, 4, 8, 12]
    for look, step in enumerate(seen.looked):
        for layer in range(2):
            then, now = layers[max(step - 1, 0)][layer], layers[step][layer]
            assert np.allclose(seen.mean[0, look, layer], now.before.mean(0), atol=1e-5)
            assert np.allclose(seen.mean[1, look, layer], now.entering.mean(0), atol=1e-5)
            assert np.allclose(seen.std[0, look, layer], now.before.std(0, correction=0), atol=1e-5)
            assert np.allclose(seen.jump[look, layer], (now.before - then.before).mean(0), atol=1e-5)


def test_without_updates_nothing_drifts():
    seen = watch(replace(SMALL, lr=0.0), 0, looks=4)
    assert not drift(seen.mean[0], seen.std[0]).any()
    assert not seen.jump.any()
    assert not seen.inherited.any()
    assert not wander(seen).any()


def test_the_first_layer_inherits_nothing_and_yet_moves():
    seen = watch(SMALL, 0, looks=3)
    assert not seen.inherited[:, :, 0].any()
    assert (np.abs(seen.mean[0, -1, 0] - seen.mean[0, 0, 0]) > 0).all()
    assert np.abs(seen.inherited[:, -1, 1]).min(0).max() > 0


def test_all_is_inherited_where_only_the_layers_before_are_trained():
    net, x = mlp([6, 4, 4, 3], "plain", "tanh").double(), torch.randn(30, 6).double()
    then = hidden_values(net, x)
    with torch.no_grad():
        net[0].weight.add_(0.3)
        net[0].bias.sub_(0.1)
    now = hidden_values(net, x)
    moved = (now[1].before - then[1].before).mean(0)
    parts = inherited(net, [layer.u for layer in then], [layer.u for layer in now])
    assert not parts[0].any()
    assert np.allclose(parts[1], moved, rtol=0, atol=1e-12)
    assert moved.any()


def test_nothing_is_inherited_where_only_the_layer_itself_is_trained():
    net, x = mlp([6, 4, 4, 3], "plain", "tanh"), torch.randn(30, 6)
    then = hidden_values(net, x)
    with torch.no_grad():
        net[2].bias.add_(0.3)
    now = hidden_values(net, x)
    assert not inherited(net, [layer.u for layer in then], [layer.u for layer in now])[1].any()
    assert_close((now[1].before - then[1].before).mean(0), torch.full((4,), 0.3))


def test_what_bn_hands_on_has_mean_beta_and_width_gamma_by_construction():
    settings = replace(BN, lr=3.0)
    seen, run = watch(settings, 0, looks=3), train.func(replace(settings, looks=3), 0)
    for layer in range(2):
        assert np.allclose(seen.mean[1, :, layer], run.beta[layer], atol=1e-5)
        assert np.allclose(seen.std[1, :, layer], np.abs(run.gamma[layer]), rtol=1e-2)


def test_the_three_yardsticks():
    mean, std = np.array([[1.0], [4.0]]), np.array([[2.0], [6.0]])
    assert [drift(mean, std, way)[-1, 0] for way in YARDSTICKS] == [3.0, 1.5, 0.5]
    with pytest.raises(ValueError, match="yardstick: expected one of"):
        drift(mean, std, "inches")


def test_jumps_are_of_one_update_and_in_the_same_yardsticks():
    seen = watch(SMALL, 0, looks=4)
    widths = {"as it is": 1.0, "width at the start": seen.std[0][:1], "width now": seen.std[0]}
    for way in YARDSTICKS:
        assert np.allclose(jumps(seen, way), np.abs(seen.jump) / widths[way])
    every = watch(SMALL, 0, looks=13)  # after every update: the jumps add up to the drift
    assert np.allclose(every.jump.sum(0), every.mean[0][-1] - every.mean[0][0], atol=1e-5)


def test_typical_takes_the_median_and_the_ends():
    scores = np.array([5.0, 1.0, 3.0, 9.0, 7.0])
    assert [typical(scores, rank) for rank in (0.0, 0.5, 1.0)] == [1, 0, 3]


def test_steps_to_a_goal():
    looked, accuracy = np.array([0, 5, 10]), np.array([0.1, 0.5, 0.9])
    assert [steps_to(looked, accuracy, goal) for goal in (0.1, 0.5, 0.6)] == [0, 5, 10]
    assert steps_to(looked, accuracy, 0.95) == np.inf


def test_noise_gives_way_to_more_images_and_drift_does_not():
    seen = twice(replace(SMALL, width=50, steps=10), 0, start=2, waits=(0, 8), batch_sizes=(4, 400), pairs=200)
    noise, moved = size(seen.between_batches), size(seen.between_moments)
    assert noise[0] == pytest.approx(np.sqrt(2 / 4), rel=0.2)
    assert noise[1] == pytest.approx(np.sqrt(2 / 400), rel=0.2)
    assert not moved[0].any()  # no update between the looks
    assert moved[1, 0] == pytest.approx(moved[1, 1], rel=0.3)
    assert np.allclose(seen.both[0], seen.between_batches)
    assert size(seen.both)[1, 0] == pytest.approx(np.hypot(noise[0], moved[1, 0]), rel=0.3)


def test_looks_are_spread_over_the_training():
    assert looks_at(10, 3) == [0, 5, 10]
    assert looks_at(2, 9) == [0, 1, 2]
    with pytest.raises(ValueError, match="looks: expected two or more"):
        watch(SMALL, 0, looks=1)


def test_a_divergence_ends_the_looks():
    seen = watch(Settings(depth=10, nonlinearity="relu", init="he", lr=10.0, steps=50), 0, looks=51)
    assert 1 <= len(seen.looked) < 51
    assert np.isfinite(seen.mean).all()


def test_the_number_of_threads_is_left_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        watch(replace(SMALL, steps=1), 0, looks=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
