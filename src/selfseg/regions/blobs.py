"""Objects as labels: distance inside them, cut at necks, holes, shape, contrast with what is around. 2D and 3D, linear in pixels.

Labels are integers ``[*S]``, 0 = none, 1..N = objects.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from selfseg.core.machine import compiled
from selfseg.regions.component_tree import ellipseness, find_root
from selfseg.regions.graph import check_labels, check_spacing

Labels = NDArray[np.int32]

FAR = np.float32(1e12)
"""Squared distance where a line has no border."""


def number(labels: NDArray[np.integer]) -> Labels:
    """Number the labels above 0 that are used 1..N, in their order."""
    present = np.flatnonzero(np.bincount(labels.ravel()))
    numbers = np.zeros(int(present.max(initial=0)) + 1, np.int32)
    numbers[present[present > 0]] = np.arange(1, (present > 0).sum() + 1)
    return np.asarray(numbers[labels])


def select(labels: NDArray[np.integer], kept: NDArray[np.bool_]) -> Labels:
    """Return the objects of which ``kept [N]`` is True, numbered anew."""
    return np.asarray(np.append(0, np.where(kept, np.cumsum(kept), 0)).astype(np.int32)[labels])


def components(mask: NDArray[np.bool_]) -> Labels:
    """Number the parts of a mask ``[*S]`` that hang together by faces."""
    return np.asarray(ndimage.label(mask)[0], np.int32)


def without_specks(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Return a mask without its parts of fewer than `least` pixels."""
    parts = components(mask)
    return np.asarray(np.append(False, areas(parts) >= least)[parts])


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the Dice of two masks; 1 where both are empty."""
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else 1.0


def areas(labels: NDArray[np.integer], n: int | None = None) -> NDArray[np.int64]:
    """Return the pixels of each object ``[N]``."""
    return np.bincount(labels.ravel(), minlength=(int(labels.max(initial=0)) if n is None else n) + 1)[1:]


def border_distance(labels: NDArray[np.integer], spacing: Sequence[float] | None = None) -> NDArray[np.float32]:
    """Return the exact distance of each labelled pixel to the nearest one of another label ``[*S]``; 0 where there is no label.

    Axis after axis along the runs of one label, each with the lower envelope of parabolas (Felzenszwalb & Huttenlocher, Theory of
    Computing 2012). The image's own border is no border; an image of one label has the distance 0.
    """
    check_labels(labels)
    units = check_spacing(spacing, labels.ndim)
    flat = np.ascontiguousarray(labels, np.int32)
    squares = np.where(flat > 0, FAR, np.float32(0))
    for axis, unit in enumerate(units):
        before, length = int(np.prod(labels.shape[:axis])), labels.shape[axis]
        shape = (before, length, flat.size // max(1, before * length))
        _along(flat.reshape(shape), squares.reshape(shape), np.float32(unit * unit))
    squares[squares >= FAR / 2] = 0
    return np.sqrt(squares, out=squares)


def basins(height: NDArray[np.float32], labels: NDArray[np.integer], depth: float) -> Labels:
    """Cut each label into the basins of the maxima of a height, numbered 1..N.

    Two maxima are one where the lower of them rises less than `depth` above the pass between them, which may lead over a corner
    (h-maxima, Soille 2003, section 6.3.4). Pixels are taken from high to low; one between two basins joins that of its highest neighbour
    (a watershed by union-find, Meijster & Roerdink, CAIP 1995).

    Parameters
    ----------
    height
        ``[*S]``.
    labels
        ``[*S]`` integers, 0 = nothing to be cut.
    depth
        In units of the height.
    """
    shape = (1,) * (3 - labels.ndim) + labels.shape
    inside = np.flatnonzero(labels).astype(np.int32 if labels.size < 2**31 else np.int64)
    order = inside[np.argsort(-height.ravel()[inside], kind="stable")]
    root = _flood(
        np.ascontiguousarray(height, np.float32).ravel(),
        np.ascontiguousarray(labels, np.int32).ravel(),
        order,
        shape,
        np.float32(depth),
    )
    numbers = np.zeros(labels.size, np.int32)
    tops = np.unique(root[inside])
    numbers[tops] = np.arange(1, len(tops) + 1)
    result = np.zeros(labels.size, np.int32)
    result[inside] = numbers[root[inside]]
    return result.reshape(labels.shape)


def filled(labels: NDArray[np.integer]) -> Labels:
    """Fill the holes of objects: parts without a label that are away from the image's border and touch one object alone."""
    gaps, n_gaps = ndimage.label(labels == 0)
    low, high = np.full(n_gaps + 1, OPEN, np.int32), np.zeros(n_gaps + 1, np.int32)
    for axis, length in enumerate(labels.shape):
        if length == 1:
            continue
        high[np.unique(np.take(gaps, (0, -1), axis))] = OPEN
        first, second = (tuple(slice(*cut) if i == axis else slice(None) for i in range(labels.ndim)) for cut in _SIDES)
        for here, there in ((first, second), (second, first)):
            meet = (gaps[here] > 0) & (labels[there] > 0)
            np.minimum.at(low, gaps[here][meet], labels[there][meet])
            np.maximum.at(high, gaps[here][meet], labels[there][meet])
    owner = np.where((low == high) & (low < OPEN), low, 0).astype(np.int32)
    owner[0] = 0
    return np.where(labels > 0, labels, owner[gaps]).astype(np.int32)


OPEN = np.iinfo(np.int32).max
"""Stands for the border of the image among the labels around a gap."""

_SIDES = ((None, -1), (1, None))


def shapes(labels: NDArray[np.integer], n: int) -> NDArray[np.float64]:
    """Return the ellipseness of each object ``[N]`` (`component_tree.ellipseness`); 0 for one without pixels."""
    places = np.nonzero(labels)
    owner = labels[places] - 1
    count = np.maximum(np.bincount(owner, minlength=n), 1).astype(np.float64)
    means = [np.bincount(owner, place, n) / count for place in places]
    away = [place - mean[owner] for place, mean in zip(places, means, strict=True)]
    covariance = np.empty((n, labels.ndim, labels.ndim))
    for i in range(labels.ndim):
        for j in range(i + 1):
            covariance[:, i, j] = covariance[:, j, i] = np.bincount(owner, away[i] * away[j], n) / count
    found = ellipseness(count, covariance)
    return np.where(np.bincount(owner, minlength=n) > 0, found, 0)


def on_edge(labels: NDArray[np.integer], n: int) -> NDArray[np.bool_]:
    """Return which objects ``[N]`` touch the border of the image."""
    found = np.zeros(n + 1, bool)
    for axis, length in enumerate(labels.shape):
        if length > 1:
            found[np.unique(np.take(labels, (0, -1), axis))] = True
    return found[1:]


def split_at_necks(
    labels: NDArray[np.integer], least: int, gain: float = 0.02, depth: float = 1.0
) -> tuple[Labels, Any]:
    """Cut objects at their necks, where the pieces are more elliptic by `gain` than the whole.

    Parameters
    ----------
    labels
        ``[*S]``, objects 1..N.
    least
        Pieces of fewer pixels do not count for a cut.
    gain
        Of the mean ellipseness, weighed by area.
    depth
        How much narrower a neck is than both parts, as half the width, in pixels.

    Returns
    -------
    tuple
        Labels of the pieces 1..M, and the object that each is of ``[M]``.
    """
    n = int(labels.max(initial=0))
    pieces = basins(border_distance(labels), labels, depth)
    m = int(pieces.max(initial=0))
    parent = np.zeros(m + 1, np.int64)
    parent[pieces.ravel()] = labels.ravel()
    parent = parent[1:]
    size, whole = areas(pieces, m), shapes(labels, n)
    many = np.bincount(parent[size >= least], minlength=n + 1)[1:] > 1
    mean = np.bincount(parent - 1, shapes(pieces, m) * size, n) / np.maximum(areas(labels, n), 1)
    cut = np.append(False, many & (mean > whole + gain))
    uncut = np.flatnonzero(~cut[1:]) + 1
    result = np.where(cut[labels], pieces, 0)
    place = np.zeros(n + 1, np.int32)
    place[uncut] = m + np.arange(1, len(uncut) + 1)
    result = np.where(result > 0, result, place[labels])
    origin = np.append(parent, uncut)
    used = np.flatnonzero(np.bincount(result.ravel(), minlength=m + len(uncut) + 1)[1:])
    return number(result), origin[used]


def contrasts(labels: Labels, image: NDArray[np.floating], quantile: float = 0.5) -> NDArray[np.float64]:
    """Return how much brighter each object is than what is around it ``[N]``: a quantile inside minus the median of a ring.

    The ring lies 2 and 3 pixels outside; pixels of other objects do not count. An object without any ring has infinite contrast.
    """
    n = int(labels.max(initial=0))
    cross = ndimage.generate_binary_structure(labels.ndim, 1)
    near = grown = labels
    for step in range(3):
        grown = np.where(grown > 0, grown, ndimage.grey_dilation(grown, footprint=cross))
        near = grown if step == 0 else near
    ring = np.where(near > 0, 0, grown)
    inside, outside = labels > 0, ring > 0
    within = group_quantiles(image[inside], labels[inside] - 1, n, quantile)
    around = group_quantiles(image[outside], ring[outside] - 1, n, 0.5)
    return np.where(np.isnan(around), np.inf, within - around)


def group_quantiles(
    values: NDArray[np.floating], groups: NDArray[np.integer], n: int, quantile: float
) -> NDArray[np.float64]:
    """Return a quantile of the values ``[P]`` of each group 0..n-1, linear between the two nearest; NaN for an empty group."""
    order = np.lexsort((values, groups))
    count = np.bincount(groups, minlength=n)
    place = np.cumsum(count) - count + quantile * np.maximum(count - 1, 0)
    low = np.minimum(np.floor(place).astype(np.int64), max(len(values) - 1, 0))
    high = np.minimum(low + 1, np.maximum(np.cumsum(count) - 1, 0))
    if not len(values):
        return np.full(n, np.nan)
    ranked = values[order].astype(np.float64)
    return np.where(count > 0, ranked[low] + (place - low) * (ranked[high] - ranked[low]), np.nan)


def weighted_median(values: NDArray[np.floating], weights: NDArray[np.floating]) -> float:
    """Return the value at which the weights of the lower ones reach one half; 0 without any."""
    if not len(values):
        return 0.0
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][min(np.searchsorted(total, 0.5 * total[-1]), len(values) - 1)])


@compiled()
def _along(labels, squares, unit):
    """Replace squared distances by those that also look along the middle axis of ``[A L B]``, run by run of one label, in place."""
    n_before, length, n_after = labels.shape
    heights, starts, places = np.zeros(length + 2, np.float32), np.zeros(length + 3), np.zeros(length + 2, np.int64)
    for a in range(n_before):
        for b in range(n_after):
            begin = 0
            while begin < length:
                label, end = labels[a, begin, b], begin
                while end < length and labels[a, end, b] == label:
                    end += 1
                if label > 0:
                    _envelope(squares, a, b, begin, end, length, unit, heights, starts, places)
                begin = end


@compiled()
def _envelope(squares, a, b, begin, end, length, unit, heights, starts, places):
    """Do one run [begin, end) of `_along`; the pixels before and after it are borders, unless the image ends there."""
    count = 0
    for i in range(max(begin - 1, 0), min(end + 1, length)):
        height = squares[a, i, b] if begin <= i < end else np.float32(0)
        if height >= FAR / 2:
            continue
        start = -1e30
        while count > 0:
            j = places[count - 1]
            start = ((height - heights[count - 1]) / unit + float(i) * i - float(j) * j) / (2.0 * (i - j))
            if start > starts[count - 1]:
                break
            count -= 1
        if count == 0:
            start = -1e30
        places[count], heights[count], starts[count] = i, height, start
        count += 1
    if count == 0:
        return
    at = 0
    for i in range(begin, end):
        while at + 1 < count and starts[at + 1] <= i:
            at += 1
        squares[a, i, b] = heights[at] + unit * np.float32((i - places[at]) * (i - places[at]))


@compiled()
def _flood(height, labels, order, shape, depth):
    """Return the highest pixel of the basin of each pixel in `order`; -1 elsewhere."""
    root = np.full(len(height), -1, np.int32)
    here = np.empty(26, np.int64)
    for pixel in order:
        count, joined = _flooded(pixel, height, labels, root, shape, here)
        root[pixel] = pixel if joined < 0 else find_root(root, joined)
        for other in here[:count]:
            _join(root, height, pixel, other, depth)
    for pixel in order:
        root[pixel] = find_root(root, pixel)
    return root


@compiled()
def _flooded(pixel, height, labels, root, shape, here):
    """Put the neighbours of equal label that are flooded into `here`; return their number, and the highest one across a face or -1."""
    n_planes, n_rows, n_columns = shape
    z, y, x = pixel // (n_rows * n_columns), pixel // n_columns % n_rows, pixel % n_columns
    count, joined = 0, -1
    for down in range(max(z - 1, 0), min(z + 2, n_planes)):
        for row in range(max(y - 1, 0), min(y + 2, n_rows)):
            for column in range(max(x - 1, 0), min(x + 2, n_columns)):
                other = (down * n_rows + row) * n_columns + column
                if labels[other] != labels[pixel] or root[other] < 0:
                    continue
                here[count] = other
                count += 1
                face = abs(down - z) + abs(row - y) + abs(column - x) == 1
                if face and (joined < 0 or height[other] > height[joined]):
                    joined = other
    return count, joined


@compiled()
def _join(root, height, pixel, other, depth):
    """Make two basins that meet at a pixel one, where the lower maximum rises less than `depth` above it."""
    one, two = find_root(root, pixel), find_root(root, other)
    if height[one] < height[two]:
        one, two = two, one
    if one != two and height[two] - height[pixel] < depth:
        root[two] = one
