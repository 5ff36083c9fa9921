"""Pictures as a video, one after the other in constant memory; as a folder of PNG files where PyAV is missing."""

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, OutputError
from selfseg.core.files import writing
from selfseg.export.overlay import write_picture
from selfseg.read.video import import_av

FRAME_RATE = 10.0
"""Frames a second of what has no time of its own."""

SMALL: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("libx264", "yuv420p", {"crf": "20", "preset": "veryfast"}),
    ("libopenh264", "yuv420p", {"b": "8M"}),
    ("mpeg4", "yuv420p", {"qscale": "3"}),
)
"""Codecs for looking at, in the order of preference: codec, pixel format, options. They play everywhere."""

LOSSLESS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("libx264rgb", "rgb24", {"crf": "0", "preset": "veryfast"}),
    ("ffv1", "bgr0", {}),
)
"""Codecs that keep every colour exactly."""

GREY = 96
"""Level of the picture that stands for a frame without a result."""


class VideoFile:
    """A context in which pictures are appended to a video: MP4 (H.264) to look at, Matroska where no colour may change.

    The file is written aside and gets its name when the context ends, also by an error: the frames that are there play. Where
    PyAV is missing, ``NAME/0000.png``, ``NAME/0001.png``, ... are written in its place, and `note` says so.

    Parameters
    ----------
    stem
        Path without its suffix.
    fps
        Frames a second; None = `FRAME_RATE`.
    lossless
        Keep every colour exactly. Otherwise odd sizes lose their last row or column, which H.264 cannot hold.
    n_frames
        Frames that are expected, for the numbers of PNG files.
    """

    def __init__(self, stem: Path, fps: float | None = None, lossless: bool = False, n_frames: int = 1) -> None:
        self.stem, self.fps, self.lossless = stem, fps or FRAME_RATE, lossless
        self.digits = max(4, len(str(n_frames - 1)))
        self.written = 0
        self.note = ""
        self._files = contextlib.ExitStack()
        self._stream: Any = None
        self._blank = 0
        self._shape: tuple[int, ...] | None = None
        try:
            self._av: Any = import_av()
        except InputError:
            self._av = None
            self.note = f"PyAV is missing (pip install 'selfseg[video]'): {stem.name} is written as PNG files in {stem}"

    @property
    def path(self) -> Path:
        """The file, or the folder of PNG files."""
        suffix = "" if self._av is None else ".mkv" if self.lossless else ".mp4"
        return self.stem.with_name(self.stem.name + suffix)

    def __enter__(self) -> Self:
        return self

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture ``[H W 3]`` of the size of the first.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        self._shape = picture.shape
        for _ in range(self._blank):
            self._append(np.full_like(picture, GREY))
        self._blank = 0
        self._append(picture)

    def skip(self) -> None:
        """Append a grey picture, for a frame that there is no result for."""
        self._blank += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shape is None:
            return
        with self._files:
            for _ in range(self._blank):
                self._append(np.full(self._shape, GREY, np.uint8))
            if self._stream is not None:
                self._encode(None)
                self._container.close()

    def _append(self, picture: NDArray[np.uint8]) -> None:
        if self._av is None:
            write_picture(self.path / f"{self.written:0{self.digits}d}.png", picture)
        else:
            even = picture if self.lossless else picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            if even.size == 0:
                even = np.repeat(np.repeat(picture, 2, 0), 2, 1)[:2, :2]
            if self._stream is None:
                self._open(even.shape)
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame.pts = self.written
            self._encode(frame)
        self.written += 1

    def _open(self, shape: tuple[int, ...]) -> None:
        codec, pixels, options = self._codec()
        temporary = self._files.enter_context(writing(self.path))
        try:
            self._container = self._av.open(str(temporary), "w")
            rate = Fraction(self.fps).limit_denominator(1001)
            self._stream = self._container.add_stream(codec, rate=rate, options=options)
            self._stream.height, self._stream.width, self._stream.pix_fmt = shape[0], shape[1], pixels
        except (self._av.FFmpegError, ValueError) as error:
            raise self._failure(error) from error

    def _codec(self) -> tuple[str, str, dict[str, str]]:
        for row in LOSSLESS if self.lossless else SMALL:
            with contextlib.suppress(ValueError, self._av.FFmpegError):
                self._av.codec.Codec(row[0], "w")
                return row
        fix = "install another build of PyAV"
        raise OutputError(self.path, expected="a video codec", got="an FFmpeg without one", fix=fix)

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (self._av.FFmpegError, ValueError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error)
        fix = "free some space, or choose another place with -o"
        return OutputError(self.path, expected="a video that can be written", got=reason, fix=fix)
