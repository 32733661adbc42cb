"""The first page's runs: by name, of the settings that the chapter types out."""

from dataclasses import replace

import numpy as np

from utils.experiments import intro
from utils.figures import intro as figures
from utils.training import Settings, train_seeds


def test_the_figure_offers_what_the_experiment_has():
    assert (figures.RATES, figures.DEPTHS) == (intro.RATES, intro.DEPTHS)


def test_runs_come_by_name_and_are_those_of_their_settings():
    runs = intro.deep_runs(5, 0.3, seeds=2)
    bn = train_seeds(replace(intro.DEEP, norm="bn", depth=5, lr=0.3), 2)
    assert set(runs) == {"plain", "bn"}
    assert np.array_equal(runs["bn"][1].loss, bn[1].loss)
    assert not np.array_equal(runs["plain"][1].loss, bn[1].loss)


def test_the_chapter_types_the_same_settings():
    same = {"depth": 10, "width": 48, "nonlinearity": "relu", "init": "he", "batch_size": 32, "steps": 200}
    assert Settings("bn", lr=0.3, n_evals=9, **same) == replace(intro.DEEP, norm="bn", depth=10, lr=0.3)


def test_a_run_that_diverged_counts_with_its_last_accuracy():
    (run,) = train_seeds(Settings(depth=5, width=16, nonlinearity="relu", init="he", lr=1e3, steps=20), 1)
    assert run.diverged_at
    assert intro.final_accuracy([run])[0] == run.test_accuracy[-1]
