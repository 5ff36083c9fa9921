"""Felzenszwalb: a graph of pixels, cut where a boundary is strong for what it bounds (Felzenszwalb & Huttenlocher 2004)."""

import warnings

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from selfseg.benchmark.baselines._base import Outcome, Pixels, cut_outcome, n_wanted, read_pixels
from selfseg.core.image import Image

SIGMA = 0.8
"""Smoothing beforehand, in pixels: the paper's."""

SETTINGS = ((100, 50), (300, 50), (500, 50), (300, 500), (500, 500), (700, 2000), (2000, 2000))
"""Pairs of the paper's k and the least size of a region, in pixels: the scales, whose level is the place in this list."""

DEFAULT = 2
"""Level of the one output: k = 500 with regions of at least 50 pixels, as Kim et al. (2020) compare with."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return regions of one plane. `n_classes` is ignored: the number of regions follows from the two settings."""
    n_wanted(n_classes, 1)
    pixels = read_pixels(image, planes_only=True)
    return cut_outcome(lambda level: _cut(pixels, *SETTINGS[int(level)]), DEFAULT, range(len(SETTINGS)))


def _cut(pixels: Pixels, scale: float, least: int) -> NDArray[np.int32]:
    with warnings.catch_warnings():
        # scikit-image asks whether more than three channels are meant as such: they are.
        warnings.simplefilter("ignore", RuntimeWarning)
        return pixels.region_ids(felzenszwalb(pixels.values, scale, SIGMA, least, channel_axis=-1))
