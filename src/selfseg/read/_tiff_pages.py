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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.machine import LRUCache
from selfseg.read._lazy_array import FileArray, LazyArray, from_sliceable
from selfseg.read.arrays import damaged, decoding, quiet

CACHED = 64 << 20
"""Bytes of decoded strips and tiles that are kept, since neighbouring windows share them."""

LZW = 5
"""TIFF's number of the compression."""

LOWEST_BIT_FIRST = 2

WITH_LIBTIFF = frozenset((6,))
"""Compressions that libtiff alone reads, whole pages of it: JPEG of before 1995."""

JPEG = frozenset((6, 7, 33007, 34892))

YCBCR, RGB = 6, 2
DEFAULT_SUBSAMPLING = (2, 2)

COUNT_TAGS = (279, 325)
"""Bytes of the strips, and of the tiles."""

CHANGED = ("compression", "fillorder", "hash", "decode", "photometric", "subsampling")
"""Fields of a page that are replaced for a moment, and those that follow from them."""

PLACES = {"Z": 1, "Y": 2, "X": 3}
"""Where tifffile's decoder keeps an axis of a page: it counts separate samples, depth, rows, columns, samples."""


# tifffile logs damage and continues, with fewer pages or with zeros. Silently half an image is worse than an error.
FATAL = re.compile(r"offset|corrupt|missing|zeroed|circular|incorrect Strip|could not read|failed to re|failed to read")


LEFT_OUT = re.compile("OME series (failed to read|is missing|contains index out of range)")
"""Warnings of tifffile that `_ome_tiff` gives itself, of planes that are not there."""

NO_COUNTS = re.compile(r"missing (data )?ByteCounts tag")
WRONG_COUNTS = "incorrect StripByteCounts count"
"""Messages about what `mend_counts` sees to."""


class ChosenPages:
    """Pages of one size and type as a series: some of another series, or pages that are stored in different ways.

    What is used of tifffile's `TiffPageSeries` is here.

    Parameters
    ----------
    pages
        In the order of the leading axes.
    sizes, axes
        Lengths and letters of the leading axes; None = one axis of unknown meaning.
    """

    kind = "generic"
    dataoffset = None

    def __init__(self, pages: Sequence[Any], sizes: Sequence[int] | None = None, axes: str = "I") -> None:
        self.pages = list(pages)
        self.keyframe: tifffile.TiffPage = pages[0].keyframe
        self.mixed = sizes is None and len({id(page.keyframe) for page in pages}) > 1
        self.shape = (*(sizes or (len(pages),)), *self.keyframe.shape)
        self.axes = axes + self.keyframe.axes
        self.dtype = np.result_type(*{np.uint8 if page.dtype == bool else page.dtype for page in pages})
        self.ndim = len(self.shape)
        self.levels = [self]
        self.whole: tifffile.TiffPageSeries | None = None
        """The series of the file of which these are some pages."""

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def asarray(self) -> NDArray[Any]:
        """Return all pages."""
        return np.stack([page.asarray() for page in self.pages]).astype(self.dtype, copy=False).reshape(self.shape)


Series = tifffile.TiffPageSeries | ChosenPages


def all_pages(series: Series) -> NDArray[Any]:
    """Return all values of a series; tifffile warns of the other files of a set that it opens for that."""
    with quiet("py.warnings"):
        return series.asarray()


class PageReader:
    """Reads windows of a series in an open file, or of one level of it, page by page and segment by segment."""

    def __init__(self, path: Path, series: Series) -> None:
        self.series = series
        self.page = series.keyframe
        self.lead = series.ndim - self.page.ndim
        self.lock: threading.RLock | Any = self.page.parent.filehandle.lock
        self.kept: LRUCache[NDArray[Any]] = LRUCache(CACHED)
        self.path = path
        self.dtype = np.dtype(series.dtype).newbyteorder("=")

    def read(self, ranges: tuple[slice, ...]) -> NDArray[Any]:
        """Return the values of one range ``slice(start, stop)`` an axis of the series."""
        if all(part.stop - part.start == n for part, n in zip(ranges, self.series.shape, strict=True)):
            with self.lock, sound(self.path):  # several segments at once
                return all_pages(self.series).astype(self.dtype, copy=False).reshape(self.series.shape)
        lead, within = ranges[: self.lead], ranges[self.lead :]
        out = np.empty([part.stop - part.start for part in ranges], self.dtype)
        sizes = self.series.shape[: self.lead]
        for index in np.ndindex(*out.shape[: self.lead]):
            place = [part.start + i for part, i in zip(lead, index, strict=True)]
            number = int(np.ravel_multi_index(place, sizes)) if sizes else 0
            out[index] = self._window(number, within)
        return out

    def _window(self, number: int, within: tuple[slice, ...]) -> NDArray[Any]:
        page = self.series.pages[number]
        if page is None:
            raise ValueError(f"page {number} is missing")
        ranges = self._places(within)
        key: Any = page.keyframe
        lengths = [part.stop - part.start for part in ranges]
        window = np.empty(lengths, self.dtype)
        for segment in self._touched(key, ranges):
            values, start = self._segment(page, number, segment)
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

    def _touched(self, page: tifffile.TiffPage, ranges: list[slice]) -> list[int]:
        """Return the numbers of the strips or tiles of a page that the window overlaps."""
        separate, depth, rows, columns, _ = page.shaped
        if page.is_tiled:
            sizes = (page.tiledepth, page.tilelength, page.tilewidth)
        else:
            sizes = (1, min(page.rowsperstrip, rows), columns)
        counts = [separate, *(math.ceil(n / size) for n, size in zip((depth, rows, columns), sizes, strict=True))]
        touched = [
            range(part.start // size, (part.stop - 1) // size + 1)
            for part, size in zip(ranges[:4], (1, *sizes), strict=True)
        ]
        return [int(np.ravel_multi_index(place, counts)) for place in itertools.product(*touched)]

    def _segment(self, page: Any, number: int, segment: int) -> tuple[NDArray[Any], tuple[int, ...]]:
        """Return one decoded strip or tile ``[1 Z Y X S]`` of the page of a number, and where it begins."""
        key = page.keyframe
        _, start, shape = key.decode(None, segment)
        known = self.kept.get((number, segment))
        if known is not None:
            return known, start
        n_bytes = page.databytecounts[segment]
        if not n_bytes:  # left out by the writer: nothing there
            return np.full((1, *shape), key.nodata, self.dtype), start
        with self.lock:
            content = _read(page.parent.filehandle, page.dataoffsets[segment], n_bytes)
        if len(content) < n_bytes:
            raise ValueError(f"page {number} reaches beyond the end of the file")
        header = getattr(page, "jpegheader", None)
        decoded, _, _ = key.decode(content, segment, jpegtables=page.jpegtables, jpegheader=header)
        values = np.asarray(decoded)[None].astype(self.dtype, copy=False)
        return self.kept.put((number, segment), values, values.nbytes), start


def _read(handle: tifffile.FileHandle, start: int, n_bytes: int) -> bytes:
    """Read from a file; one of the others of a series (OME-TIFF) is open only for that."""
    with contextlib.ExitStack() as stack:
        if handle.closed:
            handle.open()
            stack.callback(handle.close)
        handle.seek(start)
        return bytes(handle.read(n_bytes))


def open_windows(path: Path, tif: tifffile.TiffFile, series: Series) -> LazyArray | None:
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
    mended = {message.split(" missing ")[0] for message in messages if NO_COUNTS.search(message)}  # `mend_counts`
    known = (NO_COUNTS, LEFT_OUT)
    wrong = (message for message in messages if FATAL.search(message) and not any(one.search(message) for one in known))
    fatal = next((one for one in wrong if WRONG_COUNTS not in one or one.split(" incorrect ")[0] not in mended), None)
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


def prepare_pages(pages: Iterable[Any]) -> None:
    """Let pages of a series be decoded with checks, and as they are meant where tifffile does not do so.

    LZW strips are unpacked by our own decoder, colours of fewer samples than brightness (YCbCr) are spread, and the bytes of a strip
    are worked out where the file does not give them. What undoes the predictor and the packing of bits stays tifffile's. Frames are
    decoded by their key frame, which must be among the pages.
    """
    for page in pages:
        if not isinstance(page, tifffile.TiffPage):
            continue
        mend_counts(page)
        if int(page.compression) == LZW or _is_spread(page):
            page.__dict__["decode"] = _checked(page)
            page.__dict__["is_contiguous"] = False


def mend_counts(page: tifffile.TiffPage) -> None:
    """Work out the bytes of strips where the tag is missing, 0 with a place, or too large.

    Packed strips end where the next one or the file does.
    """
    offsets, counts = tuple(page.dataoffsets), tuple(page.databytecounts)
    missing = not any(code in page.tags for code in COUNT_TAGS) or (any(offsets) and not any(counts))
    if page.is_tiled or not page.rowsperstrip:
        return
    if int(page.compression) == 1 and not _is_spread(page):
        row = math.ceil(page.imagewidth * (page.samplesperpixel if page.planarconfig == 1 else 1) * _bits(page) / 8)
        per_plane = math.ceil(page.imagelength / page.rowsperstrip)
        left = [page.imagelength - i % per_plane * page.rowsperstrip for i in range(len(offsets))]
        sizes = [min(page.rowsperstrip, rows) * row for rows in left]
        whole = sizes if missing else [min(pair) for pair in zip(sizes, counts, strict=False)]
        page.databytecounts = tuple(whole) if missing or sum(counts) > sum(sizes) else counts
    elif missing:
        marks = sorted({*offsets, page.parent.filehandle.size, page.offset})
        page.databytecounts = tuple(
            next((mark for mark in marks if mark > offset), offset) - offset for offset in offsets
        )


def _bits(page: tifffile.TiffPage) -> int:
    bits = page.bitspersample
    return int(bits) if isinstance(bits, int) else math.ceil(sum(bits) / len(bits))


def _is_spread(page: tifffile.TiffPage) -> bool:
    """Return whether tifffile refuses the page for colours that may have fewer samples than brightness."""
    packed = int(page.compression) not in JPEG or page.planarconfig == 2
    return packed and int(page.photometric) == YCBCR and page.is_subsampled


def _checked(page: tifffile.TiffPage) -> Callable[..., Any]:
    """Return what tifffile's `TiffPage.decode` is, a function of a segment's bytes and its number."""
    spread = _is_spread(page)
    plain = _decoder_of_unpacked(page, spread)
    compression, planar = int(page.compression), page.planarconfig == 2
    reversed_bits = page.fillorder == LOWEST_BIT_FIRST
    dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    steps = page.subsampling or DEFAULT_SUBSAMPLING
    if spread and (page.predictor != 1 or set(steps) - {1, 2, 4} or page.bitspersample not in (8, 16)):
        raise ValueError(f"unsupported: YCbCr of {page.bitspersample} bits, spread {steps}, predictor {page.predictor}")

    def decode(data: bytes | None, index: int, /, **how: Any) -> Any:
        if data is None:
            return plain(None, index, **how)
        _, place, shape = plain(None, index)
        if reversed_bits:
            data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
        data = _unpacked(data, compression, math.prod(shape) * dtype.itemsize)
        if spread:
            values = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
            if page.subsampling is None and values.size >= math.prod(shape):
                return plain(data, index, **how)  # not spread after all: a missing tag means 2 x 2
            values = _spread_plane(values, shape, steps, place[0] > 0) if planar else _spread(values, shape, steps)
            data = values.tobytes()
        return plain(data, index, **how)

    return decode


def _unpacked(data: bytes, compression: int, size: int) -> Any:
    """Return the bytes of a strip or tile, at most `size`."""
    from selfseg.read._lzw import unpack_lzw

    if compression == 1:
        return data
    return unpack_lzw(data, size) if compression == LZW else tifffile.TIFF.DECOMPRESSORS[compression](data, out=size)


def _spread(values: NDArray[Any], shape: Sequence[int], steps: tuple[int, int]) -> NDArray[Any]:
    """Return ``[Y X 3]`` of data units: the brightnesses of a block of `steps` columns and rows, then its Cb and Cr (TIFF 6.0, page 93)."""
    (columns, rows), (across, down) = (shape[2], shape[1]), steps
    wide, high = math.ceil(columns / across), math.ceil(rows / down)
    units = values[: wide * high * (across * down + 2)].reshape(high, wide, across * down + 2)
    brightness = units[..., :-2].reshape(high, wide, down, across).swapaxes(1, 2).reshape(high * down, wide * across)
    colours = units[..., -2:].repeat(down, 0).repeat(across, 1)
    return np.concatenate([brightness[..., None], colours], -1)[:rows, :columns]


def _spread_plane(values: NDArray[Any], shape: Sequence[int], steps: tuple[int, int], coloured: bool) -> NDArray[Any]:
    """Return ``[Y X]`` of a plane of Cb or Cr, which has one number for a block of `steps` columns and rows."""
    (columns, rows), (across, down) = (shape[2], shape[1]), steps
    if not coloured or values.size >= rows * columns:  # some writers store whole planes all the same
        return values
    wide, high = math.ceil(columns / across), math.ceil(rows / down)
    return values[: wide * high].reshape(high, wide).repeat(down, 0).repeat(across, 1)[:rows, :columns]


def _decoder_of_unpacked(page: tifffile.TiffPage, spread: bool) -> Callable[..., Any]:
    """Return the decoder that the page would have if its segments were not packed, and its colours not fewer."""
    stored: dict[str, Any] = {name: page.__dict__[name] for name in CHANGED if name in page.__dict__}
    kind = hash(("unpacked", page.hash, spread))  # tifffile keeps one decoder for all pages of a hash
    page.__dict__.pop("decode", None)
    page.__dict__.update(compression=1, fillorder=1, hash=kind)
    if spread:
        page.__dict__.update(photometric=RGB, subsampling=(1, 1))
    try:
        return page.decode
    finally:
        for name in CHANGED:
            page.__dict__.pop(name, None)
        page.__dict__.update(stored)


def read_with_libtiff(path: Path, series: Series) -> NDArray[Any]:
    """Return a series whose pages tifffile cannot decode, in RGB where they are colours."""
    content = path.read_bytes()
    pages = [imagecodecs.tiff_decode(content, index=page.index) for page in series.pages if page is not None]
    return np.stack(pages).reshape(series.shape)
