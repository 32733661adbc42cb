"""Definition 2.1 against brute force, against numbers made by hand, and against the slips that are easily made."""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from utils.experiments import two_meanings
from utils.experiments.internal_covariate_shift import watch_drift
from utils.experiments.two_meanings import (
    NETWORKS,
    Agreement,
    GradientPair,
    Network,
    Part,
    Quantity,
    agreement,
    at_levels,
    equal_loss_ratios,
    gradient_pairs,
    layers_of,
    measure_ics,
    measured,
    one_update,
    over_layers,
    preactivations_from_below,
    ratio,
    step_below,
    two_gradients,
)
from utils.networks import LINEAR, mlp, preactivations, vgg
from utils.seeds import torch_rng
from utils.training import Settings, one_thread, train_seeds, updates, updates_together, weights_of_seeds

SMALL = Settings(depth=3, width=12, lr=0.5, steps=9, nonlinearity="tanh")
NETS = {
    "plain": SMALL,
    "bn": replace(SMALL, norm="bn"),
    "linear": Settings("bn", depth=3, width=10, nonlinearity="none", data="linear map", batch_size=0, lr=1e-6, steps=9),
    "images": Settings("bn", depth=4, width=2, nonlinearity="relu", data="fashion", batch_size=8, steps=9),
}
measure = measure_ics.func  # the function behind the disk


def first(settings, **kwargs):
    """The record of seed 0."""
    return measure(settings, 1, **kwargs)[0]


loss = nn.functional.cross_entropy


@pytest.fixture(params=list(NETS))
def settings(request):
    return NETS[request.param]


@one_thread()
def states(settings, seed=0):
    """The network after every update, and the mini-batch of every update as training itself saw it."""
    seen, images, labels = [], [], []
    for update in updates(settings, seed):
        if update.step == 0:
            update.net.register_forward_pre_hook(lambda _, given: images.append(given[0]))
        seen.append(deepcopy(update.net))
        seen[-1]._forward_pre_hooks.clear()
    task, chance = settings.task(), torch_rng(seed)
    for _ in range(settings.steps):
        many = len(task.x_train)
        drawn = torch.randint(many, (settings.batch_size,), generator=chance) if settings.batch_size else range(many)
        labels.append(task.y_train[drawn])
    return seen, [*zip(images, labels, strict=True)]


def starts(net):
    return [i for i, module in enumerate(net) if isinstance(module, LINEAR)]


def gradient_with(before, after, moved, start, x, y, loss):
    """The gradient of the weight of module `start` with the modules `moved` as in `after`, by a copy of the network."""
    net = deepcopy(before).train()
    for theirs, ours in zip(net[moved], after[moved], strict=True):
        for mine, new in zip(theirs.parameters(), ours.parameters(), strict=True):
            mine.data.copy_(new.data)
    loss(net(x), y).backward()
    return net[start].weight.grad.double().flatten()


def brute_force(before, after, x, y, loss):
    """Copy the network, move by hand the parameters below each layer, and let torch do the rest."""
    return [
        GradientPair(*(gradient_with(before, after, slice(moved), start, x, y, loss) for moved in (0, start)))
        for start in starts(before)
    ]


# --- the definition ---------------------------------------------------------------------------------------------------


def test_it_is_what_brute_force_finds(settings):
    nets, seen = states(settings)
    for step in (0, 4):
        given = (nets[step], nets[step + 1], *seen[step], settings.loss)
        for mine, judge in zip(gradient_pairs(*given), brute_force(*given), strict=True):
            assert_close(mine.before, judge.before, rtol=1e-4, atol=1e-6 * judge.before.abs().max().item())
            assert_close(mine.after, judge.after, rtol=1e-4, atol=1e-6 * judge.after.abs().max().item())


def test_what_is_easily_taken_for_it_is_another_number():
    nets, seen = states(NETS["bn"])
    before, after, (x, y) = nets[4], nets[5], seen[4]
    start = starts(before)[2]
    right = gradient_pairs(before, after, x, y, loss)[2].after
    slips = {
        "nothing moves": (slice(0), x, y),
        "the layer itself moves too": (slice(start + 3), x, y),
        "the layers above move": (slice(start + 3, None), x, y),
        "all layers move": (slice(None), x, y),
        "another batch": (slice(start), *seen[5]),
    }
    assert_close(right, gradient_with(before, after, slice(start), start, x, y, loss), rtol=1e-4, atol=1e-6)
    for slip, (moved, *batch) in slips.items():
        wrong = gradient_with(before, after, moved, start, *batch, loss)
        assert (wrong - right).norm() > 1e-3 * right.norm(), slip


def test_the_first_layer_has_none_exactly(settings):
    seen = first(settings, n_evals=3)
    assert not seen.distance[:, 0].any() and not seen.relative[:, 0].any()
    assert np.allclose(seen.cosine[:, 0], 1, rtol=0, atol=1e-12)
    assert not seen.jump[:, 0].any() and not seen.jump_of_std[:, 0].any() and not seen.step_below[:, 0].any()
    assert (seen.distance[:, 1:] > 0).all() and (seen.jump[:, 1:] > 0).any()


def test_without_an_update_below_nothing_changes(settings):
    untrained = next(updates(settings, 0))
    (x, y), net = untrained.batch, untrained.net
    other = deepcopy(net)
    with torch.no_grad():
        other[starts(other)[-1]].weight.add_(1.0)  # the last layer is below none
    assert not any(pair.distance for pair in gradient_pairs(net, other, x, y, settings.loss))


def test_it_knows_the_numbers_made_by_hand():
    net = mlp([1, 2, 1], nonlinearity="none")
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0], [1.0]]))
        net[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
    x, y, lr = torch.tensor([[1.0]]), torch.tensor([[3.0]]), 0.25

    def half_square(given, wanted):
        return (given - wanted).square().sum() / 2

    after = deepcopy(net)
    half_square(after(x), y).backward()
    with torch.no_grad():
        after[0].weight -= lr * after[0].weight.grad
    lower, upper = gradient_pairs(net, after, x, y, half_square)
    assert lower.distance == 0
    assert upper.before.tolist() == [-4.0, -2.0] and upper.after.tolist() == [-2.5, -0.5]
    assert upper.distance == pytest.approx(np.sqrt(4.5)) and upper.relative == pytest.approx(np.sqrt(4.5 / 20))
    assert upper.cosine == pytest.approx(11 / np.sqrt(20 * 6.5))
    by_hand, w = two_gradients(torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0]), 3.0, lr)
    assert_close(w, after[0].weight[:, 0].detach())
    assert_close(by_hand.before.double(), upper.before)
    assert_close(by_hand.after.double(), upper.after)


def test_a_pair_knows_distance_and_angle():
    pair = GradientPair(torch.tensor([3.0, 4.0]), torch.tensor([-4.0, 3.0]))
    assert pair.distance == pytest.approx(np.sqrt(50)) and pair.relative == pytest.approx(np.sqrt(2))
    assert pair.cosine == pytest.approx(0)
    opposite = GradientPair(torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.0]))
    assert (opposite.distance, opposite.cosine) == (3.0, -1.0)  # not 1, as ||G + G'|| would be
    assert GradientPair(torch.zeros(2), torch.zeros(2)).relative == 0
    assert np.isnan(GradientPair(torch.ones(2), torch.zeros(2)).cosine)


def test_noise_is_refused():
    net = mlp([4, 8, 3], "noisy")
    with pytest.raises(ValueError, match="norm: expected one without noise"):
        gradient_pairs(net, net, torch.rand(5, 4), torch.zeros(5, dtype=int), loss)


# --- on a run ---------------------------------------------------------------------------------------------------------


def followed(settings):
    """Compare a measured run with brute force at every update."""
    seen, (nets, given) = first(settings, n_evals=4), states(settings)
    assert seen.eval_steps.tolist() == [0, 3, 5, 8]
    for i, step in enumerate(seen.eval_steps):
        pairs = brute_force(nets[step], nets[step + 1], *given[step], settings.loss)
        norms = [pair.before.norm().item() for pair in pairs]
        assert np.allclose(seen.gradient_norm[i], norms, rtol=2e-3)
        for name in ("distance", "relative", "cosine"):
            expected = [getattr(pair, name) for pair in pairs]
            rounding = 1e-5 * (max(norms) if name == "distance" else 1)
            assert np.allclose(getattr(seen, name)[i], expected, rtol=2e-3, atol=rounding), (step, name)


def test_a_run_holds_what_brute_force_finds(settings):
    followed(settings)


def other_batch(settings, before, after, x, y, *rest):
    return right(settings, before, after, x.roll(1, 0), y, *rest)


def exchanged(settings, before, after, *rest):
    return right(settings, after, before, *rest)


right = two_meanings._measured


@pytest.mark.parametrize(
    ("name", "slip"),
    [("_measured", other_batch), ("_measured", exchanged), ("deepcopy", lambda net: net)],
    ids=["another batch", "before and after exchanged", "no copy"],
)
def test_a_slip_in_the_run_is_seen(name, slip, monkeypatch):
    monkeypatch.setattr(two_meanings, name, slip)
    with pytest.raises(AssertionError):
        followed(NETS["bn"])


def test_the_batches_are_those_of_training(settings):
    nets, given = states(settings)
    for update, (x, y) in zip(updates(settings, 0), given, strict=False):
        assert torch.equal(update.batch[0], x) and torch.equal(update.batch[1], y)
    weight = [net[0].weight.detach() for net in nets]
    for step in (0, 5):
        (pair, *_) = gradient_pairs(nets[step], nets[step + 1], *given[step], settings.loss)
        measured_step = -settings.lr * pair.before.float().view_as(weight[step])
        taken = weight[step + 1] - weight[step]  # the measured gradient is the one that training stepped along
        assert_close(measured_step, taken, rtol=0, atol=1e-4 * taken.abs().max().item() + 1e-6)


def test_training_goes_on_as_if_nobody_looked(settings, monkeypatch):
    last = {}

    def spied(*given):
        for moment in updates_together(*given):
            last.update(deepcopy(moment.ensemble.nets[1].state_dict()))
            yield moment

    monkeypatch.setattr(two_meanings, "updates_together", spied)
    runs, states, seen = (
        function(settings, 2, **rest)
        for function, rest in ((train_seeds.func, {}), (weights_of_seeds.func, {}), (measure, {"n_evals": 9}))
    )
    assert all(np.array_equal(record.loss, run.loss) for record, run in zip(seen, runs, strict=True))
    assert states[1].keys() == last.keys()
    for name, value in states[1].items():
        assert np.array_equal(value, last[name].numpy()), name


def test_a_level_is_measured_when_the_loss_has_come_down_to_it():
    settings = replace(NETS["bn"], steps=60)
    (record,) = measure(settings, 1, n_evals=2, levels=(2.0, 1.0, 0.0))
    recent = np.convolve(record.loss, np.ones(5) / 5, "valid")  # after the updates 5, 6, ...
    for level in (2.0, 1.0):
        (step,) = record.eval_steps[record.level == level]
        assert step == 5 + np.flatnonzero(recent <= level)[0]
    assert not (record.level == 0).any() and record.eval_steps[np.isnan(record.level)].tolist() == [0, 59]
    assert measured(record, Quantity.DISTANCE).shape == (2, 3)


def test_running_statistics_stay_as_they_are(monkeypatch):
    before, after, x = mlp([6, 5, 4, 3], "bn"), mlp([6, 5, 4, 3], "bn"), torch.randn(9, 6)
    y, held = torch.zeros(9, dtype=int), [deepcopy(net.state_dict()) for net in (before, after)]

    def untouched():
        return all(
            torch.equal(value, kept[name])
            for net, kept in zip((before, after), held, strict=True)
            for name, value in net.state_dict().items()
        )

    gradient_pairs(before, after, x, y, loss)
    preactivations_from_below(before, after, x)
    assert untouched() and all(value.grad is None for net in (before, after) for value in net.parameters())
    monkeypatch.setattr(two_meanings, "preserve_state", nullcontext)
    gradient_pairs(before, after, x, y, loss)
    assert not untouched()


# --- the other meaning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["plain", "bn"])
def test_the_drift_is_that_of_the_other_chapter(norm):
    settings = replace(SMALL, norm=norm, steps=9)
    mine, theirs = first(settings, n_evals=9), watch_drift.func(settings, 1, n_evals=10)[0]
    assert mine.eval_steps.tolist() == theirs.eval_steps[:-1].tolist()
    means, stds = (each["preactivation"][:-1] for each in (theirs.mean, theirs.std))
    far, wider = np.abs(means - means[0]), np.abs(stds - stds[0])
    for name, expected in (("drift", far / stds), ("drift_absolute", far), ("drift_of_std", wider / stds)):
        assert np.allclose(getattr(mine, name)[:, :3], expected.mean(-1), rtol=1e-3, atol=1e-5), name


def test_arrivals_are_of_the_old_layer_on_moved_ones():
    before, after, x = mlp([6, 5, 4, 3], "bn"), mlp([6, 5, 4, 3], "bn"), torch.randn(9, 6)
    found = preactivations_from_below(before, after, x)
    for i, start in enumerate(starts(before)):
        hybrid = nn.Sequential(*after[:start], before[start])
        assert_close(found[i], hybrid(x).detach())
    assert_close(preactivations_from_below(before, before, x), preactivations(before, x))


def test_the_jump_is_of_the_layers_below_alone():
    nets, _ = states(SMALL)
    seen, probe = first(SMALL, n_evals=9), SMALL.task().x_train[:500]
    for step in (0, 6):
        for i, start in enumerate(starts(nets[step])):
            with torch.no_grad():
                now = nets[step][: start + 1](probe)
                moved = nn.Sequential(*nets[step + 1][:start], nets[step][start])(probe)
            stds = now.std(0, correction=0)
            for found, change in (
                (seen.jump, moved.mean(0) - now.mean(0)),
                (seen.jump_of_std, moved.std(0, correction=0) - stds),
            ):
                assert np.allclose(found[step, i], (change.abs() / stds).mean(), rtol=1e-3, atol=1e-5)


def test_images_keep_their_shape():
    net, x = vgg(2, 3), torch.rand(4, 1, 6, 6)
    assert_close(preactivations_from_below(net, net, x)[0], net[0](x).detach())


def test_bn_hands_on_a_mean_that_a_linear_network_cannot_move():
    seen = first(replace(NETS["linear"], steps=5), n_evals=5, probe=1000)  # the whole batch: its mean is beta
    assert seen.jump[:, 2:-1].max() < 1e-5 < seen.jump_of_std[:, 2:-1].min()


# --- what is made of it -----------------------------------------------------------------------------------------------


def test_steps_below_add_up():
    before, after = mlp([6, 5, 4, 3], "bn"), mlp([6, 5, 4, 3], "bn")
    with torch.no_grad():
        for net in (before, after):
            for value in net.parameters():
                value.zero_()
        after[0].weight[0, 0], after[1].bias[2], after[3].weight[1, 1] = 3.0, 4.0, 12.0
    assert step_below(before, after).tolist() == [0.0, 5.0, 13.0]


def test_a_layer_is_cut_off_with_all_that_follows_it():
    assert [[type(module).__name__ for module in layer] for layer in layers_of(vgg(2, 3, "bn"))] == [
        ["Conv2d", "BatchNorm2d", "ReLU"],
        ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "AdaptiveAvgPool2d", "Flatten"],
        ["Linear"],
    ]


def test_ratios_are_medians_over_updates_and_layers():
    run = first(SMALL, n_evals=3)
    other = run._replace(
        distance=run.distance * 3, drift=run.drift * 2, cosine=1 - (1 - run.cosine) * 5, step_below=run.step_below / 2
    )
    times = {Quantity.DISTANCE: 3, Quantity.DISTANCE_PER_STEP: 6, Quantity.ANGLE: 5, Quantity.DRIFT: 2}
    for quantity, expected in times.items():
        assert ratio(run, other, quantity) == pytest.approx(expected)
    late = run._replace(distance=run.distance * np.array([[1], [1], [7]]))
    assert ratio(run, late, Quantity.DISTANCE, Part.LATE) == pytest.approx(7)
    assert ratio(run, late, Quantity.DISTANCE, Part.FIRST) == ratio(run, late, Quantity.DISTANCE) == 1
    assert np.isnan(ratio(run, late, Quantity.DRIFT, Part.FIRST))


def test_every_quantity_is_in_a_record():
    run = first(SMALL, n_evals=3)
    assert all(measured(run, quantity).shape == (3, 3) for quantity in Quantity)


@pytest.fixture
def made(monkeypatch):
    """Two made-up networks with one record an arm and seed, whose distances are known."""
    run = first(SMALL, n_evals=2, levels=(9.0,))  # of the schedule, of the level, of the schedule

    def with_distance(*values):
        return run._replace(distance=np.tile(np.array(values)[:, None], (1, 4)), step_below=np.ones((3, 4)))

    found = {
        "a": {"plain": [with_distance(1, 2, 1)] * 2, "bn": [with_distance(3, 8, 3), with_distance(5, 1, 5)]},
        "b": {"plain": [with_distance(4, 1, 4)] * 2, "bn": [with_distance(1, 1, 1), with_distance(2, 1, 2)]},
    }
    monkeypatch.setattr(two_meanings, "records", lambda network: found[network.settings.data])
    return [Network(Settings(data=name), levels=(9.0, 1.0)) for name in "ab"]


def test_levels_and_schedule_are_kept_apart(made):
    values = at_levels(made[0], Quantity.DISTANCE)
    assert np.allclose(values["bn"], [[8, np.nan], [1, np.nan]], equal_nan=True)
    assert equal_loss_ratios(made[0], Quantity.DISTANCE, [9.0, 1.0]).tolist() == pytest.approx([4, 0.5])
    assert equal_loss_ratios(made[0], Quantity.DISTANCE, [1.0]).shape == (0,)


def test_agreement_counts_pairs(made):
    found = agreement(Quantity.DISTANCE, Quantity.DISTANCE_PER_STEP, networks=made)
    assert found == Agreement(pairs=4, less_first=2, less_second=2, agree=4, rank=pytest.approx(1))


def test_one_update_is_that_of_the_run(settings):
    (nets, given), (before, after, x, y) = states(settings), one_update(settings, 0, 5)
    assert torch.equal(x, given[5][0]) and torch.equal(y, given[5][1])
    for mine, theirs in ((before, nets[5]), (after, nets[6])):
        for value, expected in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(value, expected)
    with pytest.raises(ValueError, match="step: expected fewer than the 9 updates"):
        one_update(settings, 0, 9)


def test_a_divergence_ends_the_record():
    seen = first(Settings(depth=10, nonlinearity="relu", init="he", lr=10.0, steps=50), n_evals=50)
    assert 1 <= len(seen.eval_steps) < 50
    assert len(seen.distance) == len(seen.eval_steps) < 50


def test_the_mean_over_layers_is_geometric_but_for_the_cosine():
    values = np.array([[1.0, 10.0, 100.0]])
    assert over_layers(values, Quantity.DISTANCE).tolist() == pytest.approx([10])
    assert over_layers(values, Quantity.COSINE).tolist() == pytest.approx([37])


def test_doubled_weights_halve_the_shift():
    errors = two_meanings.errors_of_rescaling(seeds=1, step=1)
    assert max(each.max() for each in errors.values()) < 1e-3


def test_the_networks_are_six_and_standardised():
    assert len(NETWORKS) == 6 and {network.settings.inputs for network in NETWORKS.values()} == {"standardized"}
