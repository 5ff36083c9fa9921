"""Prediction block by block into a file, restartable: what is done is noted, and is not done again."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from selfseg.core.errors import OutputError
from selfseg.core.files import remove, write_text
from selfseg.core.memory import give_back_memory, resident_memory, reusing_memory
from selfseg.core.progress import Progress
from selfseg.core.stopping import noting_stops
from selfseg.tiling.tiles import Grid

MEGA = 10**6

NEAR = 0.6
"""Share of the memory limit from which on freed memory is given back after a block."""


class BlockLog:
    """Which blocks of a long work are done: a file with a line for each, flushed to the disk, that a killed process leaves.

    Parameters
    ----------
    path
        The file.
    work
        What the work is, as plain values. A log of other work is begun anew.

    Attributes
    ----------
    done : set of int
        Numbers of the blocks that are done.
    """

    def __init__(self, path: Path, work: Mapping[str, Any]) -> None:
        self.path = path
        header = json.dumps(work, sort_keys=True)
        known = self._read(header)
        if known is None:
            write_text(path, header + "\n")
        self.done: set[int] = known or set()

    def _read(self, header: str) -> set[int] | None:
        """Return what a log of the same work says; None without one. A last line that was cut short does not count."""
        try:
            first, *lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            return None
        if first != header or not lines:
            return None
        return {int(line) for line in lines[:-1] if line.isdigit()}

    def add(self, block: int) -> None:
        """Note that a block is done and on the disk.

        Raises
        ------
        OutputError
            If that cannot be written.
        """
        try:
            with self.path.open("r+b") as file:
                file.seek(0, os.SEEK_END)
                end = file.tell()
                file.seek(max(0, end - 1))
                # behind what a killed process has left of a line, that line ends
                file.write((b"" if file.read(1) == b"\n" else b"x\n") + f"{block}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            got, fix = error.strerror or str(error), "free some space, then run the same command again: it goes on"
            raise OutputError(self.path, expected="a file to be written", got=got, fix=fix) from error
        self.done.add(block)

    def close(self) -> None:
        """Remove the log: all is done."""
        remove(self.path)


def known_work(path: Path) -> dict[str, Any] | None:
    """Return what the work of a log was, as `BlockLog` was given it; None if there is no log."""
    try:
        known = json.loads(path.read_text(encoding="utf-8").partition("\n")[0])
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


class Work(Protocol):
    """Blocks that can be done one by one, in any order."""

    def do(self, block: int) -> None:
        """Do a block, by its number; its labels are on the disk when this returns."""


AnyWork = TypeVar("AnyWork", bound=Work, contravariant=True)


class Executor(Protocol[AnyWork]):
    """Who does the blocks."""

    def memory(self, asked: int | None) -> int | None:
        """Return the most bytes that a process that does blocks may take; `asked` = what the user says, None = nothing."""

    def run(self, work: AnyWork, blocks: Sequence[int]) -> Iterator[int]:
        """Do the blocks, and yield the number of each that is done, in any order."""


class Serial:
    """Does one block after the other, in this process."""

    def memory(self, asked: int | None) -> int | None:
        """Return what the user says."""
        return asked

    def run(self, work: Work, blocks: Sequence[int]) -> Iterator[int]:
        """Do the blocks in their order."""
        with reusing_memory():
            for block in blocks:
                work.do(block)
                yield block


def predict_blocks(
    grid: Grid,
    work: AnyWork,
    executor: Executor[AnyWork],
    log: BlockLog,
    progress: Progress,
    first: int = 0,
    memory: int | None = None,
) -> None:
    """Have every block done that is not done yet, and note it.

    Parameters
    ----------
    grid
        The blocks.
    work
        Predicts a block and stores its labels.
    executor
        Who does it.
    log
        Which blocks are done.
    progress
        Who watches: megapixels, and megapixels a second.
    first
        Number of the first block, where the log holds other grids before.
    memory
        Bytes that this process should stay below: freed memory is given back when it comes near. None = it is kept till the end.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM, once the block is written and noted.
    """
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
    return f"stopped by {who} after {done} of {total} blocks: all are saved; the same command goes on"
