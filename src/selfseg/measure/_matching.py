"""Matching in a sparse bipartite graph."""

import numpy as np
from numpy.typing import NDArray

from selfseg.core.machine import compiled

Indices = NDArray[np.int64]


def largest_matching(first: Indices, second: Indices, n_first: int, n_second: int) -> Indices:
    """Return the partner of each first vertex, or -1, in a one-to-one matching with as many pairs as can be: ``[N]``.

    Parameters
    ----------
    first, second
        ``[E]`` the two ends of each edge, in order of preference: a greedy pass takes them in that order, and
        augmenting paths (Berge 1957) then add what it missed.
    n_first, n_second
        Number of vertices on each side.
    """
    # scipy's maximum_bipartite_matching is right but took minutes on some pairs of boundary maps.
    by_first = np.argsort(first, kind="stable")
    starts = np.zeros(n_first + 1, np.int64)
    np.cumsum(np.bincount(first, minlength=n_first), out=starts[1:])
    partner, owner = np.full(n_first, -1, np.int64), np.full(n_second, -1, np.int64)
    _greedy(first, second, partner, owner)
    _augment(starts, second[by_first], partner, owner)
    return partner


@compiled()
def _greedy(first: Indices, second: Indices, partner: Indices, owner: Indices) -> None:
    for e in range(first.shape[0]):
        i, j = first[e], second[e]
        if partner[i] < 0 and owner[j] < 0:
            partner[i], owner[j] = j, i


@compiled()
def _augment(starts: Indices, neighbours: Indices, partner: Indices, owner: Indices) -> None:
    seen = np.zeros(owner.shape[0], np.bool_)
    reached_from = np.empty(owner.shape[0], np.int64)
    queue, visited = np.empty(partner.shape[0], np.int64), np.empty(owner.shape[0], np.int64)
    for root in range(partner.shape[0]):
        if partner[root] >= 0:
            continue
        queue[0], head, tail, n_visited, free = root, 0, 1, 0, -1
        while head < tail and free < 0:
            i = queue[head]
            head += 1
            for e in range(starts[i], starts[i + 1]):
                j = neighbours[e]
                if seen[j]:
                    continue
                seen[j], reached_from[j], visited[n_visited] = True, i, j
                n_visited += 1
                if owner[j] < 0:
                    free = j
                    break
                queue[tail] = owner[j]
                tail += 1
        # A tree that met no free vertex never will (Hungarian tree): its vertices stay seen and are not searched again.
        if free >= 0:
            for k in range(n_visited):
                seen[visited[k]] = False
            while free >= 0:
                i = reached_from[free]
                partner[i], owner[free], free = free, i, partner[i]
