"""The figures of the chapter "Training and evaluation"."""

import numpy as np

from utils.experiments import evaluation as experiment
from utils.experiments.evaluation import (
    ANEW,
    EVERY,
    MOMENTA,
    PATIENTS,
    SETTLED,
    TESTS,
    VALIDATED,
    WATCHED,
    running_statistic,
    validation_losses,
    watch_statistics,
)
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.style import (
    ARMS,
    DASHED,
    DATA,
    INK,
    MUTED,
    category_axis,
    draw_arm,
    figure,
    log_axis,
    number,
    percent_axis,
    running_mean,
    step_axis,
)

BLUE = ARMS["bn"].colour
RENEWED = "bn, re-estimated"  # the arm of statistics taken anew
AVERAGED = {"0.01": 0.01, "0.03": 0.03, "0.1": 0.1, "0.3": 0.3, "1": 1.0, "None": None}  # running statistics' momentum
SMOOTHED = 10  # batches, over which a training loss is averaged


@explore(
    momentum=list(AVERAGED),
    statistic=["mean", "variance"],
    layer=control([1, 2, 3], unit="of 3"),
)
def running_statistics(momentum: str = "0.1", statistic: str = "mean", layer: int = 1) -> Drawing:
    """The statistics that evaluation will use, chasing a network that is still learning."""
    now = running_statistic(watch_statistics(WATCHED)[0], statistic, AVERAGED[momentum])
    batch, running, whole = (each[:, layer - 1, 0] for each in (now.batch, now.running, now.whole))

    fig, (ax,) = figure(statistic, height=3.2)
    steps = np.arange(1, len(batch) + 1)
    ax.plot(steps, batch, ".", color=MUTED, markersize=3.5)
    ax.plot(now.eval_steps + 1, whole, color=INK, linewidth=1.6, linestyle=DASHED)
    ax.plot(steps, running, color=BLUE)
    shown = np.concatenate([batch, whole, running[40:]])
    margin = 0.08 * np.ptp(shown)
    ax.set_ylim(shown.min() - margin, shown.max() + margin)
    step_axis(ax, len(batch))
    for x, text, colour in ((0.34, "— running", BLUE), (0.55, "- - whole data", INK), (0.79, "· mini-batches", MUTED)):
        ax.text(x, 1.035, text, color=colour, transform=ax.transAxes, fontsize=9.5)
    off, off_alone = (now.error(each)[layer - 1, 0] for each in (now.running, now.batch))
    how = "the plain average" if momentum == "None" else f"momentum {momentum}"
    return fig, (
        f"Layer {layer}, {how}: the running {statistic} is off by {off:.2g} on average from step "
        f"{SETTLED} to {len(batch)}; a single mini-batch of {WATCHED.batch_size} is off by {off_alone:.2g}."
    )


@explore(
    network=list(VALIDATED),
    momentum=control(MOMENTA),
    seed=control(range(2)),
)
def validation_loss(network: str = "3 layers, rate 1", momentum: float = 0.1, seed: int = 0) -> Drawing:
    """A validation loss with running statistics, and with statistics taken anew at each look."""
    looks = validation_losses(VALIDATED[network])
    fig, (left, right) = figure(f"loss, seed {seed}", "running / anew", height=3.3)
    steps = len(looks.training[seed])
    shown = running_mean(looks.training[seed], SMOOTHED)
    left.plot(np.arange(SMOOTHED, steps + 1), shown, color=MUTED, linewidth=1.2)
    draw_arm(left, RENEWED, looks.step, looks.loss[ANEW][seed])
    draw_arm(left, "bn", looks.step, looks.loss[momentum][seed])
    seen = np.stack([*looks.loss.values()])
    low, high = 0.6 * seen.min(), 2.5 * seen.max()
    log_axis(left.yaxis, (low, high), [tick for tick in (0.03, 0.1, 0.3, 1, 3, 10, 30) if low < tick < high])
    step_axis(left, steps)
    names = (("running statistics", BLUE), ("taken anew", ARMS[RENEWED].colour), ("training, 10 batches", MUTED))
    for row, (name, colour) in enumerate(names):
        left.text(
            0.97, 0.95 - 0.085 * row, name, transform=left.transAxes, color=colour, fontsize=9, ha="right", va="top"
        )

    rows = {"height": experiment.heights(looks, momentum), "jumps": _jumps(looks, momentum)}
    left.set_position((0.115, 0.165, 0.5, 0.72))
    right.set_position((0.735, 0.165, 0.225, 0.72))
    category_axis(right, list(rows))
    log_axis(right.xaxis, (0.5, 9), (0.5, 1, 2, 5))
    right.axvline(1, color=MUTED, linewidth=1.2, linestyle=DASHED)
    for place, values in enumerate(rows.values()):
        right.plot(values, np.full(len(values), place), "o", color=DATA, alpha=0.4, markersize=5, markeredgewidth=0)
        right.plot(np.exp(np.log(values).mean()), place, "o", color=INK, markersize=8)
    right.set_ylim(1.6, -0.6)
    return fig, (
        f"{network}, momentum {number(momentum)}: on the left seed {seed}, which ends at a validation loss of "
        f"{looks.loss[momentum][seed][-1]:.2g}. From step {SETTLED} on, over {len(looks.training)} seeds, with running "
        f"statistics it stands at {_range(rows['height'])} times that with statistics taken anew, and from look to "
        f"look (every {EVERY} steps) it jumps {_range(rows['jumps'])} times as much."
    )


def _jumps(looks: experiment.Looks, momentum: float) -> np.ndarray:
    return experiment.jumps(looks, momentum) / experiment.jumps(looks, ANEW)


def _range(values: np.ndarray) -> str:
    """The middle of some ratios, and their ends."""
    return f"{np.exp(np.log(values).mean()):.2f} ({values.min():.2f} to {values.max():.2f})"


@explore(patient=list(PATIENTS))
def diagnosis(patient: str = "A") -> Drawing:
    """Four ill networks, and six tests: what is wrong with them?"""
    found = experiment.examined(patient)
    fig, (ax,) = figure(f"patient {patient}: accuracy", height=2.9, left=2.0)
    category_axis(ax, TESTS)
    percent_axis(ax.xaxis)
    for place, values in enumerate(found.values()):
        ax.plot(values, np.full(len(values), place), "o", color=BLUE, alpha=0.35, markersize=5, markeredgewidth=0)
        ax.plot(values.mean(), place, "o", color=BLUE, markersize=8)
    for line in (1.5, 3.5):
        ax.axhline(line, color=MUTED, linewidth=0.6)
    said = ", ".join(f"{name} {values.mean():.0%}" for name, values in found.items())
    return fig, f"Patient {patient}, the mean of {len(values)} networks: {said}."


# --- questions -----------------------------------------------------------------------------------------------------


@predict("0.01", "0.1", "1")
def predict_momentum() -> Answer:
    """A running variance starts at 1, and the network keeps changing. Which momentum keeps it nearest to the truth, in
    layer 1?
    """
    seen = watch_statistics(WATCHED)[0]
    runs = {name: running_statistic(seen, "variance", float(name)) for name in predict_momentum.choices}
    off = {name: run.error(run.running)[0, 0] for name, run in runs.items()}
    said = ", ".join(f"{name}: off by {each:.2g}" for name, each in off.items())
    return min(off, key=off.get), f"On average over the steps after the first {SETTLED}, {said}."


@predict("nearly all", "about a half", "hardly anything")
def predict_jumps() -> Answer:
    """Three layers, rate 1, momentum 0.1: the validation loss jumps from look to look. Take the statistics anew before
    each look. How much of the jumping is left?
    """
    left = 1 / experiment.jumps_of(0.1)["3 layers, rate 1"].mean()
    choice = "nearly all" if left > 0.75 else "about a half" if left > 0.3 else "hardly anything"
    return choice, f"{left:.0%} of it, the mean of ten networks: it is the weights that jump."


@predict("A", "B", "C", "D")
def predict_cured() -> Answer:
    """Four kinds of network were trained, and do badly in use. Which one is cured by calling `eval()`?"""
    gains = {name: (tests[TESTS[1]] - tests[TESTS[0]]).mean() for name, tests in _examined().items()}
    best = max(gains, key=gains.get)
    return best, f"{best} was {PATIENTS[best]}: each batch of one class took away what its images had in common."


def _examined() -> dict[str, dict[str, np.ndarray]]:
    return {name: experiment.examined(name) for name in PATIENTS}


@exercise(*PATIENTS)
def quiz_young() -> Answer:
    """Whose running statistics do not even fit the training images?"""
    gains = {name: (tests[TESTS[4]] - tests[TESTS[3]]).mean() for name, tests in _examined().items()}
    best = max(gains, key=gains.get)
    return best, (
        f"Patient {best}: good in training mode, bad in evaluation on the same images, good again with statistics "
        f"taken anew. It has {PATIENTS[best]}: a momentum of 0.01, and a hundred steps."
    )


@exercise(*PATIENTS)
def quiz_light() -> Answer:
    """Who has statistics that fit the training images, but not the images in use?"""
    gains = {name: (tests[TESTS[5]] - tests[TESTS[1]]).mean() for name, tests in _examined().items() if name != "A"}
    best = max(gains, key=gains.get)
    return best, (
        f"Patient {best}: both modes are good on training images, and statistics of the images in use cure it. It met "
        f"{PATIENTS[best]}. The one that nothing cures has {PATIENTS['D']}: that is no matter of BN."
    )


@exercise(
    "ε stands outside of the root, and outside of the division",
    "it should use the batch's variance",
    "nothing: it agrees with PyTorch to four digits",
)
def quiz_eps() -> Answer:
    """What is wrong with this line?"""
    return "ε stands outside of the root, and outside of the division", (
        "It shifts every value by ε and no longer protects: a unit with running variance 0 gives a division by zero. "
        "With ordinary variances the two agree to four digits, so a test must also try a constant unit."
    )


@exercise(unit="numbers")
def quiz_kept() -> Answer:
    """A BN layer stands behind 100 units. Besides γ and β, how many numbers must be saved with the network?"""
    return (200.0, 201.0), "A running mean and a running variance for each unit (and PyTorch counts the batches)."


@exercise("0.1", "0.01", "None")
def quiz_frozen() -> Answer:
    """The weights no longer change, and you average statistics over 50 training batches. Which momentum of PyTorch's
    brings them nearest to the truth?
    """
    return "None", (
        "The plain average of all: its error falls with the root of their number. 0.1 forgets all but the last twenty "
        "or so, and 0.01 still has more than half of the made-up start. While a network learns, the plain average "
        "carries along batches of weights long gone."
    )
