"""Sweeps: the same bits from one process, from two, and from a cluster."""

import joblib
import numpy as np
import pytest

from utils import sweeps
from utils.progress import Cancelled, report_progress
from utils.sweeps import sweep
from utils.training import Settings, train, train_all

RUNS = [(Settings("bn", depth=depth, width=20, lr=0.3, steps=300, n_evals=3), s) for depth in (1, 3) for s in range(5)]


@pytest.fixture(scope="module")
def in_one_process():
    return [train.func(*job) for job in RUNS]


@pytest.fixture
def fresh(tmp_path):
    """Training that finds nothing on disk."""

    def anew(settings, seed):
        return train.func(settings, seed)

    return joblib.Memory(tmp_path, verbose=0).cache(anew)


def assert_same(runs, others):
    assert len(runs) == len(others) == len(RUNS)
    for run, other in zip(runs, others, strict=True):
        assert np.array_equal(run.loss, other.loss)
        assert np.array_equal(run.test_loss, other.test_loss)
        assert all(np.array_equal(layer, same) for layer, same in zip(run.gamma, other.gamma, strict=True))


def test_the_runs_differ_from_each_other(in_one_process):
    assert len({run.loss.tobytes() for run in in_one_process}) == len(RUNS)


@pytest.mark.parametrize("on", [1, 2])
def test_a_sweep_gives_the_same_bits_in_the_order_of_its_jobs(on, fresh, in_one_process):
    assert_same(sweep(fresh, RUNS[::-1], on), in_one_process[::-1])
    assert all(fresh.check_call_in_cache(*job) for job in RUNS)


def test_a_cluster_gives_the_same_bits(fresh, in_one_process, tmp_path):
    from distributed import Client, LocalCluster

    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**settings, local_directory=str(tmp_path)) as local, Client(local) as client:
        assert_same(sweep(fresh, RUNS, client), in_one_process)


def test_what_lies_on_disk_is_read_where_the_sweep_was_started(fresh, in_one_process, monkeypatch):
    sweep(fresh, RUNS)
    monkeypatch.setattr(sweeps, "ProcessPoolExecutor", None)  # no other process may be asked
    assert_same(sweep(fresh, RUNS, on=2), in_one_process)


def test_a_job_named_twice_is_computed_once(fresh):
    heard = []
    with report_progress(lambda done, total: heard.append((done, total))):
        first, second, again = sweep(fresh, [RUNS[0], RUNS[1], RUNS[0]], on=2)
    assert heard == [(0, 2), (1, 2)]
    assert np.array_equal(first.loss, again.loss)
    assert not np.array_equal(first.loss, second.loss)


@pytest.mark.parametrize(("on", "total"), [(1, 3000), (2, 10)])
def test_a_sweep_says_how_far_it_is_and_stops_when_told(on, total, fresh):
    heard = []

    def listen(done, of):
        heard.append((done, of))
        if done >= 0.2 * of:
            raise Cancelled

    with report_progress(listen), pytest.raises(Cancelled):
        sweep(fresh, RUNS, on)
    assert [of for _, of in heard] == [total] * len(heard)
    assert [done for done, _ in heard] == list(range(total // 5 + 1))
    assert fresh.check_call_in_cache(*RUNS[0])
    assert not fresh.check_call_in_cache(*RUNS[-1])


@pytest.mark.parametrize("on", [1, 2])
def test_an_error_in_a_run_is_raised_here(on, fresh):
    with pytest.raises(ValueError, match="data: expected one of"):
        sweep(fresh, [RUNS[0], (Settings(data="mnist"), 0)], on)


def test_arms_are_trained_by_the_same_sweep():
    arms = {norm: Settings(norm, depth=1, width=8, steps=20, n_evals=2) for norm in ("plain", "bn")}
    one, two = train_all(arms, 2), train_all(arms, 2, on=2)
    assert list(one) == list(two) == list(arms)
    for arm in arms:
        for here, there in zip(one[arm], two[arm], strict=True):
            assert np.array_equal(here.loss, there.loss)
