"""A check for the chapter "Training and evaluation", in the manner of :mod:`utils.checks`."""

from collections.abc import Callable

import torch
from torch import Tensor

from utils.checks import RIGHT, tried
from utils.seeds import torch_rng


def check_fold(fold: Callable[..., tuple[Tensor, Tensor]]) -> str:
    """Check a function that folds BN into a convolution with a bias: weight, bias, norm -> the folded weight and bias.

    `norm` is a layer of PyTorch, with `weight`, `bias`, `running_mean`, `running_var` and `eps`.

    >>> check_fold(lambda weight, bias, norm: (weight, bias))
    'The weight of a channel should be multiplied by γ over the root of the running variance plus ε.'
    """
    rng = torch_rng(0)
    weight, bias = torch.randn(4, 3, 3, 3, generator=rng), torch.randn(4, generator=rng)
    norm = torch.nn.BatchNorm2d(4).eval()
    with torch.no_grad():
        for each in (norm.weight, norm.bias, norm.running_mean):
            each.copy_(torch.randn(4, generator=rng))
        norm.running_var.copy_(0.01 + torch.rand(4, generator=rng))
    given, trouble = tried(lambda: _flat(fold(weight, bias, norm)), shape=(weight.numel() + 4,))
    if given is None:
        return trouble
    given_weight, given_bias = given[:-4].view_as(weight), given[-4:]
    factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().double()
    if not torch.allclose(given_weight, weight.double() * factor.view(-1, 1, 1, 1), rtol=1e-4):
        return "The weight of a channel should be multiplied by γ over the root of the running variance plus ε."
    right = norm.bias.detach() + factor * (bias - norm.running_mean)
    if torch.allclose(given_bias, right, rtol=1e-4, atol=1e-6):
        return RIGHT
    if torch.allclose(given_bias, norm.bias.detach() - factor * norm.running_mean, rtol=1e-4, atol=1e-6):
        return "The weight is right. The convolution's own bias is lost: BN would scale it, too."
    return "The weight is right, the bias is not: what does BN make of an input that is all zeros?"


def _flat(pair: tuple[Tensor, Tensor]) -> Tensor:
    weight, bias = pair
    return torch.cat([torch.as_tensor(weight).flatten(), torch.as_tensor(bias).flatten()])
