"""One pass over rows on a CPU: nearest centre, squared distance, and the sums of each cluster, block by block."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfseg.core.threads import run_shared

BLOCK = 1 << 14
"""Rows that are summed together. Blocks do not depend on the number of threads, so neither do the sums."""


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _blocks(
    first: Any, last: Any, rows: Any, weights: Any, centres: Any, labels: Any, distances: Any, sums: Any, mass: Any
) -> None:
    """Do blocks first..last: fill ``labels [N]`` and ``distances [N]``, add up ``sums [blocks K F]`` and ``mass [blocks K]``."""
    K, F = np.uint64(centres.shape[0]), np.uint64(centres.shape[1])
    zero: Any = np.uint64(0)
    for block in range(first, last):
        for i in range(block * BLOCK, min(len(rows), (block + 1) * BLOCK)):
            best, nearest = np.float32(np.inf), zero
            for k in range(K):
                total = np.float32(0)
                for f in range(F):
                    away = rows[i, f] - centres[k, f]
                    total += away * away
                if total < best:
                    best, nearest = total, k
            labels[i], distances[i] = nearest, best
            weight = weights[i] if len(weights) else np.float32(1)
            for f in range(F):
                sums[block, nearest, f] += weight * rows[i, f]
            mass[block, nearest] += weight


def pass_over(
    rows: NDArray[np.float32], weights: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return labels ``[N]``, squared distances ``[N]``, sums ``[K F]`` and mass ``[K]`` of rows ``[N F]``; no weights = 1."""
    n_blocks = max(1, -(-len(rows) // BLOCK))
    labels, distances = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.float32)
    sums, mass = np.zeros((n_blocks, *centres.shape)), np.zeros((n_blocks, len(centres)))
    run_shared(_blocks, n_blocks, rows, weights, centres, labels, distances, sums, mass)
    return labels, distances, sums.sum(0), mass.sum(0)
