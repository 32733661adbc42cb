"""What the chapter "Convolutions and batches" measures: who shares a mean, and what a network learns from its batches.

How far batch means stray in dense layers and in convolutions; networks trained with few images to a mean; networks
trained on batches of one kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.batchnorm import BatchNorm1d, BatchNorm2d
from utils.cache import cached
from utils.experiments.normalise import small_batch
from utils.experiments.test_time_statistics import scores_by_batch_statistics
from utils.networks import initialized, preactivations, preserve_state
from utils.observe import unit_statistics
from utils.seeds import numpy_rng, torch_rng
from utils.sweeps import sweep
from utils.training import SEEDS, Settings, one_thread, trained_seeds, updates_together

BatchNorm = nn.modules.batchnorm._BatchNorm
CONV_SEEDS = min(SEEDS, 5)  # of convolutional networks, which train one after another


# --- who shares a mean ------------------------------------------------------------------------------------------------

KINDS = {"dense layer": "(N, C)", "convolution": "(N, C, H, W)", "sequence": "(N, C, L)"}


@cache
def feature_maps(kind: str = "convolution", examples: int = 3, channels: int = 4) -> Tensor:
    """What a layer makes of the first examples, in the axes of :data:`KINDS`.

    A trained dense layer of digits; an untrained convolution of clothes; one of the clothes' brightness from the top
    to the bottom.

    >>> [tuple(feature_maps(kind).shape) for kind in KINDS]
    [(3, 4), (3, 4, 14, 14), (3, 4, 14)]

    Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {list(KINDS)}, got {kind!r}")
    if kind == "dense layer":
        return small_batch(examples, channels)
    settings = Settings(data="fashion", depth=1, width=channels)
    images = settings.task().x_train[:examples]
    conv, x = settings.network(seed=0)[0], images
    if kind == "sequence":
        conv, x = initialized(nn.Conv1d(1, channels, 3, padding=1), "glorot", torch_rng(0)), images.mean(3)
    with torch.no_grad():
        return conv(x)


def as_table_errors(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How far a convolution's BN is from a dense layer's BN on one row for each place of each image, (seeds,).

    At most, of values and of running statistics, in float64; of our layers and of torch's.

    >>> list(as_table_errors(seeds=2))
    ['ours', "torch's"]
    """
    found = {}
    for name, layers in (("ours", (BatchNorm1d, BatchNorm2d)), ("torch's", (nn.BatchNorm1d, nn.BatchNorm2d))):
        rows = []
        for seed in range(seeds):
            x = torch.randn(6, 4, 5, 7, generator=torch_rng(seed), dtype=torch.float64)
            table, images = (layer(4, dtype=torch.float64) for layer in layers)
            y = table(x.permute(0, 2, 3, 1).reshape(-1, 4)).reshape(6, 5, 7, 4).permute(0, 3, 1, 2)
            pairs = [(y, images(x)), (table.running_mean, images.running_mean), (table.running_var, images.running_var)]
            rows.append(max((one - other).abs().max().item() for one, other in pairs))
        found[name] = np.array(rows)
    return found


# --- how steady is a batch's mean -------------------------------------------------------------------------------------

CONV = Settings("bn", data="fashion", depth=4, width=8, nonlinearity="relu", init="he", lr=0.2, steps=60, batch_size=32)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
IMAGES = 1000  # of the training data, from which batches are drawn


class Steadiness(NamedTuple):
    """How far the means of random batches stray from that of all images, in standard deviations: (layers, sizes).

    The root of the mean square over channels and batches. Of each image a channel has so many `places`, (layers,).
    """

    strays: np.ndarray
    places: np.ndarray

    @property
    def worth(self) -> np.ndarray:
        """How many independent values one image is worth, the geometric mean over batch sizes: (layers,)."""
        return np.exp(np.mean(-2 * np.log(self.strays) - np.log(BATCH_SIZES), axis=1))


def strays_of(values: Tensor, rng: np.random.Generator, batches: int) -> np.ndarray:
    """Draw many batches of each size from the values (N, C, ...), with replacement, for :class:`Steadiness`: (sizes,).

    >>> strays = strays_of(torch.randn(500, 3, generator=torch_rng(0)), numpy_rng(0), batches=200)
    >>> bool((abs(strays * np.sqrt(BATCH_SIZES) - 1) < 0.2).all())   # 1 over the root of N
    True
    """
    mean, std = unit_statistics(values)
    of_images = values.double().flatten(2).mean(2) if values.dim() > 2 else values.double()
    centred = (of_images.numpy() - mean) / std
    drawn = (centred[rng.integers(len(values), size=(batches, n))].mean(1) for n in BATCH_SIZES)
    return np.array([np.sqrt(np.mean(each**2)) for each in drawn])


@cached
@torch.no_grad()
def steadiness(is_trained: bool = True, seeds: int = CONV_SEEDS, batches: int = 400) -> list[Steadiness]:
    """How steady the means of the convolutions' Wu + b are in networks of :data:`CONV`: one for each seed.

    >>> (one,) = steadiness(is_trained=False, seeds=1, batches=20)
    >>> one.strays.shape, one.places.tolist()
    ((4, 7), [196, 196, 49, 49])
    """
    nets = trained_seeds(CONV, seeds) if is_trained else [CONV.network(seed) for seed in range(seeds)]
    images, found = CONV.task().x_train[:IMAGES], []
    for seed, net in enumerate(nets):
        layers, rng = preactivations(net, images)[:-1], numpy_rng(seed)
        strays = [strays_of(values, rng, batches) for values in layers]
        found.append(Steadiness(np.array(strays), np.array([values[0, 0].numel() for values in layers])))
    return found


def images_worth(seeds: int = CONV_SEEDS) -> dict[str, np.ndarray]:
    """How many independent values an image is worth: (seeds,) of every convolution, untrained and trained.

    >>> len(images_worth(seeds=2))
    8
    """
    found = {}
    for name, is_trained in (("untrained", False), ("trained", True)):
        layers = np.array([one.worth for one in steadiness(is_trained, seeds)]).T
        found |= {f"convolution {layer}, {name}": each for layer, each in enumerate(layers, 1)}
    return found


# --- few images to a mean ---------------------------------------------------------------------------------------------


class BatchNormInParts(BatchNorm):
    """BN whose means and variances are those of `share` examples each: the first so many of a batch, the next, ...

    What it does is what a BN layer does where a batch goes through the network in such parts and the gradients are
    added up ("ghost batches", Hoffer et al. 2017, Algorithm 1; Wu & Johnson 2021, section 4). Running statistics are
    moved by one part after another. `x` is (N, C, ...). The arithmetic is torch's, which is faster here.

    >>> x = torch.tensor([[1.0], [3.0], [10.0], [30.0]])
    >>> [round(value, 2) for value in BatchNormInParts(1, share=2)(x).ravel().tolist()]
    [-1.0, 1.0, -1.0, 1.0]

    Raises ValueError where the batch has a remainder, and for one value per channel.
    """

    def __init__(self, num_features: int, share: int):
        super().__init__(num_features)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return values of the shape of `x`; in evaluation by the running statistics."""
        own = {"weight": self.weight, "bias": self.bias, "eps": self.eps}
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, **own)
        parts, rest = divmod(len(x), self.share)
        if rest:
            raise ValueError(f"x: expected a multiple of {self.share} examples, got {len(x)}")
        wide = x.unflatten(0, (parts, self.share)).transpose(0, 1).flatten(1, 2)  # (share, parts * C, ...)
        own |= {name: own[name].repeat(parts) for name in ("weight", "bias")}
        mean, var = (torch.zeros(wide.shape[1], dtype=x.dtype) for _ in range(2))
        y = F.batch_norm(wide, mean, var, training=True, momentum=1.0, **own)
        with torch.no_grad():
            late = self.momentum * (1 - self.momentum) ** torch.arange(parts - 1, -1, -1, dtype=x.dtype)
            for running, each in ((self.running_mean, mean), (self.running_var, var)):
                running.mul_((1 - self.momentum) ** parts).add_(late @ each.view(parts, -1))
        return y.unflatten(1, (parts, -1)).transpose(0, 1).flatten(0, 1)


@dataclass(frozen=True)
class Shared(Settings):
    """Settings in which so many images share a mean, whatever the batch size; 0 for all of a batch."""

    share: int = 0

    @torch.inference_mode(False)
    def network(self, seed: int) -> nn.Sequential:
        """Build the untrained network of this seed.

        >>> Shared("bn", depth=1, share=4).network(seed=0)[1]
        BatchNormInParts(100, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
        """
        net = super().network(seed)
        for place, layer in enumerate(net):
            if self.share and isinstance(layer, BatchNorm):
                net[place] = BatchNormInParts(layer.num_features, self.share)
        return net


class Case(NamedTuple):
    """A network, how many images share a mean, and what its rates are chosen from."""

    settings: Shared
    shares: Sequence[int]
    rates: Sequence[float]
    seeds: int
    is_step_small: bool = False  # whether a step is for no more images than share a mean
    steps_to_choose: int = 100
    last: int = 50  # batches, over which a training accuracy is averaged


ARMS = ("plain", "bn", "group")
_MLP = Shared(nonlinearity="relu", init="he", steps=150, batch_size=32)
CASES = {
    "fully connected": Case(_MLP, (2, 4, 8, 32), (0.1, 0.3), SEEDS),
    "convolutional": Case(
        replace(_MLP, data="fashion", depth=4, width=8, steps=100),
        (1, 2, 4, 32),
        (0.1, 0.2),
        CONV_SEEDS,
        steps_to_choose=50,
        last=30,
    ),
    "fully connected, small steps": Case(_MLP, (2, 4, 8, 32), (0.03, 0.1, 0.3), SEEDS, is_step_small=True),
}
SEEDS_TO_CHOOSE = 2


class Outcome(NamedTuple):
    """What training comes to: shares of right answers, (seeds,) each."""

    training: np.ndarray  # on the last batches, before their updates
    evaluation: np.ndarray  # on new images, by running statistics
    own: np.ndarray  # on new images, as many as in training with a mean of their own


@cached
@one_thread()
def outcome(settings: Shared, last: int, seeds: int = SEEDS) -> Outcome:
    """Train seeds 0 to `seeds - 1`, and look at the `last` batches and at the test data.

    >>> outcome(Shared("bn", depth=1, steps=4, share=20), last=2, seeds=3).own.shape
    (3,)
    """
    late = []
    for moment in updates_together(settings, seeds):
        late.append(moment.accuracy)
    (_, _, x, y), found = settings.task(), []
    for seed, net in enumerate(moment.ensemble.nets):
        found.append([_share_right(net, x, y), _share_right(net, *_whole_parts(x, y, settings.batch_size, seed), True)])
    return Outcome(np.mean(late[-last:], axis=0), *np.array(found).T)


def _whole_parts(x: Tensor, y: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """The examples in a random order, as many as fill batches of one size."""
    order = torch.randperm(len(x), generator=torch_rng(seed))[: len(x) // size * size]
    return x[order], y[order]


@torch.no_grad()
def _share_right(net: nn.Module, x: Tensor, y: Tensor, training: bool = False) -> float:
    with preserve_state(net, training):
        return (net(x).argmax(1) == y).double().mean().item()


def arm_settings(case: str, arm: str, share: int) -> Shared:
    """The settings of one arm with so many images to a mean, at the rate of `case` that is not yet chosen.

    >>> arm_settings("fully connected, small steps", "bn", 4).batch_size
    4
    """
    given = CASES[case].settings
    size = share if CASES[case].is_step_small else given.batch_size
    return replace(given, norm=arm, batch_size=size, share=share if arm == "bn" else 0)


@cache
def chosen_rate(case: str, arm: str, share: int) -> float:
    """The rate with the most right answers in evaluation on images set aside, of the case's own list.

    For every arm and every `share`; in the convolutional network for a whole batch to a mean, and then for all.

    >>> chosen_rate("fully connected", "plain", 32) in CASES["fully connected"].rates
    True
    """
    of = CASES[case]
    share = max(of.shares) if case == "convolutional" else share
    base = replace(arm_settings(case, arm, share), validation=True, steps=of.steps_to_choose)
    jobs = [(replace(base, lr=lr), of.last, SEEDS_TO_CHOOSE) for lr in of.rates]
    found = [each.evaluation.mean() for each in sweep(outcome, jobs)]
    return of.rates[int(np.argmax(found))]


@cache
def outcomes(case: str) -> dict[str, dict[int, Outcome]]:
    """Train every arm of a case, each with its own rate: for every number of images to a mean its outcome.

    Where the step stays the same the plain network and group normalisation do not ask how many share a mean, and are
    trained once.

    >>> list(outcomes("fully connected")) == list(ARMS)
    True
    """
    of, jobs = CASES[case], {}
    for arm in ARMS:
        for share in of.shares:
            asks = arm == "bn" or of.is_step_small
            settings = arm_settings(case, arm, share if asks else max(of.shares))
            rate = chosen_rate(case, arm, share if asks else max(of.shares))
            jobs[arm, share] = (replace(settings, lr=rate), of.last, of.seeds)
    once = list(dict.fromkeys(jobs.values()))
    found = dict(zip(once, sweep(outcome, once), strict=True))
    return {arm: {share: found[jobs[arm, share]] for share in of.shares} for arm in ARMS}


def behind_plain(case: str, share: int = 2) -> np.ndarray:
    """The training accuracy of the plain network less that of BN with so many images to a mean, in points: (seeds,).

    >>> bool(behind_plain("fully connected").mean() > 0)
    True
    """
    of = outcomes(case)
    return 100 * (of["plain"][share].training - of["bn"][share].training)


def lost_by_sharing(case: str, share: int = 2) -> np.ndarray:
    """BN's training accuracy with all images of a step to a mean less that with so many, in points: (seeds,).

    >>> bool(lost_by_sharing("fully connected").mean() > 0)
    True
    """
    bn = outcomes(case)["bn"]
    return 100 * (bn[max(bn)].training - bn[share].training)


def better_in_evaluation(case: str, share: int) -> np.ndarray:
    """BN's accuracy on new images in evaluation less that on its training batches, in points: (seeds,).

    >>> bool(better_in_evaluation("fully connected", 4).mean() > 0)
    True
    """
    bn = outcomes(case)["bn"][share]
    return 100 * (bn.evaluation - bn.training)


def worse_in_evaluation(case: str, share: int) -> np.ndarray:
    """BN's accuracy on new images by their own statistics less that in evaluation, in points: (seeds,).

    >>> bool(worse_in_evaluation("convolutional", 1).mean() > 0)
    True
    """
    bn = outcomes(case)["bn"][share]
    return 100 * (bn.own - bn.evaluation)


# --- batches of one kind ----------------------------------------------------------------------------------------------

CLASSES = (1, 2, 10)
LOOKS = (50, 200, 400, 800)  # updates, after which the networks are looked at
ONE_KIND = Settings(depth=2, nonlinearity="relu", init="he", lr=0.3, steps=max(LOOKS))
WINDOW = 25  # batches before a look, over which a training accuracy is averaged
BATCHES, SIZE = 30, 30  # of new images, whose own statistics are used


class Kinds(NamedTuple):
    """Shares of right answers of networks trained on batches of few classes, (looks, seeds) each."""

    training: np.ndarray  # on the batches before a look
    evaluation: np.ndarray  # on new images, by running statistics
    mixed: np.ndarray  # on new images in batches of all classes, by each batch's own statistics
    alike: np.ndarray  # the same in batches of as few classes as in training
    latest: np.ndarray  # the share of new images that evaluation gives the latest batch's class; nan for several


@cached
@one_thread()
def batches_of_one_kind(
    norm: str, classes: int, seeds: int = SEEDS, settings: Settings = ONE_KIND, looks: Sequence[int] = LOOKS
) -> Kinds:
    """Train with batches of so many classes each, chosen anew for each batch, and look at the networks at times.

    >>> batches_of_one_kind("bn", 1, 3, replace(ONE_KIND, steps=4, width=10), looks=(2, 4)).mixed.shape
    (2, 3)
    """
    settings = replace(settings, norm=norm, classes_per_batch=classes if classes < 10 else 0)
    (_, _, x, y), rows, late, trained_on = settings.task(), [], [], None
    drawn = [[_drawn(y.numpy(), kind, numpy_rng(seed)) for kind in (10, classes)] for seed in range(seeds)]
    for moment in updates_together(settings, seeds):
        late.append(moment.accuracy)
        if moment.step in looks:
            given = moment.ensemble.evaluate(x.expand(seeds, *x.shape)).argmax(2)
            own = [_right_in_batches(*each, x, y) for each in zip(moment.ensemble.nets, drawn, strict=True)]
            of_latest = (given == trained_on[:, :1]).double().mean(1).numpy()
            latest = of_latest if classes == 1 else np.full(seeds, np.nan)
            right = (given == y).double().mean(1).numpy()
            rows.append([np.mean(late[-WINDOW:], axis=0), right, *np.array(own).T, latest])
        trained_on = moment.batch[1]
    return Kinds(*np.array(rows).transpose(1, 0, 2))


@torch.no_grad()
def _right_in_batches(net: nn.Sequential, drawn: Sequence[Tensor], x: Tensor, y: Tensor) -> list[float]:
    return [(scores_by_batch_statistics(net, x[each]).argmax(2) == y[each]).double().mean().item() for each in drawn]


def _drawn(labels: np.ndarray, classes: int, rng: np.random.Generator) -> Tensor:
    """Draw the places of BATCHES batches of SIZE different examples, each batch from so many classes."""
    rows = []
    for _ in range(BATCHES):
        among = np.flatnonzero(np.isin(labels, rng.choice(10, classes, replace=False)))
        rows.append(rng.choice(among, SIZE, replace=False))
    return torch.from_numpy(np.array(rows))


def known_in_training_only() -> dict[str, np.ndarray]:
    """Trained on batches of one class: BN's last training accuracy less that on new images, in points, (seeds,).

    In evaluation, and in mixed batches with statistics of their own.

    >>> list(known_in_training_only())
    ['in evaluation', 'in mixed batches']
    """
    of = batches_of_one_kind("bn", 1)
    new = {"in evaluation": of.evaluation, "in mixed batches": of.mixed}
    return {name: 100 * (of.training[-1] - each[-1]) for name, each in new.items()}


def plain_in_the_end() -> dict[str, np.ndarray]:
    """The plain network's accuracy on new images after the last look, in per cent: (seeds,) for one and two classes.

    >>> len(plain_in_the_end())
    2
    """
    names = {1: "batches of one class", 2: "batches of two classes"}
    return {name: 100 * batches_of_one_kind("plain", classes).evaluation[-1] for classes, name in names.items()}
