"""Statistics of pixels, streamed: images of any size are read part after part, and the result does not depend on their size in memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.core.seed import generator
from selfseg.sample.steps import Step

WINDOW = 2**22
"""Pixels that are read at a time."""

WINDOW_SIDE = {2: 512, 3: 64}
"""Side of a window by the number of spatial axes: as many pixels in a volume as in a picture."""

LOOKED_AT = 32
"""Windows that statistics are taken from where not all of an image is looked at."""

MAX_SAMPLED = 2**22
"""Pixels that percentiles and medians are taken from, at most."""

BULK, OUTER = 2.0, 0.2
"""Percentage of the values at either end that may be outside the bulk, and that may be wild."""

REACH = 1.0
"""An extreme is wild if it is further from the bulk of the values than this many times the width of the bulk."""

MARGIN = 0.5
"""Where an extreme is wild, a limit is at most this many times the width of the bulk beyond the bulk."""

Region = tuple[slice, ...]
Values = NDArray[np.floating]
Valid = NDArray[np.bool_] | None


def spread_windows(shape: Sequence[int], sides: Sequence[int], n: int, seed: int) -> list[Region]:
    """Draw cells of a grid over an image, each at most once.

    Parameters
    ----------
    shape
        Sizes of the image's axes.
    sides
        Sides of a cell; an axis that is shorter is taken whole. What is left over along an axis lies before or behind the grid.
    n
        Cells wanted; all of them come, in random order, if there are fewer.
    seed
        Decides which, and where the grid begins.
    """
    rng = generator(seed, "windows")
    kept = [min(side, size) for side, size in zip(sides, shape, strict=True)]
    counts = [size // side for size, side in zip(shape, kept, strict=True)]
    begins = [int(rng.integers(size - count * side + 1)) for size, count, side in zip(shape, counts, kept, strict=True)]
    total = math.prod(counts)
    chosen = np.unravel_index(rng.choice(total, min(n, total), replace=False), counts)
    return [
        tuple(slice(a + i * side, a + (i + 1) * side) for a, i, side in zip(begins, place, kept, strict=True))
        for place in zip(*(column.tolist() for column in chosen), strict=True)
    ]


def bands(region: Region, most: float) -> Iterator[Region]:
    """Cut a region into parts of at most `most` pixels, along its first axes, in the order of its pixels."""
    first, *rest = region
    row = math.prod(part.stop - part.start for part in rest)
    step = max(1, int(most / row))
    for start in range(first.start, first.stop, step):
        band = slice(start, min(start + step, first.stop))
        if row <= most or not rest:
            yield (band, *rest)
        else:
            yield from ((band, *part) for part in bands(tuple(rest), most))


def within(region: Region, frame: Region) -> Region:
    """Return a region of the image in the frame of a region that holds it."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, frame, strict=True))


@dataclass(frozen=True)
class Scaling:
    """The normalisation ``(x - offset) / scale`` of each channel, and then a clip to 0-1 if asked."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def apply(self, array: Values, clip: bool) -> Values:
        """Normalise ``[*S C]`` in place, and return it."""
        for values, work in ((self.offset, np.subtract), (self.scale, np.divide)):
            # one number for all channels where it can be: numpy is slow when the last axis is short
            work(array, np.asarray(values[0] if len(set(values)) == 1 else values, array.dtype), out=array)
        return np.clip(array, 0, 1, out=array) if clip else array


def noise(dtype: np.dtype[np.floating]) -> float:
    """Return the deviation, relative to the largest value, that is mere rounding: it must not become the unit."""
    return 8 * float(np.finfo(dtype).eps)


class Statistics:
    """Streamed statistics of the pixels of one or many images.

    Extremes are of all pixels. Moments are summed in float64. Percentiles and medians are those of all pixels up to
    `MAX_SAMPLED`; of more, a fixed subset is taken that depends on the number of each pixel only.

    Parameters
    ----------
    name
        The normalising step; ``"zscore"`` for means, ``"minmax"`` for extremes alone.
    values
        The two percentiles of the step `percentile`.

    Attributes
    ----------
    low, high
        Extremes of each channel.
    mean
        Mean of each channel, where moments are wanted.
    count
        Number of pixels.
    """

    def __init__(self, name: str, values: tuple[float, ...] = ()) -> None:
        self._name, self._values = name, values
        self.count = 0
        self.low, self.high, self.mean = np.array(np.inf), np.array(-np.inf), np.zeros(1)
        self._squares = np.zeros(1)
        self._samples: list[tuple[Values, NDArray[np.uint32]]] = []
        self._share = 1.0
        self._noise = 0.0

    @classmethod
    def of(cls, step: Step) -> "Statistics":
        """Return the statistics that a normalising step needs."""
        return cls(step.name, step.values)

    def add(self, pixels: Values) -> None:
        """Take in pixels ``[N C]``, the next ones in the order of the image."""
        # One channel at a time: numpy reduces the first of two axes slowly when the second is short.
        self.low = np.minimum(self.low, [column.min() for column in pixels.T])
        self.high = np.maximum(self.high, [column.max() for column in pixels.T])
        self._noise = max(self._noise, noise(pixels.dtype))
        if self._name == "zscore":
            self._add_moments(pixels)
        if self._name in ("auto", "percentile", "robust"):
            self._sample(pixels)
        self.count += len(pixels)

    def _add_moments(self, pixels: Values) -> None:
        # Chan, Golub & LeVeque (1983), eq. 2.1: joining the moments of two sets loses no digits.
        n, moments = len(pixels), np.array([_moments(column) for column in pixels.T])
        mean, squares = moments.T
        total, difference = self.count + n, mean - self.mean
        self._squares = self._squares + squares + difference**2 * (self.count * n / total)
        self.mean = self.mean + difference * (n / total)

    def _sample(self, pixels: Values) -> None:
        """Keep the pixels whose number has a hash below a share; the share is halved until few enough are kept."""
        hashes = _hashes(self.count, len(pixels))
        if self._share < 1:
            kept = hashes < self._share * 2**32
            pixels, hashes = pixels[kept], hashes[kept]
        self._samples.append((pixels, hashes))
        while sum(len(sample) for sample, _ in self._samples) > MAX_SAMPLED:
            self._share /= 2
            chosen = [(sample, hashes, hashes < self._share * 2**32) for sample, hashes in self._samples]
            self._samples = [(sample[kept], hashes[kept]) for sample, hashes, kept in chosen]

    def scaling(self) -> tuple[Scaling, tuple[str, ...]]:
        """Return the normalisation, and notes for the user. A constant channel is never divided by zero."""
        notes: tuple[str, ...] = ()
        low, high = self.low, self.high
        if self._name == "zscore":
            low, scale = self.mean, np.sqrt(self._squares / self.count)
        elif self._name == "max":
            low, scale = np.zeros_like(low), np.maximum(np.abs(low), np.abs(high))
        elif self._name == "robust":
            low, scale = _median_scale(self._sampled())
        elif self._name == "auto":
            columns = zip(self._sampled().T, self.low, self.high, strict=True)
            low, high = np.transpose([robust_limits(*column) for column in columns])
            scale = high - low
        elif self._name == "percentile":
            pairs = [np.percentile(column, self._values) for column in self._sampled().T]
            first, last = np.stack(pairs, axis=1)
            flat = (first >= last) & (low < high)
            if flat.any():
                step = Step("percentile", self._values)
                notes = (f"{step}: the two percentiles are equal, so the extremes were taken in their place",)
            low = np.where(flat, low, first)
            scale = np.where(flat, high, last) - low
        else:
            scale = high - low
        ends = (low, low + scale) if self._name in ("auto", "percentile", "robust") else (self.low, self.high)
        scale = np.where(scale > self._noise * np.maximum(*np.abs(ends)), scale, 1.0)
        return Scaling(tuple(map(float, low)), tuple(map(float, scale))), notes

    def _sampled(self) -> Values:
        samples = [sample for sample, _ in self._samples]
        return samples[0] if len(samples) == 1 else np.concatenate(samples)


def robust_limits(values: Values, low: float, high: float) -> tuple[float, float]:
    """Return limits that a few wild values do not move: the extremes, unless these are far from the bulk of the values.

    Be p..q the bulk, from the percentile `BULK` to 100 - `BULK`, or `OUTER` where the first two are equal. An extreme beyond
    q + REACH (q - p) is wild; the percentile 100 - `OUTER` takes its place, but at most q + MARGIN (q - p). So nothing is cut
    off where no value is wild, and small bright things stay apart from the ground where some are. Likewise below.

    Parameters
    ----------
    values
        ``[N]``.
    low, high
        Extremes, of these values or of more.
    """
    lowest, first, last, highest = np.percentile(values, (OUTER, BULK, 100 - BULK, 100 - OUTER)).tolist()
    if first == last:
        first, last = lowest, highest
    width = last - first
    if width <= noise(values.dtype) * max(abs(first), abs(last)):
        return float(low), float(high)
    below = low if low >= first - REACH * width else max(lowest, first - MARGIN * width)
    above = high if high <= last + REACH * width else min(highest, last + MARGIN * width)
    return float(below), float(above)


def _moments(column: Values) -> tuple[float, float]:
    """Return the mean of ``[N]`` and the sum of squared deviations from it."""
    mean = column.mean(dtype=np.float64)
    rounded = column.dtype.type(mean)  # so that float32 is not copied to float64
    away = column - rounded
    away *= away
    return float(mean), max(0.0, float(away.sum(dtype=np.float64)) - len(column) * float(mean - rounded) ** 2)


def _hashes(first: int, n: int) -> NDArray[np.uint32]:
    """Return a hash of each of `n` numbers from `first` on (the finaliser of SplitMix64; Steele et al. 2014)."""
    mixed = np.arange(first, first + n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _median_scale(samples: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return median and 1.4826 median absolute deviations of each channel of ``[N C]``: as wide as sigma where values are normal.

    Where more than half of the values are equal, the standard deviation takes its place.
    """
    middle = np.array([np.median(column) for column in samples.T], np.float64)
    columns = list(zip(samples.T, middle, strict=True))
    width = 1.4826 * np.array([np.median(np.abs(column - centre)) for column, centre in columns], np.float64)
    return middle, np.where(width > 0, width, [column.std(dtype=np.float64) for column in samples.T])
