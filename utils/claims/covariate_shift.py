"""The claims of the chapter `covariate_shift`."""

import numpy as np

from utils.claims import Claim, above, below
from utils.experiments.covariate_shift import SAMPLE_SIZES, detection, joint, weighting
from utils.experiments.test_time_statistics import (
    ARMS,
    SEEDS,
    accuracy_by_batch,
    accuracy_corrupted,
    accuracy_in_light,
    behind_plain,
    left_by_new_statistics,
    lost_in_light,
)

PAGE = "covariate_shift#"
ANEW = ARMS[2]

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "shift.can-raise-accuracy",
        "A covariate shift can raise the accuracy of a classifier.",
        "this book",
        "accuracy of the best classifier of one covariate, after a covariate shift less before it, exact",
        lambda: {f"size {s:g}": [joint("covariate", s).accuracy() - joint().accuracy()] for s in (0.5, 1.0, 1.5)},
        above(0.0),
        "exact",
        shown=PAGE + "three-ways-to-differ",
    ),
    Claim(
        "shift.weights-mend-a-wrong-model",
        "Where a model of the wrong shape meets a large covariate shift, importance weights win back much accuracy.",
        "Shimodaira 2000, with a wrong model and many examples",
        "accuracy of a straight boundary on the test cloud, with the known weights less without, 2,000 points",
        lambda: {f"d = {d:g}": weighting(d, 2000).gain for d in (2.0, 3.0)},
        above(0.1),
        shown=PAGE + "by-hand-importance-weights",
    ),
    Claim(
        "shift.weights-cost-a-right-model",
        "A model that can be right has only the cost of weights: its test loss is higher with them.",
        "Shimodaira 2000, with a right model",
        "log loss of a model that can draw the true curve, at d = 3, with the known weights by that without",
        lambda: {f"{n:,} points": weighting(3.0, n, "true curve").cost for n in SAMPLE_SIZES},
        above(1.0),
        "ratio",
        shown=PAGE + "the-price",
    ),
    Claim(
        "shift.effective-sample-is-too-hopeful",
        "At a large shift the measured effective sample size is more than ten times its limit for many points.",
        "this book",
        "effective sample size over n, by the limit exp(-d²), at d = 3",
        lambda: {f"{n:,} points": weighting(3.0, n).effective["known"] / np.exp(-9) for n in SAMPLE_SIZES},
        above(10.0),
        "ratio",
        shown=PAGE + "the-price",
    ),
    Claim(
        "shift.noticed-with-points",
        "The same shift goes unnoticed with few points and is noticed with many.",
        "Lopez-Paz & Oquab 2017, classifier two-sample tests",
        "tests at the level 0.05 that notice half a standard deviation: with 500 points a side less with 20",
        lambda: {"d = 0.5": 1.0 * detection(0.5, 500).detected - detection(0.5, 20).detected},
        above(0.5),
        shown=PAGE + "notice-it",
    ),
    Claim(
        "shift.stale-statistics",
        "In a light that training never saw, BN with the statistics of training loses accuracy.",
        "Schneider et al. 2020, ImageNet-C",
        "test accuracy of BN on digits in the usual light less in another",
        lambda: lost_in_light("bn"),
        above(0.1),
        shown=PAGE + "images-in-another-light",
    ),
    Claim(
        "shift.bn-loses-more-than-plain",
        "Over four changes of light, BN with the statistics of training does worse than a network without BN.",
        "this book",
        "test accuracy of plain less that of BN, the mean over the lights; on standardised inputs with twice the seeds",
        lambda: {"standardized inputs": behind_plain(seeds=2 * SEEDS), "raw inputs": behind_plain("raw")},
        above(0.0),
        shown=PAGE + "images-in-another-light",
    ),
    Claim(
        "shift.standardised-inputs-are-fragile",
        "Networks on standardised pixels bear a brighter light worse than networks on raw ones.",
        "this book",
        "test accuracy at brightness +0.25, trained on raw pixels less on standardised ones",
        lambda: {
            arm: accuracy_in_light(0.25, inputs="raw")[arm] - accuracy_in_light(0.25)[arm] for arm in ("plain", "bn")
        },
        above(0.1),
        shown=PAGE + "images-in-another-light",
    ),
    Claim(
        "shift.new-statistics-undo-light",
        "Statistics taken anew undo a change of brightness or contrast: BN's in its layers, a plain network's of its "
        "inputs.",
        "Li et al. 2016, AdaBN; Schneider et al. 2020",
        "test accuracy in the usual light against another, the difference's size",
        left_by_new_statistics,
        below(0.01),
        shown=PAGE + "why-the-third-row-does-not-move",
    ),
    Claim(
        "shift.blur-and-noise-stay",
        "Statistics taken anew do not undo what is no scale and shift: blur, or noise on every pixel.",
        "this book",
        "test accuracy of re-estimated BN on digits as they are less that on corrupted ones",
        lambda: {kind: accuracy_in_light()[ANEW] - accuracy_corrupted(kind)[ANEW] for kind in ("blurred", "noise")},
        above(0.05),
        shown=PAGE + "where-it-breaks",
    ),
    Claim(
        "shift.one-class-ruins-it",
        "A batch of one class, normalised by its own statistics, is classified about as well as by guessing.",
        "Nado et al. 2020: prediction-time BN does less well under other shifts",
        "accuracy with the statistics of the batch, all its digits of one class, usual light",
        lambda: {f"{size} images": accuracy_by_batch(size, classes=1) for size in (4, 32)},
        below(0.2),
        shown=PAGE + "where-it-breaks",
    ),
)
