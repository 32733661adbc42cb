"""The data sets of the papers, whole: MNIST, Fashion-MNIST and CIFAR-10, in the formats in which they are published.

A file is taken from where it lies on this machine, or fetched once with pooch. What is in it is checked in both cases:
a damaged file is never read.
"""

import gzip
import hashlib
import math
import os
import tarfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
import torch

from utils.data import Split

IDX = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")}
IDX["test"] = tuple(name.replace("train", "t10k") for name in IDX["train"])
CIFAR_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue pixels, line by line
CIFAR_FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}


class Published(NamedTuple):
    """Where a data set is published, and what its files hold."""

    base: str  # the address of the folder
    files: Mapping[str, str]  # the MD5 of each file as published
    contents: Mapping[str, str]  # the SHA-256 of what each holds when unpacked: the same bytes are packed in many ways
    elsewhere: Path | None = None  # where a system's package puts it


PUBLISHED = {
    "mnist": Published(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion-mnist": Published(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        Path("/usr/share/datasets/fashion-mnist"),  # Debian's dataset-fashion-mnist
    ),
    "cifar-10": Published(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        {},
    ),
}


def load(name: str) -> Split:
    """Return a whole data set: images (N, C, H, W) in [0, 1], float32, and labels, int64.

    Of a file that is on this machine, in the folder `name` of the environment's BOOK_DATA or of the user's cache, or
    where Debian puts Fashion-MNIST, nothing is fetched. Raises ValueError for another name and for a damaged file, and
    FileNotFoundError, with the way out, where a file is missing and cannot be fetched.

    >>> load("imagenet")
    Traceback (most recent call last):
    ValueError: data: expected one of ['mnist', 'fashion-mnist', 'cifar-10'], got 'imagenet'
    """
    if name not in PUBLISHED:
        raise ValueError(f"data: expected one of {list(PUBLISHED)}, got {name!r}")
    return _load(name, folder())


def folder() -> Path:
    """Where the data sets lie, each in a folder of its name: BOOK_DATA, or a folder in the user's cache.

    >>> folder().name
    'data'
    """
    named = os.environ.get("BOOK_DATA")
    return (
        Path(named) if named else platformdirs.user_cache_path("batch-normalization-examined", appauthor=False) / "data"
    )


@cache
def _load(name: str, home: Path) -> Split:
    published = PUBLISHED[name]
    if name == "cifar-10":
        (archive,) = published.files
        parts = read_cifar10(_found(name, archive, home))
    else:
        files = {each.removesuffix(".gz"): _found(name, each, home) for each in published.files}
        parts = {
            part: tuple(read_idx(files[each], published.contents[each]) for each in names)
            for part, names in IDX.items()
        }
        parts = {part: (images[:, None], labels) for part, (images, labels) in parts.items()}
    tensors = [
        tensor
        for part in ("train", "test")
        for tensor in (torch.tensor(parts[part][0]).float() / 255, torch.tensor(parts[part][1]).long())
    ]
    return Split(*tensors)


def _found(name: str, file: str, home: Path) -> Path:
    """The place of a published file, packed or not, which is fetched where this machine has none."""
    published = PUBLISHED[name]
    places = [home / name] + [published.elsewhere] * bool(published.elsewhere)
    for place in places:
        for each in (place / file, place / file.removesuffix(".gz")):
            if each.is_file() and published.contents:  # which its reader checks
                return each
    import pooch  # which checks a file that is there, too, and fetches it again where it is damaged

    try:
        return Path(pooch.retrieve(published.base + file, f"md5:{published.files[file]}", file, home / name))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{name}: {file} is not in {' or '.join(map(str, places))}, and could not be fetched from "
            f"{published.base} ({error}). Put the file into {home / name}, or name another folder by BOOK_DATA."
        ) from error


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """Read an idx file of bytes, gzipped or not: labels (N,) or images (N, H, W), uint8.

    Raises ValueError where it is no such file, or where its unpacked bytes have another SHA-256 than the one given.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     _ = Path(place, "labels").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 9, 0, 7]))
    ...     read_idx(Path(place, "labels")).tolist()
    [9, 0, 7]
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} is damaged: it cannot be unpacked ({error})") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise ValueError(f"{path} is damaged: expected SHA-256 {sha256}, found {found} in its {len(content)} bytes")
    if content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path}: expected an idx file of bytes, which begins 00 00 08, got {content[:4].hex(' ')}")
    axes = content[3]
    shape = tuple(map(int, np.frombuffer(content, ">u4", axes, offset=4)))
    if len(content) != 4 + 4 * axes + math.prod(shape):
        raise ValueError(f"{path}: expected {math.prod(shape)} values for the shape {shape}, got {len(content)} bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_cifar10(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read CIFAR-10's binary archive (Krizhevsky 2009): for "train" and "test" images (N, 3, 32, 32) and labels (N,).

    `path` is the .tar.gz as published, or a folder of its six files; all values are uint8. Raises ValueError where a
    file is missing, is no whole number of records, or has a label above 9.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     for name in sum(CIFAR_FILES.values(), []):
    ...         _ = Path(place, name).write_bytes(bytes(CIFAR_RECORD))
    ...     {part: images.shape for part, (images, labels) in read_cifar10(Path(place)).items()}
    {'train': (5, 3, 32, 32), 'test': (1, 3, 32, 32)}
    """
    read = _from_folder(path) if path.is_dir() else _from_archive(path)
    parts = {}
    for part, names in CIFAR_FILES.items():
        content = b"".join(read(name) for name in names)
        records = np.frombuffer(content, np.uint8)
        if not len(records) or len(records) % CIFAR_RECORD:
            raise ValueError(
                f"{path}, {part}: expected records of {CIFAR_RECORD} bytes, a label and 3 x 32 x 32 pixels, "
                f"got {len(records)} bytes"
            )
        records = records.reshape(-1, CIFAR_RECORD)
        if records[:, 0].max() > 9:
            raise ValueError(f"{path}, {part}: expected labels from 0 to 9, got {records[:, 0].max()}")
        parts[part] = (records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0])
    return parts


def _from_folder(path: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        if not (path / name).is_file():
            raise ValueError(f"{path}: expected the file {name}, got {sorted(each.name for each in path.iterdir())}")
        return (path / name).read_bytes()

    return read


def _from_archive(path: Path) -> Callable[[str], bytes]:
    try:
        with tarfile.open(path) as archive:
            held = {
                Path(each.name).name: archive.extractfile(each).read()
                for each in archive.getmembers()
                if each.isfile() and each.name.endswith(".bin")
            }
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ValueError(f"{path} is damaged: it cannot be unpacked ({error})") from error

    def read(name: str) -> bytes:
        if name not in held:
            raise ValueError(f"{path}: expected the file {name}, got {sorted(held)}")
        return held[name]

    return read
