"""Values that stand for "nothing was measured here": by GDAL's tag, and by the attributes of NetCDF and its like."""

import base64
import contextlib
import struct
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

FILL_ATTRIBUTES = ("_FillValue", "missing_value")
"""Attributes by which NetCDF, xarray and their like mark values that are none."""


def no_data_value(given: Any, dtype: DTypeLike) -> Any:
    """Return the value of a type that a file's own mark for "no data" stands for; None where no pixel can have it.

    Parameters
    ----------
    given
        A number, or a text of one, as GDAL writes it (``"-9999"``, ``"255.0"``, ``"1e20"``, ``" 0 "``, ``"0,5"``), or several that
        are equal. Text that is no number is ignored.
    dtype
        Type of the pixels.

    Examples
    --------
    >>> no_data_value("255.0", np.uint8), no_data_value("-9999", np.uint8), no_data_value("nan", np.uint16)
    (255, None, None)
    """
    if given is None:
        return None
    if isinstance(given, bytes):
        given = given.decode("latin-1")
    parts = given.replace("\0", " ").split() if isinstance(given, str) else np.ravel(np.asarray(given)).tolist()
    try:
        numbers = {Decimal(str(part).replace(",", ".")) for part in parts}
    except InvalidOperation:
        return None
    if len(numbers) != 1 or (number := numbers.pop()).is_nan():  # NaN is no valid value anyway
        return None
    kind = np.dtype(dtype)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            value: Any = np.asarray(float(number)).astype(kind)[()]
        return value if np.isfinite(value) else None
    if kind.kind not in "iub":
        return None
    low, high = (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    whole = low <= number <= high and number == number.to_integral_value()
    return int(number) if whole else None


def fill_values(attributes: Mapping[str, Any], dtype: DTypeLike) -> list[Any]:
    """Return the values that the attributes of an array mark as none; of floats, xarray writes them in base 64 into zarr 3."""
    found = []
    for name in FILL_ATTRIBUTES:
        given = attributes.get(name)
        for one in [given] if isinstance(given, str | bytes) else np.ravel(() if given is None else given).tolist():
            value = no_data_value(one, dtype)
            if value is None and isinstance(one, str) and np.dtype(dtype).kind == "f":
                with contextlib.suppress(ValueError, struct.error):
                    value = no_data_value(struct.unpack("<d", base64.b64decode(one, validate=True))[0], dtype)
            found += [] if value is None else [value]
    return found


def without_data(array: NDArray[Any], values: Iterable[Any]) -> NDArray[np.bool_]:
    """Return where an array has one of the values that mark "no data"; of floats, within two steps of their precision, as GDAL does."""
    empty = np.zeros(array.shape, bool)
    for value in values:
        if array.dtype.kind == "f":
            near = 2 * float(np.finfo(array.dtype).eps) * abs(float(value))
            with np.errstate(over="ignore", invalid="ignore"):
                empty |= np.abs(array - array.dtype.type(value)) <= array.dtype.type(near)
        else:
            empty |= array == value
    return empty
