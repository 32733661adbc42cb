"""The claims of the chapter `what_can_be_said`."""

from utils.claims import Claim, Verdict, above, below
from utils.experiments import what_can_be_said as experiment
from utils.experiments.what_can_be_said import BANDS, NETWORKS, SHIFTS, Companion

WITNESS = "what_can_be_said_in_depth#the-question"


def _reductions(companion: Companion, apart: str) -> dict:
    """Of all networks but one."""
    return {name: experiment.reduction(network, companion) for name, network in NETWORKS.items() if name != apart}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "said.lower-loss",
        "At the same learning rate the network with BN has the lower training loss.",
        "this book",
        "plain loss over BN's, the geometric mean over all steps, eight networks",
        lambda: {name: experiment.gain(network) for name, network in NETWORKS.items()},
        above(1.0),
        "ratio",
        "times",
        Verdict.IN_PART,
        WITNESS,
    ),
    Claim(
        "said.less-drift",
        "With BN the means of Wu + b drift less, in standard deviations, in seven of eight networks.",
        "Ioffe & Szegedy 2015, abstract and section 2",
        "drift of the means, plain over BN at equal steps; the sigmoid at rate 0.3, too close to call, left out",
        lambda: _reductions(Companion.DRIFT, apart="sigmoid, rate 0.3"),
        above(1.0),
        "ratio",
        "times",
        shown=WITNESS,
    ),
    Claim(
        "said.gradients-turn-more",
        "With BN the gradients turn more when the layers below are updated, in seven of eight networks.",
        "Santurkar et al. 2018, section 2.2, Figure 3",
        "1 − cosine of G and G′, plain over BN at equal steps; ReLU with He and 3 layers, too close to call, left out",
        lambda: _reductions(Companion.ANGLE, apart="ReLU, He, 3 layers"),
        below(1.0),
        "ratio",
        "times",
        shown=WITNESS,
    ),
    Claim(
        "said.shift-tells-the-gain",
        "Where BN reduces internal covariate shift more, it helps more.",
        "Ioffe & Szegedy 2015, abstract: BN trains faster because it reduces internal covariate shift",
        "Spearman's correlation of reduction and gain over eight networks, for five quantities of shift",
        lambda: {str(each): experiment.agreement(each).rank for each in SHIFTS},
        above(0.0),
        "interval",
        stated=Verdict.OPEN,
        shown=WITNESS,
    ),
    Claim(
        "said.bands-tell-the-gain",
        "Where BN narrows the bands along the gradient more, it helps more.",
        "Santurkar et al. 2018, section 3: smoothness is the key effect of BN",
        "Spearman's correlation of reduction and gain over eight networks, for the three bands",
        lambda: {str(each): experiment.agreement(each).rank for each in BANDS},
        above(0.0),
        "interval",
        stated=Verdict.OPEN,
        shown=WITNESS,
    ),
)
