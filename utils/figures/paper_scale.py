"""The figures of the chapter "At the papers' size"."""

import numpy as np
from matplotlib.axes import Axes

from utils import intervals
from utils.claims import Checked, check, registry
from utils.experiments import paper_scale as experiment
from utils.experiments.paper_scale import LARGE, RATE, SIGMOIDS, VGG
from utils.explore import Answer, Drawing, control, explore, predict
from utils.explore.table import Table
from utils.style import (
    ARMS,
    MUTED,
    between,
    draw_arms,
    figure,
    key,
    label,
    log_axis,
    per_cent,
    rounded,
    step_axis,
    told,
)

ARMS_AT = {RATE: ("plain", "bn", "noisy", "noisy plain"), LARGE: ("plain", "bn")}
BANDS = {
    "range of the loss": "range",
    "change of the gradient": "gradient",
    "effective L": "beta",
    "L at the longest length": "beta_far",
}
LIMITS = {"range": (1e-5, 300), "gradient": (0.01, 300), "beta": (0.3, 100), "beta_far": (0.1, 100)}
FEWEST = 3e-5  # the share wrong that is drawn where none is


def _arms(rate: float) -> dict[str, experiment.Seeds]:
    names = ARMS_AT[rate]
    return dict(zip(names, experiment.arms(VGG, *(f"{norm}, rate {rate:g}" for norm in names)), strict=True))


@explore(rate=control(list(ARMS_AT), label="learning rate"))
def training(rate: float = RATE) -> Drawing:
    """A VGG on Fashion-MNIST, 15,000 steps: how many of the training images it gets wrong, and how it ends."""
    runs = _arms(rate)
    steps = max((run["curve_steps"] for each in runs.values() for run in each.runs), key=len)
    fig, (ax,) = figure(f"share wrong in training, rate {rate:g}", height=3.4)
    log_axis(ax.yaxis, (FEWEST, 1.5), [1e-4, 1e-3, 0.01, 0.1, 1])
    step_axis(ax, steps[-1])
    wrong = {
        arm: np.maximum(1 - np.array([experiment.curve(run, len(steps)) for run in each.runs]), FEWEST)
        for arm, each in runs.items()
    }
    draw_arms(ax, steps, wrong)
    tested = {arm: each.each(experiment.final_accuracy) for arm, each in runs.items()}
    diverged = {arm: sum(run["diverged_at"] is not None for run in each.runs) for arm, each in runs.items()}
    fell = ", ".join(f"{n} of {ARMS[arm].label}'s runs diverged" for arm, n in diverged.items() if n)
    return fig, (
        f"{len(runs['bn'].runs)} seeds, batches of 128, SGD. Right on the 10,000 test images at the end: "
        f"{told(tested, per_cent)}{'; ' * bool(fell)}{fell}."
    )


@explore(quantity=list(BANDS))
def bands(quantity: str = "range of the loss") -> Drawing:
    """The bands of the smoothness argument in the VGG, every 250 steps, at one rate."""
    what = BANDS[quantity]
    runs = {arm: each for arm, each in _arms(RATE).items() if arm in ("plain", "bn")}
    steps = runs["bn"].runs[0]["probe_steps"]
    fig, (ax,) = figure(f"{quantity}, rate {RATE:g}", height=3.4)
    log_axis(ax.yaxis, LIMITS[what])
    step_axis(ax, steps[-1])
    for arm, each in runs.items():
        values = np.clip(np.array([run[what] for run in each.runs], dtype=float), LIMITS[what][0], None)
        ax.plot(steps, values.T, color=ARMS[arm].colour, alpha=0.28, linewidth=0.9)
        ax.plot(steps, np.exp(np.log(values).mean(0)), color=ARMS[arm].colour, linestyle=ARMS[arm].dashes)
    key(ax, list(runs), x=0.6, top=0.97)
    early, late = (
        between(intervals.ratio(experiment.band_ratios(what, part))) for part in (experiment.EARLY, (0.5, 1.0))
    )
    return fig, (
        f"{len(runs['bn'].runs)} seeds, a line each, and their geometric mean. The plain network's {quantity} over "
        f"BN's, the median of a part of the training: {early} times in the first fifth, {late} times in the second "
        f"half (geometric means, 95 % intervals)."
    )


@explore(rate=control(experiment.sigmoid_rates(), label="learning rate"))
def figure_one(rate: float = 1.0) -> Drawing:
    """Ioffe and Szegedy's figure 1 on MNIST: the accuracy, and what enters one sigmoid of the last layer."""
    runs = {norm: experiment.arms(SIGMOIDS, f"{norm}, rate {rate:g}")[0].runs for norm in ("plain", "bn")}
    fig, (left, *panels) = figure("share wrong", "input: plain", "input: BN", height=3.2)
    steps = runs["bn"][0]["curve_steps"]
    for norm, each in runs.items():
        for run in each:
            wrong = np.maximum(1 - np.array(run["accuracy"]), FEWEST)
            left.plot(run["curve_steps"], wrong, color=ARMS[norm].colour, alpha=0.5, linewidth=1)
        label(left, norm, 0.95, 0.9 - 0.12 * (norm == "bn"), ha="right", transform=left.transAxes)
    log_axis(left.yaxis, (FEWEST, 1.5), [1e-4, 1e-3, 0.01, 0.1, 1])
    for ax, norm in zip(panels, runs, strict=True):
        _quantiles(ax, norm, runs[norm][0])
    for ax in (left, *panels):
        step_axis(ax, steps[-1], ticks=2)
    fig.subplots_adjust(wspace=0.4)
    wanders = {norm: experiment.median_wanders(norm, rate) for norm in runs}
    taken = {norm: experiment.steps_taken(norm, rate) for norm in runs}
    return fig, (
        f"Rate {rate:g}, {len(runs['bn'])} seeds. Steps to 90 % right in the mini-batches: {told(taken, _steps)}. The "
        f"median input of a sigmoid wanders by {told(wanders, _mean)} (standard deviation over the training, mean over "
        f"{experiment.UNITS} units and the seeds). Drawn: the 15th, 50th and 85th percentile of one unit, seed 0."
    )


def _quantiles(ax: Axes, norm: str, run: dict) -> None:
    low, middle, high = np.array(run["quantiles"], dtype=float)[..., 0].T
    at = run["quantile_steps"][: len(middle)]
    ax.fill_between(at, low, high, color=ARMS[norm].colour, alpha=0.25, linewidth=0)
    ax.plot(at, middle, color=ARMS[norm].colour)
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.set_ylim(-8, 8)


def _mean(values: np.ndarray) -> str:
    return rounded(float(np.mean(values)))


def _steps(values: np.ndarray) -> str:
    middle = float(np.median(values))
    return f"{middle:,.0f}" if np.isfinite(middle) else "never"


def both_sizes() -> Table:
    """Every claim that was judged at both sizes: what each of them makes of it."""
    return Table(
        ("Claim", "Small networks", "The papers' size", "What was measured there"),
        [
            (claim.sentence, _verdict(check(registry()[claim.repeats])), _verdict(check(claim)), claim.measured)
            for claim in registry(["paper_scale"]).values()
        ],
    )


def _verdict(checked: Checked) -> str:
    setting, interval = checked.weakest
    return f"**{checked.verdict}**: {between(interval)} {checked.claim.unit}".strip() + f" ({setting})"


def how_made() -> Table:
    """Where and when the runs were made, and by which command."""
    rows = []
    for file, name in experiment.FILES.items():
        if experiment.results(file):
            made = experiment.made(file)
            rows.append((name, made["device"], f"torch {made['torch']}", made["date"], f"`{made['command']}`"))
    return Table(("Runs", "Device", "Version", "Date", "Command"), rows)


# --- questions -------------------------------------------------------------------------------------------------------

LEARNS, FAILS = "it learns nearly as well as plain", "it does not learn at all"
SLOWER = "it learns, and stays clearly behind"


@predict(LEARNS, SLOWER, FAILS)
def predict_noisy_plain() -> Answer:
    """The second paper says that the same noise keeps a plain VGG "from training entirely". Here, with Fashion-MNIST in
    place of CIFAR-10, after 15,000 steps?
    """
    plain, noisy = (
        each.each(experiment.final_accuracy)
        for each in experiment.arms(VGG, f"plain, rate {RATE:g}", f"noisy plain, rate {RATE:g}")
    )
    behind = float((plain - noisy).mean())
    choice = FAILS if noisy.mean() < 0.3 else LEARNS if behind < 0.03 else SLOWER
    return choice, f"Test accuracy at the end: plain {per_cent(plain)}, with noise {per_cent(noisy)}."
