"""The claims of the chapter `relatives`."""

import numpy as np

from utils.claims import Claim, Rule, above, below
from utils.experiments import relatives as experiment
from utils.experiments.relatives import BLOCKS, DEEP, NO_BLOCKS, SHALLOW, TANH, TINY

ZERO = "bn, zero gamma"


def _large_rates() -> dict[str, np.ndarray]:
    """How much larger BN's area is than a relative's in ten ReLU layers."""
    return {
        f"{arm} norm, {rate}": lead
        for arm in ("layer", "group", "rms")
        for rate, lead in experiment.leads(DEEP, "bn", arm, (0.3, 1.0)).items()
    }


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "relatives.axes",
        "Batch, layer, group, instance and RMS norm are one line with other axes.",
        "Wu & He 2018, section 3.1; Zhang & Sennrich 2019",
        "largest difference between one function with five sets of axes and torch's five, float64",
        experiment.axes_errors,
        below(1e-9),
        estimate="exact",
        shown="relatives#check",
    ),
    Claim(
        "relatives.no-company",
        "With all but batch norm an image's output depends on neither its company nor the mode.",
        "Ba, Kiros & Hinton 2016, abstract: it computes alike in training and in use",
        "largest change of an image's output with other company, and alone in evaluation, float64",
        lambda: {norm: each for norm, each in experiment.company_changes().items() if norm != "bn"},
        below(1e-9),
        estimate="exact",
        shown="relatives#what-they-do-not-need",
    ),
    Claim(
        "relatives.large-rates",
        "In ten ReLU layers no norm over a single example opens the large rates that BN opens.",
        "this book",
        "area under the training curve of BN less that of the relative, at equal rates",
        _large_rates,
        above(0.15),
        shown="relatives#a-race",
    ),
    Claim(
        "relatives.small-rate",
        "At the smallest rate layer norm is ahead of BN in ten ReLU layers.",
        "this book",
        "area under the training curve of layer norm less BN's, rate 0.03",
        lambda: experiment.leads(DEEP, "layer", "bn", (0.03,)),
        above(0.03),
        shown="relatives#a-race",
    ),
    Claim(
        "relatives.tanh",
        "In ten tanh layers layer norm and BN train about alike, up to the rate 0.3.",
        "this book",
        "area under the training curve of BN less layer norm's, at equal rates",
        lambda: experiment.leads(TANH, "bn", "layer", (0.1, 0.3)),
        Rule(-0.1, 0.1),
        shown="relatives#a-race",
    ),
    Claim(
        "relatives.tiny-batches",
        "With batches of four, layer, group and RMS norm are far ahead of BN.",
        "Wu & He 2018, section 4.1: BN's error increases as its batch becomes smaller, group norm's does not",
        "area under the training curve less BN's, each at its best rate, three ReLU layers",
        lambda: {arm: experiment.best_lead(TINY, arm, "bn") for arm in ("layer", "group", "rms")},
        above(0.15),
        shown="relatives#a-race",
    ),
    Claim(
        "relatives.dyt-fails",
        "DyT as it is does not train ten ReLU layers, at any rate tried.",
        "this book",
        "area under the training curve at each seed's best rate; guessing is 0.1",
        lambda: {DEEP: experiment.best_of(DEEP, "dyt")},
        below(0.2),
        shown="relatives#a-race",
    ),
    Claim(
        "relatives.dyt-behind",
        "In three ReLU layers DyT is behind the plain network.",
        "this book",
        "area under the training curve of DyT less the plain network's, each at its best rate",
        lambda: {SHALLOW: experiment.best_lead(SHALLOW, "dyt", "plain")},
        below(-0.03),
        shown="relatives#a-race",
    ),
    Claim(
        "relatives.dyt-longer-weights",
        "With first weights twice as long DyT begins to train ten ReLU layers.",
        "this book",
        "area under the training curve, rate 0.1; guessing is 0.1",
        lambda: {DEEP: experiment.rescued()},
        above(0.2),
        shown="relatives#exercises",
    ),
    Claim(
        "relatives.stream-plain",
        "Without a norm the variance grows exponentially over residual blocks.",
        "De & Smith 2020, section 3",
        f"variance behind {BLOCKS} blocks over that before them, before training",
        lambda: {"plain": experiment.growth("plain")},
        above(1000.0),
        estimate="ratio",
        unit="times",
        shown="relatives#skip-connections",
    ),
    Claim(
        "relatives.stream-bn",
        "With BN the variance grows by about the same amount with every block.",
        "De & Smith 2020, section 3",
        "variance that a block adds, before training, mean of the first and of the second half of the blocks",
        lambda: experiment.increments("bn"),
        Rule(0.75, 1.25),
        shown="relatives#skip-connections",
    ),
    Claim(
        "relatives.plain-skips-lost",
        "Twenty blocks with skip connections and no norm do not train, at any rate tried.",
        "this book",
        "the largest area under the training curve at any rate; guessing is 0.1",
        lambda: {"plain": experiment.skip_race()["plain"].max(0)},
        below(0.2),
        shown="relatives#skip-connections",
    ),
    Claim(
        "relatives.zero-gamma-large",
        "At a large rate the last γ = 0 trains better than γ = 1.",
        "Goyal et al. 2017, section 5.1: γ = 0 in each block's last BN improves optimisation at the start",
        "area under the training curve, γ = 0 less γ = 1, twenty blocks, rate 0.3",
        lambda: {"rate 0.3": experiment.skip_lead(ZERO, "bn", 0.3)},
        above(0.05),
        shown="relatives#skip-connections",
    ),
    Claim(
        "relatives.zero-gamma-small",
        "At small rates the last γ = 0 trains more slowly than γ = 1.",
        "this book",
        "area under the training curve, γ = 0 less γ = 1, twenty blocks",
        lambda: {f"rate {rate:g}": experiment.skip_lead(ZERO, "bn", rate) for rate in (0.01, 0.03)},
        below(-0.05),
        shown="relatives#skip-connections",
    ),
    Claim(
        "relatives.zero-gamma-linear",
        "On these digits, in these few steps, twenty blocks that begin as the identity do about as well as no blocks.",
        "this book",
        "area under the training curve, γ = 0 less a linear classifier",
        lambda: {f"rate {rate:g}": experiment.skip_lead(ZERO, NO_BLOCKS, rate) for rate in (0.1, 0.3)},
        Rule(-0.1, 0.1),
        shown="relatives#skip-connections",
    ),
)
