"""Contrast and normalisation of channels-last arrays ``[*S C]``, statistics over valid pixels only."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.seed import generator
from selfseg.sample.steps import Step

Values = NDArray[np.floating]
N_SAMPLED = 1 << 14
"""Pixels of one image that global percentiles are taken from."""

MAX_SAMPLED = 1 << 22
"""Values that are kept for global percentiles; beyond it every second pixel is dropped."""


@dataclass(frozen=True)
class Scaling:
    """The normalisation ``(x - offset) / scale`` of each channel."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def apply(self, array: Values, clip: bool) -> Values:
        """Return ``[*S C]`` normalised, and clipped to 0-1 if asked."""
        result = (array - np.asarray(self.offset, array.dtype)) / np.asarray(self.scale, array.dtype)
        return np.clip(result, 0, 1) if clip else result


def noise(array: Values) -> float:
    """Return the deviation, relative to the largest value, that is mere rounding: it must not become the unit."""
    return 8 * float(np.finfo(array.dtype).eps)


def _moments(column: Values) -> tuple[float, float]:
    """Return the mean of ``[N]`` and the sum of squared deviations from it."""
    mean = column.mean(dtype=np.float64)
    rounded = column.dtype.type(mean)  # so that float32 is not copied to float64
    away = column - rounded
    away *= away
    return float(mean), max(0.0, float(away.sum(dtype=np.float64)) - len(column) * float(mean - rounded) ** 2)


class Statistics:
    """What a normalising step needs to know of the pixels of one or many images."""

    def __init__(self, step: Step, n_channels: int) -> None:
        self._step = step
        self._count = 0
        self._mean = np.zeros(n_channels)
        self._squares = np.zeros(n_channels)
        self._low = np.full(n_channels, np.inf)
        self._high = np.full(n_channels, -np.inf)
        self._samples: list[Values] = []
        self._quota = N_SAMPLED
        self._added = 0
        self._noise = 0.0

    def add(self, pixels: Values, whole: bool = False) -> None:
        """Take in pixels ``[N C]`` of one image; `whole` keeps them all for percentiles, not a sample of them."""
        # One channel at a time: numpy reduces the first of two axes slowly when the second is short.
        self._low = np.minimum(self._low, [column.min() for column in pixels.T])
        self._high = np.maximum(self._high, [column.max() for column in pixels.T])
        self._noise = max(self._noise, noise(pixels))
        if self._step.name == "zscore":
            self._add_moments(pixels)
        if self._step.name in ("percentile", "robust"):
            self._samples.append(pixels if whole else self._sample(pixels))
            if not whole and sum(sample.size for sample in self._samples) > MAX_SAMPLED:
                self._samples = [sample[::2] for sample in self._samples]
                self._quota = max(1, self._quota // 2)
        self._added += 1

    def _add_moments(self, pixels: Values) -> None:
        # Chan, Golub & LeVeque (1983), eq. 2.1: joining the moments of two sets loses no digits.
        n, moments = len(pixels), np.array([_moments(column) for column in pixels.T])
        mean, squares = moments.T
        total, difference = self._count + n, mean - self._mean
        self._squares = self._squares + squares + difference**2 * (self._count * n / total)
        self._mean = self._mean + difference * (n / total)
        self._count = total

    def _sample(self, pixels: Values) -> Values:
        if len(pixels) <= self._quota:
            return pixels
        return pixels[generator(0, "percentile", self._added).integers(0, len(pixels), self._quota)]

    def _sampled(self) -> Values:
        return self._samples[0] if len(self._samples) == 1 else np.concatenate(self._samples)

    def scaling(self) -> tuple[Scaling, tuple[str, ...]]:
        """Return the normalisation, and what should be said about it. A constant channel is never divided by zero."""
        name = self._step.name
        notes: tuple[str, ...] = ()
        low, high = self._low, self._high
        if name == "zscore":
            low, scale = self._mean, np.sqrt(self._squares / self._count)
        elif name == "max":
            low, scale = np.zeros_like(low), np.maximum(np.abs(low), np.abs(high))
        elif name == "robust":
            low, scale = _median_scale(self._sampled())
        elif name == "percentile":
            samples = self._sampled()
            first, last = np.stack([np.percentile(column, self._step.values) for column in samples.T], axis=1)
            flat = (first >= last) & (low < high)
            if flat.any():
                text = f"{self._step}: the two percentiles are equal, so the extremes were taken in their place"
                notes = (text,)
            low = np.where(flat, low, first)
            scale = np.where(flat, high, last) - low
        else:
            scale = high - low
        scale = np.where(scale > self._noise * np.maximum(np.abs(self._low), np.abs(self._high)), scale, 1.0)
        return Scaling(tuple(map(float, low)), tuple(map(float, scale))), notes


def _median_scale(samples: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return median and 1.4826 median absolute deviations of each channel of ``[N C]``: as wide as sigma where values are normal.

    Where more than half of the values are equal, the standard deviation takes its place.
    """
    middle = np.array([np.median(column) for column in samples.T], np.float64)
    columns = list(zip(samples.T, middle, strict=True))
    width = 1.4826 * np.array([np.median(np.abs(column - centre)) for column, centre in columns], np.float64)
    return middle, np.where(width > 0, width, [column.std(dtype=np.float64) for column in samples.T])


def unsharp(array: Values, radius: float, amount: float, limits: tuple[float, float]) -> Values:
    """Return ``x + amount (x - blurred x)``, blurred by a Gaussian of deviation `radius`, clipped to `limits`."""
    from scipy import ndimage

    sigma = (radius,) * (array.ndim - 1) + (0.0,)
    blurred = ndimage.gaussian_filter(array, sigma, mode="nearest")
    return np.clip(array + amount * (array - blurred), *limits)


def equalize(array: Values, low: float, high: float, clip: float, tiles: int) -> Values:
    """Equalise the contrast locally (CLAHE; Zuiderveld, Graphics Gems IV, 1994), from ``low..high`` to 0-1.

    Three channels are colours: their largest value is equalised and the others keep their ratio to it, so that hue and
    saturation stay. Other channels are equalised one by one.
    """
    if high - low <= noise(array) * max(abs(low), abs(high)):
        return np.zeros_like(array)
    array = np.clip((array - low) / (high - low), 0, 1)
    if array.shape[-1] != 3:
        planes = [_equalized(array[..., channel], clip, tiles) for channel in range(array.shape[-1])]
        return np.stack(planes, axis=-1).astype(array.dtype)
    value = array.max(axis=-1)
    gain = _equalized(value, clip, tiles) / np.where(value > 0, value, 1)
    return np.clip(array * gain[..., None], 0, 1).astype(array.dtype)


def _equalized(plane: Values, clip: float, tiles: int) -> Values:
    from skimage.exposure import equalize_adapthist

    if plane.max() <= plane.min():
        return plane
    if plane.ndim == 3 and plane.shape[-1] in (3, 4):
        # scikit-image would take a last axis of 3 or 4 for colours.
        turn = next((axis for axis in (0, 1) if plane.shape[axis] not in (3, 4)), None)
        if turn is None:
            got, fix = " x ".join(map(str, plane.shape)), "leave clahe out for so small a volume"
            raise InputError("preparation step clahe", expected="a side above 4", got=got, fix=fix)
        return np.swapaxes(_equalized(np.swapaxes(plane, turn, -1), clip, tiles), turn, -1)
    kernel = [max(1, math.ceil(n / tiles)) for n in plane.shape]
    return np.asarray(equalize_adapthist(plane, kernel, clip))
