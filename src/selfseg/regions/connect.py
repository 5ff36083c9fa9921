"""Connected regions: components of equal labels, and small regions merged into the neighbour most like them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as graph_components
from skimage.measure import label as label_equal

from selfseg.regions.graph import adjacency, check_labels, region_means


def connected_components(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Give every face-connected part of equal labels a number of its own.

    Parameters
    ----------
    labels
        ``[*S]`` integers in 2D or 3D; negative values are outside and stay -1.

    Returns
    -------
    ndarray
        ``[*S]`` int32, 0..R-1 in the order of the first pixels, -1 outside.

    Raises
    ------
    UsageError
        If labels are not integers.
    """
    check_labels(labels)
    # Unsigned labels have no -1; a copy in a signed type has.
    signed = labels.astype(np.int64) if labels.dtype.kind in "ub" else np.maximum(labels, -1)
    parts = label_equal(signed, background=-1, connectivity=1)
    return np.asarray(parts, np.int32) - np.int32(1)


def number_by_first_pixel(labels: NDArray[np.int32], n_labels: int) -> NDArray[np.int32]:
    """Renumber labels 0..R-1 without gaps in the order of their first pixels; -1 stays.

    Parameters
    ----------
    labels
        ``[*S]`` int32 below `n_labels`, negative = outside.
    n_labels
        One more than the largest label; some may be unused.
    """
    flat = labels.ravel()
    first = np.full(n_labels + 1, flat.size, np.int64)
    # Backwards, so that the first pixel of each label is written last. Label -1 lands in the spare last place.
    first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)
    order = np.argsort(first[:-1], kind="stable")
    number = np.empty(n_labels + 1, np.int32)
    number[order] = np.arange(n_labels, dtype=np.int32)
    number[-1] = -1
    return number[labels]


def merge_small(
    labels: NDArray[np.int32], features: NDArray[Any], min_size: float, groups: NDArray[np.integer] | None = None
) -> NDArray[np.int32]:
    """Merge regions of fewer than `min_size` pixels into the neighbour of nearest mean feature, until none is left.

    Parameters
    ----------
    labels
        ``[*S]`` int32, 0..R-1, -1 outside.
    features
        ``[*S C]``, what similarity is judged by (squared Euclidean distance of means).
    min_size
        Pixels. A small region without neighbours stays.
    groups
        ``[*S]`` integers, the same over each region: only regions of one group merge.

    Returns
    -------
    ndarray
        ``[*S]`` int32, 0..R-1 without gaps, in the order of their first pixels.
    """
    n_regions = int(labels.max(initial=-1)) + 1
    graph = adjacency(labels, n_regions=n_regions)
    means = region_means(labels, features, n_regions)
    sizes = graph.sizes.astype(np.float64)
    edges: NDArray[np.integer] = graph.edges
    belongs: NDArray[np.integer] = np.arange(n_regions)
    if groups is not None:
        group = np.zeros(n_regions, groups.dtype)
        group[labels[labels >= 0]] = groups[labels >= 0]
        edges = edges[group[edges[:, 0]] == group[edges[:, 1]]]
    while len(edges) and (sizes[edges].min() < min_size):
        source, target = np.concatenate([edges, edges[:, ::-1]]).T
        source, target = source[sizes[source] < min_size], target[sizes[source] < min_size]
        gap = ((means[source] - means[target]) ** 2).sum(-1)
        # Each small region takes one step towards its nearest neighbour, so that no two large ones can meet in it.
        order = np.lexsort((target, gap, source))
        small, first = np.unique(source[order], return_index=True)
        links = coo_array((np.ones(len(small)), (small, target[order[first]])), shape=(len(sizes),) * 2)
        n_left, joined = graph_components(links, directed=False)
        totals = np.zeros((n_left, means.shape[1]))
        np.add.at(totals, joined, means * sizes[:, None])
        sizes = np.asarray(np.bincount(joined, sizes, n_left), np.float64)
        means = totals / np.maximum(sizes, 1)[:, None]
        belongs = np.asarray(joined[belongs])
        edges = joined[edges]
        edges = edges[edges[:, 0] != edges[:, 1]]
    merged = np.append(belongs, -1).astype(np.int32)[labels]
    return number_by_first_pixel(merged, len(sizes))
