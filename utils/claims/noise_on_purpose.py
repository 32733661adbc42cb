"""The claims of the chapter `noise_on_purpose`."""

from utils.claims import Claim, Verdict, above, below
from utils.experiments import noise_on_purpose as experiment
from utils.experiments.noise_on_purpose import DEEP, GAINING, NETWORKS, PERSISTENT, SIZES, areas_in

AREA = "of the area under the training curve"
NETS = "four networks on the digits, each arm at its best rate"


def _lead(norm: str, behind: str, networks: tuple[str, ...] = tuple(NETWORKS)) -> dict:
    """How much larger one arm's area is than another's, by network: (seeds,)."""
    areas = {network: areas_in(network, (norm, behind)) for network in networks}
    return {network: each[norm] - each[behind] for network, each in areas.items()}


def _late_accuracy() -> dict:
    """The accuracy of the plain net with noise over the last 20 mini-batches, by network: (seeds,)."""
    runs = {network: experiment.race_in(network, ["noisy plain"])["noisy plain"] for network in NETWORKS}
    return {network: experiment.curves(each)[:, -20:].mean(-1) for network, each in runs.items()}


def _shared_ahead() -> dict:
    races = {size: experiment.race_with(experiment.shifts(size)) for size in SIZES}
    areas = {
        size: {name: experiment.area(each["noisy"]) for name, each in race.items()} for size, race in races.items()
    }
    return {f"shifts up to {size:g}": each["shared"] - each["each its own"] for size, each in areas.items()}


def _reversal() -> dict:
    costs = {size: experiment.persistence_costs(size) for size in SIZES}
    return {f"shifts up to {size:g}": each["shared"] - each["each its own"] for size, each in costs.items()}


def _recalibration() -> dict:
    modes = experiment.accuracy_by_mode(experiment.race_in(DEEP, ["noisy"])["noisy"])
    return {DEEP: modes["recalibrated"] - modes["noise off"]}


CLAIMS = (
    Claim(
        "noise.retained-gain",
        "Where BN gains much, noisy BN with the paper's noise keeps more than half of the gain.",
        "Santurkar et al. 2018, section 2.1 and figure 2: VGG on CIFAR-10, no number",
        f"share of BN's gain, {AREA}, in the ten-layer ReLU and sigmoid nets, each arm at its best rate",
        lambda: {network: experiment.retained_in(network, "noisy") for network in GAINING},
        above(0.5),
        unit="of the gain",
        shown="noise_on_purpose#four-arms",
    ),
    Claim(
        "noise.ahead-of-plain",
        "Noisy BN trains better than the plain net.",
        "Santurkar et al. 2018, section 2.1 and figure 2: VGG on CIFAR-10, no number",
        f"difference {AREA}; {NETS}",
        lambda: _lead("noisy", "plain"),
        above(0.0),
        unit="area",
        stated=Verdict.IN_PART,
        shown="noise_on_purpose#four-arms",
    ),
    Claim(
        "noise.prevents-plain",
        "The same noise prevents the plain net from training entirely.",
        "Santurkar et al. 2018, section 2.1: VGG on CIFAR-10, no curve",
        f"training accuracy over the last 20 mini-batches; {NETS}",
        _late_accuracy,
        below(0.3),
        unit="accuracy",
        stated=Verdict.IN_PART,
        shown="noise_on_purpose#four-arms",
    ),
    Claim(
        "noise.jumps",
        "What enters the nonlinearities of noisy BN jumps more at one update than in the plain net.",
        "Santurkar et al. 2018, section 2.1 and figure 2: less stable by eye",
        f"ratio of the mean jumps of the units' means on fixed images; {NETS}",
        experiment.displacement_ratios,
        above(1.5),
        "ratio",
        unit="times",
        shown="noise_on_purpose_in_depth#is-it-really-less-stable",
    ),
    Claim(
        "noise.next-norm-takes-out-the-shift",
        "After the next BN nothing is left of the shift that the noise has given to a batch's mean.",
        "this book",
        "distance of the units' batch means at two draws of noise, in standard deviations, the mean over layers",
        lambda: experiment.after_next_norm("batch mean"),
        below(1e-4),
        "exact",
        shown="noise_on_purpose#an-objection-the-next-bn-takes-the-shift-out",
    ),
    Claim(
        "noise.single-values-stay",
        "Single values still differ after the next BN.",
        "this book",
        "root mean square distance of single values at two draws of noise after the next norm, mean over layers",
        lambda: experiment.after_next_norm("single values"),
        above(0.1),
        unit="standard deviations",
        shown="noise_on_purpose#an-objection-the-next-bn-takes-the-shift-out",
    ),
    Claim(
        "noise.persistent-costs",
        "Noise that no later BN can take out costs the ten-layer ReLU net much more than noise that it can.",
        "this book",
        f"difference {AREA}, noisy BN minus persistent noise, each at its best rate",
        lambda: _lead("noisy", PERSISTENT, (DEEP,)),
        above(0.05),
        unit="area",
        shown="noise_on_purpose#a-sharper-test",
    ),
    Claim(
        "noise.persistent-ahead-of-plain",
        "Where BN gains much, BN with persistent noise is still ahead of the plain net without noise.",
        "this book",
        f"difference {AREA}, each arm at its best rate",
        lambda: _lead(PERSISTENT, "plain", GAINING),
        above(0.02),
        unit="area",
        shown="noise_on_purpose#a-sharper-test",
    ),
    Claim(
        "noise.shared-shift-is-milder",
        "A shift that the batch shares costs noisy BN less than one of the same size that is each sample's own.",
        "this book",
        f"difference {AREA}, ten-layer ReLU net at rate 0.1",
        _shared_ahead,
        above(0.03),
        unit="area",
        shown="noise_on_purpose_in_depth#shared-or-each-its-own",
    ),
    Claim(
        "noise.shared-shift-needs-the-next-norm",
        "Where it persists, a shared shift loses more of BN's gain by that than each sample's own.",
        "this book",
        "share of BN's gain that is lost when the noise persists, shared minus own, ten-layer ReLU net at rate 0.1",
        _reversal,
        above(0.1),
        unit="of the gain",
        shown="noise_on_purpose_in_depth#shared-or-each-its-own",
    ),
    Claim(
        "noise.recalibration",
        "In evaluation without noise a deep noisy net needs statistics that were taken without noise.",
        "this book",
        "test accuracy with recalibrated statistics minus that with the running ones, ten-layer ReLU net",
        _recalibration,
        above(0.02),
        unit="accuracy",
        shown="noise_on_purpose_in_depth#at-test-time",
    ),
)
