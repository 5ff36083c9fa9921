"""The spectral part of contours: mutual information of colours, and where the slowest vibrations of the picture change.

The joint probability of the features A and B of two pixels close to each other is counted in the picture itself, and

    PMI_rho(A, B) = log( P(A, B)^rho / (P(A) P(B)) )

is how much more often they meet than they would by chance: low across a boundary, high within an object, even one of
stripes (Isola, Zoran, Krishnan & Adelson, "Crisp boundary detection using pointwise mutual information", ECCV 2014). exp(PMI)
ties pixels in a normalised cut. The paper estimates P by kernel density from sampled pairs. Here features become words (k-means),
all pairs of a window are counted, and the counts are smeared over similar words with a Gaussian: the same estimate, as a table.

With W_ij the affinity of pixels i and j within a radius, the generalised eigenvectors (D - W) v = lambda D v of the smallest
eigenvalues vary little inside regions and jump between them; the sum of their oriented derivatives, divided by sqrt(lambda), is a
boundary strength that sees the whole picture (Arbelaez et al., PAMI 2011, section 3.2).

The eigenvectors are found on every other row and column, twice or more, and carried back: downsampled normalised cuts
(Pont-Tuset et al., PAMI 2017, algorithm 1), tens of times quicker than on all pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import eigsh

from selfseg.core.errors import UsageError
from selfseg.regions.clusters import feature_words
from selfseg.regions.graph import check_picture

FEW_NODES = 3000
"""Rows and columns are dropped until at most about this many nodes are left."""

TINY = 1e-6
"""Least tie, so that every pixel has a neighbour, and least eigenvalue, below which rounding rules."""


def half_window(radius: float) -> NDArray[np.int64]:
    """Return the offsets (y, x) ``[O 2]`` within a radius, one of each opposite pair, without (0, 0)."""
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    chosen = (y**2 + x**2 <= radius**2) & ((y > 0) | ((y == 0) & (x > 0)))
    return np.stack([y[chosen], x[chosen]], -1)


def sparse_window_affinity(ties: NDArray[np.floating], offsets: NDArray[np.int64]) -> csr_array:
    """Return the symmetric matrix ``[N N]`` (N = Y X) of ties ``[O Y X]`` between each pixel and that at an offset from it.

    The tie of a pixel to one outside the picture is left out; that of a pixel to itself is 1.
    """
    _, height, width = ties.shape
    size = height * width
    y, x = np.mgrid[:height, :width]
    rows, columns, values = [np.arange(size)], [np.arange(size)], [np.full(size, 0.5)]
    for (down, right), tie in zip(offsets.tolist(), ties, strict=True):
        here = ((y + down < height) & (x + right >= 0) & (x + right < width)).ravel().nonzero()[0]
        rows.append(here)
        columns.append(here + down * width + right)
        values.append(tie.ravel()[here])
    places = np.concatenate(rows).astype(np.int32), np.concatenate(columns).astype(np.int32)
    upper = coo_array((np.concatenate(values), places), shape=(size, size)).tocsr()
    return csr_array(upper + upper.T)


def normalised_cuts(
    affinity: csr_array, shape: tuple[int, int], n_vectors: int = 16, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Find the generalised eigenvectors of the smallest eigenvalues, without the constant one.

    Return vectors ``[K Y X]`` float32, each scaled to 0-1, and eigenvalues ``[K]``, ascending; they are those of the reduced picture.

    Parameters
    ----------
    affinity
        ``[N N]`` symmetric, N = Y X, not negative. `UsageError` if it does not fit the shape.
    shape
        Y and X.
    n_vectors
        Vectors wanted; a tiny picture has fewer.
    seed
        Of the start of Lanczos' iteration.
    """
    if affinity.shape != (shape[0] * shape[1],) * 2:
        raise UsageError(
            "affinity",
            expected="one row a pixel",
            got=f"{list(affinity.shape)} for {list(shape)}",
            fix="give the picture's own shape",
        )
    carriers, (height, width) = [], shape
    while affinity.shape[0] > FEW_NODES:
        kept = np.arange(height * width).reshape(height, width)[::2, ::2]
        columns = affinity[:, kept.ravel()]
        spread = np.asarray(columns.sum(1)).ravel()
        carrier = columns.multiply(1 / np.maximum(spread, 1e-300)[:, None]).tocsr()
        affinity, (height, width) = csr_array(carrier.T @ columns), kept.shape
        carriers.append(carrier)
    vectors, eigenvalues = _smallest(affinity, n_vectors, seed)
    for carrier in reversed(carriers):
        vectors = carrier @ vectors
    low, high = vectors.min(0), vectors.max(0)
    scaled = (vectors - low) / np.maximum(high - low, 1e-300)
    return scaled.T.reshape(-1, *shape).astype(np.float32), eigenvalues


def _smallest(affinity: csr_array, n_vectors: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``[N K]`` and ``[K]`` of a small matrix: the largest of D^-1/2 W D^-1/2 are the smallest of D - W."""
    size = affinity.shape[0]
    root = 1 / np.sqrt(np.maximum(np.asarray(affinity.sum(1)).ravel(), 1e-300))
    scaled = affinity.multiply(root[:, None]).multiply(root).tocsr()
    wanted = min(n_vectors + 1, size)
    if size <= 4 * wanted:
        values, vectors = np.linalg.eigh(scaled.toarray())
    else:
        start = np.random.default_rng(seed).random(size)
        values, vectors = eigsh(scaled, wanted, which="LA", v0=start, tol=1e-4)
    order = np.argsort(-values, kind="stable")[1:wanted]
    return vectors[:, order] * root[:, None], np.maximum(1 - values[order], TINY)


def spectral_gradient(
    vectors: NDArray[np.floating], eigenvalues: NDArray[np.floating], n_angles: int = 8, sigma: float = 1.0
) -> NDArray[np.float32]:
    """Add up the oriented derivatives of eigenvectors ``[K Y X]``: ``[A Y X]`` float32, sum over k of abs(d v_k) / sqrt(lambda_k).

    The derivative is taken across a line at A angles, evenly over half a turn from the X axis, under a Gaussian of `sigma` pixels.
    """
    angles = np.arange(n_angles) * (np.pi / n_angles)
    total = np.zeros((n_angles, *vectors.shape[1:]), np.float32)
    for vector, value in zip(vectors, eigenvalues, strict=True):
        down = gaussian_filter(vector, sigma, order=(1, 0), mode="nearest")
        right = gaussian_filter(vector, sigma, order=(0, 1), mode="nearest")
        for k, angle in enumerate(angles):
            total[k] += np.abs(down * np.cos(angle) - right * np.sin(angle)) / np.float32(np.sqrt(value))
    return total


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
    """Count how often words ``[Y X]``, 0..K-1, meet: ``[K K]``, symmetric, sum 1.

    Pairs count by a Gaussian of their distance with a standard deviation of `sigma` pixels, up to three of them apart.
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
    """Spread a joint distribution ``[K K]`` over similar words: a kernel density estimate on the grid of words.

    The Gaussian over the features ``centres [K C]`` of the words has a standard deviation of `bandwidth` mean distances of a word to its
    nearest; 0 leaves the distribution as it is. The sum stays.
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
    """Tie the pixels of an image ``[Y X C]`` by the mutual information of their colours and of their local variances.

    Return the symmetric matrix ``[N N]``, N = Y X: exp(PMI of colour + PMI of variance) of pixels up to `radius` apart, scaled so that the
    best tenth of ties are 1. Colours are best in Lab, or another space in which distances mean something; `rho` is the exponent of the
    joint probability, `seed` that of the words. Another shape raises `UsageError`.
    """
    check_picture(image)
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
