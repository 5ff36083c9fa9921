"""The merge tree: regions merged two by two, from superpixels to one region, and cut wherever the user likes.

A tree over R superpixels has 2R-1 nodes: the leaves 0..R-1 are the superpixels, node R+s is the s-th merge, the last
node is the root. Its altitudes never fall from a child to its parent nor from a merge to the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.machine import compiled
from selfseg.regions.graph import RegionGraph


@dataclass(frozen=True)
class MergeTree:
    """A binary tree of merges.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.graph import adjacency
    >>> from selfseg.regions.merge_tree import merge
    >>> graph = adjacency(np.array([[0, 1, 2]]))
    >>> tree = merge(graph, np.array([[0.0], [0.1], [5.0]]))
    >>> tree.n_leaves, tree.parents.tolist()
    (3, [3, 3, 4, 4, 4])
    """

    parents: NDArray[np.int32]
    """``[2R-1]`` int32, the parent of each node; the root is its own parent."""
    altitudes: NDArray[np.float64]
    """``[2R-1]`` float64, the cost at which a node was made, 0 for leaves, ascending; the unit is the builder's."""
    sizes: NDArray[np.float64]
    """``[2R-1]`` float64, pixels of each node."""

    @property
    def n_leaves(self) -> int:
        """Number of superpixels R."""
        return (len(self.parents) + 1) // 2

    @property
    def levels(self) -> NDArray[np.float64]:
        """Altitudes of the merges, ascending, each once: between two of them a cut does not change."""
        return np.unique(self.altitudes[self.n_leaves :])

    def joined_at(self, pairs: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the altitude at which the two nodes of each pair ``[N 2]`` are in one region for the first time, ``[N]``."""
        one, other = pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
        while (one != other).any():  # parents have larger numbers: the smaller one climbs
            one, other = (
                np.where(one < other, self.parents[one], one),
                np.where(other < one, self.parents[other], other),
            )
        return np.asarray(self.altitudes[one])

    def cut(self, n_regions: int | None = None, level: float | None = None) -> NDArray[np.int32]:
        """Cut the tree into regions.

        Parameters
        ----------
        n_regions
            Regions wanted, 1 or more; more than there are leaves gives the leaves.
        level
            Every merge whose altitude is at most this is done.

        Returns
        -------
        ndarray
            ``[R]`` int32, the region 0..K-1 of each leaf, numbered by the first leaf of each.

        Raises
        ------
        UsageError
            Unless exactly one of the two is given and `n_regions` is at least 1.
        """
        if (n_regions is None) == (level is None) or (n_regions is not None and n_regions < 1):
            raise UsageError(
                "cut",
                expected="either n_regions (1 or more) or level",
                got=f"n_regions={n_regions}, level={level}",
                fix="give one of them",
            )
        leaves = self.n_leaves
        if level is not None:
            last = leaves + int(np.searchsorted(self.altitudes[leaves:], level, side="right"))
        else:
            last = leaves + max(0, leaves - (n_regions or 1))
        # Each node looks up to its parent while that merge is done; doubling the look takes log(depth) turns.
        nodes = np.arange(len(self.parents))
        top = np.where(self.parents < last, self.parents, nodes)
        while not np.array_equal(top, higher := top[top]):
            top = higher
        _, first, inverse = np.unique(top[:leaves], return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int32)
        rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
        return rank[inverse]

    def labels(
        self, superpixels: NDArray[np.integer], n_regions: int | None = None, level: float | None = None
    ) -> NDArray[np.int32]:
        """Return the label image ``[*S]`` int32 of a cut of ``superpixels [*S]``; pixels at -1 stay -1. See `cut`."""
        regions = np.append(self.cut(n_regions, level), -1).astype(np.int32)
        return np.asarray(regions[np.maximum(superpixels, -1)])


def merge_in_order(n_leaves: int, pairs: NDArray[np.int32], costs: NDArray[Any], sizes: NDArray[Any]) -> MergeTree:
    """Build the tree of merges given as pairs of nodes: altitudes made monotone, nodes sorted by altitude."""
    altitudes = np.concatenate([np.zeros(n_leaves), costs])
    for s, (a, b) in enumerate(pairs.tolist()):
        # A merge can be cheaper than one that it contains (an inversion); its altitude is then that of the latter.
        altitudes[n_leaves + s] = max(altitudes[n_leaves + s], altitudes[a], altitudes[b])
    order = np.argsort(altitudes[n_leaves:], kind="stable")
    number = np.arange(len(altitudes), dtype=np.int32)
    number[n_leaves + order] = np.arange(n_leaves, len(altitudes))
    parents = np.arange(len(altitudes), dtype=np.int32)
    parents[number[pairs.ravel()]] = np.repeat(number[n_leaves:], 2)
    total = np.concatenate([sizes, np.zeros(len(pairs))])
    for s, (a, b) in enumerate(pairs.tolist()):
        total[n_leaves + s] = total[a] + total[b]
    ranked = np.argsort(number, kind="stable")
    return MergeTree(parents, altitudes[ranked], total[ranked])


def _join_parts(n_leaves: int, pairs: NDArray[np.int32], costs: NDArray[Any], made: int) -> None:
    """Join what no edge connects, one part after the other, at the largest cost so far."""
    whole = np.setdiff1d(np.arange(n_leaves + made), pairs[:made])
    costs[made:] = costs[:made].max(initial=0)
    for s, part in enumerate(whole[1:].tolist(), start=made):
        pairs[s] = (whole[0] if s == made else n_leaves + s - 1), part


def _check(graph: RegionGraph, means: NDArray[Any], sizes: NDArray[Any]) -> None:
    if graph.n_regions < 1:
        raise UsageError("graph", expected="at least one region", got="none", fix="check the mask")
    if means.ndim != 2 or len(means) != graph.n_regions or len(sizes) != graph.n_regions:
        raise UsageError(
            "graph",
            expected=f"{graph.n_regions} regions in all arguments",
            got=f"means {list(means.shape)}, {len(sizes)} sizes",
            fix="use one superpixel image",
        )


def merge(
    graph: RegionGraph,
    means: NDArray[Any] | None = None,
    sizes: NDArray[Any] | Sequence[float] | None = None,
    *,
    size_power: float = 1.0,
    feature_power: float = 1.0,
    strength_power: float = 0.0,
) -> MergeTree:
    """Merge the cheapest pair of neighbours until one region is left, with costs brought up to date after each merge.

    The cost of merging a and b, with N the sum of all sizes, is

        (n_a n_b / ((n_a + n_b) N)) ^ size_power  *  (|m_a - m_b|^2) ^ feature_power  *  g_ab ^ strength_power

    where m are mean features, and g is the mean boundary strength over all faces between the two regions. Since sizes
    count as shares of the image, one level means the same in images of any size. The default exponents are Ward's linkage (JASA 58,
    1963): each merge adds the least squared error, and the altitudes of a tree without inversions sum to the variance between leaves.

    Parameters
    ----------
    graph
        Neighbours. Parts that no edge connects are joined last, at the largest altitude.
    means
        ``[R C]`` mean features; needed unless `feature_power` is 0.
    sizes
        ``[R]`` weight of each region, positive; the graph's pixel counts if not given.
    size_power, feature_power, strength_power
        The exponents above, 0 or more.

    Raises
    ------
    UsageError
        If the arguments are of different lengths, or there is no region.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.graph import adjacency
    >>> from selfseg.regions.merge_tree import merge
    >>> graph = adjacency(np.array([[0, 1, 2]]))
    >>> tree = merge(graph, np.array([[0.0], [0.1], [5.0]]))
    >>> tree.labels(np.array([[0, 1, 2]]), n_regions=2)
    array([[0, 0, 1]], dtype=int32)
    """
    weights = np.asarray(graph.sizes if sizes is None else sizes, np.float64)
    features = np.zeros((graph.n_regions, 0)) if means is None else np.asarray(means, np.float64)
    _check(graph, features, weights)
    powers = np.array([size_power, feature_power, strength_power], np.float64)
    pairs, costs, made = _agglomerate(
        graph.edges, graph.length, graph.strength * graph.length, weights / max(weights.sum(), 1e-300), features, powers
    )
    _join_parts(graph.n_regions, pairs, costs, made)
    return merge_in_order(graph.n_regions, pairs, costs, weights)


def complete_graph(sizes: NDArray[Any] | Sequence[float]) -> RegionGraph:
    """Return the graph in which every pair of R regions of the given sizes is joined, with length and strength 1."""
    count = np.asarray(sizes)
    edges = np.stack(np.triu_indices(len(count), 1), -1).astype(np.int32)
    return RegionGraph(edges, np.ones(len(edges)), np.ones(len(edges)), count)


def _agglomerate(
    edges: NDArray[np.int32],
    lengths: NDArray[np.float64],
    totals: NDArray[np.float64],
    leaf_sizes: NDArray[np.float64],
    leaf_features: NDArray[np.float64],
    powers: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.float64], int]:
    """Merge along the cheapest edge until no edge is left; return the two nodes of each merge ``[R-1 2]``, its cost ``[R-1]``, which
    may fall from one merge to the next, and how many merges there are: fewer than R-1 if the graph is in several parts.

    Edges ``[E 2]``, lengths and totals ``[E]`` (strength summed over faces), ``[R]``, ``[R C]``, and the three exponents.
    """
    leaves, n_edges = len(leaf_sizes), len(edges)
    nodes = 2 * leaves - 1
    # Memory is made here: every kind of NumPy call inside a kernel adds to the time that it takes to compile.
    sizes, features = np.zeros(nodes), np.zeros((nodes, leaf_features.shape[1]))
    sizes[:leaves], features[:leaves] = leaf_sizes, leaf_features
    ends, length, total = np.array(edges, np.int64), np.array(lengths, np.float64), np.array(totals, np.float64)
    head, following, mark = np.full(nodes, -1), np.full(2 * n_edges, -1), np.full(nodes, -1)
    heap, place = np.zeros(n_edges, np.int64), np.zeros(n_edges, np.int64)
    pairs, costs, cost = np.zeros((leaves - 1, 2), np.int32), np.zeros(leaves - 1), np.zeros(n_edges)
    node = _merge_all(
        ends, length, total, cost, sizes, features, powers, head, following, mark, heap, place, pairs, costs
    )
    return pairs, costs, node - leaves


# The kernel of `merge`: a heap of edges and half-edge lists of neighbours. The heap holds every living edge once (at `place`),
# so that a changed cost moves its edge instead of leaving a stale copy behind: the heap never grows, and needs no clean-up.


@compiled(inner=True)
def _less(cost, a, b):
    return cost[a] < cost[b] or (cost[a] == cost[b] and a < b)


@compiled(inner=True)
def _settle(heap, place, cost, count, at):
    """Move the edge at heap position `at` up or down to where its cost belongs."""
    edge = heap[at]
    while at > 0 and _less(cost, edge, heap[(at - 1) // 2]):
        heap[at] = heap[(at - 1) // 2]
        place[heap[at]] = at
        at = (at - 1) // 2
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and _less(cost, heap[child + 1], heap[child]):
            child += 1
        if not _less(cost, heap[child], edge):
            break
        heap[at] = heap[child]
        place[heap[at]] = at
        at = child
    heap[at] = edge
    place[edge] = at


@compiled(inner=True)
def _remove(heap, place, cost, count, edge):
    """Take an edge out of the heap; return the new count."""
    at = place[edge]
    place[edge] = -1
    count -= 1
    if at < count:
        heap[at] = heap[count]
        place[heap[at]] = at
        _settle(heap, place, cost, count, at)
    return count


@compiled(inner=True)
def _cost(a, b, sizes, features, length, total, powers):
    """Cost of merging nodes a and b (see `merge_tree.merge`)."""
    value = (sizes[a] * sizes[b] / max(sizes[a] + sizes[b], 1e-300)) ** powers[0]
    if powers[1] > 0:
        gap = 0.0
        for c in range(features.shape[1]):
            gap += (features[a, c] - features[b, c]) ** 2
        value *= gap ** powers[1]
    if powers[2] > 0:
        value *= max(total / max(length, 1e-300), 0.0) ** powers[2]
    return value


@compiled(inner=True)
def _adopt(child, node, ends, head, following, mark, length, total, heap, place, cost, count):
    """Hand the living edges of `child` to `node`; one to a neighbour that `node` has already joins the older."""
    half = head[child]
    while half >= 0:
        after, edge = following[half], half // 2
        if place[edge] >= 0:
            other = ends[edge, 1 - half % 2]
            if mark[other] >= 0:
                kept = mark[other]
                length[kept] += length[edge]
                total[kept] += total[edge]
                count = _remove(heap, place, cost, count, edge)
            else:
                mark[other] = edge
                ends[edge, half % 2] = node
                following[half] = head[node]
                head[node] = half
        half = after
    return count


@compiled()
def _merge_all(ends, length, total, cost, sizes, features, powers, head, following, mark, heap, place, pairs, costs):
    """Fill `pairs` and `costs` until no edge is left; return the number of the first node that was not made."""
    for edge in range(len(ends)):
        for side in range(2):
            following[2 * edge + side] = head[ends[edge, side]]
            head[ends[edge, side]] = 2 * edge + side
        cost[edge] = _cost(ends[edge, 0], ends[edge, 1], sizes, features, length[edge], total[edge], powers)
        heap[edge] = edge
        _settle(heap, place, cost, edge + 1, edge)
    leaves = len(pairs) + 1
    count, node = len(ends), leaves
    while count > 0:
        edge = heap[0]
        a, b, row = ends[edge, 0], ends[edge, 1], node - leaves
        pairs[row, 0], pairs[row, 1], costs[row] = min(a, b), max(a, b), cost[edge]
        count = _remove(heap, place, cost, count, edge)
        sizes[node] = sizes[a] + sizes[b]
        for c in range(features.shape[1]):
            features[node, c] = (sizes[a] * features[a, c] + sizes[b] * features[b, c]) / max(sizes[node], 1e-300)
        for child in (a, b):
            count = _adopt(child, node, ends, head, following, mark, length, total, heap, place, cost, count)
        half = head[node]
        while half >= 0:
            kept, other = half // 2, ends[half // 2, 1 - half % 2]
            mark[other] = -1
            cost[kept] = _cost(node, other, sizes, features, length[kept], total[kept], powers)
            _settle(heap, place, cost, count, place[kept])
            half = following[half]
        node += 1
    return node
