"""Watersheds: basins of a boundary map, from its local minima or from a regular grid of markers; and the oriented watershed.

The oriented watershed (Arbelaez, Maire, Fowlkes & Malik, PAMI 2011, section 4) is that of the strongest angle's gradient: closed arcs.
But an arc that passes near a strong contour of another angle would inherit its strength: so each piece of an arc takes the gradient at
the arc's own angle.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.machine import compiled
from selfseg.regions.graph import (
    RegionGraph,
    check_labels,
    check_shape,
    check_spacing,
    connected_components,
    number_by_first_pixel,
)
from selfseg.regions.slic import grid_cells, grid_counts


def _grid_markers(
    boundary: NDArray[Any], n_segments: int, units: NDArray[Any], inside: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Mark the weakest pixel of each cell of a regular grid of about `n_segments` cells, 1..R."""
    cell = grid_cells(boundary.shape, grid_counts(boundary.shape, n_segments, units.tolist())).ravel()
    height = np.where(inside, boundary, np.inf).ravel()
    order = np.lexsort((height, cell))
    lowest = order[np.unique(cell[order], return_index=True)[1]]
    lowest = np.sort(lowest[inside.ravel()[lowest]])
    markers = np.zeros(boundary.size, np.int32)
    markers[lowest] = np.arange(1, len(lowest) + 1)
    return markers.reshape(boundary.shape)


def watershed(
    boundary: NDArray[Any],
    n_segments: int | None = None,
    compactness: float = 0.0,
    spacing: Sequence[float] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.int32]:
    """Cut the plane into the basins of a boundary map.

    Parameters
    ----------
    boundary
        ``[*S]``, large on boundaries, for example `texture.gradient_strength`. NaN counts as the largest value.
    n_segments
        Basins wanted: their markers are the weakest pixels of a regular grid's cells. Without it, each local minimum
        is a marker.
    compactness
        0 follows the boundary map alone; larger values give rounder basins (Neubert & Protzel, ICPR 2014). In units of
        the map per pixel.
    spacing
        Size of a pixel along each axis: the grid's cells are cubes in these units.
    mask
        ``[*S]`` bool, False = the pixel belongs to no basin.

    Returns
    -------
    ndarray
        ``[*S]`` int32, 0..R-1 without gaps, connected by faces, in the order of their first pixels; -1 outside.

    Raises
    ------
    UsageError
        If `n_segments` is below 1, or `spacing` or `mask` does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.watershed import watershed
    >>> boundary = np.zeros((20, 21))
    >>> boundary[:, 10] = 1
    >>> len(np.unique(watershed(boundary)))
    2
    """
    from skimage.morphology import local_minima  # here, since few of those who import this file flood anything
    from skimage.segmentation import watershed as flood

    units = np.asarray(check_spacing(spacing, boundary.ndim), float)
    if n_segments is not None and n_segments < 1:
        raise UsageError("n_segments", expected="at least 1", got=str(n_segments), fix="ask for more basins")
    check_shape("mask", mask, boundary.shape)
    finite = boundary[np.isfinite(boundary)]
    height = np.nan_to_num(boundary.astype(np.float32), nan=finite.max(initial=0), posinf=finite.max(initial=0))
    inside = np.ones(boundary.shape, bool) if mask is None else mask.astype(bool)
    if n_segments is None:
        low = local_minima(height, connectivity=1) & inside
        markers = connected_components(np.where(low, 0, -1)) + np.int32(1)
    else:
        markers = _grid_markers(height, n_segments, units, inside)
    basins = flood(height, markers, connectivity=1, compactness=compactness, mask=inside).astype(np.int32) - np.int32(1)
    # Parts of the mask without any marker are basins of their own.
    missed = connected_components(np.where(inside & (basins < 0), 0, -1))
    basins = np.where(missed >= 0, missed + basins.max(initial=-1) + np.int32(1), basins).astype(np.int32)
    return number_by_first_pixel(basins, int(basins.max(initial=-1)) + 1)


REACH = 6
"""Faces to each side over which the angle of an arc is measured."""


def _faces(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the faces between different regions: flat pixels on both sides ``[F 2]``, end corners ``[F 2]``, regions ``[F 2]``."""
    height, width = labels.shape
    flat = np.arange(height * width).reshape(height, width)
    corner = np.arange((height + 1) * (width + 1)).reshape(height + 1, width + 1)
    pixels, ends = [], []
    for before, after, one, other in (
        (flat[:, :-1], flat[:, 1:], corner[:-1, 1:-1], corner[1:, 1:-1]),
        (flat[:-1], flat[1:], corner[1:-1, :-1], corner[1:-1, 1:]),
    ):
        meet = labels.ravel()[before] != labels.ravel()[after]
        meet &= (labels.ravel()[before] >= 0) & (labels.ravel()[after] >= 0)
        pixels.append(np.stack([before[meet], after[meet]], -1))
        ends.append(np.stack([one[meet], other[meet]], -1))
    sides = np.concatenate(pixels)
    return sides, np.concatenate(ends), np.sort(labels.ravel()[sides].astype(np.int64), 1)


def _at_angle(gradient: NDArray[Any], pixels: NDArray[np.int64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gradient ``[A Y X]`` at faces ``[F]`` and their angles, between the nearest two angles of the gradient."""
    n_angles = len(gradient)
    place = angle * (n_angles / np.pi)
    low = np.floor(place).astype(np.intp)
    share = place - low
    flat = gradient.reshape(n_angles, -1)
    value = np.zeros(len(angle))
    for side in range(2):
        here, there = flat[low % n_angles, pixels[:, side]], flat[(low + 1) % n_angles, pixels[:, side]]
        value += (1 - share) * here + share * there
    return value / 2


def arc_graph(labels: NDArray[np.integer], gradient: NDArray[Any]) -> RegionGraph:
    """Weigh the arcs between regions by the mean of the gradient at their own angles over their pixel faces.

    Parameters
    ----------
    labels
        ``[Y X]`` integers 0..R-1, -1 = outside.
    gradient
        ``[A Y X]``, boundary strength at A angles evenly over half a turn from the X axis towards growing Y. Labels that are not
        integers or do not fit it raise `UsageError`.
    """
    check_labels(labels)
    if labels.ndim != 2 or gradient.shape[1:] != labels.shape:
        raise UsageError(
            "arcs",
            expected="labels [Y X], gradient [A Y X]",
            got=f"{list(labels.shape)} and {list(gradient.shape)}",
            fix="crop them alike",
        )
    count = int(labels.max(initial=-1)) + 1
    pixels, ends, regions = _faces(labels)
    keys, arc = np.unique(regions[:, 0] * count + regions[:, 1], return_inverse=True)
    height, width = labels.shape
    angle = _face_angles(ends, arc, (height + 1) * (width + 1), width + 1, REACH)
    value = _at_angle(gradient, pixels, angle)
    length = np.bincount(arc, minlength=len(keys)).astype(np.float64)
    strength = np.bincount(arc, value, len(keys)) / np.maximum(length, 1)
    edges = np.stack([keys // max(count, 1), keys % max(count, 1)], -1).astype(np.int32)
    sizes = np.bincount(labels[labels >= 0], minlength=count).astype(np.int64)
    return RegionGraph(edges, length, strength, sizes)


def oriented_watershed(
    gradient: NDArray[Any], mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int32], RegionGraph]:
    """Cut the plane into the basins of an oriented gradient ``[Y X]`` (-1 = outside), and weigh the arcs between them.

    Parameters
    ----------
    gradient
        ``[A Y X]``, boundary strength at A angles (see `arc_graph`).
    mask
        ``[Y X]`` bool, False = outside.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.watershed import oriented_watershed
    >>> gradient = np.zeros((8, 16, 16), np.float32)
    >>> gradient[:, :, 8] = 1
    >>> regions, graph = oriented_watershed(gradient)
    >>> regions.shape, graph.edges.shape[1]
    ((16, 16), 2)
    """
    labels = watershed(gradient.max(0), mask=mask)
    return labels, arc_graph(labels, gradient)


# The kernel of `arc_graph`: follow the arcs between regions, pixel face by pixel face, and find their angles.


@compiled()
def _link(ends, arc, at_corner, partner):
    """Write for each face [F] and end the one other face of its arc that meets it there; -1 where none meets it, or several. at_corner
    [corners 4] is all -1."""
    for face in range(len(ends)):
        for side in range(2):
            corner, slot = ends[face, side], 0
            while at_corner[corner, slot] >= 0:
                slot += 1
            at_corner[corner, slot] = face
    for face in range(len(ends)):
        for side in range(2):
            found = 0
            for slot in range(4):
                other = at_corner[ends[face, side], slot]
                if other >= 0 and other != face and arc[other] == arc[face]:
                    partner[face, side] = other
                    found += 1
            if found != 1:
                partner[face, side] = -1


@compiled(inner=True)
def _walk(first, side, ends, partner, done, chain):
    """Follow an arc from face `first`, leaving by its end `side`; write its faces to chain and return their number."""
    face, count = first, 0
    while face >= 0 and not done[face]:
        done[face] = True
        chain[count] = face
        count += 1
        following = partner[face, side]
        if following >= 0:
            side = 1 if ends[following, 0] == ends[face, side] else 0
        face = following
    return count


@compiled()
def _chords(ends, partner, reach, done, chain, chord):
    """Write for each face [F] the faces that are `reach` steps before and after it on its arc, or the arc's last ones, chord [F 2]."""
    # Open arcs first, from one of their ends; what is left then are closed loops, which may begin anywhere.
    for loops in range(2):
        for first in range(len(ends)):
            if done[first] or (loops == 0 and partner[first, 0] >= 0 and partner[first, 1] >= 0):
                continue
            count = _walk(first, 0 if partner[first, 0] >= 0 else 1, ends, partner, done, chain)
            for i in range(count):
                before, after = i - reach, i + reach
                chord[chain[i], 0] = chain[before if before > 0 else 0]
                chord[chain[i], 1] = chain[after if after < count else count - 1]


def _face_angles(
    ends: NDArray[np.int64], arc: NDArray[np.int64], n_corners: int, width: int, reach: int
) -> NDArray[np.float64]:
    """Return the angle of the arc at each face ``[F]``, in radians from the X axis, half a turn: that of the chord between the middles
    of the faces that are `reach` steps before and after, or the arc's last ones.

    ends [F 2] are the corners of the pixel grid that a face joins, numbered row by row, `width` a row; arc [F] is the pair of regions.
    """
    partner, chord = np.full(ends.shape, -1), np.empty(ends.shape, np.int64)
    _link(ends, arc, np.full((n_corners, 4), -1), partner)
    _chords(ends, partner, reach, np.zeros(len(ends), np.bool_), np.empty(len(ends), np.int64), chord)
    corners = np.stack([ends // width, ends % width])  # [2 F 2]
    middles = corners.sum(-1)  # twice their places
    step = middles[:, chord[:, 1]] - middles[:, chord[:, 0]]
    down, right = np.where((step == 0).all(0), corners[..., 1] - corners[..., 0], step)
    return np.asarray(np.arctan2(down, right) % np.pi)
