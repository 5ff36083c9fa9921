"""Parts of a TIFF: only the strips or tiles that a window touches are read and decoded.

LZW ones go through our own decoder: imagecodecs' may end the process on damaged ones (`EXPERIMENTS.md`).
"""

import contextlib
import itertools
import logging
import math
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.machine import LRUCache
from selfseg.read._lazy_array import FileArray, LazyArray, from_sliceable
from selfseg.read.arrays import damaged, decoding

CACHED = 64 << 20
"""Bytes of decoded strips and tiles that are kept, since neighbouring windows share them."""

LZW = 5
"""TIFF's number of the compression."""

LOWEST_BIT_FIRST = 2

CHANGED = ("compression", "fillorder", "hash", "decode")
"""What a page is told otherwise for a moment, and what it works out from that."""

PLACES = {"Z": 1, "Y": 2, "X": 3}
"""Where tifffile's decoder keeps an axis of a page: it counts separate samples, depth, rows, columns, samples."""


# tifffile logs damage and goes on, with fewer pages or with zeros. Silently half an image is worse than an error.
FATAL = re.compile(r"offset|corrupt|missing|zeroed|circular|incorrect Strip|could not read|failed to re|failed to read")


class PageReader:
    """Reads windows of a series in an open file, or of one level of it, page by page and segment by segment."""

    def __init__(self, path: Path, series: tifffile.TiffPageSeries) -> None:
        self.series = series
        self.page = series.keyframe
        self.lead = series.ndim - self.page.ndim
        self.lock = threading.RLock()
        self.kept: LRUCache[NDArray[Any]] = LRUCache(CACHED)
        self.path = path
        self.dtype = np.dtype(series.dtype).newbyteorder("=")

    def read(self, ranges: tuple[slice, ...]) -> NDArray[Any]:
        """Return the values of one range ``slice(start, stop)`` an axis of the series."""
        if all(part.stop - part.start == n for part, n in zip(ranges, self.series.shape, strict=True)):
            with self.lock, sound(self.path):  # several segments at once
                return self.series.asarray().astype(self.dtype, copy=False).reshape(self.series.shape)
        lead, within = ranges[: self.lead], ranges[self.lead :]
        out = np.empty([part.stop - part.start for part in ranges], self.dtype)
        sizes = self.series.shape[: self.lead]
        for index in np.ndindex(*out.shape[: self.lead]):
            place = [part.start + i for part, i in zip(lead, index, strict=True)]
            number = int(np.ravel_multi_index(place, sizes)) if sizes else 0
            out[index] = self._window(number, within)
        return out

    def _window(self, number: int, within: tuple[slice, ...]) -> NDArray[Any]:
        ranges = self._places(within)
        lengths = [part.stop - part.start for part in ranges]
        window = np.empty(lengths, self.dtype)
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
        known = self.kept.get((number, segment))
        if known is not None:
            return known, start
        n_bytes = page.databytecounts[segment]
        if not n_bytes:  # left out by the writer: nothing there
            return np.full((1, *shape), self.page.nodata, self.dtype), start
        with self.lock:
            handle = page.parent.filehandle
            handle.seek(page.dataoffsets[segment])
            content = handle.read(n_bytes)
        if len(content) < n_bytes:
            raise ValueError(f"page {number} reaches beyond the end of the file")
        header = getattr(page, "jpegheader", None)
        decoded, _, _ = self.page.decode(content, segment, jpegtables=page.jpegtables, jpegheader=header)
        values = np.asarray(decoded)[None].astype(self.dtype, copy=False)
        return self.kept.put((number, segment), values, values.nbytes), start


def open_windows(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> LazyArray | None:
    """Return a series as an array to read windows of: straight from the file if it is one block of plain values, else by its segments.

    It has the axes of the series; None if its pages are not whole planes of it.
    """
    page = series.keyframe
    lead = series.ndim - page.ndim
    planes = lead >= 0 and tuple(series.shape[lead:]) == tuple(page.shape)
    if series.dataoffset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(page.parent.byteorder)
        values = FileArray(page.parent.filehandle.path, dtype, series.dataoffset, series.shape)
        windows = from_sliceable(path, values, close=tif.close)
    elif not planes or math.prod(series.shape[:lead]) != len(series.pages) or set(page.axes) - set("ZYXS"):
        return None
    else:
        reader = PageReader(path, series)
        windows = LazyArray(path, series.shape, reader.dtype, reader.read, tif.close)
    weakref.finalize(windows, tif.close)  # a file that nobody closes is closed when nobody can read it any more
    return windows


@contextlib.contextmanager
def sound(path: Path) -> Iterator[None]:
    """Turn what damaged bytes raise, and what tifffile only logs of them, into one line."""
    with _logged() as messages, decoding(path):
        yield
    fatal = next((message for message in messages if FATAL.search(message)), None)
    if fatal is not None:
        raise damaged(path, re.sub(r"<[^<>]*>", "", fatal))


@contextlib.contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect what tifffile logs, and keep it off the user's screen."""
    messages: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(collect)
    try:
        yield messages
    finally:
        logger.removeFilter(collect)


def decode_lzw_safely(pages: Iterable[Any]) -> None:
    """Let pages of a series that are LZW be decoded as unpacked ones are, after they have been unpacked with checks.

    What undoes the predictor and the packing of bits stays tifffile's. Frames are decoded by their key frame, which must be among
    the pages.
    """
    for page in pages:
        if isinstance(page, tifffile.TiffPage) and int(page.compression) == LZW:
            page.__dict__["decode"] = _checked(page)


def _checked(page: tifffile.TiffPage) -> Callable[..., Any]:
    """Return what tifffile's `TiffPage.decode` is, a function of a segment's bytes and its number."""
    from selfseg.read._lzw import unpack_lzw

    plain = _decoder_of_unpacked(page)
    reversed_bits = page.fillorder == LOWEST_BIT_FIRST
    itemsize = np.dtype(page.dtype).itemsize

    def decode(data: bytes | None, index: int, /, **how: Any) -> Any:
        if data is None:
            return plain(None, index, **how)
        if reversed_bits:
            data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
        shape = plain(None, index)[2]
        return plain(unpack_lzw(data, math.prod(shape) * itemsize), index, **how)

    return decode


def _decoder_of_unpacked(page: tifffile.TiffPage) -> Callable[..., Any]:
    """Return the decoder that the page would have if its segments were not packed."""
    stored: dict[str, Any] = {name: page.__dict__[name] for name in CHANGED if name in page.__dict__}
    kind = hash(("unpacked", page.hash))  # tifffile keeps one decoder for all pages of a hash
    page.__dict__.pop("decode", None)
    page.__dict__.update(compression=1, fillorder=1, hash=kind)
    try:
        return page.decode
    finally:
        for name in ("decode", "hash"):
            page.__dict__.pop(name, None)
        page.__dict__.update(stored)
