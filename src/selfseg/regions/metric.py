"""A metric learned without labels: Fisher's discriminant directions, with the regions of a segmentation as classes.

Fisher, Annals of Eugenics 7, 1936, in the form for many classes (Rao, JRSS B 10, 1948): directions v that maximise the scatter between
regions over the scatter within them,

    S_b v = lambda S_w v

Regions of one image are compared with each other only, so that light and weather of a whole image do not count. Within a region, the
means of square cells are compared: pixels differ by noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse import coo_array

CELL, LEAST = 4, 3
"""Side of a cell in samples, and samples of one region in a cell, at least, for it to count."""

RIDGE = 0.02
"""Share of the mean variance that is added to the scatter within regions, in every direction."""


@dataclass(frozen=True)
class Scatter:
    """Sums over regions, which may be added up over images."""

    weight: float
    """Samples that counted."""
    total: NDArray[np.float64]
    """``[D]`` sum of the features."""
    squares: NDArray[np.float64]
    """``[D]`` sum of their squares."""
    within: NDArray[np.float64]
    """``[D D]`` scatter of cells around the mean of their region."""
    between: NDArray[np.float64]
    """``[D D]`` scatter of regions around the mean of their image."""


def scatter(labels: NDArray[np.integer], features: NDArray[np.floating]) -> Scatter:
    """Return the sums of one image: ``labels [h w]``, negative = in no region, and ``features [h w D]``."""
    height, width = labels.shape
    rows, columns = np.mgrid[:height, :width] // CELL
    inside = labels.ravel() >= 0
    pairs = labels.ravel()[inside].astype(np.int64) * (height * width) + (rows * width + columns).ravel()[inside]
    cells, place, count = np.unique(pairs, return_inverse=True, return_counts=True)
    flat = features.reshape(height * width, -1)[inside].astype(np.float64)
    means = _sums(place, np.ones(len(place)), flat, len(cells)) / count[:, None]
    enough = count >= LEAST
    values, weights = means[enough], count[enough].astype(np.float64)
    _, region = np.unique(cells[enough] // (height * width), return_inverse=True)
    n = int(region.max(initial=-1)) + 1
    of_region = _sums(region, weights, values, n) / np.bincount(region, weights, n)[:, None]
    apart = values - of_region[region]
    mean = weights @ values / max(weights.sum(), 1e-300)
    away = of_region[region] - mean
    return Scatter(
        float(weights.sum()),
        weights @ values,
        weights @ values**2,
        (apart * weights[:, None]).T @ apart,
        (away * weights[:, None]).T @ away,
    )


def _sums(
    group: NDArray[np.intp], weights: NDArray[np.float64], values: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Return the weighted sums ``[n D]`` of values ``[N D]`` over groups ``[N]``."""
    return np.asarray(coo_array((weights, (group, np.arange(len(group)))), shape=(n, len(group))).tocsr() @ values)


def discriminant_directions(sums: Scatter, n_directions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean ``[D]`` and the first directions ``[D n]``: ``(x - mean) @ directions`` has scatter 1 within regions.

    Where there are fewer features than directions, all of them come, and zeros after them.
    """
    n_features = len(sums.total)
    mean = sums.total / max(sums.weight, 1e-300)
    deviation = np.sqrt(np.maximum(sums.squares / max(sums.weight, 1e-300) - mean**2, 0)) + 1e-8
    unit = np.outer(deviation, deviation) * max(sums.weight, 1e-300)
    within, between = sums.within / unit, sums.between / unit
    ridge = RIDGE * max(np.trace(within) / n_features, 1e-8)
    values, vectors = eigh(between, within + ridge * np.eye(n_features))
    first = np.argsort(-values, kind="stable")[:n_directions]
    directions = np.zeros((n_features, n_directions))
    directions[:, : len(first)] = vectors[:, first] / deviation[:, None]
    return mean, directions
