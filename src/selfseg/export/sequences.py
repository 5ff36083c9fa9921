"""Results of a sequence, page by page, so that a file may be larger than memory: pictures as a video, labels as one TIFF."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError, OutputError
from selfseg.core.files import telling_failures, writing
from selfseg.export.labels import LARGEST_IMAGEJ, imagej_info, imagej_look, imagej_unit
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

BLOCK = 16
"""Sides of the blocks of H.264. Where those of a picture are no multiples of it, ``mbtree`` reads memory that x264 has not written, and
equal pictures give different bytes (seen with x264 core 165 and ``MALLOC_PERTURB_``): without it, they take about twice the room."""

LOSSLESS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("libx264rgb", "rgb24", {"crf": "0", "preset": "veryfast"}),
    ("ffv1", "bgr0", {}),
)
"""Codecs that keep every colour exactly."""

DESCRIPTION_BYTES = 400
"""Room that the first page keeps for ImageJ's description, which is known when the last page is."""


class _Pages(ABC):
    """A context in which pages are appended to a file, with blank ones for frames that have no result."""

    BLANK = 0

    def __init__(self) -> None:
        self.written = 0
        self._skipped = 0
        self._shape: tuple[int, ...] = ()
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def add(self, page: NDArray[Any]) -> None:
        """Append a page of the size of the first: a picture ``[H W 3]``, or ids ``[Y X]`` with 0 = ignore.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        self._shape = page.shape
        self._append_skipped()
        self._append(np.ascontiguousarray(page, np.uint8))

    def skip(self) -> None:
        """Append a blank page, for a frame that there is no result for."""
        self._skipped += 1

    def _append_skipped(self) -> None:
        for _ in range(self._skipped):
            self._append(np.full(self._shape, self.BLANK, np.uint8))
        self._skipped = 0

    @abstractmethod
    def _append(self, page: NDArray[np.uint8]) -> None:
        """Write a page."""


class VideoFile(_Pages):
    """A context in which pictures are appended to a video: MP4 (H.264) to look at, Matroska where no colour may change.

    The file is written aside and gets its name when the context ends, also by an error: the frames that are there play. Where
    PyAV is missing, ``NAME/0000.png``, ``NAME/0001.png``, ... are written in its place, with a `note`.

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

    BLANK = 96

    def __init__(self, stem: Path, fps: float | None = None, lossless: bool = False, n_frames: int = 1) -> None:
        super().__init__()
        self.stem, self.fps, self.lossless = stem, fps or FRAME_RATE, lossless
        self.digits = max(4, len(str(n_frames - 1)))
        self.note = ""
        self._stream: Any = None
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._shape:
            return
        with self._files:
            self._append_skipped()
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
        if codec == "libx264" and (shape[0] % BLOCK or shape[1] % BLOCK):
            options = {**options, "mbtree": "0"}
        temporary = self._files.enter_context(writing(self.path))
        try:
            self._container = self._av.open(str(temporary), "w", options={"fflags": "+bitexact"})  # no random ids in it
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
        raise OutputError(
            self.path, expected="a video codec", got="an FFmpeg without one", fix="install another build of PyAV"
        )

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (self._av.FFmpegError, ValueError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error)
        return OutputError(
            self.path,
            expected="a video that can be written",
            got=reason,
            fix="free some space, or choose another place with -o",
        )


class LabelStack(_Pages):
    """A context in which label pages (of a model's at most 255 classes) are appended to one TIFF with the axes TYX.

    It is an ImageJ hyperstack with the class names and colours, deflated; more than 2 GiB of pixels make it a BigTIFF. The file
    is written aside and gets its name when the context ends, also by an error: the pages that are there are usable.

    Parameters
    ----------
    spacing
        Size of a pixel along Y and X.
    unit
        Unit of `spacing`.
    n_pages
        Pages that are expected, to choose the kind of file.
    interval
        Seconds from one frame to the next; None = unknown.
    """

    def __init__(
        self,
        path: Path,
        table: ClassTable,
        spacing: Sequence[float] = (1.0, 1.0),
        unit: str = "pixel",
        n_pages: int = 1,
        interval: float | None = None,
    ) -> None:
        super().__init__()
        self.path, self.table, self.spacing = path, table, spacing
        self.unit, self.n_pages, self.interval = unit, n_pages, interval
        self._writer: Any = None
        self._failure: OutputError | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        if self._failure is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
            self._files.__exit__(type(self._failure), self._failure, None)  # no half of a stack takes its place
            return
        with self._files:
            self._append_skipped()
            self._writer.close()
            with tifffile.TiffFile(self._temporary, mode="r+") as tif:
                tif.pages.first.tags["ImageDescription"].overwrite(self._description())

    def _open(self, page: NDArray[np.uint8]) -> None:
        self._temporary = self._files.enter_context(writing(self.path))
        big = self.n_pages * page.nbytes > LARGEST_IMAGEJ
        self._writer = tifffile.TiffWriter(self._temporary, bigtiff=big)

    def _append(self, page: NDArray[np.uint8]) -> None:
        if self._writer is None:
            self._open(page)
        first: dict[str, Any] = {}
        if not self.written:
            first = {"description": " " * DESCRIPTION_BYTES, "extratags": self._colours(), "software": "selfseg"}
        try:
            with telling_failures(self.path):
                self._writer.write(
                    page,
                    photometric="minisblack",
                    compression="zlib",
                    contiguous=False,
                    metadata=None,
                    resolution=(1 / self.spacing[1], 1 / self.spacing[0]),
                    resolutionunit="NONE",
                    **first,
                )
        except OutputError as error:
            self._failure = error
            raise
        self.written += 1

    def _colours(self) -> Any:
        look = {**imagej_look(self.table), "Info": imagej_info(self.table)}
        return tifffile.tifffile.imagej_metadata_tag(look, "<")

    def _description(self) -> str:
        lines = ["ImageJ=1.54f", f"images={self.written}", f"frames={self.written}", "hyperstack=true"]
        lines += ["mode=grayscale", f"unit={imagej_unit(self.unit)}", "min=0.0", "max=255.0", "loop=false"]
        if self.interval:
            lines += [f"finterval={self.interval:.9g}", f"fps={1 / self.interval:.9g}"]
        return "\n".join([*lines, ""])
