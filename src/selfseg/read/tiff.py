"""TIFF: pages, stacks, planar and tiled layouts, ImageJ and OME metadata, with tifffile."""

import contextlib
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read._lazy_array import LazyArray
from selfseg.read._tiff_pages import decode_lzw_safely, open_windows, sound
from selfseg.read.arrays import (
    ANY_SIZE,
    MAX_DEFLATE,
    MICROMETER,
    Decoded,
    check_level,
    check_size,
    cmyk_to_rgb,
    damaged,
    orient,
    split_address,
    unit_name,
)

ONE_IMAGE_KINDS = ("generic", "uniform", "shaped", "imagej", "ome")
"""Kinds of series of which a file should hold one. Slides also hold labels and thumbnails: there the first counts."""

MAX_RATIO = {1: 1, 5: 2800, 7: 1100, 8: MAX_DEFLATE, 32946: MAX_DEFLATE, 32773: 64}
"""Pixel bytes of one stored byte by compression (none, LZW, JPEG, Deflate, PackBits); others have no bound."""

MOST_TAGS = 4096
"""A page that claims more is not followed; tifffile refuses it."""

PER_MICROMETER = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}
"""Micrometres in the unit of the tag ResolutionUnit: inch, centimetre, millimetre, micrometre."""

ORIENTATION_TAG = 274
NO_DATA_TAG = 42113


def open_file(path: Path, max_bytes: int | None, as_labels: bool, level: int = 0) -> Decoded:
    """Open the image of a TIFF file: one page, or all pages of one size as a stack; ``a.tif:/1`` is the second of several.

    A window then reads the strips or tiles that it touches. What cannot be read in windows is read whole: images that must be
    turned, and series whose pages are not whole planes.

    Palettes and CMYK become RGB, "0 is white" is turned to "0 is black", 1, 2 and 4-bit values are spread over 0-255,
    alpha and no-data values become `valid`, and the orientation tag is applied. Other integers and floats keep their
    values. Of labels, none of these changes of values is made. Raise `InputError` if the file is damaged or truncated,
    holds several images of different sizes, or has no such level.
    """
    file, chosen = split_address(path)
    with contextlib.ExitStack() as stack:
        with sound(path):
            tif = stack.enter_context(tifffile.TiffFile(file))
            main = _main_series(path, tif, chosen)
            check_level(path, level, len(main.levels))
            series = main.levels[level]
            _check_declared(path, series, ANY_SIZE)
            windows = None if _orientation(series) != 1 else open_windows(path, tif, series)
            if windows is None:
                _check_declared(path, series, max_bytes)
                decoded = _decoded(tif, series, series.asarray(), as_labels)
            else:
                decoded = _lazily_decoded(path, tif, series, windows, as_labels)
            decoded = _at_level(decoded, tif, main, series) if level else decoded
        if windows is not None:
            stack.pop_all()  # the file stays open for the windows
        return decoded


def _at_level(
    decoded: Decoded, tif: tifffile.TiffFile, main: tifffile.TiffPageSeries, series: tifffile.TiffPageSeries
) -> Decoded:
    """Return the pixel sizes of a level: those of the finest, times what it was shrunk by."""
    sizes = zip(main.axes, main.shape, series.shape, strict=True)
    factors = {letter: full / n for letter, full, n in sizes if letter in "ZYX"}
    finest, _ = _read_spacing(tif, main.keyframe)
    steps = {letter: finest.get(letter, 1.0) * factor for letter, factor in factors.items()}
    return replace(decoded, spacing=steps)


def _main_series(path: Path, tif: tifffile.TiffFile, chosen: str) -> tifffile.TiffPageSeries:
    _check_chain(path, tif)
    if not tif.series:
        raise damaged(path, "it has no page")
    full = [series for series in tif.series if not series.keyframe.is_reduced and not series.keyframe.is_mask]
    several = len(full) > 1 and full[0].kind in ONE_IMAGE_KINDS
    if chosen.isdigit() and int(chosen) < len(full):
        return full[int(chosen)]
    if several or chosen:
        sizes = ", ".join(" x ".join(str(n) for n in series.shape) for series in full[:4])
        raise InputError(
            path,
            expected="pages of one size and type",
            got=f"{len(full)} images ({sizes})",
            fix=f"choose one, from {split_address(path)[0]}:/0 on, or save them as separate files",
        )
    return full[0] if full else tif.series[0]


def _check_declared(path: Path, series: tifffile.TiffPageSeries, max_bytes: int | None) -> None:
    page = series.keyframe
    if series.dtype is None:
        raise damaged(path, f"no such pixel type: {page.bitspersample} bits, sample format {page.sampleformat}")
    if series.dtype.kind == "c":
        raise InputError(
            path,
            expected="real numbers",
            got=f"complex ones ({series.dtype})",
            fix="save the magnitude or the phase as float",
        )
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


def _check_chain(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a file whose pages, each of which says where the next one is, lead in a circle: tifffile would follow it for ever.

    Where the chain breaks off, tifffile says so.
    """
    tiff, handle = tif.tiff, tif.filehandle
    seen = set[int]()
    try:
        handle.seek(8 if tiff.version == 43 else 4)
        offset = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))[0]
        while offset and offset not in seen:
            seen.add(offset)
            handle.seek(offset)
            n_tags = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))[0]
            if n_tags > MOST_TAGS:
                return
            handle.seek(offset + tiff.tagnosize + n_tags * tiff.tagsize)
            offset = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))[0]
    except (struct.error, OSError, ValueError, OverflowError):
        return
    if offset:
        raise damaged(path, f"its {len(seen)} pages lead in a circle")


def _orientation(series: tifffile.TiffPageSeries) -> int:
    return int(series.keyframe.tags.valueof(ORIENTATION_TAG, default=1))


def _values(
    series: tifffile.TiffPageSeries, array: NDArray[Any], as_labels: bool
) -> tuple[NDArray[Any], str, NDArray[np.bool_]]:
    """Return plain values of a series or a window of it, their axes, and where they are valid.

    The mask broadcasts against the values.
    """
    page, axes = series.keyframe, _distinct(series.axes)
    array = np.asarray(array).astype(array.dtype.newbyteorder("="), copy=False)
    mask = np.ones((1,) * array.ndim, bool)
    if NO_DATA_TAG in page.tags and not as_labels:
        mask = (array != page.nodata).any(axis=_channel_axes(axes), keepdims=True)
    array, alpha = _without_alpha(array, axes, page)
    mask = mask & alpha.all(axis=_channel_axes(axes), keepdims=True)
    if not as_labels:
        array, axes = _plain_values(array, axes, page)
        mask = mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))
    mask, _ = _arranged(mask, axes, _orientation(series))
    array, axes = _arranged(array, axes, _orientation(series))
    return array, axes, mask


def _decoded(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, array: NDArray[Any], as_labels: bool) -> Decoded:
    array, axes, mask = _values(series, array, as_labels)
    keep = [i for i, letter in enumerate(axes) if letter in "YX" or array.shape[i] > 1]
    valid = None if mask.all() else _valid(mask, array.shape, axes, keep)
    array, axes = array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)
    return _described(tif, series, np.ascontiguousarray(array), axes, valid)


def _described(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, data: Any, axes: str, valid: Any) -> Decoded:
    axes, guessed = _known_letters(axes)
    spacing, unit = _read_spacing(tif, series.keyframe)
    if _orientation(series) in (5, 6, 7, 8) and spacing:
        spacing = {**spacing, "Y": spacing["X"], "X": spacing["Y"]}
    names = _channel_names(tif, data.shape[axes.index("C")] if "C" in axes else 1)
    return Decoded(data, axes, guessed, spacing, unit, names, valid)


class _PlainWindows:
    """Windows of a series, turned to plain values when they are read, with all of their samples at once."""

    def __init__(self, series: tifffile.TiffPageSeries, windows: LazyArray, as_labels: bool) -> None:
        self.series, self.windows, self.as_labels = series, windows, as_labels
        self.stored = _distinct(series.axes)
        sizes = dict(zip(self.stored, series.shape, strict=True))
        one = [n if letter in "CS" else 1 for letter, n in sizes.items()]
        probe, letters, _ = _values(series, np.zeros(one, windows.dtype), as_labels)
        self.dtype = probe.dtype
        if "C" in letters:
            sizes["C"] = probe.shape[letters.index("C")]
        self.axes = "".join(letter for letter in letters if letter in "YX" or sizes[letter] > 1)
        self.shape = [sizes[letter] for letter in self.axes]
        self.masked = _has_alpha(series.keyframe) or (NO_DATA_TAG in series.keyframe.tags and not as_labels)
        self.last: tuple[tuple[Any, ...], NDArray[np.bool_]] | None = None
        """Place and mask of the values that were read last: the mask is asked for next."""

    def values(self, ranges: tuple[slice, ...]) -> NDArray[Any]:
        """Read the values of one range an axis."""
        values, mask = self._read(ranges)
        self.last = (self.without_channels(ranges), mask) if self.masked else None
        return values

    def mask(self, ranges: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Read where the values are valid, over the axes other than C."""
        last, self.last = self.last, None
        if last is not None and last[0] == ranges:
            return last[1]
        spatial = iter(ranges)
        return self._read(tuple(slice(0, 1) if letter == "C" else next(spatial) for letter in self.axes))[1]

    def without_channels(self, parts: Sequence[Any]) -> tuple[Any, ...]:
        """Return what is given for each axis, but for that of C."""
        return tuple(part for part, letter in zip(parts, self.axes, strict=True) if letter != "C")

    def _read(self, ranges: tuple[slice, ...]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        by_letter = dict(zip(self.axes, ranges, strict=True))
        stored = [
            slice(0, n) if letter in "CS" else by_letter.get(letter, slice(0, 1))
            for letter, n in zip(self.stored, self.series.shape, strict=True)
        ]
        values, letters, mask = _values(self.series, self.windows.read(tuple(stored)), self.as_labels)
        if "C" in by_letter:
            values = values[(slice(None),) * letters.index("C") + (by_letter["C"],)]
        keep = [i for i, letter in enumerate(letters) if letter in self.axes]
        return values.reshape([values.shape[i] for i in keep]), _valid(mask, values.shape, letters, keep)


def _lazily_decoded(
    path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, windows: LazyArray, as_labels: bool
) -> Decoded:
    plain = _PlainWindows(series, windows, as_labels)
    data = LazyArray(path, plain.shape, plain.dtype, plain.values, windows.close)
    shape = plain.without_channels(plain.shape)
    valid = LazyArray(path, shape, bool, plain.mask, windows.close) if plain.masked else None
    return _described(tif, series, data, plain.axes, valid)


def _valid(mask: NDArray[np.bool_], shape: tuple[int, ...], axes: str, keep: list[int]) -> NDArray[np.bool_]:
    """Return the broadcast mask over the kept axes other than C."""
    whole = np.broadcast_to(mask, [1 if letter == "C" else n for n, letter in zip(shape, axes, strict=True)])
    return whole.reshape([shape[i] for i in keep if axes[i] != "C"])


def _channel_axes(axes: str) -> tuple[int, ...]:
    """Return the axes of channels and samples."""
    return tuple(i for i, letter in enumerate(axes) if letter in "CS")


def _has_alpha(page: Any) -> bool:
    """Tell whether one of a page's samples is alpha, associated or not."""
    return bool({1, 2} & {int(kind) for kind in page.extrasamples})


def _without_alpha(array: NDArray[Any], axes: str, page: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Take the alpha sample, where the page says that there is one, out of the axis ``S``; return where it is not 0."""
    kinds = [int(kind) for kind in page.extrasamples]
    if "S" not in axes or not _has_alpha(page):
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


def _distinct(axes: str) -> str:
    """Return axes without a letter twice: pages of several unknown meanings are all Q."""
    return "".join(letter if axes.index(letter) == i else str(i) for i, letter in enumerate(axes))


def _known_letters(axes: str) -> tuple[str, bool]:
    """Return axes in which pages of unknown meaning are called depth, then time, and whether any was."""
    free = [letter for letter in "ZT" if letter not in axes]
    letters = list(axes)
    for i in reversed(range(len(letters))):
        if letters[i] not in "TCZYX" and free:
            letters[i] = free.pop(0)
    return "".join(letters), "".join(letters) != axes


def _read_spacing(tif: Any, page: Any) -> tuple[dict[str, float], str]:
    """Return the pixel size by axis letter, and its unit: from OME, then ImageJ, then the resolution tags.

    Values that are zero, negative or not finite are taken as not given.
    """
    pixels = _ome_pixels(tif)
    if pixels is not None and pixels.get("PhysicalSizeX"):
        unit = pixels.get("PhysicalSizeXUnit", "um")
        return {letter: _positive(pixels.get(f"PhysicalSize{letter}")) for letter in "ZYX"}, unit_name(unit)
    x, y = (_per_unit(page, code) for code in (282, 283))
    if tif.is_imagej:
        metadata = tif.imagej_metadata or {}
        unit = unit_name(str(metadata.get("unit", "")))
        return {"Z": _positive(metadata.get("spacing")), "Y": _positive(1 / y), "X": _positive(1 / x)}, unit
    scale = PER_MICROMETER.get(int(page.tags.valueof(296, default=2)))
    if any(_per_unit(page, code, missing=0.0) == 0 for code in (282, 283)):
        return {}, "pixel"
    if scale is None:
        return {"Y": _positive(x / y), "X": 1.0}, "pixel"  # the tags then tell the aspect alone
    return {"Y": scale / y, "X": scale / x}, MICROMETER


def _channel_names(tif: Any, n_channels: int) -> tuple[str, ...]:
    """Return the channel names of OME metadata if there is one for each channel, else nothing."""
    pixels = _ome_pixels(tif)
    if pixels is None:
        return ()
    names = tuple(str(channel.get("Name") or "") for channel in pixels.iterfind("{*}Channel"))
    return names if len(names) == n_channels and all(names) else ()


def _ome_pixels(tif: Any) -> ElementTree.Element | None:
    if not tif.is_ome:
        return None
    try:
        return ElementTree.fromstring(tif.ome_metadata or "").find(".//{*}Pixels")
    except ElementTree.ParseError:
        return None


def _positive(value: Any, otherwise: float = 1.0) -> float:
    """Return a positive finite number, or `otherwise` for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return otherwise
    return number if math.isfinite(number) and number > 0 else otherwise


def _per_unit(page: Any, code: int, missing: float = 1.0) -> float:
    """Return pixels per unit out of a rational tag; `missing` if it is not there or senseless."""
    value = page.tags.valueof(code, default=None)
    if not isinstance(value, tuple) or len(value) != 2 or not value[1]:
        return missing
    return _positive(value[0] / value[1], missing)
