"""Training: a run is a pure function of settings and seed, and a divergence is a result."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from utils.data import digits
from utils.progress import Cancelled, report_progress
from utils.seeds import torch_rng
from utils.training import (
    Settings,
    _loaded,
    _split,
    train,
    train_all,
    train_seeds,
    trained,
    trained_seeds,
    updates,
    updates_together,
    weights,
    weights_of_seeds,
)

SMALL = Settings("bn", depth=2, width=20, lr=0.5, steps=30, n_evals=4)
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
    settings, data = Settings(depth=1, width=8, lr=0.3, steps=5, batch_size=10, inputs="raw"), digits()
    net, batches = settings.network(seed=1), torch_rng(1)
    for _ in range(5):
        batch = torch.randint(len(data.x_train), (10,), generator=batches)
        loss = F.cross_entropy(net(data.x_train[batch]), data.y_train[batch])
        for parameter, slope in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            parameter.data -= 0.3 * slope
    for ours, written_out in zip(trained(settings, seed=1).parameters(), net.parameters(), strict=True):
        assert_close(ours, written_out)


def test_evaluations_are_spread_from_the_first_state_to_the_last():
    run = fresh(SMALL, 0)
    assert run.eval_steps.tolist() == [0, 10, 20, 30]
    assert run.loss.shape == run.accuracy.shape == (30,)
    assert len(run.gamma) == len(run.beta) == 2
    for gamma, beta in zip(run.gamma, run.beta, strict=True):
        assert gamma.shape == beta.shape == (4, 20)
        assert (gamma[0] == 1).all()
        assert (gamma[-1] != 1).any()


def test_a_divergence_is_a_result():
    run = fresh(Settings(depth=10, nonlinearity="relu", init="he", lr=10.0, steps=50), 0)
    assert 0 < run.diverged_at < 50
    assert len(run.loss) == run.diverged_at == run.eval_steps[-1]
    assert np.isfinite(run.loss[:-1]).all()
    assert not np.isfinite(run.loss[-1])
    assert fresh(SMALL, 0).diverged_at is None


def test_a_cancelled_run_stops_at_once_and_leaves_nothing_on_disk():
    settings, seen = Settings(steps=1000, lr=0.123), []

    def listener(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 7:
            raise Cancelled

    with report_progress(listener), pytest.raises(Cancelled):
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
    arms = train_all({"plain": Settings(steps=1), "bn": Settings("bn", steps=1)}, seeds=2)
    assert list(arms) == ["plain", "bn"]
    for seed, (plain, bn) in enumerate(zip(*arms.values(), strict=True)):
        assert plain.loss[0] != bn.loss[0]
        first, data = Settings().network(seed), Settings().task()
        batch = torch.randint(len(data.x_train), (60,), generator=torch_rng(seed))
        expected = F.cross_entropy(first(data.x_train[batch]), data.y_train[batch]).item()
        assert plain.loss[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        Settings("bn", depth=4, width=8, nonlinearity="relu", data="fashion", batch_size=32, steps=60, lr=0.1),
        Settings("bn", nonlinearity="relu", data="fashion, flat", batch_size=32, steps=60, lr=0.1),
    ],
)
def test_images_of_clothes_are_learned_too(settings):
    """In training mode, over many batches and seeds: running statistics lag behind, and one look is a coin toss."""
    runs = [fresh(replace(settings, n_evals=2), seed) for seed in range(3)]
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


def test_unknown_data_say_what_was_expected():
    with pytest.raises(ValueError, match=r"data: expected one of .*digits.* got 'mnist'"):
        Settings(data="mnist").task()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_trains_where_the_caller_needs_no_gradients(mode):
    settings = Settings(steps=3)
    _loaded.cache_clear()
    _split.cache_clear()  # so that the data, too, are made in there
    with mode():
        given = list(updates(settings, 0))
        assert not torch.is_grad_enabled()
    assert [update.loss for update in given] == [update.loss for update in updates(settings, 0)]


SHAPES = [
    Settings("plain", depth=2, width=20, steps=6, n_evals=3),
    Settings("bn", depth=2, width=20, steps=6, n_evals=3, dropout=0.3),
    Settings("bn, no scale and shift", depth=2, width=20, steps=6, n_evals=3),
    Settings("noisy", depth=2, width=20, steps=6, n_evals=3),
    Settings("noisy plain", depth=2, width=20, steps=6, n_evals=3, noise_on="the last"),
    Settings("noisy, persistent", depth=2, width=20, steps=6, n_evals=3),
    Settings("l1", depth=2, width=20, steps=6, n_evals=3),
    Settings("bn", depth=2, width=20, steps=6, n_evals=3, momentum=0.9),
    Settings("bn", depth=2, width=20, steps=6, n_evals=3, optimizer="adam", lr=0.001),
    Settings("bn", depth=1, width=4, steps=3, n_evals=2, data="fashion", batch_size=8),
    Settings("plain", depth=2, width=20, steps=6, n_evals=3, examples=100),
    Settings("bn", depth=2, width=20, steps=6, n_evals=3, weight_decay=0.1, micro_batch=25, classes_per_batch=3),
    Settings("bn", depth=3, width=20, steps=6, n_evals=3, skips=True, nonlinearity="relu"),
    Settings("bn", depth=2, width=20, steps=6, n_evals=3, fixed_lengths=True, placement="after"),
    Settings(
        "bn", depth=3, width=10, steps=6, n_evals=2, data="linear map", batch_size=0, lr=1e-7, nonlinearity="none"
    ),
]


@pytest.mark.parametrize("settings", SHAPES, ids=lambda each: f"{each.norm}, {each.data}, {each.optimizer}")
def test_side_by_side_or_alone_a_seed_trains_the_same_network(settings):
    """To rounding: a matrix product of several networks adds up in another order."""
    together, nets = train_seeds.func(settings, 3), trained_seeds(settings, 3)
    for seed, run in enumerate(together):
        alone, net = fresh(settings, seed), trained(settings, seed)
        assert_close(run.loss, alone.loss, rtol=2e-4, atol=2e-4)
        assert_close(run.test_loss, alone.test_loss, rtol=2e-3, atol=2e-3)
        assert np.array_equal(run.eval_steps, alone.eval_steps)
        for (name, value), other in zip(nets[seed].state_dict().items(), net.state_dict().values(), strict=True):
            assert_close(value, other, rtol=2e-3, atol=2e-3, msg=lambda said, name=name: f"{name}: {said}")


def test_a_network_that_diverges_leaves_the_others_as_they_are():
    settings = Settings("plain", depth=10, width=20, nonlinearity="relu", init="he", lr=0.0, steps=30)
    rates = [replace(settings, lr=lr) for lr in (0.4, 0.05)]
    wild, tame = (train_seeds.func(each, 4) for each in rates)
    assert any(run.diverged_at for run in train_seeds.func(replace(settings, lr=10.0), 4))
    for run in (*wild, *tame):
        end = run.diverged_at or 30
        assert len(run.loss) == len(run.accuracy) == end
        assert run.eval_steps[-1] == end
        assert np.isfinite(run.loss[: end - 1]).all()
        assert run.accuracy_at(np.array([0, 30]))[1] == run.test_accuracy[-1]


def test_all_have_diverged_and_training_ends():
    settings = Settings(depth=10, nonlinearity="relu", init="he", lr=1e6, steps=500)
    moments = list(updates_together(settings, 3))
    assert len(moments) < 20
    assert [run.diverged_at for run in train_seeds.func(settings, 3)] != [None] * 3


def test_inputs_are_standardized_by_the_training_part_unless_they_are_asked_for_raw():
    raw, split = Settings(inputs="raw").task(), Settings().task()
    assert_close(raw.x_train, digits().x_train)
    mean, std = raw.x_train.mean(0), raw.x_train.std(0, correction=0)
    for x, given in ((split.x_train, raw.x_train), (split.x_test, raw.x_test)):
        assert_close(x, (given - mean) / (std + 0.1))
    images = Settings(data="fashion").task().x_train
    assert images.mean().abs() < 1e-3 and 0.7 < images.std() < 1
    with pytest.raises(ValueError, match="inputs: expected 'standardized' or 'raw', got 'white'"):
        Settings(inputs="white").task()


def test_a_rate_is_chosen_on_data_that_neither_train_nor_test():
    choose, final = (Settings(validation=each, inputs="raw").task() for each in (True, False))
    rows = [{row.numpy().tobytes() for row in part} for part in (choose.x_train, choose.x_test, final.x_train)]
    train_rows, validation, everything = rows
    assert len(choose.x_train) + len(choose.x_test) == len(final.x_train)
    assert train_rows | validation == everything and not train_rows & validation
    assert len(choose.x_test) == pytest.approx(len(final.x_train) / 5, abs=1)


def test_few_examples_are_another_choice_for_each_seed():
    some = [Settings(examples=100, inputs="raw").task(seed) for seed in (0, 0, 1)]
    assert all(len(split.x_train) == len(split.y_train) == 100 and len(split.x_test) == 360 for split in some)
    assert torch.equal(some[0].x_train, some[1].x_train)
    assert not torch.equal(some[0].x_train, some[2].x_train)
    assert len({row.numpy().tobytes() for row in some[0].x_train}) > 95  # none is drawn twice


def test_micro_batches_add_up_to_the_gradient_of_the_batch_but_for_norms_over_the_batch():
    """Gradient accumulation: with the same batches a plain network does not notice it, one with BN does."""
    for norm, same in (("plain", True), ("layer", True), ("bn", False)):
        settings = replace(SMALL, norm=norm, batch_size=12, steps=4)
        whole, parts = (fresh(replace(settings, micro_batch=micro), 0).loss for micro in (0, 5))
        assert np.allclose(whole, parts, rtol=1e-4) == same


def test_accumulated_gradients_are_those_of_a_loop_over_micro_batches():
    settings = replace(SMALL, norm="bn", batch_size=12, micro_batch=4, steps=1)
    moments, net = updates(settings, 0), settings.network(0)
    x, y = next(moments).batch
    for part, labels in zip(x.split(4), y.split(4), strict=True):
        (F.cross_entropy(net(part), labels) / 3).backward()
    for parameter, moved in zip(net.parameters(), next(moments).net.parameters(), strict=True):
        assert_close(moved, parameter - 0.5 * parameter.grad)


def test_a_batch_may_be_of_few_classes():
    for update in updates(Settings(classes_per_batch=2, batch_size=200, steps=5), 0):
        assert len(update.batch[1].unique()) == 2


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weight_decay_is_torchs(optimizer):
    settings = replace(SMALL, optimizer=optimizer, lr=0.1, weight_decay=0.3, steps=3)
    net, task, rng = settings.network(0), settings.task(), torch_rng(0)
    of_torch = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](net.parameters(), 0.1, weight_decay=0.3)
    for update in updates(settings, 0):
        for parameter, ours in zip(net.parameters(), update.net.parameters(), strict=True):
            assert_close(ours, parameter)
        batch = torch.randint(len(task.x_train), (settings.batch_size,), generator=rng)
        of_torch.zero_grad()
        F.cross_entropy(net(task.x_train[batch]), task.y_train[batch]).backward()
        of_torch.step()


@pytest.mark.parametrize("norm", ["plain", "bn"])
def test_lengths_may_be_held(norm):
    settings = replace(SMALL, steps=6, norm=norm, lr=1.0, fixed_lengths=True)
    first, *_, last = (
        [layer.weight.norm(dim=1).detach().clone() for layer in update.net if isinstance(layer, nn.Linear)]
        for update in updates(settings, 0)
    )
    for before, after in zip(first[:-1], last[:-1], strict=True):
        assert_close(after, before)
    assert not torch.allclose(first[-1], last[-1])


def test_adam_is_torchs():
    settings = Settings(depth=1, width=8, lr=0.01, steps=5, batch_size=10, optimizer="adam")
    net, data, batches = settings.network(seed=1), settings.task(), torch_rng(1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(5):
        batch = torch.randint(len(data.x_train), (10,), generator=batches)
        optimizer.zero_grad()
        F.cross_entropy(net(data.x_train[batch]), data.y_train[batch]).backward()
        optimizer.step()
    for ours, torchs in zip(trained(settings, seed=1).parameters(), net.parameters(), strict=True):
        assert_close(ours, torchs)
    with pytest.raises(ValueError, match="optimizer: expected 'sgd' or 'adam', got 'lion'"):
        train.func(Settings(optimizer="lion"), 0)


def test_the_weights_of_all_seeds_are_those_of_each():
    states = weights_of_seeds.func(SMALL, 2)
    assert [list(state) for state in states] == [list(weights.func(SMALL, 0))] * 2
    assert not np.array_equal(states[0]["0.weight"], states[1]["0.weight"])
