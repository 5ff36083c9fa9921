"""Cross entropy of the softmax of a map against given classes, and its gradient, float32, for both memory layouts.

A map lies in rows ``[N K]`` (all channels of a pixel together) or in planes ``[K N]``. Planes are taken in blocks of pixels that
stay in the cache. Pixels whose class is negative do not count, whatever they hold. The log-sum-exp of each pixel is kept for the
way back.
"""

from typing import Any

import numpy as np
from numba import njit

from selfseg.core.powers import power_of_e
from selfseg.losses._clustering_kernels import _exp_sum, _largest

f32 = np.float32
BLOCK = 512
"""Pixels of a block of planes."""


@njit(nogil=True, cache=True)
def forward_rows(start: Any, stop: Any, r: Any, target: Any, logsum: Any, n_classes: Any) -> Any:
    """Fill the log-sum-exp of the pixels start..stop of flat ``r [N K]``; return their summed cross entropy."""
    K, total = np.uint64(n_classes), 0.0
    for p in range(start, stop):
        if target[p] < 0:
            continue
        at = np.uint64(p) * K
        top = _largest(r, at, K)
        logsum[p] = top + np.log(_exp_sum(r, at, K, top))
        total += logsum[p] - r[at + np.uint64(target[p])]
    return total


@njit(nogil=True, cache=True)
def backward_rows(
    start: Any, stop: Any, r: Any, target: Any, logsum: Any, weight: Any, dr: Any, n_classes: Any
) -> None:
    """Fill ``dr [N K]`` of the pixels start..stop, of `weight` times the sum."""
    K = np.uint64(n_classes)
    for p in range(start, stop):
        at = np.uint64(p) * K
        if target[p] < 0:
            for k in range(K):
                dr[at + k] = 0
            continue
        shift = logsum[p]
        for k in range(K):
            dr[at + k] = weight * power_of_e(r[at + k] - shift)
        dr[at + np.uint64(target[p])] -= weight


@njit(nogil=True, cache=True)
def forward_planes(start: Any, stop: Any, r: Any, target: Any, logsum: Any) -> Any:
    """As `forward_rows`, for the blocks start..stop of ``r [K N]``."""
    top, total = np.empty(BLOCK, np.float32), 0.0
    sums = np.empty(BLOCK, np.float32)
    for block in range(start, stop):
        first, last = block * BLOCK, min((block + 1) * BLOCK, target.size)
        n = np.uint64(last - first)
        for i in range(n):
            top[i], sums[i] = -np.inf, 0
        for k in range(len(r)):
            row = r[k, first:last]
            for i in range(n):
                top[i] = max(top[i], row[i])
        for k in range(len(r)):
            row = r[k, first:last]
            for i in range(n):
                sums[i] += power_of_e(row[i] - top[i])
        for i in range(n):
            p = first + np.int64(i)
            if target[p] >= 0:
                logsum[p] = top[i] + np.log(sums[i])
                total += logsum[p] - r[target[p], p]
    return total


@njit(nogil=True, cache=True)
def backward_planes(start: Any, stop: Any, r: Any, target: Any, logsum: Any, weight: Any, dr: Any) -> None:
    """As `backward_rows`, for the blocks start..stop of ``dr [K N]``."""
    for block in range(start, stop):
        first, last = block * BLOCK, min((block + 1) * BLOCK, target.size)
        n = np.uint64(last - first)
        counted, shift = target[first:last], logsum[first:last]
        for k in range(len(r)):
            row, out = r[k, first:last], dr[k, first:last]
            for i in range(n):
                value = weight * power_of_e(row[i] - shift[i])
                out[i] = value if counted[i] >= 0 else f32(0)
        for i in range(n):
            if counted[i] >= 0:
                dr[counted[i], first + np.int64(i)] -= weight
