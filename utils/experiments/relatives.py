"""BN's relatives: which values share a statistic, how networks train with each, and what a skip connection changes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.batchnorm import BatchNorm2d
from utils.cache import cached
from utils.networks import EPS, Residual, preserve_state
from utils.norms import DyT
from utils.observe import observe
from utils.seeds import torch_rng
from utils.training import SEEDS, Run, Settings, Update, by_norm, train_all

# --- who shares a statistic -------------------------------------------------------------------------------------------

AXES = {"bn": (0, 2, 3), "layer": (1, 2, 3), "group": (2, 3, 4), "instance": (2, 3), "rms": (1, 2, 3)}
"""Over which axes of a block (N, C, H, W) the mean runs; of group norm, of (N, groups, C / groups, H, W)."""
SHAPES = {"table (N, C)": (4, 4, 1, 1), "block (N, C, H, W)": (4, 4, 3, 3)}
GROUPS = 2  # of the four channels of such a table or block


def normalize_over(x: Tensor, axes: Sequence[int], eps: float = EPS, centre: bool = True) -> Tensor:
    """Take the mean over some axes off, and divide by the standard deviation (1/m) over the same axes.

    Without `centre` no mean is taken off, and the divisor is the root mean square (Zhang & Sennrich 2019). `x` and the
    result have one shape; `eps`, in the squared unit of x, keeps the division finite.

    >>> normalize_over(torch.tensor([[1.0, 3.0], [10.0, 30.0]]), axes=[1], eps=0)
    tensor([[-1.,  1.],
            [-1.,  1.]])
    """
    axes = tuple(axes)
    centred = x - x.mean(axes, keepdim=True) if centre else x
    return centred / torch.sqrt(centred.square().mean(axes, keepdim=True) + eps)


def normalized(x: Tensor, norm: str, groups: int = GROUPS) -> Tensor:
    """Normalise a block (N, C, H, W) as one of :data:`AXES` does, without gamma and beta.

    >>> x = torch.rand(2, 4, 3, 3)
    >>> bool(torch.allclose(normalized(x, "layer"), F.layer_norm(x, x.shape[1:]), atol=1e-5))
    True

    Raises ValueError for another norm.
    """
    if norm not in AXES:
        raise ValueError(f"norm: expected one of {list(AXES)}, got {norm!r}")
    if norm == "group":
        return normalize_over(x.unflatten(1, (groups, -1)), AXES[norm]).flatten(1, 2)
    return normalize_over(x, AXES[norm], centre=norm != "rms")


def torchs(x: Tensor, norm: str, groups: int = GROUPS) -> Tensor:
    """The same by torch's own functions.

    >>> torchs(torch.rand(2, 4, 3, 3), "instance").shape
    torch.Size([2, 4, 3, 3])
    """
    made = {
        "bn": lambda: F.batch_norm(x, None, None, training=True, eps=EPS),
        "layer": lambda: F.layer_norm(x, x.shape[1:], eps=EPS),
        "group": lambda: F.group_norm(x, groups, eps=EPS),
        "instance": lambda: F.instance_norm(x, eps=EPS),
        "rms": lambda: F.rms_norm(x, x.shape[1:], eps=EPS),
    }
    return made[norm]()


def axes_errors(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How far :func:`normalized` is from torch, at most, in float64, by norm: (seeds,).

    >>> bool(max(each.max() for each in axes_errors(seeds=2).values()) < 1e-12)
    True
    """
    found = {norm: [] for norm in AXES}
    for seed in range(seeds):
        x = 3 * torch.randn(6, 4, 5, 5, generator=torch_rng(seed)).double() + 2
        for norm, errors in found.items():
            errors.append((normalized(x, norm) - torchs(x, norm)).abs().max().item())
    return {norm: np.array(errors) for norm, errors in found.items()}


def sharers(norm: str, shape: Sequence[int], example: int, channel: int) -> np.ndarray:
    """Which values of a block (N, C, H, W) share a statistic with those of one example and channel: bool, `shape`.

    For DyT ("dyt") none do. Raises ValueError for another norm.

    >>> sharers("layer", (2, 3, 1, 1), example=0, channel=1)[:, :, 0, 0]
    array([[ True,  True,  True],
           [False, False, False]])
    """
    if norm not in (*AXES, "dyt"):
        raise ValueError(f"norm: expected one of {[*AXES, 'dyt']}, got {norm!r}")
    n, c = np.indices(shape)[:2]
    size = shape[1] // GROUPS
    return {
        "bn": c == channel,
        "layer": n == example,
        "group": (n == example) & (c // size == channel // size),
        "instance": (n == example) & (c == channel),
        "rms": n == example,
        "dyt": np.zeros(shape, dtype=bool),
    }[norm]


@cache
def block(shape: str) -> Tensor:
    """Values to look at, each channel with a place and a width of its own: one of :data:`SHAPES`, in float64.

    >>> block("table (N, C)").shape
    torch.Size([4, 4, 1, 1])
    """
    rng, size = torch_rng(0), SHAPES[shape]
    place, width = 2 * torch.randn(size[1], generator=rng), 0.5 + torch.rand(size[1], generator=rng)
    x = torch.randn(size, generator=rng)
    return (x * width[:, None, None] + place[:, None, None]).double()


def layers(channels: int = 4) -> dict[str, nn.Module]:
    """The layers themselves, for images with so many channels, in float64.

    >>> list(layers())
    ['bn', 'layer', 'group', 'instance', 'dyt']
    """
    made = {
        "bn": BatchNorm2d(channels),
        "layer": nn.GroupNorm(1, channels),
        "group": nn.GroupNorm(GROUPS, channels),
        "instance": nn.InstanceNorm2d(channels, affine=True),
        "dyt": DyT(channels),
    }
    return {norm: layer.double() for norm, layer in made.items()}


def company_changes(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How far one image's output moves, at most, with the company in its batch or the mode, by norm: (seeds,).

    >>> changes = company_changes(seeds=2)
    >>> bool(changes["bn"].min() > 0.01), bool(changes["layer"].max() < 1e-12)
    (True, True)
    """
    found = {norm: [] for norm in layers()}
    for seed in range(seeds):
        x, others = torch.randn(2, 6, 4, 5, 5, generator=torch_rng(seed)).double()
        other = torch.cat([x[:1], others[1:]])
        for norm, layer in layers().items():
            first, second, used = layer(x)[0], layer(other)[0], layer.eval()(x[:1])[0]
            found[norm].append(max((each - first).abs().max().item() for each in (second, used)))
    return {norm: np.array(each) for norm, each in found.items()}


# --- a race -----------------------------------------------------------------------------------------------------------

GUESSING = 0.1  # the accuracy of guessing among ten digits
RELATIVES = ("layer", "group", "rms", "dyt")
ARMS = ("plain", "bn", *RELATIVES)
BASE = Settings(width=48, nonlinearity="relu", init="he", steps=50, n_evals=2)
SHALLOW, DEEP, TANH, TINY = "ReLU, 3 layers", "ReLU, 10 layers", "tanh, 10 layers", "ReLU, 3 layers, batches of 4"
NETWORKS = {
    SHALLOW: BASE,
    DEEP: replace(BASE, depth=10),
    TANH: replace(BASE, depth=10, nonlinearity="tanh", init="glorot"),
    TINY: replace(BASE, batch_size=4, steps=120),
}
RATES = {
    SHALLOW: (0.03, 0.1, 0.3, 1.0, 3.0),
    DEEP: (0.03, 0.1, 0.3, 1.0, 3.0),
    TANH: (0.1, 0.3, 1.0),
    TINY: (0.01, 0.03, 0.1, 0.3),
}


def area(runs: Sequence[Run], steps: int) -> np.ndarray:
    """The mean accuracy on all mini-batches of training: (seeds,). What a run that diverged has not done is guessing.

    >>> from utils.training import train_seeds
    >>> area(train_seeds(replace(BASE, steps=2), seeds=3), steps=2).shape
    (3,)
    """
    return np.array([(run.accuracy.sum() + GUESSING * (steps - len(run.accuracy))) / steps for run in runs])


def _areas(arms: Mapping[str, Settings], rates: Sequence[float]) -> dict[str, np.ndarray]:
    """The area of every arm at every rate: (rates, seeds) by arm."""
    runs = train_all({(arm, rate): replace(each, lr=rate) for arm, each in arms.items() for rate in rates})
    return {arm: np.array([area(runs[arm, rate], each.steps) for rate in rates]) for arm, each in arms.items()}


@cache
def race(network: str, arms: Sequence[str] = ARMS) -> dict[str, np.ndarray]:
    """The area under the training curve at each of a network's :data:`RATES`: (rates, seeds) by arm.

    >>> race("ReLU, 3 layers", ("bn",))["bn"].shape[0] == len(RATES["ReLU, 3 layers"])
    True
    """
    return _areas(by_norm(NETWORKS[network], arms), RATES[network])


def leads(network: str, arm: str, other: str, rates: Sequence[float] = ()) -> dict[str, np.ndarray]:
    """How much larger the area of one arm is than another's, at some of the rates or at all, by rate: (seeds,).

    >>> list(leads("ReLU, 3 layers", "bn", "plain", (0.1,)))
    ['rate 0.1']
    """
    areas = {each: race(network, (each,))[each] for each in (arm, other)}
    known = RATES[network]
    places = {f"rate {rate:g}": known.index(rate) for rate in rates or known}
    return {name: areas[arm][place] - areas[other][place] for name, place in places.items()}


def best_lead(network: str, arm: str, other: str) -> np.ndarray:
    """The same with each arm at the rate at which its mean area is the largest: (seeds,).

    >>> bool(best_lead("ReLU, 3 layers", "dyt", "plain").mean() < 0)
    True
    """
    best = []
    for each in (arm, other):
        areas = race(network, (each,))[each]
        best.append(areas[areas.mean(1).argmax()])
    return best[0] - best[1]


def best_of(network: str, arm: str) -> np.ndarray:
    """The largest area that each seed reaches at any rate: (seeds,).

    >>> bool(best_of("ReLU, 3 layers", "bn").mean() > 0.8)
    True
    """
    return race(network, (arm,))[arm].max(0)


LONGER = 2.0  # times as long as He's, weights that make up for what DyT shrinks


def shrinking(norm: str, seeds: int = SEEDS, longer: float = 1.0) -> np.ndarray:
    """The root mean square of each ReLU layer's outputs, ten layers, at the start of training: (seeds, layers).

    The weights are those of He's start times `longer`, all of one standard deviation.

    >>> shrinking("dyt", seeds=2).shape
    (2, 10)
    """
    settings = replace(NETWORKS[DEEP], norm=norm, init=longer * _he())
    x, sizes = settings.task().x_train, []
    with torch.no_grad():
        for seed in range(seeds):
            u, found = x, []
            for module in settings.network(seed):
                u = module(u)
                if isinstance(module, nn.ReLU):
                    found.append(u.square().mean().sqrt().item())
            sizes.append(found)
    return np.array(sizes)


def _he() -> float:
    return round(float(np.sqrt(2 / BASE.width)), 3)


@cache
def rescued() -> np.ndarray:
    """The area of ten ReLU layers with DyT whose first weights are :data:`LONGER` times as long, rate 0.1: (seeds,).

    >>> bool(rescued().mean() > 2 * GUESSING)
    True
    """
    settings = replace(NETWORKS[DEEP], norm="dyt", init=LONGER * _he())
    return _areas({"dyt": settings}, [0.1])["dyt"][0]


# --- skip connections -------------------------------------------------------------------------------------------------

BLOCKS = 20
SKIPS = replace(BASE, skips=True, depth=BLOCKS + 1, batch_size=32, steps=40)
SKIP_ARMS = ("plain", "bn", "bn, zero gamma", "skipinit", "layer")
NO_SKIP_ARMS = ("plain", "bn")
NO_BLOCKS = "no blocks"  # what is left where every block is the identity: a linear classifier
SKIP_RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
WATCHED, WATCHED_AT = replace(SKIPS, lr=0.1), (0, 5, 20, 40)


class Stream(NamedTuple):
    """What runs through the blocks of a residual network, over a batch; the variances are means over units."""

    variance: np.ndarray  # (blocks + 1,) of the input of the first block, then of each block's output
    share: np.ndarray  # (blocks,) of what leaves a block: the part that the block itself has added


@torch.no_grad()
def stream(net: nn.Sequential, x: Tensor) -> Stream:
    """Follow a batch (N, inputs) through the blocks of a residual network, in training mode; nothing of it changes.

    A block's share is var f(x) / (var x + var f(x)): it is 0 where the block is the identity.

    >>> found = stream(replace(SKIPS, norm="skipinit", depth=4).network(0), SKIPS.task().x_train[:60])
    >>> found.variance.shape, found.share.tolist()
    ((4,), [0.0, 0.0, 0.0])
    """
    variances, shares = [], []
    with preserve_state(net):
        for module in net[:-1]:
            if isinstance(module, Residual):
                own, given = module.body(x), x
                x = given + own
                added, before = (each.var(0).mean().item() for each in (own, given))
                shares.append(added / (before + added))
            else:
                x = module(x)
            variances.append(x.var(0).mean().item())
    return Stream(np.array(variances), np.array(shares))


@cached
def streams(norm: str, at: Sequence[int] = WATCHED_AT, seeds: int = SEEDS) -> dict[int, Stream]:
    """The streams of a residual network at some steps of its training: (seeds, ...) by step; only where none is lost.

    >>> list(streams("skipinit", at=(0, 2), seeds=2))
    [0, 2]
    """
    settings = replace(WATCHED, norm=norm, steps=max(at))
    x = settings.task().x_train[:500]

    def measure(update: Update) -> tuple[np.ndarray, ...]:
        return tuple(stream(update.net, x))

    seen = observe(settings, seeds, at, measure)
    there = min(len(columns[0]) for columns in seen)
    columns = [np.stack([each[i][:there] for each in seen], 1) for i in range(3)]
    every = zip(columns[0][:, 0].tolist(), *columns[1:], strict=True)
    return {step: Stream(*found) for step, *found in every if np.isfinite(found[0]).all()}


def growth(norm: str) -> np.ndarray:
    """How many times as large the stream's variance is after all blocks as before them, untrained: (seeds,).

    >>> bool((growth("skipinit") == 1).all())
    True
    """
    variance = streams(norm, (0,))[0].variance
    return variance[:, -1] / variance[:, 0]


def increments(norm: str) -> dict[str, np.ndarray]:
    """How much variance the first and the second half of the blocks add, a block, untrained: (seeds,) each.

    >>> list(increments("bn"))
    ['first half', 'second half']
    """
    variance, half = streams(norm, (0,))[0].variance, BLOCKS // 2
    halves = {"first half": variance[:, half] - variance[:, 0], "second half": variance[:, -1] - variance[:, half]}
    return {name: each / half for name, each in halves.items()}


@cache
def skip_race(skips: bool = True) -> dict[str, np.ndarray]:
    """The area under the training curve at each of :data:`SKIP_RATES`, twenty blocks: (rates, seeds) by arm.

    Without skips these are 21 layers, each with its norm before the nonlinearity.

    >>> list(skip_race(skips=False))
    ['no blocks', 'plain', 'bn']
    """
    arms = by_norm(replace(SKIPS, skips=skips), SKIP_ARMS if skips else NO_SKIP_ARMS)
    return _areas({NO_BLOCKS: replace(SKIPS, depth=1), **arms}, SKIP_RATES)


def skip_lead(arm: str, other: str, rate: float) -> np.ndarray:
    """How much larger the area of one arm is than another's, with skips, at one rate: (seeds,).

    >>> bool(skip_lead("bn, zero gamma", "bn", 0.3).mean() > 0)
    True
    """
    place = SKIP_RATES.index(rate)
    return skip_race()[arm][place] - skip_race()[other][place]


def skips_help(arm: str) -> np.ndarray:
    """How much larger the area is with skips than without, each at its best rate: (seeds,).

    >>> bool(skips_help("bn").mean() > 0)
    True
    """
    best = [areas[areas.mean(1).argmax()] for areas in (skip_race(skips)[arm] for skips in (True, False))]
    return best[0] - best[1]
