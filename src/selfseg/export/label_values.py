"""Values, axes and units as the files of labels want them, and class names and colours as ImageJ does."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.axes import spatial_axes
from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError
from selfseg.export.colour_table import colour_table

TIFF_AXES = "TZCYX"
"""The one order of axes in TIFF files: that of ImageJ."""

METERS = {
    "angstrom": 1e-10,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1.0,
}
"""Meters in a unit of length, by the names that the readers give."""

IMAGEJ_UNITS = {
    "micrometer": "micron",
    "um": "micron",
    "µm": "micron",
    "μm": "micron",
    "nanometer": "nm",
    "millimeter": "mm",
}
"""ImageJ's own, ASCII, spelling of units."""


def in_unit(sizes: Sequence[float], unit: str, wanted: str) -> tuple[float, ...] | None:
    """Return lengths in another unit; None if `unit` is no length, like ``"pixel"``."""
    if unit == wanted:
        return tuple(sizes)
    if unit not in METERS:
        return None
    # whole powers of ten, so that 0.5 micrometres are 500 nanometres and not 499.99999999999994
    power = round(math.log10(METERS[unit]) - math.log10(METERS[wanted]))
    return tuple(float(size * 10**power) if power >= 0 else float(size / 10**-power) for size in sizes)


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


def class_lines(table: ClassTable | None) -> list[str]:
    """Return a line ``ID = NAME`` for each class."""
    return [f"{item.id} = {one_line(item.name)}" for item in table.classes] if table is not None else []


def imagej_look(table: ClassTable | None, largest: int = 0) -> dict[str, Any]:
    """Return ImageJ's metadata that show 8-bit labels up to `largest` in the colours of their classes."""
    colours = np.zeros((256, 4), np.uint8)
    known = colour_table(table, largest)
    colours[: len(known)] = known
    return {"LUTs": [np.ascontiguousarray(colours[:, :3].T)], "Ranges": (0.0, 255.0)}


def imagej_info(table: ClassTable | None) -> str:
    """Return the class names as ImageJ's "Info" has them: one a line."""
    return "".join(f"{line}\n" for line in class_lines(table))


def imagej_unit(unit: str | None) -> str:
    """Return a unit in ImageJ's own, ASCII, spelling."""
    name = IMAGEJ_UNITS.get(unit or "pixel", unit or "pixel")
    return one_line(name.encode("ascii", "backslashreplace").decode("ascii"))


def smallest_integers(labels: NDArray[Any], table: ClassTable | None) -> NDArray[Any]:
    """Return labels as the smallest unsigned integers that hold all ids of `labels` and of `table`.

    Raises
    ------
    UsageError
        If they are no integers from 0 to 2**32 - 1.
    """
    if labels.dtype.kind not in "biu":
        raise UsageError("labels", expected="integers", got=str(labels.dtype), fix="round and convert them first")
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high >= 2**32:
        fix = "0 is ignore, classes are 1..K"
        raise UsageError("labels", expected="0 to 4294967295", got=f"{low} to {high}", fix=fix)
    largest = max([high, *(item.id for item in table.classes)] if table is not None else [high])
    return labels.astype(np.min_scalar_type(largest) if largest < 2**32 else np.uint32, copy=False)


def in_order(
    data: NDArray[Any], axes: str, spacing: Sequence[float] | None, wanted: str = TIFF_AXES
) -> tuple[NDArray[Any], str, dict[str, float]]:
    """Return the data with its axes in the order of `wanted`, these axes, and the spacing by letter in the same order.

    Raises
    ------
    UsageError
        If `spacing` does not fit `axes`.
    """
    letters = spatial_axes(axes)
    steps = tuple(spacing) if spacing is not None else (1.0,) * len(letters)
    if len(steps) != len(letters) or not all(math.isfinite(step) and step > 0 for step in steps):
        fix = "give one size for each spatial axis"
        raise UsageError("spacing", expected=f"{len(letters)} positive sizes for {letters}", got=str(steps), fix=fix)
    order = "".join(letter for letter in wanted if letter in axes)
    by_letter = dict(zip(letters, steps, strict=True))
    ordered = np.ascontiguousarray(data.transpose([axes.index(letter) for letter in order]))
    return ordered, order, {letter: float(by_letter[letter]) for letter in order if letter in by_letter}
