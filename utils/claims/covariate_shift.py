"""The claims of the chapter `covariate_shift`."""

import numpy as np

from utils.claims import Claim, above
from utils.experiments.covariate_shift import SAMPLE_SIZES, detection, joint, weighting

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "shift.can-raise-accuracy",
        "A covariate shift can raise the accuracy of a classifier.",
        "this book",
        "accuracy of the best classifier of one covariate, after a covariate shift less before it, exact",
        lambda: {f"size {s:g}": [joint("covariate", s).accuracy() - joint().accuracy()] for s in (0.5, 1.0, 1.5)},
        above(0.0),
        "exact",
        shown="covariate_shift#three-ways-to-differ",
    ),
    Claim(
        "shift.weights-mend-a-wrong-model",
        "Where a model of the wrong shape meets a large covariate shift, importance weights win back much accuracy.",
        "Shimodaira 2000, with a wrong model and many examples",
        "accuracy of a straight boundary on the test cloud, with the known weights less without, 2,000 points",
        lambda: {f"d = {d:g}": weighting(d, 2000).gain for d in (2.0, 3.0)},
        above(0.1),
        shown="covariate_shift#by-hand-importance-weights",
    ),
    Claim(
        "shift.weights-cost-a-right-model",
        "A model that can be right has only the cost of weights: its test loss is higher with them.",
        "Shimodaira 2000, with a right model",
        "log loss of a model that can draw the true curve, at d = 3, with the known weights by that without",
        lambda: {f"{n:,} points": weighting(3.0, n, "true curve").cost for n in SAMPLE_SIZES},
        above(1.0),
        "ratio",
        shown="covariate_shift_in_depth#the-price",
    ),
    Claim(
        "shift.effective-sample-is-too-hopeful",
        "At a large shift the measured effective sample size is more than ten times its limit for many points.",
        "this book",
        "effective sample size over n, by the limit exp(-d²), at d = 3",
        lambda: {f"{n:,} points": weighting(3.0, n).effective["known"] / np.exp(-9) for n in SAMPLE_SIZES},
        above(10.0),
        "ratio",
        shown="covariate_shift_in_depth#the-price",
    ),
    Claim(
        "shift.noticed-with-points",
        "The same shift goes unnoticed with few points and is noticed with many.",
        "Lopez-Paz & Oquab 2017, classifier two-sample tests",
        "tests at the level 0.05 that notice half a standard deviation: with 500 points a side less with 20",
        lambda: {"d = 0.5": 1.0 * detection(0.5, 500).detected - detection(0.5, 20).detected},
        above(0.5),
        shown="covariate_shift_in_depth#notice-it",
    ),
)
