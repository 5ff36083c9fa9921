"""Appearance of pixels: texture, Lab colour, and the strength of boundaries between them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter

from selfseg.core.errors import UsageError
from selfseg.core.machine import compiled, run_shared
from selfseg.regions.clusters import feature_words
from selfseg.regions.graph import check_picture, check_spacing

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
    """Give each pixel of a plane ``[Y X]``, usually lightness, the word whose filter answers are nearest to its own.

    Return the words ``[Y X]`` uint8 and how many there are: at most `n_words` (1-255), fewer in a picture with fewer different pixels. NaN
    counts as 0; `sigma` is the width of the filters in pixels, `seed` that of k-means. A wrong argument raises `UsageError`.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.texture import textons
    >>> words, n_words = textons(np.random.default_rng(0).random((24, 24)), n_words=4)
    >>> words.shape, n_words
    ((24, 24), 4)
    """
    if channel.ndim != 2 or channel.size == 0:
        raise UsageError("channel", expected="[Y X]", got=str(list(channel.shape)), fix="give one plane")
    words, centres = feature_words(np.moveaxis(filter_responses(channel, sigma), 0, -1), n_words, seed)
    return words, len(centres)


def band_energy(
    channel: NDArray[Any], window: float = 3.0, spacing: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Return how much fine, middle and coarse texture there is around each pixel of ``[*S]``: ``[*S 3]``, roots of the channel's unit.

    A band is the difference of two Gaussian-smoothed copies of the channel (a Laplacian pyramid without decimation). Its energy is the
    mean of sqrt(abs(difference)) under a Gaussian `window` (its standard deviation, in the unit of the spacing): the root keeps one strong
    edge from looking like texture.
    """
    units = np.ones(channel.ndim) if spacing is None else np.asarray(spacing, float)
    energy = np.empty((*channel.shape, len(BANDS) - 1), np.float32)
    finer = np.asarray(channel, np.float32)
    for band, sigma in enumerate(BANDS[1:]):
        # Smoothing adds up in squares, so that each copy is made from the one before with a narrower kernel.
        coarser = gaussian_filter(finer, np.sqrt(sigma**2 - BANDS[band] ** 2) / units, mode="nearest")
        root = np.sqrt(np.abs(finer - coarser))
        energy[..., band] = gaussian_filter(root, window / units, mode="nearest", truncate=3)
        finer = coarser
    return energy


LIGHTNESS = 100.0
"""Lab's L of white: channels that are not colours are put on this scale, so that one compactness and one level serve both."""


LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Weights of red, green and blue (ITU-R BT.709)."""


def luminance(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``[*S]`` of an image ``[*S C]``: luma of three channels, else the mean over channels."""
    return np.asarray(image @ LUMINANCE if image.shape[-1] == 3 else image.mean(-1), np.float32)


def colour_channels(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``[*S C]`` of values 0-1 ``[*S C]``: Lab of three channels, else the channels times 100 / sqrt(C). NaN and inf count as 0."""
    last = np.nan_to_num(image, posinf=0, neginf=0).astype(np.float32)
    if last.shape[-1] == 3:
        return rgb_to_lab(last)
    return np.asarray(last * np.float32(LIGHTNESS / np.sqrt(last.shape[-1])), np.float32)


def appearance(
    image: NDArray[Any], lightness: float = 0.5, texture: float = 20.0, spacing: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """Return the features by which regions are compared: colour with less lightness, then texture.

    Parameters
    ----------
    image
        ``[*S C]``, values 0-1; three channels are RGB. NaN and inf count as 0.
    lightness
        Weight of lightness (and of channels that are not colours) against a and b: shading changes lightness most.
    texture
        Weight of texture (`band_energy`) against colour.
    spacing
        Size of a pixel along each axis; all 1 if not given.

    Returns
    -------
    ndarray
        ``[*S D]`` float32 in units of Lab: D = 3 colours or the C channels, and 3 bands of texture.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.texture import appearance
    >>> appearance(np.zeros((16, 16, 3))).shape[:2]
    (16, 16)
    """
    colour = colour_channels(image)
    count = colour.shape[-1]
    light = colour[..., 0] if count == 3 else colour.sum(-1) / np.float32(np.sqrt(count))
    bands = band_energy(light, spacing=spacing) * np.float32(texture)
    weights = [lightness, 1, 1] if count == 3 else [lightness] * count
    return np.concatenate([colour * np.array(weights, np.float32), bands], -1)


TABLE = 4096
"""Steps of each table. With linear interpolation the error of L, a and b stays below .01."""

WHITE = (0.95047, 1.0, 1.08883)
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the sRGB curve, Lab's cube root curve (each over 0-1, one spare entry) and RGB -> XYZ / white."""
    x = np.arange(TABLE + 2) / TABLE
    linear = np.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    root = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    matrix = np.array(TO_XYZ) / np.array(WHITE)[:, None]
    return linear.astype(np.float32), root.astype(np.float32), matrix.astype(np.float32)


@compiled(inner=True)
def _look_up(table, value):
    position = min(max(value, np.float32(0)), np.float32(1)) * np.float32(TABLE)
    index = int(position)
    return table[index] + (position - np.float32(index)) * (table[index + 1] - table[index])


@compiled()
def _convert(start, stop, rgb, linear, root, matrix, lab):
    for i in range(start, stop):
        r, g, b = _look_up(linear, rgb[i, 0]), _look_up(linear, rgb[i, 1]), _look_up(linear, rgb[i, 2])
        x = _look_up(root, matrix[0, 0] * r + matrix[0, 1] * g + matrix[0, 2] * b)
        y = _look_up(root, matrix[1, 0] * r + matrix[1, 1] * g + matrix[1, 2] * b)
        z = _look_up(root, matrix[2, 0] * r + matrix[2, 1] * g + matrix[2, 2] * b)
        lab[i, 0] = np.float32(116) * y - np.float32(16)
        lab[i, 1] = np.float32(500) * (x - y)
        lab[i, 2] = np.float32(200) * (y - z)


def rgb_to_lab(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """Convert sRGB colours to CIE Lab under D65: L in 0-100, a and b about -100 to 100, within .02 of the closed form.

    Colours ``[*S 3]`` are red, green, blue in 0-1; values outside are clipped, NaN counts as 0. Another shape raises `UsageError`.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.texture import rgb_to_lab
    >>> rgb_to_lab(np.ones((1, 1, 3)))[..., 0].round().tolist()
    [[100.0]]
    """
    if rgb.ndim < 1 or rgb.shape[-1] != 3:
        raise UsageError("colours", expected="[*S 3]", got=str(list(rgb.shape)), fix="put the channels last")
    flat = np.ascontiguousarray(np.nan_to_num(rgb.reshape(-1, 3)), np.float32)
    lab = np.empty_like(flat)
    if len(flat):
        run_shared(_convert, len(flat), flat, *_tables(), lab)
    return lab.reshape(rgb.shape)


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

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.texture import gradient_strength
    >>> image = np.zeros((16, 16, 1))
    >>> image[:, 8:] = 1
    >>> strength = gradient_strength(image)
    >>> bool(strength[8, 8] > strength[8, 1])
    True
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
    is a learned cue for `regions.watershed`, where the channels are probabilities or features of a method.
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
