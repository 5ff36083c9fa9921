"""Jobs of a benchmark in worker processes: one that dies costs its own job alone, and none outlives the one that started it."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from typing import Any

from selfseg.benchmark.jobs import BenchmarkJob, run_job
from selfseg.core.errors import SelfsegError
from selfseg.core.machine import n_threads

Row = dict[str, Any]

THREAD_VARIABLES = (*(f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")), "SELFSEG_THREADS")

DIED = (
    "its process died, alone as it was: expected a row, got none; if the memory did not suffice, use a machine with more of it, "
    "or a smaller image"
)


def in_processes(
    jobs: list[BenchmarkJob], workers: int, do: Callable[[BenchmarkJob], Row] = run_job
) -> Generator[tuple[BenchmarkJob, Row | str], None, None]:
    """Yield each job with its row, or with the line that says why there is none.

    When a worker dies, which of the jobs under way killed it is not known, nor whether it was the memory that they took
    together. So what is left is tried with half as many workers at a time, down to one: a job that dies alone is named, and the
    others go on.

    Parameters
    ----------
    workers
        Processes at a time, at most.
    do
        What makes a row; a function that a new process can import.
    """
    left, at_a_time = list(jobs), workers
    while left:
        lost = set()
        with closing(_one_pool(left, at_a_time, do)) as outcomes:
            for job, outcome in outcomes:
                if outcome is None:
                    lost.add(job)
                else:
                    yield job, outcome
        left = [job for job in left if job in lost]
        if left and at_a_time > 1:
            at_a_time //= 2
        elif left:
            yield left.pop(0), DIED  # one process takes them in their order
            at_a_time = workers


def _one_pool(
    jobs: list[BenchmarkJob], workers: int, do: Callable[[BenchmarkJob], Row]
) -> Generator[tuple[BenchmarkJob, Row | str | None], None, None]:
    """Yield each job with its row, with why there is none, or with None where a worker died before it was done."""
    context = multiprocessing.get_context("spawn")  # torch and its threads do not survive a fork
    threads = max(1, n_threads() // workers)
    others = set(multiprocessing.active_children())
    with _threads_of_workers(threads):
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,))
        try:
            futures: dict[Future[Row], BenchmarkJob] = {pool.submit(do, job): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], _outcome(future)
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()  # rows are whole or absent, and the next command makes those that are absent
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _outcome(future: "Future[Row]") -> Row | str | None:
    error = future.exception()
    if error is None:
        return future.result()
    return None if isinstance(error, BrokenProcessPool) else reason(error)


def reason(error: BaseException) -> str:
    """Return the line that says what went wrong."""
    return str(error) if isinstance(error, SelfsegError) else " ".join(f"{type(error).__name__}: {error}".split())


def _start_worker(threads: int) -> None:
    import signal

    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker at once: rows are whole or absent
    # Meant for all of a job's processes, but the one that handed out the jobs ends us.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this worker when the process that hands out the jobs is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _threads_of_workers(threads: int) -> Iterator[None]:
    """Set the variables that libraries read when a worker starts, and put them back."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
