"""The bugs of "Spot the bug": shown as they run, wrong as the page says, and judged by checks that know better."""

import re
from functools import cache

import nbformat
import numpy as np
import pytest
import torch
from harness.chapter import solutions
from harness.clone import ROOT
from torch import nn
from torch.nn import functional as F

from utils.checks.spot_the_bug import CHECKS, check_bug
from utils.experiments import spot_the_bug as experiment
from utils.experiments.spot_the_bug import BUGS, WRONG, by_torch, listing
from utils.figures import spot_the_bug as figures

PAGE = nbformat.read(ROOT / "chapters" / "spot_the_bug.ipynb", as_version=4)
LINES = {
    "normalize_batch": figures.line_features,
    "normalize_channels": figures.line_maps,
    "normalize_images": figures.line_photos,
    "normalize_safely": figures.line_constant,
    "normalize_fast": figures.line_far,
    "normalize_in_training": figures.line_held,
    "remember": figures.line_remembered,
    "training_step": figures.line_modes,
    "Layer": figures.line_asked,
    "gradient_is_right": figures.line_passes,
    "gradient_change": figures.line_changes,
    "loss_band": figures.line_landscape,
}
SAID = {
    "normalize_batch": "units have means from",
    "normalize_channels": "channels have means from",
    "normalize_images": "Every image has the mean β",
    "normalize_safely": r"standard deviation 0\.0001 comes out with 0\.9",
    "normalize_fast": "of the units are no numbers",
    "normalize_in_training": "its mean over the batch is up to",
    "remember": "90% of the way",
    "training_step": r"0\.75 times PyTorch's",
    "Layer": "it uses",
    "gradient_is_right": "returns zero passes",
    "gradient_change": "A step of length 0 changes the gradient",
    "loss_band": "yours is",
}

each_bug = pytest.mark.parametrize("name", BUGS)


@cache
def mended():
    """What the page's solutions define, by name."""
    found = {"torch": torch, "nn": nn, "F": F, "check_bug": check_bug}
    for code in solutions(PAGE):
        exec(code, found)
    return found


# --- the page shows what runs ----------------------------------------------------------------------------------------


def test_the_page_shows_the_code_that_runs_with_numbered_lines():
    cells = [cell for cell in PAGE.cells if cell.cell_type == "code" and cell.source.startswith(("def ", "class "))]
    assert [cell.source for cell in cells] == [listing(bug) for bug in BUGS.values()]
    assert all(cell.metadata.mystnb.number_source_lines for cell in cells)


@each_bug
def test_a_listing_is_short_and_runs_by_itself(name):
    code = listing(BUGS[name])
    assert 4 <= len(code.splitlines()) <= 10 and '"""' not in code
    found = {"torch": torch, "nn": nn, "F": F}
    exec(code, found)
    assert re.search(SAID[name], check_bug(name, found[name]))


@each_bug
def test_the_line_that_is_asked_for_is_among_the_numbered_ones(name):
    question, lines = LINES[name], listing(BUGS[name]).splitlines()
    for choice in question.choices:
        number, code = re.fullmatch(r"line (\d+): `(.*)`", choice).groups()
        assert lines[int(number) - 1].strip() == code
    assert 1 <= len(question.answer[0]) < len(question.choices)


@each_bug
def test_no_solution_keeps_every_line_that_is_called_wrong(name):
    wrong = [LINES[name].choices[i].partition("`")[2].rstrip("`") for i in LINES[name].answer[0]]
    (solution,) = [code for code in solutions(PAGE) if f'check_bug("{name}"' in code]
    kept = [line.strip() for line in solution.splitlines()]
    assert not set(wrong) <= set(kept)


# --- the checks ------------------------------------------------------------------------------------------------------


def test_there_is_a_check_for_every_bug():
    assert list(CHECKS) == list(BUGS) == list(LINES) == list(SAID)
    with pytest.raises(ValueError, match=r"name: expected one of \['normalize_batch'"):
        check_bug("another", print)


@each_bug
def test_a_bug_is_told_what_is_wrong_with_it_and_a_mended_one_is_right(name):
    assert re.search(SAID[name], check_bug(name, BUGS[name])), check_bug(name, BUGS[name])
    assert check_bug(name, mended()[name]) == "Right."


def other_axis(x):
    return (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True)


def without_scale(x, gamma, beta):
    return F.batch_norm(x, None, None, training=True)


def half_held(x, gamma, beta):
    sigma = torch.sqrt(x.var(0, correction=0) + 1e-5).detach()
    return gamma * (x - x.mean(0)) / sigma + beta


def only_training(C):
    layer = nn.BatchNorm1d(C)
    layer.train = lambda mode=True: layer
    return layer


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("normalize_batch", lambda x: by_torch(x) + 1, "each should be 0"),
        ("normalize_batch", lambda x: (x - x.mean(0)) / x.var(0, correction=0), "standard deviations from"),
        ("normalize_batch", lambda x: -by_torch(x), "values are not those of PyTorch"),
        ("normalize_batch", lambda x: x[:3], r"Expected the shape \(60, 5\)"),
        ("normalize_batch", lambda x: x.no_such_method(), "It raises AttributeError"),
        ("normalize_channels", other_axis, "channels have means"),
        ("normalize_images", without_scale, "channels have means"),
        ("normalize_safely", lambda x: (x - x.mean(0)) / x.std(0, correction=0), "no number"),
        ("normalize_fast", lambda x: x, "units have means"),
        ("normalize_in_training", half_held, "flow through the variance"),
        ("normalize_in_training", lambda x, gamma, beta: x, "not what PyTorch gives"),
        ("remember", lambda mean, var, x, momentum: (mean, var), "0% of the way"),
        ("training_step", lambda x, mean, var: by_torch(x), "The running mean is not PyTorch's"),
        ("Layer", only_training, "In evaluation with gradients on it uses the batch's statistics"),
        ("gradient_is_right", lambda backward, x, gamma: False, "turns the right backward pass away"),
        ("gradient_change", lambda gradient, batches, w, lr: torch.tensor(0.0), "it should be"),
        ("loss_band", lambda loss, gradient, w, rates, steps: (torch.ones(2), torch.ones(2)), "a loss for each of 5"),
    ],
)
def test_another_mistake_is_told_too(name, answer, said):
    assert re.search(said, check_bug(name, answer)), check_bug(name, answer)


def test_on_friendly_data_the_six_layers_are_nearly_right():
    one, zero = torch.ones(8), torch.zeros(8)
    x, images = torch.randn(200, 8), torch.randn(200, 8, 10, 10)
    for name, given in (
        ("normalize_batch", (x,)),
        ("normalize_channels", (images,)),
        ("normalize_images", (images, one, zero)),
        ("normalize_safely", (x,)),
        ("normalize_fast", (x,)),
        ("normalize_in_training", (x, one, zero)),
    ):
        both = torch.stack([BUGS[name](*given).flatten(), by_torch(given[0]).flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.95, name


# --- what they make --------------------------------------------------------------------------------------------------


def test_one_mean_for_all_keeps_the_differences_between_units():
    x = experiment.units()
    found = experiment.moments(x, experiment.normalize_batch)
    means = x.mean(0).double().numpy()
    assert np.corrcoef(found.mean, means)[0, 1] == pytest.approx(1)
    right = experiment.moments(x, by_torch)
    assert np.abs(right.mean).max() < 1e-5 and right.std == pytest.approx(1, abs=1e-2)


def test_rows_of_a_reshape_are_pieces_of_one_channel():
    x = torch.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    assert x.reshape(-1, 3)[0].tolist() == x[0, 0].flatten()[:3].tolist()


def test_an_image_normalised_by_itself_has_no_brightness():
    seen = experiment.brightness()
    assert np.abs(seen.code).max() < 1e-4
    assert np.corrcoef(seen.before, seen.torch)[0, 1] == pytest.approx(1)


def test_the_floor_of_a_width_is_eps_or_its_root():
    width = np.array([1e-3])
    assert experiment.widths_out(width, experiment.normalize_safely) == pytest.approx(1e-3 / (1e-3 + 1e-5))
    assert experiment.widths_out(width, by_torch) == pytest.approx(1e-3 / np.sqrt(1e-6 + 1e-5))


def test_one_pass_is_right_in_double_precision_and_near_zero():
    z = torch.randn(60, 20)
    assert torch.allclose(experiment.normalize_fast(z), by_torch(z), atol=1e-4)
    far = z.double() + 10_000
    assert torch.allclose(experiment.normalize_fast(far), by_torch(far), atol=1e-4)


def test_a_bias_travels_by_its_slope_at_every_step():
    found = experiment.descend(experiment.normalize_in_training, steps=10)
    assert np.diff(found.bias) == pytest.approx(found.bias[1], rel=1e-9)
    assert np.ptp(found.loss) < 1e-12


def test_momentum_in_the_other_sense_is_pytorchs_of_one_minus_it():
    code, other = experiment.running_means(0.3), experiment.running_means(0.7)
    assert code.code == pytest.approx(other.torch, rel=1e-4, abs=1e-5)


def test_the_biased_variance_widens_by_the_root():
    found = experiment.widths_in_evaluation()
    assert found.code / found.torch == pytest.approx(np.sqrt(found.sizes / (found.sizes - 1)), rel=0.02)
    assert found.training == pytest.approx(1, abs=0.02)


def test_only_the_layer_that_asks_for_gradients_moves_in_evaluation():
    ours, theirs = experiment.ask_again(experiment.Layer), experiment.ask_again(nn.BatchNorm1d)
    assert np.ptp(theirs.answer) == np.ptp(theirs.running_mean) == 0
    assert np.ptp(ours.answer) > 0 and np.ptp(ours.running_mean) > 0
    silent = experiment.ask_again(experiment.Layer, no_grad=True)
    assert silent.answer == pytest.approx(theirs.answer, abs=1e-5)


def test_the_backward_pass_is_autograds_and_the_wrong_ones_are_not():
    assert experiment.judge(experiment.backward) == (True, True)
    assert [experiment.judge(wrong).random for wrong in WRONG.values()] == [False] * 5
    x, gamma = torch.randn(30, 5).double(), torch.rand(5).double() + 0.5
    leaf = x.clone().requires_grad_()
    by_torch(leaf, gamma).sum().backward()
    assert leaf.grad.abs().max() < 1e-10


def test_a_flat_network_is_the_network():
    net = experiment.flat_network("bn", seed=1)
    batch = next(net.batches)
    direction = torch.randn(len(net.w), generator=torch.Generator().manual_seed(0))
    direction /= direction.norm()
    ahead, behind = (net.loss(net.w + step * direction, batch).double() for step in (1e-2, -1e-2))
    assert (ahead - behind) / 2e-2 == pytest.approx((net.gradient(net.w, batch) @ direction).item(), abs=2e-2)


def test_in_a_bowl_the_bands_are_known():
    bowl = {"loss": lambda w: (w**2).sum() / 2, "gradient": lambda w: w, "w": torch.tensor([1.0, 1.0])}
    steps = torch.arange(3.0)
    low, high = experiment.loss_band(**bowl, rates=[0.1, 0.5], steps=3)
    assert torch.allclose(high, 0.9 ** (2 * steps + 2)) and torch.allclose(low, 0.5 ** (2 * steps + 2))
    low, high = experiment.probe(**bowl, rates=[0.1, 0.5], steps=3)
    assert torch.allclose(high, 0.81 * 0.9 ** (2 * steps)) and torch.allclose(low, 0.25 * 0.9 ** (2 * steps))


def test_the_edges_of_separate_runs_are_runs():
    found = experiment.bands.func("bn", 0, 4)
    assert (found.code[0] == found.runs.min(0)).all() and (found.code[1] == found.runs.max(0)).all()
    net = experiment.flat_network("bn", 0)
    w = net.w - 0.2 * net.gradient(net.w)
    assert found.runs[1, 0] == pytest.approx(net.loss(w).item(), rel=1e-5)


def test_skewness_and_kurtosis_do_not_notice_a_shift_and_a_scale():
    x = torch.randn(500, 3).double() ** 2
    one, other = experiment.shapes(x), experiment.shapes(7 * x - 3)
    assert one.skewness == pytest.approx(other.skewness) and one.peaks == pytest.approx(other.peaks)
    assert experiment.shapes(torch.randn(100_000, 1)).peaks == pytest.approx(3, abs=0.2)


def test_every_judgement_is_one_of_four():
    asked = [value for name, value in vars(figures).items() if name.startswith("claim_")]
    assert len(asked) == 8 and all(each.choices == figures.JUDGEMENTS for each in asked)
