"""Otsu: thresholds on luminance that separate K classes best (Otsu 1979; Liao, Chen & Chung 2001 for K > 2)."""

import numpy as np
from numpy.typing import NDArray

from selfseg.benchmark.baselines._base import Outcome, cut_outcome, n_wanted, read_pixels
from selfseg.core.image import Image
from selfseg.regions.thresholds import otsu_thresholds

CLASSES = (8, 6, 5, 4, 3, 2)
"""Numbers of classes: the scales."""

DEFAULT = 2
"""Classes of the one output, as in Otsu (1979)."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return classes of luminance, two by default, dark to bright."""
    pixels = read_pixels(image)
    wanted, light = n_wanted(n_classes, DEFAULT), pixels.luminance[pixels.valid].astype(np.float64)

    def cut(k: float) -> NDArray[np.int32]:
        return pixels.class_ids(np.searchsorted(otsu_thresholds(light, int(k)), pixels.luminance))

    return cut_outcome(cut, wanted, CLASSES)
