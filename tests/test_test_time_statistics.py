"""Images in another light, and statistics taken anew: against torch, one by one, and where nothing may change."""

import copy

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from utils.claims import test_time_statistics as claims
from utils.data import digits, input_statistics
from utils.experiments import test_time_statistics as test_time
from utils.networks import mlp, vgg
from utils.training import SEEDS, trained_seeds


@pytest.fixture(scope="module")
def nets():
    return {norm: trained_seeds(settings, 2)[0].eval() for norm, settings in test_time.NETWORKS.items()}


def test_light_is_changed_about_mid_grey_and_cut_where_asked():
    x = torch.tensor([0.0, 0.5, 1.0])
    assert_close(test_time.adjusted(x, 0.2, 2.0), torch.tensor([-0.3, 0.7, 1.7]))
    assert_close(test_time.adjusted(x, 0.2, 2.0, clip=True), torch.tensor([0.0, 0.7, 1.0]))
    assert_close(test_time.adjusted(x), x)


def test_corruptions_do_what_they_are_called():
    x = digits().x_test[:50]
    assert_close(test_time.corrupted(x, "unchanged"), x)
    assert_close(test_time.corrupted(x, "brighter"), x + 0.25)
    assert_close(test_time.corrupted(x, "low contrast"), 0.5 * x + 0.25)
    assert_close(test_time.corrupted(test_time.corrupted(x, "inverted"), "inverted"), x)
    assert abs((test_time.corrupted(x, "noise") - x).std() - 0.3) < 0.02
    assert not torch.equal(test_time.corrupted(x, "noise", 0), test_time.corrupted(x, "noise", 1))
    blurred = test_time.corrupted(x, "blurred").reshape(-1, 8, 8)
    assert_close(blurred[:, 3, 4], x.reshape(-1, 8, 8)[:, 2:5, 3:6].mean((1, 2)))
    with pytest.raises(ValueError, match="kind"):
        test_time.corrupted(x, "fog")


@pytest.mark.parametrize("norm_layer", ["bn", "torch"])
def test_new_statistics_are_those_of_training_mode(norm_layer):
    torch.manual_seed(0)
    for net, x in (
        (mlp([4, 16, 16, 3], norm_layer), torch.rand(40, 4)),
        (vgg(4, 4, norm_layer), torch.rand(10, 1, 14, 14)),
    ):
        state = {name: value.clone() for name, value in net.state_dict().items()}
        ours = test_time.recalibrated(net, x)
        for name, value in net.state_dict().items():
            assert torch.equal(value, state[name]), name  # the network itself stays as it was
        assert not ours.training
        assert_close(ours(x), net.train()(x), rtol=1e-4, atol=1e-5)


def test_images_are_standardised_by_the_training_digits_whatever_they_become():
    train, _, test, _ = digits()
    mean, std = input_statistics(train)
    assert_close(test_time.standardized_as_in_training(test + 0.5), (test + 0.5 - mean) / (std + 0.1))


def test_new_statistics_undo_light_but_not_inversion(nets):
    def scores(images):
        x = test_time.standardized_as_in_training(images)
        return test_time.recalibrated(nets["bn"], x)(x)

    images = digits().x_test
    expected = scores(images)
    for brightness, contrast in ((0.5, 1.0), (-0.3, 2.0), (0.0, 0.5)):
        assert_close(scores(test_time.adjusted(images, brightness, contrast)), expected, rtol=0, atol=0.02)
    assert (scores(1 - images) - expected).abs().max() > 1


def test_new_statistics_need_two_examples():
    with pytest.raises(ValueError, match="at least 2"):
        test_time.recalibrated(mlp([4, 3, 2], "bn"), torch.rand(1, 4))


def test_no_image_takes_part_in_the_statistics_that_it_is_classified_by(nets):
    x = test_time.standardized_as_in_training(digits().x_test[:40])
    before = test_time.predicted_classes(nets, x)["bn, re-estimated"]
    x[0] += 100.0  # spoils the second half's statistics, not the first's
    after = test_time.predicted_classes(nets, x)["bn, re-estimated"]
    assert torch.equal(before[1:20], after[1:20])
    assert not torch.equal(before[20:], after[20:])


def test_looking_changes_no_network(nets):
    before = copy.deepcopy(nets["bn"].state_dict())
    x = test_time.standardized_as_in_training(digits().x_test[:40])
    test_time.predicted_classes(nets, x)
    test_time.scores_by_batch_statistics(nets["bn"], x[None])
    for name, value in nets["bn"].state_dict().items():
        assert torch.equal(value, before[name]), name


def test_many_batches_are_classified_as_one_by_one(nets):
    batches = test_time.standardized_as_in_training(digits().x_test[:60]).reshape(3, 20, 64)
    with torch.no_grad():
        one_by_one = torch.stack([test_time.recalibrated(nets["bn"], batch)(batch) for batch in batches])
        together = test_time.scores_by_batch_statistics(nets["bn"], batches)
    assert_close(together, one_by_one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_batches_hold_different_digits_of_so_many_classes(classes):
    labels = digits().y_test.numpy()
    batches = test_time._batches(labels, 32, classes, np.random.default_rng(0))
    assert batches.shape == (test_time.BATCHES, 32)
    for batch in batches.numpy():
        assert len(set(batch)) == 32
        assert len(set(labels[batch])) <= classes


def test_a_batch_larger_than_a_class_is_refused():
    assert np.bincount(digits().y_test).min() == test_time.FEWEST
    with pytest.raises(ValueError, match="batch_size"):
        test_time.accuracy_by_batch(64, 1)


def test_accuracies_are_those_of_a_plain_count(nets):
    x = test_time.standardized_as_in_training(digits().x_test + 0.1)
    found = test_time.accuracy_in_light(0.1, seeds=2)
    for norm in ("plain", "bn"):
        right = (nets[norm](x).argmax(1) == digits().y_test).sum().item() / 360
        assert np.isclose(found[norm][0], right)


def test_the_usual_light_is_no_corruption():
    usual, unchanged = test_time.accuracy_in_light(seeds=2), test_time.accuracy_corrupted("unchanged", seeds=2)
    assert all(np.array_equal(usual[arm], unchanged[arm]) for arm in test_time.ARMS)


def test_sizes_of_effects_on_images():
    usual, bright = test_time.accuracy_in_light(), test_time.accuracy_in_light(0.25)
    assert all(each.mean() > 0.93 for each in usual.values())
    assert bright["bn"].mean() < usual["bn"].mean() - 0.2
    assert np.allclose(bright["bn, re-estimated"], usual["bn, re-estimated"], atol=0.02)
    assert np.allclose(test_time.accuracy_with_inputs_anew(0.25), test_time.accuracy_with_inputs_anew(), atol=0.02)
    assert test_time.accuracy_by_batch(32, 1).mean() < 0.2
    assert test_time.accuracy_by_batch(32, 10).mean() > 0.85


def test_a_claim_about_light_fails_where_statistics_stay_stale(monkeypatch):
    """Were re-estimating to do nothing, the claim that it undoes light would not hold."""
    (claim,) = (each for each in claims.CLAIMS if each.id == "light.new-statistics-undo-light")
    stale = test_time.accuracy_in_light

    def nothing_new(*light, **settings):
        return {**stale(*light, **settings), "bn, re-estimated": stale(*light, **settings)["bn"]}

    monkeypatch.setattr(test_time, "accuracy_in_light", nothing_new)
    assert max(np.mean(each) for each in claim.evidence().values()) > 0.1
    assert {len(each) for each in claim.evidence().values()} == {SEEDS}


# --- entropy minimisation ---------------------------------------------------------------------------------------------


def test_entropy_is_that_of_the_probabilities():
    scores = torch.randn(3, 7, 10, generator=torch.Generator().manual_seed(0))
    by_torch = torch.distributions.Categorical(logits=scores).entropy().mean(-1)
    assert_close(test_time.entropy(scores), by_torch)


def test_a_stream_goes_through_all_digits_before_any_comes_twice():
    labels = digits().y_test.numpy()
    stream = test_time._stream(labels, 60, 10, np.random.default_rng(0)).numpy()
    assert stream.shape == (test_time.TENT_STEPS, 60)
    assert sorted(stream[:6].ravel()) == list(range(360))
    one_class = test_time._stream(labels, 30, 1, np.random.default_rng(0)).numpy()
    assert all(len(set(labels[batch])) == 1 for batch in one_class)


def test_adapting_is_what_one_network_would_do_alone(monkeypatch):
    """With torch's own Adam on γ and β, one network after the other, by the statistics of each batch."""
    monkeypatch.setattr(test_time, "TENT_STEPS", 4)
    found = test_time.adapted.func("60, mixed", 0.05, 2)
    for seed in range(2):
        net = copy.deepcopy(test_time._networks("standardized", 2)["bn"][seed]).train()
        untouched = [layer.weight.clone() for layer in net if isinstance(layer, torch.nn.Linear)]
        x = test_time.standardized_as_in_training(test_time.corrupted(digits().x_test, "noise", seed))
        batches = test_time._stream(digits().y_test.numpy(), 60, 10, test_time.numpy_rng(seed))
        learned = [p for layer in net if hasattr(layer, "running_mean") for p in layer.parameters()]
        adam = torch.optim.Adam(learned, lr=0.05)
        for batch in batches:
            adam.zero_grad()
            test_time.entropy(net(x[batch])).backward()
            adam.step()
        right = [(net(x[batch]).argmax(1) == digits().y_test[batch]).float().mean().item() for batch in batches]
        assert found["noise"].after[seed] == pytest.approx(np.mean(right), abs=0.01)
        for before, layer in zip(untouched, [each for each in net if isinstance(each, torch.nn.Linear)], strict=True):
            assert torch.equal(before, layer.weight)


def test_without_a_step_nothing_is_added():
    found = test_time.adapted.func("8, mixed", 0.0, 2)
    assert all(not each.points.any() for each in found.values())
    with pytest.raises(ValueError, match="company"):
        test_time.adapted.func("friends")
