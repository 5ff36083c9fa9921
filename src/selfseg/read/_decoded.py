"""What a format's file hands to the reader, the limits that it keeps, and the errors that damaged bytes can cause."""

import contextlib
import logging
import math
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError

MAX_DEFLATE = 1032
"""Pixel bytes that one byte of a deflate stream can stand for, at most (zlib's technical notes)."""

PLAUSIBLE = 64 << 20
"""Declared pixel bytes below which a file is simply decoded: a false header then costs little."""

ANY_SIZE = 2**63
"""A limit that refuses nothing but sizes that cannot be real."""

MICROMETER = "micrometer"

UNIT_NAMES = {
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "\\u00b5m", "micron", "microns", "micrometre"), MICROMETER),
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "pixels": "pixel",
    "": "pixel",
}
"""Spellings of units that are met in files, by lower case."""

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

Stamp = tuple[int, int, int]
"""Size, time of the last change and number of a file."""

# `warnings.catch_warnings` changes the whole process, so only one thread at a time may be inside it.
_QUIET = threading.RLock()


@dataclass(frozen=True)
class Decoded:
    """One file's pixels, before a name is given to them."""

    data: Any
    """Array as the file has it: integers keep their range, alpha is taken out. NumPy's, or where parts can be read a
    `selfseg.read._lazy_array.LazyArray`; `valid` likewise."""
    axes: str
    """One letter an axis, out of ``T C Z Y X``."""
    guessed: bool = False
    """True if the file does not say what an axis is."""
    spacing: Mapping[str, float] = field(default_factory=dict)
    """Size of a pixel along a spatial axis, by the axis' letter; 1 where unknown."""
    unit: str = "pixel"
    """Unit of `spacing`."""
    channels: tuple[str, ...] = ()
    """Channel names, empty when unknown."""
    valid: Any = None
    """Bool array over the axes other than C, False where the file says that there is nothing (alpha 0, no data); None =
    there is something everywhere."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What the file's own writer needs, see `selfseg.core.image.Image`."""


@contextlib.contextmanager
def decoding(path: Path, *others: type[Exception]) -> Iterator[None]:
    """Turn whatever damaged bytes raise inside the block, `DAMAGE` and `others`, into one line that names the file."""
    try:
        yield
    except (*DAMAGE, *others) as error:
        raise damaged(path, str(error) or type(error).__name__) from error


@contextlib.contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Keep off the user's screen what a library warns and logs of oddities that it mends."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    one = logging.getLogger(logger)
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one.addFilter(drop)
        try:
            yield
        finally:
            one.removeFilter(drop)


def needed(path: Path, module: str, extra: str) -> Any:
    """Return a module that an extra brings, or raise `InputError` that says what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        fix = f"pip install 'selfseg[{extra}]'"
        raise InputError(path, expected=f"the package {package}", got="none installed", fix=fix) from error


def split_address(path: Path | str) -> tuple[Path, str]:
    """Split ``file.h5:/inside`` into the file and the place inside; that is empty where a whole file is meant."""
    text = str(path)
    file, sign, inside = text.rpartition(":/")
    if not sign or not file or os.path.lexists(text) or not os.path.lexists(file):
        return Path(path), ""
    return Path(file), inside.strip("/")


def stamp_of(path: Path | str) -> Stamp | None:
    """Return what tells that a file was changed or replaced; None for a folder, or where there is none."""
    try:
        file = split_address(path)[0]
        found = file.stat()
        return None if file.is_dir() else (found.st_size, found.st_mtime_ns, found.st_ino)
    except OSError:
        return None


@contextlib.contextmanager
def unchanged(path: Path | str, before: Stamp | None = None) -> Iterator[None]:
    """Refuse what the block reads of a file whose stamp is not `before` (None = that of now), whatever else seems wrong with it.

    Of a folder nothing is known.
    """
    before, wrong = before or stamp_of(path), None
    try:
        yield
    except InputError as error:
        wrong = error
    after = stamp_of(path)
    if before is not None and after != before:
        got = "one that was removed" if after is None else "one that was changed"
        fix = "wait until it is written or copied, then run the same command again"
        raise InputError(path, expected="a file that stays as it is while it is read", got=got, fix=fix) from wrong
    if wrong is not None:
        raise wrong


def damaged(path: Path, reason: str) -> InputError:
    """Return the error for a file whose bytes cannot be decoded."""
    reason = " ".join(reason.split())[:160] or "unknown damage"
    fix = "copy or export the file again, or leave it out"
    return InputError(path, expected="a whole image file", got=f"a damaged or truncated one ({reason})", fix=fix)


def unit_name(unit: str) -> str:
    """Return one spelling for a unit of length: ``"um"``, ``"micron"`` and their like are ``"micrometer"``."""
    return UNIT_NAMES.get(unit.strip().lower(), unit.strip())


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
    possible = ratio * stored if math.isfinite(ratio) else math.inf
    if declared > max(PLAUSIBLE, possible):
        got = f"{size} values ({gigabytes(declared)}) declared by {max(stored, 0)} stored bytes, which cannot hold them"
        fix = "the header is false or the file was cut short: copy or export it again"
        raise InputError(path, expected="a plausible image size", got=got, fix=fix)
    limit = memory_limit() if max_bytes is None else max_bytes
    if declared > limit:
        fix = "cut it into pieces, save it smaller, or use a machine with more memory"
        expected = f"at most {gigabytes(limit)} of pixels"
        raise InputError(path, expected=expected, got=f"{size} values, {gigabytes(declared)}", fix=fix)


def check_level(path: Path, level: int, n_levels: int) -> None:
    """Refuse a level that a pyramid does not have."""
    if not 0 <= level < n_levels:
        got, fix = str(level), f"0 is the finest, {n_levels - 1} the coarsest"
        raise InputError(path, expected=f"one of {n_levels} levels", got=got, fix=fix)


def check_chunk(path: Path, chunk: Sequence[int] | None, itemsize: int) -> None:
    """Refuse an array whose chunks, each of which is unpacked whole, cannot fit in memory."""
    n_bytes = math.prod(int(n) for n in chunk or ()) * itemsize
    if n_bytes > memory_limit():
        fix = "the header is false, or the chunks must be made smaller"
        expected = f"chunks of at most {gigabytes(memory_limit())}"
        raise InputError(path, expected=expected, got=gigabytes(n_bytes), fix=fix)


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
