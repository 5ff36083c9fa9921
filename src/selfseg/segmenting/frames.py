"""A sequence through a model: frame by frame in constant memory, with labels, videos and the flicker score."""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import Failure, InputError, SelfsegError
from selfseg.core.image import Image
from selfseg.core.machine import reusing_memory
from selfseg.core.progress import Progress
from selfseg.read import Source
from selfseg.read.frames import Frames
from selfseg.read.video import open_video
from selfseg.refine.edits import Edits
from selfseg.refine.link import Link
from selfseg.results.model import FittedModel
from selfseg.results.result import Result, SequenceFacts
from selfseg.results.tracks import SequenceObjects
from selfseg.segmenting.blocks import for_series
from selfseg.segmenting.images import edited, segment_image
from selfseg.segmenting.sinks import SequenceSink


def find_sequences(
    sources: Sequence[Source], wanted: bool, axes: str | None, progress: Progress
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
    progress
        Called with a message about what is odd in a video.
    """
    found: list[Frames | Failure] = []
    stills = [source for source in sources if not source.is_video(axes)]
    for source in sources:
        if source.is_video(axes):
            try:
                found.append(open_video(source, progress))
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
    model: FittedModel,
    source: Frames,
    out: Path,
    linked: bool,
    progress: Progress,
    edits: Edits | None = None,
    objects: SequenceObjects | None = None,
    maps: Sequence[str] = (),
) -> Result:
    """Segment a sequence into files; a frame that fails is named and left empty, and the others are done.

    Labels go to ``labels/NAME.tif`` (TYX), or, for a folder of frames, to ``labels/FRAME.tif`` each and to
    ``video/NAME_labels.tif``; the overlay to ``video/NAME_overlay.mp4``, the class colours to ``video/NAME_classes.mkv``. With
    `edits`, all as edited, every frame along a merge tree of its own. The objects of each frame go to `objects`, if they
    are wanted; `maps`, a file a frame, to ``confidence/FRAME.tif`` and ``probabilities/FRAME.tif``.

    Raises
    ------
    InputError
        If no frame can be segmented.
    OutputError
        If a file cannot be written.
    """
    model = for_series(model.fixed(), (model.view(frame) for frame in source.frames() if isinstance(frame, Image)))
    facts, link = SequenceFacts(source), Link() if linked else None
    table = model.table if edits is None else edits.table(model.table)
    begun, example = time.monotonic(), None
    progress.start(f"segmenting {source.name}", source.n_frames)
    try:
        with SequenceSink(out, table, source, maps) as sink, reusing_memory():
            facts.notes += sink.notes
            facts.video = sink.overlay.path.relative_to(out).as_posix()
            example = _run_frames(model, facts, sink, link, edits, objects, progress, begun)
    finally:
        progress.finish()
    if example is None:
        first = facts.failures[0][1] if facts.failures else "no frame"
        raise InputError(
            source.source, expected="a frame that can be segmented", got=f"none ({first})", fix="check the sequence"
        )
    return Result(*example, None, table, time.monotonic() - begun, sequence=facts)


def _run_frames(
    model: FittedModel,
    facts: SequenceFacts,
    sink: SequenceSink,
    link: Link | None,
    edits: Edits | None,
    objects: SequenceObjects | None,
    progress: Progress,
    begun: float,
) -> tuple[Image, NDArray[np.integer]] | None:
    """Segment every frame; return one from the middle with its labels, None if all failed."""
    source, example = facts.source, None
    try:
        for number, frame in enumerate(source.frames()):
            if isinstance(frame, Image) and not facts.n_labelled:
                model.check(model.view(frame))  # what is wrong with the first is wrong with all
            try:
                if isinstance(frame, InputError):
                    raise frame
                result = segment_image(model, frame, link=link)
                name = source.frame_name(number)
                own_edits = None if edits is None else edits.of_frame(source.name, number, name)
                labels = (result if own_edits is None else edited(model, result, own_edits)).labels
            except InputError as error:
                facts.failures.append((source.frame_name(number), str(error)))
                progress.say(str(error))
                sink.skip()
            else:
                sink.add(number, frame, labels, result.probabilities)
                if objects is not None:
                    own = result.objects if objects.wants_own else None
                    objects.add(number, name, frame, labels, own, own_edits)
                facts.n_labelled += 1
                facts.counts += np.bincount(labels.ravel(), minlength=256)
                facts.flicker.add(labels, frame.channels_last())
                if example is None or facts.n_labelled <= (source.n_frames + 1) // 2:
                    example = (frame, labels)
            progress.update(number + 1, {"frames/s": (number + 1) / max(1e-9, time.monotonic() - begun)})
    except InputError as error:  # the sequence ended early
        facts.failures.append((source.name, str(error)))
        progress.say(str(error))
    return example
