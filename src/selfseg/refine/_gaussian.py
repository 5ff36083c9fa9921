"""A Gaussian filter along the axes of a grid, channels last, with zeros beyond the border and no rescaling."""

import math
from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfseg.core.threads import run_shared

REACH = 4.0
"""Where the filter is cut off, in standard deviations: what is left out is under 4e-4 of the kernel's height."""

STRIPE = 1024
"""Values of a row that are filtered together."""

NOTHING = np.float32(0)


@njit(cache=True, nogil=True)
def _along_rows(start, stop, values, taps, result):
    """Filter ``[A W K]`` along W for some of A: the first axis of each row's neighbours is contiguous with its channels."""
    width, n_channels = values.shape[1], values.shape[2]
    for a in range(start, stop):
        source, target = values[a].ravel(), result[a].ravel()
        length = np.uint64(len(source))
        for i in range(length):
            target[i] = taps[0] * source[i]
        for t in range(1, min(len(taps), width)):
            tap, shift = taps[t], np.uint64(t * n_channels)
            last = length - shift
            for i in range(min(shift, last)):
                target[i] += tap * source[i + shift]
            for i in range(shift, last):
                target[i] += tap * (source[i + shift] + source[i - shift])
            for i in range(max(shift, last), length):
                target[i] += tap * source[i - shift]


@njit(cache=True, nogil=True)
def _across_rows(start, stop, values, taps, result):
    """Filter ``[A H L]`` along H for some of the A * H rows of L values, a stripe at a time so that it stays in the cache."""
    height, length = values.shape[1], values.shape[2]
    for left in range(0, length, STRIPE):
        right = min(length, left + STRIPE)
        width = np.uint64(right - left)
        for row in range(start, stop):
            a, y = row // height, row % height
            source, target = values[a, y][left:right], result[a, y][left:right]
            for i in range(width):
                target[i] = taps[0] * source[i]
            for t in range(1, len(taps)):
                # Beyond the border there is nothing: a row at the border stands in, with a weight of 0.
                up, down = (taps[t] if y >= t else NOTHING), (taps[t] if y + t < height else NOTHING)
                above, below = values[a, max(y - t, 0)][left:right], values[a, min(y + t, height - 1)][left:right]
                for i in range(width):
                    target[i] += up * above[i] + down * below[i]


class GridGaussian:
    """``exp(-|x_u - x_v|^2 / 2 sigma^2)`` over the pixels of a grid, one axis after the other.

    Parameters
    ----------
    shape
        ``*S``.
    sigmas
        Standard deviation along each axis, in pixels.
    inside
        Indices of the N pixels that take part, in row-major order; None = all.
    """

    def __init__(self, shape: Sequence[int], sigmas: Sequence[float], inside: NDArray[np.int64] | None = None) -> None:
        self._shape = tuple(shape)
        self._inside = inside
        self._taps = []
        for n, sigma in zip(shape, sigmas, strict=True):
            distance = np.arange(min(n, math.ceil(REACH * sigma) + 1))
            self._taps.append(np.exp(-0.5 * (distance / sigma) ** 2).astype(np.float32))
        self._spare: NDArray[np.float32] | None = None

    def diagonal(self) -> NDArray[np.float32]:
        """Return the kernel of each pixel with itself: 1, ``[N]``."""
        return np.ones(math.prod(self._shape) if self._inside is None else len(self._inside), np.float32)

    def filter(self, values: NDArray[np.float32], result: NDArray[np.float32]) -> None:
        """Filter ``values [N K]`` into ``result [N K]``, float32 and contiguous. Equal on any number of threads."""
        if self._inside is None:
            self._filter_grid(values, result)
            return
        grid = np.zeros((math.prod(self._shape), values.shape[1]), np.float32)
        grid[self._inside] = values
        filtered = np.empty_like(grid)
        self._filter_grid(grid, filtered)
        result[:] = filtered[self._inside]

    def _filter_grid(self, values: NDArray[np.float32], result: NDArray[np.float32]) -> None:
        n_channels = values.shape[1]
        if self._spare is None or self._spare.shape != values.shape:
            self._spare = np.empty_like(values)
        source = values
        for axis in reversed(range(len(self._shape))):
            target = self._spare if axis % 2 else result  # so that the last pass, axis 0, ends in `result`
            size, taps = self._shape[axis], self._taps[axis]
            before = math.prod(self._shape[:axis])
            if axis == len(self._shape) - 1:
                form = (before, size, n_channels)
                run_shared(_along_rows, before, source.reshape(form), taps, target.reshape(form))
            else:
                form = (before, size, math.prod(self._shape[axis + 1 :]) * n_channels)
                run_shared(_across_rows, before * size, source.reshape(form), taps, target.reshape(form))
            source = target
