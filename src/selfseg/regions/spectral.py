"""The spectral part of contours: where the slowest vibrations of the picture change (Arbelaez et al., PAMI 2011, section 3.2).

With W_ij the affinity of pixels i and j within a radius, the generalised eigenvectors (D - W) v = lambda D v of the smallest
eigenvalues vary little inside regions and jump between them; the sum of their oriented derivatives, divided by sqrt(lambda), is a
boundary strength that sees the whole picture.

The eigenvectors are found on every other row and column, twice or more, and carried back: downsampled normalised cuts
(Pont-Tuset et al., PAMI 2017, algorithm 1), tens of times quicker than on all pixels.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import eigsh

from selfseg.core.errors import UsageError

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

    Parameters
    ----------
    affinity
        ``[N N]`` symmetric, N = Y X, not negative.
    shape
        Y and X.
    n_vectors
        Vectors wanted; a tiny picture has fewer.
    seed
        Of the start of Lanczos' iteration.

    Returns
    -------
    vectors, eigenvalues
        ``[K Y X]`` float32, each scaled to 0-1, and ``[K]`` ascending. They are those of the reduced picture.

    Raises
    ------
    UsageError
        If the matrix does not fit the shape.
    """
    if affinity.shape != (shape[0] * shape[1],) * 2:
        got = f"{list(affinity.shape)} for {list(shape)}"
        raise UsageError("affinity", expected="one row a pixel", got=got, fix="give the picture's own shape")
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
    """Add up the oriented derivatives of eigenvectors.

    Parameters
    ----------
    vectors, eigenvalues
        ``[K Y X]`` and ``[K]``, as `normalised_cuts` returns them.
    n_angles
        Angles of the line across which the derivative is taken, evenly over half a turn from the X axis.
    sigma
        Of the Gaussian under the derivative, in pixels.

    Returns
    -------
    ndarray
        ``[A Y X]`` float32: sum over k of abs(d v_k) / sqrt(lambda_k).
    """
    angles = np.arange(n_angles) * (np.pi / n_angles)
    total = np.zeros((n_angles, *vectors.shape[1:]), np.float32)
    for vector, value in zip(vectors, eigenvalues, strict=True):
        down = gaussian_filter(vector, sigma, order=(1, 0), mode="nearest")
        right = gaussian_filter(vector, sigma, order=(0, 1), mode="nearest")
        for k, angle in enumerate(angles):
            total[k] += np.abs(down * np.cos(angle) - right * np.sin(angle)) / np.float32(np.sqrt(value))
    return total
