"""The claims of the chapter `smoothness`."""

from collections.abc import Callable

import numpy as np

from utils.claims import Claim, Rule, Verdict, above, below
from utils.experiments import smoothness as experiment
from utils.experiments.smoothness import (
    DEEP,
    EARLY,
    FAST,
    FIRST,
    GOOD,
    LATE,
    NETWORKS,
    RELATIVES,
    START,
    Quantity,
    Rate,
    final_loss_ratios,
    ratios,
    ratios_at_loss,
)

PAPER = "Santurkar et al. 2018, section 3.1, figure 4 (a VGG on CIFAR-10)"
OWN = "each arm along its own step, at its own rate, chosen on images set aside"
SECOND_HALF = "plain over BN along the gradient, the median over the second half of training: "


def _everywhere(quantity: Quantity, part: tuple[float, float] = LATE) -> Callable[[], dict[str, np.ndarray]]:
    return lambda: {name: ratios(name, quantity, part) for name in NETWORKS}


DIVERGED = 1e6  # what counts for the infinite ratio of a run that diverged


def _at_own_rates(*networks: str) -> dict[str, np.ndarray]:
    found = {}
    for name in networks:
        for rate in (Rate.BEST, Rate.LARGEST):
            found[f"{name}, {rate}"] = np.minimum(ratios(name, Quantity.GRADIENT, rate=rate), DIVERGED)
    return found


def _loss_at_largest_over_equal() -> dict[str, np.ndarray]:
    largest, equal = (ratios(DEEP, Quantity.LOSS, rate=rate) for rate in (Rate.LARGEST, Rate.EQUAL))
    return {DEEP: largest / equal}


def _at_equal_loss() -> dict[str, np.ndarray]:
    return {f"{name}, {rate}": ratios_at_loss(name, Quantity.GRADIENT, rate) for name in NETWORKS for rate in Rate}


def _at_start() -> dict[str, np.ndarray]:
    quantities = list(Quantity)[:3]
    return {f"{name}, {quantity}": ratios(name, quantity, START) for name in (FIRST, DEEP) for quantity in quantities}


def _faster() -> dict[str, np.ndarray]:
    return {name: ratios(name, Quantity.LOSS, arm=FAST, over="plain") for name in (FIRST, DEEP)}


def _as_narrow_but_behind() -> dict[str, np.ndarray]:
    return {
        "BN's change of gradient over plain's": ratios(FIRST, Quantity.GRADIENT, arm="bn", over=FAST),
        "plain's final loss over BN's": final_loss_ratios(FIRST, FAST),
    }


def _edge() -> dict[str, np.ndarray]:
    found = {}
    for lr in experiment.EDGE_RATES:
        plain, bn = (experiment.at_the_end(arm, lr)["sharpness"] for arm in experiment.ARMS)
        found[f"rate {lr:g}"] = plain / bn
    return found


def _relatives() -> dict[str, np.ndarray]:
    quantities = (Quantity.LOSS, Quantity.GRADIENT)
    return {f"{arm}, {quantity}": ratios(FIRST, quantity, over=arm) for arm in RELATIVES for quantity in quantities}


def _narrowest_is_worse() -> dict[str, np.ndarray]:
    return {
        "BN's change of gradient over l∞'s": ratios(FIRST, Quantity.GRADIENT, over="linf", arm="bn"),
        "l∞'s final loss over BN's": final_loss_ratios(FIRST, "linf"),
    }


def _equal_training() -> dict[str, np.ndarray]:
    return {arm: final_loss_ratios(FIRST, arm) for arm in ("l1", "l2")}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "smoothness.loss",
        "At the same rate the loss along the gradient varies less with BN.",
        f"{PAPER}, 4a",
        SECOND_HALF + "highest minus lowest loss",
        _everywhere(Quantity.LOSS),
        above(1.0),
        "ratio",
        "times",
        stated=Verdict.IN_PART,
        shown="smoothness#the-bands",
    ),
    Claim(
        "smoothness.gradient",
        "At the same rate the gradient changes less along it with BN.",
        f"{PAPER}, 4b",
        SECOND_HALF + "the largest change of the gradient",
        _everywhere(Quantity.GRADIENT),
        above(1.0),
        "ratio",
        "times",
        shown="smoothness#the-bands",
    ),
    Claim(
        "smoothness.two-orders",
        "Early in training the gradient changes less with BN, by close to two orders of magnitude.",
        f"{PAPER}, 4b",
        "plain over BN, the largest change of the gradient along it, the median over the first fifth of training",
        _everywhere(Quantity.GRADIENT, EARLY),
        above(30.0),
        "ratio",
        "times",
        stated=Verdict.CONTRADICTED,
        shown="smoothness_in_depth#before-it-learns-the-plain-network-is-flatter",
    ),
    Claim(
        "smoothness.beta",
        "The paper's effective beta-smoothness, the largest over the lengths, differs by less than a factor of two.",
        f"{PAPER}, 4c, which says that BN's is smaller",
        SECOND_HALF + "the largest change of the gradient over the distance",
        _everywhere(Quantity.BETA),
        Rule(0.5, 2.0),
        "ratio",
        "times",
        shown="smoothness#the-bands",
    ),
    Claim(
        "smoothness.beta-far",
        "At four times the step of training, the gradient changes less for each unit of distance with BN.",
        "this book",
        SECOND_HALF + "the change of the gradient over the distance at the longest length",
        _everywhere(Quantity.FAR),
        above(1.0),
        "ratio",
        "times",
        shown="smoothness_in_depth#the-factors",
    ),
    Claim(
        "smoothness.own-rates",
        "So it does with each arm at its best rate, and at its largest usable one, in the two networks from Glorot's "
        "start.",
        "this book",
        SECOND_HALF + f"the largest change of the gradient; {OWN}",
        lambda: _at_own_rates(FIRST, DEEP),
        above(1.0),
        "median",
        "times",
        shown="smoothness#a-band-belongs-to-a-rate",
    ),
    Claim(
        "smoothness.own-rates-shallow",
        "In the shallow network from He's start, at such rates, it is the other way round.",
        "this book",
        SECOND_HALF + f"the largest change of the gradient; {OWN}",
        lambda: _at_own_rates(GOOD),
        below(1.0),
        "median",
        "times",
        shown="smoothness#a-band-belongs-to-a-rate",
    ),
    Claim(
        "smoothness.loss-at-own-rates",
        "With ten layers the factor of the loss is less than half as large with each arm at its largest usable rate as "
        "with one rate for both.",
        "this book",
        f"plain over BN, highest minus lowest loss, second half: that ratio there over that at equal rates; {OWN}",
        _loss_at_largest_over_equal,
        below(0.5),
        "median",
        "times",
        shown="smoothness#a-band-belongs-to-a-rate",
    ),
    Claim(
        "smoothness.equal-loss",
        "Where the two have the same loss, the gradient changes less along the step with BN, in all three networks: at "
        "equal rates, at each arm's best, and at each arm's largest usable one.",
        "this book",
        f"plain over BN, the median of the three moments nearest to a loss that both reach: the gradient's largest "
        f"change; {OWN}, or at one rate for both",
        _at_equal_loss,
        above(1.0),
        "median",
        "times",
        shown="smoothness#a-band-belongs-to-a-rate",
    ),
    Claim(
        "smoothness.equal-loss-far",
        "And at equal rates it changes less there for each unit of distance, at four times the step.",
        "this book",
        "the same moments: the change of the gradient over the distance at the longest length",
        lambda: {name: ratios_at_loss(name, Quantity.FAR) for name in NETWORKS},
        above(1.0),
        "ratio",
        "times",
        shown="smoothness_in_depth#at-the-same-loss",
    ),
    Claim(
        "smoothness.flat-at-first",
        "Before the first update the plain network from Glorot's start is the flatter one, by half or more.",
        "this book",
        "plain over BN before the first update: range of the loss, change of the gradient, effective beta",
        _at_start,
        below(0.5),
        "ratio",
        "times",
        shown="smoothness_in_depth#before-it-learns-the-plain-network-is-flatter",
    ),
    Claim(
        "smoothness.rate",
        "The plain network's band of the loss is less than half as wide after training at four times the rate.",
        "this book",
        "trained at four times the rate over trained at its own, probed at the same places, second half",
        _faster,
        below(0.5),
        "median",
        "times",
        shown="smoothness_in_depth#the-same-places-another-rate",
    ),
    Claim(
        "smoothness.narrow-and-behind",
        "So trained, the first network has a narrower band of the gradient than BN has, and a higher training loss.",
        "this book",
        "its final training loss over BN's; BN's largest change of the gradient over its own, second half",
        _as_narrow_but_behind,
        above(1.0),
        "median",
        "times",
        shown="smoothness_in_depth#the-same-places-another-rate",
    ),
    Claim(
        "smoothness.edge",
        "At one and the same rate BN ends where the largest curvature is lower.",
        "this book",
        "largest eigenvalue of the Hessian after 200 full-batch steps, plain over BN; four ReLU layers, Fashion-MNIST",
        _edge,
        above(1.2),
        "ratio",
        "times",
        shown="smoothness_in_depth#the-same-places-another-rate",
    ),
    Claim(
        "smoothness.relatives",
        "Dividing by an l1, l2 or l∞ norm, or adding noise to BN, gives narrow bands, too.",
        "Santurkar et al. 2018, section 3.3",
        SECOND_HALF.replace("BN", "each relative") + "range of the loss and largest change of the gradient",
        _relatives,
        above(1.5),
        "ratio",
        "times",
        shown="smoothness_in_depth#any-normalisation-does-it",
    ),
    Claim(
        "smoothness.lp-trains-like-bn",
        "With the l1 and the l2 norm the network trains as with BN, to a tenth of the final loss.",
        "Santurkar et al. 2018, section 3.3",
        "the mean loss of the last 20 mini-batches over BN's",
        _equal_training,
        Rule(0.9, 1.1),
        "ratio",
        "times",
        shown="smoothness_in_depth#any-normalisation-does-it",
    ),
    Claim(
        "smoothness.narrowest-is-not-best",
        "With the l∞ norm the gradient changes less along it than with BN, and training is worse.",
        "this book",
        "BN's largest change of the gradient over l∞'s, second half; l∞'s final training loss over BN's",
        _narrowest_is_worse,
        above(1.0),
        "ratio",
        "times",
        shown="smoothness_in_depth#any-normalisation-does-it",
    ),
    Claim(
        "smoothness.coordinates",
        "Weights three times as long before BN: the same function, and less than half of the effective beta.",
        "this book",
        "effective beta after over before, the first network with BN, untrained",
        lambda: {FIRST: experiment.rescaled_betas()},
        below(0.5),
        "ratio",
        "times",
        shown="smoothness_in_depth#the-picture-that-you-know",
    ),
)
