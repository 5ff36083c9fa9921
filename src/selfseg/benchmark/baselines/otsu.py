"""Otsu: thresholds on luminance that separate K classes best (Otsu 1979; Liao, Chen & Chung 2001 for K > 2)."""

import numpy as np
from numpy.typing import NDArray

from selfseg.benchmark.baselines._base import Outcome, Pixels, cut_outcome, n_wanted, read_pixels
from selfseg.core.image import Image

CLASSES = (8, 6, 5, 4, 3, 2)
"""Numbers of classes: the scales."""

DEFAULT = 2
"""Classes of the one output, as in Otsu (1979)."""

N_BINS = 256


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return classes of luminance, two by default, dark to bright."""
    pixels = read_pixels(image)
    wanted = n_wanted(n_classes, DEFAULT)
    bins, counts, values = _histogram(pixels)
    return cut_outcome(lambda k: pixels.class_ids(_classes(counts, values, int(k))[bins]), wanted, CLASSES)


def _histogram(pixels: Pixels) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return the bin of each pixel ``[*S]``, and of the bins in use the number of pixels and their mean luminance ``[N]``."""
    light = pixels.luminance[pixels.valid]
    low, span = float(light.min()), float(light.max() - light.min())
    share = (pixels.luminance - low) / (span or 1.0)
    bins = np.clip((share * N_BINS).astype(np.intp), 0, N_BINS - 1)
    counts, sums = np.bincount(bins[pixels.valid]), np.bincount(bins[pixels.valid], light)
    used = counts > 0
    number = np.cumsum(used) - 1
    return number[bins.clip(max=len(used) - 1)], counts[used].astype(np.float64), sums[used] / counts[used]


def _classes(counts: NDArray[np.float64], values: NDArray[np.float64], n_classes: int) -> NDArray[np.int32]:
    """Return the class of each bin ``[N]`` that makes the variance between classes largest.

    That variance is a sum over classes of (sum of values)^2 / count, less a constant (Liao et al., eq. 15), so the best
    last threshold goes with the best thresholds of what lies below it: dynamic programming instead of their search.
    """
    n = len(counts)
    n_classes = min(n_classes, n)
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * values)])
    span = weight[None] - weight[:, None]
    gain = np.full((n + 1, n + 1), -np.inf)  # [start stop] of a class that holds the bins start..stop-1
    np.divide((moment[None] - moment[:, None]) ** 2, span, out=gain, where=span > 0)
    best, starts = gain[0], []
    for _ in range(n_classes - 1):
        totals = best[:, None] + gain
        starts.append(totals.argmax(0))
        best = totals.max(0)
    classes, stop = np.zeros(n, np.int32), n
    for k in range(n_classes - 1, 0, -1):
        start = int(starts[k - 1][stop])
        classes[start:stop] = k
        stop = start
    return classes
