"""An image under a chain of operations, of which any region can be computed alone.

Each operation names the region before it that a region after it is made of, and computes the one from the other. Of an image in
memory the whole is one region, computed at once after each operation; of an image in its file a region is computed when it is
wanted. Nothing that an operation does depends on how the image is cut: what it needs of the whole image is among its values.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import Image, spatial_axes
from selfseg.sample import statistics
from selfseg.sample.geometry import SizeChange
from selfseg.sample.statistics import Region, Scaling, Valid, Values, bands, spread_windows, within

TRUNCATE = 4.0
"""Standard deviations after which a Gaussian is cut off (SciPy's default)."""


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


@dataclass(frozen=True)
class Unsharp:
    """Sharpen: ``x + amount (x - blurred x)``, blurred by a Gaussian of deviation `radius` pixels, clipped to low..high."""

    radius: float
    amount: float
    low: float
    high: float
    shape: tuple[int, ...]
    """``*S``, at whose sides the Gaussian sees the nearest pixel."""

    def region_before(self, region: Region) -> Region:
        """Return the region and all that the Gaussian reaches from it."""
        reach = int(TRUNCATE * self.radius + 0.5)
        sides = zip(region, self.shape, strict=True)
        return tuple(slice(max(0, part.start - reach), min(n, part.stop + reach)) for part, n in sides)

    def apply(self, array: Values, valid: Valid, before: Region, region: Region) -> tuple[Values, Valid]:
        """Return the values sharpened."""
        from scipy import ndimage

        sigma = (self.radius,) * len(self.shape) + (0.0,)
        blurred = ndimage.gaussian_filter(array, sigma, mode="nearest", truncate=TRUNCATE)
        inner = within(region, before)
        array, blurred = array[inner], blurred[inner]
        sharp = np.clip(array + self.amount * (array - blurred), self.low, self.high)
        return sharp, None if valid is None else valid[inner]


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
            fix = "prepare its time points one by one"
            raise InputError(image.source, expected="one image or volume", got=f"axes {image.axes}", fix=fix)
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
        """Whether the operations change the size."""
        return bool(self.changes)

    @property
    def may_be_invalid(self) -> bool:
        """Whether some pixels may not be valid; found out by reading them."""
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
