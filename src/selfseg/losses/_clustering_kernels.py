"""Similarity and continuity of a response ``[B Y X K]`` (flat, float32) in one pass, and their gradient in another.

Work is shared by rows of pixels, numbered over the batch. Unsigned indices and sums kept by channel let the compiler use
vector instructions.
"""

from typing import Any

import numpy as np
from numba import njit

from selfseg.core.powers import power_of_e

f32 = np.float32


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def _largest(r: Any, at: Any, K: Any) -> Any:
    best = r[at]
    for k in range(K):
        best = max(best, r[at + k])
    return best


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz"})
def _exp_sum(r: Any, at: Any, K: Any, top: Any) -> Any:
    total = f32(0)
    for k in range(K):
        total += power_of_e(r[at + k] - top)
    return total


@njit(nogil=True, cache=True)
def forward(start: Any, stop: Any, r: Any, labels: Any, logsum: Any, Y: Any, X: Any, n_clusters: Any) -> Any:
    """Fill labels and log-sum-exp ``[B Y X]`` of rows start..stop; return the sums of (CE, |dy|, |dx|) as float64."""
    K, line = np.uint64(n_clusters), np.uint64(X * n_clusters)
    down, right = np.zeros(n_clusters, np.float32), np.zeros(n_clusters, np.float32)
    sums = np.zeros(3)
    for row in range(start, stop):
        inner = row % Y < Y - 1
        down[:] = 0
        right[:] = 0
        for column in range(X):
            pixel = row * X + column
            at = np.uint64(pixel) * K
            top = _largest(r, at, K)
            label = 0
            while label < n_clusters - 1 and r[at + np.uint64(label)] != top:
                label += 1
            labels[pixel] = label
            logsum[pixel] = top + np.log(_exp_sum(r, at, K, top))
            sums[0] += logsum[pixel] - top
            if inner:
                for k in range(K):
                    down[k] += abs(r[at + line + k] - r[at + k])
            if column < X - 1:
                for k in range(K):
                    right[k] += abs(r[at + K + k] - r[at + k])
        for k in range(K):
            sums[1] += down[k]
            sums[2] += right[k]
    return sums


@njit(inline="always")
def _pull(r: Any, at: Any, neighbour: Any, dr: Any, weight: Any, K: Any) -> None:
    """Add ``weight * sign(r[at] - r[neighbour])`` for all clusters."""
    for k in range(K):
        here, there = r[at + k], r[neighbour + k]
        dr[at + k] += weight * (f32(here > there) - f32(here < there))


@njit(nogil=True, cache=True)
def backward(
    start: Any, stop: Any, r: Any, labels: Any, logsum: Any, weights: Any, dr: Any, Y: Any, X: Any, n_clusters: Any
) -> None:
    """``dr`` of rows start..stop, of ``w0 sum CE + w1 sum |dy| + w2 sum |dx|``."""
    K, line = np.uint64(n_clusters), np.uint64(X * n_clusters)
    w0, w1, w2 = weights[0], weights[1], weights[2]
    for row in range(start, stop):
        for column in range(X):
            pixel = row * X + column
            at = np.uint64(pixel) * K
            shift = logsum[pixel]
            for k in range(K):
                dr[at + k] = w0 * power_of_e(r[at + k] - shift)
            dr[at + np.uint64(labels[pixel])] -= w0
            if row % Y > 0:
                _pull(r, at, at - line, dr, w1, K)
            if row % Y < Y - 1:
                _pull(r, at, at + line, dr, w1, K)
            if column > 0:
                _pull(r, at, at - K, dr, w2, K)
            if column < X - 1:
                _pull(r, at, at + K, dr, w2, K)
