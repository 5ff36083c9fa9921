"""Patches of several shapes from anywhere in an image, mirrored and turned: which ones is a pure function of a seed.

A place is the position of a patch and its orientation; cutting reads no more of the source than the patch. So a source may be an
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
from selfseg.sample.shared_batch import in_turn
from selfseg.sample.stream import extent

Window = Sequence[tuple[int, int]]
"""First pixel and last pixel + 1 along each spatial axis."""

DRAWS = 8
"""Places that are tried for one window."""

GAP = 4
"""Pixels between two patches of a sheet."""


@dataclass(frozen=True)
class PatchShape:
    """Patches of one shape: its sides ``*s`` in pixels, and how many of them are in a batch."""

    sides: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class PatchPosition:
    """One patch."""

    start: tuple[int, ...]
    """Its first pixel along each spatial axis of the source."""
    sides: tuple[int, ...]
    """Its sides before it is turned; a turned patch has its last two sides equal."""
    flips: tuple[bool, ...]
    """True if it is mirrored along each spatial axis."""
    turns: int = 0
    """Quarter turns in the plane of the last two axes, after the mirroring."""


def equal_pixel_shapes(sides: Sequence[int], n_largest: int, n_dims: int = 2) -> tuple[PatchShape, ...]:
    """Return every combination of sides, each with as many patches as make the pixels of `n_largest` of the largest.

    Sides 64 and 96 with 4 of the largest give 9 of 64x64, 6 of 64x96, 6 of 96x64 and 4 of 96x96. Raise `UsageError` if
    a side or `n_largest` is below 1, or there is no side.
    """
    if not sides or min(sides) < 1 or n_largest < 1:
        raise UsageError(
            "patches",
            expected="sides and a number of 1 or more",
            got=f"sides {tuple(sides)}, {n_largest} of the largest",
            fix="use (64, 96)",
        )
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
        raise UsageError(
            "patches",
            expected=f"{len(extent)} values, one for each axis of the image",
            got=f"sides {tuple(sides)}" + ("" if window is None else f", window {tuple(window)}"),
            fix="give one for each axis",
        )
    if any(not 0 <= low < high <= n for (low, high), n in zip(bounds, extent, strict=True)):
        raise UsageError(
            "window",
            expected=f"a part of the image of {tuple(extent)} pixels",
            got=f"{tuple(bounds)}",
            fix="make it smaller",
        )
    kept = tuple(min(side, high - low) for side, (low, high) in zip(sides, bounds, strict=True))
    places = zip(kept, bounds, strict=True)
    start = tuple(int(rng.integers(low, high - side + 1)) for side, (low, high) in places)
    flips = tuple(bool(rng.integers(2)) for _ in kept)
    square = len(sides) > 1 and sides[-1] == sides[-2] and kept[-1] == kept[-2]
    return PatchPosition(start, kept, flips, int(rng.integers(4)) if square else 0)


def cut(source: Any, places: Sequence[PatchPosition]) -> Tensor:
    """Cut patches ``[n C *s]`` at one place or more of one shape out of a source ``[C *S]``, of its type.

    The source is a tensor, an array, or anything with a `shape` that gives arrays for slices.
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


def joined(parts: list[Tensor]) -> Tensor:
    """Return parts of a batch as one; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def one_of(batch: Tensor, b: int) -> Tensor:
    """Return number b of a batch, as a batch of one: without a launch, and without one on the way back, where it is the only one."""
    return batch if len(batch) == 1 else batch[b : b + 1]


def patch_sheet(groups: Sequence[Tensor]) -> Tensor:
    """Return patches, ``[n C *s]`` for each shape, side by side: ``[C H W]``, a row a shape, the largest value between them.

    Of volumes the middle slice is shown.
    """
    flat = [group if group.ndim == 4 else group[:, :, group.shape[2] // 2] for group in groups]
    ground = max(float(group.max()) for group in flat)
    height = sum(group.shape[2] + GAP for group in flat) - GAP
    width = max(len(group) * (group.shape[3] + GAP) for group in flat) - GAP
    sheet = flat[0].new_full((flat[0].shape[1], height, width), ground)
    top = 0
    for group in flat:
        for i, patch in enumerate(group):
            left = i * (group.shape[3] + GAP)
            sheet[:, top : top + group.shape[2], left : left + group.shape[3]] = patch
        top += group.shape[2] + GAP
    return sheet


def with_boundaries(image: Tensor, superpixels: Tensor) -> Tensor:
    """Return ``[C *S]`` with its largest value on each pixel whose next one in Y or X is of another superpixel ``[*S]``."""
    edge = torch.zeros_like(superpixels, dtype=torch.bool)
    for axis in (-2, -1):
        differs = superpixels.diff(dim=axis) != 0
        edge.narrow(axis, 0, superpixels.shape[axis] - 1).logical_or_(differs)
    return image.where(~edge, image.max())


def random_windows(
    images: Tensor, valid: Tensor | None, side: int, least_valid: float = 0.0
) -> tuple[Tensor, Tensor | None]:
    """Cut one window out of each image at a random place, from torch's own generator.

    Padding at the end of an image (pixels beyond the last valid one along an axis) is not looked at. Where an image is
    shorter than `side`, the window is continued by its mirror image.

    Parameters
    ----------
    images
        ``[B C *S]``.
    valid
        ``[B *S]`` bool; None = every pixel counts.
    side
        Side of the windows in pixels, along every axis.
    least_valid
        Share of the pixels of a window that must count. Where they do not, another place is drawn, up to `DRAWS` times, and the
        window with most pixels that count is taken.

    Returns
    -------
    windows, valid
        ``[B C *side]``, and ``[B *side]`` bool, or None if every pixel counts.
    """
    with in_turn():
        if valid is None:
            reach = list(images.shape[2:])
            places = [_index(reach, side, images.device) for _ in images]
            cut = [_taken(image, index, 1) for image, index in zip(images, places, strict=True)]
            return torch.stack(cut).contiguous(), None
        drawn = [_drawn_best(inside, side, least_valid) for inside in valid]
    cut = [_taken(image, index, 1) for image, (index, _) in zip(images, drawn, strict=True)]
    counted = torch.stack([window for _, window in drawn])
    return torch.stack(cut).contiguous(), None if bool(counted.all()) else counted


def _drawn_best(inside: Tensor, side: int, least_valid: float) -> tuple[list[slice | Tensor], Tensor]:
    """Return the first window that has pixels enough that count, else the one that has most of them, as `_drawn` does."""
    reach = extent(inside)
    index, window = _drawn(inside, reach, side)
    for _ in range(DRAWS - 1):
        if float(window.float().mean()) >= least_valid:
            break
        other, seen = _drawn(inside, reach, side)
        if int(seen.sum()) > int(window.sum()):
            index, window = other, seen
    return index, window


def _drawn(inside: Tensor, extent: list[int], side: int) -> tuple[list[slice | Tensor], Tensor]:
    """Return the indices along each axis of a window at a random place, and which of its pixels count."""
    index = _index(extent, side, inside.device)
    return index, _taken(inside, index, 0)


def _index(extent: Sequence[int], side: int, device: torch.device) -> list[slice | Tensor]:
    """Return the pixels along each axis of a window at a random place within `extent`; a slice where the window need not be continued."""
    index: list[slice | Tensor] = []
    for used in extent:
        length = min(side, used)
        start = int(torch.randint(used - length + 1, ()))
        inside = slice(start, start + side)
        index.append(inside if length == side else start + _mirrored(length, side, device))
    return index


def _taken(array: Tensor, index: list[slice | Tensor], first: int) -> Tensor:
    for axis, chosen in enumerate(index, first):
        if isinstance(chosen, slice):
            array = array.narrow(axis, chosen.start, chosen.stop - chosen.start)
        else:
            array = array.index_select(axis, chosen)
    return array


def _mirrored(length: int, wanted: int, device: torch.device) -> Tensor:
    turn = torch.arange(wanted, device=device) % (2 * length)
    return torch.where(turn < length, turn, 2 * length - 1 - turn)
