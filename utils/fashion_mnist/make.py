"""Make `fashion_mnist.npz`, the subset of Fashion-MNIST that the book carries.

    python utils/fashion_mnist/make.py FOLDER

FOLDER holds the four published idx files (`train-images-idx3-ubyte.gz` and so on). The subset is
the first 1,000 training images and the first 200 test images of every class, in the order of the
published files; nothing is drawn at random. The script checks what it reads by its SHA-256 and
prints the SHA-256 of what it wrote.
"""

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np

PER_CLASS = {"train": 1000, "test": 200}
SOURCES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
CONTENT_SHA256 = {  # of the unpacked files: the same bytes are packed in several ways
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read_idx(path: Path) -> np.ndarray:
    """Read one gzipped idx file of bytes: labels `(N,)` or images `(N, 28, 28)`.

    Raises ValueError where the unpacked bytes are not the published ones.
    """
    content = gzip.decompress(path.read_bytes())
    if hashlib.sha256(content).hexdigest() != CONTENT_SHA256[path.stem]:
        raise ValueError(f"{path} is not the file that Zalando Research published")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Give the positions of the first `count` examples of every class, in file order.

    >>> first_of_each(np.array([1, 0, 0, 1, 1, 0]), 2)
    array([0, 1, 2, 3])
    """
    firsts = [np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(firsts))


def make(folder: Path, target: Path) -> str:
    """Write the subset of the idx files in `folder` to `target`; return the file's SHA-256."""
    arrays = {}
    for part, (images, labels) in SOURCES.items():
        x, y = read_idx(folder / images), read_idx(folder / labels)
        chosen = first_of_each(y, PER_CLASS[part])
        arrays[f"x_{part}"], arrays[f"y_{part}"] = x[chosen], y[chosen]
    np.savez_compressed(target, **arrays)
    return hashlib.sha256(target.read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the book's subset of Fashion-MNIST.")
    parser.add_argument("folder", type=Path, help="the folder of the four published idx files")
    parser.add_argument("--target", type=Path, default=Path(__file__).with_name("fashion_mnist.npz"))
    arguments = parser.parse_args()
    print(make(arguments.folder, arguments.target))
