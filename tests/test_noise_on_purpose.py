"""Noise on purpose: what is measured of noisy networks has known answers, and the construction does what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from utils.batchnorm import BatchNorm1d
from utils.experiments import noise_on_purpose as experiment
from utils.experiments.internal_covariate_shift import Yardstick
from utils.experiments.noise_on_purpose import (
    DEEP,
    GUESSING,
    MODES,
    NETWORKS,
    PERSISTENT,
    PLACES,
    RATES,
    TWIN,
    accuracy_curves,
    area,
    curves,
    distances_between,
    evaluate,
    retained_gain,
    two_draws,
    watch,
)
from utils.networks import LINEAR
from utils.norms import PAPER_DEFAULTS, Noise, PersistentNoisyBatchNorm1d, Recipe
from utils.observe import trace
from utils.training import Settings, train, trained_seeds, updates

SMALL = Settings("noisy", depth=3, width=8, nonlinearity="relu", lr=0.2, batch_size=16, steps=6, n_evals=3)
watch, best_rate = watch.func, experiment.best_rate.func  # the functions behind the disk
NORMS = ("plain", "bn", "noisy", "noisy plain", PERSISTENT)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- arms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_all_arms_have_the_same_first_weights(norm):
    nets = [replace(SMALL, norm=each).network(1) for each in ("plain", norm)]
    for one, other in zip(*([m for m in net if isinstance(m, LINEAR)] for net in nets), strict=True):
        assert_close(one.weight, other.weight, rtol=0, atol=0)


@pytest.mark.parametrize("norm", TWIN)
def test_without_noise_a_noisy_arm_is_its_twin(norm):
    silent = accuracy_curves(replace(SMALL, norm=norm, noise=PAPER_DEFAULTS.scaled(0)), 2)
    assert silent == pytest.approx(accuracy_curves(replace(SMALL, norm=TWIN[norm]), 2), abs=1 / 16)


def test_noise_on_the_last_layer_only():
    settings = replace(SMALL, noise_on="the last")
    strengths = [module.recipe.shift for module in settings.network(0).modules() if isinstance(module, Noise)]
    assert strengths == [0, 0, 0.5]


def test_an_arm_has_the_rate_of_its_twin_but_for_persistent_noise_in_the_deep_net(monkeypatch):
    monkeypatch.setattr(
        experiment, "best_rate", lambda settings: {"plain": 1.0, "bn": 2.0, PERSISTENT: 3.0}[settings.norm]
    )
    rates = {norm: experiment.arm(norm, "tanh, 10 layers").lr for norm in NORMS}
    assert rates == {"plain": 1.0, "bn": 2.0, "noisy": 2.0, "noisy plain": 1.0, PERSISTENT: 2.0}
    assert experiment.arm(PERSISTENT, DEEP).lr == 3.0
    assert all(each.inputs == "standardized" for each in NETWORKS.values())


def test_the_best_rate_is_chosen_on_validation_data(monkeypatch):
    seen = []

    def train_seeds(settings, seeds):
        seen.append((settings.lr, settings.validation, seeds))
        return [train(replace(settings, lr=0.0 if settings.lr != 0.1 else 0.5, norm="bn", steps=20), 0)] * seeds

    monkeypatch.setattr(experiment, "train_seeds", train_seeds)
    assert best_rate(replace(SMALL, steps=20), 2) == 0.1
    assert seen == [(lr, True, 2) for lr in RATES]


# --- one run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_watched_is_the_plain_loop(norm):
    """An independent reference: one network alone, its layers walked by hand."""
    settings = replace(SMALL, norm=norm)
    run = watch(settings, 2)[1]
    assert run.accuracy == pytest.approx(train(settings, 1).accuracy, abs=1 / 16)
    probe, units = settings.task().x_train[: experiment.PROBE], {}
    for update in updates(settings, 1):
        layers, _ = trace(update.net, probe)
        values = [layer.activation_input[-len(probe) :].double().numpy() for layer in layers]
        units[update.step] = np.array([each.mean(0) for each in values]), np.array([each.std(0) for each in values])
    far = np.mean([np.abs(units[step][0] - units[step - 1][0]).mean(1) for step in (3, 6)], 0)
    assert np.allclose(run.jump["absolute"], far, atol=1e-4)
    drift, std = np.abs(units[6][0] - units[0][0]).mean(1), units[6][1].mean(1)
    assert np.allclose(run.drift["absolute"], drift, atol=1e-4)
    assert np.allclose(run.drift["current std"], drift / std, rtol=1e-2, atol=1e-4)


def test_noise_is_fresh_at_each_look_and_the_same_for_all_who_look_again():
    still = replace(SMALL, lr=0.0, norm="noisy")
    one, again = (watch(still, 1)[0] for _ in range(2))
    assert one.jump[Yardstick.ABSOLUTE].min() > 0.1  # the weights stand still: it is the noise
    assert one.jump[Yardstick.ABSOLUTE].tolist() == again.jump[Yardstick.ABSOLUTE].tolist()
    assert watch(replace(still, norm="bn"), 1)[0].jump[Yardstick.ABSOLUTE].max() < 1e-6


def test_on_images_a_unit_is_a_channel():
    settings = Settings(
        "noisy", data="fashion", depth=2, width=4, nonlinearity="relu", steps=2, batch_size=8, n_evals=2
    )
    run = watch(settings, 1)[0]
    assert run.jump["absolute"].shape == (2,)
    assert run.draws["after training"]["batch mean"]["after the next norm"] == pytest.approx(0, abs=1e-4)


def test_a_diverged_network_counts_as_guessing():
    wild = replace(SMALL, norm="noisy plain", noise=PAPER_DEFAULTS.scaled(1e10))  # overflows at an update
    run = watch(wild, 2)[0]
    assert run.accuracy[-3:].tolist() == [GUESSING] * 3 and len(run.accuracy) == wild.steps
    assert run.test_accuracy == dict.fromkeys(MODES, GUESSING)
    assert np.isnan(run.jump["absolute"]).all()
    assert np.isnan(run.draws["after training"]["batch mean"]["noisy output"]).all()
    assert accuracy_curves(wild, 2).shape == (2, wild.steps)


# --- two draws -------------------------------------------------------------------------------------------------------


def test_distances_have_known_answers():
    x = torch.tensor([[-1.0, 0.0], [1.0, 6.0]])  # widths 1 and 3, on average 2
    assert distances_between(x, x + torch.tensor([1.0, 3.0])) == {"batch mean": 1.0, "single values": 1.0}
    assert distances_between(x, x + torch.tensor([[1.0], [-1.0]])) == {"batch mean": 0.0, "single values": 0.5}


def test_the_next_norm_takes_out_the_shared_shift_exactly_and_nothing_else():
    x = torch.randn(200, 64, generator=seeded())
    found = {}
    for name, recipe in experiment.shifts(0.5).items():
        found[name] = two_draws(replace(SMALL, nonlinearity="none", noise=recipe).network(0), x)
    for places in found["shared"].values():
        assert (places["noisy output"] > 0.01).all() and (places["next preactivation"] > 0.01).all()
        assert places["after the next norm"] == pytest.approx(0, abs=1e-4)  # nothing bends it into single values
    assert (found["each its own"]["single values"]["after the next norm"] > 0.1).all()


def test_where_noise_persists_the_next_norm_takes_out_nothing():
    x = torch.randn(200, 64, generator=seeded())
    found = {norm: two_draws(replace(SMALL, norm=norm).network(0), x)["batch mean"] for norm in ("noisy", PERSISTENT)}
    assert (found["noisy"]["after the next norm"] < 1e-5).all()
    assert (found[PERSISTENT]["after the next norm"] > 0.05).all()
    assert_close(found["noisy"]["noisy output"][0], found[PERSISTENT]["noisy output"][0])  # the same noise
    assert two_draws(replace(SMALL, norm="bn").network(0), x) == {}


def test_a_norm_that_sees_the_noise_is_noticed(monkeypatch):
    """Planted: the noisy half is normalised by its own statistics, and nothing persists."""

    def forward(layer, x):
        if not layer.training:
            return BatchNorm1d.forward(layer, x)
        clean, other = x.chunk(2)
        return torch.cat(
            [BatchNorm1d.forward(layer, clean), layer.noise(F.batch_norm(other, None, None, training=True))]
        )

    monkeypatch.setattr(PersistentNoisyBatchNorm1d, "forward", forward)
    with pytest.raises(AssertionError):
        test_where_noise_persists_the_next_norm_takes_out_nothing()


@pytest.mark.parametrize("norm", ["noisy", "noisy plain", PERSISTENT])
def test_looking_leaves_the_network_as_it_was(norm):
    net, task = replace(SMALL, norm=norm).network(0), SMALL.task()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator = next(module.generator for module in net.modules() if isinstance(module, Noise))
    state = generator.get_state()
    two_draws(net, task.x_train[:50])
    evaluate(net, task.x_train[:50], task.x_test, task.y_test)
    assert torch.equal(generator.get_state(), state) and net.training
    assert not any(
        module.in_evaluation or module._forward_hooks for module in net.modules() if isinstance(module, Noise)
    )
    for name, value in net.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=0)


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_the_ways_of_evaluation():
    settings, task = replace(SMALL, steps=60), SMALL.task()
    bn, noisy = (
        [evaluate(net, task.x_train[:500], task.x_test, task.y_test) for net in trained_seeds(each, 3)]
        for each in (replace(settings, norm="bn"), settings)
    )
    assert all(found["noise off"] == found["noise on"] for found in bn)  # BN has no noise to leave on
    assert any(found["noise off"] != found["noise on"] for found in noisy)
    assert all(0.1 <= value <= 1 for found in (*bn, *noisy) for value in found.values())


def test_recalibrated_statistics_are_those_of_clean_training_images():
    settings, task = replace(SMALL, steps=60), SMALL.task()
    (net, *_) = trained_seeds(settings, 2)
    images, x = task.x_train[:500], task.x_test
    linear = [module for module in net if isinstance(module, LINEAR)]
    norms = [module for module in net if hasattr(module, "running_mean")]
    for layer, norm in zip(linear, norms, strict=False):  # by hand, layer by layer, without noise
        before, now = images @ layer.weight.T, x @ layer.weight.T
        mean, scale = before.mean(0), norm.weight / (before.var(0, correction=0) + 1e-5).sqrt()
        images, x = (F.relu((each - mean) * scale + norm.bias) for each in (before, now))
    right = (linear[-1](x).argmax(1) == task.y_test).float().mean().item()
    found = evaluate(net, task.x_train[:500], task.x_test, task.y_test)["recalibrated"]
    assert found == pytest.approx(right, abs=2.5 / len(x))  # two images may lie between two classes


# --- what the runs say -----------------------------------------------------------------------------------------------


def test_the_gain_that_is_retained():
    plain, bn = np.array([0.1, 0.2]), np.array([0.9, 0.7])
    assert retained_gain(plain, bn, bn).tolist() == [1.0, 1.0]
    assert retained_gain(plain, bn, plain).tolist() == [0.0, 0.0]
    assert retained_gain(plain, bn, np.array([0.0, 0.1]))[0] == pytest.approx(-0.125)
    assert retained_gain(plain, np.array([0.9, 0.24]), bn) is None  # one seed without a clear gain


@pytest.fixture
def small(monkeypatch):
    """The subject's evidence on small networks."""
    networks = {name: replace(SMALL, norm="plain", nonlinearity=each.nonlinearity) for name, each in NETWORKS.items()}
    for name, value in {
        "NETWORKS": networks, "NETWORK": networks[DEEP], "SEEDS": 2, "best_rate": lambda settings: 0.2,
    }.items():  # fmt: skip
        monkeypatch.setattr(experiment, name, value)


def test_evidence_comes_by_name_with_one_value_a_seed(small):
    races = experiment.race_in("tanh, 10 layers")
    assert list(races) == list(NORMS)
    assert curves(races["noisy"]).shape == (2, SMALL.steps)
    places = experiment.between_draws(races["noisy"], "single values", "after training")
    assert {place: each.shape for place, each in places.items()} == dict.fromkeys(PLACES, (2, 2))
    for found in (
        experiment.areas_in(DEEP),
        experiment.displacement_ratios("drift", Yardstick.CURRENT_STD),
        experiment.after_next_norm("batch mean"),
        experiment.accuracy_by_mode(races["bn"]),
    ):
        assert all(each.shape == (2,) for each in found.values())


def test_a_race_without_noise_has_two_curves_and_parts_are_named(small):
    race = experiment.race_at(0.2, 0.0)
    assert (race["noisy"] == race["bn"]).all() and (race["noisy plain"] == race["plain"]).all()
    stronger = experiment.race_at(0.2, 4.0)
    assert (stronger["bn"] == race["bn"]).all() and (stronger["noisy"] != race["noisy"]).any()
    both = experiment.race_with({"shift": Recipe(0.5, 0.0, 0.0, 0.0)})
    assert {norm: area(each).shape for norm, each in both["shift"].items()} == {"noisy": (2,), PERSISTENT: (2,)}
