"""Otsu with the right polarity for nuclei: the background is the side with most of the image's border; necks are cut."""

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

from selfseg.benchmark.baselines._base import Outcome, cut_objects, is_bright, n_wanted, read_pixels
from selfseg.core.image import Image

INSTANCES = True
"""Label 1 is the background; each label from 2 on is one object."""

SIGMA = 1.0
"""Smoothing, in pixels of the axis of finest spacing."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return the background as 1 and objects from 2 on. `n_classes` is ignored: the objects are counted, not chosen."""
    n_wanted(n_classes, 1)
    pixels = read_pixels(image)
    light = gaussian_filter(pixels.luminance, [SIGMA / unit for unit in pixels.spacing], mode="nearest")
    above = light > threshold_otsu(light[pixels.valid])
    return cut_objects(np.equal(above, is_bright(above, pixels.valid)), pixels)
