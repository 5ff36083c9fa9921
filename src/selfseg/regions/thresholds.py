"""Thresholds on grey values: those that separate K classes best, and the side of one on which objects lie."""

import numpy as np
from numpy.typing import NDArray

N_BINS = 256


def otsu_thresholds(values: NDArray[np.floating], n_classes: int = 2) -> NDArray[np.float64]:
    """Find the thresholds that make the variance between classes largest.

    That variance is a sum over classes of (sum of values)^2 / count, less a constant (Liao, Chen & Chung 2001, eq. 15), so the best last
    threshold goes with the best thresholds of what lies below it: dynamic programming over a histogram of 256 bins.

    Parameters
    ----------
    values
        ``[N]`` finite values, at least one.
    n_classes
        Classes, from 1 on. Values with fewer filled bins give fewer.

    Returns
    -------
    ndarray
        ``[K - 1]``, rising; a value above one belongs to a class after it (Otsu, IEEE Trans. SMC 9, 1979, for two classes).

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.thresholds import otsu_thresholds
    >>> otsu_thresholds(np.array([0.0, 0.1, 0.9, 1.0]))
    array([0.5])
    """
    low, span = float(values.min()), float(np.ptp(values))
    bins = np.clip(((values - low) / (span or 1.0) * N_BINS).astype(np.intp), 0, N_BINS - 1)
    counts, sums = np.bincount(bins), np.bincount(bins, values)
    used = counts > 0
    counts, means = counts[used], sums[used] / counts[used]
    starts = _best_starts(counts.astype(np.float64), means, min(n_classes, len(counts)))
    return np.array([(means[start - 1] + means[start]) / 2 for start in starts])


def _best_starts(counts: NDArray[np.float64], means: NDArray[np.float64], n_classes: int) -> list[int]:
    """Return the bin at which each class but the first begins."""
    n = len(counts)
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * means)])
    span = weight[None] - weight[:, None]
    gain = np.full((n + 1, n + 1), -np.inf)  # [start stop] of a class that holds the bins start..stop-1
    np.divide((moment[None] - moment[:, None]) ** 2, span, out=gain, where=span > 0)
    best, choices = gain[0], []
    for _ in range(n_classes - 1):
        totals = best[:, None] + gain
        choices.append(totals.argmax(0))
        best = totals.max(0)
    starts, stop = [], n
    for choice in reversed(choices):
        stop = int(choice[stop])
        starts.append(stop)
    return starts[::-1]
