"""Mean field of a fully connected CRF with Potts labels, over points whose kernels somebody else filters with.

With a kernel k, its row sums ``n_u = sum_v k_uv`` and a weight w, the message to point u for class l is

    m_u(l) = w sum_{v != u} k_uv Q_v(l) / sqrt(n_u n_v)

and all points are updated at once, ``Q_u(l) ~ p_u(l) exp(sum over kernels of m_u(l))``: algorithm 1 of Kraehenbuehl & Koltun,
"Efficient inference in fully connected CRFs with Gaussian edge potentials", NIPS 2011, with Potts compatibility, whose common
term falls out of the softmax. The division by the row sums is not in the paper, but in its authors' program; so a weight
means the same whatever the sigmas and the size of the image.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfseg.core.powers import power_of_e
from selfseg.core.threads import run_shared

BLOCK = 64
"""Rows of which the powers are taken together."""

TINY = 1e-30
"""Probabilities below it count as this: a class is unlikely, never impossible."""

Values = NDArray[np.float32]


class Filter(Protocol):
    """A symmetric kernel with entries of 0 or more: ``filter(values [N K], result [N K])``, and its diagonal."""

    def filter(self, values: Values, result: Values) -> None:
        """Write ``sum_v k_uv values_v`` to result."""

    def diagonal(self) -> Values:
        """Return ``k_uu`` for all points ``[N]``."""


@njit(cache=True, nogil=True)
def _scale(start, stop, values, factors, scaled):
    """Multiply the rows start..stop of ``[N K]`` by factors [N]."""
    n_channels = np.uint64(values.shape[1])
    for p in range(start, stop):
        factor, source, target = factors[p], values[p], scaled[p]
        for c in range(n_channels):
            target[c] = factor * source[c]


@njit(cache=True, nogil=True)
def _add_message(start, stop, filtered, scaled, gains, own, message):
    """Add ``gain (filtered - own * scaled)`` to message [N K]: what the others say, without the point itself."""
    n_channels = np.uint64(filtered.shape[1])
    for p in range(start, stop):
        gain, self_part = gains[p], own[p]
        for c in range(n_channels):
            message[p, c] += gain * (filtered[p, c] - self_part * scaled[p, c])


@njit(cache=True, nogil=True, fastmath={"nsz", "contract"})
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
    """A kernel divided by the square roots of its row sums on both sides, without its diagonal, times a weight.

    Parameters
    ----------
    kernel
        The kernel.
    weight
        w.
    """

    def __init__(self, kernel: Filter, weight: float) -> None:
        self._kernel = kernel
        own = kernel.diagonal()
        sums = np.empty((len(own), 1), np.float32)
        kernel.filter(np.ones_like(sums), sums)
        # A lattice loses a little where corners are missing: a lonely point hears itself at most, and that is taken off.
        self._own = np.minimum(own, sums[:, 0])
        self._root = 1 / np.sqrt(sums[:, 0])
        self._gains = np.float32(weight) * self._root

    def add_message(self, beliefs: Values, message: Values, spare: tuple[Values, Values]) -> None:
        """Add ``m_u(l)`` to message [N K]; `spare` is two arrays of this shape to write to."""
        scaled, filtered = spare
        run_shared(_scale, len(beliefs), beliefs, self._root, scaled)
        self._kernel.filter(scaled, filtered)
        run_shared(_add_message, len(beliefs), filtered, scaled, self._gains, self._own, message)


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
