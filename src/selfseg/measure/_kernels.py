"""Kernels of the measures: expected mutual information of two random partitions, and matching in a sparse bipartite graph."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfseg.core.threads import run_shared
from selfseg.measure._table import Floats, Table

Indices = NDArray[np.int64]

NEGLIGIBLE = 1e-20
"""Terms below this share of the largest are dropped: the sums do not change in double precision."""


def expected_mutual_information(table: Table) -> float:
    """Return the mean mutual information, in nats, over all pairs of partitions with these region sizes.

    Vinh, Epps & Bailey 2010, eq. 24a. The count that two regions of sizes a and b share is hypergeometric. With
    E[n] = ab/N, each pair gives (E[n ln n] - E[n] ln E[n]) / N, so only E[n ln n] is summed. The probabilities are
    built from the mode outwards by their ratio and divided by their sum: no factorials, and work of a few standard
    deviations only.
    """
    out = np.zeros(len(table.row_sums))
    logs = np.zeros(int(min(table.row_sums.max(), table.column_sums.max())) + 1)
    logs[1:] = np.log(np.arange(1, len(logs)))
    columns = table.column_sums.astype(np.float64)
    # Below this a second thread costs more than it saves. Each row writes its own sum, so the result is the same.
    parts = 1 if len(out) * len(columns) < 20_000 else None
    run_shared(
        _row_sums, len(out), table.row_sums.astype(np.float64), columns, float(table.total), logs, out, parts=parts
    )
    return float(out.sum()) / table.total


@njit(cache=True, nogil=True)
def _row_sums(start: int, stop: int, rows: Floats, columns: Floats, total: float, logs: Floats, out: Floats) -> None:
    for i in range(start, stop):
        a = rows[i]
        result = 0.0
        for j in range(columns.shape[0]):
            b = columns[j]
            mean = a * b / total
            low, high = max(0.0, a + b - total), min(a, b)
            mode = min(max(np.floor((a + 1.0) * (b + 1.0) / (total + 2.0)), low), high)
            weights, moment = 1.0, mode * logs[int(mode)]
            p, n = 1.0, mode
            while n < high and p > NEGLIGIBLE:
                p *= (a - n) * (b - n) / ((n + 1.0) * (total - a - b + n + 1.0))
                n += 1.0
                weights += p
                moment += p * n * logs[int(n)]
            p, n = 1.0, mode
            while n > low and p > NEGLIGIBLE:
                p *= n * (total - a - b + n) / ((a - n + 1.0) * (b - n + 1.0))
                n -= 1.0
                weights += p
                moment += p * n * logs[int(n)]
            result += moment / weights - mean * np.log(mean)
        out[i] = result


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


@njit(cache=True, nogil=True)
def _greedy(first: Indices, second: Indices, partner: Indices, owner: Indices) -> None:
    for e in range(first.shape[0]):
        i, j = first[e], second[e]
        if partner[i] < 0 and owner[j] < 0:
            partner[i], owner[j] = j, i


@njit(cache=True, nogil=True)
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
