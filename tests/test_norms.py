"""BN's relatives: noise drawn as the paper draws it, and lp norms against known answers and BN where they agree."""

import math

import pytest
import torch
from torch.testing import assert_close

from utils.batchnorm import BatchNorm1d, BatchNorm2d
from utils.norms import (
    LpNorm,
    Noise,
    Noises,
    NoisyBatchNorm1d,
    NoisyBatchNorm2d,
    P,
    PersistentNoisyBatchNorm1d,
    Recipe,
    draw_noise,
    draw_noises,
    lp_size,
)

MANY = 20_000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("strength", [1, 4])
def test_what_the_samples_of_a_unit_share_is_uniform_over_the_units(strength):
    s, m = draw_noise(torch.zeros(400, MANY // 10), Recipe().scaled(strength), seeded())
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


@pytest.mark.parametrize("shape", [(9, 4), (5, 3, 6, 6)])
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(0.3, 0.0, 0.7, 0.2)])
def test_the_noise_is_algorithm_1_part_by_part_in_the_order_of_its_draws(recipe, shape):
    """An independent reference: mu, sigma, m and s, each drawn by itself."""
    rng, units = seeded(3), (1, shape[1], *[1] * (len(shape) - 2))
    mu, sigma, own = (torch.rand(size, generator=rng) for size in (units, units, shape))
    m = recipe.shift * (2 * mu - 1) + recipe.own_shift * (2 * own - 1)
    s = 1 + recipe.scale * sigma + recipe.own_scale * torch.randn(shape, generator=rng)
    assert_close(draw_noise(torch.zeros(shape), recipe, seeded(3)), (s, m))


def test_noise_of_several_networks_is_that_of_each():
    x = torch.randn(3, 7, 4, generator=seeded(5))
    s, m = draw_noises(x, Recipe(), [seeded(i) for i in range(3)])
    for i in range(3):
        assert_close((s[i], m[i]), draw_noise(x[i], Recipe(), seeded(i)), rtol=0, atol=0)
    side_by_side = Noises([Noise(generator=seeded(i)) for i in range(3)])
    in_one_row = Noises([Noise(generator=seeded(i)) for i in range(3)])
    assert_close(in_one_row(x.transpose(0, 1).flatten(1)).view(7, 3, 4).transpose(0, 1), side_by_side(x))
    assert_close(side_by_side.eval()(x), x, rtol=0, atol=0)


def test_persistent_noise_is_normalised_by_the_clean_half():
    clean, other = torch.randn(2, 8, 3, generator=seeded(2), dtype=torch.float64)
    other = 2 * other + 5
    layer = PersistentNoisyBatchNorm1d(3, Noise(generator=seeded(3))).double()
    s, m = draw_noise(other, Recipe(), seeded(3))
    pure, noisy = layer(torch.cat([clean, other])).chunk(2)
    assert_close(pure, BatchNorm1d(3).double()(clean))
    assert_close(noisy, s * (other - clean.mean(0)) / (clean.var(0, correction=0) + 1e-5).sqrt() + m)
    assert_close(layer.running_mean, 0.1 * clean.mean(0))
    assert layer.eval()(other).shape == other.shape


# --- lp norms --------------------------------------------------------------------------------------------------------


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
