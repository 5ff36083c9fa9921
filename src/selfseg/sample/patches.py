"""Patches of several shapes from anywhere in an image, mirrored and turned: which ones is a pure function of a seed.

A place says where a patch lies and how it is turned; cutting reads no more of the source than the patch. So a source may be an
array, a tensor, or anything that can be sliced and stays on the disk (a zarr array, a memory-mapped TIFF).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.core.seed import generator

Window = Sequence[tuple[int, int]]
"""First pixel and last pixel + 1 along each spatial axis."""


@dataclass(frozen=True)
class PatchShape:
    """Patches of one shape: its sides ``*s`` in pixels, and how many of them are in a batch."""

    sides: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class PatchPosition:
    """One patch.

    Attributes
    ----------
    start
        Its first pixel along each spatial axis of the source.
    sides
        Its sides before it is turned; a turned patch has its last two sides equal.
    flips
        Whether it is mirrored along each spatial axis.
    turns
        Quarter turns in the plane of the last two axes, after the mirroring.
    """

    start: tuple[int, ...]
    sides: tuple[int, ...]
    flips: tuple[bool, ...]
    turns: int = 0


def equal_pixel_shapes(sides: Sequence[int], n_largest: int, n_dims: int = 2) -> tuple[PatchShape, ...]:
    """Return every combination of sides, each with as many patches as make the pixels of `n_largest` of the largest.

    Sides 64 and 96 with 4 of the largest give 9 of 64x64, 6 of 64x96, 6 of 96x64 and 4 of 96x96.

    Raises
    ------
    UsageError
        If a side or `n_largest` is below 1, or there is no side.
    """
    if not sides or min(sides) < 1 or n_largest < 1:
        got = f"sides {tuple(sides)}, {n_largest} of the largest"
        raise UsageError("patches", expected="sides and a number of 1 or more", got=got, fix="use (64, 96)")
    pixels = n_largest * max(sides) ** n_dims
    shapes = product(sorted(set(sides)), repeat=n_dims)
    return tuple(PatchShape(shape, max(1, round(pixels / math.prod(shape)))) for shape in shapes)


def redrawn(
    extent: Sequence[int], shapes: Sequence[PatchShape], seed: int, window: Window | None = None
) -> list[list[PatchPosition]]:
    """Return the places of one batch: for each shape, `count` of them, all drawn anew from `seed`.

    Parameters
    ----------
    extent
        ``*S`` of the image. A patch longer than it (or than the window) is shortened to it.
    shapes
        What a batch holds.
    seed
        Decides everything.
    window
        The part of the image that patches lie in; None = all of it, the last row and column too.

    Raises
    ------
    UsageError
        If a shape has another number of axes than the image, or the window lies outside of it.
    """
    rng = generator(seed, "patches")
    return [[_draw(extent, shape.sides, rng, window) for _ in range(shape.count)] for shape in shapes]


def drawn_once(
    extent: Sequence[int],
    shapes: Sequence[PatchShape],
    n_batches: int,
    step: int,
    seed: int,
    window: Window | None = None,
) -> list[list[PatchPosition]]:
    """Return the places of batch `step` out of a fixed pool of `n_batches` batches, shuffled anew each time it is through.

    Every patch of the pool comes once in each round of `n_batches` steps. Arguments otherwise as for `redrawn`.
    """
    epoch, position = divmod(step, n_batches)
    batch = []
    for index, shape in enumerate(shapes):
        rng, size = generator(seed, "pool", index), shape.count * n_batches
        pool = [_draw(extent, shape.sides, rng, window) for _ in range(size)]
        order = generator(seed, "order", index, epoch).permutation(size)
        batch.append([pool[i] for i in order[position * shape.count : (position + 1) * shape.count]])
    return batch


def _draw(
    extent: Sequence[int], sides: Sequence[int], rng: np.random.Generator, window: Window | None
) -> PatchPosition:
    bounds = [(0, n) for n in extent] if window is None else list(window)
    if len(sides) != len(extent) or len(bounds) != len(extent):
        got = f"sides {tuple(sides)}" + ("" if window is None else f", window {tuple(window)}")
        expected = f"{len(extent)} values, one for each axis of the image"
        raise UsageError("patches", expected=expected, got=got, fix="give one for each axis")
    if any(not 0 <= low < high <= n for (low, high), n in zip(bounds, extent, strict=True)):
        expected = f"a part of the image of {tuple(extent)} pixels"
        raise UsageError("window", expected=expected, got=f"{tuple(bounds)}", fix="make it smaller")
    kept = tuple(min(side, high - low) for side, (low, high) in zip(sides, bounds, strict=True))
    places = zip(kept, bounds, strict=True)
    start = tuple(int(rng.integers(low, high - side + 1)) for side, (low, high) in places)
    flips = tuple(bool(rng.integers(2)) for _ in kept)
    square = len(sides) > 1 and sides[-1] == sides[-2] and kept[-1] == kept[-2]
    return PatchPosition(start, kept, flips, int(rng.integers(4)) if square else 0)


def cut(source: Any, places: Sequence[PatchPosition]) -> Tensor:
    """Cut patches of one shape out of a source.

    Parameters
    ----------
    source
        ``[C *S]``: a tensor, an array, or anything with a `shape` that gives arrays for slices (see `ChannelsFirst`).
    places
        Where; all of one shape, at least one.

    Returns
    -------
    Tensor
        ``[n C *s]``, of the source's type.
    """
    patches = []
    for place in places:
        index = tuple(slice(first, first + side) for first, side in zip(place.start, place.sides, strict=True))
        patch = source[(slice(None), *index)]
        if not isinstance(patch, Tensor):
            patch = torch.from_numpy(np.ascontiguousarray(patch))
        patch = patch.flip([axis + 1 for axis, flip in enumerate(place.flips) if flip])
        patches.append(patch.rot90(place.turns, (-2, -1)) if place.turns else patch)
    return torch.stack(patches)


class ChannelsFirst:
    """Anything that can be sliced, seen as ``[C *S]``: only what is asked for is read.

    Parameters
    ----------
    source
        Has `shape`, and gives an array for a tuple of slices and numbers: NumPy, zarr, a memory map, h5py.
    axes
        Its axes, letters of ``TCZYX`` in their order: ``"YXC"``, ``"TZYX"``. Without C there is one channel.
    time
        Which time point, where there is an axis T.

    Raises
    ------
    UsageError
        If `axes` do not fit the source.
    """

    def __init__(self, source: Any, axes: str, time: int = 0) -> None:
        known = (
            len(set(axes)) == len(axes) == len(source.shape) and set(axes) <= set("TCZYX") and {"Y", "X"} <= set(axes)
        )
        if not known:
            expected = f"{len(source.shape)} letters of TCZYX with Y and X"
            raise UsageError("axes", expected=expected, got=repr(axes), fix="name each axis once")
        self._source, self._axes, self._time = source, axes, time
        sizes = dict(zip(axes, source.shape, strict=True))
        self._order = "C" + "".join(axis for axis in "ZYX" if axis in sizes)
        self.shape = tuple(int(sizes.get(axis, 1)) for axis in self._order)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """Return ``[C *s]`` of one slice for each of the axes C and ``*S``."""
        wanted: dict[str, Any] = dict(zip(self._order, index, strict=True))
        wanted["T"] = self._time
        read = np.asarray(self._source[tuple(wanted[axis] for axis in self._axes)])
        left = [axis for axis in self._axes if axis != "T"]
        if "C" not in left:
            read, left = read[None], ["C", *left]
            read = read[wanted["C"]]
        return read.transpose([left.index(axis) for axis in self._order])
