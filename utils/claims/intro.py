"""The claims of the chapter `intro`."""

from utils.claims import Claim, above, below
from utils.experiments import intro, what_batchnorm_buys

NETS = f"digits, {intro.DEEP.width} ReLU units a layer, He, SGD, {intro.DEEP.steps} steps"

CLAIMS = (
    Claim(
        "intro.rate-too-large-for-plain",
        "Ten layers at the rate 0.3 learn with BN, and without it hardly.",
        "Ioffe & Szegedy 2015, section 3.3: higher learning rates, no number for this",
        f"difference in final test accuracy; {NETS}",
        lambda: {"10 layers, 0.3": intro.lead(10, 0.3)},
        above(0.1),
        unit="of the digits",
        shown="intro#the-effect",
    ),
    Claim(
        "intro.behind-at-a-small-rate",
        "Twenty layers at the rate 0.01: the plain network is ahead for these steps.",
        "this book",
        f"difference of the areas under the training curves, no single look; {NETS}",
        lambda: {"20 layers, 0.01": intro.lead_in_area(20, 0.01)},
        below(0.0),
        unit="area",
        shown="intro#the-effect",
    ),
    Claim(
        "intro.larger-rates",
        "The largest learning rate with nine tenths of the best accuracy is several times larger with BN.",
        "Ioffe & Szegedy 2015, section 3.3; 4.2.2: plain Inception overflows at five times its rate",
        f"ratio of the largest rates that give 0.9 of the best accuracy, grid of factors of about 3; {NETS}",
        lambda: {f"{depth} layers": what_batchnorm_buys.usable_rate_ratio(depth) for depth in intro.DEPTHS},
        above(2.0),
        estimate="median",
        unit="times",
        shown="what_batchnorm_buys#the-range-of-learning-rates",
    ),
    Claim(
        "intro.bn-has-a-limit",
        "At the rate 10, BN fails as well.",
        "this book",
        f"final test accuracy of BN; {NETS}",
        lambda: {
            f"{depth} layers": intro.final_accuracy(intro.deep_runs(depth, intro.RATES[-1])["bn"])
            for depth in intro.DEPTHS
        },
        below(0.5),
        unit="of the digits",
        shown="what_batchnorm_buys#where-it-breaks",
    ),
)
