"""The table of conventions against the packages themselves, and the running statistics against PyTorch's layer."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from utils.experiments import conventions as experiment
from utils.experiments.conventions import CONVENTIONS, follow, keras_formula, keras_to_torch, some_weights
from utils.seeds import numpy_rng

X = (3 * np.random.default_rng(0).normal(size=(8, 3)) + [1, 2, 3]).astype("float32")
FAR = (1e4 + 0.1 * np.random.default_rng(0).normal(size=(60, 200))).astype("float32")


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras

        assert keras.backend.backend() == "torch"
        yield keras


def as_array(tensor):
    return tensor.detach().cpu().numpy()


def kept(convention, x, given=None):
    """The running mean and variance after one batch, by a row of the table."""
    new = convention.new if given is None else convention.weight_of_new(given)
    m = x.size // x.shape[convention.channel_axis]
    axes = tuple(i for i in range(x.ndim) if i != convention.channel_axis % x.ndim)
    mean, var = x.mean(axes, dtype=float), x.var(axes, dtype=float) * (m / (m - 1) if convention.unbiased else 1)
    return new * mean, (1 - new) + new * var


def normalised(convention, x):
    axes = tuple(i for i in range(x.ndim) if i != convention.channel_axis % x.ndim)
    x = x.astype(float)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + convention.eps)


@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 2, 2)])
def test_pytorch_is_as_its_row_says(shape):
    row, x = CONVENTIONS["PyTorch"], X.reshape(-1)[: np.prod(shape)].copy()
    x = np.resize(x, shape)
    layer = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3)
    assert (getattr(layer, row.word), layer.eps) == (row.default, row.eps)
    assert [name for name in layer.state_dict() if name != "num_batches_tracked"] == list(row.names)
    assert as_array(layer(torch.from_numpy(x))) == pytest.approx(normalised(row, x), abs=1e-4)
    mean, var = kept(row, x)
    assert as_array(layer.running_mean) == pytest.approx(mean, rel=1e-5)
    assert as_array(layer.running_var) == pytest.approx(var, rel=1e-5)


@pytest.mark.parametrize("shape", [(8, 3), (4, 2, 2, 3)])
def test_keras_is_as_its_row_says(keras, shape):
    row, x = CONVENTIONS["Keras 3"], np.resize(X, shape)
    layer = keras.layers.BatchNormalization()
    out = as_array(layer(x, training=True))
    assert (getattr(layer, row.word), layer.epsilon, layer.axis) == (row.default, row.eps, row.channel_axis)
    assert tuple(weight.name for weight in layer.weights) == row.names
    assert out == pytest.approx(normalised(row, x), abs=1e-4)
    mean, var = kept(row, x)
    assert as_array(layer.moving_mean.value) == pytest.approx(mean, rel=1e-4)
    assert as_array(layer.moving_variance.value) == pytest.approx(var, rel=1e-4)


def test_a_frozen_keras_layer_runs_in_evaluation_and_a_frozen_torch_layer_does_not(keras):
    layer = keras.layers.BatchNormalization()
    layer(X, training=True)
    layer.trainable = False
    before = as_array(layer.moving_mean.value).copy()
    out = as_array(layer(X, training=True))
    assert (as_array(layer.moving_mean.value) == before).all()
    weights = dict(zip(CONVENTIONS["Keras 3"].names, map(as_array, (w.value for w in layer.weights)), strict=True))
    assert out == pytest.approx(keras_formula(X, weights), abs=1e-4)

    frozen = nn.BatchNorm1d(3).requires_grad_(False)
    frozen(torch.from_numpy(X))
    assert frozen.running_mean.abs().min() > 0


def test_a_trained_keras_layer_is_ported_with_its_numbers(keras):
    layer = keras.layers.BatchNormalization(momentum=0.8, epsilon=0.01)
    for shift in range(3):
        layer(X + shift, training=True)
    names = CONVENTIONS["Keras 3"].names
    weights = {name: as_array(weight.value) for name, weight in zip(names, layer.weights, strict=True)}
    ours = keras_to_torch(weights, layer.momentum, layer.epsilon)
    assert as_array(ours.eval()(torch.from_numpy(X))) == pytest.approx(as_array(layer(X, training=False)), abs=1e-5)
    ours.train()(torch.from_numpy(X))
    layer(X, training=True)
    assert as_array(ours.running_mean) == pytest.approx(as_array(layer.moving_mean.value), rel=1e-5)
    grown = as_array(ours.running_var) - as_array(layer.moving_variance.value)
    assert grown == pytest.approx(0.2 * X.var(0) / 7, rel=1e-3)  # m/(m-1) of the new batch


def test_keras_on_pytorch_loses_a_finite_batch_in_one_pass_and_pytorch_does_not(keras):
    out = as_array(keras.layers.BatchNormalization(epsilon=1e-5)(FAR, training=True))
    assert 0.1 < np.isnan(out).any(0).mean() < 1
    assert as_array(nn.BatchNorm1d(200)(torch.from_numpy(FAR))).std(0) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 2, 2)])
def test_onnx_is_as_its_row_says(shape):
    row, x = CONVENTIONS["ONNX"], np.resize(X, shape)
    schema = onnx.defs.get_schema("BatchNormalization")
    assert schema.attributes[row.word].default_value.f == pytest.approx(row.default)
    assert schema.attributes["epsilon"].default_value.f == pytest.approx(row.eps)
    assert tuple(each.name for each in schema.inputs)[1:] == row.names
    assert "population variance" in schema.doc
    node = helper.make_node("BatchNormalization", ["X", *row.names], ["Y", "mean", "var"], training_mode=1)
    typed = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in (*row.names, "mean", "var")}
    x_type, y_type = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("X", "Y"))
    outputs = [y_type, typed["mean"], typed["var"]]
    graph = helper.make_graph([node], "one layer", [x_type, *(typed[name] for name in row.names)], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    start = dict(zip(row.names, np.array([[1] * 3, [0] * 3, [0] * 3, [1] * 3], "float32"), strict=True))
    out, mean, var = ReferenceEvaluator(model).run(None, {"X": x, **start})
    assert out == pytest.approx(normalised(row, x), abs=1e-4)
    for found, right in zip((mean, var), kept(row, x), strict=True):
        assert found == pytest.approx(right, rel=1e-4)


def test_a_running_average_is_pytorchs_for_every_number():
    for given in (0.01, 0.5, 0.9):
        now = follow("PyTorch", given, m=6, steps=30)
        layer = nn.BatchNorm1d(1, momentum=given).double()
        x = experiment.UNIT_MEAN + numpy_rng(0).normal(size=(30, 6))
        for batch in torch.from_numpy(x)[..., None]:
            layer(batch)
        assert now.mean[-1] == pytest.approx(layer.running_mean.item())
        assert now.var[-1] == pytest.approx(layer.running_var.item())


def test_haikus_average_does_not_know_its_start():
    now = follow("Haiku", 0.99, m=5)
    assert (now.mean[0], now.var[0]) == pytest.approx((now.batch_mean[0], now.batch_var[0]))
    two = (0.99 * now.batch_mean[0] + now.batch_mean[1]) / 1.99
    assert now.mean[1] == pytest.approx(two)


def test_converted_numbers_give_the_same_mean_in_all_frameworks_that_start_at_zero():
    right = follow("PyTorch", 0.2).mean
    for name, each in CONVENTIONS.items():
        if not each.debiased:
            assert follow(name, 0.2 if each.weighs == "new" else 0.8).mean == pytest.approx(right)


def test_what_is_unknown_is_refused():
    with pytest.raises(KeyError):
        follow("Caffe", 0.1)


def test_a_port_without_a_mistake_is_the_network_itself_and_mistakes_are_not():
    found = experiment.ports(seeds=2)
    first, *others = found.values()
    assert (first.moved == 0).all()
    assert all((each.moved > 0).all() for each in others)
    settings = experiment.Settings("bn", nonlinearity="relu", init="he", lr=0.1, steps=100)
    net, task = experiment.trained_seeds(settings, 2)[0], settings.task()
    own = (net.eval()(task.x_test).argmax(1) == task.y_test).float().mean().item()
    assert first.accuracy[0] == pytest.approx(own)


def test_the_port_is_exact():
    weights = some_weights(C=4)
    assert experiment.port_error(seeds=2).max() < 1e-12
    assert keras_to_torch(weights, 0.9, 0.5).momentum == pytest.approx(0.1)
    assert tuple(weights) == CONVENTIONS["Keras 3"].names
