"""The evidence of "The failure lab": against torch, by hand, and where nothing may change."""

import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from utils.batchnorm import BatchNorm1d
from utils.checks.failure_lab import check_freeze_norms
from utils.experiments import failure_lab as experiment
from utils.experiments import two_processes
from utils.networks import Dropout, mlp
from utils.training import Settings, train_seeds

SMALL = Settings("bn", depth=2, width=20, nonlinearity="relu", init="he", steps=30)


# --- freezing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(experiment, "NETWORK", SMALL)


def test_frozen_in_evaluation_nothing_of_the_old_network_moves(small):
    found = experiment.fine_tuned.func("eval()", "brighter", 2)
    assert not found.moved.any()
    assert (found.old == found.old[:, :1]).all()
    assert found.new[:, -1].mean() > found.new[:, 0].mean()  # the head did learn


def test_frozen_in_training_mode_statistics_move_to_the_new_images(small):
    found = experiment.fine_tuned.func("train()", "brighter", 2)
    assert (np.diff(found.moved[:, :4]) > 0).all()
    still = experiment.fine_tuned.func("train()", "as before", 2)
    assert still.moved.max() < found.moved[:, -1].min() / 3


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="mode"):
        experiment.fine_tuned.func("frozen")


# --- accumulating gradients and devices -------------------------------------------------------------------------------


def test_an_accumulated_gradient_is_that_of_torch_part_by_part():
    for norm in ("bn", "layer"):
        ours = experiment.accumulated_gradients.func(norm, 16, 1)[0]
        torchs = replace(experiment.ACCUMULATING, norm="torch" if norm == "bn" else norm).network(0).double()
        x, y = two_processes.batch_of(experiment.ACCUMULATING, 0, 64)
        parts = []
        for i in range(4):
            torchs.zero_grad()
            F.cross_entropy(torchs(x[16 * i : 16 * i + 16]), y[16 * i : 16 * i + 16]).backward()
            parts.append(torchs[0].weight.grad.flatten().clone())
        assert_close(torch.from_numpy(ours), torch.stack(parts).mean(0))


def test_vectors_are_compared_as_by_hand():
    a, b = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 2.0]])
    assert experiment.cosines(a, b).tolist() == [1.0, 0.0]
    assert experiment.relative_errors(a, b) == pytest.approx([0.0, 5**0.5 / 2])


def test_plain_training_does_not_notice_micro_batches():
    runs = [
        train_seeds.func(replace(SMALL, norm="plain", batch_size=16, micro_batch=size, steps=5), 2) for size in (16, 2)
    ]
    for one, other in zip(*runs, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4)


def test_two_processes_agree_with_one_where_they_share_their_statistics():
    for size, found in two_processes.gradients().items():
        assert np.allclose(found.synchronised, found.whole, rtol=1e-9, atol=1e-12), size
        assert np.allclose(found.own, found.halves, rtol=1e-9, atol=1e-12), size
        assert not np.allclose(found.own, found.whole, rtol=0.1)
    seed, (x, y) = 1, two_processes.batch_of(two_processes.NETWORK, 1, 16)
    net = replace(two_processes.NETWORK, norm="torch").network(seed).double()
    F.cross_entropy(net(x), y).backward()
    by_torch = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
    assert_close(torch.from_numpy(two_processes.gradients()[16].synchronised[seed]), by_torch)


def test_alone_a_synchronised_layer_is_batch_norm(tmp_path):
    dist.init_process_group("gloo", init_method=(tmp_path / "store").as_uri(), rank=0, world_size=1)
    try:
        net = mlp([4, 6, 3], "bn").double()
        synced, x = two_processes.synchronised(net), torch.randn(9, 4).double()
        assert isinstance(synced[1], two_processes.SyncedBatchNorm1d) and type(net[1]) is BatchNorm1d
        g = torch.randn(9, 3).double()
        for each in (net, synced):
            each(x).backward(g)
        for (name, one), two in zip(net.named_parameters(), synced.parameters(), strict=True):
            assert_close(two.grad, one.grad, msg=name)
        assert_close(synced[1].running_var, net[1].running_var)
        assert_close(synced.eval()(x[:1]), net.eval()(x[:1]))
    finally:
        dist.destroy_process_group()


def test_a_process_that_dies_is_named_and_takes_the_other_with_it(tmp_path):
    command = (
        "import sys, time\nif sys.argv[1] == '1': raise ValueError('planted')\ntime.sleep(60)\n"
        f"open({str(tmp_path / 'lived')!r}, 'w')"
    )
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="process 1 of 2 failed: ValueError: planted"):
        two_processes.in_processes(command, [], tmp_path)
    assert time.monotonic() - start < 30
    assert not (tmp_path / "lived").exists()


def test_processes_that_take_too_long_are_ended(tmp_path):
    with pytest.raises(RuntimeError, match=r"within 0\.5 seconds"):
        two_processes.in_processes("import time; time.sleep(60)", [], tmp_path, patience=0.5)


def test_a_process_imports_this_book_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = (
        "import sys, utils; from pathlib import Path; (Path(sys.argv[2]) / sys.argv[1]).write_text(utils.__file__)"
    )
    command = command.replace("write_text(utils.__file__)", "write_text(utils.__file__, encoding='utf-8')")
    two_processes.in_processes(command, [str(tmp_path)], tmp_path)
    told = {(tmp_path / str(rank)).read_text(encoding="utf-8") for rank in range(2)}
    assert told == {sys.modules["utils"].__file__}
    assert Path(told.pop()).name == "__init__.py"


# --- dropout ----------------------------------------------------------------------------------------------------------


def test_orders_of_dropout_are_what_they_are_called():
    kinds = {
        order: [type(layer).__name__ for layer in experiment.dropping(order, 0.5).network(0)]
        for order in experiment.ORDERS
    }
    assert kinds["before the norm"][:4] == ["Linear", "Dropout", "BatchNorm1d", "ReLU"]
    assert kinds["after the ReLU"][:4] == ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    last = experiment.dropping("after the last ReLU only", 0.5).network(0)
    assert [layer.p for layer in last if isinstance(layer, Dropout)] == [0.0, 0.0, 0.5]
    with pytest.raises(ValueError, match="order"):
        experiment.dropping("elsewhere", 0.5)


def test_a_variance_in_use_is_compared_with_the_stored_one():
    net, x = SMALL.network(0), SMALL.task().x_train
    with torch.no_grad():
        first = net[0](x)
        net[1].running_mean.copy_(first.mean(0))
        net[1].running_var.copy_(2 * first.var(0))
        found = experiment._in_use(SMALL, [net])
    assert found.variance[0, 0] == pytest.approx(0.5)
    recalibrated = experiment.recalibrated(net, x)(SMALL.task().x_test)
    assert found.accuracy[0, 1] == pytest.approx((recalibrated.argmax(1) == SMALL.task().y_test).float().mean().item())


def test_dropout_before_a_norm_halves_the_variance_that_it_meets():
    """By the formula: with a share p dropped and the rest scaled up, the variance is 1 / (1 - p) times as large."""
    x = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    out = Dropout(0.5, torch.Generator().manual_seed(1))(x)
    assert x.var().item() / out.var().item() == pytest.approx(0.5, abs=0.03)


# --- weight decay -----------------------------------------------------------------------------------------------------


def test_lengths_that_are_held_hold_the_effective_rate(monkeypatch):
    monkeypatch.setattr(experiment, "DECAYING", replace(SMALL, steps=10, lr=0.5))
    held, free = (experiment.decayed.func(0.1, fixed, 2) for fixed in (True, False))
    assert held.rate == pytest.approx(np.repeat(held.rate[:, :1], 11, 1), rel=1e-4)
    assert (free.rate[:, -1] > 1.5 * free.rate[:, 0]).all()
    by_hand = 0.5 / SMALL.network(1)[3].weight.square().sum().item()
    assert free.rate[1, 0] == pytest.approx(by_hand, rel=1e-5)


def test_a_shrunk_network_computes_the_same_and_one_with_a_shrunk_output_does_not():
    assert experiment.shrinking_errors(0.1, seeds=2).max() < 1e-6
    net, x = SMALL.network(0).double(), SMALL.task().x_train[:60].double()
    output = experiment.shrunk(net, 1.0)
    output[-1].weight.data.mul_(0.1)
    assert (output(x) - net(x)).abs().max() > 0.1


# --- padding and precision --------------------------------------------------------------------------------------------


def test_padding_is_counted_as_by_hand():
    values = np.array([1.0, 3.0])
    assert experiment.padded(values, 0.5).tolist() == [1.0, 3.0, 0.0, 0.0]
    assert experiment.padded(values, 0.0).tolist() == [1.0, 3.0]
    assert experiment.padded_statistics(2.0, 1.0, 0.5) == (1.0, 1.5)
    assert np.var([1.0, 3.0, 0.0, 0.0]) == 1.5


def test_a_norm_of_real_places_is_blind_to_padding():
    x, mask = torch.randn(3, 10, 4), torch.arange(10) < torch.tensor([[3], [10], [5]])
    other = torch.where(mask[..., None], x, torch.full_like(x, 7.0))
    norm = nn.BatchNorm1d(4)
    assert_close(norm(x[mask]), norm(other[mask]))
    assert (norm(x.flatten(0, 1)) - norm(other.flatten(0, 1)))[mask.flatten()].abs().max() > 0.1


def test_variances_are_right_where_there_are_bits_enough():
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double() + 2
    for method in experiment.METHODS[:3]:
        assert_close(experiment.variance_by(method, x), x.var(0, correction=0))
    found = experiment.variance_by(experiment.METHODS[3], x.float())
    assert_close(found, x.float().var(0, correction=0), rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="method"):
        experiment.variance_by("by guessing", x)


def test_squares_overflow_in_half_precision_and_the_layers_do_not():
    ratios = experiment.variance_ratios("float16", 300.0, seeds=2)
    assert not np.isfinite(ratios[experiment.METHODS[0]]).any()
    assert not np.isfinite(ratios[experiment.METHODS[1]]).any()
    for method in experiment.METHODS[2:]:
        assert np.abs(ratios[method][:, :6] - 1).max() < 0.01
    assert experiment.largest_variance_errors(experiment.METHODS[3]).max() < 0.01


# --- regression -------------------------------------------------------------------------------------------------------


def test_a_norm_on_the_output_cannot_meet_a_batch_whatever_gamma():
    y = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    out = (y - y.mean(1, keepdim=True)) / y.std(1, correction=0, keepdim=True)
    best = min((gamma * out - y).square().mean().item() for gamma in np.linspace(0.7, 1.2, 26))
    assert 1 / 8 < best < 2 / 8


def test_predictors_differ_in_their_norms_only():
    plain, hidden, output = (experiment.predictor(arm, 0) for arm in experiment.PREDICTORS)
    assert_close(plain[0].weight, hidden[0].weight)
    assert_close(plain[-1].weight, hidden[-1].weight)
    assert isinstance(output[-1], BatchNorm1d) and not isinstance(hidden[-1], BatchNorm1d)


def test_a_network_learns_how_much_ink_there_is(monkeypatch):
    monkeypatch.setattr(experiment, "PREDICTING", replace(experiment.PREDICTING, width=20, steps=120))
    found = experiment.predicted.func("plain", 32, 0.03, False, 2)
    assert (found.in_use < 0.5).all()
    assert (found.training < 0.7).all()


# --- the exercise -----------------------------------------------------------------------------------------------------


def freeze(model):
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval().requires_grad_(False)


def freeze_top_level(model):
    for layer in model:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval().requires_grad_(False)


def freeze_modes_only(model):
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def freeze_too_much(model):
    freeze(model)
    model.requires_grad_(False)


def test_a_right_answer_is_right():
    assert check_freeze_norms(freeze) == "Right."


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda model: model.requires_grad_(False), "statistics still move"),
        (freeze_top_level, "inside a block"),
        (lambda model: model.eval().requires_grad_(False), "Dropout is off"),
        (freeze_too_much, "linear layers are frozen"),
        (freeze_modes_only, "still get gradients"),
        (lambda model: model.freeze(), "raises AttributeError"),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong_with_it(answer, said):
    assert re.search(said, check_freeze_norms(answer)), check_freeze_norms(answer)
