"""An array in a file that is read window by window, not mapped: where a mapped file is cut short, the system ends the process."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

WASTE = 4
"""Bytes that may be read for each one that is wanted, before a read is parted along an axis."""

SMALL = 1 << 16
"""Bytes that are read at once whatever is wanted of them: it takes no longer than a few."""


class FileArray:
    """An array of plain values in a file, to be indexed by one range ``slice(start, stop)`` an axis.

    Parameters
    ----------
    path
        The file; it is open only while a part is read.
    dtype, shape
        Of the values, in any byte order.
    start
        Byte of the first value.
    order
        ``"C"``: the last axis runs fastest; ``"F"``: the first.

    Raises
    ------
    ValueError
        If the file is too short for the array; when indexing: if it has become so.
    """

    def __init__(self, path: Path | str, dtype: DTypeLike, start: int, shape: Sequence[int], order: str = "C") -> None:
        self.path = Path(path)
        self.shape = tuple(int(n) for n in shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.start = start
        self.order = order
        found, wanted = self.path.stat().st_size - start, math.prod(self.shape) * self.dtype.itemsize
        if found < wanted:
            raise ValueError(f"{max(found, 0)} bytes for {wanted} bytes of values")

    def __getitem__(self, ranges: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part; the ranges are within the shape."""
        turned = slice(None, None, -1 if self.order == "F" else 1)
        sizes, parts = self.shape[turned], ranges[turned]
        out = np.empty([part.stop - part.start for part in parts], self.dtype)
        if out.size:
            with self.path.open("rb") as file:
                _fill(file, out, self.start, sizes, parts)
        return out.T if self.order == "F" else out


def _fill(file: BinaryIO, out: NDArray[Any], start: int, sizes: tuple[int, ...], parts: tuple[slice, ...]) -> None:
    """Read the part `parts` of a block of `sizes` that begins at byte `start`."""
    first, count = parts[0].start, len(out)
    stride = math.prod(sizes[1:]) * out.dtype.itemsize
    whole = out.shape[1:] == sizes[1:]
    if whole:
        _read(file, start + first * stride, out)
    elif count * stride <= max(SMALL, WASTE * out.nbytes):
        rows = np.empty((count, *sizes[1:]), out.dtype)
        _read(file, start + first * stride, rows)
        out[...] = rows[(slice(None), *parts[1:])]
    else:
        for i in range(count):
            _fill(file, out[i], start + (first + i) * stride, sizes[1:], parts[1:])


def _read(file: BinaryIO, start: int, out: NDArray[Any]) -> None:
    """Fill a contiguous array with the bytes of the file from `start` on."""
    file.seek(start)
    if file.readinto(out.reshape(-1).view(np.uint8)) < out.nbytes:  # type: ignore[attr-defined]
        raise ValueError("it has become shorter while it was read")
