"""Spectral normalised cut of a graph of superpixels (Shi & Malik 2000), k-means on the eigenvectors."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from selfseg.benchmark.baselines._base import Outcome, cut_outcome, k_means, n_wanted, read_pixels
from selfseg.core.image import Image
from selfseg.regions.graph import region_means

CLASSES = (24, 16, 12, 8, 6, 4, 3, 2)
"""Numbers of segments: the scales."""

DEFAULT = 6
"""Segments of the one output, chosen on BSDS500 train; so were the two sigmas."""

SIGMA_COLOUR = 0.07
"""sigma_I of the paper, 1 = from black to white."""

SIGMA_PLACE = 0.2
"""sigma_X of the paper, in units of the longest side."""

RADIUS = 0.25
"""r of the paper, in units of the longest side."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return segments, six by default, dark to bright."""
    pixels = read_pixels(image)
    wanted = n_wanted(n_classes, DEFAULT)
    superpixels = pixels.superpixels()
    means = region_means(superpixels, pixels.colour_and_place())
    n_dims = len(pixels.shape)
    vectors = eigenvectors(affinity(means[:, :-n_dims], means[:, -n_dims:]), max(*CLASSES, wanted))

    def cut(k: float) -> NDArray[np.int32]:
        rows = vectors[:, : min(int(k), vectors.shape[1])]
        # Rows of length 1 (Ng, Jordan & Weiss 2001): k-means then sees directions and not how well linked a node is.
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return pixels.class_ids(k_means(rows, int(k), seed)[0][superpixels])

    return cut_outcome(cut, wanted, CLASSES)


def affinity(colours: NDArray[np.floating], places: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return w_ij of Shi & Malik, eq. 11: ``[R R]``, from colours ``[R C]`` and places ``[R D]``."""
    apart = cdist(places, places)
    squares = (cdist(colours, colours) / SIGMA_COLOUR) ** 2 + (apart / SIGMA_PLACE) ** 2
    return np.where(apart < RADIUS, np.exp(-squares), 0.0)


def eigenvectors(weights: NDArray[np.float64], n_vectors: int) -> NDArray[np.float64]:
    """Return the solutions y of (D - W) y = lambda D y for the smallest lambda, ascending: ``[R n]`` (eq. 6)."""
    n = len(weights)
    root = np.sqrt(weights.sum(1))
    symmetric = weights / root / root[:, None]
    # The smallest lambda of the one problem are the largest eigenvalues 1 - lambda of the other.
    with threadpool_limits(1):
        _, vectors = eigh(symmetric, subset_by_index=[max(0, n - n_vectors), n - 1])
    return vectors[:, ::-1] / root[:, None]
