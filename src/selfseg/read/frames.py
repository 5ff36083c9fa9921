"""Sequences: what is read one frame at a time, in order or by number. A folder of pictures, a time series, a volume's slices.

A sequence is never whole in memory unless its file is. Videos are sequences of their own (`read.video`).
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.read.formats import FORMATS, suffix_of
from selfseg.read.sources import Source

ALL_AXES = "zyx"
"""Axes across which a volume can be cut into slices."""

DIGITS = 4
"""Digits of a frame's number in its name, at least."""


class FrameSource(ABC):
    """A sequence of images of one size.

    Attributes
    ----------
    name
        Stem for outputs.
    source
        Where it came from, for messages and for `run.json`.
    n_frames
        How many frames there should be; a damaged file may give fewer.
    fps
        Frames a second; None = they have no time.
    """

    name: str
    source: str
    n_frames: int
    fps: float | None = None

    @abstractmethod
    def frames(self, every: int = 1) -> Iterator[Image | InputError]:
        """Yield every frame in order, or the error that kept it from being read; one frame is in memory at a time.

        Parameters
        ----------
        every
            Yield only the frames 0, `every`, 2 `every`, ...

        Raises
        ------
        InputError
            After the last frame that there is, if more were promised.
        """

    @abstractmethod
    def frame(self, number: int) -> Image:
        """Return the frame of a number, from 0 on.

        Raises
        ------
        InputError
            If there is no such frame, or it cannot be read.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a SHA-256, in hexadecimal digits, by which the sequence is known again."""

    def frame_name(self, number: int) -> str:
        """Return the name of a frame: that of the sequence and its number."""
        return f"{self.name}_f{number:0{max(DIGITS, len(str(self.n_frames - 1)))}d}"

    def check_number(self, number: int) -> None:
        """Raise `InputError` unless there is a frame of this number."""
        if not 0 <= number < self.n_frames:
            expected = f"a frame number from 0 to {self.n_frames - 1}"
            raise InputError(self.source, expected=expected, got=str(number), fix="count from 0")


class FolderFrames(FrameSource):
    """Single images in order, each one a frame.

    Parameters
    ----------
    sources
        The images, in their order.
    name
        Stem for outputs.
    axes
        Axes of each, None = as the files say.
    """

    def __init__(self, sources: Sequence[Source], name: str, axes: str | None = None) -> None:
        self.sources = list(sources)
        self.name = name
        self.source = f"{len(self.sources)} frames ({name})"
        self.n_frames = len(self.sources)
        self.axes = axes

    def frames(self, every: int = 1) -> Iterator[Image | InputError]:
        """See `FrameSource.frames`. A frame of another size than the first is an error of its own."""
        first: Image | None = None
        for number in range(0, self.n_frames, every):
            try:
                image = self.frame(number)
            except InputError as error:
                yield error
                continue
            first = first or image
            yield image if alike(image, first) else other_size(image.source, image, first)

    def frame(self, number: int) -> Image:
        """See `FrameSource.frame`."""
        self.check_number(number)
        image = self.sources[number].read(self.axes)
        if set(image.axes) & set("TZ"):
            got, fix = f"axes {image.axes}", "give it alone, or name its axes with --axes"
            raise InputError(image.source, expected="a single image as a frame", got=got, fix=fix)
        return image

    def fingerprint(self) -> str:
        """Return the SHA-256 of the frames' own."""
        return hashlib.sha256("".join(source.fingerprint() for source in self.sources).encode()).hexdigest()

    def frame_name(self, number: int) -> str:
        """Return the name of the image."""
        return self.sources[number].name


class StackFrames(FrameSource):
    """The planes of an image along one of its axes: time points, or slices of a volume.

    Parameters
    ----------
    image
        An image with that axis, in memory or in its file; of one in its file a plane at a time is read.
    axis
        ``T``, ``Z``, ``Y`` or ``X``. A plane keeps the order of the other axes; Z becomes Y, or X, where that is missing.
    """

    def __init__(self, image: Image, axis: str = "T") -> None:
        if axis not in image.axes:
            got, fix = f"axes {image.axes}", "name its axes with --axes"
            raise InputError(image.source, expected=f"an axis {axis}", got=got, fix=fix)
        self.image, self.axis = image, axis
        self.name, self.source = image.name, image.source
        self.n_frames = int(image.data.shape[image.axes.index(axis)])

    def frames(self, every: int = 1) -> Iterator[Image | InputError]:
        """See `FrameSource.frames`."""
        return (self.frame(number) for number in range(0, self.n_frames, every))

    def frame(self, number: int) -> Image:
        """See `FrameSource.frame`."""
        self.check_number(number)
        return replace(self.image.at(self.axis, number).load(), name=self.frame_name(number))

    def fingerprint(self) -> str:
        """Return the SHA-256 of the image's pixels, or of its file."""
        if self.image.in_memory:
            return Source(self.name, content=self.image).fingerprint()
        return Source(self.name, Path(self.image.source)).fingerprint()

    def frame_name(self, number: int) -> str:
        """Return the name of the image, the axis and the number."""
        return f"{self.name}_{self.axis.lower()}{number:0{max(DIGITS, len(str(self.n_frames - 1)))}d}"


def alike(image: Image, first: Image) -> bool:
    """Return whether an image has the size and the channels of another."""
    return (image.spatial_shape, image.n_channels) == (first.spatial_shape, first.n_channels)


def other_size(what: str, image: Image, first: Image) -> InputError:
    """Return the error for a frame of another size or number of channels than the first."""
    sizes = (" x ".join(map(str, (*one.spatial_shape, one.n_channels))) for one in (first, image))
    expected, got = sizes
    fix = "it is skipped; convert the frames to one size"
    return InputError(what, expected=f"{expected} (rows, columns, channels) like the first frame", got=got, fix=fix)


def is_video(source: Source, axes: str | None = None) -> bool:
    """Return whether an input is a file that is read as a video, and not as a volume because the user says that it has Z."""
    deep = axes is not None and "Z" in axes.upper()
    return source.path is not None and FORMATS.get(suffix_of(source.path) or "") == "video" and not deep


def check_slices(slices: str | None) -> None:
    """Raise `UsageError` unless `slices` is None, ``z``, ``y``, ``x`` or ``all``."""
    if slices is not None and slices not in (*ALL_AXES, "all"):
        raise UsageError("--slices", expected="z, y, x or all", got=repr(slices), fix="choose one")
