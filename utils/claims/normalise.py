"""The claims of the chapter `normalise`."""

from utils.claims import Claim, Rule, above, below
from utils.experiments import normalise as experiment

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "normalise.invariance",
        "Normalised values do not notice a unit's shift and positive scale, nor its weights' length and bias.",
        "Ioffe & Szegedy 2015, section 3.3: BN(Wu) = BN((aW)u); section 3.2: the bias can be ignored",
        "largest change of a normalised value, eps = 0, float64, trained ReLU networks",
        experiment.invariance_errors,
        below(1e-9),
        estimate="exact",
        shown="normalise#what-normalising-throws-away",
    ),
    Claim(
        "normalise.pair",
        "In a batch of two every value becomes +1 or -1.",
        "this book",
        "largest distance of the size of a normalised value from 1",
        lambda: {"two images": experiment.largest_off_one()},
        below(1e-9),
        estimate="exact",
        shown="normalise#a-batch-is-a-guess",
    ),
    Claim(
        "normalise.root-m",
        "The mean of a random batch strays from that of all data by about one over the root of its size.",
        "Ioffe & Szegedy 2015, section 3: mini-batches give estimates of mean and variance",
        "distance of batch means times sqrt(m), in standard deviations, for eight batch sizes from 2 to 256",
        experiment.noise_of_the_mean,
        Rule(0.8, 1.25),
        estimate="ratio",
        shown="normalise#a-batch-is-a-guess",
    ),
    Claim(
        "normalise.shared-is-invisible",
        "What a whole batch shares is gone when it is normalised by itself.",
        "this book",
        "of 60 zeros, how far they are from mean 0: by themselves, over by all images",
        lambda: {"60 zeros": experiment.shared_part()["among themselves"] / experiment.shared_part()["by all images"]},
        below(1e-6),
        estimate="exact",
        shown="normalise#where-it-breaks",
    ),
    Claim(
        "normalise.symmetric",
        "Wu + b is more symmetric than what leaves a ReLU.",
        "Ioffe & Szegedy 2015, section 3.2: Wu + b is more likely to have a symmetric, non-sparse distribution",
        "skewness of the median unit after the ReLU over that before it, second layer, trained",
        lambda: {"second layer": experiment.skewness_after_relu()},
        above(2.0),
        estimate="ratio",
        unit="times",
        shown="normalise#where-it-stands",
    ),
)
