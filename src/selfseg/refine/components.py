"""Clean label images: small components and small holes are given to what surrounds them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError, explain
from selfseg.regions.connect import connected_components
from selfseg.regions.graph import adjacency


def remove_small(
    labels: NDArray[np.integer],
    min_size: float,
    spacing: Sequence[float] | None = None,
    only: Sequence[int] | None = None,
) -> NDArray[np.integer]:
    """Give every small connected component to the neighbour with which it shares most boundary.

    A hole is a component too: one call fills small holes and removes small specks. The smallest goes first, and what has
    grown by taking in others is judged by its new size.

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
        raise UsageError(explain("min_size", expected="0 or more", got=str(min_size), fix="give a size in pixels"))
    parts = connected_components(labels)
    graph = adjacency(parts, spacing=spacing)
    unit = float(np.prod(spacing)) if spacing is not None else 1.0
    value = np.zeros(graph.n_regions, labels.dtype)
    value[parts[parts >= 0]] = labels[parts >= 0]
    movable = np.ones(graph.n_regions, bool) if only is None else np.isin(value, list(only))
    target = _absorb(graph.edges, graph.length, graph.sizes * unit, value, movable, min_size)
    cleaned = labels.copy()
    cleaned[parts >= 0] = value[target][parts[parts >= 0]]
    return cleaned


def _absorb(
    edges: NDArray, length: NDArray, sizes: NDArray, value: NDArray, movable: NDArray[np.bool_], min_size: float
) -> NDArray[np.int64]:
    """Return for each component the one whose label it takes. Few components are small, so a plain loop serves."""
    touching: list[dict[int, float]] = [{} for _ in sizes]
    for (i, j), shared in zip(edges.tolist(), length.tolist(), strict=True):
        touching[i][j] = touching[j][i] = shared
    target, size = np.arange(len(sizes)), sizes.astype(float).tolist()
    for small in np.argsort(sizes, kind="stable").tolist():
        if sizes[small] >= min_size:
            break
        if not movable[small] or size[small] >= min_size or not touching[small]:
            continue
        # The longest shared boundary wins, then the larger size, then the lower number.
        into = max(touching[small], key=lambda n: (touching[small][n], size[n], -n))
        target[small] = into
        _unite(small, into, touching, size, value)
        # Neighbours of the label that `small` takes on are now one component with it.
        for other in [n for n in touching[into] if value[n] == value[into]]:
            target[other] = into
            _unite(other, into, touching, size, value)
    while not np.array_equal(target, further := target[target]):
        target = further
    return target


def _unite(one: int, into: int, touching: list[dict[int, float]], size: list[float], value: NDArray) -> None:
    """Hand the boundaries and the size of a component to another."""
    for other, shared in touching[one].items():
        del touching[other][one]
        if other != into:
            touching[into][other] = touching[other][into] = touching[into].get(other, 0.0) + shared
    touching[one] = {}
    size[into] += size[one]
    size[one] = float("inf")


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
