"""The claims of the chapter `what_batchnorm_buys`."""

import numpy as np

from utils.claims import Claim, Verdict, above, below
from utils.experiments import intro
from utils.experiments import what_batchnorm_buys as buys
from utils.experiments.what_batchnorm_buys import DEEP, EXAMPLES, SIGMOID_RATES

OWN = "each arm at its own rate, chosen on validation digits"
ADAM = f"{DEEP}, Adam"


def _ratios(*networks: str) -> dict:
    ratios = buys.step_ratios()
    return {network: ratios[network] for network in networks}


def _sigmoids() -> dict:
    """Whether only the network with BN learns: half of the test digits right, and less than a fifth."""
    found = {}
    for rate in SIGMOID_RATES:
        runs = buys.five_sigmoid_layers("Glorot's start", rate)
        plain, bn = (intro.final_accuracy(runs[norm]) for norm in buys.ARMS)
        found[f"rate {rate:g}"] = (plain < 0.2) & (bn > 0.5)
    return found


def _adam_behind() -> dict:
    runs = buys.validated(ADAM)
    rates = [rate for rate in buys.GRIDS[ADAM] if rate <= 0.001]
    finals = {rate: [intro.final_accuracy(runs[norm][rate]) for norm in ("bn", "plain")] for rate in rates}
    return {f"rate {rate:g}": bn - plain for rate, (bn, plain) in finals.items()}


def _dropout_ahead() -> dict:
    leads, few = buys.regularised(), EXAMPLES[0]
    return {f"{few} digits": leads[few, "dropout"] - leads[few, "bn"]}


CLAIMS = (
    Claim(
        "buys.fewer-steps",
        "BN takes fewer steps to the same accuracy, each arm at its own best rate.",
        "Ioffe & Szegedy 2015, section 4.2: Inception on ImageNet, 2.3 times fewer with BN alone",
        f"steps to {buys.GOAL:.0%} of the test digits, plain over BN; {OWN}",
        lambda: _ratios("sigmoid", "ReLU"),
        above(1.0),
        "ratio",
        "times",
        shown="what_batchnorm_buys#by-hand",
    ),
    Claim(
        "buys.many-fewer-with-sigmoids",
        "With sigmoids and small first weights BN takes many times fewer steps.",
        "Ioffe & Szegedy 2015, section 4.1 and figure 1: digits, no number",
        f"steps to {buys.GOAL:.0%} of the test digits, plain over BN; {OWN}",
        lambda: _ratios("sigmoid"),
        above(3.0),
        "ratio",
        "times",
        shown="what_batchnorm_buys#by-hand",
    ),
    Claim(
        "buys.repairs-raw-pixels",
        "On raw pixels only the network with BN gets there.",
        "this book",
        f"runs in which BN alone has {buys.GOAL:.0%} of the test digits within {buys.RACE.steps} steps; {OWN}",
        lambda: {network: np.isinf(each) for network, each in _ratios("sigmoid, raw pixels").items()},
        above(0.5),
        "share",
        "of the seeds",
        shown="what_batchnorm_buys#by-hand",
    ),
    Claim(
        "buys.more-accurate",
        "BN ends with more than one point more of test accuracy, each arm at its own best rate.",
        "this book; in Ioffe & Szegedy 2015, figure 3, half a point by BN alone: 72.7 % against 72.2 %",
        f"difference in final test accuracy; {OWN}; SGD, and Adam in ten layers",
        buys.generalised,
        above(0.01),
        unit="of the digits",
        stated=Verdict.IN_PART,
        shown="what_batchnorm_buys#a-rate-that-is-wrong",
    ),
    Claim(
        "buys.forgives-a-large-rate",
        "At ten times its best rate, the network with BN is far ahead, by SGD and by Adam.",
        "Ioffe & Szegedy 2015, section 3.3: no number for this",
        "difference in final test accuracy, ten ReLU layers; ten times the rate chosen on validation digits",
        lambda: {network: buys.mistuned(network)[10.0] for network in (DEEP, ADAM)},
        above(0.05),
        unit="of the digits",
        shown="what_batchnorm_buys#a-rate-that-is-wrong",
    ),
    Claim(
        "buys.behind-with-adam-at-small-rates",
        "By Adam at small rates, the same for both, the network with BN is behind.",
        "this book",
        "difference in final accuracy on validation digits, ten ReLU layers, rates of 0.001 and less",
        _adam_behind,
        below(0.0),
        unit="of the digits",
        shown="what_batchnorm_buys#a-rate-that-is-wrong",
    ),
    Claim(
        "buys.deep-sigmoids",
        "Five layers of sigmoids from Glorot's start learn with BN alone.",
        "Ioffe & Szegedy 2015, section 4.2.2: plain Inception with sigmoids stays at chance",
        "runs in which plain is below a fifth and BN above a half of the test digits",
        _sigmoids,
        above(0.5),
        "share",
        "of the seeds",
        shown="what_batchnorm_buys#networks-that-do-not-learn-without-it",
    ),
    Claim(
        "buys.no-substitute-for-dropout",
        "Trained on 100 digits, the network with dropout is more accurate than that with BN.",
        "this book; Ioffe & Szegedy 2015, section 3.4, do without dropout: Inception on ImageNet",
        "difference in final test accuracy, dropout less BN, the same rate",
        _dropout_ahead,
        above(0.0),
        unit="of the digits",
        shown="what_batchnorm_buys#does-it-regularise",
    ),
    Claim(
        "buys.hardly-regularises",
        "Trained on few digits, BN ends less than two points of test accuracy above plain.",
        "this book; Ioffe & Szegedy 2015, section 3.4: BN regularises; no number for this",
        "difference in final test accuracy, 100, 200 and 800 digits, chosen by the seed; the same rate",
        lambda: {f"{n} digits": buys.regularised()[n, "bn"] for n in EXAMPLES},
        below(0.02),
        unit="of the digits",
        shown="what_batchnorm_buys#does-it-regularise",
    ),
)
