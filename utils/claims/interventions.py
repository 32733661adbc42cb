"""The claims of the chapter `interventions`."""

from utils.claims import Claim, Rule, above, below
from utils.experiments import drift
from utils.experiments import interventions as experiment
from utils.experiments.interventions import LARGE, SMALL

NET = "ten ReLU layers of 48, He's start, standardised digits"
GAIN = f"share of BN's gain in area under the training curve; {NET}"
DRIFT = "Ioffe & Szegedy 2015, section 2: fixed distributions of layers' inputs speed up training"
PUT_BACK = "share of BN's gain that is gone where BN's outputs drift as the plain network's activation inputs did"
SHOWN = "interventions#drift-put-back"
FAST, SLOW, SIGMOID = drift.NETWORKS


def _removed(name: str, *rates: float) -> dict:
    return {f"rate {lr:g}": experiment.removed(lr)[name] for lr in rates}


def _kept_by_centring() -> dict:
    return {setting: 1 - gone for setting, gone in _removed("no scaling", LARGE).items()}


def _scaling_ahead_at_small_rates() -> dict:
    return {net: experiment.lead(net, "scale", "centre", SMALL) for net in ("ReLU", "tanh")}


def _held(steps: int) -> dict:
    return {f"after {steps} updates": experiment.curvature_ratios("bn", steps=steps)}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "interventions.centring-alone",
        "In a deep ReLU network at a large rate, centring over the batch alone keeps most of BN's gain.",
        "this book",
        f"what is left without scaling, {GAIN}, rate 0.3",
        _kept_by_centring,
        above(0.6),
        unit="of the gain",
        shown="interventions#centre-or-scale",
    ),
    Claim(
        "interventions.scaling-alone",
        "There, scaling over the batch alone loses much more of the gain than centring alone.",
        "this book",
        f"removed without centring, less that removed without scaling; {GAIN}, rate 0.3",
        lambda: {"rate 0.3": experiment.removed()["no centring"] - experiment.removed()["no scaling"]},
        above(0.2),
        unit="of the gain",
        shown="interventions#centre-or-scale",
    ),
    Claim(
        "interventions.layer-norm",
        "There, layer normalisation has little of BN's gain.",
        "this book",
        f"removed if centring and scaling are over the units of one example; {GAIN}, rates 0.3 and 1",
        lambda: _removed("layer norm instead", LARGE, 1.0),
        above(0.6),
        unit="of the gain",
        shown="interventions#centre-or-scale",
    ),
    Claim(
        "interventions.both-at-one",
        "At a rate of 1 the deep ReLU network needs the scaling, too.",
        "this book",
        f"removed without scaling, {GAIN}, rate 1",
        lambda: _removed("no scaling", 1.0),
        above(0.25),
        unit="of the gain",
        shown="interventions#centre-or-scale",
    ),
    Claim(
        "interventions.scaling-at-small-rates",
        "At a small rate it is scaling that helps: alone it is far ahead of centring alone.",
        "this book",
        "difference of the areas under the training curves at rate 0.03, ten layers, ReLU and tanh",
        _scaling_ahead_at_small_rates,
        above(0.05),
        unit="area",
        shown="interventions#centre-or-scale",
    ),
    Claim(
        "interventions.tanh",
        "With tanh, which makes no means, scaling alone bears a rate of 1 better than centring alone.",
        "this book",
        "difference of the areas under the training curves at rate 1, ten tanh layers",
        lambda: {"tanh, rate 1": experiment.lead("tanh", "scale", "centre", 1.0)},
        above(0.05),
        unit="area",
        shown="interventions#centre-or-scale",
    ),
    Claim(
        "interventions.variance-held",
        "At a large rate the gradient through the variance can be left out at no visible cost.",
        "this book",
        f"removed if the variance is a constant for the gradient, {GAIN}, rate 0.3",
        lambda: _removed("variance held", LARGE),
        Rule(-0.1, 0.1),
        unit="of the gain",
        shown="interventions#with-their-gradient-or-without",
    ),
    Claim(
        "interventions.mean-held",
        "Leaving out the gradient through the mean costs a part of the gain.",
        "Ioffe & Szegedy 2015, section 2: statistics outside the gradient let a bias grow without bound",
        f"removed if the mean is a constant for the gradient, {GAIN}, rates 0.3 and 1",
        lambda: _removed("mean held", LARGE, 1.0),
        above(0.02),
        unit="of the gain",
        shown="interventions#with-their-gradient-or-without",
    ),
    Claim(
        "interventions.curvature",
        "The same weights at the same loss have a larger top curvature once the statistics are held.",
        "Ghorbani, Krishnan & Xiao 2019: outliers of the Hessian return with population statistics, ImageNet",
        "largest eigenvalue of the exact Hessian, statistics held over free; four ReLU layers of 8",
        lambda: _held(0) | _held(experiment.SMALL_NET.steps),
        above(1.3),
        "ratio",
        unit="times",
        shown="interventions#same-weights-same-loss",
    ),
    Claim(
        "interventions.lengths",
        "That BN's weights grow is not why it bears a large rate: with lengths held fixed nothing changes.",
        "this book",
        f"removed if the weights of each unit keep their first length, {GAIN}, rate 0.3",
        lambda: _removed("weights' lengths held", LARGE),
        Rule(-0.1, 0.1),
        unit="of the gain",
        shown="interventions#lengths-held-fixed",
    ),
    Claim(
        "interventions.drift-put-back",
        "Where a deep ReLU network with BN drifts as the plain one did, a large part of BN's gain is gone.",
        DRIFT,
        f"{PUT_BACK}; ten ReLU layers, two rates",
        lambda: {net: drift.gone(net, drift.DRIFTING) for net in (FAST, SLOW)},
        above(0.25),
        unit="of the gain",
        shown=SHOWN,
    ),
    Claim(
        "interventions.drift-moves",
        "There, it is the moving from update to update: standing displaced, or the slow part alone, costs less.",
        "this book",
        f"{PUT_BACK}, less that with the inputs as far out but still, and with the running mean over 30 updates; ReLU",
        lambda: {
            f"{net}; {than}": drift.gone(net, drift.DRIFTING) - drift.gone(net, than)
            for net in (FAST, SLOW)
            for than in (drift.STILL, drift.SLOWLY)
        },
        above(0.1),
        unit="of the gain",
        shown=SHOWN,
    ),
    Claim(
        "interventions.drift-sigmoid",
        "In the first paper's sigmoid network drift put back into BN costs next to nothing, and taken out of the plain "
        "network it gives next to nothing.",
        DRIFT,
        f"{PUT_BACK}; and that the plain network has whose units keep their first mean; three sigmoid layers",
        lambda: {
            "put back": drift.gone(SIGMOID, drift.DRIFTING),
            "taken out": 1 - drift.gone(SIGMOID, drift.PLAIN_STILL),
        },
        below(0.1),
        unit="of the gain",
        shown=SHOWN,
    ),
    Claim(
        "interventions.drift-taken-out",
        "Taking the drift of the means out of the plain network gives a deep ReLU network a part of BN's gain.",
        DRIFT,
        "share of BN's gain that a plain network has whose units keep their first mean; ten ReLU layers, rate 0.3",
        lambda: {FAST: 1 - drift.gone(FAST, drift.PLAIN_STILL)},
        above(0.15),
        unit="of the gain",
        shown=SHOWN,
    ),
)
