"""The region adjacency graph as sorted edge arrays, and statistics of regions. Any number of dimensions, O(pixels)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from selfseg.core.errors import UsageError


@dataclass(frozen=True)
class RegionGraph:
    """Which regions touch, and how."""

    edges: NDArray[np.int32]
    """``[E 2]`` int32, i < j, sorted by i, then j."""
    length: NDArray[np.float64]
    """``[E]`` float64: pixel faces that the two regions share; their area when a spacing was given."""
    strength: NDArray[np.float64]
    """``[E]`` float64: mean boundary strength over those faces; 0 when no strength was given."""
    sizes: NDArray[np.int64]
    """``[R]`` int64: pixels of each region."""

    @property
    def n_regions(self) -> int:
        """Number of regions R."""
        return len(self.sizes)


def check_labels(labels: NDArray[Any]) -> None:
    """Raise `UsageError` unless labels are integers."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError("labels", expected="integers", got=str(labels.dtype), fix="convert them with astype(int)")


def check_spacing(spacing: Sequence[float] | None, n_dims: int) -> tuple[float, ...]:
    """Return the size of a pixel along each axis, 1 where none is given; raise `UsageError` unless they are positive."""
    units = (1.0,) * n_dims if spacing is None else tuple(spacing)
    if len(units) != n_dims or not min(units, default=1.0) > 0:
        raise UsageError("spacing", expected=f"{n_dims} positive numbers", got=str(spacing), fix="one number an axis")
    return units


def check_shape(name: str, array: NDArray[Any] | None, shape: Sequence[int]) -> None:
    """Raise `UsageError` if an array is given whose shape is another."""
    if array is not None and tuple(array.shape) != tuple(shape):
        raise UsageError(name, expected=str(list(shape)), got=str(list(array.shape)), fix="crop it alike")


def check_picture(image: NDArray[Any]) -> None:
    """Raise `UsageError` unless an image is ``[Y X C]``."""
    if image.ndim != 3 or image.size == 0:
        raise UsageError("image", expected="[Y X C]", got=str(list(image.shape)), fix="put the channels last")


def face_areas(n_dims: int, spacing: Sequence[float] | None) -> list[float]:
    """Return the area of a pixel face across each axis: the product of the other spacings."""
    units = check_spacing(spacing, n_dims)
    return [float(np.prod([s for i, s in enumerate(units) if i != axis])) for axis in range(n_dims)]


def _faces(flat: NDArray[Any], shape: tuple[int, ...], axis: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the flat pixel numbers on both sides of each face across one axis where two regions meet."""
    stride = math.prod(shape[axis + 1 :])
    left = np.flatnonzero(flat[: flat.size - stride] != flat[stride:]) if shape[axis] > 1 else np.zeros(0, np.intp)
    # The last slice along the axis has no next one: what stands a stride further is the start of another line.
    left = left[(left // stride) % shape[axis] != shape[axis] - 1]
    left = left[(flat[left] >= 0) & (flat[left + stride] >= 0)]
    return left, left + stride


def adjacency(
    labels: NDArray[np.integer],
    strength: NDArray[Any] | None = None,
    spacing: Sequence[float] | None = None,
    n_regions: int | None = None,
) -> RegionGraph:
    """Find the regions that touch by a pixel face.

    Parameters
    ----------
    labels
        ``[*S]`` integers 0..R-1; negative pixels are outside and touch nothing.
    strength
        ``[*S]`` boundary strength of each pixel. A face has the mean of its two pixels.
    spacing
        Size of a pixel along each axis: faces then count by their area in physical units.
    n_regions
        R, when the last labels may be unused.

    Raises
    ------
    UsageError
        If labels are not integers, or `strength` or `spacing` does not fit them.
    """
    edges, length, total, sizes = boundary_sums(labels, strength, spacing, n_regions)
    return RegionGraph(edges, length, total / np.maximum(length, 1e-300), sizes)


def boundary_sums(
    labels: NDArray[np.integer],
    strength: NDArray[Any] | None = None,
    spacing: Sequence[float] | None = None,
    n_regions: int | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return edges, length, sum of the strength over the faces, and sizes of regions: `adjacency` before its mean is taken."""
    check_labels(labels)
    check_shape("strength", strength, labels.shape)
    count = int(labels.max(initial=-1)) + 1 if n_regions is None else n_regions
    flat = np.ascontiguousarray(labels).ravel()
    value = None if strength is None else np.ascontiguousarray(strength, np.float64).ravel()
    rows, columns, areas, values = [], [], [], []
    for axis, area in enumerate(face_areas(labels.ndim, spacing)):
        left, right = _faces(flat, labels.shape, axis)
        a, b = flat[left], flat[right]
        rows.append(np.minimum(a, b))
        columns.append(np.maximum(a, b))
        areas.append(np.full(len(left), area))
        values.append(np.zeros(len(left)) if value is None else (value[left] + value[right]) * (area / 2))
    # Compressed rows are made by counting, not by sorting, and add up what stands in the same place.
    place, shape = (np.concatenate(rows), np.concatenate(columns)), (count, count)
    length = coo_array((np.concatenate(areas), place), shape).tocsr()
    total = coo_array((np.concatenate(values), place), shape).tocsr()
    length.sort_indices()
    total.sort_indices()
    i = np.repeat(np.arange(count, dtype=np.int32), np.diff(length.indptr))
    edges = np.stack([i, length.indices.astype(np.int32)], -1)
    inside = flat if flat.min(initial=0) >= 0 else flat[flat >= 0]
    sizes = np.bincount(inside, minlength=count).astype(np.int64)
    return edges, length.data, total.data, sizes


def region_sums(
    labels: NDArray[np.integer], features: NDArray[Any], n_regions: int | None = None
) -> NDArray[np.float64]:
    """Add up ``features [*S C]`` over each region, ``[R C]`` float64.

    Labels ``[*S]`` are 0..R-1, negative = outside; give R where the last ones may be unused. Labels that are not integers or shapes
    that differ raise `UsageError`.
    """
    check_labels(labels)
    if features.shape[:-1] != labels.shape:
        expected, got = f"{list(labels.shape)} + [C]", str(list(features.shape))
        raise UsageError("features", expected=expected, got=got, fix="put channels last")
    count = int(labels.max(initial=-1)) + 1 if n_regions is None else n_regions
    flat, values = labels.ravel(), features.reshape(labels.size, features.shape[-1])
    if flat.min(initial=0) < 0:
        values, flat = values[flat >= 0], flat[flat >= 0]
    sums = [np.bincount(flat, values[:, c], count) for c in range(values.shape[1])]
    return np.stack(sums, -1) if sums else np.zeros((count, 0))


def region_means(
    labels: NDArray[np.integer], features: NDArray[Any], n_regions: int | None = None
) -> NDArray[np.float64]:
    """Return the mean of ``features [*S C]`` over each region, ``[R C]``; 0 for an unused label. See `region_sums`."""
    sums = region_sums(labels, features, n_regions)
    inside = labels[labels >= 0]
    return sums / np.maximum(np.bincount(inside, minlength=len(sums)), 1)[:, None]
