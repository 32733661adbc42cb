"""The figures of the page "The failure lab"."""

import numpy as np
from matplotlib.axes import Axes

from utils.experiments import failure_lab as experiment
from utils.experiments import two_processes
from utils.experiments.failure_lab import (
    BATCH_SIZES,
    DECAYS,
    DROPPED,
    LAST,
    LIGHTS,
    LOOKS,
    MEANS,
    METHODS,
    MICRO_BATCHES,
    MODES,
    NORMS,
    ORDERS,
    PADDING,
    PRECISIONS,
    PREDICTORS,
    SEEDS,
    UNITS,
    WIDTHS,
)
from utils.explore import Answer, Drawing, control, exercise, explore, predict, table
from utils.explore.table import Table
from utils.style import (
    ARMS,
    DASHED,
    DATA,
    DOTTED,
    FAINT,
    INK,
    MUTED,
    Arm,
    draw_arm,
    draw_arms,
    figure,
    label,
    label_ends,
    log_axis,
    look_of,
    make_room,
    number,
    per_cent,
    percent_axis,
    running_mean,
    spread,
    step_axis,
    told,
)

BLUE = ARMS["bn"].colour
OLD, NEW = Arm("old", BLUE), Arm("new", MUTED, DASHED)
FREE, HELD = Arm("free", BLUE), Arm("held", ARMS["noisy"].colour, DASHED)  # the lengths of the weights
STORED, ANEW = Arm("stored", BLUE), Arm("taken anew", ARMS["bn, re-estimated"].colour)
NONE = Arm("no dropout", MUTED)
LOOKS_OF_METHODS = {
    METHODS[0]: Arm("one pass", ARMS["plain"].colour),
    METHODS[1]: Arm("two passes", ARMS["noisy"].colour, DASHED),
    METHODS[3]: Arm("the layers", BLUE),
}
SHOWN = 500  # entries of a gradient


# --- freezing ---------------------------------------------------------------------------------------------------------


@explore(mode=control(MODES, label="norms in"), light=control(list(LIGHTS), label="new images"))
def frozen(mode: str = "eval()", light: str = "brighter") -> Drawing:
    """A frozen network, while a new head on it learns new images."""
    found = experiment.fine_tuned(mode, light)
    fig, (left, right) = figure("means moved by", "accuracy on images", height=3.2)
    draw_arm(left, "bn", LOOKS, found.moved)
    left.set(ylim=(-0.05, 2.0), ylabel="widths")
    right.set_ylim(0, 1.02)
    draw_arms(right, LOOKS, {OLD: found.old, NEW: found.new})
    percent_axis(right.yaxis)
    for ax in (left, right):
        step_axis(ax, LOOKS[-1], ticks=2)
    return fig, (
        f"New images: {light}; norms in {mode}. After {LOOKS[-1]} steps of the new head the first layer's running "
        f"means have moved by {found.moved[:, -1].mean():.2f} widths; of the old images the old head has "
        f"{per_cent(found.old[:, -1])} right, at first {per_cent(found.old[:, 0])}; of the new images the new head has "
        f"{per_cent(found.new[:, -1])} ({SEEDS} seeds)."
    )


# --- accumulating gradients -------------------------------------------------------------------------------------------


@explore(
    micro_batch=control(MICRO_BATCHES[::-1], label="micro-batch", unit="examples"),
    norm=control(["plain", "BN", "layer norm"], label="gradient of"),
)
def accumulation(micro_batch: int = 64, norm: str = "BN") -> Drawing:
    """A batch of 64 in micro-batches: its gradient, and what training makes of it."""
    arm = {look_of(each).label: each for each in NORMS}[norm]
    fig, (left, right) = figure("one dot a weight", "test accuracy", height=3.3)
    whole, parts = (experiment.accumulated_gradients(arm, size)[0] for size in (64, micro_batch))
    some = slice(None, None, max(len(whole) // SHOWN, 1))
    reach = 3.5 * whole.std()
    left.plot([-1, 1], [-1, 1], color=FAINT, linewidth=5, solid_capstyle="round")
    inside = {"color": look_of(arm).colour, "alpha": 0.5, "markersize": 3.5, "markeredgewidth": 0}
    left.plot(*(np.clip(each[some] / reach, -0.98, 0.98) for each in (whole, parts)), "o", **inside)
    left.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[0], yticks=[0], xlabel="gradient, 64 at once")
    left.set_ylabel("gradient, accumulated")
    left.tick_params(labelbottom=False, labelleft=False)
    runs = experiment.accumulated(micro_batch)
    step_axis(right, experiment.ACCUMULATING.steps, ticks=2)
    right.set_ylim(0, 1.02)
    draw_arms(right, runs["bn"][0].eval_steps, {each: _accuracies(runs[each]) for each in NORMS}, gap=0.1)
    percent_axis(right.yaxis)
    fig.subplots_adjust(left=0.07, wspace=0.38)
    cosine = abs(experiment.accumulation_cosines(arm, micro_batch).mean())
    said = told({each: _accuracies(runs[each])[:, -1] for each in NORMS}, per_cent)
    return fig, (
        f"A batch of 64 in micro-batches of {micro_batch}: {norm}'s gradient has a cosine of {cosine:.2f} with that of "
        f"the batch as one; test accuracy after {experiment.ACCUMULATING.steps} steps: {said} ({SEEDS} seeds)."
    )


def _accuracies(runs: list) -> np.ndarray:
    return np.array([run.test_accuracy for run in runs])


# --- dropout ----------------------------------------------------------------------------------------------------------


@explore(order=control(ORDERS, label="dropout"))
def dropout(order: str = "after the last ReLU only") -> Drawing:
    """The variance that a norm has stored, and the one that it meets in use, when dropout is off."""
    found, without = experiment.dropped(order), experiment.undropped()
    fig, (left, right) = figure("variance, use / stored", "test loss", height=3.2, left=0.75)
    layers = np.arange(1, 1 + found.variance.shape[1])
    left.axhline(1, color=MUTED, linewidth=1.4, linestyle=DOTTED)
    draw_arm(left, "bn", layers, found.variance)
    left.set(xlim=(0.8, 3.2), ylim=(0, 1.3), xticks=layers, xlabel="hidden layer")
    rows = {NONE: without.loss[:, 0], STORED: found.loss[:, 0], ANEW: found.loss[:, 1]}
    _rows(right, rows, (0, 0.8))
    means = found.accuracy.mean(0)
    ratios = ", ".join(f"{each:.2f}" for each in found.variance.mean(0))
    return fig, (
        f"Dropout of {DROPPED:g} {order}: in use the variance is {ratios} times the stored one in layers 1, 2 and 3. "
        f"Test loss: {told(rows)}; accuracy: no dropout {without.accuracy[:, 0].mean():.1%}, stored {means[0]:.1%}, "
        f"taken anew {means[1]:.1%} ({SEEDS} seeds)."
    )


def _rows(ax: Axes, rows: dict[Arm, np.ndarray], limits: tuple[float, float]) -> None:
    """One row of dots for each arm, with its name above it."""
    for place, (arm, values) in enumerate(reversed(rows.items())):
        drawn = np.minimum(values, limits[1])
        ax.plot(drawn, np.full(len(drawn), place), "o", color=arm.colour, alpha=0.4, markersize=4.5, markeredgewidth=0)
        ax.plot(drawn.mean(), place, "o", color=arm.colour, markersize=8, markeredgewidth=0)
        label(ax, arm, 0.02, place + 0.3, fontsize=10, transform=ax.get_yaxis_transform())
    ax.set(ylim=(-0.4, len(rows) - 0.25), yticks=[], xlim=limits)


# --- weight decay -----------------------------------------------------------------------------------------------------


@explore(decay=control(DECAYS, label="weight decay"))
def decay(decay: float = 0.0) -> Drawing:
    """Weight decay, and the same where the hidden weights get their length back after each step."""
    found = {FREE: experiment.decayed(decay), HELD: experiment.decayed(decay, fixed_lengths=True)}
    steps = experiment.DECAYING.steps
    fig, (left, right) = figure("effective rate", "training loss", height=3.3, left=0.78)
    log_axis(left.yaxis, (7e-4, 0.3))
    log_axis(right.yaxis, (0.007, 3))
    for ax, start in ((left, 0), (right, LAST)):
        step_axis(ax, steps, start=start, ticks=2)
    for arm, each in found.items():
        draw_arm(left, arm, np.arange(steps + 1), each.rate)
    curves = {arm: running_mean(each.loss[:, 1:], LAST) for arm, each in found.items()}
    draw_arms(right, np.arange(LAST, steps + 1), curves)
    fig.subplots_adjust(wspace=0.5)
    last = {arm: each.rate[:, -1].mean() for arm, each in found.items()}
    losses = told({arm: curve[:, -1] for arm, curve in curves.items()}, lambda values: spread(values, 3))
    correct = told({arm: each.accuracy for arm, each in found.items()}, per_cent)
    return fig, (
        f"Weight decay {decay:g}, lengths free or held, {SEEDS} seeds, after {steps} steps: effective rate of layer 2 "
        f"free {number(last[FREE], 2)}, held {number(last[HELD], 2)}; training loss (of {LAST} batches) {losses}; test "
        f"accuracy {correct}."
    )


# --- padding ----------------------------------------------------------------------------------------------------------


@explore(share=control(PADDING, label="share of padding"), unit=control(UNITS, label="a unit with"))
def padding(share: float = 0.0, unit: str = "a mean far from 0") -> Drawing:
    """Padded places in a batch, and what the same real examples become."""
    values = experiment.real_values(unit)
    mean, var = experiment.padded_statistics(values.mean(), values.var(), share)
    fig, (left, right) = figure("what the norm is given", "five examples after it", height=3.3)
    everything = experiment.padded(values, share)
    edges = np.linspace(min(values.min(), 0) - 0.3, max(values.max(), 0) + 0.3, 30)
    left.hist([values, everything[len(values) :]], edges, stacked=True, color=[DATA, FAINT])
    top = 1.0 * np.histogram(values, edges)[0].max()
    bars = ((values.mean(), values.std(), INK, "real", 1.12), (mean, np.sqrt(var), BLUE, "all places", 1.34))
    for middle, width, colour, name, height in bars:
        left.plot([middle - width, middle + width], [height * top] * 2, color=colour)
        left.plot(middle, height * top, "o", color=colour, markersize=6)
        left.text(middle, (height + 0.05) * top, name, color=colour, fontsize=9, ha="center", va="bottom")
    left.set(ylim=(0, 1.6 * top), yticks=[], xlabel="value before the norm", xlim=(edges[0], edges[-1]))
    shares = np.linspace(0, PADDING[-1], 60)
    curves = [experiment.padded_statistics(values.mean(), values.var(), each) for each in shares]
    for example in np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)):
        right.plot(shares, [(example - m) / np.sqrt(v) for m, v in curves], color=DATA, linewidth=1.6)
        right.plot(share, (example - mean) / np.sqrt(var), "o", color=BLUE, markersize=6)
    right.set_xlabel("share of padding")
    percent_axis(right.xaxis, high=0.9, step=0.3)
    return fig, (
        f"With {share:.0%} padding the norm's mean is {number(mean, 3)} and its width {number(np.sqrt(var), 3)}; of "
        f"the real examples alone they are {number(values.mean(), 3)} and {number(values.std(), 3)}."
    )


# --- half precision ---------------------------------------------------------------------------------------------------

BOTTOM, TOP, NO_NUMBER = -0.4, 2.2, 2.5  # of the panel; what is no number stands above


@explore(precision=list(PRECISIONS), width=control(WIDTHS, label="width of the values"))
def precision(precision: str = "float32", width: float = 1.0) -> Drawing:
    """The variance of a batch, found in few bits, over the true one of the same numbers."""
    ratios = experiment.variance_ratios(precision, width)
    fig, (ax,) = figure("variance found / true", height=3.3, left=0.98)
    log_axis(ax.xaxis, (0.08, 1300), (0.1, 1, 10, 100, 1000))
    ax.set(ylim=(BOTTOM, NO_NUMBER + 0.2), xlabel="mean of the values, in widths")
    ax.set_yticks([0, 1, 2, NO_NUMBER], ["0", "1", "2", "no number"])
    drawn = {arm: _placed(ratios[method]) for method, arm in LOOKS_OF_METHODS.items()}
    for shift, (arm, places) in zip((-0.05, 0.05, 0), drawn.items(), strict=True):
        x = np.array(MEANS) * 10**shift
        ax.plot(x, places.T, "o", color=arm.colour, alpha=0.35, markersize=4, markeredgewidth=0)
        ax.plot(x, np.median(places, 0), color=arm.colour, linestyle=arm.dashes, linewidth=1.6)
    make_room(fig, *(arm.label for arm in drawn))
    label_ends(ax, {arm: float(np.median(places[:, -1])) for arm, places in drawn.items()})
    said = ", ".join(f"{arm.label} {_wrong_from(ratios[method])}" for method, arm in LOOKS_OF_METHODS.items())
    return fig, f"{precision}, width {width:g}, {SEEDS} batches of 1,000. Right to a tenth in all batches: {said}."


def _placed(ratios: np.ndarray) -> np.ndarray:
    """Where ratios are drawn: what leaves the panel at its edge, what is no number above it."""
    return np.where(np.isfinite(ratios), np.clip(ratios, BOTTOM + 0.05, TOP), NO_NUMBER)


def _wrong_from(ratios: np.ndarray) -> str:
    """Up to which mean a method is right."""
    with np.errstate(invalid="ignore"):
        good = (np.abs(ratios - 1) < 0.1).all(0)
    if good.all():
        return "at every mean"
    wrong = int(np.argmin(good))
    return f"up to a mean of {MEANS[wrong - 1]:g} widths" if wrong else "nowhere"


# --- tables -----------------------------------------------------------------------------------------------------------


def devices_table() -> Table:
    """What two processes make of the gradient of one batch."""
    rows = []
    for size, found in two_processes.gradients().items():
        cosine = experiment.cosines(found.own, found.whole)
        error = experiment.relative_errors(found.synchronised, found.whole).max()
        rows.append((f"{size // 2} + {size // 2}", spread(cosine), number(float(error), 1)))
    return table("examples", "own statistics: cosine", "synchronised: largest relative difference", rows=rows)


def regression_table() -> Table:
    """The squared error of three networks, as a share of the variance of the targets."""
    rows = []
    for size in BATCH_SIZES:
        for arm in PREDICTORS:
            found = experiment.predicted_at_its_best(arm, size)
            rows.append((size, PREDICTOR_NAMES[arm], spread(found.training, 3), spread(found.in_use, 3)))
    return table("batch", "network", "error in training", "error in use", rows=rows)


PREDICTOR_NAMES = dict(zip(PREDICTORS, ("plain", "BN in the hidden layers", "BN on the output, too"), strict=True))


# --- questions --------------------------------------------------------------------------------------------------------

NOTHING, LITTLE, HALF = "nothing: no weight has changed", "a point or two", "tens of points"


@predict(NOTHING, LITTLE, HALF)
def predict_frozen() -> Answer:
    """All weights are frozen with `requires_grad=False`, the norms' too, and `model.train()` is called. After 60
    batches of brighter images, how much accuracy is lost on the old images?
    """
    lost = experiment.lost_by_freezing("train()", "brighter")
    choice = HALF if lost.mean() > 10 else LITTLE if lost.mean() > 0.5 else NOTHING
    return choice, f"{spread(lost, 0)} points, {SEEDS} networks: the running statistics are no parameters."


@predict("plain, BN and layer norm", "plain and layer norm", "plain only", "none of them")
def predict_accumulation() -> Answer:
    """A batch of 64 goes through in 16 micro-batches of 4, and the gradients are averaged. In which networks is that
    the gradient of the batch of 64?
    """
    errors = {
        arm: experiment.relative_errors(*(experiment.accumulated_gradients(arm, size) for size in (4, 64))).max()
        for arm in NORMS
    }
    same = tuple(arm for arm in NORMS if errors[arm] < 1e-6)
    names = {NORMS: "plain, BN and layer norm", ("plain", "layer"): "plain and layer norm", ("plain",): "plain only"}
    said = ", ".join(f"{look_of(arm).label} {number(float(error), 1)}" for arm, error in errors.items())
    return names.get(same, "none of them"), f"Largest relative difference: {said}."


LOSS, ACCURACY, BOTH, NO_HELP = "the loss", "the accuracy", "both", "neither"


@predict(LOSS, ACCURACY, BOTH, NO_HELP)
def predict_dropout() -> Answer:
    """A network was trained with dropout of 0.5 before each norm. Its statistics are taken anew without dropout. What
    gets better on test images?
    """
    found = experiment.dropped("before the norm")
    loss = (found.loss[:, 1] / found.loss[:, 0]).mean()
    points = 100 * (found.accuracy[:, 1] - found.accuracy[:, 0]).mean()
    choice = {(True, True): BOTH, (True, False): LOSS, (False, True): ACCURACY}.get((loss < 0.9, points > 1), NO_HELP)
    return choice, f"Loss times {loss:.2f}, accuracy {points:+.1f} points, mean of {SEEDS} seeds."


LONGER, FASTER, SIMPLER = "its steps turn less", "its steps turn more", "its function gets simpler"


@predict(LONGER, FASTER, SIMPLER)
def predict_decay() -> Answer:
    """Weight decay shrinks the weights in front of a norm, and the norm divides by the spread again. What is left of
    it?
    """
    ratio = experiment.rate_ratio(0.01)
    choice = FASTER if ratio.mean() > 1 else LONGER
    return choice, f"The effective rate of layer 2 is {ratio.mean():.0f} times as high as without decay, decay 0.01."


@predict("0", "about 0.02", "about 0.2", "about 0.5")
def predict_floor() -> Answer:
    """The targets have variance 1, a batch has 8 of them, and BN is the last layer. How low can the mean squared error
    of a batch get in training, at best?
    """
    found = experiment.predicted_at_its_best(PREDICTORS[2], 8).training.mean()
    plain = experiment.predicted_at_its_best("plain", 8).training.mean()
    return "about 0.2", (
        f"No batch has just the mean and the spread that BN gives it: about 1.5 / 8 is lost. Trained: {found:.2f}, "
        f"without any norm {plain:.2f}."
    )


@exercise("nothing", "twice the learning rate", "half the learning rate")
def quiz_decay() -> Answer:
    """Every weight in front of a norm is multiplied by 1/√2, once, and training goes on by SGD. What would have had the
    same effect on these weights?
    """
    return "twice the learning rate", "The effective rate is the rate over the squared length, and that has halved."


@exercise(unit="widths")
def quiz_padding() -> Answer:
    """A feature's real values have mean 3 and standard deviation 1. Half of all places are padding, zeros. How many
    standard deviations, by the norm's statistics, are there between an ordinary real value (3) and the padding (0)?
    """
    mean, var = experiment.padded_statistics(3.0, 1.0, 0.5)
    return (1.75, 1.85), f"Mean {mean:g}, variance {var:g}: 3 / √{var:g} = {3 / var**0.5:.2f}, where it was 3."
