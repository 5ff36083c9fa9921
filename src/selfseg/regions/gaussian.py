"""Gaussian smoothing of images: the values of `scipy.ndimage.gaussian_filter`, bit by bit, in a third to a half of its time.

Sums run in the same order and in double precision; but for all pixels of a row at once, so that they fill the registers of the processor.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from selfseg.core.machine import compiled


def smoothed(image: NDArray[np.float32], sigma: float, truncate: float = 4.0) -> NDArray[np.float32]:
    """Return an image ``[*S]`` under a Gaussian of `sigma` pixels, mirrored at its border (``c b a | a b c``).

    Parameters
    ----------
    image
        ``[Y X]`` float32; anything else is left to SciPy.
    truncate
        Where the Gaussian ends, in standard deviations.
    """
    if image.ndim != 2 or image.dtype != np.float32 or not image.size:
        return np.asarray(ndimage.gaussian_filter(image, sigma, truncate=truncate))
    reach = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-reach, reach + 1) ** 2)
    weights = (weights / weights.sum())[reach:].copy()
    image, half, result = (
        np.ascontiguousarray(image),
        np.empty(image.shape, np.float32),
        np.empty(image.shape, np.float32),
    )
    _down(image, weights, half)
    _right(half, weights, result)
    return result


@compiled()
def _mirrored(place, length):
    """Return the pixel that stands at a place before or behind a line of pixels."""
    place %= 2 * length
    return place if place < length else 2 * length - 1 - place


@compiled()
def _down(image, weights, result):
    """Write the sums ``sum_j w_j (a_{i-j} + a_{i+j})`` along the first axis of ``[Y X]``, from the farthest pair to the nearest."""
    height, width = image.shape
    total = np.empty(width)
    for y in range(height):
        for x in range(width):
            total[x] = image[y, x] * weights[0]
        for j in range(len(weights) - 1, 0, -1):
            before, after, weight = image[_mirrored(y - j, height)], image[_mirrored(y + j, height)], weights[j]
            for x in range(width):
                total[x] += (np.float64(before[x]) + np.float64(after[x])) * weight
        for x in range(width):
            result[y, x] = total[x]


@compiled()
def _right(image, weights, result):
    """Write the same sums along the second axis."""
    height, width = image.shape
    reach = len(weights) - 1
    total, line = np.empty(width), np.empty(width + 2 * reach)
    for y in range(height):
        for x in range(width):
            line[reach + x] = image[y, x]
        for j in range(reach):
            line[j] = image[y, _mirrored(j - reach, width)]
            line[reach + width + j] = image[y, _mirrored(width + j, width)]
        for x in range(width):
            total[x] = line[reach + x] * weights[0]
        for j in range(reach, 0, -1):
            before, after, weight = line[reach - j : reach - j + width], line[reach + j :], weights[j]
            for x in range(width):
                total[x] += (before[x] + after[x]) * weight
        for x in range(width):
            result[y, x] = total[x]
