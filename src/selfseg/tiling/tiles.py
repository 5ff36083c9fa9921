"""Tiles: how an image is cut so that tiles with a halo give what the whole image gives, or blend into each other."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Region = tuple[slice, ...]


@dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes
    ----------
    core
        The part of the image that this tile decides.
    outer
        The core and its halo, cut at the image's borders: what the method is given.
    inner
        Where the core lies within the outer part.
    """

    core: Region
    outer: Region
    inner: Region


@dataclass(frozen=True)
class Grid:
    """Tiles of one size, whose cores cover an image once each.

    Attributes
    ----------
    shape
        Sizes of the image's spatial axes.
    sides
        Sizes of a core; the last ones along an axis may be smaller.
    halo
        Pixels around a core that a tile sees; at the image's own borders there are none, as for the whole image.
    """

    shape: tuple[int, ...]
    sides: tuple[int, ...]
    halo: int

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles along each axis."""
        return tuple(-(-n // side) for n, side in zip(self.shape, self.sides, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    @property
    def outer_pixels(self) -> int:
        """Pixels of the largest tile with its halo."""
        return math.prod(min(n, side + 2 * self.halo) for n, side in zip(self.shape, self.sides, strict=True))

    def places(self) -> Iterator[tuple[int, ...]]:
        """Yield the place of each tile in the grid, in row order."""
        return itertools.product(*(range(count) for count in self.counts))

    def tile(self, place: Sequence[int]) -> Tile:
        """Return the tile at a place."""
        bounds = [(i * side, min((i + 1) * side, n)) for i, side, n in zip(place, self.sides, self.shape, strict=True)]
        outer = [(max(0, a - self.halo), min(n, b + self.halo)) for (a, b), n in zip(bounds, self.shape, strict=True)]
        return Tile(
            core=tuple(slice(a, b) for a, b in bounds),
            outer=tuple(slice(a, b) for a, b in outer),
            inner=tuple(slice(a - first, b - first) for (a, b), (first, _) in zip(bounds, outer, strict=True)),
        )

    def reaching(self, region: Region, halo: int | None = None) -> Iterator[tuple[int, ...]]:
        """Yield the places of the tiles that reach into a region with `halo` pixels around them (None = their own), in row order."""
        halo = self.halo if halo is None else halo
        ranges = [
            range(max(0, (part.start - halo) // side), min(count, (part.stop - 1 + halo) // side + 1))
            for part, side, count in zip(region, self.sides, self.counts, strict=True)
        ]
        return itertools.product(*ranges)

    def weights(self, place: Sequence[int], region: Region) -> NDArray[np.float32]:
        """Return how much the tile at `place` counts at each pixel of `region`.

        A product of trapezia: along each axis it rises from 0 to 1 over the halo on both sides of a border between two
        tiles. The weights of all tiles sum to 1 at every pixel.

        Parameters
        ----------
        place
            Place of a tile.
        region
            Pixels of the image.
        """
        whole = np.ones((), np.float32)
        for i, side, count, part in zip(place, self.sides, self.counts, region, strict=True):
            centres = np.arange(part.start, part.stop) + 0.5
            rise = (centres - i * side + self.halo) / (2 * self.halo) if i > 0 else np.ones_like(centres)
            fall = ((i + 1) * side + self.halo - centres) / (2 * self.halo) if i < count - 1 else np.ones_like(centres)
            weight = np.clip(np.minimum(rise, fall), 0, 1).astype(np.float32)
            whole = whole[..., None] * weight
        return whole


def make_grid(shape: Sequence[int], halo: int, max_pixels: int, multiple: int = 1, wide: bool = False) -> Grid:
    """Return the grid with the largest tiles of at most `max_pixels` pixels, halo included.

    Parameters
    ----------
    shape
        Sizes of the spatial axes.
    halo
        Pixels around a core.
    max_pixels
        Largest number of pixels of a tile with its halo. The longest side of the core is halved until it is met, but not
        below `multiple` pixels.
    multiple
        Sides of cores are multiples of this, except along axes that are not cut.
    wide
        Cores are at least as long as two halos along axes that are cut, as `Grid.weights` needs it.
    """
    least = max(multiple, 2 * halo if wide else 1)
    grid = Grid(tuple(shape), tuple(shape), halo)
    parts = [1] * len(shape)
    while grid.outer_pixels > max_pixels:
        longest_first = sorted(range(len(shape)), key=lambda axis: -grid.sides[axis])
        axis = next((axis for axis in longest_first if grid.sides[axis] > least), None)
        if axis is None:
            break
        parts[axis] *= 2
        sides = list(grid.sides)
        sides[axis] = max(-(-shape[axis] // parts[axis]), least)
        sides[axis] = -(-sides[axis] // multiple) * multiple
        grid = Grid(tuple(shape), tuple(sides), halo)
    return grid


def within(region: Region, frame: Region) -> Region:
    """Return a region of the image in the frame of a region that holds it."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, frame, strict=True))


def grown(region: Region, halo: Sequence[int], shape: Sequence[int]) -> Region:
    """Return a region with a halo along each axis, cut at the borders of an image of `shape`."""
    sides = zip(region, halo, shape, strict=True)
    return tuple(slice(max(0, part.start - far), min(n, part.stop + far)) for part, far, n in sides)
