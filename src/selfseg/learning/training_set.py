"""Training set: images, frames and windows of large images, read, checked against each other, prepared, with their annotations."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import Failure, InputError, SelfsegError, UsageError
from selfseg.core.image import SPATIAL, Image
from selfseg.core.machine import LRUCache
from selfseg.core.options import Channels, FitOptions
from selfseg.core.progress import Progress
from selfseg.learning.annotations import AnnotationFiles, Annotations
from selfseg.read import Source, split_frames
from selfseg.read.frames import ALL_AXES, Frames
from selfseg.read.video import open_video
from selfseg.sample.chain import PreparedImage
from selfseg.sample.choose import MOST, most_different
from selfseg.sample.prepare import Preparation, prepare
from selfseg.sample.statistics import Region
from selfseg.sample.stream import Memo, Readable, Sample
from selfseg.sample.window_samples import KEPT_PIXELS, WindowSample, window_pixels, window_samples
from selfseg.tiling.tiles import memory_budget

DEFAULT_FRAMES = 4
"""Frames that are chosen of a sequence without --n-frames."""

DEFAULT_WINDOWS = 16
"""Windows of an image without --windows."""

BYTES_ON_THE_WAY = 12
"""Bytes of a value while it is prepared: float64, then float32."""

SHRUNK = 4.0
"""Shrinking of an image's sides from which on the user gets a message."""


@dataclass(frozen=True)
class TrainingItem:
    """An image, a frame, or a window of a large image.

    Attributes
    ----------
    name
        Name of the input.
    prepared
        The image, the frame, or the image of the window.
    sample
        What a batch reads.
    memo
        Where the user's own superpixels go.
    region
        The window, in pixels of the prepared image; None = the whole image.
    """

    name: str
    prepared: PreparedImage
    sample: Readable
    memo: Memo
    region: Region | None = None

    def view(self) -> tuple[Image, PreparedImage]:
        """Return it as an image and as it was prepared, to be shown or scored; of a resized window the prepared pixels as both."""
        image, window = self.prepared.image, self.sample.read()
        if self.region is None:
            return image, self.prepared
        axes = "".join(letter for letter in image.axes if letter in SPATIAL) + "C"
        pixels = np.moveaxis(window.array, 0, -1)
        small = Image(pixels, axes, self.prepared.spacing, image.unit, name=self.name, valid=window.valid)
        own = small if self.prepared.resized else self.prepared.image_window(self.region)
        shown = PreparedImage.from_plan(small, ())
        shown.memo = window.memo or {}
        return own, shown

    def part(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return the part of a label image ``[*S]`` of the image that `view` shows."""
        return labels if self.region is None else self.prepared.forward_labels(labels, self.region)


@dataclass(frozen=True)
class TrainingSet:
    """All that a model learns from.

    Attributes
    ----------
    items
        One for each image, time point or window.
    preparation
        The preparation, with its global statistics fitted on these images.
    n_channels, n_dims
        Channels and spatial axes of all of them.
    annotations
        The user's labels or scribbles; None = there are none.
    fingerprints
        SHA-256 by the name of the input.
    failures
        Inputs that could not be used.
    windows
        Number of windows of each image that was opened to be learned from in windows, by name.
    """

    items: list[TrainingItem]
    preparation: Preparation
    n_channels: int
    n_dims: int
    annotations: Annotations | None
    fingerprints: dict[str, str]
    failures: list[Failure] = field(default_factory=list)
    windows: dict[str, int] = field(default_factory=dict)

    @property
    def samples(self) -> list[Readable]:
        """The samples of all items."""
        return [item.sample for item in self.items]

    @cached_property
    def first(self) -> tuple[Image, PreparedImage]:
        """The first item as an image and as it was prepared, for previews."""
        return self.items[0].view()

    @property
    def annotation_values(self) -> tuple[int, ...]:
        """The user's values; annotation class c of the samples stands for ``annotation_values[c]``."""
        return () if self.annotations is None else self.annotations.values

    def digest_annotations(self) -> str:
        """Return the SHA-256 of the prepared annotations of all samples; empty where there are none."""
        if self.annotations is None:
            return ""
        digest = hashlib.sha256()
        for sample in self.samples:
            digest.update(b"none" if sample.annotations is None else sample.annotations.tobytes())
        return digest.hexdigest()

    def labelled(self) -> "TrainingSet":
        """Return the training set without the items that have no label.

        Raises
        ------
        InputError
            If no item has one.
        """
        marks = [(item, item.sample.annotations) for item in self.items]
        kept = [item for item, labels in marks if labels is not None and bool((labels >= 0).any())]
        if not kept:
            raise InputError("labels", expected="some labelled pixels", got="none", fix="check the labels")
        return replace(self, items=kept)


def build_training_set(
    sources: Sequence[Source],
    steps: str,
    files: AnnotationFiles | None,
    axes: str | None,
    progress: Progress,
    windows: "WindowChoice | None" = None,
    channels: Channels = None,
) -> TrainingSet:
    """Read, check and prepare the training images of a model; open those that are learned from in windows.

    Parameters
    ----------
    sources
        Inputs, not read yet.
    steps
        Preparation steps (`selfseg.sample.prepare`).
    files
        Labels or scribbles, not read yet; None = there are none.
    axes
        Axes of all inputs, None = as the files say.
    progress
        Progress reporter.
    windows
        Which images are learned from in windows; None = those that do not fit in memory.
    channels
        Channels to use; None = all.

    Raises
    ------
    SelfsegError
        If no input can be used: the error of the first. One failing input among others is named in `failures`.
    """
    windows = windows or WindowChoice()
    images, failures = _read_all(sources, axes, progress, windows, channels)
    failures += _drop_strangers(images)
    annotations = None if files is None else files.read(images)
    preparation = Preparation.parse(steps)
    preparation = preparation.fit_pixels(_pixels(images, windows.seed, preparation))
    if limits := preparation.describe_limits(images.values()):
        progress.say(limits)
    items: list[TrainingItem] = []
    fingerprints: dict[str, str] = {}
    for source in sources:
        if (image := images.get(source.name)) is None:
            continue
        try:
            if image.in_memory:
                items += _whole_items(source, image, preparation, annotations, progress)
                fingerprints[source.name] = source.fingerprint()
            else:
                cut = windows.cut(image, source.name, preparation, annotations, progress)
                items += [TrainingItem(source.name, one.prepared, one, one.given, one.region) for one in cut]
                fingerprints[source.name] = _digest_windows(cut)
        except InputError as error:
            failures.append((source.name, str(error)))
    if not items:
        raise InputError(failures[-1][1])
    windows_of = dict(Counter(item.name for item in items if item.region is not None))
    n_channels, n_dims = _kind(next(iter(images.values())))
    return TrainingSet(items, preparation, n_channels, n_dims, annotations, fingerprints, failures, windows_of)


def _read_all(
    sources: Sequence[Source], axes: str | None, progress: Progress, windows: "WindowChoice", channels: Channels
) -> tuple[dict[str, Image], list[Failure]]:
    """Read every input, or open it if it is learned from in windows; those that fail are named and left out."""
    images: dict[str, Image] = {}
    failures: list[Failure] = []
    first: SelfsegError | None = None
    for source in sources:
        try:
            image = images[source.name] = windows.open(source, axes).select_channels(channels)
        except SelfsegError as error:
            failures.append((source.name, str(error)))
            first = first or error
            continue
        if not source.settled:  # else the sequence was reported
            source.tell(image.remarks, progress)
    if not images and first is not None:
        raise first
    return images, failures


def _kind(image: Image) -> tuple[int, int]:
    return image.n_channels, len(image.spatial_shape)


def _drop_strangers(images: dict[str, Image]) -> list[Failure]:
    """Take out images that differ from most of the others in channels or dimensions, and name them."""
    common = Counter(_kind(image) for image in images.values()).most_common(1)[0][0]
    failures = []
    for name in [name for name, image in images.items() if _kind(image) != common]:
        got = "{} channel(s), {}D".format(*_kind(images.pop(name)))
        expected = "{} channel(s), {}D, as most training images have".format(*common)
        error = InputError(name, expected=expected, got=got, fix="convert it, or train on it separately")
        failures.append((name, str(error)))
    return failures


def _pixels(images: Mapping[str, Image], seed: int, preparation: Preparation) -> Iterator[NDArray[Any]]:
    """Yield the valid pixels ``[N C]`` of all images that a global step needs, image by image, or window by window."""
    for image in images.values():
        if image.in_memory:
            for frame in split_frames(image):
                yield from preparation.pixels_if_any(frame)
        else:
            yield from window_pixels(image, preparation, seed)


def _whole_items(
    source: Source, image: Image, preparation: Preparation, annotations: Annotations | None, progress: Progress
) -> list[TrainingItem]:
    """Prepare each frame of an image."""
    items = []
    for number, frame in enumerate(split_frames(image)):
        prepared = prepare(frame, preparation)
        for note in prepared.notes:
            progress.say(f"{source.name}: {note}")
        labels = None if annotations is None else annotations.prepared(source.name, number, prepared)
        sample = Sample(prepared.array, prepared.valid(), labels, prepared.memo)
        items.append(TrainingItem(source.name, prepared, sample, prepared.memo))
    return items


@dataclass(frozen=True)
class WindowChoice:
    """Which images are learned from in windows, and in which.

    Attributes
    ----------
    n
        Windows of each image; None = `DEFAULT_WINDOWS`, and only of images that do not fit in memory.
    side
        Their side in pixels of the prepared image; None = `sample.statistics.WINDOW_SIDE`.
    memory
        Most that this process may take, in bytes; None = by what is free.
    seed
        Decides which windows.
    only
        Names of the images that the run to be resumed learned from in windows, whatever memory there is now; None = no such run.
    kept
        Windows in memory.
    """

    n: int | None = None
    side: int | None = None
    memory: int | None = None
    seed: int = 0
    only: frozenset[str] | None = None
    kept: LRUCache[Sample] = field(default_factory=lambda: LRUCache[Sample](KEPT_PIXELS), repr=False)

    @classmethod
    def parse(
        cls, text: str | int | None, memory: int | None = None, seed: int = 0, only: frozenset[str] | None = None
    ) -> "WindowChoice":
        """Make a choice out of ``"16"`` or ``"16:512"``: number of windows, and their side.

        Raises
        ------
        UsageError
            If it is neither.
        """
        if text is None:
            return cls(None, None, memory, seed, only)
        match = re.fullmatch(r"\s*0*([1-9]\d*)\s*(?::\s*0*([1-9]\d*)\s*)?", str(text))
        if match is None:
            raise UsageError(
                "--windows",
                expected="a number of windows, or NUMBER:SIDE",
                got=repr(text),
                fix="write for example --windows 16:512",
            )
        return cls(int(match[1]), int(match[2]) if match[2] else None, memory, seed, only)

    def open(self, source: Source, axes: str | None) -> Image:
        """Return an image in its file if it is to be learned from in windows, in memory if as a whole.

        Raises
        ------
        SelfsegError
            If it cannot be opened.
        """
        if self.only is not None and source.name not in self.only:
            return source.read(axes)
        image = source.open(axes)
        if image.in_memory or self.n is not None or self.only is not None:
            return image
        taken = image.data.nbytes + image.data.size * BYTES_ON_THE_WAY
        return source.read(axes) if taken <= memory_budget(self.memory) else image

    def cut(
        self, image: Image, name: str, preparation: Preparation, annotations: Annotations | None, progress: Progress
    ) -> list[WindowSample]:
        """Choose the windows of an image, with its annotations, and report them.

        Raises
        ------
        InputError, UsageError
            As for `sample.window_samples.window_samples`.
        """
        number = self.n or DEFAULT_WINDOWS
        labels = None if annotations is None else annotations.arrays.get(name)
        at_place = None if labels is None else partial(_annotations_at, labels)
        cut = window_samples(image, preparation, number, self.side, self.seed, self.kept, at_place)
        size, side = (" x ".join(map(str, sizes)) for sizes in (image.spatial_shape, cut[0].shape[1:]))
        why = "too large to be read whole, so" if self.n is None else "as asked,"
        progress.say(f"{image.name}: {size} pixels, {why} learned from in {len(cut)} window(s) of {side} (--windows)")
        if annotations is not None and labels is not None:
            parts = [sample.annotations for sample in cut if sample.annotations is not None]
            if missing := set(annotations.values_in(labels)) - set(annotations.values_in(parts)):
                shown = f"none of the windows has the label(s) {', '.join(map(str, sorted(missing)))}"
                progress.say(f"{image.name}: {shown}; more of them may have it (--windows {2 * number})")
            cut = [replace(s, annotations=annotations.as_classes(part)) for s, part in zip(cut, parts, strict=True)]
        shrunk = cut[0].prepared.shrinking ** (1 / len(image.spatial_shape))
        if shrunk > SHRUNK:
            said = f"its sides are shrunk {shrunk:.0f} times by {preparation}; --prepare range keeps its own pixels"
            progress.say(f"{image.name}: {said}")
        return cut


def _annotations_at(
    labels: Sequence[NDArray[Any]], prepared: PreparedImage, time: int | None, region: Region
) -> NDArray[np.integer]:
    """Return the annotations of a window; one of the image's own pixels needs none of them read."""
    frame = labels[time or 0]
    return prepared.forward_annotations(frame, region) if prepared.resized else frame[region]


def _digest_windows(samples: list[WindowSample]) -> str:
    """Return the SHA-256 of the windows that are learned from, by which the image is recognised without reading all of it."""
    digest = hashlib.sha256()
    for sample in samples:
        window = sample.read()
        time = None if sample.time is None else {"T": sample.time}
        digest.update(f"{time} {sample.region} {window.array.shape}".encode())
        digest.update(window.array.tobytes())
        digest.update(b"" if window.valid is None else window.valid.tobytes())
    return digest.hexdigest()


class Taken(NamedTuple):
    """Inputs with the chosen frames in place of their sequences.

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


def take_frames(sources: Sequence[Source], options: FitOptions, progress: Progress) -> Taken:
    """Put the chosen frames of every sequence in its place; images that are no sequence stay.

    A video always is one. Time series, folders of images and volumes are if the user chooses frames or slices.

    Raises
    ------
    SelfsegError
        If nothing is left: the error of the first sequence.
    """
    asked = (options.frames, options.n_frames, options.slices) != (None, None, None)
    videos = [source for source in sources if source.is_video(options.axes)]
    stills = [source for source in sources if source not in videos]
    taken = Taken([] if asked else stills, {}, [])
    openers: list[tuple[str, Callable[[], Iterable[Frames]]]]
    openers = [(source.name, partial(_video, source, progress)) for source in videos]
    if asked and options.slices is None and len(stills) > 1:
        openers.append(("frames", lambda: [Frames.of_folder(stills, "frames", options.axes)]))
    elif asked:
        openers += [(source.name, partial(_image_sequences, source, options, progress)) for source in stills]
    first: SelfsegError | None = None
    for name, opener in openers:
        try:
            for sequence in opener():
                _take(sequence, options, taken, progress)
        except SelfsegError as error:
            first = first or error
            taken.failures.append((name, str(error)))
    if not taken.sources and first is not None:
        raise first
    return taken


def _take(sequence: Frames, options: FitOptions, taken: Taken, progress: Progress) -> None:
    numbers = _numbers(sequence, options, progress)
    images = [sequence.frame(number) for number in numbers]
    taken.sources.extend(Source(image.name, content=image, settled=True) for image in images)
    cut = sequence.axis not in (None, "T")
    key = f"{sequence.name} {sequence.axis}" if sequence.axis else sequence.name
    taken.facts.setdefault("kind", "slices" if cut else "frames")
    taken.facts.setdefault("chosen", {})[key] = numbers


def _video(source: Source, progress: Progress) -> list[Frames]:
    return [open_video(source, progress)]


def _image_sequences(source: Source, options: FitOptions, progress: Progress) -> Iterator[Frames]:
    """Yield the time points of a series, or the slices of a volume along the axes asked for (z without)."""
    image = source.open(options.axes)
    source.tell(image.remarks, progress)
    if options.slices is None and "T" in image.axes:
        yield Frames.along(image, "T")
        return
    if "Z" not in image.axes:
        raise InputError(
            image.source,
            expected="a video, a time series, a volume or several images",
            got=f"axes {image.axes}",
            fix="leave --frames, --n-frames and --slices out, or name its axes with --axes",
        )
    if options.slices is None:
        progress.say(f"{image.name}: a volume, taken as slices along z (--slices y, x or all for others)")
    for axis in ALL_AXES if options.slices == "all" else options.slices or "z":
        yield Frames.along(image, axis.upper())


def _numbers(sequence: Frames, options: FitOptions, progress: Progress) -> list[int]:
    if options.frame_numbers is not None:
        for number in options.frame_numbers:
            sequence.check_number(number)
        return list(dict.fromkeys(options.frame_numbers))
    wanted = options.n_frames or DEFAULT_FRAMES
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
