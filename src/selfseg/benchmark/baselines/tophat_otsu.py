"""Top-hat + Otsu for nuclei: Otsu of the height above surroundings of 51 pixels, on the side that Otsu of the image finds."""

import numpy as np
from scipy.ndimage import black_tophat, gaussian_filter, white_tophat
from skimage.filters import threshold_otsu

from selfseg.benchmark.baselines._base import Outcome, cut_objects, is_bright, n_wanted, read_pixels
from selfseg.core.image import Image

INSTANCES = True
"""Label 1 is the background; each label from 2 on is one object."""

SIGMA = 1.0
"""Smoothing, in pixels of the axis of finest spacing."""

SIZE = 51
"""Side of the box that objects must not fit around, in pixels of the axis of finest spacing."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return the background as 1 and objects from 2 on. `n_classes` is ignored: the objects are counted, not chosen."""
    n_wanted(n_classes, 1)
    pixels = read_pixels(image)
    light = gaussian_filter(pixels.luminance, [SIGMA / unit for unit in pixels.spacing], mode="nearest")
    bright = is_bright(light > threshold_otsu(light[pixels.valid]), pixels.valid)
    sizes = tuple(2 * int(SIZE / unit / 2) + 1 for unit in pixels.spacing)
    height = (white_tophat if bright else black_tophat)(light, sizes, mode="nearest")
    inside = height[pixels.valid]
    found = height > threshold_otsu(inside) if np.ptp(inside) else np.zeros(height.shape, np.bool_)
    return cut_objects(found, pixels)
