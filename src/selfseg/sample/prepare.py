"""Preparation: named steps between the image as it was read and the array that a method learns from, and the way back.

``Preparation.parse("rescale=0.33,unsharp=5:1,percentile=1:99.8")`` does the steps in this order. The same object is
stored with the model and used at prediction. See `selfseg.sample.steps` for every step.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, ModelError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.sample.chain import Chain, Filled, Foreground, Operation, PreparedImage, Scaled
from selfseg.sample.clahe import measure_clahe
from selfseg.sample.geometry import SizeChange
from selfseg.sample.statistics import Scaling, Statistics, noise
from selfseg.sample.steps import CHANGING_SIZE, DARK, GLOBAL, NORMALISING, Step, parse_steps
from selfseg.sample.windowed import Flattened, Smoothed, TopHat, Unsharp

LARGEST = 1e30
"""Values beyond this would overflow in float32 sums; files that hold them mean "no data" by them."""

UNIT = (0.0, 1.0)

WINDOWED = ("smooth", "tophat", "flatten")
"""Steps that look at the valid pixels around each."""

MIXING = ("rescale", "size", "clahe", "unsharp", *WINDOWED)
"""Steps that mix a pixel with its neighbours."""

FILLED = 0.25
"""Share of the range of a type that limits must span for the whole range to be kept by `auto`: such data lose nothing."""

EXTREME = ("minmax", "max")
"""Steps whose statistics are extremes."""


@dataclass(frozen=True)
class Preparation:
    """Named steps, in order, with the statistics of the training images where a step is global.

    Examples
    --------
    >>> from selfseg.sample.prepare import Preparation
    >>> str(Preparation.parse("rescale=0.5,percentile=1:99.8"))
    'rescale=0.5,percentile=1:99.8'
    """

    steps: tuple[Step, ...]
    """The steps; at least one of them normalises."""
    fitted: Scaling | None = None
    """The normalisation of the global step, once `fit` has seen the training images."""

    @classmethod
    def parse(cls, text: str) -> "Preparation":
        """Make a preparation out of ``"step=value:value,step"``.

        If no step normalises (`auto`, `range`, `minmax`, `max`, `percentile`, `zscore`, `robust`), `auto` is added at the
        end: a network is never fed raw integers. Raise `UsageError` if a step is unknown (the message lists all) or a value
        is wrong.
        """
        return cls(parse_steps(text))

    def __str__(self) -> str:
        return ",".join(str(step) for step in self.steps)

    @property
    def needs_fit(self) -> bool:
        """True if a step is global and has no statistics yet; `auto` takes each image's own then."""
        return self.fitted is None and any(step.scope == GLOBAL and step.name != "auto" for step in self.steps)

    def fit(self, images: Iterable[Image]) -> "Preparation":
        """Return a preparation with the statistics that its global step takes over all training images.

        Without a global step nothing is read. Raise `InputError` if the images differ in their number of channels, or one cannot be
        prepared, `UsageError` if there is no image.
        """

        def pixels() -> Iterator[NDArray[Any]]:
            channels = None
            for image in images:
                channels = channels or image.n_channels
                if image.n_channels != channels:
                    raise other_channels(image, channels)
                yield from self.pixels(image)

        return self.fit_pixels(pixels())

    def fit_pixels(self, parts: Iterable[NDArray[Any]]) -> "Preparation":
        """Do what `fit` does, with the `pixels` of the training images, part after part; without a global step nothing is read.

        Where nothing comes, because all images are of 8 bits, the step `auto` stays without limits. Raise `UsageError` if
        nothing comes for another step.
        """
        where = self._global
        if where is None:
            return self
        statistics = Statistics.of(self.steps[where])
        for part in parts:
            statistics.add(part)
        if statistics.count:
            return Preparation(self.steps, statistics.scaling()[0])
        if self.needs_fit:
            raise UsageError(
                f"preparation {self}", expected="at least one image", got="none", fix="give the training images"
            )
        return self

    @property
    def _global(self) -> int | None:
        """Place of the global step; None without one."""
        return next((i for i, step in enumerate(self.steps) if step.scope == GLOBAL), None)

    def pixels(self, image: Image, seed: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the valid pixels ``[N C]`` of a training image that the statistics of the global step are of, part after part.

        They are as the steps before it leave them. `auto` needs none of 8-bit images. Raise `InputError` if the image cannot be
        prepared, or no pixel is valid.
        """
        where = self._global
        if where is not None and self.steps[where].name == "auto" and has_8_bits(image):
            return
        before = Chain(image)
        ChainBuilder(before, self.steps[:where], None, seed)
        found = False
        for part in before.pixels(seed):
            found = True
            yield part
        if not found:
            raise nothing_valid(image)

    def pixels_if_any(self, image: Image, seed: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield `pixels`; nothing of an image that cannot be prepared, which is named where it is prepared."""
        with suppress(InputError):
            yield from self.pixels(image, seed)

    def for_series(self, images: Iterable[Image]) -> "Preparation":
        """Return the preparation of the frames of one sequence: limits that the model does not have are those of all of them.

        A model that learned from 8-bit images has none. Limits of each frame alone would flicker.
        """
        if self.fitted is not None or all(step.name != "auto" or step.scope != GLOBAL for step in self.steps):
            return self
        frames = iter(images)
        first = next(frames, None)
        if first is None or has_8_bits(first):
            return self
        return self.fit_pixels(part for image in chain((first,), frames) for part in self.pixels_if_any(image))

    def describe_limits(self, images: Iterable[Image]) -> str:
        """Return one sentence for the user on the limits of the step `auto`, by the first image that has any; empty = none has."""
        if self.fitted is None or all(step.name != "auto" for step in self.steps):
            return ""
        described = (_described(self.fitted, image) for image in images if not has_8_bits(image))
        return next((f"auto: {limits}, by robust limits of all training images" for limits in described), "")

    def apply(self, image: Image) -> PreparedImage:
        """Prepare one image or volume: `prepare` without a seed."""
        return prepare(image, self)

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the steps as text, and the statistics of the global step."""
        fitted = None if self.fitted is None else {"offset": list(self.fitted.offset), "scale": list(self.fitted.scale)}
        return {"steps": str(self), "fitted": fitted}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preparation":
        """Make a preparation out of the plain values of `to_json`.

        Raise `ModelError` if the values are not of that kind.
        """
        fix = "the model's file is damaged: use another copy"
        try:
            made, fitted = cls.parse(values["steps"]), values["fitted"]
            if fitted is None:
                return made
            offset, scale = (tuple(float(value) for value in fitted[key]) for key in ("offset", "scale"))
        except (KeyError, TypeError, ValueError, AttributeError, SelfsegError) as error:
            raise ModelError(
                "stored preparation",
                expected="steps and statistics",
                got=f"{json.dumps(values, default=str)[:200]} ({error})",
                fix=fix,
            ) from error
        if len(offset) != len(scale) or not np.isfinite([*offset, *scale]).all() or not all(scale):
            raise ModelError("stored preparation", expected="finite statistics", got=str(fitted), fix=fix)
        return cls(made.steps, Scaling(offset, scale))


def prepare(image: Image, preparation: Preparation, seed: int | None = None) -> PreparedImage:
    """Prepare one image or volume (not a time series: `read.split_frames` splits those).

    An image in memory is prepared at once. Of an image in its file the statistics are taken, in one pass over it for each step
    that needs some; integers of 8 and 16 bits with `range` alone need none. The same image and preparation give the same object.

    Parameters
    ----------
    image
        Its values need not all be finite.
    preparation
        Its global step, if it has one, is fitted.
    seed
        Take means, deviations and percentiles of `statistics.LOOKED_AT` windows that this decides, so that the time does not grow
        with the image. Extremes are of all of it nevertheless: one bright pixel elsewhere would change them. None = all are.

    Raises
    ------
    InputError
        If the image has a time axis, is too small for a step, has no valid pixel left, or other channels than those
        that the statistics are of.
    UsageError
        If a step has a value for another number of axes, or a global step was not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg import Image
    >>> from selfseg.sample.prepare import Preparation, prepare
    >>> image = Image(np.full((8, 9), 51, np.uint8), "YX")
    >>> ready = prepare(image, Preparation.parse("range"))
    >>> ready.read((slice(0, 2), slice(0, 2))).shape
    (1, 2, 2)
    """
    if preparation.needs_fit:
        raise UsageError(
            f"preparation {preparation}",
            expected="statistics",
            got="a global step without",
            fix="call fit with the training images",
        )
    made: dict[Any, PreparedImage] = image.memo.setdefault("prepared", {})
    known = made.get((preparation, seed))
    if known is not None and known.is_of(image):
        return known
    prepared = PreparedImage(image)
    builder = ChainBuilder(prepared, preparation.steps, preparation.fitted, seed)
    builder.check_valid()
    prepared.finish(builder.notes)
    made[preparation, seed] = prepared
    return prepared


class ChainBuilder:
    """Makes the operations of some steps, one after the other, with the statistics that each needs of those before it.

    Parameters
    ----------
    chain
        The image; the operations are added to it.
    steps
        First to last.
    fitted
        The normalisation of the global step, None without one.
    seed
        Decides the windows that statistics are taken of; None = they are of all pixels.
    """

    def __init__(self, chain: Chain, steps: Sequence[Step], fitted: Scaling | None, seed: int | None) -> None:
        self.chain, self.image, self.seed = chain, chain.image, seed
        if fitted is not None and len(fitted.scale) != chain.n_channels:
            raise other_channels(self.image, len(fitted.scale))
        self.notes: list[str] = []  # for the user
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
                raise InputError(
                    self.image.source,
                    expected=f"values up to {LARGEST:g}",
                    got=f"values from {low:g} to {high:g}",
                    fix="set the pixels without data to NaN or to transparent",
                )
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
        elif step.name in WINDOWED:
            self._add(self._windowed(step))
        elif step.name == "range" or (step.name == "auto" and has_8_bits(self.image)):
            self._to_range()
        elif step.name == "auto":
            self._to_limits(fitted)
        else:
            self._normalise(step, fitted, _wants_limits(later))

    def _windowed(self, step: Step) -> Operation:
        """Return the operation of a step over windows, whose sizes are counted along the axis of finest spacing."""
        chain, spacing = self.chain, self.chain.spacing
        along = [step.values[0] * min(spacing) / size for size in spacing]
        if step.name == "smooth":
            return Smoothed(tuple(along), chain.shape)
        sizes = tuple(2 * int(size / 2) + 1 for size in along)
        if step.name == "tophat":
            return TopHat(sizes, -1 if step.polarity == DARK else 1, chain.shape)
        means = tuple(map(float, self._statistics("zscore", (), whole=False).mean))
        return Flattened(sizes, means, *(self._limits or self._extremes()), chain.shape)

    def _leave_out(self, step: Step, later: Sequence[Step]) -> None:
        """Mark pixels that are not above a threshold as not valid, at the image's own size."""
        if self.chain.changes:
            raise UsageError(
                f"preparation step {step}",
                expected="the image's own size",
                got=f"{self.chain.changes[-1].kind} before it",
                fix="put it before the steps that change the size",
            )
        self._add(Foreground(step.values[0]))
        self._seen_valid = next(self.chain.pixels(), None) is not None
        if not self._seen_valid:
            raise InputError(
                self.image.source,
                expected="some foreground",
                got=f"no valid pixel above {step.values[0]:g}",
                fix="lower the threshold",
            )
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

    def _to_limits(self, fitted: Scaling | None) -> None:
        """Map robust limits to 0-1, and clip."""
        if fitted is None:
            fitted, _ = self._statistics("auto", (), whole=False).scaling()
            self.notes.append(f"auto: {_described(fitted, self.image)}, which are robust limits of this image")
        self._add(Scaled(_widened(fitted, self.image), clip=True))
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
    first = next((step.name for step in later if step.name in (*NORMALISING, "clahe", "unsharp", "flatten")), "")
    return first in ("range", "unsharp", "flatten")


def has_8_bits(image: Image) -> bool:
    """Return whether the values have a range fixed by their type: bool and uint8."""
    return image.data.dtype.kind == "b" or image.data.dtype == np.uint8


def _widened(limits: Scaling, image: Image) -> Scaling:
    """Return limits with the whole range of the type in their place where they lie in it and span `FILLED` of it.

    Ranges are known of uint16 and of floats from 0 to 1.
    """
    low, high = (0.0, 65535.0) if image.data.dtype == np.uint16 else UNIT
    slack = 1e-6 * (high - low)  # the rounding of low + (high - low)
    pairs = []
    for offset, scale in zip(limits.offset, limits.scale, strict=True):
        inside = low <= offset and offset + scale <= high + slack and scale >= FILLED * (high - low)
        pairs.append((low, high - low) if inside else (offset, scale))
    offsets, scales = zip(*pairs, strict=True)
    return Scaling(offsets, scales)


def _described(limits: Scaling, image: Image) -> str:
    """Return what happens to the values: ``"values from 12 to 4095 become 0 to 1"``, channel by channel where they differ."""
    limits = _widened(limits, image)
    pairs = dict.fromkeys((low, low + scale) for low, scale in zip(limits.offset, limits.scale, strict=True))
    return f"values from {', '.join(f'{low:.6g} to {high:.6g}' for low, high in pairs)} become 0 to 1"


def nothing_valid(image: Image) -> InputError:
    """Return the error for an image without a valid pixel."""
    return InputError(
        image.source,
        expected="some valid pixels",
        got="none: each is transparent, NaN or infinite, or near one that is",
        fix="leave it out, or make it larger in the preparation",
    )


def other_channels(image: Image, channels: int) -> InputError:
    """Return the error for an image with other channels than the training images."""
    return InputError(
        image.source,
        expected=f"{channels} channels, like the training images",
        got=f"{image.n_channels}",
        fix="convert it, or leave it out",
    )
