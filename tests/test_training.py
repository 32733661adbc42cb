"""Training: a run is a pure function of settings and seed, and a divergence is a result."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from utils.data import digits
from utils.progress import Cancelled, listening
from utils.seeds import torch_rng
from utils.training import DATA, Settings, train, train_all, trained, updates, watch_statistics, weights

SMALL = Settings("bn", depth=2, width=20, lr=0.5, steps=30, looks=4)
fresh = train.func  # the function behind the disk


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_seed_repeats_bit_for_bit_and_another_does_not(dropout):
    settings = replace(SMALL, dropout=dropout)
    first, again, other = fresh(settings, 3), fresh(settings, 3), fresh(settings, 4)
    states = [weights.func(settings, 3) for _ in range(2)]
    for name, value in states[0].items():
        assert np.array_equal(value, states[1][name]), name
    assert np.array_equal(first.loss, again.loss)
    assert not np.array_equal(first.loss, other.loss)


def test_what_is_read_from_disk_is_what_was_computed():
    assert np.array_equal(train(SMALL, 3).loss, fresh(SMALL, 3).loss)


def test_a_run_is_plain_sgd():
    """The same 5 steps, written out with nothing of ours but the network."""
    settings, data = Settings(depth=1, width=8, lr=0.3, steps=5, batch_size=10), digits()
    net, batches = settings.network(seed=1), torch_rng(1)
    for _ in range(5):
        batch = torch.randint(len(data.x_train), (10,), generator=batches)
        loss = F.cross_entropy(net(data.x_train[batch]), data.y_train[batch])
        for parameter, slope in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            parameter.data -= 0.3 * slope
    for ours, written_out in zip(trained(settings, seed=1).parameters(), net.parameters(), strict=True):
        assert_close(ours, written_out)


def test_looks_are_spread_from_the_first_state_to_the_last():
    run = fresh(SMALL, 0)
    assert run.looked.tolist() == [0, 10, 20, 30]
    assert run.loss.shape == run.accuracy.shape == (30,)
    assert len(run.gamma) == len(run.beta) == 2
    for gamma, beta in zip(run.gamma, run.beta, strict=True):
        assert gamma.shape == beta.shape == (4, 20)
        assert (gamma[0] == 1).all()
        assert (gamma[-1] != 1).any()


def test_a_divergence_is_a_result():
    run = fresh(Settings(depth=10, nonlinearity="relu", init="he", lr=10.0, steps=50), 0)
    assert 0 < run.diverged_at < 50
    assert len(run.loss) == run.diverged_at == run.looked[-1]
    assert np.isfinite(run.loss[:-1]).all()
    assert not np.isfinite(run.loss[-1])
    assert fresh(SMALL, 0).diverged_at is None


def test_a_cancelled_run_stops_at_once_and_leaves_nothing_on_disk():
    settings, seen = Settings(steps=1000, lr=0.123), []

    def listener(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 7:
            raise Cancelled

    with listening(listener), pytest.raises(Cancelled):
        train(settings, 99)
    assert seen == [(i, 1000) for i in range(8)]
    assert not train.check_call_in_cache(settings, 99)


def test_the_number_of_threads_is_left_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fresh(SMALL, 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_all_arms_get_the_same_batches():
    (plain,), (bn,) = train_all([Settings(steps=1), Settings("bn", steps=1)], seeds=1)
    assert plain.loss[0] != bn.loss[0]
    first = next(iter(updates(Settings(steps=1), 0))).net
    batch = torch.randint(len(digits().x_train), (60,), generator=torch_rng(0))
    expected = F.cross_entropy(first(digits().x_train[batch]), digits().y_train[batch]).item()
    assert plain.loss[0] == pytest.approx(expected, rel=1e-5)


def test_watched_statistics_are_those_that_the_layer_runs_on():
    watched = watch_statistics.func(SMALL, 0, layer=2, unit=5)
    *_, last = updates(SMALL, 0)
    norm = [module for module in last.net if hasattr(module, "running_mean")][1]
    mean, var = 0.0, 1.0
    for batch_mean, batch_var in zip(watched.batch_mean, watched.batch_var, strict=True):
        mean, var = 0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * batch_var * 60 / 59
    assert norm.running_mean[5].item() == pytest.approx(mean, rel=1e-4, abs=1e-5)
    assert norm.running_var[5].item() == pytest.approx(var, rel=1e-4)
    assert watched.mean.shape == watched.batch_mean.shape == (30,)
    assert np.abs(watched.mean - watched.batch_mean).max() > 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        Settings("bn", depth=4, width=8, nonlinearity="relu", data="fashion", batch_size=32, steps=60, lr=0.1),
        Settings("bn", nonlinearity="relu", data="fashion, flat", batch_size=32, steps=60, lr=0.1),
    ],
)
def test_images_of_clothes_are_learned_too(settings):
    """In training mode, over many batches and seeds: running statistics lag behind, and one look is a coin toss."""
    runs = [fresh(replace(settings, looks=2), seed) for seed in range(3)]
    assert np.mean([run.accuracy[-20:] for run in runs]) > 0.4  # guessing has 0.1
    assert all(run.loss[-20:].mean() < run.loss[0] for run in runs)


def test_the_deep_linear_network_falls_by_full_batch_descent():
    settings = Settings(depth=24, width=10, nonlinearity="none", data="linear map", batch_size=0, lr=1e-7, steps=50)
    run = fresh(settings, 0)
    assert (np.diff(run.loss) < 0).all()  # the whole batch each time, so the loss cannot but fall
    assert np.isnan(run.accuracy).all()


def test_dropout_momentum_and_fewer_examples_change_the_run():
    plain = fresh(SMALL, 0)
    for change in ({"dropout": 0.5}, {"momentum": 0.9}, {"examples": 100}):
        assert not np.array_equal(plain.loss, fresh(replace(SMALL, **change), 0).loss), change
    few = Settings(examples=100).task()
    assert len(few.x_train) == len(few.y_train) == 100
    assert len(few.x_test) == 360


def test_unknown_data_say_what_was_expected():
    with pytest.raises(ValueError, match=r"data: expected one of .*digits.* got 'mnist'"):
        Settings(data="mnist").task()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_trains_where_the_caller_needs_no_gradients(mode):
    settings = Settings(steps=3)
    DATA["digits"].cache_clear()  # so that the data, too, are made in there
    with mode():
        given = list(updates(settings, 0))
        assert not torch.is_grad_enabled()
    assert [update.loss for update in given] == [update.loss for update in updates(settings, 0)]
