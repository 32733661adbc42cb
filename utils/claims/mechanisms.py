"""The claims of the page `mechanisms`."""

from utils.claims import Claim, Rule, above, below
from utils.experiments import mechanisms as experiment
from utils.experiments.mechanisms import DECAY_RATES, OFFSETS, PRODUCTS, RATE

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "mechanisms.rank-collapse",
        "In a deep random ReLU network all images end up in nearly one direction, with layer norm as well.",
        "Daneshmand et al. 2020, abstract: the rank of the representation collapses with depth",
        "effective rank of 60 digits behind 50 random ReLU layers of 64",
        lambda: {norm: experiment.by_depth(norm).rank[:, -1] for norm in ("plain", "layer")},
        below(2.0),
        unit="directions",
        shown="mechanisms#everything-in-one-direction",
    ),
    Claim(
        "mechanisms.rank-kept",
        "With BN they keep about as many directions as behind the first layer.",
        "Daneshmand et al. 2020, abstract: BN avoids the collapse",
        "effective rank behind the last of 50 random ReLU layers over that behind the first",
        lambda: {"bn": (found := experiment.by_depth("bn").rank)[:, -1] / found[:, 0]},
        above(0.8),
        "ratio",
        unit="times",
        shown="mechanisms#everything-in-one-direction",
    ),
    Claim(
        "mechanisms.explosion",
        "At the start BN makes the gradient grow at each ReLU layer, close to what theory says.",
        "Yang et al. 2019, abstract: gradient explosion at initialisation with BN; rate pi / (pi - 1) of the square",
        f"growth of the gradient at one layer over the theory's {RATE:.3f}, 30 layers of 96, batches of 128",
        lambda: {"bn": experiment.growth("bn") / RATE},
        Rule(0.95, 1.05),
        "ratio",
        unit="times",
        shown="mechanisms#gradients-that-grow",
    ),
    Claim(
        "mechanisms.skips",
        "Skip connections make the growth much slower.",
        "Yang et al. 2019, abstract: it can be avoided with skip connections",
        "growth of the gradient over 25 layers, with BN alone over BN in residual blocks",
        lambda: {"25 layers": (experiment.growth("bn") / experiment.growth("bn, skips")) ** 25},
        above(3.0),
        "ratio",
        unit="times",
        shown="mechanisms#gradients-that-grow",
    ),
    Claim(
        "mechanisms.boundaries",
        "BN puts the bend of every ReLU unit through the data; without it, data off the centre are missed by many.",
        "Balestriero & Baraniuk 2022, abstract: BN moves the boundaries onto the data, before any learning",
        "share of 50 units whose boundary cuts two moons, BN minus plain",
        lambda: {
            f"offset {each:g}": experiment.cut_shares("bn", each) - experiment.cut_shares("plain", each)
            for each in OFFSETS[1:]
        },
        above(0.1),
        unit="of the units",
        shown="mechanisms#bends-where-the-data-are",
    ),
    Claim(
        "mechanisms.no-saturation",
        "With Glorot's start hardly a sigmoid saturates, with BN or without.",
        "Ioffe & Szegedy 2015, section 1: drift pushes inputs into the saturated regime",
        "largest share of inputs beyond 4 in size at any look, mean over five layers",
        lambda: {
            norm: [run.flat.mean(1).max() for run in experiment.saturation(norm, "Glorot's start")]
            for norm in ("plain", "bn")
        },
        below(0.05),
        unit="of the inputs",
        shown="mechanisms#saturation",
    ),
    Claim(
        "mechanisms.saturation",
        "From a larger start the plain network's sigmoids begin much flatter than BN's.",
        "Ioffe & Szegedy 2015, section 1: with BN the optimiser is less likely to get stuck in the saturated regime",
        "mean slope of all sigmoids before training, BN minus plain, weights N(0, 0.5)",
        lambda: {
            "N(0, 0.5)": experiment.early_slopes("bn", "a larger start")
            - experiment.early_slopes("plain", "a larger start")
        },
        above(0.1),
        unit="of the largest slope",
        shown="mechanisms#saturation",
    ),
    Claim(
        "mechanisms.turn",
        "With BN and weight decay the turn of a step is set by rate times decay, whichever of the two is large.",
        "van Laarhoven 2017; Wan et al. 2021: an equilibrium of the turn, set by rate and decay",
        "turn of the second layer's weights over the root of 2 * rate * decay, last 50 of 600 updates; three layers",
        lambda: {
            f"rate {lr:g}, product {product:g}": experiment.last_turn(lr, product)
            for product in PRODUCTS
            for lr in DECAY_RATES
        },
        Rule(0.8, 1.2),
        "ratio",
        unit="times",
        shown="mechanisms#the-effective-rate",
    ),
)
