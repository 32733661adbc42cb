"""The conventions of seven frameworks, and what a running statistic becomes under each of them.

The defaults were read in the frameworks' sources; tests hold those of PyTorch, Keras 3 and ONNX to what the installed
packages do.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.seeds import numpy_rng
from utils.training import SEEDS, Settings, trained_seeds


class Convention(NamedTuple):
    """How one framework keeps its running statistics, and what it calls things."""

    word: str  # its argument
    default: float | None  # of that argument; None where it has to be given
    weighs: str  # which value the argument is the weight of: "new" or "old"
    unbiased: bool  # whether the running variance has m - 1 in place of m
    eps: float
    channel_axis: int  # 1, or -1 for the last
    names: tuple[str, str, str, str]  # of gamma, beta, the running mean, the running variance
    evaluation: str  # how it is asked for
    freezing: str  # how nothing of the layer moves any more
    debiased: bool = False  # whether the average makes up for its start at 0
    source: str = ""  # where it is written

    @property
    def new(self) -> float | None:
        """The weight of a new batch by default.

        >>> CONVENTIONS["PyTorch"].new, round(CONVENTIONS["Keras 3"].new, 6), CONVENTIONS["Haiku"].new
        (0.1, 0.01, None)
        """
        return None if self.default is None else self.weight_of_new(self.default)

    def weight_of_new(self, given: float) -> float:
        """The weight of a new batch if the argument is `given`.

        >>> CONVENTIONS["PyTorch"].weight_of_new(0.1), CONVENTIONS["ONNX"].weight_of_new(0.1)
        (0.1, 0.9)
        """
        return given if self.weighs == "new" else 1 - given


GITHUB = "https://github.com/"
CONVENTIONS: dict[str, Convention] = {
    "PyTorch": Convention(
        "momentum",
        0.1,
        "new",
        True,
        1e-5,
        1,
        ("weight", "bias", "running_mean", "running_var"),
        "`eval()`",
        "`eval()`; `requires_grad=False` holds γ and β alone",
        source=GITHUB + "pytorch/pytorch/blob/main/torch/nn/modules/batchnorm.py",
    ),
    "Keras 3": Convention(
        "momentum",
        0.99,
        "old",
        False,
        1e-3,
        -1,
        ("gamma", "beta", "moving_mean", "moving_variance"),
        "`training=False`",
        "`trainable=False`, which is evaluation, too",
        source=GITHUB + "keras-team/keras/blob/master/keras/src/layers/normalization/batch_normalization.py",
    ),
    "tf.keras 2": Convention(  # for images; for (N, C) it keeps the biased variance
        "momentum",
        0.99,
        "old",
        True,
        1e-3,
        -1,
        ("gamma", "beta", "moving_mean", "moving_variance"),
        "`training=False`",
        "`trainable=False`, which is evaluation, too",
        source=GITHUB + "tensorflow/tensorflow/blob/master/tensorflow/core/kernels/fused_batch_norm_op.cc",
    ),
    "flax": Convention(
        "momentum",
        0.99,
        "old",
        False,
        1e-5,
        -1,
        ("scale", "bias", "mean", "var"),
        "`use_running_average=True`",
        "the same; do not put new `batch_stats` back",
        source=GITHUB + "google/flax/blob/main/flax/linen/normalization.py",
    ),
    "Haiku": Convention(
        "decay_rate",
        None,
        "old",
        False,
        1e-5,
        -1,
        ("scale", "offset", "mean_ema", "var_ema"),
        "`is_training=False`",
        "the same; do not put the new state back",
        debiased=True,
        source=GITHUB + "google-deepmind/dm-haiku/blob/main/haiku/_src/batch_norm.py",
    ),
    "ONNX": Convention(
        "momentum",
        0.9,
        "old",
        False,
        1e-5,
        1,
        ("scale", "B", "input_mean", "input_var"),
        "`training_mode=0`",
        "the same",
        source="https://onnx.ai/onnx/operators/onnx__BatchNormalization.html",
    ),
    "Flux (Julia)": Convention(
        "momentum",
        0.1,
        "new",
        True,
        1e-5,
        -2,
        ("γ", "β", "μ", "σ²"),
        "`testmode!`",
        "the same; γ and β apart",
        source=GITHUB + "FluxML/Flux.jl/blob/master/src/layers/normalise.jl",
    ),
}
STEPS = 200
UNIT_MEAN, UNIT_STD = 2.0, 1.0


class Followed(NamedTuple):
    """A unit with mean 2 and standard deviation 1, batch after batch: (steps,) each."""

    batch_mean: np.ndarray
    batch_var: np.ndarray  # with 1/m
    mean: np.ndarray  # running
    var: np.ndarray


def follow(framework: str, given: float, m: int = 20, steps: int = STEPS, seed: int = 0) -> Followed:
    """Follow a unit as a framework does if its momentum is `given`. Raises KeyError for another framework.

    >>> now = follow("PyTorch", 1.0, m=4)
    >>> bool(np.allclose(now.mean, now.batch_mean)), bool(np.allclose(now.var, now.batch_var * 4 / 3))
    (True, True)
    """
    convention = CONVENTIONS[framework]
    x = UNIT_MEAN + UNIT_STD * numpy_rng(seed).normal(size=(steps, m))
    mean, var = x.mean(1), x.var(1)
    new = convention.weight_of_new(given)
    kept_var = var * m / (m - 1) if convention.unbiased else var
    starts = (0.0, 0.0) if convention.debiased else (0.0, 1.0)
    means, variances = (average(values, new, start) for values, start in zip((mean, kept_var), starts, strict=True))
    if convention.debiased:
        whole = 1 - (1 - new) ** np.arange(1, steps + 1)
        means, variances = means / whole, variances / whole
    return Followed(mean, var, means, variances)


def average(values: np.ndarray, new: float, start: float) -> np.ndarray:
    """The running average after each of the values (steps,), of which a new one has the weight `new`.

    >>> average(np.array([1.0, 1.0]), 0.5, 0.0).tolist()
    [0.5, 0.75]
    """
    found, now = [], start
    for value in values:
        now = (1 - new) * now + new * value
        found.append(now)
    return np.array(found)


def copied_over_converted(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """How far the running mean is off, steps 100 to 200, with PyTorch's 0.1 copied, over that with it converted.

    In two frameworks whose argument weighs the old value, (seeds,) each.

    >>> sorted(copied_over_converted(seeds=2))
    ['Haiku', 'Keras 3']
    """

    def off(framework: str, given: float, seed: int) -> float:
        return np.abs(follow(framework, given, seed=seed).mean[STEPS // 2 :] - UNIT_MEAN).mean()

    names = ("Keras 3", "Haiku")
    return {name: np.array([off(name, 0.1, s) / off(name, 0.9, s) for s in range(seeds)]) for name in names}


def biased_share(m: int = 4, seeds: int = SEEDS) -> np.ndarray:
    """The running variance of Keras over that of PyTorch, the same batches, both converted: (seeds,).

    >>> bool(np.allclose(biased_share(seeds=2), 0.75, atol=0.01))
    True
    """
    late = slice(STEPS // 2, None)
    pairs = [
        (follow("Keras 3", 0.95, m, seed=s).var[late], follow("PyTorch", 0.05, m, seed=s).var[late])
        for s in range(seeds)
    ]
    return np.array([keras.mean() / torchs.mean() for keras, torchs in pairs])


# --- a port ----------------------------------------------------------------------------------------------------------


def keras_formula(x: np.ndarray, weights: dict[str, np.ndarray], epsilon: float = 1e-3) -> np.ndarray:
    """What Keras's layer makes of (N, ..., C) in evaluation, written out.

    >>> ones = np.ones(1)
    >>> keras_formula(np.array([[3.0]]), dict(gamma=ones, beta=ones, moving_mean=ones, moving_variance=4 * ones), 0.0)
    array([[2.]])
    """
    sigma = np.sqrt(weights["moving_variance"] + epsilon)
    return weights["gamma"] * (x - weights["moving_mean"]) / sigma + weights["beta"]


def keras_to_torch(
    weights: dict[str, np.ndarray], momentum: float = 0.99, epsilon: float = 1e-3
) -> torch.nn.BatchNorm1d:
    """Make PyTorch's layer of the four arrays (C,) of Keras's layer, and of its two numbers.

    >>> ones = np.ones(1, dtype="float32")
    >>> keras_to_torch(dict(gamma=ones, beta=ones, moving_mean=ones, moving_variance=ones))
    BatchNorm1d(1, eps=0.001, momentum=0.01, affine=True, bias=True, track_running_stats=True)
    """
    like = {"dtype": torch.as_tensor(weights["gamma"]).dtype}
    layer = torch.nn.BatchNorm1d(len(weights["gamma"]), eps=epsilon, momentum=round(1 - momentum, 12), **like)
    names = zip(CONVENTIONS["PyTorch"].names, CONVENTIONS["Keras 3"].names, strict=True)
    state = {ours: torch.as_tensor(weights[theirs]) for ours, theirs in names}
    layer.load_state_dict({**layer.state_dict(), **state})
    return layer


def some_weights(C: int = 100, seed: int = 0) -> dict[str, np.ndarray]:
    """Four arrays as they come out of a Keras layer with `C` units.

    >>> {name: values.shape for name, values in some_weights(C=3).items()}
    {'gamma': (3,), 'beta': (3,), 'moving_mean': (3,), 'moving_variance': (3,)}
    """
    rng = numpy_rng(seed)
    gamma, beta, mean = 1 + 0.2 * rng.normal(size=C), rng.normal(size=C), rng.normal(size=C)
    return {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": rng.gamma(2, size=C)}


def port_error(seeds: int = SEEDS) -> np.ndarray:
    """How far PyTorch's layer is from Keras's formula, at most, (seeds,).

    >>> bool(port_error(seeds=2).max() < 1e-12)
    True
    """
    found = []
    for seed in range(seeds):
        weights, x = some_weights(seed=seed), numpy_rng(seed).normal(size=(20, 100))
        layer = keras_to_torch(weights).eval()
        found.append(np.abs(layer(torch.from_numpy(x)).detach().numpy() - keras_formula(x, weights)).max())
    return np.array(found)


MISTAKES = (
    "no mistake",
    "ε left at Keras's 0.001",
    "left in training mode",
    "the variance taken for σ",
    "mean and variance exchanged",
    "γ and β exchanged",
)


class Ported(NamedTuple):
    """What one mistake in porting the BN layers of a trained network does to it, (seeds,) each."""

    accuracy: np.ndarray  # on unseen digits
    moved: np.ndarray  # the largest difference of a score from the network's own


@torch.no_grad()
def ports(seeds: int = SEEDS) -> dict[str, Ported]:
    """Evaluate networks whose BN layers were ported with one of the :data:`MISTAKES`: three ReLU layers, digits.

    >>> list(ports(seeds=2)) == list(MISTAKES)
    True
    """
    settings = Settings("bn", nonlinearity="relu", init="he", lr=0.1, steps=100)
    task, nets = settings.task(), trained_seeds(settings, seeds)
    scores = {mistake: [_scores(net, mistake, task.x_test) for net in nets] for mistake in MISTAKES}
    own = scores[MISTAKES[0]]
    return {
        mistake: Ported(
            np.array([(each.argmax(1) == task.y_test).float().mean().item() for each in made]),
            np.array([(each - right).abs().max().item() for each, right in zip(made, own, strict=True)]),
        )
        for mistake, made in scores.items()
    }


def accuracy_lost(seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """By how many points of accuracy two of the mistakes are seen, (seeds,) for each.

    >>> sorted(accuracy_lost(seeds=2))
    ['left in training mode', "ε left at Keras's 0.001"]
    """
    found = ports(seeds)
    return {name: 100 * (found[MISTAKES[0]].accuracy - found[name].accuracy) for name in MISTAKES[1:3]}


def _scores(net: torch.nn.Sequential, mistake: str, x: Tensor) -> Tensor:
    for module in net:
        x = _ported(module, mistake, x) if isinstance(module, torch.nn.BatchNorm1d) else module(x)
    return x


def _ported(norm: torch.nn.BatchNorm1d, mistake: str, x: Tensor) -> Tensor:
    gamma, beta, mean, var, eps = norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps
    if mistake == "ε left at Keras's 0.001":
        eps = CONVENTIONS["Keras 3"].eps
    elif mistake == "left in training mode":
        mean, var = x.mean(0), x.var(0, correction=0)
    elif mistake == "the variance taken for σ":
        var = var**2
    elif mistake == "mean and variance exchanged":
        mean, var = var, mean.abs()
    elif mistake == "γ and β exchanged":
        gamma, beta = beta, gamma
    return gamma * (x - mean) / torch.sqrt(var + eps) + beta
