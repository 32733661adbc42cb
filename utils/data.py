"""The two data sets of the book, both on this disk: 8x8 digits, and a subset of Fashion-MNIST.

Nothing is downloaded, and nothing is read before the first call. What was read is kept in memory as
integers; every call builds new float tensors from it, so you may change what you get (normalise it
in place, add noise, shuffle it) and nobody else sees the change.
"""

import hashlib
import io
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Fashion-MNIST's class names, in the order of its labels 0 to 9."""

FASHION_MNIST = Path(__file__).parent / "fashion_mnist" / "fashion_mnist.npz"
DIGITS = Path(__file__).parent / "digits.npz"
SHA256 = {
    "fashion_mnist.npz": "5fc7acf174cdbb9e64f403ae312757980951e88a29aa904a9db5b54e4303d4e8",
    "digits.npz": "1764bb7cc8cdc769ab7c96b4f5ead2e838225b97b5bd6a42cb21091431f4835a",
}


class Split(NamedTuple):
    """Inputs (float32) and labels (int64) to train on, and others to test on.

    >>> Split(torch.zeros(3, 2), torch.zeros(3), torch.ones(1, 2), torch.ones(1)).x_train.shape
    torch.Size([3, 2])
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def digits() -> Split:
    """Load the 8x8 handwritten digits: 1,437 to train on, 360 to test on.

    >>> x_train, y_train, x_test, y_test = digits()
    >>> x_train.shape, x_test.shape   # (N, C)
    (torch.Size([1437, 64]), torch.Size([360, 64]))
    >>> x_train.min().item(), x_train.max().item()
    (0.0, 1.0)

    A row holds the pixels of one image, line by line, divided by 16 and so in [0, 1]; a label is
    the digit. The split is the same at every call, and each digit has its share in both parts.
    Source: scikit-learn's `load_digits`, the test part of the UCI data set "Optical Recognition of
    Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998; CC BY 4.0), split by its `train_test_split`
    and kept in a file, so that nobody waits for scikit-learn. Raises as `fashion_mnist` does.
    """
    x_train, y_train, x_test, y_test = _read(DIGITS)
    return Split(_scaled(x_train, 16), _labels(y_train), _scaled(x_test, 16), _labels(y_test))


def fashion_mnist(size: Literal[28, 14] = 28) -> Split:
    """Load 10,000 images of clothes to train on and 2,000 to test on, of ten classes.

    >>> x_train, y_train, x_test, y_test = fashion_mnist(size=14)
    >>> x_train.shape, x_test.shape   # (N, C, H, W)
    (torch.Size([10000, 1, 14, 14]), torch.Size([2000, 1, 14, 14]))
    >>> [CLASSES[label] for label in y_train[:3]]
    ['Ankle boot', 'T-shirt/top', 'T-shirt/top']

    Brightness is in [0, 1]. At `size=14`, a pixel is the mean of 2x2 pixels of the original. All
    classes are equally common: 1,000 to train on and 200 to test on of each.
    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747; `utils/fashion_mnist/README.md` says
    how the subset was chosen. Raises FileNotFoundError or ValueError where the file of the images
    is missing or damaged, and ValueError at any other size.
    """
    if size not in (28, 14):
        raise ValueError(f"size must be 28 or 14, not {size!r}")
    x_train, y_train, x_test, y_test = _read(FASHION_MNIST)
    images = (_scaled(x, 255).unsqueeze(1) for x in (x_train, x_test))
    x_train, x_test = images if size == 28 else (F.avg_pool2d(x, 2) for x in images)
    return Split(x_train, _labels(y_train), x_test, _labels(y_test))


def standardized(split: Split, soften: float = 0.1) -> Split:
    """Give inputs the mean 0 and nearly the standard deviation 1 of the *training* part: (x - mean) / (std + soften).

    Each feature of (N, C) by itself; of images (N, C, H, W) each channel. `soften`, in the unit of x, keeps pixels that
    hardly ever vary from being blown up; labels stay.

    >>> split = standardized(digits())
    >>> bool(split.x_train.mean(0).abs().max() < 1e-5), bool(split.x_train.std() < 1)
    (True, True)
    """
    mean, std = input_statistics(split.x_train)
    return split._replace(
        x_train=(split.x_train - mean) / (std + soften), x_test=(split.x_test - mean) / (std + soften)
    )


def input_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (1/m) of each feature or channel, shaped so that they broadcast over `x`.

    >>> input_statistics(torch.tensor([[1.0], [3.0]]))
    (tensor([[2.]]), tensor([[1.]]))
    """
    samples = [axis for axis in range(x.dim()) if axis != 1]
    return x.mean(samples, keepdim=True), x.std(samples, correction=0, keepdim=True)


def _scaled(pixels: np.ndarray, largest: int) -> Tensor:
    return torch.tensor(pixels, dtype=torch.float32).div_(largest)


def _labels(labels: np.ndarray) -> Tensor:
    return torch.tensor(labels, dtype=torch.int64)


@cache
def _read(path: Path) -> tuple[np.ndarray, ...]:
    """Read the four arrays of a file of this repository; raise, with the way out, where it is not what it was."""
    sha256 = SHA256[path.name]
    way_out = f"To get it back: git checkout -- {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing (expected SHA-256 {sha256}). {way_out}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} is damaged: expected SHA-256 {sha256}, found {found} in its {len(content)} bytes. {way_out}"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return tuple(arrays[name] for name in Split._fields)
