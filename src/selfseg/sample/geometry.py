"""Changes of size that can be undone: resampling and cutting, pixel centre on pixel centre, in any number of
dimensions.

Pixel i of n covers ``[i, i + 1) / n`` of the side, so that output pixel o of m has its centre at ``(o + 0.5) n / m -
0.5`` in input pixels. Forward and back use the same rule, and nothing is shifted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

NO_ANNOTATION = -1


@dataclass(frozen=True)
class SizeChange:
    """One change of the spatial shape.

    Attributes
    ----------
    kind
        ``"resample"``, ``"border"`` (what is cut counts as outside) or ``"multiple"`` (what is cut is extended again).
    before, after
        Spatial shapes.
    start
        First kept pixel on each axis; zeros for a resampling.
    """

    kind: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    start: tuple[int, ...]

    def padding(self) -> list[tuple[int, int]]:
        """Return how many pixels were cut at the start and the end of each axis."""
        sides = zip(self.before, self.after, self.start, strict=True)
        return [(first, before - after - first) for before, after, first in sides]

    def kept(self) -> tuple[slice, ...]:
        """Return the slices that a cut keeps."""
        return tuple(slice(first, first + n) for first, n in zip(self.start, self.after, strict=True))


@lru_cache(maxsize=32)
def resample_matrix(n_in: int, n_out: int) -> Any:
    """Return the sparse ``[n_out n_in]`` matrix that resamples one axis.

    Linear interpolation when it grows; when it shrinks, the triangle is as much wider as the scale (Pillow's and
    torch's antialiased bilinear). Weights of pixels beyond the border are given to those within: rows sum to 1.
    """
    scale = n_in / n_out
    support = max(scale, 1.0)
    centre = (np.arange(n_out) + 0.5) * scale - 0.5
    columns = np.floor(centre - support).astype(np.int64)[:, None] + np.arange(int(np.ceil(2 * support)) + 2)
    weights = np.maximum(0.0, 1.0 - np.abs(columns - centre[:, None]) / support)
    weights[(columns < 0) | (columns >= n_in)] = 0.0
    columns = np.clip(columns, 0, n_in - 1)
    weights /= weights.sum(axis=1, keepdims=True)
    first = np.arange(n_out + 1) * columns.shape[1]
    entries: Any = (weights.ravel(), columns.ravel(), first)
    matrix: Any = sparse.csr_matrix(entries, shape=(n_out, n_in))
    matrix.eliminate_zeros()
    return matrix


def resample(array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Resample the first axes to `shape`; float32 and float64 keep their type."""
    for axis, n_out in enumerate(shape):
        n_in = array.shape[axis]
        if n_in == n_out:
            continue
        moved = np.ascontiguousarray(np.moveaxis(array, axis, 0))
        matrix = resample_matrix(n_in, n_out).astype(array.dtype, copy=False)
        result = (matrix @ moved.reshape(n_in, -1)).reshape(n_out, *moved.shape[1:])
        array = np.moveaxis(result, 0, axis)
    return np.ascontiguousarray(array)


def nearest(n_from: int, n_to: int) -> NDArray[np.int64]:
    """Return, for each of `n_to` pixels, that of the `n_from` pixels of the same side in which its centre lies."""
    return (2 * np.arange(n_to, dtype=np.int64) + 1) * n_from // (2 * n_to)


def forward_valid(valid: NDArray[np.bool_], change: SizeChange) -> NDArray[np.bool_]:
    """SizeChange a mask ``[*S]``; a resampled pixel is valid if every pixel that it is made of is."""
    if change.kind != "resample":
        return valid[change.kept()]
    return np.asarray(resample((~valid).astype(np.float32), change.after) <= 1e-6)


def forward_annotations(annotations: NDArray[Any], change: SizeChange) -> NDArray[Any]:
    """SizeChange annotations ``[*S]`` (-1 = none). Any annotation in a cell that becomes one pixel wins, the most frequent first."""
    if change.kind != "resample":
        return annotations[change.kept()]
    for axis, n_out in enumerate(change.after):
        if n_out > annotations.shape[axis]:
            annotations = np.take(annotations, nearest(annotations.shape[axis], n_out), axis=axis)
    where = np.nonzero(annotations != NO_ANNOTATION)
    cells = tuple(nearest(after, n)[at] for at, after, n in zip(where, change.after, annotations.shape, strict=True))
    result = np.full(change.after, NO_ANNOTATION, annotations.dtype)
    votes, counts = np.unique(np.stack([*cells, annotations[where]]), axis=1, return_counts=True)
    order = np.lexsort((-votes[-1], counts))  # the last that is written stays: the most frequent, then the lowest
    result[tuple(votes[:-1, order])] = votes[-1, order]
    return result


def forward_labels(labels: NDArray[Any], change: SizeChange) -> NDArray[Any]:
    """SizeChange labels ``[*S]``: a resampled pixel has the label of the pixel at its centre."""
    if change.kind != "resample":
        return labels[change.kept()]
    return labels[np.ix_(*(nearest(before, after) for before, after in zip(labels.shape, change.after, strict=True)))]


def backward(values: NDArray[Any], change: SizeChange) -> NDArray[Any]:
    """Undo a change of ``[K *s]``: linear interpolation, and the nearest kept value where pixels were cut."""
    if change.kind == "resample":
        result = np.empty((len(values), *change.before), values.dtype)
        for k, plane in enumerate(values):  # one by one: the intermediate arrays stay small
            result[k] = resample(plane, change.before)
        return result
    return np.pad(values, [(0, 0), *change.padding()], mode="edge")


def backward_labels(labels: NDArray[Any], change: SizeChange) -> NDArray[Any]:
    """Undo a change of ``[*s]`` labels: the nearest one, also where pixels were cut."""
    if change.kind == "resample":
        return labels[np.ix_(*(nearest(n, before) for n, before in zip(labels.shape, change.before, strict=True)))]
    return np.pad(labels, change.padding(), mode="edge")


def backward_inside(inside: NDArray[np.bool_], change: SizeChange) -> NDArray[np.bool_]:
    """Undo a change of the mask of what was looked at: a border that was cut is False."""
    if change.kind == "border":
        return np.pad(inside, change.padding(), mode="constant", constant_values=False)
    return backward_labels(inside, change)
