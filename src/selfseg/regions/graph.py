"""Connected regions and the graph of which touch: components of equal labels, the region adjacency graph as sorted edge arrays,
statistics of regions, small regions merged into the most similar neighbour. Any number of dimensions, O(pixels).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.sparse import coo_array

from selfseg.core.errors import UsageError
from selfseg.core.machine import compiled


@dataclass(frozen=True)
class RegionGraph:
    """Which regions touch, and how.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.graph import adjacency
    >>> adjacency(np.array([[0, 0, 1], [2, 2, 1]])).sizes.tolist()
    [2, 2, 2]
    """

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

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.graph import adjacency
    >>> graph = adjacency(np.array([[0, 0, 1], [2, 2, 1]]))
    >>> graph.edges.tolist(), graph.length.tolist()
    ([[0, 1], [0, 2], [1, 2]], [1.0, 2.0, 1.0])
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
        raise UsageError(
            "features", expected=f"{list(labels.shape)} + [C]", got=str(list(features.shape)), fix="put channels last"
        )
    count = int(labels.max(initial=-1)) + 1 if n_regions is None else n_regions
    flat, values = labels.ravel(), features.reshape(labels.size, features.shape[-1])
    if flat.min(initial=0) < 0:
        values, flat = values[flat >= 0], flat[flat >= 0]
    sums = [np.bincount(flat, values[:, c], count) for c in range(values.shape[1])]
    return np.stack(sums, -1) if sums else np.zeros((count, 0))


def region_means(
    labels: NDArray[np.integer], features: NDArray[Any], n_regions: int | None = None
) -> NDArray[np.float64]:
    """Return the mean of ``features [*S C]`` over each region, ``[R C]``; 0 for an unused label. See `region_sums`.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.graph import region_means
    >>> region_means(np.array([[0, 0, 1]]), np.array([[[1.0], [3.0], [7.0]]]))
    array([[2.],
           [7.]])
    """
    sums = region_sums(labels, features, n_regions)
    inside = labels[labels >= 0]
    return sums / np.maximum(np.bincount(inside, minlength=len(sums)), 1)[:, None]


def connected_components(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Number every face-connected part of equal labels ``[*S]``: ``[*S]`` int32, 0..R-1 in the order of the first pixels.

    Up to three dimensions. Negative labels are outside and become -1. Labels that are not integers raise `UsageError`.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.graph import connected_components
    >>> connected_components(np.array([[1, 2, 1]]))
    array([[0, 1, 2]], dtype=int32)
    """
    from skimage.measure import label

    check_labels(labels)
    # Unsigned labels have no -1; every negative value is outside. scikit-image moves axes of one pixel, and with them the order.
    signed = labels if labels.dtype.kind == "i" else labels.astype(np.int64)
    numbers = label(np.maximum(np.atleast_1d(np.squeeze(signed)), -1), background=-1, connectivity=1)
    return np.asarray(numbers, np.int32).reshape(labels.shape) - np.int32(1)


def number_by_first_pixel(labels: NDArray[np.int32], n_labels: int) -> NDArray[np.int32]:
    """Renumber labels ``[*S]`` below `n_labels`, some perhaps unused, to 0..R-1 in the order of their first pixels; -1 stays."""
    flat = labels.ravel()
    first = np.full(n_labels + 1, flat.size, np.int64)
    # Backwards, so that the first pixel of each label is written last. Label -1 lands in the spare last place.
    first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)
    order = np.argsort(first[:-1], kind="stable")
    number = np.empty(n_labels + 1, np.int32)
    number[order] = np.arange(n_labels, dtype=np.int32)
    number[-1] = -1
    return number[labels]


def merge_small(
    labels: NDArray[np.int32], features: NDArray[Any], min_size: float, groups: NDArray[np.integer] | None = None
) -> NDArray[np.int32]:
    """Merge regions of fewer than `min_size` pixels into the neighbour of nearest mean feature, until none is left.

    Return labels ``[*S]`` int32, 0..R-1 without gaps, in the order of their first pixels. A small region without neighbours stays.

    Parameters
    ----------
    labels
        ``[*S]`` int32, 0..R-1, -1 outside.
    features
        ``[*S C]``, what similarity is judged by (squared Euclidean distance of means).
    groups
        ``[*S]`` integers, the same over each region: only regions of one group merge.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.graph import merge_small
    >>> labels = np.array([[0, 0, 0, 1, 2, 2, 2]], np.int32)
    >>> features = np.array([[0.0, 0, 0, 4, 5, 5, 5]])[..., None]
    >>> merge_small(labels, features, min_size=2)
    array([[0, 0, 0, 1, 1, 1, 1]], dtype=int32)
    """
    n_regions = int(labels.max(initial=-1)) + 1
    flat, shape = np.ascontiguousarray(labels, np.int32).ravel(), (1, 1, 1, *labels.shape)[-3:]
    values = np.nan_to_num(np.asarray(features, np.float64)).reshape(flat.size, -1)
    sizes, sums = np.zeros(n_regions), np.zeros((n_regions, values.shape[1]))
    _sizes_and_sums(flat, values, sizes, sums)
    group = np.zeros(n_regions, np.int64)
    if groups is not None:
        group[flat[flat >= 0]] = groups.ravel()[flat >= 0]
    small = sizes < min_size
    contacts = np.empty((2 * labels.ndim * int(sizes[small].sum()), 2), np.int32)
    n_contacts = _small_contacts(flat, shape, small, group, contacts)
    parent = np.arange(n_regions, dtype=np.int32)
    _merge_rounds(contacts[:n_contacts], sizes, sums, min_size, parent)
    merged = np.empty(flat.size, np.int32)
    _relabel(flat, parent, np.full(n_regions, -1, np.int32), merged)
    return merged.reshape(labels.shape)


def separate_objects(objects: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the objects with every pixel set to background that has another object among its neighbours, diagonals included.

    Objects that do not touch keep all their pixels; between two that do, two pixels of background are left: the "pre-defined
    separation border" of Ronneberger, Fischer and Brox (U-Net, MICCAI 2015, section 3).

    Parameters
    ----------
    objects
        ``[*S]``, 0 = background, each other value one object; negative = unknown, which is kept and touches nothing.
    """
    labels = np.asarray(objects, np.int64)
    inside = labels > 0
    above = labels.max(initial=0) + 1  # not the largest integer: scipy's filters compute in double precision
    low = minimum_filter(np.where(inside, labels, above), 3, mode="nearest")
    high = maximum_filter(np.where(inside, labels, 0), 3, mode="nearest")
    return np.where(inside & ((low != labels) | (high != labels)), 0, labels)


# The kernels of `merge_small`. Arrays are flat, shapes are (Z, Y, X). A region is known by its root, the smallest number that was joined.


@compiled()
def _find(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled()
def _sizes_and_sums(labels, features, sizes, sums):
    """Add up the pixels ``[R]`` and the features ``[N C]`` -> ``[R C]`` of each label."""
    for p in range(len(labels)):
        r = labels[p]
        if r >= 0:
            sizes[r] += 1
            for c in range(features.shape[1]):
                sums[r, c] += features[p, c]


@compiled()
def _small_contacts(labels, shape, small, groups, contacts):
    """Write each contact of a small region with another of its group into ``contacts [M 2]``; return their number.

    A pair comes once for each pixel face that it shares, so that M need not be more than the faces of all small regions.
    """
    n, p = 0, -1
    strides = (1, shape[2], shape[1] * shape[2])
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                p += 1
                a = labels[p]
                if a < 0:
                    continue
                if x + 1 < shape[2] and labels[p + 1] != a:
                    n = _contact(a, labels[p + 1], small, groups, contacts, n)
                if y + 1 < shape[1] and labels[p + strides[1]] != a:
                    n = _contact(a, labels[p + strides[1]], small, groups, contacts, n)
                if z + 1 < shape[0] and labels[p + strides[2]] != a:
                    n = _contact(a, labels[p + strides[2]], small, groups, contacts, n)
    return n


@compiled()
def _contact(a, b, small, groups, contacts, n):
    """Enter the contact of two different regions, once for each that is small; return the new number of entries."""
    if b < 0 or not (small[a] or small[b]) or groups[a] != groups[b]:
        return n
    for source, target in ((a, b), (b, a)):
        if small[source]:
            contacts[n, 0], contacts[n, 1] = source, target
            n += 1
    return n


@compiled()
def _merge_rounds(contacts, sizes, sums, min_size, parent):
    """Let each small region join the neighbour of nearest mean, round by round, until none can.

    `contacts`, `sizes` and `sums` are used up.
    """
    n_regions = len(sizes)
    best, least = np.empty(n_regions, np.int32), np.empty(n_regions)
    left = len(contacts)
    while left:
        best[:] = -1
        kept = 0
        for i in range(left):
            a, b = _find(parent, contacts[i, 0]), _find(parent, contacts[i, 1])
            if a == b or sizes[a] >= min_size:
                continue
            contacts[kept, 0], contacts[kept, 1] = a, b
            kept += 1
            gap = 0.0
            for c in range(sums.shape[1]):
                gap += (sums[a, c] / sizes[a] - sums[b, c] / sizes[b]) ** 2
            if best[a] < 0 or gap < least[a] or (gap == least[a] and b < best[a]):
                best[a], least[a] = b, gap
        left = kept
        # Each small region takes one step only, so that no two large ones can meet in it.
        for a in range(n_regions):
            if best[a] >= 0:
                i, j = _find(parent, a), _find(parent, best[a])
                parent[max(i, j)] = min(i, j)
        for a in range(n_regions):
            root = _find(parent, a)
            if root != a and sizes[a] > 0:
                sizes[root] += sizes[a]
                sums[root] += sums[a]
                sizes[a] = 0


@compiled()
def _relabel(labels, parent, number, out):
    """Write the joined regions, 0, 1, 2, ... in the order of their first pixels, into ``out [N]``; ``number [R]`` is all -1."""
    count = 0
    for p in range(len(labels)):
        if labels[p] < 0:
            out[p] = -1
            continue
        root = _find(parent, labels[p])
        if number[root] < 0:
            number[root] = count
            count += 1
        out[p] = number[root]
