"""The claims of the chapter `paper_scale`: those of other chapters, judged once more at the papers' own size."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from numpy.typing import ArrayLike

from utils.claims import Claim, Verdict, registry
from utils.experiments import paper_scale as experiment
from utils.experiments.paper_scale import EARLY, FILES, LARGE, RATE, SIGMOIDS, VGG

NAMES = ("intro", "internal_covariate_shift", "two_meanings", "what_batchnorm_buys", "noise_on_purpose", "smoothness")
SMALL = registry(NAMES)


def _again(
    name: str,
    measured: str,
    evidence: Callable[[], Mapping[str, ArrayLike]],
    stated: Verdict = Verdict.HOLDS,
) -> Claim:
    """The claim `name` at the papers' size: its sentence, its rule and its estimate, and other runs."""
    return replace(
        SMALL[name],
        id=f"paper_scale.{name.partition('.')[2]}",
        measured=measured,
        evidence=evidence,
        stated=stated,
        shown="paper_scale#both-sizes",
        repeats=name,
    )


def _vgg(values: Callable[[], ArrayLike]) -> Callable[[], dict[str, ArrayLike]]:
    return lambda: {FILES[VGG]: values()}


def _more_accurate() -> dict[str, ArrayLike]:
    rates = {VGG: (RATE, RATE), SIGMOIDS: [experiment.own_rate(norm) for norm in ("plain", "bn")]}
    return {
        FILES[file]: experiment.accuracy_gains(file, f"plain, rate {plain:g}", f"bn, rate {bn:g}")
        for file, (plain, bn) in rates.items()
    }


def _ahead_of_plain() -> ArrayLike:
    plain, noisy = experiment.areas(VGG, f"plain, rate {RATE:g}", f"noisy, rate {RATE:g}")
    return noisy - plain


def _noisy_plain() -> ArrayLike:
    (noisy,) = experiment.arms(VGG, f"noisy plain, rate {RATE:g}")
    return noisy.each(lambda run: run["accuracy"][-1])


def _flat_at_first() -> dict[str, ArrayLike]:
    return {what: experiment.band_ratios(what, (0, 0.0)) for what in ("range", "gradient", "beta")}


def _sigmoids_fewer_steps() -> dict[str, ArrayLike]:
    plain, bn = (experiment.steps_taken(norm, experiment.own_rate(norm)) for norm in ("plain", "bn"))
    return {FILES[SIGMOIDS]: plain / bn}


def _stable_inputs() -> dict[str, ArrayLike]:
    return {
        f"rate {rate:g}": experiment.median_wanders("plain", rate) / experiment.median_wanders("bn", rate)
        for rate in experiment.sigmoid_rates()
    }


CLAIMS: tuple[Claim, ...] = (
    _again(
        "intro.rate-too-large-for-plain",
        "difference in final test accuracy, a VGG at the paper's larger rate, 0.5",
        _vgg(lambda: experiment.accuracy_gains(VGG, f"plain, rate {LARGE:g}", f"bn, rate {LARGE:g}")),
    ),
    _again(
        "ics.stable-inputs",
        "standard deviation over training of a unit's median input, mean over units, plain over BN",
        _stable_inputs,
        Verdict.OPEN,
    ),
    _again(
        "buys.many-fewer-with-sigmoids",
        "steps to 90 % of the mini-batches, plain over BN, each arm at the best of the rates that were run",
        _sigmoids_fewer_steps,
        Verdict.CONTRADICTED,
    ),
    _again(
        "buys.more-accurate",
        "difference in final test accuracy; the VGG at rate 0.1, the sigmoids each at the best rate that was run",
        _more_accurate,
        Verdict.CONTRADICTED,
    ),
    _again(
        "two_meanings.first-update",
        "‖G − G′‖ of BN over plain at the first update, the median over layers",
        _vgg(lambda: experiment.gradient_shift_ratios(first=True)),
    ),
    _again(
        "two_meanings.more-by-definition",
        "‖G − G′‖ of BN over plain at equal steps, the median over layers and looks",
        _vgg(lambda: experiment.gradient_shift_ratios(first=False)),
    ),
    _again(
        "noise.retained-gain",
        "share of BN's gain, of the area under the training curve, at rate 0.1",
        _vgg(experiment.retained),
        Verdict.OPEN,
    ),
    _again(
        "noise.ahead-of-plain",
        "difference of the area under the training curve, at rate 0.1",
        _vgg(_ahead_of_plain),
        Verdict.OPEN,
    ),
    _again(
        "noise.prevents-plain",
        "training accuracy over the last 250 mini-batches, at rate 0.1",
        _vgg(_noisy_plain),
        Verdict.CONTRADICTED,
    ),
    _again(
        "noise.jumps",
        "ratio of the mean jumps of the units' means on fixed images, mean over layers and looks",
        _vgg(experiment.jumps),
    ),
    _again(
        "smoothness.loss",
        "plain over BN along the gradient, the median over the second half of training: highest minus lowest loss",
        _vgg(lambda: experiment.band_ratios("range")),
        Verdict.OPEN,
    ),
    _again(
        "smoothness.gradient",
        "plain over BN along the gradient, the median over the second half of training: the gradient's largest change",
        _vgg(lambda: experiment.band_ratios("gradient")),
        Verdict.OPEN,
    ),
    _again(
        "smoothness.two-orders",
        "plain over BN, the largest change of the gradient along it, the median over the first fifth of training",
        _vgg(lambda: experiment.band_ratios("gradient", EARLY)),
        Verdict.CONTRADICTED,
    ),
    _again(
        "smoothness.beta",
        "plain over BN along the gradient, the median over the second half: the gradient's largest change per distance",
        _vgg(lambda: experiment.band_ratios("beta")),
    ),
    _again(
        "smoothness.flat-at-first",
        "plain over BN before the first update: range of the loss, change of the gradient, effective beta",
        _flat_at_first,
    ),
)
