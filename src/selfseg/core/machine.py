"""Resources of the machine: memory and threads, a rank among processes that learn together, and the signals that stop it."""

import contextlib
import ctypes
import hashlib
import itertools
import os
import pickle
import re
import signal
import stat
import sys
import tempfile
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

from selfseg.core.errors import Interrupted, UsageError

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
    except ImportError:  # Windows
        import psutil

        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
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
    """Return the number of bytes that ``"2GB"``, ``"500 MB"``, ``"1.5GiB"`` or ``"2g"`` means.

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
        """True if this is the process that prints and writes."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world}"


def own_rank() -> Rank:
    """Return the rank from torchrun's environment; that of a process alone where torchrun did not start it."""
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


SHARES = 32
"""Shares into which work is cut, whatever the number of threads, so that sums over shares are the same with any."""


def run_shared(
    kernel: Callable[..., Any], n: int, *args: Any, parts: int | None = None, threads: int | None = None
) -> list[Any]:
    """Call ``kernel(start, stop, *args)`` over shares of ``range(n)``, by several threads, and return the results in order.

    `kernel` must release the interpreter lock (`compiled`) to gain from this, and its shares must not write to the same elements.
    Results that are summed in order are the same with any number of threads: it does not decide where the shares end.

    Parameters
    ----------
    parts
        Number of shares; None = `SHARES`.
    threads
        Most threads; None = `n_threads`.
    """
    shares = share(n, parts or SHARES)

    def work(first: int, last: int) -> list[Any]:
        return [kernel(start, stop, *args) for start, stop in shares[first:last]]

    spans = share(len(shares), threads or n_threads())
    if len(spans) == 1:
        return work(0, len(shares))
    futures = [_pool(len(spans)).submit(work, first, last) for first, last in spans]
    return [result for future in futures for result in future.result()]


def compiled(inner: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function with numba, without the interpreter lock, and keep the machine code on disk where that can be done.

    `options` are those of ``numba.njit``; with `inner`, only other kernels can call the function, and no entry for Python is compiled.
    Where neither the package's folder nor the home folder can be written, the code is kept in a temporary folder, with a warning, and
    else in memory. What cannot be stored or read again is compiled anew: a full disk or a damaged file of the cache is no reason to fail.
    """
    import numba

    # An entry for C has no use, and takes time to compile.
    wanted: Any = {"nogil": True, "no_cfunc_wrapper": True, "no_cpython_wrapper": inner, **options}

    def compile_later(function: Callable[..., Any]) -> Any:
        kernel = numba.njit(**wanted)(function)
        config: Any = numba.config
        if not config.DISABLE_JIT:
            kernel._cache = _kernel_cache(function)  # what its own option for it does, with a cache that forgives
        return kernel

    return compile_later


def _kernel_cache(function: Callable[..., Any]) -> Any:
    import numba
    from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

    config: Any = numba.config

    class KernelFiles(IndexDataCacheFile):
        """The files of one function's cache, which several processes may write at once.

        Numba numbers the files of the signatures, from an index that another process may be writing: two signatures then share a
        file, and one is run with the code of the other. Here a file is named by its signature and the state of the source.
        """

        def save(self, key: Any, data: Any) -> None:
            name = self._data_name(int(hashlib.sha256(self._dump((self._source_stamp, key))).hexdigest()[:15], 16))  # type: ignore[no-untyped-call]
            self._save_data(name, data)  # type: ignore[no-untyped-call]
            self._save_index(self._load_index() | {key: name})  # type: ignore[no-untyped-call]

    class KernelCache(FunctionCache):
        """Numba's cache of one function, whose faults mean that the function is compiled anew."""

        def __init__(self, function: Callable[..., Any]) -> None:
            super().__init__(function)  # type: ignore[no-untyped-call]
            stamp = self._impl.locator.get_source_stamp()
            self._cache_file = KernelFiles(self._cache_path, self._impl.filename_base, stamp)  # type: ignore[no-untyped-call]

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
            except Exception:  # noqa: BLE001 (a file that was cut gives errors of any kind)
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            with contextlib.suppress(OSError):
                try:
                    super().save_overload(sig, data)  # type: ignore[no-untyped-call]
                except (pickle.PickleError, EOFError, ValueError):  # the index is damaged
                    self.flush()  # type: ignore[no-untyped-call]
                    super().save_overload(sig, data)  # type: ignore[no-untyped-call]

    with contextlib.suppress(RuntimeError):  # no folder of numba's can be written
        return KernelCache(function)
    with contextlib.suppress(RuntimeError, OSError):
        config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = _own_temporary_folder()  # child processes use it too
        return KernelCache(function)
    return NullCache()


@lru_cache(maxsize=1)
def _own_temporary_folder() -> str:
    """Return a folder for compiled kernels below the system's temporary one that nobody else can write into; say so once."""
    path = Path(tempfile.gettempdir()) / f"selfseg-kernels-{getattr(os, 'getuid', os.getpid)()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    mine = not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o077)
    folder = str(path) if mine and stat.S_ISDIR(status.st_mode) else tempfile.mkdtemp(prefix="selfseg-kernels-")
    warnings.warn(
        f"compiled kernels are kept in {folder}: neither the installation nor the home folder can be written; "
        "set NUMBA_CACHE_DIR to a writable folder to keep them for good",
        RuntimeWarning,
        stacklevel=2,
    )
    return folder


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

    Signals reach the main thread only: in another one nothing is noted. A signal that the process ignores stays ignored.
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
    """Let SIGTERM raise `Preempted`, as SIGINT raises `KeyboardInterrupt`, unless the process ignores it."""

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
