"""Executors of blocks: this process, or the workers of a Dask cluster (``selfseg[dask]``); what is done is logged, and not done again."""

import itertools
import logging
import math
import os
import re
import shutil
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from selfseg.core.errors import InputError, ModelError, SelfsegError, UsageError
from selfseg.core.machine import give_back_memory, n_threads, noting_stops, resident_memory, reusing_memory
from selfseg.core.progress import Progress
from selfseg.read import open_lazy
from selfseg.results.model import FittedModel, selfseg_version
from selfseg.sample.chain import PreparedImage
from selfseg.sample.device import device_in_turn
from selfseg.segmenting.blocks import BlockWork, ImageMaps, Plan, SlicedMaps
from selfseg.segmenting.plan import BlockLog
from selfseg.segmenting.sinks import ZarrSink

MEGA = 10**6

NEAR = 0.6
"""Share of the memory limit from which on freed memory is given back after a block."""


class Executor(Protocol):
    """Runs blocks."""

    def memory(self, asked: int | None) -> int | None:
        """Return the most bytes that a process that does blocks may take; `asked` = the user's limit, None = none."""

    def run(self, work: BlockWork, blocks: Sequence[int]) -> Iterator[int]:
        """Do the blocks, and yield the number of each that is done, in any order."""


class Serial:
    """Does one block after the other, in this process."""

    def memory(self, asked: int | None) -> int | None:
        """Return the user's own limit."""
        return asked

    def run(self, work: BlockWork, blocks: Sequence[int]) -> Iterator[int]:
        """Do the blocks in their order."""
        with reusing_memory():
            for block in blocks:
                work.do(block)
                yield block


def run_blocks(
    work: BlockWork, executor: Executor, log: BlockLog, progress: Progress, memory: int | None = None
) -> None:
    """Run every block of an image that is not done yet, and log it.

    Parameters
    ----------
    work
        The blocks of one image.
    executor
        Runs them.
    log
        Blocks that are done.
    progress
        Progress reporter, in megapixels.
    memory
        Bytes that this process should stay below: freed memory is given back when it comes near. None = it is kept till the end.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM, once the block is written and logged.
    """
    grid, first = work.grid, work.first
    total = math.prod(grid.shape)
    sizes = [math.prod(part.stop - part.start for part in grid.tile(place).core) for place in grid.places()]
    left = [block for block in range(first, first + len(sizes)) if block not in log.done]
    done = total - sum(sizes[block - first] for block in left)
    before, begun = done, time.monotonic()
    progress.start("segmenting (megapixels)", max(1, total // MEGA), done // MEGA)
    try:
        with noting_stops() as stop:
            for block in executor.run(work, left):
                log.add(block)
                if memory is not None and resident_memory() > NEAR * memory:
                    give_back_memory()
                done += sizes[block - first]
                rate = (done - before) / MEGA / max(time.monotonic() - begun, 1e-9)
                progress.update(done // MEGA, {"Mpx/s": rate})
                stop.check(partial(_stopped, len(log.done) - first, len(sizes)))
    finally:
        progress.finish()


def _stopped(done: int, total: int, who: str) -> str:
    return f"stopped by {who} after {done} of {total} blocks: all are saved; the same command continues"


@dataclass(frozen=True)
class BlockOrder:
    """All that another process, on another machine, needs to do the same blocks: paths that both can read, and plain values."""

    version: str
    model: Path
    networks: str | None
    device: str
    image: Path
    axes: str
    frame: int | None
    sink: ZarrSink
    first: int
    plan: Plan
    prepared: Any = None
    slices: str | None = None
    kept_bytes: int = 0
    colours: NDArray[Any] | None = None
    turns: Mapping[str, int] = field(default_factory=dict)
    """Number of each worker on its machine, by address."""

    @classmethod
    def of(cls, work: BlockWork, folder: Path, turns: Mapping[str, int]) -> "BlockOrder":
        """Store the model in `folder`, and return the order for its blocks."""
        maps, sink = work.maps, work.sink
        if not isinstance(sink, ZarrSink) or (isinstance(maps, ImageMaps) and "superpixels" in maps.prepared.memo):
            raise UsageError(
                "--dask",
                expected="an image without superpixels of your own",
                got="one with them",
                fix="leave --dask out",
            )
        model = maps.model
        model.save(folder)
        order = partial(
            cls,
            version=selfseg_version(),
            model=folder.absolute(),
            networks=getattr(model.method.config, "networks", None) or None,
            device=model.device,
            axes=sink.image_axes,
            frame=sink.frame,
            sink=sink.sent(),
            first=work.first,
            turns=turns,
        )
        if isinstance(maps, SlicedMaps):
            plan = Plan(work.grid, work.grid)
            return order(image=Path(maps.image.source).absolute(), slices=maps.axes, plan=plan)
        return order(
            image=Path(maps.prepared.image.source).absolute(),
            prepared=maps.prepared.plan,
            plan=maps.plan,
            kept_bytes=maps.kept_bytes,
            colours=maps.colour_range() if maps.refinements else None,
        )

    def open(self, worker: str) -> BlockWork:
        """Open model, image and labels for the worker at an address; where there are GPUs, workers take one each in turn.

        Raises
        ------
        SelfsegError
            If one of them cannot be opened here, or this is another version of selfseg.
        """
        if selfseg_version() != self.version:
            raise ModelError(
                "selfseg", expected=self.version, got=selfseg_version(), fix="install the same version everywhere"
            )
        number = self.turns.get(worker, zlib.crc32(worker.encode()))  # any, of one that came later
        model = FittedModel.load(self.model, device_in_turn(self.device, number), self.networks)
        image = model.view(open_lazy(self.image, self.axes))
        image = image if self.frame is None else image.at("T", self.frame)
        if self.slices is not None:
            return BlockWork(SlicedMaps(model, image, self.slices), self.plan.blocks, self.sink.opened(), self.first)
        prepared = PreparedImage.from_plan(image, self.prepared)
        maps = ImageMaps(model, prepared, self.plan, self.kept_bytes, colours=self.colours)
        return BlockWork(maps, self.plan.blocks, self.sink.opened(), self.first)


RETRIES = 3
"""Times that a block is tried again, on any worker, after an error."""

SENT_AGAIN = 2
"""Times that a block is sent anew after Dask has given it up, as too many workers died that it was with: of it, or of another."""

AHEAD = 2
"""Blocks that wait at a worker for each of its threads, so that it never waits for the next."""

PATIENCE = 60
"""Seconds to wait for the scheduler, for its first worker, and for a block before the number of workers is checked."""

POLL = 0.02
"""Seconds between two looks at what is done."""


class DaskCluster:
    """Does blocks on the workers of a Dask scheduler; each opens model and image itself and writes whole chunks.

    A worker does one block at a time, with as many threads as it was started with. A block whose worker dies goes to another.

    Parameters
    ----------
    address
        ``tcp://HOST:PORT`` of a scheduler; ``local:N`` for N processes on this machine, ``local`` for one a core.

    Raises
    ------
    UsageError
        If it is no such address, or dask.distributed is not installed.
    """

    def __init__(self, address: str) -> None:
        if re.fullmatch(r"local(:[1-9]\d*)?|\w+://.+:\d+", address) is None:
            raise UsageError(
                "--dask",
                expected="local, local:N or tcp://HOST:PORT",
                got=repr(address),
                fix="give the address that `dask scheduler` prints",
            )
        self.address = address
        self._distributed = _distributed()
        self._client: Any = None

    def __enter__(self) -> Self:
        made: Any = self._distributed
        try:
            where = self._local() if self.address.startswith("local") else self.address
            self._client = made.Client(where, timeout=PATIENCE, set_as_default=False)
            self._client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, TimeoutError) as error:
            self.__exit__(None, None, None)
            raise InputError(
                f"--dask {self.address}",
                expected="a Dask scheduler with workers",
                got=" ".join(str(error).split())[:200] or "no answer",
                fix="start `dask scheduler` and `dask worker`, or use --dask local",
            ) from error
        return self

    def _local(self) -> Any:
        wanted = self.address.partition(":")[2]
        cores = n_threads()
        n_workers = int(wanted) if wanted else cores
        return self._distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=max(1, cores // n_workers),
            dashboard_address=":0",  # any free port: it is not ours to take 8787
            silence_logs=logging.CRITICAL,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            cluster = self._client.cluster
            self._client.close()
            if cluster is not None:
                cluster.close()
            self._client = None

    @property
    def _workers(self) -> list[dict[str, Any]]:
        return list(self._client.scheduler_info(n_workers=-1)["workers"].values())

    def memory(self, asked: int | None) -> int | None:
        """Return the user's own limit, else the smallest limit of a worker; None where none has one."""
        limits = [int(worker["memory_limit"]) for worker in self._workers if worker.get("memory_limit")]
        return asked if asked is not None or not limits else min(limits)

    def processor_seconds(self) -> dict[str, float]:
        """Return the processor time that each worker has used, by its address."""
        used: dict[str, float] = self._client.run(time.process_time)
        return used

    def run(self, work: BlockWork, blocks: Sequence[int]) -> Iterator[int]:
        """Do the blocks on the workers.

        Raises
        ------
        SelfsegError
            Error of a worker: it does not find model or image, or cannot write.
        InputError
            If workers die of a block again and again, or the scheduler is gone.
        """
        folder = work.path.with_suffix(".model")
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        order, token = BlockOrder.of(work, folder, turns(workers)), uuid.uuid4().hex
        waiting, sent, numbers = iter(blocks), Counter[int](), {}
        done: Any = self._distributed.as_completed(loop=self._client.loop)

        def send(block: int) -> None:
            sent[block] += 1
            key = f"selfseg-{token}-{block}-{sent[block]}"
            numbers[key] = block
            done.add(self._client.submit(_do_block, token, order, block, key=key, retries=RETRIES))

        most = AHEAD * max(1, sum(int(worker["nthreads"]) for worker in self._workers))
        try:
            for block in itertools.islice(waiting, most):
                send(block)
            for future in self._as_they_come(done):
                block = numbers.pop(future.key)
                if future.status == "finished":
                    yield block
                    block = next(waiting, -1)
                else:
                    self._check_again(future, block, sent[block])
                if block >= 0:
                    send(block)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _as_they_come(self, done: Any) -> Iterator[Any]:
        """Yield the tasks that have ended; those that are added to `done` meanwhile too."""
        since = time.monotonic()
        while not done.is_empty():
            if done.has_ready():
                yield next(done)
                since = time.monotonic()
                continue
            time.sleep(POLL)
            if time.monotonic() - since > PATIENCE:
                self._check_workers()
                since = time.monotonic()

    def _check_workers(self) -> None:
        """Raise an error if no worker is left that could do a block."""
        states = {worker.get("status", "running") for worker in self._workers}
        if states - {"paused"}:
            return
        raise InputError(
            f"--dask {self.address}",
            expected="workers that work",
            got="paused ones, which have no memory left" if states else "none",
            fix="start workers with more memory (a worker needs 1GB); the same command continues",
        )

    def _check_again(self, future: Any, block: int, times: int) -> None:
        """Return if the block should be sent again; else raise what there is to say."""
        error = future.exception() if future.status == "error" else None
        if isinstance(error, SelfsegError):
            raise error
        what = f"block {block} on {self.address}"
        if isinstance(error, self._distributed.KilledWorker):
            if times <= SENT_AGAIN:
                return
            raise InputError(
                what,
                expected="a block that is done",
                got="workers that died of it, again and again, as they do for lack of memory",
                fix="give --memory a part of what a worker has, or workers more memory; the same command continues",
            )
        got = f"{type(error).__name__}: {error}" if error is not None else f"a task that is {future.status}"
        raise InputError(
            what,
            expected="a block that is done",
            got=got[:300],
            fix="check the scheduler, and that selfseg is installed alike on all workers; the same command continues",
        )


def turns(addresses: Iterable[str]) -> dict[str, int]:
    """Return the number of each worker among those of its machine, from 0, by address (``tcp://HOST:PORT``)."""
    known: dict[str, list[str]] = {}
    for address in sorted(addresses):
        known.setdefault(address.rpartition(":")[0], []).append(address)
    return {address: number for group in known.values() for number, address in enumerate(group)}


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UsageError(
            "--dask", expected="the package distributed", got="none", fix="pip install 'selfseg[dask]'"
        ) from error
    return distributed


_LOCK = threading.Lock()
_OPENED: dict[str, BlockWork] = {}


def _do_block(token: str, order: BlockOrder, block: int) -> None:
    """Do a block in a worker, which keeps what it has opened for the next block of the same order."""
    import torch
    from distributed import get_worker

    worker = get_worker()
    with _LOCK:  # one at a time: the memory is planned for one, and a block uses all threads
        try:
            if token not in _OPENED:
                _OPENED.clear()
                os.environ.setdefault("SELFSEG_THREADS", str(worker.state.nthreads))
                torch.set_num_threads(worker.state.nthreads)
                _OPENED[token] = order.open(worker.address)
            _OPENED[token].do(block)
        except SelfsegError as error:
            raise type(error)(f"Dask worker {worker.address}: {error}") from None
