"""K-means on colour and position: Lab with the place of the pixel."""

import numpy as np
from numpy.typing import NDArray

from selfseg.benchmark.baselines._base import Outcome, cut_outcome, k_means, n_wanted, read_pixels
from selfseg.core.image import Image

CLASSES = (24, 16, 12, 8, 6, 4, 3, 2)
"""Numbers of clusters: the scales."""

DEFAULT = 4
"""Clusters of the one output: many enough for the Rand index, few enough for the covering, on BSDS500 train."""

PLACE_WEIGHT = 0.25
"""The longest side of the image counts as this share of the way from black to white."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return clusters, four by default, dark to bright."""
    pixels = read_pixels(image)
    wanted = n_wanted(n_classes, DEFAULT)
    both = pixels.colour_and_place(PLACE_WEIGHT)

    def cut(k: float) -> NDArray[np.int32]:
        groups = np.zeros(pixels.shape, np.int32)
        groups[pixels.valid] = k_means(both[pixels.valid], int(k), seed)[0]
        return pixels.class_ids(groups)

    return cut_outcome(cut, wanted, CLASSES)
