"""Batch normalisation over rows of channels, with the ReLU before it done on the way: five passes over memory in all.

The arrays are ``[N C]``, flat, float32. Sums are kept in float32 over `BLOCK` rows and in float64 over blocks.
"""

from typing import Any

import numpy as np
from numba import njit

BLOCK = 64


@njit(cache=True, nogil=True)
def sums(start: Any, stop: Any, x: Any, n_channels: Any, floor: Any) -> Any:
    """Return ``[2 C]`` float64: the sums of ``max(x, floor)`` and of its square over rows start..stop."""
    C = np.uint64(n_channels)
    total = np.zeros(2 * n_channels)
    one, two = np.zeros(n_channels, np.float32), np.zeros(n_channels, np.float32)
    for first in range(start, stop, BLOCK):
        one[:] = 0
        two[:] = 0
        for row in range(first, min(first + BLOCK, stop)):
            at = np.uint64(row) * C
            for c in range(C):
                value = max(x[at + c], floor)
                one[c] += value
                two[c] += value * value
        for c in range(C):
            total[c] += one[c]
            total[C + c] += two[c]
    return total


@njit(cache=True, nogil=True)
def scale_and_shift(start: Any, stop: Any, x: Any, y: Any, scale: Any, shift: Any, floor: Any) -> None:
    """``y = max(x, floor) * scale + shift`` over rows start..stop."""
    C = np.uint64(len(scale))
    for row in range(start, stop):
        at = np.uint64(row) * C
        for c in range(C):
            y[at + c] = max(x[at + c], floor) * scale[c] + shift[c]


@njit(cache=True, nogil=True)
def gradient_sums(start: Any, stop: Any, x: Any, g: Any, n_channels: Any, floor: Any) -> Any:
    """Return ``[2 C]`` float64: the sums of ``g`` and of ``g * max(x, floor)`` over rows start..stop."""
    C = np.uint64(n_channels)
    total = np.zeros(2 * n_channels)
    one, two = np.zeros(n_channels, np.float32), np.zeros(n_channels, np.float32)
    for first in range(start, stop, BLOCK):
        one[:] = 0
        two[:] = 0
        for row in range(first, min(first + BLOCK, stop)):
            at = np.uint64(row) * C
            for c in range(C):
                one[c] += g[at + c]
                two[c] += g[at + c] * max(x[at + c], floor)
        for c in range(C):
            total[c] += one[c]
            total[C + c] += two[c]
    return total


@njit(cache=True, nogil=True)
def input_gradient(start: Any, stop: Any, x: Any, g: Any, dx: Any, a: Any, b: Any, c0: Any, floor: Any) -> None:
    """``dx = a g + b x + c0`` where ``x > floor``, else 0, over rows start..stop."""
    C = np.uint64(len(a))
    for row in range(start, stop):
        at = np.uint64(row) * C
        for c in range(C):
            value = a[c] * g[at + c] + b[c] * x[at + c] + c0[c]
            dx[at + c] = value if x[at + c] > floor else np.float32(0)
