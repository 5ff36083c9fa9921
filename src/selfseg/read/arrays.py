"""Pixels and metadata in a format's file, and how they become the one image type: limits, errors of damaged bytes, axes, masks."""

import contextlib
import logging
import math
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import KNOWN, Image, check_axes, finite_mask, no_finite_values, spatial_axes

MAX_DEFLATE = 1032
"""Pixel bytes that one byte of a deflate stream can stand for, at most (zlib's technical notes)."""

PLAUSIBLE = 64 << 20
"""Declared pixel bytes below which a file is simply decoded: a false header then costs little."""

ANY_SIZE = 2**63
"""A limit that refuses nothing but sizes that cannot be real."""

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
    """Bool array over the axes other than C, False where the file has nothing (alpha 0, no data); None =
    there is something everywhere."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Metadata for the file's own writer, see `selfseg.core.image.Image`."""
    notes: tuple[str, ...] = ()
    """Lines to be shown to the user, see `selfseg.core.image.Image`."""


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
    """Return a module that an extra brings, or raise `InputError` with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise InputError(
            path, expected=f"the package {package}", got="none installed", fix=f"pip install 'selfseg[{extra}]'"
        ) from error


def split_address(path: Path | str) -> tuple[Path, str]:
    """Split ``file.h5:/inside`` into the file and the place inside; that is empty where a whole file is meant."""
    text = Path(path).as_posix()
    file, sign, inside = text.rpartition(":/")
    if not sign or not file or os.path.lexists(text) or not os.path.lexists(file):
        return Path(path), ""
    return Path(file), inside.strip("/")


def stamp_of(path: Path | str) -> Stamp | None:
    """Return a mark that differs once a file was changed or replaced; None for a folder, or a file that is not there."""
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
        raise InputError(
            path,
            expected="a file that stays as it is while it is read",
            got="one that was removed" if after is None else "one that was changed",
            fix="wait until it is written or copied, then run the same command again",
        ) from wrong
    if wrong is not None:
        raise wrong


UNSUPPORTED = re.compile(r"(?i)unsupported|not supported|not implemented|unknown compression|unimplemented")
"""Words of libraries about files that may be sound, but of a kind that they do not read."""


def damaged(path: Path, reason: str) -> InputError:
    """Return the error for a file whose bytes cannot be decoded, by damage or because no library here reads the kind."""
    reason = " ".join(reason.split())[:160] or "unknown damage"
    if UNSUPPORTED.search(reason):
        return InputError(
            path,
            expected="a kind of image file that can be read",
            got=f"one that cannot, or a damaged one ({reason})",
            fix="convert it, to PNG or plain TIFF for example, or leave it out",
        )
    return InputError(
        path,
        expected="a whole image file",
        got=f"a damaged or truncated one ({reason})",
        fix="copy or export the file again, or leave it out",
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
    possible = ratio * stored if math.isfinite(ratio) else math.inf
    if declared > max(PLAUSIBLE, possible):
        raise InputError(
            path,
            expected="a plausible image size",
            got=f"{size} values ({gigabytes(declared)}) declared by {max(stored, 0)} stored bytes, which cannot hold them",
            fix="the header is false or the file was cut short: copy or export it again",
        )
    limit = memory_limit() if max_bytes is None else max_bytes
    if declared > limit:
        raise InputError(
            path,
            expected=f"at most {gigabytes(limit)} of pixels",
            got=f"{size} values, {gigabytes(declared)}",
            fix="cut it into pieces, save it smaller, or use a machine with more memory",
        )


def check_level(path: Path, level: int, n_levels: int) -> None:
    """Refuse a level that a pyramid does not have."""
    if not 0 <= level < n_levels:
        raise InputError(
            path,
            expected=f"one of {n_levels} levels",
            got=str(level),
            fix=f"0 is the finest, {n_levels - 1} the coarsest",
        )


def check_chunk(path: Path, chunk: Sequence[int] | None, itemsize: int) -> None:
    """Refuse an array whose chunks, each of which is unpacked whole, cannot fit in memory."""
    n_bytes = math.prod(int(n) for n in chunk or ()) * itemsize
    if n_bytes > memory_limit():
        raise InputError(
            path,
            expected=f"chunks of at most {gigabytes(memory_limit())}",
            got=gigabytes(n_bytes),
            fix="the header is false, or the chunks must be made smaller",
        )


def orient(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return ``[Y X ...]`` turned upright from the EXIF / TIFF tag 274 (1-8); other values leave it as it is."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def cmyk_to_rgb(cmyk: NDArray[Any], full: float | None = None) -> NDArray[Any]:
    """Return RGB ``[... 3]`` of unsigned integers CMYK ``[... 4]`` by (1 - C)(1 - K), without a profile.

    `full` is the number of full ink; None = the largest of the type.
    """
    top = int(np.iinfo(cmyk.dtype).max) if full is None else full
    light = (top - cmyk.astype(np.float64)).clip(0)
    return np.rint(light[..., :3] * light[..., 3:] / top).astype(cmyk.dtype)


def opaque(alpha: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where `alpha` is above 0, or None if no pixel is fully transparent."""
    valid: NDArray[np.bool_] = alpha > 0
    return None if valid.all() else valid


MAX_GUESSED_CHANNELS = 4


def guess_axes(shape: tuple[int, ...], source: str = "array") -> tuple[str, bool]:
    """Guess the axes of an array; return them and whether they could be wrong (all but ``YX``, and ``YXC`` of 3 or 4 channels).

    Two axes are ``YX``. A last axis of up to 4 behind longer ones is C. Any other first axis is pages: Z, and T before
    it. Raise `InputError` if the array has fewer than two axes or too many for a guess.
    """
    colour = len(shape) > 2 and shape[-1] <= MAX_GUESSED_CHANNELS < min(shape[-3:-1])
    known = {2: "YX", 3: "ZYX", 4: "TZYX"}.get(len(shape) - colour)
    if known is None:
        size = " x ".join(str(n) for n in shape) or "a single number"
        raise InputError(
            source,
            expected="2 to 4 axes, and one of channels",
            got=size,
            fix="give its axes, for example --axes TCZYX, or split it",
        )
    axes = known + "C" * colour
    return axes, not (axes == "YX" or (axes == "YXC" and shape[-1] >= 3))


def is_array(item: Any) -> bool:
    """Return whether something is an array or has one: NumPy's, a tensor, a picture of Pillow, an array in a file."""
    if isinstance(item, str | bytes | os.PathLike):  # also NumPy's strings
        return False
    known = {*dir(type(item)), *getattr(item, "__dict__", ())}  # not asked for its array, which may be costly
    return isinstance(item, np.ndarray) or not known.isdisjoint(("__array__", "__array_interface__"))


def decode_array(item: Any, source: str, axes: str | None = None) -> Decoded:
    """Return what an array has for an image: pixels, axes, and where they are masked.

    Parameters
    ----------
    item
        Anything of which `is_array` holds. A pixel of a masked array is not valid where any of its channels is masked. A tensor of three
        axes, the first of 1, 3 or 4 places, has its channels first.
    source
        Its name, for messages.
    axes
        Axes that the user gives; None = they are guessed.

    Raises
    ------
    InputError
        If it cannot be made a NumPy array, or its axes cannot be guessed.
    """
    tensor = hasattr(item, "detach")
    try:
        if tensor:
            item = item.detach().cpu()
            item = item.float() if str(item.dtype) == "torch.bfloat16" else item
        masked = isinstance(item, np.ma.MaskedArray)
        array, mask = np.asarray(item), np.ma.getmaskarray(item) if masked else None
    except DAMAGE as error:
        raise InputError(
            source, expected="an array", got=f"{type(item).__name__} ({error})", fix="convert it with numpy.asarray"
        ) from error
    if axes is not None and len(axes) == array.ndim:
        known, guessed = axes.upper(), False
    elif tensor and array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[0] < min(array.shape[1:]):
        known, guessed = "CYX", True
    else:
        known, guessed = guess_axes(array.shape, source)
    if mask is None or not mask.any():
        return Decoded(array, known, guessed)
    return Decoded(array, known, guessed, valid=~(mask.any(known.index("C")) if "C" in known else mask))


def named_axes(names: Iterable[str], shape: tuple[int, ...], source: object) -> tuple[str, bool]:
    """Return the first of the names that could be the axes of an array of this shape, else a guess, and whether it could be wrong."""
    for axes in map(str.upper, names):
        if len(axes) == len(shape) and len(set(axes)) == len(axes) and not set(axes) - set(KNOWN):
            return axes, False
    return guess_axes(shape, str(source))


def by_letter(values: Any, letters: str) -> dict[str, float]:
    """Return numbers that a file gives for some axes by the axes' letters; {} unless there is a finite one for each."""
    try:
        numbers = np.asarray(values, np.float64)
    except DAMAGE:
        return {}
    if numbers.shape != (len(letters),) or not np.isfinite(numbers).all():
        return {}
    return dict(zip(letters, numbers.tolist(), strict=True))


def split_frames(image: Image) -> list[Image]:
    """Return the time points of an image as images of their own, named ``name_t000``; without T, the image alone.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg import Image
    >>> from selfseg.read import split_frames
    >>> [frame.name for frame in split_frames(Image(np.zeros((2, 4, 5)), "TYX", name="clip"))]
    ['clip_t000', 'clip_t001']
    """
    if "T" not in image.axes:
        return [image]
    digits = max(3, len(str(image.size("T") - 1)))
    return [replace(image.at("T", i), name=f"{image.name}_t{i:0{digits}d}") for i in range(image.size("T"))]


def make_image(decoded: Decoded, axes: str | None, name: str, source: str) -> Image:
    """Make an image out of decoded pixels, or of those in a file, which are not read.

    Parameters
    ----------
    decoded
        The pixels and their metadata in the file.
    axes
        The axes as the user gives them; None = believe the file, or the guess.
    name, source
        Output stem and origin, see `Image`.

    Returns
    -------
    Image
        In memory, `valid` is False where the file has nothing and where any channel is NaN or infinite, and booleans are 0
        and 255.

    Raises
    ------
    UsageError
        If `axes` is no axes string.
    InputError
        If `axes` does not fit the array, the values are no real numbers, there is no pixel, or none is finite.
    """
    if isinstance(decoded.data, np.ma.MaskedArray):
        decoded = _unmasked(decoded, axes)
    data, in_memory = decoded.data, isinstance(decoded.data, np.ndarray)
    if data.dtype.kind not in "buif":
        raise InputError(source, expected="real numbers", got=f"values of type {data.dtype}", fix="convert them")
    if data.size == 0:
        size = " x ".join(str(n) for n in data.shape)
        raise InputError(source, expected="at least one pixel", got=f"an array of {size}", fix="leave it out")
    if in_memory and data.dtype.kind == "b":
        data = data.astype(np.uint8) * np.uint8(255)
    chosen = chosen_axes(decoded, axes, source)
    valid = _valid(decoded, chosen)
    if isinstance(valid, np.ndarray):
        valid = np.require(valid, requirements=["W"])  # torch warns of arrays that it must not write to
    counted = tuple(n for n, letter in zip(data.shape, chosen, strict=True) if letter != "C")
    if valid is not None and valid.shape != counted:
        expected, got = (" x ".join(str(n) for n in shape) for shape in (counted, valid.shape))
        raise InputError(f"mask of {source}", expected=expected, got=got, fix="make it of the image's size")
    if in_memory and data.dtype.kind == "f" and not np.isfinite(data).any():
        raise no_finite_values(source)
    return Image(
        data,
        chosen,
        tuple(float(decoded.spacing.get(letter, 1.0)) for letter in spatial_axes(chosen)),
        decoded.unit,
        decoded.channels if "C" in chosen else (),
        name,
        source,
        finite_mask(data, chosen, valid) if in_memory else valid,
        decoded.guessed and axes is None,
        decoded.meta,
        decoded.notes,
    )


def _unmasked(decoded: Decoded, axes: str | None) -> Decoded:
    """Return plain pixels: one that is masked in any of its channels is not valid."""
    mask, where = np.ma.getmaskarray(decoded.data), (axes or decoded.axes).upper().find("C")
    shown = ~(mask.any(where) if where >= 0 else mask)
    valid = shown if decoded.valid is None else decoded.valid & shown
    return replace(decoded, data=np.asarray(decoded.data), valid=valid)


def chosen_axes(decoded: Decoded, axes: str | None, source: str) -> str:
    """Return the axes that the user gives, else those of the file.

    Raise `UsageError` if `axes` is no axes string, `InputError` if it does not fit or the file's own axes are unknown.
    """
    if axes is None:
        unknown = set(decoded.axes) - set("TCZYX")
        if unknown or len(set(decoded.axes)) != len(decoded.axes):
            size = " x ".join(str(n) for n in decoded.data.shape)
            raise InputError(
                source,
                expected="known axes",
                got=f"{decoded.axes} of {size}",
                fix=f"give one letter for each of its {decoded.data.ndim} axes, for example --axes TZCYX",
            )
        return decoded.axes
    axes = check_axes(axes)
    if len(axes) != decoded.data.ndim:
        size = " x ".join(str(n) for n in decoded.data.shape)
        raise InputError(
            source,
            expected=f"{len(axes)} axes ({axes})",
            got=f"{decoded.data.ndim} axes of {size}, like {decoded.axes}",
            fix="change or leave out --axes",
        )
    return axes


def _valid(decoded: Decoded, axes: str) -> Any:
    """Return the file's mask over the axes other than C, also where the user calls another axis C than the file."""
    mask = decoded.valid
    if mask is None or axes.replace("C", "") == decoded.axes.replace("C", ""):
        return mask
    if "C" in decoded.axes:
        mask = np.expand_dims(np.asarray(mask), decoded.axes.index("C"))
        mask = np.broadcast_to(mask, decoded.data.shape)
    return np.asarray(mask).all(axis=axes.index("C")) if "C" in axes else mask
