"""Oriented gradients: how different the two halves of a disc are, for discs cut at 8 angles (Martin et al., PAMI 2004).

Around each pixel a disc of radius r is cut in two by a line at angle theta. The histograms g and h of the two halves are
compared by

    G(theta) = 1/2 sum_i (g_i - h_i)^2 / (g_i + h_i)

which is 0 where the halves are alike and 1 where they share nothing. A parabola fitted across the line, in an ellipse
along it, then takes the noise out and sharpens the ridge (Arbelaez et al., PAMI 2011, section 3.1).

Angle k of N is that of the cutting line, k pi / N from the X axis towards growing Y.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate

from selfseg.core.errors import UsageError
from selfseg.core.machine import compiled, run_shared

N_ANGLES = 8
"""Angles of the cutting line, evenly over half a turn."""

ACROSS = 0.25
"""Width of the parabola's ellipse across the line, as a share of its length (Berkeley's)."""

NARROWEST = 1.5
"""Least half axis of that ellipse, in samples: less holds too few for a parabola."""


def quantise(channel: NDArray[Any], n_words: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.uint8]:
    """Return the histogram bin 0..n_words-1 of each value of ``channel [*S]``; what lies outside goes to the end bins."""
    scaled = (np.nan_to_num(channel) - low) * (n_words / (high - low))
    return np.clip(scaled, 0, n_words - 1).astype(np.uint8)


def half_disc_gradient(
    words: NDArray[np.integer], n_words: int, radius: float, blur: float = 0.0, stride: int = 1
) -> NDArray[np.float32]:
    """Compare the histograms of the two halves of a disc, at each angle.

    Parameters
    ----------
    words
        ``[Y X]`` integers: histogram bin or texton of each pixel. Values outside 0..n_words-1 count nowhere.
    n_words
        Bins of the histograms, up to 255.
    radius
        Of the disc, in pixels. The picture is mirrored at its border.
    blur
        Standard deviation of a Gaussian over the bins, in bins: bins then have neighbours. 0 for textons, which have none.
    stride
        Only every stride-th row and column is measured (those in between still count in the histograms).

    Returns
    -------
    ndarray
        ``[8 ceil(Y / stride) ceil(X / stride)]`` float32, chi-squared distances 0-1; 0 where a half is empty.

    Raises
    ------
    UsageError
        If `words` are not integers in a plane, or a number is out of range.
    """
    if words.ndim != 2 or not np.issubdtype(words.dtype, np.integer) or words.size == 0:
        raise UsageError(
            "words", expected="integers [Y X]", got=f"{words.dtype} {list(words.shape)}", fix="quantise one plane"
        )
    if not (radius >= 1 and stride >= 1 and blur >= 0 and 1 <= n_words <= 255):
        raise UsageError(
            "half discs",
            expected="positive sizes, at most 255 words",
            got=f"radius={radius}, stride={stride}, blur={blur}, n_words={n_words}",
            fix="keep radius and stride at 1 or more",
        )
    reach = int(radius)
    known = np.where((words >= 0) & (words < n_words), words, n_words).astype(np.uint8)
    padded = np.pad(known, reach, mode="symmetric")
    offsets, sector = _disc(radius, padded.shape[1])
    rows, columns = -(-words.shape[0] // stride), -(-words.shape[1] // stride)
    gradient = np.zeros((N_ANGLES, rows, columns), np.float32)
    weights = _bin_weights(blur)
    run_shared(_compare_halves, rows, padded.ravel(), padded.shape[1], reach, stride, offsets, sector, n_words,
               weights, gradient)  # fmt: skip
    return gradient


def _disc(radius: float, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return flat offsets of the disc's pixels, without its centre, and the sector 0..15 of each."""
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = (y**2 + x**2 <= radius**2) & ((y != 0) | (x != 0))
    y, x = y[inside], x[inside]
    # A pixel on a line belongs to the half that follows; its mirror image belongs to the other, so both are as large.
    turn = np.mod(np.arctan2(y, x) / np.pi * N_ANGLES + 1e-9, 2 * N_ANGLES)
    return (y * width + x).astype(np.int64), turn.astype(np.int64)


def _bin_weights(blur: float) -> NDArray[np.float32]:
    """Return half a Gaussian over the bins, from its centre outwards, of which both halves sum to 1."""
    reach = int(np.ceil(3 * blur))
    weights = np.exp(-0.5 * (np.arange(reach + 1) / max(blur, 1e-6)) ** 2)
    return np.asarray(weights / (2 * weights.sum() - weights[0]), np.float32)


@compiled(fastmath=True)
def _blur_bins(counts, weights, room, blurred):
    """Convolve counts [B] with the symmetric weights [T] into blurred [B]; room [B + 2T] has zeros at both ends."""
    n, reach = len(counts), len(weights) - 1
    for i in range(n):
        room[reach + i] = counts[i]
    for i in range(n):
        blurred[i] = weights[0] * counts[i]
    for t in range(1, reach + 1):
        weight = weights[t]
        left, right = room[reach - t : reach - t + n], room[reach + t : reach + t + n]
        for i in range(n):
            blurred[i] += weight * (left[i] + right[i])


@compiled(fastmath=True)
def _chi_squared(half, whole, n_half, n_whole):
    """Chi-squared distance between a half [B] of n_half counts and the rest of the whole, each scaled to sum 1."""
    if n_half < 0.5 or n_whole - n_half < 0.5:
        return np.float32(0)
    one, other = np.float32(1) / n_half, np.float32(1) / (n_whole - n_half)
    total = np.float32(0)
    for i in range(len(half)):
        g, h = half[i] * one, (whole[i] - half[i]) * other
        total += (g - h) * (g - h) / (g + h + np.float32(1e-12))
    return np.float32(0.5) * total


@compiled()
def _compare_halves(start, stop, padded, width, reach, stride, offsets, sector, n_words, weights, gradient):
    """Fill the rows ``start..stop`` of gradient [A Y X]; padded is a flat picture with a border of `reach`."""
    n_angles, _, columns = gradient.shape
    sectors = np.zeros((2 * n_angles, n_words + 1), np.float32)
    half, whole = np.zeros(n_words, np.float32), np.zeros(n_words, np.float32)
    soft_half, soft_whole = np.zeros(n_words, np.float32), np.zeros(n_words, np.float32)
    room = np.zeros(n_words + 2 * len(weights), np.float32)
    for row in range(start, stop):
        for column in range(columns):
            centre = np.uint64((row * stride + reach) * width + column * stride + reach)
            sectors[:] = 0
            for n in range(len(offsets)):
                sectors[np.uint64(sector[n]), np.uint64(padded[np.uint64(centre + np.uint64(offsets[n]))])] += 1
            half[:] = 0
            whole[:] = 0
            for s in range(n_angles):
                for i in range(n_words):
                    half[i] += sectors[s, i]
                    whole[i] += sectors[s, i] + sectors[s + n_angles, i]
            _blur_bins(whole, weights, room, soft_whole)
            n_whole = soft_whole.sum()
            for angle in range(n_angles):
                _blur_bins(half, weights, room, soft_half)
                gradient[angle, row, column] = _chi_squared(soft_half, soft_whole, soft_half.sum(), n_whole)
                for i in range(n_words):
                    half[i] += sectors[angle + n_angles, i] - sectors[angle, i]


def _parabola_kernel(radius: float, angle: float) -> NDArray[np.float64]:
    """Return the weights with which an ellipse of samples gives the height, at its centre, of a parabola fitted across it."""
    along, across = max(NARROWEST, radius), max(NARROWEST, radius * ACROSS)
    reach = int(along)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    inside = (u / along) ** 2 + (v / across) ** 2 <= 1
    design = np.stack([np.ones(inside.sum()), v[inside], v[inside] ** 2], -1)
    kernel = np.zeros(inside.shape)
    kernel[inside] = np.linalg.pinv(design)[0]
    return kernel


def fit_parabolas(gradient: NDArray[np.floating], radius: float) -> NDArray[np.float32]:
    """Smooth each angle's gradient ``[A Y X]`` along its line, and sharpen it across: an oriented Savitzky-Golay filter, cut off at 0.

    `radius` is the half axis of the ellipse along the line, in samples.
    """
    angles = np.arange(len(gradient)) * (np.pi / len(gradient))

    def fit(start: int, stop: int) -> list[NDArray[Any]]:
        return [correlate(gradient[k], _parabola_kernel(radius, angles[k]), mode="mirror") for k in range(start, stop)]

    fitted = [plane for part in run_shared(fit, len(gradient)) for plane in part]
    return np.maximum(np.stack(fitted), 0).astype(np.float32)


def enlarge(
    samples: NDArray[np.floating], stride: int, shape: tuple[int, int], first: float = 0.0
) -> NDArray[np.float32]:
    """Interpolate samples of every stride-th row and column, ``[A y x]``, to all pixels, ``[A Y X]`` float32.

    `first` is the row and column of the first sample; pixels before the first and after the last take those.
    """
    out = np.asarray(samples, np.float32)
    for axis, size in ((1, shape[0]), (2, shape[1])):
        place = np.clip((np.arange(size) - first) / stride, 0, out.shape[axis] - 1)
        low = np.minimum(place.astype(np.intp), max(out.shape[axis] - 2, 0))
        share = (place - low).astype(np.float32).reshape((-1, 1) if axis == 1 else (1, -1))
        high = np.minimum(low + 1, out.shape[axis] - 1)
        out = out.take(low, axis) * (1 - share) + out.take(high, axis) * share
    return out
