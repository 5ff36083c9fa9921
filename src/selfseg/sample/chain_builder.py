"""From the steps of a preparation to the operations of a chain, with the statistics of one image."""

from collections.abc import Sequence

import numpy as np

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.sample.chain import Chain, Filled, Foreground, Operation, Scaled, Unsharp
from selfseg.sample.clahe import measure_clahe
from selfseg.sample.geometry import SizeChange
from selfseg.sample.statistics import Scaling, Statistics, noise
from selfseg.sample.steps import CHANGING_SIZE, GLOBAL, NORMALISING, Step

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
