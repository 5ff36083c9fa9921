"""What a format's file hands to the reader, the limits that it keeps, and the errors that damaged bytes can cause."""

import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, explain

MAX_DEFLATE = 1032
"""Pixel bytes that one byte of a deflate stream can stand for, at most (zlib's technical notes)."""

PLAUSIBLE = 64 << 20
"""Declared pixel bytes below which a file is simply decoded: a false header then costs little."""

# What Pillow, tifffile and imagecodecs raise on damaged bytes. Pillow parses in pure Python, so that a flipped bit may
# end as almost any of these; imagecodecs raises subclasses of RuntimeError.
DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Decoded:
    """One file's pixels, before a name is given to them.

    Attributes
    ----------
    data
        Array as the file has it: integers keep their range, alpha is taken out.
    axes
        One letter an axis, out of ``T C Z Y X``.
    guessed
        True if the file does not say what an axis is.
    spacing
        Size of a pixel along a spatial axis, by the axis' letter; 1 where unknown.
    unit
        Unit of `spacing`.
    channels
        Channel names, empty when unknown.
    valid
        Bool array over the axes other than C, False where the file says that there is nothing (alpha 0, no data);
        None = there is something everywhere.
    """

    data: NDArray[Any]
    axes: str
    guessed: bool = False
    spacing: Mapping[str, float] = field(default_factory=dict)
    unit: str = "pixel"
    channels: tuple[str, ...] = ()
    valid: NDArray[np.bool_] | None = None


def damaged(path: Path, reason: str) -> InputError:
    """Return the error for a file whose bytes cannot be decoded."""
    reason = " ".join(reason.split())[:160] or "unknown damage"
    fix = "copy or export the file again, or leave it out"
    return InputError(
        explain(str(path), expected="a whole image file", got=f"a damaged or truncated one ({reason})", fix=fix)
    )


def gigabytes(n_bytes: float) -> str:
    """Return a number of bytes in words, for messages."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def memory_limit() -> int:
    """Return how many pixel bytes one image may have here: three quarters of the memory that is free now."""
    import psutil

    return int(psutil.virtual_memory().available) * 3 // 4


def check_size(
    path: Path, shape: Sequence[int], itemsize: int, stored: int, max_bytes: int | None, ratio: float
) -> None:
    """Refuse an image before anything is allocated for it, if it cannot be real or does not fit in memory.

    Parameters
    ----------
    path
        The file, for the message.
    shape, itemsize
        Size that the header declares, and the bytes of one value.
    stored
        Bytes that the file has for these pixels.
    max_bytes
        Pixel bytes allowed; None = `memory_limit`.
    ratio
        Pixel bytes that one stored byte can stand for in this format; ``inf`` where there is no bound.

    Raises
    ------
    InputError
        If a side is zero, if `stored` bytes cannot hold that many pixels, or if they are more than `max_bytes`.
    """
    size = " x ".join(str(n) for n in shape)
    if not shape or min(shape) < 1:
        raise damaged(path, f"its size is {size or 'not given'}")
    declared = math.prod(int(n) for n in shape) * itemsize
    if declared > max(PLAUSIBLE, ratio * stored):
        got = f"{size} values ({gigabytes(declared)}) declared by {max(stored, 0)} stored bytes, which cannot hold them"
        fix = "the header is false or the file was cut short: copy or export it again"
        raise InputError(explain(str(path), expected="a plausible image size", got=got, fix=fix))
    limit = memory_limit() if max_bytes is None else max_bytes
    if declared > limit:
        fix = "cut it into pieces, save it smaller, or use a machine with more memory"
        expected = f"at most {gigabytes(limit)} of pixels"
        raise InputError(explain(str(path), expected=expected, got=f"{size} values, {gigabytes(declared)}", fix=fix))


def orient(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return ``[Y X ...]`` turned upright from the EXIF / TIFF tag 274 (1-8); other values leave it as it is."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def cmyk_to_rgb(cmyk: NDArray[Any]) -> NDArray[Any]:
    """Return RGB ``[... 3]`` of unsigned integers CMYK ``[... 4]`` by (1 - C)(1 - K), without a profile."""
    top = int(np.iinfo(cmyk.dtype).max)
    light = (top - cmyk).astype(np.float64)
    return np.rint(light[..., :3] * light[..., 3:] / top).astype(cmyk.dtype)


def opaque(alpha: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where `alpha` is above 0, or None if no pixel is fully transparent."""
    valid: NDArray[np.bool_] = alpha > 0
    return None if valid.all() else valid
