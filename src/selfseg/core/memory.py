"""The C library's allocator, told to keep large blocks while the same ones are needed again at every step."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

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
