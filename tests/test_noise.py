"""Noise on purpose: drawn as the paper draws it, afresh each time, and off where nobody trains."""

import pytest
import torch
from torch.testing import assert_close

from utils.batchnorm import BatchNorm1d, BatchNorm2d
from utils.noise import Noise, NoisyBatchNorm1d, NoisyBatchNorm2d, Recipe, draw_noise

MANY = 20_000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("strength", [1, 4])
def test_what_the_samples_of_a_unit_share_is_uniform_over_the_units(strength):
    s, m = draw_noise(torch.zeros(400, MANY // 10), Recipe().times(strength), seeded())
    mu, sigma = m.mean(0), s.mean(0)
    assert mu.std().item() == pytest.approx(strength * 1.0 / 12**0.5, rel=0.05)  # U(-0.5, 0.5)
    assert mu.abs().max().item() == pytest.approx(strength * 0.5, rel=0.05)
    assert sigma.mean().item() == pytest.approx(1 + strength * 0.125, rel=0.02)  # U(1, 1.25)
    assert (sigma.max() - sigma.min()).item() == pytest.approx(strength * 0.25, rel=0.15)
    assert abs(torch.corrcoef(torch.stack([mu, sigma]))[0, 1].item()) < 0.1


def test_each_sample_has_its_own_part():
    s, m = draw_noise(torch.zeros(MANY, 3), Recipe(), seeded())
    assert_close(s.std(0), torch.full((3,), 0.1), rtol=0.05, atol=0)  # N(sigma, 0.1): a standard deviation
    own = m - (m.amax(0) + m.amin(0)) / 2
    assert_close(own.amax(0), torch.full((3,), 0.1), rtol=0.01, atol=0)  # U(mu - 0.1, mu + 0.1)
    assert_close(own.std(0), torch.full((3,), 0.1 / 3**0.5), rtol=0.05, atol=0)
    assert_close((s - s.mean(0)).pow(4).mean(0) / s.var(0) ** 2, torch.full((3,), 3.0), rtol=0.1, atol=0)  # normal


def test_in_images_height_and_width_are_samples():
    s, m = draw_noise(torch.zeros(4, 3, 50, 50), Recipe(), seeded())
    for drawn, spread in ((s, 0.1), (m, 0.1 / 3**0.5)):
        assert_close(drawn.flatten(2).std(2), torch.full((4, 3), spread), rtol=0.1, atol=0)
        assert_close(drawn.mean((2, 3)), drawn.mean((0, 2, 3)).expand(4, 3), rtol=0, atol=0.01)  # one mu a channel


def test_it_is_drawn_afresh_at_each_call_and_by_its_generator_alone():
    x = torch.zeros(4, 3)
    layer, same = Noise(generator=seeded(1)), Noise(generator=seeded(1))
    first, second = layer(x), layer(x)
    torch.rand(7)  # torch's global generator has no part in it
    assert (first != second).all()
    assert_close(same(x), first, rtol=0, atol=0)


@pytest.mark.parametrize(("noisy", "clean", "shape"), [
    (NoisyBatchNorm1d, BatchNorm1d, (8, 3)),
    (NoisyBatchNorm2d, BatchNorm2d, (4, 3, 5, 5)),
])  # fmt: skip
def test_noisy_batchnorm_is_batchnorm_and_then_noise(noisy, clean, shape):
    x = torch.randn(shape, generator=seeded(2), dtype=torch.float64)
    layer, bare = noisy(3, Noise(generator=seeded(3))).double(), clean(3).double()
    s, m = draw_noise(x, Recipe(), seeded(3))
    assert_close(layer(x), s * bare(x) + m)
    assert_close(layer.running_mean, bare.running_mean)  # collected before the noise
    assert_close(layer.eval()(x), bare.eval()(x))  # and off in evaluation
    layer.noise.in_evaluation = True
    assert (layer(x) != bare(x)).any()


def test_the_gradient_passes_through_the_factor():
    x = torch.zeros(4, 3, requires_grad=True)
    Noise(generator=seeded())(x).sum().backward()
    assert_close(x.grad, draw_noise(x, Recipe(), seeded())[0])
