"""Preparation: named steps between the image as it was read and the array that a method learns from, and the way back.

``Preparation.parse("rescale=0.33,unsharp=5:1,percentile=1:99.8")`` does the steps in this order. The same object is
stored with the model and used at prediction. See `selfseg.sample.steps` for every step.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, ModelError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.sample import geometry
from selfseg.sample.geometry import SizeChange
from selfseg.sample.intensity import Scaling, Statistics
from selfseg.sample.running import Running
from selfseg.sample.steps import GLOBAL, Step, parse_steps


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared image and the way back to its own size.

    Attributes
    ----------
    array
        ``[C *s]`` float32, 0 where not valid.
    valid
        ``[*s]`` bool, False where any pixel that went into this one must not count; None = all count.
    notes
        What the user should know of what was done, one sentence each.
    spacing
        Size of a pixel of `array` along each spatial axis, in the image's unit.
    original_shape
        ``*S``, the spatial shape of the image.
    original_valid
        ``[*S]`` bool, the image's own mask; None = all count.
    changes
        The changes of size, first to last.
    """

    array: NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    notes: tuple[str, ...]
    spacing: tuple[float, ...]
    original_shape: tuple[int, ...]
    original_valid: NDArray[np.bool_] | None = field(default=None, repr=False)
    changes: tuple[SizeChange, ...] = ()

    def restore(self, probabilities: NDArray[Any]) -> NDArray[np.float32]:
        """Bring ``[K *s]`` back to ``[K *S]``: linear interpolation; what was cut gets the nearest kept value.

        Sums over K stay what they were. Use `inside` for the pixels that were really looked at.
        """
        values = np.asarray(probabilities, np.float32)
        self._check(values.shape[1:])
        for change in reversed(self.changes):
            values = geometry.backward(values, change)
        return np.ascontiguousarray(values, np.float32)

    def restore_labels(self, labels: NDArray[Any], fill: int = 0) -> NDArray[Any]:
        """Bring labels ``[*s]`` back to ``[*S]`` (nearest), with `fill` where `inside` is False."""
        labels = np.asarray(labels)
        self._check(labels.shape)
        for change in reversed(self.changes):
            labels = geometry.backward_labels(labels, change)
        inside = self.inside
        return labels.copy() if inside is None else np.where(inside, labels, labels.dtype.type(fill))

    @property
    def inside(self) -> NDArray[np.bool_] | None:
        """``[*S]`` bool: False where a border was cut off and where the image itself is not valid; None = True
        everywhere.

        What `multiple` cut counts as inside: it is a rounding of the size, not a wish of the user.
        """
        if self.original_valid is None and all(change.kind != "border" for change in self.changes):
            return None
        inside = np.ones(self.array.shape[1:], bool)
        for change in reversed(self.changes):
            inside = geometry.backward_inside(inside, change)
        return inside if self.original_valid is None else inside & self.original_valid

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape != self.array.shape[1:]:
            expected, got = (" x ".join(map(str, size)) for size in (self.array.shape[1:], shape))
            fix = "give what was computed from the prepared array"
            raise UsageError("values to restore", expected=f"the prepared size {expected}", got=got, fix=fix)


@dataclass(frozen=True)
class Preparation:
    """Named steps, in order, with the statistics of the training images where a step is global.

    Attributes
    ----------
    steps
        The steps; at least one of them normalises.
    fitted
        The normalisation of the global step, once `fit` has seen the training images.
    """

    steps: tuple[Step, ...]
    fitted: Scaling | None = None

    @classmethod
    def parse(cls, text: str) -> "Preparation":
        """Make a preparation out of ``"step=value:value,step"``.

        If no step normalises (`range`, `minmax`, `max`, `percentile`, `zscore`, `robust`), `range` is added at the end: a
        network is never fed raw integers.

        Raises
        ------
        UsageError
            If a step is unknown (the message lists all) or a value is wrong.
        """
        return cls(parse_steps(text))

    def __str__(self) -> str:
        return ",".join(str(step) for step in self.steps)

    @property
    def needs_fit(self) -> bool:
        """Whether a step is global and has no statistics yet."""
        return self.fitted is None and any(step.scope == GLOBAL for step in self.steps)

    def fit(self, images: Iterable[Image]) -> "Preparation":
        """Return a preparation with the statistics that its global step takes over all training images.

        Percentiles and medians are of up to 16,384 pixels of each image, drawn by a fixed seed; the other statistics are of every
        valid pixel. Without a global step nothing is read.

        Raises
        ------
        InputError
            If the images differ in their number of channels, or one cannot be prepared.
        UsageError
            If there is no image.
        """

        def pixels(before: Preparation) -> Iterator[NDArray[Any]]:
            channels = None
            for image in images:
                channels = channels or image.n_channels
                if image.n_channels != channels:
                    raise _other_channels(image, channels)
                yield before.pixels(image)

        return self.fit_pixels(pixels)

    def fit_pixels(self, pixels: Callable[["Preparation"], Iterable[NDArray[Any]]]) -> "Preparation":
        """Do what `fit` does, for images of which nobody has more than parts.

        Parameters
        ----------
        pixels
            Called with the steps before the global one; gives the valid pixels ``[N C]`` of the training images after them, part
            after part.

        Raises
        ------
        UsageError
            If nothing comes.
        """
        where = next((i for i, step in enumerate(self.steps) if step.scope == GLOBAL), None)
        if where is None:
            return self
        statistics = None
        for part in pixels(Preparation(self.steps[:where])):
            statistics = statistics or Statistics(self.steps[where], part.shape[1])
            statistics.add(part)
        if statistics is None:
            fix = "give the training images"
            raise UsageError(f"preparation {self}", expected="at least one image", got="none", fix=fix)
        return Preparation(self.steps, statistics.scaling()[0])

    def pixels(self, image: Image) -> NDArray[Any]:
        """Return the valid pixels ``[N C]`` of an image after these steps, none of them global."""
        running = Running.begin(image)
        for step in self.steps:
            running.do(step)
        return running.pixels()

    def apply(self, image: Image) -> Prepared:
        """Prepare one image or volume (not a time series: `read.split_frames` splits those).

        Raises
        ------
        InputError
            If the image has a time axis, is too small for a step, has no valid pixel left, or other channels than those
            that the statistics are of.
        UsageError
            If a step has a value for another number of axes, or a global step was not fitted.
        """
        if self.needs_fit:
            fix = "call fit with the training images"
            raise UsageError(f"preparation {self}", expected="statistics", got="a global step without", fix=fix)
        if self.fitted is not None and len(self.fitted.scale) != image.n_channels:
            raise _other_channels(image, len(self.fitted.scale))
        running = Running.begin(image)
        for step in self.steps:
            running.do(step, self.fitted if step.scope == GLOBAL else None)
        array = running.finish()
        pairs = zip(image.spacing, image.spatial_shape, running.resampled_shape(), strict=True)
        spacing = tuple(size * before / after for size, before, after in pairs)
        notes, changes = tuple(running.notes), tuple(running.changes)
        shape = image.spatial_shape
        return Prepared(array, running.valid, notes, spacing, shape, running.original_valid, changes)

    def annotations(self, annotations: NDArray[Any], prepared: Prepared) -> NDArray[np.int64]:
        """Bring scribbles ``[*S]`` (-1 = none) to the prepared size ``[*s]``; a line of one pixel survives a shrinking.

        Where several classes fall on one pixel, the most frequent wins. Pixels that are not valid lose their annotation.

        Raises
        ------
        InputError
            If the annotations are not of the image's size.
        """
        if annotations.shape != prepared.original_shape:
            expected, got = (" x ".join(map(str, size)) for size in (prepared.original_shape, annotations.shape))
            fix = "draw them on the image at its full size"
            raise InputError("scribbles", expected=f"the size of the image, {expected}", got=got, fix=fix)
        result = np.asarray(annotations, np.int64)
        for change in prepared.changes:
            result = geometry.forward_annotations(result, change)
        if prepared.valid is not None:
            result = np.where(prepared.valid, result, geometry.NO_ANNOTATION)
        return np.ascontiguousarray(result)

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the steps as text, and the statistics of the global step."""
        fitted = None if self.fitted is None else {"offset": list(self.fitted.offset), "scale": list(self.fitted.scale)}
        return {"steps": str(self), "fitted": fitted}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preparation":
        """Make a preparation out of the plain values of `to_json`.

        Raises
        ------
        ModelError
            If the values are not of that kind.
        """
        try:
            made, fitted = cls.parse(values["steps"]), values["fitted"]
            if fitted is None:
                return made
            offset, scale = (tuple(float(value) for value in fitted[key]) for key in ("offset", "scale"))
        except (KeyError, TypeError, ValueError, AttributeError, SelfsegError) as error:
            got = f"{json.dumps(values, default=str)[:200]} ({error})"
            fix = "the model's file is damaged: use another copy"
            raise ModelError("stored preparation", expected="steps and statistics", got=got, fix=fix) from error
        if len(offset) != len(scale) or not np.isfinite([*offset, *scale]).all() or not all(scale):
            fix = "the model's file is damaged: use another copy"
            raise ModelError("stored preparation", expected="finite statistics", got=str(fitted), fix=fix)
        return cls(made.steps, Scaling(offset, scale))

    def labels(self, labels: NDArray[Any], prepared: Prepared) -> NDArray[Any]:
        """Bring a label image ``[*S]`` to the prepared size ``[*s]``: each pixel has the label of the nearest one.

        Raises
        ------
        InputError
            If the labels are not of the image's size.
        """
        if labels.shape != prepared.original_shape:
            expected, got = (" x ".join(map(str, size)) for size in (prepared.original_shape, labels.shape))
            fix = "give them at the size of the image"
            raise InputError("label image", expected=f"the size of the image, {expected}", got=got, fix=fix)
        for change in prepared.changes:
            labels = geometry.forward_labels(labels, change)
        return np.ascontiguousarray(labels)


def _other_channels(image: Image, channels: int) -> InputError:
    got, fix = f"{image.n_channels}", "convert it, or leave it out"
    return InputError(image.source, expected=f"{channels} channels, like the training images", got=got, fix=fix)
