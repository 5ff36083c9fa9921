"""A codebook of what regions look like: Ward's tree gives the number of entries and the start, k-means the entries."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.regions.merge_tree import MergeTree, complete_graph, ward

START = 256
"""Regions are reduced to at most this many by k-means before Ward's method, whose graph is complete."""

ROUNDS, TOLERANCE = 300, 1e-4
"""Rounds at most, and the squared way of all centres, as a share of the rows' variance, at which they have arrived."""


def codebook(
    rows: NDArray[Any], weights: NDArray[Any], n_entries: int | None, explained: float, max_entries: int
) -> NDArray[np.float64]:
    """Cluster regions by their features.

    Parameters
    ----------
    rows, weights
        ``[M D]`` features of the regions, and ``[M]`` what each counts.
    n_entries
        Entries wanted; fewer come back where there are fewer different regions. None or 0 = by `explained`.
    explained
        Share of the variance between regions that the entries explain, 0-1: the fewest entries that do.
    max_entries
        Never more than this, where `n_entries` is open.

    Returns
    -------
    ndarray
        ``[K D]``.
    """
    rows, inverse = np.unique(np.round(rows, 6), axis=0, return_inverse=True)
    weights = np.bincount(inverse.ravel(), weights, len(rows)) if len(rows) else weights
    if len(rows) <= 1:
        return np.asarray(rows, np.float64)
    start, mass = rows, weights
    if len(rows) > START:
        from sklearn.cluster import KMeans  # not for one picture, whose first look it would keep waiting

        rough = KMeans(START, n_init=1, random_state=0).fit(rows, sample_weight=weights)
        start, mass = rough.cluster_centers_, np.bincount(rough.labels_, weights, START)
        start, mass = start[mass > 0], mass[mass > 0]
    tree = ward(complete_graph(mass), start, mass)
    count = min(n_entries, len(start)) if n_entries else _explaining(tree, explained, max_entries)
    cut = tree.cut(n_regions=count)
    first = np.stack([np.bincount(cut, mass * column) for column in start.T], -1) / np.bincount(cut, mass)[:, None]
    return lloyd(rows, weights, first)


def lloyd(rows: NDArray[Any], weights: NDArray[Any], centres: NDArray[Any]) -> NDArray[np.float64]:
    """Move centres to the weighted means of the rows nearest to them, until no row changes its centre or none moves far.

    Parameters
    ----------
    rows, weights
        ``[M D]``, and ``[M]`` what each counts.
    centres
        ``[K D]`` where to begin. A centre to which no row is nearest stays where it is.

    Returns
    -------
    ndarray
        ``[K D]``. As scikit-learn's `KMeans` with this start, which takes a second to import.
    """
    centres = np.asarray(centres, np.float64)
    enough = TOLERANCE * float(np.var(rows, axis=0).mean())
    before: NDArray[Any] | None = None
    for _ in range(ROUNDS):
        nearest = np.square(rows[:, None] - centres).sum(-1).argmin(1)
        mass = np.bincount(nearest, weights, len(centres))
        sums = np.stack([np.bincount(nearest, weights * column, len(centres)) for column in rows.T], -1)
        moved = np.where(mass[:, None] > 0, sums / np.maximum(mass, 1e-300)[:, None], centres)
        shift = float(np.square(moved - centres).sum())
        centres = moved
        if shift <= enough or (before is not None and np.array_equal(nearest, before)):
            break
        before = nearest
    return centres


def _explaining(tree: MergeTree, explained: float, max_entries: int) -> int:
    """Return the fewest entries that explain the wanted share of the variance. The merges sum to all of it."""
    merges = tree.altitudes[tree.n_leaves :]
    lost = np.cumsum(merges) / max(merges.sum(), 1e-300)
    done = int(np.searchsorted(lost, 1 - explained, side="right"))
    return min(tree.n_leaves - done, max_entries)
