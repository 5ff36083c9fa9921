"""The permutohedral lattice: a Gaussian filter over scattered points in a space of many dimensions.

Points lie in simplices of a lattice in d dimensions. Their values are spread over the d + 1 corners of their simplex, the corners are
filtered, and the points read the result back from the same corners with the same weights. The whole is close to
``sum_v exp(-|x_u - x_v|^2 / 2) value_v`` in time linear in the number of points and of the order of d^2 in the dimensions.

Adams, Baek & Davis, "Fast high-dimensional filtering using the permutohedral lattice", Eurographics 2010; the sections named below are
of that paper. A corner is known by a 64-bit number that is linear in its coordinates, with odd random factors: so a neighbour's
number is the corner's own plus a constant. Two of a million corners share one with a chance of about 3e-8.

Spreading and reading back each smooth by a variance of ``1 / (8 f^2)`` in units of the whole Gaussian's, for a lattice f times as fine as
usual. What is left is done between the corners, in one of two forms. Where they are few, every corner is joined with every other by the
weight of a Gaussian of just that variance (`AllPairs`): products of matrices, one for each pair of groups of corners that lie near each
other. Where they are many, they are blurred by [1 2 1] / 4 along each of the d + 1 directions (`Blur`), which takes a variance of 3/4
(f = 1). The second form is coarser: its kernel is not quite round, and loses what would have passed through missing corners.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from selfseg.core.machine import compiled, run_shared
from selfseg.core.powers import power_of_e
from selfseg.core.seed import generator

Values = NDArray[np.float32]

FINEST, FEW = 1.6, 8192
"""Most times that a lattice is refined, to be nearer to the Gaussian, where it has few corners."""

WORTH = 1.1
"""A lattice that is finer by less than this factor is not worth the time to build it."""

MANY = 10240
"""Most corners of which all near pairs exchange messages (matrices of some 200 MiB at most); more are blurred with their neighbours."""

GROUP = 512
"""Corners that are multiplied together: enough for a fast product, few enough to lie beside each other."""

REACH = 3.0
"""Standard deviations beyond which groups of corners exchange no messages: e^-4.5 at most for a pair, a ten-thousandth of all."""

SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 / golden ratio: multiplied by it, the high bits of a number are evenly spread (Fibonacci hashing)."""


@compiled()
def _lift(point, scale, lifted):
    """Put a point [d] into the plane of d + 1 coordinates that sum to 0 (section 3.1)."""
    total = 0.0
    for i in range(len(point) - 1, -1, -1):
        value = point[i] * scale[i]
        lifted[i + 1] = total - (i + 1) * value
        total += value
    lifted[0] = total


@compiled()
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


@compiled()
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


@compiled()
def _place_corners(start, stop, seen, points, scale, places):
    """Write where the corners start..stop lie, in the points' space: places [M d], seen [M] an entry of each."""
    n = points.shape[1] + 1
    lifted = np.empty(n)
    corner, rank = np.empty(n, np.int64), np.empty(n, np.int64)
    for v in range(start, stop):
        r = seen[v] % n
        _lift(points[seen[v] // n], scale, lifted)
        _enclose(lifted, corner, rank)
        total = 0
        for i in range(n):
            corner[i] += r if rank[i] < n - r else r - n
        for i in range(n - 1):
            total += corner[i]
            places[v, i] = (total - (i + 1) * corner[i + 1]) / (scale[i] * (i + 1) * (i + 2))


@compiled()
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


@compiled()
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


@compiled()
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


@compiled()
def _diagonal(start, stop, weights, near, result):
    """Write ``sum_rs weight_r near_(r - s) weight_s``: what each point start..stop gives to itself, were all corners there."""
    n = weights.shape[1]
    for p in range(start, stop):
        total = 0.0
        for r in range(n):
            for s in range(n):
                total += weights[p, r] * near[abs(r - s)] * weights[p, s]
        result[p] = total


class Lattice:
    """The lattice around points ``[N d]`` in units of the Gaussian's standard deviation, and a Gaussian filter over them.

    `ids` and `weights` ``[N d+1]`` are the corners of each point's simplex, and its weights, which sum to 1; `n_corners` is M.
    """

    def __init__(self, points: NDArray[np.floating]) -> None:
        d = points.shape[1]
        factors = generator(0, "lattice").integers(0, 2**64, (d,), dtype=np.uint64) | np.uint64(1)
        fineness, scale, slots, found = self._finest(points, factors)
        self.n_corners = len(found)
        self._sort()
        if self.n_corners <= MANY:
            self.between: AllPairs | Blur = AllPairs(self._places(points, scale), fineness)
        else:
            steps = np.ones((d + 1, d), np.int64) - (d + 1) * np.eye(d + 1, d, dtype=np.int64)
            self.between = Blur(slots, found, (steps.astype(np.uint64) * factors).sum(1, dtype=np.uint64))
        self.gain = np.float32(self.between.gain)
        self._spare: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def _finest(
        self, points: NDArray[np.floating], factors: NDArray[np.uint64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.int32], NDArray[np.uint64]]:
        """Build the finest lattice that has few corners, or the usual one; return its fineness, scale, hash table and numbers."""
        usual = _scale(points.shape[1], 1.0)
        slots, found = self._build(points, usual, factors)
        # Pixels lie on a sheet in the space of places and colours: corners grow with less than the third power.
        fineness = min(FINEST, (FEW / len(found)) ** (1 / 3))
        if fineness >= WORTH:
            scale = _scale(points.shape[1], fineness)
            more_slots, more = self._build(points, scale, factors)
            if len(more) <= FEW:
                return fineness, scale, more_slots, more
            slots, found = self._build(points, usual, factors)
        return 1.0, usual, slots, found

    def _build(
        self, points: NDArray[np.floating], scale: NDArray[np.floating], factors: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        """Find the corners of all points; return their hash table and numbers."""
        keys = np.empty((len(points), len(scale) + 1), np.uint64)
        self.ids, self.weights = np.empty(keys.shape, np.int32), np.empty(keys.shape, np.float32)
        run_shared(_embed, len(points), points, scale, factors, keys, self.weights)
        return _number_keys(keys.ravel(), self.ids.ravel())

    def _sort(self) -> None:
        self.first = np.zeros(self.n_corners + 1, np.int64)
        entries = np.empty(self.ids.size, np.int64)
        _by_corner(self.ids.ravel(), self.first, entries)
        self.pixels = (entries // self.ids.shape[1]).astype(np.int32)
        self.weights_by_corner = self.weights.ravel()[entries]
        self._seen = entries[self.first[:-1]]

    def _places(self, points: NDArray[np.floating], scale: NDArray[np.floating]) -> NDArray[np.float32]:
        places = np.empty((self.n_corners, points.shape[1]), np.float32)
        run_shared(_place_corners, self.n_corners, self._seen, points, scale, places)
        return places

    def diagonal(self) -> NDArray[np.float32]:
        """Return the kernel of each point with itself, ``[N]``; near 1, and less where corners are missing."""
        result = np.empty(len(self.ids), np.float32)
        run_shared(_diagonal, len(result), self.weights, self.between.near * self.between.gain, result)
        return result

    def filter(self, values: NDArray[np.float32], result: NDArray[np.float32]) -> None:
        """Filter ``values [N K]`` into ``result [N K]``, both float32 and contiguous. Equal on any number of threads."""
        shape = (self.n_corners, values.shape[1])
        if self._spare is None or self._spare[0].shape != shape:
            self._spare = np.empty(shape, np.float32), np.empty(shape, np.float32)
        corners, spare = self._spare
        run_shared(_splat, len(self.pixels), self.first, self.pixels, self.weights_by_corner, values, corners)
        corners = self.between.filter(corners, spare)
        run_shared(_slice, len(values), self.ids, self.weights, corners, self.gain, result)


def _scale(d: int, fineness: float) -> NDArray[np.float64]:
    """Return the factor of each axis: section 3.1, the plane's basis made orthonormal, times what gives a variance of 1."""
    index = np.arange(1, d + 1)
    return fineness * math.sqrt(2 / 3) * (d + 1) / np.sqrt(index * (index + 1))


@compiled()
def _neighbours(start, stop, slots, found, offsets, beside):
    """Write the two neighbours of the corners start..stop along each direction into beside [d+1 M 2]; -1 = none."""
    for v in range(start, stop):
        for j in range(len(offsets)):
            beside[j, v, 0] = slots[_slot_of(slots, found, found[v] - offsets[j])]
            beside[j, v, 1] = slots[_slot_of(slots, found, found[v] + offsets[j])]


@compiled()
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


@compiled(fastmath={"nsz", "contract"})
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

    As in `AllPairs`, `gain` makes the whole kernel 1 at its centre, on average over places, and ``near [d+1]`` is what one corner
    of a simplex gives to the one s further on, before the gain. `slots` and `found` are the hash table of the corners' numbers, and
    ``offsets [d+1]`` what is added to a number for one step along each direction.
    """

    def __init__(self, slots: NDArray[np.int32], found: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> None:
        n = len(offsets)
        self.beside = np.empty((n, len(found), 2), np.int32)
        run_shared(_neighbours, len(found), slots, found, offsets, self.beside)
        # s steps forward or n - s backward, each along a direction of its own: 1/4 for a step, 1/2 for none.
        steps = np.arange(n)
        self.near = 2.0**-n * (2.0**-steps + 2.0 ** (steps - n))
        self.near[0] += 4.0**-n  # all steps backward, beside all forward
        # Volume of the unit Gaussian over that of a lattice cell, n^(n - 3/2) in the lifted plane.
        self.gain = (2 * math.pi) ** ((n - 1) / 2) * math.sqrt(n) / 1.5 ** ((n - 1) / 2)

    def filter(self, corners: Values, spare: Values) -> Values:
        """Return the filtered corners ``[M K]``: one of the two arrays, both of which are written to."""
        for beside in self.beside:
            run_shared(_blur, len(corners), corners, beside, spare)
            corners, spare = spare, corners
        return corners


class AllPairs:
    """A Gaussian between all corners at places ``[M d]``, in standard deviations of the whole kernel, for the fineness f."""

    def __init__(self, places: Values, fineness: float) -> None:
        d = places.shape[1]
        variance = 1 - 0.25 / fineness**2
        self.order, groups = _grouped(places)
        sorted_places = places[self.order]
        self.pairs: list[tuple[slice, slice, Values]] = []
        for a, b in _near_pairs([sorted_places[group] for group in groups], REACH * math.sqrt(variance)):
            here, there = (np.ascontiguousarray(sorted_places[group].T) for group in (groups[a], groups[b]))
            matrix = np.empty((here.shape[1], there.shape[1]), np.float32)
            run_shared(_gaussians, len(matrix), here, there, variance, matrix)
            self.pairs.append((groups[a], groups[b], matrix))
        # s (d + 1 - s) (d + 1) is the squared distance of two corners of a simplex in the lifted plane.
        steps = np.arange(d + 1)
        self.near: NDArray[np.float64] = np.exp(-0.75 * steps * (d + 1 - steps) / ((d + 1) * fineness**2) / variance)
        self.gain = variance ** (-d / 2)

    def filter(self, corners: Values, spare: Values) -> Values:
        """As `Blur.filter`."""
        values, result = corners[self.order], np.zeros_like(corners)
        for here, there, matrix in self.pairs:
            result[here] += matrix @ values[there]
            if here != there:
                result[there] += matrix.T @ values[here]
        spare[self.order] = result
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


# A hash table of 64-bit numbers: each distinct one gets a place in the order in which they come.


@compiled()
def _slot_of(slots, found, key):
    """Return the place of a number in the hash table: where it is, or where it would go."""
    last = np.uint64(len(slots) - 1)
    place = ((key * SPREAD) >> np.uint64(32)) & last
    while slots[place] >= 0 and found[slots[place]] != key:
        place = (place + np.uint64(1)) & last
    return place


@compiled()
def _number_keys(keys, ids):
    """Number the distinct keys in the order in which they come; return the hash table and the keys by number."""
    slots, found = np.full(1 << 16, -1, np.int32), np.empty(1 << 15, np.uint64)
    count = 0
    for i in range(len(keys)):
        if count == len(found):
            found = np.concatenate((found, np.empty_like(found)))
            slots = np.full(2 * len(slots), -1, np.int32)
            for j in range(count):
                slots[_slot_of(slots, found, found[j])] = j
        place = _slot_of(slots, found, keys[i])
        if slots[place] < 0:
            slots[place] = count
            found[count] = keys[i]
            count += 1
        ids[i] = slots[place]
    return slots, found[:count]
