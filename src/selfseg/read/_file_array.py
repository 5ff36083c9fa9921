"""An array in a file that is read window by window, not mapped: where a mapped file is cut short, the system ends the process."""

import math
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

OVERHEAD = 1 << 14
"""Bytes that can be read in the time that a read takes by itself."""

LARGEST = 1 << 25
"""Bytes that are read at once beyond what is wanted, at most."""


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
            kept = max(axis + 1 for axis in range(out.ndim) if axis == 0 or out.shape[axis] < sizes[axis])
            item = math.prod(sizes[kept:]) * out.dtype.itemsize  # what is wanted whole lies together
            with self.path.open("rb", buffering=0) as file:
                packed = out.reshape(-1).view(np.uint8).reshape(*out.shape[:kept], item)
                _fill(file, packed, self.start, sizes[:kept], parts[:kept])
        return out.T if self.order == "F" else out


def _fill(file: FileIO, out: NDArray[np.uint8], start: int, sizes: tuple[int, ...], parts: tuple[slice, ...]) -> None:
    """Read the part `parts` of a block of `sizes` that begins at byte `start`; the last axis of `out` is the bytes of an item."""
    stride = math.prod(sizes[1:]) * out.shape[-1]
    first, count = start + parts[0].start * stride, len(out)
    if len(sizes) == 1:
        _read(file, first, out)
    elif count * stride <= min(LARGEST, out.nbytes + math.prod(out.shape[:-2]) * OVERHEAD):
        rows = np.empty((count, *sizes[1:], out.shape[-1]), np.uint8)
        _read(file, first, rows)
        out[...] = rows[(slice(None), *parts[1:])]
    else:
        for i in range(count):
            _fill(file, out[i], first + i * stride, sizes[1:], parts[1:])


def _read(file: FileIO, start: int, out: NDArray[np.uint8]) -> None:
    """Fill a contiguous array with the bytes of the file from `start` on."""
    file.seek(start)
    left = out.reshape(-1).data
    while len(left):
        found = file.readinto(left)
        if not found:
            raise ValueError("it has become shorter while it was read")
        left = left[found:]
