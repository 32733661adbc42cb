"""The networks: what stands where, how weights are drawn, what is said of a wrong name."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from utils.batchnorm import BatchNorm1d, BatchNorm2d
from utils.networks import (
    IMAGES_ONLY,
    NEVER_IMAGES,
    NONLINEARITIES,
    NORMS,
    NOT_CENTRED,
    Dropout,
    SecondHalf,
    Twice,
    initialized,
    mlp,
    preactivations,
    preserve_state,
    residual_mlp,
    vgg,
)
from utils.norms import DyT, LpNorm, Noise, NoisyBatchNorm1d, PartialNorm, PersistentNoisyBatchNorm1d, SkipInit
from utils.observe import trace

BETWEEN = {"plain": [], "torch": [nn.BatchNorm1d], "noisy": [NoisyBatchNorm1d], "noisy plain": [Noise]}
BETWEEN |= {norm: [BatchNorm1d] for norm in ("bn", "bn, no scale and shift")}
BETWEEN["noisy, persistent"] = [PersistentNoisyBatchNorm1d]
BETWEEN |= {norm: [LpNorm] for norm in ("l1", "l2", "linf")}
BETWEEN |= {"layer": [nn.LayerNorm], "group": [nn.GroupNorm], "rms": [nn.RMSNorm], "dyt": [DyT]}
BETWEEN |= {"bn, zero gamma": [BatchNorm1d], "skipinit": [SkipInit], "centre, rms": [nn.Sequential]}
FLAT = [norm for norm in NORMS if norm not in IMAGES_ONLY]


@pytest.mark.parametrize("norm", FLAT)
def test_a_hidden_layer_is_linear_then_norm_then_nonlinearity(norm):
    net = mlp([4, 8, 8, 3], norm=norm, nonlinearity="tanh")
    kinds, between = [type(layer) for layer in net], BETWEEN.get(norm, [PartialNorm])
    if norm == "noisy, persistent":
        assert (kinds.pop(0), kinds.pop()) == (Twice, SecondHalf)
    assert kinds == 2 * [nn.Linear, *between, nn.Tanh] + [nn.Linear]
    *hidden, last = (layer for layer in net if isinstance(layer, nn.Linear))
    assert all((layer.bias is None) == (norm not in NOT_CENTRED) for layer in hidden)  # beta replaces b
    assert last.bias is not None


LEAVING_A_BIAS = ("plain", "noisy, persistent", "l1", "l2", "linf")  # an lp norm's size is that before centring


@pytest.mark.parametrize("norm", [norm for norm in FLAT if norm not in LEAVING_A_BIAS])
def test_a_bias_is_left_out_where_the_norm_would_take_it_out(norm):
    net, x = mlp([4, 8, 3], norm, "tanh", generator=torch.Generator().manual_seed(0)), torch.rand(20, 4)
    if norm == "skipinit":
        net[1].factor.data.fill_(1.0)
    if norm == "bn, zero gamma":
        net[1].weight.data.fill_(1.0)
    layers = lambda b: net[1](net[0](x) + b)  # noqa: E731
    with preserve_state(net):
        given = layers(0.0)
    with preserve_state(net):
        assert torch.allclose(given, layers(torch.linspace(-1, 1, 8)), atol=1e-5) == (norm not in NOT_CENTRED)


def test_the_norm_may_stand_after_the_nonlinearity_and_dropout_before_the_norm():
    kinds = [type(layer) for layer in mlp([4, 8, 3], "bn", "relu", placement="after")]
    assert kinds == [nn.Linear, nn.ReLU, BatchNorm1d, nn.Linear]
    assert mlp([4, 8, 3], "bn", "relu", placement="after")[0].bias is not None  # ReLU(Wu + b): nothing takes it out
    kinds = [type(layer) for layer in mlp([4, 8, 3], "bn", "relu", dropout=0.5, dropout_before_norm=True)]
    assert kinds == [nn.Linear, Dropout, BatchNorm1d, nn.ReLU, nn.Linear]
    with pytest.raises(ValueError, match=r"placement: expected .*got 'between'"):
        mlp([4, 8, 3], placement="between")


@pytest.mark.parametrize("norm", ["bn, zero gamma", "skipinit"])
def test_a_residual_network_may_begin_as_its_first_and_last_layer(norm):
    net, x = residual_mlp([4, 8, 8, 8, 3], norm, generator=torch.Generator().manual_seed(0)), torch.rand(20, 4)
    assert len(net) == 4
    assert_close(net(x), net[-1](net[0](x)))


def test_residual_networks_have_one_width():
    with pytest.raises(ValueError, match=r"sizes: expected hidden layers of one width, got \[4, 8, 6, 3\]"):
        residual_mlp([4, 8, 6, 3])


def test_norms_that_have_no_meaning_somewhere_say_so():
    for norm in IMAGES_ONLY:
        with pytest.raises(ValueError, match=f"norm: '{norm}' has no meaning outside a convolutional"):
            mlp([4, 8, 3], norm)
    for norm in NEVER_IMAGES:
        with pytest.raises(ValueError, match=f"norm: '{norm}' has no meaning in a convolutional"):
            vgg(2, norm=norm)


@pytest.mark.parametrize("norm", ["noisy", "noisy plain"])
def test_noise_on_the_last_layer_only(norm):
    net = mlp([4, 8, 8, 8, 3], norm=norm, noise_on="the last")
    noises = [
        layer.noise if norm == "noisy" else layer
        for layer in net
        if hasattr(layer, "noise") or isinstance(layer, Noise)
    ]
    assert [noise.recipe.shift > 0 for noise in noises] == [False, False, True]
    with pytest.raises(ValueError, match=r"noise_on: expected .*'the last'\], got 'none'"):
        mlp([4, 8, 3], noise_on="none")


def test_without_noise_a_network_whose_noise_persists_is_one_with_bn():
    settings = {"generator": torch.Generator().manual_seed(7)}
    bn, x = mlp([4, 8, 8, 3], norm="bn", **settings), torch.rand(20, 4)
    settings["generator"].manual_seed(7)
    net = mlp([4, 8, 8, 3], norm="noisy, persistent", noise=Noise().recipe.scaled(0), **settings)
    assert_close(net(x), bn(x))
    assert_close(net.eval()(x), bn.eval()(x))  # running statistics, too


def test_the_arm_without_scale_and_shift_has_neither():
    assert not list(mlp([4, 8, 3], norm="bn, no scale and shift")[1].parameters())


@pytest.mark.parametrize(("init", "std"), [("glorot", (2 / 1300) ** 0.5), ("he", (2 / 300) ** 0.5), (0.1, 0.1)])
def test_initial_weights_have_the_spread_of_their_rule(init, std):
    layer = initialized(nn.Linear(300, 1000), init, torch.Generator().manual_seed(0))
    assert layer.weight.std().item() == pytest.approx(std, rel=0.01)
    assert layer.bias.abs().max() == 0


def test_one_seed_gives_plain_and_bn_the_same_weights():
    plain, bn = (mlp([4, 8, 3], norm=norm, generator=torch.Generator().manual_seed(7)) for norm in ("plain", "bn"))
    assert_close(plain[0].weight, bn[0].weight, rtol=0, atol=0)
    assert_close(plain[-1].weight, bn[-1].weight, rtol=0, atol=0)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_preactivations_are_what_the_linear_layers_give(nonlinearity):
    net, x = mlp([4, 8, 3], norm="bn", nonlinearity=nonlinearity), torch.rand(20, 4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    hidden, scores = preactivations(net, x)
    assert_close(hidden, net[0](x))
    for name, value in net.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=0)  # looking changes nothing
    assert_close(scores, net.train()(x))


@pytest.mark.parametrize("norm", ["noisy", "noisy plain"])
def test_looking_leaves_the_noise_to_come_as_it_would_have_been(norm):
    def network():
        return mlp([4, 8, 3], norm=norm, generator=torch.Generator().manual_seed(7))

    x, looked_at = torch.rand(20, 4), network()
    preactivations(looked_at, x)
    assert_close(looked_at(x), network()(x), rtol=0, atol=0)
    with pytest.raises(ZeroDivisionError), preserve_state(looked_at):
        looked_at(x), 1 / 0
    untouched = network()
    untouched(x)
    assert_close(looked_at(x), untouched(x), rtol=0, atol=0)


def modes(net):
    return [module.training for module in net.modules()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("look", [preactivations, trace])
def test_looking_leaves_every_layer_in_its_mode(look, training):
    net, x = mlp([4, 8, 8, 3], norm="bn"), torch.rand(20, 4)
    net.train(training)[1].eval()  # a frozen layer, as in fine-tuning
    before, answer = modes(net), net(x)
    look(net, x)
    assert modes(net) == before
    if not training:
        assert_close(net(x), answer, rtol=0, atol=0)


def test_a_frozen_layer_is_looked_at_as_it_trains_and_evaluation_as_it_is():
    net = mlp([4, 8, 8, 3], norm="bn")
    net[1].eval()
    with preserve_state(net):
        assert modes(net)[1:6] == [True, False, True, True, True]
    with preserve_state(net, training=False):
        assert not any(modes(net))
    assert modes(net)[1:6] == [True, False, True, True, True]


def test_wrong_names_say_what_was_expected():
    for wrong, what in (
        ({"norm": "batch"}, "norm"),
        ({"nonlinearity": "swish"}, "nonlinearity"),
        ({"init": "x"}, "init"),
    ):
        with pytest.raises(ValueError, match=rf"{what}: expected .*got '{next(iter(wrong.values()))}'"):
            mlp([4, 8, 3], **wrong)
    with pytest.raises(ValueError, match=r"sizes: expected .*got \[4\]"):
        mlp([4])


def test_the_vgg_halves_the_image_after_every_second_convolution():
    net, x = vgg(depth=6, width=8, norm="bn"), torch.rand(2, 1, 14, 14)
    sizes = [tuple(values.shape[1:]) for values in preactivations(net, x)]
    assert sizes == 2 * [(8, 14, 14)] + 2 * [(16, 7, 7)] + 2 * [(16, 3, 3)] + [(10,)]
    assert sum(isinstance(layer, BatchNorm2d) for layer in net) == 6


def test_without_a_nonlinearity_a_network_is_one_linear_map():
    net = mlp([3, 5, 5, 2], nonlinearity="none")
    product = net[4].weight @ net[2].weight @ net[0].weight
    x = torch.rand(7, 3)
    assert_close(net(x), x @ product.T)
