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
from selfseg.sample.statistics import Region, Valid, Values
from selfseg.sample.steps import Step

NO_ANNOTATION = -1


@dataclass(frozen=True)
class SizeChange:
    """One change of the spatial shape: an operation of a `sample.chain.Chain`.

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

    @classmethod
    def plan(cls, step: Step, shape: tuple[int, ...], source: str) -> "SizeChange":
        """Return the change that a step makes of a spatial shape.

        Raises
        ------
        UsageError
            If the step has a value for another number of axes.
        InputError
            If the image is too small.
        """
        zeros = (0,) * len(shape)
        if step.name == "size":
            factor = min(1.0, step.values[0] / max(shape))
            return cls("resample", shape, tuple(max(1, round(n * factor)) for n in shape), zeros)
        values = step.values * len(shape) if len(step.values) == 1 else step.values
        if len(values) != len(shape):
            fix, got = f"give one value, or {len(shape)}", f"{len(values)} values for {source}"
            raise UsageError(f"preparation step {step}", expected=f"{len(shape)} values", got=got, fix=fix)
        if step.name == "rescale":
            after = tuple(max(1, round(n * factor)) for n, factor in zip(shape, values, strict=True))
            return cls("resample", shape, after, zeros)
        cuts = [int(value) for value in values]
        if step.name == "border":
            after = tuple(n - 2 * cut for n, cut in zip(shape, cuts, strict=True))
        else:
            after = tuple(n // cut * cut for n, cut in zip(shape, cuts, strict=True))
        if min(after) < 1:
            got, fix = " x ".join(map(str, shape)), "use a smaller value, or leave the image out"
            raise InputError(source, expected=f"an image large enough for {step}", got=got, fix=fix)
        return cls(step.name, shape, after, tuple((n - kept) // 2 for n, kept in zip(shape, after, strict=True)))

    def region_before(self, region: Region) -> Region:
        """Return the region that a region of the changed image is made of."""
        if self.kind != "resample":
            return tuple(slice(p.start + n, p.stop + n) for p, n in zip(region, self.start, strict=True))
        sides = zip(self.before, self.after, region, strict=True)
        return tuple(_reach(resample_matrix(n_in, n_out)[part]) for n_in, n_out, part in sides)

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return a region ``[*s C]`` and its mask; a resampled pixel is valid if every pixel that it is made of is."""
        if self.kind != "resample":
            part = tuple(
                slice(a.start - b.start, a.stop - b.start)
                for a, b in zip(self.region_before(region), before, strict=True)
            )
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


@dataclass(frozen=True)
class Axis:
    """One axis under several changes of size, there and back.

    Attributes
    ----------
    size
        Pixels of the image.
    changes
        Kind, sizes before and after, and first kept pixel of each change, first to last.
    """

    size: int
    changes: tuple[tuple[str, int, int, int], ...]

    @property
    def changed_size(self) -> int:
        """Pixels after all changes."""
        return self.changes[-1][2] if self.changes else self.size

    def forward(self) -> NDArray[np.int64]:
        """Return the pixel of the image in which the centre of each changed pixel lies."""
        index = np.arange(self.size)
        for kind, before, after, start in self.changes:
            index = index[nearest(before, after)] if kind == "resample" else index[start : start + after]
        return index

    def back(self) -> NDArray[np.int64]:
        """Return the changed pixel nearest to each pixel of the image."""
        index = np.arange(self.changed_size)
        for kind, before, after, start in reversed(self.changes):
            index = index[nearest(after, before) if kind == "resample" else _kept(before, after, start)]
        return index

    def inside(self) -> NDArray[np.bool_]:
        """Return where a pixel of the image lies in no border that was cut."""
        inside = np.ones(self.changed_size, bool)
        for kind, before, after, start in reversed(self.changes):
            if kind == "border":
                inside = np.pad(inside, (start, before - after - start))
            else:
                inside = inside[nearest(after, before) if kind == "resample" else _kept(before, after, start)]
        return inside

    def back_matrix(self) -> Any:
        """Return the sparse ``[size changed_size]`` matrix of the way back, None = nothing changes.

        Linear interpolation; what was cut gets the nearest kept value.
        """
        return _back_matrix(self)

    def back_rows(self, part: slice) -> tuple[slice, Any]:
        """Return the changed pixels that a part of the image is restored from, and the matrix between the two."""
        matrix = self.back_matrix()
        if matrix is None:
            return part, None
        rows = matrix[part]
        used = _reach(rows)
        return used, rows[:, used]


@lru_cache(maxsize=32)
def _back_matrix(axis: Axis) -> Any:
    total = None
    for kind, before, after, start in reversed(axis.changes):
        if before == after:
            continue
        if kind == "resample":
            matrix = resample_matrix(after, before)
        else:
            entries: Any = (np.ones(before), _kept(before, after, start), np.arange(before + 1))
            matrix = sparse.csr_matrix(entries, shape=(before, after))
        total = matrix if total is None else matrix @ total
    return total


def _kept(before: int, after: int, start: int) -> NDArray[np.int64]:
    """Return the kept pixel nearest to each of those before a cut."""
    return np.clip(np.arange(before) - start, 0, after - 1)


def axes_of(shape: Sequence[int], changes: Sequence[SizeChange]) -> tuple[Axis, ...]:
    """Return the axes of an image ``*S`` under changes of its size."""
    return tuple(
        Axis(n, tuple((change.kind, change.before[i], change.after[i], change.start[i]) for change in changes))
        for i, n in enumerate(shape)
    )


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
