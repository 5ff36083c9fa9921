"""Objects of an image larger than memory, cut at their necks: each connected part by itself, wherever blocks lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.refine.instances import DEPTH, find_instances
from selfseg.refine.link_blocks import StoredLabels
from selfseg.tiling.tiles import Grid, Region

LARGEST_PART = 2**23
"""Pixels of the box of a connected part that is cut; a larger one stays whole, so that memory is bounded."""


@dataclass(frozen=True)
class Boxes:
    """Where connected parts 1..N lie: first pixel and last pixel + 1 along each axis, ``low`` and ``high`` ``[axes N+1]``."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @classmethod
    def of(cls, numbers: StoredLabels, grid: Grid, n_parts: int) -> "Boxes":
        """Read the numbers of all parts, block by block."""
        n_dims = len(grid.shape)
        low = np.full((n_dims, n_parts + 1), np.iinfo(np.int64).max)
        high = np.zeros((n_dims, n_parts + 1), np.int64)
        for place in grid.places():
            core = grid.tile(place).core
            block = np.asarray(numbers[core])
            where = np.nonzero(block)
            owner = block[where].astype(np.int64)
            for axis, (pixels, part) in enumerate(zip(where, core, strict=True)):
                np.minimum.at(low[axis], owner, pixels + part.start)
                np.maximum.at(high[axis], owner, pixels + part.start + 1)
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
        huge = np.prod(extent.astype(np.float64), axis=0) > LARGEST_PART
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


def cut_parts(
    labels: StoredLabels,
    numbers: StoredLabels,
    n_parts: int,
    sides: Sequence[int],
    classes: Sequence[int],
    spacing: Sequence[float] | None = None,
    min_size: int = 1,
    depth: float = DEPTH,
    tick: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Cut connected parts at their necks by the watershed of `refine.instances.find_instances`, as in the whole image at once.

    Which pixels a part consists of, and its own border, decide how it is cut, so that each is cut in its own box. (Parts that
    touch at a corner alone may share a maximum of the distance in the whole image, and be cut otherwise there.)

    Parameters
    ----------
    labels
        Class ids ``[*S]``.
    numbers
        Connected parts 1..N of these (`refine.link_blocks.link_components` with `min_size` 1), replaced by the objects 1..M.
    n_parts
        N.
    sides
        Sizes of a block.
    classes, spacing, min_size, depth
        As for `find_instances`.
    tick
        Is told how many parts are cut.

    Returns
    -------
    tuple
        Number of objects M, and of parts whose box has more than `LARGEST_PART` pixels: they are one object each.
    """
    grid = Grid(tuple(labels.shape), tuple(sides), 0)
    boxes = Boxes.of(numbers, grid, n_parts)
    groups, huge = boxes.groups(sides)
    sizes = [np.zeros(n_parts + 1, np.int64)]  # of parts, then of objects, by number
    done, n_numbers = 0, n_parts + 1
    for group in groups:
        region = boxes.around(group, labels.shape)
        before = np.asarray(numbers[region]).astype(np.int64)
        mine = np.isin(before, group)
        found = find_instances(np.asarray(labels[region]), "watershed", classes, spacing, 1, depth)
        ids, which = np.unique(found[mine], return_inverse=True)
        before[mine] = n_numbers + which.ravel()
        numbers[region] = before
        sizes.append(np.bincount(which.ravel(), minlength=len(ids)))
        n_numbers += len(ids)
        done += len(group)
        if tick is not None:
            tick(done)
    return _renumbered(numbers, grid, np.concatenate(sizes), huge, min_size), len(huge)


def _renumbered(
    numbers: StoredLabels, grid: Grid, sizes: NDArray[np.int64], huge: NDArray[np.int64], min_size: int
) -> int:
    """Give the objects that are large enough the numbers 1..M, in the order in which they were found."""
    kept = sizes >= max(1, min_size)
    kept[huge] = True
    final = np.where(kept, np.cumsum(kept), 0)
    for place in grid.places():
        core = grid.tile(place).core
        numbers[core] = final[np.asarray(numbers[core]).astype(np.int64)]
    return int(kept.sum())
