"""Networks side by side are the networks of the plain loop, and what is measured of them has known answers.

`agrees` compares with the plain loop; each mistake known from public re-implementations, planted, must make it fail.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from utils import instability
from utils.drift import hidden_values, watch_drift
from utils.instability import (
    BN,
    MODES,
    NOISY,
    NOISY_PLAIN,
    NONE,
    PLAIN,
    STAYS,
    SideBySide,
    Variant,
    between_draws,
    draw,
    share_kept,
    side_by_side,
    watch,
)
from utils.networks import LINEAR
from utils.noise import PAPERS, Recipe, draw_noise
from utils.training import Settings, one_thread, train, updates

SMALL = Settings(depth=3, width=8, nonlinearity="relu", lr=0.2, batch_size=16, steps=5)
NORMS = {"plain": PLAIN, "bn": BN, "noisy": NOISY, "noisy plain": NOISY_PLAIN}
side_by_side, watch = side_by_side.func, watch.func  # the functions behind the disk


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@one_thread()
def trained(settings, variants, seeds):
    """A group after training, by the module's own loop."""
    group = SideBySide(settings, variants, seeds)
    for _ in instability._updates(settings, group, *settings.task()[:2], seeds):
        pass
    return group


def agrees(norm, seed=1, settings=SMALL):
    """Whether a group has the weights, and its race the accuracies, of the plain loop."""
    variant, seeds = NORMS[norm], seed + 1
    group = trained(settings, [variant, variant], seeds)
    *_, last = updates(replace(settings, norm=norm), seed)
    for ours, theirs in zip(group.weights, [layer for layer in last.net if isinstance(layer, LINEAR)], strict=True):
        for copy in ours[:, seed]:
            assert_close(copy, theirs.weight.T, rtol=1e-3, atol=1e-5)
    norms = [layer for layer in last.net if hasattr(layer, "running_mean")]
    for (mean, var), gamma, layer in zip(group.running, group.gammas, norms, strict=False):
        assert_close(gamma[0, seed, 0], layer.weight, rtol=1e-3, atol=1e-5)
        assert_close(mean[0, seed, 0], layer.running_mean, rtol=1e-3, atol=1e-5)
        assert_close(var[0, seed, 0], layer.running_var, rtol=1e-3, atol=1e-5)
    run = side_by_side(settings, (variant,), seeds, looks=2)
    theirs = train.func(replace(settings, norm=norm, looks=2), seed)
    assert run.accuracy[0, seed] == pytest.approx(theirs.accuracy)
    assert run.test_accuracy[MODES.index("noise off"), 0, seed] == pytest.approx(theirs.test_accuracy[-1])


@pytest.mark.parametrize("norm", NORMS)
def test_side_by_side_is_the_plain_loop(norm):
    agrees(norm)


def one_for_all_units(generators, examples, units):
    mu, sigma, m, s = draw(generators, examples, units)
    return instability.Draws(mu[..., :1].expand_as(mu), sigma[..., :1].expand_as(sigma), m, s)


def one_for_all_layers(group, examples, generators=None):
    drawn = draw(generators or group.generators, examples, group.gammas[0].shape[-1])
    return [drawn for _ in group.gammas]


def without_gradient(x):
    mean = x.mean(-2, keepdim=True)
    return mean.detach(), (x - mean).square().mean(-2, keepdim=True).detach()


def one_scalar(x):
    return x.mean((-1, -2), keepdim=True), x.var((-1, -2), correction=0, keepdim=True)


def wrong_way_round(group, layers, examples):
    for (mean, var), seen in zip(group.running, layers, strict=True):
        mean.lerp_(seen.statistics[0].detach(), 0.9)
        var.lerp_(seen.statistics[1].detach(), 0.9)


MISTAKES = {
    "one mu and sigma for all units": ("draw", one_for_all_units),
    "one draw for all layers": ("SideBySide.draws", one_for_all_layers),
    "statistics without gradient": ("_statistics", without_gradient),
    "one mean over the whole tensor": ("_statistics", one_scalar),
    "momentum the other way round": ("SideBySide.remember", wrong_way_round),
    "gamma left out": ("_normalize", lambda x, by, gamma, beta: (x - by[0]) * torch.rsqrt(by[1] + 1e-5) + beta),
    "no noise at all": ("_perturb", lambda x, drawn, strengths: x),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_known_mistake_is_noticed(mistake, monkeypatch):
    where, wrong = MISTAKES[mistake]
    owner, _, name = where.rpartition(".")
    monkeypatch.setattr(getattr(instability, owner) if owner else instability, name, wrong)
    with pytest.raises(AssertionError):
        agrees("noisy")


def test_noise_left_on_and_statistics_updated_in_evaluation_are_noticed(monkeypatch):
    settings = replace(SMALL, steps=40)
    right = side_by_side(settings, (NOISY,), 4, looks=2).test_accuracy
    walk = SideBySide.walk

    def always_noisy(group, x, noise=None, statistics=None):
        return walk(group, x, noise or group.draws(x.shape[1]), statistics)

    monkeypatch.setattr(SideBySide, "walk", always_noisy)
    wrong = side_by_side(settings, (NOISY,), 4, looks=2).test_accuracy
    assert (wrong[0] != right[0]).any()
    monkeypatch.undo()
    group = trained(settings, [NOISY], 2)
    before = [[part.clone() for part in layer] for layer in group.running]
    task = settings.task()
    instability._tested(group, task.x_train, task.x_test, task.y_test, [seeded(), seeded(1)])
    for layer, was in zip(group.running, before, strict=True):
        assert_close(list(layer), was, rtol=0, atol=0)


@pytest.mark.parametrize("recipe", [PAPERS, PAPERS.times(3), Recipe(0.3, 0.0, 0.7, 0.2)])
def test_noise_is_the_recipes_own(recipe):
    x = torch.randn(9, 4, generator=seeded(5))
    drawn = draw([seeded(3)], 9, 4)
    ours = instability._perturb(x.expand(1, 1, 9, 4), drawn, SideBySide._strengths([Variant(noise=recipe)], True))
    s, m = draw_noise(x, recipe, seeded(3))
    assert_close(ours[0, 0], s * x + m)


def test_a_neighbour_changes_nothing():
    alone = side_by_side(SMALL, (NOISY,), 1, looks=2)
    among = side_by_side(SMALL, (PLAIN, Variant(noise=PAPERS.times(4)), NOISY, STAYS, BN), 3, looks=2)
    assert among.accuracy[2, 0] == pytest.approx(alone.accuracy[0, 0])
    assert among.test_accuracy[0, 2, 0] == pytest.approx(alone.test_accuracy[0, 0, 0])
    assert np.allclose(among.jump[:, :, 2, 0], alone.jump[:, :, 0, 0], atol=1e-4)


def test_where_noise_stays_no_noise_is_bn_and_the_clean_pass_normalizes():
    bn, stays = (side_by_side(SMALL, (each,), 2, looks=2) for each in (BN, Variant(stays=True)))
    assert np.allclose(bn.accuracy, stays.accuracy)
    assert np.allclose(bn.drift, stays.drift, atol=1e-4)
    group, x = SideBySide(SMALL, [STAYS], 1), torch.randn(1, 30, 64, generator=seeded())
    _, noisy = group.forward(x, group.draws(30))
    _, clean = SideBySide(SMALL, [BN], 1).forward(x)
    for dirty, pure in zip(noisy, clean, strict=True):
        assert_close(dirty.statistics, pure.statistics)
        expected = (dirty.before - pure.before.mean(-2, keepdim=True)) / (
            pure.before.var(-2, correction=0, keepdim=True) + 1e-5
        ).sqrt()
        assert_close(dirty.normed, expected, rtol=1e-4, atol=1e-4)
    assert noisy[1].normed.mean(-2).abs().max() > 0.1  # what the layer before put in is still there
    with pytest.raises(ValueError, match="variants: expected all alike"):
        SideBySide(SMALL, [BN, STAYS], 1)


def test_the_next_norm_takes_out_the_shared_shift_exactly_and_nothing_else():
    only = {name: Recipe(*parts) for name, parts in (("shift", (0.5, 0, 0, 0)), ("own", (0, 0, 0.5, 0)))}
    linear = replace(SMALL, nonlinearity="none", steps=1)
    run = side_by_side(linear, tuple(Variant(noise=recipe) for recipe in only.values()), 3, looks=2)
    moved, changed = run.moved[0], run.changed[0]
    assert (moved[0, 0] > 0.01).all() and (moved[1, 0, :, :2] > 0.01).all()
    assert moved[2, 0, :, :2] == pytest.approx(0, abs=1e-4)
    assert changed[2, 0, :, :2] == pytest.approx(0, abs=1e-4)  # without a nonlinearity it leaves no trace
    assert (changed[2, 1, :, :2] > 0.1).all()  # each sample's own stays
    assert np.isnan(moved[1:, :, :, -1]).all() and np.isfinite(moved[:, :, :, :2]).all()


def test_noise_on_the_last_layer_only():
    group = SideBySide(SMALL, [replace(NOISY, last_only=True), NOISY], 1)
    assert group.strengths[0].flatten(1)[:, 0].tolist() == [0, 0, 0, 0]
    assert_close(group.strengths[-1][:, 0], group.strengths[-1][:, 1])
    _, layers = group.forward(torch.randn(1, 9, 64, generator=seeded()), group.draws(9))
    touched = [(layer.entering != layer.normed).any().item() for layer in layers]
    assert touched == [True] * 3
    assert [(layer.entering[0] != layer.normed[0]).any().item() for layer in layers] == [False, False, True]


def test_jumps_drift_and_widths_are_those_of_the_drift_module():
    settings = replace(SMALL, norm="bn", steps=4)
    run = side_by_side(settings, (BN,), 1, looks=3)
    net = {}
    for update in updates(settings, 0):
        layers = hidden_values(update.net, settings.task().x_train[: instability.PROBE])
        net[update.step] = [np.stack([part.numpy() for part in (each.before, each.entering)]) for each in layers]
    for layer in range(3):
        means = np.array([net[step][layer].mean(1) for step in range(5)])  # (steps, places, units)
        far = np.abs(means[[0, 2, 4]] - means[0]).mean(-1)
        jump = np.abs(means[[2, 4]] - means[[1, 3]]).mean(-1)
        assert np.allclose(run.drift[:, :, 0, 0, layer], far.T, atol=1e-4)
        assert np.allclose(run.jump[:, 1:, 0, 0, layer], jump.T, atol=1e-4)
        assert np.allclose(run.width[:, -1, 0, 0, layer], net[4][layer].std(1).mean(-1), rtol=1e-3)
    assert not run.jump[:, 0].any()


def test_watch_measures_as_race_does_and_on_images_channel_by_channel():
    settings = replace(SMALL, norm="bn", steps=4)
    one, other = watch(settings, 0, looks=3), side_by_side(settings, (BN,), 1, looks=3)
    assert np.allclose(one.jump, other.jump[1, :, 0, 0], atol=1e-4)
    assert np.allclose(one.drift, other.drift[1, :, 0, 0], atol=1e-4)
    assert np.allclose(one.width, other.width[1, :, 0, 0], rtol=1e-3)
    assert one.accuracy == pytest.approx(other.accuracy[0, 0])
    images = watch(Settings("bn", data="fashion", depth=2, width=4, nonlinearity="relu", steps=2, batch_size=8), 0, 2)
    assert images.width.shape == (2, 2)
    assert images.width[0] == pytest.approx(1, abs=1e-2)  # over images, height and width together


def test_jumps_agree_with_watch_drift_where_the_probe_is_the_same(monkeypatch):
    monkeypatch.setattr(instability, "PROBE", 500)
    settings = replace(SMALL, steps=4)
    ours, theirs = side_by_side(settings, (PLAIN,), 1, looks=3), watch_drift.func(settings, 0, looks=3)
    assert np.allclose(ours.jump[0, :, 0, 0], np.abs(theirs.jump).mean(-1), atol=1e-4)
    assert np.allclose(ours.width[:, :, 0, 0], theirs.std.mean(-1), rtol=1e-3)


def test_between_draws_has_known_answers():
    x = torch.tensor([[[-1.0, 0.0], [1.0, 6.0]]])  # widths 1 and 3, on average 2
    moved, changed = between_draws(x, x + torch.tensor([1.0, 3.0]))
    assert moved.tolist() == changed.tolist() == [1.0]
    moved, changed = between_draws(x, x + torch.tensor([[1.0], [-1.0]]))  # each sample its own way
    assert moved.tolist() == [0.0] and changed.tolist() == [0.5]


def test_the_share_that_is_kept():
    plain, bn = np.array([0.1, 0.2]), np.array([0.9, 0.7])
    assert share_kept(plain, bn, bn).tolist() == [1.0, 1.0]
    assert share_kept(plain, bn, plain).tolist() == [0.0, 0.0]
    assert share_kept(plain, bn, np.array([0.0, 0.1]))[0] == pytest.approx(-0.125)
    assert share_kept(plain, np.array([0.9, 0.24]), bn) is None  # one seed without a clear gain


def test_the_ways_of_evaluation():
    settings = replace(SMALL, steps=60, lr=0.3)
    run = side_by_side(settings, (BN, NOISY), 4, looks=2)
    off, on, exact, _ = run.test_accuracy
    assert off[0].tolist() == on[0].tolist()  # BN has no noise to leave on
    assert (off[1] != on[1]).any()
    group, task = trained(settings, [NOISY], 4), settings.task()
    images, x = task.x_train[: instability.CLEAN], task.x_test
    for place in range(3):  # by hand: the statistics of training images, layer by layer, without noise
        weight, gamma, beta = (part[place][0, 0] for part in (group.weights, group.gammas, group.shifts))
        before, now = images @ weight, x @ weight
        mean, var = before.mean(0), before.var(0, correction=0)
        images = F.relu((before - mean) / (var + 1e-5).sqrt() * gamma + beta)
        x = F.relu((now - mean) / (var + 1e-5).sqrt() * gamma + beta)
    right = ((x @ group.weights[-1][0, 0] + group.shifts[-1][0, 0]).argmax(1) == task.y_test).float().mean()
    assert exact[1, 0] == pytest.approx(right.item(), abs=2.5 / len(x))  # two images may lie between two classes


def test_a_diverged_network_is_told_and_leaves_its_neighbours_alone():
    wild = Variant(bn=False, noise=PAPERS.times(1e30))  # overflows at the first update
    settings = Settings(depth=10, width=8, nonlinearity="relu", init="he", lr=0.1, batch_size=16, steps=30)
    run = side_by_side(settings, (wild, replace(PLAIN, noise=NONE)), 2, looks=2)
    alone = side_by_side(settings, (PLAIN,), 2, looks=2)
    assert run.diverged[0].all()
    assert run.accuracy[0, :, -5:].mean() < 0.3
    assert np.allclose(run.accuracy[1, :, :5], alone.accuracy[0, :, :5])


@pytest.mark.parametrize("wrong", [{"data": "fashion"}, {"batch_size": 0}, {"momentum": 0.9}, {"dropout": 0.3}])
def test_settings_that_it_would_ignore_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
        side_by_side(replace(SMALL, **wrong), (BN,), 1, looks=2)
