"""Texture as the local energy of a few frequency bands."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

BANDS = (0.0, 1.0, 2.0, 4.0)
"""Standard deviations between which the bands lie: 0-1, 1-2 and 2-4."""


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
