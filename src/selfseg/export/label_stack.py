"""Labels of a sequence as one TIFF, written page by page, so that it may be larger than memory."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import OutputError
from selfseg.core.files import telling_failures, writing
from selfseg.export.labels import LARGEST_IMAGEJ, imagej_info, imagej_look, imagej_unit

DESCRIPTION_BYTES = 400
"""Room that the first page keeps for ImageJ's description, which is known when the last page is."""

PIXELS_OF_CLASSES = np.uint8
"""Type of the labels of a model: it has at most 255 classes."""


class LabelStack:
    """A context in which label pages are appended to one TIFF with the axes TYX.

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
    fps
        Frames a second, if known.
    """

    def __init__(
        self,
        path: Path,
        table: ClassTable,
        spacing: Sequence[float] = (1.0, 1.0),
        unit: str = "pixel",
        n_pages: int = 1,
        fps: float | None = None,
    ) -> None:
        self.path, self.table, self.spacing = path, table, spacing
        self.unit, self.n_pages, self.fps = unit, n_pages, fps
        self.written = 0
        self._blank = 0
        self._shape: tuple[int, ...] | None = None
        self._files = contextlib.ExitStack()
        self._writer: Any = None
        self._failure: OutputError | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, labels: NDArray[np.integer]) -> None:
        """Append a page ``[Y X]`` of ids, 0 = ignore."""
        page = np.ascontiguousarray(labels, PIXELS_OF_CLASSES)
        if self._writer is None:
            self._open(page)
        for _ in range(self._blank):
            self._append(np.zeros_like(page))
        self._blank = 0
        self._append(page)

    def skip(self) -> None:
        """Append a page of zeros, for a frame that there is no result for."""
        self._blank += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None or self._shape is None:
            return
        if self._failure is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
            self._files.__exit__(type(self._failure), self._failure, None)  # no half of a stack takes its place
            return
        with self._files:
            for _ in range(self._blank):
                self._append(np.zeros(self._shape, PIXELS_OF_CLASSES))
            self._writer.close()
            with tifffile.TiffFile(self._temporary, mode="r+") as tif:
                tif.pages.first.tags["ImageDescription"].overwrite(self._description())

    def _open(self, page: NDArray[np.uint8]) -> None:
        self._shape = page.shape
        self._temporary = self._files.enter_context(writing(self.path))
        big = self.n_pages * page.nbytes > LARGEST_IMAGEJ
        self._writer = tifffile.TiffWriter(self._temporary, bigtiff=big)

    def _append(self, page: NDArray[np.uint8]) -> None:
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
        if self.fps:
            lines += [f"finterval={1 / self.fps:.9g}", f"fps={self.fps:.9g}"]
        return "\n".join([*lines, ""])
