"""The one gate through which label images come in: files and arrays of labels, objects, truth, masks, scribbles and superpixels.

What other programs write is understood: whole numbers as floats, three equal channels, -1 for the ground, masks of 0 and 255, ids above
2**63, masks that JPEG has smeared. What cannot be decided is refused, with the option that helps.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read.arrays import Decoded

Role = Literal["labels", "objects", "truth", "mask", "scribbles", "superpixels"]

NOTHING = -1
"""Pixel without a label, of the roles in which there is such a thing."""

MOST = int(np.iinfo(np.int64).max)

EXACT = {2: 2**11, 4: 2**24, 8: 2**53}
"""Largest whole number up to which floats of that many bytes hold all of them."""

ENDS = (64, 191)
"""Values of 8 bits below and above which a smeared mask of 0 and 255 must have nearly all of its pixels."""

SHARE_AT_ENDS = 0.97

LOSSY = (b"\xff\xd8\xff",)
"""First bytes of files whose values are not those that were saved: JPEG; also WebP, where it is marked so."""


def is_lossy(path: Path) -> bool:
    """Return whether a file is a JPEG or a lossy WebP, also a TIFF with JPEG inside: it cannot keep labels."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    if start[:2] in (b"II", b"MM"):
        return _jpeg_in_tiff(path)
    lossless = start[3:4] in (b"\xf7", b"\xe8")  # JPEG-LS
    return (start.startswith(LOSSY) and not lossless) or (start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8 ")


def _jpeg_in_tiff(path: Path) -> bool:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            return int(tif.pages.first.compression) in (6, 7, 33007)
    except Exception:  # noqa: BLE001 (whatever is wrong with the file, its reader reports it)
        return False


def through_gate(decoded: Decoded, role: Role, source: str, lossy: bool = False, ignore: int | None = None) -> Decoded:
    """Return a label image as integers, with the meaning that its role gives to them.

    Parameters
    ----------
    decoded
        The pixels as they are in the file or the array.
    role
        ``labels`` (class numbers), ``objects``, ``truth``, ``mask`` (0 = outside), ``scribbles`` (255 = not drawn), ``superpixels``.
    source
        Its name, for messages.
    lossy
        It comes from a file that changes values.
    ignore
        Value that does not count in a truth, and keeps its meaning.

    Returns
    -------
    Decoded
        Signed integers of 64 bits at most, or unsigned ones, `NOTHING` where labels, objects, scribbles and superpixels have nothing: where
        they are transparent, masked or NaN. A mask is 0 there.

    Raises
    ------
    InputError
        If the values cannot be labels in that role.
    """
    what, data = f"{role} {source}", _one_channel(decoded, role, source, lossy)
    nothing = None if decoded.valid is None else ~np.asarray(decoded.valid)
    if data.dtype.kind == "f":
        data, nothing = _whole(data, nothing, role, what)
    if data.dtype.kind == "b":
        data = data.astype(np.uint8)
    if data.dtype.kind not in "ui":
        raise _refused(what, "one channel of integers", f"values of type {data.dtype}", SAVE)
    if lossy and len(np.unique(data)) > 2:
        data = _sharpened(data, role, what)
    data = _in_64_bits(data, role, what)
    data = _from_zero(data, role, what, ignore)
    if nothing is not None and nothing.any() and role != "truth":
        data = np.where(nothing, 0 if role == "mask" else NOTHING, data.astype(np.int64))
    return replace(decoded, data=data, axes=decoded.axes.replace("C", ""), valid=None)


SAVE = "save whole numbers as grey values or palette indices (uint8, uint16 or int32), not as colours"


def _refused(what: str, expected: str, got: str, fix: str) -> InputError:
    return InputError(what, expected=expected, got=got, fix=fix)


def _one_channel(decoded: Decoded, role: str, source: str, lossy: bool) -> NDArray[Any]:
    """Return the values without an axis of channels; several channels must be equal, as where grey was saved as RGB."""
    data = np.asarray(decoded.data)
    if "C" not in decoded.axes:
        return data
    channels = np.moveaxis(data, decoded.axes.index("C"), 0)
    apart = 40 if lossy else 0
    if all(np.abs(channels[0].astype(float) - other).max(initial=0) <= apart for other in channels[1:]):
        return channels[0]
    raise _refused(f"{role} {source}", "one channel of integers", f"{len(channels)} channels", SAVE)


def _whole(
    data: NDArray[Any], nothing: NDArray[np.bool_] | None, role: str, what: str
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return floats as integers, and where there is nothing: also where they are NaN."""
    empty = np.isnan(data)
    if empty.any():
        if role == "truth":
            fix = "fill them: 0 for the ground, or another number and give it to --ignore"
            raise _refused(what, "whole numbers", f"NaN in {int(empty.sum())} pixels", fix)
        nothing = empty if nothing is None else nothing | empty
        data = np.where(empty, 0, data)
    strange = data[data != np.rint(data)] if np.isfinite(data).all() else data[~np.isfinite(data)]
    if strange.size:
        fix = "threshold or round them, and save them as uint8, uint16 or int32"
        raise _refused(what, "integers", f"values of type {data.dtype} such as {strange[0]:g}", fix)
    most = EXACT.get(data.dtype.itemsize, 2**53)
    if np.abs(data).max(initial=0) > most:
        got = f"{data.dtype} up to {data.max():.0f}, which cannot tell neighbouring numbers above {most} apart"
        raise _refused(what, "ids that its type holds", got, "save them as uint32 or int64")
    return data.astype(np.int64), nothing


def _sharpened(data: NDArray[Any], role: str, what: str) -> NDArray[Any]:
    """Return a mask of 0 and 255 out of one that JPEG has smeared."""
    low, high = (data < ENDS[0]).mean(), (data > ENDS[1]).mean()
    if role in ("labels", "objects", "truth", "mask") and low + high >= SHARE_AT_ENDS and min(low, high) > 0:
        return (data >= (ENDS[0] + ENDS[1] + 1) // 2).astype(np.uint8) * np.uint8(255)
    got = f"{len(np.unique(data))} values in a JPEG (or the like), which changes values"
    raise _refused(what, "values as they were saved", got, "save it as PNG or TIFF from the program that drew it")


def _in_64_bits(data: NDArray[Any], role: str, what: str) -> NDArray[Any]:
    """Return ids above 2**63 by their rank, where they only tell regions apart."""
    if data.dtype != np.uint64 or int(data.max(initial=0)) <= MOST:
        return data
    if role in ("labels", "scribbles"):
        fix = "give --labels-as objects if each number is an object, or number the classes from 1"
        raise _refused(what, "class numbers", f"numbers up to {data.max()}", fix)
    values, ranks = np.unique(data, return_inverse=True)
    return (ranks.reshape(data.shape) + (values[0] != 0)).astype(np.int64)


def _from_zero(data: NDArray[Any], role: str, what: str, ignore: int | None) -> NDArray[Any]:
    """Return values in which negative ones mean what they mean in the role: the ground where there is no 0, or nothing."""
    if data.dtype.kind != "i" or role in ("labels", "scribbles", "superpixels") or data.min(initial=0) >= 0:
        return data
    lowest, has_zero = int(data.min()), bool((data == 0).any())
    if role == "truth" and ignore is not None and not (data[data < 0] != ignore).any():
        return data
    if not has_zero and lowest == -1 and bool((data > 0).any()):
        return np.where(data < 0, 0, data)
    if role == "objects" and lowest == -1:
        return data  # beside a ground of 0 it is not labelled
    fix = {
        "truth": f"give --ignore {lowest} if these pixels do not count, or number them from 0",
        "mask": "mark what counts by values above 0, and the rest by 0",
    }.get(role, "number them from 0; -1 may be what is not labelled")
    raise _refused(what, "values from 0 on", f"{lowest}" + (" beside 0" if has_zero else ""), fix)
