"""A watched folder: images are segmented as they arrive, into one folder of results that grows, also over several starts."""

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from selfseg.core.errors import Failure, InputError, UsageError
from selfseg.core.files import telling_failures, write_text
from selfseg.core.machine import noting_stops
from selfseg.core.options import PredictOptions
from selfseg.core.progress import Progress, Silent
from selfseg.export.labels import ClassArea
from selfseg.export.report import ReportImage, thumbnail
from selfseg.read import Source
from selfseg.results.folder import MOST_PICTURES, PICTURE_SIDE
from selfseg.results.model import FittedModel
from selfseg.segmenting.predicting import FolderRun, find_sources, folder_run

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


JOURNAL = "watched.jsonl"
"""File in the folder of results: a line on what makes the labels, then a line for each image that is done, before the next begins."""


class Journal:
    """The images that are done, with all that report and tables need of them, so that a watch that is started again continues.

    Parameters
    ----------
    work
        The run, with its folder open.
    options
        Its options.
    """

    def __init__(self, work: FolderRun, options: PredictOptions) -> None:
        self.work, self.path = work, work.folder.out / JOURNAL
        self.done: dict[str, tuple[Path, str]] = {}
        """Path and hash of each image that is done, by name."""
        model = work.model
        made_by: list[Any] = [
            model.name,
            model.method.config.model_dump(mode="json"),
            str(model.preparation),
            model.refine,
        ]
        made_by += [model.clean, model.facts, work.folder.table.to_json(), repr(options), repr(work.edits)]
        self._made_by = hashlib.blake2b(json.dumps(made_by, default=str).encode(), digest_size=16).hexdigest()

    def restore(self, arrivals: Arrivals) -> str:
        """Take over what a watch before has done with the same model and options; return a remark for the user, empty = nothing is there.

        What it did not finish, and what has lost a file since, is done anew.
        """
        head, records = self._read()
        same = head == {"made_by": self._made_by}
        if same:
            records = [one for one in records if all((self.path.parent / name).exists() for name in one["files"])]
            for one in records:
                self._restore(one)
                arrivals.taken[Path(one["path"])] = (one["stamp"][0], one["stamp"][1])
        lines = [{"made_by": self._made_by}, *(records if same else ())]
        write_text(self.path, "".join(f"{json.dumps(line)}\n" for line in lines))
        if not same:
            return "model or options have changed: all images are segmented anew" if records else ""
        return f"{len(records)} images are done already" if records else ""

    def _read(self) -> tuple[Any, list[dict[str, Any]]]:
        lines: list[Any] = []
        with contextlib.suppress(OSError, ValueError):  # the last line of a process that was killed may be cut
            for line in self.path.read_text(encoding="utf-8").splitlines():
                lines.append(json.loads(line))
        return (lines[0], lines[1:]) if lines else (None, [])

    def _restore(self, record: dict[str, Any]) -> None:
        folder, row = self.work.folder, record["row"]
        folder.manifest.keep(record["files"])
        for name in record["files"]:
            if name.startswith("pictures/"):  # how the method sees the first image
                folder.seen[f"{row['name']}: {Path(name).stem}"] = _picture(folder.out / name)
        shown = dict(record["shown"])
        shown["shares"] = {int(number): share for number, share in shown["shares"].items()}
        if len(folder.pictures) < MOST_PICTURES and shown["link"] in record["files"]:
            shown["overlay"] = _picture(folder.out / shown["link"])
        folder.pictures.append(ReportImage(**shown))
        folder.rows.append(row)
        folder.areas += [ClassArea(**area) for area in record["areas"]]
        if self.work.objects is not None and record["objects"] is not None:
            self.work.objects.tables.append({name: np.asarray(column) for name, column in record["objects"].items()})
            folder.instances_kind = record["kind"]
        self.done[row["name"]] = (Path(record["path"]), row["sha256"])

    @contextlib.contextmanager
    def noting(self, source: Source, seen: Stamp) -> Iterator[None]:
        """Note an image as done when the block has added it to the folder."""
        folder, objects = self.work.folder, self.work.objects
        before, n_rows, n_areas = dict(folder.manifest.files), len(folder.rows), len(folder.areas)
        yield
        if len(folder.rows) == n_rows or source.name in self.work.failures:
            return
        row, shown = folder.rows[-1], folder.pictures[-1]
        columns = None if objects is None else {name: _plain(column) for name, column in objects.tables[-1].items()}
        record: dict[str, Any] = {
            "path": str(source.path),
            "stamp": seen,
            "row": row,
            "areas": [asdict(area) for area in folder.areas[n_areas:]],
            "shown": {name: getattr(shown, name) for name in ("name", "shares", "seconds", "note", "link")},
            "objects": columns,
            "kind": folder.instances_kind,
            "files": {name: one for name, one in folder.manifest.files.items() if before.get(name, "") != one},
        }
        with telling_failures(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(record)}\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[row["name"]] = (Path(record["path"]), row["sha256"])

    def knows(self, source: Source) -> bool:
        """Return whether an image is done.

        Raises
        ------
        InputError
            If another one of its name is.
        """
        if source.name not in self.done:
            return False
        path, sha256 = self.done[source.name]
        if source.path != path and source.fingerprint() != sha256:
            fix = "rename it, or watch into another folder"
            raise InputError(source.name, expected="a name of its own", got=f"that of {path}, which is done", fix=fix)
        return True


def _picture(path: Path) -> NDArray[np.uint8]:
    with Picture.open(path) as picture:
        return thumbnail(np.asarray(picture.convert("RGB")), PICTURE_SIDE)


def _plain(column: Any) -> list[Any]:
    values: list[Any] = np.asarray(column).tolist()
    return values


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
    that changes after it was segmented stays as it is, and is named. Started again with the same model and options, in the same folder, it
    does what is new, and what it had not finished, however it ended.

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
    with folder_run(model, [], out, options, progress=progress) as work, noting_stops() as stop:
        journal = Journal(work, options)
        if remark := journal.restore(arrivals):
            progress.say(remark)
        progress.say(f"watching {', '.join(map(str, inputs))} for images; Ctrl-C ends")
        last = time.monotonic()
        try:
            while stop.signal is None and (idle is None or time.monotonic() - last < idle):
                batch = arrivals.ready()
                for source in batch:
                    if stop.signal is not None:
                        break
                    _do(work, journal, source, options, arrivals)
                if batch:
                    work.close()
                    counts = f"{len(journal.done)} segmented, {len(work.failures)} failed"
                    progress.say(f"{counts}; {Path(out) / 'report.html'}")
                    last = time.monotonic()
                else:
                    time.sleep(LOOK_EVERY)
        finally:
            work.close()
    return list(work.failures.items())


def _do(work: FolderRun, journal: Journal, source: Source, options: PredictOptions, arrivals: Arrivals) -> None:
    """Segment an image that has arrived, unless it is done."""
    work.failures.pop(source.name, None)
    try:
        known = journal.knows(source)
    except InputError as error:
        work.failures[source.name] = str(error)
        work.settings.progress.say(str(error))
        return
    if not known:
        with journal.noting(source, arrivals.taken[source.path] if source.path else (0, 0)):
            work.do_images([source], options.axes)
    elif journal.done[source.name][0] == source.path:
        work.settings.progress.say(f"{source.name} has changed since it was segmented: its results stay as they are")


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
