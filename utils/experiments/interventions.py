"""What the chapter "Take it apart" measures: BN with one part of it changed at a time.

An intervention changes one thing of BN and leaves the rest as it is. Whatever of BN's gain is gone then rested on it.
The gain is measured by the area under the training curve, at one rate, or over all of :data:`RATES`.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.cache import cached
from utils.experiments.noise_on_purpose import accuracy_curves, area
from utils.networks import preserve_state
from utils.progress import track
from utils.sweeps import sweep
from utils.training import SEEDS, Settings, trained_seeds, with_gradients

RELU = Settings(depth=10, width=48, nonlinearity="relu", init="he", batch_size=32, steps=150, n_evals=2)
NETWORKS = {
    "ReLU": RELU,
    "ReLU, raw pixels": replace(RELU, inputs="raw"),
    "tanh": replace(RELU, nonlinearity="tanh", init="glorot"),
}
RATES = (0.03, 0.1, 0.3, 1.0)
SMALL, LARGE = 0.03, 0.3  # the rates that the chapter speaks of
PARTS = ("plain", "bn", "centre", "scale", "centre, rms", "layer")
GRADIENTS = ("plain", "bn", "bn, mean held", "bn, variance held", "bn, both held")


# --- one part at a time -----------------------------------------------------------------------------------------------


def areas(network: str, norm: str, lr: float, seeds: int = SEEDS, **changed: object) -> np.ndarray:
    """The area under the training curve of one of the :data:`NETWORKS` with a norm at a rate, (seeds,).

    >>> areas("ReLU", "bn", 0.3, seeds=2).shape
    (2,)
    """
    return area(accuracy_curves(replace(NETWORKS[network], norm=norm, lr=lr, **changed), seeds))


def by_rate(network: str, norms: tuple[str, ...], seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The areas of some norms over all :data:`RATES`, (seeds, rates) each.

    >>> by_rate("tanh", ("bn",), seeds=2)["bn"].shape
    (2, 4)
    """
    jobs = [(replace(NETWORKS[network], norm=norm, lr=lr), seeds) for norm in norms for lr in RATES]
    found = np.array([area(curves) for curves in sweep(accuracy_curves, jobs)]).reshape(len(norms), len(RATES), -1)
    return {norm: each.T for norm, each in zip(norms, found, strict=True)}


def lead(network: str, norm: str, over: str, lr: float) -> np.ndarray:
    """How much larger the area with one norm is than with another, paired by seed, (seeds,).

    >>> bool(lead("ReLU", "bn", "bn", LARGE).any())
    False
    """
    return areas(network, norm, lr) - areas(network, over, lr)


INTERVENTIONS: Mapping[str, dict[str, object]] = {  # what is changed of BN, and how
    "no γ, no β": {"norm": "bn, no scale and shift"},
    "weights' lengths held": {"norm": "bn", "fixed_lengths": True},
    "variance held": {"norm": "bn, variance held"},
    "no scaling": {"norm": "centre"},
    "scaled by the example": {"norm": "centre, rms"},
    "mean held": {"norm": "bn, mean held"},
    "both held": {"norm": "bn, both held"},
    "layer norm instead": {"norm": "layer"},
    "no centring": {"norm": "scale"},
}


def removed(lr: float = LARGE, network: str = "ReLU", seeds: int = SEEDS) -> dict[str, np.ndarray]:
    """The share of BN's gain that each of the :data:`INTERVENTIONS` removes, (BN - it) / mean(BN - plain): (seeds,).

    1 is all of the gain, 0 nothing; below 0 the change makes BN better.

    >>> {name: each.shape for name, each in removed(seeds=2).items()}["no centring"]
    (2,)
    """
    plain, bn = (areas(network, norm, lr, seeds) for norm in ("plain", "bn"))
    return {
        name: (bn - areas(network, lr=lr, seeds=seeds, **how)) / (bn - plain).mean()
        for name, how in INTERVENTIONS.items()
    }


# --- the Hessian, statistics free or held -----------------------------------------------------------------------------

SMALL_NET = Settings(depth=4, width=8, nonlinearity="relu", init="he", lr=0.1, steps=300)
IMAGES = 200  # of the training data, over which the Hessian is taken
ROWS = 128  # of the Hessian at a time


@with_gradients
def hessian(net: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """The matrix of second derivatives of the mean cross-entropy with respect to all parameters, (P, P), in float64.

    Exact, by differentiating each element of the gradient. The network is in training mode, and is left as it was.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False))
    >>> found = hessian(net, torch.eye(2), torch.tensor([0, 1]))
    >>> found.shape, bool(torch.allclose(found, found.T))
    (torch.Size([4, 4]), True)
    """
    net = deepcopy(net).double()
    parameters, gradient = _gradient(net, x.double(), y)
    rows = []
    for part in torch.eye(len(gradient), dtype=gradient.dtype).split(ROWS):
        found = torch.autograd.grad(gradient, parameters, part, retain_graph=True, is_grads_batched=True)
        rows.append(torch.cat([each.flatten(1) for each in found], 1))
    return torch.cat(rows)


def _gradient(net: nn.Sequential, x: Tensor, y: Tensor) -> tuple[list[nn.Parameter], Tensor]:
    """The parameters, and the gradient of the mean cross-entropy as one vector that can be differentiated again."""
    parameters = list(net.parameters())
    with preserve_state(net):
        found = torch.autograd.grad(F.cross_entropy(net(x), y), parameters, create_graph=True)
    return parameters, torch.cat([each.flatten() for each in found])


@torch.no_grad()
def _loss(net: nn.Sequential, x: Tensor, y: Tensor) -> float:
    """The mean cross-entropy in training mode; the network is left as it was."""
    with preserve_state(net):
        return F.cross_entropy(net(x), y).item()


class Curvature(NamedTuple):
    """The Hessian of a network in training, (seeds,) each."""

    largest: np.ndarray  # its largest eigenvalue
    loss: np.ndarray  # on the images over which it is taken


@cached
def curvatures(steps: int = SMALL_NET.steps, seeds: int = SEEDS) -> dict[str, Curvature]:
    """The largest eigenvalue of the Hessian after so many updates: "plain", "bn", and "bn, both held".

    The last has the weights of "bn" and, on these images, its outputs and its loss; but its statistics are constants,
    as in evaluation (the comparison of Ghorbani, Krishnan & Xiao 2019).

    >>> found = curvatures(steps=2, seeds=2)
    >>> bool(np.allclose(found["bn"].loss, found["bn, both held"].loss))
    True
    """
    nets = {norm: _small_nets(norm, steps, seeds) for norm in ("plain", "bn")}
    nets["bn, both held"] = [_with_held_statistics(net) for net in nets["bn"]]
    found = {norm: [] for norm in nets}
    for norm, net in track([(norm, net) for norm, each in nets.items() for net in each]):
        x, y = (each[:IMAGES] for each in SMALL_NET.task()[:2])
        found[norm].append((torch.linalg.eigvalsh(hessian(net, x, y))[-1].item(), _loss(net, x, y)))
    return {norm: Curvature(*np.array(each).T) for norm, each in found.items()}


def _small_nets(norm: str, steps: int, seeds: int) -> list[nn.Sequential]:
    settings = replace(SMALL_NET, norm=norm, steps=steps)
    return trained_seeds(settings, seeds) if steps else [settings.network(seed) for seed in range(seeds)]


def _with_held_statistics(net: nn.Sequential) -> nn.Sequential:
    held = replace(SMALL_NET, norm="bn, both held").network(seed=0)
    held.load_state_dict(net.state_dict(), strict=False)  # but for the count of batches
    return held


def curvature_ratios(over: str, of: str = "bn, both held", steps: int = SMALL_NET.steps) -> np.ndarray:
    """The largest eigenvalue of one network over that of another, (seeds,).

    >>> bool((curvature_ratios("bn") > 1).all())
    True
    """
    found = curvatures(steps)
    return found[of].largest / found[over].largest
