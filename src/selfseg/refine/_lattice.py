"""The permutohedral lattice: a Gaussian filter over scattered points in a space of many dimensions.

Points lie in simplices of a lattice in d dimensions. Their values are spread over the d + 1 corners of their simplex, the
corners that exist are blurred by [1 2 1] / 4 along each of d + 1 directions, and the points read the result back from the
same corners with the same weights. The whole is close to ``sum_v exp(-|x_u - x_v|^2 / 2) value_v`` in time linear in the
number of points and of the order of d^2 in the dimensions.

Adams, Baek & Davis, "Fast high-dimensional filtering using the permutohedral lattice", Eurographics 2010; the sections
named below are of that paper. A corner is known by a 64-bit number that is linear in its coordinates, with odd random
factors: so a neighbour's number is the corner's own plus a constant. Two of a million corners share one with a chance of
about 3e-8.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfseg.core.seed import generator
from selfseg.core.threads import run_shared

SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 / golden ratio: multiplied by it, the high bits of a number are evenly spread (Fibonacci hashing)."""

SMALL = 1 << 14
"""Up to so many corners, those beside them are added too: then the blur loses less on its way, which tells where points are
few. On photographs it changes little, and a larger lattice would cost time for nothing."""


@njit(cache=True, nogil=True)
def _lift(point, scale, lifted):
    """Put a point [d] into the plane of d + 1 coordinates that sum to 0 (section 3.1)."""
    total = 0.0
    for i in range(len(point) - 1, -1, -1):
        value = point[i] * scale[i]
        lifted[i + 1] = total - (i + 1) * value
        total += value
    lifted[0] = total


@njit(cache=True, nogil=True)
def _enclose(lifted, corner, rank):
    """Find the lattice point of remainder 0 nearest to a lifted point, and the order of what is left (section 3.2).

    corner [d+1] gets multiples of d + 1 that sum to 0; rank [d+1] the place of each coordinate's rest, largest first.
    """
    n = len(lifted)
    excess = 0
    for i in range(n):
        corner[i] = math.floor(lifted[i] / n + 0.5) * n
        excess += corner[i] // n
        rank[i] = 0
    for i in range(n):
        for j in range(i + 1, n):
            lower = lifted[i] - corner[i] < lifted[j] - corner[j]
            rank[i if lower else j] += 1
    # Rounding may have left the plane: the coordinates that were rounded furthest give way.
    for i in range(n):
        rank[i] += excess
        turn = n if rank[i] < 0 else (-n if rank[i] >= n else 0)
        rank[i] += turn
        corner[i] += turn


@njit(cache=True, nogil=True)
def _embed(start, stop, points, scale, factors, keys, weights):
    """Write the numbers of the d + 1 corners around the points start..stop, and the points' barycentric weights.

    points [N d], scale [d], factors [d] uint64, keys [N d+1] uint64, weights [N d+1]; column r is the corner of remainder r.
    """
    n = points.shape[1] + 1
    lifted, ordered = np.empty(n), np.empty(n + 1)
    corner, rank = np.empty(n, np.int64), np.empty(n, np.int64)
    for p in range(start, stop):
        _lift(points[p], scale, lifted)
        _enclose(lifted, corner, rank)
        for i in range(n):
            ordered[rank[i]] = (lifted[i] - corner[i]) / n
        ordered[n] = ordered[0] - 1
        for r in range(n):
            # Section 3.2: neighbouring rests, in order, differ by the weight of the corner between them.
            weights[p, r] = ordered[n - 1 - r] - ordered[n - r]
            key = np.uint64(0)
            for i in range(n - 1):
                step = r if rank[i] < n - r else r - n
                key += np.uint64(corner[i] + step) * factors[i]
            keys[p, r] = key


@njit(cache=True, nogil=True)
def _slot(slots, found, key):
    """Return the place of a number in the hash table: where it is, or where it would go."""
    last = np.uint64(len(slots) - 1)
    place = ((key * SPREAD) >> np.uint64(32)) & last
    while slots[place] >= 0 and found[slots[place]] != key:
        place = (place + np.uint64(1)) & last
    return place


@njit(cache=True, nogil=True)
def _number(keys, ids):
    """Number the distinct keys in the order in which they come; return the hash table and the keys by number."""
    slots, found = np.full(1 << 16, -1, np.int32), np.empty(1 << 15, np.uint64)
    count = 0
    for i in range(len(keys)):
        if count == len(found):
            found = np.concatenate((found, np.empty_like(found)))
            slots = np.full(2 * len(slots), -1, np.int32)
            for j in range(count):
                slots[_slot(slots, found, found[j])] = j
        place = _slot(slots, found, keys[i])
        if slots[place] < 0:
            slots[place] = count
            found[count] = keys[i]
            count += 1
        ids[i] = slots[place]
    return slots, found[:count]


@njit(cache=True, nogil=True)
def _neighbours(start, stop, slots, found, offsets, beside):
    """Write the two neighbours of the corners start..stop along each direction into beside [d+1 M 2]; -1 = none."""
    for v in range(start, stop):
        for j in range(len(offsets)):
            beside[j, v, 0] = slots[_slot(slots, found, found[v] - offsets[j])]
            beside[j, v, 1] = slots[_slot(slots, found, found[v] + offsets[j])]


@njit(cache=True, nogil=True)
def _by_corner(ids, first, entries):
    """Sort the entries of ids [E] by corner: first [M+1] gets where each begins, entries [E] what they are, in order."""
    for e in range(len(ids)):
        first[ids[e] + 1] += 1
    for v in range(1, len(first)):
        first[v] += first[v - 1]
    free = first[:-1].copy()
    for e in range(len(ids)):
        entries[free[ids[e]]] = e
        free[ids[e]] += 1


@njit(cache=True, nogil=True)
def _splat(start, stop, first, pixels, weights, values, corners):
    """Add up ``weight * value`` over the points of each corner whose entries begin in start..stop.

    first [M+1], pixels and weights [E], values [N K], corners [M K].
    """
    n_channels = np.uint64(values.shape[1])
    total = np.empty(values.shape[1], np.float32)
    for v in range(np.searchsorted(first[:-1], start), np.searchsorted(first[:-1], stop)):
        total[:] = 0
        for e in range(first[v], first[v + 1]):
            weight, value = weights[e], values[pixels[e]]
            for c in range(n_channels):
                total[c] += weight * value[c]
        corners[v] = total


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


@njit(cache=True, nogil=True)
def _slice(start, stop, ids, weights, corners, gain, result):
    """Read [M K] back at the points start..stop: ``gain * sum over corners of weight * value`` into result [N K]."""
    n_channels = np.uint64(corners.shape[1])
    for p in range(start, stop):
        mine = result[p]
        mine[:] = 0
        for r in range(ids.shape[1]):
            weight, value = gain * weights[p, r], corners[ids[p, r]]
            for c in range(n_channels):
                mine[c] += weight * value[c]


@njit(cache=True, nogil=True)
def _diagonal(start, stop, weights, gain, result):
    """Write what each point start..stop gives to itself, were all corners there.

    From one corner of a simplex to the one s further on, the blur goes s steps forward or d + 1 - s steps backward, each
    along a direction of its own; a step has 1/4, staying has 1/2.
    """
    n = weights.shape[1]
    for p in range(start, stop):
        total = 0.0
        for r in range(n):
            total += weights[p, r] ** 2 * (1 + 2.0 ** (1 - n))
            for s in range(r):
                total += 2 * weights[p, r] * weights[p, s] * (2.0 ** (s - r) + 2.0 ** (r - s - n))
        result[p] = gain * total * 2.0**-n


class Lattice:
    """The lattice around some points.

    Parameters
    ----------
    points
        ``[N d]``, in units of the Gaussian's standard deviation along each axis.

    Attributes
    ----------
    ids, weights : ndarray
        ``[N d+1]``: corners of each point's simplex, and its weights, which sum to 1.
    beside : ndarray
        ``[d+1 M 2]``: neighbours of each of the M corners along each direction, -1 where there is none.
    gain : float
        Factor that makes the filter's kernel 1 at its centre, on average over places.
    """

    def __init__(self, points: NDArray[np.floating]) -> None:
        n_points, d = points.shape
        index = np.arange(1, d + 1)
        # Section 3.1: the plane's basis, made orthonormal, times what gives spreading, blur and reading variance 1.
        scale = math.sqrt(2 / 3) * (d + 1) / np.sqrt(index * (index + 1))
        factors = generator(0, "lattice").integers(0, 2**64, d, dtype=np.uint64) | np.uint64(1)
        steps = np.ones((d + 1, d), np.int64) - (d + 1) * np.eye(d + 1, d, dtype=np.int64)
        offsets = (steps.astype(np.uint64) * factors).sum(1, dtype=np.uint64)
        keys = np.empty((n_points, d + 1), np.uint64)
        self.ids, self.weights = np.empty(keys.shape, np.int32), np.empty(keys.shape, np.float32)
        run_shared(_embed, n_points, points, scale, factors, keys, self.weights)
        slots, found = _number(keys.ravel(), self.ids.ravel())
        if len(found) <= SMALL:
            ring = np.concatenate([found, *(found + step for step in (*offsets, *-offsets))])
            slots, found = _number(ring, np.empty(len(ring), np.int32))
        self.beside = np.empty((d + 1, len(found), 2), np.int32)
        run_shared(_neighbours, len(found), slots, found, offsets, self.beside)
        # Volume of the unit Gaussian over that of a lattice cell, (d+1)^(d-1/2) in the lifted plane.
        self.gain = (2 * math.pi) ** (d / 2) * math.sqrt(d + 1) / 1.5 ** (d / 2)
        self._first = np.zeros(len(found) + 1, np.int64)
        entries = np.empty(keys.size, np.int64)
        _by_corner(self.ids.ravel(), self._first, entries)
        self._pixels = (entries // (d + 1)).astype(np.int32)
        self._weights = self.weights.ravel()[entries]
        self._corners: list[NDArray[np.float32]] = []

    @property
    def n_corners(self) -> int:
        """Number of corners."""
        return self.beside.shape[1]

    def diagonal(self) -> NDArray[np.float32]:
        """Return the kernel of each point with itself, ``[N]``; near 1, and less where corners are missing."""
        result = np.empty(len(self.ids), np.float32)
        run_shared(_diagonal, len(result), self.weights, self.gain, result)
        return result

    def filter(self, values: NDArray[np.float32], result: NDArray[np.float32]) -> None:
        """Filter ``values [N K]`` into ``result [N K]``, both float32 and contiguous. Equal on any number of threads."""
        shape = (self.n_corners, values.shape[1])
        if not self._corners or self._corners[0].shape != shape:
            self._corners = [np.empty(shape, np.float32) for _ in range(2)]
        corners, blurred = self._corners
        # One share too many, since corners without a point begin where the entries end.
        run_shared(_splat, len(self._pixels) + 1, self._first, self._pixels, self._weights, values, corners)
        for beside in self.beside:
            run_shared(_blur, len(corners), corners, beside, blurred)
            corners, blurred = blurred, corners
        run_shared(_slice, len(values), self.ids, self.weights, corners, np.float32(self.gain), result)
