"""What becomes of a normalised network when its inputs shift at test time, and what statistics taken anew can mend.

The networks learn digits in their usual light, standardised by the training digits' statistics. At test time images are
changed as pixels, in [0, 1], and then standardised by those *same* statistics.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.batchnorm import batch_norm, batch_statistics
from utils.cache import cached
from utils.data import Split, digits, standardized
from utils.ensemble import Ensemble
from utils.progress import progress_range
from utils.seeds import numpy_rng, torch_rng
from utils.training import SEEDS, Optimizer, Settings, one_thread, trained_seeds, with_gradients

NETWORKS = {norm: Settings(norm, nonlinearity="relu", init="he", lr=0.1, steps=400) for norm in ("plain", "bn")}
ARMS = (*NETWORKS, "bn, re-estimated")
GREY = 0.5  # the brightness about which contrast stretches
BRIGHTNESS = (-0.25, 0.0, 0.1, 0.25, 0.5, 0.75)
CONTRAST = (0.25, 0.5, 1.0, 2.0)
LIGHTS = {  # brightness and contrast
    "brighter": (0.25, 1.0),
    "darker": (-0.25, 1.0),
    "half the contrast": (0.0, 0.5),
    "twice the contrast": (0.0, 2.0),
}
CORRUPTIONS = {  # brightness and contrast, or what is no change of the light
    "unchanged": (0.0, 1.0),
    "brighter": (0.25, 1.0),
    "low contrast": (0.0, 0.5),
    "blurred": None,
    "noise": None,
    "inverted": None,
}
NOISE = 0.3  # standard deviation, in pixels' units
BATCH_SIZES = (2, 4, 8, 16, 32)
BATCHES = 50  # of each size and seed
FEWEST = 35  # test digits in a class
ADAPTED = ("brighter", "blurred", "noise")  # the changes that entropy minimisation is tried on
COMPANIES = {"60, mixed": (60, 10), "8, mixed": (8, 10), "30 of one class": (30, 1)}  # a batch's size and classes
TENT_RATES = (0.001, 0.01, 0.1)
TENT_STEPS = 45


# --- images ----------------------------------------------------------------------------------------------------------


def adjusted(images: Tensor, brightness: float = 0.0, contrast: float = 1.0, clip: bool = False) -> Tensor:
    """Stretch images by `contrast` about mid-grey and add `brightness`; with `clip`, cut to [0, 1] as a camera does.

    >>> adjusted(torch.tensor([0.0, 0.5, 1.0]), brightness=0.25, contrast=0.5)
    tensor([0.5000, 0.7500, 1.0000])
    """
    moved = contrast * (images - GREY) + GREY + brightness
    return moved.clamp(0, 1) if clip else moved


def corrupted(images: Tensor, kind: str, seed: int = 0) -> Tensor:
    """Change flat 8x8 images, (N, 64), in one of the ways of CORRUPTIONS; "noise" is drawn from the seed.

    >>> corrupted(torch.zeros(2, 64), "inverted")[0, :3]
    tensor([1., 1., 1.])

    Raises ValueError for another kind.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kind: expected one of {list(CORRUPTIONS)}, got {kind!r}")
    if kind == "noise":
        return images + NOISE * torch.randn(images.shape, generator=torch_rng(seed))
    if kind == "blurred":
        square = images.reshape(-1, 1, 8, 8)
        return F.avg_pool2d(F.pad(square, (1, 1, 1, 1), mode="replicate"), 3, 1).reshape(images.shape)
    if kind == "inverted":
        return 1 - images
    return adjusted(images, *CORRUPTIONS[kind])


def standardized_as_in_training(images: Tensor) -> Tensor:
    """Standardise flat digits, (N, 64), by the mean and the standard deviation of the *training* digits.

    >>> split = digits()
    >>> torch.equal(standardized_as_in_training(split.x_test), standardized(split).x_test)
    True
    """
    return standardized(digits()._replace(x_test=images)).x_test


# --- statistics taken anew -------------------------------------------------------------------------------------------


@torch.no_grad()
def recalibrated(net: nn.Sequential, x: Tensor) -> nn.Sequential:
    """Return a copy of the network, in evaluation mode, whose normalised layers have the statistics of the batch `x`.

    Layer by layer, so that each layer's statistics are taken with those before it already new. No label is used and
    no weight changes (AdaBN, Li et al. 2016; Schneider et al. 2020 with N = 0; Nado et al. 2020). The variance is the
    biased one, with 1/N. Raises ValueError for fewer than two examples.

    >>> from utils.networks import mlp
    >>> net, x = mlp([4, 8, 3], norm="bn"), torch.rand(10, 4)
    >>> bool((recalibrated(net, x)(x) - net.train()(x)).abs().max() < 1e-5)   # as in training mode
    True
    """
    if len(x) < 2:
        raise ValueError(f"x: expected at least 2 examples, got {len(x)}")
    net = deepcopy(net).eval()
    for layer in net:
        if _is_norm(layer):
            mean, var = batch_statistics(x)
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(var)
        x = layer(x)
    return net


def _is_norm(layer: nn.Module) -> bool:
    return getattr(layer, "running_mean", None) is not None


@torch.no_grad()
def scores_by_batch_statistics(net: nn.Sequential, batches: Tensor) -> Tensor:
    """Scores where each batch is normalised by its own statistics, many batches at once: (B, N, C) -> (B, N, classes).

    >>> from utils.networks import mlp
    >>> net, x = mlp([4, 8, 3], norm="bn"), torch.rand(5, 10, 4)
    >>> bool((scores_by_batch_statistics(net, x)[0] - recalibrated(net, x[0])(x[0])).abs().max() < 1e-5)
    True
    """
    x = batches
    for layer in net:
        if _is_norm(layer):
            own = {"weight": layer.weight, "bias": layer.bias, "training": True, "eps": layer.eps}
            layer = torch.vmap(partial(batch_norm, running_mean=None, running_var=None, **own))
        x = layer(x)
    return x


# --- evidence --------------------------------------------------------------------------------------------------------


@cache
def _networks(inputs: str, seeds: int) -> dict[str, list[nn.Sequential]]:
    """The trained networks, in evaluation mode; nobody may change them."""
    settings = {norm: replace(each, inputs=inputs) for norm, each in NETWORKS.items()}
    return {norm: [net.eval() for net in trained_seeds(each, seeds)] for norm, each in settings.items()}


@torch.no_grad()
def predicted_classes(nets: dict[str, nn.Sequential], x: Tensor) -> dict[str, Tensor]:
    """The class that each of ARMS gives each example, by one "plain" and one "bn" network: (N, C) -> (N,).

    For "bn, re-estimated" each half of the examples is classified with the statistics of the other half, so that none
    takes part in the statistics that it is classified by.

    >>> from utils.networks import mlp
    >>> nets = {norm: mlp([4, 8, 3], norm) for norm in ("plain", "bn")}
    >>> {arm: len(classes) for arm, classes in predicted_classes(nets, torch.rand(10, 4)).items()}
    {'plain': 10, 'bn': 10, 'bn, re-estimated': 10}
    """
    found = {arm: net(x).argmax(1) for arm, net in nets.items()}
    first, second = x[: len(x) // 2], x[len(x) // 2 :]
    swapped = [recalibrated(nets["bn"], second)(first), recalibrated(nets["bn"], first)(second)]
    return {**found, ARMS[2]: torch.cat(swapped).argmax(1)}


def _accuracies(images_of_seeds: Sequence[Tensor], inputs: str = "standardized") -> dict[str, np.ndarray]:
    """The accuracy of each of ARMS on the test digits, changed for every seed into these images: (seeds,) each."""
    labels, networks = digits().y_test, _networks(inputs, len(images_of_seeds))
    rows = []
    for seed, images in enumerate(images_of_seeds):
        x = standardized_as_in_training(images) if inputs == "standardized" else images
        found = predicted_classes({arm: nets[seed] for arm, nets in networks.items()}, x)
        rows.append([(found[arm] == labels).float().mean().item() for arm in ARMS])
    return dict(zip(ARMS, np.array(rows).T, strict=True))


@cached
@one_thread()
def accuracy_in_light(
    brightness: float = 0.0, contrast: float = 1.0, clip: bool = False, inputs: str = "standardized", seeds: int = SEEDS
) -> dict[str, np.ndarray]:
    """Accuracy of each of ARMS on the 360 test digits in another light (see :func:`adjusted`): (seeds,) each.

    With `inputs="raw"` that of networks that were trained and are tested on pixels as they are.

    >>> {arm: each.shape for arm, each in accuracy_in_light(seeds=2).items()}
    {'plain': (2,), 'bn': (2,), 'bn, re-estimated': (2,)}
    """
    return _accuracies([adjusted(digits().x_test, brightness, contrast, clip)] * seeds, inputs)


@cached
@one_thread()
def accuracy_corrupted(kind: str, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """Accuracy of each of ARMS on the 360 test digits, changed in one of the ways of CORRUPTIONS: (seeds,) each.

    >>> {arm: each.shape for arm, each in accuracy_corrupted("noise", seeds=2).items()}
    {'plain': (2,), 'bn': (2,), 'bn, re-estimated': (2,)}
    """
    return _accuracies([corrupted(digits().x_test, kind, seed) for seed in range(seeds)])


@cached
@one_thread()
@torch.no_grad()
def accuracy_with_inputs_anew(brightness: float = 0.0, contrast: float = 1.0, seeds: int = SEEDS) -> np.ndarray:
    """Accuracy of the plain networks where the test digits are standardised by their *own* statistics: (seeds,).

    >>> accuracy_with_inputs_anew(seeds=2).shape
    (2,)
    """
    images, labels = adjusted(digits().x_test, brightness, contrast), digits().y_test
    x = standardized(Split(images, labels, images, labels)).x_test
    nets = _networks("standardized", seeds)["plain"]
    return np.array([(net(x).argmax(1) == labels).float().mean().item() for net in nets])


def lost_in_light(arm: str, seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The accuracy of an arm in the usual light less that in each of LIGHTS: (seeds,) each.

    >>> lost_in_light("bn", seeds=2)["darker"].shape
    (2,)
    """
    usual = accuracy_in_light(seeds=seeds)[arm]
    return {name: usual - accuracy_in_light(*light, seeds=seeds)[arm] for name, light in LIGHTS.items()}


def behind_plain(inputs: str = "standardized", seeds: int = SEEDS) -> np.ndarray:
    """The accuracy of plain less that of BN with the statistics of training, the mean over LIGHTS: (seeds,).

    >>> behind_plain(seeds=2).shape
    (2,)
    """
    found = [accuracy_in_light(*light, inputs=inputs, seeds=seeds) for light in LIGHTS.values()]
    return np.mean([each["plain"] - each["bn"] for each in found], axis=0)


def left_by_new_statistics(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How far new statistics, of BN's layers or of plain's inputs, leave the accuracy from that in the usual light.

    >>> len(left_by_new_statistics(seeds=2))   # two networks in each of LIGHTS
    8
    """
    usual = accuracy_with_inputs_anew(seeds=seeds)
    bn = {f"BN, {name}": abs(lost) for name, lost in lost_in_light(ARMS[2], seeds).items()}
    plain = {f"plain, {name}": accuracy_with_inputs_anew(*light, seeds=seeds) for name, light in LIGHTS.items()}
    return {**bn, **{name: abs(usual - accuracy) for name, accuracy in plain.items()}}


@cached
@one_thread()
def accuracy_by_batch(batch_size: int, classes: int, brightness: float = 0.0, seeds: int = SEEDS) -> np.ndarray:
    """Accuracy of the BN networks where each batch is normalised by its own statistics: (seeds,).

    BATCHES batches a seed of different test digits from `classes` classes, which are drawn anew for each batch. A class
    has 35 digits at least, so `batch_size` is at most 35. Raises ValueError for a larger one.

    >>> accuracy_by_batch(16, classes=1, seeds=2).max() < 0.5
    np.True_
    """
    if batch_size > FEWEST:
        raise ValueError(f"batch_size: expected at most {FEWEST}, the digits of one class, got {batch_size}")
    labels, found = digits().y_test, []
    x = standardized_as_in_training(adjusted(digits().x_test, brightness))
    for seed in progress_range(seeds):
        batches = _batches(labels.numpy(), batch_size, classes, numpy_rng(seed))
        scores = scores_by_batch_statistics(_networks("standardized", seeds)["bn"][seed], x[batches])
        found.append((scores.argmax(2) == labels[batches]).float().mean().item())
    return np.array(found)


def _batches(labels: np.ndarray, size: int, classes: int, rng: np.random.Generator) -> Tensor:
    """Draw the indices of BATCHES batches, each from so many classes: (BATCHES, size)."""
    drawn = []
    for _ in range(BATCHES):
        among = np.flatnonzero(np.isin(labels, rng.choice(10, classes, replace=False)))
        drawn.append(rng.choice(among, size, replace=False))
    return torch.from_numpy(np.array(drawn))


# --- entropy minimisation --------------------------------------------------------------------------------------------


class Adapted(NamedTuple):
    """Accuracy on the batches of test digits that were adapted to, each by its own statistics: (seeds,) each."""

    before: np.ndarray  # with new statistics alone
    after: np.ndarray  # and with the scales and shifts that entropy minimisation has found

    @property
    def points(self) -> np.ndarray:
        """What entropy minimisation adds, in percentage points, paired by seed."""
        return 100 * (self.after - self.before)


def entropy(scores: Tensor) -> Tensor:
    """The entropy of the classes' probabilities in nats, the mean over a batch: (..., N, classes) -> (...).

    >>> entropy(torch.zeros(5, 10))
    tensor(2.3026)
    """
    log_p = scores.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean(-1)


@cached
@one_thread()
@with_gradients
def adapted(company: str = "60, mixed", rate: float = 0.01, seeds: int = SEEDS) -> dict[str, Adapted]:
    """Minimise the entropy of a BN network's answers on test digits, batch by batch, for each change of ADAPTED.

    By Adam, one step a batch, in gamma and beta only; each batch is normalised by its own statistics and no label is
    used (TENT, Wang et al. 2021, section 3). The batches have one of COMPANIES; there are TENT_STEPS of them.

    >>> adapted("60, mixed", 0.001, seeds=2)["noise"].points.shape
    (2,)

    Raises ValueError for another company.
    """
    if company not in COMPANIES:
        raise ValueError(f"company: expected one of {list(COMPANIES)}, got {company!r}")
    images, labels = digits().x_test, digits().y_test
    pairs = [(kind, seed) for kind in ADAPTED for seed in range(seeds)]
    x = torch.stack([standardized_as_in_training(corrupted(images, kind, seed)) for kind, seed in pairs])
    drawn = [_stream(labels.numpy(), *COMPANIES[company], numpy_rng(seed)) for seed in range(seeds)]
    batches = torch.stack([drawn[seed] for _, seed in pairs], 1)  # (steps, networks, size)
    rows = torch.arange(len(pairs))[:, None]
    ensemble = Ensemble([deepcopy(_networks("standardized", seeds)["bn"][seed]).train() for _, seed in pairs])
    learned = [
        ensemble.leaves[parameter] for layer in ensemble.nets[0] if _is_norm(layer) for parameter in layer.parameters()
    ]
    optimizer = Optimizer(Settings(optimizer="adam", lr=rate), learned)

    def accuracy() -> np.ndarray:
        with torch.no_grad():
            right = [(ensemble.forward(x[rows, batch]).argmax(2) == labels[batch]).float().mean(1) for batch in batches]
        return torch.stack(right).mean(0).numpy().reshape(len(ADAPTED), seeds)

    before = accuracy()
    for batch in batches:
        ensemble.gradient.zero_()
        entropy(ensemble.forward(x[rows, batch])).sum().backward()
        optimizer.step([leaf.grad for leaf in learned])
    return {kind: Adapted(*both) for kind, *both in zip(ADAPTED, before, accuracy(), strict=True)}


def _stream(labels: np.ndarray, size: int, classes: int, rng: np.random.Generator) -> Tensor:
    """The indices of TENT_STEPS batches, (TENT_STEPS, size): of all classes one shuffled pass after another."""
    if classes < 10:
        return _batches(labels, size, classes, rng)[:TENT_STEPS]
    many = len(labels) // size * size
    passes = [rng.permutation(len(labels))[:many].reshape(-1, size) for _ in range(TENT_STEPS)]
    return torch.from_numpy(np.concatenate(passes)[:TENT_STEPS])
