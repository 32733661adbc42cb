"""The figures of the chapter "Its relatives"."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from utils import intervals
from utils.experiments import relatives as experiment
from utils.experiments.relatives import (
    BLOCKS,
    DEEP,
    GROUPS,
    NETWORKS,
    NO_BLOCKS,
    RATES,
    SHAPES,
    SKIP_RATES,
    SKIPS,
    TINY,
    WATCHED,
    WATCHED_AT,
    block,
    normalized,
    sharers,
    streams,
)
from utils.explore import Answer, Drawing, control, exercise, explore, predict
from utils.style import (
    FAINT,
    INK,
    MUTED,
    Arm,
    between,
    draw_arm,
    draw_arms,
    figure,
    key,
    log_axis,
    look_of,
    make_room,
    number,
    per_cent,
    percent_axis,
    told,
)

LINEAR = Arm(NO_BLOCKS, MUTED, (0, (1, 1.2)))

# --- who shares a statistic -------------------------------------------------------------------------------------------

NORMS = {  # by the name that a reader chooses: the experiment's name, and the mean in a table and in a block
    "batch norm": ("bn", "x.mean(dim=0)", "x.mean(dim=(0, 2, 3))"),
    "layer norm": ("layer", "x.mean(dim=1)", "x.mean(dim=(1, 2, 3))"),
    "group norm": ("group", "groups: mean(dim=2)", "groups: mean(dim=(2, 3, 4))"),
    "instance norm": ("instance", "each value alone", "x.mean(dim=(2, 3))"),
    "RMS norm": ("rms", "(x * x).mean(dim=1)", "(x * x).mean(dim=(1, 2, 3))"),
    "DyT": ("dyt", "tanh(α x), no mean", "tanh(α x), no mean"),
}
ONE = (1, 1)  # the example and the channel that are looked at
GAP = 0.35  # between two channels, in a channel's size


@explore(norm=list(NORMS), shape=list(SHAPES))
def shares(norm: str = "batch norm", shape: str = "table (N, C)") -> Drawing:
    """Lit: the values that share a statistic with the framed one."""
    name, *code = NORMS[norm]
    x = block(shape)
    lit = sharers(name, x.shape, *ONE)
    after = np.tanh(x / 2) if name == "dyt" else normalized(x, name)
    is_table = x.shape[-1] == 1
    fig, (left, right) = figure(code[0 if is_table else 1], "after it", height=2.9, left=0.75, bottom=0.3)
    left.set_title(code[0 if is_table else 1], fontsize=9.5, family="monospace")
    for ax, values, shown in ((left, x.numpy(), lit), (right, np.asarray(after), None)):
        _tiles(ax, values, shown)
    right.set_yticklabels([])
    fig.subplots_adjust(wspace=0.18)
    return fig, _told_shares(norm, name, x.numpy(), lit, np.asarray(after))


def _tiles(ax: Axes, values: np.ndarray, lit: np.ndarray | None) -> None:
    """One small image for every example (row) and channel (column); what is not lit is faint."""
    examples, channels, *_ = values.shape
    limit = max(np.abs(values).max(), 1.0)
    step = 1 + GAP
    for n in range(examples):
        for c in range(channels):
            is_lit = lit is None or lit[n, c].any() or (n, c) == ONE
            extent = (c * step, c * step + 1, n * step + 1, n * step)
            ax.imshow(values[n, c], cmap="cividis", vmin=-limit, vmax=limit, extent=extent, alpha=1 if is_lit else 0.2)
            edge, wide = (INK, 2.2) if lit is not None and lit[n, c].any() else (FAINT, 0.8)
            ax.add_patch(Rectangle((c * step, n * step), 1, 1, fill=False, edgecolor=edge, linewidth=wide))
    if lit is not None:
        n, c = ONE
        frame = {"fill": False, "edgecolor": look_of("plain").colour, "linewidth": 2.6}
        ax.add_patch(Rectangle((c * step - 0.13, n * step - 0.13), 1.26, 1.26, **frame))
    ax.set(xlim=(-0.3, channels * step - GAP + 0.3), ylim=(examples * step - GAP + 0.3, -0.3))
    ax.set_xticks([c * step + 0.5 for c in range(channels)], [f"c = {c + 1}" for c in range(channels)])
    ax.set_yticks([n * step + 0.5 for n in range(examples)], [f"image {n + 1}" for n in range(examples)])
    ax.tick_params(length=0, labelsize=9)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def _told_shares(norm: str, name: str, x: np.ndarray, lit: np.ndarray, after: np.ndarray) -> str:
    """What the framed values share, and what is left of the channels' means."""
    means = after.mean((0, 2, 3)) + 0.0
    left = f"After it the channels' means run from {number(means.min(), 2)} to {number(means.max(), 2)}"
    if np.abs(means).max() < 1e-6:
        left = "After it every channel has the mean 0"
    if name == "dyt":
        return f"DyT: nothing is shared; each value is squashed by itself (here α = 0.5). {left}."
    if lit.sum() == 1:
        return "Instance norm in a table: the framed value is alone, and less its own mean it is 0. It needs images."
    among, company = x[lit], "other images" if name == "bn" else "no other image"
    size = f"the mean {number(among.mean(), 2)} and the standard deviation {number(among.std(), 2)}"
    if name == "rms":
        size = f"the root mean square {number(np.sqrt(np.square(among).mean()), 2)}, and no mean is taken off"
    groups = f" of {GROUPS} groups" * (name == "group")
    return f"{norm.capitalize()}{groups}: {lit.sum()} values share {size}; {company} is asked. {left}.".replace(
        "images is asked", "images are asked"
    ).replace("Rms", "RMS")


# --- the race ---------------------------------------------------------------------------------------------------------

RELATIVES = {"layer norm": "layer", "group norm": "group", "RMS norm": "rms", "DyT": "dyt"}


@explore(network=list(NETWORKS), relative=list(RELATIVES))
def race(network: str = "ReLU, 3 layers", relative: str = "layer norm") -> Drawing:
    """Plain, BN and a relative, at every learning rate."""
    arms = {arm: experiment.race(network)[arm] for arm in ("plain", "bn", RELATIVES[relative])}
    rates = RATES[network]
    fig, (ax,) = figure("area under the training curve", height=3.4)
    _rate_axis(ax, rates)
    draw_arms(ax, rates, {arm: areas.T for arm, areas in arms.items()})
    make_room(fig, "layer norms")
    best = {arm: int(areas.mean(1).argmax()) for arm, areas in arms.items()}
    own = told(
        {arm: (areas[best[arm]], rates[best[arm]]) for arm, areas in arms.items()},
        lambda both: f"{per_cent(both[0])} at rate {both[1]:g}",
    )
    there = told({arm: areas[-1] for arm, areas in arms.items()}, per_cent)
    seeds = arms["bn"].shape[1]
    steps = NETWORKS[network].steps
    return fig, f"{network}, {steps} steps, {seeds} seeds, at its best rate: {own}. At rate {rates[-1]:g}: {there}."


def _rate_axis(ax: Axes, rates: tuple[float, ...], high: float = 1.02) -> None:
    ax.set_xlabel("learning rate")
    log_axis(ax.xaxis, (rates[0] / 1.15, rates[-1] * 1.15), rates)
    percent_axis(ax.yaxis)
    ax.set_ylim(0, high)


# --- skip connections -------------------------------------------------------------------------------------------------


@explore(step=control(WATCHED_AT, label="training step", plays=True))
def stream(step: int = 0) -> Drawing:
    """What runs through twenty residual blocks, and how much of it each block has added."""
    shown = {arm: streams(arm)[step] for arm in experiment.SKIP_ARMS if step in streams(arm)}
    fig, (left, right) = figure("variance", "block's share", height=3.4, left=0.75)
    log_axis(left.yaxis, (0.3, 3e6), (1, 100, 10_000))
    left.set(xlim=(0, BLOCKS), xlabel="behind block", xticks=(0, 5, 10, 15, 20))
    right.set(xlim=(1, BLOCKS), xlabel="block", xticks=(1, 5, 10, 15, 20))
    percent_axis(right.yaxis)
    for arm, found in shown.items():
        draw_arm(left, arm, np.arange(BLOCKS + 1), found.variance, seeds=False)
        draw_arm(right, arm, np.arange(1, BLOCKS + 1), found.share, seeds=False)
    key(right, list(shown), x=0.1, top=0.99)
    grown = {arm: f"{number(found.variance[:, -1].mean(), 2)}" for arm, found in shown.items()}
    lost = "" if "plain" in shown else " Plain is lost: its loss is no longer a number."
    when = "Before training" if not step else f"After {step} steps at rate {WATCHED.lr:g}"
    seeds = len(shown["bn"].variance)
    return fig, f"{when}, mean of {seeds} seeds, the variance behind block {BLOCKS}: {told(grown, str)}.{lost}"


@explore(skips=True)
def skip_race(skips: bool = True) -> Drawing:
    """Twenty blocks at every learning rate, with skip connections or without."""
    areas = experiment.skip_race(skips)
    looks = {LINEAR if arm == NO_BLOCKS else arm: each for arm, each in areas.items()}
    fig, (ax,) = figure("area under the training curve", height=3.6)
    _rate_axis(ax, SKIP_RATES, high=1.36)
    for look, each in looks.items():
        draw_arm(ax, look, SKIP_RATES, each.T)
    arms = list(looks)
    for column in range(2):
        key(ax, arms[3 * column : 3 * column + 3], x=0.03 + 0.45 * column, top=0.98)
    best = {look: (each[each.mean(1).argmax()], SKIP_RATES[each.mean(1).argmax()]) for look, each in looks.items()}
    said = told(best, lambda both: f"{per_cent(both[0])} at rate {both[1]:g}")
    what = "With skip connections" if skips else "Without skip connections"
    return fig, f"{what}, {SKIPS.steps} steps, each at its best rate: {said}."


# --- questions --------------------------------------------------------------------------------------------------------


@predict("layer norm and RMS norm", "batch norm", "all that take a mean")
def predict_company() -> Answer:
    """For which of them does one image's output change when the *other* images of its batch change?"""
    changes = experiment.company_changes(seeds=2)
    moved = [norm for norm, each in changes.items() if each.max() > 1e-6]
    return (
        "batch norm" if moved == ["bn"] else "all that take a mean",
        "Only batch norm looks across images. All others answer for one image alone, in training and in use.",
    )


@predict("yes, as far as BN", "a little further than plain", "no: no further than plain")
def predict_layer() -> Answer:
    """Layer norm, too, makes a layer blind to the length of its weights. Does it open the large rates in ten ReLU
    layers?
    """
    rates, areas = RATES[DEEP], {arm: experiment.race(DEEP)[arm].mean(1) for arm in ("plain", "bn", "layer")}
    place = rates.index(1.0)
    said = ", ".join(f"{look_of(arm).label} {each[place]:.0%}" for arm, each in areas.items())
    gain = (areas["layer"] - areas["plain"])[place] / (areas["bn"] - areas["plain"])[place]
    choice = "yes, as far as BN" if gain > 0.7 else "no: no further than plain"
    return "a little further than plain" if 0.05 < gain <= 0.7 else choice, f"Area at rate 1: {said}. Choose *{DEEP}*."


@predict("BN", "layer norm", "about the same")
def predict_tiny() -> Answer:
    """Three ReLU layers, batches of four images. Which of the two trains better, each at its own best rate?"""
    lead = experiment.best_lead(TINY, "layer", "bn")
    choice = "about the same" if abs(lead.mean()) < 0.05 else "layer norm" if lead.mean() > 0 else "BN"
    said = between(intervals.mean(100 * lead))
    return choice, f"Layer norm's area is {said} points larger [95 %]. Choose *batches of 4* in the figure."


@predict("20 times", "about 1,000 times", "more than 10,000 times")
def predict_stream() -> Answer:
    """No norm: each block adds to its input x about as much variance as x has. How much larger is the variance after
    20 blocks?
    """
    grown = float(np.median(experiment.growth("plain")))
    choice = "20 times" if grown < 100 else "about 1,000 times" if grown < 1e4 else "more than 10,000 times"
    return choice, f"{number(float(f'{grown:.2g}'))} times in the median seed: doubling twenty times is a million."


@predict("none: γ = 0 stops everything", "γ and β only", "γ, β and W")
def predict_awake() -> Answer:
    """A block x + BN(W ReLU(x)) with γ = 0. Which of the block's parameters get a gradient in the very first step?"""
    return "γ and β only", "∂L/∂γ = Σ g x̂ does not contain γ. W's gradient does, and is 0 until γ has moved."


@exercise("1/10", "about 1/30", "about 1/1,000", "about 1/1,000,000")
def quiz_dyt() -> Answer:
    """How large is it after ten layers?"""
    return "about 1/1,000", "Halved in each layer: 2¹⁰ = 1,024. For small z, tanh(z / 2) is z / 2."


@exercise(
    "nothing: sequences are normalised by step",
    "it takes the T steps for channels: each step has its own mean over examples and features",
    "it averages over all three axes",
)
def quiz_sequence() -> Answer:
    """What does it compute?"""
    return "it takes the T steps for channels: each step has its own mean over examples and features", (
        "Axis 1 is the channel for PyTorch's BatchNorm1d, so it wants (N, C, T). It raises no error as long as T fits, "
        "and fails on the first sequence of another length."
    )


@exercise(
    "nothing, it is the same",
    "the division by σ = √ε would make the gradient of W very large",
    "W would get no gradient, ever",
)
def quiz_zero_weights() -> Answer:
    """What would go wrong?"""
    return "the division by σ = √ε would make the gradient of W very large", (
        "With W = 0 every value is 0, its variance 0 and σ = √ε, about 0.003: BN multiplies the gradient by some 300. "
        "And after one small step it is normalised to full size: the block is the identity no longer."
    )
