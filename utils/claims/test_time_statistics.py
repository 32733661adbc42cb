"""The claims of the page `test_time_statistics`."""

from utils.claims import Claim, Rule, above, below
from utils.experiments.test_time_statistics import (
    ARMS,
    SEEDS,
    accuracy_by_batch,
    accuracy_corrupted,
    accuracy_in_light,
    adapted,
    behind_plain,
    left_by_new_statistics,
    lost_in_light,
)

PAGE = "test_time_statistics#"
ANEW = ARMS[2]

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "light.stale-statistics",
        "In a light that training never saw, BN with the statistics of training loses accuracy.",
        "Schneider et al. 2020, ImageNet-C",
        "test accuracy of BN on digits in the usual light less in another",
        lambda: lost_in_light("bn"),
        above(0.1),
        shown=PAGE + "images-in-another-light",
    ),
    Claim(
        "light.bn-loses-more-than-plain",
        "Over four changes of light, BN with the statistics of training does worse than a network without BN.",
        "this book",
        "test accuracy of plain less that of BN, the mean over the lights; on standardised inputs with twice the seeds",
        lambda: {"standardized inputs": behind_plain(seeds=2 * SEEDS), "raw inputs": behind_plain("raw")},
        above(0.0),
        shown=PAGE + "images-in-another-light",
    ),
    Claim(
        "light.standardised-inputs-are-fragile",
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
        "light.new-statistics-undo-light",
        "Statistics taken anew undo a change of brightness or contrast: BN's in its layers, a plain network's of its "
        "inputs.",
        "Li et al. 2016, AdaBN; Schneider et al. 2020",
        "test accuracy in the usual light against another, the difference's size",
        left_by_new_statistics,
        below(0.01),
        shown=PAGE + "why-the-third-row-does-not-move",
    ),
    Claim(
        "light.blur-and-noise-stay",
        "Statistics taken anew do not undo what is no scale and shift: blur, or noise on every pixel.",
        "this book",
        "test accuracy of re-estimated BN on digits as they are less that on corrupted ones",
        lambda: {kind: accuracy_in_light()[ANEW] - accuracy_corrupted(kind)[ANEW] for kind in ("blurred", "noise")},
        above(0.05),
        shown=PAGE + "changes-that-are-no-scale-and-shift",
    ),
    Claim(
        "light.one-class-ruins-it",
        "A batch of one class, normalised by its own statistics, is classified about as well as by guessing.",
        "Nado et al. 2020: prediction-time BN does less well under other shifts",
        "accuracy with the statistics of the batch, all its digits of one class, usual light",
        lambda: {f"{size} images": accuracy_by_batch(size, classes=1) for size in (4, 32)},
        below(0.2),
        shown=PAGE + "statistics-of-the-wrong-company",
    ),
    Claim(
        "light.entropy-helps-with-blur",
        "Minimising the entropy of the answers adds to new statistics on blurred images, at small rates.",
        "Wang et al. 2021 (TENT): lower error on corrupted images than with new statistics alone",
        "points of accuracy that 45 steps on gamma and beta add, batches of 60 test digits",
        lambda: {f"rate {rate:g}": adapted("60, mixed", rate)["blurred"].points for rate in (0.001, 0.01)},
        above(0.0),
        unit="points",
        shown=PAGE + "one-step-further-entropy",
    ),
    Claim(
        "light.entropy-is-idle-in-another-light",
        "In another light, which new statistics undo, it changes less than a point at small rates.",
        "this book",
        "points of accuracy that 45 steps on gamma and beta add, batches of 60 brighter test digits",
        lambda: {f"rate {rate:g}": adapted("60, mixed", rate)["brighter"].points for rate in (0.001, 0.01)},
        Rule(-1.0, 1.0),
        unit="points",
        shown=PAGE + "one-step-further-entropy",
    ),
    Claim(
        "light.entropy-does-not-help-with-noise",
        "Against noise on every pixel it adds less than two points.",
        "this book",
        "points of accuracy that 45 steps on gamma and beta add, batches of 60 noisy test digits",
        lambda: {f"rate {rate:g}": adapted("60, mixed", rate)["noise"].points for rate in (0.001, 0.01)},
        below(2.0),
        unit="points",
        shown=PAGE + "one-step-further-entropy",
    ),
    Claim(
        "light.entropy-wrecks-small-batches",
        "With batches of eight and a large rate it costs the network many of its right answers.",
        "Niu et al. 2023 (SAR): BN makes test-time adaptation unstable, small batches among the cases",
        "points of accuracy that 45 steps at the rate 0.1 add",
        lambda: {kind: each.points for kind, each in adapted("8, mixed", 0.1).items()},
        below(-5.0),
        unit="points",
        shown=PAGE + "one-step-further-entropy",
    ),
)
