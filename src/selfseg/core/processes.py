"""Processes, threads and signals: the rank among processes that learn together, threads that share a loop, stops by Ctrl-C and SIGTERM."""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType
from typing import Any

from selfseg.core.errors import Interrupted


@dataclass(frozen=True)
class Rank:
    """The place of a process among those that torchrun started."""

    rank: int = 0
    """Number of this process, from 0."""
    world: int = 1
    """How many there are in all; 1 = nobody to share with."""
    local_rank: int = 0
    local_world: int = 1
    """The same among those on this machine."""

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


PREEMPTED = 75
"""Exit code after SIGTERM: EX_TEMPFAIL of sysexits.h, "try again later", so that a scheduler can put the job into its queue again."""

STOPS = (signal.SIGINT, signal.SIGTERM)


class Preempted(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C is, from a scheduler."""


@dataclass
class Stop:
    """The stop signal that came, if one did."""

    signal: int | None = None

    def check(self, say: Callable[[str], str]) -> None:
        """Raise `Interrupted` with the exit code of the signal if one came; `say` makes the message of the signal's name."""
        if self.signal is not None:
            raise interruption(say(signal.Signals(self.signal).name), self.signal == signal.SIGTERM)


def interruption(message: str, preempted: bool) -> Interrupted:
    """Return the error that ends a program in good order, after SIGTERM or else after Ctrl-C or an order."""
    error = Interrupted(message)
    if preempted:
        error.exit_code = PREEMPTED
    return error


@contextlib.contextmanager
def noting_stops() -> Iterator[Stop]:
    """Note the first SIGINT or SIGTERM, so that work is not cut in the middle of a step; the second acts at once.

    Signals reach the main thread only: in another one nothing is noted. A signal that the process was told to ignore stays ignored.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN}

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        _handle(before)

    _handle(dict.fromkeys(before, note))
    try:
        yield stop
    finally:
        _handle(before)


@contextlib.contextmanager
def raising_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Preempted`, as SIGINT raises `KeyboardInterrupt`, unless the process was told to ignore it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Preempted

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _handle(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # None: set by something that is not Python, and cannot be set again
            signal.signal(number, handler)
