"""The checks of the exercises: a right answer is called right, and each wrong one is told what is wrong with it."""

import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from utils.checks.covariate_shift import check_weights
from utils.checks.gradient import check_backward
from utils.checks.normalise import check_normalize
from utils.checks.smoothness import check_effective_smoothness


def weights(x, d):
    return np.exp(d * x[:, 1] - d**2 / 2)


def normalize(x):
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-5)


def without_eps(x):
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), correction=0, keepdim=True)


def by_variance(x):
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.var((0, 2, 3), correction=0, keepdim=True)


def backward(g, x, gamma):
    sigma = torch.sqrt(x.var(0, correction=0) + 1e-5)
    x_hat = (x - x.mean(0)) / sigma
    return gamma / sigma * (g - g.mean(0) - x_hat * (g * x_hat).mean(0))


def only_centred(g, x, gamma):
    return gamma * (g - g.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5)


def unbiased(g, x, gamma):
    return backward(g, x, gamma) * (11 / 12) ** 0.5


def smoothness(gradient, here, there):
    return (gradient(there) - gradient(here)).norm() / (there - here).norm()


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (check_weights, weights),
        (check_normalize, normalize),
        (check_normalize, lambda x: F.batch_norm(x, None, None, training=True)),
        (check_backward, backward),
        (check_effective_smoothness, smoothness),
    ],
)
def test_a_right_answer_is_right(check, answer):
    assert check(answer) == "Right."


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        (check_weights, lambda x, d: np.ones(len(x)), "All weights are equal"),
        (check_weights, lambda x, d: np.exp(d * x[:, 0] - d**2 / 2), "first coordinate"),
        (check_weights, lambda x, d: 3 * weights(x, d), "constant factor of 3"),
        (check_weights, lambda x, d: weights(x, 2 * d), "Not the ratio"),
        (check_weights, lambda x, d: weights(x, d)[:3], r"Expected the shape \(40,\), got \(3,\)"),
        (check_normalize, lambda x: (x - x.mean()) / x.std(), "One mean for all channels"),
        (check_normalize, lambda x: F.instance_norm(x), "Each image has its own mean"),
        (check_normalize, without_eps, "where is ε"),
        (check_normalize, by_variance, "variance should be 1"),
        (check_normalize, lambda x: normalize(x) + 1, "mean should be 0"),
        (check_normalize, lambda x: x.no_such_method(), "It raises AttributeError"),
        (check_normalize, lambda x: None, "Expected"),
        (check_backward, lambda g, x, gamma: gamma * g, "mean of each column"),
        (check_backward, only_centred, "along x_hat"),
        (check_backward, lambda g, x, gamma: -backward(g, x, gamma), "the sign"),
        (check_backward, unbiased, "the length is not"),
        (check_effective_smoothness, lambda gradient, a, b: gradient(b).norm() / gradient(a).norm(), "should be"),
        (check_effective_smoothness, lambda gradient, a, b: gradient(b) - gradient(a), r"Expected the shape \(\)"),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong_with_it(check, answer, said):
    assert re.search(said, check(answer)), check(answer)
