"""Sequences: what is read one frame at a time, in order or by number. A folder of pictures, a time series, a volume's slices.

A sequence is never whole in memory unless its file is. Videos are sequences of their own (`read.video`).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read.sources import Source, fingerprint_of

ALL_AXES = "zyx"
"""Axes across which a volume can be cut into slices."""

DIGITS = 4
"""Digits of a frame's number in its name, at least."""


class Frames:
    """A sequence of images of one size, without T, of which one at a time is read.

    Parameters
    ----------
    name
        Stem for outputs.
    source
        Where it came from, for messages and for `run.json`.
    n_frames
        How many frames there should be; a damaged file may give fewer.
    read
        Reads the frame of a number from 0 to `n_frames` - 1; it may raise `InputError`.
    fingerprint
        Returns a SHA-256, in hexadecimal digits, by which the sequence is known again.
    names
        Of single images that are the frames; empty = they are named by the sequence and their numbers.
    axis
        Axis of the image whose planes the frames are, ``T``, ``Z``, ``Y`` or ``X``; None = they are not planes of one image.
    fps
        Frames a second; None = they have no time.

    Attributes
    ----------
    interval
        Seconds from one frame to the next; None = they have no time. A slow series has one and is still shown at the usual `fps`.
    notes
        What is odd about the file and does not keep it from being read.

    Examples
    --------
    >>> import numpy as np
    >>> volume = Image(np.zeros((3, 4, 5)), "ZYX", name="cells")
    >>> [frame.name for frame in Frames.along(volume, "Z").frames()]
    ['cells_z0000', 'cells_z0001', 'cells_z0002']
    """

    def __init__(
        self,
        name: str,
        source: str,
        n_frames: int,
        read: Callable[[int], Image],
        fingerprint: Callable[[], str],
        names: Sequence[str] = (),
        axis: str | None = None,
        fps: float | None = None,
    ) -> None:
        self.name, self.source, self.n_frames = name, source, n_frames
        self.names, self.axis, self.fps = tuple(names), axis, fps
        self.interval: float | None = None if fps is None else 1 / fps
        self.notes: tuple[str, ...] = ()
        self.fingerprint = fingerprint
        self._read = read

    @classmethod
    def of_image(cls, image: Image) -> "Frames":
        """Return the sequence of a single image."""
        return cls(
            image.name, image.source, 1, lambda _: image.load(), lambda: fingerprint_of(image), names=[image.name]
        )

    @classmethod
    def along(cls, image: Image, axis: str = "T", fingerprint: Callable[[], str] | None = None) -> "Frames":
        """Return the planes of an image along one of its axes: time points, or slices of a volume.

        Parameters
        ----------
        image
            An image with that axis, in memory or in its file; of one in its file a plane at a time is read.
        axis
            ``T``, ``Z``, ``Y`` or ``X``. A plane keeps the order of the other axes; Z becomes Y, or X, where that is missing.
        fingerprint
            That of the source from which it was opened; None = of the image's pixels, or of its file.
        """
        if axis not in image.axes:
            raise InputError(
                image.source, expected=f"an axis {axis}", got=f"axes {image.axes}", fix="name its axes with --axes"
            )

        def read(number: int) -> Image:
            return image.at(axis, number).load()

        known = fingerprint or (lambda: fingerprint_of(image))
        frames = cls(image.name, image.source, image.size(axis), read, known, axis=axis)
        frames.interval = image.meta.get("interval") if axis == "T" else None
        return frames

    @classmethod
    def of_folder(cls, sources: Sequence[Source], name: str, axes: str | None = None) -> "Frames":
        """Return single images as a sequence, in their order.

        Parameters
        ----------
        sources
            The images.
        name
            Stem for outputs.
        axes
            Axes of each, None = as the files say.
        """

        def read(number: int) -> Image:
            image = sources[number].read(axes)
            if set(image.axes) & set("TZ"):
                raise InputError(
                    image.source,
                    expected="a single image as a frame",
                    got=f"axes {image.axes}",
                    fix="give it alone, or name its axes with --axes",
                )
            return image

        def fingerprint() -> str:
            return hashlib.sha256("".join(source.fingerprint() for source in sources).encode()).hexdigest()

        names = [source.name for source in sources]
        return cls(name, f"{len(sources)} frames ({name})", len(sources), read, fingerprint, names)

    def __len__(self) -> int:
        return self.n_frames

    def frames(self, every: int = 1) -> Iterator[Image | InputError]:
        """Yield every frame in order, or the error that kept it from being read; one frame is in memory at a time.

        A frame of another size or number of channels than the first is an error too.

        Parameters
        ----------
        every
            Yield only the frames 0, `every`, 2 `every`, ...

        Raises
        ------
        InputError
            After the last frame that there is, if more were promised.
        """
        first: Image | None = None
        for number in range(0, self.n_frames, every):
            try:
                image = self.frame(number)
            except InputError as error:
                yield error
            else:
                first = first or image
                yield same_size(image.source, image, first)

    def frame(self, number: int) -> Image:
        """Return the frame of a number, from 0 on.

        Raises
        ------
        InputError
            If there is no such frame, or it cannot be read.
        """
        self.check_number(number)
        return replace(self._read(number), name=self.frame_name(number))

    def frame_name(self, number: int) -> str:
        """Return the name of a frame: that of its image, or of the sequence with its number."""
        if self.names:
            return self.names[number]
        digits = max(DIGITS, len(str(self.n_frames - 1)))
        return f"{self.name}_{(self.axis or 'f').lower()}{number:0{digits}d}"

    def check_number(self, number: int) -> None:
        """Raise `InputError` unless there is a frame of this number."""
        if not 0 <= number < self.n_frames:
            raise InputError(
                self.source,
                expected=f"a frame number from 0 to {self.n_frames - 1}",
                got=str(number),
                fix="count from 0",
            )


def same_size(what: str, image: Image, first: Image) -> Image | InputError:
    """Return a frame, or the error for one of another size or number of channels than the first."""
    expected, got = (" x ".join(map(str, (*one.spatial_shape, one.n_channels))) for one in (first, image))
    if expected == got:
        return image
    expected += " (rows, columns, channels) like the first frame"
    return InputError(what, expected=expected, got=got, fix="it is skipped; convert the frames to one size")
