"""Preparation of an image that stays in its file: statistics in one pass over it, then any window of it prepared."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.sample.cells import LOOKED_AT, WINDOW, WINDOW_SIDE, Region, bands, spread_windows
from selfseg.sample.geometry import SizeChange, resample_matrix
from selfseg.sample.intensity import Scaling, Statistics, noise
from selfseg.sample.prepare import Preparation
from selfseg.sample.running import LARGEST, UNIT, planned_change
from selfseg.sample.steps import GLOBAL, NORMALISING, Step

RESAMPLING = ("rescale", "size")
"""Steps that change the size and can be done window by window."""

EXTREME = ("minmax", "max")
"""Steps whose statistics are extremes."""


@dataclass(frozen=True)
class Scaled:
    """A normalisation that is known, and whether it clips to 0-1."""

    scaling: Scaling
    clip: bool


@dataclass(frozen=True)
class Windowed:
    """An image whose windows can be prepared one by one, each as if the whole image had been prepared.

    Attributes
    ----------
    image
        The image in its file.
    steps
        What is done to it, first to last.
    at
        Place along axes that are no axes of the prepared image: ``{"T": 3}``.
    seed
        Statistics are of windows that this decides; None = of the whole image.
    """

    image: Image
    steps: tuple[Scaled | SizeChange, ...] = ()
    at: Mapping[str, int] | None = None
    seed: int | None = None

    @property
    def letters(self) -> str:
        """Spatial axes, in their order."""
        return "".join(letter for letter in self.image.axes if letter in "ZYX")

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the prepared image's spatial axes."""
        changes = [step for step in self.steps if isinstance(step, SizeChange)]
        return changes[-1].after if changes else self.image.spatial_shape

    @property
    def shrinking(self) -> float:
        """Pixels of the image for each pixel of the prepared one."""
        return float(np.prod(self.image.spatial_shape, dtype=np.float64) / np.prod(self.shape, dtype=np.float64))

    def window(self, region: Region) -> Image:
        """Read a region of the image itself."""
        return self.image.window(**(self.at or {}), **dict(zip(self.letters, region, strict=True)))

    def read(self, region: Region) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Return a region of the prepared image ``[C *s]``, and where it is valid ``[*s]``, None = everywhere.

        Where the image is shrunk, it is read band by band: no more of it is in memory than `WINDOW` or a single row takes.
        """
        sides = tuple(part.stop - part.start for part in region)
        result = np.empty((self.image.n_channels, *sides), np.float32)
        inside: NDArray[np.bool_] | None = None
        for band in bands(region, WINDOW / max(1.0, self.shrinking)):
            array, valid = self._after(band, len(self.steps))
            place = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(band, region, strict=True))
            if valid is not None:
                array[~valid] = 0
                inside = np.ones(sides, np.bool_) if inside is None else inside
                inside[place] = valid
            result[(slice(None), *place)] = np.moveaxis(array, -1, 0)
        return result, inside

    def _after(self, region: Region, n_steps: int) -> tuple[NDArray[np.floating], NDArray[np.bool_] | None]:
        """Return a region ``[*s C]`` of what the image is after its first steps, and where that is valid."""
        if n_steps == 0:
            return _begun(self.window(region))
        step = self.steps[n_steps - 1]
        if isinstance(step, Scaled):
            array, valid = self._after(region, n_steps - 1)
            return step.scaling.apply(array, step.clip), valid
        before, matrices = _sources(step.before, step.after, region)
        array, valid = self._after(before, n_steps - 1)
        if valid is None:
            return _resampled(array, matrices), None
        array[~valid] = array[valid].mean(axis=0) if valid.any() else 0
        # a pixel is valid if all that it is made of is
        return _resampled(array, matrices), _resampled((~valid).astype(np.float32), matrices) <= 1e-6

    def restored(self, region: Region, probabilities: Callable[[Region], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return probabilities ``[K *region]`` of a region of the image itself, out of those of the prepared image.

        Parameters
        ----------
        region
            Of the image.
        probabilities
            From a region of the prepared image to ``[K *s]``.
        """
        read = probabilities
        for step in reversed(self.steps):
            if isinstance(step, SizeChange):
                read = partial(_grown, step, read)
        return read(region)

    def pixels(self) -> Iterator[NDArray[Any]]:
        """Yield the valid pixels ``[N C]`` of the prepared image, or of windows of it where there is a `seed`, part after part."""
        regions = [tuple(slice(0, n) for n in self.shape)]
        if self.seed is not None:
            side = WINDOW_SIDE[len(self.shape)]
            regions = spread_windows(self.shape, (side,) * len(self.shape), LOOKED_AT, self.seed)
        for part in (band for region in regions for band in bands(region, WINDOW / max(1.0, self.shrinking))):
            array, valid = self._after(part, len(self.steps))
            kept = array.reshape(-1, array.shape[-1]) if valid is None else array[valid]
            if len(kept):
                yield kept


def prepare_windowed(
    preparation: Preparation, image: Image, at: Mapping[str, int] | None = None, seed: int | None = None
) -> Windowed:
    """Take the statistics that a preparation needs of an image in its file.

    Integers of 8 and 16 bits with ``range`` alone need none; else the file is read once for each step that does. The
    result is that of `Preparation.apply`, but for percentiles, which are taken from a sample of each part that is read, and
    for what stands beside pixels that are not valid where the size changes.

    Parameters
    ----------
    preparation
        Its steps may normalise, and resample; those that cut or look at the contrast around need the whole image.
    image
        The image.
    at
        Place along T, where the image is a series.
    seed
        Take means, deviations and percentiles of `LOOKED_AT` windows that this decides, so that the time does not grow with the image.
        Extremes are of all of it nevertheless: one bright pixel elsewhere would change them. None = all statistics are.

    Raises
    ------
    UsageError
        If a step needs the whole image.
    InputError
        If the channels are others than those of the training images, or no value is finite.
    """
    known = (*NORMALISING, *RESAMPLING)
    unfit = [str(step) for step in preparation.steps if step.name not in known]
    if unfit:
        fix = "fit the model with a preparation of such steps, for example --prepare range"
        expected = f"steps that a large image can be prepared by in parts ({', '.join(known)})"
        raise UsageError(f"preparation of {image.source}", expected=expected, got=", ".join(unfit), fix=fix)
    windowed = Windowed(image, at=at, seed=seed)
    limits = _known_limits(image.data.dtype)
    if limits is None and image.data.dtype.kind == "f":
        ranged = any(step.name == "range" for step in preparation.steps)
        low, high = _extremes(_whole(windowed) if ranged else windowed)
        limits = UNIT if low >= 0 and high <= 1 else None
    for step in preparation.steps:
        if step.name in RESAMPLING:
            change = planned_change(step, windowed.shape, image.source)
            windowed = windowed if change.after == change.before else _with(windowed, change)
        else:
            windowed, limits = _with_scaling(windowed, step, limits, preparation.fitted)
    return windowed


def _begun(window: Image) -> tuple[NDArray[np.floating], NDArray[np.bool_] | None]:
    """Return the values of a window ``[*s C]`` as floats that hold all their digits."""
    data = window.channels_last()
    digits = data.dtype.itemsize <= 2 or data.dtype == np.float32
    return data.astype(np.float32 if digits else np.float64), window.valid


def _known_limits(dtype: np.dtype[Any]) -> tuple[float, float] | None:
    if dtype.kind == "b":
        return (0.0, 255.0)
    return (0.0, float(np.iinfo(dtype).max)) if dtype.kind == "u" and dtype.itemsize <= 2 else None


def _with_scaling(
    windowed: Windowed, step: Step, limits: tuple[float, float] | None, fitted: Scaling | None
) -> tuple[Windowed, tuple[float, float] | None]:
    """Return the image with one more normalisation, and the range that its values are of then, None = not known."""
    n_channels = windowed.image.n_channels
    if step.name == "range":
        low, size = (0.0, limits[1]) if limits is not None else _own_range(_whole(windowed))
        return _with(windowed, Scaled(Scaling((low,) * n_channels, (size,) * n_channels), False)), UNIT
    scaling = fitted if step.scope == GLOBAL else None
    if scaling is None:
        statistics = Statistics(step, n_channels)
        for pixels in (_whole(windowed) if step.name in EXTREME else windowed).pixels():
            statistics.add(pixels)
        scaling, _ = statistics.scaling()
    if len(scaling.scale) != n_channels:
        fix = "convert it, or leave it out"
        expected = f"{len(scaling.scale)} channels, like the training images"
        raise InputError(windowed.image.source, expected=expected, got=str(n_channels), fix=fix)
    clips = step.name == "percentile"
    return _with(windowed, Scaled(scaling, clips)), UNIT if clips or step.name == "minmax" else None


def _whole(windowed: Windowed) -> Windowed:
    """Return the same image, its statistics of all of it."""
    return replace(windowed, seed=None)


def _with(windowed: Windowed, step: Scaled | SizeChange) -> Windowed:
    return replace(windowed, steps=(*windowed.steps, step))


def _own_range(windowed: Windowed) -> tuple[float, float]:
    """Return the lowest value, and the size of the range, 1 for a constant."""
    low, high = _extremes(windowed)
    flat = high - low <= noise(np.zeros(0, np.float32)) * max(abs(low), abs(high))
    return low, 1.0 if flat else high - low


def _extremes(windowed: Windowed) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for pixels in windowed.pixels():
        low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
    source = windowed.image.source
    if low > high:
        fix = "check how the file was written, or leave it out"
        raise InputError(source, expected="some finite values", got="only NaN or infinite ones", fix=fix)
    if max(-low, high) > LARGEST:
        fix = "set the pixels without data to NaN"
        raise InputError(source, expected=f"values up to {LARGEST:g}", got=f"values from {low:g} to {high:g}", fix=fix)
    return low, high


def _sources(before: tuple[int, ...], after: tuple[int, ...], region: Region) -> tuple[Region, list[Any]]:
    """Return the region that a region after resampling is made of, and the matrix of each axis between the two."""
    sources, matrices = [], []
    for n_in, n_out, part in zip(before, after, region, strict=True):
        rows = resample_matrix(n_in, n_out)[part]
        first, last = int(rows.indices.min()), int(rows.indices.max()) + 1
        sources.append(slice(first, last))
        matrices.append(rows[:, first:last])
    return tuple(sources), matrices


def _resampled(array: NDArray[Any], matrices: list[Any]) -> NDArray[Any]:
    """Resample the first axes of an array, each by its matrix."""
    for axis, matrix in enumerate(matrices):
        moved = np.ascontiguousarray(np.moveaxis(array, axis, 0))
        result = matrix.astype(array.dtype) @ moved.reshape(len(moved), -1)
        array = np.moveaxis(result.reshape(-1, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(array)


def _grown(
    change: SizeChange, probabilities: Callable[[Region], NDArray[np.float32]], region: Region
) -> NDArray[np.float32]:
    """Return probabilities ``[K *region]`` from before a resampling, out of those from after it."""
    inner, matrices = _sources(change.after, change.before, region)
    return np.stack([_resampled(plane, matrices) for plane in probabilities(inner)])
