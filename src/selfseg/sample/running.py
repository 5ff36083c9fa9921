"""One image on its way through the preparation steps."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.sample import geometry, intensity
from selfseg.sample.geometry import SizeChange
from selfseg.sample.intensity import Scaling, Statistics
from selfseg.sample.steps import Step

LARGEST = 1e30
"""Values beyond this would overflow in float32 sums; files that hold them mean "no data" by them."""

UNIT = (0.0, 1.0)


@dataclass
class Running:
    """The state between two steps.

    Attributes
    ----------
    array
        ``[*s C]`` float32, or float64 while integers or floats need more digits.
    valid
        ``[*s]`` bool, None = all.
    limits
        The range that the values are of (0-255, 0-1); None = not known.
    source
        The image, for messages.
    original_valid
        ``[*S]`` bool before any step, None = all.
    notes, changes
        What to tell the user; the changes of size so far.
    """

    array: NDArray[Any]
    valid: NDArray[np.bool_] | None
    limits: tuple[float, float] | None
    source: str
    original_valid: NDArray[np.bool_] | None
    notes: list[str] = field(default_factory=list)
    changes: list[SizeChange] = field(default_factory=list)

    @classmethod
    def begin(cls, image: Image) -> "Running":
        """Take an image as it was read; pixels that are not valid get the mean of the others."""
        if "T" in image.axes:
            fix = "prepare its time points one by one"
            raise InputError(image.source, expected="one image or volume", got=f"axes {image.axes}", fix=fix)
        data = image.channels_last()
        narrow = data.dtype.kind in "bu" and data.dtype.itemsize <= 2
        valid = image.valid
        if data.dtype.kind == "f" and not (finite := np.isfinite(data).all(axis=-1)).all():
            valid = finite if valid is None else finite & valid
        digits = data.dtype in (np.float16, np.float32, np.int8, np.int16) or narrow
        array = data.astype(np.float32 if digits else np.float64)
        running = cls(array, valid, None, image.source, valid)
        low, high = running._extremes()
        if max(-low, high) > LARGEST:
            fix = "set the pixels without data to NaN or to transparent"
            got = f"values from {low:g} to {high:g}"
            raise InputError(image.source, expected=f"values up to {LARGEST:g}", got=got, fix=fix)
        if narrow:
            running.limits = (0.0, float(np.iinfo(data.dtype).max)) if data.dtype.kind == "u" else UNIT
        elif data.dtype.kind == "f" and low >= 0 and high <= 1:
            running.limits = UNIT
        if valid is not None:
            array[~valid] = array[valid].mean(axis=0, dtype=np.float64)
        return running

    def pixels(self) -> NDArray[Any]:
        """Return the valid pixels ``[N C]``.

        Raises
        ------
        InputError
            If no pixel is valid.
        """
        if self.valid is None:
            return self.array.reshape(-1, self.array.shape[-1])
        if not self.valid.any():
            got = "none: each is transparent, NaN or infinite, or near one that is"
            fix = "leave it out, or make it larger in the preparation"
            raise InputError(self.source, expected="some valid pixels", got=got, fix=fix)
        return self.array[self.valid]

    def _extremes(self) -> tuple[float, float]:
        pixels = self.pixels()
        return float(pixels.min()), float(pixels.max())

    def do(self, step: Step, fitted: Scaling | None = None) -> None:
        """Do one step; `fitted` is the normalisation of a global one."""
        if step.name in ("rescale", "size", "border", "multiple"):
            self._resize(step)
        elif step.name == "foreground":
            self._leave_out(step)
        elif step.name == "clahe":
            low, high = self._extremes()
            self.array = intensity.equalize(self.array, low, high, step.values[0], int(step.values[1]))
            self.limits = UNIT
        elif step.name == "unsharp":
            radius, amount = step.values
            self.array = intensity.unsharp(self.array, radius, amount, self.limits or self._extremes())
        elif step.name == "range":
            self._to_range()
        else:
            self._normalise(step, fitted)

    def _resize(self, step: Step) -> None:
        before = self.array.shape[:-1]
        change = planned_change(step, before, self.source)
        if change.after == before:
            return
        if change.kind == "resample":
            self.array = geometry.resample(self.array, change.after)
        else:
            self.array = self.array[change.kept()]
        if self.valid is not None:
            self.valid = geometry.forward_valid(self.valid, change)
        self.changes.append(change)

    def _leave_out(self, step: Step) -> None:
        """Mark pixels that are not above a threshold as not valid, at the image's own size."""
        if self.changes:
            fix = "put it before the steps that change the size"
            got = f"{self.changes[-1].kind} before it"
            raise UsageError(f"preparation step {step}", expected="the image's own size", got=got, fix=fix)
        inside = self.array.max(axis=-1) > step.values[0]
        self.valid = inside if self.valid is None else inside & self.valid
        if not self.valid.any():
            got, fix = f"no valid pixel above {step.values[0]:g}", "lower the threshold"
            raise InputError(self.source, expected="some foreground", got=got, fix=fix)
        self.original_valid = self.valid
        self.array[~self.valid] = self.array[self.valid].mean(axis=0, dtype=np.float64)

    def _to_range(self) -> None:
        low, high = self._extremes()
        if self.limits is None:
            text = f"range: the values go from {low:g} to {high:g}, which is no known range; they were mapped to 0-1"
            self.notes.append(text)
            constant = high - low <= intensity.noise(self.array) * max(abs(low), abs(high))
            self.array = (self.array - low) / (1.0 if constant else high - low)
        else:
            top = self.limits[1]
            if top > 255 and 0 < 8 * high < top:
                text = f"range: the brightest value is {high:g} of {top:g}; percentile=1:99.8 would use the whole range"
                self.notes.append(text)
            self.array = self.array / top
        self.limits = UNIT

    def _normalise(self, step: Step, fitted: Scaling | None) -> None:
        scaling = fitted
        if scaling is None:
            statistics = Statistics(step, self.array.shape[-1])
            statistics.add(self.pixels(), whole=True)
            scaling, notes = statistics.scaling()
            self.notes.extend(notes)
        self.array = scaling.apply(self.array, clip=step.name == "percentile")
        low, high = self._extremes()
        self.limits = UNIT if low >= 0 and high <= 1 else None

    def resampled_shape(self) -> tuple[float, ...]:
        """Return how many pixels the whole image would have now if nothing had been cut, on each axis."""
        sizes = [float(n) for n in (self.changes[0].before if self.changes else self.array.shape[:-1])]
        for change in self.changes:
            if change.kind == "resample":
                sizes = [
                    n * after / before for n, after, before in zip(sizes, change.after, change.before, strict=True)
                ]
        return tuple(sizes)

    def finish(self) -> NDArray[np.float32]:
        """Return ``[C *s]`` float32 with 0 where a pixel is not valid."""
        self.pixels()
        if self.valid is not None:
            self.array[~self.valid] = 0
            if self.valid.all():
                self.valid = None
        return np.ascontiguousarray(np.moveaxis(self.array, -1, 0), np.float32)


def planned_change(step: Step, shape: tuple[int, ...], source: str) -> SizeChange:
    """Return the change of size that a step makes of a spatial shape."""
    zeros = (0,) * len(shape)
    if step.name == "size":
        factor = min(1.0, step.values[0] / max(shape))
        after = tuple(max(1, round(n * factor)) for n in shape)
        return SizeChange("resample", shape, after, zeros)
    values = step.values * len(shape) if len(step.values) == 1 else step.values
    if len(values) != len(shape):
        fix = f"give one value, or {len(shape)}"
        got = f"{len(values)} values for {source}"
        raise UsageError(f"preparation step {step}", expected=f"{len(shape)} values", got=got, fix=fix)
    if step.name == "rescale":
        after = tuple(max(1, round(n * factor)) for n, factor in zip(shape, values, strict=True))
        return SizeChange("resample", shape, after, zeros)
    cuts = [int(value) for value in values]
    if step.name == "border":
        after = tuple(n - 2 * cut for n, cut in zip(shape, cuts, strict=True))
    else:
        after = tuple(n // cut * cut for n, cut in zip(shape, cuts, strict=True))
    if min(after) < 1:
        got, fix = " x ".join(map(str, shape)), "use a smaller value, or leave the image out"
        raise InputError(source, expected=f"an image large enough for {step}", got=got, fix=fix)
    start = tuple((n - kept) // 2 for n, kept in zip(shape, after, strict=True))
    return SizeChange(step.name, shape, after, start)
