"""Training shared by several processes: torchrun starts them, each has a part of every batch, and gradients are averaged.

The loop takes a step as if there were one process with the whole batch; what depends on all of a batch is summed over the
processes (`sample.shared_batch`). What lies on GPUs is sent over NCCL, all else over Gloo.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from selfseg.core.errors import TrainingError, UsageError
from selfseg.core.machine import Rank, own_rank
from selfseg.sample.device import Precision, choose_device
from selfseg.sample.shared_batch import Share
from selfseg.sample.stream import Batch

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others, who may be writing a checkpoint or scoring previews."""

FAILED = -1
"""Answer of the first process to the others where its own work has failed."""


@dataclass(frozen=True)
class Processes:
    """The processes that share a training, and this one's part of a batch (a `sample.shared_batch.Share`).

    `place` is which of them this one is; it is alone unless `started_together` has made a group. `empty`: it has no image of the batch.
    """

    place: Rank = field(default_factory=Rank)
    empty: bool = False
    gpus: Any = None
    """How their GPUs speak with each other; None = over the host."""

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.place.world

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.place.rank

    @property
    def first(self) -> bool:
        """True if this process writes files and shows progress."""
        return self.place.first

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes, the same in each."""
        return self._exchanged(values, dist.all_reduce)

    def broadcast(self, values: Tensor, source: int) -> Tensor:
        """Return the `values` of the process `source`."""
        return self._exchanged(values, partial(dist.broadcast, src=source))

    def _exchanged(self, values: Tensor, exchange: Callable[..., Any]) -> Tensor:
        """Return what `exchange` makes of a copy."""
        if self.world == 1:
            return values
        result = values.detach().clone(memory_format=torch.contiguous_format)
        try:
            exchange(result, group=self.gpus if values.is_cuda else None)
        except RuntimeError as error:
            raise TrainingError(
                str(self.place),
                expected="an answer from the others, of which one has ended",
                got=str(error).splitlines()[0][:160],
                fix="see its own message; the checkpoint stays, and the same command with --resume continues from it",
            ) from error
        return result

    def part(self, batch: Batch) -> tuple[Batch, Share | None]:
        """Return this process's part of a batch, and who has the rest; None = nobody.

        Where there are fewer images than processes, some get an image to compute along with, which counts nowhere.
        """
        if self.world == 1:
            return batch, None
        own = batch.share(self.place.rank, self.world)
        return own or batch.first_image(), replace(self, empty=own is None)

    def average_gradients(self, optimizer: Optimizer) -> None:
        """Give every parameter the mean of its gradients over the processes; none where no process has one."""
        if self.world == 1:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        if not parameters:
            return
        kind = torch.promote_types(torch.float32, parameters[0].dtype)
        rows = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        known = torch.tensor([float(p.grad is not None) for p in parameters], dtype=kind, device=parameters[0].device)
        mean = self.all_reduce(torch.cat([known, *(row.reshape(-1).to(kind) for row in rows)])) / self.world
        counts, *pieces = mean.split([len(parameters), *(row.numel() for row in rows)])
        for parameter, count, piece in zip(parameters, counts.tolist(), pieces, strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.copy_(piece.view(parameter.shape))

    def agreed(self, precision: Precision) -> Precision:
        """Return how steps are run where processes share them: all in the same way, and not compiled."""
        if self.world == 1:
            return precision
        (slow,) = self.largest(int(not precision.bf16))
        return replace(precision, bf16=not slow, compiled=False)

    def average(self, values: Sequence[float]) -> list[float]:
        """Return the means of numbers over the processes."""
        if self.world == 1:
            return list(values)
        means: list[float] = (self.all_reduce(torch.tensor(values, dtype=torch.float64)) / self.world).tolist()
        return means

    def largest(self, *values: int) -> tuple[int, ...]:
        """Return the largest of each number over the processes."""
        if self.world == 1:
            return values
        rows = torch.zeros(self.world, len(values), dtype=torch.int64)
        rows[self.place.rank] = torch.tensor(values)
        return tuple(self.all_reduce(rows).max(0).values.tolist())

    def first_does(self, function: Callable[[], int]) -> int:
        """Let the first process do something, the others wait for it; return its answer, 0 or more, in all of them.

        If it raises an error, the others raise `TrainingError`.
        """
        if self.world == 1:
            return function()
        answer = FAILED
        try:
            answer = function() if self.first else 0
        finally:
            answer = int(self.broadcast(torch.tensor([answer]), 0))
        if answer == FAILED and not self.first:
            raise TrainingError(f"{self.place}: stopped, as process 0 has; see the message of process 0")
        return answer

    def check_same(self, digest: str, what: str) -> None:
        """Raise `UsageError` in every process if one has another `what` than the first one, by a digest of hexadecimal digits."""
        own = torch.frombuffer(bytearray.fromhex(digest), dtype=torch.uint8).to(torch.int64)
        differs = int(not torch.equal(self.broadcast(own, 0), own))
        if self.largest(differs)[0]:
            raise UsageError(
                what,
                expected="those of process 0",
                got=f"others in {self.place}" if differs else "others in another process",
                fix="paths and options must lead to the same files on every machine",
            )


@contextlib.contextmanager
def started_together(shared: bool, device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun has started, for the time of the block; not `shared` = this process works alone.

    `UsageError` if they cannot find each other, or do not all have a CPU or each a GPU of its own for the `device` that is asked for.
    """
    place = own_rank() if shared else Rank()
    if place.world == 1:
        yield Processes()
        return
    wish = _wish(place, device)
    try:
        dist.init_process_group("gloo", timeout=TIMEOUT, rank=place.rank, world_size=place.world)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            place,
            expected="the other processes",
            got=str(error).splitlines()[0][:160],
            fix="start all of them with one torchrun command",
        ) from error
    try:
        processes = Processes(place)
        _check_wishes(processes, wish)
        if wish == OWN_GPU and dist.is_nccl_available():
            os.environ.setdefault(
                "TORCH_NCCL_BLOCKING_WAIT", "1"
            )  # a timeout is an error then, not the end of the process
            torch.cuda.set_device(place.local_rank)
            processes = replace(processes, gpus=dist.new_group(backend="nccl", timeout=TIMEOUT))
        yield processes
    finally:
        dist.destroy_process_group()


CPU, OWN_GPU, CROWDED = 0, 1, 2
"""Device of a process: its CPU, a GPU of its own, or it has to share a GPU with another."""


def _wish(place: Rank, device: str) -> int:
    """Return on what this process would compute; `UsageError` if it names one device for all."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            "device",
            expected="auto, cpu or cuda for several processes",
            got=repr(device),
            fix="each takes a GPU of its own with --device cuda",
        )
    if choose_device(device).type == "cpu":
        return CPU
    return OWN_GPU if place.local_world <= torch.cuda.device_count() else CROWDED


def _check_wishes(processes: Processes, wish: int) -> None:
    """Raise the same `UsageError` in every process unless all compute on CPUs, or each on a GPU of its own."""
    most, least = processes.largest(wish, -wish)
    if most == CROWDED:
        raise UsageError(
            "torchrun",
            expected="a GPU for each process",
            got="more processes than GPUs on a machine",
            fix="lower --nproc-per-node, or add --device cpu",
        )
    if most != -least:
        raise UsageError(
            "torchrun",
            expected="one kind of device in all processes",
            got="GPUs in some and CPUs in others",
            fix="add --device cpu or --device cuda",
        )
