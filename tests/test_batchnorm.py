"""The layer against torch's, which is the judge here and nowhere else.

Derivatives are always taken with a random upstream gradient: that of a plain sum is zero, for any batch norm.
"""

import copy
import inspect
import io
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, hessian, jvp, vmap
from torch.fx.experimental import optimization
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from utils import batchnorm
from utils.batchnorm import batch_norm, batch_statistics, normalize, scale_and_shift

LAYERS = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}
NAMES = sorted(set(LAYERS.values()))
F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=60, deadline=None, derandomize=True, database=None)


pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit", "ignore:Converting a tensor:torch.jit.TracerWarning")


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    torch.manual_seed(0)


def close(ours, torchs):
    assert_close(ours, torchs, rtol=1e-9, atol=1e-9)


def random(shape, dtype=F64):
    """A batch whose channels differ in mean and spread."""
    spread = 0.5 + torch.rand(shape[1], dtype=F64) * 2
    view = (-1, *[1] * (len(shape) - 2))
    x = torch.randn(shape, dtype=F64) * spread.view(view) + torch.randn(shape[1], dtype=F64).view(view)
    return x.to(dtype)


def pair(axes, channels, **settings):
    """Our layer and torch's, with the same random parameters and running statistics."""
    settings = {"dtype": F64, **settings}
    theirs = getattr(nn, LAYERS[axes])(channels, **settings)
    for value in [*theirs.parameters(), *theirs.buffers()]:
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 2.0)
    ours = getattr(batchnorm, LAYERS[axes])(channels, **settings)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def derivatives(function, leaves, upstream, weights):
    """The value, the first derivatives along `upstream`, and the second along `weights`."""
    leaves = [leaf for leaf in leaves if leaf is not None]
    upstream = upstream.clone().requires_grad_()
    y = function(leaves[0])
    first = torch.autograd.grad(y, leaves, upstream, create_graph=True)
    along = sum((w * g).sum() for w, g in zip(weights, first, strict=False))
    second = torch.autograd.grad(along, [*leaves, upstream], allow_unused=True, materialize_grads=True)
    return y, first, second


@st.composite
def shapes(draw, at_least=2):
    axes = draw(st.integers(2, 5))
    sizes = st.integers(1, {2: 9, 3: 5, 4: 4, 5: 3}[axes])
    shape = [draw(sizes), draw(st.integers(1, 5)), *(draw(sizes) for _ in range(axes - 2))]
    samples = torch.Size(shape).numel() // shape[1]
    if samples < at_least:
        shape[0] += at_least
    return tuple(shape)


layer_settings = st.fixed_dictionaries(
    {
        "eps": st.sampled_from([1e-5, 1e-3, 0.3]),
        "momentum": st.sampled_from([None, 0.0, 0.1, 0.7, 1.0]),
        "affine": st.booleans(),
        "bias": st.booleans(),
        "track_running_stats": st.booleans(),
    }
)


# --- agreement with torch -------------------------------------------------------------------------------------------


@many
@given(shapes(), layer_settings, SEEDS)
def test_layer_agrees_with_torch_to_second_derivatives(shape, how, seed):
    torch.manual_seed(seed)
    ours, theirs = pair(len(shape), shape[1], **how)
    for training in (True, True, False, True):
        x, upstream = random(shape), torch.randn(shape, dtype=F64)
        weights = [torch.randn_like(x), *torch.randn(2, shape[1], dtype=F64)]
        found = []
        for layer in (ours.train(training), theirs.train(training)):
            leaves = [x.clone().requires_grad_(), layer.weight, layer.bias]
            found.append(derivatives(layer, leaves, upstream, weights))
        for mine, judge in zip(*found, strict=True):
            close(mine, judge)
        close(dict(ours.named_buffers()), dict(theirs.named_buffers()))


@many
@given(shapes(), st.booleans(), st.booleans(), st.booleans(), SEEDS)
def test_function_agrees_with_torch(shape, training, with_weight, with_bias, seed):
    torch.manual_seed(seed)
    x = random(shape)
    mean, var, weight, bias = torch.rand(4, shape[1], dtype=F64) + 0.5
    own, judge = (mean.clone(), var.clone()), (mean.clone(), var.clone())
    rest = (weight if with_weight else None, bias if with_bias else None, training, 0.3, 1e-3)
    close(batch_norm(x, *own, *rest), F.batch_norm(x, *judge, *rest))
    close(own, judge)


@many
@given(shapes(), st.booleans(), st.sampled_from([F32, F16, BF16]), st.booleans(), SEEDS)
def test_lower_precision_agrees_with_torch(shape, training, dtype, mixed, seed):
    """Within a few units in the last place of the dtype: both round, in another order.

    With all in half precision torch rounds the batch's mean to it before use and we do not: its error is then that of
    the mean, a few units in the last place of the largest value, and not of the result.
    """
    torch.manual_seed(seed)
    other = F32 if mixed else dtype
    # so small a batch can have a variance near 0, which multiplies every rounding: a large eps bounds that
    ours, theirs = pair(len(shape), shape[1], dtype=other, eps=0.3)
    x, upstream = random(shape, dtype), torch.randn(shape).to(dtype)
    found = []
    for layer in (ours.train(training), theirs.train(training)):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        found.append([y, *torch.autograd.grad(y, [leaf, layer.weight, layer.bias], upstream)])
        found[-1] += [layer.running_mean, layer.running_var]
    unit = torch.finfo(dtype).eps
    for mine, judge in zip(*found, strict=True):
        assert mine.dtype == judge.dtype
        size = max(1.0, judge.abs().max().item(), x.abs().max().item())
        assert_close(mine, judge, rtol=0, atol=16 * unit * size)


def attempt(function, *arguments, **settings):
    """The dtypes that come out, forward and backward, or the error."""
    try:
        x = arguments[0].clone().requires_grad_()
        y = function(x, *arguments[1:], **settings)
        return y.dtype, torch.autograd.grad(y, x, torch.ones_like(y))[0].dtype
    except (RuntimeError, ValueError, TypeError) as error:
        return error


@pytest.mark.parametrize("training", [True, False])
def test_dtypes_are_accepted_and_mixed_as_torch_does(training):
    kinds = [F16, BF16, F32, F64]
    for own, other, running in itertools.product(kinds, [*kinds, None], [*kinds, None]):
        x = torch.randn(6, 3, dtype=F64).to(own)
        weight = None if other is None else torch.ones(3, dtype=other)
        stats = [None, None] if running is None else [torch.zeros(3, dtype=running), torch.ones(3, dtype=running)]
        ours = attempt(batch_norm, x, *stats, weight, weight, training=training)
        theirs = attempt(F.batch_norm, x, *stats, weight, weight, training=training)
        if isinstance(theirs, Exception):
            assert isinstance(ours, TypeError | ValueError), (own, other, running)
        else:
            assert ours == theirs, (own, other, running)


def layouts():
    """Batches that lie in memory in every way we know of."""
    image, volume = torch.randn(4, 6, 5, 3), torch.randn(2, 3, 4, 5, 2)
    last, last_3d = torch.channels_last, torch.channels_last_3d
    return {
        "contiguous": image,
        "channels last": image.to(memory_format=last),
        "every second channel of channels last": torch.randn(4, 12, 5, 3).to(memory_format=last)[:, ::2],
        "channels first of all": torch.randn(6, 4, 5, 3).transpose(0, 1),
        "reversed": torch.randn(3, 5, 6, 4).permute(3, 2, 1, 0),
        "every second column": torch.randn(4, 6, 5, 6)[..., ::2],
        "expanded channels": torch.randn(4, 1, 5, 3).expand(4, 6, 5, 3),
        "expanded samples": torch.randn(1, 6, 5, 3).expand(4, 6, 5, 3),
        "one sample, channels last": torch.randn(1, 6, 5, 3).to(memory_format=last),
        "one pixel, channels last": torch.randn(4, 6, 1, 1).to(memory_format=last),
        "one channel, channels last": torch.randn(4, 1, 5, 3).to(memory_format=last),
        "volume, channels last": volume.to(memory_format=last_3d),
        "volume, permuted to channels last": torch.randn(2, 4, 5, 2, 3).permute(0, 4, 1, 2, 3),
        "transposed table": torch.randn(3, 6).t(),
        "every second feature": torch.randn(6, 8)[:, ::2],
        "expanded row": torch.randn(1, 3).expand(6, 3),
        "transposed sequence": torch.randn(4, 5, 6).transpose(1, 2),
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", layouts())
def test_any_layout_gives_torchs_values_and_layout(name, training):
    found, x = [], layouts()[name].double()
    ours, theirs = pair(x.dim(), x.shape[1])
    upstream = torch.randn(x.shape, dtype=F64).as_strided(x.shape, x.contiguous().stride())
    for layer in (ours.train(training), theirs.train(training)):
        leaf = x.detach().requires_grad_()
        y = layer(leaf)
        found.append((y, torch.autograd.grad(y, leaf, upstream)[0]))
    close(*found)
    strides = [[s for s, n in zip(y.stride(), y.shape, strict=True) if n > 1] for y, _ in found]  # 1 makes no step
    assert strides[0] == strides[1]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (0, 3, 2, 2), (2, 3, 0, 2), (0, 3, 2, 2, 2)])
def test_an_empty_batch_does_what_it_does_in_torch(shape, training):
    found = []
    for layer in pair(len(shape), 3):
        x = torch.zeros(shape, dtype=F64, requires_grad=True)
        y = layer.train(training)(x)
        y.sum().backward()
        found.append([y, x.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()])
    close(*found)


def test_one_value_a_channel_is_enough_in_evaluation():
    ours, theirs = pair(2, 3)
    x = torch.randn(1, 3, dtype=F64)
    close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("name", NAMES)
def test_same_signature_as_torch(name):
    ours, theirs = (inspect.signature(getattr(library, name)) for library in (batchnorm, nn))
    assert [(p.name, p.default, p.kind) for p in ours.parameters.values()] == [
        (p.name, p.default, p.kind) for p in theirs.parameters.values()
    ]


def test_function_has_the_signature_of_torch():
    assert inspect.signature(batch_norm) == inspect.signature(F.batch_norm)


@many
@given(layer_settings, st.sampled_from([2, 4, 5]))
def test_same_description_and_parts_as_torch(how, axes):
    ours, theirs = pair(axes, 4, **how)
    assert repr(ours) == repr(theirs)
    for parts in ("named_parameters", "named_buffers"):
        mine, judge = (dict(getattr(layer, parts)()) for layer in (ours, theirs))
        assert {k: (v.shape, v.dtype) for k, v in mine.items()} == {k: (v.shape, v.dtype) for k, v in judge.items()}


@pytest.mark.parametrize("name", NAMES)
def test_starts_and_restarts_as_torch_does(name):
    ours, theirs = getattr(batchnorm, name)(3), getattr(nn, name)(3)
    close(ours.state_dict(), theirs.state_dict())
    for reset in ("reset_running_stats", "reset_parameters"):
        for layer in (ours, theirs):
            for value in layer.state_dict().values():
                value.fill_(7)
            getattr(layer, reset)()
        close(ours.state_dict(), theirs.state_dict())


def test_device_reaches_every_tensor():
    layer = batchnorm.BatchNorm1d(3, device="meta", dtype=F16)
    assert {value.device.type for value in layer.state_dict().values()} == {"meta"}
    assert layer(torch.empty(4, 3, device="meta", dtype=F16)).shape == (4, 3)


@pytest.mark.parametrize("training", [True, False])
def test_statistics_that_were_taken_away_or_switched_off(training):
    """What torch does when somebody sets attributes after construction."""
    x = torch.randn(6, 3, dtype=F64)
    for changes in ({"track_running_stats": False}, {"running_mean": None, "running_var": None}):
        found = []
        for layer in pair(2, 3):
            for name, value in changes.items():
                setattr(layer, name, value)
            found.append([layer.train(training)(x), *layer.buffers()])
        close(*found)


# --- the layer by itself ---------------------------------------------------------------------------------------------


@many
@given(shapes(), SEEDS)
def test_normalize_gives_zero_mean_and_unit_variance(shape, seed):
    torch.manual_seed(seed)
    x = random(shape)
    mean, var = batch_statistics(normalize(x, eps=0.0))
    close((mean, var), (torch.zeros_like(mean), torch.ones_like(var)))


@many
@given(shapes(), SEEDS)
def test_the_two_steps_make_the_layer(shape, seed):
    torch.manual_seed(seed)
    x, (gamma, beta) = random(shape), torch.randn(2, shape[1], dtype=F64)
    close(scale_and_shift(normalize(x, 1e-3), gamma, beta), batch_norm(x, None, None, gamma, beta, True, eps=1e-3))


def test_running_variance_is_unbiased_and_momentum_weighs_the_new():
    layer = batchnorm.BatchNorm1d(1, momentum=0.25, dtype=F64)
    layer(torch.tensor([[0.0], [4.0]], dtype=F64))  # mean 2, variance 4 over 2, 8 over 1
    close(layer.running_mean, torch.tensor([0.75 * 0 + 0.25 * 2], dtype=F64))
    close(layer.running_var, torch.tensor([0.75 * 1 + 0.25 * 8], dtype=F64))


def test_no_momentum_averages_all_batches():
    layer, batches = batchnorm.BatchNorm1d(3, momentum=None, dtype=F64), torch.randn(5, 8, 3, dtype=F64)
    for x in batches:
        layer(x)
    close(layer.running_mean, batches.mean((0, 1)))
    close(layer.running_var, batches.var(1, correction=1).mean(0))
    assert layer.num_batches_tracked == 5


@pytest.mark.parametrize("scale", [1.0, 1e-2])
def test_a_large_mean_costs_no_more_than_its_rounding(scale):
    """The mean is 10,000 spreads, where float32 has steps of a thousandth of a spread: a few of them are lost."""
    mean = 1e4 * scale
    x = (torch.randn(512, 4) * scale + mean).requires_grad_()
    wide, upstream = x.detach().double().requires_grad_(), torch.randn(512, 4)
    layer, judge = batchnorm.BatchNorm1d(4, eps=1e-12, momentum=1.0), nn.BatchNorm1d(4, eps=1e-12, momentum=1.0)
    y, exact = layer(x), judge.double()(wide)
    assert_close(y.double(), exact, rtol=0, atol=4e-3)
    assert_close(layer.running_var.double(), judge.running_var, rtol=1e-5, atol=0)
    slopes = torch.autograd.grad(y, x, upstream)[0], torch.autograd.grad(exact, wide, upstream.double())[0]
    assert_close(slopes[0].double(), slopes[1], rtol=0, atol=4e-3 / scale)
    assert_close(normalize(x, 1e-12), y)


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_half_precision_does_not_overflow(dtype):
    x = torch.tensor([[-3e4], [3e4]], dtype=dtype)
    assert_close(normalize(x), torch.tensor([[-1.0], [1.0]], dtype=dtype))
    assert_close(batchnorm.BatchNorm1d(1)(x), torch.tensor([[-1.0], [1.0]], dtype=dtype))


@pytest.mark.parametrize("shape", [(5, 3), (3, 2, 3), (2, 2, 2, 2), (2, 2, 1, 2, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_derivatives_against_differences(shape, training):
    leaves = [random(shape), *torch.randn(2, shape[1], dtype=F64)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    mean, var = torch.rand(2, shape[1], dtype=F64) + 0.5

    def layer(x, gamma, beta):
        return batch_norm(x, mean.clone(), var.clone(), gamma, beta, training)

    assert gradcheck(layer, leaves, check_batched_grad=True)
    upstream = torch.randn(shape, dtype=F64, requires_grad=True)
    assert gradgradcheck(layer, leaves, [upstream], check_batched_grad=True)
    assert gradcheck(lambda x: scale_and_shift(normalize(x), *leaves[1:]), leaves[:1])


def test_derivatives_only_where_they_are_wanted():
    x, (gamma, beta) = torch.randn(6, 3), torch.rand(2, 3)
    for wanted in (x, gamma, beta):
        wanted.requires_grad_()
        y = batch_norm(x, None, None, gamma, beta, True)
        assert torch.autograd.grad(y, wanted, torch.randn(6, 3))[0].abs().max() > 0
        wanted.requires_grad_(False)
    assert not batch_norm(x, None, None, gamma, beta, True).requires_grad


def test_two_batches_may_pass_before_the_gradient():
    found = []
    x, z, upstream = torch.randn(3, 8, 3, dtype=F64)
    for layer in pair(2, 3):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        layer(z)
        layer.eval()(z)
        found.append(torch.autograd.grad(y, leaf, upstream))
    close(*found)


def test_running_statistics_keep_no_graph():
    layer = batchnorm.BatchNorm1d(3)
    for _ in range(3):
        layer(torch.randn(8, 3, requires_grad=True))
    assert layer.running_mean.grad_fn is None
    assert not layer.running_var.requires_grad


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_behave_alike(copied):
    layer = batchnorm.BatchNorm2d(3)
    layer(torch.randn(4, 3, 2, 2))
    twin, x = copied(layer), torch.randn(4, 3, 2, 2)
    assert_close(twin(x), layer(x))
    assert_close(twin.state_dict(), layer.state_dict())


# --- torch.func ------------------------------------------------------------------------------------------------------


@many
@given(shapes(), st.booleans(), SEEDS)
def test_vmap_is_a_loop(shape, transposed, seed):
    torch.manual_seed(seed)
    x = torch.randn(3, *shape, dtype=F64)
    if transposed:  # to channels last, which the batch dimension hides
        x = x.transpose(2, -1).contiguous().transpose(2, -1)
    layer = pair(len(shape), shape[1], track_running_stats=False)[0]
    close(vmap(layer)(x), torch.stack([layer(one) for one in x]))
    close(vmap(normalize)(x), torch.stack([normalize(one) for one in x]))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_runs_many_layers_at_once():
    """The layers' parameters and buffers are stacked, too; torch's layers do the same."""
    x, found = torch.randn(4, 6, 3, dtype=F64, requires_grad=True), []
    for layer in pair(2, 3):
        state = {name: torch.stack([value] * 4) for name, value in layer.state_dict().items()}
        found.append([vmap(lambda s, x, layer=layer: functional_call(layer, s, (x,)))(state, x), state])
    close(*found)
    assert not [name for name, value in found[0][1].items() if value.requires_grad]  # no graph in the buffers


def test_torch_func_takes_derivatives():
    x, t = torch.randn(2, 5, 3, dtype=F64)
    ours, theirs = pair(2, 3, track_running_stats=False)
    close(jvp(ours, (x,), (t,)), jvp(theirs, (x,), (t,)))
    close(*(hessian(lambda x, layer=layer: layer(x).pow(3).sum())(x) for layer in (ours, theirs)))


# --- the state dict --------------------------------------------------------------------------------------------------


@many
@given(layer_settings, st.sampled_from([2, 4, 5]), SEEDS)
def test_state_dicts_are_exchanged_both_ways(how, axes, seed):
    torch.manual_seed(seed)
    ours, theirs = pair(axes, 4, **how)
    ours(torch.randn(3, 4, *[2] * (axes - 2), dtype=F64))
    stored = io.BytesIO()
    torch.save(ours.state_dict(), stored)
    stored.seek(0)
    mine, judge = torch.load(stored), theirs.state_dict()
    assert list(mine) == list(judge)
    assert mine._metadata == judge._metadata
    theirs.load_state_dict(mine, strict=True)
    close(theirs.state_dict(), ours.state_dict())
    again = pair(axes, 4, **how)[0]
    again.load_state_dict(theirs.state_dict(), strict=True)
    close(again.state_dict(), ours.state_dict())


@pytest.mark.parametrize("version", [None, 1, 2])
def test_a_state_dict_without_a_count_is_read_as_torch_reads_it(version):
    outcomes = []
    for layer in pair(2, 3):
        state = layer.state_dict()
        del state["num_batches_tracked"]
        state._metadata[""] = {} if version is None else {"version": version}
        outcomes.append(layer.load_state_dict(state, strict=False).missing_keys)
    assert outcomes[0] == outcomes[1] == ([] if version != 2 else ["num_batches_tracked"])


# --- situations that others have reported of torch's layer, or of their own -------------------------------------------


def network(library):
    return nn.Sequential(nn.Linear(3, 4), library.BatchNorm1d(4), nn.Linear(4, 2)).double()


def twins():
    """A small network with our layer, the same with torch's, and a batch for them."""
    ours, theirs = network(batchnorm), network(nn)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, torch.randn(8, 3, dtype=F64)


def slopes(run, net, x):
    """The gradient of every parameter of `net`, as `run(x)` leaves it."""
    upstream = torch.randn(run(x).shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    net.zero_grad()
    run(x).backward(upstream)
    return {name: value.grad for name, value in net.named_parameters()}


def test_one_wild_batch_does_not_spoil_half_precision_for_good():
    """Its variance, 90,000, is more than float16 can hold; a tenth of it is not (pytorch#126525)."""
    ours, theirs = batchnorm.BatchNorm1d(1).half(), nn.BatchNorm1d(1).half()
    for i in range(60):
        x = (torch.randn(64, 1) * (300 if i == 5 else 1)).half()
        ours(x), theirs(x)
    assert_close(ours.running_var, theirs.running_var, rtol=0.01, atol=0)
    assert_close(ours.eval()(x), theirs.eval()(x), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_network_trains(strict):
    ours, theirs, x = twins()
    exported = torch.export.export(ours, (x,), strict=strict).module()
    close(slopes(exported, exported, x), slopes(theirs, theirs, x))
    close(dict(exported.named_buffers()), dict(theirs.named_buffers()))


@pytest.mark.parametrize("training", [True, False])
def test_a_traced_network_is_differentiated_and_saved(training):
    ours, theirs, x = twins()
    traced, stored = torch.jit.trace(ours.train(training), x, check_trace=False), io.BytesIO()
    torch.jit.save(traced, stored)
    stored.seek(0)
    again = torch.jit.load(stored)
    close(slopes(again, again, x), slopes(theirs.train(training), theirs, x))


def test_a_graph_of_tensor_operations_is_differentiated():
    ours, theirs, x = twins()
    graph, upstream = make_fx(ours)(x), torch.randn(8, 2, dtype=F64)
    x = torch.randn(8, 3, dtype=F64, requires_grad=True)
    close(*(torch.autograd.grad(run(x), x, upstream) for run in (graph, theirs)))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_network_trains(backend):
    ours, theirs, x = twins()
    compiled = torch.compile(ours, backend=backend, fullgraph=True)
    close(slopes(compiled, ours, x), slopes(theirs, theirs, x))
    close(dict(ours.named_buffers()), dict(theirs.named_buffers()))


def test_a_scripted_network_trains_and_is_saved():
    ours, theirs, x = twins()
    scripted, stored = torch.jit.script(ours), io.BytesIO()
    close(slopes(scripted, scripted, x), slopes(theirs, theirs, x))
    torch.jit.save(scripted.eval(), stored)
    stored.seek(0)
    close(torch.jit.load(stored)(x), theirs.eval()(x))


def test_symbolic_tracing_takes_the_layer_as_one_node():
    ours, _, x = twins()
    graph = torch.fx.symbolic_trace(ours)
    assert [node.op for node in graph.graph.nodes] == ["placeholder", *["call_module"] * 3, "output"]
    close(graph.eval()(x), ours.eval()(x))


def test_torchs_tools_know_the_layer():
    layer, batches = nn.Sequential(batchnorm.BatchNorm1d(2)), [torch.randn(64, 2) * 3 + 5 for _ in range(4)]
    torch.optim.swa_utils.update_bn(batches, layer)
    assert_close(layer[0].running_mean, torch.cat(batches).mean(0))
    (synchronised,) = nn.SyncBatchNorm.convert_sync_batchnorm(layer)
    assert isinstance(synchronised, nn.SyncBatchNorm)
    assert_close(synchronised.running_var, layer[0].running_var)
    torch.func.replace_all_batch_norm_modules_(layer)
    assert layer[0].running_mean is None


def test_folding_tools_fold_it_or_leave_it_or_say_so():
    """Two of torch's tools ask for its very class and no child of it; a table of one's own helps the second."""
    net, x = nn.Sequential(nn.Conv2d(1, 2, 3), batchnorm.BatchNorm2d(2)), torch.randn(4, 1, 5, 5)
    net(x * 3 + 1)
    wanted = net.eval()(x)
    assert_close(nn.utils.fuse_conv_bn_eval(*net)(x), wanted)
    assert_close(optimization.fuse(net)(x), wanted)
    names = [["0", "1"]]
    with pytest.raises(AssertionError, match="did not find fuser method"):
        torch.ao.quantization.fuse_modules(net, names)
    fold = {(nn.Conv2d, batchnorm.BatchNorm2d): lambda _, conv, bn: nn.utils.fuse_conv_bn_eval(conv, bn)}
    table = {"additional_fuser_method_mapping": fold}
    assert_close(torch.ao.quantization.fuse_modules(net, names, fuse_custom_config_dict=table)(x), wanted)


@pytest.mark.parametrize("training", [True, False])
def test_forward_mode_derivatives(training):
    layer, x, t = pair(2, 3)[0].train(training), *torch.randn(2, 5, 3, dtype=F64)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, t))).tangent
    close(tangent, torch.autograd.functional.jvp(layer, x, t)[1])
    assert gradcheck(layer, x.requires_grad_(), check_forward_ad=True, check_batched_forward_grad=True)
    assert gradgradcheck(layer, x, check_fwd_over_rev=True)


def test_the_third_derivative_is_that_of_differences():
    layer, weights = batchnorm.BatchNorm1d(2, dtype=F64), torch.randn(6, 2, dtype=F64)

    def second(x):
        (first,) = torch.autograd.grad((layer(x) * weights).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad((first * weights).sum(), x, create_graph=True)[0]

    assert gradcheck(second, torch.randn(6, 2, dtype=F64, requires_grad=True))


@pytest.mark.parametrize("value", [1e10, 1234.567e6, 0.1])
def test_a_channel_that_never_changes_stays_finite(value):
    """Its variance is 0, or the rounding of its mean: torch gives up to 120,000 here (pytorch#5410)."""
    x = torch.full((16, 1), value, requires_grad=True)
    y = batchnorm.BatchNorm1d(1)(x)
    assert y.abs().max() <= 1
    assert torch.autograd.grad(y, x, torch.randn(16, 1))[0].isfinite().all()


def held(y):
    """The bytes that the backward pass of y holds, parameters apart."""
    seen = {}

    def keep(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y()
    return sum(seen.values())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "x",
    [torch.zeros(64, 512), torch.zeros(64, 512, dtype=BF16), torch.zeros(64, 1024)[:, ::2], torch.zeros(8, 64, 8, 8)],
    ids=["float32", "bfloat16", "every second column", "images"],
)
def test_the_backward_pass_holds_the_input_and_a_few_numbers_a_channel(x, training):
    x.requires_grad_()
    name = LAYERS[x.dim()]
    ours, theirs = (getattr(library, name)(x.shape[1]).train(training) for library in (batchnorm, nn))
    channel = 4 * x.shape[1]
    assert held(lambda: ours(x)) <= held(lambda: theirs(x)) + 2 * channel


# --- errors: what was expected, and what came ------------------------------------------------------------------------

X, C3, C4 = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.ones(3), torch.ones(4)
WRONG = {
    "integers": (lambda: batch_norm(X.int(), None, None, training=True), TypeError, "floating-point", "torch.int32"),
    "truth values": (lambda: batch_norm(X > 0, C3, C3), TypeError, "floating-point", "torch.bool"),
    "complex": (lambda: batch_norm(X.cfloat(), C3, C3), TypeError, "floating-point", "torch.complex64"),
    "no channels": (lambda: batch_norm(X[0], None, None, training=True), ValueError, "(N, C, ...)", "(3,)"),
    "no axes": (lambda: batch_norm(X[0, 0], None, None, training=True), ValueError, "(N, C, ...)", "()"),
    "weight": (lambda: batch_norm(X, None, None, C4, None, True), ValueError, "weight of shape (3,)", "(4,)"),
    "bias": (lambda: batch_norm(X, None, None, None, C4, True), ValueError, "bias of shape (3,)", "(4,)"),
    "mean": (lambda: batch_norm(X, C4, C3, training=True), ValueError, "running_mean of shape (3,)", "(4,)"),
    "variance": (lambda: batch_norm(X, C3, C4), ValueError, "running_var of shape (3,)", "(4,)"),
    "one mean": (lambda: batch_norm(X, C3[:1], C3), ValueError, "running_mean of shape (3,)", "(1,)"),
    "one value": (lambda: batch_norm(X[:1], C3, C3, training=True), ValueError, "more than 1 value per", "(1, 3)"),
    "eps 0": (lambda: batch_norm(X, C3, C3, training=True, eps=0.0), ValueError, "positive", "got 0.0"),
    "eps below 0": (lambda: batch_norm(X, C3, C3, eps=-1.0), ValueError, "0 or positive", "got -1.0"),
    "no statistics": (lambda: batch_norm(X, None, None), ValueError, "both", "None for running_mean, running_var"),
    "no mean": (lambda: batch_norm(X, None, C3), ValueError, "both", "None for running_mean"),
    "no variance": (lambda: batch_norm(X, C3, None, training=True), ValueError, "both or neither", "running_var"),
    "dtype": (lambda: batch_norm(X, C3.double(), C3), TypeError, "torch.float32", "got torch.float32, torch.float64"),
    "half": (lambda: batch_norm(X.half(), C3, C3, C3.half()), TypeError, "torch.float16, or all of", "got torch.flo"),
    "layer's channels": (lambda: batchnorm.BatchNorm1d(4)(X), ValueError, "of shape (3,)", "(4,)"),
    "normalize: integers": (lambda: normalize(X.int()), TypeError, "floating-point", "torch.int32"),
    "normalize: axes": (lambda: normalize(X[0]), ValueError, "(N, C, ...)", "(3,)"),
    "normalize: one value": (lambda: normalize(X[:1]), ValueError, "more than 1 value per", "(1, 3)"),
    "normalize: eps": (lambda: normalize(X, -1.0), ValueError, "0 or positive", "got -1.0"),
    "scale: gamma": (lambda: scale_and_shift(X, C4, C3), ValueError, "gamma of shape (3,)", "(4,)"),
    "shift: beta": (lambda: scale_and_shift(X, C3, C4), ValueError, "beta of shape (3,)", "(4,)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_say_what_was_expected_and_what_came(name):
    call, kind, expected, got = WRONG[name]
    with pytest.raises(kind) as caught:
        call()
    assert expected in str(caught.value)
    assert got in str(caught.value)


@pytest.mark.parametrize("axes", range(7))
@pytest.mark.parametrize("name", NAMES)
def test_number_of_axes_is_judged_as_torch_judges_it(name, axes):
    x = torch.randn((4, 3, 2, 2, 2, 2)[:axes])
    ours, theirs = getattr(batchnorm, name)(3), getattr(nn, name)(3)
    if axes in {n for n, layer in LAYERS.items() if layer == name}:
        assert_close(ours(x), theirs(x))
    else:
        with pytest.raises(ValueError, match="expected") as judge:
            theirs(x)
        with pytest.raises(ValueError, match=f"got {axes}D") as caught:
            ours(x)
        assert str(caught.value) == str(judge.value)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_that_torch_takes_is_refused(training):
    """Every mixture of right, wrong and missing: we raise where torch does, and nowhere else.

    Left out is the empty batch, with which torch takes any statistics and weights: we look at them even then.
    """
    values = [None, C3, C4]
    inputs = [X, X[:1], X[0], X[..., None], X.int(), X.half()]
    refused = 0
    for x, mean, var, weight, eps in itertools.product(inputs, values, values, values, [1e-5, 0.0, -1.0]):
        stats = [None if value is None else value.clone() for value in (mean, var)]
        outcomes = []
        for function in (batch_norm, F.batch_norm):
            try:
                outcomes.append(function(x, *stats, weight, None, training, 0.0, eps))
            except (ValueError, TypeError, RuntimeError, IndexError) as error:
                outcomes.append(error)
        ours, theirs = outcomes
        if isinstance(theirs, Exception):
            refused += 1
            assert isinstance(ours, ValueError | TypeError), (x, stats, weight, eps, theirs)
        else:
            near = 0.02 if x.dtype is F16 else 1e-5  # in half precision torch rounds the mean before use
            assert_close(ours, theirs, rtol=0, atol=near)
    assert 0 < refused < len(inputs) * 81


# --- ours all the way down -------------------------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """Collects the names of all operations that reach the tensor library, backward passes included."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def run_everything():
    for axes, name in LAYERS.items():
        layer = getattr(batchnorm, name)(3)
        x = torch.randn((4, 3, 2, 2, 2)[:axes], requires_grad=True)
        layer(x).pow(3).sum().backward()
        layer.eval()(x).sum().backward()
        batch_norm(x, None, None, training=True)
        scale_and_shift(normalize(x), torch.ones(3), torch.zeros(3))
        vmap(normalize)(x[None])


def test_torchs_own_normalization_is_never_called(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("torch's own normalization was called")

    kinds = ("batch_norm", "instance_norm", "layer_norm", "group_norm", "rms_norm", "var_mean", "std_mean")
    for module in (torch, F):
        for name in dir(module):
            if any(kind in name for kind in kinds):
                monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(nn.modules.batchnorm._BatchNorm, "forward", forbidden)
    with pytest.raises(AssertionError):
        F.batch_norm(X, None, None, training=True)
    run_everything()


def test_no_normalization_reaches_the_tensor_library():
    with Operations() as seen:
        run_everything()
    assert "rsqrt" in seen.names
    assert not [name for name in seen.names if "norm" in name or "var" in name or "std" in name]
    with Operations() as seen:
        F.batch_norm(X, None, None, training=True)
    assert [name for name in seen.names if "norm" in name]


@pytest.mark.parametrize("name", NAMES)
def test_the_layers_inherit_torchs_plumbing_but_not_its_forward(name):
    ours, theirs = getattr(batchnorm, name), getattr(nn, name)
    assert issubclass(ours, theirs)
    assert ours.forward is not theirs.forward


def test_a_network_trains_to_the_same_weights():
    def network(library):
        layers = [nn.Conv2d(1, 4, 3), library.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16)]
        layers += [library.BatchNorm1d(16, momentum=None), nn.Sigmoid(), nn.Linear(16, 3)]
        return nn.Sequential(*layers).double()

    x, classes = torch.randn(96, 1, 6, 6, dtype=F64), torch.randint(3, (96,))
    ours, theirs = network(batchnorm), network(nn)
    theirs.load_state_dict(ours.state_dict())
    start = copy.deepcopy(ours.state_dict())
    for net in (ours, theirs):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for step in range(50):
            batch = slice(32 * (step % 3), 32 * (step % 3) + 32)
            optimizer.zero_grad()
            F.cross_entropy(net(x[batch]), classes[batch]).backward()
            optimizer.step()
    assert (ours.state_dict()["0.weight"] - start["0.weight"]).abs().max() > 0.01
    close(ours.state_dict(), theirs.state_dict())
    close(ours.eval()(x), theirs.eval()(x))
