"""The evidence of "The gradient": against PyTorch, against autograd, and against a check that must be able to fail."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from utils.checks.gradient import check_differences
from utils.experiments import gradient as experiment
from utils.experiments.gradient import FORMULAE, MISTAKES, UPSTREAMS, closed_form, forward, paths, tried, walk_back
from utils.experiments.theorem_lab import bn_backward, standardize
from utils.figures import gradient as figures


def batch(n=12, c=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x, g = torch.randn(2, n, c, generator=rng).double()
    gamma, beta = torch.rand(2, 1, c, generator=rng).double() + 0.5
    return 3 * x + 1, g, gamma, beta


def of_torch(x, g, gamma, beta, eps=experiment.EPS):
    leaves = [each.clone().requires_grad_() for each in (x, gamma, beta)]
    out = F.batch_norm(leaves[0], None, None, *(each[0] for each in leaves[1:]), training=True, eps=eps)
    return out, torch.autograd.grad(out, leaves, g)


def test_the_graph_forward_and_back_is_pytorchs_layer():
    x, g, gamma, beta = batch()
    out, (by_x, by_gamma, by_beta) = of_torch(x, g, gamma, beta)
    nodes = forward(x, gamma, beta)
    back = walk_back(g, nodes)
    assert_close(nodes["y"], out)
    assert_close(back["x"], by_x)
    assert_close(back["gamma"], by_gamma)
    assert_close(back["beta"], by_beta)
    assert_close(closed_form(g, x, gamma), by_x)


def test_each_box_is_what_autograd_says():
    x, g, gamma, beta = batch()
    nodes = forward(x, gamma, beta)
    back, known = walk_back(g, nodes), experiment.by_autograd(g, x, gamma, beta)
    assert set(back) == set(known) == set(nodes)
    for name in nodes:
        assert_close(back[name], known[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 1.0])
def test_the_one_line_is_exact_for_any_epsilon(eps):
    x, g, gamma, beta = batch()
    if eps:
        assert_close(closed_form(g, x, gamma, eps), of_torch(x, g, gamma, beta, eps)[1][0])
    assert_close(closed_form(g, x, gamma, eps), walk_back(g, forward(x, gamma, beta, eps))["x"])


def test_what_ones_and_x_hat_bring_to_x_is_nothing():
    x, _, gamma, beta = batch()
    nodes = forward(x, gamma, beta, 0.0)
    for g in (torch.ones_like(x), nodes["x_hat"]):
        assert walk_back(g, nodes)["x"].abs().max() < 1e-13
    ones = walk_back(torch.ones_like(x), nodes)
    assert ones["inv_sigma"].abs().max() < 1e-12 < ones["mean"].abs().min()
    assert walk_back(nodes["x_hat"], nodes)["centred"].abs().max() < 1e-13


def test_the_real_batch_is_one_unit_of_the_network():
    four, many = experiment.real_batch(4), experiment.real_batch(60)
    assert four.x.shape == four.g.shape == (4, 1) and many.x.shape == (60, 1)
    walk = experiment.walked("from a loss")
    assert walk.gradients["y"] == pytest.approx(four.g[:, 0].numpy())
    assert walk.gradients["x"].sum() == pytest.approx(0, abs=1e-12)
    assert max(walk.apart.values()) < 1e-12


def test_the_three_ways_are_the_jacobian():
    x = torch.randn(7, generator=torch.Generator().manual_seed(0)).double()
    jacobian = torch.stack(
        [torch.autograd.functional.vjp(lambda x: standardize(x)[0], x, row)[1] for row in torch.eye(7).double()]
    )
    found = paths(x)
    assert_close(torch.from_numpy(found.together) / standardize(x)[1], jacobian)
    assert abs(found.together - found.together.T).max() == 0
    assert abs(found.together @ found.together - found.together).max() < 1e-12
    assert torch.linalg.matrix_rank(torch.from_numpy(found.together), atol=1e-9, rtol=0) == 5
    assert abs(paths(torch.tensor([3.0, 7.0])).together).max() < 1e-12


# --- a test that cannot fail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("fresh", [False, True])
def test_the_right_formula_passes_and_is_pytorchs(upstream, fresh):
    of = experiment.case(upstream, fresh)
    x = of.x.clone().requires_grad_()
    of.loss(F.batch_norm(x, None, None, of.gamma, of.beta, training=True, eps=1e-12)).backward()
    found = tried("right", upstream, fresh)
    assert found.passes
    assert found.by_formula == pytest.approx(x.grad.flatten().numpy(), abs=1e-6)


def test_what_each_upstream_catches():
    blind = {upstream: {each for each in MISTAKES if tried(each, upstream).passes} for upstream in UPSTREAMS}
    fresh = {upstream: {each for each in MISTAKES if tried(each, upstream, True).passes} for upstream in UPSTREAMS}
    zero = {"γ forgotten", "zero, always"}
    assert blind["all ones"] == fresh["all ones"] == {"x̂'s part forgotten", "1/(m − 1)", *zero}
    assert blind["a sum of squares"] == zero
    assert fresh["a sum of squares"] == {"the mean's part forgotten", *zero}
    assert blind["random"] == blind["from a loss"] == set()
    assert fresh["random"] == fresh["from a loss"] == {"γ forgotten"}
    assert experiment.verdicts()["zero, always"] == ["passes", "passes", "caught", "caught"]


def test_the_wrong_formulae_are_those_that_they_are_called():
    x, g, gamma, _ = batch()
    y, back = x.T, g.T
    right = bn_backward(back, y).T * gamma
    y_hat, sigma = (each.T for each in standardize(y))
    wrong = {name: FORMULAE[name](g, x, gamma[0]) for name in FORMULAE}
    assert_close(wrong["right"], right)
    assert_close(wrong["the mean's part forgotten"], right + gamma / sigma * g.mean(0))
    assert_close(wrong["x̂'s part forgotten"], gamma / sigma * (g - g.mean(0)))
    assert_close(wrong["statistics detached"], gamma / sigma * g)
    assert_close(wrong["γ forgotten"], right / gamma)
    shrunk = math.sqrt(11 / 12)
    assert_close(wrong["1/(m − 1)"], gamma * shrunk / sigma * (g - g.mean(0) - 11 / 12 * y_hat * (g * y_hat).mean(0)))


def test_a_relative_error_of_rounding_is_about_one():
    assert tried("right", "all ones").relative > 0.1
    assert tried("right", "random").relative < 1e-6
    assert experiment.errors_by_step("right", "random").min() < 1e-9
    assert experiment.errors_by_step("γ forgotten", "random").min() > 0.01


def test_central_differences_are_as_good_as_their_step():
    x = torch.tensor([[0.3, -2.0]]).double()
    for step in (1e-2, 1e-3):
        error = experiment.central_differences(lambda x: (x**3).sum((-2, -1)), x, step) - 3 * x**2
        assert_close(error, torch.full_like(x, step**2), rtol=1e-3, atol=1e-12)


def test_an_unknown_upstream_is_refused():
    with pytest.raises(ValueError, match="upstream: expected one of"):
        experiment.case("twos")


# --- questions and checks ------------------------------------------------------------------------------------------


def test_questions_are_answered_as_their_mathematics_says():
    assert figures.predict_blind.answer[0] == [figures.predict_blind.choices.index("2")]
    assert figures.quiz_evaluation.answer[0] == [1.5, 1.5]
    b, u = torch.zeros((), requires_grad=True), torch.tensor([[0.0], [1.0], [5.0]])
    for _ in range(2):  # the statistics for constants: b moves, the output does not
        x = u + b
        y = (x - x.mean(0).detach()) / x.std(0, correction=0).detach()
        (slope,) = torch.autograd.grad((y * torch.tensor([[1.0], [2.0], [0.5]])).sum(), b)
        assert slope > 0.5
        with torch.no_grad():
            b -= 10 * slope
            assert_close((u + b - (u + b).mean(0)), u - u.mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        (
            lambda f, x, h: torch.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in torch.eye(3).double()]),
            "Right",
        ),
        (lambda f, x, h: torch.stack([(f(x + h * e) - f(x)) / h for e in torch.eye(3).double()]), "One-sided"),
        (
            lambda f, x, h: torch.stack([(f(x + h * e) - f(x - h * e)) / h for e in torch.eye(3).double()]),
            "It is twice",
        ),
        (lambda f, x, h: torch.stack([(f(x + h * e) - f(x)) / (2 * h) for e in torch.eye(3).double()]), "It is half"),
        (lambda f, x, h: (f(x + h) - f(x - h)) / (2 * h) * torch.ones_like(x), "All values"),
        (lambda f, x, h: torch.zeros_like(x), "Not the gradient"),
        (lambda f, x, h: torch.zeros(2), "Expected the shape"),
        (lambda f, x, h: None, "Expected an array"),
        (lambda f, x, h: 1 / 0, "It raises ZeroDivisionError"),
    ],
)
def test_the_check_of_differences_says_what_is_wrong(differences, said):
    assert check_differences(differences).startswith(said)
