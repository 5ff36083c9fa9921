"""Boundary strength of each pixel from the gradient of smoothed channels, in all directions or across a line at 8 angles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from selfseg.regions.graph import check_picture, check_spacing


def gradient_strength(
    image: NDArray[Any], sigma: float = 2.0, spacing: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Return the length of the gradient of all channels together, after Gaussian smoothing.

    Parameters
    ----------
    image
        ``[*S C]``, any number of dimensions and channels. NaN and inf count as 0.
    sigma
        Standard deviation of the Gaussian, in the unit of the spacing; 0 = no smoothing.
    spacing
        Size of a pixel along each spatial axis; all 1 if not given.

    Returns
    -------
    ndarray
        ``[*S]`` float32, units of the channels per unit of the spacing: sqrt(sum over channels and axes of (df/dx)^2),
        central differences, one-sided at the borders, 0 along an axis that is one pixel long.

    Raises
    ------
    UsageError
        If `spacing` does not fit the image.
    """
    n_dims = image.ndim - 1
    units = check_spacing(spacing, n_dims)
    squared = np.zeros(image.shape[:-1], np.float32)
    for c in range(image.shape[-1]):
        channel = np.nan_to_num(image[..., c].astype(np.float32), posinf=0, neginf=0)
        smooth = gaussian_filter(channel, [sigma / unit for unit in units], mode="nearest") if sigma > 0 else channel
        for axis, unit in enumerate(units):
            if image.shape[axis] > 1:
                squared += np.gradient(smooth, unit, axis=axis) ** 2
    return np.sqrt(squared)


def gradient_at_angles(image: NDArray[Any], sigma: float = 2.0, n_angles: int = 8) -> NDArray[np.float32]:
    """Return the slope of all channels together across a line, at each angle of the line, after Gaussian smoothing.

    ``[A Y X]`` float32 of an image ``[Y X C]``, in units of the channels per pixel: sqrt(sum over channels of (df/dn)^2), n across the
    line.
    Plane k is for a boundary at k pi / A from the X axis towards growing Y; `sigma` is in pixels, above 0. NaN and inf count as 0. It
    is a learned cue for `regions.oriented_watershed`, where the channels are probabilities or features of a method.
    """
    check_picture(image)
    angles = (np.arange(n_angles) * (np.pi / n_angles)).astype(np.float32)
    squared = np.zeros((n_angles, *image.shape[:2]), np.float32)
    for c in range(image.shape[-1]):
        channel = np.nan_to_num(image[..., c].astype(np.float32), posinf=0, neginf=0)
        down = gaussian_filter(channel, sigma, order=(1, 0), mode="nearest")
        right = gaussian_filter(channel, sigma, order=(0, 1), mode="nearest")
        for k, angle in enumerate(angles):
            squared[k] += (down * np.cos(angle) - right * np.sin(angle)) ** 2
    return np.sqrt(squared)
