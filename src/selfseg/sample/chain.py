"""An image under a chain of operations, of which any region can be computed alone.

Each operation names the region before it that a region after it is made of, and computes the one from the other. Of an image in
memory the whole is one region, computed at once after each operation; of an image in its file a region is computed when it is
wanted. Nothing that an operation does depends on how the image is cut: what it needs of the whole image is among its values.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image, spatial_axes
from selfseg.sample import statistics
from selfseg.sample.geometry import (
    NO_ANNOTATION,
    SizeChange,
    annotated_before,
    back_index,
    back_rows,
    forward_annotations,
    forward_index,
    resampled,
)
from selfseg.sample.statistics import Region, Scaling, Valid, Values, bands, spread_windows, within


class Operation(Protocol):
    """One operation, with all that it needs of the whole image: plain values that another process can be sent."""

    def region_before(self, region: Region) -> Region:
        """Return the region of the input that a region of the output is made of."""

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return a region ``[*region C]`` of the output and its mask, out of that of the input; it may be changed in place."""


class Pointwise:
    """An operation on each pixel alone."""

    def region_before(self, region: Region) -> Region:
        """Return the region itself."""
        return region


@dataclass(frozen=True)
class Scaled(Pointwise):
    """A normalisation that is known, and whether it clips to 0-1."""

    scaling: Scaling
    clip: bool

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return the values normalised."""
        return self.scaling.apply(array, self.clip), valid


@dataclass(frozen=True)
class Filled(Pointwise):
    """A value of each channel for the pixels that are not valid, before they are mixed with others."""

    values: tuple[float, ...]

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return the values filled in."""
        if valid is not None:
            array[~valid] = self.values
        return array, valid


@dataclass(frozen=True)
class Foreground(Pointwise):
    """Mark pixels whose brightest channel is not above a threshold as not valid."""

    threshold: float

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return the smaller mask."""
        inside = array.max(axis=-1) > self.threshold
        return array, inside if valid is None else inside & valid


class Chain:
    """One image or volume, without T, under the operations of a `plan`, first to last. Raise `InputError` if it has a time axis.

    Attributes
    ----------
    dtype
        Of the values: float32, or float64 while they need more digits.
    whole
        All values ``[*S C]`` after the operations, and where they are valid; None if they are not in memory.
    """

    def __init__(self, image: Image, plan: tuple[Operation, ...] = ()) -> None:
        if "T" in image.axes:
            raise InputError(
                image.source,
                expected="one image or volume",
                got=f"axes {image.axes}",
                fix="prepare its time points one by one",
            )
        # with a memo of its own: the image keeps what is made of it, and would be kept by it
        self.image, self.n_channels = replace(image, memo={}), image.n_channels
        self.plan: tuple[Operation, ...] = ()
        narrow = image.data.dtype.itemsize <= 2 or image.data.dtype == np.float32
        self.dtype: np.dtype[Any] = np.dtype(np.float32 if narrow else np.float64)
        self.whole: tuple[Values, Valid] | None = None
        self._own_valid: Valid = None  # of an image in memory, before any change of size
        if image.in_memory:
            self.whole = self._source(self.everything)
            self._own_valid = self.whole[1]
        for operation in plan:
            self.add(operation)

    @property
    def changes(self) -> tuple[SizeChange, ...]:
        """Changes of size, first to last."""
        return tuple(operation for operation in self.plan if isinstance(operation, SizeChange))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the spatial axes after the operations."""
        return self.changes[-1].after if self.changes else self.image.spatial_shape

    @property
    def everything(self) -> Region:
        """The region that is the whole image after the operations."""
        return tuple(slice(0, n) for n in self.shape)

    @property
    def _scale(self) -> list[float]:
        """Pixels of the image for each pixel after the operations, along each axis; cuts do not count."""
        scale = [1.0] * len(self.shape)
        for change in self.changes:
            if change.kind == "resample":
                sides = zip(scale, change.before, change.after, strict=True)
                scale = [size * before / after for size, before, after in sides]
        return scale

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a pixel after the operations along each spatial axis, in the image's unit."""
        return tuple(size * scale for size, scale in zip(self.image.spacing, self._scale, strict=True))

    @property
    def shrinking(self) -> float:
        """Pixels of the image for each pixel after the operations."""
        return math.prod(self._scale)

    @property
    def resized(self) -> bool:
        """True if the operations change the size."""
        return bool(self.changes)

    @property
    def may_be_invalid(self) -> bool:
        """True if some pixels may not be valid; found out by reading them."""
        if self.whole is not None:
            return self.whole[1] is not None
        masked = self.image.valid is not None or self.image.data.dtype.kind == "f"
        return masked or any(isinstance(operation, Foreground) for operation in self.plan)

    def add(self, operation: Operation) -> None:
        """Append an operation; it is done at once if the image is in memory."""
        before = self.everything
        self.plan = (*self.plan, operation)
        if self.whole is not None:
            self.whole = operation.apply(*self.whole, before, self.everything)
            if isinstance(operation, Foreground):
                self._own_valid = self.whole[1]

    def valid_in_image(self, region: Region) -> Valid:
        """Return where a region of the image itself is valid and foreground ``[*region]``; None = everywhere."""
        if self.image.in_memory:
            return None if self._own_valid is None else self._own_valid[region]
        if not self.may_be_invalid:
            return None
        places = [number for number, one in enumerate(self.plan, 1) if isinstance(one, Foreground)]
        return self.values(region, max(places, default=0))[1]

    def values(self, region: Region, n_operations: int | None = None) -> tuple[Values, Valid]:
        """Return a region ``[*region C]`` after the operations, or after the first of them, and where it is valid."""
        if self.whole is not None and n_operations is None:
            array, valid = self.whole
            return array[region], None if valid is None else valid[region]
        done = self.plan[:n_operations]
        regions = [region]
        for operation in reversed(done):
            regions.append(operation.region_before(regions[-1]))
        array, valid = self._source(regions[-1])
        for operation, before, after in zip(done, reversed(regions[1:]), reversed(regions[:-1]), strict=True):
            array, valid = operation.apply(array, valid, before, after)
        return array, valid

    def image_window(self, region: Region) -> Image:
        """Read a region of the image itself."""
        return self.image.window(**dict(zip(spatial_axes(self.image.axes), region, strict=True)))

    def _source(self, region: Region) -> tuple[Values, Valid]:
        """Return values that hold all digits of the image's, 0 where they are not valid."""
        window = self.image_window(region)
        array = window.channels_last().astype(self.dtype)
        if self.image.data.dtype.kind == "b":
            array /= 255  # `Image.window` gives 0 and 255
        if window.valid is not None:
            array[~window.valid] = 0
        return array, window.valid

    def parts(self, region: Region) -> Iterator[Region]:
        """Cut a region into bands that are read one after the other, the same ones in memory and in a file."""
        return bands(region, statistics.WINDOW / max(1.0, self.shrinking))

    def pixels(self, seed: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the valid pixels ``[N C]``, or those of windows that a seed decides, part after part."""
        regions = [self.everything]
        if seed is not None:
            side = statistics.WINDOW_SIDE[len(self.shape)]
            regions = spread_windows(self.shape, (side,) * len(self.shape), statistics.LOOKED_AT, seed)
        for part in (band for region in regions for band in self.parts(region)):
            array, valid = self.values(part)
            kept = array.reshape(-1, array.shape[-1]) if valid is None else array[valid]
            if len(kept):
                yield kept


class PreparedImage(Chain):
    """A preparation bound to an image: any region of it, and the way back to the image's own grid.

    The values of a region do not depend on how the image is cut. `prepare` makes it. Its `plan`, plain values, are the operations
    with all statistics.

    Attributes
    ----------
    notes
        What the user should know of what was done, one sentence each.
    memo
        What methods compute of the prepared image and want again: superpixels, graphs.
    """

    def __init__(self, image: Image, plan: tuple[Operation, ...] = ()) -> None:
        super().__init__(image, plan)
        self.notes: tuple[str, ...] = ()
        self.memo: dict[str, Any] = {}
        self._finished: tuple[NDArray[np.float32], Valid] | None = None

    @classmethod
    def from_plan(cls, image: Image, plan: tuple[Operation, ...]) -> "PreparedImage":
        """Bind the `plan` of a prepared image to the same image, opened again: no statistics are taken."""
        prepared = cls(image, plan)
        prepared.finish()
        return prepared

    def finish(self, notes: Iterable[str] = ()) -> None:
        """End the chain of operations: of an image in memory only the prepared values are kept."""
        self.notes = tuple(notes)
        if self.whole is not None:
            self._finished, self.whole = _finished(*self.whole), None

    def is_of(self, image: Image) -> bool:
        """Return whether this was made of an image, and not of one that only shares its memo."""
        own = self.image
        same = own.data is image.data and own.valid is image.valid
        return same and (own.axes, own.spacing) == (image.axes, image.spacing)

    @property
    def array(self) -> NDArray[np.float32]:
        """All of it, ``[C *s]`` float32, 0 where not valid."""
        return self.read()

    def read(self, region: Region | None = None) -> NDArray[np.float32]:
        """Return a region of the prepared image ``[C *region]`` float32, 0 where not valid; None = all of it."""
        return self.window(region)[0]

    def valid(self, region: Region | None = None) -> Valid:
        """Return ``[*region]`` bool, False where a pixel that went into this one must not count; None = all count."""
        return self.window(region)[1] if self.may_be_invalid else None

    def window(self, region: Region | None = None) -> tuple[NDArray[np.float32], Valid]:
        """Return `read` and `valid` of a region at once.

        Where the image is in its file and shrunk, it is read band by band, so that little of it is in memory.
        """
        region = region or self.everything
        if self._finished is not None:
            array, valid = self._finished
            return array[(slice(None), *region)], None if valid is None else valid[region]
        sides = tuple(part.stop - part.start for part in region)
        result = np.empty((self.n_channels, *sides), np.float32)
        inside = np.ones(sides, np.bool_)
        for band in self.parts(region):
            array, valid = _finished(*self.values(band))
            place = within(band, region)
            result[(slice(None), *place)] = array
            if valid is not None:
                inside[place] = valid
        return result, None if inside.all() else inside

    def restore(self, region: Region, probabilities: Callable[[Region], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return probabilities on a region of the image's own grid: linear interpolation; what was cut gets the nearest value.

        Sums over K stay what they were. Use `inside` for the pixels that were really looked at.

        Parameters
        ----------
        region
            Of the image.
        probabilities
            From a region of the prepared image to ``[K *s]``.

        Returns
        -------
        array
            ``[K *region]`` float32.
        """
        changes = self.changes
        if not changes:
            return np.ascontiguousarray(probabilities(region), np.float32)
        parts, matrices = zip(*(back_rows(changes, axis, part) for axis, part in enumerate(region)), strict=True)
        values = np.asarray(probabilities(parts), np.float32)
        if all(matrix is None for matrix in matrices):
            return np.ascontiguousarray(values)
        return np.stack([resampled(plane, matrices) for plane in values])  # one by one: little memory

    def restore_all(self, probabilities: NDArray[Any]) -> NDArray[np.float32]:
        """Bring ``[K *s]`` back to the image's own grid ``[K *S]``, as `restore` does."""
        values = np.asarray(probabilities)
        self._check(values.shape[1:])
        return self.restore(self._image_region(None), lambda region: values[(slice(None), *region)])

    def restore_labels(self, labels: NDArray[Any], fill: int = 0) -> NDArray[Any]:
        """Bring labels ``[*s]`` back to ``[*S]`` (nearest), with `fill` where `inside` is False."""
        labels = np.asarray(labels)
        self._check(labels.shape)
        labels = labels[np.ix_(*self._back())]
        inside = self.inside()
        return labels if inside is None else np.where(inside, labels, labels.dtype.type(fill))

    def inside(self, region: Region | None = None) -> Valid:
        """Return ``[*region]`` bool on the image's own grid: False where a border was cut and where the image is not valid.

        What `multiple` cut counts as inside: it is a rounding of the size, not a wish of the user. None = True everywhere.
        """
        region = self._image_region(region)
        valid = self.valid_in_image(region)
        if all(change.kind != "border" for change in self.changes):
            return valid
        sides = [index[part] >= 0 for index, part in zip(self._back(), region, strict=True)]
        inside = reduce(np.logical_and.outer, sides)
        return inside if valid is None else inside & valid

    def forward_labels(self, labels: NDArray[Any], region: Region | None = None) -> NDArray[Any]:
        """Bring a label image ``[*S]`` to the prepared size ``[*s]``, or a region of it: each pixel gets the nearest one's label.

        Raise `InputError` if the labels are not of the image's size.
        """
        self._check_own("label image", labels.shape, "give them at the size of the image")
        shape, changes = self.image.spatial_shape, self.changes
        parts = enumerate(region or self.everything)
        index = [forward_index(shape, changes, axis)[part] for axis, part in parts]
        return np.ascontiguousarray(labels[np.ix_(*index)])

    def forward_annotations(self, annotations: NDArray[Any], region: Region | None = None) -> NDArray[np.int64]:
        """Bring annotations ``[*S]`` (-1 = none) to the prepared size ``[*s]``, or a region of it; thin lines survive a shrinking.

        Where several classes fall on one pixel, the most frequent wins. Pixels that are not valid lose their
        annotation. Raise `InputError` if the annotations are not of the image's size.
        """
        self._check_own("scribbles", annotations.shape, "draw them on the image at its full size")
        regions = [region or self.everything]
        for change in reversed(self.changes):
            regions.append(annotated_before(change, regions[-1]))
        result = np.asarray(annotations[regions[-1]], np.int64)
        for change, before, after in zip(self.changes, reversed(regions[1:]), reversed(regions[:-1]), strict=True):
            result = forward_annotations(result, change, before, after)
        valid = self.valid(region)
        return np.ascontiguousarray(result if valid is None else np.where(valid, result, NO_ANNOTATION))

    def _back(self) -> list[NDArray[np.int64]]:
        """Return the prepared pixel of each pixel of the image along each axis, -1 in a border that was cut."""
        shape, changes = self.image.spatial_shape, self.changes
        return [back_index(shape, changes, axis) for axis in range(len(shape))]

    def _image_region(self, region: Region | None) -> Region:
        return region or tuple(slice(0, n) for n in self.image.spatial_shape)

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape != self.shape:
            expected, got = (" x ".join(map(str, size)) for size in (self.shape, shape))
            raise UsageError(
                "values to restore",
                expected=f"the prepared size {expected}",
                got=got,
                fix="give what was computed from the prepared array",
            )

    def _check_own(self, what: str, shape: tuple[int, ...], fix: str) -> None:
        if shape != self.image.spatial_shape:
            expected, got = (" x ".join(map(str, size)) for size in (self.image.spatial_shape, shape))
            raise InputError(what, expected=f"the size of the image, {expected}", got=got, fix=fix)


def _finished(array: NDArray[Any], valid: Valid) -> tuple[NDArray[np.float32], Valid]:
    """Return ``[C *s]`` float32 with 0 where a pixel is not valid."""
    if valid is not None:
        array[~valid] = 0
        valid = None if valid.all() else valid
    return np.ascontiguousarray(np.moveaxis(array, -1, 0), np.float32), valid
