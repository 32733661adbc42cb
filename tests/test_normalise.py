"""The evidence of "Normalisation", against what is written out by hand."""

import numpy as np
import pytest
import torch

from utils.batchnorm import normalize
from utils.experiments import normalise as experiment


def values(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_layers_values_are_those_of_the_network_on_what_it_was_trained_on():
    settings = experiment.NETWORKS["tanh"]
    net, x = settings.network(0), settings.task().x_train
    second = net[2](torch.tanh(net[0](x)))
    assert torch.allclose(experiment.layer_values("tanh", 2, is_trained=False), second.double(), atol=1e-6)


def test_an_image_in_company_is_normalised_by_its_own_batch():
    unit = values(50)
    company = experiment.in_company(unit, image=3, batch_size=2, batches=40)
    assert torch.allclose(company.values.abs(), torch.ones(40).double())
    assert company.by_whole_data == pytest.approx(((unit[3] - unit.mean()) / unit.std(correction=0)).item())
    again = experiment.in_company(unit, image=3, batch_size=2, batches=40)
    assert torch.equal(company.means, again.means)
    wide = experiment.in_company(unit, image=3, batch_size=400, batches=500)
    assert wide.means.std().item() == pytest.approx(1 / 20, rel=0.15)


def test_the_chosen_image_is_as_far_away_as_asked():
    unit = values(1000)
    z = (unit - unit.mean()) / unit.std(correction=0)
    assert [abs(z[experiment.image_at(unit, far)].item()) for far in (0.5, 2.5)] == pytest.approx([0.5, 2.5], abs=0.2)


def test_an_epsilon_is_noticed_and_a_shift_is_not():
    x = values(60, 3)
    assert experiment.scaled_and_shifted(x, 7.0, -4.0).largest_difference < 1e-12
    assert experiment.scaled_and_shifted(x, 0.001, 0.0, eps=1e-5).largest_difference > 0.5
    assert experiment.scaled_and_shifted(x, -1.0, 0.0).largest_difference > 1


def test_without_a_mean_to_take_out_a_batch_of_zeros_stands_out():
    whole = values(1437, 5)
    is_zero = experiment.NETWORKS["ReLU"].task().y_train == 0
    whole[is_zero] += 3
    among_all, among_themselves = experiment.distance_of_zeros(whole)
    assert among_all > 1 > 1e-12 > among_themselves


def test_a_shape_is_that_of_its_units():
    skewed = values(5000, 4).exp()
    skewed[:, 0] = 0.0
    shape = experiment._shape(skewed)
    assert shape.values.shape == (5000, 3)
    assert shape.zeros == 0.25
    by_hand = [np.mean(((x - x.mean()) / x.std()) ** 3) for x in skewed[:, 1:].numpy().T]
    assert shape.skewness == pytest.approx(np.median(by_hand))
    assert torch.allclose(shape.values, normalize(skewed[:, 1:], eps=0))
