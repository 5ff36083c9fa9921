"""A watched folder: images are segmented as they arrive, into one folder of results that grows."""

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfseg.core.errors import Failure, InputError, UsageError
from selfseg.core.machine import noting_stops
from selfseg.core.options import PredictOptions
from selfseg.core.progress import Progress, Silent
from selfseg.read import Source
from selfseg.results.model import FittedModel
from selfseg.segmenting.predicting import find_sources, folder_run

LOOK_EVERY = 0.5
"""Seconds between two looks into the folder."""

SETTLE = 2.0
"""Seconds that a file must stay unchanged before it is read."""

NOT_WATCHED = ("sequence", "link", "dask", "mask", "superpixels", "limit")
"""Options that need to know all inputs before the first."""

Stamp = tuple[int, int]
"""Bytes, and the time of the last change in nanoseconds, of a file or of all files of a folder."""


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file, or of a folder that is one image; zeros where it is gone."""
    try:
        if not path.is_dir():
            found = path.stat()
            return (found.st_size, found.st_mtime_ns)
        parts = [Path(place) / name for place, _, names in os.walk(path) for name in names]
        stamps = [stamp(part) for part in parts]
        return (sum(size for size, _ in stamps), max((when for _, when in stamps), default=0))
    except OSError:
        return (0, 0)


@dataclass
class Arrivals:
    """Tells which inputs have arrived whole: those that stayed unchanged for a while.

    Attributes
    ----------
    find
        Returns all inputs that are there now.
    settle
        Seconds that an input must stay unchanged.
    clock
        Returns the time in seconds.
    waiting
        Stamp of each input that is not whole yet, and when it was first seen with it, by path.
    taken
        Stamp with which each input was handed out, by path.
    """

    find: Callable[[], Sequence[Source]]
    settle: float
    clock: Callable[[], float] = time.monotonic
    waiting: dict[Path, tuple[Stamp, float]] = field(default_factory=dict)
    taken: dict[Path, Stamp] = field(default_factory=dict)

    def ready(self) -> list[Source]:
        """Return the inputs that are whole and were not returned with this stamp before."""
        found, now = [], self.clock()
        for source in self.find():
            path = source.path
            if path is None:
                continue
            seen = stamp(path)
            if self.taken.get(path) == seen or not seen[0]:
                continue
            if self.waiting.get(path, ((0, 0), now))[0] != seen:
                self.waiting[path] = (seen, now)
            if now - self.waiting[path][1] >= self.settle:
                del self.waiting[path]
                self.taken[path] = seen
                found.append(source)
        return found


def watch(
    model: FittedModel,
    inputs: Sequence[str | Path],
    out: str | Path,
    options: PredictOptions | None = None,
    *,
    settle: float = SETTLE,
    idle: float | None = None,
    progress: Progress | None = None,
) -> list[Failure]:
    """Segment images as they arrive in folders, until Ctrl-C or SIGTERM; report and tables are written anew after each batch.

    The image that is being segmented when the signal comes is finished. An image that failed is tried again once it has changed; one
    that changes after it was segmented stays as it is, and is named.

    Parameters
    ----------
    model
        A fitted model.
    inputs
        Folders and globs.
    out
        Folder of the results.
    options
        Prediction options; None = the defaults.
    settle
        Seconds that a file must stay unchanged before it is read.
    idle
        End after this number of seconds without a new image; None = never.
    progress
        Progress reporter.

    Returns
    -------
    list of (name, message)
        Inputs that failed.

    Raises
    ------
    UsageError
        If an option needs to know all inputs, or an input is neither a folder nor a glob.
    """
    options, progress = options or PredictOptions(), progress or Silent()
    _check(inputs, options, settle, idle)
    arrivals = Arrivals(lambda: _present(inputs, options), settle)
    done: set[Path] = set()
    with folder_run(model, [], out, options, progress=progress) as work, noting_stops() as stop:
        progress.say(f"watching {', '.join(map(str, inputs))} for images; Ctrl-C ends")
        last = time.monotonic()
        try:
            while stop.signal is None and (idle is None or time.monotonic() - last < idle):
                batch = arrivals.ready()
                for source in batch:
                    if stop.signal is not None:
                        break
                    if source.path in done:
                        progress.say(f"{source.name} has changed since it was segmented: its results stay as they are")
                        continue
                    work.failures.pop(source.name, None)
                    work.do_images([source], options.axes)
                    if source.name not in work.failures and source.path is not None:
                        done.add(source.path)
                if batch:
                    work.close()
                    progress.say(f"{len(done)} segmented, {len(work.failures)} failed; {Path(out) / 'report.html'}")
                    last = time.monotonic()
                else:
                    time.sleep(LOOK_EVERY)
        finally:
            work.close()
    return list(work.failures.items())


def _present(inputs: Sequence[str | Path], options: PredictOptions) -> list[Source]:
    try:
        return find_sources(list(inputs), options)
    except InputError:  # nothing has arrived yet
        return []


def _check(inputs: Sequence[str | Path], options: PredictOptions, settle: float, idle: float | None) -> None:
    for name in NOT_WATCHED:
        value: Any = getattr(options, name)
        if value not in (None, False):
            fix = "leave it out, or predict without --watch once all images are there"
            raise UsageError(f"--{name}", expected="no --watch beside it", got=str(value), fix=fix)
    for place in inputs:
        if not Path(place).is_dir() and not re.search(r"[*?\[]", str(place)):
            fix = "make the folder first, or write a glob"
            raise UsageError("--watch", expected="folders or globs", got=str(place), fix=fix)
    for name, seconds in (("--settle", settle), ("--idle", idle)):
        if seconds is not None and not 0 <= seconds < float("inf"):
            raise UsageError(name, expected="seconds from 0 on", got=str(seconds), fix="write for example 2")
