"""Changes of size that can be undone: resampling and cutting, pixel centre on pixel centre, in any number of
dimensions.

Pixel i of n covers ``[i, i + 1) / n`` of the side, so that output pixel o of m has its centre at ``(o + 0.5) n / m -
0.5`` in input pixels. Forward and back use the same rule, and nothing is shifted. Each axis is changed alone, so that a
region is made of a region.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from selfseg.core.errors import InputError, UsageError
from selfseg.sample.statistics import Region, Valid, Values, within
from selfseg.sample.steps import Step

NO_ANNOTATION = -1


@dataclass(frozen=True)
class SizeChange:
    """One change of the spatial shape: an operation of a `sample.chain.Chain`."""

    kind: str
    """``"resample"``, ``"border"`` (what is cut counts as outside) or ``"multiple"`` (what is cut is extended
    again)."""
    before: tuple[int, ...]
    after: tuple[int, ...]
    """Spatial shapes."""
    start: tuple[int, ...]
    """First kept pixel on each axis; zeros for a resampling."""

    @classmethod
    def plan(cls, step: Step, shape: tuple[int, ...], source: str) -> "SizeChange":
        """Return the change that a step makes of a spatial shape.

        Raise `UsageError` if the step has a value for another number of axes, `InputError` if the image is too small.
        """
        zeros = (0,) * len(shape)
        if step.name == "size":
            factor = min(1.0, step.values[0] / max(shape))
            return cls("resample", shape, tuple(max(1, round(n * factor)) for n in shape), zeros)
        values = step.values * len(shape) if len(step.values) == 1 else step.values
        if len(values) != len(shape):
            raise UsageError(
                f"preparation step {step}",
                expected=f"{len(shape)} values",
                got=f"{len(values)} values for {source}",
                fix=f"give one value, or {len(shape)}",
            )
        if step.name == "rescale":
            after = tuple(max(1, round(n * factor)) for n, factor in zip(shape, values, strict=True))
            return cls("resample", shape, after, zeros)
        cuts = [int(value) for value in values]
        if step.name == "border":
            after = tuple(n - 2 * cut for n, cut in zip(shape, cuts, strict=True))
        else:
            after = tuple(n // cut * cut for n, cut in zip(shape, cuts, strict=True))
        if min(after) < 1:
            raise InputError(
                source,
                expected=f"an image large enough for {step}",
                got=" x ".join(map(str, shape)),
                fix="use a smaller value, or leave the image out",
            )
        return cls(step.name, shape, after, tuple((n - kept) // 2 for n, kept in zip(shape, after, strict=True)))

    def region_before(self, region: Region) -> Region:
        """Return the region that a region of the changed image is made of."""
        if self.kind != "resample":
            return tuple(slice(p.start + n, p.stop + n) for p, n in zip(region, self.start, strict=True))
        sides = zip(self.before, self.after, region, strict=True)
        return tuple(_reach(resample_matrix(n_in, n_out)[part]) for n_in, n_out, part in sides)

    def forward_index(self, axis: int) -> NDArray[np.int64]:
        """Return the pixel in which the centre of each changed pixel of an axis lies."""
        before, after, start = self.before[axis], self.after[axis], self.start[axis]
        return nearest(before, after) if self.kind == "resample" else np.arange(start, start + after)

    def back_index(self, axis: int) -> NDArray[np.int64]:
        """Return the changed pixel nearest to each pixel of an axis."""
        before, after, start = self.before[axis], self.after[axis], self.start[axis]
        return nearest(after, before) if self.kind == "resample" else np.clip(np.arange(before) - start, 0, after - 1)

    def back_matrix(self, axis: int) -> Any:
        """Return the sparse ``[before after]`` matrix of the way back: linear interpolation, or the nearest kept value."""
        if self.kind == "resample":
            return resample_matrix(self.after[axis], self.before[axis])
        return sparse.identity(self.after[axis], format="csr")[self.back_index(axis)]

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return a region ``[*s C]`` and its mask; a resampled pixel is valid if every pixel that it is made of is."""
        if self.kind != "resample":
            part = within(self.region_before(region), before)
            return array[part], None if valid is None else valid[part]
        sides = zip(self.before, self.after, before, region, strict=True)
        matrices = [None if n == m else resample_matrix(n, m)[part][:, old] for n, m, old, part in sides]
        if valid is not None:
            valid = np.asarray(resampled((~valid).astype(np.float32), matrices) <= 1e-6)
        return resampled(array, matrices), valid


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


def resampled(array: NDArray[Any], matrices: Sequence[Any]) -> NDArray[Any]:
    """Resample the first axes of an array, each by its ``[n_out n_in]`` matrix, None = not; floats keep their type."""
    for axis, matrix in enumerate(matrices):
        if matrix is None:
            continue
        moved = np.ascontiguousarray(np.moveaxis(array, axis, 0))
        result = matrix.astype(array.dtype, copy=False) @ moved.reshape(len(moved), -1)
        array = np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(array)


def nearest(n_from: int, n_to: int) -> NDArray[np.int64]:
    """Return, for each of `n_to` pixels, that of the `n_from` pixels of the same side in which its centre lies."""
    return (2 * np.arange(n_to, dtype=np.int64) + 1) * n_from // (2 * n_to)


def _reach(rows: Any) -> slice:
    """Return the columns that the rows of a sparse matrix have entries in."""
    return slice(int(rows.indices.min()), int(rows.indices.max()) + 1)


def forward_index(shape: Sequence[int], changes: Sequence[SizeChange], axis: int) -> NDArray[np.int64]:
    """Return the pixel of an image ``*S`` in which the centre of each pixel of an axis lies after some changes."""
    index = np.arange(shape[axis])
    for change in changes:
        index = index[change.forward_index(axis)]
    return index


def back_index(shape: Sequence[int], changes: Sequence[SizeChange], axis: int) -> NDArray[np.int64]:
    """Return the pixel after some changes that is nearest to each pixel of an axis of an image ``*S``, -1 in a border that was cut."""
    index = np.arange(changes[-1].after[axis] if changes else shape[axis])
    for change in reversed(changes):
        nearby, start = change.back_index(axis), change.start[axis]
        index = index[nearby]
        if change.kind == "border":
            index[:start] = index[start + change.after[axis] :] = -1
    return index


@lru_cache(maxsize=32)
def back_matrix(changes: tuple[SizeChange, ...], axis: int) -> Any:
    """Return the sparse ``[S s]`` matrix that undoes some changes of an axis; None = nothing changes."""
    total = None
    for change in reversed(changes):
        if change.before[axis] != change.after[axis]:
            matrix = change.back_matrix(axis)
            total = matrix if total is None else matrix @ total
    return total


def back_rows(changes: tuple[SizeChange, ...], axis: int, part: slice) -> tuple[slice, Any]:
    """Return the changed pixels that a part of an axis is restored from, and the matrix between the two, None = the same."""
    matrix = back_matrix(changes, axis)
    if matrix is None:
        return part, None
    used = _reach(matrix[part])
    return used, matrix[part][:, used]


def annotated_before(change: SizeChange, region: Region) -> Region:
    """Return the region whose annotations become those of a region after a change of size."""
    if change.kind != "resample":
        return change.region_before(region)
    parts = []
    for n_in, n_out, part in zip(change.before, change.after, region, strict=True):
        # the pixels whose cell, or that which is nearest, lies in the part
        where = (
            nearest(n_in, n_out)[part]
            if n_out > n_in
            else np.searchsorted(nearest(n_out, n_in), [part.start, part.stop])
        )
        parts.append(slice(int(where[0]), int(where[-1]) + (n_out > n_in)))
    return tuple(parts)


def forward_annotations(annotations: NDArray[Any], change: SizeChange, before: Region, region: Region) -> NDArray[Any]:
    """Return the annotations ``[*region]`` (-1 = none) after a change of size, out of those of `annotated_before`.

    Any annotation in a cell that becomes one pixel wins, the most frequent first, then the lowest.
    """
    if change.kind != "resample":
        return annotations
    cells = []
    for axis, (n_in, n_out, old, part) in enumerate(zip(change.before, change.after, before, region, strict=True)):
        if n_out > n_in:
            annotations = np.take(annotations, nearest(n_in, n_out)[part] - old.start, axis=axis)
            cells.append(np.arange(part.stop - part.start))
        else:
            cells.append(nearest(n_out, n_in)[old] - part.start)
    where = np.nonzero(annotations != NO_ANNOTATION)
    places = [cell[at] for at, cell in zip(where, cells, strict=True)]
    result = np.full([part.stop - part.start for part in region], NO_ANNOTATION, annotations.dtype)
    votes, counts = np.unique(np.stack([*places, annotations[where]]), axis=1, return_counts=True)
    order = np.lexsort((-votes[-1], counts))  # the last that is written stays: the most frequent, then the lowest
    result[tuple(votes[:-1, order])] = votes[-1, order]
    return result
