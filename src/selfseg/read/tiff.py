"""TIFF: pages, stacks, planar and tiled layouts, ImageJ and OME metadata, with tifffile."""

import contextlib
import logging
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read._decoded import ANY_SIZE, MAX_DEFLATE, Decoded, check_size, damaged, decoding, split_address
from selfseg.read._lazy_array import LazyArray
from selfseg.read._tiff_chain import check_chain
from selfseg.read._tiff_lzw import decode_lzw_safely
from selfseg.read._tiff_pages import open_windows
from selfseg.read._tiff_scale import channel_names, read_spacing
from selfseg.read._tiff_values import arranged, channel_axes, has_alpha, known_letters, plain_values, without_alpha

ONE_IMAGE_KINDS = ("generic", "uniform", "shaped", "imagej", "ome")
"""Kinds of series of which a file should hold one. Slides also hold labels and thumbnails: there the first counts."""

MAX_RATIO = {1: 1, 5: 2800, 7: 1100, 8: MAX_DEFLATE, 32946: MAX_DEFLATE, 32773: 64}
"""Pixel bytes of one stored byte by compression (none, LZW, JPEG, Deflate, PackBits); others have no bound."""

ORIENTATION_TAG = 274
NO_DATA_TAG = 42113

# tifffile logs damage and goes on, with fewer pages or with zeros. Silently half an image is worse than an error.
FATAL = re.compile(r"offset|corrupt|missing|zeroed|circular|incorrect Strip|could not read|failed to re|failed to read")


def decode(path: Path, max_bytes: int | None = None, as_labels: bool = False) -> Decoded:
    """Read the image of a TIFF file: one page, or all pages of one size as a stack; ``a.tif:/1`` is the second of several.

    Palettes and CMYK become RGB, "0 is white" is turned to "0 is black", 1, 2 and 4-bit values are spread over 0-255,
    alpha and no-data values become `valid`, and the orientation tag is applied. Other integers and floats keep their
    values.

    Parameters
    ----------
    path
        The file.
    max_bytes
        Pixel bytes allowed; None = three quarters of the free memory.
    as_labels
        The values are labels: none of the changes of values above is made.

    Raises
    ------
    InputError
        If the file is damaged or truncated, too large, or holds several images of different sizes.
    """
    file, chosen = split_address(path)
    with _sound(path), tifffile.TiffFile(file) as tif:
        series = _main_series(path, tif, chosen)
        _check_declared(path, series, max_bytes)
        return _decoded(tif, series, series.asarray(), as_labels)


def open_lazy(path: Path, as_labels: bool = False, level: int = 0) -> Decoded:
    """Open one image without reading it: a window then reads the strips or tiles that it touches.

    What cannot be read in windows is read whole: images that must be turned, and series whose pages are not whole planes.

    Parameters
    ----------
    path, as_labels
        As for `decode`.
    level
        Level of a pyramid, 0 = finest.

    Raises
    ------
    InputError
        As for `decode`, and if there is no such level.
    """
    file, chosen = split_address(path)
    with contextlib.ExitStack() as stack:
        with _sound(path):
            tif = stack.enter_context(tifffile.TiffFile(file))
            main = _main_series(path, tif, chosen)
            series = _level(path, main, level)
            _check_declared(path, series, ANY_SIZE)
            windows = None if _orientation(series) != 1 else open_windows(path, tif, series)
            if windows is None:
                _check_declared(path, series, None)
                decoded = _decoded(tif, series, series.asarray(), as_labels)
            else:
                decoded = _lazily_decoded(path, tif, series, windows, as_labels)
            decoded = _at_level(decoded, tif, main, series) if level else decoded
        if windows is not None:
            stack.pop_all()  # the file stays open for the windows
        return decoded


def _level(path: Path, main: tifffile.TiffPageSeries, level: int) -> tifffile.TiffPageSeries:
    if not 0 <= level < len(main.levels):
        got, fix = str(level), f"0 is the finest, {len(main.levels) - 1} the coarsest"
        raise InputError(path, expected=f"one of {len(main.levels)} levels", got=got, fix=fix)
    return main.levels[level]


def _at_level(
    decoded: Decoded, tif: tifffile.TiffFile, main: tifffile.TiffPageSeries, series: tifffile.TiffPageSeries
) -> Decoded:
    """Return the pixel sizes of a level: those of the finest, times what it was shrunk by."""
    sizes = zip(main.axes, main.shape, series.shape, strict=True)
    factors = {letter: full / n for letter, full, n in sizes if letter in "ZYX"}
    finest, _ = read_spacing(tif, main.keyframe)
    steps = {letter: finest.get(letter, 1.0) * factor for letter, factor in factors.items()}
    return replace(decoded, spacing=steps)


@contextlib.contextmanager
def _sound(path: Path) -> Iterator[None]:
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


def _main_series(path: Path, tif: tifffile.TiffFile, chosen: str) -> tifffile.TiffPageSeries:
    check_chain(path, tif)
    if not tif.series:
        raise damaged(path, "it has no page")
    full = [series for series in tif.series if not series.keyframe.is_reduced and not series.keyframe.is_mask]
    several = len(full) > 1 and full[0].kind in ONE_IMAGE_KINDS
    if chosen.isdigit() and int(chosen) < len(full):
        return full[int(chosen)]
    if several or chosen:
        sizes = ", ".join(" x ".join(str(n) for n in series.shape) for series in full[:4])
        fix = f"choose one, from {split_address(path)[0]}:/0 on, or save them as separate files"
        raise InputError(path, expected="pages of one size and type", got=f"{len(full)} images ({sizes})", fix=fix)
    return full[0] if full else tif.series[0]


def _check_declared(path: Path, series: tifffile.TiffPageSeries, max_bytes: int | None) -> None:
    page = series.keyframe
    if series.dtype is None:
        raise damaged(path, f"no such pixel type: {page.bitspersample} bits, sample format {page.sampleformat}")
    if series.dtype.kind == "c":
        fix = "save the magnitude or the phase as float"
        raise InputError(path, expected="real numbers", got=f"complex ones ({series.dtype})", fix=fix)
    pages = [one for one in series.pages if one is not None]
    decode_lzw_safely([page, *pages])
    files = {id(one.parent): one.parent.filehandle.size for one in pages}
    sparse = any(count == 0 for one in pages for count in one.databytecounts)
    ratio = math.inf if sparse else MAX_RATIO.get(int(page.compression), math.inf)
    bits = max(int(page.bitspersample), 1)
    item = series.dtype.itemsize
    check_size(path, series.shape, item, sum(files.values()), max_bytes, ratio * max(1.0, 8 * item / bits))
    if series.dataoffset is not None and series.dataoffset + series.nbytes > page.parent.filehandle.size:
        raise damaged(
            path, f"{series.nbytes} pixel bytes expected from byte {series.dataoffset} on, but the file ends earlier"
        )
    for one in pages:
        ends = (offset + count for offset, count in zip(one.dataoffsets, one.databytecounts, strict=False) if count)
        if len(pages) == len(series.pages) and max(ends, default=0) > one.parent.filehandle.size:
            raise damaged(path, f"the pixels of page {one.index} reach beyond the end of the file")


def _orientation(series: tifffile.TiffPageSeries) -> int:
    return int(series.keyframe.tags.valueof(ORIENTATION_TAG, default=1))


def _values(
    series: tifffile.TiffPageSeries, array: NDArray[Any], as_labels: bool
) -> tuple[NDArray[Any], str, NDArray[np.bool_]]:
    """Return plain values of a series or a window of it, their axes, and where they are valid.

    The mask broadcasts against the values.
    """
    page, axes = series.keyframe, str(series.axes)
    array = np.asarray(array).astype(array.dtype.newbyteorder("="), copy=False)
    mask = np.ones((1,) * array.ndim, bool)
    if NO_DATA_TAG in page.tags and not as_labels:
        mask = (array != page.nodata).any(axis=channel_axes(axes), keepdims=True)
    array, alpha = without_alpha(array, axes, page)
    mask = mask & alpha.all(axis=channel_axes(axes), keepdims=True)
    if not as_labels:
        array, axes = plain_values(array, axes, page)
        mask = mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))
    mask, _ = arranged(mask, axes, _orientation(series))
    array, axes = arranged(array, axes, _orientation(series))
    return array, axes, mask


def _decoded(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, array: NDArray[Any], as_labels: bool) -> Decoded:
    array, axes, mask = _values(series, array, as_labels)
    keep = [i for i, letter in enumerate(axes) if letter in "YX" or array.shape[i] > 1]
    valid = None if mask.all() else _valid(mask, array.shape, axes, keep)
    array, axes = array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)
    return _described(tif, series, np.ascontiguousarray(array), axes, valid)


def _described(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, data: Any, axes: str, valid: Any) -> Decoded:
    axes, guessed = known_letters(axes)
    spacing, unit = read_spacing(tif, series.keyframe)
    if _orientation(series) in (5, 6, 7, 8) and spacing:
        spacing = {**spacing, "Y": spacing["X"], "X": spacing["Y"]}
    names = channel_names(tif, data.shape[axes.index("C")] if "C" in axes else 1)
    return Decoded(data, axes, guessed, spacing, unit, names, valid)


def _lazily_decoded(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, windows: LazyArray, as_labels: bool
) -> Decoded:
    """Describe windows of a series. Each is turned to plain values when it is read, with all of its samples at once."""

    def read_window(ranges: tuple[slice, ...]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        by_letter = dict(zip(kept, ranges, strict=True))
        own = [
            slice(0, n) if letter in "CS" else by_letter.get(letter, slice(0, 1))
            for letter, n in zip(series.axes, series.shape, strict=True)
        ]
        values, letters, mask = _values(series, windows.read(tuple(own)), as_labels)
        if "C" in by_letter:
            values = values[(slice(None),) * letters.index("C") + (by_letter["C"],)]
        keep = [i for i, letter in enumerate(letters) if letter in kept]
        return values.reshape([values.shape[i] for i in keep]), _valid(mask, values.shape, letters, keep)

    kept = ""
    one = tuple(slice(0, n if letter in "CS" else 1) for letter, n in zip(series.axes, series.shape, strict=True))
    probe, letters, _ = _values(series, windows.read(one), as_labels)
    sizes = dict(zip(series.axes, series.shape, strict=True))
    if "C" in letters:
        sizes["C"] = probe.shape[letters.index("C")]
    kept = "".join(letter for letter in letters if letter in "YX" or sizes[letter] > 1)
    shape = [sizes[letter] for letter in kept]
    data = LazyArray(path, shape, probe.dtype, lambda ranges: read_window(ranges)[0], windows.close)
    masked = has_alpha(series.keyframe) or (NO_DATA_TAG in series.keyframe.tags and not as_labels)
    valid = _lazy_mask(path, data, kept, read_window) if masked else None
    return _described(tif, series, data, kept, valid)


def _lazy_mask(path: Path, data: LazyArray, axes: str, read_window: Any) -> LazyArray:
    """Return where the values are valid, over the axes other than C."""
    channels = axes.find("C")

    def read(ranges: tuple[slice, ...]) -> NDArray[np.bool_]:
        whole = ranges if channels < 0 else (*ranges[:channels], slice(0, data.shape[channels]), *ranges[channels:])
        mask: NDArray[np.bool_] = read_window(whole)[1]
        return mask

    shape = [n for n, letter in zip(data.shape, axes, strict=True) if letter != "C"]
    return LazyArray(path, shape, bool, read, data.close)


def _valid(mask: NDArray[np.bool_], shape: tuple[int, ...], axes: str, keep: list[int]) -> NDArray[np.bool_]:
    """Return the broadcast mask over the kept axes other than C."""
    whole = np.broadcast_to(mask, [1 if letter == "C" else n for n, letter in zip(shape, axes, strict=True)])
    return whole.reshape([shape[i] for i in keep if axes[i] != "C"])
