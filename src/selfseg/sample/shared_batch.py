"""A batch whose images lie in several processes: what is summed over it, or drawn for it, is of all of it.

Each process computes its part of every loss, and the loop takes the mean of the gradients over the processes. So

- a loss that is a mean over N items, of which this process has n, counts here by ``n P / N`` with P processes: `own_weight`;
- a loss that is a function of sums over the batch is computed from their `total` everywhere, and counts everywhere by 1.

Without a `Share` all of this is what it is in a process alone.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor


class Share(Protocol):
    """The part of a batch that this process has, and the others that have the rest."""

    @property
    def world(self) -> int:
        """Number of processes P."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0; it has the images that follow those of the process before."""

    @property
    def empty(self) -> bool:
        """True if this process has no image of the batch: it computes along with one that counts nowhere."""

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum over all processes; the same in each."""

    def broadcast(self, values: Tensor, source: int) -> Tensor:
        """Return what the process `source` has given."""


_share: ContextVar[Share | None] = ContextVar("share", default=None)


@contextlib.contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Let batches be shared within the block; None = they are this process's alone."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def current_share() -> Share | None:
    """Return this process's part of the batch, for what computes its gradients itself; None = all of it."""
    return None if torch.compiler.is_compiling() else _share.get()  # networks are compiled in a process alone


def is_shared() -> bool:
    """Return whether other processes have images of the batch."""
    return current_share() is not None


def total(values: Tensor) -> Tensor:
    """Return the sum of `values` over all processes, with its gradient; `values` themselves in a process alone."""
    share = current_share()
    if share is None:
        return values
    result: Tensor = _Total.apply(values, share)
    return result


def own_weight(n: float | Tensor) -> float:
    """Return by how much a mean over `n` items of this process counts, ``n P / N``; 1 in a process alone."""
    share = current_share()
    if share is None:
        return 1.0
    own = 0.0 if share.empty else float(n)
    everywhere = float(share.all_reduce(torch.tensor([own], dtype=torch.float64)))
    return own * share.world / everywhere if everywhere else 0.0


def own_part(value: Tensor, n: float | Tensor) -> Tensor:
    """Return the part that a mean over `n` items of this process has in the mean over all (`own_weight`)."""
    return value * own_weight(n) if is_shared() else value


def total_mean(mean: Tensor, n: float | Tensor) -> Tensor:
    """Return the mean ``[C]`` over all processes, of that over the `n` items of this one, with its gradient."""
    if not is_shared():
        return mean
    sums, count = _weighted(mean.double(), n)
    return (sums / count).to(mean.dtype)


def largest(values: Sequence[int]) -> list[int]:
    """Return the largest of each number over all processes."""
    share = current_share()
    if share is None:
        return list(values)
    table = torch.zeros(share.world, len(values), dtype=torch.int64)
    table[share.rank] = torch.tensor(values)
    found: list[int] = share.all_reduce(table).max(0).values.tolist()
    return found


def total_moments(mean: Tensor, variance: Tensor, n: int | Tensor) -> tuple[Tensor, Tensor, int | Tensor]:
    """Return mean and biased variance ``[C]`` over all processes and the number of values, of those over `n` values in this one.

    With gradients; in float64, in which the difference of squares loses nothing that float32 had.
    """
    if not is_shared():
        return mean, variance, n
    m, v = mean.double(), variance.double()
    sums, count = _weighted(torch.cat([m, v + m.square()]), n)
    whole, square = (sums / count).chunk(2)
    return whole.to(mean.dtype), (square - whole.square()).clamp(min=0).to(variance.dtype), count


def _weighted(means: Tensor, n: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of n times float64 `means` over all processes, and that of n, at least 1."""
    count = torch.as_tensor(n, dtype=means.dtype, device=means.device).reshape(1)
    sums = total(torch.cat([means * count, count]))
    return sums[:-1], sums[-1].detach().clamp(min=1)


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Let the processes draw from torch's generator one after the other, as one process would draw for image after image.

    Its state goes from process to process; after the block it is the same in each.
    """
    share = current_share()
    if share is None:
        yield
        return
    for source in range(share.rank):
        torch.set_rng_state(share.broadcast(torch.get_rng_state(), source))
    before = torch.get_rng_state()
    yield
    if share.empty:  # what is drawn for an image that counts nowhere is not drawn
        torch.set_rng_state(before)
    for source in range(share.rank, share.world):
        torch.set_rng_state(share.broadcast(torch.get_rng_state(), source))


class _Total(torch.autograd.Function):
    """Each process's result depends on the values of all: so does each one's gradient on all results."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, share: Share) -> Tensor:
        ctx.share = share
        return share.all_reduce(torch.zeros_like(values) if share.empty else values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = ctx.share.all_reduce(gradient)
        return torch.zeros_like(whole) if ctx.share.empty else whole, None
