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

    With an empty `contacts` they are only counted. A pair comes once for each pixel face that it shares.
    """
    steps = ((shape[2], 1), (shape[1], shape[2]), (shape[0], shape[1] * shape[2]))
    n = 0
    for p in range(len(labels)):
        a = labels[p]
        if a < 0:
            continue
        place = p
        for length, stride in steps:
            last = place % length == length - 1
            place //= length
            if last:
                continue
            b = labels[p + stride]
            if b < 0 or b == a or groups[a] != groups[b]:
                continue
            for source, target in ((a, b), (b, a)):
                if small[source]:
                    if len(contacts):
                        contacts[n, 0], contacts[n, 1] = source, target
                    n += 1
    return n


@njit(cache=True, nogil=True)
def merge_rounds(contacts, sizes, sums, min_size, parent):
    """Let each small region join the neighbour of nearest mean, round by round, until none can; `sizes`, `sums` are used up."""
    n_regions = len(sizes)
    best, least = np.empty(n_regions, np.int32), np.empty(n_regions)
    while True:
        best[:] = -1
        for i in range(len(contacts)):
            a, b = _find(parent, contacts[i, 0]), _find(parent, contacts[i, 1])
            if a == b or sizes[a] >= min_size:
                continue
            gap = 0.0
            for c in range(sums.shape[1]):
                gap += (sums[a, c] / sizes[a] - sums[b, c] / sizes[b]) ** 2
            if best[a] < 0 or gap < least[a] or (gap == least[a] and b < best[a]):
                best[a], least[a] = b, gap
        # Each small region takes one step only, so that no two large ones can meet in it.
        moved = False
        for a in range(n_regions):
            if best[a] >= 0:
                _join(parent, a, best[a])
                moved = True
        if not moved:
            return
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
