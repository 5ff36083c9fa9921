"""Arrays that stay in their files: values are read when they are asked for, and no others.

No file is mapped: where a mapped file is cut short, the system ends the process.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from selfseg.core.errors import InputError
from selfseg.read._no_data import without_data
from selfseg.read.arrays import check_size, decoding, stamp_of, unchanged

OVERHEAD = 1 << 14
"""Bytes that can be read in the time that a read takes by itself."""

LARGEST = 1 << 25
"""Bytes that are read at once beyond what is wanted, at most."""

Reader = Callable[[tuple[slice, ...]], NDArray[Any]]
"""From one range ``slice(start, stop)`` an axis to the values in it."""


def nothing() -> None:
    """Close nothing."""


@dataclass
class _File:
    """The file of an array and its views."""

    close: Callable[[], None]
    closed: bool = False


class LazyArray:
    """A view of an array in a file that reads what is indexed: ``array[3, 100:200, ::2]`` is a NumPy array.

    Integers, slices of any step and an ellipsis are taken, as NumPy takes them. `numpy.asarray` reads all of it;
    ``dask.array.from_array`` takes it as it is.

    Parameters
    ----------
    path, shape, dtype
        The file, for messages, and those of the whole array.
    read, close
        Reads one range an axis, within the shape, and closes the file; nothing is read after that.
    stored, ratio
        Bytes that the file has for these values, and bytes of values that one of them can stand for: see `check_size`.
    """

    def __init__(
        self,
        path: Path,
        shape: Sequence[int],
        dtype: DTypeLike,
        read: Reader,
        close: Callable[[], None] = nothing,
        stored: int = 0,
        ratio: float = math.inf,
    ) -> None:
        self.path = path
        self.shape = tuple(int(n) for n in shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.read = read
        self.stored = stored
        self.ratio = ratio
        self._file = _File(close)
        self._stamp = stamp_of(path)

    @property
    def closed(self) -> bool:
        """True once this array, or the one that it is a view of, was closed."""
        return self._file.closed

    def close(self) -> None:
        """Close the file, for all views of it."""
        self._file.closed = True
        self._file.close()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the whole array would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self[...].astype(self.dtype if dtype is None else dtype, copy=False)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part.

        Raise `IndexError` if the index does not fit, `InputError` if the file is damaged there or was changed since it was opened.
        """
        asked = _full_index(index, self.ndim)
        ranges: list[slice] = []
        within: list[slice | int] = []
        for one, size in zip(asked, self.shape, strict=True):
            bounds, inner = _bounds(one, size)
            ranges.append(bounds)
            within.append(inner)
        lengths = [part.stop - part.start for part in ranges]
        if 0 in lengths:
            return np.empty(lengths, self.dtype)[tuple(within)]
        with unchanged(self.path, self._stamp), decoding(self.path):
            array = np.asarray(self.read(tuple(ranges)))
        return np.require(array.astype(self.dtype, copy=False)[tuple(within)], requirements=["C", "W"])

    def check_fits(self, max_bytes: int | None = None) -> None:
        """Raise `InputError` if the array cannot be real, or takes more than `max_bytes`; None = the free memory allows."""
        check_size(self.path, self.shape, self.dtype.itemsize, self.stored, max_bytes, self.ratio)

    def arranged(self, order: Sequence[int], flipped: Sequence[int] = ()) -> "LazyArray":
        """Return a view with the axes of this array in another order; those that are left out have length 1.

        The axes `flipped` of this array run backwards in the view.
        """

        def read(ranges: tuple[slice, ...]) -> NDArray[Any]:
            own = [slice(0, 1)] * self.ndim
            for axis, part in zip(order, ranges, strict=True):
                size = self.shape[axis]
                own[axis] = slice(size - part.stop, size - part.start) if axis in flipped else part
            array = np.flip(self.read(tuple(own)), tuple(axis for axis in flipped if axis in order))
            return array.transpose([*order, *left_out]).reshape([part.stop - part.start for part in ranges])

        left_out = [axis for axis in range(self.ndim) if axis not in order]
        return self._changed([self.shape[axis] for axis in order], self.dtype, read)

    def at(self, axis: int, number: int) -> "LazyArray":
        """Return a view of one place along an axis, without that axis."""

        def read(ranges: tuple[slice, ...]) -> NDArray[Any]:
            own = (*ranges[:axis], slice(number, number + 1), *ranges[axis:])
            return self.read(own).reshape([part.stop - part.start for part in ranges])

        return self._changed([n for i, n in enumerate(self.shape) if i != axis], self.dtype, read)

    def take(self, numbers: Sequence[int], axis: int) -> "LazyArray":
        """Return a view of some places along an axis, in the order in which they are given."""

        def read(ranges: tuple[slice, ...]) -> NDArray[Any]:
            chosen = numbers[ranges[axis]]
            first = min(chosen)
            own = (*ranges[:axis], slice(first, max(chosen) + 1), *ranges[axis + 1 :])
            return np.take(self.read(own), [number - first for number in chosen], axis)

        return self._changed([len(numbers) if i == axis else n for i, n in enumerate(self.shape)], self.dtype, read)

    def mapped(self, function: Callable[[NDArray[Any]], NDArray[Any]], dtype: DTypeLike) -> "LazyArray":
        """Return a view whose values are `function` of the values here; it keeps the shape of what it is given."""
        ratio = self.ratio * np.dtype(dtype).itemsize / self.dtype.itemsize
        return self._changed(self.shape, dtype, lambda ranges: function(self.read(ranges)), ratio)

    def _changed(self, shape: Sequence[int], dtype: DTypeLike, read: Reader, ratio: float | None = None) -> "LazyArray":
        view = LazyArray(self.path, shape, dtype, read, nothing, self.stored, self.ratio if ratio is None else ratio)
        view._stamp, view._file = self._stamp, self._file
        return view


def from_sliceable(path: Path, array: Any, **known: Any) -> LazyArray:
    """Return the view of anything that has a shape and a dtype and reads slices: HDF5, zarr, plain values in a file.

    `known` is ``close``, ``stored`` and ``ratio`` of `LazyArray`.
    """
    native = np.dtype(array.dtype).newbyteorder("=")
    return LazyArray(path, array.shape, native, lambda ranges: np.asarray(array[ranges]), **known)


def check_real(path: Path, dtype: np.dtype[Any]) -> None:
    """Refuse values that are no real numbers: complex ones, records, text, objects."""
    if dtype.kind not in "buif":
        raise InputError(
            path, expected="real numbers", got=f"values of type {dtype}", fix="choose or save one real number a pixel"
        )


def shown(data: LazyArray, axes: str, empty: Sequence[Any]) -> LazyArray | None:
    """Return where an array in a file has other values than those of `empty`, over the axes other than C; None = everywhere.

    One channel that has is enough.
    """
    if not empty:
        return None
    channel = axes.find("C")

    def read(ranges: tuple[slice, ...]) -> NDArray[Any]:
        own = list(ranges)
        if channel >= 0:
            own.insert(channel, slice(0, data.shape[channel]))
        there = ~without_data(data.read(tuple(own)), empty)
        return np.asarray(there.any(channel)) if channel >= 0 else there

    return data._changed([n for i, n in enumerate(data.shape) if i != channel], bool, read)


def _full_index(index: Any, ndim: int) -> list[Any]:
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis")
    if not dots:
        dots = [len(parts)]
        parts.append(Ellipsis)
    where = dots[0]
    missing = ndim - (len(parts) - 1)
    if missing < 0:
        raise IndexError(f"too many indices: the array has {ndim} axes, but {len(parts) - 1} were indexed")
    return [*parts[:where], *[slice(None)] * missing, *parts[where + 1 :]]


def _bounds(one: Any, size: int) -> tuple[slice, slice | int]:
    """Return the range of an axis that must be read, and the index of what was asked within it."""
    if isinstance(one, slice):
        picked = range(*one.indices(size))
        if not picked:
            return slice(0, 0), slice(None)
        low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1])
        step = slice(None, None, picked.step) if picked.step > 0 else slice(high - low, None, picked.step)
        return slice(low, high + 1), step
    number = int(one.__index__()) if hasattr(one, "__index__") else None
    if number is None:
        raise IndexError(f"only integers, slices and an ellipsis are valid indices, not {type(one).__name__}")
    if not -size <= number < size:
        raise IndexError(f"index {number} is out of bounds for an axis of size {size}")
    number %= size
    return slice(number, number + 1), 0


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
