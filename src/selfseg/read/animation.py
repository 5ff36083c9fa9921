"""Animated GIF, WebP and PNG: sequences of whole pictures, each as it is shown, read one at a time with Pillow."""

import statistics
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.Image import DecompressionBombError
from PIL.ImageFile import ImageFile

from selfseg.core.errors import InputError
from selfseg.read._lazy_array import LazyArray
from selfseg.read.arrays import Decoded, decoding, quiet

DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of grey with more than 8 bits."""

MODES = ("P", "PA", "L", "LA", "1", "RGB", "RGBA", "RGBX", "RGBa", "La", *DEEP)


TAIL = 1024
"""Bytes at the end of a GIF among which its end mark is looked for."""


class Animation:
    """The pictures of a file, each put together with those before it as a viewer does.

    Parameters
    ----------
    path
        The file, which stays open.
    opener
        Opens it.

    Raises
    ------
    InputError
        If a picture does not decode, or has another size than the first.
    """

    def __init__(self, path: Path, opener: Callable[[BinaryIO], ImageFile]) -> None:
        self.path, self.opener, self.lock = path, opener, threading.Lock()
        self.last: tuple[int, NDArray[Any], NDArray[np.bool_]] | None = None
        self.file = path.open("rb")
        with decoding(path, DecompressionBombError):
            self.picture: Any
            self.picture = opener(self.file)
            # a PNG may begin with a picture for those who know no animation
            self.first = int(bool(getattr(self.picture, "default_image", False)))
            self.n_frames = int(self.picture.n_frames) - self.first
            self._look()

    def _look(self) -> None:
        """Go through the pictures: how large they are, whether all are grey and opaque, how long they are shown."""
        self.grey, self.opaque = True, True
        times, kinds = [], set()
        for number in range(self.n_frames):
            values, shown = self._frame(number)
            if number == 0:
                self.size, self.dtype = values.shape[:2], values.dtype
            kinds.add((values.shape[:2], values.dtype))
            self.grey = self.grey and bool((values == values[..., :1]).all())
            self.opaque = self.opaque and bool(shown.all())
            times.append(float(self.picture.info.get("duration") or 0.0))
        if len(kinds) > 1:
            raise ValueError(f"pictures of {len(kinds)} sizes or types")
        self.interval = statistics.median(times) / 1000 or None

    def _frame(self, number: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return ``[Y X 1]`` or ``[Y X 3]``, and where the picture is not transparent."""
        if self.last is None or self.last[0] != number:
            with quiet("PIL"):
                self._go_to(number + self.first)
                if self.picture.mode not in MODES:
                    raise ValueError(f"a picture of mode {self.picture.mode}")
                if self.picture.mode in DEEP:
                    values = np.array(self.picture).astype(np.uint16)[..., None]
                    self.last = number, values, np.ones(values.shape[:2], bool)
                else:
                    colours = np.array(self.picture.convert("RGBA"))
                    self.last = number, colours[..., :3], colours[..., 3] > 0
        return self.last[1], self.last[2]

    def _go_to(self, number: int) -> None:
        """Decode up to a picture: each needs those before it. Backwards, Pillow loses its way in some files."""
        if number < self.picture.tell():
            self.picture = self.opener(self.file)
        for between in range(self.picture.tell() + 1, number + 1):
            self.picture.load()
            self.picture.seek(between)

    def values(self, ranges: tuple[slice, ...]) -> NDArray[Any]:
        """Read values ``[T Y X]``, or ``[T Y X C]`` of colours."""
        return self._parts(ranges, lambda values, _: values[..., 0] if self.grey else values)

    def mask(self, ranges: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Read where they are valid ``[T Y X]``."""
        return self._parts(ranges, lambda _, shown: shown)

    def _parts(self, ranges: tuple[slice, ...], part: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        with self.lock, decoding(self.path, DecompressionBombError):
            return np.stack([part(*self._frame(i))[ranges[1:]] for i in range(ranges[0].start, ranges[0].stop)])


def open_animation(path: Path, opener: Callable[[BinaryIO], ImageFile], cut: bool) -> Decoded:
    """Open the pictures of a file as ``TYX``, or ``TYXC`` of colours; transparent pixels are not `valid`.

    `cut`: Pillow would cut its values to 8 bits: that is refused.
    """
    if cut:
        raise InputError(
            path,
            expected="an animation of 8 bits a colour, or of one channel",
            got="an animated PNG of 16 bits and several",
            fix="save its pictures as single files",
        )
    clip = Animation(path, opener)
    shape = (clip.n_frames, *clip.size)
    colours = () if clip.grey else (3,)
    data = LazyArray(path, (*shape, *colours), clip.dtype, clip.values, clip.file.close)
    valid = None if clip.opaque else LazyArray(path, shape, bool, clip.mask, clip.file.close)
    meta = {} if clip.interval is None else {"interval": clip.interval}
    notes = (
        ()
        if _ends(clip.file)
        else (f"the file does not end as a GIF does; read are the {clip.n_frames} pictures there",)
    )
    whole = Decoded(data, "TYX" + "C" * len(colours), valid=valid, meta=meta, notes=notes)
    if clip.n_frames > 1:
        return whole
    return replace(whole, data=data.at(0, 0), axes=whole.axes[1:], valid=None if valid is None else valid.at(0, 0))


def _ends(file: BinaryIO) -> bool:
    """Tell whether a GIF ends with its mark; its pictures may break off between two of them. Other formats count theirs."""
    file.seek(0)
    if file.read(4) != b"GIF8":
        return True
    file.seek(-min(TAIL, file.seek(0, 2)), 2)
    return file.read().rstrip(b"\0\n\r ").endswith(b";")
