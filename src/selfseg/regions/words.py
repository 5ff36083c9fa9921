"""Words: each pixel's features as one of a few typical ones, learned from the picture itself by k-means."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError

SAMPLES = 6000
"""Pixels from which words are learned."""

ROUNDS = 15
"""Rounds of Lloyd's algorithm: what moves after that moves little."""


def _nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.intp]:
    # |x - c|^2 without its |x|^2, which all centres share.
    return np.asarray(((centres**2).sum(1) / 2 - points @ centres.T).argmin(1))


def feature_words(features: NDArray[Any], n_words: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Give each pixel the nearest of a few typical features.

    Parameters
    ----------
    features
        ``[*S C]``, of comparable scale. NaN and inf count as 0.
    n_words
        Words wanted, 1-255; a picture with fewer different pixels gives fewer.
    seed
        Of the sample of pixels, and of the start of k-means (k-means++).

    Returns
    -------
    words, centres
        ``[*S]`` uint8, and ``[K C]`` float32.

    Raises
    ------
    UsageError
        If there is no pixel, or `n_words` is out of range.
    """
    if features.size == 0 or not 1 <= n_words <= 255:
        got = f"{list(features.shape)} and {n_words} words"
        raise UsageError("words", expected="some pixels, and 1 to 255 words", got=got, fix="ask for fewer")
    from sklearn.cluster import kmeans_plusplus  # most of what a first picture would wait for

    points = np.nan_to_num(features.reshape(-1, features.shape[-1]), posinf=0, neginf=0).astype(np.float32)
    chosen = np.random.default_rng(seed).choice(len(points), min(SAMPLES, len(points)), replace=False)
    sample = points[np.sort(chosen)]
    # Rounded, since filters answer to flat ground with what their rounding leaves.
    count = min(n_words, len(np.unique(np.round(sample, 4), axis=0)))
    centres, _ = kmeans_plusplus(sample, count, random_state=seed)
    for _ in range(ROUNDS):
        word = _nearest(sample, centres)
        sizes = np.bincount(word, minlength=count)[:, None]
        sums = np.stack([np.bincount(word, column, count) for column in sample.T], -1)
        centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres).astype(np.float32)
    return _nearest(points, centres).reshape(features.shape[:-1]).astype(np.uint8), centres
