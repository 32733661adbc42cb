"""Shifts: densities against closed forms, weights against integrals, tests against coins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, norm
from sklearn.neighbors import KNeighborsClassifier

from utils.experiments import covariate_shift as shift


def conditional(joint, what):
    """One of the four distributions of a joint distribution."""
    return {
        "p(x)": joint.density,
        "p(y|x)": joint.posterior,
        "p(x|y)": np.array([joint.class_density(0), joint.class_density(1)]),
        "p(y)": np.array([joint.prior]),
    }[what]


@pytest.mark.parametrize(("kind", "stays"), [("covariate", "p(y|x)"), ("label", "p(x|y)"), ("concept", "p(x)")])
def test_each_kind_of_shift_keeps_one_distribution_and_moves_the_others(kind, stays):
    before, after = shift.joint(), shift.joint(kind, 1.0)
    for what in ("p(x)", "p(y|x)", "p(x|y)", "p(y)"):
        same = np.allclose(conditional(before, what), conditional(after, what), atol=1e-12)
        assert same == (what == stays), what


@pytest.mark.parametrize("kind", ["covariate", "label", "concept"])
@pytest.mark.parametrize("size", [0.0, 0.5, 1.5])
def test_a_joint_distribution_is_one(kind, size):
    joint = shift.joint(kind, size)
    step = joint.x[1] - joint.x[0]
    assert np.isclose(joint.density.sum() * step, 1)
    for y in (0, 1):
        assert np.isclose(joint.class_density(y).sum() * step, 1)
    total = (1 - joint.prior) * joint.class_density(0) + joint.prior * joint.class_density(1)
    assert np.allclose(total, joint.density)


def test_accuracies_are_those_of_the_normal_distribution():
    assert np.isclose(shift.joint().accuracy(), norm.cdf(1), atol=1e-5)
    prior = 1 / (1 + np.exp(-2))
    assert np.isclose(shift.joint("label", 1.0).prior, prior)
    by_hand = prior * norm.cdf(1 + 1) + (1 - prior) * norm.cdf(1 - 1)
    assert np.isclose(shift.joint("label", 1.0).accuracy(-1.0), by_hand, atol=1e-2)


@pytest.mark.parametrize(("kind", "best"), [("covariate", 0.0), ("label", -1.0), ("concept", -1.0)])
def test_the_best_accuracy_is_that_of_the_best_threshold(kind, best):
    joint = shift.joint(kind, 1.0)
    accuracies = [joint.accuracy(threshold) for threshold in np.linspace(-3, 3, 61)]
    assert np.isclose(joint.best_accuracy, max(accuracies), atol=1e-9)
    assert np.isclose(joint.best_accuracy, joint.accuracy(best), atol=1e-3)


def test_a_shift_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind"):
        shift.joint("weather", 1.0)


def test_samples_have_the_mean_and_the_labels_they_should():
    x, y = shift.sample(200_000, 2.0, np.random.default_rng(0))
    assert np.allclose(x.mean(0), [2, 0], atol=0.01)
    assert np.allclose(x.std(0), 1, atol=0.01)
    for low, high in ((0, 0.2), (0.4, 0.6), (0.8, 1)):  # where p says so, the labels come out so
        p = shift.true_posterior(x)
        chosen = (p > low) & (p < high)
        assert np.isclose(y[chosen].mean(), p[chosen].mean(), atol=0.01)


def test_weights_are_the_ratio_of_the_densities():
    x = np.random.default_rng(0).normal(size=(50, 3))
    train, test = [0.0, 1.0, -1.0], [1.0, 1.5, 0.0]
    ratio = np.prod(norm.pdf(x, test) / norm.pdf(x, train), axis=1)
    assert np.allclose(shift.gaussian_weights(x, train, test), ratio)


def test_weighted_training_points_stand_for_test_points():
    """E_train[w f] = E_test[f], and E_train[w^2] = exp(d^2)."""
    x = np.random.default_rng(0).normal(size=(400_000, 2))
    w = shift.gaussian_weights(x, [0, 0], [1, 0])
    assert np.isclose(w.mean(), 1, atol=0.02)
    assert np.isclose((w * x[:, 0]).mean(), 1, atol=0.02)
    assert np.isclose((w * x[:, 0] ** 2).mean(), 2, atol=0.1)
    assert np.isclose(shift.effective_sample_size(w) / len(w), np.exp(-1), atol=0.02)


@pytest.mark.parametrize(("n_train", "n_test"), [(4000, 4000), (6000, 1500)])
def test_estimated_weights_come_close_to_the_known_ones_whatever_the_sample_sizes(n_train, n_test):
    rng = np.random.default_rng(0)
    x, x_test = rng.normal(size=(n_train, 2)), rng.normal([1, 0], 1, size=(n_test, 2))
    known, estimated = shift.gaussian_weights(x, [0, 0], [1, 0]), shift.estimated_weights(x, x_test)
    assert np.isclose(estimated.mean(), 1, atol=0.1)
    assert np.median(np.abs(np.log(estimated / known))) < 0.15


weights = arrays(float, st.integers(1, 20), elements=st.floats(0.01, 100))


@given(weights, st.floats(0.001, 1000))
def test_effective_sample_size_lies_between_1_and_n_and_ignores_scale(w, scale):
    n_eff = shift.effective_sample_size(w)
    assert 1 - 1e-9 <= n_eff <= len(w) * (1 + 1e-9)
    assert np.isclose(n_eff, shift.effective_sample_size(scale * w))
    assert np.isclose(n_eff, w.sum() ** 2 / (w**2).sum())


def test_effective_sample_size_survives_huge_and_tiny_weights():
    assert np.isclose(shift.effective_sample_size(np.array([1e200, 1e200])), 2)
    assert np.isclose(shift.effective_sample_size(np.array([1e-200, 1e-200, 0])), 2)


@pytest.mark.parametrize("wrong", [[-1.0, 2.0], [0.0, 0.0]])
def test_effective_sample_size_refuses_what_are_no_weights(wrong):
    with pytest.raises(ValueError, match="weights"):
        shift.effective_sample_size(np.array(wrong))


def test_a_weight_of_two_counts_a_point_twice():
    x, y = shift.sample(200, 0.0, np.random.default_rng(0))
    w = np.ones(200)
    w[:100] = 2
    twice = np.concatenate([x, x[:100]]), np.concatenate([y, y[:100]])
    one, other = shift.fit(x, y, w * 1.5), shift.fit(*twice)
    assert np.allclose(one.coef_, other.coef_, rtol=0.02)
    assert np.allclose(shift.fit(x, y, 7 * w).coef_, shift.fit(x, y, w).coef_, rtol=1e-4)


def test_weights_help_a_wrong_model_and_only_cost_a_right_one():
    wrong, right = shift.weighting(2.0, 2000), shift.weighting(3.0, 500, "true curve")
    assert wrong.accuracy["known"].mean() > wrong.accuracy["none"].mean() + 0.1
    assert abs(wrong.accuracy["estimated"].mean() - wrong.accuracy["known"].mean()) < 0.05
    assert np.log(right.log_loss["known"] / right.log_loss["none"]).mean() > 0
    assert all((each == 1).all() for way, each in wrong.effective.items() if way in ("none", shift.WAYS[-1]))


def test_the_log_loss_is_that_of_many_labels():
    x, y = shift.sample(200_000, 1.0, np.random.default_rng(0))
    fitted, _ = shift.fits(1.0, 500, "line", seed=0)["none"]
    q = fitted.predict_proba(x)[:, 1]
    loss = -(y * np.log(q) + (1 - y) * np.log(1 - q)).mean()
    assert np.isclose(shift.weighting(1.0, 500, seeds=2).log_loss["none"][0], loss, rtol=0.05)


def test_without_a_shift_the_known_weights_change_nothing():
    result = shift.weighting(0.0, 100)
    assert np.allclose(result.accuracy["known"], result.accuracy["none"])
    assert np.allclose(result.effective["known"], 1)


def test_false_alarms_are_no_more_frequent_than_the_level():
    found = shift.detection(0.0, 100, 200)
    assert found.power <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert 0.3 < np.median(found.p_value) < 0.8


def test_power_grows_with_points_and_with_the_shift():
    power = {
        (d, n): shift.detection(d, n).power for d, n in ((0.5, 20), (0.5, 100), (0.5, 500), (0.1, 100), (1.0, 100))
    }
    assert power[0.1, 100] < power[0.5, 100] < power[1.0, 100]
    assert power[0.5, 20] < power[0.5, 100] < power[0.5, 500]
    assert power[1.0, 100] > 0.9


def test_without_a_shift_accuracies_follow_the_density_that_is_drawn():
    at = np.arange(30, 71)
    exact = binom.pmf(at, 100, 0.5) * 100  # the width of a bin is 1/100
    assert np.allclose(shift.accuracy_density(at / 100, 100), exact, atol=0.05)


def test_the_p_value_is_a_binomial_tail():
    rng = np.random.default_rng(3)
    found = shift.two_sample_test(rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 0.3, seed=1)
    right = round(found.accuracy * found.held_out)
    assert found.held_out == 60
    assert np.isclose(found.p_value, binom.pmf(np.arange(right, 61), 60, 0.5).sum())


def test_a_test_is_evaluated_on_points_that_it_has_not_seen():
    """A nearest neighbour is always right on its own points; on others of one distribution it guesses."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 5)), rng.normal(size=(300, 5))
    assert shift.two_sample_test(x, y, classifier=KNeighborsClassifier(1)).accuracy < 0.6


def test_another_classifier_notices_another_shift():
    rng = np.random.default_rng(0)
    narrow, wide = rng.normal(size=(500, 2)), 2 * rng.normal(size=(500, 2))
    assert shift.two_sample_test(narrow, wide, classifier=KNeighborsClassifier(15)).p_value < 1e-4


def test_samples_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        shift.two_sample_test(np.zeros((5, 2)), np.zeros((6, 2)))


@pytest.mark.parametrize("held_out", [10, 99, 100, 1000])
def test_the_critical_accuracy_is_the_least_that_is_enough(held_out):
    right = round(shift.critical_accuracy(held_out) * held_out)
    assert binom.sf(right - 1, held_out, 0.5) <= 0.05 < binom.sf(right - 2, held_out, 0.5)
