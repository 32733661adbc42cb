"""The claims of the chapter "Internal covariate shift"."""

from utils.claims import Claim, Verdict, above, below
from utils.experiments import internal_covariate_shift as experiment

PAGE = "internal_covariate_shift"
DEPTH = f"{PAGE}_in_depth"
FIGURE_1 = "three layers of 100 sigmoids on 8x8 digits, standardised"

CLAIMS = [
    Claim(
        "ics.mostly-its-own",
        "In our copy of the paper's network, less than half of the drift of the last layer's Wu + b comes from the "
        "layers below; the rest is the layer's own doing.",
        "this book",
        f"rms of what the layers below displace, by the first weights, over the rms of the drift, {FIGURE_1}, plain",
        lambda: {"last layer": experiment.share_from_below(experiment.watch_arms(experiment.FIGURE_1)["plain"])},
        below(0.5),
        unit="share",
        shown=f"{PAGE}#check",
    ),
    Claim(
        "ics.amplified-with-depth",
        "Small changes to the parameters are amplified as the network becomes deeper.",
        "Ioffe & Szegedy 2015, section 1",
        "drift of Wu + b at the end, last hidden layer over first, plain networks, in three yardsticks",
        experiment.depth_ratios,
        above(1.0),
        "ratio",
        unit="times",
        stated=Verdict.IN_PART,
        shown=f"{DEPTH}#does-drift-grow-with-depth",
    ),
    Claim(
        "ics.last-layer-drifts-less",
        "In the last hidden layer, before BN's own work, a network with BN drifts less, in every yardstick.",
        "this book",
        "drift of Wu + b at the end, plain over BN, six networks and three yardsticks",
        experiment.last_layer_ratios,
        above(1.5),
        "ratio",
        unit="times",
        shown=f"{DEPTH}#does-drift-grow-with-depth",
    ),
    Claim(
        "ics.smaller-moves",
        "One update, or thirty, move the means of the last layer several times as far without BN as with it.",
        "this book",
        f"rms displacement of the last layer's means from update 300 on, plain over BN, {FIGURE_1}",
        experiment.update_ratios,
        above(2.0),
        "ratio",
        unit="times",
        shown=f"{PAGE}#by-hand-drift-and-chance",
    ),
    Claim(
        "ics.stable-inputs",
        "With BN the inputs of a typical sigmoid of the last hidden layer are much more stable during training.",
        "Ioffe & Szegedy 2015, section 4.1, Figure 1b and c: MNIST, three layers of 100 sigmoids",
        "standard deviation over training of a unit's median input, mean over units, plain over BN",
        experiment.wandering_ratios,
        above(3.0),
        "ratio",
        unit="times",
        shown=f"{PAGE}#the-first-figure-of-the-paper",
    ),
    Claim(
        "ics.by-construction",
        "What BN hands to the nonlinearity has mean β and standard deviation |γ| on any batch.",
        "this book",
        "largest difference of a mean to β and of a standard deviation to |γ|, all units, after 100 updates",
        experiment.construction_errors,
        below(0.02),
        "exact",
        shown=f"{PAGE}#where-it-breaks",
    ),
    Claim(
        "ics.stuck-in-saturation",
        "Updates move many inputs of the sigmoids into their saturated regime, and so slow training down: while a "
        "network only guesses, some of them are there.",
        "Ioffe & Szegedy 2015, section 1",
        "share of sigmoid inputs beyond ±4 in the layer that has most, while test accuracy is below 20 %",
        experiment.saturated_while_guessing,
        above(0.01),
        unit="share",
        stated=Verdict.CONTRADICTED,
        shown=f"{DEPTH}#where-it-breaks",
    ),
    Claim(
        "ics.little-drift-is-not-health",
        "A plain network can drift less than half as far as one with BN, and learn nothing.",
        "this book",
        "drift of Wu + b as it is: plain at rate 0.001 over BN after 50 updates, and layer 1 of five over BN's",
        experiment.stillness_ratios,
        below(0.5),
        "ratio",
        unit="times",
        shown=f"{DEPTH}#where-it-breaks",
    ),
]
