"""Processes and threads: the rank among processes that learn together, and threads that share a loop."""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class Rank:
    """The place of a process among those that torchrun started.

    Attributes
    ----------
    rank
        Number of this process, from 0.
    world
        How many there are in all; 1 = nobody to share with.
    local_rank, local_world
        The same among those on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world}"


def own_rank() -> Rank:
    """Return the place that torchrun's environment says; that of a process alone where torchrun did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Rank()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Rank(
        *(int(os.environ.get(name, default)) for name, default in zip(names, ("0", "1", "0", "1"), strict=True))
    )


def n_threads() -> int:
    """Return the number of threads that kernels use: ``SELFSEG_THREADS``, else the cores this process may run on, divided by
    the processes that torchrun has started here."""
    asked = os.environ.get("SELFSEG_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // own_rank().local_world)


@lru_cache(maxsize=4)
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="selfseg")


def share(n: int, parts: int) -> list[tuple[int, int]]:
    """Cut ``range(n)`` into at most `parts` contiguous, nearly equal, non-empty ranges ``(start, stop)``."""
    parts = max(1, min(parts, n))
    bounds = [n * i // parts for i in range(parts + 1)]
    return list(itertools.pairwise(bounds))


def run_shared(kernel: Callable[..., Any], n: int, *args: Any, parts: int | None = None) -> list[Any]:
    """Call ``kernel(start, stop, *args)`` over shares of ``range(n)``, one thread a share, and return the results in order.

    `kernel` must release the interpreter lock (``numba.njit(nogil=True)``) to gain from this, and its shares must not
    write to the same elements. Results that are summed in order are the same in every run on the same thread count.
    """
    shares = share(n, parts or n_threads())
    if len(shares) == 1:
        return [kernel(0, n, *args)]
    futures = [_pool(len(shares)).submit(kernel, start, stop, *args) for start, stop in shares]
    return [future.result() for future in futures]
