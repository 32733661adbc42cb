"""Batch normalization from scratch, after Ioffe & Szegedy 2015 (arXiv 1502.03167v3; "I&S" below).

A batch `x` has shape (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W). Axis 1 holds the channels (features); all
other axes count as samples, so that a channel has m = N * L or N * H * W values (I&S, section 3.2).

Two variances, two uses (I&S, section 3.1). The batch is normalised with the *biased* one, the sum of squares over m.
The *unbiased* one, over m - 1, goes into the running variance, for evaluation. `momentum` is PyTorch's, the weight of
the *new* value; Keras, ONNX and flax give that name to the weight of the *old* one.

The arithmetic and its gradient are ours. Parameters, buffers and state dicts come from torch's classes, so that
torch's tools know the layers.
"""

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.fx import Proxy

from utils.torch_parity import check, check_batch, check_channels, check_eps, laid_out, plain_autograd


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the biased variance of every channel (I&S, Algorithm 1, lines 1-2).

    Both have shape (C,), their units are those of x and its square; half precision is averaged in float32. The
    variance takes a second pass over the data: E[x^2] - E[x]^2 loses its digits where the mean is large.

    >>> batch_statistics(torch.tensor([[1.0, 10.0], [3.0, 30.0]]))
    (tensor([ 2., 20.]), tensor([  1., 100.]))
    """
    samples = _sample_axes(x)
    mean = x.mean(samples, dtype=torch.promote_types(x.dtype, torch.float32))
    var = (x - _per_channel(mean, x)).pow_(2).mean(samples)
    return mean, var


def normalize(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Give every channel of a batch zero mean and unit variance (I&S, Algorithm 1, lines 1-3).

    The result has the shape of `x`, and no unit. `eps`, in the squared unit of x, keeps the division finite; here it
    may be 0. Raises TypeError where x is not floating; ValueError for fewer than two axes, for one value per channel
    (it always becomes 0), for a negative eps.

    >>> normalize(torch.tensor([[1.0], [3.0]]))  # (N, C) -> (N, C)
    tensor([[-1.0000],
            [ 1.0000]])
    """
    check_batch(x, training=True)
    check_eps(eps, training=False)
    mean, var = batch_statistics(x)
    return ((x - _per_channel(mean, x)) * _per_channel(torch.rsqrt(var + eps), x)).to(x.dtype)


def scale_and_shift(x_hat: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Return gamma * x_hat + beta, channel by channel (I&S, Algorithm 1, line 4).

    `x_hat` has shape (N, C, ...), and so has the result; `gamma` and `beta` have shape (C,). Raises TypeError where
    x_hat is not floating, ValueError for other shapes.

    >>> scale_and_shift(torch.tensor([[-1.0], [1.0]]), torch.tensor([2.0]), torch.tensor([5.0]))
    tensor([[3.],
            [7.]])
    """
    check_batch(x_hat, training=False)
    check_channels(x_hat, gamma=gamma, beta=beta)
    return x_hat * _per_channel(gamma, x_hat) + _per_channel(beta, x_hat)


class _TrainingStep(Function):
    """Algorithm 1 with its gradient in closed form, which takes fewer passes over the data than autograd's.

    The gradient of x is the incoming one, less its mean over the batch and less its component along x_hat, times
    gamma / sigma: the chain rule of I&S, section 3, gathered into

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
        samples, m = _sample_axes(x), _count(x)
        mean = x.sum(samples, dtype=gamma.dtype).div_(m)  # faster than x.mean
        centred = x - _per_channel(mean, x)
        var = centred.square().sum(samples).div_(m)
        _update_running(running_mean, running_var, mean, var, momentum, m)
        inv_sigma = (var + eps).rsqrt_()
        ctx.save_for_backward(x, gamma, mean, inv_sigma)
        ctx.eps = eps
        if x.dim() == 2:  # in images two passes are faster than this one
            return torch.addcmul(beta, centred, gamma * inv_sigma)
        return centred.mul_(_per_channel(gamma * inv_sigma, x)).add_(_per_channel(beta, x))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, mean, inv_sigma = ctx.saved_tensors
        if torch.is_grad_enabled():  # for a second derivative: the statistics depend on x, too
            mean, var = batch_statistics(x)
            inv_sigma = torch.rsqrt(var + ctx.eps)
        samples, part = _sample_axes(x), 1 / _count(x)
        centred = x - _per_channel(mean, x)  # sigma * x_hat
        grad_beta = grad.sum(samples)
        grad_gamma = (grad * centred).sum(samples) * inv_sigma
        grad_x = torch.addcmul(grad, centred, _per_channel(grad_gamma * inv_sigma, x), value=-part)
        grad_x.sub_(_per_channel(grad_beta, x), alpha=part).mul_(_per_channel(gamma * inv_sigma, x))
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

    In training with the statistics of the batch (I&S, Algorithm 1); running statistics, where given, are moved in
    place, by `momentum`, towards its mean and its *unbiased* variance. In evaluation with the running statistics: a
    fixed affine map of each channel (I&S, Algorithm 2, line 11).

    `input` has shape (N, C, ...), all others (C,). A missing `weight` (gamma) is one, a missing `bias` (beta) zero.
    float16 and bfloat16 are computed in float32, and the others may then be float32. The result has the dtype and the
    layout of the input. An empty batch moves nothing.

    Raises TypeError for a dtype that is not floating or does not fit; ValueError for fewer than two axes, for a tensor
    of a shape other than (C,), for an eps that is not positive (in evaluation: negative), for one value per channel in
    training, and for missing running statistics: one of the two, or in evaluation both.

    >>> mean, var = torch.zeros(1), torch.ones(1)
    >>> batch_norm(torch.tensor([[1.0], [3.0]]), mean, var, training=True)
    tensor([[-1.0000],
            [ 1.0000]])
    >>> mean, var  # 0.9 * 0 + 0.1 * 2, and 0.9 * 1 + 0.1 * 2: the variance is 2 / (2 - 1)
    (tensor([0.2000]), tensor([1.1000]))
    """
    if not torch.jit.is_scripting():
        check(input, running_mean, running_var, weight, bias, training, eps)
    wide = torch.promote_types(input.dtype, torch.float32)
    gamma = input.new_ones(input.shape[1], dtype=wide) if weight is None else _cast(weight, wide)
    beta = input.new_zeros(input.shape[1], dtype=wide) if bias is None else _cast(bias, wide)
    if training and input.numel() > 0:
        if torch.jit.is_scripting() or not plain_autograd():
            mean, var = batch_statistics(input)
            _update_running(running_mean, running_var, mean.detach(), var.detach(), momentum, _count(input))
            centred, scale = input - _per_channel(mean, input), gamma * torch.rsqrt(var + eps)
            y = centred * _per_channel(scale, input) + _per_channel(beta, input)
        else:
            y = _TrainingStep.apply(input, gamma, beta, running_mean, running_var, momentum, eps)
    else:
        if not training:  # else the batch is empty: nothing to normalise, nothing to remember
            assert running_mean is not None and running_var is not None
            gamma = gamma * torch.rsqrt(_cast(running_var, wide) + eps)
            beta = beta - _cast(running_mean, wide) * gamma
        y = torch.addcmul(_per_channel(beta, input), input, _per_channel(gamma, input))
    return laid_out(_cast(y, input.dtype), input)


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """What the three layers share: torch's parameters, buffers and state dicts, and a forward of our own."""

    def forward(self, input: Tensor) -> Tensor:
        """Use (and, if tracked, count) the batch in training, the running statistics otherwise."""
        if not torch.jit.is_scripting():  # noqa: SIM102 (TorchScript would look into an `and`)
            if isinstance(input, Proxy):  # torch.fx: the layer is one node, as torch's own are
                return input.tracer.create_proxy("call_module", input.tracer.path_of_module(self), (input,), {})
        self._check_input_dim(input)
        momentum, count = 0.0 if self.momentum is None else self.momentum, self.num_batches_tracked
        if self.training and self.track_running_stats and count is not None:
            count.add_(1)
            if self.momentum is None:  # the plain average of all batches so far
                momentum = 1.0 / float(count)
        tracked = not self.training or self.track_running_stats
        mean, var = self.running_mean if tracked else None, self.running_var if tracked else None
        by_batch = self.training or (mean is None and var is None)
        return batch_norm(input, mean, var, self.weight, self.bias, by_batch, momentum, self.eps)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """Batch normalization of (N, C) or (N, C, L): a drop-in for `torch.nn.BatchNorm1d`.

    `num_features` is C. `eps` and `momentum` are those of `batch_norm`; momentum=None asks for the plain average of
    all batches. `affine=False` leaves out gamma (`weight`) and beta (`bias`), `bias=False` beta alone. With
    `track_running_stats=False` evaluation, too, uses the batch. `forward` raises what `batch_norm` raises, and
    ValueError for another number of axes.

    >>> layer = BatchNorm1d(1)
    >>> layer(torch.tensor([[1.0], [3.0]])).detach()
    tensor([[-1.0000],
            [ 1.0000]])
    >>> layer.eval()(torch.tensor([[1.2]])).detach()  # by now the running mean is 0.2, the running variance 1.1
    tensor([[0.9535]])
    """


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Batch normalization of (N, C, H, W): one mean and variance a feature map (I&S, section 3.2).

    A drop-in for `torch.nn.BatchNorm2d`; for arguments and errors see `BatchNorm1d`.

    >>> BatchNorm2d(3)(torch.randn(8, 3, 5, 5)).mean((0, 2, 3)).abs().max() < 1e-6
    tensor(True)
    """


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """Batch normalization of (N, C, D, H, W): a drop-in for `torch.nn.BatchNorm3d`.

    For arguments and errors see `BatchNorm1d`.

    >>> BatchNorm3d(3)
    BatchNorm3d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    """


def _update_running(
    running_mean: Tensor | None, running_var: Tensor | None, mean: Tensor, var: Tensor, momentum: float, m: int
) -> None:
    """Move the running statistics in place: (1 - momentum) * running + momentum * batch, in the batch's precision.

    `var` is the biased variance of m values. Times m / (m - 1) = 1 + 1 / (m - 1) it is unbiased.
    """
    if running_mean is not None and running_var is not None:
        wide_mean, wide_var = _cast(running_mean, mean.dtype), _cast(running_var, var.dtype)
        wide_mean.lerp_(mean, momentum)
        wide_var.lerp_(var, momentum).add_(var, alpha=momentum / (m - 1))
        if running_mean.dtype != mean.dtype:
            running_mean.copy_(wide_mean)
            running_var.copy_(wide_var)


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert x where its dtype is another (asking first is faster than x.to)."""
    return x if x.dtype == dtype else x.to(dtype)


def _sample_axes(x: Tensor) -> list[int]:
    """Return every axis but the channel axis, 1."""
    return [0] + list(range(2, x.dim()))  # noqa: RUF005 (TorchScript knows no star)


def _count(x: Tensor) -> int:
    """Return m, the number of values that a channel has."""
    m = x.shape[0]
    for size in x.shape[2:]:
        m *= size
    return m


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """View C values in the shape (C, 1, ...) that broadcasts against x, of shape (N, C, ...)."""
    return values if x.dim() == 2 else values.view([-1] + [1] * (x.dim() - 2))
