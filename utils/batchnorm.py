"""Batch normalization from scratch, after Ioffe & Szegedy 2015 (arXiv 1502.03167v3; "I&S" below).

A batch `x` has shape (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W). Axis 1 holds the channels
(features); all other axes count as samples, so that a channel has m = N * L or N * H * W values
(I&S, section 3.2).

Two variances, two uses (I&S, section 3.1). The batch is normalised with the *biased* one, the sum
of squares over m. The *unbiased* one, over m - 1, goes into the running variance, for evaluation.

`momentum` is PyTorch's: the weight of the *new* value, running = (1 - momentum) * running +
momentum * batch. Keras, ONNX and flax give that name to the weight of the *old* one.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

HALF = (torch.float16, torch.bfloat16)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of every channel (I&S, Algorithm 1, lines 1-2).

    Both have shape (C,); their units are that of x and its square. The variance takes a second pass
    over the data: E[x^2] - E[x]^2 loses its digits where the mean is large.

    >>> batch_statistics(torch.tensor([[1.0, 10.0], [3.0, 30.0]]))
    (tensor([ 2., 20.]), tensor([  1., 100.]))
    """
    mean = x.mean(_sample_axes(x))
    var = (x - _per_channel(mean, x)).square().mean(_sample_axes(x))
    return mean, var


def normalize(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Give every channel of a batch zero mean and unit variance (I&S, Algorithm 1, lines 1-3).

    The result has the shape of `x`, and no unit. `eps`, in the squared unit of x, keeps the
    division finite; here it may be 0. Raises TypeError where x is not floating; ValueError for
    fewer than two axes, for one value per channel (it always becomes 0), for a negative eps.

    >>> normalize(torch.tensor([[1.0], [3.0]]))  # (N, C) -> (N, C)
    tensor([[-1.0000],
            [ 1.0000]])
    """
    _check_batch(x, training=True)
    _check_eps(eps, training=False)
    wide = _widen(x)
    mean, var = batch_statistics(wide)
    return _cast(_standardize(wide, mean, var, eps), x.dtype)


def scale_and_shift(x_hat: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Return gamma * x_hat + beta, channel by channel (I&S, Algorithm 1, line 4).

    `x_hat` has shape (N, C, ...), and so has the result; `gamma` and `beta` have shape (C,).
    Raises TypeError where x_hat is not floating, ValueError for other shapes.

    >>> scale_and_shift(torch.tensor([[-1.0], [1.0]]), torch.tensor([2.0]), torch.tensor([5.0]))
    tensor([[3.],
            [7.]])
    """
    _check_batch(x_hat, training=False)
    _check_channels(x_hat, gamma=gamma, beta=beta)
    return x_hat * _per_channel(gamma, x_hat) + _per_channel(beta, x_hat)


class _TrainingStep(Function):
    """Algorithm 1 and its gradient in closed form, which takes fewer passes over the data.

    The gradient of x is the incoming one, less its mean over the batch and less its component along
    x_hat, times gamma / sigma: the chain rule of I&S, section 3, gathered into

        gamma / sigma * (grad - mean(grad) - x_hat * mean(grad * x_hat)).
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        mean = x.mean(_sample_axes(x))
        y = x - _per_channel(mean, x)
        var = y.square().mean(_sample_axes(x))
        _update_running(running_mean, running_var, mean, var, momentum, _samples(x))
        inv_sigma = torch.rsqrt(var + eps)
        ctx.save_for_backward(x, gamma, mean, inv_sigma)
        ctx.eps = eps
        return y.mul_(_per_channel(gamma * inv_sigma, x)).add_(_per_channel(beta, x))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, mean, inv_sigma = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative: the statistics depend on x, too
            mean, var = batch_statistics(x)
            inv_sigma = torch.rsqrt(var + ctx.eps)
        axes, part = _sample_axes(x), 1 / _samples(x)
        centred = x - _per_channel(mean, x)  # sigma * x_hat
        grad_beta = grad.sum(axes)
        grad_gamma = (grad * centred).sum(axes) * inv_sigma
        along_x_hat = _per_channel(grad_gamma * inv_sigma, x)
        grad_x = torch.addcmul(grad, centred, along_x_hat, value=-part)
        grad_x.sub_(_per_channel(grad_beta, x), alpha=part)
        grad_x.mul_(_per_channel(gamma * inv_sigma, x))
        return grad_x, grad_gamma, grad_beta, None, None, None, None


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise, scale and shift a batch: a drop-in for `torch.nn.functional.batch_norm`.

    In training with the statistics of the batch (I&S, Algorithm 1); running statistics, where
    given, are moved in place, by `momentum`, towards its mean and its *unbiased* variance. In
    evaluation with the running statistics: a fixed affine map of each channel (I&S, Algorithm 2,
    line 11).

    `input` has shape (N, C, ...), all others (C,). A missing `weight` (gamma) is one, a missing
    `bias` (beta) zero. float16 and bfloat16 are computed in float32, and the others may then be
    float32. The result has the dtype and the layout of the input. An empty batch moves nothing.

    Raises TypeError for a dtype that is not floating or does not fit; ValueError for fewer than two
    axes, for a tensor of a shape other than (C,), for an eps that is not positive (in evaluation:
    negative), for one value per channel in training, and for missing running statistics: one of
    the two, or in evaluation both.

    >>> mean, var = torch.zeros(1), torch.ones(1)
    >>> batch_norm(torch.tensor([[1.0], [3.0]]), mean, var, training=True)
    tensor([[-1.0000],
            [ 1.0000]])
    >>> mean, var  # 0.9 * 0 + 0.1 * 2, and 0.9 * 1 + 0.1 * 2: the variance is 2 / (2 - 1)
    (tensor([0.2000]), tensor([1.1000]))
    """
    _check_batch(input, training)
    _check_eps(eps, training)
    _check_running(running_mean, running_var, training)
    _check_channels(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    _check_dtypes(input, running_mean, running_var, weight, bias)
    x = _widen(input.contiguous(memory_format=_memory_format(input)))
    gamma = x.new_ones(x.shape[1]) if weight is None else _widen(weight)
    beta = x.new_zeros(x.shape[1]) if bias is None else _widen(bias)
    if x.numel() == 0:  # nothing to normalise, nothing to remember
        y = scale_and_shift(x, gamma, beta)
    elif not training:
        y = _affine(x, running_mean, running_var, gamma, beta, eps)
    elif _transformed():
        mean, var = batch_statistics(x)
        with torch.no_grad():
            _update_running(running_mean, running_var, mean, var, momentum, _samples(x))
        y = _affine(x, mean, var, gamma, beta, eps)
    else:
        y = _TrainingStep.apply(x, gamma, beta, running_mean, running_var, momentum, eps)
    return _cast(y, input.dtype)


class _BatchNorm(nn.Module):
    """What the three layers share. They differ in the number of axes that they accept."""

    _version = 2  # of the state dict, as in torch: from 2 on it holds num_batches_tracked
    accepts: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats

        def channels(wanted: bool) -> Tensor | None:
            return torch.empty(num_features, device=device, dtype=dtype) if wanted else None

        self.weight = nn.Parameter(channels(True)) if affine else None
        self.bias = nn.Parameter(channels(True)) if affine and bias else None
        self.register_buffer("running_mean", channels(track_running_stats))
        self.register_buffer("running_var", channels(track_running_stats))
        count = torch.tensor(0, device=device) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the batches seen: running mean 0, running variance 1, count 0."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Start anew: gamma 1, beta 0, no batches seen."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Use (and, if tracked, count) the batch in training, the running statistics otherwise."""
        if input.dim() not in self.accepts:
            expected = " or ".join(f"{axes}D" for axes in self.accepts)
            raise ValueError(f"expected {expected} input (got {input.dim()}D input)")
        mean, var = self.running_mean, self.running_var
        momentum, count = self.momentum, self.num_batches_tracked
        if self.training and self.track_running_stats and count is not None:
            count.add_(1)
            if momentum is None:  # the plain average of all batches so far
                momentum = 1.0 / float(count)
        if self.training and not self.track_running_stats:
            mean, var = None, None
        batch = self.training or (mean is None and var is None)
        return batch_norm(input, mean, var, self.weight, self.bias, batch, momentum, self.eps)

    def extra_repr(self) -> str:
        """Name the settings, as torch does."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        """Read also a state dict of version 1, which has no count of batches."""
        version = local_metadata.get("version") or 1
        if version < 2 and self.track_running_stats:
            state_dict.setdefault(prefix + "num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (N, C) or (N, C, L): a drop-in for `torch.nn.BatchNorm1d`.

    `num_features` is C. `eps` and `momentum` are those of `batch_norm`; momentum=None asks for the
    plain average of all batches. `affine=False` leaves out gamma (`weight`) and beta (`bias`),
    `bias=False` beta alone. With `track_running_stats=False` evaluation, too, uses the batch.
    `forward` raises what `batch_norm` raises, and ValueError for another number of axes.

    >>> layer = BatchNorm1d(1)
    >>> layer(torch.tensor([[1.0], [3.0]])).detach()
    tensor([[-1.0000],
            [ 1.0000]])
    >>> layer.eval()(torch.tensor([[0.2]])).detach()  # the running mean is 0.2 by now
    tensor([[0.]])
    """

    accepts = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (N, C, H, W): one mean and variance a feature map (I&S, section 3.2).

    A drop-in for `torch.nn.BatchNorm2d`; for arguments and errors see `BatchNorm1d`.

    >>> BatchNorm2d(3)(torch.randn(8, 3, 5, 5)).mean((0, 2, 3)).abs().max() < 1e-6
    tensor(True)
    """

    accepts = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalization of (N, C, D, H, W): a drop-in for `torch.nn.BatchNorm3d`.

    For arguments and errors see `BatchNorm1d`.

    >>> BatchNorm3d(3)
    BatchNorm3d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    """

    accepts = (5,)


def _affine(x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """Normalise with given statistics, scale and shift, in operations that autograd knows."""
    return scale_and_shift(_standardize(x, mean, var, eps), gamma, beta)


def _standardize(x: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(var + eps), channel by channel."""
    return (x - _per_channel(mean, x)) * _per_channel(torch.rsqrt(var + eps), x)


def _update_running(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,
    var: Tensor,
    momentum: float,
    m: int,
) -> None:
    """Move the running statistics in place: (1 - momentum) * running + momentum * batch.

    `var` is the biased variance of m values. Times m / (m - 1) = 1 + 1 / (m - 1) it is unbiased.
    """
    if running_mean is not None:
        mean, var = _cast(mean, running_mean.dtype), _cast(var, running_var.dtype)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var, momentum).add_(var, alpha=momentum / (m - 1))


def _transformed() -> bool:
    """Tell whether torch.func (vmap, jvp, ...) is at work: it needs operations that it knows."""
    return torch._C._are_functorch_transforms_active()


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert x where its dtype is another (asking first is faster than x.to)."""
    return x if x.dtype == dtype else x.to(dtype)


def _sample_axes(x: Tensor) -> tuple[int, ...]:
    """Return every axis but the channel axis, 1."""
    return (0, *range(2, x.dim()))


def _samples(x: Tensor) -> int:
    """Return m, the number of values that a channel has."""
    return x.shape[0] * x.shape[2:].numel()


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """View C values in the shape (C, 1, ...) that broadcasts against x, of shape (N, C, ...)."""
    return values if x.dim() == 2 else values.view(-1, *[1] * (x.dim() - 2))


def _widen(x: Tensor) -> Tensor:
    """Convert half precision to float32, in which the statistics are taken."""
    return x.float() if x.dtype in HALF else x


def _memory_format(x: Tensor) -> torch.memory_format:
    """Return the layout of torch's result: channels-last where x is, else contiguous."""
    if x.is_contiguous() or x.dim() not in (4, 5) or x.stride(1) == 0 or _transformed():
        return torch.contiguous_format
    steps = [x.stride(axis) for axis in (1, *range(x.dim() - 1, 1, -1), 0)]
    if steps != sorted(steps):
        return torch.contiguous_format
    return torch.channels_last if x.dim() == 4 else torch.channels_last_3d


def _check_batch(x: Tensor, training: bool) -> None:
    if not x.is_floating_point():
        raise TypeError(f"expected a floating-point input, got {x.dtype}")
    if x.dim() < 2:
        raise ValueError(f"expected an input of shape (N, C, ...), got shape {tuple(x.shape)}")
    if training and _samples(x) == 1:
        raise ValueError(f"expected more than 1 value per channel when training, got shape {tuple(x.shape)}")


def _check_eps(eps: float, training: bool) -> None:
    if eps < 0 or (training and eps == 0):
        expected = "positive in training" if training else "0 or positive"
        raise ValueError(f"expected eps to be {expected}, got {eps}")


def _check_running(mean: Tensor | None, var: Tensor | None, training: bool) -> None:
    missing = [n for n, v in (("running_mean", mean), ("running_var", var)) if v is None]
    if len(missing) == 1 or (missing and not training):
        expected = "both or neither" if training else "both, in evaluation"
        raise ValueError(f"expected running_mean and running_var, {expected}; got None for {', '.join(missing)}")


def _check_channels(x: Tensor, **values: Tensor | None) -> None:
    for name, value in values.items():
        if value is not None and value.shape != (x.shape[1],):
            raise ValueError(
                f"expected {name} of shape ({x.shape[1]},), one value per channel of an input of "
                f"shape {tuple(x.shape)}, got shape {tuple(value.shape)}"
            )


def _check_dtypes(x: Tensor, *values: Tensor | None) -> None:
    got = {value.dtype for value in values if value is not None}
    if not got <= {x.dtype} and not (x.dtype in HALF and got == {torch.float32}):
        expected = f"{x.dtype}, or all of torch.float32" if x.dtype in HALF else f"{x.dtype}"
        raise TypeError(
            f"expected running statistics, weight and bias of {expected} with an input of "
            f"{x.dtype}, got {', '.join(sorted(map(str, got)))}"
        )
