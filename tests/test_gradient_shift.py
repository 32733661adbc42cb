"""Definition 2.1 against brute force, against numbers made by hand, and against the slips that are easily made."""

import inspect
from copy import deepcopy
from dataclasses import replace
from textwrap import dedent

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from utils import gradient_shift
from utils.drift import PROBE, YARDSTICKS, watch_drift
from utils.gradient_shift import (
    MOMENTS,
    Pair,
    arrivals,
    gradient_pairs,
    layers_of,
    measured,
    one_update,
    over_layers,
    ratio,
    step_below,
    two_gradients,
    watch_both,
    within,
)
from utils.networks import LINEAR, mlp, preactivations, vgg
from utils.seeds import torch_rng
from utils.training import Settings, one_thread, train, updates, weights

SMALL = Settings(depth=3, width=12, lr=0.5, steps=9, nonlinearity="tanh")
NETS = {
    "plain": SMALL,
    "bn": replace(SMALL, norm="bn"),
    "torch": replace(SMALL, norm="torch"),
    "linear": Settings("bn", depth=3, width=10, nonlinearity="none", data="linear map", batch_size=0, lr=1e-6, steps=9),
    "images": Settings("bn", depth=4, width=2, nonlinearity="relu", data="fashion", batch_size=8, steps=9),
}
watch = watch_both.func  # the function behind the disk
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


def brute_force(before, after, x, y, loss):
    """Copy the network, move by hand the parameters below each layer, and let torch do the rest."""
    found = []
    for start in starts(before):
        gradients = []
        for moved in (0, start):
            net = deepcopy(before).train()
            for theirs, ours in zip(net[:moved], after[:moved], strict=True):
                for mine, new in zip(theirs.parameters(), ours.parameters(), strict=True):
                    mine.data.copy_(new.data)
            loss(net(x), y).backward()
            gradients.append(net[start].weight.grad.double().flatten())
        found.append(Pair(*gradients))
    return found


def agrees(function, settings):
    nets, seen = states(settings)
    for step in (0, 4):
        given = (nets[step], nets[step + 1], *seen[step], settings.loss)
        for mine, judge in zip(function(*given), brute_force(*given), strict=True):
            assert_close(mine.before, judge.before, rtol=1e-4, atol=1e-6 * judge.before.abs().max().item())
            assert_close(mine.after, judge.after, rtol=1e-4, atol=1e-6 * judge.after.abs().max().item())


def mutated(function, *changes):
    """The function with its source changed, in its module's names."""
    source = dedent(inspect.getsource(function))
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    names = dict(vars(gradient_shift))
    exec(source, names)
    return names[function.__name__]


# --- the definition ---------------------------------------------------------------------------------------------------


def test_it_is_what_brute_force_finds(settings):
    agrees(gradient_pairs, settings)


@pytest.mark.parametrize(
    "changes",
    {
        "another batch for G'": [("layers_of(after), [], x", "layers_of(after), [], x.flip(0)")],
        "the layer itself moves too": [
            ("for layer in old[i:]:", "for layer in [new[i], *old[i + 1 :]]:"),
            ("loss(scores, y), [weight]", "loss(scores, y), [new[i][0].weight]"),
        ],
        "the layers above move": [
            ("for layer in old[i:]:", "for layer in [old[i], *new[i + 1 :]]:"),
            ("u = new[i](u)", "u = old[i](u)"),
        ],
        "the layers above move too": [("for layer in old[i:]:", "for layer in [old[i], *new[i + 1 :]]:")],
        "nothing moves": [("u = new[i](u)", "u = old[i](u)")],
        "evaluation": [("with looking(before), looking(after):", "before.eval(), after.eval()\n    if True:")],
    }.values(),
    ids=lambda changes: changes[0][1],
)
def test_a_slip_in_the_definition_is_seen(changes):
    with pytest.raises(AssertionError):
        agrees(mutated(gradient_pairs, *changes), NETS["bn"])


def test_the_first_layer_has_none_exactly(settings):
    seen = watch(settings, 0, looks=3)
    assert not seen.l2[:, 0].any() and not seen.relative[:, 0].any()
    assert np.allclose(seen.cosine[:, 0], 1, rtol=0, atol=1e-12)
    assert not seen.jump[:, :, :, 0].any() and not seen.below[:, 0].any()
    assert (seen.l2[:, 1:] > 0).all() and (seen.jump[..., 1:] > 0).any()


def test_without_an_update_below_nothing_changes(settings):
    first = next(updates(settings, 0))
    (x, y), net = first.batch, first.net
    other = deepcopy(net)
    with torch.no_grad():
        other[starts(other)[-1]].weight.add_(1.0)  # the last layer is below none
    assert not any(pair.l2 for pair in gradient_pairs(net, other, x, y, settings.loss))


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
    assert lower.l2 == 0
    assert upper.before.tolist() == [-4.0, -2.0] and upper.after.tolist() == [-2.5, -0.5]
    assert upper.l2 == pytest.approx(np.sqrt(4.5)) and upper.relative == pytest.approx(np.sqrt(4.5 / 20))
    assert upper.cosine == pytest.approx(11 / np.sqrt(20 * 6.5))
    by_hand, w = two_gradients(torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0]), 3.0, lr)
    assert_close(w, after[0].weight[:, 0].detach())
    assert_close(by_hand.before.double(), upper.before)
    assert_close(by_hand.after.double(), upper.after)


def test_a_pair_knows_distance_and_angle():
    pair = Pair(torch.tensor([3.0, 4.0]), torch.tensor([-4.0, 3.0]))
    assert pair.l2 == pytest.approx(np.sqrt(50)) and pair.relative == pytest.approx(np.sqrt(2))
    assert pair.cosine == pytest.approx(0)
    opposite = Pair(torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.0]))
    assert (opposite.l2, opposite.cosine) == (3.0, -1.0)  # not 1, as ||G + G'|| would be
    assert Pair(torch.zeros(2), torch.zeros(2)).relative == 0
    assert np.isnan(Pair(torch.ones(2), torch.zeros(2)).cosine)


def test_noise_is_refused():
    net = mlp([4, 8, 3], "noisy")
    with pytest.raises(ValueError, match="norm: expected one without noise"):
        gradient_pairs(net, net, torch.rand(5, 4), torch.zeros(5, dtype=int), loss)


# --- on a run ---------------------------------------------------------------------------------------------------------


def followed(function, settings):
    """Compare a watched run with brute force at every look."""
    seen, (nets, given) = function(settings, 0, looks=4), states(settings)
    assert seen.looked.tolist() == [0, 3, 5, 8]
    for look, step in enumerate(seen.looked):
        pairs = brute_force(nets[step], nets[step + 1], *given[step], settings.loss)
        for name in ("l2", "relative", "cosine"):
            expected = [getattr(pair, name) for pair in pairs]
            rounding = 1e-5 * (max(pair.before.norm().item() for pair in pairs) if name == "l2" else 1)
            assert np.allclose(getattr(seen, name)[look], expected, rtol=2e-3, atol=rounding), (step, name)


def test_a_run_holds_what_brute_force_finds(settings):
    followed(watch, settings)


@pytest.mark.parametrize(
    "change",
    {
        "the next batch": ("(before, x, y), after = last, ", "(before, *_), (x, y), after = last, update.batch, "),
        "always the first batch": ("net), *update.batch)", "net), *next(updates(settings, seed)).batch)"),
        "no copy": ("(deepcopy(update.net), *update.batch)", "(update.net, *update.batch)"),
        "before and after exchanged": ("(before, x, y), after = last, ", "(after, x, y), before = last, "),
    }.values(),
    ids=lambda change: change[1],
)
def test_a_slip_in_the_run_is_seen(change):
    with pytest.raises(AssertionError):
        followed(mutated(watch, ("@kept\n@one_thread()\n", ""), change), NETS["bn"])


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
        for update in updates(*given):
            last.update(deepcopy(update.net.state_dict()))
            yield update

    monkeypatch.setattr(gradient_shift, "updates", spied)
    run, state, seen = train.func(settings, 3), weights.func(settings, 3), watch(settings, 3, looks=9)
    assert np.array_equal(seen.loss, run.loss)
    assert state.keys() == last.keys()
    for name, value in state.items():
        assert np.array_equal(value, last[name].numpy()), name


@pytest.mark.parametrize("norm", ["bn", "torch"])
def test_running_statistics_stay_as_they_are(norm):
    before, after, x = mlp([6, 5, 4, 3], norm), mlp([6, 5, 4, 3], norm), torch.randn(9, 6)
    y, held = torch.zeros(9, dtype=int), [deepcopy(net.state_dict()) for net in (before, after)]

    def untouched():
        return all(
            torch.equal(value, kept[name])
            for net, kept in zip((before, after), held, strict=True)
            for name, value in net.state_dict().items()
        )

    gradient_pairs(before, after, x, y, loss)
    arrivals(before, after, x)
    assert untouched() and all(value.grad is None for net in (before, after) for value in net.parameters())
    careless = mutated(gradient_pairs, ("with looking(before), looking(after):", "if True:"))
    careless(before, after, x, y, loss)
    assert not untouched()


# --- the other meaning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["plain", "bn"])
def test_the_drift_is_that_of_the_other_chapter(norm):
    settings = replace(SMALL, norm=norm, steps=9)
    mine, theirs = watch(settings, 0, looks=9), watch_drift.func(settings, 0, looks=10)
    assert mine.looked.tolist() == theirs.looked[:-1].tolist()
    far = np.abs(theirs.mean[0] - theirs.mean[0, 0])[:-1]
    for way, widths in zip(YARDSTICKS, (1.0, theirs.std[0, 0], theirs.std[0, :-1]), strict=True):
        expected = (far / widths).mean(-1)
        assert np.allclose(mine.drift[0, YARDSTICKS.index(way)][:, :3], expected, rtol=1e-3, atol=1e-5)
    wider = np.abs(theirs.std[0] - theirs.std[0, 0])[:-1].mean(-1)
    assert np.allclose(mine.drift[1, 0][:, :3], wider, rtol=1e-3, atol=1e-5)


def test_arrivals_are_of_the_old_layer_on_moved_ones():
    before, after, x = mlp([6, 5, 4, 3], "bn"), mlp([6, 5, 4, 3], "bn"), torch.randn(9, 6)
    found = arrivals(before, after, x)
    for i, start in enumerate(starts(before)):
        hybrid = nn.Sequential(*after[:start], before[start])
        assert_close(found[i], hybrid(x).detach())
    assert_close(arrivals(before, before, x), preactivations(before, x))


def test_the_jump_is_of_the_layers_below_alone():
    nets, _ = states(SMALL)
    seen, probe = watch(SMALL, 0, looks=9), SMALL.task().x_train[:PROBE]
    for step in (0, 6):
        for i, start in enumerate(starts(nets[step])):
            with torch.no_grad():
                now = nets[step][: start + 1](probe)
                moved = nn.Sequential(*nets[step + 1][:start], nets[step][start])(probe)
            jump = (moved.mean(0) - now.mean(0)).abs()
            assert np.allclose(seen.jump[0, 0, step, i], jump.mean(), atol=1e-5)
            assert np.allclose(seen.jump[0, 2, step, i], (jump / now.std(0, correction=0)).mean(), rtol=1e-3, atol=1e-5)


def test_images_count_height_and_width_as_samples():
    net, x = vgg(2, 3), torch.rand(4, 1, 6, 6)
    maps = net[0](x).detach()
    values = arrivals(net, net, x)[0]
    assert values.shape == (4 * 36, 3)
    assert_close(values.mean(0), maps.mean((0, 2, 3)))


def test_bn_hands_on_a_mean_that_a_linear_network_cannot_move():
    seen = watch(replace(NETS["linear"], steps=5), 0, looks=5, probe=1000)  # the whole batch: its mean is beta
    assert seen.jump[0, 0, :, 2:-1].max() < 1e-5 < seen.jump[1, 0, :, 2:-1].min()


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


def test_ratios_are_medians_over_looks_and_layers():
    run = watch(SMALL, 0, looks=3)
    other = run._replace(l2=run.l2 * 3, drift=run.drift * 2, cosine=1 - (1 - run.cosine) * 5, below=run.below / 2)
    assert ratio(run, other, "l2") == pytest.approx(3) and ratio(run, other, "l2 per length") == pytest.approx(6)
    assert ratio(run, other, "angle") == pytest.approx(5)
    for moment in MOMENTS:
        for way in YARDSTICKS:
            assert ratio(run, other, f"drift, {moment}, {way}") == pytest.approx(2)
    late = run._replace(l2=run.l2 * np.array([[1], [1], [7]]))
    assert ratio(run, late, "l2", (0.6, 1.0)) == pytest.approx(7)
    assert measured(run, "l2").shape == (3, 3)


def test_within_takes_the_looks_with_that_loss():
    run = watch(SMALL, 0, looks=3)._replace(loss=np.arange(9.0))  # at its looks 0, 4 and 8
    run = run._replace(l2=np.array([[0, 1, 1, 1], [0, 2, 4, 8], [0, 5, 5, 5.0]]))
    assert within([run, run], "l2", 3, 5).tolist() == pytest.approx([4, 4])
    assert within([run], "l2", 10, 11).shape == (0,)
    assert within([run], "cosine", 3, 5) == pytest.approx(run.cosine[1, 1:].mean())


def test_one_update_is_that_of_the_run(settings):
    (nets, given), (before, after, x, y) = states(settings), one_update(settings, 0, 5)
    assert torch.equal(x, given[5][0]) and torch.equal(y, given[5][1])
    for mine, theirs in ((before, nets[5]), (after, nets[6])):
        for value, expected in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(value, expected)
    with pytest.raises(ValueError, match="step: expected fewer than the 9 updates"):
        one_update(settings, 0, 9)


def test_lengths_are_those_of_the_gradient():
    nets, given = states(SMALL)
    pairs = brute_force(nets[0], nets[1], *given[0], loss)
    expected = [pair.before.norm().item() for pair in pairs[1:]]
    assert np.allclose(measured(watch(SMALL, 0, looks=3), "length")[0], expected, rtol=1e-3)


def test_a_divergence_ends_the_looks():
    seen = watch(Settings(depth=10, nonlinearity="relu", init="he", lr=10.0, steps=50), 0, looks=50)
    assert 1 <= len(seen.looked) < 50
    assert len(seen.l2) == len(seen.looked) < len(seen.loss)


def test_the_mean_over_layers_is_geometric_but_for_the_cosine():
    run = watch(SMALL, 0, looks=3)._replace(l2=np.tile([0.0, 1.0, 10.0, 100.0], (3, 1)))
    assert over_layers(run, "l2").tolist() == pytest.approx([10, 10, 10])
    assert np.allclose(over_layers(run, "cosine"), run.cosine[:, 1:].mean(1))
