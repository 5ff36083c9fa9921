"""Clean label images: small components and small holes are given to what surrounds them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as graph_components

from selfseg.core.errors import UsageError
from selfseg.regions.connect import connected_components
from selfseg.regions.graph import adjacency


def remove_small(
    labels: NDArray[np.integer],
    min_size: float,
    spacing: Sequence[float] | None = None,
    only: Sequence[int] | None = None,
) -> NDArray[np.integer]:
    """Give every small connected component to the neighbour with which it shares most boundary.

    A hole is a component too: one call fills small holes and removes small specks. This goes in rounds: small ones that
    joined each other are judged by their new size in the next round, until none is left.

    Parameters
    ----------
    labels
        ``[*S]`` integers, 2D or 3D. 0 and up are labels; negative values are outside and never change.
    min_size
        Components smaller than this many pixels go; area or volume in physical units when a spacing is given.
    spacing
        Size of a pixel along each axis.
    only
        Label values whose components may be removed; all if not given. ``only=[0]`` fills holes in the foreground.

    Returns
    -------
    ndarray
        ``[*S]`` of the same dtype. A component without neighbours stays.

    Raises
    ------
    UsageError
        If labels are not integers, `min_size` is negative, or `spacing` does not fit.
    """
    if min_size < 0:
        raise UsageError("min_size", expected="0 or more", got=str(min_size), fix="give a size in pixels")
    cleaned = labels.copy()
    while _absorb(cleaned, min_size, spacing, only):
        pass
    return cleaned


def _absorb(labels: NDArray[Any], min_size: float, spacing: Sequence[float] | None, only: Sequence[int] | None) -> bool:
    """Do one round in place: each small component joins one neighbour. Return whether anything has changed."""
    parts = connected_components(labels)
    inside = parts >= 0
    graph = adjacency(parts, spacing=spacing)
    value = np.zeros(graph.n_regions, labels.dtype)
    value[parts[inside]] = labels[inside]
    sizes = graph.sizes * (1.0 if spacing is None else float(np.prod(spacing)))
    small = sizes < min_size if only is None else (sizes < min_size) & np.isin(value, list(only))
    source, target = np.concatenate([graph.edges, graph.edges[:, ::-1]]).T
    # The longest shared boundary wins, then the larger neighbour, then the lower number.
    order = np.lexsort((target, -sizes[target], -np.tile(graph.length, 2), source))
    order = order[small[source[order]]]
    moving, first = np.unique(source[order], return_index=True)
    if not len(moving):
        return False
    links = coo_array((np.ones(len(moving)), (moving, target[order[first]])), shape=(graph.n_regions,) * 2)
    count, joined = graph_components(links, directed=False)
    # What has joined takes the label of its one member that did not move, or else of its largest.
    rank = np.lexsort((-np.arange(len(sizes)), sizes, ~np.isin(np.arange(len(sizes)), moving)))
    winner = np.empty(count, np.int64)
    winner[joined[rank]] = rank
    labels[inside] = value[winner[joined]][parts[inside]]
    return True


def fill_holes(
    labels: NDArray[np.integer], max_size: float, spacing: Sequence[float] | None = None
) -> NDArray[np.integer]:
    """Give every small hole to what surrounds it: a component within one other component, away from the border.

    Parameters
    ----------
    labels
        ``[*S]`` integers, 2D or 3D; negative values are outside, never change, and surround nothing.
    max_size
        Holes smaller than this many pixels are filled; area or volume in physical units when a spacing is given.
    spacing
        Size of a pixel along each axis.

    Returns
    -------
    ndarray
        ``[*S]`` of the same dtype.

    Raises
    ------
    UsageError
        As for `remove_small`.
    """
    if max_size < 0:
        raise UsageError("max_size", expected="0 or more", got=str(max_size), fix="give a size in pixels")
    filled = labels.copy()
    while _fill(filled, max_size, spacing):  # a hole within a hole: the inner one first, then both together
        pass
    return filled


def _fill(labels: NDArray[Any], max_size: float, spacing: Sequence[float] | None) -> bool:
    """Fill the holes that have no hole in them, in place. Return whether there were any."""
    # What lies outside is a component too, and so is what lies beyond the border: both keep a region from being a hole.
    framed = np.pad(np.maximum(labels, -1).astype(np.int64) + 2, 1)
    parts = connected_components(framed)
    graph = adjacency(parts)
    value = np.zeros(graph.n_regions, np.int64)
    value[parts] = framed
    sizes = graph.sizes * (1.0 if spacing is None else float(np.prod(spacing)))
    both = np.concatenate([graph.edges, graph.edges[:, ::-1]])
    around = np.zeros(graph.n_regions, np.int64)
    around[both[:, 0]] = both[:, 1]
    hole = (np.bincount(both[:, 0], minlength=graph.n_regions) == 1) & (sizes < max_size)
    hole &= (value > 1) & (value[around] > 1)
    inside = parts[(slice(1, -1),) * labels.ndim]
    changed = hole[inside]
    labels[changed] = value[around[inside[changed]]] - 2
    return bool(hole.any())


def keep_largest(labels: NDArray[np.integer], background: int = 0) -> NDArray[np.integer]:
    """Keep the largest connected component of each label, and set the others to `background`.

    Parameters
    ----------
    labels
        ``[*S]`` integers, 2D or 3D; negative values are outside and never change.
    background
        Label that is not itself reduced. Between components of equal size the first wins.

    Returns
    -------
    ndarray
        ``[*S]`` of the same dtype.
    """
    parts = connected_components(labels)
    inside = parts >= 0
    sizes = np.bincount(parts[inside])
    value = np.zeros(len(sizes), labels.dtype)
    value[parts[inside]] = labels[inside]
    order = np.lexsort((np.arange(len(sizes)), -sizes, value))
    kept = order[np.unique(value[order], return_index=True)[1]]
    new = np.full(len(sizes), background, labels.dtype)
    new[kept] = value[kept]
    cleaned = labels.copy()
    cleaned[inside] = new[parts[inside]]
    return cleaned
