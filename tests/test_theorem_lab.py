"""The theorems against autograd, against brute force, and against the mistakes that one could make in them.

Each identity is tried on random networks that are not trained; what autograd says of them knows none of the formulae.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from utils.batchnorm import BatchNorm1d
from utils.experiments import theorem_lab as theory
from utils.experiments.theorem_lab import (
    ACTIVATIONS,
    Family,
    bn_backward,
    curvature,
    draw,
    eps_term,
    first_unit,
    gradient,
    inner,
    lemma_4_5,
    project,
    residual,
    second_order,
    standardize,
    theorem_4_1,
    theorem_4_2,
    theorem_4_4,
    watch_projection,
)
from utils.networks import NORMS
from utils.training import Settings, train_seeds

REACH = 1e-12
FAMILIES = [
    Family(),
    Family(m=8, nonlinearity="ReLU", gamma=-2.0, beta=1.0),
    Family(m=50, units=1, nonlinearity="sigmoid", spread=0.1, gamma=0.3),
    Family(m=16, nonlinearity="ReLU", matched="scale"),
    Family(spread=3.0, matched="both"),
]
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.nonlinearity}-{family.matched}")


def vectors(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- what is measured -----------------------------------------------------------------------------------------------


def test_standardize_is_batch_norm():
    y = vectors(7, 20) * 3 + 1
    theirs = F.batch_norm(y.T, None, None, training=True, eps=0.1).T
    y_hat, sigma = standardize(y, eps=0.1)
    assert_close(y_hat, theirs)
    assert_close(sigma[:, 0], (y.var(1, correction=0) + 0.1).sqrt())


def test_the_gradients_are_those_of_finite_differences():
    nets, step = draw(Family(m=6), n=4), 1e-6
    measured, change = first_unit(nets), torch.zeros_like(nets.y)
    for example in range(6):
        change.zero_()
        change[:, 0, example] = step
        for loss, at, found in (
            (nets.loss_at_y, nets.y, measured.v),
            (nets.loss, nets.bn(nets.y), measured.g),
            (nets.loss, nets.y, measured.plain),
        ):
            slope = (loss(at + change) - loss(at - change)) / (2 * step)
            assert_close(found[:, example], slope, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_the_quadratic_forms_are_those_of_the_whole_hessian():
    nets = draw(Family(m=5, units=2), n=1)
    unit, forms = first_unit(nets), second_order(nets)
    z = nets.bn(nets.y)

    def only_first(loss, at):
        rest = at[0, 1:]
        return lambda values: loss(torch.cat([values[None], rest])[None])[0]

    at_y = torch.func.hessian(only_first(nets.loss_at_y, nets.y))(nets.y[0, 0])
    at_z = torch.func.hessian(only_first(nets.loss, z))(z[0, 0])
    v, g = unit.v[0], unit.g[0]
    for found, known in ((forms.at_y, v @ at_y @ v), (forms.along_v, v @ at_z @ v), (forms.along_g, g @ at_z @ g)):
        assert_close(found[0], known, rtol=1e-10, atol=1e-15)


def test_gradient_and_curvature_of_a_known_quadratic():
    A = vectors(6, 6)
    A = A + A.T
    at, along = vectors(1, 2, 3, seed=1), vectors(1, 2, 3, seed=2)

    def loss(z):
        flat = z.flatten(1)
        return ((flat @ A) * flat).sum(1) / 2

    assert_close(gradient(loss, at).flatten(), A @ at.flatten())
    assert_close(curvature(loss, at, along)[0], along.flatten() @ A @ along.flatten())


def test_the_networks_are_not_convex():
    for nonlinearity in ACTIVATIONS:
        forms = second_order(draw(Family(nonlinearity=nonlinearity), n=200))
        assert 0.05 < (forms.along_v < 0).double().mean() < 0.95


def test_a_family_is_drawn_the_same_each_time_and_differs_between_seeds():
    family = Family(m=8)
    assert torch.equal(draw(family, 3).y, draw(family, 3).y)
    assert not torch.equal(draw(family, 3).y, draw(family, 3, seed=1).y)


@pytest.mark.parametrize(("what", "value"), [("nonlinearity", "gelu"), ("matched", "mean")])
def test_what_is_unknown_is_refused(what, value):
    with pytest.raises(ValueError, match=f"{what}: expected .* got '{value}'"):
        draw(Family(**{what: value}))


# --- the backward pass ---------------------------------------------------------------------------------------------


def test_the_projection_is_one():
    y_hat, _ = standardize(vectors(5, 9))
    once = project(vectors(5, 9, seed=1), y_hat)
    assert_close(project(once, y_hat), once)
    assert_close(once.sum(1), torch.zeros(5).double(), rtol=0, atol=1e-14)
    assert_close(inner(once, y_hat), torch.zeros(5).double(), rtol=0, atol=1e-14)
    P = torch.stack([project(row, y_hat[0]) for row in torch.eye(9).double()])
    assert_close(P, P.T)
    assert round(P.trace().item(), 10) == 7  # two of nine dimensions are gone


def test_of_three_examples_one_line_is_left_and_of_two_nothing():
    y_hat, _ = standardize(torch.tensor([0.0, 1.0, 5.0]).double())
    line = torch.linalg.cross(torch.ones(3).double(), y_hat)
    left = project(vectors(3), y_hat)
    assert_close(torch.linalg.cross(left, line), torch.zeros(3).double(), rtol=0, atol=1e-14)
    y_hat, _ = standardize(torch.tensor([0.0, 5.0]).double())
    assert project(vectors(2), y_hat).abs().max() < 1e-15


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_the_backward_pass_is_autograds_and_our_layers(eps):
    y, g = vectors(4, 12).requires_grad_(), vectors(4, 12, seed=1)
    gamma = vectors(4, seed=2)
    ours = bn_backward(g, y.detach(), gamma[:, None], eps)
    (theirs,) = torch.autograd.grad(F.batch_norm(y.T, None, None, gamma, None, True, 0.1, eps), y, g.T)
    layer = BatchNorm1d(4, eps).double()
    with torch.no_grad():
        layer.weight.copy_(gamma)
    (from_scratch,) = torch.autograd.grad(layer(y.T), y, g.T)
    assert_close(ours, theirs, rtol=REACH, atol=1e-14)
    assert_close(ours, from_scratch, rtol=REACH, atol=1e-14)


@each_family
def test_the_backward_pass_holds_in_networks(family):
    unit = first_unit(draw(family, n=200))
    assert_close(bn_backward(unit.g, unit.y, unit.gamma), unit.v, rtol=0, atol=1e-13 * unit.v.abs().max().item())


def test_what_the_projection_removes_is_what_gamma_and_beta_receive():
    y, g = vectors(4, 12), vectors(4, 12, seed=1)
    layer = BatchNorm1d(4, eps=1e-12).double()
    layer(y.T).backward(g.T)
    sigma = standardize(y)[1][:, 0]
    _, by_beta, by_gamma = theorem_4_1(g, y)
    assert_close(-by_beta * sigma**2, layer.bias.grad**2 / 12, rtol=1e-9, atol=0)
    assert_close(-by_gamma * sigma**2, layer.weight.grad**2 / 12, rtol=1e-9, atol=0)


# --- the equalities ---------------------------------------------------------------------------------------------------


def measured(family, n=300):
    nets = draw(family, n)
    return first_unit(nets), second_order(nets)


def equalities(unit, forms):
    """The largest residual of each statement that is an equality, by the functions of the module as they are now."""
    squared = inner(unit.v, unit.v)
    start, optimum = vectors(2, len(squared), 8)
    near = theory.lemma_4_5(start, optimum)
    return {
        "4.1": residual(squared, *theory.theorem_4_1(unit.g, unit.y, unit.gamma)).max().item(),
        "4.2": residual(forms.at_y, *theory.theorem_4_2(unit.g, unit.y, unit.v, forms.along_v, unit.gamma))
        .max()
        .item(),
        "4.4": residual(9 * squared, *theory.theorem_4_4(unit.g, unit.y, 3, unit.gamma)).max().item(),
        "4.5": residual(near.distance, near.lemma).max().item(),
    }


@each_family
def test_they_hold_to_rounding(family):
    assert max(equalities(*measured(family)).values()) < REACH


@pytest.mark.parametrize("exponent", [0.5, 0.9, 0.99, 1.01, 2.0])
def test_only_one_power_of_m_makes_theorem_4_1_an_equality(exponent):
    unit = first_unit(draw(Family(), n=300))
    left, right = inner(unit.v, unit.v), sum(theorem_4_1(unit.g, unit.y, exponent=exponent))
    assert (right > left).all() if exponent > 1 else (right < left).all()
    assert residual(left, right).max() > 1e-4


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 1.0])
def test_epsilon_needs_its_own_term(eps):
    unit = first_unit(draw(Family(spread=0.1, eps=eps), n=300))
    left, terms = inner(unit.v, unit.v), theorem_4_1(unit.g, unit.y, eps=eps)
    assert residual(left, *terms).max() > 1e-6
    assert residual(left, *terms, eps_term(unit.g, unit.y, eps=eps)).max() < REACH


def mutate(monkeypatch, mistake):
    """Plant one mistake in the module."""
    right_4_1, right_4_2, right_standardize = theory.theorem_4_1, theory.theorem_4_2, theory.standardize
    right_4_4, right_4_5 = theory.theorem_4_4, theory.lemma_4_5

    def plant(name, wrong):
        monkeypatch.setattr(theory, name, wrong)

    def scaled(terms, *factors):
        return tuple(term * factor for term, factor in zip(terms, factors, strict=True))

    def unbiased(y, eps=0.0):
        wrong = (y.shape[-1] / (y.shape[-1] - 1)) ** 0.5
        y_hat, sigma = right_standardize(y, eps)
        return y_hat / wrong, sigma * wrong

    if mistake == "1/sqrt(m) for 1/m":
        plant("theorem_4_1", lambda g, y, gamma=1.0, exponent=0.5, eps=0.0: right_4_1(g, y, gamma, 0.5, eps))
    elif mistake == "mean not projected out":
        plant("theorem_4_1", lambda *a, **k: scaled(right_4_1(*a, **k), 1, 0, 1))
    elif mistake == "y_hat not projected out":
        plant("theorem_4_1", lambda *a, **k: scaled(right_4_1(*a, **k), 1, 1, 0))
    elif mistake == "factor gamma^2 / sigma^2 missing":
        plant(
            "theorem_4_1", lambda g, y, gamma=1.0: scaled(right_4_1(g, y), *[right_standardize(y)[1][..., 0] ** 2] * 3)
        )
    elif mistake == "gamma / sigma not squared":
        plant("theorem_4_1", lambda g, y, gamma=1.0: scaled(right_4_1(g, y), *[right_standardize(y)[1][..., 0]] * 3))
    elif mistake == "unbiased variance":
        plant("standardize", unbiased)
    elif mistake == "BN's own curvature added":
        plant("theorem_4_2", lambda *a, **k: scaled(right_4_2(*a, **k), 1, -1))
    elif mistake == "BN's own curvature forgotten":
        plant("theorem_4_2", lambda *a, **k: scaled(right_4_2(*a, **k), 1, 0))
    elif mistake == "4.4 as printed":
        plant("theorem_4_4", lambda g, y, size, gamma=1.0: right_4_4(g, y, size, gamma, printed=True))
    elif mistake == "size not squared":
        plant("theorem_4_4", lambda g, y, size, gamma=1.0: right_4_4(g, y, size**0.5, gamma))
    elif mistake == "bracket not squared":
        plant("lemma_4_5", lambda start, optimum: right_4_5(start, optimum)._replace(lemma=_unsquared(start, optimum)))
    elif mistake == "||old + new||":
        plant("lemma_4_5", lambda start, optimum: right_4_5(start, optimum)._replace(lemma=_added(start, optimum)))


def _unsquared(start, optimum):
    square = inner(optimum, optimum)
    return inner(start - optimum, start - optimum) - (square - inner(optimum, start)) / square


def _added(start, optimum):
    square = inner(optimum, optimum)
    return inner(start + optimum, start + optimum) - (square - inner(optimum, start)).square() / square


MISTAKES = {
    "1/sqrt(m) for 1/m": {"4.1", "4.4"},  # 4.4 is made of 4.1
    "mean not projected out": {"4.1", "4.4"},
    "y_hat not projected out": {"4.1", "4.4"},
    "factor gamma^2 / sigma^2 missing": {"4.1"},
    "gamma / sigma not squared": {"4.1"},
    "unbiased variance": {"4.1", "4.2"},
    "BN's own curvature added": {"4.2"},
    "BN's own curvature forgotten": {"4.2"},
    "4.4 as printed": {"4.4"},
    "size not squared": {"4.4"},
    "bracket not squared": {"4.5"},
    "||old + new||": {"4.5"},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(monkeypatch, mistake):
    networks = measured(Family(spread=0.5))
    mutate(monkeypatch, mistake)
    found = equalities(*networks)
    assert MISTAKES[mistake] <= {name for name, worst in found.items() if worst > 1e-3}


# --- the inequalities -----------------------------------------------------------------------------------------------


def test_with_the_plain_gradient_the_bound_may_fail_and_matched_it_holds():
    def holds(family):
        unit = first_unit(draw(family, n=500))
        bound = sum(theorem_4_1(unit.plain, unit.y, unit.gamma))
        return (inner(unit.v, unit.v) <= bound * (1 + 1e-12)).double().mean().item()

    assert holds(Family(spread=3.0)) < 0.1
    assert holds(Family(spread=0.15)) > 0.9
    assert holds(Family(matched="scale")) < 0.5
    for nonlinearity in ACTIVATIONS:
        assert holds(Family(nonlinearity=nonlinearity, matched="both")) == 1


def test_matched_constants_give_the_same_activations_and_gradients():
    nets = draw(Family(matched="both"), n=50)
    unit = first_unit(nets)
    assert_close(nets.bn(nets.y), nets.y)
    assert_close(unit.g, unit.plain)
    assert_close(unit.v, project(unit.plain, standardize(unit.y)[0]))


@each_family
def test_the_second_form_holds_exactly_under_its_condition(family):
    nets = draw(family, n=500)
    unit, forms = first_unit(nets), second_order(nets)
    right = sum(theorem_4_2(unit.g, unit.y, unit.v, forms.along_g, unit.gamma))
    clear = (forms.along_g - forms.along_v).abs() > 1e-9 * forms.along_g.abs()
    assert torch.equal((forms.at_y <= right)[clear], (forms.along_v <= forms.along_g)[clear])
    assert (forms.at_y > right).any()


def test_theorem_4_4_as_printed_depends_on_the_unit_of_the_loss():
    unit = first_unit(draw(Family(), n=300))
    for c, holds in ((0.01, 0.0), (1000.0, 1.0)):
        g, largest = c * unit.g, inner(c * unit.v, c * unit.v)
        assert (largest <= sum(theorem_4_4(g, unit.y, 1, printed=True))).double().mean() == holds
        assert residual(largest, *theorem_4_4(g, unit.y, 1)).max() < REACH


def test_no_input_of_a_given_size_gives_the_weights_a_larger_gradient():
    unit = first_unit(draw(Family(m=6), n=200))
    bound = sum(theorem_4_4(unit.g, unit.y, size=2))
    X = vectors(200, 6, 3)
    X *= 2 / torch.linalg.matrix_norm(X, ord=2)[:, None, None]
    squares = (X.mT @ unit.v[..., None]).square().sum((1, 2))
    assert (squares < bound).all() and (squares > 0.5 * bound).any()
    step = 0.2
    for _ in range(400):  # climb: no closed form
        X = X + step * unit.v[..., None] * (unit.v[:, None] @ X) / inner(unit.v, unit.v)[:, None, None]
        X *= 2 / torch.linalg.matrix_norm(X, ord=2)[:, None, None]
    assert_close((X.mT @ unit.v[..., None]).square().sum((1, 2)), bound)


def test_the_nearest_optimum_is_the_nearest_of_a_fine_ray():
    start, optimum = vectors(5), vectors(5, seed=1)
    start = start * torch.sign(start @ optimum)
    near = lemma_4_5(start, optimum)
    ray = torch.linspace(0, 4, 400_001).double()
    distances = start @ start - 2 * ray * (start @ optimum) + ray**2 * (optimum @ optimum)
    assert abs(ray[distances.argmin()] - near.factor) < 1e-5
    assert_close(near.distance, distances.min(), rtol=1e-9, atol=0)
    assert near.distance < (start - optimum).square().sum()


def test_residual_is_relative_and_knows_zero():
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    assert residual(zero, zero, zero).item() == 0
    assert residual(1e-20 * one, 2e-20 * one, -1e-20 * one).item() < 1e-15
    assert residual(1.5 * one, 2 * one, -1 * one).item() == 0.25


# --- the evidence of the figures and claims ------------------------------------------------------------------------


def test_the_shares_are_those_of_the_formulae_written_out():
    family = Family(m=8, nonlinearity="ReLU")
    unit, forms, pair = first_unit(draw(family, 50)), second_order(draw(family, 50)), theory.two_networks(family, 50)
    alive = (unit.plain.norm(dim=1) > 0) & (unit.v.norm(dim=1) > 0)
    y_hat = (unit.y - unit.y.mean(1, keepdim=True)) / unit.y.std(1, correction=0, keepdim=True)
    kept = unit.plain.norm(dim=1) ** 2 - unit.plain.sum(1) ** 2 / 8 - (unit.plain * y_hat).sum(1) ** 2 / 8
    assert np.allclose(pair.bound, (kept / unit.y.var(1, correction=0))[alive])
    assert np.allclose(pair.ratio, (unit.v.norm(dim=1) / unit.plain.norm(dim=1))[alive])
    tried = theory.curvatures(family, 50)
    assert (tried.condition == (forms.along_v <= forms.along_g).numpy()).all()
    assert np.allclose(tried.left, tried.right)


def test_what_is_needed_is_one_over_m_and_the_printed_factor_is_too_much():
    assert theory.factors_needed(16) == pytest.approx(1 / 16, rel=1e-9)
    assert theory.right_over_left_4_1(0.5, Family(m=16), 50).max() < 1
    assert theory.right_over_left_4_1(1.0, Family(m=16), 50) == pytest.approx(1, rel=1e-12)
    assert theory.right_over_left_4_4(100.0, False, n=50) == pytest.approx(1, rel=1e-12)


def test_each_seed_draws_other_networks_and_all_equalities_hold():
    first, other = (theory.residuals(seed, n=10) for seed in (0, 1))
    assert first != other
    assert max(*first.values(), *other.values()) < REACH


# --- trained networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["plain", "bn"])
def test_watching_measures_the_gradient_at_bns_output(norm):
    settings = Settings(norm, depth=2, width=7, nonlinearity="tanh", steps=3)
    run, _ = watch_projection.func(settings, 2, n_evals=4)
    assert run.left.shape == run.positive.shape == (4, 2, 2)
    assert run.step.tolist() == [0, 1, 2, 3]
    net = settings.network(0)
    x, wanted, *_ = settings.task()
    first = net[0](x[:60])
    met = (first if norm == "plain" else net[1](first)).detach().requires_grad_()
    rest = net[1:] if norm == "plain" else net[2:]
    (g,) = torch.autograd.grad(settings.loss(rest(met), wanted[:60]), met)
    y, g = first.detach().double().numpy(), g.double().numpy()
    y_hat = (y - y.mean(0)) / y.std(0)
    removed = g.mean(0) ** 2 * 60 + (g * y_hat).sum(0) ** 2 / 60
    assert run.left[0, 0, 0] == pytest.approx(np.sqrt(1 - removed.sum() / (g**2).sum()), rel=1e-4)
    assert run.positive[0, 0, 0] == pytest.approx(((g * y_hat).sum(0) > 0).mean())


def test_watching_does_not_disturb():
    settings = Settings("bn", depth=1, width=5, steps=20)
    often, seldom = (watch_projection.func(settings, 2, n_evals=n_evals)[1] for n_evals in (21, 2))
    assert often.left[-1].tolist() == seldom.left[-1].tolist()


def test_a_held_mean_leaves_the_gradients_mean_in_and_nothing_else():
    y, g = vectors(12, 4).requires_grad_(), vectors(12, 4, seed=1)
    layer = NORMS["bn, mean held"](4, False, None).double()
    with torch.no_grad():
        layer.weight.copy_(vectors(4, seed=2))
    (found,) = torch.autograd.grad(layer(y), y, g)
    y_hat, sigma = standardize(y.detach().T, layer.eps)
    left_in = layer.weight[:, None] / sigma * (g.T - y_hat * (g.T * y_hat).mean(-1, keepdim=True))
    assert_close(found.T, left_in.detach(), rtol=1e-10, atol=1e-14)
    assert_close(layer.running_mean, 0.1 * y.mean(0).detach())


def test_networks_with_the_mean_held_differ_in_their_backward_pass_alone():
    bn, held = (Settings(norm, depth=2, width=10, steps=20, lr=1.0) for norm in ("bn", "bn, mean held"))
    x = bn.task().x_train[:60]
    assert_close(bn.network(0)(x), held.network(0)(x))
    first, other = (train_seeds.func(each, 2)[0].loss for each in (bn, held))
    assert first[0] == pytest.approx(other[0], rel=1e-6)
    assert abs(first[-1] - other[-1]) > 1e-4


# --- Theorem C.1 ------------------------------------------------------------------------------------------------------

each_kind = pytest.mark.parametrize("kind", [("tanh", 0.3), ("ReLU", 1.0), ("sigmoid", 3.0)], ids=lambda kind: kind[0])


def drawn(kind, n=60):
    """Networks with gamma = sigma and beta = mu, their first unit, and the Hessians after BN and before it."""
    nets = draw(Family(m=9, nonlinearity=kind[0], spread=kind[1], matched="both"), n)
    unit = first_unit(nets)
    alive = unit.v.norm(dim=1) > 0
    unit = theory.Unit(*(each[alive] for each in unit))
    return unit, theory.hessians(nets.loss, nets.bn(nets.y))[alive], theory.hessians(nets.loss_at_y, nets.y)[alive]


def form(z, hessian):
    return torch.einsum("...ni,nij,...nj->...n", z, hessian, z)


def reached(v, hessian):
    """The largest curvature in the weights, by the whole X X' of the inputs that are said to be the worst."""
    x = theory.worst_inputs(v, hessian)
    return form((x[:, :, None] @ x[:, None] @ v[:, :, None])[..., 0], hessian)


def test_the_hessians_forms_are_those_of_autograds_products():
    nets = draw(Family(m=7, matched="scale"), n=20)
    along = torch.zeros_like(nets.y)
    along[:, 0] = vectors(20, 7)
    for loss, at in ((nets.loss, nets.bn(nets.y)), (nets.loss_at_y, nets.y)):
        hessian = theory.hessians(loss, at)
        assert_close(hessian, hessian.mT)
        assert_close(form(along[:, 0], hessian), curvature(loss, at, along))


@each_kind
def test_no_inputs_of_size_one_exceed_the_worst_and_a_climb_comes_near(kind):
    unit, met, at_y = drawn(kind)
    for v, hessian in ((unit.g, met), (unit.v, at_y)):
        x, largest = theory.worst_inputs(v, hessian), reached(v, hessian)
        assert (x.norm(dim=1) <= 1 + 1e-9).all()  # the largest singular value of one column
        X = vectors(100, len(v), 9, 3)
        X /= torch.linalg.matrix_norm(X, ord=2)[..., None, None]
        slack = 1e-8 * largest.abs() + 1e-30
        assert (form((X @ X.mT @ v[:, :, None])[..., 0], hessian) <= largest + slack).all()
        middle, radius = v / 2, v.norm(dim=1, keepdim=True) / 2  # the ball that X X' v runs over
        z = middle + radius * F.normalize(vectors(20, *v.shape, seed=1), dim=-1)
        step = hessian / torch.linalg.matrix_norm(hessian, ord=2)[:, None, None]
        for _ in range(200):
            z = z + torch.einsum("nij,snj->sni", step, z)
            away = z - middle
            z = middle + away * (radius / away.norm(dim=-1, keepdim=True)).clamp(max=1)
        climbed = form(z, hessian).amax(0)
        assert (climbed <= largest + slack).all()
        assert (climbed >= 0.99 * largest - slack).double().mean() > 0.9


@each_kind
def test_the_largest_is_certified_by_its_dual(kind):
    """No z in the ball has z'Hz above mu^2 / 4 v' (mu - H)^-1 v, whatever mu above H's eigenvalues."""
    unit, _, at_y = drawn(kind)
    v, largest = unit.v, reached(unit.v, at_y)
    top = torch.linalg.eigvalsh(at_y)[:, -1]
    factors = 1 + torch.logspace(-8, 0, 4000).double()
    values, vectors_ = torch.linalg.eigh(at_y)
    along = (v[:, None] @ vectors_)[:, 0].square()
    mu = (factors[:, None] * top)[..., None]
    bound = (mu[..., 0] ** 2 / 4) * (along / (mu - values)).sum(-1)
    assert (bound >= largest * (1 - 1e-9)).all()
    assert_close(bound.amin(0), largest, rtol=1e-3, atol=0)


def test_the_worst_inputs_of_hessians_that_can_be_seen_through():
    v = vectors(20, 5)
    eye = torch.eye(5).double().expand(20, 5, 5)
    assert_close(reached(v, eye), v.square().sum(1))  # the identity is right here,
    assert_close(reached(v, -eye), torch.zeros(20).double(), rtol=0, atol=1e-9)  # no inputs at all here,
    assert_close(reached(0 * v, eye), torch.zeros(20).double(), rtol=0, atol=1e-9)
    w = F.normalize(vectors(20, 5, seed=1), dim=1)
    by_hand = ((inner(v, w) + v.norm(dim=1)) / 2).square()  # and the ball's highest point along w or -w here
    by_hand = torch.maximum(by_hand, ((inner(v, w) - v.norm(dim=1)) / 2).square())
    assert_close(reached(v, w[:, :, None] * w[:, None]), by_hand)


@pytest.mark.parametrize("gamma", [0.3, 1.0, -3.0])
def test_bns_hessian_is_the_projected_one_and_two_parts_of_its_own(gamma):
    nets = draw(Family(m=9, gamma=gamma), n=50)
    unit = first_unit(nets)
    y_hat, sigma = standardize(unit.y)
    P = torch.eye(9).double() - 1 / 9 - y_hat[:, :, None] * y_hat[:, None] / 9
    H, sigma, along = theory.hessians(nets.loss, nets.bn(nets.y)), sigma[..., None], inner(unit.g, y_hat)[:, None, None]
    last = unit.v[:, :, None] * y_hat[:, None] + y_hat[:, :, None] * unit.v[:, None]
    by_hand = gamma**2 / sigma**2 * P @ H @ P - gamma / (9 * sigma**2) * along * P - last / (9 * sigma)
    found = theory.hessians(nets.loss_at_y, nets.y)
    assert_close(by_hand, found, rtol=0, atol=1e-12 * found.abs().max().item())


@each_kind
def test_the_bounds_of_theorem_c_1_are_those_written_out(kind):
    unit, met, at_y = drawn(kind)
    tried = theory.in_the_weights(Family(m=9, nonlinearity=kind[0], spread=kind[1], matched="both"), 60)
    without, with_bn = reached(unit.g, met).clamp_min(0), reached(unit.v, at_y)
    assert_close(torch.tensor(tried.without), without, rtol=1e-8, atol=1e-25)
    assert_close(torch.tensor(tried.with_bn), with_bn)
    sigma, length = unit.y.std(1, correction=0), unit.v.norm(dim=1)
    along = inner(unit.g, standardize(unit.y)[0])
    assert_close(torch.tensor(tried.printed), without - along * length**2 / (9 * sigma), rtol=1e-8, atol=1e-25)
    own = length**2 / (9 * sigma) * (torch.relu(-along) + 3 * 3**0.5 / 8 * 9**0.5 * length)
    assert_close(torch.tensor(tried.repaired), without + own, rtol=1e-8, atol=1e-25)
    assert (with_bn <= without + own).all()


@each_kind
def test_without_the_part_along_y_hat_the_printed_bound_has_a_condition(kind):
    unit, met, at_y = drawn(kind)
    y_hat, sigma = standardize(unit.y)
    last = unit.v[:, :, None] * y_hat[:, None] + y_hat[:, :, None] * unit.v[:, None]
    left_out = reached(unit.v, at_y + last / (9 * sigma[..., None]))
    printed = sum(theory.theorem_c_1(unit.g, unit.y, unit.v, reached(unit.g, met), unit.gamma, printed=True))
    met_condition = inner(unit.g, y_hat) <= 0
    assert (left_out <= printed + 1e-9 * printed.abs())[met_condition].all()


def test_what_the_theorem_misses_grows_as_sigma_shrinks():
    shares = [
        theory.in_the_weights(Family(m=9, spread=spread, matched="both"), 100).holds.mean() for spread in (0.1, 3)
    ]
    assert shares[0] < 0.1 and shares[1] > 0.5


@pytest.mark.parametrize("factor", [0.5, 0.0])
def test_a_smaller_own_curvature_would_not_bound_it(factor):
    unit, met, at_y = drawn(("tanh", 0.1))
    first, own, last = theory.theorem_c_1(unit.g, unit.y, unit.v, reached(unit.g, met), unit.gamma)
    assert (reached(unit.v, at_y) > first + own + factor * last).any()
