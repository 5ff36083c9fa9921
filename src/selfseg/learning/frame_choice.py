"""Which frames a model learns from: of a video, a time series, a folder of frames, or the slices of a volume."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from selfseg.core.errors import Failure, InputError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Progress
from selfseg.read import Source
from selfseg.read.frames import ALL_AXES, Frames, check_slices, is_video
from selfseg.read.video import open_video
from selfseg.sample.choose import MOST, most_different

DEFAULT_FRAMES = 4
"""Frames that are chosen when nobody says how many."""


@dataclass(frozen=True)
class FrameChoice:
    """What the user says of frames.

    Attributes
    ----------
    frames
        Their numbers, from 0 on; None = the most different ones.
    n_frames
        How many of the most different ones; None = `DEFAULT_FRAMES`.
    slices
        Axis across which volumes are cut into slices: ``z``, ``y``, ``x``, or ``all`` three; None = not said.
    """

    frames: tuple[int, ...] | None = None
    n_frames: int | None = None
    slices: str | None = None

    def __post_init__(self) -> None:
        if self.frames is not None and self.n_frames is not None:
            fix = "give --frames or --n-frames"
            raise UsageError("--frames", expected="no --n-frames beside it", got="both", fix=fix)
        if self.frames is not None and (not self.frames or min(self.frames) < 0):
            fix = "write for example --frames 0,40,80"
            raise UsageError("--frames", expected="numbers from 0 on", got=str(self.frames), fix=fix)
        if self.n_frames is not None and self.n_frames < 1:
            fix = "write for example --n-frames 4"
            raise UsageError("--n-frames", expected="1 or more", got=str(self.n_frames), fix=fix)
        check_slices(self.slices)

    @property
    def asked(self) -> bool:
        """Whether the user said anything of frames or slices."""
        return self != FrameChoice()


def parse_numbers(text: str | None) -> tuple[int, ...] | None:
    """Return the numbers of ``"0,40,80"``; None of None.

    Raises
    ------
    UsageError
        If it is no list of whole numbers.
    """
    if text is None:
        return None
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        fix = "write for example --frames 0,40,80"
        raise UsageError("--frames", expected="whole numbers with commas", got=repr(text), fix=fix)
    return tuple(int(word) for word in text.split(","))


class Taken(NamedTuple):
    """What is learned from.

    Attributes
    ----------
    sources
        The inputs, the chosen frames in memory.
    facts
        For the model: ``kind`` (``frames`` or ``slices``) and ``chosen`` numbers by the name of the sequence; empty without one.
    failures
        Sequences that could not be used.
    """

    sources: list[Source]
    facts: dict[str, Any]
    failures: list[Failure]


def take_frames(sources: Sequence[Source], choice: FrameChoice, axes: str | None, progress: Progress) -> Taken:
    """Put the chosen frames of every sequence in its place; images that are no sequence stay.

    Videos always are one. A time series, a folder of images and a volume are where the user speaks of frames or slices.

    Raises
    ------
    SelfsegError
        If nothing is left: the error of the first sequence.
    """
    stills = [source for source in sources if not is_video(source, axes)]
    taken = Taken([] if choice.asked else list(stills), {}, [])
    first: SelfsegError | None = None
    openers = [(source.name, partial(_video_sequences, source)) for source in sources if is_video(source, axes)]
    for name, opener in openers + (_openers(stills, choice, axes, progress) if choice.asked else []):
        try:
            for sequence in opener():
                _take(sequence, choice, taken, progress)
        except SelfsegError as error:
            first = first or error
            taken.failures.append((name, str(error)))
    if not taken.sources and first is not None:
        raise first
    return taken


def _take(sequence: Frames, choice: FrameChoice, taken: Taken, progress: Progress) -> None:
    numbers = _numbers(sequence, choice, progress)
    images = [sequence.frame(number) for number in numbers]
    taken.sources.extend(Source(image.name, content=image, settled=True) for image in images)
    cut = sequence.axis not in (None, "T")
    key = f"{sequence.name} {sequence.axis}" if sequence.axis else sequence.name
    taken.facts.setdefault("kind", "slices" if cut else "frames")
    taken.facts.setdefault("chosen", {})[key] = numbers


def _video_sequences(source: Source) -> Iterator[Frames]:
    yield open_video(source)


def _openers(
    stills: Sequence[Source], choice: FrameChoice, axes: str | None, progress: Progress
) -> list[tuple[str, Callable[[], Iterable[Frames]]]]:
    """Return name and opening of the sequences that the images make up: one of all, or one or more of each."""
    if choice.slices is None and len(stills) > 1:
        return [("frames", lambda: [Frames.of_folder(stills, "frames", axes)])]
    return [(source.name, partial(_image_sequences, source, choice, axes, progress)) for source in stills]


def _image_sequences(source: Source, choice: FrameChoice, axes: str | None, progress: Progress) -> Iterator[Frames]:
    image = source.open(axes)
    if choice.slices is None and "T" in image.axes:
        yield Frames.along(image, "T")
    else:
        yield from slice_sequences(image, choice.slices, progress)


def slice_sequences(image: Image, slices: str | None, progress: Progress) -> Iterator[Frames]:
    """Yield the slices of a volume along the axes asked for; z where nothing is said.

    Raises
    ------
    InputError
        If the image is no volume.
    """
    if "Z" not in image.axes:
        expected, got = "a video, a time series, a volume or several images", f"axes {image.axes}"
        fix = "leave --frames, --n-frames and --slices out, or name its axes with --axes"
        raise InputError(image.source, expected=expected, got=got, fix=fix)
    if slices is None:
        progress.say(f"{image.name}: a volume, taken as slices along z (--slices y, x or all for others)")
    for axis in ALL_AXES if slices == "all" else slices or "z":
        yield Frames.along(image, axis.upper())


def _numbers(sequence: Frames, choice: FrameChoice, progress: Progress) -> list[int]:
    if choice.frames is not None:
        for number in choice.frames:
            sequence.check_number(number)
        return list(dict.fromkeys(choice.frames))
    wanted = choice.n_frames or DEFAULT_FRAMES
    progress.start("choosing frames", sequence.n_frames)
    every = max(1, sequence.n_frames // max(MOST, wanted))
    try:
        numbers = most_different(_readable(sequence, every, progress), wanted)
    finally:
        progress.finish()
    if not numbers:
        raise InputError(sequence.source, expected="a frame that can be read", got="none", fix="check the file")
    shown = ", ".join(map(str, numbers))
    progress.say(f"{sequence.name}: learning from {len(numbers)} of {sequence.n_frames}, the most different: {shown}")
    return numbers


def _readable(sequence: Frames, every: int, progress: Progress) -> Iterator[tuple[int, Image]]:
    """Yield the frames that can be read; name the others."""
    try:
        for number, frame in zip(itertools.count(0, every), sequence.frames(every), strict=False):
            if isinstance(frame, InputError):
                progress.say(str(frame))
            else:
                yield number, frame
            progress.update(number + 1, {})
    except InputError as error:  # the sequence ended early
        progress.say(str(error))
