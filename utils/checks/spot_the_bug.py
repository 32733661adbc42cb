"""Check a mended function of the page "Spot the bug": it is tried on data on which its bug shows."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.checks import RIGHT, tried
from utils.seeds import torch_rng

Made = tuple[Tensor | None, str]  # what a function gave, or None and why it cannot be compared


def check_bug(name: str, function: Callable) -> str:
    """Check a mended version of the bug that is called `name`. Raises ValueError for another name.

    >>> check_bug("normalize_batch", lambda x: (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5))
    'Right.'
    >>> check_bug("normalize_batch", lambda x: (x - x.mean()) / x.std()).partition(" from ")[0]
    'The units have means'
    """
    if name not in CHECKS:
        raise ValueError(f"name: expected one of {list(CHECKS)}, got {name!r}")
    try:
        return CHECKS[name](function) or RIGHT
    except Exception as error:
        return f"It raises {type(error).__name__}: {error}"


def _batch(*shape: int) -> Tensor:
    """A batch whose channels differ, and whose images do."""
    rng, places = torch_rng(0), (slice(None), *[None] * (len(shape) - 2))
    scale, shift = torch.linspace(0.5, 2, shape[1])[places], torch.linspace(-3, 3, shape[1])[places]
    x = torch.randn(*shape, generator=rng) * scale + shift
    return x + torch.randn(shape[0], *[1] * (len(shape) - 1), generator=rng) if len(shape) > 2 else x


def _normalised(given: Made, x: Tensor, what: str) -> str:
    """What is wrong with normalised values of `x`, (N, C, ...), or nothing."""
    y, trouble = given
    if y is None:
        return trouble
    right = F.batch_norm(x, None, None, training=True).double()
    if torch.allclose(y, right, atol=1e-3):
        return ""
    if not y.isfinite().all():
        return f"Some of the {what} come out as no numbers."
    mean = y.transpose(0, 1).flatten(1).mean(1)
    if mean.abs().max() > 0.01:
        return f"The {what} have means from {mean.min():.2f} to {mean.max():.2f} afterwards; each should be 0."
    std = y.transpose(0, 1).flatten(1).std(1, correction=0)
    if (std - 1).abs().max() > 0.01:
        return f"The {what} have standard deviations from {std.min():.3f} to {std.max():.3f}; each should be 1."
    return f"The mean and the width of the {what} are right, their values are not those of PyTorch."


def _batch_of_units(normalize: Callable) -> str:
    x = _batch(60, 5)
    return _normalised(tried(normalize, x, shape=x.shape), x, "units")


def _channels(normalize: Callable) -> str:
    x = _batch(6, 4, 5, 3)
    return _normalised(tried(normalize, x, shape=x.shape), x, "channels")


def _images(normalize: Callable) -> str:
    x, gamma, beta = _batch(6, 4, 5, 3), torch.tensor([0.5, 1.0, 2.0, 3.0]), torch.tensor([-1.0, 0.0, 1.0, 2.0])
    y, trouble = tried(normalize, x, gamma, beta, shape=x.shape)
    if y is None:
        return trouble
    if torch.allclose(y.mean((2, 3)), beta.double().expand(6, 4), atol=1e-3):
        return "Every image has the mean β in every channel: the mean of a channel should run over the batch as well."
    right = F.batch_norm(x, None, None, gamma, beta, training=True).double()
    plain = (y - beta[:, None, None]) / gamma[:, None, None]
    return "" if torch.allclose(y, right, atol=1e-3) else _normalised((plain, ""), x, "channels")


def _small_units(normalize: Callable) -> str:
    if wrong := _batch_of_units(normalize):
        return wrong
    z = torch.randn(60, 3, generator=torch_rng(1)).double()
    x = z / z.std(0, correction=0) * torch.tensor([1e-4, 1e-3, 0.0])
    y, trouble = tried(normalize, x, shape=x.shape)
    if y is None or not y.isfinite().all():
        return trouble or "A unit that does not vary at all comes out as no number."
    right = F.batch_norm(x, None, None, training=True)
    if torch.allclose(y, right, atol=1e-4):
        return ""
    out, torchs = (each[:, 0].std(correction=0) for each in (y, right))
    return f"A unit of standard deviation 0.0001 comes out with {out:.2f}; in PyTorch with {torchs:.2f}."


def _far_units(normalize: Callable) -> str:
    if wrong := _batch_of_units(normalize):
        return wrong
    x = torch.randn(60, 50, generator=torch_rng(1)) + 10_000
    y, trouble = tried(normalize, x, shape=x.shape)
    if y is None:
        return trouble
    lost, std = (~y.isfinite()).any(0).double().mean(), y.std(0, correction=0).nan_to_num(0)
    if lost or (std - 1).abs().max() > 0.1:
        return (
            f"At a mean of 10,000 and a standard deviation of 1, {lost:.0%} of the units are no numbers, and the "
            f"others have standard deviations up to {std.max():.1f}; each should be 1."
        )
    return ""


def _gradient(normalize: Callable) -> str:
    rng = torch_rng(1)
    x, g = (torch.randn(20, 3, generator=rng).double() for _ in range(2))
    gamma, beta = torch.tensor([0.5, 1.0, 2.0]).double(), torch.tensor([-1.0, 0.0, 1.0]).double()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, right = normalize(ours, gamma, beta), F.batch_norm(theirs, None, None, gamma, beta, training=True)
    if not torch.allclose(out, right, atol=1e-4):
        return "What comes out is not what PyTorch gives."
    out.backward(g)
    right.backward(g)
    if torch.allclose(ours.grad, theirs.grad, atol=1e-5):
        return ""
    if ours.grad.mean(0).abs().max() > 1e-4:
        far = ours.grad.mean(0).abs().max()
        return (
            f"The outputs are right, the gradient is not: its mean over the batch is up to {far:.2f}; it should be 0."
        )
    return "The outputs are right, the gradient is not: does it flow through the variance?"


def _remembered(remember: Callable) -> str:
    x, layer = _batch(20, 3), nn.BatchNorm1d(3, momentum=0.1)
    layer(x)
    found = remember(torch.zeros(3), torch.ones(3), x, 0.1)
    for given, right, what, old in zip(
        found, (layer.running_mean, layer.running_var), ("mean", "variance"), (0.0, 1.0), strict=True
    ):
        if not torch.allclose(given, right, rtol=1e-4, atol=1e-5):
            batch = 10 * right - 9 * old
            weight = ((given - old) / (batch - old)).mean().item()
            return f"After one batch the running {what} has come {weight:.0%} of the way to it; in PyTorch it is 10%."
    return ""


def _drop_in(step: Callable) -> str:
    layer, mean, var = nn.BatchNorm1d(3), torch.zeros(3), torch.ones(3)
    x = _batch(4, 3)
    if not torch.allclose(step(x, mean, var), layer(x), atol=1e-3):
        return "In training, what comes out is not what PyTorch gives."
    if not torch.allclose(mean, layer.running_mean, atol=1e-5):
        return "The running mean is not PyTorch's."
    if torch.allclose(var, layer.running_var, rtol=1e-4):
        return ""
    ratio = ((var - 0.9) / (layer.running_var - 0.9)).mean()
    return f"What a batch of 4 adds to the running variance is {ratio:.2f} times PyTorch's."


def _modes(layer: Callable[[int], nn.Module]) -> str:
    ours, theirs, x = layer(3), nn.BatchNorm1d(3), _batch(20, 3)
    for mode in (True, False):
        ours.train(mode), theirs.train(mode)
        for gradients in (True, False):
            with torch.set_grad_enabled(gradients):
                out, right = ours(x[: 20 if mode else 2]), theirs(x[: 20 if mode else 2])
            where = f"In {'training' if mode else 'evaluation'} with gradients {'on' if gradients else 'off'}"
            if not torch.allclose(out, right, atol=1e-3):
                used = "the batch's statistics" if mode != gradients and gradients else "other statistics than PyTorch"
                return f"{where} it uses {used}."
            if not torch.allclose(ours.running_mean, theirs.running_mean, atol=1e-4):
                return f"{where} the running mean is not PyTorch's."
            if not torch.allclose(ours.running_var, theirs.running_var, rtol=1e-3):
                return f"{where} the running variance is not PyTorch's."
    return ""


def _backward(g: Tensor, x: Tensor, gamma: Tensor) -> Tensor:
    sigma = torch.sqrt(x.var(0, correction=0) + 1e-5)
    x_hat = (x - x.mean(0)) / sigma
    return gamma / sigma * (g - g.mean(0) - x_hat * (g * x_hat).mean(0))


def _checker(is_right: Callable) -> str:
    rng = torch_rng(1)
    x, gamma = torch.randn(30, 5, generator=rng), torch.rand(5, generator=rng) + 0.5
    if not is_right(_backward, x, gamma):
        return "It turns the right backward pass away."
    wrong = {
        "zero": lambda g, x, gamma: 0 * g,
        "minus the right one": lambda g, x, gamma: -_backward(g, x, gamma),
        "the right one without γ": lambda g, x, gamma: _backward(g, x, torch.ones_like(gamma)),
    }
    passed = [what for what, each in wrong.items() if is_right(each, x, gamma)]
    return f"A backward pass that returns {passed[0]} passes." if passed else ""


def _change(change: Callable) -> str:
    def gradient(w: Tensor, batch: Tensor) -> Tensor:
        return w * w - batch

    def batches() -> Iterator[Tensor]:
        yield from torch.arange(9.0).unbind()

    w = torch.tensor([1.0, 2.0])
    still = torch.as_tensor(change(gradient, batches(), w, 0.0))
    if still > 1e-6:
        return f"A step of length 0 changes the gradient by {still:.2f}."
    right = ((w - 0.5 * w * w) ** 2 - w * w).norm()
    given = torch.as_tensor(change(gradient, batches(), w, 0.5))
    if torch.allclose(given, right):
        return ""
    return f"For the gradient w² and a step of 0.5 from (1, 2) it should be {right:.2f}; it is {given:.2f}."


def _band(band: Callable) -> str:
    def loss(w: Tensor) -> Tensor:
        return (w**2).sum() / 2

    low, high = (torch.as_tensor(edge) for edge in band(loss, lambda w: w, torch.ones(2), [0.1, 0.5], 5))
    here = 0.9 ** (2 * torch.arange(5.0))
    for given, right, what in ((low, 0.25 * here, "lowest"), (high, 0.81 * here, "highest")):
        if given.shape != (5,):
            return f"Expected a loss for each of 5 steps, got the shape {tuple(given.shape)}."
        if not torch.allclose(given, right, rtol=1e-3):
            return (
                f"In a round bowl the run with rate 0.1 has the loss {here[3]:.2f} at step 4, and with the rates 0.1 "
                f"and 0.5 the {what} loss along its gradient is {right[3]:.2f}; yours is {given[3]:.2f}."
            )
    return ""


CHECKS: dict[str, Callable[[Callable], str]] = {
    "normalize_batch": _batch_of_units,
    "normalize_channels": _channels,
    "normalize_images": _images,
    "normalize_safely": _small_units,
    "normalize_fast": _far_units,
    "normalize_in_training": _gradient,
    "remember": _remembered,
    "training_step": _drop_in,
    "Layer": _modes,
    "gradient_is_right": _checker,
    "gradient_change": _change,
    "loss_band": _band,
}
