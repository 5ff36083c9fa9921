"""Training images that stay in their files: windows of them, each read when a batch wants it and kept while there is room."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.core.seed import derive
from selfseg.sample.cells import WINDOW_SIDE, Region, spread_windows
from selfseg.sample.lru_cache import LRUCache
from selfseg.sample.prepare import Preparation
from selfseg.sample.stream import Sample
from selfseg.sample.windowed import Windowed, prepare_windowed

KEPT_PIXELS = 2**24
"""Pixels of windows that are kept in memory; others are read again when their turn comes."""

Told = Callable[[int | None, Region], NDArray[np.integer]]
"""From a time point (None = there are none) and a region to what the user says of each pixel there, -1 = nothing."""

TRIES = 8
"""Windows that are looked at for each one wanted, where some have no valid pixel."""


@dataclass(frozen=True)
class WindowSample:
    """A window of a prepared image that is learned from.

    Attributes
    ----------
    windowed
        The image.
    region
        The window, in pixels of the prepared image.
    kept
        Where windows are kept.
    annotations
        What the user says of it ``[*s]``, -1 = nothing; None = nothing is said of this image.
    """

    windowed: Windowed
    region: Region
    kept: LRUCache[Sample] = field(repr=False)
    annotations: NDArray[np.integer] | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and sides ``[C *s]``, known without reading."""
        return (self.windowed.image.n_channels, *(part.stop - part.start for part in self.region))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a pixel of the prepared image along each spatial axis."""
        image = self.windowed.image
        sizes = zip(image.spacing, image.spatial_shape, self.windowed.shape, strict=True)
        return tuple(size * before / after for size, before, after in sizes)

    def read(self) -> Sample:
        """Read the window.

        Raises
        ------
        InputError
            If the file is damaged there.
        """
        image = self.windowed.image
        place = [(part.start, part.stop) for part in self.region]
        key = f"{image.source} {image.name} {self.windowed.at} {place}"
        return self.kept.get_or_make(key, math.prod(self.shape), self._read)

    def _read(self) -> Sample:
        array, valid = self.windowed.read(self.region)
        annotations = None if self.annotations is None else self.annotations.astype(np.int64)
        return Sample(
            array, valid, annotations if annotations is None or valid is None else np.where(valid, annotations, -1)
        )


def window_samples(
    image: Image,
    preparation: Preparation,
    n: int,
    side: int | None,
    seed: int,
    kept: LRUCache[Sample],
    told: Told | None = None,
) -> list[WindowSample]:
    """Choose the windows of an image, or of a series over all its time points, that are learned from.

    They lie on a grid, so that none overlap; which of its cells they are, and where it begins, is drawn. A window without any
    valid pixel is left out, and another one drawn. Those of which the user says something come first: before all others one
    for each of the values.

    Parameters
    ----------
    image
        The image, opened by `read.open_lazy`.
    preparation
        Its global step, if it has one, is fitted. Statistics of an image of its own are of windows (`prepare_windowed`).
    n
        Windows wanted; fewer come where the image has not so many.
    side
        Their side in pixels of the prepared image; None = `WINDOW_SIDE`. Shorter axes are taken whole.
    seed
        Decides which.
    kept
        Where windows are kept.
    told
        What the user says of a region of the image, at a time point or None; None = nothing.

    Raises
    ------
    InputError
        If no window has a valid pixel.
    UsageError
        If a step of the preparation needs the whole image, or changes the size of one that the user says something of.
    """
    times = time_points(image)
    first = None if times is None else 0
    prepared = {first: _looked_at(image, preparation, first, seed)}
    shape = prepared[first].shape
    if told is not None and shape != image.spatial_shape:
        expected, fix = "windows of the image's own pixels", "add --prepare range, or cut the labelled parts out"
        raise UsageError(f"labels of {image.name}", expected=expected, got=str(preparation), fix=fix)
    sides = (side or WINDOW_SIDE[len(shape)],) * len(shape)
    may_be_empty = image.valid is not None or image.data.dtype.kind == "f"
    drawn = n * (TRIES if may_be_empty else 1) if told is None else sys.maxsize
    found: list[WindowSample] = []
    for at, region in _places(shape, sides, times, drawn, seed, told):
        if at not in prepared:
            prepared[at] = _looked_at(image, preparation, at, seed)
        sample = WindowSample(prepared[at], region, kept, None if told is None else told(at, region))
        valid = sample.read().valid if may_be_empty else None
        if valid is None or valid.any():
            found.append(sample)
        if len(found) == n:
            break
    if not found:
        fix = "leave it out, or cut its empty part off"
        raise InputError(image.source, expected="windows with valid pixels", got="none", fix=fix)
    return found


def _places(
    shape: tuple[int, ...], sides: tuple[int, ...], times: int | None, n: int, seed: int, told: Told | None
) -> list[tuple[int | None, Region]]:
    """Draw time points and regions; sort them by what the user says of them."""
    wanted = (shape, sides) if times is None else ((times, *shape), (1, *sides))
    drawn = spread_windows(*wanted, n, derive(seed, "windows"))
    places: list[tuple[int | None, Region]]
    places = [(None, place) if times is None else (int(place[0].start), place[1:]) for place in drawn]
    if told is None:
        return places
    new: list[tuple[int | None, Region]] = []
    known, silent, seen = new.copy(), new.copy(), set[int]()
    for place in places:
        values = {int(value) for value in np.unique(told(*place)) if value >= 0}
        (new if values - seen else known if values else silent).append(place)
        seen |= values
    return [*new, *known, *silent]


def time_points(image: Image) -> int | None:
    """Return how many time points an image has; None without an axis T."""
    return int(image.data.shape[image.axes.index("T")]) if "T" in image.axes else None


def window_pixels(image: Image, before: Preparation, seed: int) -> Iterator[NDArray[np.floating]]:
    """Yield the valid pixels ``[N C]`` of windows of an image after some steps, for statistics over all training images.

    Of a series, windows of its first, middle and last time point.
    """
    times = time_points(image)
    chosen: Sequence[int | None] = [None] if times is None else sorted({0, times // 2, times - 1})
    for at in chosen:
        yield from _looked_at(image, before, at, seed).pixels()


def _looked_at(image: Image, preparation: Preparation, at: int | None, seed: int) -> Windowed:
    return prepare_windowed(preparation, image, None if at is None else {"T": at}, derive(seed, "statistics"))
