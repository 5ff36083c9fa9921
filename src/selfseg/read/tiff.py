"""TIFF: pages, stacks, planar and tiled layouts, ImageJ and OME metadata, with tifffile."""

import contextlib
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.errors import InputError, explain
from selfseg.read._decoded import DAMAGE, MAX_DEFLATE, Decoded, check_size, cmyk_to_rgb, damaged, orient
from selfseg.read._tiff_scale import channel_names, read_spacing

ONE_IMAGE_KINDS = ("generic", "uniform", "shaped", "imagej", "ome")
"""Kinds of series of which a file should hold one. Slides also hold labels and thumbnails: there the first counts."""

MAX_RATIO = {1: 1, 5: 2800, 7: 1100, 8: MAX_DEFLATE, 32946: MAX_DEFLATE, 32773: 64}
"""Pixel bytes of one stored byte by compression (none, LZW, JPEG, Deflate, PackBits); others have no bound."""

ORIENTATION_TAG = 274
NO_DATA_TAG = 42113

# tifffile logs damage and goes on, with fewer pages or with zeros. Silently half an image is worse than an error.
FATAL = re.compile(r"offset|corrupt|missing|zeroed|circular|incorrect Strip|could not read|failed to re|failed to read")


def decode(path: Path, max_bytes: int | None = None, as_labels: bool = False) -> Decoded:
    """Read the image of a TIFF file: one page, or all pages of one size as a stack.

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
    with _logged() as messages:
        try:
            with tifffile.TiffFile(path) as tif:
                series = _main_series(path, tif)
                _check_declared(path, series, max_bytes)
                array = series.asarray()
                decoded = _decoded(tif, series, array, as_labels)
        except DAMAGE as error:
            raise damaged(path, str(error)) from error
    fatal = next((message for message in messages if FATAL.search(message)), None)
    if fatal is not None:
        raise damaged(path, re.sub(r"<[^<>]*>", "", fatal))
    return decoded


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


def _main_series(path: Path, tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    if not tif.series:
        raise damaged(path, "it has no page")
    full = [series for series in tif.series if not series.keyframe.is_reduced and not series.keyframe.is_mask]
    if len(full) > 1 and full[0].kind in ONE_IMAGE_KINDS:
        sizes = ", ".join(" x ".join(str(n) for n in series.shape) for series in full[:4])
        fix = "save them as separate files"
        raise InputError(
            explain(str(path), expected="pages of one size and type", got=f"{len(full)} images ({sizes})", fix=fix)
        )
    return full[0] if full else tif.series[0]


def _check_declared(path: Path, series: tifffile.TiffPageSeries, max_bytes: int | None) -> None:
    page = series.keyframe
    if series.dtype is None:
        raise damaged(path, f"no such pixel type: {page.bitspersample} bits, sample format {page.sampleformat}")
    if series.dtype.kind == "c":
        fix = "save the magnitude or the phase as float"
        raise InputError(explain(str(path), expected="real numbers", got=f"complex ones ({series.dtype})", fix=fix))
    pages = [one for one in series.pages if one is not None]
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


def _decoded(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, array: NDArray[Any], as_labels: bool) -> Decoded:
    page, axes = series.keyframe, str(series.axes)
    orientation = int(page.tags.valueof(ORIENTATION_TAG, default=1))
    array = np.asarray(array).astype(array.dtype.newbyteorder("="), copy=False)
    mask = np.ones((1,) * array.ndim, bool)  # broadcasts against `array` throughout
    if NO_DATA_TAG in page.tags and not as_labels:
        mask = (array != page.nodata).any(axis=_channel_axes(axes), keepdims=True)
    array, alpha = _without_alpha(array, axes, page)
    mask = mask & alpha.all(axis=_channel_axes(axes), keepdims=True)
    if not as_labels:
        array, axes = _plain_values(array, axes, page)
        mask = mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))
    mask, _ = _arranged(mask, axes, orientation)
    array, axes = _arranged(array, axes, orientation)
    keep = [i for i, letter in enumerate(axes) if letter in "YX" or array.shape[i] > 1]
    valid = None if mask.all() else _valid(mask, array.shape, axes, keep)
    array, axes = array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)
    axes, guessed = _known_letters(axes)
    spacing, unit = read_spacing(tif, page)
    if orientation in (5, 6, 7, 8) and spacing:
        spacing = {**spacing, "Y": spacing["X"], "X": spacing["Y"]}
    names = channel_names(tif, array.shape[axes.index("C")] if "C" in axes else 1)
    return Decoded(np.ascontiguousarray(array), axes, guessed, spacing, unit, names, valid)


def _channel_axes(axes: str) -> tuple[int, ...]:
    return tuple(i for i, letter in enumerate(axes) if letter in "CS")


def _valid(mask: NDArray[np.bool_], shape: tuple[int, ...], axes: str, keep: list[int]) -> NDArray[np.bool_]:
    """Return the broadcast mask over the kept axes other than C."""
    whole = np.broadcast_to(mask, [1 if letter == "C" else n for n, letter in zip(shape, axes, strict=True)])
    return whole.reshape([shape[i] for i in keep if axes[i] != "C"])


def _without_alpha(array: NDArray[Any], axes: str, page: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Take the alpha sample, where the page says that there is one, out of the axis ``S``; return where it is not 0."""
    kinds = [int(kind) for kind in page.extrasamples]
    if "S" not in axes or not {1, 2} & set(kinds):
        return array, np.ones((1,) * array.ndim, bool)
    where, first = axes.index("S"), array.shape[axes.index("S")] - len(kinds)
    index = first + next(i for i, kind in enumerate(kinds) if kind in (1, 2))
    return np.delete(array, index, axis=where), np.take(array, [index], axis=where) > 0


def _plain_values(array: NDArray[Any], axes: str, page: Any) -> tuple[NDArray[Any], str]:
    """Return values in which a larger number is lighter, and colours are RGB."""
    photometric, bits, unsigned = int(page.photometric), int(page.bitspersample), array.dtype.kind in "ub"
    if photometric == 3 and page.colormap is not None and array.dtype.kind == "u":
        table = np.asarray(page.colormap)  # [3 N] uint16
        # Some writers store 8-bit colours without the factor 256 that the specification asks for.
        table = (table >> 8 if table.max() > 255 else table).astype(np.uint8)
        return np.moveaxis(table[:, array], 0, -1), axes + "S"
    if bits < 8 and unsigned:
        array = array.astype(np.uint8) * np.uint8(255 // (2**bits - 1)) if bits in (1, 2, 4) else array
    if photometric == 0 and array.dtype.kind == "u":
        top = np.iinfo(array.dtype).max if bits in (1, 2, 4) or bits >= 8 * array.dtype.itemsize else 2**bits - 1
        array = array.dtype.type(top) - array
    if photometric == 5 and array.dtype.kind == "u" and "S" in axes and array.shape[axes.index("S")] == 4:
        where = axes.index("S")
        array = np.moveaxis(cmyk_to_rgb(np.moveaxis(array, where, -1)), -1, where)
    return array, axes


def _arranged(array: NDArray[Any], axes: str, orientation: int) -> tuple[NDArray[Any], str]:
    """Turn the image upright; name the samples ``C``, and join the two where there are channels besides."""
    where = (axes.index("Y"), axes.index("X"))
    array = np.moveaxis(orient(np.moveaxis(array, where, (0, 1)), orientation), (0, 1), where)
    if "S" not in axes:
        return array, axes
    if "C" not in axes:
        return array, axes.replace("S", "C")
    array = np.moveaxis(array, (axes.index("C"), axes.index("S")), (-2, -1))
    return array.reshape(*array.shape[:-2], -1), axes.replace("C", "").replace("S", "") + "C"


def _known_letters(axes: str) -> tuple[str, bool]:
    """Return axes in which pages of unknown meaning are called depth, then time, and whether any was."""
    free = [letter for letter in "ZT" if letter not in axes]
    letters = list(axes)
    for i in reversed(range(len(letters))):
        if letters[i] not in "TCZYX" and free:
            letters[i] = free.pop(0)
    return "".join(letters), "".join(letters) != axes
