"""A sequence through a model: frame by frame in constant memory, with labels, videos and the flicker score."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import Failure, InputError, SelfsegError
from selfseg.core.image import Image
from selfseg.core.memory import reusing_memory
from selfseg.core.progress import Progress
from selfseg.export.colour_table import labels_picture
from selfseg.export.label_stack import LabelStack
from selfseg.export.labels import write_labels
from selfseg.export.overlay import overlay
from selfseg.export.video import VideoFile
from selfseg.measure.flicker import FlickerMeter
from selfseg.read import Source
from selfseg.read.frames import Frames, is_video
from selfseg.read.video import open_video
from selfseg.refine.link import Link
from selfseg.results.model import FittedModel
from selfseg.results.result import Result
from selfseg.segmenting.edited import Edits, edited
from selfseg.segmenting.segmenting import How, segment_frame

VIDEOS = "video"
"""Folder of the videos in an output folder."""


@dataclass
class SequenceRun:
    """What is known of a sequence after it has gone through a model.

    Attributes
    ----------
    source
        The sequence.
    n_labelled
        Frames that have labels.
    failures
        Frames that were skipped, and why; a sequence that ended early is one too.
    seconds
        Time that it took.
    flicker
        The flicker scores.
    counts
        Pixels of each id, over all frames ``[256]``.
    link
        The overlay video, relative to the output folder.
    example
        A frame and its labels, from the middle of the sequence.
    notes
        What the user should know.
    """

    source: Frames
    n_labelled: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    flicker: FlickerMeter = field(default_factory=FlickerMeter)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    link: str = ""
    example: tuple[Image, NDArray[np.integer]] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def frames_per_second(self) -> float:
        """Frames that were labelled a second."""
        return self.n_labelled / max(1e-9, self.seconds)

    def see(self, frame: Image, labels: NDArray[np.integer]) -> None:
        """Take in a labelled frame."""
        self.n_labelled += 1
        self.counts += np.bincount(labels.ravel(), minlength=256)
        self.flicker.add(labels, frame.channels_last())
        if self.example is None or self.n_labelled <= (self.source.n_frames + 1) // 2:
            self.example = (frame, labels)


def find_sequences(
    sources: Sequence[Source], wanted: bool, axes: str | None
) -> tuple[list[Frames | Failure], list[Source]]:
    """Part the inputs into sequences (or why one cannot be opened) and single images.

    Parameters
    ----------
    sources
        The inputs.
    wanted
        Whether several images make one sequence, and a time series is one. Videos always are.
    axes
        Axes of the inputs, None = as the files say.
    """
    found: list[Frames | Failure] = []
    stills = [source for source in sources if not is_video(source, axes)]
    for source in sources:
        if is_video(source, axes):
            try:
                found.append(open_video(source))
            except SelfsegError as error:
                found.append((source.name, str(error)))
    if wanted and len(stills) > 1:
        return [*found, Frames.of_folder(stills, _folder_name(stills), axes)], []
    if wanted and stills:
        with contextlib.suppress(SelfsegError):  # what cannot be read is named where single images are done
            image = stills[0].open(axes)
            if "T" in image.axes and "Z" not in image.axes:
                return [*found, Frames.along(image, "T", stills[0].fingerprint)], []
    return found, stills


def _folder_name(sources: Sequence[Source]) -> str:
    paths = [str(source.path.absolute().parent) for source in sources if source.path is not None]
    return (Path(os.path.commonpath(paths)).name if paths else "") or "frames"


def segment_sequence(
    model: FittedModel, source: Frames, out: Path, linked: bool, progress: Progress, edits: Edits | None = None
) -> SequenceRun:
    """Segment a sequence into files; a frame that fails is named and left empty, and the others are done.

    Labels go to ``labels/NAME.tif`` (TYX), or, for a folder of frames, to ``labels/FRAME.tif`` each and to
    ``video/NAME_labels.tif``; the overlay to ``video/NAME_overlay.mp4``, the class colours to ``video/NAME_classes.mkv``. With
    `edits`, all as edited, every frame along a merge tree of its own.

    Raises
    ------
    InputError
        If no frame can be segmented.
    OutputError
        If a file cannot be written.
    """
    run, link = SequenceRun(source), Link() if linked else None
    table = model.table if edits is None else edits.table(model.table)
    begun = time.monotonic()
    progress.start(f"segmenting {source.name}", source.n_frames)
    try:
        with SequenceFiles(out, table, source) as files, reusing_memory():
            run.notes += files.notes
            run.link = files.overlay.path.relative_to(out).as_posix()
            _run_frames(model, run, files, partial(_labels, model, link, edits), progress, begun)
    finally:
        progress.finish()
    run.seconds = time.monotonic() - begun
    if not run.n_labelled:
        first = run.failures[0][1] if run.failures else "no frame"
        fix = "check the sequence"
        raise InputError(source.source, expected="a frame that can be segmented", got=f"none ({first})", fix=fix)
    return run


def _labels(model: FittedModel, link: Link | None, edits: Edits | None, frame: Image) -> NDArray[np.integer]:
    segmented = segment_frame(model, frame, How(), link)
    if edits is None:
        return segmented.labels
    result = Result(frame, segmented.labels, segmented.probabilities, model.table, 0.0, segmented.tree)
    return edited(model, result, edits).labels


def _run_frames(
    model: FittedModel,
    run: SequenceRun,
    files: "SequenceFiles",
    labels_of: Callable[[Image], NDArray[np.integer]],
    progress: Progress,
    begun: float,
) -> None:
    try:
        for number, frame in enumerate(run.source.frames()):
            name = run.source.frame_name(number)
            if isinstance(frame, Image) and not run.n_labelled:
                model.check(frame)  # what is wrong with the first is wrong with all
            try:
                if isinstance(frame, InputError):
                    raise frame
                labels = labels_of(frame)
            except InputError as error:
                run.failures.append((name, str(error)))
                progress.say(str(error))
                files.skip()
            else:
                files.add(number, frame, labels)
                run.see(frame, labels)
            progress.update(number + 1, {"frames/s": (number + 1) / max(1e-9, time.monotonic() - begun)})
    except InputError as error:  # the sequence ended early
        run.failures.append((run.source.name, str(error)))
        progress.say(str(error))


class SequenceFiles:
    """The files of one sequence, open while it runs; each is usable however the run ends."""

    def __init__(self, out: Path, table: ClassTable, source: Frames) -> None:
        self.out, self.table, self.source = out, table, source
        self.single = bool(source.names)
        videos = out / VIDEOS
        name, n_frames, fps = source.name, source.n_frames, source.fps
        self.overlay = VideoFile(videos / f"{name}_overlay", fps, n_frames=n_frames)
        self.classes = VideoFile(videos / f"{name}_classes", fps, lossless=True, n_frames=n_frames)
        self.labels_path = videos / f"{name}_labels.tif" if self.single else out / "labels" / f"{name}.tif"
        self.notes = [note for note in (self.overlay.note, self.classes.note) if note]
        self._open = contextlib.ExitStack()
        self._stack: LabelStack | None = None
        self._skipped = 0

    def __enter__(self) -> "SequenceFiles":
        self._open.enter_context(self.overlay)
        self._open.enter_context(self.classes)
        return self

    def __exit__(self, *reason: object) -> None:
        self._open.close()

    def add(self, number: int, frame: Image, labels: NDArray[np.integer]) -> None:
        """Write the labels and pictures of a frame."""
        if self._stack is None:
            self._stack = self._open.enter_context(
                LabelStack(
                    self.labels_path, self.table, frame.spacing, frame.unit, self.source.n_frames, self.source.fps
                )
            )
            for _ in range(self._skipped):
                self._stack.skip()
        self._stack.add(labels)
        if self.single:
            path = self.out / "labels" / f"{self.source.frame_name(number)}.tif"
            write_labels(path, labels, self.table, frame.spacing, frame.unit)
        self.overlay.add(overlay(frame, labels, self.table))
        self.classes.add(np.ascontiguousarray(labels_picture(labels, self.table)[..., :3]))

    def skip(self) -> None:
        """Leave a frame empty in the stack and in the videos."""
        self._skipped += 1
        if self._stack is not None:
            self._stack.skip()
        self.overlay.skip()
        self.classes.skip()
