"""Texture: the local energy of a few frequency bands, and textons (Malik, Belongie, Leung & Shi, IJCV 2001).

A texton is a pixel's answer to a bank of filters, as one of a few words, which k-means finds. The bank holds, at 8 angles, an even
filter (second derivative of a Gaussian, elongated along its line) and an odd one (its Hilbert transform, which here is the first
derivative at the same scale), and one round centre-surround filter.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter

from selfseg.core.errors import UsageError
from selfseg.core.threads import run_shared
from selfseg.regions.codebook import feature_words

BANDS = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations between which the bands lie: 0-1, 1-2 and 2-4."""

N_ANGLES = 8
"""Angles of the bank, evenly over half a turn."""

SIGMA = 2.0
"""Width of the filters across their line, in pixels."""

ELONGATION = 3.0
"""Length of the filters along their line, in widths."""


def filter_bank(sigma: float = SIGMA) -> NDArray[np.float32]:
    """Return the bank ``[17 N N]``: 8 even, 8 odd, one round filter, each of mean 0 and L1 norm 1."""
    reach = int(np.ceil(3 * sigma * ELONGATION))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    even, odd = [], []
    for angle in np.arange(N_ANGLES) * (np.pi / N_ANGLES):
        u = (x * np.cos(angle) + y * np.sin(angle)) / (ELONGATION * sigma)
        v = (y * np.cos(angle) - x * np.sin(angle)) / sigma
        envelope = np.exp(-0.5 * (u**2 + v**2))
        even.append((v**2 - 1) * envelope)
        odd.append(-v * envelope)
    square = (x**2 + y**2) / sigma**2
    surround = np.exp(-0.5 * square) - np.exp(-0.25 * square) / 2
    bank = np.stack([*even, *odd, surround])
    bank -= bank.mean((1, 2), keepdims=True)
    return np.asarray(bank / np.abs(bank).sum((1, 2), keepdims=True), np.float32)


def filter_responses(channel: NDArray[Any], sigma: float = SIGMA) -> NDArray[np.float32]:
    """Return the answers ``[17 Y X]`` of the bank to ``channel [Y X]``, which is mirrored at its border."""
    bank = filter_bank(sigma)
    reach = bank.shape[1] // 2
    padded = np.pad(np.nan_to_num(channel).astype(np.float32), reach, mode="symmetric")
    size = [next_fast_len(n, real=True) for n in padded.shape]
    spectrum = rfft2(padded, size)
    height, width = channel.shape
    answers = np.empty((len(bank), height, width), np.float32)

    def convolve(start: int, stop: int) -> None:
        for k in range(start, stop):
            full = irfft2(spectrum * rfft2(bank[k], size), size)
            answers[k] = full[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]

    run_shared(convolve, len(bank))
    return answers


def textons(
    channel: NDArray[Any], n_words: int = 32, sigma: float = SIGMA, seed: int = 0
) -> tuple[NDArray[np.uint8], int]:
    """Give each pixel the word whose filter answers are nearest to its own.

    Parameters
    ----------
    channel
        ``[Y X]``, one channel, usually lightness. NaN counts as 0.
    n_words
        Words wanted, 1-255; a picture with fewer different pixels gives fewer.
    sigma
        Width of the filters, in pixels.
    seed
        Of the sample of pixels, and of the start of k-means.

    Returns
    -------
    words, count
        ``[Y X]`` uint8, 0..count-1, and the number of words there are.

    Raises
    ------
    UsageError
        If the channel is not a plane, or `n_words` is out of range.
    """
    if channel.ndim != 2 or channel.size == 0:
        raise UsageError("channel", expected="[Y X]", got=str(list(channel.shape)), fix="give one plane")
    words, centres = feature_words(np.moveaxis(filter_responses(channel, sigma), 0, -1), n_words, seed)
    return words, len(centres)


def band_energy(
    channel: NDArray[Any], window: float = 3.0, spacing: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Return how much fine, middle and coarse texture there is around each pixel.

    A band is the difference of two Gaussian-smoothed copies of the channel (a Laplacian pyramid without decimation).
    Its energy is the mean of sqrt(|difference|) under a Gaussian window: the root keeps one strong edge from looking
    like texture.

    Parameters
    ----------
    channel
        ``[*S]``, finite.
    window
        Standard deviation of the window, in the unit of the spacing.
    spacing
        Size of a pixel along each axis; all 1 if not given.

    Returns
    -------
    ndarray
        ``[*S 3]`` float32, square roots of the channel's unit.
    """
    units = np.ones(channel.ndim) if spacing is None else np.asarray(spacing, float)
    energy = np.empty((*channel.shape, len(BANDS) - 1), np.float32)
    finer = np.asarray(channel, np.float32)
    for band, sigma in enumerate(BANDS[1:]):
        # Smoothing adds up in squares, so that each copy is made from the one before with a narrower kernel.
        coarser = gaussian_filter(finer, np.sqrt(sigma**2 - BANDS[band] ** 2) / units, mode="nearest")
        energy[..., band] = gaussian_filter(
            np.sqrt(np.abs(finer - coarser)), window / units, mode="nearest", truncate=3
        )
        finer = coarser
    return energy
