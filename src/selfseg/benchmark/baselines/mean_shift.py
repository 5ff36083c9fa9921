"""Mean shift on the mean colour and place of superpixels (Comaniciu & Meer 2002)."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from selfseg.benchmark.baselines._base import Outcome, cut_outcome, n_wanted, read_pixels
from selfseg.core.image import Image
from selfseg.regions.graph import region_means

BANDWIDTHS = (0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.27)
"""Radii of the flat kernel, 1 = from black to white: the scales."""

DEFAULT = 0.15
"""Bandwidth of the one output, chosen on BSDS500 train with the weight of the place."""

PLACE_WEIGHT = 0.3
"""The longest side of the image counts as this share of the way from black to white."""

MOST_STEPS = 300

STILL = 1e-3
"""A mode has come to rest when its step is shorter than this share of the bandwidth."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return the modes' basins, dark to bright. `n_classes` is ignored: the bandwidth decides how many modes there are."""
    n_wanted(n_classes, 1)
    pixels = read_pixels(image)
    superpixels = pixels.superpixels()
    both = pixels.colour_and_place(PLACE_WEIGHT)
    means = region_means(superpixels, both)
    return cut_outcome(lambda radius: pixels.class_ids(mean_shift(means, radius)[superpixels]), DEFAULT, BANDWIDTHS)


def mean_shift(points: NDArray[np.float64], bandwidth: float) -> NDArray[np.intp]:
    """Return the mode ``[N]`` nearest to each of the points ``[N F]``, flat kernel, from every point as a start.

    scikit-learn's `MeanShift` gives the same; but it moves one start after the other, which takes fifty times as long.
    """
    modes, moving = points.copy(), np.ones(len(points), bool)
    within = np.ones(len(points), np.intp)
    for _ in range(MOST_STEPS):
        near = cdist(modes[moving], points) <= bandwidth
        within[moving] = near.sum(1)
        # Comaniciu & Meer, eq. 20: the mean over the window.
        means = near @ points / within[moving, None]
        step = np.linalg.norm(means - modes[moving], axis=1)
        modes[moving] = means
        moving[moving] = step > STILL * bandwidth
        if not moving.any():
            break
    kept: list[NDArray[np.float64]] = []
    # Of modes within one bandwidth the one with most points stays; equal ones in the order of their place.
    for i in np.lexsort((*modes.T[::-1], within))[::-1]:
        if not kept or np.linalg.norm(np.array(kept) - modes[i], axis=1).min() > bandwidth:
            kept.append(modes[i])
    return cdist(points, np.array(kept)).argmin(1)
