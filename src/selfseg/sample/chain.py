"""An image under a chain of operations, of which any region can be computed alone.

Each operation names the region before it that a region after it is made of, and computes the one from the other. Of an image in
memory the whole is one region, computed at once after each operation; of an image in its file a region is computed when it is
wanted. Nothing that an operation does depends on how the image is cut: what it needs of the whole image is among its values.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image, spatial_axes
from selfseg.sample import statistics
from selfseg.sample.clahe import measure_clahe
from selfseg.sample.geometry import SizeChange
from selfseg.sample.statistics import Region, Scaling, Statistics, Valid, Values, bands, noise, spread_windows
from selfseg.sample.steps import CHANGING_SIZE, GLOBAL, NORMALISING, Step

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
    """Sharpen: ``x + amount (x - blurred x)``, blurred by a Gaussian of deviation `radius` pixels, clipped to low..high.

    Attributes
    ----------
    shape
        ``*S``, at whose sides the Gaussian sees the nearest pixel.
    """

    radius: float
    amount: float
    low: float
    high: float
    shape: tuple[int, ...]

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
        inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, before, strict=True))
        array, blurred = array[inner], blurred[inner]
        return np.clip(array + self.amount * (array - blurred), self.low, self.high), None if valid is None else valid[
            inner
        ]


class Chain:
    """An image under some operations.

    Parameters
    ----------
    image
        One image or volume, without T.
    plan
        The operations, first to last.

    Attributes
    ----------
    image, plan
        As given, and with the operations that were added.
    dtype
        Of the values: float32, or float64 while they need more digits.
    whole
        All values ``[*S C]`` after the operations, and where they are valid; None if they are not in memory.
    n_channels
        Number of channels.

    Raises
    ------
    InputError
        If the image has a time axis.
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


LARGEST = 1e30
"""Values beyond this would overflow in float32 sums; files that hold them mean "no data" by them."""

UNIT = (0.0, 1.0)

MIXING = ("rescale", "size", "clahe", "unsharp")
"""Steps that mix a pixel with its neighbours."""

EXTREME = ("minmax", "max")
"""Steps whose statistics are extremes."""


class ChainBuilder:
    """Makes the operations of some steps, one after the other, with the statistics that each needs of those before it.

    Parameters
    ----------
    chain
        The image; the operations are added to it.
    steps
        First to last.
    fitted
        The normalisation of the global step, None = there is none.
    seed
        Decides the windows that statistics are taken of; None = they are of all pixels.

    Attributes
    ----------
    notes
        What the user should know of what was done, one sentence each.

    Raises
    ------
    InputError, UsageError
        As `sample.prepare.prepare`.
    """

    def __init__(self, chain: Chain, steps: Sequence[Step], fitted: Scaling | None, seed: int | None) -> None:
        self.chain, self.image, self.seed = chain, chain.image, seed
        if fitted is not None and len(fitted.scale) != chain.n_channels:
            raise other_channels(self.image, len(fitted.scale))
        self.notes: list[str] = []
        self._limits: tuple[float, float] | None = None
        self._known: tuple[float, float] | None = None  # extremes of all valid pixels as they are now
        self._seen_valid = False
        self._begin(steps)
        for number, step in enumerate(steps, 1):
            self._do(step, steps[number:], fitted if step.scope == GLOBAL else None)

    def _begin(self, steps: Sequence[Step]) -> None:
        """Find out the range of the values, and fill in the pixels that are not valid."""
        dtype, filling = self.image.data.dtype, self._is_filled(steps)
        statistics = None
        if dtype.kind == "f":
            statistics = self._statistics("zscore" if filling else "minmax", (), whole=_wants_limits(steps))
            low, high = float(statistics.low.min()), float(statistics.high.max())
            if max(-low, high) > LARGEST:
                got, fix = f"values from {low:g} to {high:g}", "set the pixels without data to NaN or to transparent"
                raise InputError(self.image.source, expected=f"values up to {LARGEST:g}", got=got, fix=fix)
            self._limits = UNIT if low >= 0 and high <= 1 else None
        elif dtype.kind == "b":
            self._limits = UNIT
        elif dtype.kind == "u" and dtype.itemsize <= 2:
            self._limits = (0.0, float(np.iinfo(dtype).max))
        if filling:
            self._fill(statistics)

    def _is_filled(self, later: Sequence[Step]) -> bool:
        """Return whether a step mixes pixels that are not valid with others, before another one leaves out more."""
        names = [step.name for step in later]
        upto = names.index("foreground") if "foreground" in names else len(names)
        return self.chain.may_be_invalid and not set(names[:upto]).isdisjoint(MIXING)

    def _fill(self, statistics: Statistics | None = None) -> None:
        """Give the pixels that are not valid the mean of the others."""
        statistics = statistics or self._statistics("zscore", (), whole=False)
        self.chain.add(Filled(tuple(map(float, statistics.mean))))

    def _add(self, operation: Operation) -> None:
        self.chain.add(operation)
        self._known = None

    def _do(self, step: Step, later: Sequence[Step], fitted: Scaling | None) -> None:
        if step.name in CHANGING_SIZE:
            change = SizeChange.plan(step, self.chain.shape, self.image.source)
            if change.after != change.before:
                self._add(change)
                self._seen_valid = False
        elif step.name == "foreground":
            self._leave_out(step, later)
        elif step.name == "clahe":
            self._add(measure_clahe(self.chain, *self._extremes(), step.values[0], int(step.values[1])))
            self._limits = UNIT
        elif step.name == "unsharp":
            radius, amount = step.values
            low, high = self._limits or self._extremes()
            self._add(Unsharp(radius, amount, low, high, self.chain.shape))
        elif step.name == "range":
            self._to_range()
        else:
            self._normalise(step, fitted, _wants_limits(later))

    def _leave_out(self, step: Step, later: Sequence[Step]) -> None:
        """Mark pixels that are not above a threshold as not valid, at the image's own size."""
        if self.chain.changes:
            got, fix = f"{self.chain.changes[-1].kind} before it", "put it before the steps that change the size"
            raise UsageError(f"preparation step {step}", expected="the image's own size", got=got, fix=fix)
        self._add(Foreground(step.values[0]))
        self._seen_valid = next(self.chain.pixels(), None) is not None
        if not self._seen_valid:
            got, fix = f"no valid pixel above {step.values[0]:g}", "lower the threshold"
            raise InputError(self.image.source, expected="some foreground", got=got, fix=fix)
        if self._is_filled(later):
            self._fill()

    def _to_range(self) -> None:
        if self._limits is None:
            low, high = self._extremes()
            text = f"range: the values go from {low:g} to {high:g}, which is no known range; they were mapped to 0-1"
            self.notes.append(text)
            top = 1.0 if high - low <= noise(self.chain.dtype) * max(abs(low), abs(high)) else high - low
        else:
            low, top = 0.0, self._limits[1]
            if self.image.in_memory and top > 255 and 0 < 8 * (high := self._extremes()[1]) < top:
                text = f"range: the brightest value is {high:g} of {top:g}; percentile=1:99.8 would use the whole range"
                self.notes.append(text)
        n_channels = self.image.n_channels
        self._add(Scaled(Scaling((low,) * n_channels, (top,) * n_channels), clip=False))
        self._limits = UNIT

    def _normalise(self, step: Step, fitted: Scaling | None, wants_limits: bool) -> None:
        clip = step.name == "percentile"
        if fitted is not None:
            self._add(Scaled(fitted, clip))
        else:
            whole = step.name in EXTREME
            statistics = self._statistics(step.name, step.values, whole)
            scaling, notes = statistics.scaling()
            self.notes.extend(notes)
            self._add(Scaled(scaling, clip))
            if whole or self.seed is None:
                ends = scaling.apply(np.stack([statistics.low, statistics.high]).astype(self.chain.dtype), clip)
                self._known = float(ends.min()), float(ends.max())
        low, high = UNIT if clip or not wants_limits else self._extremes()
        self._limits = UNIT if low >= 0 and high <= 1 else None

    def _statistics(self, name: str, values: tuple[float, ...], whole: bool) -> Statistics:
        """Take statistics of the image as it is now; of windows only where there is a seed and not the whole is wanted."""
        statistics = Statistics(name, values)
        for pixels in self.chain.pixels(None if whole else self.seed):
            statistics.add(pixels)
        if not statistics.count:
            raise nothing_valid(self.image)
        self._seen_valid = True
        if whole or self.seed is None:
            self._known = float(statistics.low.min()), float(statistics.high.max())
        return statistics

    def _extremes(self) -> tuple[float, float]:
        """Return the extremes of all channels of the whole image."""
        if self._known is None:
            statistics = self._statistics("minmax", (), whole=True)
            self._known = float(statistics.low.min()), float(statistics.high.max())
        return self._known

    def check_valid(self) -> None:
        """Raise an error if no pixel is valid; reading ends at the first that is."""
        if not self._seen_valid and self.chain.may_be_invalid and next(self.chain.pixels(), None) is None:
            raise nothing_valid(self.image)


def _wants_limits(later: Sequence[Step]) -> bool:
    """Return whether one of the steps uses the range of the values before another step sets it."""
    first = next((step.name for step in later if step.name in (*NORMALISING, "clahe", "unsharp")), "")
    return first in ("range", "unsharp")


def nothing_valid(image: Image) -> InputError:
    """Return the error for an image without a valid pixel."""
    got = "none: each is transparent, NaN or infinite, or near one that is"
    fix = "leave it out, or make it larger in the preparation"
    return InputError(image.source, expected="some valid pixels", got=got, fix=fix)


def other_channels(image: Image, channels: int) -> InputError:
    """Return the error for an image with other channels than the training images."""
    got, fix = f"{image.n_channels}", "convert it, or leave it out"
    return InputError(image.source, expected=f"{channels} channels, like the training images", got=got, fix=fix)
