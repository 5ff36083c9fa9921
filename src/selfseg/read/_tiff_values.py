"""From the samples of a TIFF to values in which a larger number is lighter, colours are RGB, and every axis has a letter."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.read._decoded import cmyk_to_rgb, orient


def channel_axes(axes: str) -> tuple[int, ...]:
    """Return the axes of channels and samples."""
    return tuple(i for i, letter in enumerate(axes) if letter in "CS")


def has_alpha(page: Any) -> bool:
    """Tell whether one of a page's samples is alpha, associated or not."""
    return bool({1, 2} & {int(kind) for kind in page.extrasamples})


def without_alpha(array: NDArray[Any], axes: str, page: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Take the alpha sample, where the page says that there is one, out of the axis ``S``; return where it is not 0."""
    kinds = [int(kind) for kind in page.extrasamples]
    if "S" not in axes or not has_alpha(page):
        return array, np.ones((1,) * array.ndim, bool)
    where, first = axes.index("S"), array.shape[axes.index("S")] - len(kinds)
    index = first + next(i for i, kind in enumerate(kinds) if kind in (1, 2))
    return np.delete(array, index, axis=where), np.take(array, [index], axis=where) > 0


def plain_values(array: NDArray[Any], axes: str, page: Any) -> tuple[NDArray[Any], str]:
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


def arranged(array: NDArray[Any], axes: str, orientation: int) -> tuple[NDArray[Any], str]:
    """Turn the image upright; name the samples ``C``, and join the two where there are channels besides."""
    where = (axes.index("Y"), axes.index("X"))
    array = np.moveaxis(orient(np.moveaxis(array, where, (0, 1)), orientation), (0, 1), where)
    if "S" not in axes:
        return array, axes
    if "C" not in axes:
        return array, axes.replace("S", "C")
    array = np.moveaxis(array, (axes.index("C"), axes.index("S")), (-2, -1))
    return array.reshape(*array.shape[:-2], -1), axes.replace("C", "").replace("S", "") + "C"


def known_letters(axes: str) -> tuple[str, bool]:
    """Return axes in which pages of unknown meaning are called depth, then time, and whether any was."""
    free = [letter for letter in "ZT" if letter not in axes]
    letters = list(axes)
    for i in reversed(range(len(letters))):
        if letters[i] not in "TCZYX" and free:
            letters[i] = free.pop(0)
    return "".join(letters), "".join(letters) != axes
