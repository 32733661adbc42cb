"""One place makes chance of a seed, and it can be moved from outside."""

import numpy as np
import pytest
import torch

from utils.seeds import first_seed, numpy_rng, torch_rng
from utils.training import Settings, train


def test_without_the_variable_a_seed_is_itself(monkeypatch):
    monkeypatch.delenv("BOOK_FIRST_SEED", raising=False)
    assert first_seed() == 0
    assert np.array_equal(numpy_rng(3).random(5), np.random.default_rng(3).random(5))
    expected = torch.rand(5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.rand(5, generator=torch_rng(3)), expected)


def test_the_first_seed_is_added_to_every_seed(monkeypatch):
    settings = Settings("noisy", depth=1, width=5, steps=5, dropout=0.5)
    monkeypatch.setenv("BOOK_FIRST_SEED", "0")
    wanted = train.func(settings, 12)
    monkeypatch.setenv("BOOK_FIRST_SEED", "10")
    assert np.array_equal(train.func(settings, 2).loss, wanted.loss)
    assert np.array_equal(numpy_rng(2).random(5), np.random.default_rng(12).random(5))


@pytest.mark.parametrize("wrong", ["-1", "1.5", "ten", "", " 1"])
def test_what_is_no_whole_number_is_refused(monkeypatch, wrong):
    monkeypatch.setenv("BOOK_FIRST_SEED", wrong)
    with pytest.raises(ValueError, match="BOOK_FIRST_SEED: expected a whole number from 0 on, got"):
        torch_rng(0)
