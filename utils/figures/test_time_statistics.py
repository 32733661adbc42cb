"""The figures of the page "Shift at test time": networks in another light, and statistics taken anew."""

import numpy as np
from matplotlib.axes import Axes

from utils import intervals
from utils.data import digits
from utils.experiments import test_time_statistics as experiment
from utils.experiments.test_time_statistics import (
    ARMS,
    BATCH_SIZES,
    BRIGHTNESS,
    COMPANIES,
    CONTRAST,
    CORRUPTIONS,
    SEEDS,
    TENT_RATES,
)
from utils.explore import Answer, Drawing, control, explore, picture, predict
from utils.style import (
    DOTTED,
    INK,
    MUTED,
    Arm,
    dot_row,
    dot_rows,
    draw_arm,
    figure,
    key,
    label,
    label_ends,
    log_axis,
    look_of,
    make_room,
    number,
    per_cent,
    percent_axis,
    told,
)

TENT = Arm("and less entropy", look_of("noisy").colour)


@explore(brightness=BRIGHTNESS, contrast=CONTRAST, clip=control(True, label="cut to [0, 1]"))
def other_light(brightness: float = 0.0, contrast: float = 1.0, clip: bool = False) -> Drawing:
    """Digits in another light, and the networks that never saw it."""
    fig, (left, right) = figure("images", f"test accuracy, {SEEDS} seeds", height=3.5)
    left.set_axis_off()
    _image(left, 0, "as in\ntraining", MUTED)
    _image(left, 1, "at test\ntime", INK, brightness, contrast, clip)
    result = experiment.accuracy_in_light(brightness, contrast, clip)
    for place, arm in enumerate(reversed(ARMS)):
        dot_row(right, place, arm, result[arm])
        label(right, arm, 0.02, place + 0.3, fontsize=10, transform=right.get_yaxis_transform())
    percent_axis(right.xaxis, step=0.5)
    right.set(ylim=(-0.4, 2.75), yticks=[], xlabel="correct")
    light = f"brightness {'+' * (brightness > 0)}{number(brightness)}, contrast × {contrast:g}"
    cut = ", cut to [0, 1]" if clip else ""
    return fig, f"At {light}{cut}: {told(result, per_cent)} correct ({SEEDS} seeds)."


def _image(ax: Axes, place: int, text: str, colour: str, *light: float) -> None:
    """The first test digit in a light, on one scale for all, with words beside it."""
    inset = ax.inset_axes((0.0, 0.5 - 0.54 * place, 0.62, 0.5))
    image = experiment.adjusted(digits().x_test[0], *light)
    inset.imshow(image.reshape(8, 8), cmap="gray", vmin=-0.5, vmax=1.5)
    inset.set(xticks=[], yticks=[])
    inset.grid(visible=False)
    inset.spines[:].set_visible(True)
    ax.text(0.64, 0.75 - 0.54 * place, text, fontsize=10, va="center", color=colour)


@picture
def what_it_mends() -> Drawing:
    """Six changes of the test images, and how the three networks bear them."""
    results = {kind: experiment.accuracy_corrupted(kind) for kind in CORRUPTIONS}
    fig, (ax,) = figure(f"test accuracy, {SEEDS} seeds", height=4.4, left=1.15)
    dot_rows(ax, results)
    percent_axis(ax.xaxis)
    key(ax, ARMS, x=0.55, top=0.3)
    said = [
        f"{kind} " + ", ".join(f"{each.mean():.0%}" for each in result.values()) for kind, result in results.items()
    ]
    names = ", ".join(look_of(arm).label for arm in ARMS)
    return fig, f"Share correct, {names} in this order, mean of {SEEDS} seeds: {'; '.join(said)}."


@explore(
    classes=control([1, 2, 5, 10], label="classes in a batch"),
    brightness=control([0.0, 0.1, 0.25], label="brightness"),
)
def batch_composition(classes: int = 10, brightness: float = 0.25) -> Drawing:
    """Statistics taken from the very batch that is classified: how large, and how mixed, must it be?"""
    own = np.array([experiment.accuracy_by_batch(size, classes, brightness) for size in BATCH_SIZES]).T
    alone, anew = experiment.accuracy_in_light(brightness), ARMS[2]
    fig, (ax,) = figure("test accuracy", height=3.3)
    log_axis(ax.xaxis, (2, 32), BATCH_SIZES)
    percent_axis(ax.yaxis)
    ax.set_xlabel("images in a batch")
    draw_arm(ax, anew, BATCH_SIZES, own)
    ends = {anew: own[:, -1].mean()}
    for arm in ("plain", "bn"):
        ends[arm] = alone[arm].mean()
        ax.axhline(ends[arm], color=look_of(arm).colour, linestyle=look_of(arm).dashes)
    make_room(fig, *(f" {look_of(arm).label} " for arm in ends))
    label_ends(ax, ends)
    return fig, (
        f"Batches of {classes} class{'es' * (classes > 1)}, brightness {'+' * (brightness > 0)}{brightness:g}, {SEEDS} "
        f"seeds: with the statistics of its own batch BN has {per_cent(own[:, -1])} correct in batches of 32 and "
        f"{per_cent(own[:, 1])} in batches of 4; with those of training {alone['bn'].mean():.1%}; plain "
        f"{alone['plain'].mean():.1%}."
    )


@explore(
    company=control(list(COMPANIES), label="batches of"),
    rate=control(TENT_RATES, label="rate"),
)
def entropy(company: str = "60, mixed", rate: float = 0.001) -> Drawing:
    """New statistics alone, and with γ and β that make the network surer of its answers."""
    found = experiment.adapted(company, rate)
    fig, (left, right) = figure("test accuracy", "points added", height=3.4, left=0.85)
    dot_rows(left, {kind: {ARMS[2]: each.before, TENT: each.after} for kind, each in found.items()})
    dot_rows(right, {kind: {TENT: each.points} for kind, each in found.items()})
    percent_axis(left.xaxis, step=0.5)
    reach = max(6.0, 1.08 * max(np.abs(each.points).max() for each in found.values()))
    right.set_xlim(-reach, reach)
    right.axvline(0, color=MUTED, linewidth=1.4, linestyle=DOTTED)
    right.tick_params(labelleft=False)
    for ax, arm, top in ((left, ARMS[2], 0.38), (left, TENT, 0.6)):
        label(ax, arm, 0.04, top, fontsize=9)
    fig.subplots_adjust(wspace=0.2)
    said = "; ".join(
        f"{kind} {each.before.mean():.1%}, then {each.after.mean():.1%} ({_points(each.points)})"
        for kind, each in found.items()
    )
    return fig, (
        f"Batches of {company}, rate {rate:g}, {experiment.TENT_STEPS} steps, {SEEDS} seeds. With new statistics, then "
        f"with less entropy, too: {said}."
    )


def _points(values: np.ndarray) -> str:
    """A mean difference with its 95 % interval."""
    middle, low, high = (number(round(each, 1)) for each in intervals.mean(values))
    return f"{middle} points [{low}, {high}]"


# --- questions -----------------------------------------------------------------------------------------------------

PLAIN_BETTER, BN_BETTER, ALIKE = "the plain network", "the network with BN", "both alike"


@predict(PLAIN_BETTER, BN_BETTER, ALIKE)
def predict_light() -> Answer:
    """One network normalises its hidden layers, with statistics kept from training; the other does not. Which bears a
    brighter light better?
    """
    found = {arm: values.mean() for arm, values in experiment.accuracy_in_light(0.25).items()}
    ahead = found["plain"] - found["bn"]
    choice = PLAIN_BETTER if ahead > 0.02 else BN_BETTER if ahead < -0.02 else ALIKE
    return choice, f"At brightness 0.25: plain {found['plain']:.0%}, BN {found['bn']:.0%} right answers."


MENDED = ("blur", "noise", "black and white exchanged", "none of the three")


@predict(*MENDED)
def predict_mended() -> Answer:
    """Which of three changes do new statistics mend best?"""
    found = [experiment.accuracy_corrupted(kind) for kind in ("blurred", "noise", "inverted")]
    gains = [each[ARMS[2]].mean() - each["bn"].mean() for each in found]
    best = int(np.argmax(gains))
    choice = MENDED[best] if gains[best] > 0.05 else MENDED[3]
    told_gains = ", ".join(f"{name} {100 * gain:.0f}" for name, gain in zip(MENDED, gains, strict=False))
    return choice, f"Points of accuracy that new statistics give back to BN: {told_gains}."


NOTHING, SOMEWHAT, RUIN = "nothing: the light is right", "somewhat worse answers", "answers as good as guesses"


@predict(NOTHING, SOMEWHAT, RUIN)
def predict_one_class() -> Answer:
    """The light has not changed, and 32 images come in, all of one digit. What will re-estimated statistics give?"""
    accuracy = experiment.accuracy_by_batch(32, 1, 0.0).mean()
    choice = RUIN if accuracy < 0.25 else SOMEWHAT if accuracy < 0.9 else NOTHING
    return choice, f"{accuracy:.0%} right answers: what all images have in common is taken for the mean, and removed."


ADDS, NO_MORE, HARMS = "adds points", "changes little", "costs points"


@predict(ADDS, NO_MORE, HARMS)
def predict_entropy() -> Answer:
    """Noise on every pixel leaves the network with fewer than half of its answers right. It is now made surer of them,
    small step by small step. What does that do?
    """
    points = experiment.adapted("60, mixed", 0.001)["noise"].points
    choice = ADDS if points.mean() > 0.5 else HARMS if points.mean() < -0.5 else NO_MORE
    return choice, f"{_points(points)} at the rate 0.001, the paper's, in {experiment.TENT_STEPS} steps."
