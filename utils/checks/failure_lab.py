"""The check of an exercise of the page "The failure lab"; to be merged into `utils.checks`."""

from collections.abc import Callable

import torch
from torch import nn

from utils.batchnorm import BatchNorm1d
from utils.checks import RIGHT
from utils.seeds import torch_rng


def check_freeze_norms(freeze_norms: Callable[[nn.Module], object]) -> str:
    """Check a function that freezes the norms of a model in training mode, and nothing else.

    >>> check_freeze_norms(lambda model: model.requires_grad_(False))
    'The running statistics still move: they are no parameters, and follow the mode of the layer.'
    """
    inner = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    model = nn.Sequential(nn.Linear(4, 8), BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), inner).train()
    first, second = norms = (model[1], inner[1])
    try:
        freeze_norms(model)
        model(torch.rand(6, 4, generator=torch_rng(0)) + 5)
    except Exception as error:
        return f"It raises {type(error).__name__}: {error}"
    if first.running_mean.any():
        return "The running statistics still move: they are no parameters, and follow the mode of the layer."
    if second.running_mean.any():
        return "A norm inside a block is missed: go through `model.modules()`."
    if not model[3].training or not model.training:
        return "Dropout is off as well: only the norms should be in evaluation mode."
    if not all(layer.weight.requires_grad for layer in (model[0], inner[0])):
        return "The linear layers are frozen, too: leave their weights alone."
    if any(parameter.requires_grad for norm in norms for parameter in norm.parameters()):
        return "γ and β still get gradients: they are the norms' parameters."
    return RIGHT
