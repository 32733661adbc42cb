"""The explorables of the chapter "Make BatchNorm noisy on purpose"."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from matplotlib.axes import Axes

from utils.batchnorm import normalize
from utils.explore import Drawing, control, explore, picture
from utils.instability import (
    BN,
    MODES,
    NOISY,
    NOISY_PLAIN,
    PLACES,
    PLAIN,
    PROBE,
    STAYS,
    Race,
    Variant,
    Watch,
    between_draws,
    share_kept,
    side_by_side,
    watch,
)
from utils.noise import PAPERS, NoisyBatchNorm1d, Recipe, draw_noise
from utils.progress import each
from utils.seeds import torch_rng
from utils.style import ARMS, FAINT, INK, MUTED, Arm, draw_arm, figure, label, label_ends, spread
from utils.training import Settings, trained

SEEDS = 5
STEPS = 200
WINDOW = 20  # steps of the running mean in every training curve
FOUR = ("plain", "bn", "noisy", "noisy plain")
STRENGTHS = (0.5, 1.0, 2.0, 4.0)
NETWORK = Settings(depth=10, width=32, nonlinearity="relu", lr=0.3, batch_size=32, steps=STEPS)
NAMES = {"ReLU": ("relu", 0.3), "tanh": ("tanh", 0.3), "sigmoid": ("sigmoid", 1.0)}  # each at one learning rate
SIZES = (0.25, 0.5, 1.0)
LOOKS = {**ARMS, "stays": Arm("noise stays", INK, (0, (3, 1)))}
GAP = 0.085  # between two names at the ends of lines


def stronger(variant: Variant, strength: float) -> Variant:
    """Return the variant with its noise `strength` times as strong."""
    return replace(variant, noise=variant.noise.times(strength))


PARTS = {
    "all of it": PAPERS,
    "shift": Recipe(0.5, 0.0, 0.0, 0.0),
    "scale": Recipe(0.0, 0.25, 0.0, 0.0),
    "shift and scale": Recipe(0.5, 0.25, 0.0, 0.0),
    "each sample's own": Recipe(0.0, 0.0, 0.1, 0.1),
}


def variants(depth: int, nonlinearity: str, lr: float) -> dict[tuple, Variant]:
    """Name what is raced in one network: (arm, strength) and, in the main one, what takes the noise apart."""
    main = (depth, nonlinearity, lr) == (10, "ReLU", 0.3)
    strengths = STRENGTHS if (depth, nonlinearity) == (10, "ReLU") else (0.5, 1.0, 4.0)
    raced = {("plain",): PLAIN, ("bn",): BN}
    for strength in strengths:
        raced["noisy", strength] = stronger(NOISY, strength)
        raced["noisy plain", strength] = stronger(NOISY_PLAIN, strength)
    if lr == NAMES[nonlinearity][1]:
        raced |= {("stays", strength): stronger(STAYS, strength) for strength in (0.5, 1.0)}
    if main:
        raced |= {("last", strength): stronger(replace(NOISY, last_only=True), strength) for strength in (1.0, 4.0)}
        for stays in (False, True):
            raced |= {(part, stays): Variant(noise=recipe, stays=stays) for part, recipe in PARTS.items()}
            for size in SIZES:
                raced["shared", size, stays] = Variant(noise=Recipe(size, 0.0, 0.0, 0.0), stays=stays)
                raced["own", size, stays] = Variant(noise=Recipe(0.0, 0.0, size, 0.0), stays=stays)
    return raced


@dataclass(frozen=True)
class Raced:
    """A race with the names of its variants."""

    names: tuple[tuple, ...]  # in the order of the race's axis V
    run: Race

    def at(self, arm: str, *rest: object) -> int:
        """The variant's place on the axis V; plain and BN have no strength, and noise of strength 0 is no noise."""
        if rest == (0,) and arm in ("noisy", "noisy plain"):
            arm = "bn" if arm == "noisy" else "plain"
        return self.names.index((arm,) if arm in ("plain", "bn") else (arm, *rest))

    def curve(self, *name: object) -> np.ndarray:
        """Training accuracy, the running mean over 20 mini-batches: (seeds, steps - 19)."""
        kernel = np.ones(WINDOW) / WINDOW
        return np.array([np.convolve(run, kernel, "valid") for run in self.run.accuracy[self.at(*name)]])

    def area(self, *name: object) -> np.ndarray:
        """The area under the training curve, the mean accuracy on all mini-batches: (seeds,)."""
        return self.run.accuracy[self.at(*name)].mean(-1)

    def kept(self, *name: object) -> np.ndarray | None:
        """Which share of BN's gain this variant keeps: (seeds,), or None where there is no clear gain."""
        return share_kept(self.area("plain"), self.area("bn"), self.area(*name))


@cache
def raced(depth: int = 10, nonlinearity: str = "ReLU", lr: float = 0.0) -> Raced:
    """Race one network's variants, five seeds each; `lr` 0 is that of its nonlinearity in :data:`NAMES`.

    >>> raced().area("bn").shape
    (5,)
    """
    bend, own = NAMES[nonlinearity]
    named = variants(depth, nonlinearity, lr or own)
    unique = tuple(dict.fromkeys(named.values()))
    looks = 11 if nonlinearity == "ReLU" and lr in (0, own) else 2  # the others' jumps are not drawn
    run = side_by_side(replace(NETWORK, depth=depth, nonlinearity=bend, lr=lr or own), unique, SEEDS, looks)
    index = [unique.index(variant) for variant in named.values()]
    axes = {"accuracy": 0, "diverged": 0, "test_accuracy": 1, "looked": None}
    taken = {
        name: value if axes.get(name, 2) is None else value.take(index, axes.get(name, 2))
        for name, value in run._asdict().items()
    }
    return Raced(tuple(named), Race(**taken))


def _curves(title: str, results: Raced, wanted: dict[str, tuple]) -> tuple:
    """Draw training curves of some arms, each named at its end; `wanted` gives their variants' names."""
    fig, (ax,) = figure(title, height=3.4)
    x = np.arange(WINDOW, STEPS + 1)
    ends = {}
    for arm, name in wanted.items():
        curves = results.curve(*name)
        draw_arm(ax, LOOKS[arm], x, curves)
        ends[LOOKS[arm]] = curves[:, -1].mean()
    ax.axhline(0.1, color=MUTED, linewidth=1, linestyle=":")
    ax.set(xlim=(WINDOW, STEPS), ylim=(0, 1.02), xlabel="training step", xticks=[20, 50, 100, 150, 200])
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    fig.subplots_adjust(right=0.76)
    label_ends(ax, ends, GAP)
    return fig, ax


def _areas(results: Raced, wanted: dict[str, tuple]) -> str:
    return ", ".join(f"{LOOKS[arm].label} {spread(results.area(*name))}" for arm, name in wanted.items())


def _share(results: Raced, name: tuple, who: str = "noisy BN") -> str:
    kept = results.kept(*name)
    if kept is None:
        return "BN's own gain is not clear here, so no share of it is given"
    return f"{who} keeps {100 * kept.mean():.0f} ± {100 * kept.std(ddof=1):.0f} % of BN's gain"


def _rate(lr: float) -> str:
    return f"learning rate {lr:g}"


# --- the noise itself ----------------------------------------------------------------------------------------------


@explore(
    strength=control([0.0, 0.5, 1.0, 2.0, 4.0], label="noise, times the paper's"),
    draw=control([1, 2, 3]),
)
def the_noise(strength: float = 1.0, draw: int = 1) -> Drawing:
    """Six units, 32 samples: the shift and the factor that each value gets."""
    chance = torch_rng(draw)
    s, m = draw_noise(torch.zeros(32, 6), PAPERS.times(strength), chance)
    fig, (left, right) = figure("shift m", "factor s", height=3.3)
    half = 0.75 * max(strength, 1.0)
    for ax, values, middle in ((left, m, 0.0), (right, s, 1.0)):
        ax.axhline(middle, color=MUTED, linewidth=1)
        for unit in range(6):
            column = values[:, unit].numpy()
            spots = unit + 1 + np.linspace(-0.22, 0.22, 32)
            ax.plot(spots, column, "o", color=LOOKS["noisy"].colour, alpha=0.55, markersize=3.2, markeredgewidth=0)
            ax.plot([unit + 0.68, unit + 1.32], 2 * [column.mean()], color=INK, linewidth=2)
        ax.set(xlim=(0.4, 6.6), ylim=(middle - half, middle + half), xticks=range(1, 7), xlabel="unit")
        ax.grid(axis="x", visible=False)
    means, factors = m.mean(0), s.mean(0)
    if not strength:
        return fig, f"Strength 0, draw {draw}: every shift is 0 and every factor 1, so the values stay as they are."
    return fig, (
        f"Strength {strength:g}, draw {draw}: the six units' mean shifts run from {means.min():.2f} to "
        f"{means.max():.2f}, and within a unit the samples' shifts spread by {m.std(0).mean():.2f}; mean factors run "
        f"from {factors.min():.2f} to {factors.max():.2f}, within a unit they spread by {s.std(0).mean():.2f}."
    )


# --- four arms -----------------------------------------------------------------------------------------------------


@explore(
    strength=control([0.0, *STRENGTHS], label="noise, times the paper's"),
    learning_rate=control([0.03, 0.1, 0.3]),
)
def four_arms(strength: float = 1.0, learning_rate: float = 0.3) -> Drawing:
    """Does noise on its output take away what BN gives?"""
    results = raced(10, "ReLU", learning_rate)
    wanted = {arm: (arm, strength) for arm in FOUR}
    fig, _ = _curves("training accuracy, 20 batches", results, wanted)
    return fig, (
        f"ReLU, 10 hidden layers, {_rate(learning_rate)}, noise {strength:g} times the paper's, {SEEDS} seeds; area "
        f"under the curve: {_areas(results, wanted)}; {_share(results, wanted['noisy'])}."
    )


@explore(
    depth=control([3, 10], unit="hidden layers"),
    nonlinearity=list(NAMES),
    strength=control([1.0, 4.0], label="noise, times the paper's"),
)
def other_networks(depth: int = 3, nonlinearity: str = "sigmoid", strength: float = 1.0) -> Drawing:
    """The same race in other networks."""
    results, wanted = raced(depth, nonlinearity), {arm: (arm, strength) for arm in FOUR}
    fig, _ = _curves("training accuracy, 20 batches", results, wanted)
    return fig, (
        f"{nonlinearity}, {depth} hidden layers, {_rate(NAMES[nonlinearity][1])}, noise {strength:g} times the "
        f"paper's, {SEEDS} seeds; area under the curve: {_areas(results, wanted)}; "
        f"{_share(results, wanted['noisy'])}."
    )


# --- jumps and drift -----------------------------------------------------------------------------------------------

ENTRANCE = {"before: Wu + b": 0, "entering the nonlinearity": 1}
UNITS = {"as it is": "as it is", "in widths": "in widths"}


def instability(run: Race | Watch, what: str, yardstick: str) -> np.ndarray:
    """The mean jump over the looks, or the drift at the last look; as it is or in widths of a unit now.

    Of a race (2 places, V, S, L), of a watched network (L,).

    >>> instability(raced().run, "jump", "in widths").shape[0]
    2
    """
    looks = 1 if isinstance(run, Race) else 0
    values = getattr(run, what) / (run.width if yardstick == "in widths" else 1.0)
    values = np.moveaxis(values, looks, 0)
    return values[1:].mean(0) if what == "jump" else values[-1]


@explore(
    depth=control([3, 10], unit="hidden layers"),
    place=list(ENTRANCE),
    yardstick=list(UNITS),
)
def jumps_and_drift(depth: int = 10, place: str = "entering the nonlinearity", yardstick: str = "as it is") -> Drawing:
    """How far one update moves a unit's mean, and how far all of them have moved it."""
    results = raced(depth, "ReLU")
    fig, axes = figure("jump, one update", "drift, all updates", height=3.5, left=0.95)
    fig.subplots_adjust(wspace=0.14)
    layers, said = np.arange(1, depth + 1), []
    for ax, what in zip(axes, ("jump", "drift"), strict=True):
        values = instability(results.run, what, yardstick)[ENTRANCE[place]]
        means = {}
        for arm in FOUR:
            runs = values[results.at(arm, 1.0)]
            draw_arm(ax, arm, layers, runs)
            means[arm] = runs.mean(-1)
        said.append(f"{what} " + ", ".join(f"{LOOKS[arm].label} {spread(means[arm], 3)}" for arm in FOUR))
        ax.set(yscale="log", ylim=(7e-4, 30), xlim=(0.7, depth + 0.3), xlabel="hidden layer")
        ax.set_xticks(layers if depth == 3 else [1, 4, 7, 10])
        ax.set_yticks([0.001, 0.01, 0.1, 1, 10], ["0.001", "0.01", "0.1", "1", "10"])
        ax.minorticks_off()
    axes[0].set_ylabel("widths now" if yardstick == "in widths" else "distance, as it is")
    axes[1].tick_params(labelleft=False)
    _key(axes[1], FOUR)
    return fig, f"ReLU, {depth} layers, {place}, {yardstick}, mean over layers, {SEEDS} seeds: {'; '.join(said)}."


def _key(ax: Axes, arms: tuple[str, ...], top: float = 0.36, step: float = 0.078) -> None:
    """Name the arms in a corner of the panel, one under another."""
    for row, arm in enumerate(arms):
        look = LOOKS[arm]
        y = top - step * (row + 0.5)
        ax.plot([0.03, 0.16], [y, y], color=look.colour, linestyle=look.dashes, transform=ax.transAxes, linewidth=1.8)
        label(ax, look, 0.19, y, fontsize=9, va="center", transform=ax.transAxes)


# --- what the later layers see -------------------------------------------------------------------------------------

SAW = ("noisy", "stays", "noisy plain")
COMPARED = {"the batch's mean": "moved", "single values": "changed"}


@explore(
    compared=list(COMPARED),
    nonlinearity=list(NAMES),
    moment=["before training", "after training"],
)
def layer_by_layer(
    compared: str = "the batch's mean", nonlinearity: str = "ReLU", moment: str = "before training"
) -> Drawing:
    """The same batch, the same weights, two draws of noise: how much of the difference is left at each place?"""
    results = raced(10, nonlinearity)
    values = getattr(results.run, COMPARED[compared])[("before training", "after training").index(moment)]
    fig, (ax,) = figure("between two draws of noise, in widths", height=3.7)
    said, ends = [], {}
    for arm in SAW:
        chosen = values[:, results.at(arm, 1.0), :, :-1]  # (3 places, seeds, layers)
        runs = chosen.transpose(1, 2, 0).reshape(SEEDS, -1)
        x = np.arange(runs.shape[1]) / 3 + 1
        draw_arm(ax, LOOKS[arm], x, runs)
        ax.plot(x[2::3], runs.mean(0)[2::3], "o", color=LOOKS[arm].colour, markersize=5)
        ends[LOOKS[arm]] = runs.mean(0)[-1]
        said.append(f"{LOOKS[arm].label} " + ", ".join(spread(part.mean(-1)) for part in chosen))
    ax.set(yscale="symlog", ylim=(-0.012, 12), xlim=(0.9, 9.8), xticks=range(1, 10), xlabel="from hidden layer")
    ax.set_yscale("symlog", linthresh=0.1, linscale=0.6)
    ax.set_ylim(-0.012, 12)
    ax.set_yticks([0, 0.1, 0.3, 1, 3, 10], ["0", "0.1", "0.3", "1", "3", "10"])
    ax.minorticks_off()
    fig.subplots_adjust(right=0.76)
    label_ends(ax, ends, GAP)
    return fig, (
        f"{nonlinearity}, 10 layers, {moment}, {compared}, in widths at {PLACES[0]}, {PLACES[1]}, {PLACES[2]} (mean "
        f"over layers 1 to 9, {SEEDS} seeds): {'; '.join(said)}."
    )


@torch.no_grad()
def disturbed(norm: str) -> np.ndarray:
    """Train the main network with `norm`, "bn" or "noisy"; then give it the paper's noise, and compare two draws.

    How far single values have moved after the next norm, in widths, as in :func:`layer_by_layer` (mean over layers 1
    to 9): (seeds,).
    """
    task, found = NETWORK.task(), []
    for seed in range(SEEDS):
        net = replace(NETWORK, norm="noisy").network(seed)
        net.load_state_dict(trained(replace(NETWORK, norm=norm), seed).state_dict())
        pairs = zip(*(_normed(net, task.x_train[:PROBE]) for _ in range(2)), strict=True)
        found.append(np.mean([between_draws(*pair)[1] for pair in list(pairs)[1:]]))
    return np.array(found)


def _normed(net: torch.nn.Sequential, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Give each hidden layer's values after its norm, before the noise."""
    for layer in net:
        if isinstance(layer, NoisyBatchNorm1d):
            yield normalize(x) * layer.weight + layer.bias
        x = layer(x)


@explore(
    depth=control([3, 10], unit="hidden layers"),
    nonlinearity=list(NAMES),
    strength=control([0.5, 1.0], label="noise, times the paper's"),
)
def noise_that_stays(depth: int = 10, nonlinearity: str = "ReLU", strength: float = 1.0) -> Drawing:
    """The sharper test: a net with BN, whose next layers cannot take the noise out."""
    results = raced(depth, nonlinearity)
    wanted = {arm: (arm, strength) for arm in (*FOUR, "stays")}
    fig, _ = _curves("training accuracy, 20 batches", results, wanted)
    return fig, (
        f"{nonlinearity}, {depth} hidden layers, {_rate(NAMES[nonlinearity][1])}, noise {strength:g} times the "
        f"paper's, {SEEDS} seeds; area under the curve: {_areas(results, wanted)}; "
        f"{_share(results, wanted['noisy'])}, noise that stays {_share(results, wanted['stays'], '')}."
    ).replace("stays  keeps", "stays keeps")


# --- the noise taken apart -----------------------------------------------------------------------------------------


@picture
def parts() -> Drawing:
    """Which part of the noise costs what, with and without the next BN's help?"""
    results = raced()
    fig, (ax,) = figure("share of BN's gain kept", height=3.3, left=1.62)
    said = []
    for row, part in enumerate(PARTS):
        told = []
        for stays, arm, lift in ((False, "noisy", -0.14), (True, "stays", 0.14)):
            kept = results.kept(part, stays)
            marker = "o" if arm == "noisy" else "D"
            ax.plot(kept, np.full(SEEDS, row + lift), marker, color=LOOKS[arm].colour, alpha=0.4, markersize=4)
            ax.plot(kept.mean(), row + lift, marker, color=LOOKS[arm].colour, markersize=8)
            told.append(f"{100 * kept.mean():.0f} ± {100 * kept.std(ddof=1):.0f} %")
        said.append(f"{part} {' and '.join(told)}")
    ax.set(xlim=(0, 1.05), ylim=(len(PARTS) - 0.5, -0.5))
    ax.set_yticks(range(len(PARTS)), PARTS)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    ax.text(0.03, 3.72, "● noisy BN", color=LOOKS["noisy"].colour, fontweight="bold", fontsize=10, va="center")
    ax.text(0.03, 4.12, "◆ noise stays", color=LOOKS["stays"].colour, fontweight="bold", fontsize=10, va="center")
    ax.grid(axis="y", visible=False)
    return fig, f"Share of BN's gain kept by noisy BN, and where the noise stays ({SEEDS} seeds): {'; '.join(said)}."


@explore(
    size=control(SIZES, label="shift up to"),
    stays=control([False, True], label="the noise stays"),
)
def shared_or_own(size: float = 1.0, stays: bool = False) -> Drawing:
    """A shift of one size, drawn once for the batch or once for each sample."""
    results = raced()
    wanted = {"plain": ("plain",), "bn": ("bn",), "shared": ("shared", size, stays), "own": ("own", size, stays)}
    fig, (ax,) = figure("training accuracy, 20 batches", height=3.4)
    x, ends = np.arange(WINDOW, STEPS + 1), {}
    looks = {**LOOKS, "shared": Arm("shared", INK), "own": Arm("each its own", MUTED, (0, (4, 1.5)))}
    for arm, name in wanted.items():
        curves = results.curve(*name)
        draw_arm(ax, looks[arm], x, curves)
        ends[looks[arm]] = curves[:, -1].mean()
    ax.set(xlim=(WINDOW, STEPS), ylim=(0, 1.02), xlabel="training step", xticks=[20, 50, 100, 150, 200])
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    fig.subplots_adjust(right=0.74)
    label_ends(ax, ends, GAP)
    jumps = instability(results.run, "jump", "as it is")[1].mean(-1)  # (V, S), over the layers
    told = []
    for what, called in (("shared", "shared by the batch"), ("own", "each sample's own")):
        kept, jump = results.kept(what, size, stays), jumps[results.at(what, size, stays)]
        told.append(
            f"{called}, {100 * kept.mean():.0f} ± {100 * kept.std(ddof=1):.0f} % of BN's gain is kept (mean jump "
            f"{spread(jump, 3)})"
        )
    return fig, (
        f"ReLU, 10 layers, shifts from {-size:g} to {size:g}, the next BN {'cannot' if stays else 'can'} take them "
        f"out, {SEEDS} seeds: {'; '.join(told)}."
    )


# --- evaluation ----------------------------------------------------------------------------------------------------

DEPTHS = (3, 10, 20)


@cache
def deep() -> Raced:
    """BN and noisy BN in 20 layers, five seeds each."""
    run = side_by_side(replace(NETWORK, depth=20), (BN, NOISY), SEEDS, looks=2)
    return Raced((("bn",), ("noisy", 1.0)), run)


@explore(
    depth=control(DEPTHS, unit="hidden layers"),
)
def at_test_time(depth: int = 10) -> Drawing:
    """One trained network, four ways to test it."""
    results = deep() if depth == 20 else raced(depth, "ReLU")
    fig, (ax,) = figure("accuracy on 360 unseen digits", height=3.2, left=1.62)
    said = []
    for arm, lift in (("bn", -0.14), ("noisy", 0.14)):
        chosen = results.run.test_accuracy[:, results.at(arm, 1.0)]
        for row, values in enumerate(chosen):
            ax.plot(values, np.full(SEEDS, row + lift), "o", color=LOOKS[arm].colour, alpha=0.4, markersize=4)
            ax.plot(values.mean(), row + lift, "o", color=LOOKS[arm].colour, markersize=8)
        told = [
            f"{mode} {100 * values.mean():.0f} ± {100 * values.std(ddof=1):.0f} %"
            for mode, values in zip(MODES, chosen, strict=True)
        ]
        said.append(f"{LOOKS[arm].label}: {', '.join(told)}")
    ax.set(xlim=(0, 1.02), ylim=(3.5, -0.5))
    ax.set_yticks(range(4), ["noise off", "noise on", "re-estimated", "as in training"])
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    ax.text(0.02, 2.85, "● BN", color=LOOKS["bn"].colour, fontweight="bold", fontsize=10, va="center")
    ax.text(0.02, 3.2, "● noisy BN", color=LOOKS["noisy"].colour, fontweight="bold", fontsize=10, va="center")
    ax.grid(axis="y", visible=False)
    ax.axvline(0.1, color=FAINT, linewidth=2)
    return fig, f"ReLU, {depth} layers, {SEEDS} seeds. {'. '.join(said)}."


# --- images --------------------------------------------------------------------------------------------------------

IMAGES = Settings(data="fashion", depth=4, width=8, nonlinearity="relu", lr=0.3, batch_size=32, steps=80)
IMAGE_NORMS = {"plain": "plain", "bn": "torch", "noisy": "noisy", "noisy plain": "noisy plain"}


@cache
def watched() -> dict[str, list[Watch]]:
    """Train the four arms of a small VGG-like network on Fashion-MNIST, five seeds each.

    >>> sorted(watched())
    ['bn', 'noisy', 'noisy plain', 'plain']
    """
    jobs = [(arm, seed) for arm in FOUR for seed in range(SEEDS)]
    runs = [watch(replace(IMAGES, norm=IMAGE_NORMS[arm]), seed) for arm, seed in each(jobs)]
    return {arm: runs[i * SEEDS : (i + 1) * SEEDS] for i, arm in enumerate(FOUR)}


def image_area(arm: str) -> np.ndarray:
    """The area under the training curve of one arm on images: (seeds,)."""
    return np.array([run.accuracy.mean() for run in watched()[arm]])


@explore(
    measured=["jump", "drift"],
    yardstick=list(UNITS),
)
def on_images(measured: str = "jump", yardstick: str = "as it is") -> Drawing:
    """The race in a convolutional network."""
    last = IMAGES.steps
    fig, (left, right) = figure("training accuracy", f"{measured}, {yardstick}", height=3.5)
    fig.subplots_adjust(wspace=0.42)
    x, kernel, said = np.arange(WINDOW, last + 1), np.ones(WINDOW) / WINDOW, []
    for arm, runs in watched().items():
        curves = np.array([np.convolve(run.accuracy, kernel, "valid") for run in runs])
        far = np.array([instability(run, measured, yardstick) for run in runs])
        draw_arm(left, arm, x, curves)
        draw_arm(right, arm, np.arange(1, IMAGES.depth + 1), far)
        said.append(f"{LOOKS[arm].label} {spread(image_area(arm))} and {spread(far.mean(-1), 3)}")
    left.set(xlim=(WINDOW, last), ylim=(0, 1.02), xlabel="training step", xticks=[20, 50, 80])
    left.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    right.set(yscale="log", ylim=(1e-4, 30), xlim=(0.8, IMAGES.depth + 0.2), xlabel="convolution", xticks=[1, 2, 3, 4])
    right.set_yticks([0.001, 0.01, 0.1, 1, 10], ["0.001", "0.01", "0.1", "1", "10"])
    right.minorticks_off()
    _key(right, FOUR, top=0.27, step=0.066)
    return fig, (
        f"Four convolutions on Fashion-MNIST, {SEEDS} seeds: area under the training curve, and mean {measured} "
        f"{yardstick}: {'; '.join(said)}."
    )
