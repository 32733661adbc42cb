"""The data are what their documentation says, need no network, and are never read damaged."""

import hashlib
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from utils import data

EVERY = [
    pytest.param(data.digits, id="digits"),
    pytest.param(data.fashion_mnist, id="fashion_mnist"),
    pytest.param(lambda: data.fashion_mnist(size=14), id="fashion_mnist_14"),
]


def hashes(x):
    """The set of the digests of the rows of `x`."""
    return {hashlib.sha256(row.tobytes()).hexdigest() for row in x.numpy()}


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the images' file that a test may damage, with nothing in the cache."""
    path = tmp_path / "fashion_mnist.npz"
    path.write_bytes(data.FASHION_MNIST.read_bytes())
    monkeypatch.setattr(data, "FASHION_MNIST", path)
    data._read.cache_clear()
    yield path
    data._read.cache_clear()


@pytest.mark.parametrize(
    ("load", "train", "test"),
    [
        (data.digits, (1437, 64), (360, 64)),
        (data.fashion_mnist, (10_000, 1, 28, 28), (2000, 1, 28, 28)),
        (lambda: data.fashion_mnist(size=14), (10_000, 1, 14, 14), (2000, 1, 14, 14)),
    ],
    ids=["digits", "fashion_mnist", "fashion_mnist_14"],
)
def test_shapes_and_types(load, train, test):
    x_train, y_train, x_test, y_test = load()
    assert (x_train.shape, x_test.shape) == (train, test)
    assert (y_train.shape, y_test.shape) == (train[:1], test[:1])
    assert x_train.dtype == x_test.dtype == torch.float32
    assert y_train.dtype == y_test.dtype == torch.int64


@pytest.mark.parametrize("load", EVERY)
def test_ranges(load):
    x_train, y_train, x_test, y_test = load()
    for x in (x_train, x_test):
        assert x.min() == 0
        assert 0.9 < x.max() <= 1
    for y in (y_train, y_test):
        assert y.unique().tolist() == list(range(10))


def test_fashion_mnist_is_balanced():
    split = data.fashion_mnist()
    assert split.y_train.bincount().tolist() == [1000] * 10
    assert split.y_test.bincount().tolist() == [200] * 10
    assert len(data.CLASSES) == 10


def test_digits_are_stratified():
    split = data.digits()
    train, test = split.y_train.bincount(), split.y_test.bincount()
    share = 360 / 1797
    assert ((test - share * (train + test)).abs() < 1).all()


@pytest.mark.parametrize("load", EVERY)
def test_no_image_is_in_both_parts_and_none_is_there_twice(load):
    split = load()
    train, test = hashes(split.x_train), hashes(split.x_test)
    assert not train & test
    assert (len(train), len(test)) == (len(split.x_train), len(split.x_test))


def test_the_digits_are_scikit_learns_and_so_is_their_split():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=360, stratify=y, random_state=0)
    for ours, theirs in zip(data.digits(), (x_train / 16, y_train, x_test / 16, y_test), strict=True):
        assert np.array_equal(ours.numpy(), theirs)


def test_size_14_is_the_mean_of_2x2_pixels():
    large, small = data.fashion_mnist(size=28), data.fashion_mnist(size=14)
    means = large.x_test.reshape(2000, 1, 14, 2, 14, 2).mean(dim=(3, 5))
    torch.testing.assert_close(small.x_test, means)
    assert torch.equal(small.y_train, large.y_train)


@pytest.mark.parametrize("size", [0, 7, 32, "28"])
def test_another_size_is_an_error(size):
    with pytest.raises(ValueError, match="size must be 28 or 14"):
        data.fashion_mnist(size=size)


@pytest.mark.parametrize("load", EVERY)
def test_every_call_gives_the_same_and_nobody_can_spoil_it(load):
    first = load()
    kept = [tensor.clone() for tensor in first]
    for tensor in first:
        tensor.fill_(7)
    assert all(torch.equal(again, before) for again, before in zip(load(), kept, strict=True))


def test_the_split_of_the_digits_is_this_one():
    split = data.digits()
    order = torch.cat([split.y_train, split.y_test]).numpy()
    assert order[:10].tolist() == [3, 9, 1, 3, 1, 9, 4, 4, 2, 8]
    assert hashlib.sha256(order.astype("<i8").tobytes()).hexdigest().startswith("7994555514f84aea")


def test_a_flipped_byte_is_found(copied):
    content = bytearray(copied.read_bytes())
    content[1_000_000] ^= 1
    copied.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged") as error:
        data.fashion_mnist()
    found = hashlib.sha256(content).hexdigest()
    for part in (str(copied), data.SHA256["fashion_mnist.npz"], found, f"git checkout -- {copied}"):
        assert part in str(error.value)


@pytest.mark.parametrize("kept", [0, 1000, 5_000_000])
def test_a_truncated_file_is_found(copied, kept):
    copied.write_bytes(copied.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"in its {kept} bytes. To get it back: git checkout"):
        data.fashion_mnist()


def test_a_missing_file_is_named(copied):
    copied.unlink()
    with pytest.raises(FileNotFoundError, match="is missing") as error:
        data.fashion_mnist()
    for part in (str(copied), data.SHA256["fashion_mnist.npz"], f"git checkout -- {copied}"):
        assert part in str(error.value)


def test_an_error_is_not_remembered(copied):
    content = copied.read_bytes()
    copied.unlink()
    with pytest.raises(FileNotFoundError):
        data.fashion_mnist()
    copied.write_bytes(content)
    assert len(data.fashion_mnist().x_test) == 2000


def test_the_file_is_about_5_mb_and_its_documentation_names_its_checksum():
    assert 4e6 < data.FASHION_MNIST.stat().st_size < 6e6
    folder = data.FASHION_MNIST.parent
    assert data.SHA256["fashion_mnist.npz"] in (folder / "README.md").read_text(encoding="utf-8")
    assert "Zalando SE" in (folder / "LICENSE").read_text(encoding="utf-8")


WATCH = """
import sys
import numpy, torch
seen = []
sys.addaudithook(lambda event, args: seen.append((event, str(args[:1]))))
import utils.data
read = [args for event, args in seen if event == "open" and ".py" not in args]
assert not read, read
assert "sklearn" not in sys.modules
utils.data.digits(), utils.data.fashion_mnist()
assert "sklearn" not in sys.modules
assert any(event == "open" and "fashion_mnist.npz" in args for event, args in seen)
touched = [event for event, args in seen if event.startswith("socket.")]
assert not set(touched) - {"socket.__new__"}, touched
"""


def test_importing_reads_nothing_and_loading_asks_no_network():
    child = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, encoding="utf-8")
    assert child.returncode == 0, child.stderr


def test_loading_works_where_no_socket_can_be_made(copied, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    data._read.cache_clear()
    assert len(data.digits().x_test) == 360
    assert len(data.fashion_mnist().x_test) == 2000


def test_the_subset_takes_the_first_of_each_class(tmp_path):
    path = data.FASHION_MNIST.with_name("make.py")
    spec = importlib.util.spec_from_file_location("make_fashion_mnist", path)
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    labels = np.array([3, 1, 1, 3, 3, 1, 1, 2])
    assert make.first_of_each(labels, 2).tolist() == [0, 1, 2, 3, 7]
    forged = tmp_path / "t10k-labels-idx1-ubyte.gz"
    forged.write_bytes(make.gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 1, 5])))
    with pytest.raises(ValueError, match="is not the file"):
        make.read_idx(forged)
