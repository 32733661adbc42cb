"""Smoothness: bowls with known answers, finite differences, and the mistakes of others, each caught."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from utils.experiments import smoothness
from utils.experiments.smoothness import (
    FIRST,
    LENGTHS,
    START,
    LineProbes,
    Quantity,
    Rate,
    along_gradient,
    along_gradients,
    envelope,
    extent,
    extent_ratios,
    extent_ratios_at_loss,
    final_losses,
    loss_of,
    overshoots,
    probe_training,
    random_direction,
    rescale_weights,
    stop_before,
    surface,
)
from utils.networks import IMAGES_ONLY, NEVER_IMAGES, NORMS, mlp, preserve_state, vgg
from utils.training import Settings, one_thread, train_seeds, updates, updates_together

SMALL = Settings(depth=2, width=12, nonlinearity="relu", lr=0.3, batch_size=20, steps=25)
WHOLE = (0.0, 1.0)
FLAT = [norm for norm in NORMS if norm not in IMAGES_ONLY]
NETS = [(norm, 0.0) for norm in FLAT] + [("plain", 0.5)]


def network(norm, dropout=0.0, nonlinearity="relu"):
    return mlp([6, 8, 8, 3], norm, nonlinearity, generator=torch.Generator().manual_seed(1), dropout=dropout)


def batch_of(net, images=False):
    rng = torch.Generator().manual_seed(7)
    x = torch.randn((16, 1, 8, 8) if images else (16, 6), generator=rng)
    return x.to(next(net.parameters()).dtype), torch.arange(16) % 3


def generators_of(net):
    return {layer.generator for layer in net.modules() if getattr(layer, "generator", None)}


def everything(net):
    """All that probing must leave alone: weights, their gradients, buffers, and the noise to come."""
    parts = [*net.parameters(), *net.buffers(), *(w.grad for w in net.parameters() if w.grad is not None)]
    return [part.detach().clone() for part in parts] + [each.get_state() for each in generators_of(net)]


# --- one line --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [[1.0, 0, 0], [0, 2.0, 0], [0, 0, -3.0], [1.0, -2.0, 0.5]])
def test_in_a_bowl_everything_is_known(w):
    H, w, rates = torch.diag(torch.tensor([0.5, 3.0, 7.0]).double()), torch.tensor(w).double(), [0.05, 0.2, 0.6]
    line = along_gradient(lambda p: p[0] @ H @ p[0] / 2, [w], rates)
    g = H @ w
    assert line.loss == pytest.approx((w @ g / 2).item())
    assert line.gradient_norm == pytest.approx(g.norm().item())
    there = [w - rate * g for rate in rates]
    assert line.losses == pytest.approx([(each @ H @ each / 2).item() for each in there])
    assert line.distances == pytest.approx([rate * g.norm().item() for rate in rates])
    assert line.gradient_changes == pytest.approx([rate * (H @ g).norm().item() for rate in rates])
    if (w != 0).sum() == 1:  # along an eigenvector beta is its eigenvalue
        assert line.gradient_changes / line.distances == pytest.approx(g.norm().item() / w.norm().item())


def test_several_tensors_are_one_point():
    line = along_gradient(lambda p: 1.5 * p[0].square().sum() + p[1].sum(), [torch.ones(2, 2), torch.ones(3)], [0.1])
    assert line.gradient_norm == pytest.approx((4 * 9 + 3) ** 0.5)
    assert line.gradient_changes[0] == pytest.approx(0.1 * 4**0.5 * 9)


@pytest.mark.parametrize(("norm", "dropout"), NETS)
def test_probing_moves_the_weights_alone_and_leaves_everything_as_it_was(norm, dropout):
    """At distance zero nothing has changed: the same batch, the same noise, the same mode."""
    net = network(norm, dropout)
    x, y = batch_of(net)
    F.cross_entropy(net(x), y).backward()
    before = everything(net)
    line = along_gradient(loss_of(net, x, y, F.cross_entropy), list(net.parameters()), [0.0, 0.1, 0.0])
    assert all(torch.equal(now, then) for now, then in zip(everything(net), before, strict=True))
    assert line.losses[0] == line.losses[2] == line.loss
    assert line.gradient_changes[0] == line.gradient_changes[2] == 0 < line.gradient_changes[1]
    with preserve_state(net):
        assert F.cross_entropy(net(x), y).item() == pytest.approx(line.loss, rel=1e-6)  # what the next step will see


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in NEVER_IMAGES])
def test_every_norm_can_be_probed_in_convolutions(norm):
    net = vgg(2, 4, norm, generator=torch.Generator().manual_seed(0))
    before = everything(net)
    loss = loss_of(net, *batch_of(net, images=True), F.cross_entropy)
    line = along_gradient(loss, list(net.parameters()), [0.1, 0.2])
    assert np.isfinite([*line.losses, *line.gradient_changes]).all()
    assert (line.gradient_changes > 0).all()
    assert all(torch.equal(now, then) for now, then in zip(everything(net), before, strict=True))


def test_the_statistics_carry_their_gradient():
    """The gradient of a net with BN, by finite differences: 64 bits, tanh, each weight on its own."""
    net = network("bn", nonlinearity="tanh").double()
    x, y = batch_of(net)
    point = [w.detach() for w in net.parameters()]

    def loss_at(weights):
        copy = deepcopy(net)
        with torch.no_grad():
            for old, new in zip(copy.parameters(), weights, strict=True):
                old.copy_(new)
        return F.cross_entropy(copy(x), y).item()

    def by_differences(at, h=1e-5):
        found = []
        for i, w in enumerate(at):
            for j in range(w.numel()):
                sides = [[v.clone() for v in at] for _ in range(2)]
                for side, sign in zip(sides, (1, -1), strict=True):
                    side[i].view(-1)[j] += sign * h
                found.append((loss_at(sides[0]) - loss_at(sides[1])) / (2 * h))
        return torch.tensor(found, dtype=torch.float64)

    line = along_gradient(loss_of(net, x, y, F.cross_entropy), point, [0.7])
    here = by_differences(point)
    parts = here.split([w.numel() for w in point])
    there = by_differences([w - 0.7 * g.view_as(w) for w, g in zip(point, parts, strict=True)])
    assert line.gradient_norm == pytest.approx(here.norm().item(), rel=1e-6)
    assert line.gradient_changes[0] == pytest.approx((there - here).norm().item(), rel=1e-5)


@pytest.mark.parametrize("norm", ["plain", "bn", "noisy", "linf", "images"])
def test_all_networks_of_a_moment_go_as_each_goes_alone(norm):
    """The same places with the same batch and noise, and everything is left as it was."""
    settings = replace(SMALL, norm=norm)
    if norm == "images":
        settings = Settings("bn", depth=2, width=4, nonlinearity="relu", batch_size=6, data="fashion", steps=3)
    with one_thread():
        for moment in updates_together(settings, 3):
            if moment.step == 3:
                break
        nets, rates = moment.ensemble.nets, [0.1, 0.6]
        before = [everything(net)[: len(list(net.parameters())) + len(list(net.buffers()))] for net in nets]
        noise = [g.get_state() for net in nets for g in generators_of(net)]
        found = along_gradients(moment, settings, rates)
        for net, old in zip(nets, before, strict=True):
            assert all(torch.equal(a, b) for a, b in zip([*net.parameters(), *net.buffers()], old, strict=True))
        now = [g.get_state() for net in nets for g in generators_of(net)]
        assert all(torch.equal(a, b) for a, b in zip(now, noise, strict=True))
        for i, net in enumerate(nets):
            loss = loss_of(net, *(part[i] for part in moment.batch), settings.loss)
            for ours, alone in zip(found, along_gradient(loss, list(net.parameters()), rates), strict=True):
                assert ours[i] == pytest.approx(alone, rel=1e-4)


def test_a_loss_that_overflows_is_told_as_it_is():
    line = along_gradient(lambda w: (w[0] ** 4).sum(), [torch.tensor([1e6])], [0.1, 1e3])
    assert not np.isfinite(line.losses).any()


def loss_with(net, x, y, noise):
    """The loss of a network on a batch, with noise drawn as it was at another moment."""
    with preserve_state(net):
        for generator, state in noise:
            generator.set_state(state)
        return F.cross_entropy(net(x), y).item()


# --- whole runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["plain", "bn", "noisy", "linf"])
def test_the_first_length_is_the_step_that_training_takes(norm):
    """At 1 x the learning rate stands the very network that the next update makes, with its batch and its noise."""
    settings = replace(SMALL, norm=norm)
    runs = probe_training.func(settings, 2, every=6, lengths=(1.0, 2.0))
    assert [run.step.tolist() for run in runs] == [[0, 6, 12, 18, 24]] * 2
    here, there, batch, noises = [], [], (), []
    with one_thread():
        for moment in updates_together(settings, 2):
            nets = moment.ensemble.nets
            if moment.step % 6 == 1:
                here.append(moment.loss)
                there.append([loss_with(*each) for each in zip(nets, *batch, noises, strict=True)])
            batch, noises = moment.batch, [[(g, g.get_state()) for g in generators_of(net)] for net in nets]
    assert np.array([run.loss for run in runs]) == pytest.approx(np.array(here).T, rel=1e-5)
    assert np.array([run.losses[:, 0] for run in runs]) == pytest.approx(np.array(there).T, rel=1e-4)


@pytest.mark.parametrize("norm", FLAT)
def test_training_is_what_it_is_without_probing(norm):
    settings = replace(SMALL, norm=norm, steps=12)
    probed = probe_training.func(settings, 2, every=3)
    for run, alone in zip(probed, train_seeds.func(settings, 2), strict=True):
        assert np.array_equal(run.batch_losses, alone.loss)


def test_a_run_is_probed_at_multiples_of_its_learning_rate():
    (run,) = probe_training.func(replace(SMALL, norm="bn"), 1, every=12)
    assert run.losses.shape == run.gradient_changes.shape == run.distances.shape == (3, 8)
    assert np.allclose(run.distances, SMALL.lr * np.outer(run.gradient_norm, LENGTHS))
    assert (LENGTHS[0], LENGTHS[-1], len(LENGTHS)) == (0.5, 4.0, 8)
    assert np.allclose(extent(run, Quantity.BETA), (run.gradient_changes / run.distances).max(1))


def test_runs_at_other_learning_rates_are_no_walk_along_the_gradient():
    """The mistake of plotting lowest and highest loss over separate runs as "the landscape"."""
    (run,) = probe_training.func(SMALL, 1, every=6, lengths=(1.0, 2.0))
    separate, _ = train_seeds.func(replace(SMALL, lr=2 * SMALL.lr), 2)
    assert not np.allclose(separate.loss[run.step[1:]], run.losses[1:, 1], rtol=0.01)


def test_a_run_that_diverges_ends_there():
    settings = Settings(depth=10, nonlinearity="relu", init="he", lr=100.0, steps=50)
    for run in probe_training.func(settings, 2, every=1):
        assert len(run.step) == len(run.batch_losses) + 1 < 50
        assert np.isfinite(run.batch_losses).all()


def test_training_stops_before_the_update_that_is_asked_for():
    stopped = stop_before(SMALL, 3, 7)
    with one_thread():
        *_, last = updates(replace(SMALL, steps=7), 3)
    assert stopped.step == 7
    assert_close(dict(stopped.net.named_parameters()), dict(last.net.named_parameters()), rtol=0, atol=0)
    assert_close(stopped.batch, last.batch)
    assert stop_before(SMALL, 3, 0).step == 0


# --- what is read off a run ------------------------------------------------------------------------------------------

MADE_UP = LineProbes(  # two moments, three lengths
    step=np.array([0, 10]),
    loss=np.array([9.0, 1.0]),
    gradient_norm=np.array([1.0, 1.0]),
    distances=np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]),
    losses=np.array([[3.0, 1.0, 2.0], [5.0, 5.0, 9.0]]),
    gradient_changes=np.array([[1.0, 4.0, 6.0], [2.0, 2.0, 3.0]]),
    batch_losses=np.arange(30.0),
)


@pytest.mark.parametrize(
    ("quantity", "low", "high", "size"),
    [
        (Quantity.LOSS, [1, 5], [3, 9], [2, 4]),
        (Quantity.GRADIENT, [1, 2], [6, 3], [6, 3]),
        (Quantity.BETA, [1, 1], [2, 2], [2, 2]),
        (Quantity.FAR, [2, 1], [2, 1], [2, 1]),
    ],
)
def test_the_bands(quantity, low, high, size):
    found = envelope(MADE_UP, quantity)
    assert [each.tolist() for each in found] == [low, high]
    assert extent(MADE_UP, quantity).tolist() == size


def test_beta_of_a_flat_place_is_nought():
    flat = MADE_UP._replace(distances=0 * MADE_UP.distances, gradient_changes=0 * MADE_UP.distances)
    assert envelope(flat, Quantity.BETA)[1].tolist() == [0, 0]


def test_runs_are_compared_moment_by_moment():
    other = MADE_UP._replace(losses=MADE_UP.losses * [[1], [3]])
    assert extent_ratios([other, MADE_UP], [MADE_UP, other], Quantity.LOSS, WHOLE) == pytest.approx(
        [2, (1 + 1 / 3) / 2]
    )
    assert extent_ratios([other], [MADE_UP], Quantity.LOSS) == [3]
    assert extent_ratios([other], [MADE_UP], Quantity.LOSS, START) == [1]
    assert (overshoots(MADE_UP), overshoots(MADE_UP, WHOLE)) == (1, 0.5)
    assert final_losses([MADE_UP]) == [19.5]


def test_a_run_that_has_diverged_counts_as_infinite():
    ended = LineProbes(*(column[: len(column) // 2] for column in MADE_UP))
    assert extent_ratios([ended, MADE_UP], [MADE_UP, ended], Quantity.LOSS).tolist() == [np.inf, 0]
    assert final_losses([ended, MADE_UP]).tolist() == [np.inf, 19.5]
    overflown = MADE_UP._replace(losses=np.array([[1.0, np.nan, 2.0], [np.inf, np.inf, np.inf]]))
    assert extent(overflown, Quantity.LOSS).tolist() == [np.inf, np.inf]


def test_runs_are_compared_at_the_same_loss():
    later = MADE_UP._replace(loss=MADE_UP.loss[::-1])
    assert extent_ratios_at_loss([MADE_UP], [later], Quantity.LOSS, 1.0, n=1) == [4 / 2]
    assert extent_ratios_at_loss([MADE_UP], [later], Quantity.LOSS, 8.0, n=1) == [2 / 4]
    assert extent_ratios_at_loss([MADE_UP], [later], Quantity.LOSS, 8.0, n=2) == [1]


def test_the_faster_network_is_probed_at_the_same_places():
    own, fast = (smoothness.probes_of(FIRST, arm, 2)[0] for arm in ("plain", smoothness.FAST))
    assert np.allclose(own.distances[0] / own.gradient_norm[0], fast.distances[0] / fast.gradient_norm[0])
    assert np.allclose(own.losses[0], fast.losses[0], rtol=1e-4)  # before the first update they are the same
    assert not np.allclose(own.losses[1], fast.losses[1], rtol=1e-2)


def test_rates_are_chosen_on_images_set_aside_from_one_grid_for_both(monkeypatch):
    """The best is early and high; the largest usable ends with four fifths of the best of either arm."""
    ends = {"plain": [0.5, 0.9, 0.75, 0.1, 0.1], "bn": [0.6, 0.9, 0.95, 0.8, 0.2]}  # over the grid
    early = {"plain": [0.1, 0.2, 0.9, 0.1, 0.1], "bn": [0.1, 0.9, 0.2, 0.2, 0.1]}
    grid = [0.05, 0.2, 0.8, 3.2, 12.8]

    def trained(arms, seeds):
        assert {(s.norm, s.lr) for s in arms.values()} == {(arm, lr) for arm in ends for lr in grid}
        assert all(s.validation and seeds == 2 for s in arms.values())
        found = {}
        for key, s in arms.items():
            at = grid.index(s.lr)
            accuracy = np.array([early[s.norm][at], ends[s.norm][at]])
            curve = SimpleNamespace(eval_steps=np.array([0, s.steps]), test_accuracy=accuracy)
            curve.accuracy_at = lambda steps, a=accuracy: np.where(np.asarray(steps) < 100, *a)
            found[key] = [curve] * seeds
        return found

    monkeypatch.setattr(smoothness, "train_all", trained)
    found = smoothness.rates_of.__wrapped__(FIRST, seeds=2)
    assert found[Rate.EQUAL] == {"plain": 0.1, "bn": 0.1}
    assert found[Rate.BEST]["bn"] == 0.2
    assert found[Rate.LARGEST] == {"plain": 0.2, "bn": 3.2}  # 0.75 is less than 0.8 x 0.95


def test_each_arm_is_probed_along_its_own_step(monkeypatch):
    rates = {rate: {"plain": 0.1, "bn": 0.3} for rate in Rate}
    monkeypatch.setattr(smoothness, "rates_of", lambda network: rates)
    monkeypatch.setattr(smoothness, "probe_training", lambda settings, seeds, every: (settings.norm, settings.lr))
    assert smoothness.probes_of(FIRST, "bn", 2, Rate.BEST) == ("bn", 0.3)
    assert smoothness.probes_of(FIRST, "bn", 2) == ("bn", smoothness.NETWORKS[FIRST].lr)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_sharpness_is_the_largest_eigenvalue_even_where_a_negative_one_is_larger_in_size(monkeypatch, sign):
    matrix = torch.diag(torch.tensor([sign * 5.0, 2.0, -1.0]))
    net = torch.nn.Linear(1, 2)  # its three parameters make a quadratic form
    net.bias = torch.nn.Parameter(torch.zeros(1))

    def loss(_, __):
        w = torch.cat([each.flatten() for each in net.parameters()])
        return w @ matrix @ w / 2

    monkeypatch.setattr(smoothness.F, "cross_entropy", loss)
    monkeypatch.setattr(net, "forward", lambda x: x)
    x = torch.zeros(2, 1)
    assert smoothness.sharpness(net, x, x, powers=200) == pytest.approx(5.0 if sign == 1 else 2.0, rel=1e-3)


# --- directions and slices -------------------------------------------------------------------------------------------


def test_directions_are_as_long_as_each_units_weights_and_biases_do_not_move():
    rng = torch.Generator().manual_seed(0)
    point = [torch.randn(5, 7) * torch.arange(5)[:, None], torch.randn(5), torch.randn(4, 2, 3, 3)]
    raw = random_direction(point, torch.Generator().manual_seed(4), filterwise=False)
    fitted = random_direction(point, torch.Generator().manual_seed(4))
    assert not raw[1].any()
    assert not fitted[1].any()
    for w, r, f in [each for each in zip(point, raw, fitted, strict=True) if each[0].dim() > 1]:
        norms = w.flatten(1).norm(dim=1)
        assert_close(f.flatten(1).norm(dim=1), norms)
        turned = F.cosine_similarity(f.flatten(1), r.flatten(1))[norms > 0]
        assert_close(turned, torch.ones_like(turned))
    big = random_direction([torch.zeros(200, 200)], rng, filterwise=False)[0]
    assert abs(big.mean()) < 0.02
    assert abs(big.std() - 1) < 0.02


def test_a_surface_is_the_loss_on_its_grid():
    net = network("noisy")
    loss, point = loss_of(net, *batch_of(net), F.cross_entropy), [w.detach() for w in net.parameters()]
    first, second = (random_direction(point, torch.Generator().manual_seed(i)) for i in (0, 1))
    found = surface(loss, point, first, second, [-1.0, 0.0, 0.5])
    assert found.shape == (3, 3)
    assert found[1, 1] == loss(point).item()
    there = [w + 0.5 * d - e for w, d, e in zip(point, first, second, strict=True)]
    assert found[0, 2] == pytest.approx(loss(there).item(), rel=1e-5)


def test_a_normalised_net_minds_its_weights_length_only_in_directions_as_drawn():
    point = {}
    for factor in (1, 5):
        net = network("bn").double()
        rescale_weights(net, factor)
        assert_close(net[0].weight, factor * network("bn").double()[0].weight)
        assert_close(net[-1].weight, network("bn").double()[-1].weight)
        loss, w = loss_of(net, *batch_of(net), F.cross_entropy), [w.detach() for w in net.parameters()]
        for filterwise in (True, False):
            rng = torch.Generator().manual_seed(2)
            first, second = (random_direction(w, rng, filterwise) for _ in range(2))
            first[-2], second[-2] = 0 * w[-2], 0 * w[-2]  # the last layer is not normalised
            point[factor, filterwise] = surface(loss, w, first, second, [-0.02, 0, 0.02])
    assert np.allclose(point[1, True], point[5, True], rtol=1e-3)
    assert np.ptp(point[1, True]) > 0.01
    assert np.ptp(point[5, False]) < 0.5 * np.ptp(point[1, False])
    assert point[1, False][1, 1] == pytest.approx(point[5, False][1, 1], rel=1e-3)


@one_thread()
def test_a_slice_is_taken_around_the_trained_weights():
    settings = replace(SMALL, norm="bn", steps=5)
    found = smoothness.slice_around.func(settings, 2, n=3)
    *_, last = updates(settings, 2)
    x, y, *_ = settings.task()
    assert found[1, 1] == pytest.approx(F.cross_entropy(last.net(x[:200]), y[:200]).item(), rel=1e-5)
    assert np.ptp(found) > 0
    assert not np.allclose(found, smoothness.slice_around.func(settings, 2, factor=3.0, filterwise=False, n=3))


def test_beta_of_normalised_layers_falls_with_the_square_of_their_weights_length():
    """One factor for each derivative; the last layer and the biases, which are not scale-invariant, keep theirs."""
    factors = smoothness.rescaled_betas(2, factor=3.0)
    assert ((factors > 1 / 9) & (factors < 0.5)).all()
    assert np.allclose(smoothness.rescaled_betas(2, factor=1.0), 1)


def test_the_table_of_untrained_networks_is_that_of_single_ones():
    found = smoothness.at_start.func("he", "plain", (2, 4), seeds=2)
    settings = replace(smoothness.NETWORKS[smoothness.DEEP], init="he", depth=4)
    start = stop_before(settings, 1, 0)
    lines = along_gradient(
        loss_of(start.net, *start.batch, settings.loss),
        list(start.net.parameters()),
        [settings.lr * k for k in LENGTHS],
    )
    assert found.gradient_norm.shape == found.score_std.shape == (2, 2)
    assert found.gradient_norm[1, 1] == pytest.approx(lines.gradient_norm, rel=1e-4)
    assert found.loss_range[1, 1] == pytest.approx(np.ptp(lines.losses), rel=1e-3)
