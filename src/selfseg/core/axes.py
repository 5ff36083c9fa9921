"""Axes strings: ``"YX"``, ``"YXC"``, ``"ZYX"``, ``"TYXC"``. Time, channel, depth, row, column, in the array's own order."""

from typing import Any

import numpy as np

from selfseg.core.errors import UsageError

KNOWN = "TCZYX"
SPATIAL = "ZYX"


def check_axes(axes: str, ndim: int | None = None) -> str:
    """Return `axes` in upper case if it is valid, else raise.

    Parameters
    ----------
    axes
        One letter an array axis, in the array's order, out of ``T C Z Y X``; Y and X must be there.
    ndim
        Number of axes that the array has, if known.

    Raises
    ------
    UsageError
        If a letter is unknown or repeated, Y or X is missing, or the count differs from `ndim`.
    """
    upper = axes.upper()
    fix = "give one letter for each axis, for example --axes YXC"
    if set(upper) - set(KNOWN) or len(set(upper)) != len(upper) or not {"Y", "X"} <= set(upper):
        raise UsageError(f"axes {axes!r}", expected="distinct letters of TCZYX with Y and X", got=axes, fix=fix)
    if ndim is not None and len(upper) != ndim:
        raise UsageError(f"axes {axes!r}", expected=f"{ndim} letters", got=f"{len(upper)}", fix=fix)
    return upper


def spatial_axes(axes: str) -> str:
    """Return the spatial letters of `axes` in their order, for example ``"YX"`` of ``"TYXC"``."""
    return "".join(letter for letter in axes if letter in SPATIAL)


class AxisView:
    """One place along an axis of an array-like in a file, without that axis: read and written by regions of the others.

    Parameters
    ----------
    array
        Array-like with shape, dtype and indexing by slices.
    axis, number
        The axis, and the place along it.
    """

    def __init__(self, array: Any, axis: int, number: int) -> None:
        self.array, self.axis, self.number = array, axis, number
        self.shape = tuple(n for i, n in enumerate(array.shape) if i != axis)
        self.dtype, self.ndim = array.dtype, len(self.shape)

    def _place(self, region: Any) -> tuple[slice, ...]:
        here = slice(self.number, self.number + 1)
        return (*region[: self.axis], here, *region[self.axis :])

    def __getitem__(self, region: Any) -> Any:
        return np.squeeze(np.asarray(self.array[self._place(region)]), self.axis)

    def __setitem__(self, region: Any, values: Any) -> None:
        self.array[self._place(region)] = np.expand_dims(values, self.axis)


def time_points(array: Any, axes: str) -> list[Any]:
    """Return the time points of an array-like as views that can be read and written; the array alone where `axes` have no T."""
    if "T" not in axes:
        return [array]
    axis = axes.index("T")
    if isinstance(array, np.ndarray):
        return list(np.moveaxis(array, axis, 0))
    return [AxisView(array, axis, number) for number in range(array.shape[axis])]
