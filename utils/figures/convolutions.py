"""The figures of the chapter "Convolutions and batches"."""

import numpy as np

from utils.experiments import convolutions as experiment
from utils.experiments.convolutions import (
    BATCH_SIZES,
    CASES,
    CLASSES,
    CONV,
    CONV_SEEDS,
    KINDS,
    LOOKS,
    SIZE,
    WINDOW,
    batches_of_one_kind,
    feature_maps,
    outcomes,
    steadiness,
)
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.style import (
    ARMS,
    DASHED,
    DATA,
    DOTTED,
    FAINT,
    INK,
    MUTED,
    Arm,
    dot_rows,
    draw_arm,
    figure,
    guessing,
    key,
    label,
    log_axis,
    per_cent,
    percent_axis,
    rounded,
    share_y,
    told,
)
from utils.training import SEEDS

OWN = Arm("BN, own statistics", ARMS["bn"].colour, DOTTED)


# --- who shares a mean ------------------------------------------------------------------------------------------------


@explore(kind=list(KINDS), channel=control([1, 2, 3, 4], unit="of 4"))
def who_shares_a_mean(kind: str = "dense layer", channel: int = 1) -> Drawing:
    """Lit: the values that share one mean, one variance, one γ and one β."""
    values = feature_maps(kind)
    N, C, *places = values.shape
    maps = values.reshape(N, C, *[1] * (2 - len(places)), *places)  # a picture for each image and channel
    fig, axes = figure(*[""] * (N * C), rows=N, height=3.8, left=0.75, bottom=0.35)
    fig.subplots_adjust(wspace=0.12, hspace=0.12, right=0.97, top=0.9)
    limit = maps.abs().max().item()
    for place, ax in enumerate(axes):
        n, c = divmod(place, C)
        lit = c == channel - 1
        ax.imshow(maps[n, c], cmap="cividis", vmin=-limit, vmax=limit, alpha=1.0 if lit else 0.22, aspect="auto")
        ax.set(xticks=[], yticks=[], box_aspect=0.3 if len(places) == 1 else None)
        ax.grid(visible=False)
        ax.spines[:].set(visible=True, color=INK if lit else FAINT, linewidth=2.4 if lit else 0.8)
        if n == 0:
            ax.set_title(f"channel {c + 1}", loc="center", fontsize=10, fontweight="bold" if lit else "normal")
        if c == 0:
            ax.set_ylabel(f"image {n + 1}", rotation=0, ha="right", va="center", fontsize=10)
    one = maps[:, channel - 1]
    counted = f"{' · '.join(map(str, (N, *places)))} = {one.numel()}" if places else f"{N}"
    return fig, (
        f"{kind.capitalize()}, {KINDS[kind]} = {tuple(values.shape)}, channel {channel}: {counted} values share the "
        f"mean {_fixed(one.mean())} and the standard deviation {_fixed(one.std(correction=0))}. The layer learns {C} "
        f"numbers γ and {C} numbers β."
    )


def _fixed(value: float) -> str:
    return f"{round(float(value), 2) + 0.0:.2f}"  # and never "-0.00"


# --- how steady is a batch's mean -------------------------------------------------------------------------------------


@explore(
    layer=control(range(1, CONV.depth + 1), label="convolution", unit=f"of {CONV.depth}"),
    is_trained=control([False, True], label="trained"),
)
def steadier(layer: int = 1, is_trained: bool = True) -> Drawing:
    """How far do the means of random batches stray from the mean of all images?"""
    runs = steadiness(is_trained)
    strays = np.array([run.strays[layer - 1] for run in runs])
    worth, places = np.array([run.worth[layer - 1] for run in runs]), int(runs[0].places[layer - 1])
    sizes = np.array(BATCH_SIZES)

    fig, (ax,) = figure("how far a batch's mean strays, in standard deviations", height=3.3)
    log_axis(ax.xaxis, (1, 64), BATCH_SIZES)
    log_axis(ax.yaxis, (0.006, 1.3), (0.01, 0.1, 1))
    ax.set_xlabel("images in a batch")
    ax.plot(sizes, sizes**-0.5, color=INK, linestyle=DASHED, linewidth=1.6)
    ax.plot(sizes, (sizes * places) ** -0.5, color=MUTED, linestyle=DOTTED, linewidth=1.8)
    ax.plot(sizes, strays.T, color=DATA, alpha=0.35, linewidth=0.9)
    ax.plot(sizes, np.exp(np.log(strays).mean(0)), color=DATA)
    ax.text(8, 1.13 * 8**-0.5, "dense layer: one value an image", color=INK, fontsize=9.5)
    ax.text(8, 1.13 * (8 * worth.mean()) ** -0.5, "measured", color=DATA, fontsize=9.5, fontweight="bold")
    below = {"color": MUTED, "fontsize": 9.5, "va": "top"}
    ax.text(1.1, 0.8 * (7 * places) ** -0.5, f"if the {places} places were independent", **below)
    return fig, (
        f"Convolution {layer}, {'trained' if is_trained else 'untrained'}, {len(runs)} seeds: the mean of "
        f"8 images strays by {rounded(strays[:, 3].mean())} standard deviations. So the {places} places of an image "
        f"are worth {rounded(worth.mean())} independent values (seeds from {rounded(worth.min())} to "
        f"{rounded(worth.max())})."
    )


# --- few images to a mean ---------------------------------------------------------------------------------------------


@explore(network=list(CASES))
def small_batches(network: str = "fully connected") -> Drawing:
    """What remains of training when few images share a mean?"""
    of, case = outcomes(network), CASES[network]
    fig, (left, right) = figure("late in training", "new images", height=3.5)
    for ax in (left, right):
        log_axis(ax.xaxis, (0.9 * min(case.shares), 1.1 * max(case.shares)), case.shares)
        percent_axis(ax.yaxis)
        ax.set_xlabel("images to a mean, m")
    share_y(left, right)
    for arm, by_share in of.items():
        draw_arm(left, arm, case.shares, np.array([each.training for each in by_share.values()]).T)
        draw_arm(right, arm, case.shares, np.array([each.evaluation for each in by_share.values()]).T)
    own = np.array([each.own for each in of["bn"].values()]).T
    draw_arm(right, OWN, case.shares, own, seeds=False)
    key(left, ("plain", "bn", "group"), x=0.4, top=0.385)
    key(right, ("bn", OWN), x=0.2, top=0.22)
    guessing(left, np.sqrt(min(case.shares) * max(case.shares)) * 0.62)
    least, second, most = case.shares[0], case.shares[1], case.shares[-1]
    bn = {
        share: f"BN {per_cent(each.training)} in training, {per_cent(each.evaluation)} in evaluation, "
        f"{each.own.mean():.1%} by statistics of its own"
        for share, each in of["bn"].items()
    }
    others = told({arm: of[arm][least].training for arm in ("plain", "group")}, lambda values: f"{values.mean():.1%}")
    return fig, (
        f"{network.capitalize()}, {case.seeds} seeds, right answers. m = {least}: {bn[least]}; {others} in training. "
        f"m = {second}: {bn[second]}. m = {most}: {bn[most]}."
    )


# --- batches of one kind ----------------------------------------------------------------------------------------------


@explore(
    classes=control(list(CLASSES), label="classes in a batch"),
    step=control(list(LOOKS), label="training step", plays=True),
)
def one_kind(classes: int = 10, step: int = 50) -> Drawing:
    """Each training batch holds few classes. What has the network learned?"""
    look = LOOKS.index(step)
    of = {norm: batches_of_one_kind(norm, classes) for norm in ("plain", "bn")}
    kind = f"{classes} class{'es' * (classes > 1)}"
    rows = {
        "training batches": "training",
        "new, in evaluation": "evaluation",
        "new, mixed batches": "mixed",
        f"new, batches\nof {kind}": "alike",
    }
    fig, (ax,) = figure(f"right answers, step {step}", height=3.4, left=1.66)
    shown = {row: {norm: getattr(of[norm], name)[look] for norm in of} for row, name in rows.items()}
    dot_rows(ax, shown)
    percent_axis(ax.xaxis)
    ax.axvline(0.1, color=MUTED, linewidth=1, linestyle=DOTTED)
    ax.text(0.11, 0.5, "guessing", color=MUTED, fontsize=9, va="center")
    for arm, x in (("plain", 0.84), ("bn", 1.0)):
        label(ax, arm, x, 1.045, f"● {ARMS[arm].label}", ha="right", transform=ax.transAxes)
    means = {row: " / ".join(f"{each.mean():.0%}" for each in arms.values()) for row, arms in shown.items()}
    training, evaluation, mixed, alike = means.values()
    latest = ""
    if classes == 1:
        given = " / ".join(f"{of[norm].latest[look].mean():.0%}" for norm in of)
        latest = f" New images that are given the class of the latest batch: {given}; a fair share is 10%."
    return fig, (
        f"Batches of {kind}, {SEEDS} seeds, plain / BN: {training} of the last {WINDOW} training batches right; of new "
        f"images {evaluation} in evaluation, {mixed} in mixed batches with statistics of their own, {alike} in such "
        f"batches of {kind}.{latest}"
    )


# --- questions --------------------------------------------------------------------------------------------------------


@predict("1", "8", "8 · 14 · 14 = 1,568", "32 · 8 = 256")
def predict_means() -> Answer:
    """A convolution has 8 channels, its maps are 14 by 14, and 32 images are in the batch. How many means does BN
    take?
    """
    return "8", "One for each channel, over 32 · 14 · 14 = 6,272 values."


ALL_OF_THEM, HALF, TEN, ONE = "196", "about 100", "about 10", "1"


@predict(ALL_OF_THEM, HALF, TEN, ONE)
def predict_worth() -> Answer:
    """The first convolution gives 14 · 14 = 196 values of a channel for each image, and neighbours are alike. For the
    mean of a batch, one image is worth how many independent values?
    """
    worth = experiment.images_worth()["convolution 1, trained"]
    choice = ALL_OF_THEM if worth.mean() > 150 else HALF if worth.mean() > 40 else TEN if worth.mean() > 3 else ONE
    return choice, (
        f"{rounded(worth.mean())}, in the mean of {CONV_SEEDS} networks (from {rounded(worth.min())} to "
        f"{rounded(worth.max())}). A bright picture is bright in many places at once."
    )


NEITHER, DENSE, CONVOLUTIONAL, BOTH = "neither", "the fully connected one", "the convolutional one", "both"


@predict(NEITHER, DENSE, CONVOLUTIONAL, BOTH)
def predict_pairs() -> Answer:
    """Now only two images share a mean. Which network loses more than a quarter of its right answers in training?"""
    losses = {}
    for name, case in (("the fully connected one", "fully connected"), ("the convolutional one", "convolutional")):
        bn = outcomes(case)["bn"]
        losses[name] = 1 - bn[2].training.mean() / bn[max(CASES[case].shares)].training.mean()
    lost = [name for name, loss in losses.items() if loss > 0.25]
    choice = BOTH if len(lost) == 2 else lost[0] if lost else NEITHER
    said = ", ".join(f"{name} {loss:.0%}" for name, loss in losses.items())
    return choice, f"Lost, from {max(CASES['convolutional'].shares)} images to 2: {said}."


AS_GOOD, SOME, GUESSES = "nearly as many", "about half", "no more than by guessing"


@predict(AS_GOOD, SOME, GUESSES)
def predict_one_kind() -> Answer:
    """Each batch shows one class, another one each time. In the end the BN network has most of its training batches
    right. How many new images will it have right in evaluation?
    """
    of = batches_of_one_kind("bn", 1)
    training, evaluation = of.training[-1].mean(), of.evaluation[-1].mean()
    choice = GUESSES if evaluation < 0.2 else SOME if evaluation < 0.7 * training else AS_GOOD
    return choice, (
        f"{training:.0%} right in training after {max(LOOKS)} steps, {evaluation:.0%} on new images. Mixed batches of "
        f"{SIZE} with statistics of their own do not help: {of.mixed[-1].mean():.0%}."
    )


@exercise(unit="learned numbers")
def quiz_count() -> Answer:
    """How many numbers does its BN layer learn?"""
    return 128.0, "γ and β for each of 64 channels; neither the images' size nor the batch's changes that."


@exercise("(2, 100)", "(1, 8, 14, 14)", "(1, 256, 1, 1)", "(32, 256, 1, 1)")
def quiz_refused() -> Answer:
    """Which batch does BN refuse in training?"""
    return "(1, 256, 1, 1)", (
        "One image, pooled to a single place: one value for each channel. It is how a convolutional network meets the "
        "error, behind a global average pool. (1, 8, 14, 14) has 196 values for each channel."
    )


@exercise(
    "each image has its own mean: instance normalisation",
    "each place has its own mean",
    "nothing, it is BN with another order of the axes",
)
def quiz_axes() -> Answer:
    """What does this line normalise by?"""
    return "each image has its own mean: instance normalisation", (
        "Axes 2 and 3 are height and width, so (N, C) means are left. BN averages over axis 0 as well. With one image "
        "in the batch the two are the same."
    )
