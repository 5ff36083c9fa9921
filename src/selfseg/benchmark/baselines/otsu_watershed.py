"""Otsu + watershed for nuclei: the rarer side of the threshold, split by a watershed of its distance transform."""

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from selfseg.benchmark.baselines._base import SMALLEST, Outcome, n_wanted, read_pixels
from selfseg.core.image import Image

INSTANCES = True
"""Label 1 is the background; each label from 2 on is one object."""

SIGMA = 1.0
"""Smoothing of the luminance and of the distances, in pixels."""

APART = 5
"""Least distance of two peaks, in pixels."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return the background as 1 and objects from 2 on. `n_classes` is ignored: the objects are counted, not chosen."""
    n_wanted(n_classes, 1)
    pixels = read_pixels(image)
    sigmas = [SIGMA / unit for unit in pixels.spacing]
    light = gaussian_filter(pixels.luminance, sigmas, mode="nearest")
    bright = light > threshold_otsu(light[pixels.valid])
    objects = bright if bright[pixels.valid].mean() <= 0.5 else ~bright
    objects &= pixels.valid
    if not objects.any():
        return Outcome(np.where(pixels.valid, 1, 0))
    depth = gaussian_filter(distance_transform_edt(objects, pixels.spacing), sigmas)
    peaks = peak_local_max(depth, min_distance=APART, labels=objects.astype(np.int32), exclude_border=False)
    markers = np.zeros(pixels.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    parts = watershed(-depth, markers, mask=objects)
    parts[np.bincount(parts.ravel())[parts] < SMALLEST] = 0
    _, numbers = np.unique(np.append(0, parts), return_inverse=True)
    return Outcome(np.where(pixels.valid, numbers[1:].reshape(pixels.shape) + 1, 0))
