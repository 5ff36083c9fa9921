"""Training images that stay in their files: windows of them, each read when a batch wants it and kept while there is room."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.core.machine import LRUCache
from selfseg.core.seed import derive
from selfseg.sample.chain import PreparedImage
from selfseg.sample.prepare import Preparation, prepare
from selfseg.sample.statistics import WINDOW_SIDE, Region, spread_windows
from selfseg.sample.stream import Memo, Sample

KEPT_PIXELS = 2**24
"""Pixels of windows that are kept in memory; others are read again when their turn comes."""

AnnotationsAt = Callable[[PreparedImage, int | None, Region], NDArray[np.integer]]
"""From the prepared image, a time point (None = there are none) and a region of it to the annotation of each pixel there, -1 = none."""

TRIES = 8
"""Windows that are looked at for each one wanted, where some have no valid pixel."""


@dataclass(frozen=True)
class WindowSample:
    """A window of a prepared image that is learned from."""

    prepared: PreparedImage
    """The prepared image."""
    region: Region
    """The window, in pixels of the prepared image."""
    kept: LRUCache[Sample] = field(repr=False)
    """Where windows are kept."""
    annotations: NDArray[np.integer] | None = field(default=None, repr=False)
    """Those of the window ``[*s]``, -1 = none; None = the image has none."""
    time: int | None = None
    """Time point of a series."""
    given: Memo = field(default_factory=dict, repr=False)
    """First content of the window's memo: the user's own superpixels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and sides ``[C *s]``, known without reading."""
        return (self.prepared.n_channels, *(part.stop - part.start for part in self.region))

    def read(self) -> Sample:
        """Read the window. Raise `InputError` if the file is damaged there."""
        image = self.prepared.image
        place = [(part.start, part.stop) for part in self.region]
        key = f"{image.source} {image.name} {self.time} {place}"
        window = self.kept.get_or_make(key, math.prod(self.shape), self._read)
        if window.memo is not None:
            window.memo.update(self.given)
        if self.annotations is None:
            return window
        valid = True if window.valid is None else window.valid
        return replace(window, annotations=np.where(valid, self.annotations, -1).astype(np.int64))

    def _read(self) -> Sample:
        return Sample(*self.prepared.window(self.region), memo={})


def window_samples(
    image: Image,
    preparation: Preparation,
    n: int,
    side: int | None,
    seed: int,
    kept: LRUCache[Sample],
    annotations: AnnotationsAt | None = None,
) -> list[WindowSample]:
    """Choose the windows of an image, or of a series over all its time points, that are learned from.

    They lie on a grid, so that none overlap; which of its cells they are, and where it begins, is drawn. A window without any
    valid pixel is left out, and another one drawn. Those with annotations come first: before all others one for each of the values.

    Parameters
    ----------
    image
        The image, opened by `read.open_lazy`.
    preparation
        Its global step, if it has one, is fitted. Statistics of an image of its own are of windows (`prepare`).
    n
        Windows wanted; fewer come where the image has fewer.
    side
        Their side in pixels of the prepared image; None = `WINDOW_SIDE`. Shorter axes are taken whole.
    seed
        Decides which.
    kept
        Where windows are kept.
    annotations
        Those of a region of the prepared image; None = it has none.

    Raises
    ------
    InputError
        If no window has a valid pixel.
    """
    times = time_points(image)
    first = None if times is None else 0
    prepared = {first: _prepared(image, preparation, first, seed)}
    shape = prepared[first].shape
    sides = (side or WINDOW_SIDE[len(shape)],) * len(shape)
    may_be_empty = prepared[first].may_be_invalid
    drawn = n * (TRIES if may_be_empty else 1) if annotations is None else sys.maxsize
    found: list[WindowSample] = []
    annotations_at = None if annotations is None else partial(annotations, prepared[first])
    for time, region in _places(shape, sides, times, drawn, seed, annotations_at):
        if time not in prepared:
            prepared[time] = _prepared(image, preparation, time, seed)
        own = None if annotations is None else annotations(prepared[time], time, region)
        sample = WindowSample(prepared[time], region, kept, own, time)
        valid = sample.read().valid if may_be_empty else None
        if valid is None or valid.any():
            found.append(sample)
        if len(found) == n:
            break
    if not found:
        raise InputError(
            image.source,
            expected="windows with valid pixels",
            got="none",
            fix="leave it out, or cut its empty part off",
        )
    return found


def _places(
    shape: tuple[int, ...],
    sides: tuple[int, ...],
    times: int | None,
    n: int,
    seed: int,
    annotations: Callable[[int | None, Region], NDArray[np.integer]] | None,
) -> list[tuple[int | None, Region]]:
    """Draw time points and regions; sort them by their annotations."""
    wanted = (shape, sides) if times is None else ((times, *shape), (1, *sides))
    drawn = spread_windows(*wanted, n, derive(seed, "windows"))
    places: list[tuple[int | None, Region]]
    places = [(None, place) if times is None else (int(place[0].start), place[1:]) for place in drawn]
    if annotations is None:
        return places
    new: list[tuple[int | None, Region]] = []
    known, silent, seen = new.copy(), new.copy(), set[int]()
    for place in places:
        values = {int(value) for value in np.unique(annotations(*place)) if value >= 0}
        (new if values - seen else known if values else silent).append(place)
        seen |= values
    return [*new, *known, *silent]


def time_points(image: Image) -> int | None:
    """Return how many time points an image has; None without an axis T."""
    return int(image.data.shape[image.axes.index("T")]) if "T" in image.axes else None


def window_pixels(image: Image, preparation: Preparation, seed: int) -> Iterator[NDArray[np.floating]]:
    """Yield the valid pixels ``[N C]`` of windows of an image that a global step takes its statistics of (`Preparation.pixels`).

    Of a series, windows of its first, middle and last time point.
    """
    times = time_points(image)
    chosen: Sequence[int | None] = [None] if times is None else sorted({0, times // 2, times - 1})
    for time in chosen:
        yield from preparation.pixels_if_any(image if time is None else image.at("T", time), derive(seed, "statistics"))


def _prepared(image: Image, preparation: Preparation, time: int | None, seed: int) -> PreparedImage:
    return prepare(image if time is None else image.at("T", time), preparation, derive(seed, "statistics"))
