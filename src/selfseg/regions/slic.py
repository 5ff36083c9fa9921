"""SLIC superpixels (Achanta et al., PAMI 34(11), 2012): local k-means in colour and place, in 2D and 3D.

The distance of a pixel p to a centre k is (eq. 3 of the paper, squared)

    D^2 = sum_c (f_c(p) - f_c(k))^2 + (m / S)^2 |x(p) - x(k)|^2

with the compactness m, the grid step S and places x in physical units. Every centre is compared with the pixels of a
window of 2S on each axis only. What is left unconnected joins the neighbour whose colour is nearest.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.machine import compiled, run_shared
from selfseg.regions.graph import check_shape, check_spacing, connected_components, merge_small

GROUP = 3
"""Channels that the kernel takes at once; a Lab image is one group. Missing channels are zeros, which add nothing."""

SHARES = 8
"""Shares of the rows, each with sums of its own for all superpixels."""

SMALLEST = 0.25
"""Fragments smaller than this share of the mean superpixel are merged away."""


def grid_counts(shape: Sequence[int], n_cells: int, spacing: Sequence[float]) -> tuple[int, ...]:
    """Return into how many cells to cut each axis, so that about `n_cells` cells are about cubic in physical units.

    An axis shorter than the side of such a cube is left whole, and the others share out the cells. `shape` and `spacing` are the pixels,
    and the size of a pixel, along each axis.
    """
    extent = [n * unit for n, unit in zip(shape, spacing, strict=True)]
    free = [axis for axis, n in enumerate(shape) if n > 1]
    step = math.inf
    while free:
        step = (math.prod(extent[axis] for axis in free) / n_cells) ** (1 / len(free))
        thin = [axis for axis in free if extent[axis] < step]
        if not thin or len(free) == 1:
            break
        free = [axis for axis in free if axis not in thin] or [max(thin, key=lambda axis: extent[axis])]
    return tuple(min(n, max(1, round(extent[axis] / step))) if axis in free else 1 for axis, n in enumerate(shape))


def grid_cells(shape: Sequence[int], counts: Sequence[int]) -> NDArray[np.int32]:
    """Return the cell number of each pixel, ``[*S]`` int32, row by row, when each axis is cut into `counts` parts."""
    cells = np.zeros((1,) * len(shape), np.int64)
    for axis, (n, count) in enumerate(zip(shape, counts, strict=True)):
        along = np.arange(n) * count // n
        cells = cells * count + along.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.broadcast_to(cells, tuple(shape)).astype(np.int32)


@compiled()
def _assign(start, stop, planes, centres, reach, weights, shape, valid, labels, distance):
    """Give the pixels of the rows ``start..stop`` (a row is one z and y) to their nearest centres; return new sums.

    planes [P N], centres [G P+3] (channels, then z y x in pixels), reach [3] half window in pixels, weights [3]
    (m/S)^2 spacing^2, labels and distance [N]. The sums are [G P+4]: channels, z y x, and the number of pixels.
    """
    n_planes, rows, width = len(planes), shape[1], shape[2]
    distance[start * width : stop * width] = np.inf
    trial = np.empty(width, np.float32)
    for k in range(len(centres)):
        cz, cy, cx = centres[k, n_planes], centres[k, n_planes + 1], centres[k, n_planes + 2]
        z0, z1 = max(0, math.ceil(cz - reach[0])), min(shape[0] - 1, math.floor(cz + reach[0]))
        y0, y1 = max(0, math.ceil(cy - reach[1])), min(rows - 1, math.floor(cy + reach[1]))
        x0, x1 = max(0, math.ceil(cx - reach[2])), min(width - 1, math.floor(cx + reach[2])) + 1
        for z in range(max(z0, start // rows), min(z1, (stop - 1) // rows) + 1):
            for y in range(max(y0, start - z * rows), min(y1, stop - 1 - z * rows) + 1):
                first, last = (z * rows + y) * width + x0, (z * rows + y) * width + x1
                base = weights[0] * (z - cz) ** 2 + weights[1] * (y - cy) ** 2
                part = trial[: x1 - x0]
                for i in range(len(part)):
                    offset = np.float32(x0 + i) - cx
                    part[i] = base + weights[2] * offset * offset
                for c in range(0, n_planes, 3):
                    m0, m1, m2 = centres[k, c], centres[k, c + 1], centres[k, c + 2]
                    p0, p1, p2 = planes[c, first:last], planes[c + 1, first:last], planes[c + 2, first:last]
                    for i in range(len(part)):
                        d0, d1, d2 = p0[i] - m0, p1[i] - m1, p2[i] - m2
                        part[i] += d0 * d0 + d1 * d1 + d2 * d2
                best, mine = distance[first:last], labels[first:last]
                for i in range(len(part)):
                    nearer = part[i] < best[i]
                    mine[i] = k if nearer else mine[i]
                    best[i] = part[i] if nearer else best[i]
    return _sums(start, stop, planes, shape, valid, labels, len(centres))


@compiled()
def _sums(start, stop, planes, shape, valid, labels, n_centres):
    """Add up channels, place and number of the valid pixels of each label over some rows: [G P+4]."""
    n_planes, rows, width = len(planes), shape[1], shape[2]
    sums = np.zeros((n_centres, n_planes + 4))
    for row in range(start, stop):
        first, end = row * width, (row + 1) * width
        while first < end:  # neighbours in a row mostly have one label: they are summed up in registers
            last = first + 1
            while last < end and labels[last] == labels[first] and valid[last] == valid[first]:
                last += 1
            if valid[first]:
                mine, n = sums[labels[first]], last - first
                for c in range(n_planes):
                    total = 0.0
                    for value in planes[c, first:last]:
                        total += value
                    mine[c] += total
                mine[n_planes] += n * (row // rows)
                mine[n_planes + 1] += n * (row % rows)
                mine[n_planes + 2] += 0.5 * n * (first + last - 1 - 2 * row * width)
                mine[n_planes + 3] += n
            first = last
    return sums


def _centres(sums: NDArray[Any], previous: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of each label; an empty one stays where it was."""
    count = sums[:, -1:]
    return np.where(count > 0, sums[:, :-1] / np.maximum(count, 1), previous).astype(np.float32)


def _planes(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return the channels as planes ``[P N]``, P the next multiple of `GROUP`; NaN and inf count as 0."""
    channels = image.shape[-1]
    planes = np.zeros((-(-channels // GROUP) * GROUP, image.size // channels), np.float32)
    planes[:channels] = image.reshape(-1, channels).T
    return np.nan_to_num(planes, copy=False, posinf=0, neginf=0)


def _check(image: NDArray[Any], n_segments: int, spacing: Sequence[float] | None, mask: NDArray[Any] | None) -> None:
    if image.ndim not in (3, 4) or image.size == 0:
        raise UsageError("image", expected="[Y X C] or [Z Y X C]", got=str(list(image.shape)), fix="add a channel axis")
    if n_segments < 1:
        raise UsageError("n_segments", expected="at least 1", got=str(n_segments), fix="ask for more superpixels")
    check_spacing(spacing or None, image.ndim - 1)
    check_shape("mask", mask, image.shape[:-1])


def slic(
    image: NDArray[Any],
    n_segments: int = 600,
    compactness: float = 10.0,
    spacing: Sequence[float] | None = None,
    n_iterations: int = 6,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.int32]:
    """Cut an image into superpixels of similar size that follow its edges.

    Parameters
    ----------
    image
        ``[Y X C]`` or ``[Z Y X C]``, any number of channels; Lab for photographs. Not rescaled.
    n_segments
        Superpixels wanted. What comes is close to it: the grid is regular, and fragments are merged.
    compactness
        m, in units of the channels: how much a colour difference weighs against a distance of one grid step.
    spacing
        Size of a pixel along each spatial axis; all 1 if not given.
    n_iterations
        Rounds of assigning and averaging.
    mask
        ``[*S]`` bool, False = the pixel belongs to no superpixel.

    Returns
    -------
    ndarray
        ``[*S]`` int32, 0..R-1 without gaps, each connected by faces, in the order of their first pixels; -1 outside.

    Raises
    ------
    UsageError
        If a shape, `n_segments` or `spacing` is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.slic import slic
    >>> image = np.zeros((40, 60, 3))
    >>> image[:, 30:] = 50
    >>> superpixels = slic(image, n_segments=24)
    >>> superpixels.shape, int(superpixels.min())
    ((40, 60), 0)
    """
    _check(image, n_segments, spacing, mask)
    space = tuple(image.shape[:-1])
    shape = (1,) * (3 - len(space)) + space
    units = np.array((1.0,) * (3 - len(space)) + tuple(spacing or (1.0,) * len(space)))
    planes = _planes(image)
    valid = np.ones(planes.shape[1], np.bool_) if mask is None else np.ascontiguousarray(mask, np.bool_).ravel()
    counts = np.array(grid_counts(shape, n_segments, units.tolist()))
    labels = grid_cells(shape, counts.tolist()).ravel()
    reach = (np.array(shape) / counts).astype(np.float32)
    # S is the mean physical side of a cell over the axes that are cut.
    cut = counts > 1
    step = float(np.prod((reach * units)[cut]) ** (1 / max(1, cut.sum())))
    weights = ((compactness / step) ** 2 * units**2).astype(np.float32)
    distance = np.empty(planes.shape[1], np.float32)
    n_rows, n_cells = shape[0] * shape[1], int(labels[-1]) + 1
    sums = sum(run_shared(_sums, n_rows, planes, shape, valid, labels, n_cells, parts=SHARES))
    centres = _centres(sums, np.full((n_cells, len(planes) + 3), -1e9, np.float32))
    for _ in range(n_iterations):
        sums = sum(
            run_shared(_assign, n_rows, planes, centres, reach, weights, shape, valid, labels, distance, parts=SHARES)
        )
        centres = _centres(sums, centres)
    labels[~valid] = -1
    parts = connected_components(labels.reshape(space))
    return merge_small(parts, image, SMALLEST * max(1, valid.sum()) / n_cells)
