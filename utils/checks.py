"""Exercises that check themselves: give your function to a check, and it says what is wrong with it, or "Right."."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.seeds import numpy_rng, torch_rng

RIGHT = "Right."


def _tried(function: Callable, *arguments: object, shape: tuple[int, ...]) -> tuple[Tensor | None, str]:
    """What a reader's function gives as a tensor, or why it gives nothing that can be compared."""
    try:
        given = function(*arguments)
    except Exception as error:
        return None, f"It raises {type(error).__name__}: {error}"
    try:
        given = torch.as_tensor(given).detach().double()
    except (RuntimeError, TypeError, ValueError):
        return None, f"Expected an array, got {type(given).__name__}."
    if given.shape != shape:
        return None, f"Expected the shape {tuple(shape)}, got {tuple(given.shape)}."
    return given, ""


def check_weights(weights: Callable[[np.ndarray, float], np.ndarray]) -> str:
    """Check importance weights w(x, d) for a test cloud that is moved by d along x_2: (N, 2), number -> (N,).

    >>> check_weights(lambda x, d: np.exp(d * x[:, 1] - d**2 / 2))
    'Right.'
    >>> check_weights(lambda x, d: np.ones(len(x)))
    'All weights are equal: points that lie where the test cloud is must weigh more.'
    """
    x, d = numpy_rng(0).normal(size=(40, 2)), 1.5
    given, trouble = _tried(weights, x, d, shape=(40,))
    if given is None:
        return trouble
    right = torch.from_numpy(np.exp(d * x[:, 1] - d**2 / 2))
    if torch.allclose(given, right, rtol=1e-4):
        return RIGHT
    if torch.allclose(given, given[:1].expand(40)):
        return "All weights are equal: points that lie where the test cloud is must weigh more."
    if torch.allclose(given, torch.from_numpy(np.exp(d * x[:, 0] - d**2 / 2)), rtol=1e-4):
        return "These are the weights for a cloud that is moved along the first coordinate."
    if torch.allclose(given / right, (given / right)[:1].expand(40), rtol=1e-4):
        return f"Right but for a constant factor of {(given / right)[0]:.3g}: what is the mean of all weights?"
    return "Not the ratio of the two densities: divide that of N((0, d), I) by that of N(0, I)."


def check_normalize(normalize: Callable[[Tensor], Tensor]) -> str:
    """Check a function that normalises images by channel: (N, C, H, W) -> (N, C, H, W).

    >>> check_normalize(lambda x: F.batch_norm(x, None, None, training=True))
    'Right.'
    >>> check_normalize(lambda x: (x - x.mean()) / x.std()).startswith("One mean for all channels")
    True
    """
    scale, shift = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([-2.0, 0.0, 2.0])
    x = torch.randn(4, 3, 5, 6, generator=torch_rng(0)) * scale[:, None, None] + shift[:, None, None]
    given, trouble = _tried(normalize, x, shape=x.shape)
    if given is None:
        return trouble
    mean, var = given.mean((0, 2, 3)), given.var((0, 2, 3), correction=0)
    if torch.allclose(given, F.batch_norm(x, None, None, training=True).double(), atol=1e-4):
        constant, _ = _tried(normalize, torch.ones_like(x), shape=x.shape)
        no_number = constant is None or not constant.isfinite().all()
        return "Right, but a channel that does not vary gives 0 / 0: where is ε?" if no_number else RIGHT
    if mean.abs().max() > 0.05:
        whose = "One mean for all channels" if given.mean().abs() < 0.05 else "A channel's mean should be 0"
        return f"{whose}: after it, the channels have means from {mean.min():.2f} to {mean.max():.2f}."
    if torch.allclose(given.mean((2, 3)), torch.zeros(4, 3).double(), atol=1e-3):
        return "Each image has its own mean: the mean of a channel runs over the batch as well."
    return f"A channel's variance should be 1 (with 1/m); yours go from {var.min():.3f} to {var.max():.3f}."


def check_backward(backward: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """Check BN's backward pass g, x, gamma -> the gradient at x: (N, C), (N, C), (C,) -> (N, C).

    >>> check_backward(lambda g, x, gamma: gamma * g / torch.sqrt(x.var(0, correction=0) + 1e-5))
    'The mean of each column should be gone: two parts of g never reach x, and this is the first.'
    """
    rng = torch_rng(0)
    x, g, gamma = (torch.randn(*shape, generator=rng).double() for shape in ((12, 5), (12, 5), (5,)))
    x.requires_grad_()
    F.batch_norm(x, None, None, gamma, None, training=True).backward(g)
    given, trouble = _tried(backward, g, x.detach(), gamma, shape=x.shape)
    if given is None:
        return trouble
    x_hat = F.batch_norm(x.detach(), None, None, training=True)
    if torch.allclose(given, x.grad, rtol=1e-5, atol=1e-8):
        return RIGHT
    if given.mean(0).abs().max() > 1e-6:
        return "The mean of each column should be gone: two parts of g never reach x, and this is the first."
    if (given * x_hat).mean(0).abs().max() > 1e-3:
        return "The part along x_hat should be gone: it is x_hat times the mean of g x_hat."
    if torch.allclose(given, -x.grad, rtol=1e-5, atol=1e-8):
        return "Right but for the sign."
    factor = (given / x.grad).mean(0)
    if torch.allclose(given, factor * x.grad, rtol=1e-5, atol=1e-8):
        return "The direction is right, the length is not: times gamma, over the root of variance plus ε (with 1/m)."
    return "Not the gradient at x."


def check_effective_smoothness(smoothness: Callable[[Callable, Tensor, Tensor], Tensor]) -> str:
    """Check the effective L from a gradient function and two places: gradient, (D,), (D,) -> a number.

    >>> check_effective_smoothness(lambda gradient, a, b: (gradient(b) - gradient(a)).norm() / (b - a).norm())
    'Right.'
    """
    curvatures = torch.tensor([1.0, 4.0, 9.0]).double()
    for here, there in (([1.0, 1.0, 1.0], [0.0, 1.0, 1.0]), ([1.0, 2.0, 0.0], [0.5, -1.0, 2.0])):
        a, b = torch.tensor(here).double(), torch.tensor(there).double()
        given, trouble = _tried(smoothness, lambda w: curvatures * w, a, b, shape=())
        if given is None:
            return trouble
        right = (curvatures * (b - a)).norm() / (b - a).norm()
        if not torch.allclose(given, right, rtol=1e-6):
            return (
                f"On a bowl with curvatures 1, 4, 9, from {here} to {there}, it should be {right:.3f}; yours is "
                f"{given:.3f}. How far has the gradient changed, over how far have we moved?"
            )
    return RIGHT
