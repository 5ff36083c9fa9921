"""Means over superpixels and their way back, float32, for both memory layouts of a map. One pass over the pixels each.

A map ``[K N]`` lies in planes (all pixels of a channel together) or in rows (all channels of a pixel together). Planes are shared
among threads by channel, rows by region or by pixel: no two threads write to the same place, so that the result does not depend
on their number. Sums are in float64.
"""

from typing import Any

import numpy as np
from numba import njit

f32 = np.float32


@njit(nogil=True, cache=True)
def mean_planes(start: Any, stop: Any, values: Any, labels: Any, inverse: Any, out: Any) -> None:
    """Fill ``out [K R]`` for the channels start..stop of ``values [K N]``; `inverse` ``[R]`` is 1 / size."""
    total = np.empty(inverse.size)
    for k in range(start, stop):
        total[:] = 0
        for p in range(labels.size):
            if labels[p] >= 0:
                total[labels[p]] += values[k, p]
        for r in range(inverse.size):
            out[k, r] = f32(total[r] * inverse[r])


@njit(nogil=True, cache=True)
def mean_rows(start: Any, stop: Any, values: Any, order: Any, first: Any, inverse: Any, out: Any) -> None:
    """Fill ``out [R K]`` for the regions start..stop of ``values [N K]``; the pixels of r are ``order[first[r] : first[r + 1]]``."""
    n_channels = np.uint64(values.shape[1])
    total = np.empty(values.shape[1])
    for r in range(start, stop):
        total[:] = 0
        for i in range(first[r], first[r + 1]):
            row = values[order[i]]
            for k in range(n_channels):
                total[k] += row[k]
        for k in range(n_channels):
            out[r, k] = f32(total[k] * inverse[r])


@njit(nogil=True, cache=True)
def spread_planes(start: Any, stop: Any, values: Any, labels: Any, factors: Any, out: Any) -> None:
    """Fill the channels start..stop of ``out [K N]`` with ``values [K R]`` times `factors` ``[R]``; 0 outside."""
    scaled = np.empty(factors.size, np.float32)
    for k in range(start, stop):
        for r in range(factors.size):
            scaled[r] = values[k, r] * factors[r]
        for p in range(labels.size):
            out[k, p] = scaled[labels[p]] if labels[p] >= 0 else f32(0)


@njit(nogil=True, cache=True)
def spread_rows(start: Any, stop: Any, values: Any, labels: Any, factors: Any, out: Any) -> None:
    """Fill the pixels start..stop of ``out [N K]`` with ``values [R K]`` times `factors` ``[R]``; 0 outside."""
    n_channels = np.uint64(values.shape[1])
    for p in range(start, stop):
        row = out[p]
        if labels[p] < 0:
            row[:] = 0
            continue
        source, factor = values[labels[p]], factors[labels[p]]
        for k in range(n_channels):
            row[k] = source[k] * factor
