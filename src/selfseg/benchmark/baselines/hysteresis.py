"""Hysteresis for lesions in FLAIR: robust z-scores above 2 after smoothing by a voxel, in parts with a peak above 3.5."""

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.filters import apply_hysteresis_threshold

from selfseg.benchmark.baselines._base import Outcome, n_wanted, read_pixels
from selfseg.core.image import Image

SIGMA = 1.0
"""Smoothing over valid pixels, in pixels of the axis of finest spacing."""

LOW, HIGH = 2.0, 3.5
"""Robust standard deviations, 1.4826 median absolute deviations each, above the median."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return two classes, or one where no pixel is above `HIGH`; the requested number is ignored."""
    pixels = read_pixels(image)
    n_wanted(n_classes, 2)
    sigmas = [SIGMA / unit for unit in pixels.spacing]
    light = np.where(pixels.valid[..., None], image.channels_last(), 0).astype(np.float64).mean(-1)
    weight = gaussian_filter(pixels.valid.astype(np.float64), sigmas, mode="nearest")
    light = gaussian_filter(light, sigmas, mode="nearest") / np.maximum(weight, 1e-3)
    inside = light[pixels.valid]
    middle = np.median(inside)
    width = 1.4826 * np.median(np.abs(inside - middle))
    scores = np.where(pixels.valid, light - middle, -np.inf)
    return Outcome(pixels.class_ids(apply_hysteresis_threshold(scores, LOW * width, HIGH * width).astype(np.int32)))
