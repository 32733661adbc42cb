"""The evidence of "Its relatives", against torch's layers, against small changes, and against what is written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils.batchnorm import BatchNorm1d, normalize
from utils.experiments import relatives as experiment
from utils.experiments.relatives import AXES, SHAPES, SKIPS, normalized, sharers, stream
from utils.training import Settings, train_seeds

LAYERS = {
    "bn": nn.BatchNorm2d(4),
    "layer": nn.LayerNorm((4, 5, 5)),
    "group": nn.GroupNorm(2, 4),
    "instance": nn.InstanceNorm2d(4),
    "rms": nn.RMSNorm((4, 5, 5), 1e-5),
}


@pytest.fixture
def x():
    return 3 * torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0)).double() + 2


@pytest.mark.parametrize("norm", AXES)
def test_one_line_with_other_axes_is_torchs_layer(norm, x):
    torch.testing.assert_close(normalized(x, norm), LAYERS[norm].double()(x))


def test_over_the_batch_it_is_the_books_own(x):
    torch.testing.assert_close(experiment.normalize_over(x, (0, 2, 3)), normalize(x))


@pytest.mark.parametrize("norm", AXES)
@pytest.mark.parametrize("shape", SHAPES.values())
def test_lit_are_the_values_that_a_small_change_reaches(norm, shape):
    """Whatever shares a statistic with a value feels it move."""
    if norm == "instance" and shape[-1] == 1:
        return  # there a value is alone, and always 0
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()
    moved = x.clone()
    moved[1, 2, 0, 0] += 0.5
    felt = (normalized(moved, norm) - normalized(x, norm)).abs() > 1e-9
    if norm == "group" and shape[-1] == 1:
        felt = (moved - x).abs() > 0  # of two values only the sign is left
        felt[1, 3] = True
    assert np.array_equal(felt.numpy(), sharers(norm, shape, example=1, channel=2))


def test_dyt_shares_nothing():
    assert not sharers("dyt", (4, 4, 3, 3), 1, 1).any()


def test_only_batch_norm_asks_for_company():
    changes = experiment.company_changes(seeds=2)
    assert changes.pop("bn").min() > 0.01
    assert max(each.max() for each in changes.values()) < 1e-12


def test_an_area_counts_what_was_not_done_as_guessing():
    settings = Settings(depth=1, width=8, nonlinearity="relu", init="he", lr=1e9, steps=20, n_evals=2)
    runs = train_seeds.func(settings, 2)
    done = [len(run.accuracy) for run in runs]
    assert max(done) < 20
    expected = [(run.accuracy.sum() + 0.1 * (20 - n)) / 20 for run, n in zip(runs, done, strict=True)]
    assert experiment.area(runs, 20) == pytest.approx(expected)
    calm = train_seeds.func(replace(settings, lr=0.1), 2)
    assert experiment.area(calm, 20) == pytest.approx([run.accuracy.mean() for run in calm])


def test_leads_are_differences_at_equal_rates(monkeypatch):
    areas = {"bn": np.arange(10.0).reshape(5, 2), "layer": np.ones((5, 2))}
    monkeypatch.setattr(experiment, "race", lambda network, arms: {arm: areas[arm] for arm in arms})
    leads = experiment.leads("ReLU, 3 layers", "bn", "layer", (0.1,))
    assert leads["rate 0.1"].tolist() == [1.0, 2.0]
    assert experiment.best_lead("ReLU, 3 layers", "bn", "layer").tolist() == [7.0, 8.0]
    assert experiment.best_of("ReLU, 3 layers", "bn").tolist() == [8.0, 9.0]


def test_dyt_halves_a_small_signal():
    layer = experiment.DyT(3)
    x = 1e-3 * torch.randn(8, 3)
    torch.testing.assert_close(layer(x), x / 2, rtol=1e-5, atol=0)
    sizes = experiment.shrinking("dyt", seeds=2)
    assert (sizes[:, -1] / sizes[:, -4] < 0.5**3 * 1.6).all()


@pytest.mark.parametrize("norm", ["bn, zero gamma", "skipinit"])
def test_blocks_that_begin_as_nothing_leave_the_stream_alone(norm):
    net = replace(SKIPS, norm=norm, depth=4).network(0)
    x = SKIPS.task().x_train[:60]
    found = stream(net, x)
    assert not found.share.any()
    assert found.variance == pytest.approx(4 * [net[0](x).var(0).mean().item()])


def test_a_stream_is_followed_as_by_hand_and_nothing_is_changed():
    net = replace(SKIPS, norm="bn", depth=3).network(0)
    x = SKIPS.task().x_train[:60]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = stream(net, x)
    u = net[0](x)
    for i, block in enumerate(net[1:3]):
        own = F.batch_norm(block.body[1](u.relu()), None, None, training=True)
        share = own.var(0).mean() / (own.var(0).mean() + u.var(0).mean())
        u = u + own
        assert found.share[i] == pytest.approx(share.item(), rel=1e-4)
        assert found.variance[i + 1] == pytest.approx(u.var(0).mean().item(), rel=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_with_gamma_zero_the_weights_wait_for_gamma():
    _, block, _ = replace(SKIPS, norm="bn, zero gamma", depth=2).network(0)
    u = torch.randn(30, SKIPS.width, generator=torch.Generator().manual_seed(0))
    (block(u) * torch.randn(30, SKIPS.width)).sum().backward()
    _, linear, norm = block.body
    assert isinstance(norm, BatchNorm1d)
    assert not linear.weight.grad.any()
    assert norm.weight.grad.abs().min() > 0


def test_a_stream_that_is_lost_is_not_told():
    assert list(experiment.streams.func("plain", at=(0, 5), seeds=2)) == [0]


def test_what_is_unknown_is_refused(x):
    with pytest.raises(ValueError, match="norm: expected one of"):
        normalized(x, "dyt")
    with pytest.raises(ValueError, match="norm: expected one of"):
        sharers("weight", (2, 2, 1, 1), 0, 0)
