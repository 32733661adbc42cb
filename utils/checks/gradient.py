"""A check for the chapter "The gradient", in the manner of :mod:`utils.checks`."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.checks import RIGHT, tried
from utils.seeds import torch_rng

Function = Callable[[Tensor], Tensor]


def check_differences(differences: Callable[[Function, Tensor, float], Tensor]) -> str:
    """Check central differences: (function, x, step) -> the gradient of the function at x, in the shape of x.

    >>> def forward_differences(f, x, h):
    ...     return torch.stack([(f(x + h * e) - f(x)) / h for e in torch.eye(len(x)).double()])
    >>> check_differences(forward_differences)
    'One-sided: the error falls with h, that of a step to both sides with h².'
    """
    x, step = torch.tensor([0.5, -1.0, 2.0]).double(), 1e-3

    def function(values: Tensor) -> Tensor:
        return (values**3).sum() + values[0] * values[1]

    given, trouble = tried(differences, function, x.clone(), step, shape=x.shape)
    if given is None:
        return trouble
    right = 3 * x**2 + torch.stack([x[1], x[0], torch.zeros(()).double()])
    error = (given - right).abs().max()
    if error < 10 * step**2:
        return RIGHT
    if torch.allclose(given, right.sum().expand(3), rtol=1e-2):
        return "All values were moved at once: move one of them at a time."
    for factor, words in ((2.0, "twice"), (0.5, "half")):
        if torch.allclose(given, factor * right, rtol=1e-2):
            return f"It is {words} the gradient: how far apart are the two places that you compare?"
    if error < 10 * step:
        return "One-sided: the error falls with h, that of a step to both sides with h²."
    return f"Not the gradient: it should be {right.tolist()}, yours is {given.tolist()}."


def check_backward(backward: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """Check BN's backward pass g, x, gamma -> the gradient at x: (N, C), (N, C), (C,) -> (N, C).

    >>> check_backward(lambda g, x, gamma: gamma * g / torch.sqrt(x.var(0, correction=0) + 1e-5))
    'The mean of each column should be gone: two parts of g never reach x, and this is the first.'
    """
    rng = torch_rng(0)
    x, g, gamma = (torch.randn(*shape, generator=rng).double() for shape in ((12, 5), (12, 5), (5,)))
    x.requires_grad_()
    F.batch_norm(x, None, None, gamma, None, training=True).backward(g)
    given, trouble = tried(backward, g, x.detach(), gamma, shape=x.shape)
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
