"""Normalisation by an lp norm: against known answers and against BN where they must agree."""

import math

import pytest
import torch
from torch.testing import assert_close

from utils.batchnorm import BatchNorm1d
from utils.lpnorm import LpNorm, P, lp_size


@pytest.mark.parametrize("p", P)
def test_the_size_is_the_average_lp_norm(p):
    x = torch.randn(20, 3, 4, 5, dtype=torch.float64)
    for unit in range(3):
        values = x[:, unit].flatten()
        known = values.abs().max() if math.isinf(p) else torch.linalg.vector_norm(values, p) / len(values) ** (1 / p)
        assert_close(lp_size(x, p)[0, unit, 0, 0], known)


@pytest.mark.parametrize("p", P)
def test_it_centres_and_divides_by_the_size_before_centring(p):
    x = torch.randn(20, 3, dtype=torch.float64) + 5
    layer = LpNorm(3, p, eps=0).double()
    assert_close(layer(x), (x - x.mean(0)) / lp_size(x, p))
    with torch.no_grad():
        layer.weight.fill_(2), layer.bias.fill_(3)
    assert_close(layer(x), 2 * (x - x.mean(0)) / lp_size(x, p) + 3)


def test_with_a_mean_of_zero_l2_is_batchnorm():
    x = torch.randn(20, 3, dtype=torch.float64)
    x -= x.mean(0)
    assert_close(LpNorm(3, 2, eps=0).double()(x), BatchNorm1d(3, eps=1e-20).double()(x))


@pytest.mark.parametrize("p", P)
def test_evaluation_uses_running_averages(p):
    layer = LpNorm(2, p, eps=0).double()
    batches = torch.randn(200, 30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 1
    mean, size = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    for x in batches:
        layer(x)
        mean, size = 0.9 * mean + 0.1 * x.mean(0), 0.9 * size + 0.1 * lp_size(x, p)[0]
    layer.eval()
    x = batches[0][:1]  # one example will do
    assert_close(layer(x), (x - mean) / size)
    assert not layer.running_mean.requires_grad


def test_the_gradient_is_that_of_finite_differences():
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    for p in P:
        assert torch.autograd.gradcheck(LpNorm(2, p).double(), x)


@pytest.mark.parametrize("p", P)
def test_a_unit_that_is_zero_in_the_whole_batch_has_a_gradient(p):
    """As above a dead ReLU: the size is 0, and 1 / eps is what is left of it."""
    x, upstream = torch.zeros(6, 1, dtype=torch.float64, requires_grad=True), torch.randn(6, 1, dtype=torch.float64)
    layer = LpNorm(1, p).double()
    layer(x).backward(upstream)
    assert_close(x.grad, (upstream - upstream.mean()) / layer.eps)


def test_another_p_is_refused():
    with pytest.raises(ValueError, match=r"p: expected one of \(1, 2, inf\), got 3"):
        lp_size(torch.ones(2, 2), 3)
