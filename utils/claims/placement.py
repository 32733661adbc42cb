"""The claims of the page `placement`."""

import numpy as np

from utils.claims import Claim, Rule, above, below
from utils.experiments import placement as experiment
from utils.experiments.placement import LARGE, NETWORKS, SMALL

RELU = [network for network in NETWORKS if network.startswith("ReLU")]
SATURATING = [network for network in NETWORKS if network not in RELU]


def _gains(networks: list[str], rates: tuple[float, ...]) -> dict[str, np.ndarray]:
    return {case: gain for network in networks for case, gain in experiment.gains(network, rates).items()}


def _invariant() -> dict[str, np.ndarray]:
    """How far outputs move with weights ten times as long, where they should not."""
    changes = experiment.scaling_changes()
    return {case: each for case, each in changes.items() if "before" in case or "relu" in case}


def _not_invariant() -> dict[str, np.ndarray]:
    changes = experiment.scaling_changes()
    return {case: changes[case] for case in ("tanh, after", "sigmoid, after")}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "placement.small-rates",
        "At small rates the network learns faster with BN after the nonlinearity.",
        "this book",
        "area under the training curve, after less before, rates 0.01 and 0.03",
        lambda: _gains(list(NETWORKS), SMALL),
        above(0.02),
        shown="placement#every-rate",
    ),
    Claim(
        "placement.a-larger-rate",
        "What BN after reaches at the smallest rate, BN before reaches only at a larger rate.",
        "this book",
        "rate that BN before needs for the area that BN after has at rate 0.01, over 0.01",
        lambda: {network: experiment.rate_shift(network) for network in NETWORKS},
        above(1.2),
        estimate="ratio",
        unit="times",
        shown="placement#every-rate",
    ),
    Claim(
        "placement.own-rates",
        "With each placement at its own rate the test accuracies differ by less than three points.",
        "this book",
        "test accuracy, after less before, rates chosen on validation digits",
        lambda: {network: experiment.points(network) for network in NETWORKS},
        Rule(-3.0, 3.0),
        unit="points",
        shown="placement#its-own-rate",
    ),
    Claim(
        "placement.relu-same-range",
        "With ReLU the two train about alike at the rates 0.3 and 1.",
        "this book",
        "area under the training curve, after less before",
        lambda: _gains(RELU, (0.3, 1.0)),
        Rule(-0.07, 0.07),
        shown="placement#every-rate",
    ),
    Claim(
        "placement.saturating-break",
        "With tanh and sigmoid BN after breaks at the rate 3, which BN before bears.",
        "this book",
        "area under the training curve, after less before, rate 3",
        lambda: _gains(SATURATING, (LARGE,)),
        below(-0.2),
        shown="placement#why-saturating-nonlinearities-break",
    ),
    Claim(
        "placement.saturates",
        "At that rate far more outputs of the nonlinearity are at the ends of its range with BN after.",
        "this book",
        "share of outputs within a hundredth of an end after ten steps, after less before, rate 3",
        experiment.saturated_more,
        above(0.15),
        shown="placement#why-saturating-nonlinearities-break",
    ),
    Claim(
        "placement.invariant",
        "Longer weights change no output with BN before, nor with BN after a ReLU.",
        "Ioffe & Szegedy 2015, section 3.3, for BN before; the ReLU is this book's",
        "largest change of an output, weights ten times as long, float64, ε = 0",
        _invariant,
        below(1e-9),
        estimate="exact",
        shown="placement#why-saturating-nonlinearities-break",
    ),
    Claim(
        "placement.not-invariant",
        "Longer weights change the outputs of BN after tanh or sigmoid.",
        "this book",
        "largest change of an output, weights ten times as long, float64, ε = 0",
        _not_invariant,
        above(0.5),
        shown="placement#why-saturating-nonlinearities-break",
    ),
    Claim(
        "placement.folds-into-the-next",
        "In evaluation BN after the nonlinearity folds into the next linear layer, exactly.",
        "this book",
        "largest difference between the folded network and the one it came from, float64",
        lambda: {"one hidden layer": experiment.folding_errors()},
        below(1e-9),
        estimate="exact",
        shown="placement#what-changes-in-your-code",
    ),
)
