"""Bright outliers: pixels whose robust z-score is above 2.5, the fixed threshold for lesions in FLAIR."""

import numpy as np

from selfseg.benchmark.baselines._base import Outcome, n_wanted, read_pixels
from selfseg.core.image import Image

THRESHOLD = 2.5
"""Robust standard deviations above the median: 1.4826 median absolute deviations each."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return two classes, or one where no pixel is above the threshold; the requested number is ignored."""
    pixels = read_pixels(image)
    n_wanted(n_classes, 2)
    light = np.where(pixels.valid[..., None], image.channels_last(), 0).astype(np.float64).mean(-1)
    inside = light[pixels.valid]
    middle = np.median(inside)
    width = 1.4826 * np.median(np.abs(inside - middle))
    return Outcome(pixels.class_ids((light > middle + THRESHOLD * width).astype(np.int32)))
