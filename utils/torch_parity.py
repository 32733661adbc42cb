"""What a drop-in for torch's batch normalization owes besides the arithmetic: what it refuses, and who else asks."""

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode


def plain_autograd() -> bool:
    """Tell whether eager autograd alone will differentiate what is computed now.

    Compilers, exporters, tracers, torch.func (vmap, jvp, ...) and forward-mode derivatives do not look into an
    `autograd.Function`, or not rightly: they want the operations that it is made of.

    >>> plain_autograd(), torch.vmap(lambda x: x * plain_autograd())(torch.ones(2))
    (True, tensor([0., 0.]))
    """
    if torch.jit.is_scripting():
        return False
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or get_proxy_mode() is not None
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def laid_out(y: Tensor, x: Tensor) -> Tensor:
    """Give `y`, of the shape of `x`, the layout of torch's result: channels-last where x is, else contiguous.

    >>> x = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    >>> laid_out(x + 1, x).stride() == x.stride(), laid_out(x.mT + 1, x.mT).is_contiguous()
    (True, True)
    """
    if torch.jit.is_scripting() or x.is_contiguous():
        return y
    if x.dim() not in (4, 5) or x.stride(1) == 0 or torch._C._are_functorch_transforms_active():
        return y.contiguous()
    steps = [x.stride(axis) for axis in (1, *range(x.dim() - 1, 1, -1), 0)]
    if steps != sorted(steps):
        return y.contiguous()
    return y.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


def check(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    eps: float,
) -> None:
    """Raise what `utils.batchnorm.batch_norm` raises: TypeError or ValueError, with what was expected and what came.

    >>> check(torch.ones(2, 3), None, None, torch.ones(4), None, training=True, eps=1e-5)
    Traceback (most recent call last):
    ValueError: expected weight of shape (3,), one value per channel of an input of shape (2, 3), got shape (4,)
    """
    check_batch(x, training)
    check_eps(eps, training)
    missing = [n for n, v in (("running_mean", running_mean), ("running_var", running_var)) if v is None]
    if len(missing) == 1 or (missing and not training):
        expected = "both or neither" if training else "both, in evaluation"
        raise ValueError(f"expected running_mean and running_var, {expected}; got None for {', '.join(missing)}")
    check_channels(x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    got = {each.dtype for each in (running_mean, running_var, weight, bias) if each is not None}
    half = x.dtype in (torch.float16, torch.bfloat16)
    if not got <= {x.dtype} and not (half and got == {torch.float32}):
        raise TypeError(
            f"expected running statistics, weight and bias of {x.dtype}{', or all of torch.float32' * half} with an "
            f"input of {x.dtype}, got {', '.join(sorted(map(str, got)))}"
        )


def check_batch(x: Tensor, training: bool) -> None:
    """Raise TypeError where `x` is not floating; ValueError where it is not (N, C, ...) or, in training, too small.

    >>> check_batch(torch.ones(1, 3), training=True)
    Traceback (most recent call last):
    ValueError: expected more than 1 value per channel when training, got shape (1, 3)
    """
    if not x.is_floating_point():
        raise TypeError(f"expected a floating-point input, got {x.dtype}")
    if x.dim() < 2:
        raise ValueError(f"expected an input of shape (N, C, ...), got shape {tuple(x.shape)}")
    if training and x.shape[0] * x.shape[2:].numel() == 1:
        raise ValueError(f"expected more than 1 value per channel when training, got shape {tuple(x.shape)}")


def check_eps(eps: float, training: bool) -> None:
    """Raise ValueError where `eps` is negative, or 0 in training.

    >>> check_eps(-1.0, training=False)
    Traceback (most recent call last):
    ValueError: expected eps to be 0 or positive, got -1.0
    """
    if eps < 0 or (training and eps == 0):
        expected = "positive in training" if training else "0 or positive"
        raise ValueError(f"expected eps to be {expected}, got {eps}")


def check_channels(x: Tensor, **values: Tensor | None) -> None:
    """Raise ValueError where one of `values` that is given has another shape than (C,), for `x` of shape (N, C, ...).

    >>> check_channels(torch.ones(2, 3), gamma=torch.ones(3), beta=None)
    """
    for name, value in values.items():
        if value is not None and value.shape != (x.shape[1],):
            raise ValueError(
                f"expected {name} of shape ({x.shape[1]},), one value per channel of an input of "
                f"shape {tuple(x.shape)}, got shape {tuple(value.shape)}"
            )
