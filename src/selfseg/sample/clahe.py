"""Contrast limited adaptive histogram equalisation (CLAHE; Zuiderveld, Graphics Gems IV, 1994), by regions.

The histograms of the tiles and the extremes of the result are taken in passes over the image; then each pixel is mapped alone, by
the curves of the tiles around it. The result is scikit-image's `equalize_adapthist`, digit for digit.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from selfseg.sample.chain import Chain, Pointwise
from selfseg.sample.statistics import Region, Valid, Values, noise

LEVELS = 2**14
"""Grey levels."""

N_BINS = 256
"""Bins of a histogram, at least as many as are used."""

WIDTH = 1 + LEVELS // N_BINS
"""Grey levels in a bin."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Map of the grey levels of one plane."""

    low: float
    high: float
    """Extremes of the plane."""
    tiles: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, N_BINS), np.int64))
    """``[T N_BINS]`` grey level of each bin in each tile; T is 0 where the plane is constant, which stays as it is."""
    darkest: int = 0
    brightest: int = LEVELS - 1
    """Extremes of the result, in grey levels."""

    def levels(self, plane: Values) -> NDArray[np.uint16]:
        """Return the grey levels of values from 0 to 1."""
        first, last, deep = (np.rint(np.multiply(x, 65535, dtype=plane.dtype)) for x in (self.low, self.high, plane))
        table = np.arange(2**16)
        if last > first:
            table = np.round((table - float(first)) / (float(last) - float(first)) * (LEVELS - 1))
        return np.clip(table, 0, LEVELS - 1).astype(np.uint16)[deep.astype(np.uint16)]


@dataclass(frozen=True, eq=False)
class Clahe(Pointwise):
    """Equalise the contrast locally, from ``low..high`` to 0-1.

    Three channels are colours: their largest value is equalised and the others keep their ratio to it, so that hue and
    saturation stay. Other channels are equalised one by one.
    """

    low: float
    high: float
    """Extremes of all channels."""
    shape: tuple[int, ...]
    """``*S`` of the image."""
    sides: tuple[int, ...]
    """Pixels of a tile along each axis."""
    planes: tuple[Curves, ...] = ()
    """Curves of each plane; empty = the image is constant, and becomes 0."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(-(-n // side) for n, side in zip(self.shape, self.sides, strict=True))

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return the values equalised."""
        if not self.planes:
            return np.zeros_like(array), valid
        planes = self.split(array)
        mapped = [self._equalized(*pair, region) for pair in zip(planes, self.planes, strict=True)]
        if array.shape[-1] != 3:
            return np.stack(mapped, axis=-1).astype(array.dtype), valid
        gain = mapped[0] / np.where(planes[0] > 0, planes[0], 1)
        return np.clip(self._unit(array) * gain[..., None], 0, 1).astype(array.dtype), valid

    def _unit(self, array: Values) -> Values:
        """Return the values from 0 to 1."""
        return np.clip((array - self.low) / (self.high - self.low), 0, 1)

    def split(self, array: Values) -> list[Values]:
        """Return the planes ``[*s]`` of ``[*s C]`` that are equalised, from 0 to 1."""
        planes = [array[..., c] for c in range(array.shape[-1])]
        return [self._unit(plane) for plane in ([reduce(np.maximum, planes)] if len(planes) == 3 else planes)]

    def mapped(self, plane: Values, curves: Curves, region: Region) -> NDArray[np.uint16]:
        """Return the grey levels of a plane ``[*region]`` after the curves, interpolated between the nearest tiles."""
        bins = (curves.levels(plane) // WIDTH).astype(np.int64)
        padded = [np.arange(p.start, p.stop) + k // 2 for p, k in zip(region, self.sides, strict=True)]
        shares = [(at % k) / k for at, k in zip(padded, self.sides, strict=True)]
        result = np.zeros(plane.shape, np.float32)
        for edge in np.ndindex(*(2,) * plane.ndim):
            places = zip(padded, edge, self.sides, self.counts, strict=True)
            tiles = [np.clip(at // k + e - 1, 0, n - 1) for at, e, k, n in places]
            weight = np.ones((1,) * plane.ndim)
            for axis in reversed(range(plane.ndim)):  # in scikit-image's order, for the same digits
                share = shares[axis] if edge[axis] else 1 - shares[axis]
                weight = weight * share.reshape([-1 if i == axis else 1 for i in range(plane.ndim)])
            result += (curves.tiles.take(self._number(tiles, bins)) * weight).astype(np.float32)
        return result.astype(np.uint16)

    def _number(self, tiles: list[NDArray[np.int64]], bins: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each pixel's bin in an array ``[T N_BINS]``, of the tile of each row, column, ... of pixels."""
        factors = np.cumprod([N_BINS, *self.counts[:0:-1]])[::-1]
        for axis, (tile, factor) in enumerate(zip(tiles, factors, strict=True)):
            bins = bins + (tile * factor).reshape([-1 if i == axis else 1 for i in range(bins.ndim)])
        return bins

    def _equalized(self, plane: Values, curves: Curves, region: Region) -> Values:
        if not len(curves.tiles):
            return plane
        levels = self.mapped(plane, curves, region).astype(plane.dtype)
        if curves.brightest <= curves.darkest:
            return np.clip(levels, 0, 1)
        low, high = float(curves.darkest), float(curves.brightest)
        return np.asarray((levels - low) / (high - low), plane.dtype)

    def histograms(self, plane: Values, curves: Curves, region: Region) -> NDArray[np.int64]:
        """Return what a region adds to the histograms of the tiles ``[T N_BINS]``; beyond the image lies its mirror image."""
        bins, tiles = curves.levels(plane) // WIDTH, []
        for axis, (part, k, n) in enumerate(zip(region, self.sides, self.counts, strict=True)):
            source = np.pad(np.arange(self.shape[axis]), (0, n * k - self.shape[axis]), mode="reflect")  # [n k]
            at = np.nonzero((source >= part.start) & (source < part.stop))[0]
            bins = np.take(bins, source[at] - part.start, axis=axis)
            tiles.append(at // k)
        numbers = self._number(tiles, bins.astype(np.int64))
        return np.bincount(numbers.ravel(), minlength=math.prod(self.counts) * N_BINS).reshape(-1, N_BINS)


def measure_clahe(chain: Chain, low: float, high: float, clip: float, tiles: int) -> Clahe:
    """Take the curves of an image, whose valid pixels go from `low` to `high`, in three passes over it.

    A bin may hold at most the share `clip`, 0-1, of the pixels of one of the `tiles` a side.
    """
    sides = tuple(max(1, math.ceil(n / tiles)) for n in chain.shape)
    clahe = Clahe(low, high, chain.shape, sides)
    if high - low <= noise(chain.dtype) * max(abs(low), abs(high)):
        return clahe

    extremes = np.array([[(plane.min(), plane.max()) for plane in split] for _, split in _planes(chain, clahe)])
    curves = [Curves(float(some[:, 0].min()), float(some[:, 1].max())) for some in np.moveaxis(extremes, 1, 0)]
    counts = [np.zeros((math.prod(clahe.counts), N_BINS), np.int64) for _ in curves]
    for part, split in _planes(chain, clahe):
        for plane, curve, count in zip(split, curves, counts, strict=True):
            count += clahe.histograms(plane, curve, part)
    size = math.prod(sides)
    most = max(1, int(clip * size))
    for i, count in enumerate(counts):
        if curves[i].high > curves[i].low:
            curves[i] = replace(curves[i], tiles=np.stack([_curve(tile, most, size) for tile in count]))
    return replace(clahe, planes=tuple(_with_extremes(chain, clahe, curves)))


def _planes(chain: Chain, clahe: Clahe) -> Iterator[tuple[Region, list[Values]]]:
    """Yield parts of an image with their planes."""
    for part in chain.parts(chain.everything):
        yield part, clahe.split(chain.values(part)[0])


def _with_extremes(chain: Chain, clahe: Clahe, curves: list[Curves]) -> Iterator[Curves]:
    """Yield the curves with the extremes of what they make of the image."""
    ends = [(LEVELS, 0) for _ in curves]
    for part, split in _planes(chain, clahe):
        for i, (plane, curve) in enumerate(zip(split, curves, strict=True)):
            if len(curve.tiles):
                levels = clahe.mapped(plane, curve, part)
                ends[i] = min(ends[i][0], int(levels.min())), max(ends[i][1], int(levels.max()))
    for curve, (darkest, brightest) in zip(curves, ends, strict=True):
        yield replace(curve, darkest=darkest, brightest=brightest)


def _curve(histogram: NDArray[np.int64], most: int, n_pixels: int) -> NDArray[np.int64]:
    """Return the grey level of each bin: the cumulated histogram, what is above `most` spread over the other bins."""
    hist = np.minimum(histogram, most)
    excess = int(histogram.sum() - hist.sum())
    each = excess // N_BINS
    lower = hist < most - each
    excess -= int(lower.sum()) * each
    hist[lower] += each
    excess -= int((most - hist[~lower]).sum())
    hist[~lower] = most
    while excess > 0:
        before = excess
        for first in range(N_BINS):
            free = hist < most
            step = max(1, int(np.count_nonzero(free)) // excess)
            chosen = free[first::step]
            hist[first::step][chosen] += 1
            excess -= int(np.count_nonzero(chosen))
            if excess <= 0:
                break
        if excess == before:
            break
    return np.minimum(np.cumsum(hist) * ((LEVELS - 1) / n_pixels), LEVELS - 1).astype(np.int64)
