"""Memory: how much there is and how much is taken, given back or kept for images that are wanted again."""

import contextlib
import ctypes
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from selfseg.core.errors import UsageError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc
DEFAULTS = ((M_TRIM_THRESHOLD, 128 * 1024), (M_TOP_PAD, 128 * 1024), (M_MMAP_MAX, 65536))
KEEP = ((M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * 2**20), (M_MMAP_MAX, 0))


@contextlib.contextmanager
def reusing_memory() -> Iterator[None]:
    """Keep freed memory in the process for the time of the block, then give it back to the system.

    By default glibc maps every large block anew and unmaps it when it is freed, so that each tensor of each step pays for
    its pages again: more than half of a training step on a CPU (`docs/benchmark.md`). Where the C library is another one,
    this does nothing.
    """
    library = _glibc()
    if library is None:
        yield
        return
    for option, value in KEEP:
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in DEFAULTS:
            library.mallopt(option, value)
        library.malloc_trim(0)


def give_back_memory() -> None:
    """Give freed memory back to the system, within `reusing_memory` too: it is cut into pieces there, and grows slowly."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt, library.malloc_trim  # noqa: B018 (asks whether they exist)
    except (OSError, AttributeError):
        return None
    return library


def peak_memory() -> int:
    """Return the largest resident memory that this process has had, in bytes; 0 where the system does not say.

    After `reset_peak_memory`: the largest since then.
    """
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    try:
        import resource
    except ImportError:
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def reset_peak_memory() -> bool:
    """Let `peak_memory` count from now on; return whether the system can (Linux does)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(text: str) -> int:
    """Return the number of bytes that ``"2GB"``, ``"500 MB"``, ``"1.5GiB"`` or ``"2g"`` says.

    Raise `UsageError` if it is no amount of memory.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", text.upper())
    n_bytes = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    if n_bytes < 1:
        raise UsageError("memory", expected="an amount such as 2GB or 500MB", got=repr(text), fix="check it")
    return n_bytes


def free_memory() -> int:
    """Return the bytes that this process may still take: what is free on the machine, and in its control group."""
    import psutil

    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))  # the word "max" is no limit
        free = min(free, limit - int((group / "memory.current").read_text(encoding="ascii")))
    return max(free, 0)


def resident_memory() -> int:
    """Return the bytes of memory that this process has now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


T = TypeVar("T")


class LRUCache(Generic[T]):
    """Values by key, up to a sum of sizes (`limit`, in any unit); one value is always kept. Threads may share it."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        """Return what is kept for `key`, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: T, size: int) -> T:
        """Keep a value and return it."""
        with self._lock:
            self._size += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            self._shrink(1)
        return value

    def get_or_make(self, key: Hashable, size: int, make: Callable[[], T]) -> T:
        """Return what is kept for `key`, made now if there is nothing."""
        found = self.get(key)
        return self.put(key, make(), size) if found is None else found

    def trim(self) -> None:
        """Drop a last value that is larger than the limit by itself, before another one is made."""
        with self._lock:
            self._shrink(0)

    def _shrink(self, kept: int) -> None:
        while self._size > self._limit and len(self._values) > kept:
            self._size -= self._values.popitem(last=False)[1][1]
