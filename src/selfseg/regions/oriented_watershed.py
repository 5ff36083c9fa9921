"""The oriented watershed, and the ultrametric contour map (Arbelaez, Maire, Fowlkes & Malik, PAMI 2011, section 4).

The watershed of the strongest angle's gradient gives closed arcs. But an arc that passes near a strong contour of another angle would
inherit its strength: so each piece of an arc takes the gradient at the arc's own angle. Merging regions over the arc
of least mean strength, again and again, gives a merge tree; drawn, with each arc as strong as the merge that removes
it, it is the ultrametric contour map.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.regions._arcs import face_angles
from selfseg.regions.graph import RegionGraph, check_labels
from selfseg.regions.merge_tree import MergeTree
from selfseg.regions.watershed import watershed

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
        value += (1 - share) * flat[low % n_angles, pixels[:, side]] + share * flat[
            (low + 1) % n_angles, pixels[:, side]
        ]
    return value / 2


def arc_graph(labels: NDArray[np.integer], gradient: NDArray[Any]) -> RegionGraph:
    """Weigh the arcs between regions by the gradient at their own angles.

    Parameters
    ----------
    labels
        ``[Y X]`` integers 0..R-1, -1 = outside.
    gradient
        ``[A Y X]``, boundary strength at A angles evenly over half a turn from the X axis towards growing Y.

    Returns
    -------
    RegionGraph
        Its strength is the mean over the pixel faces of an arc.

    Raises
    ------
    UsageError
        If labels are not integers or do not fit the gradient.
    """
    check_labels(labels)
    if labels.ndim != 2 or gradient.shape[1:] != labels.shape:
        got = f"{list(labels.shape)} and {list(gradient.shape)}"
        raise UsageError("arcs", expected="labels [Y X], gradient [A Y X]", got=got, fix="crop them alike")
    count = int(labels.max(initial=-1)) + 1
    pixels, ends, regions = _faces(labels)
    keys, arc = np.unique(regions[:, 0] * count + regions[:, 1], return_inverse=True)
    height, width = labels.shape
    angle = face_angles(ends, arc, (height + 1) * (width + 1), width + 1, REACH)
    value = _at_angle(gradient, pixels, angle)
    length = np.bincount(arc, minlength=len(keys)).astype(np.float64)
    strength = np.bincount(arc, value, len(keys)) / np.maximum(length, 1)
    edges = np.stack([keys // max(count, 1), keys % max(count, 1)], -1).astype(np.int32)
    sizes = np.bincount(labels[labels >= 0], minlength=count).astype(np.int64)
    return RegionGraph(edges, length, strength, sizes)


def oriented_watershed(
    gradient: NDArray[Any], mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int32], RegionGraph]:
    """Cut the plane into the basins of an oriented gradient, and weigh the arcs between them.

    Parameters
    ----------
    gradient
        ``[A Y X]``, boundary strength at A angles (see `arc_graph`).
    mask
        ``[Y X]`` bool, False = outside.

    Returns
    -------
    labels, graph
        ``[Y X]`` int32, 0..R-1, -1 outside; and the arcs, of which `merge_tree.average_linkage` makes the merge tree.
    """
    labels = watershed(gradient.max(0), mask=mask)
    return labels, arc_graph(labels, gradient)


@njit(cache=True, nogil=True)
def _meeting_nodes(parents, first, second, node):
    """Climb from both nodes of each pair until they meet: a parent's number is above its children's."""
    for i in range(len(first)):
        a, b = first[i], second[i]
        while a != b:
            if a < b:
                a = parents[a]
            else:
                b = parents[b]
        node[i] = a


def ultrametric_map(superpixels: NDArray[np.integer], tree: MergeTree) -> NDArray[np.float32]:
    """Draw the altitude at which the two sides of each boundary are merged.

    Parameters
    ----------
    superpixels
        ``[Y X]`` integers 0..R-1; faces towards -1 (outside) are not drawn.
    tree
        The merge tree over them.

    Returns
    -------
    ndarray
        ``[2Y-1 2X-1]`` float32, on the grid of pixels (even places, 0) and the faces and corners between them: thresholded
        at a level it gives the closed contours of ``tree.cut(level=...)``.
    """
    height, width = superpixels.shape
    pixels, _, regions = _faces(superpixels)
    node = np.zeros(len(regions), np.int64)
    _meeting_nodes(tree.parents.astype(np.int64), regions[:, 0].copy(), regions[:, 1].copy(), node)
    drawn = np.zeros((2 * height - 1, 2 * width - 1), np.float32)
    # The face between two pixels lies halfway: the sum of their places on the single grid.
    y, x = np.divmod(pixels, width)
    drawn[y.sum(1), x.sum(1)] = tree.altitudes[node]
    faces = np.pad(drawn, 1)
    around = np.maximum.reduce([faces[:-2, 1:-1], faces[2:, 1:-1], faces[1:-1, :-2], faces[1:-1, 2:]])
    drawn[1::2, 1::2] = around[1::2, 1::2]
    return drawn
