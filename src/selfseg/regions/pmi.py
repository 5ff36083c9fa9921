"""Pointwise mutual information: colours that meet in this picture more often than chance belong together.

The joint probability of the features A and B of two pixels close to each other is counted in the picture itself, and

    PMI_rho(A, B) = log( P(A, B)^rho / (P(A) P(B)) )

says how much more often they meet than they would by chance: low across a boundary, high within an object, even one of
stripes (Isola, Zoran, Krishnan & Adelson, "Crisp boundary detection using pointwise mutual information", ECCV 2014). exp(PMI)
ties pixels in a normalised cut.

The paper estimates P by kernel density from sampled pairs. Here features become words (k-means), all pairs of a window are counted,
and the counts are smeared over similar words with a Gaussian: the same estimate, on a grid that fits the picture, as a table.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.sparse import csr_array

from selfseg.core.errors import UsageError
from selfseg.regions.codebook import feature_words
from selfseg.regions.spectral import half_window, sparse_window_affinity

RHO = 1.25
"""The paper's exponent: above 1, rare pairs count as boundaries even if their colours are rare too."""

DISTANCE = 2.0
"""Standard deviation of the distance of counted pairs, in pixels."""

N_WORDS = 64
"""Words of each kind of feature."""

CAP = 90.0
"""Percentile of the information above which pairs are tied no better: else a rare colour is an island of its own."""

FLOOR = 1e-8
"""Added to probabilities, so that what never meets has a finite cost."""


def joint_counts(words: NDArray[np.integer], n_words: int, sigma: float = DISTANCE) -> NDArray[np.float64]:
    """Count how often words meet, weighted by a Gaussian of their distance.

    Parameters
    ----------
    words
        ``[Y X]`` integers 0..n_words-1.
    n_words
        K.
    sigma
        Standard deviation of the distance, in pixels; pairs up to three of them apart are counted.

    Returns
    -------
    ndarray
        ``[K K]``, symmetric, sum 1.
    """
    height, width = words.shape
    counts = np.zeros(n_words * n_words)
    codes = words.astype(np.int64)
    for down, right in half_window(3 * sigma).tolist():
        if down >= height or abs(right) >= width:
            continue
        here = codes[: height - down, max(-right, 0) : width - max(right, 0)]
        there = codes[down:, max(right, 0) : width + min(right, 0)]
        weight = np.exp(-0.5 * (down**2 + right**2) / sigma**2)
        counts += weight * np.bincount((here * n_words + there).ravel(), minlength=n_words * n_words)
    table = counts.reshape(n_words, n_words)
    table = table + table.T
    return np.asarray(table / max(table.sum(), 1e-300))


def pointwise_mutual_information(joint: NDArray[np.floating], rho: float = RHO) -> NDArray[np.float64]:
    """Return PMI_rho ``[K K]`` of a joint distribution ``[K K]``, whose marginals are its row sums."""
    alone = joint.sum(1)
    return np.asarray(rho * np.log(joint + FLOOR) - np.log(np.outer(alone, alone) + FLOOR))


def smear(joint: NDArray[np.floating], centres: NDArray[np.floating], bandwidth: float = 1.0) -> NDArray[np.float64]:
    """Spread a joint distribution over similar words: a kernel density estimate on the grid of words.

    Parameters
    ----------
    joint
        ``[K K]``.
    centres
        ``[K C]``, features of the words.
    bandwidth
        Standard deviation of the Gaussian, in mean distances of a word to its nearest; 0 = as it is.

    Returns
    -------
    ndarray
        ``[K K]``, of the same sum.
    """
    if bandwidth <= 0 or len(centres) < 2:
        return np.asarray(joint, np.float64)
    squared = ((centres[:, None] - centres[None]) ** 2).sum(-1)
    nearest = np.sqrt(np.where(np.eye(len(centres), dtype=bool), np.inf, squared).min(1)).mean()
    kernel = np.exp(-0.5 * squared / max(bandwidth * nearest, 1e-12) ** 2)
    kernel /= kernel.sum(1, keepdims=True)
    return np.asarray(kernel.T @ joint @ kernel)


def local_variance(image: NDArray[Any], size: int = 3) -> NDArray[np.float64]:
    """Return the standard deviation of each channel of ``[Y X C]`` in a square window: the paper's second kind of feature."""
    values = np.nan_to_num(image).astype(np.float64)
    window = (size, size, 1)
    mean = uniform_filter(values, window, mode="nearest")
    return np.sqrt(np.maximum(uniform_filter(values**2, window, mode="nearest") - mean**2, 0))


def pmi_affinity(image: NDArray[Any], radius: float = 5.0, rho: float = RHO, seed: int = 0) -> csr_array:
    """Tie pixels by the mutual information of their colours and of their local variances.

    Parameters
    ----------
    image
        ``[Y X C]``, best Lab or another space in which distances mean something.
    radius
        Largest distance of tied pixels.
    rho
        Exponent of the joint probability.
    seed
        Of the words.

    Returns
    -------
    csr_array
        ``[N N]``, N = Y X, symmetric: exp(PMI of colour + PMI of variance), scaled so that the best tenth of ties are 1.

    Raises
    ------
    UsageError
        If the image is not ``[Y X C]``.
    """
    if image.ndim != 3 or image.size == 0:
        raise UsageError("image", expected="[Y X C]", got=str(list(image.shape)), fix="put the channels last")
    offsets = half_window(radius)
    height, width = image.shape[:2]
    total = np.zeros((len(offsets), height, width))
    for features in (image, local_variance(image)):
        words, centres = feature_words(features, N_WORDS, seed)
        table = pointwise_mutual_information(smear(joint_counts(words, len(centres)), centres), rho)
        for o, (down, right) in enumerate(offsets.tolist()):
            # What is rolled in from the other side lies outside the picture, and `sparse_window_affinity` leaves it out.
            total[o] += table[words, np.roll(words, (-down, -right), (0, 1))]
    cap = np.percentile(total, CAP) if total.size else 0.0
    return sparse_window_affinity(np.exp(np.minimum(total - cap, 0)), offsets)
