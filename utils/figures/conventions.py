"""The figures, tables and questions of the page "Conventions"."""

import numpy as np

from utils.experiments import conventions as experiment
from utils.experiments.conventions import CONVENTIONS, MISTAKES, UNIT_MEAN, UNIT_STD
from utils.explore import Answer, Drawing, control, exercise, explore, picture, predict, table
from utils.explore.table import Table
from utils.style import (
    ARMS,
    DASHED,
    DATA,
    INK,
    MUTED,
    Arm,
    dot_rows,
    figure,
    key,
    number,
    per_cent,
    percent_axis,
    rounded,
    step_axis,
)

TORCH = Arm("PyTorch", ARMS["bn"].colour)
OTHERS = [name for name in CONVENTIONS if name != "PyTorch"]
AXES = {1: "second", -1: "last", -2: "2nd last"}


def numbers() -> Table:
    """The four numbers that differ, framework by framework."""
    rows = [
        (
            f"[{name}]({each.source})",
            f"`{each.word}`, " + ("no default" if each.default is None else number(each.default)),
            each.weighs,
            "set by you" if each.new is None else number(round(each.new, 6)),
            "m − 1" if each.unbiased else "m",
            number(each.eps),
        )
        for name, each in CONVENTIONS.items()
    ]
    columns = ("framework", "argument", "it weighs the", "a new batch weighs", "running variance over", "ε")
    return table(*columns, rows=rows)


def names() -> Table:
    """What the four tensors are called, and which axis holds the channels."""
    rows = [
        (name, *(f"`{each_name}`" for each_name in each.names), AXES[each.channel_axis])
        for name, each in CONVENTIONS.items()
    ]
    return table("framework", "γ", "β", "mean", "variance", "axis", rows=rows)


def modes() -> Table:
    """How evaluation is asked for, and how a layer is frozen."""
    rows = [(name, each.evaluation, each.freezing) for name, each in CONVENTIONS.items()]
    return table("framework", "evaluation", "to freeze the layer", rows=rows)


@predict("nothing", "about a third", "nearly all")
def predict_left() -> Answer:
    """Keras's layer with its defaults has seen 100 batches. How much of the made-up start is left in its average?"""
    left = (1 - CONVENTIONS["Keras 3"].new) ** 100
    choice = "nothing" if left < 0.1 else "about a third" if left < 0.6 else "nearly all"
    torchs = (1 - CONVENTIONS["PyTorch"].new) ** 100
    return choice, f"0.99 to the power of 100 is {left:.0%}. In PyTorch it is {torchs:.3%}."


@explore(
    framework=OTHERS,
    given=control([0.01, 0.1, 0.99], label="momentum"),
    m=control([4, 60], label="batch size"),
)
def same_number(framework: str = "flax", given: float = 0.1, m: int = 4) -> Drawing:
    """One unit, the same number for the momentum: PyTorch, and another framework."""
    other, look = CONVENTIONS[framework], Arm(framework, ARMS["plain"].colour, (0, (5, 1.6)))
    found = {TORCH: experiment.follow("PyTorch", given, m), look: experiment.follow(framework, given, m)}
    fig, (left, right) = figure("running mean", "running variance", height=3.1)
    steps = np.arange(1, experiment.STEPS + 1)
    first = found[TORCH]
    for ax, batch, truth in ((left, first.batch_mean, UNIT_MEAN), (right, first.batch_var, UNIT_STD**2)):
        ax.plot(steps, batch, ".", color=DATA, markersize=2.5, alpha=0.45)
        ax.axhline(truth, color=INK, linewidth=1.3, linestyle=DASHED)
        step_axis(ax, experiment.STEPS, ticks=3)
    for arm, each in found.items():
        for ax, values in ((left, each.mean), (right, each.var)):
            ax.plot(steps, values, color=arm.colour, linestyle=arm.dashes, linewidth=1.3)
    left.set_ylim(-0.1, 4.6)
    right.set_ylim(-0.05, 2.6)
    key(left, (TORCH, look), top=1.0, step=0.09)
    late = slice(experiment.STEPS // 2, None)
    off = [np.abs(each.mean[late] - UNIT_MEAN).mean() for each in found.values()]
    settled = [each.var[late].mean() for each in found.values()]
    moves = [number(round(100 * CONVENTIONS[name].weight_of_new(given), 6)) for name in ("PyTorch", framework)]
    right_number = given if other.weighs == "new" else round(1 - given, 6)
    return fig, (
        f"Momentum {given:g}, batches of {m}: a new batch moves PyTorch's averages by {moves[0]} % of the way, those "
        f"of {framework} by {moves[1]} %. Over the later half the means are off by {off[0]:.2f} and {off[1]:.2f}, and "
        f"the variances are {settled[0]:.2f} and {settled[1]:.2f} on average. The number that does here what {given:g} "
        f"does in PyTorch is {right_number:g}."
    )


@predict("each of them costs accuracy", "some do, some do not", "none does")
def predict_ports() -> Answer:
    """A trained network is ported, with one of five mistakes in its BN layers. Do they cost accuracy?"""
    found = experiment.ports()
    own, *others = (each.accuracy.mean() for each in found.values())
    seen = sum(own - each > 0.02 for each in others)
    choice = {0: "none does", len(others): "each of them costs accuracy"}.get(seen, "some do, some do not")
    return choice, f"{seen} of the {len(others)} mistakes cost more than two points of accuracy."


@picture
def ports() -> Drawing:
    """What a mistake in porting BN does to a trained network: one small dot a seed."""
    found = experiment.ports()
    own = Arm("", ARMS["bn"].colour)
    wrong = Arm("", ARMS["plain"].colour)
    rows = {name: {own if name == MISTAKES[0] else wrong: each.accuracy} for name, each in found.items()}
    fig, (ax,) = figure("accuracy on unseen digits", height=3.1, left=2.35)
    dot_rows(ax, rows)
    percent_axis(ax.xaxis, 0, 1, 0.25)
    ax.axvline(found[MISTAKES[0]].accuracy.mean(), color=MUTED, linewidth=1, linestyle=DASHED)
    said = "; ".join(
        f"{name} {per_cent(each.accuracy)}" + (f" (scores off by up to {rounded(each.moved.mean())})" if i else "")
        for i, (name, each) in enumerate(found.items())
    )
    return fig, f"{len(found[MISTAKES[0]].accuracy)} networks with three ReLU layers: {said}."


# --- exercises -----------------------------------------------------------------------------------------------------


@exercise(unit="(PyTorch's momentum)")
def quiz_momentum() -> Answer:
    """A Keras layer has the default momentum 0.99. Which momentum does the layer of PyTorch get?"""
    new = CONVENTIONS["Keras 3"].weight_of_new(0.99)
    return (new - 1e-6, new + 1e-6), "1 − 0.99 = 0.01. And ε = 0.001, for PyTorch's own is a hundredth of that."


@exercise("with 1/m", "with 1/(m − 1)", "either: it is only read")
def quiz_onnx() -> Answer:
    """In training mode, which variance of the batch goes into ONNX's `running_var`?"""
    choice = "with 1/(m − 1)" if CONVENTIONS["ONNX"].unbiased else "with 1/m"
    return choice, (
        "The standard says so expressly. A network of PyTorch that is exported for training and trained further keeps "
        "another variance from then on."
    )


@exercise("the running ones", "the batch's, and the running ones stay", "the batch's, and the running ones move")
def quiz_frozen() -> Answer:
    """In PyTorch γ and β have `requires_grad=False`, and the network is in training mode. Which statistics count?"""
    return "the batch's, and the running ones move", (
        "Freezing parameters does not touch the mode. In Keras 3 `trainable=False` does both: the layer then runs in "
        "evaluation, even inside `fit`."
    )
