"""The figures and questions of the page "Spot the bug"."""

from collections.abc import Callable
from functools import cache

import numpy as np
from torch import nn
from torch.nn import functional as F

from utils.claims import Checked, Verdict, check, registry
from utils.experiments import spot_the_bug as experiment
from utils.experiments.spot_the_bug import BUGS, LENGTHS, RATES_ALONG, STEPS, WRONG, by_torch, listing
from utils.explore import Answer, Drawing, control, exercise, explore, picture, predict, table
from utils.explore.question import Question
from utils.explore.table import Table
from utils.style import (
    ARMS,
    DASHED,
    DOTTED,
    INK,
    MUTED,
    Arm,
    figure,
    key,
    label,
    log_axis,
    number,
    rounded,
    share_y,
    step_axis,
)

TORCH = Arm("PyTorch", ARMS["bn"].colour)
CODE = Arm("this code", ARMS["plain"].colour, (0, (5, 1.6)))
JUDGEMENTS = ("true", "true in part", "false", "open")


def spot(name: str, *wrong: int) -> Callable[[Callable[[], str]], Question]:
    """Ask which line of a bug is wrong; the decorated function says why, and its docstring asks."""
    lines = listing(BUGS[name]).splitlines()
    choices = {i: f"line {i}: `{line.strip()}`" for i, line in enumerate(lines, start=1) if _says_something(line)}

    def ask(function: Callable[[], str]) -> Question:
        def answer() -> Answer:
            return [choices[i] for i in wrong], function()

        answer.__name__, answer.__doc__ = function.__name__, function.__doc__
        return Question(answer, list(choices.values()), unit="", is_exercise=True)

    return ask


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith(("def ", "class "))


# --- 1 to 3: which values share a mean ---------------------------------------------------------------------------


@predict("0, in each of them", "0 on the average of all units only", "as before")
def predict_features() -> Answer:
    """Wu + b of 60 raw digits goes in, 100 units. What are the means of the units afterwards?"""
    mean = experiment.moments(experiment.units(), experiment.normalize_batch).mean
    each, together = np.abs(mean).max() < 0.01, abs(mean.mean()) < 0.01
    choice = "0, in each of them" if each else "0 on the average of all units only" if together else "as before"
    return choice, f"They lie between {mean.min():.2f} and {mean.max():.2f}; the mean of all is {abs(mean.mean()):.2f}."


@picture
def features() -> Drawing:
    """Mean and standard deviation of each unit after normalising."""
    return _moments(experiment.units(), experiment.normalize_batch, "units", "100 units of 60 digits")


@predict("an error about the shape", "0 in each channel", "not 0 in the channels")
def predict_maps() -> Answer:
    """60 images with 8 channels go in. What are the means of the channels afterwards?"""
    mean = experiment.moments(experiment.channels(), experiment.normalize_channels).mean
    choice = "0 in each channel" if np.abs(mean).max() < 0.01 else "not 0 in the channels"
    return (
        choice,
        f"They lie between {mean.min():.2f} and {mean.max():.2f}. The shape is right, and no error is raised.",
    )


@picture
def maps() -> Drawing:
    """Mean and standard deviation of each channel after normalising."""
    return _moments(experiment.channels(), experiment.normalize_channels, "channels", "8 channels of 60 images")


def _moments(x, normalize, what: str, whose: str) -> Drawing:
    found = {TORCH: experiment.moments(x, by_torch), CODE: experiment.moments(x, normalize)}
    fig, panels = figure(TORCH.label, CODE.label, height=2.9, left=0.8)
    for ax, (arm, each) in zip(panels, found.items(), strict=True):
        ax.plot(each.mean, each.std, "o", color=arm.colour, alpha=0.6, markersize=5.5, markeredgewidth=0)
        ax.set(xlabel=f"mean of the {what}", xlim=(-2, 2.2), ylim=(0, 1.6))
    panels[0].set_ylabel("standard deviation")
    share_y(*panels)
    code = found[CODE]
    return fig, (
        f"{whose}. PyTorch: every mean is 0, every standard deviation 1. This code: means from {code.mean.min():.2f} "
        f"to {code.mean.max():.2f}, standard deviations from {code.std.min():.2f} to {code.std.max():.2f}."
    )


@predict("still brighter", "as bright as the others")
def predict_photos() -> Answer:
    """In one channel some images are brighter than others. Afterwards, with γ = 1 and β = 0, these are ..."""
    seen = experiment.brightness()
    choice = "as bright as the others" if np.ptp(seen.code) < 0.01 else "still brighter"
    return (
        choice,
        f"In PyTorch the images' means still cover {np.ptp(seen.torch):.2f}; with this code {np.ptp(seen.code):.0f}.",
    )


@picture
def photos() -> Drawing:
    """The brightness of 60 images in one channel, before normalising and after it."""
    seen = experiment.brightness()
    fig, (ax,) = figure("mean of an image after normalising", height=2.9)
    for arm, values in ((TORCH, seen.torch), (CODE, seen.code)):
        ax.plot(seen.before, values, "o", color=arm.colour, alpha=0.65, markersize=5.5, markeredgewidth=0)
    for arm, x, y in ((TORCH, 0.8, 0.93), (CODE, 0.16, 0.65)):
        label(ax, arm, x, y, ha="right" if arm is TORCH else "left", va="center", transform=ax.transAxes)
    ax.set(xlabel="its mean before")
    return fig, (
        f"One channel of 60 images. After PyTorch's layer their means still differ by up to {np.ptp(seen.torch):.2f}; "
        f"after this code every image has the mean 0."
    )


# --- 4 to 6: which number, and which gradient ----------------------------------------------------------------------

SMALL = 1e-4


@predict("0 / 0", "0.03, as in PyTorch", "nearly 1")
def predict_constant() -> Answer:
    """A unit hardly varies: its standard deviation is 0.0001. PyTorch's layer hands it on with 0.03. And this code?"""
    (out,) = experiment.widths_out(np.array([SMALL]), experiment.normalize_safely)
    (torchs,) = experiment.widths_out(np.array([SMALL]), by_torch)
    choice = "0 / 0" if np.isnan(out) else "nearly 1" if out > 0.5 else "0.03, as in PyTorch"
    return choice, f"It comes out with {out:.2f}; in PyTorch with {torchs:.2f}."


@picture
def constant() -> Drawing:
    """What becomes of units that vary little."""
    widths = 10.0 ** np.linspace(-6, 0, 61)
    fig, (ax,) = figure("standard deviation that comes out", height=2.9)
    for arm, normalize in ((TORCH, by_torch), (CODE, experiment.normalize_safely)):
        ax.plot(widths, experiment.widths_out(widths, normalize), color=arm.colour, linestyle=arm.dashes)
    log_axis(ax.xaxis, (1e-6, 1))
    ax.set(xlabel="standard deviation that goes in", ylim=(0, 1.05))
    label(ax, TORCH, 4e-3, 0.55)
    label(ax, CODE, 2.5e-5, 0.55)
    at = np.array([1e-4, 0.1])
    code, torchs = experiment.widths_out(at, experiment.normalize_safely), experiment.widths_out(at, by_torch)
    return fig, (
        f"A unit with standard deviation 0.0001 comes out with {code[0]:.2f} by this code, with {torchs[0]:.2f} in "
        f"PyTorch; one with 0.1 with {code[1]:.2f} and {torchs[1]:.2f}."
    )


@predict("as they should be: 0 and 1", "wrong numbers, or none", "all exactly 0")
def predict_far() -> Answer:
    """A unit has the mean 10,000 and the standard deviation 1, in 32 bits. What are its normalised values like?"""
    found = experiment.far_from_zero(experiment.normalize_fast)
    at = int(np.searchsorted(found.offsets, 9_999))
    off = np.nanmedian(np.abs(found.std[at] - 1))
    choice = "wrong numbers, or none" if off > 0.1 or found.lost[at] else "as they should be: 0 and 1"
    return choice, (
        f"Of 200 such units {found.lost[at]:.0%} are no numbers; the others come out with standard deviations from "
        f"{np.nanmin(found.std[at]):.2f} to {np.nanmax(found.std[at]):.0f}."
    )


@picture
def far() -> Drawing:
    """Units of standard deviation 1, further and further from zero."""
    found = {TORCH: experiment.far_from_zero(by_torch), CODE: experiment.far_from_zero(experiment.normalize_fast)}
    fig, (left, right) = figure("standard deviation out", "units that are lost", height=2.9)
    for arm, each in found.items():
        low, high = np.nanmin(each.std, 1), np.nanmax(each.std, 1)
        left.fill_between(each.offsets, low, high, color=arm.colour, alpha=0.25, linewidth=0)
        left.plot(each.offsets, np.nanmedian(each.std, 1), color=arm.colour, linestyle=arm.dashes)
        right.plot(each.offsets, each.lost, color=arm.colour, linestyle=arm.dashes)
    for ax in (left, right):
        log_axis(ax.xaxis, (1, 1e5), (1, 100, 10_000))
        ax.set_xlabel("mean / deviation")
    log_axis(left.yaxis, (0.01, 1000))
    right.set(ylim=(-0.02, 0.62), yticks=[0, 0.2, 0.4, 0.6])
    right.set_yticks([0, 0.2, 0.4, 0.6], ["0 %", "20 %", "40 %", "60 %"])
    key(right, (TORCH, CODE), top=0.95, step=0.1)
    code = found[CODE]
    return fig, (
        f"200 units, float32. At a mean of 1,000 deviations this code gives standard deviations from "
        f"{np.nanmin(code.std[6]):.2f} to {np.nanmax(code.std[6]):.2f}; at 10,000 {code.lost[8]:.0%} of the units are "
        f"no numbers. In PyTorch, which takes the mean off first, all are 1."
    )


@predict("b stays at 0, the loss stays", "b grows, the loss falls", "b grows, the loss stays")
def predict_held() -> Answer:
    """A bias b stands before the layer, and the loss asks for outputs near 1. What does gradient descent do?"""
    found = experiment.descend(experiment.normalize_in_training)
    grows, falls = abs(found.bias[-1]) > 1, found.loss[-1] < 0.99 * found.loss[0]
    choice = "b stays at 0, the loss stays" if not grows else f"b grows, the loss {'falls' if falls else 'stays'}"
    return choice, (
        f"After 100 steps b is {found.bias[-1]:.0f} and the loss {found.loss[-1]:.4f}, as at first. "
        "Ioffe and Szegedy warn of just this."
    )


@picture
def held() -> Drawing:
    """Gradient descent on a bias that the layer takes out again."""
    fig, (left, right) = figure("the bias b", "the loss", height=2.9)
    for arm, normalize in ((TORCH, by_torch), (CODE, experiment.normalize_in_training)):
        found = experiment.descend(normalize)
        left.plot(found.bias, color=arm.colour, linestyle=arm.dashes)
        right.plot(found.loss, color=arm.colour, linestyle=arm.dashes)
    for ax in (left, right):
        step_axis(ax, 100, ticks=2)
    right.set_ylim(0, 2.4)
    end = found.bias[-1]
    label(left, TORCH, 55, 0.05 * end, va="bottom")
    label(left, CODE, 48, 0.62 * end, ha="right")
    return fig, (
        f"One unit, a bias before it, and a loss that asks for outputs near 1. With this code b is {end:.0f} after 100 "
        f"steps, and the loss is {found.loss[0]:.3f} at the first step and {found.loss[-1]:.3f} at the last. In "
        "PyTorch the gradient at b is 0."
    )


# --- 7 to 9: in use ------------------------------------------------------------------------------------------------


@predict("smooth, and near to the truth", "jumps with every batch", "stays near 0")
def predict_remembered() -> Answer:
    """It is called with `momentum=0.1`, as PyTorch's layer is. What is the running mean like?"""
    found = experiment.running_means()
    code, torchs = (np.abs(each[50:] - 1).mean() for each in (found.code, found.torch))
    choice = "jumps with every batch" if code > 2 * torchs else "smooth, and near to the truth"
    return choice, f"After 50 steps it is off by {code:.2f} on average, PyTorch's by {torchs:.2f}."


@explore(momentum=control([0.1, 0.3, 0.5, 0.7, 0.9]))
def remembered(momentum: float = 0.1) -> Drawing:
    """The running mean of a unit whose true mean is 1, batches of 20."""
    found = experiment.running_means(momentum)
    fig, (ax,) = figure("running mean", height=3.0)
    steps = np.arange(1, len(found.batch) + 1)
    ax.plot(steps, found.batch, ".", color=MUTED, markersize=4)
    ax.axhline(1, color=INK, linewidth=1.3, linestyle=DASHED)
    ax.plot(steps, found.torch, color=TORCH.colour)
    ax.plot(steps, found.code, color=CODE.colour, linewidth=1.5, linestyle=CODE.dashes)
    step_axis(ax, len(steps))
    ax.set_ylim(0, 1.75)
    key(ax, (TORCH, CODE), x=0.6, top=0.3, step=0.09)
    ax.text(99, 0.06, "· one batch", color=MUTED, fontsize=9, ha="right")
    code, torchs = (np.abs(each[50:] - 1).mean() for each in (found.code, found.torch))
    return fig, (
        f"Momentum {momentum:g}: after step 50 PyTorch's running mean is off by {torchs:.2f} on average, this code's "
        f"by {code:.2f}."
    )


@predict("in training", "in evaluation", "nowhere")
def predict_modes() -> Answer:
    """It is meant to do what PyTorch's layer does. With batches of 4, where do the two differ?"""
    found = experiment.widths_in_evaluation()
    at = int(np.searchsorted(found.sizes, 4))
    differs = abs(found.code[at] / found.torch[at] - 1) > 0.05
    return "in evaluation" if differs else "nowhere", (
        f"In training both give the same numbers. In evaluation values come out with a standard deviation of "
        f"{found.code[at]:.2f}, PyTorch's with {found.torch[at]:.2f}."
    )


@picture
def modes() -> Drawing:
    """How wide new values come out in evaluation, after training with batches of a size."""
    found = experiment.widths_in_evaluation()
    fig, (ax,) = figure("standard deviation in evaluation", height=2.9)
    ax.plot(found.sizes, found.torch, "o-", color=TORCH.colour)
    ax.plot(found.sizes, found.code, "o", color=CODE.colour)
    m = np.linspace(2, 64, 200)
    ax.plot(m, np.sqrt(m / (m - 1)), color=CODE.colour, linewidth=1.5, linestyle=DOTTED)
    log_axis(ax.xaxis, (1.8, 70), found.sizes.tolist())
    ax.set(xlabel="batch size m in training", ylim=(0.9, 1.5))
    label(ax, TORCH, 2.2, 0.94)
    label(ax, CODE, 2.9, 1.36)
    ax.text(4.6, 1.16, "√(m / (m − 1))", color=INK, fontsize=10)
    said = ", ".join(f"m = {m}: {found.code[i]:.2f}" for i, m in ((0, 2), (1, 4), (5, 64)))
    return fig, (
        f"New values of standard deviation 1, in evaluation. PyTorch: {found.torch.min():.2f} to "
        f"{found.torch.max():.2f} at every batch size. This code: {said}."
    )


@predict("ten times the same", "ten different ones", "an error: one image has no variance")
def predict_asked() -> Answer:
    """After `layer.eval()` the layer is asked ten times about one image, in other company each time. Which answers?"""
    found = experiment.ask_again(experiment.Layer)
    choice = "ten different ones" if np.ptp(found.answer) > 0.01 else "ten times the same"
    return choice, f"From {found.answer.min():.2f} to {found.answer.max():.2f} for the same unit of the same image."


@explore(no_grad=control(False, label="under torch.no_grad()"))
def asked(no_grad: bool = False) -> Drawing:
    """One image, asked about ten times in evaluation."""
    found = {arm: experiment.ask_again(of, no_grad) for arm, of in ((TORCH, nn.BatchNorm1d), (CODE, experiment.Layer))}
    fig, (left, right) = figure("the answer", "the running mean", height=2.9)
    times = np.arange(1, 11)
    for arm, each in found.items():
        for ax, values in ((left, each.answer), (right, each.running_mean)):
            ax.plot(times, values, "o", color=arm.colour, markersize=5)
            ax.plot(times, values, color=arm.colour, linestyle=arm.dashes, linewidth=1.4)
    for ax in (left, right):
        ax.set(xlabel="time that it is asked", xlim=(0.5, 10.5), xticks=[1, 4, 7, 10])
    left.set_ylim(-1.1, 0.6)
    right.set_ylim(-0.5, 0.05)
    key(left, (TORCH, CODE), top=0.98, step=0.1)
    code = found[CODE]
    return fig, (
        f"In evaluation, {'under `torch.no_grad()`' if no_grad else 'with gradients on'}: this code's answers go from "
        f"{code.answer.min():.2f} to {code.answer.max():.2f}, its running mean from {code.running_mean[0]:.2f} to "
        f"{code.running_mean[-1]:.2f}. PyTorch's stay."
    ).replace("`", "")


# --- 10 to 12: measuring -------------------------------------------------------------------------------------------


@predict("none", "one", "four")
def predict_passes() -> Answer:
    """Five wrong backward passes are given to this check. How many pass?"""
    passed = sum(experiment.judge(wrong).ones for wrong in WRONG.values())
    return {0: "none", 1: "one", 4: "four"}[passed], "Among them one that returns zeros, whatever it is given."


def passes() -> Table:
    """Which backward passes pass this check, and which one with a random gradient."""
    judged = {"the right one": experiment.backward, **WRONG}
    rows = [
        (name, *("passes" if each else "caught" for each in experiment.judge(function)))
        for name, function in judged.items()
    ]
    return table("backward pass", "this check", "with a random gradient", rows=rows)


@predict("it goes to 0", "it stays about as large")
def predict_changes() -> Answer:
    """Let the step become shorter and shorter. What happens to the change of the gradient that this code measures?"""
    found = experiment.gradient_changes("bn")
    stays = found.code[0] > 0.3 * found.code[-1]
    return "it stays about as large" if stays else "it goes to 0", (
        f"With BN it is {rounded(found.code[0])} at a step of 0.001 and {rounded(found.code[-1])} at a step of 1. "
        "A step of no length would change the gradient as much."
    )


@explore(network=["BN", "plain"])
def changes(network: str = "BN") -> Drawing:
    """How far a step changes the gradient, at the start of training."""
    found = experiment.gradient_changes({"BN": "bn", "plain": "plain"}[network])
    fig, (ax,) = figure("change of the gradient", height=2.9)
    ax.plot(LENGTHS, found.right, "o-", color=TORCH.colour)
    ax.plot(LENGTHS, found.code, "o", color=CODE.colour)
    ax.plot(LENGTHS, found.code, color=CODE.colour, linestyle=CODE.dashes)
    log_axis(ax.xaxis, (8e-4, 1.25), (0.001, 0.01, 0.1, 1))
    ax.set(
        xlabel="length of the step, times the gradient", ylim=(-0.1, 1.25 * max(found.code.max(), found.right.max()))
    )
    key(ax, (CODE, Arm("one batch", TORCH.colour)), top=0.97, step=0.1)
    return fig, (
        f"{network} network, digits, batches of 60. At a step of 0.001 this code says {rounded(found.code[0])}; with "
        f"one batch for both gradients it is {rounded(found.right[0])}. At a step of 1: {rounded(found.code[-1])} and "
        f"{rounded(found.right[-1])}."
    )


@predict("narrower", "about as wide", "several times as wide")
def predict_band() -> Answer:
    """Probe one run along its gradient instead, with the same rates. Late in training this code's band is ..."""
    ratio = experiment.band_ratios(seeds=2)["bn"].mean()
    choice = "narrower" if ratio < 0.7 else "about as wide" if ratio < 2 else "several times as wide"
    return choice, f"With BN {ratio:.1f} times as wide, and without BN it is the same story."


@explore(network=["BN", "plain"])
def landscape(network: str = "BN") -> Drawing:
    """The band of the loss, by this code and along the gradient of one run."""
    found = experiment.bands({"BN": "bn", "plain": "plain"}[network])
    fig, panels = figure("this code", "along one run", height=3.1)
    steps = np.arange(1, STEPS + 1)
    for ax, band, colour in zip(panels, (found.code, found.along), (CODE.colour, TORCH.colour), strict=True):
        ax.fill_between(steps, *band, color=colour, alpha=0.25, linewidth=0)
        step_axis(ax, STEPS, ticks=3)
        ax.set_ylim(0, 1.08 * found.code.max())
    looks = [
        Arm(f"rate {rate:g}", INK, dashes) for rate, dashes in zip(RATES_ALONG, ("-", DASHED, DOTTED), strict=True)
    ]
    for look, run in zip(looks, found.runs, strict=True):
        panels[0].plot(steps, run, color=INK, linewidth=1.2, linestyle=look.dashes)
    key(panels[0], looks, x=0.45, top=1.0, step=0.09)
    share_y(*panels)
    code, along = (np.ptp(band[:, STEPS // 2 :], axis=0).mean() for band in (found.code, found.along))
    return fig, (
        f"{network} network, training loss on 300 digits, rates {', '.join(map(number, RATES_ALONG))}. Over the later "
        f"half this code's band is {code:.2f} wide; the loss along the gradient of the first run varies by {along:.2f}."
    )


# --- the lines -----------------------------------------------------------------------------------------------------


@spot("normalize_batch", 2, 3)
def line_features() -> str:
    """Choose a line that is wrong."""
    return (
        "They run over the whole table. A unit wants its own mean and variance: `x.mean(0)`, `x.var(0, correction=0)`."
    )


@spot("normalize_channels", 3)
def line_maps() -> str:
    """Choose the line that is wrong."""
    return (
        "In memory the places of one channel lie side by side, so a row is a piece of one channel, "
        "not one place in all of them. Move the channel's axis to the end first."
    )


@spot("normalize_images", 2, 3)
def line_photos() -> str:
    """Choose a line that is wrong."""
    return (
        "The statistics run over height and width only: each image has its own. With `(0, 2, 3)` the batch shares "
        "them. Without the batch this is instance normalisation, a layer in its own right."
    )


@spot("normalize_safely", 3)
def line_constant() -> str:
    """Choose the line that is wrong."""
    return (
        "`eps` is meant for the variance, under the root. There 10⁻⁵ is a floor of 0.003 for σ; outside it is a floor "
        "of 0.00001, and what a unit has of rounding and noise is blown up to full width."
    )


@spot("normalize_fast", 3)
def line_far() -> str:
    """Choose the line that is wrong."""
    return (
        "Two numbers near 100,000,000 are subtracted, and 32 bits hold seven digits of each. What is left is rounding, "
        "sometimes negative, and its root no number. Take the mean off first: `x.var(0, correction=0)` does."
    )


@spot("normalize_in_training", 2)
def line_held() -> str:
    """Choose the line that is wrong."""
    return (
        "Under `no_grad` the mean and the variance are constants to the backward pass. It then believes that moving "
        "all values together moves the output."
    )


@spot("remember", 3, 4)
def line_remembered() -> str:
    """Choose a line that is wrong, if `momentum` shall mean what it means in PyTorch."""
    return "In PyTorch it is the weight of the *new* batch: `(1 - momentum) * running + momentum * batch`."


@spot("training_step", 4)
def line_modes() -> str:
    """Choose the line that is not as in PyTorch."""
    return (
        "The batch is normalised by the variance with 1/m, but what is kept for evaluation is the unbiased one, m / (m "
        "- 1) times as large."
    )


@spot("Layer", 4)
def line_asked() -> str:
    """Choose the line that is wrong."""
    return (
        "Whether gradients are wanted and whether the layer trains are two questions. `self.training` answers the "
        "second; `eval()` sets it."
    )


@spot("gradient_is_right", 4, 5)
def line_passes() -> str:
    """Choose a line that makes the check blind."""
    return (
        "With `out.sum()` the gradient that comes in is all ones. The sum of BN's outputs does not depend on x, so the "
        "right answer is zero, and so is that of most wrong formulae."
    )


@spot("gradient_change", 3)
def line_changes() -> str:
    """Choose the line that is wrong."""
    return (
        "It takes another mini-batch, and the difference is mostly that of the two batches. Draw one, and use it twice."
    )


@spot("loss_band", 4, 6)
def line_landscape() -> str:
    """Choose a line by which each rate trains a network of its own."""
    return (
        "Each rate starts from `w` and goes its own way, so at step 50 the losses are those of different networks. The "
        "band's edges are two training curves: that of the slowest, and that of the fastest."
    )


# --- the claims of others ------------------------------------------------------------------------------------------


@cache
def _checked(name: str) -> Checked:
    return check(registry()[name])


def _holds(*names: str) -> bool:
    return all(_checked(name).verdict == Verdict.HOLDS for name in names)


def _stated(name: str) -> Verdict:
    """What the book says of a claim whose runs take long; its tests hold that equal to what the runs say."""
    return registry()[name].stated


@exercise(*JUDGEMENTS)
def claim_gaussian() -> Answer:
    """*BN makes the values that enter a layer normally distributed.*"""
    before, after = experiment.pixels()
    moved = max(np.abs(before.skewness - after.skewness).max(), np.abs(before.peaks - after.peaks).max())
    n, far_off = len(after.peaks), np.mean(np.abs(after.peaks - 3) > 0.5)
    return "false" if moved < 0.01 and far_off > 0.5 else "open", (
        f"It moves and stretches, and the shape stays: of {n} pixels {far_off:.0%} are as far from a normal "
        f"distribution after it as before."
    )


@exercise(*JUDGEMENTS)
def claim_fourteen() -> Answer:
    """*BN trains networks 14 times faster.*"""
    fewer = _stated("buys.fewer-steps") == Verdict.HOLDS
    return "true in part" if fewer else "open", (
        "The paper's 14 is BN with five times the learning rate and six more changes; BN alone took 2.3 times fewer "
        "steps. Here, too, it takes fewer, each network at its own best rate; how many fewer depends on the opponent."
    )


@exercise(*JUDGEMENTS)
def claim_eliminates() -> Answer:
    """*BN eliminates internal covariate shift.*"""
    checked = _checked("ics.smaller-moves")
    setting, interval = checked.weakest
    less = checked.verdict == Verdict.HOLDS and np.isfinite(interval.low)
    return "false" if less else "open", (
        f"It reduces one of the two things that go by this name: updates move the last layer's means less, at least "
        f"{rounded(interval.low)} times ({setting}). Reduced is not eliminated, and by the second paper's definition "
        f"there is often more."
    )


@exercise(*JUDGEMENTS)
def claim_proved() -> Answer:
    """*Santurkar et al. proved that internal covariate shift has nothing to do with BN's success.*"""
    return "false" if _holds("noise.retained-gain", "noise.persistent-costs") else "open", (
        "Their own word for the link is *tenuous*. Noisy BN keeps most of its gain, so stable inputs are not all that "
        "it gives; but noise that the next BN cannot take out costs far more."
    )


@exercise(*JUDGEMENTS)
def claim_slide() -> Answer:
    """*BN turns the loss from a rocky climb into a slide.*"""
    later = _stated("smoothness.gradient") == Verdict.HOLDS
    at_first = _stated("smoothness.flat-at-first") == Verdict.HOLDS
    return "true in part" if later and at_first else "open", (
        "Along the path of training the gradient changes less with BN. But before the first update the plain network "
        "from Glorot's start is the flatter one, and what is drawn are ranges along the gradient, no surface."
    )


@exercise(*JUDGEMENTS)
def claim_dropout() -> Answer:
    """*With BN you need no dropout.*"""
    checked = _checked("buys.no-substitute-for-dropout")
    points = 100 * checked.weakest[1].estimate
    return "false" if checked.verdict == Verdict.HOLDS else "open", (
        f"Where there is something to regularise, it does not do dropout's work: trained on 100 digits, the network "
        f"with dropout is {points:.1f} points more accurate than that with BN. (The paper left dropout out in one "
        f"large network.)"
    )


@exercise(*JUDGEMENTS)
def claim_layer() -> Answer:
    """*Layer normalisation is BN along the other axis, and does the same.*"""
    batch = experiment.shift_seen(by_torch)
    layer = experiment.shift_seen(lambda x: F.layer_norm(x, x.shape[1:]))
    return "true in part" if batch < 1e-3 < layer else "open", (
        f"The other axis it is; the same it is not. Shift every unit of a batch by an amount of its own: BN's output "
        f"moves by {rounded(batch, 1)}, layer norm's by up to {rounded(layer)}. And it needs no batch."
    )


@exercise(*JUDGEMENTS)
def claim_minima() -> Answer:
    """*Networks with BN generalise better because they end in flatter minima.*"""
    return "open", (
        "In the second paper that is a conjecture. The first paper credits the noise of the batches. This book "
        "measures that BN hardly regularises its small networks, and no flatness of minima."
    )
