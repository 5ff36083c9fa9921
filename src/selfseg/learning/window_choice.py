"""Which images are learned from in windows, since they do not fit in memory or the user says so, and in which."""

import hashlib
import re
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from selfseg.core.axes import SPATIAL
from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Progress
from selfseg.learning.supervision import Annotations
from selfseg.read import Source
from selfseg.sample.lru_cache import LRUCache
from selfseg.sample.prepare import Preparation, Prepared
from selfseg.sample.stream import Sample
from selfseg.sample.window_samples import KEPT_PIXELS, WindowSample, window_samples
from selfseg.tiling.tilewise import memory_budget

DEFAULT_WINDOWS = 16
"""Windows of an image where nothing is said."""

BYTES_ON_THE_WAY = 12
"""Bytes of a value while it is prepared: float64, then float32."""

SHRUNK = 4.0
"""A picture whose sides are shrunk more than so many times by its preparation is worth a word."""


@dataclass(frozen=True)
class WindowChoice:
    """What is said of windows.

    Attributes
    ----------
    n
        Windows of each image; None = `DEFAULT_WINDOWS`, and only of images that do not fit in memory.
    side
        Their side in pixels of the prepared image; None = `sample.cells.WINDOW_SIDE`.
    memory
        Most that this process may take, in bytes; None = by what is free.
    seed
        Decides which windows.
    only
        Names of the images that the run to be resumed learned from in windows, whatever memory there is now; None = no such run.
    kept
        Windows in memory.
    """

    n: int | None = None
    side: int | None = None
    memory: int | None = None
    seed: int = 0
    only: frozenset[str] | None = None
    kept: LRUCache[Sample] = field(default_factory=lambda: LRUCache[Sample](KEPT_PIXELS), repr=False)

    @classmethod
    def parse(
        cls, text: str | int | None, memory: int | None = None, seed: int = 0, only: frozenset[str] | None = None
    ) -> "WindowChoice":
        """Make a choice out of ``"16"`` or ``"16:512"``: how many, and their side.

        Raises
        ------
        UsageError
            If it is neither.
        """
        if text is None:
            return cls(None, None, memory, seed, only)
        found = re.fullmatch(r"\s*0*([1-9]\d*)\s*(?::\s*0*([1-9]\d*)\s*)?", str(text))
        if found is None:
            expected, fix = "a number of windows, or NUMBER:SIDE", "write for example --windows 16:512"
            raise UsageError("--windows", expected=expected, got=repr(text), fix=fix)
        return cls(int(found[1]), int(found[2]) if found[2] else None, memory, seed, only)

    def open(self, source: Source, axes: str | None) -> Image | None:
        """Return an image in its file if it is to be learned from in windows; None if as a whole.

        Raises
        ------
        SelfsegError
            If it cannot be opened.
        """
        if self.only is not None and source.name not in self.only:
            return None
        image = source.open(axes)
        if image.in_memory:
            return None
        if self.n is not None or self.only is not None:
            return image
        taken = image.data.nbytes + image.data.size * BYTES_ON_THE_WAY
        if taken <= memory_budget(self.memory):
            return None
        return image

    def cut(
        self, image: Image, name: str, preparation: Preparation, annotations: Annotations | None, progress: Progress
    ) -> list[WindowSample]:
        """Choose the windows of an image, with what the annotations say of it by its name, and say so.

        Raises
        ------
        InputError, UsageError
            As for `sample.window_samples.window_samples`.
        """
        number = self.n or DEFAULT_WINDOWS
        told = None if annotations is None or name not in annotations.arrays else annotations.arrays[name]
        at_place = None if told is None else lambda at, region: told[at or 0][region]
        cut = window_samples(image, preparation, number, self.side, self.seed, self.kept, at_place)
        size, side = (" x ".join(map(str, sizes)) for sizes in (image.spatial_shape, cut[0].shape[1:]))
        why = "too large to be read whole, so" if self.n is None else "as asked,"
        progress.say(f"{image.name}: {size} pixels, {why} learned from in {len(cut)} window(s) of {side} (--windows)")
        if annotations is not None and told is not None:
            parts = [sample.annotations for sample in cut if sample.annotations is not None]
            if lost := set(annotations.values_in(told)) - set(annotations.values_in(parts)):
                said = f"none of the windows has the label(s) {', '.join(map(str, sorted(lost)))}"
                progress.say(f"{image.name}: {said}; more of them may have it (--windows {2 * number})")
            cut = [
                replace(sample, annotations=annotations.as_classes(part))
                for sample, part in zip(cut, parts, strict=True)
            ]
        shrunk = cut[0].windowed.shrinking ** (1 / len(image.spatial_shape))
        if shrunk > SHRUNK:
            progress.say(
                f"{image.name}: its sides are shrunk {shrunk:.0f} times by {preparation}; --prepare range keeps its own pixels"
            )
        return cut


def digest_windows(samples: list[WindowSample]) -> str:
    """Return the SHA-256 of the windows that are learned from: by them an image is known again, not by all of its file."""
    digest = hashlib.sha256()
    for sample in samples:
        window = sample.read()
        digest.update(f"{sample.windowed.at} {sample.region} {window.array.shape}".encode())
        digest.update(window.array.tobytes())
        digest.update(b"" if window.valid is None else window.valid.tobytes())
    return digest.hexdigest()


def show_window(sample: WindowSample) -> tuple[Image, Prepared]:
    """Return a window as an image of its own, to be looked at: its own pixels, or where the size changes the prepared ones."""
    windowed, window = sample.windowed, sample.read()
    axes = "".join(letter for letter in windowed.image.axes if letter in SPATIAL)
    if windowed.shape == windowed.image.spatial_shape:
        image = windowed.window(sample.region)
    else:
        image = Image(np.moveaxis(window.array, 0, -1), axes + "C", sample.spacing, windowed.image.unit)
    valid: NDArray[np.bool_] | None = window.valid
    return image, Prepared(window.array, valid, (), sample.spacing, window.array.shape[1:], valid)
