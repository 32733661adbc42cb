"""Drift is measured on the same images: known answers, brute force, and what BN gives by construction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from utils.experiments import internal_covariate_shift as experiment
from utils.experiments.internal_covariate_shift import (
    EDGES,
    LEVELS,
    PLACES,
    PROBE,
    Yardstick,
    displacement,
    drift,
    drifts,
    from_below,
    jumps,
    look_twice,
    rms,
    share_from_below,
    summary,
    temporal_std,
    unit_at_rank,
    watch_drift,
    watch_units,
)
from utils.networks import mlp
from utils.observe import Layer, trace, unit_statistics
from utils.training import Settings, one_thread, train_seeds, updates, updates_together

SMALL = Settings(depth=2, width=12, lr=0.5, steps=12, nonlinearity="tanh")
BN = replace(SMALL, norm="bn")
IMAGES = Settings("bn", depth=3, width=4, nonlinearity="relu", data="fashion", steps=4, lr=0.1)
watch, twice = watch_drift.func, look_twice.func  # the functions behind the disk


@one_thread()
def states(settings, seeds=2):
    """The values on the probe after every update, of the last of the seeds, computed apart."""
    probe = settings.task().x_train[:PROBE]
    return [trace(moment.ensemble.nets[-1], probe)[0] for moment in updates_together(settings, seeds)]


def test_looking_does_not_change_the_training():
    for settings in (SMALL, BN):
        seen, runs = watch(settings, 3, 5), train_seeds.func(replace(settings, n_evals=5), 3)
        for one, run in zip(seen, runs, strict=True):
            assert np.array_equal(one.test_accuracy, run.test_accuracy)


def test_statistics_are_those_of_numpy_unit_by_unit():
    chance = np.random.default_rng(0)
    before, entering = (torch.from_numpy(chance.normal(size=(37, 3)) * 4) for _ in range(2))
    mean, std = summary([Layer(before, before, entering)])
    for place, values in enumerate((before.numpy(), entering.numpy())):
        assert np.allclose(mean[place, 0], values.mean(0))
        assert np.allclose(std[place, 0], values.std(0))


@pytest.mark.parametrize("settings", [SMALL, BN], ids=["plain", "bn"])
def test_a_run_holds_what_brute_force_finds(settings):
    seen, layers = watch(settings, 2, 4)[-1], states(settings)
    assert seen.eval_steps.tolist() == [0, 4, 8, 12]
    for look, step in enumerate(seen.eval_steps):
        for layer in range(2):
            then, now = layers[max(step - 1, 0)][layer], layers[step][layer]
            for place in PLACES:
                before, values = getattr(then, place), getattr(now, place)
                assert np.allclose(seen.mean[place][look, layer], values.mean(0), atol=1e-5)
                assert np.allclose(seen.std[place][look, layer], values.std(0, correction=0), atol=1e-5)
                assert np.allclose(seen.jump[place][look, layer], (values - before).mean(0), atol=1e-5)
            saturated = (now.activation_input.abs() > 4).float().mean()
            assert seen.saturated[look, layer] == pytest.approx(saturated)
        entering = layers[step][-1].activation_input.numpy()
        assert np.allclose(seen.percentiles[look], np.percentile(entering, LEVELS, axis=0), atol=1e-5)
    assert np.allclose(
        temporal_std(seen), np.std([np.median(layers[s][-1].activation_input, 0) for s in (0, 4, 8, 12)], 0)
    )


def test_images_are_looked_at_channel_by_channel():
    seen, layers = watch(IMAGES, 2, 3)[-1], states(IMAGES)
    assert seen.mean["preactivation"].shape == (3, 3, 8)
    values = layers[4][1].preactivation
    assert np.allclose(seen.mean["preactivation"][-1, 1, :4], values.mean((0, 2, 3)), atol=1e-5)
    assert np.isnan(seen.mean["preactivation"][:, :2, 4:]).all()  # four channels where another layer has eight
    assert np.isfinite(drifts([seen], Yardstick.ABSOLUTE)).all()
    assert np.isfinite(jumps([seen], Yardstick.CURRENT_STD, "activation_input")).all()
    assert not seen.from_below["initial weights"][0, :4].any()


@pytest.mark.parametrize("settings", [SMALL, BN], ids=["plain", "bn"])
def test_histograms_are_those_of_numpy(settings):
    units = (1, 4)
    steps = (0, 4, 8, 12)
    seen, layers = watch_units.func(settings, units, steps), states(settings, seeds=1)
    for look, step in enumerate(steps):
        for layer, unit in enumerate(units):
            for place in PLACES:
                inside = getattr(layers[step][layer], place)[:, unit].numpy().clip(EDGES[0], EDGES[-1] - 1e-6)
                assert np.array_equal(seen.counts[place][look, layer], np.histogram(inside, EDGES)[0])
                assert np.isclose(seen.mean[place][look, layer], getattr(layers[step][layer], place)[:, unit].mean())


def test_without_updates_nothing_drifts():
    seen = watch(replace(SMALL, lr=0.0), 2, 4)[0]
    assert not drift(seen.mean["preactivation"], seen.std["preactivation"]).any()
    assert not any(jump.any() for jump in seen.jump.values())
    assert not any(part.any() for part in seen.from_below.values())
    assert not temporal_std(seen).any()


def test_the_first_layer_inherits_nothing_and_yet_moves():
    seen = watch(SMALL, 2, 3)[0]
    mean = seen.mean["preactivation"]
    for part in seen.from_below.values():
        assert not part[0].any()
        assert np.abs(part[1]).max() > 0
    assert (np.abs(mean[-1, 0] - mean[0, 0]) > 0).all()


@pytest.mark.parametrize("images", [False, True], ids=["dense", "convolutional"])
def test_all_is_inherited_where_only_the_layers_below_are_trained(images):
    if images:
        net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 3, padding=1), nn.Tanh()).double()
        x = torch.randn(30, 1, 5, 5).double()
    else:
        net, x = mlp([6, 4, 4, 3], "plain", "tanh").double(), torch.randn(30, 6).double()
    then = trace(net, x)[0]
    with torch.no_grad():
        net[0].weight.add_(0.3)
        net[0].bias.sub_(0.1)
    now = trace(net, x)[0]
    moved = unit_statistics(now[1].preactivation)[0] - unit_statistics(then[1].preactivation)[0]
    parts = from_below(net, then, now)
    assert not parts[0, np.isfinite(parts[0])].any()
    assert np.allclose(parts[1][: len(moved)], moved, rtol=1e-5, atol=1e-7)  # in float32
    assert moved.any()


def test_nothing_is_inherited_where_only_the_layer_itself_is_trained():
    net, x = mlp([6, 4, 4, 3], "plain", "tanh"), torch.randn(30, 6)
    then = trace(net, x)[0]
    with torch.no_grad():
        net[2].bias.add_(0.3)
    now = trace(net, x)[0]
    assert not from_below(net, then, now)[1].any()
    assert_close((now[1].preactivation - then[1].preactivation).mean(0), torch.full((4,), 0.3))


def test_the_share_from_below_is_that_of_brute_force():
    first, *_, last = states(SMALL)
    weights = {}
    for moment in updates_together(SMALL, 2):
        weights.setdefault("initial weights", moment.ensemble.nets[-1][2].weight.detach().clone())
    weights["current weights"] = moment.ensemble.nets[-1][2].weight.detach()
    change = (last[1].input - first[1].input).mean(0)
    whole = (last[1].preactivation - first[1].preactivation).mean(0)
    for name, weight in weights.items():
        expected = float((weight @ change).norm() / whole.norm())
        assert share_from_below(watch(SMALL, 2, 3), name)[-1] == pytest.approx(expected, rel=1e-3)


def test_what_bn_hands_on_has_mean_beta_and_std_gamma_by_construction():
    settings = replace(BN, lr=3.0)
    seen, run = watch(settings, 2, 3)[0], train_seeds.func(replace(settings, n_evals=3), 2)[0]
    for layer in range(2):
        assert np.allclose(seen.mean["activation_input"][:, layer], run.beta[layer], atol=1e-5)
        assert np.allclose(seen.std["activation_input"][:, layer], np.abs(run.gamma[layer]), rtol=1e-2)
    assert max(errors.max() for errors in experiment.construction_errors(seeds=2, steps=5).values()) < 0.02


def test_the_three_yardsticks():
    mean, std = np.array([[1.0], [4.0]]), np.array([[2.0], [6.0]])
    assert [drift(mean, std, way)[-1, 0] for way in Yardstick] == [3.0, 1.5, 0.5]
    assert displacement(np.array([-3.0]), 2.0, 6.0, "initial std").item() == 1.5
    with pytest.raises(ValueError, match="inches"):
        drift(mean, std, "inches")


def test_jumps_are_of_one_update_and_add_up_to_the_drift():
    (seen, *_), place = watch(SMALL, 2, 4), "preactivation"
    stds = {Yardstick.ABSOLUTE: 1.0, Yardstick.INITIAL_STD: seen.std[place][:1], Yardstick.CURRENT_STD: seen.std[place]}
    for way, std in stds.items():
        assert np.allclose(jumps([seen], way)[0], (np.abs(seen.jump[place]) / std).mean(-1))
    every = watch(SMALL, 2, 13)[0]  # after every update
    assert np.allclose(every.jump[place].sum(0), every.mean[place][-1] - every.mean[place][0], atol=1e-5)


def test_a_rank_takes_the_median_and_the_ends():
    scores = np.array([5.0, 1.0, 3.0, 9.0, 7.0])
    assert [unit_at_rank(scores, rank) for rank in (0.0, 0.5, 1.0)] == [1, 0, 3]


def test_noise_gives_way_to_more_images_and_drift_does_not():
    settings = replace(SMALL, width=50, steps=10, inputs="raw")  # on which all images' values move together
    seen = twice(settings, 2, start=2, waits=(0, 8), batch_sizes=(4, 400), pairs=200)
    assert not np.array_equal(seen[0].between_batches, seen[1].between_batches)
    noise, moved, both = (rms(each, (-2, -1)) for each in seen[0])
    assert noise[0] == pytest.approx(np.sqrt(2 / 4), rel=0.2)
    assert noise[1] == pytest.approx(np.sqrt(2 / 400), rel=0.2)
    assert not moved[0].any()  # no update between the looks
    assert moved[1, 0] == pytest.approx(moved[1, 1], rel=0.3)
    assert np.allclose(seen[0].both[0], seen[0].between_batches)
    assert both[1, 0] == pytest.approx(np.hypot(noise[0], moved[1, 0]), rel=0.3)


def test_a_divergence_ends_the_looks_of_its_seed_alone():
    settings = Settings(depth=10, nonlinearity="relu", init="he", lr=2.0, steps=30)
    for seen in watch(settings, 3, 31):
        assert 1 <= len(seen.eval_steps) <= 31
        assert all(len(each) == len(seen.eval_steps) for each in (seen.test_accuracy, seen.percentiles, seen.saturated))
        assert np.isfinite(seen.mean["preactivation"]).all()
    assert min(len(seen.eval_steps) for seen in watch(replace(settings, lr=100.0), 3, 31)) < 31
    with pytest.raises(ValueError, match="expected two or more"):
        watch(SMALL, 2, 1)


def test_a_seed_alone_is_nearly_the_same_run():
    settings, probe = replace(SMALL, steps=3), SMALL.task().x_train[:PROBE]
    *_, last = updates(settings, 0)
    mean = trace(last.net, probe)[0][0].preactivation.mean(0)
    assert np.allclose(watch(settings, 2, 2)[0].mean["preactivation"][-1, 0], mean, atol=1e-4)


NETWORKS = {f"{n} layers": Settings(depth=n, width=10, steps=20, init=0.1, lr=1.0) for n in (3, 5)}


@pytest.mark.parametrize(
    ("evidence", "many"),
    [
        (experiment.last_layer_ratios, 6),
        (experiment.depth_ratios, 6),
        (experiment.saturated_while_guessing, 2),
        (experiment.wandering_ratios, 2),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_evidence_has_a_number_for_every_seed(evidence, many):
    found = evidence(NETWORKS, seeds=2)
    assert len(found) == many
    assert all(values.shape == (2,) and np.isfinite(values).all() for values in found.values())


@pytest.mark.parametrize("evidence", [experiment.update_ratios, experiment.stillness_ratios])
def test_evidence_of_figure_1_has_a_number_for_every_seed(evidence, monkeypatch):
    monkeypatch.setattr(experiment, "FIGURE_1", NETWORKS["3 layers"])
    monkeypatch.setattr(experiment, "SLOW", replace(NETWORKS["3 layers"], lr=0.001))
    monkeypatch.setattr(experiment, "NETWORKS", {"sigmoid, 5 layers": NETWORKS["5 layers"]})
    monkeypatch.setattr(experiment, "FIRST_LOOK", 2)
    assert all(values.shape == (2,) and np.isfinite(values).all() for values in evidence(seeds=2).values())


def test_evidence_tells_a_drift_that_was_planted(monkeypatch):
    honest = experiment.last_layer_ratios(NETWORKS, seeds=2)
    monkeypatch.setattr(experiment, "watch_arms", lambda settings, seeds: planted(watch_drift(settings, seeds)))
    found = experiment.last_layer_ratios(NETWORKS, seeds=2)
    assert all(values == pytest.approx([3.0, 3.0], rel=1e-3) for values in found.values())
    assert not any(values == pytest.approx([3.0, 3.0], rel=1e-3) for values in honest.values())


def planted(runs):
    """The same runs twice, but that the first have drifted three times as far."""

    def farther(run):
        mean = run.mean["preactivation"]
        return run._replace(mean={**run.mean, "preactivation": mean[0] + 3 * (mean - mean[0])})

    return {"plain": [farther(run) for run in runs], "bn": runs}


def test_the_number_of_threads_is_left_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        watch(replace(SMALL, steps=1), 2, 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
