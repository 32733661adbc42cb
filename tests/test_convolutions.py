"""The evidence of "Convolutions and batches", against what is written out by hand, the engine, and torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils.batchnorm import BatchNorm2d
from utils.checks.convolutions import check_with_tables
from utils.experiments import convolutions as experiment
from utils.experiments.convolutions import BATCH_SIZES, CASES, BatchNormInParts, Outcome, Shared, Steadiness
from utils.networks import preserve_state
from utils.seeds import numpy_rng
from utils.training import Settings, trained_seeds, updates_together

SMALL = Shared("bn", depth=2, width=12, nonlinearity="relu", init="he", lr=0.1, steps=4, batch_size=8, share=4)


def values(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_maps_are_those_of_the_layer_that_is_named():
    images = Settings(data="fashion").task().x_train[:3]
    conv = Settings(data="fashion", depth=1, width=4).network(0)[0]
    by_hand = F.conv2d(images, conv.weight, conv.bias, padding=1)
    assert torch.allclose(experiment.feature_maps("convolution"), by_hand)
    profile = experiment.feature_maps("sequence")
    assert profile.shape == (3, 4, images.shape[2])
    with pytest.raises(ValueError, match="kind: expected one of"):
        experiment.feature_maps("image")


def test_bn_of_images_is_bn_of_a_table_of_places():
    assert max(each.max() for each in experiment.as_table_errors(seeds=2).values()) < 1e-12


def worth(of):
    strays = experiment.strays_of(of, numpy_rng(0), batches=400)
    return Steadiness(strays[None], np.array([of[0, 0].numel()])).worth[0]


def test_alike_places_are_worth_one_value_and_independent_ones_all():
    alike = values(3000, 2)[:, :, None, None].expand(-1, -1, 5, 5)
    assert worth(alike) == pytest.approx(1, rel=0.1)
    assert worth(values(3000, 2, 5, 5)) == pytest.approx(25, rel=0.1)
    half = torch.cat([alike[..., :3], values(3000, 2, 5, 2)], -1)  # 15 alike, 10 independent: 25² / (15² + 10)
    assert worth(half) == pytest.approx(625 / 235, rel=0.1)


def test_strays_are_those_of_drawn_batches():
    x = values(200, 3, 4, 4)
    rng, strays = numpy_rng(0), experiment.strays_of(x, numpy_rng(0), batches=20)
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)
    for n, stray in zip(BATCH_SIZES, strays, strict=True):
        batches = x[torch.from_numpy(rng.integers(200, size=(20, n)))]
        off = (batches.mean((1, 3, 4)) - mean) / std
        assert stray == pytest.approx(off.square().mean().sqrt().item())


@pytest.mark.parametrize("shape", [(12, 3), (12, 3, 4, 5)])
def test_parts_are_normalised_one_after_another(shape):
    x = values(*shape).requires_grad_()
    g = values(*shape, seed=1)
    layer, one = BatchNormInParts(3, share=4).double(), nn.BatchNorm2d(3).double()
    with torch.no_grad():
        for each in (layer, one):
            each.weight.copy_(torch.tensor([0.5, 1.0, 2.0])), each.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    theirs = torch.cat([one(part[..., None, None] if len(shape) == 2 else part) for part in x.split(4)]).view(shape)
    theirs.backward(g)
    expected, x.grad = x.grad, None
    ours = layer(x)
    ours.backward(g)
    assert torch.allclose(ours, theirs)
    assert torch.allclose(x.grad, expected)
    assert torch.allclose(layer.weight.grad, one.weight.grad)
    for name in ("running_mean", "running_var"):
        assert torch.allclose(getattr(layer, name), getattr(one, name))
    in_use = layer.eval()(x), one.eval()(x.view(*shape, *[1] * (4 - len(shape)))).view(shape)
    assert torch.allclose(*in_use)


def test_parts_must_be_whole_and_have_something_to_average():
    with pytest.raises(ValueError, match="x: expected a multiple of 4 examples, got 6"):
        BatchNormInParts(3, share=4)(torch.rand(6, 3))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNormInParts(3, share=1)(torch.rand(6, 3))


@pytest.mark.parametrize("of", [{}, {"data": "fashion", "width": 3}])
def test_a_network_in_parts_trains_as_the_engine_does_with_micro_batches(of):
    ours = replace(SMALL, steps=2, **of)
    given = {name: getattr(ours, name) for name in Settings.__dataclass_fields__}
    theirs = Settings(**{**given, "micro_batch": 4})
    *_, ours = updates_together(ours, 2)
    *_, theirs = updates_together(theirs, 2)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
    for one, other in zip(ours.ensemble.nets, theirs.ensemble.nets, strict=True):
        state, expected = one.state_dict(), other.state_dict()
        for name in (each for each in state if "tracked" not in each):
            assert torch.allclose(state[name], expected[name], atol=1e-4)


def test_an_outcome_is_that_of_the_trained_networks():
    found, task = experiment.outcome.func(SMALL, last=2, seeds=2), SMALL.task()
    for seed, net in enumerate(trained_seeds(SMALL, 2)):
        assert found.evaluation[seed] == pytest.approx(
            (net.eval()(task.x_test).argmax(1) == task.y_test).double().mean().item()
        )
        x, y = experiment._whole_parts(task.x_test, task.y_test, 8, seed)
        with preserve_state(net, training=True), torch.no_grad():
            right = torch.cat([net(part).argmax(1) for part in x.split(4)]) == y
        assert found.own[seed] == pytest.approx(right.double().mean().item())
    accuracies = [moment.accuracy for moment in updates_together(SMALL, 2)]
    assert found.training == pytest.approx(np.mean(accuracies[-2:], axis=0))
    plain = experiment.outcome.func(replace(SMALL, norm="plain", share=0, batch_size=4), last=2, seeds=2)
    assert plain.own == pytest.approx(plain.evaluation)  # 360 test digits are whole parts of 4


def pretend(asked):
    def sweep(_, jobs):
        asked.extend(jobs)
        return [Outcome(*[np.array([settings.lr, settings.lr])] * 3) for settings, *_ in jobs]

    return sweep


def test_rates_are_chosen_on_images_set_aside(monkeypatch):
    asked = []
    monkeypatch.setattr(experiment, "sweep", pretend(asked))
    assert experiment.chosen_rate.__wrapped__("fully connected", "bn", 4) == 0.3  # which here is right most often
    assert experiment.chosen_rate.__wrapped__("convolutional", "bn", 1) == 0.2
    assert all(settings.validation for settings, *_ in asked)
    dense, conv = (list(CASES[case].rates) for case in ("fully connected", "convolutional"))
    assert [settings.share for settings, *_ in asked] == [4] * len(dense) + [32] * len(conv)
    assert [settings.lr for settings, *_ in asked] == dense + conv


def test_who_does_not_ask_for_the_share_is_trained_once(monkeypatch):
    asked = []
    monkeypatch.setattr(experiment, "sweep", pretend(asked))
    monkeypatch.setattr(experiment, "chosen_rate", lambda case, arm, share: share / 100)
    found = experiment.outcomes.__wrapped__("fully connected")
    assert [settings.norm for settings, *_ in asked] == ["plain", *["bn"] * 4, "group"]
    assert found["plain"][2] is found["plain"][32]
    assert found["bn"][2].training[0] == 0.02
    asked.clear()
    experiment.outcomes.__wrapped__("fully connected, small steps")
    assert [settings.batch_size for settings, *_ in asked] == 3 * list(CASES["fully connected, small steps"].shares)


def test_batches_hold_so_many_classes():
    labels = np.arange(400) % 10
    for classes in (1, 2, 10):
        drawn = experiment._drawn(labels, classes, numpy_rng(0)).numpy()
        assert drawn.shape == (experiment.BATCHES, experiment.SIZE)
        assert all(len(set(labels[row])) <= classes and len(set(row)) == experiment.SIZE for row in drawn)


def test_a_plain_network_does_not_ask_for_its_company():
    settings, looks = replace(experiment.ONE_KIND, steps=6, width=12), (3, 6)
    of = experiment.batches_of_one_kind.func("plain", 2, 2, settings, looks)
    (_, _, x, y) = settings.task()
    for seed, net in enumerate(trained_seeds(replace(settings, classes_per_batch=2), 2)):
        right = net(x).argmax(1) == y
        rng = numpy_rng(seed)
        drawn = experiment._drawn(y.numpy(), 10, rng)
        assert of.evaluation[-1, seed] == pytest.approx(right.double().mean().item())
        assert of.mixed[-1, seed] == pytest.approx(right[drawn].double().mean().item(), abs=0.01)
    assert np.isnan(of.latest).all()
    accuracies = [moment.accuracy for moment in updates_together(replace(settings, classes_per_batch=2), 2)]
    assert of.training[0] == pytest.approx(np.mean(accuracies[:4], axis=0), abs=1e-6)


def test_the_latest_class_is_that_of_the_batch_that_was_trained_on():
    settings = replace(experiment.ONE_KIND, steps=3, width=12)
    of = experiment.batches_of_one_kind.func("plain", 1, 2, settings, looks=(3,))
    moments = list(updates_together(replace(settings, classes_per_batch=1), 2))
    labels = moments[2].batch[1][:, 0]  # the batch that the third update was for
    x = settings.task().x_test
    for seed, net in enumerate(moments[-1].ensemble.nets):
        given = (net(x).argmax(1) == labels[seed]).double().mean().item()
        assert of.latest[0, seed] == pytest.approx(given)


def with_rows(x, layer):
    rows = x.permute(0, 2, 3, 1)
    return layer(rows.flatten(0, 2)).view(rows.shape).permute(0, 3, 1, 2)


def test_the_check_knows_what_is_right():
    assert check_with_tables(with_rows) == "Right."


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x, layer: layer(x.reshape(-1, 3)).reshape(x.shape), "A row of the table must hold the channels"),
        (lambda x, layer: layer(x.permute(0, 2, 3, 1).reshape(-1, 3)).reshape(x.shape), "lie in the wrong places"),
        (lambda x, layer: layer(x), "It raises ValueError"),
        (lambda x, layer: x, "where is the layer"),
        (lambda x, layer: layer(x.permute(0, 2, 3, 1).reshape(-1, 3)), "Expected the shape"),
        (lambda x, layer: BatchNorm2d(3)(x) * 2, "not the values of BN"),
    ],
)
def test_the_check_says_what_is_wrong(wrong, said):
    assert said in check_with_tables(wrong)
