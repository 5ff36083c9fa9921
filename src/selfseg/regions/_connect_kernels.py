"""Kernels of `regions.connect`: components by union-find in one pass, and the merging of small regions.

A region is known by its root, the smallest of the numbers that were joined, so that components come in the order of their first
pixels. Arrays are flat, ``shape`` is (Z, Y, X).
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _find(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _join(parent, i, j):
    a, b = _find(parent, i), _find(parent, j)
    if a < b:
        parent[b] = a
    elif b < a:
        parent[a] = b


@njit(cache=True, nogil=True)
def components(labels, shape, out):
    """Number the face-connected parts of equal labels ``[N]`` into ``out [N]`` int32; return how many there are."""
    strides = (1, shape[2], shape[1] * shape[2])
    parent = np.arange(len(labels)).astype(np.int32)
    p = 0
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                mine = labels[p]
                if mine >= 0:
                    if x > 0 and labels[p - 1] == mine:
                        parent[p] = _find(parent, p - 1)
                    if y > 0 and labels[p - strides[1]] == mine:
                        _join(parent, p, p - strides[1])
                    if z > 0 and labels[p - strides[2]] == mine:
                        _join(parent, p, p - strides[2])
                p += 1
    return _number(labels, parent, out)


@njit(cache=True, nogil=True)
def _number(labels, parent, out):
    count = 0
    for p in range(len(labels)):
        if labels[p] < 0:
            out[p] = -1
        elif parent[p] == p:
            out[p] = count
            count += 1
        else:
            out[p] = out[_find(parent, p)]
    return count


@njit(cache=True, nogil=True)
def sizes_and_sums(labels, features, sizes, sums):
    """Add up the pixels ``[R]`` and the features ``[N C]`` -> ``[R C]`` of each label."""
    for p in range(len(labels)):
        r = labels[p]
        if r >= 0:
            sizes[r] += 1
            for c in range(features.shape[1]):
                sums[r, c] += features[p, c]


@njit(cache=True, nogil=True)
def small_contacts(labels, shape, small, groups, contacts):
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
def merge_rounds(contacts, sizes, sums, min_size, parent):
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
                _join(parent, a, best[a])
        for a in range(n_regions):
            root = _find(parent, a)
            if root != a and sizes[a] > 0:
                sizes[root] += sizes[a]
                sums[root] += sums[a]
                sizes[a] = 0


@njit(cache=True, nogil=True)
def relabel(labels, parent, number, out):
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
