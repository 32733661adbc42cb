"""Smoothness: bowls with known answers, finite differences, and the mistakes of others, each planted and caught."""

import inspect
import re
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from utils import smoothness
from utils.explorables import smoothness as show
from utils.networks import NORMS, looking, mlp, vgg
from utils.smoothness import (
    LENGTHS,
    Course,
    band,
    lengthen,
    overshoots,
    random_direction,
    size,
    stop_before,
    surface,
    times,
    times_at_loss,
    typical,
)
from utils.training import Settings, one_thread, train, updates

SMALL = Settings(depth=2, width=12, nonlinearity="relu", lr=0.3, batch_size=20, steps=25)


def bare(function):
    """The function behind the disk."""
    return getattr(function, "func", function)


# --- checks: of the module, and of its mutants ---------------------------------------------------------------------


def check_a_bowl(m):
    """loss = w'Hw / 2: everything is known."""
    H = torch.diag(torch.tensor([0.5, 3.0, 7.0], dtype=torch.float64))
    rates = [0.05, 0.2, 0.6]
    for w in ([1.0, 0, 0], [0, 2.0, 0], [0, 0, -3.0], [1.0, -2.0, 0.5]):
        w = torch.tensor(w, dtype=torch.float64)
        probes = m.along_gradient(lambda p: p[0] @ H @ p[0] / 2, [w], rates)
        g = H @ w
        assert probes.loss == pytest.approx((w @ H @ w / 2).item())
        assert probes.slope == pytest.approx(g.norm().item())
        for i, rate in enumerate(rates):
            there = w - rate * g
            assert probes.losses[i] == pytest.approx((there @ H @ there / 2).item())
            assert probes.moved[i] == pytest.approx(rate * g.norm().item())
            assert probes.changes[i] == pytest.approx(rate * (H @ g).norm().item())
        if (w != 0).sum() == 1:  # along an eigenvector beta is its eigenvalue
            assert probes.changes / probes.moved == pytest.approx(((H @ w).norm() / w.norm()).item())


def check_several_tensors_are_one_point(m):
    probes = m.along_gradient(
        lambda p: 1.5 * p[0].square().sum() + p[1].sum(), [torch.ones(2, 2), torch.ones(3)], [0.1]
    )
    assert probes.slope == pytest.approx((4 * 9 + 3) ** 0.5)
    assert probes.changes[0] == pytest.approx(0.1 * 4**0.5 * 9)


def batch_of(net, images=False):
    chance = torch.Generator().manual_seed(7)
    x = torch.randn((16, 1, 8, 8) if images else (16, 6), generator=chance)
    return x.to(next(net.parameters()).dtype), torch.arange(16) % 3


def network(norm, dropout=0.0, nonlinearity="relu"):
    return mlp([6, 8, 8, 3], norm, nonlinearity, generator=torch.Generator().manual_seed(1), dropout=dropout)


def everything(net):
    """All that probing must leave alone: weights, their gradients, buffers, and the noise to come."""
    parts = [*net.parameters(), *net.buffers(), *(w.grad for w in net.parameters() if w.grad is not None)]
    return [part.detach().clone() for part in parts] + [each.get_state() for each in generators_of(net)]


def generators_of(net):
    return {layer.generator for layer in net.modules() if getattr(layer, "generator", None)}


NETS = [(norm, 0.0) for norm in NORMS] + [("plain", 0.5)]


def check_it_leaves_everything_as_it_was(m):
    for norm, dropout in NETS:
        net = network(norm, dropout)
        x, y = batch_of(net)
        F.cross_entropy(net(x), y).backward()
        before = everything(net)
        m.along_gradient(m.loss_of(net, x, y, F.cross_entropy), list(net.parameters()), [0.1, 1.0])
        for now, then in zip(everything(net), before, strict=True):
            assert torch.equal(now, then), norm


def check_only_the_weights_move(m):
    """At distance zero nothing has changed: the same batch, the same noise, the same mode."""
    for norm, dropout in NETS:
        net = network(norm, dropout)
        loss = m.loss_of(net, *batch_of(net), F.cross_entropy)
        probes = m.along_gradient(loss, list(net.parameters()), [0.0, 0.1, 0.0])
        assert probes.losses[0] == probes.losses[2] == probes.loss, norm
        assert probes.changes[0] == probes.changes[2] == 0 < probes.changes[1], norm


@one_thread()
def check_the_first_length_is_the_step_that_training_takes(m):
    """At 1 x the learning rate stands the very network that the next update makes, with its batch and its noise."""
    for norm in ("plain", "torch", "bn", "noisy", "linf"):
        settings = replace(SMALL, norm=norm)
        course = bare(m.watch_course)(settings, 3, every=6, lengths=(1.0, 2.0))
        assert course.step.tolist() == [0, 6, 12, 18, 24]
        probed = x = y = noise = None
        for update in updates(settings, 3):
            if probed is not None:
                with looking(update.net):
                    for generator, state in noise:
                        generator.set_state(state)
                    again = F.cross_entropy(update.net(x), y).item()
                assert course.loss[probed] == pytest.approx(update.loss, rel=1e-5), norm
                assert course.losses[probed, 0] == pytest.approx(again, rel=1e-4), norm
            probed = update.step // 6 if update.step % 6 == 0 else None
            x, y = update.batch
            noise = [(generator, generator.get_state()) for generator in generators_of(update.net)]


def check_training_is_what_it_is_without_probing(m):
    for norm in NORMS:
        settings = replace(SMALL, norm=norm, steps=12)
        course = bare(m.watch_course)(settings, 5, every=3)
        run = train.func(settings, 5)
        assert np.array_equal(course.trained, run.loss), norm
        assert np.array_equal(course.accuracy, run.accuracy), norm


def made_up():
    """Two moments, three lengths."""
    return SimpleNamespace(
        step=np.array([0, 10]),
        loss=np.array([9.0, 1.0]),
        losses=np.array([[3.0, 1.0, 2.0], [5.0, 5.0, 9.0]]),
        changes=np.array([[1.0, 4.0, 6.0], [2.0, 2.0, 3.0]]),
        moved=np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]),
    )


def check_the_bands(m):
    course = made_up()
    for quantity, low, high in (
        ("loss", [1, 5], [3, 9]), ("gradient", [1, 2], [6, 3]), ("beta", [1, 1], [2, 2]),
    ):  # fmt: skip
        found = m.band(course, quantity)
        assert found[0].tolist() == low and found[1].tolist() == high, quantity
    assert m.size(course, "loss").tolist() == [2, 4]
    assert m.size(course, "gradient").tolist() == [6, 3]
    assert m.size(course, "beta").tolist() == [2, 2]


def check_directions(m):
    chance = torch.Generator().manual_seed(0)
    point = [torch.randn(5, 7) * torch.arange(5)[:, None], torch.randn(5), torch.randn(4, 2, 3, 3)]
    raw = m.random_direction(point, torch.Generator().manual_seed(4), filterwise=False)
    fitted = m.random_direction(point, torch.Generator().manual_seed(4))
    for w, r, f in zip(point, raw, fitted, strict=True):
        if w.dim() == 1:
            assert not r.any() and not f.any()
        else:
            assert_close(f.flatten(1).norm(dim=1), w.flatten(1).norm(dim=1))
            turned = F.cosine_similarity(f.flatten(1), r.flatten(1))
            assert_close(turned[w.flatten(1).norm(dim=1) > 0], torch.ones(int((w.flatten(1).norm(dim=1) > 0).sum())))
    big = m.random_direction([torch.zeros(200, 200)], chance, filterwise=False)[0]
    assert abs(big.mean()) < 0.02 and abs(big.std() - 1) < 0.02


def check_the_statistics_carry_their_gradient(m):
    """The gradient of a net with BN, by finite differences: 64 bits, tanh, each weight on its own."""
    net = network("bn", nonlinearity="tanh").double()
    x, y = batch_of(net)
    point = [w.detach() for w in net.parameters()]
    loss = m.loss_of(net, x, y, F.cross_entropy)

    def by_differences(at):
        slopes, h = [], 1e-5
        for i, w in enumerate(at):
            for j in range(w.numel()):
                values = []
                for sign in (1, -1):
                    moved = [v.clone() for v in at]
                    moved[i].view(-1)[j] += sign * h
                    copy = deepcopy(net)
                    with torch.no_grad():
                        for old, new in zip(copy.parameters(), moved, strict=True):
                            old.copy_(new)
                    values.append(F.cross_entropy(copy(x), y).item())
                slopes.append((values[0] - values[1]) / (2 * h))
        return torch.tensor(slopes, dtype=torch.float64)

    probes = m.along_gradient(loss, point, [0.7])
    here = by_differences(point)
    parts = here.split([w.numel() for w in point])
    there = by_differences([w - 0.7 * g.view_as(w) for w, g in zip(point, parts, strict=True)])
    assert probes.slope == pytest.approx(here.norm().item(), rel=1e-6)
    assert probes.changes[0] == pytest.approx((there - here).norm().item(), rel=1e-5)


CHECKS = [value for name, value in globals().items() if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_ours(check):
    check(smoothness)


# --- mutants -------------------------------------------------------------------------------------------------------

NO_CARE = ("with looking(net):", "net.train()\n        if True:")
MUTANTS = {
    "the sum of two gradients for their difference": [("[new - old for", "[new + old for")],
    "uphill": [("w - rate * g", "w + rate * g")],
    "the first tensor's length for that of all": [("torch.cat([t.flatten() for t in tensors])", "tensors[0]")],
    "distance without the gradient's length": [("slope * np.array(rates)", "np.array(rates)")],
    "noise drawn again between the probes": [NO_CARE],
    "running statistics updated while probing": [(", **buffers}", "}"), NO_CARE],
    "running statistics in place of the batch's": [
        ("with looking(net):", "with looking(net):\n            net.eval()"),
    ],
    "another batch at every probe": [("(x,))\n        return loss(scores, y)",
        "(x[(i := torch.randint(len(x), (len(x),)))],))\n        return loss(scores, y[i])")],
    "another batch than the next update's": [
        ("*update.batch,", "*(values.flip(0)[:-1] for values in update.batch),"),
    ],
    "lengths that are not multiples of the learning rate": [("settings.lr * length for", "length for")],
    "probes after the update": [("update.step % every == 0 and", "update.step % every == 1 and")],
    "the smallest ratio for the largest": [("values.min(1), values.max(1)", "values.min(1), values.min(1)")],
    "beta without the distance": [("np.divide(values, course.moved,", "np.divide(values, 1,")],
    "the place itself among the losses": [
        ("course.losses if quantity", "np.c_[course.loss, course.losses] if quantity"),
    ],
    "a direction as long as the layer": [("dim=tuple(range(1, w.dim()))", "dim=tuple(range(w.dim()))")],
    "biases that move": [("if w.dim() > 1 else 0 * w for", "for")],
    "weights that are moved in place": [("[w - rate * g for", "[w.data.sub_(rate * g) for")],
}  # fmt: skip


def mutated(changes):
    """The module with its source changed, and nothing of it on disk."""
    source = inspect.getsource(smoothness).replace("@kept\n", "")
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    namespace = {"__name__": "utils.smoothness"}
    exec(compile(source, "mutant", "exec"), namespace)
    return SimpleNamespace(**namespace)


@pytest.mark.parametrize("mistake", MUTANTS)
def test_a_mistake_is_caught(mistake):
    mutant = mutated(MUTANTS[mistake])
    with pytest.raises(AssertionError):
        for check in CHECKS:
            check(mutant)


def test_the_unchanged_source_passes_as_a_mutant_would():
    for check in CHECKS:
        check(mutated([]))


def test_runs_at_other_learning_rates_are_no_walk_along_the_gradient():
    """The mistake of plotting lowest and highest loss over separate runs as "the landscape"."""

    def separate_runs(settings, seed, every=10, lengths=LENGTHS):
        losses = [[u.loss for u in updates(replace(settings, lr=settings.lr * k), seed)] for k in lengths]
        course = smoothness.watch_course.func(settings, seed, every, lengths)
        return course._replace(losses=np.array(losses)[:, course.step + 1].T)

    with pytest.raises(AssertionError):
        check_the_first_length_is_the_step_that_training_takes(SimpleNamespace(watch_course=separate_runs))


# --- the rest ------------------------------------------------------------------------------------------------------


def test_every_norm_can_be_probed_also_in_convolutions():
    for norm in NORMS:
        net = vgg(2, 4, norm, generator=torch.Generator().manual_seed(0))
        loss = smoothness.loss_of(net, *batch_of(net, images=True), F.cross_entropy)
        before = everything(net)
        probes = smoothness.along_gradient(loss, list(net.parameters()), [0.1, 0.2])
        assert np.isfinite([*probes.losses, *probes.changes]).all()
        assert (probes.changes > 0).all()
        assert all(torch.equal(now, then) for now, then in zip(everything(net), before, strict=True))


def test_beta_of_a_flat_place_is_nought_and_a_wrong_quantity_is_refused():
    flat = smoothness.along_gradient(lambda w: 0 * w[0].sum(), [torch.ones(3)], [0.1])
    course = Course(*[np.array([each]) for each in (0, *flat)], np.array([]), np.array([]))
    assert band(course, "beta")[1].tolist() == [0]
    with pytest.raises(ValueError, match="quantity: expected one of"):
        band(course, "cosine")


def test_runs_are_compared_moment_by_moment():
    course = made_up()
    other = SimpleNamespace(**{**vars(course), "losses": course.losses * [[1], [3]]})
    assert times(other, course, "loss", (0, 1)) == 2  # the median of 1 and 3
    assert times(other, course, "loss") == 3
    assert times(other, course, "loss", (0, 0.5)) == 1
    assert typical(course, "loss") == 4
    assert typical(course, "loss", (0, 1)) == 3
    assert overshoots(course) == 1
    assert overshoots(course, (0, 1)) == 0.5


def test_runs_are_compared_at_the_same_loss():
    course = made_up()
    later = SimpleNamespace(**{**vars(course), "loss": course.loss[::-1]})
    assert times_at_loss(course, later, "loss", 0.5, 2) == 4 / 2
    assert times_at_loss(course, later, "loss", 5, 10) == 2 / 4
    assert times_at_loss(course, later, "loss", 0, 10) == 1
    assert np.isnan(times_at_loss(course, later, "loss", 1, 9))  # the ends do not count


def test_the_farthest_length_is_the_last_and_nothing_else_changes():
    course = smoothness.watch_course.func(replace(SMALL, norm="torch"), 0, every=12)
    far = show.farthest(course)
    assert np.allclose(size(far, "beta"), course.changes[:, -1] / course.moved[:, -1])
    assert far.losses.tolist() == course.losses[:, -1:].tolist()
    assert overshoots(far) == overshoots(course)
    assert far.loss is course.loss


def test_the_loss_after_training_is_taken_with_and_without_the_noise():
    with_noise, without = np.array(show.loss_after("noisy")), np.array(show.loss_after("noisy", noise=False))
    assert without.mean() < with_noise.mean()
    assert show.loss_after("bn") == show.loss_after("bn", noise=False)
    trained_last = [course.trained[-20:].mean() for course in show.runs(arm="noisy")]
    assert with_noise.mean() == pytest.approx(np.mean(trained_last), rel=0.2)


@one_thread()
def test_training_stops_before_the_update_that_is_asked_for():
    stopped = stop_before(SMALL, 3, 7)
    every = list(updates(replace(SMALL, steps=7), 3))
    assert stopped.step == 7
    assert_close(dict(stopped.net.named_parameters()), dict(every[-1].net.named_parameters()), rtol=0, atol=0)
    assert_close(stopped.batch, every[-1].batch)
    assert stop_before(SMALL, 3, 0).step == 0


def test_a_loss_that_overflows_is_told_as_it_is():
    probes = smoothness.along_gradient(lambda w: (w[0] ** 4).sum(), [torch.tensor([1e6])], [0.1, 1e3])
    assert not np.isfinite(probes.losses).any()
    settings = Settings(depth=10, nonlinearity="relu", init="he", lr=10.0, steps=50)
    course = smoothness.watch_course.func(settings, 0, every=1)
    assert not np.isfinite(course.trained[-1])
    assert len(course.step) == len(course.trained) + 1


def test_a_surface_is_the_loss_at_its_spots():
    net = network("noisy")
    loss, point = smoothness.loss_of(net, *batch_of(net), F.cross_entropy), [w.detach() for w in net.parameters()]
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
        lengthen(net, factor)
        assert_close(net[0].weight, factor * network("bn").double()[0].weight)
        assert_close(net[-1].weight, network("bn").double()[-1].weight)
        loss, w = smoothness.loss_of(net, *batch_of(net), F.cross_entropy), [w.detach() for w in net.parameters()]
        for filterwise in (True, False):
            chance = torch.Generator().manual_seed(2)
            first, second = (random_direction(w, chance, filterwise) for _ in range(2))
            first[-2], second[-2] = 0 * w[-2], 0 * w[-2]  # the last layer is not normalised
            point[factor, filterwise] = surface(loss, w, first, second, [-0.02, 0, 0.02])
    assert np.allclose(point[1, True], point[5, True], rtol=1e-3)
    assert np.ptp(point[1, True]) > 0.01
    assert np.ptp(point[5, False]) < 0.5 * np.ptp(point[1, False])
    assert point[1, False][1, 1] == pytest.approx(point[5, False][1, 1], rel=1e-3)


@one_thread()
def test_a_slice_is_taken_around_the_trained_weights():
    settings = replace(SMALL, norm="torch", steps=5)
    found = smoothness.slice_around.func(settings, 2, many=3)
    *_, last = updates(settings, 2)
    x, y, *_ = settings.task()
    assert found[1, 1] == pytest.approx(F.cross_entropy(last.net(x[:200]), y[:200]).item(), rel=1e-5)
    assert np.ptp(found) > 0
    assert not np.allclose(found, smoothness.slice_around.func(settings, 2, factor=3.0, filterwise=False, many=3))


def test_sizes_of_a_real_course_are_what_the_paper_defines():
    course = smoothness.watch_course.func(replace(SMALL, norm="torch"), 0, every=12)
    assert course.losses.shape == course.changes.shape == course.moved.shape == (3, 8)
    assert np.allclose(course.moved, SMALL.lr * np.outer(course.slope, LENGTHS))
    assert (LENGTHS[0], LENGTHS[-1], len(LENGTHS)) == (0.5, 4.0, 8)
    assert np.allclose(size(course, "beta"), (course.changes / course.moved).max(1))
    assert not re.search(r"optim", inspect.getsource(smoothness))  # nothing here trains
