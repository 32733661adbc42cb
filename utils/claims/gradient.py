"""The claims of the chapter `gradient`."""

from utils.claims import Claim, above, below
from utils.experiments import gradient as experiment
from utils.experiments.gradient import MISTAKES, passing

BLIND = ("x̂'s part forgotten", "1/(m − 1)", "γ forgotten", "zero, always")  # to a gradient of all ones
TEST = "gradient#a-test-that-cannot-fail"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "gradient.sums",
        "BN's backward pass, box by box as the paper prints it, and the one line that it comes to, are right.",
        "Ioffe & Szegedy 2015, section 3, the six sums of the chain rule",
        "largest difference from autograd over the largest gradient, random batches, float64",
        experiment.errors,
        below(1e-12),
        estimate="exact",
        shown="gradient#in-one-line",
    ),
    Claim(
        "gradient.two-examples",
        "From a batch of two no gradient gets through BN.",
        "this book",
        "largest gradient at x for a random upstream gradient, eps = 0, float64",
        lambda: {"two examples": experiment.left_of_two()},
        below(1e-12),
        estimate="exact",
        shown="gradient#where-it-breaks",
    ),
    Claim(
        "gradient.ones-are-blind",
        "Tested with a gradient of all ones, four of six wrong backward passes pass.",
        "this book",
        "share of random cases in which the wrong formula agrees with central differences, gradcheck's tolerances",
        lambda: {mistake: passing(mistake, "all ones") for mistake in BLIND},
        above(0.99),
        shown=TEST,
    ),
    Claim(
        "gradient.squares-are-blind",
        "Tested with a sum of squares on a fresh layer, a forgotten mean passes, and so does the answer zero.",
        "this book",
        "the same, a layer with gamma = 1 and beta = 0",
        lambda: {
            mistake: passing(mistake, "a sum of squares", fresh=True)
            for mistake in ("the mean's part forgotten", "zero, always")
        },
        above(0.99),
        shown=TEST,
    ),
    Claim(
        "gradient.random-catches",
        "Tested with a random gradient, and random gamma and beta, each of six wrong backward passes is caught.",
        "this book",
        "share of random cases in which the wrong formula passes",
        lambda: {mistake: passing(mistake, "random") for mistake in MISTAKES},
        below(0.01),
        shown=TEST,
    ),
    Claim(
        "gradient.fresh-hides-gamma",
        "On a fresh layer a forgotten gamma passes whatever gradient arrives.",
        "this book",
        "share of random cases in which it passes, gamma = 1 and beta = 0",
        lambda: {upstream: passing("γ forgotten", upstream, fresh=True) for upstream in experiment.UPSTREAMS},
        above(0.99),
        shown=TEST,
    ),
)
