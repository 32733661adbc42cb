"""Networks side by side share their memory and nothing else."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from utils.ensemble import Ensemble
from utils.networks import IMAGES_ONLY, NORMS, mlp, residual_mlp, vgg
from utils.norms import PAPER_DEFAULTS


def made(norm="bn", n=3, **settings):
    return [mlp([6, 8, 8, 3], norm, "tanh", generator=torch.Generator().manual_seed(i), **settings) for i in range(n)]


X = torch.rand(3, 7, 6, generator=torch.Generator().manual_seed(9))


def blocks(norm, n=3):
    return [residual_mlp([6, 8, 8, 3], norm, generator=torch.Generator().manual_seed(i)) for i in range(n)]


SHAPES = {
    "": made,
    "with dropout": lambda norm: made(norm, dropout=0.5),
    "dropout before": lambda norm: made(norm, dropout=0.5, dropout_before_norm=True),
    "norm after": lambda norm: made(norm, placement="after"),
    "residual": blocks,
}
FLAT = [norm for norm in NORMS if norm not in IMAGES_ONLY]
CASES = [(norm, shape) for shape in SHAPES for norm in (FLAT if shape == "" else ("plain", "bn", "layer"))]
CASES += [("bn, zero gamma", "residual"), ("skipinit", "residual"), ("noisy, persistent", "with dropout")]


@pytest.mark.parametrize(("norm", "shape"), CASES)
def test_scores_gradients_and_running_statistics_are_those_of_each_network(norm, shape):
    alone, together = SHAPES[shape](norm), Ensemble(SHAPES[shape](norm))
    assert together.together
    together.forward(X).square().sum().backward()
    for net, own, x in zip(alone, together.nets, X, strict=True):
        net(x).square().sum().backward()
        for parameter, other in zip(net.parameters(), own.parameters(), strict=True):
            assert_close(other, parameter)
        size = max(parameter.grad.abs().max() for parameter in net.parameters()).item()
        for parameter, other in zip(net.parameters(), own.parameters(), strict=True):
            assert_close(other.grad, parameter.grad, rtol=1e-4, atol=1e-5 * size)  # a sum's error is its parts'
        for buffer, other in zip(net.buffers(), own.buffers(), strict=True):
            assert_close(other, buffer)
    scores = together.evaluate(X)
    for net, own, x, score in zip(alone, together.nets, X, scores, strict=True):
        assert net.training and own.training
        assert_close(score, net.eval()(x), rtol=1e-4, atol=1e-5)


def test_a_step_on_the_common_vector_moves_every_network():
    together = Ensemble(made("bn"))
    before = [[parameter.clone() for parameter in net.parameters()] for net in together.nets]
    with torch.no_grad():
        together.flat += 1.0
    for net, old in zip(together.nets, before, strict=True):
        for parameter, was in zip(net.parameters(), old, strict=True):
            assert_close(parameter, was + 1)


def test_one_network_that_is_infinite_leaves_the_others():
    nets = made("bn")
    with torch.no_grad():
        nets[1][0].weight.fill_(float("inf"))
    scores = Ensemble(nets).forward(X)
    assert not scores[1].isfinite().any()
    assert_close(scores[2], made("bn")[2](X[2]))


def test_noise_is_each_networks_own():
    scores = Ensemble(made("noisy", noise=PAPER_DEFAULTS.scaled(4))).forward(X)
    again = Ensemble(made("noisy", noise=PAPER_DEFAULTS.scaled(4))).forward(X)
    assert_close(scores, again)
    one = mlp([6, 8, 8, 3], "noisy", "tanh", generator=torch.Generator().manual_seed(2), noise=PAPER_DEFAULTS.scaled(4))
    assert_close(scores[2], one(X[2]))


def test_convolutions_run_one_after_another_and_share_their_memory_all_the_same():
    nets = [vgg(2, 4, "bn", generator=torch.Generator().manual_seed(i)) for i in range(2)]
    together, images = Ensemble(nets), torch.rand(2, 3, 1, 14, 14)
    assert not together.together
    together.forward(images).sum().backward()
    assert together.gradient.abs().sum() > 0
    assert_close(together.evaluate(images)[1], nets[1].eval()(images[1]))


def test_networks_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match="nets: expected networks of one shape"):
        Ensemble([nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 4))])
