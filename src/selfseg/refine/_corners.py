"""The Gaussian between the corners of a permutohedral lattice, in two forms.

A point's value is spread over the corners of its simplex and read back from them; each of the two smoothes by a variance of
``1 / (8 f^2)`` in units of the whole Gaussian's, for a lattice f times as fine as usual. What is left is up to the corners.
Where they are few, every corner hears every other with the weight of a Gaussian of just that variance: products of matrices, one for
each pair of groups of corners that lie beside each other; groups far apart are left out. Where they are many, they are blurred by
[1 2 1] / 4 along each of the d + 1 directions, which takes a variance of 3/4 (f = 1). The second form is coarser: its kernel is no
quite round one, and loses what would have passed through missing corners.
"""

import math
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from selfseg.core.powers import power_of_e
from selfseg.core.threads import run_shared
from selfseg.refine._hash import slot_of

Values = NDArray[np.float32]

GROUP = 512
"""Corners that are multiplied together: enough for a fast product, few enough to lie beside each other."""

REACH = 3.0
"""Standard deviations beyond which groups of corners do not hear each other: e^-4.5 at most for a pair, a ten-thousandth of all."""


class Between(Protocol):
    """What happens between corners.

    Attributes
    ----------
    gain
        Factor that makes the whole kernel 1 at its centre, on average over places.
    near
        ``[d+1]``: what one corner of a simplex gives to the one s further on, before the gain.
    """

    gain: float
    near: NDArray[np.float64]

    def filter(self, corners: Values, spare: Values) -> Values:
        """Return the filtered corners ``[M K]``: one of the two arrays, both of which are written to."""


@njit(cache=True, nogil=True)
def _neighbours(start, stop, slots, found, offsets, beside):
    """Write the two neighbours of the corners start..stop along each direction into beside [d+1 M 2]; -1 = none."""
    for v in range(start, stop):
        for j in range(len(offsets)):
            beside[j, v, 0] = slots[slot_of(slots, found, found[v] - offsets[j])]
            beside[j, v, 1] = slots[slot_of(slots, found, found[v] + offsets[j])]


@njit(cache=True, nogil=True)
def _blur(start, stop, corners, beside, blurred):
    """Blur [M K] by [1 2 1] / 4 along one direction, with beside [M 2]; what does not exist is 0."""
    n_channels = np.uint64(corners.shape[1])
    half, quarter = np.float32(0.5), np.float32(0.25)
    for v in range(start, stop):
        own, result = corners[v], blurred[v]
        for c in range(n_channels):
            result[c] = half * own[c]
        for side in range(2):
            if beside[v, side] >= 0:
                other = corners[beside[v, side]]
                for c in range(n_channels):
                    result[c] += quarter * other[c]


@njit(cache=True, nogil=True, fastmath={"nsz", "contract"})
def _gaussians(start, stop, here, there, variance, matrix):
    """Write ``exp(-|x_v - x_w|^2 / 2 variance)`` for v in start..stop and all w: here [d M], there [d W], matrix [M W]."""
    n, factor = np.uint64(there.shape[1]), np.float32(-0.5 / variance)
    for v in range(start, stop):
        row = matrix[v]
        row[:] = 0
        for axis in range(len(here)):
            line, own = there[axis], here[axis, v]
            for w in range(n):
                away = line[w] - own
                row[w] += away * away
        for w in range(n):
            row[w] = power_of_e(factor * row[w])


class Blur:
    """[1 2 1] / 4 along each direction, over corners that exist.

    Parameters
    ----------
    slots, found
        Hash table of the corners' numbers.
    offsets
        ``[d+1]``: what is added to a number for one step along each direction.
    """

    def __init__(self, slots: NDArray[np.int32], found: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> None:
        n = len(offsets)
        self._beside = np.empty((n, len(found), 2), np.int32)
        run_shared(_neighbours, len(found), slots, found, offsets, self._beside)
        # s steps forward or n - s backward, each along a direction of its own: 1/4 for a step, 1/2 for none.
        steps = np.arange(n)
        self.near = 2.0**-n * (2.0**-steps + 2.0 ** (steps - n))
        self.near[0] += 4.0**-n  # all steps backward, beside all forward
        # Volume of the unit Gaussian over that of a lattice cell, n^(n - 3/2) in the lifted plane.
        self.gain = (2 * math.pi) ** ((n - 1) / 2) * math.sqrt(n) / 1.5 ** ((n - 1) / 2)

    def filter(self, corners: Values, spare: Values) -> Values:
        """Return the blurred corners."""
        for beside in self._beside:
            run_shared(_blur, len(corners), corners, beside, spare)
            corners, spare = spare, corners
        return corners


class AllPairs:
    """A Gaussian between all corners.

    Parameters
    ----------
    places
        ``[M d]``, in standard deviations of the whole kernel.
    fineness
        f.
    """

    def __init__(self, places: Values, fineness: float) -> None:
        d = places.shape[1]
        variance = 1 - 0.25 / fineness**2
        self._order, groups = _grouped(places)
        sorted_places = places[self._order]
        self._pairs: list[tuple[slice, slice, Values]] = []
        for a, b in _near_pairs([sorted_places[group] for group in groups], REACH * math.sqrt(variance)):
            here, there = (np.ascontiguousarray(sorted_places[group].T) for group in (groups[a], groups[b]))
            matrix = np.empty((here.shape[1], there.shape[1]), np.float32)
            run_shared(_gaussians, len(matrix), here, there, variance, matrix)
            self._pairs.append((groups[a], groups[b], matrix))
        # s (d + 1 - s) (d + 1) is the squared distance of two corners of a simplex in the lifted plane.
        steps = np.arange(d + 1)
        self.near: NDArray[np.float64] = np.exp(-0.75 * steps * (d + 1 - steps) / ((d + 1) * fineness**2) / variance)
        self.gain = variance ** (-d / 2)

    def filter(self, corners: Values, spare: Values) -> Values:
        """Return the filtered corners."""
        values, result = corners[self._order], np.zeros_like(corners)
        for here, there, matrix in self._pairs:
            result[here] += matrix @ values[there]
            if here != there:
                result[there] += matrix.T @ values[here]
        spare[self._order] = result
        return spare


def _grouped(places: Values) -> tuple[NDArray[np.int64], list[slice]]:
    """Return an order of the places ``[M d]`` in which neighbours stand together, and its groups of at most `GROUP`."""
    tree = cKDTree(places, leafsize=GROUP)
    groups: list[slice] = []
    nodes: list[Any] = [tree.tree]
    while nodes:
        node = nodes.pop()
        if node.split_dim == -1:
            groups.append(slice(node.start_idx, node.end_idx))
        else:
            nodes += [node.greater, node.lesser]
    return np.asarray(tree.indices, np.int64), groups


def _near_pairs(groups: list[Values], reach: float) -> list[tuple[int, int]]:
    """Return the pairs a <= b of groups ``[m d]`` whose boxes are at most `reach` apart."""
    low, high = np.stack([group.min(0) for group in groups]), np.stack([group.max(0) for group in groups])
    gaps = np.maximum(0, np.maximum(low[:, None] - high, low - high[:, None]))
    first, second = np.nonzero(np.triu((gaps**2).sum(-1) <= reach**2))
    return list(zip(first.tolist(), second.tolist(), strict=True))
