"""From classes to objects: connected components, or components cut at their necks by a distance-transform watershed.

An image is an array of blocks; one in memory is one block. Parts that hang together are found block by block and linked; the
watershed cuts each part in its own box, since a part's own border decides where it is cut. So objects and their numbers are those
of the whole image at once, whatever the blocks. (Parts that touch at a corner alone, and are cut in different boxes, may share a
maximum of the distance in the whole image, and be cut otherwise there.)
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from selfseg.core.errors import UsageError
from selfseg.core.progress import Progress, Silent
from selfseg.refine.blocks import BlockParts, LabelArray
from selfseg.regions.graph import check_spacing, connected_components
from selfseg.tiling.tiles import Grid, Region

KINDS = ("components", "watershed")
"""Ways to find objects."""

DEPTH = 1.0
"""Default of `depth`, in pixels; how it was chosen: EXPERIMENTS.md."""

LARGEST_PART = 2**23
"""Pixels of the box of a connected part that is cut; one larger than this and than a block stays whole: memory is bounded."""


def number_objects(
    labels: LabelArray,
    out: LabelArray,
    kind: str = "watershed",
    classes: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    min_size: int = 1,
    depth: float = DEPTH,
    sides: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Number the objects of some classes, block by block.

    ``components``: each part of equal class whose pixels hang together by faces is an object. ``watershed``: such a part
    is cut where it has a neck. Its seeds are the h-maxima of the distance to the class' border (Soille 2003, section
    6.3.4): maxima from which every way to a higher one loses at least h of that distance. The watershed of the distance
    grows them to the border.

    Parameters
    ----------
    labels
        Class ids ``[*S]``, 2D or 3D, 0 = ignore: a NumPy array, or one in a file.
    out
        Array of the same shape for the numbers, uint32 or uint64: 0 = no object, 1..N in the order of their first pixels, each
        connected by faces.
    kind
        ``"components"`` or ``"watershed"``.
    classes
        Ids of the classes that consist of objects; None = all but 0.
    spacing
        Size of a pixel along each axis: distances are in these units.
    min_size
        Objects of fewer pixels are left out.
    depth
        For ``watershed``: h, in pixels of the finest axis. Half the width of a neck must be less than that of the narrower
        part by so much. Larger cuts less: 2 or 3 for objects of more than a hundred pixels with rough borders.
    sides
        Sizes of a block, multiples of the arrays' chunks; None = the whole image is one block.
    progress
        Progress reporter, in visits of blocks, then in parts that are cut.

    Returns
    -------
    tuple
        Number of objects N, and of parts that were too large to be cut (`LARGEST_PART`): they are one object each.

    Raises
    ------
    UsageError
        If an argument is out of range, or the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.refine.instances import number_objects
    >>> labels = np.array([[1, 2, 2, 1, 2]])
    >>> objects = np.zeros(labels.shape, np.uint32)
    >>> number_objects(labels, objects, kind="components", classes=[2])
    (2, 0)
    >>> objects
    array([[0, 1, 1, 0, 2]], dtype=uint32)
    """
    _check(labels, out, spacing, min_size)
    check_kind(kind, depth)
    progress, cuts = progress or Silent(), kind == "watershed"
    grid = Grid(tuple(labels.shape), tuple(sides or labels.shape), 0)
    n_blocks = len(grid)
    progress.start("connected parts", 2 * n_blocks)
    try:
        parts = BlockParts(labels, grid.sides, classes, tick=lambda done: progress.update(done, {}))
        kept = parts.graph.sizes >= (1 if cuts else min_size)
        parts.write(out, np.where(kept, np.cumsum(kept), 0), lambda done: progress.update(n_blocks + done, {}))
    finally:
        progress.finish()
    if not cuts:
        return int(kept.sum()), 0
    progress.start("cutting objects", len(kept))
    try:
        cut = _Cut(labels, out, grid, classes, spacing, depth)
        return cut.run(parts.graph.first, min_size, lambda done: progress.update(done, {}))
    finally:
        progress.finish()


@dataclass
class _Cut:
    """Cuts connected parts 1..N, the `numbers` of an image, at their necks: the watershed of `number_objects`."""

    labels: LabelArray
    numbers: LabelArray
    grid: Grid
    classes: Sequence[int] | None
    spacing: Sequence[float] | None
    depth: float

    def run(self, first: NDArray[np.int64], min_size: int, tick: Callable[[int], None]) -> tuple[int, int]:
        """Replace the parts, whose first pixels are given ``[N]``, by the objects, and return what `number_objects` does."""
        n_parts = len(first)
        boxes = _Boxes.of(self.numbers, self.grid, n_parts)
        groups, huge = boxes.groups(self.grid.sides)
        # Of parts, then of objects, by number; a part that is cut has no pixels left.
        sizes, firsts = [np.zeros(n_parts + 1, np.int64)], [np.append(0, first)]
        done, n_numbers = 0, n_parts + 1
        for group in groups:
            size, pixels = self._cut_group(group, boxes.around(group, self.grid.shape), n_numbers)
            sizes.append(size)
            firsts.append(pixels)
            n_numbers += len(size)
            done += len(group)
            tick(done)
        kept = np.concatenate(sizes) >= max(1, min_size)
        kept[huge] = True
        final = np.zeros(len(kept), np.int64)
        order = np.flatnonzero(kept)[np.argsort(np.concatenate(firsts)[kept])]
        final[order] = np.arange(1, len(order) + 1)
        for place in self.grid.places():
            core = self.grid.tile(place).core
            self.numbers[core] = final[np.asarray(self.numbers[core]).astype(np.int64)].astype(self.numbers.dtype)
        return len(order), len(huge)

    def _cut_group(
        self, group: NDArray[np.int64], region: Region, n_before: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number the objects of some parts in their box from `n_before` on; return their sizes and first pixels."""
        before = np.asarray(self.numbers[region]).astype(np.int64)
        mine = np.isin(before, group)
        found = _objects(np.asarray(self.labels[region]), self.classes, self.spacing, self.depth)
        ids, where, which = np.unique(found[mine], return_index=True, return_inverse=True)
        before[mine] = n_before + which.ravel()
        self.numbers[region] = before.astype(self.numbers.dtype)
        pixels = [at[where] + part.start for at, part in zip(np.nonzero(mine), region, strict=True)]
        sizes = np.bincount(which.ravel(), minlength=len(ids)).astype(np.int64)
        return sizes, np.ravel_multi_index(pixels, self.grid.shape).astype(np.int64)


@dataclass(frozen=True)
class _Boxes:
    """Where connected parts 1..N lie: first pixel and last pixel + 1 along each axis, ``low`` and ``high`` ``[axes N+1]``."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @classmethod
    def of(cls, numbers: LabelArray, grid: Grid, n_parts: int) -> "_Boxes":
        """Read the numbers of all parts, block by block."""
        n_dims = len(grid.shape)
        low = np.full((n_dims, n_parts + 1), np.iinfo(np.int64).max)
        high = np.zeros((n_dims, n_parts + 1), np.int64)
        for place in grid.places():
            core = grid.tile(place).core
            block = np.asarray(numbers[core])
            ids, which = np.unique(block, return_inverse=True)
            boxes = find_objects(which.reshape(block.shape) + 1)
            for axis, edge in enumerate(core):
                low[axis, ids] = np.minimum(low[axis, ids], [box[axis].start + edge.start for box in boxes])
                high[axis, ids] = np.maximum(high[axis, ids], [box[axis].stop + edge.start for box in boxes])
        return cls(low, high)

    def around(self, parts: NDArray[np.int64], shape: Sequence[int]) -> Region:
        """Return the box of some parts and one pixel around it: no pixel of theirs has its nearest border beyond that."""
        low, high = self.low[:, parts].min(1), self.high[:, parts].max(1)
        bounds = zip(low.tolist(), high.tolist(), shape, strict=True)
        return tuple(slice(max(0, a - 1), min(n, b + 1)) for a, b, n in bounds)

    def groups(self, sides: Sequence[int]) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        """Return parts that are cut together, small ones by the block that they begin in, and those that are too large."""
        parts = np.arange(1, self.low.shape[1])
        extent = (self.high - self.low)[:, 1:]
        huge = np.prod(extent.astype(np.float64), axis=0) > max(LARGEST_PART, math.prod(sides))
        small = (extent <= np.reshape(sides, (-1, 1))).all(0) & ~huge
        block = self.low[:, 1:] // np.reshape(sides, (-1, 1))
        chosen = parts[small]
        groups: list[NDArray[np.int64]] = []
        if len(chosen):
            _, which = np.unique(block[:, small], axis=1, return_inverse=True)
            order = np.argsort(which.ravel(), kind="stable")
            groups = np.split(chosen[order], np.flatnonzero(np.diff(which.ravel()[order])) + 1)
        groups += [np.array([part]) for part in parts[~small & ~huge]]
        return groups, parts[huge]


def _objects(
    labels: NDArray[Any], classes: Sequence[int] | None, spacing: Sequence[float] | None, depth: float
) -> NDArray[np.int32]:
    """Return seeds grown to the borders of their class ``[*S]``, -1 = no object, in the order of their first pixels."""
    from skimage.segmentation import watershed  # here, since every prediction imports this file, and few cut objects

    parts = np.full(labels.shape, -1, np.int64)
    units, n_parts = spacing or (1.0,) * labels.ndim, 0
    for value in np.unique(labels[labels > 0]).tolist():
        if classes is not None and value not in classes:
            continue
        mask = labels == value
        # without any border there is nothing to cut at, and no distance
        distance = np.ones(mask.shape) if mask.all() else distance_transform_edt(mask, units)
        for alone in _apart(mask):
            seeds = _seeds(distance, alone, depth * min(units))
            grown = watershed(-distance - TIE * _turns(distance, seeds, alone), seeds, mask=alone, connectivity=1)
            parts[alone] = grown[alone] + n_parts
            n_parts += int(seeds.max()) + 1
    return connected_components(parts)


def _apart(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Yield masks that are the given one together, in none of which two connected parts touch at a corner.

    Seeds are found over corners. So a part is cut alike whichever other parts lie in the box.
    """
    parts = connected_components(np.where(mask, 0, -1))
    pairs: set[tuple[int, int]] = set()
    for offset in itertools.product((-1, 0, 1), repeat=mask.ndim):
        if sum(map(abs, offset)) < 2:
            continue
        here = tuple(slice(max(0, -step), n - max(0, step)) for step, n in zip(offset, mask.shape, strict=True))
        there = tuple(slice(max(0, step), n + min(0, step)) for step, n in zip(offset, mask.shape, strict=True))
        one, other = parts[here], parts[there]
        touch = (one > other) & (other >= 0)
        pairs.update(zip(one[touch].tolist(), other[touch].tolist(), strict=True))
    smaller: dict[int, list[int]] = {}
    for larger, lower in pairs:
        smaller.setdefault(larger, []).append(lower)
    turn = np.zeros(int(parts.max()) + 1, np.int64)
    for part in sorted(smaller):  # the first turn that no neighbour has
        taken = {int(turn[lower]) for lower in smaller[part]}
        turn[part] = next(number for number in itertools.count() if number not in taken)
    for number in range(int(turn.max()) + 1):
        yield mask & (turn[parts] == number)


def _seeds(distance: NDArray[np.float64], mask: NDArray[np.bool_], drop: float) -> NDArray[np.int32]:
    """Number the maxima from which every way to a higher one leads down by `drop` or more."""
    from skimage.measure import label as connected
    from skimage.morphology import local_maxima, reconstruction

    height = np.where(mask, distance, -drop - 1)  # below what any object sinks to
    sunk = reconstruction(height - drop, height, footprint=np.ones((3,) * mask.ndim))
    maxima = local_maxima(sunk, connectivity=mask.ndim) & mask
    return np.asarray(connected(maxima, connectivity=mask.ndim), np.int32)


TIE = 1e-10
"""Difference of heights that decides between seeds of one height, in the unit of the spacing."""


def _turns(distance: NDArray[np.float64], seeds: NDArray[np.int32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Number the pixels of seeds of one distance in each connected part, by their order; 0 elsewhere.

    scikit-image's flood takes pixels of seeds of one height in an order that depends on the other parts in the image.
    """
    turns = np.zeros(seeds.shape)
    at = np.flatnonzero(seeds)
    part, height = connected_components(np.where(mask, 0, -1)).ravel()[at], distance.ravel()[at]
    order = np.lexsort((at, height, part))
    new = np.append(True, (np.diff(part[order]) != 0) | (np.diff(height[order]) != 0))[: len(at)]
    begin = np.maximum.accumulate(np.where(new, np.arange(len(at)), 0))
    turns.ravel()[at[order]] = np.arange(len(at)) - begin
    return turns


def check_kind(kind: str, depth: float = DEPTH) -> None:
    """Raise `UsageError` unless objects can be found in this way."""
    if kind not in KINDS:
        raise UsageError(
            "instances", expected=" or ".join(KINDS), got=repr(kind), fix="watershed also cuts what touches"
        )
    if not 0 <= depth < math.inf:
        raise UsageError(
            "depth", expected="0 pixels or more", got=str(depth), fix=f"{DEPTH:g} is usual; more cuts less"
        )


def _check(labels: LabelArray, out: LabelArray, spacing: Sequence[float] | None, min_size: int) -> None:
    if tuple(labels.shape) != tuple(out.shape):
        raise UsageError(
            "objects",
            expected=f"an array of shape {tuple(labels.shape)}",
            got=str(tuple(out.shape)),
            fix="make it of the labels' shape",
        )
    n_dims = len(labels.shape)
    if labels.dtype.kind not in "iu" or n_dims not in (2, 3):
        raise UsageError(
            "labels",
            expected="integers in 2D or 3D",
            got=f"{labels.dtype} in {n_dims}D",
            fix="give class ids of one image or volume",
        )
    check_spacing(spacing, n_dims)
    if min_size < 0:
        raise UsageError("min_size", expected="0 or more", got=str(min_size), fix="give a number of pixels")
