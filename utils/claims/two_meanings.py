"""The claims of the chapter `two_meanings`."""

import numpy as np

from utils.claims import Claim, Verdict, above, below
from utils.experiments import two_meanings as experiment
from utils.experiments.two_meanings import NETWORKS, RAW_PIXELS, Network, Part, Quantity

NONLINEAR = {name: network for name, network in NETWORKS.items() if name != "deep linear"}
AWAKE = {name: network for name, network in NONLINEAR.items() if name != "sigmoid, rate 0.1"}
COMES_DOWN = ("sigmoid, rate 0.3", "ReLU, 5 layers", "ReLU, 10 layers")  # the loss, also without BN


def _ratios(quantity: Quantity, part: Part = Part.WHOLE, networks=NETWORKS) -> dict[str, np.ndarray]:
    return {name: experiment.ratios(network, quantity, part) for name, network in networks.items()}


def _first_layer() -> dict[str, list[float]]:
    return {
        name: [abs(run.distance[:, 0]).max() for seen in experiment.records(network).values() for run in seen]
        for name, network in NETWORKS.items()
    }


def _shrinking() -> dict[str, np.ndarray]:
    first, last = (_ratios(Quantity.DISTANCE, part, AWAKE) for part in (Part.FIRST, Part.LATE))
    return {name: last[name] / first[name] for name in AWAKE}


def _opposite() -> dict[str, np.ndarray]:
    """The smaller of: how many times less BN's values are moved, how many times more its gradients turn."""
    moved, turned = _ratios(Quantity.JUMP), _ratios(Quantity.ANGLE)
    return {name: np.minimum(1 / moved[name], turned[name]) for name in NETWORKS}


def _equal_loss(networks: dict[str, Network], *levels: float) -> dict[str, np.ndarray]:
    asked = {"distance": Quantity.DISTANCE, "angle": Quantity.ANGLE}
    return {
        f"{name}, {what}": experiment.equal_loss_ratios(network, quantity, levels)
        for name, network in networks.items()
        for what, quantity in asked.items()
    }


def _asleep() -> dict[str, np.ndarray]:
    network = NETWORKS["sigmoid, rate 0.1"]
    losses = experiment.final_losses(network)
    return {"sigmoid, rate 0.1": losses["plain"] - losses["bn"]}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "two_meanings.first-layer",
        "By Definition 2.1 the first layer has no shift at all.",
        "Santurkar et al. 2018, Definition 2.1",
        "the largest ‖G − G′‖ of layer 1, all updates measured",
        _first_layer,
        below(1e-12),
        "exact",
        shown="two_meanings#the-very-update-of-a-real-network",
    ),
    Claim(
        "two_meanings.scale",
        "Twice as long weights before BN compute the same, and their shift is half as large; the cosine is the same.",
        "this book",
        "the largest error of the ratio 1/2 and of the cosine, layers 2 to 5 of a BN network",
        experiment.errors_of_rescaling,
        below(1e-2),
        "exact",
        shown="two_meanings#where-it-breaks",
    ),
    Claim(
        "two_meanings.first-update",
        "At the very first update BN's gradients change many times more, in every network with a nonlinearity.",
        "this book",
        "‖G − G′‖ of BN over plain, the first update",
        lambda: _ratios(Quantity.DISTANCE, Part.FIRST, NONLINEAR),
        above(5.0),
        "ratio",
        "times",
        shown="two_meanings#both-meanings-the-same-runs",
    ),
    Claim(
        "two_meanings.early",
        "Early in training BN's gradients change more in all six networks.",
        "this book",
        "‖G − G′‖ of BN over plain, the first third of the training",
        lambda: _ratios(Quantity.DISTANCE, Part.EARLY),
        above(1.0),
        "ratio",
        "times",
        shown="two_meanings#both-meanings-the-same-runs",
    ),
    Claim(
        "two_meanings.more-by-definition",
        "By Definition 2.1 BN networks often have more internal covariate shift.",
        "Santurkar et al. 2018, section 2.2, Figure 3 (a VGG on CIFAR-10; a deep linear network)",
        "‖G − G′‖ of BN over plain at equal steps, the whole run",
        lambda: {name: _ratios(Quantity.DISTANCE)[name] for name in ("convolutions", "deep linear")},
        above(1.0),
        "ratio",
        "times",
        shown="two_meanings#what-the-paper-says-and-what-we-measured",
    ),
    Claim(
        "two_meanings.shrinks",
        "Where the plain network learns, BN's lead by the distance falls to less than half of what it was at first.",
        "this book",
        "‖G − G′‖ of BN over plain: the ratio in the last third over that at the first update",
        _shrinking,
        below(0.5),
        "ratio",
        "times",
        shown="two_meanings#both-meanings-the-same-runs",
    ),
    Claim(
        "two_meanings.opposite",
        "The same updates move BN's values less, in standard deviations, and turn its gradients more.",
        "this book",
        "the smaller of two ratios: plain's move of the means from below over BN's, BN's 1 − cosine over plain's",
        _opposite,
        above(1.0),
        "ratio",
        "times",
        shown="two_meanings#do-the-two-definitions-agree",
    ),
    Claim(
        "two_meanings.equal-high-loss",
        "At equal loss, while it is still high, BN's gradients change more.",
        "this book",
        "‖G − G′‖ and 1 − cosine of BN over plain when the loss has come down to 2 nats",
        lambda: _equal_loss({name: NETWORKS[name] for name in COMES_DOWN}, 2.0),
        above(1.0),
        "ratio",
        "times",
        shown="two_meanings#at-equal-steps-or-at-equal-loss",
    ),
    Claim(
        "two_meanings.equal-low-loss",
        "At equal loss, when most is learned, BN's gradients change more.",
        "this book",
        "‖G − G′‖ of BN over plain when the loss has come down to 0.25 nats",
        lambda: {name: experiment.equal_loss_ratios(NETWORKS[name], Quantity.DISTANCE, [0.25]) for name in COMES_DOWN},
        above(1.0),
        "ratio",
        "times",
        stated=Verdict.IN_PART,
        shown="two_meanings#at-equal-steps-or-at-equal-loss",
    ),
    Claim(
        "two_meanings.raw-pixels",
        "Given raw pixels, the ReLU network with five layers answers the other way: at equal loss BN's change less.",
        "this book",
        "‖G − G′‖ and 1 − cosine of BN over plain at 1, 0.5 and 0.25 nats, the geometric mean",
        lambda: _equal_loss({"ReLU, 5 layers, raw": RAW_PIXELS}, 1.0, 0.5, 0.25),
        below(1.0),
        "ratio",
        "times",
        shown="two_meanings#at-equal-steps-or-at-equal-loss",
    ),
    Claim(
        "two_meanings.little-is-not-health",
        "The network with the least gradient shift has learned nothing, while its BN twin learns.",
        "this book",
        "final loss, plain minus BN",
        _asleep,
        above(1.0),
        unit="nats",
        shown="two_meanings#where-it-breaks",
    ),
)
