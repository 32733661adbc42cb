"""The claims of the chapter `theorem_lab`. "Printed" means arXiv v3; later prints of the paper have 1/m in 4.1."""

from utils.claims import Claim, Verdict, above, below
from utils.experiments import theorem_lab as experiment
from utils.experiments.theorem_lab import residuals_of_seeds, shares

PAPER = "Santurkar et al. 2018"


def _printed_4_4() -> dict:
    def share(unit: float):
        return shares(lambda seed: experiment.right_over_left_4_4(unit, True, n=200, seed=seed) >= 1)

    return {"loss times 0.01": share(0.01), "loss times 1,000": share(1000.0)}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "theorem_lab.backward",
        "BN's backward pass is a projection: it removes the mean and the component along y_hat, and scales.",
        "Ioffe & Szegedy 2015, section 3, the chain rule gathered into one line",
        "largest relative difference from autograd, nine kinds of random networks",
        lambda: residuals_of_seeds("backward pass"),
        below(1e-10),
        estimate="exact",
        shown="theorem_lab#why-it-is-an-equality",
    ),
    Claim(
        "theorem_lab.equalities",
        "Written right, Theorems 4.1, 4.2 (first form) and 4.4 and Lemma 4.5 are equalities.",
        f"{PAPER}, arXiv v3, section 4, where they are inequalities",
        "largest residual over the largest term, nine kinds of random networks",
        lambda: residuals_of_seeds("Theorem 4.1", "Theorem 4.1 with eps", "Theorem 4.2", "Theorem 4.4", "Lemma 4.5"),
        below(1e-10),
        estimate="exact",
        shown="theorem_lab#what-the-paper-says-and-what-we-measured",
    ),
    Claim(
        "theorem_lab.4-1-printed",
        "Theorem 4.1 with 1/sqrt(m) bounds the gradient.",
        f"{PAPER}, arXiv v3, Theorem 4.1; later prints have 1/m",
        "share of random networks in which the printed bound holds, m = 32",
        experiment.shares_of_4_1,
        above(0.99),
        stated=Verdict.CONTRADICTED,
        shown="theorem_lab#theorem-41-the-gradient",
    ),
    Claim(
        "theorem_lab.plain-gradient",
        "Theorem 4.1 holds with the gradient of a plain network of the same weights.",
        f"{PAPER}, Theorem 4.1: a network with BN and an identical network without",
        "share of random networks in which the bound with 1/m holds, gamma = 1 or gamma = sigma and beta = mu",
        experiment.shares_by_spread,
        above(0.99),
        stated=Verdict.IN_PART,
        shown="theorem_lab#the-hidden-assumption",
    ),
    Claim(
        "theorem_lab.second-form",
        "Theorem 4.2's second form holds without a condition on the Hessian.",
        f"{PAPER}, Theorem 4.2, whose condition can be read in more than one way",
        "share of random networks in which it holds, m = 32",
        experiment.shares_of_second_form,
        above(0.99),
        stated=Verdict.CONTRADICTED,
        shown="theorem_lab#theorem-42-the-curvature",
    ),
    Claim(
        "theorem_lab.4-4-printed",
        "Theorem 4.4 as printed bounds the gradient of the weights, in whichever unit the loss is measured.",
        f"{PAPER}, arXiv v3, Theorem 4.4",
        "share of random networks in which the printed bound holds",
        _printed_4_4,
        above(0.99),
        stated=Verdict.IN_PART,
        shown="theorem_lab#theorem-44-the-weights",
    ),
    Claim(
        "theorem_lab.c-1-step",
        "Of all inputs of one size the identity maximises the curvature in the weights, step (58) of Theorem C.1.",
        f"{PAPER}, arXiv v3, appendix C, equation 58",
        "share of 200 random networks in which the largest over all inputs is not above that by a hundredth, m = 16",
        lambda: {"random networks": 1 - experiment.missed_in_c_1()},
        above(0.99),
        stated=Verdict.CONTRADICTED,
        shown="theorem_lab#theorem-c1-curvature-in-the-weights",
    ),
    Claim(
        "theorem_lab.c-1-printed",
        "Theorem C.1, as this book reads it, bounds the curvature in the weights, if gamma = sigma and beta = mu.",
        f"{PAPER}, arXiv v3, Theorem C.1, in a reading put together from Theorem 4.2 and from step (58) of the proof",
        "share of random networks in which the bound holds for the worst inputs, which are computed, m = 16",
        experiment.shares_of_c_1,
        above(0.99),
        stated=Verdict.CONTRADICTED,
        shown="theorem_lab#theorem-c1-curvature-in-the-weights",
    ),
    Claim(
        "theorem_lab.c-1-repaired",
        "With BN's own curvature added, its part along y_hat too, the curvature in the weights is bounded.",
        "this book; for Theorem C.1 of Santurkar et al. 2018",
        "largest curvature in the weights over its bound, nine kinds of random networks, m = 16",
        experiment.used_of_repaired_c_1,
        below(1.0),
        estimate="exact",
        shown="theorem_lab#theorem-c1-curvature-in-the-weights",
    ),
    Claim(
        "theorem_lab.small-share",
        "In trained networks with BN the projection removes about a per cent of the gradient's length at most.",
        "this book",
        "share of the length that is removed after 300 steps on all training images, the largest of three layers",
        lambda: {name: experiment.removed(name).max(1) for name in experiment.TRAINED},
        below(0.02),
        shown="theorem_lab#in-trained-networks-what-the-projection-removes",
    ),
    Claim(
        "theorem_lab.small-and-needed",
        "That small part matters: if the backward pass leaves the gradient's mean in, the loss ends higher.",
        "Ioffe & Szegedy 2015, section 2: the gradient step must take into account that the normalisation takes place",
        "training loss after 300 steps with the mean left in over that with BN, the same rate",
        lambda: {name: _ratio(experiment.without_projection(name)) for name in experiment.TRAINED},
        above(1.0),
        estimate="ratio",
        unit="times",
        shown="theorem_lab#in-trained-networks-what-the-projection-removes",
    ),
)


def _ratio(losses: dict):
    return losses["bn, mean held"] / losses["bn"]
