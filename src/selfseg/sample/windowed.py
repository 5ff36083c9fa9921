"""Preparation of an image that stays in its file: statistics in one pass over it, then any window of it prepared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError, explain
from selfseg.core.image import Image
from selfseg.read.lazy import LazyImage
from selfseg.sample.intensity import Scaling, Statistics, noise
from selfseg.sample.prepare import Preparation
from selfseg.sample.running import LARGEST, UNIT
from selfseg.sample.steps import GLOBAL, NORMALISING, Step

WINDOW = 2**22
"""Pixels that are read at a time for statistics."""


@dataclass(frozen=True)
class Windowed:
    """An image whose windows can be prepared one by one, each as if the whole image had been prepared.

    Attributes
    ----------
    image
        The image in its file.
    scalings
        Normalisations, first to last, and whether each clips to 0-1.
    at
        Place along axes that are no axes of the prepared image: ``{"T": 3}``.
    """

    image: LazyImage
    scalings: tuple[tuple[Scaling, bool], ...] = ()
    at: Mapping[str, int] | None = None

    @property
    def letters(self) -> str:
        """Spatial axes, in their order."""
        return "".join(letter for letter in self.image.axes if letter in "ZYX")

    def window(self, region: tuple[slice, ...]) -> Image:
        """Read a region of the spatial axes."""
        return self.image.window(**(self.at or {}), **dict(zip(self.letters, region, strict=True)))

    def read(self, region: tuple[slice, ...]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Return a prepared region ``[C *s]`` and where it is valid ``[*s]``, None = everywhere."""
        window = self.window(region)
        array, valid = self._scaled(window), window.valid
        if valid is not None:
            array[~valid] = 0
        return np.ascontiguousarray(np.moveaxis(array, -1, 0), np.float32), valid

    def _scaled(self, window: Image) -> NDArray[np.floating]:
        """Return ``[*s C]`` normalised by what is known so far."""
        data = window.channels_last()
        digits = data.dtype.itemsize <= 2 or data.dtype == np.float32
        array: NDArray[np.floating] = data.astype(np.float32 if digits else np.float64)
        for scaling, clip in self.scalings:
            array = scaling.apply(array, clip)
        return array

    def pixels(self) -> Iterator[NDArray[Any]]:
        """Yield the valid pixels ``[N C]``, window after window."""
        sizes = self.image.spatial_shape
        rows = max(1, WINDOW // max(1, int(np.prod(sizes[1:], dtype=np.int64))))
        for start in range(0, sizes[0], rows):
            window = self.window((slice(start, min(start + rows, sizes[0])), *(slice(0, n) for n in sizes[1:])))
            array = self._scaled(window)
            kept = array.reshape(-1, array.shape[-1]) if window.valid is None else array[window.valid]
            if len(kept):
                yield kept


def prepare_windowed(preparation: Preparation, image: LazyImage, at: Mapping[str, int] | None = None) -> Windowed:
    """Take the statistics that a preparation needs of an image in its file.

    Integers of 8 and 16 bits with ``range`` alone need none; else the file is read once for each step that does. The
    result is that of `Preparation.apply`, but for percentiles, which are taken from a sample of each part that is read.

    Parameters
    ----------
    preparation
        Its steps must normalise and nothing else: those that change the size, or look at neighbours, need the whole image.
    image
        The image.
    at
        Place along T, where the image is a series.

    Raises
    ------
    UsageError
        If a step needs the whole image.
    InputError
        If the channels are others than those of the training images, or no value is finite.
    """
    unfit = [str(step) for step in preparation.steps if step.name not in NORMALISING]
    if unfit:
        fix = "fit the model with a preparation of such steps, for example --preset full or --prepare range"
        expected = f"steps that a large image can be prepared by in parts ({', '.join(NORMALISING)})"
        raise UsageError(explain(f"preparation of {image.source}", expected=expected, got=", ".join(unfit), fix=fix))
    windowed = Windowed(image, at=at)
    limits = _known_limits(image.data.dtype)
    if limits is None:
        low, high = _extremes(windowed)
        limits = UNIT if image.data.dtype.kind == "f" and low >= 0 and high <= 1 else None
    for step in preparation.steps:
        windowed, limits = _with_step(windowed, step, limits, preparation.fitted)
    return windowed


def _known_limits(dtype: np.dtype[Any]) -> tuple[float, float] | None:
    if dtype.kind == "b":
        return (0.0, 255.0)
    return (0.0, float(np.iinfo(dtype).max)) if dtype.kind == "u" and dtype.itemsize <= 2 else None


def _with_step(
    windowed: Windowed, step: Step, limits: tuple[float, float] | None, fitted: Scaling | None
) -> tuple[Windowed, tuple[float, float] | None]:
    """Return the image with one more step, and the range that its values are of then, None = not known."""
    n_channels = windowed.image.n_channels
    if step.name == "range":
        if limits is None:
            low, high = _extremes(windowed)
            flat = high - low <= noise(np.zeros(0, np.float32)) * max(abs(low), abs(high))
            size = 1.0 if flat else high - low
        else:
            low, size = 0.0, limits[1]
        return _scaled_by(windowed, Scaling((low,) * n_channels, (size,) * n_channels), False), UNIT
    scaling = fitted if step.scope == GLOBAL else None
    if scaling is None:
        statistics = Statistics(step, n_channels)
        for pixels in windowed.pixels():
            statistics.add(pixels)
        scaling, _ = statistics.scaling()
    if len(scaling.scale) != n_channels:
        fix = "convert it, or leave it out"
        expected = f"{len(scaling.scale)} channels, like the training images"
        raise InputError(explain(windowed.image.source, expected=expected, got=str(n_channels), fix=fix))
    clips = step.name == "percentile"
    return _scaled_by(windowed, scaling, clips), UNIT if clips or step.name == "minmax" else None


def _scaled_by(windowed: Windowed, scaling: Scaling, clip: bool) -> Windowed:
    return replace(windowed, scalings=(*windowed.scalings, (scaling, clip)))


def _extremes(windowed: Windowed) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for pixels in windowed.pixels():
        low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
    source = windowed.image.source
    if low > high:
        fix = "check how the file was written, or leave it out"
        raise InputError(explain(source, expected="some finite values", got="only NaN or infinite ones", fix=fix))
    if max(-low, high) > LARGEST:
        fix = "set the pixels without data to NaN"
        got = f"values from {low:g} to {high:g}"
        raise InputError(explain(source, expected=f"values up to {LARGEST:g}", got=got, fix=fix))
    return low, high
