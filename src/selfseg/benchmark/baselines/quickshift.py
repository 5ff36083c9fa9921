"""Quickshift: each pixel climbs to the nearest denser one (Vedaldi & Soatto 2008), at a quarter of the size."""

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import quickshift

from selfseg.benchmark.baselines._base import Outcome, cut_outcome, n_wanted, read_pixels, reduced
from selfseg.core.image import Image

N_PIXELS = 10_000
"""Largest number of pixels, about; larger images are reduced to it: a photo of 321 x 481 to a quarter of its sides."""

KERNEL = 10.0
"""Standard deviation of the density estimate, in pixels of the reduced image."""

COLOUR_WEIGHT = 1.0
"""Pixels that one unit of Lab counts as."""

REACHES = (4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0)
"""Longest steps to a denser pixel: the scales."""

DEFAULT = 15.0
"""Longest step of the one output, chosen on BSDS500 train with kernel and colour weight."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return trees of pixels of one plane. `n_classes` is ignored: the longest step decides how many trees there are."""
    n_wanted(n_classes, 1)
    pixels = read_pixels(image, planes_only=True)
    small, side = reduced(pixels, N_PIXELS)
    colour = small.lab
    # One tree of all steps; each scale leaves out the long ones.
    _, parents, steps = quickshift(
        colour, COLOUR_WEIGHT, KERNEL, max_dist=np.inf, return_tree=True, convert2lab=False, rng=seed
    )
    steps, parents = np.asarray(steps).ravel(), np.asarray(parents).ravel()

    def cut(reach: float) -> NDArray[np.int32]:
        top = np.where(steps > reach, np.arange(parents.size), parents)
        while not np.array_equal(top, higher := top[top]):
            top = higher
        return pixels.region_ids(pixels.enlarged(top.reshape(small.shape), side))

    return cut_outcome(cut, DEFAULT, REACHES)
