"""The claims of the chapter `evaluation`."""

from utils.claims import Claim, Rule, above, below
from utils.experiments import evaluation as experiment
from utils.experiments.evaluation import FOLDED, TESTS

RUNNING, JUMPS, RECIPE, FOLDING = (
    f"evaluation#{section}"
    for section in ("running-statistics", "a-validation-loss-that-jumps", "a-recipe", "folding-a-layer-away")
)


def _gain(patient: str, better: str, than: str) -> dict:
    tests = experiment.examined(patient)
    return {f"patient {patient}": tests[better] - tests[than]}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "evaluation.lag",
        "A small momentum lags behind a network that is learning.",
        "this book",
        "error of the running mean with momentum 0.01 over that with 0.1, BN networks of sigmoids, 200 steps",
        lambda: {f"layer {layer}": experiment.errors_against(0.01, 0.1, layer) for layer in (2, 3)},
        above(2.0),
        estimate="ratio",
        unit="times",
        shown=RUNNING,
    ),
    Claim(
        "evaluation.noise",
        "A momentum of 1 follows the noise of every batch.",
        "this book",
        "error of the running statistic with momentum 1 over that with 0.1, first layer",
        lambda: {each: experiment.errors_against(1.0, 0.1, 1, each) for each in ("mean", "variance")},
        above(1.5),
        estimate="ratio",
        unit="times",
        shown=RUNNING,
    ),
    Claim(
        "evaluation.no-best-momentum",
        "Where the means of batches have little noise, a momentum of 1 is the best.",
        "this book",
        "error of the running mean with momentum 1 over that with 0.1, second and third layer",
        lambda: {f"layer {layer}": experiment.errors_against(1.0, 0.1, layer) for layer in (2, 3)},
        below(1.0),
        estimate="ratio",
        unit="times",
        shown=RUNNING,
    ),
    Claim(
        "evaluation.statistics-are-not-it",
        "With momentum 0.1, statistics taken anew before each look leave a validation loss where it is.",
        "this book",
        "validation loss with running statistics over that with statistics taken anew, four networks, from step 20 on",
        lambda: experiment.heights_of(0.1),
        Rule(0.88, 1.12),
        estimate="ratio",
        unit="times",
        shown=JUMPS,
    ),
    Claim(
        "evaluation.weights-jump",
        "With momentum 0.1 most of a validation loss's jumping stays if statistics are taken anew.",
        "this book",
        "jumps of the logarithm from look to look, with running statistics over with statistics taken anew",
        lambda: experiment.jumps_of(0.1),
        below(1.6),
        estimate="ratio",
        unit="times",
        shown=JUMPS,
    ),
    Claim(
        "evaluation.rate-jumps",
        "A larger rate makes the validation loss jump more, whatever statistics it is looked at with.",
        "this book",
        "jumps at the rate 1 over those at 0.1, three ReLU layers, with either kind of statistics",
        lambda: {"anew": experiment.jumps_by_rate(), "running, momentum 0.1": experiment.jumps_by_rate(0.1)},
        above(1.5),
        estimate="ratio",
        unit="times",
        shown=JUMPS,
    ),
    Claim(
        "evaluation.small-momentum-stands-above",
        "A momentum of 0.01 lets the validation loss stand too high for a long time.",
        "this book",
        "validation loss with running statistics over that with statistics taken anew, steps 20 to 200",
        lambda: experiment.heights_of(0.01),
        above(1.02),
        estimate="ratio",
        unit="times",
        shown=JUMPS,
    ),
    Claim(
        "evaluation.large-momentum-jumps",
        "With batches of 8 and a momentum of 1 the running statistics make the validation loss jump.",
        "this book",
        "jumps of the logarithm from look to look, with running statistics over with statistics taken anew",
        lambda: {"batches of 8": experiment.jumps_of(1.0)["batches of 8"]},
        above(2.0),
        estimate="ratio",
        unit="times",
        shown=JUMPS,
    ),
    Claim(
        "evaluation.told-apart",
        "The tests tell the cases apart: eval() cures one, statistics of training images another, new ones a third.",
        "this book",
        "accuracy in the test that cures it less in the one before",
        lambda: {
            **_gain("A", TESTS[4], TESTS[3]),
            **_gain("B", TESTS[5], TESTS[1]),
            **_gain("C", TESTS[1], TESTS[0]),
        },
        above(0.03),
        shown=RECIPE,
    ),
    Claim(
        "evaluation.folding",
        "In evaluation BN can be folded into the dense layer or the convolution before it, exactly.",
        "Ioffe & Szegedy 2015, section 3.1 and Algorithm 2: a linear transform applied to each activation",
        "largest difference between the folded network's scores and the network's, float64",
        experiment.folding_errors,
        below(1e-9),
        estimate="exact",
        shown=FOLDING,
    ),
    Claim(
        "evaluation.folding-saves-time",
        "The folded network is faster.",
        "this book",
        "time of a network in evaluation over that of the folded one, one thread, medians of ten repeats",
        lambda: {name: experiment.times_faster(name) for name in FOLDED},
        above(1.0),
        estimate="median",
        unit="times",
        shown=FOLDING,
    ),
)
