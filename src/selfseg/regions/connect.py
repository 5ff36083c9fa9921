"""Connected regions: components of equal labels, small regions merged into the most similar neighbour, touching objects separated."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from selfseg.regions.graph import check_labels


def connected_components(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Number every face-connected part of equal labels ``[*S]``: ``[*S]`` int32, 0..R-1 in the order of the first pixels.

    Up to three dimensions. Negative labels are outside and become -1. Labels that are not integers raise `UsageError`.
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


@njit(cache=True, nogil=True)
def _find(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _sizes_and_sums(labels, features, sizes, sums):
    """Add up the pixels ``[R]`` and the features ``[N C]`` -> ``[R C]`` of each label."""
    for p in range(len(labels)):
        r = labels[p]
        if r >= 0:
            sizes[r] += 1
            for c in range(features.shape[1]):
                sums[r, c] += features[p, c]


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _contact(a, b, small, groups, contacts, n):
    """Enter the contact of two different regions, once for each that is small; return the new number of entries."""
    if b < 0 or not (small[a] or small[b]) or groups[a] != groups[b]:
        return n
    for source, target in ((a, b), (b, a)):
        if small[source]:
            contacts[n, 0], contacts[n, 1] = source, target
            n += 1
    return n


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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
