"""A video as the page looks at it: frames decoded when they are asked for, the last ones kept."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read.video import VideoFrames

REEL_BYTES = 2**28
"""Decoded frames that are kept of one video, in bytes; two at least."""

REACH = 48
"""Frames ahead of the last one up to which decoding goes on; beyond them it begins anew at a key frame."""


class Reel:
    """A lazy array ``[T 1 Y X C]`` over the frames of a video: `reel[3]` is the frame of number 3, ``[1 Y X C]``.

    Parameters
    ----------
    video
        The frames.
    """

    def __init__(self, video: VideoFrames) -> None:
        self.video = video
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._walk: Iterator[tuple[int, Image]] = iter(())
        self._at = video.n_frames
        self._turn = threading.Lock()
        self.first = video.frame(0)
        frame = self.first.channels_last()
        self.shape = (video.n_frames, 1, *frame.shape)
        self.dtype = frame.dtype
        self._most = max(2, REEL_BYTES // frame.nbytes)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that its frames take at most."""
        return min(len(self), self._most) * int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def __getitem__(self, number: int) -> NDArray[Any]:
        """Return a frame.

        Raises
        ------
        InputError
            If it does not decode, or is of another size than the first.
        """
        with self._turn:
            if number not in self._kept:
                self._decode_to(number)
            if number not in self._kept:
                fix = "go on to the next one; copy or export the file again"
                what = f"{self.video.source}, frame {number}"
                raise InputError(what, expected="a frame that decodes", got="damaged data", fix=fix)
            self._kept.move_to_end(number)
            return self._kept[number]

    def _decode_to(self, number: int) -> None:
        """Decode up to a frame, on from the last one where that is near; all on the way are kept."""
        if not self._at < number <= self._at + REACH:
            self._walk = self.video.frames_from(number)
        for found, image in self._walk:
            self._at = found
            data = image.channels_last()[None]
            if data.shape == self.shape[1:]:
                self._kept[found] = data
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            if found >= number:
                return
        self._at = len(self)
