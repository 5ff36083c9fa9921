"""Tile transforms of the Winograd convolution F(4x4, 3x3), compiled for one number of channels.

The kernels close over plain numbers only, so that numba finds them again on disk. Two habits let the compiler use vector
instructions here: indices are unsigned, so that no index is checked for being
negative, and the number of channels is a constant of the compiled function, so that few overlaps of arrays need a check.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit

Kernel = Callable[..., None]
u = np.uint64
F2, F4, F5, F8 = (np.float32(value) for value in (2, 4, 5, 8))


@njit(inline="always")
def _input_columns(source: Any, base: Any, stride: Any, target: Any, at: Any, jump: Any, C: Any) -> None:
    """target[at + k*jump] = (B^T source)[k] for six rows of C values that are `stride` apart."""
    p1 = base + stride
    p2 = p1 + stride
    p3 = p2 + stride
    p4 = p3 + stride
    p5 = p4 + stride
    for c in range(C):
        d0, d1, d2 = source[base + c], source[p1 + c], source[p2 + c]
        d3, d4, d5 = source[p3 + c], source[p4 + c], source[p5 + c]
        e, f = d4 - F4 * d2, d3 - F4 * d1
        g, h = d4 - d2, F2 * (d3 - d1)
        target[at + c] = F4 * d0 - F5 * d2 + d4
        target[at + jump + c] = e + f
        target[at + u(2) * jump + c] = e - f
        target[at + u(3) * jump + c] = g + h
        target[at + u(4) * jump + c] = g - h
        target[at + u(5) * jump + c] = F4 * d1 - F5 * d3 + d5


@njit(inline="always")
def _gradient_columns(source: Any, base: Any, stride: Any, target: Any, at: Any, jump: Any, C: Any) -> None:
    """target[at + k*jump] = (A source)[k] for four rows of C values that are `stride` apart."""
    p1 = base + stride
    p2 = p1 + stride
    p3 = p2 + stride
    for c in range(C):
        g0, g1, g2, g3 = source[base + c], source[p1 + c], source[p2 + c], source[p3 + c]
        even, odd = g0 + g2, g1 + g3
        even2, odd2 = g0 + F4 * g2, F2 * g1 + F8 * g3
        target[at + c] = g0
        target[at + jump + c] = even + odd
        target[at + u(2) * jump + c] = even - odd
        target[at + u(3) * jump + c] = even2 + odd2
        target[at + u(4) * jump + c] = even2 - odd2
        target[at + u(5) * jump + c] = g3


@njit(inline="always")
def _output_columns(source: Any, base: Any, stride: Any, target: Any, at: Any, jump: Any, C: Any) -> None:
    """target[at + k*jump] = (A^T source)[k] for six rows of C values that are `stride` apart."""
    p1 = base + stride
    p2 = p1 + stride
    p3 = p2 + stride
    p4 = p3 + stride
    p5 = p4 + stride
    for c in range(C):
        m1, m2, m3, m4 = source[p1 + c], source[p2 + c], source[p3 + c], source[p4 + c]
        p, q, r, s = m1 + m2, m1 - m2, m3 + m4, m3 - m4
        target[at + c] = source[base + c] + p + r
        target[at + jump + c] = q + F2 * s
        target[at + u(2) * jump + c] = p + F4 * r
        target[at + u(3) * jump + c] = q + F8 * s + source[p5 + c]


@njit(inline="always")
def _copy(source: Any, base: Any, target: Any, at: Any, C: Any) -> None:
    for c in range(C):
        target[at + c] = source[base + c]


@njit(inline="always")
def _copy_plus(source: Any, base: Any, more: Any, target: Any, at: Any, C: Any) -> None:
    for c in range(C):
        target[at + c] = source[base + c] + more[c]


class Transforms(NamedTuple):
    """Kernels over a range of tile rows ``(start, stop, source, target, ...)`` on flat float32 arrays.

    Attributes
    ----------
    of_input
        ``B^T d B``: padded image ``[Hp Wp C]`` to tiles ``[36 T C]``; further arguments: tile rows, tile columns.
    to_output
        ``A^T m A``: tiles ``[36 T C]`` to image ``[H W C]``; further arguments: bias, H, W, tile columns, T.
    of_gradient
        ``A g A^T``: gradient ``[4 ty, 4 tx, C]`` (padded with zeros) to tiles ``[36 T C]``; as `of_input`.
    """

    of_input: Kernel
    to_output: Kernel
    of_gradient: Kernel


@lru_cache(maxsize=16)
def transforms(n_channels: int) -> Transforms:
    """Return the kernels for `n_channels`; compiled at their first call, then read from numba's cache on disk."""
    return Transforms(_input_kernel(n_channels), _output_kernel(n_channels), _gradient_kernel(n_channels))


def _input_kernel(n_channels: int) -> Kernel:
    C, ROW, TILE = u(n_channels), u(6 * n_channels), 36 * n_channels

    @njit(cache=True, nogil=True)
    def kernel(start: Any, stop: Any, image: Any, tiles: Any, n_columns: Any, n_tiles: Any) -> None:
        half, whole = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        width = u(4 * n_columns + 2) * C
        for row in range(start, stop):
            for column in range(n_columns):
                corner = u(4 * row) * width + u(4 * column) * C
                for s in range(6):
                    _input_columns(image, corner + u(s) * C, width, half, u(s) * C, ROW, C)
                for k in range(6):
                    _input_columns(half, u(k) * ROW, C, whole, u(k) * ROW, C, C)
                for k in range(36):
                    _copy(whole, u(k) * C, tiles, u(k * n_tiles + row * n_columns + column) * C, C)

    return kernel


def _gradient_kernel(n_channels: int) -> Kernel:
    C, ROW, TILE = u(n_channels), u(4 * n_channels), 36 * n_channels

    @njit(cache=True, nogil=True)
    def kernel(start: Any, stop: Any, image: Any, tiles: Any, n_columns: Any, n_tiles: Any) -> None:
        half, whole = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        width = u(4 * n_columns) * C
        for row in range(start, stop):
            for column in range(n_columns):
                corner = u(4 * row) * width + u(4 * column) * C
                for s in range(4):
                    _gradient_columns(image, corner + u(s) * C, width, half, u(s) * C, ROW, C)
                for k in range(6):
                    _gradient_columns(half, u(k) * ROW, C, whole, u(6 * k) * C, C, C)
                for k in range(36):
                    _copy(whole, u(k) * C, tiles, u(k * n_tiles + row * n_columns + column) * C, C)

    return kernel


def _output_kernel(n_channels: int) -> Kernel:
    C, ROW, TILE = u(n_channels), u(6 * n_channels), 36 * n_channels

    @njit(cache=True, nogil=True)
    def kernel(  # one place for what a tile needs, so that its parts stay in the cache
        start: Any, stop: Any, tiles: Any, image: Any, bias: Any, H: Any, W: Any, n_columns: Any, n_tiles: Any
    ) -> None:
        whole, half, done = np.empty(TILE, np.float32), np.empty(TILE, np.float32), np.empty(TILE, np.float32)
        for row in range(start, stop):
            for column in range(n_columns):
                for k in range(36):
                    _copy(tiles, u(k * n_tiles + row * n_columns + column) * C, whole, u(k) * C, C)
                for s in range(6):
                    _output_columns(whole, u(s) * C, ROW, half, u(s) * C, ROW, C)
                for i in range(4):
                    _output_columns(half, u(i) * ROW, C, done, u(4 * i) * C, C, C)
                for i in range(min(4, H - 4 * row)):
                    for j in range(min(4, W - 4 * column)):
                        at = u((4 * row + i) * W + 4 * column + j) * C
                        _copy_plus(done, u(4 * i + j) * C, bias, image, at, C)

    return kernel
