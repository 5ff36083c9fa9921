"""Mean field of the fully connected CRF on a CPU (`refine.crf`): rounds of messages, normalised filters, and the Gaussian on a grid."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selfseg.core.machine import compiled, run_shared
from selfseg.core.powers import power_of_e
from selfseg.refine.lattice import Lattice, Values

BLOCK = 64
"""Rows of which the powers are taken together."""

TINY = 1e-30
"""Probabilities below it count as this: a class is unlikely, never impossible."""

REACH = 4.0
"""Where the filter is cut off, in standard deviations: what is left out is under 4e-4 of the kernel's height."""

STRIPE = 1024
"""Values of a row that are filtered together."""

NOTHING = np.float32(0)


@compiled()
def _scale(start, stop, values, factors, scaled):
    """Multiply the rows start..stop of ``[N K]`` by factors [N]."""
    n_channels = np.uint64(values.shape[1])
    for p in range(start, stop):
        factor, source, target = factors[p], values[p], scaled[p]
        for c in range(n_channels):
            target[c] = factor * source[c]


@compiled()
def _add_message(start, stop, filtered, scaled, gains, own, message):
    """Add ``gain (filtered - own * scaled)`` to message [N K]: what the others say, without the point itself."""
    n_channels = np.uint64(filtered.shape[1])
    for p in range(start, stop):
        gain, self_part = gains[p], own[p]
        for c in range(n_channels):
            message[p, c] += gain * (filtered[p, c] - self_part * scaled[p, c])


@compiled(fastmath={"nsz", "contract"})
def _update(start, stop, unary, message, beliefs):
    """Write ``softmax(unary + message)`` of the rows start..stop to beliefs [N K], and set message to 0."""
    n_channels = np.uint64(unary.shape[1])
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        for p in range(first, last):
            highest = np.float32(-np.inf)
            for c in range(n_channels):
                message[p, c] += unary[p, c]
                highest = max(highest, message[p, c])
            for c in range(n_channels):
                message[p, c] -= highest
        # Rows lie one after the other: one long run for all of a block.
        logits, powers = message[first:last].ravel(), beliefs[first:last].ravel()
        for i in range(np.uint64(len(logits))):
            powers[i] = power_of_e(logits[i])
            logits[i] = 0
        for p in range(first, last):
            total = np.float32(0)
            for c in range(n_channels):
                total += beliefs[p, c]
            share = 1 / total
            for c in range(n_channels):
                beliefs[p, c] *= share


class Normalised:
    """A kernel divided by the square roots of its row sums on both sides, without its diagonal, times the weight w."""

    def __init__(self, kernel: "Lattice | GridGaussian", weight: float) -> None:
        self.kernel = kernel
        own = kernel.diagonal()
        sums = np.empty((len(own), 1), np.float32)
        kernel.filter(np.ones_like(sums), sums)
        # A lattice loses a little where corners are missing: an isolated point receives its own message at most, which is subtracted.
        self.own = np.minimum(own, sums[:, 0])
        self.root = 1 / np.sqrt(sums[:, 0])
        self.gains = np.float32(weight) * self.root

    def add_message(self, beliefs: Values, message: Values, spare: tuple[Values, Values]) -> None:
        """Add ``m_u(l)`` to message [N K]; `spare` is two arrays of this shape to write to."""
        scaled, filtered = spare
        run_shared(_scale, len(beliefs), beliefs, self.root, scaled)
        self.kernel.filter(scaled, filtered)
        run_shared(_add_message, len(beliefs), filtered, scaled, self.gains, self.own, message)


def mean_field(probabilities: Values, kernels: Sequence[Normalised], iterations: int) -> Values:
    """Return the beliefs after some rounds, ``[N K]``; they begin as the probabilities ``[N K]``, and are updated all at once."""
    beliefs = np.array(probabilities, np.float32, order="C")
    unary = np.log(np.maximum(beliefs, np.float32(TINY)))
    message = np.zeros_like(beliefs)
    spare = np.empty_like(beliefs), np.empty_like(beliefs)
    for _ in range(iterations):
        for kernel in kernels:
            kernel.add_message(beliefs, message, spare)
        run_shared(_update, len(beliefs), unary, message, beliefs)
    return beliefs


@compiled()
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


@compiled()
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
        self.shape = tuple(shape)
        self.inside = inside
        self.taps = []
        for n, sigma in zip(shape, sigmas, strict=True):
            distance = np.arange(min(n, math.ceil(REACH * sigma) + 1))
            self.taps.append(np.exp(-0.5 * (distance / sigma) ** 2).astype(np.float32))
        self._spare: NDArray[np.float32] | None = None

    def diagonal(self) -> NDArray[np.float32]:
        """Return the kernel of each pixel with itself: 1, ``[N]``."""
        return np.ones(math.prod(self.shape) if self.inside is None else len(self.inside), np.float32)

    def filter(self, values: NDArray[np.float32], result: NDArray[np.float32]) -> None:
        """Filter ``values [N K]`` into ``result [N K]``, float32 and contiguous. Equal on any number of threads."""
        if self.inside is None:
            self._filter_grid(values, result)
            return
        grid = np.zeros((math.prod(self.shape), values.shape[1]), np.float32)
        grid[self.inside] = values
        filtered = np.empty_like(grid)
        self._filter_grid(grid, filtered)
        result[:] = filtered[self.inside]

    def _filter_grid(self, values: NDArray[np.float32], result: NDArray[np.float32]) -> None:
        n_channels = values.shape[1]
        if self._spare is None or self._spare.shape != values.shape:
            self._spare = np.empty_like(values)
        source = values
        for axis in reversed(range(len(self.shape))):
            target = self._spare if axis % 2 else result  # so that the last pass, axis 0, ends in `result`
            size, taps = self.shape[axis], self.taps[axis]
            before = math.prod(self.shape[:axis])
            if axis == len(self.shape) - 1:
                form = (before, size, n_channels)
                run_shared(_along_rows, before, source.reshape(form), taps, target.reshape(form))
            else:
                form = (before, size, math.prod(self.shape[axis + 1 :]) * n_channels)
                run_shared(_across_rows, before * size, source.reshape(form), taps, target.reshape(form))
            source = target
