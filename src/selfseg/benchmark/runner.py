"""All jobs of a benchmark, in worker processes: rows that are there are kept, a worker that dies costs its own job alone."""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfseg.benchmark.jobs import BenchmarkJob, Contender, JobContext, list_items, run_job
from selfseg.core.errors import Interrupted, SelfsegError, UsageError
from selfseg.core.files import clear_unfinished, write_json
from selfseg.core.machine import PREEMPTED, Preempted, interruption, n_threads
from selfseg.core.progress import Progress, Silent
from selfseg.methods.base import find_method
from selfseg.read.datasets import find_dataset
from selfseg.read.datasets._base import Item

Row = dict[str, Any]

THREAD_VARIABLES = (*(f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")), "SELFSEG_THREADS")

DIED = (
    "its process died, alone as it was: expected a row, got none; if the memory did not suffice, use a machine with more of it, "
    "or a smaller image"
)


@dataclass(frozen=True)
class BenchmarkPlan:
    """Contenders and images of a benchmark."""

    place: JobContext
    """Dataset, split, folders."""
    contenders: tuple[Contender, ...]
    """Methods and baselines to compare."""
    seeds: tuple[int, ...] = (0,)
    """One run a seed for methods and for baselines alike."""
    limit: int | None = None
    """Most images to use, evenly spread over the split; None = all."""
    n_classes: int | None = None
    """Exact number of classes; None = that of the dataset."""
    train: str | None = None
    """Split to fit each method on, once a seed, ``NAME`` or ``NAME:COUNT``; None = one model an image."""
    curve: bool = False
    """Score boundaries at every scale."""
    workers: int | None = None
    """Processes; None = one a core, with one thread each; 1 = this process, with all threads."""

    def items(self) -> list[str]:
        """Return the names of the images that are used."""
        return evenly([item.name for item in list_items(self.place)], self.limit)

    def jobs(self) -> list[BenchmarkJob]:
        """Return all jobs: baselines and quick methods first, so that the table fills early."""
        classes = self.n_classes if self.n_classes is not None else find_dataset(self.place.dataset).n_classes
        jobs = []
        for contender in sorted(self.contenders, key=lambda one: one.is_method):
            for seed in self.seeds:
                model = model_folder(self, contender, seed) if self.train and contender.is_method else None
                for item in self.items():
                    jobs.append(BenchmarkJob(self.place, contender, item, seed, classes, model, self.curve))
        return jobs


@dataclass
class Rows:
    """The rows of a benchmark: `rows` by job order, and what failed: contender and image, and why."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def run(plan: BenchmarkPlan, progress: Progress | None = None) -> Rows:
    """Run every job that has no row yet.

    InputError if the dataset is not there. UsageError if `limit` or `workers` is below 1, or a method needs labels and has
    none. Interrupted after Ctrl-C or SIGTERM; the rows that are done stay.
    """
    if plan.workers is not None and plan.workers < 1:
        raise UsageError("--workers", expected="1 or more", got=str(plan.workers), fix="leave it out for one a core")
    _check_supervised(plan)
    progress = progress or Silent()
    clear_unfinished(plan.place.out, ("rows", "labels", "sheets", "models"))
    jobs = plan.jobs()
    done = {job: row for job in jobs if (row := job.done()) is not None}
    todo = [job for job in jobs if job not in done]
    if done:
        progress.say(f"{len(done)} of {len(jobs)} rows are there already")
    result, failed = Rows(), {}
    workers = max(1, min(plan.workers or n_threads(), len(todo) or 1))
    try:
        fit_models(plan, todo, progress)
        progress.start("benchmark", len(jobs), len(done))
        with closing(in_processes(todo, workers) if workers > 1 else _one_by_one(todo)) as outcomes:
            for job, outcome in outcomes:
                if isinstance(outcome, str):
                    failed[job] = outcome
                    progress.say(f"{job.contender.title}, {job.item}: {outcome}")
                else:
                    done[job] = outcome
                progress.update(len(done) + len(failed), {})
    except (KeyboardInterrupt, Interrupted) as error:
        preempted = isinstance(error, Preempted) or getattr(error, "exit_code", 0) == PREEMPTED
        message = f"stopped after {len(done)} of {len(jobs)} rows; the same command continues"
        raise interruption(message, preempted) from None
    finally:
        progress.finish()
    result.rows = [done[job] for job in jobs if job in done]
    result.failures = [(f"{job.contender.title}, {job.item}", failed[job]) for job in jobs if job in failed]
    return result


def fit_models(plan: BenchmarkPlan, todo: list[BenchmarkJob], progress: Progress) -> None:
    """Fit the models that jobs want and that are not there, each on the training split; continue one that was interrupted."""
    wanted = dict.fromkeys(
        (job.contender.unrefined, job.seed, job.n_classes, job.model) for job in todo if job.model is not None
    )
    for contender, seed, n_classes, folder in wanted:
        stamp = {"settings": contender.settings(), "seed": seed, "n_classes": n_classes, "train": plan.train}
        file = folder / "benchmark.json"
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")) == json.loads(json.dumps(stamp)):
            continue
        split, _, count = (plan.train or "").partition(":")
        items = list_items(JobContext(plan.place.dataset, split, plan.place.data, plan.place.out))
        names = set(evenly([item.name for item in items], int(count) if count else None))
        chosen = [item for item in items if item.name in names]
        progress.say(f"{contender.title}: learning from {len(chosen)} images of {split}")
        images, told = [item.load_image() for item in chosen], _labels(contender, plan.place.dataset, chosen)
        model = contender.model(None if told else n_classes, seed)  # the classes are those of the labels
        try:
            model.fit(images, out=folder, resume=True, progress=progress, **told)
        except UsageError:  # what is there was begun with other settings
            model.fit(images, out=folder, overwrite=True, progress=progress, **told)
        write_json(file, stamp)


def _labels(contender: Contender, dataset: str, items: list[Item]) -> dict[str, Any]:
    """Return the truth of training images for a method that cannot learn without, and nothing for any other."""
    if not find_method(contender.name).needs_annotations:
        return {}
    meaning = "objects" if find_dataset(dataset).task == "instances" else "full"
    return {"labels": [item.load_truths()[0] for item in items], "labels_as": meaning}


def _check_supervised(plan: BenchmarkPlan) -> None:
    """Refuse methods that need labels where they could only learn from what they are scored on, or from many opinions."""
    supervised = [one.name for one in plan.contenders if one.is_method and find_method(one.name).needs_annotations]
    if not supervised:
        return
    if plan.train is None:
        raise UsageError(
            "--train",
            expected=f"a split for {supervised[0]}",
            got="nothing",
            fix="give a split to learn from, for example --train train",
        )
    task = find_dataset(plan.place.dataset).task
    if task in ("partition", "none"):
        raise UsageError(
            supervised[0],
            expected="a dataset whose truth names classes or objects",
            got=f"{plan.place.dataset} ({task})",
            fix="leave it out",
        )


def model_folder(plan: BenchmarkPlan, contender: Contender, seed: int) -> Path:
    """Return the folder of the model that a contender learns from the training split, whatever its refinement."""
    trained = (plan.train or "").replace(":", "-")
    return plan.place.out / "models" / contender.unrefined.title / f"{trained}-seed-{seed}"


def evenly(names: list[str], limit: int | None) -> list[str]:
    """Return at most `limit` names, evenly spread; UsageError if the limit is below 1."""
    if limit is None:
        return names
    if limit < 1:
        raise UsageError("--limit", expected="1 or more", got=str(limit), fix="leave it out for all images")
    return names[:: max(1, len(names) // limit)][:limit]


def _one_by_one(jobs: list[BenchmarkJob]) -> Generator[tuple[BenchmarkJob, dict[str, Any] | str], None, None]:
    """Yield each job with its row, or with the reason why it has none; here, with all threads."""
    for job in jobs:
        try:
            yield job, run_job(job)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 (whatever is wrong with one image, the others are done)
            yield job, reason(error)


def in_processes(
    jobs: list[BenchmarkJob], workers: int, do: Callable[[BenchmarkJob], Row] = run_job
) -> Generator[tuple[BenchmarkJob, Row | str], None, None]:
    """Yield each job with its row, or with the reason why it has none.

    When a worker dies, which of the jobs under way killed it is not known, nor whether it was the memory that they took
    together. So what is left is tried with half as many workers at a time, down to one: a job that dies alone is named, and the
    others continue.

    At most `workers` processes run at a time; `do` makes a row, and is a function that a new process can import.
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
    """Yield each job with its row, with the reason why it has none, or with None where a worker died before it was done."""
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
    """Return the line that describes the error."""
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
