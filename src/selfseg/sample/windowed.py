"""Operations on each pixel and its neighbours: sharpen, smooth, keep narrow things, even out the light."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from selfseg.sample.statistics import Region, Valid, Values, within

TRUNCATE = 4.0
"""Standard deviations after which a Gaussian is cut off (SciPy's default)."""

LEAST_WEIGHT = 1e-4
"""Share of a window that must be valid: less is rounding."""

DIMMEST = 0.1
"""Least light that `Flattened` divides by, as a share of the mean."""


class Windowed:
    """An operation on each pixel and its neighbours."""

    shape: tuple[int, ...]
    """``*S``, at whose sides a window sees the nearest pixel."""

    @property
    def reach(self) -> tuple[int, ...]:
        """Pixels along each axis that a pixel's value depends on, to either side."""
        raise NotImplementedError

    def region_before(self, region: Region) -> Region:
        """Return the region and all within reach of it."""
        sides = zip(region, self.shape, self.reach, strict=True)
        return tuple(slice(max(0, part.start - reach), min(n, part.stop + reach)) for part, n, reach in sides)


@dataclass(frozen=True)
class Unsharp(Windowed):
    """Sharpen: ``x + amount (x - blurred x)``, blurred by a Gaussian of deviation `radius` pixels, clipped to low..high."""

    radius: float
    amount: float
    low: float
    high: float
    shape: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Reach of the Gaussian."""
        return (_gaussian_reach(self.radius),) * len(self.shape)

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return the values sharpened."""
        sigma = (self.radius,) * len(self.shape) + (0.0,)
        blurred = ndimage.gaussian_filter(array, sigma, mode="nearest", truncate=TRUNCATE)
        inner = within(region, before)
        array, blurred = array[inner], blurred[inner]
        sharp = np.clip(array + self.amount * (array - blurred), self.low, self.high)
        return sharp, None if valid is None else valid[inner]


@dataclass(frozen=True)
class Smoothed(Windowed):
    """A Gaussian mean over the valid pixels around each pixel."""

    sigmas: tuple[float, ...]
    """Standard deviations along each axis, in pixels."""
    shape: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Reach of the Gaussian."""
        return tuple(map(_gaussian_reach, self.sigmas))

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return the means."""

        def blur(values: Values) -> Values:
            sigmas = self.sigmas + (0.0,) * (values.ndim - len(self.shape))
            return ndimage.gaussian_filter(values, sigmas, mode="nearest", truncate=TRUNCATE)

        return _inner(_mean_of_valid(array, valid, blur), valid, before, region)


@dataclass(frozen=True)
class Flattened(Windowed):
    """Even out the light: each pixel times the mean of its channel over the mean around it, as distances from black.

    The mean around a pixel is that of three boxes one after the other, which is nearly Gaussian and takes the same time for any size.
    It counts as at least `DIMMEST` of the channel's mean. The result is clipped to black..white.
    """

    sizes: tuple[int, ...]
    """Sides of a box along each axis, in pixels, odd."""
    means: tuple[float, ...]
    """Mean of each channel in the whole image."""
    black: float
    white: float
    shape: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Reach of three boxes."""
        return tuple(3 * (size // 2) for size in self.sizes)

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return the values in even light."""

        def blur(values: Values) -> Values:
            for _ in range(3):
                for axis, size in enumerate(self.sizes):
                    values = ndimage.uniform_filter1d(values, size, axis, mode="nearest")
            return values

        light = _mean_of_valid(array, valid, blur) - self.black
        mean = np.asarray(self.means, array.dtype) - self.black
        lit = np.maximum(light, DIMMEST * mean)
        gain = np.where(lit > 0, mean / np.where(lit > 0, lit, 1), 1)
        flat = np.clip(self.black + (array - self.black) * gain, self.black, self.white).astype(array.dtype)
        return _inner(flat, valid, before, region)


@dataclass(frozen=True)
class TopHat(Windowed):
    """Height of a pixel above what is left of its surroundings when bright things that a box does not fit into are removed.

    White top-hat, x minus its opening; for dark things the black one, the closing minus x (Serra 1982). Pixels that are not valid
    take no part, and become 0.
    """

    sizes: tuple[int, ...]
    """Sides of the box along each axis, in pixels, odd."""
    sign: int
    """1 for bright things, -1 for dark ones."""
    shape: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Reach of an erosion and a dilation."""
        return tuple(2 * (size // 2) for size in self.sizes)

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return the heights."""
        signed, sizes = self.sign * array, (*self.sizes, 1)
        lowest = signed if valid is None else np.where(valid[..., None], signed, np.inf).astype(array.dtype)
        lowest = ndimage.minimum_filter(lowest, sizes, mode="nearest")
        lowest[lowest == np.inf] = -np.inf  # no valid pixel in the box
        height = signed - ndimage.maximum_filter(lowest, sizes, mode="nearest")
        if valid is not None:
            height[~valid] = 0
        return _inner(height, valid, before, region)


def _gaussian_reach(sigma: float) -> int:
    return int(TRUNCATE * sigma + 0.5)


def _mean_of_valid(array: Values, valid: Valid, blur: Callable[[Values], Values]) -> Values:
    """Return what `blur` makes of the valid pixels of ``[*s C]`` alone; a pixel without one in its window keeps its value."""
    if valid is None:
        return blur(array)
    weight = blur(valid.astype(array.dtype))[..., None]
    total = blur(np.where(valid[..., None], array, 0).astype(array.dtype))
    seen = weight > LEAST_WEIGHT
    return np.where(seen, total / np.where(seen, weight, 1), array).astype(array.dtype)


def _inner(array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
    inner = within(region, before)
    return array[inner], None if valid is None else valid[inner]
