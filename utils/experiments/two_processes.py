"""One batch on two devices: two processes, each with half of it, that average their gradients as PyTorch's DDP does.

The processes are real (gloo, over this machine's loopback), and take a few seconds to start. What they find is kept.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from utils.batchnorm import BatchNorm1d, scale_and_shift
from utils.cache import ROOT, cached
from utils.seeds import torch_rng
from utils.training import SEEDS, Settings, one_thread

NETWORK = Settings("bn", depth=2, width=50, nonlinearity="relu", init="he")
PROCESSES = 2
BATCH_SIZES = (8, 16, 64)  # of the whole batch, which the processes share
ARMS = ("own statistics", "synchronised")
PATIENCE = 120.0  # seconds, for all of it
LOOPBACK = {"linux": "lo", "darwin": "lo0"}  # else gloo asks for the machine's name, which not every network knows
COMMAND = "from utils.experiments.two_processes import process; import sys; process(int(sys.argv[1]), sys.argv[2:])"


# --- the layer --------------------------------------------------------------------------------------------------------


class Total(Function):
    """The sum of a tensor over all processes; what comes back from them is summed as well."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        """Return the sum; every process gets the same bits."""
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        """Return the sum of what comes in, in every process: each one's loss depends on all of `x`."""
        return Total.forward(ctx, grad)


class SyncedBatchNorm1d(BatchNorm1d):
    """BatchNorm1d with the mean and the variance of what all processes hold together, (N, C) each.

    Two rounds: the count and the sum give the mean, then the sum of squares about it gives the variance. In
    evaluation it asks nobody. torch.nn.SyncBatchNorm does the same on graphics cards, and only there.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return values of the shape of `input`."""
        if not self.training:
            return super().forward(input)
        m = Total.apply(input.new_tensor(len(input)))
        mean = Total.apply(input.sum(0)) / m
        centred = input - mean
        var = Total.apply(centred.square().sum(0)) / m
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(var.detach() * m / (m - 1), self.momentum)
        return scale_and_shift(centred * torch.rsqrt(var + self.eps), self.weight, self.bias)


def synchronised(net: nn.Sequential) -> nn.Sequential:
    """Return a copy of the network whose BatchNorm1d layers are synchronised, with the same weights and statistics.

    >>> from utils.networks import mlp
    >>> type(synchronised(mlp([4, 8, 3], "bn"))[1]).__name__
    'SyncedBatchNorm1d'
    """
    net = deepcopy(net)
    for layer in net:
        if isinstance(layer, BatchNorm1d):
            layer.__class__ = SyncedBatchNorm1d  # it keeps all that it has
    return net


# --- one process ------------------------------------------------------------------------------------------------------


def batch_of(settings: Settings, seed: int, size: int) -> tuple[Tensor, Tensor]:
    """The images, in float64, and the labels of a seed's first batch: the same in every process.

    >>> [tuple(part.shape) for part in batch_of(NETWORK, seed=0, size=8)]
    [(8, 64), (8,)]
    """
    x, y, *_ = settings.task()
    chosen = torch.randint(len(x), (size,), generator=torch_rng(seed))
    return x[chosen].double(), y[chosen]


def gradient(net: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    """The gradient of the mean loss over all parameters, in one row.

    >>> gradient(NETWORK.network(0).double(), *batch_of(NETWORK, 0, 8)).shape
    (6410,)
    """
    net.zero_grad()
    F.cross_entropy(net(x), y).backward()
    return torch.cat([parameter.grad.flatten() for parameter in net.parameters()]).numpy()


def process(rank: int, told: Sequence[str]) -> None:
    """What each of the processes does; `told` are the folder that they meet in and how many seeds.

    Process 0 leaves what it found there. Called by :func:`gradients`, in processes of its own.

    >>> process(0, ["no folder"])
    Traceback (most recent call last):
    ValueError: not enough values to unpack (expected 2, got 1)
    """
    folder, seeds = told
    from torch.nn.parallel import DistributedDataParallel  # takes seconds to load

    torch.set_num_threads(1)
    store = (Path(folder) / "store").as_uri()
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=PROCESSES, timeout=timedelta(seconds=PATIENCE)
    )
    found = {f"{arm}, {size}": [] for arm in ARMS for size in BATCH_SIZES}
    for seed in range(int(seeds)):
        net = NETWORK.network(seed).double()
        for arm, own in zip(ARMS, (net, synchronised(net)), strict=True):
            shared = DistributedDataParallel(own)
            for size in BATCH_SIZES:
                half = [each.chunk(PROCESSES)[rank] for each in batch_of(NETWORK, seed, size)]
                found[f"{arm}, {size}"].append(gradient(shared, *half))
    if rank == 0:
        np.savez(Path(folder) / "found.npz", **found)
    dist.destroy_process_group()


# --- all of them ------------------------------------------------------------------------------------------------------


class Gradients(NamedTuple):
    """The gradients of one batch, found in two processes and in one: (seeds, parameters) each, in float64."""

    own: np.ndarray  # each process normalises by its half of the batch
    synchronised: np.ndarray  # both normalise by the whole batch
    whole: np.ndarray  # one process has all of it
    halves: np.ndarray  # one process sends one half after the other, and takes the mean of the two gradients


@cached
def gradients(seeds: int = SEEDS) -> dict[int, Gradients]:
    """The gradients of untrained networks for a batch of each of :data:`BATCH_SIZES`, half of it in each process.

    >>> found = gradients()[16]
    >>> bool(np.allclose(found.synchronised, found.whole)), bool(np.allclose(found.own, found.whole))
    (True, False)

    Raises RuntimeError where a process fails or both take too long.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        in_processes(COMMAND, [folder, str(seeds)], Path(folder))
        with np.load(Path(folder) / "found.npz") as file:
            found = dict(file)
    return {
        size: Gradients(
            *(found[f"{arm}, {size}"] for arm in ARMS),
            np.array([_in_one(seed, size, 1) for seed in range(seeds)]),
            np.array([_in_one(seed, size, PROCESSES) for seed in range(seeds)]),
        )
        for size in BATCH_SIZES
    }


@one_thread()
def _in_one(seed: int, size: int, parts: int) -> np.ndarray:
    """The gradient of the same batch in this one process, in so many parts."""
    net, (x, y) = NETWORK.network(seed).double(), batch_of(NETWORK, seed, size)
    return np.mean([gradient(net, *part) for part in zip(x.chunk(parts), y.chunk(parts), strict=True)], 0)


def in_processes(command: str, told: Sequence[str], folder: Path, patience: float = PATIENCE) -> None:
    """Run a Python command in as many processes at once, with the rank and `told` as its arguments, and await them.

    >>> with TemporaryDirectory() as folder:
    ...     in_processes("import sys; sys.exit('one is enough' if sys.argv[1] == '1' else 0)", [], Path(folder))
    Traceback (most recent call last):
    RuntimeError: process 1 of 2 failed: one is enough

    Raises RuntimeError where one fails, with the last line of what it said, or where they take longer than `patience`
    seconds. None of them outlives the call.
    """
    own = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    if sys.platform in LOOPBACK:
        own.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[sys.platform])
    started, logs = [], [folder / f"{rank}.log" for rank in range(PROCESSES)]
    try:
        for rank, log in enumerate(logs):
            with log.open("wb") as stream:
                call = [sys.executable, "-c", command, str(rank), *told]
                started.append(subprocess.Popen(call, env={**os.environ, **own}, stdout=stream, stderr=stream))
        _await(started, logs, patience)
    finally:
        for each in started:
            each.kill()  # does nothing where it has ended
            each.wait()


def _await(started: Sequence[subprocess.Popen], logs: Sequence[Path], patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        codes = [each.poll() for each in started]
        for rank, code in enumerate(codes):
            if code:
                said = logs[rank].read_text(encoding="utf-8", errors="replace").strip().splitlines() or [f"code {code}"]
                raise RuntimeError(f"process {rank} of {len(started)} failed: {said[-1]}")
        if all(code == 0 for code in codes):
            return
        if time.monotonic() > end:
            raise RuntimeError(f"{len(started)} processes: expected an end within {patience:g} seconds")
        time.sleep(0.02)
