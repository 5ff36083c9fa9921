"""The kernel of the merge tree: a heap of edges that knows where each edge stands, and half-edge lists of neighbours.

The heap holds every living edge once (`place` says where), so that a changed cost moves its edge instead of leaving a
stale copy behind: the heap never grows, and needs no clean-up.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _less(cost, a, b):
    return cost[a] < cost[b] or (cost[a] == cost[b] and a < b)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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


def agglomerate(
    edges: NDArray[np.int32],
    lengths: NDArray[np.float64],
    totals: NDArray[np.float64],
    leaf_sizes: NDArray[np.float64],
    leaf_features: NDArray[np.float64],
    powers: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.float64], int]:
    """Merge along the cheapest edge until no edge is left.

    Parameters
    ----------
    edges, lengths, totals
        ``[E 2]``, ``[E]`` faces of each edge, ``[E]`` strength summed over them.
    leaf_sizes, leaf_features
        ``[R]``, ``[R C]``.
    powers
        ``[3]`` exponents of size, feature distance and strength.

    Returns
    -------
    pairs, costs, made
        ``[R-1 2]`` int32, the two nodes of each merge; ``[R-1]`` its cost, which may fall from one merge to the next;
        and how many of these rows were filled: fewer than R-1 if the graph is in several parts.
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
