"""The evidence of "Training and evaluation", against the layers themselves and against PyTorch."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.testing import assert_close

from utils.checks.evaluation import check_fold
from utils.experiments import evaluation as experiment
from utils.experiments.evaluation import ANEW, TESTS, WATCHED, running_statistic, watch_statistics, with_momentum
from utils.figures import evaluation as figures
from utils.training import Settings, one_thread, updates, updates_together

SMALL = Settings("bn", depth=2, width=20, lr=0.5, steps=30)


# --- running statistics ---------------------------------------------------------------------------------------------


def test_watched_statistics_are_those_that_the_layer_runs_on():
    watched = watch_statistics.func(SMALL, 2)[1]
    *_, last = updates_together(SMALL, 2)
    norm = [module for module in last.of(1).net if hasattr(module, "running_mean")][1]
    for statistic, kept in (("mean", norm.running_mean), ("variance", norm.running_var)):
        now = running_statistic(watched, statistic, momentum=0.1)
        assert now.running[-1, 1] == pytest.approx(kept[:5].numpy(), rel=1e-3, abs=1e-5)
    assert watched.batch_mean.shape == (30, 2, 5)
    assert watched.mean.shape == (6, 2, 5)


def test_the_whole_data_are_looked_at_with_the_weights_of_the_moment():
    watched = watch_statistics.func(SMALL, 1)[0]
    for update in updates(SMALL, 0):
        if update.step == 10:
            y = update.net[0](SMALL.task().x_train)[:, :5].detach()
    assert watched.eval_steps[2] == 10
    assert watched.mean[2, 0] == pytest.approx(y.mean(0).numpy(), abs=1e-3)
    assert watched.var[2, 0] == pytest.approx(y.var(0, correction=0).numpy(), rel=1e-2)


def test_an_error_is_judged_where_the_truth_is_known_and_only_late():
    steps = np.arange(40.0)[:, None, None]
    late = np.array([0, 20, 35])
    now = experiment.Running(steps, steps + 2, late, steps[late])
    assert now.error(now.running).tolist() == [[2.0]]
    now.running[0] = 99
    assert now.error(now.running).tolist() == [[2.0]]


def test_an_unknown_statistic_is_refused():
    (watched,) = watch_statistics(replace(WATCHED, steps=6), seeds=1)
    with pytest.raises(ValueError, match="statistic: expected 'mean' or 'variance', got 'median'"):
        running_statistic(watched, "median", momentum=0.1)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_a_running_statistic_is_pytorchs(momentum):
    watched = watch_statistics.func(SMALL, 1)[0]
    norm = nn.BatchNorm1d(5, momentum=momentum).double()
    for mean, var in zip(watched.batch_mean[:, 1], watched.batch_var[:, 1], strict=True):
        batch = torch.randn(60, 5).double()
        batch = (batch - batch.mean(0)) / batch.std(0, correction=0)
        norm(batch * torch.from_numpy(var).sqrt() + torch.from_numpy(mean))
    for statistic, kept in (("mean", norm.running_mean), ("variance", norm.running_var)):
        now = running_statistic(watched, statistic, momentum)
        assert now.running[-1, 1] == pytest.approx(kept.numpy(), rel=1e-6)


# --- a validation loss ----------------------------------------------------------------------------------------------


def test_one_training_serves_all_momenta():
    settings = replace(SMALL, validation=True, steps=10)
    looks = experiment.validation_losses.func(settings, 2)
    task = settings.task()
    for momentum in experiment.MOMENTA:
        losses = []
        for moment in updates_together(with_momentum(settings, momentum), 2):
            if moment.step in (5, 10):
                nets = [deepcopy(net).eval() for net in moment.ensemble.nets]
                losses.append([F.cross_entropy(net(task.x_test), task.y_test).item() for net in nets])
        assert looks.loss[momentum] == pytest.approx(np.array(losses).T, rel=1e-4)


def test_anew_is_the_mode_of_training_on_the_images_that_are_taken():
    settings = replace(SMALL, validation=True, steps=10)
    looks = experiment.validation_losses.func(settings, 1)
    *_, last = updates(settings, 0)
    task, net = settings.task(), last.net
    for norm in (each for each in net if hasattr(each, "running_mean")):
        norm.momentum = 1.0
    net(task.x_train[: experiment.TAKEN_ANEW])
    loss = F.cross_entropy(net.eval()(task.x_test), task.y_test).item()
    assert looks.loss[ANEW][0, -1] == pytest.approx(loss, rel=1e-4)
    assert 0 <= looks.accuracy[ANEW].min() <= looks.accuracy[ANEW].max() <= 1


def test_looking_does_not_disturb_training():
    settings = replace(SMALL, validation=True, steps=12)
    often, seldom = (experiment.validation_losses.func(settings, 2, every).training for every in (1, 12))
    assert (often == seldom).all()


def test_heights_and_jumps_by_hand():
    step = np.array([5, 20, 25, 30])
    loss = {0.1: np.array([[9.0, 2.0, 4.0, 2.0]]), ANEW: np.array([[9.0, 1.0, 1.0, 1.0]])}
    looks = experiment.Looks(step, loss, loss, np.zeros((1, 30)))
    assert experiment.heights(looks, 0.1) == pytest.approx([16 ** (1 / 3)])
    assert experiment.jumps(looks, 0.1) == pytest.approx([np.log(2)])
    assert experiment.jumps(looks, ANEW) == pytest.approx([0.0])


# --- a diagnosis ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def examined():
    return {name: experiment.examined.func(name, seeds=2) for name in experiment.PATIENTS}


def test_each_patient_shows_what_is_wrong_with_it(examined):
    as_it_is, evaluated, train_mode, eval_mode, anew, in_use_anew = TESTS
    young, light, left, few = (examined[name] for name in "ABCD")
    for name in "ABD":
        assert (examined[name][as_it_is] == examined[name][evaluated]).all()
    assert (left[as_it_is] < 0.3).all() and (left[evaluated] > 0.85).all()
    assert (young[eval_mode] < young[train_mode] - 0.05).all()
    assert (young[anew] > young[eval_mode] + 0.05).all()
    for healthy in (light, left):
        assert healthy[eval_mode] == pytest.approx(healthy[train_mode], abs=0.03)
    assert (light[in_use_anew] > light[evaluated] + 0.02).all()
    assert (few[eval_mode] > 0.99).all() and (few[in_use_anew] < 0.95).all()


def test_another_patient_is_refused():
    with pytest.raises(ValueError, match="patient: expected one of"):
        experiment.examined.func("E", seeds=2)


# --- folding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_folding_is_pytorchs(bias):
    dense, norm1, x = nn.Linear(7, 5, bias=bias), nn.BatchNorm1d(5), torch.randn(20, 7)
    conv, norm2, images = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=bias), nn.BatchNorm2d(4), torch.randn(6, 2, 9, 9)
    for layer, norm, given, judge in (
        (dense, norm1, x, fuse_linear_bn_eval),
        (conv, norm2, images, fuse_conv_bn_eval),
    ):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm(layer(given) + 1)
        theirs = judge(layer.eval(), norm.eval())
        ours = experiment.fold(layer, norm)
        assert_close(ours.weight, theirs.weight)
        assert_close(ours.bias, theirs.bias)
        assert_close(ours(given), norm(layer(given)), rtol=1e-4, atol=1e-5)


def test_a_folded_network_has_no_norm_left_and_the_same_scores():
    assert max(each.max() for each in experiment.folding_errors(seeds=2).values()) < 1e-12
    for settings, _ in experiment.FOLDED.values():
        short = experiment.folded(settings.network(0))
        assert not [each for each in short if hasattr(each, "running_mean")]
        assert len(short) == len(settings.network(0)) - settings.depth


def test_times_are_positive_ratios():
    assert (experiment.times_faster.__wrapped__("dense, 1 image", repeats=3, calls=3) > 0).all()


def right_fold(weight, bias, norm):
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return factor[:, None, None, None] * weight, norm.bias + factor * (bias - norm.running_mean)


@pytest.mark.parametrize(
    ("fold", "said"),
    [
        (right_fold, "Right"),
        (lambda w, b, n: (w, b), "The weight of a channel"),
        (lambda w, b, n: (right_fold(w, b, n)[0], b), "The weight is right, the bias is not"),
        (lambda w, b, n: right_fold(w, 0, n), "The weight is right. The convolution's own bias is lost"),
        (lambda w, b, n: (n.weight * w, b), "It raises RuntimeError"),
        (lambda w, b, n: w, "It raises ValueError"),
    ],
)
def test_the_check_of_folding_says_what_is_wrong(fold, said):
    assert check_fold(fold).startswith(said)


# --- questions ------------------------------------------------------------------------------------------------------


def test_questions_that_are_mathematics():
    norm = nn.BatchNorm1d(100)
    buffers = sum(each.numel() for each in norm.buffers())
    assert figures.quiz_kept.answer[0][0] <= buffers <= figures.quiz_kept.answer[0][1]
    kept = {momentum: nn.BatchNorm1d(200, momentum=momentum).double() for momentum in (0.1, 0.01, None)}
    rng = torch.Generator().manual_seed(0)
    with one_thread():
        for _ in range(50):
            batch = 3 + torch.randn(60, 200, generator=rng).double()
            for layer in kept.values():
                layer(batch)
    off = {str(momentum): (layer.running_mean - 3).abs().mean().item() for momentum, layer in kept.items()}
    assert figures.quiz_frozen.verdict == min(off, key=off.get) == "None"
