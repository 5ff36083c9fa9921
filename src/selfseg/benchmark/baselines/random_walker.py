"""Random walker (Grady 2006) from seeds by k-means alone, at a third of the size."""

import warnings

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import random_walker

from selfseg.benchmark.baselines._base import Outcome, Pixels, cut_outcome, k_means, n_wanted, read_pixels, reduced
from selfseg.core.image import Image

N_PIXELS = 20_000
"""Largest number of pixels, about; larger images are reduced to it: a photo of 321 x 481 to a third of its size."""

CLASSES = (16, 12, 8, 6, 4, 3, 2)
"""Numbers of classes: the scales."""

DEFAULT = 4
"""Classes of the one output: as many as of k-means."""

BETA = 130.0
"""How much an edge hinders the walker: the library's default."""

PLACE_WEIGHT = 0.25
"""In k-means, the longest side of the image counts as this share of the way from black to white."""

SEEDED = 0.3
"""Share of each cluster, the nearest to its centre, that becomes seeds."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return what walkers from each cluster's middle reach first: four classes by default, dark to bright."""
    pixels = read_pixels(image)
    wanted = n_wanted(n_classes, DEFAULT)
    small, side = reduced(pixels, N_PIXELS)
    return cut_outcome(lambda k: pixels.class_ids(pixels.enlarged(_walk(small, int(k), seed), side)), wanted, CLASSES)


def _walk(pixels: Pixels, n_classes: int, seed: int) -> NDArray[np.int32]:
    """Return the class 1..K of each pixel ``[*S]``, -1 where it is not valid."""
    both = pixels.colour_and_place(PLACE_WEIGHT)[pixels.valid]
    clusters, distances = k_means(both, n_classes, seed)
    seeds = np.zeros(len(both), np.int32)
    for k in range(int(clusters.max()) + 1):
        members = np.flatnonzero(clusters == k)
        nearest = np.argsort(distances[members], kind="stable")[: max(1, round(SEEDED * len(members)))]
        seeds[members[nearest]] = k + 1
    labels = np.full(pixels.shape, -1, np.int32)
    labels[pixels.valid] = seeds
    edges = np.ptp(pixels.colour, axis=tuple(range(labels.ndim))).any()
    if edges and seeds.max() > 1 and not seeds.all():
        with warnings.catch_warnings():
            # It warns where no walker can reach any of the rest; see below.
            warnings.simplefilter("ignore", UserWarning)
            labels = random_walker(pixels.colour, labels, BETA, mode="bf", channel_axis=-1, spacing=pixels.spacing)
    # Where no walker came, for want of a way or of edges, the clusters stand.
    labels[pixels.valid] = np.where(labels[pixels.valid] > 0, labels[pixels.valid], clusters + 1)
    return labels
