"""TIFF: pages, stacks, planar and tiled layouts, ImageJ and OME metadata, with tifffile."""

import contextlib
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read._lazy_array import LazyArray
from selfseg.read._ome_tiff import existing_planes, open_tiff, own_images
from selfseg.read._tiff_metadata import channel_names, read_geotiff, read_interval, read_spacing
from selfseg.read._tiff_pages import (
    WITH_LIBTIFF,
    ChosenPages,
    Series,
    all_pages,
    open_windows,
    prepare_pages,
    read_with_libtiff,
    sound,
)
from selfseg.read._tiff_values import PALETTE, PageValues
from selfseg.read.arrays import ANY_SIZE, MAX_DEFLATE, Decoded, check_level, check_size, damaged, orient, split_address

ONE_IMAGE_KINDS = ("generic", "uniform", "shaped", "imagej", "ome")
"""Kinds of series of which a file should hold one. Slides also hold labels and thumbnails: there the first counts."""

MAX_RATIO = {1: 1, 5: 2800, 7: 1100, 8: MAX_DEFLATE, 32946: MAX_DEFLATE, 32773: 64}
"""Pixel bytes of one stored byte by compression (none, LZW, JPEG, Deflate, PackBits); others have no bound."""

MOST_TAGS = 4096
"""A page that claims more is not followed; tifffile refuses it."""

PAGE_KINDS = ("generic", "uniform", "shaped")
"""Kinds of series that are pages one after the other, whatever the writer meant by them."""

LEAST_COLOUR = 3
"""Most pixels that share one stored value in YCbCr."""

ORIENTATION_TAG = 274


def open_file(path: Path, max_bytes: int | None, as_labels: bool, level: int = 0) -> Decoded:
    """Open the image of a TIFF file: one page, or all pages of one size as a stack; ``a.tif:/1`` is the second of several.

    A window then reads the strips or tiles that it touches. What cannot be read in windows is read whole: images that must be
    turned, series whose pages are not whole planes, and old JPEG.

    Palettes, YCbCr, L*a*b* and CMYK become RGB, each page by its own tags; "0 is white" is turned to "0 is black", 1, 2 and 4-bit
    values are spread over 0-255; alpha, GDAL's masks and no-data values become `valid`, and colours that were stored times their
    opacity are freed from it; the orientation tag is applied. Other integers and floats keep their values. Of labels, none of these
    changes of values is made. Raise `InputError` if the file is damaged or truncated, holds several images of different sizes, or
    has no such level.
    """
    file, chosen = split_address(path)
    with contextlib.ExitStack() as stack:
        with sound(path):
            tif, notes = open_tiff(file)
            stack.enter_context(tif)
            tif.filehandle.set_lock(True)
            main = _main_series(path, tif, chosen)
            check_level(path, level, len(main.levels))
            series, gaps = existing_planes(main.levels[level])
            _check_declared(path, series, ANY_SIZE)
            meaning = _Meaning(path, tif, series, as_labels, main)
            alone = int(series.keyframe.compression) in WITH_LIBTIFF
            windows = None if alone or meaning.orientation != 1 else open_windows(path, tif, series)
            if windows is None:
                _check_declared(path, series, max_bytes)
                decoded = _decoded(meaning, read_with_libtiff(file, series) if alone else all_pages(series))
            else:
                decoded = _lazily_decoded(path, meaning, windows)
            decoded = _at_level(decoded, tif, main, series) if level else decoded
            decoded = replace(decoded, notes=(*notes, *gaps, *decoded.notes, *meaning.notes))
        if windows is not None:
            stack.pop_all()  # the file stays open for the windows
        return decoded


def _at_level(decoded: Decoded, tif: tifffile.TiffFile, main: Series, series: Series) -> Decoded:
    """Return the pixel sizes of a level: those of the finest, times what it was shrunk by."""
    sizes = zip(main.axes, main.shape, series.shape, strict=True)
    factors = {letter: full / n for letter, full, n in sizes if letter in "ZYX"}
    finest, _, _ = read_spacing(tif, main)
    steps = {letter: finest.get(letter, 1.0) * factor for letter, factor in factors.items()}
    return replace(decoded, spacing=steps)


def _main_series(path: Path, tif: tifffile.TiffFile, chosen: str) -> Series:
    _check_chain(path, tif)
    if not tif.series:
        raise damaged(path, "it has no page")
    full = [series for series in tif.series if not series.keyframe.is_reduced and not series.keyframe.is_mask]
    # SubIFDs are parts of their page, unless all pages are previews of them (DNG).
    full.sort(key=lambda series: len(series.keyframe.treeindex) > 1)
    own = [series for series in full if not len(series.keyframe.treeindex) > 1]
    if chosen.isdigit() and int(chosen) < len(full):
        return full[int(chosen)]
    images = own_images(tif, own or full)
    several = len(images) > 1 and images[0].kind in ONE_IMAGE_KINDS
    if several and not chosen and (mixed := _as_one(images)) is not None:
        return mixed
    if several or chosen:
        sizes = " x ".join(str(n) for n in images[0].shape)
        same = all(series.shape == images[0].shape for series in images)
        shown = ", ".join(_described_series(series, same) for series in images[:4]) + ", ..." * (len(images) > 4)
        raise InputError(
            path,
            expected=f"an image {chosen!r}"
            if chosen
            else "pages of one size and type"
            if not same
            else f"one image of {sizes}",
            got=f"{len(images)} images ({shown})",
            fix=f"choose one, from {split_address(path)[0]}:/0 on, or save them as separate files",
        )
    return images[0] if images else tif.series[0]


def _described_series(series: Series, typed: bool) -> str:
    """Return the size of an image in words, and its type where the size tells nothing."""
    size, key = " x ".join(str(n) for n in series.shape), series.keyframe
    kind = getattr(key.photometric, "name", str(key.photometric)).lower()
    return f"{size} {series.dtype} {kind}" if typed else size


def _as_one(images: Sequence[Series]) -> ChosenPages | None:
    """Return all pages as one series if they agree in size and type once they are decoded, whatever their strips; else None."""
    if any(series.kind not in PAGE_KINDS for series in images):
        return None
    if any(len(series.pages) != math.prod(series.shape[: series.ndim - series.keyframe.ndim]) for series in images):
        return None
    pages = [page for series in images for page in series.pages]
    if any(page is None for page in pages) or len({_kind_of_page(series) for series in images}) > 1:
        return None
    return ChosenPages(sorted(pages, key=lambda page: page.index))


def _kind_of_page(series: Series) -> tuple[Any, ...]:
    """Return what pages must have in common to be a stack."""
    key = series.keyframe
    if series.dtype is None:
        return (id(series),)
    probe = np.zeros([n if letter == "S" else 1 for letter, n in zip(key.axes, key.shape, strict=True)], series.dtype)
    values, axes, _ = PageValues(key, False)(probe, key.axes)
    turned = int(key.tags.valueof(ORIENTATION_TAG, default=1))
    stored = "uint8" if series.dtype == bool else str(series.dtype)
    return key.shape, key.axes, stored, values.shape[len(key.shape) :], axes, str(values.dtype), turned


def _check_declared(path: Path, series: Series, max_bytes: int | None) -> None:
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
    _check_compression(path, page)
    prepare_pages([page, *pages])
    files = {id(one.parent): one.parent.filehandle.size for one in pages}
    sparse = any(count == 0 for one in pages for count in one.databytecounts)
    keys: list[Any] = [page, *(one.keyframe for one in pages)]
    numbers = {int(key.compression) for key in keys}
    ratio = math.inf if sparse else max(MAX_RATIO.get(number, math.inf) for number in numbers)
    item, bits = series.dtype.itemsize, page.bitspersample if isinstance(page.bitspersample, int) else 1
    packed = max(1.0, 8 * item / max(bits, 1)) * (LEAST_COLOUR if page.is_subsampled else 1)
    check_size(path, series.shape, item, sum(files.values()), max_bytes, ratio * packed)
    if series.dataoffset is not None and series.dataoffset + series.nbytes > page.parent.filehandle.size:
        raise damaged(
            path, f"{series.nbytes} pixel bytes expected from byte {series.dataoffset} on, but the file ends earlier"
        )
    for one in pages:
        ends = (offset + count for offset, count in zip(one.dataoffsets, one.databytecounts, strict=False) if count)
        if len(pages) == len(series.pages) and max(ends, default=0) > one.parent.filehandle.size:
            raise damaged(path, f"the pixels of page {one.index} reach beyond the end of the file")


def _check_compression(path: Path, page: tifffile.TiffPage) -> None:
    """Refuse by its name a compression that no library here reads."""
    number = int(page.compression)
    if number in {1, *WITH_LIBTIFF} or number in tifffile.TIFF.DECOMPRESSORS:
        return
    name = getattr(page.compression, "name", "")
    got, fix = f"number {number} {name}".strip(), "save it with Deflate, LZW or without compression"
    raise InputError(path, expected="a TIFF compression that can be read", got=got, fix=fix)


def _check_chain(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a file whose pages, each of which has the place of the next one, lead in a circle: tifffile would follow it for ever.

    Where the chain breaks off, tifffile reports it.
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


class _Meaning:
    """Plain values of a series, page by page where their tags differ, and where they are valid."""

    def __init__(self, path: Path, tif: tifffile.TiffFile, series: Series, as_labels: bool, main: Series) -> None:
        self.tif, self.series, self.page = tif, series, series.keyframe
        self.axes = _distinct(series.axes)
        self.lead = series.ndim - self.page.ndim
        self.key = PageValues(self.page, as_labels, main.keyframe)
        self.page.nodata = self.key.no_data or 0  # tifffile fills what was left out with it
        self.pages = self._by_page(as_labels)
        for one in (self.key, *self.pages):
            one.check(path)
        self.orientation = int(self.page.tags.valueof(ORIENTATION_TAG, default=1))
        self.mask = None if as_labels else _open_mask(path, tif, series)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line about what the values are not."""
        return (self.key.note,) if self.key.note and not self.key.as_labels else ()

    @property
    def masked(self) -> bool:
        """True if some pixels may be without a value."""
        return self.mask is not None or any(one.masked for one in self.pages or [self.key])

    def _by_page(self, as_labels: bool) -> list[PageValues]:
        """Return what each page means, where they may differ; empty = all mean what the first one does."""
        pages = self.series.pages
        mixed = isinstance(self.series, ChosenPages) and self.series.mixed
        differ = mixed or (self.key.photometric == PALETTE and not as_labels)
        sizes = self.series.shape[: max(self.lead, 0)]
        if not differ or self.lead < 1 or len(pages) != math.prod(sizes) or any(page is None for page in pages):
            return []
        return [PageValues(page.aspage(), as_labels) for page in pages if page is not None]

    def __call__(
        self, array: NDArray[Any], ranges: Sequence[slice] | None = None
    ) -> tuple[NDArray[Any], str, NDArray[np.bool_]]:
        """Return plain values of the series, or of the window of it at `ranges`, upright, their axes, and where they are valid.

        The mask broadcasts against the values.
        """
        if self.pages and ranges is not None:
            array, axes, mask = self._page_by_page(array, ranges)
        else:
            array, axes, mask = self.key(array, self.axes)
        if self.mask is not None and ranges is not None:
            by_letter = dict(zip(self.axes, ranges, strict=True))
            shown = self.mask[by_letter["Y"], by_letter["X"]] != 0
            mask = np.asarray(mask & _spread_over(shown, axes))
        mask, _ = _arranged(mask, axes, self.orientation)
        return *_arranged(array, axes, self.orientation), mask

    def _page_by_page(
        self, array: NDArray[Any], ranges: Sequence[slice]
    ) -> tuple[NDArray[Any], str, NDArray[np.bool_]]:
        lead, sizes = array.shape[: self.lead], self.series.shape[: self.lead]
        values, masks, axes = [], [], ""
        for index in np.ndindex(*lead):
            place = [part.start + i for part, i in zip(ranges, index, strict=False)]
            page = self.pages[int(np.ravel_multi_index(place, sizes))]
            one, axes, mask = page(array[index], self.axes[self.lead :])
            values.append(one)
            masks.append(np.broadcast_to(mask, [1 if a in "CS" else n for a, n in zip(axes, one.shape, strict=True)]))
        together = [np.stack(part).reshape(*lead, *part[0].shape) for part in (values, masks)]
        channels = tuple(i for i, letter in enumerate(self.axes[: self.lead]) if letter == "C")
        mask = np.asarray(together[1].all(axis=channels, keepdims=True))
        return together[0], self.axes[: self.lead] + axes, mask


def _open_mask(path: Path, tif: tifffile.TiffFile, series: Series) -> LazyArray | None:
    """Return the page that masks the one page of a series, as GDAL keeps it beside the image."""
    key = series.keyframe
    size = (key.imagelength, key.imagewidth)
    found = [one for one in tif.series if one.keyframe.is_mask and (one.keyframe.shape, len(one.pages)) == (size, 1)]
    if not found or len(series.pages) > 1 or key.is_mask:
        return None
    prepare_pages([found[0].keyframe])
    _check_declared(path, found[0], ANY_SIZE)
    return open_windows(path, tif, found[0])


def _spread_over(mask: NDArray[np.bool_], axes: str) -> NDArray[np.bool_]:
    """Return ``[Y X]`` with an axis of length 1 for each other letter."""
    return mask[tuple(slice(None) if letter in "YX" else None for letter in axes)]


def _decoded(meaning: _Meaning, array: NDArray[Any]) -> Decoded:
    array, axes, mask = meaning(array, [slice(0, n) for n in array.shape])
    keep = [i for i, letter in enumerate(axes) if letter in "YX" or array.shape[i] > 1]
    valid = None if mask.all() else _valid(mask, array.shape, axes, keep)
    array, axes = array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)
    return _described(meaning, np.ascontiguousarray(array), axes, valid)


def _described(meaning: _Meaning, data: Any, axes: str, valid: Any) -> Decoded:
    axes, guessed = _known_letters(axes)
    spacing, unit, notes = read_spacing(meaning.tif, meaning.series)
    if meaning.orientation in (5, 6, 7, 8) and spacing:
        spacing = {**spacing, "Y": spacing.get("X", 1.0), "X": spacing.get("Y", 1.0)}
    names = channel_names(meaning.tif, meaning.series, data.shape[axes.index("C")] if "C" in axes else 1)
    interval = read_interval(meaning.tif, meaning.series) if "T" in axes else None
    meta: dict[str, Any] = {} if interval is None else {"interval": interval}
    if meaning.orientation == 1 and (geotiff := read_geotiff(meaning.series.keyframe)):
        meta["geotiff"] = geotiff
    return Decoded(data, axes, guessed, spacing, unit, names, valid, meta=meta, notes=notes)


class _PlainWindows:
    """Windows of a series, turned to plain values when they are read, with all of their samples at once."""

    def __init__(self, meaning: _Meaning, windows: LazyArray) -> None:
        self.meaning, self.windows = meaning, windows
        self.stored = meaning.axes
        sizes = dict(zip(self.stored, meaning.series.shape, strict=True))
        one = [n if letter in "CS" else 1 for letter, n in sizes.items()]
        probe, letters, _ = meaning(np.zeros(one, windows.dtype))
        self.dtype = probe.dtype
        if "C" in letters:
            sizes["C"] = probe.shape[letters.index("C")]
        self.axes = "".join(letter for letter in letters if letter in "YX" or sizes[letter] > 1)
        self.shape = [sizes[letter] for letter in self.axes]
        self.masked = meaning.masked
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
            for letter, n in zip(self.stored, self.windows.shape, strict=True)
        ]
        values, letters, mask = self.meaning(self.windows.read(tuple(stored)), stored)
        if "C" in by_letter:
            values = values[(slice(None),) * letters.index("C") + (by_letter["C"],)]
        keep = [i for i, letter in enumerate(letters) if letter in self.axes]
        return values.reshape([values.shape[i] for i in keep]), _valid(mask, values.shape, letters, keep)


def _lazily_decoded(path: Path, meaning: _Meaning, windows: LazyArray) -> Decoded:
    plain = _PlainWindows(meaning, windows)
    data = LazyArray(path, plain.shape, plain.dtype, plain.values, windows.close)
    shape = plain.without_channels(plain.shape)
    valid = LazyArray(path, shape, bool, plain.mask, windows.close) if plain.masked else None
    return _described(meaning, data, plain.axes, valid)


def _valid(mask: NDArray[np.bool_], shape: tuple[int, ...], axes: str, keep: list[int]) -> NDArray[np.bool_]:
    """Return the broadcast mask over the kept axes other than C."""
    whole = np.broadcast_to(mask, [1 if letter == "C" else n for n, letter in zip(shape, axes, strict=True)])
    return whole.reshape([shape[i] for i in keep if axes[i] != "C"])


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
