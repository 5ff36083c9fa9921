"""Parts of a TIFF: only the strips or tiles that a window touches are read and decoded."""

import itertools
import math
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.read._file_array import FileArray
from selfseg.read._lazy_array import LazyArray, from_sliceable

CACHED = 64 << 20
"""Bytes of decoded strips and tiles that are kept, since neighbouring windows share them."""

PLACES = {"Z": 1, "Y": 2, "X": 3}
"""Where tifffile's decoder keeps an axis of a page: it counts separate samples, depth, rows, columns, samples."""


class PageReader:
    """Reads windows of a series, page by page and segment by segment.

    Parameters
    ----------
    path
        The file, for messages.
    tif
        The open file.
    series
        The image in it, or one level of it.
    """

    def __init__(self, path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
        self.series = series
        self.page = series.keyframe
        self.lead = series.ndim - self.page.ndim
        self.lock = threading.RLock()
        self.kept: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self.kept_bytes = 0
        self.array = LazyArray(
            path, series.shape, np.dtype(series.dtype).newbyteorder("="), self.read, tif.close, ratio=math.inf
        )

    def read(self, ranges: tuple[slice, ...]) -> NDArray[Any]:
        """Return the values of one range ``slice(start, stop)`` an axis of the series."""
        lead, within = ranges[: self.lead], ranges[self.lead :]
        out = np.empty([part.stop - part.start for part in ranges], self.array.dtype)
        sizes = self.series.shape[: self.lead]
        for index in np.ndindex(*out.shape[: self.lead]):
            place = [part.start + i for part, i in zip(lead, index, strict=True)]
            number = int(np.ravel_multi_index(place, sizes)) if sizes else 0
            out[index] = self._window(number, within)
        return out

    def _window(self, number: int, within: tuple[slice, ...]) -> NDArray[Any]:
        ranges = self._places(within)
        lengths = [part.stop - part.start for part in ranges]
        window = np.empty(lengths, self.array.dtype)
        for segment in self._touched(ranges):
            values, start = self._segment(number, segment)
            source, target = [], []
            for part, low, size in zip(ranges, start, values.shape, strict=True):
                first, last = max(part.start, low), min(part.stop, low + size)
                source.append(slice(first - low, last - low))
                target.append(slice(first - part.start, last - part.start))
            window[tuple(target)] = values[tuple(source)]
        return window.reshape([part.stop - part.start for part in within])

    def _places(self, within: tuple[slice, ...]) -> list[slice]:
        """Return the window in the five axes of the decoder."""
        ranges = [slice(0, 1)] * 5
        samples = 0 if self.page.planarconfig == 2 and self.page.shaped[0] > 1 else 4
        for letter, part in zip(self.page.axes, within, strict=True):
            ranges[PLACES.get(letter, samples)] = part
        return ranges

    def _touched(self, ranges: list[slice]) -> list[int]:
        """Return the numbers of the strips or tiles that the window overlaps."""
        separate, depth, rows, columns, _ = self.page.shaped
        if self.page.is_tiled:
            sizes = (self.page.tiledepth, self.page.tilelength, self.page.tilewidth)
        else:
            sizes = (1, min(self.page.rowsperstrip, rows), columns)
        counts = [separate, *(math.ceil(n / size) for n, size in zip((depth, rows, columns), sizes, strict=True))]
        touched = [
            range(part.start // size, (part.stop - 1) // size + 1)
            for part, size in zip(ranges[:4], (1, *sizes), strict=True)
        ]
        return [int(np.ravel_multi_index(place, counts)) for place in itertools.product(*touched)]

    def _segment(self, number: int, segment: int) -> tuple[NDArray[Any], tuple[int, ...]]:
        """Return one decoded strip or tile ``[1 Z Y X S]``, and where it begins."""
        page = self.series.pages[number]
        if page is None:
            raise ValueError(f"page {number} is missing")
        _, start, shape = self.page.decode(None, segment)
        with self.lock:
            known = self.kept.get((number, segment))
            if known is not None:
                self.kept.move_to_end((number, segment))
                return known, start
        n_bytes = page.databytecounts[segment]
        if not n_bytes:  # left out by the writer: nothing there
            return np.full((1, *shape), self.page.nodata, self.array.dtype), start
        with self.lock:
            handle = page.parent.filehandle
            handle.seek(page.dataoffsets[segment])
            content = handle.read(n_bytes)
        if len(content) < n_bytes:
            raise ValueError(f"page {number} reaches beyond the end of the file")
        header = getattr(page, "jpegheader", None)
        decoded, _, _ = self.page.decode(content, segment, jpegtables=page.jpegtables, jpegheader=header)
        values = np.asarray(decoded)[None].astype(self.array.dtype, copy=False)
        self._keep((number, segment), values)
        return values, start

    def _keep(self, key: tuple[int, int], values: NDArray[Any]) -> None:
        with self.lock:
            self.kept[key] = values
            self.kept_bytes += values.nbytes
            while self.kept_bytes > CACHED and len(self.kept) > 1:
                self.kept_bytes -= self.kept.popitem(last=False)[1].nbytes


def open_windows(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> LazyArray | None:
    """Return a series as an array to read windows of: straight from the file if it is one block of plain
    values, else by its segments.

    Returns
    -------
    LazyArray or None
        With the axes of the series; None if its pages are not whole planes of it.
    """
    page = series.keyframe
    if series.dataoffset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(page.parent.byteorder)
        values = FileArray(page.parent.filehandle.path, dtype, series.dataoffset, series.shape)
        return from_sliceable(path, values, close=tif.close)
    lead = series.ndim - page.ndim
    planes = lead >= 0 and tuple(series.shape[lead:]) == tuple(page.shape)
    if not planes or math.prod(series.shape[:lead]) != len(series.pages) or set(page.axes) - set("ZYXS"):
        return None
    return PageReader(path, tif, series).array
