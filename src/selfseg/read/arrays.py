"""From pixels to the one image type: axes given or guessed, values checked, what is not finite masked out."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from selfseg.core.errors import InputError
from selfseg.core.image import KNOWN, Image, check_axes, finite_mask, no_finite_values, spatial_axes
from selfseg.read._decoded import DAMAGE, Decoded

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
        fix = "give its axes, for example --axes TCZYX, or split it"
        raise InputError(source, expected="2 to 4 axes, and one of channels", got=size, fix=fix)
    axes = known + "C" * colour
    return axes, not (axes == "YX" or (axes == "YXC" and shape[-1] >= 3))


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
    """Return the time points of an image as images of their own, named ``name_t000``; without T, the image alone."""
    if "T" not in image.axes:
        return [image]
    digits = max(3, len(str(image.size("T") - 1)))
    return [replace(image.at("T", i), name=f"{image.name}_t{i:0{digits}d}") for i in range(image.size("T"))]


def make_image(decoded: Decoded, axes: str | None, name: str, source: str) -> Image:
    """Make an image out of decoded pixels, or of those in a file, which are not read.

    Parameters
    ----------
    decoded
        The pixels and what the file says of them.
    axes
        What the user says that the axes are; None = believe the file, or the guess.
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
    )


def chosen_axes(decoded: Decoded, axes: str | None, source: str) -> str:
    """Return the axes that the user gives, else those of the file.

    Raise `UsageError` if `axes` is no axes string, `InputError` if it does not fit or the file's own axes cannot be told.
    """
    if axes is None:
        unknown = set(decoded.axes) - set("TCZYX")
        if unknown or len(set(decoded.axes)) != len(decoded.axes):
            size = " x ".join(str(n) for n in decoded.data.shape)
            fix = f"give one letter for each of its {decoded.data.ndim} axes, for example --axes TZCYX"
            raise InputError(source, expected="axes that can be told", got=f"{decoded.axes} of {size}", fix=fix)
        return decoded.axes
    axes = check_axes(axes)
    if len(axes) != decoded.data.ndim:
        size = " x ".join(str(n) for n in decoded.data.shape)
        got = f"{decoded.data.ndim} axes of {size}, like {decoded.axes}"
        raise InputError(source, expected=f"{len(axes)} axes ({axes})", got=got, fix="change or leave out --axes")
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
