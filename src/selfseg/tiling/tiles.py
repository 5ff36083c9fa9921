"""Tiles: how an image is cut so that tiles with a halo give what the whole image gives, and the probabilities of any region."""

import itertools
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfseg.core.machine import resident_memory, reusing_memory
from selfseg.methods.base import Method
from selfseg.sample.device import OnItsWay, free_on, give_back, is_out_of_memory
from selfseg.sample.statistics import within
from selfseg.sample.stream import Memo

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


def grown(region: Region, halo: Sequence[int], shape: Sequence[int]) -> Region:
    """Return a region with a halo along each axis, cut at the borders of an image of `shape`."""
    sides = zip(region, halo, shape, strict=True)
    return tuple(slice(max(0, part.start - far), min(n, part.stop + far)) for part, far, n in sides)


ASSIGNED = "assigned"
"""Key in the memo of a prepared image under which `keep_assigned` keeps probabilities."""

COPIED = "copied"
"""Key there of the whole prepared image ``[1 C *S]`` on its way to the device (`OnItsWay`), while the one before is segmented."""

LARGEST_TILE = 2**20
"""Pixels of the largest tile where the method's context is finite: larger ones are no faster."""

CONTEXTS = 4
"""Least side of a tile in contexts; below it, a tile may be larger: else most of what is computed of a volume would be halo."""

SMALLEST_TILE = 2**12
"""Pixels of the smallest tile that is ever planned, however little memory there is."""

BLEND = {2: 64, 3: 16}
"""Pixels over which tiles run into each other, on both sides of their border, where the context is the whole image."""

SHARE_OF_FREE = 0.3
"""Share of the free memory that is planned with without a limit."""

SHARE_OF_LIMIT = 0.35
"""Share of what a limit leaves that is planned with. Memory that is freed is kept for the next tile, and cut up: a process grows to
about twice what is in use at once (measured: 4700 bytes a pixel where 2150 were in use)."""

BLENDED = (
    "the method looks at the whole image, which does not fit into the memory: tiles are blended, near to what the whole image gives; "
    "more memory (--memory, where it was given), a smaller preparation (size=N) or --device cpu keep it whole"
)
"""Said where a method that looks at the whole image is tiled."""

Reader = Callable[[Region], NDArray[np.float32]]
"""From a region of the prepared image to its values ``[C *s]`` float32."""


def memory_budget(memory: int | None, device: torch.device | None = None) -> int:
    """Return the bytes that tiles may take.

    Parameters
    ----------
    memory
        Most that this process may take in all, in bytes; None = by what is free.
    device
        Where the method computes.
    """
    free = free_on(device)
    if device is not None and device.type == "cuda":
        return int(SHARE_OF_FREE * (free if memory is None else min(free, memory)))
    if memory is None:
        return int(SHARE_OF_FREE * free)
    return max(0, int(SHARE_OF_LIMIT * (memory - resident_memory())))


def bytes_per_pixel(method: Method) -> float:
    """Return the memory that a method's prediction takes a pixel."""
    return max(1.0, method.prediction_bytes(LARGEST_TILE) / LARGEST_TILE)


def plan_grid(method: Method, shape: Sequence[int], budget: int, multiple: int = 1, reading_bytes: float = 0.0) -> Grid:
    """Return the tiles by which a method predicts an image within a budget of memory.

    Where the method's context is finite it is the halo, and tiles give what the whole image gives. Where it is the whole
    image, that is one tile if the budget suffices; else tiles overlap, and are blended: an approximation.

    Parameters
    ----------
    method
        A fitted method.
    shape
        Sizes of the spatial axes of the prepared image.
    budget
        Bytes that a tile may take.
    multiple
        Sides of tiles are multiples of this, except along axes that are not cut.
    reading_bytes
        Bytes that it takes besides to read and prepare a pixel.
    """
    most = max(SMALLEST_TILE, int(budget / (bytes_per_pixel(method) + reading_bytes)))
    if method.context is not None:
        enough = (CONTEXTS * method.context) ** len(shape)
        return exact_grid(method, shape, min(most, max(LARGEST_TILE, enough)), multiple)
    if math.prod(shape) <= most:
        return Grid(tuple(shape), tuple(shape), 0)
    return make_grid(shape, BLEND[len(shape)], most, multiple, wide=True)


def exact_grid(method: Method, shape: Sequence[int], max_pixels: int, multiple: int = 1) -> Grid:
    """Return tiles that give what the whole image gives: the method's finite context as halo, on the grid of its poolings."""
    step, context = method.multiple, method.context or 0
    return make_grid(shape, -(-context // step) * step, max_pixels, math.lcm(multiple, step))


def keep_assigned(memo: Memo, method: Method, probabilities: Tensor) -> None:
    """Keep what a finished method assigns to a whole prepared image ``[K *s]`` until the image is segmented."""
    memo[ASSIGNED] = (weakref.ref(method), probabilities.float().cpu().numpy())


class Tiles:
    """Cluster probabilities of any region of an image, best of one that is a tile of the grid.

    Where the method's context is finite, every region has the values that the whole image gives: it is computed with the context
    around it, beginning on the grid of the method's poolings. Else tiles of the grid are blended.

    Parameters
    ----------
    method
        A fitted method, on any device.
    read
        Reads regions of the prepared image.
    grid
        The tiles, of `plan_grid`.
    kept_bytes
        Memory for tiles that are kept, as their neighbours need them again for blending. With less, they are computed
        again; the result is the same.
    memo_of
        From a region to what is kept of it: for `Method.assign` where `uses_memos`, and what `keep_assigned` kept. None = nothing.
    """

    def __init__(
        self,
        method: Method,
        read: Reader,
        grid: Grid,
        kept_bytes: int = 0,
        memo_of: Callable[[Region], Memo | None] = lambda region: None,
    ) -> None:
        self.method, self.read, self.grid, self.memo_of = method, read, grid, memo_of
        self.kept_bytes = kept_bytes
        self.notes = [BLENDED] if method.context is None and len(grid) > 1 else []
        self._shrunk = False
        self._kept: OrderedDict[tuple[int, ...], NDArray[np.float32]] = OrderedDict()

    def probabilities(self, region: Region) -> NDArray[np.float32]:
        """Return ``[K *region]`` float32 of any region of the prepared image; sums to 1 over K.

        Where memory runs out it is tried once more, with tiles of a quarter of the size.
        """
        try:
            return self._probabilities(region)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not self._shrink():
                raise
        give_back(self.method.device)  # here, where the error no longer holds what was computed
        return self._probabilities(region)

    def _shrink(self) -> bool:
        """Take tiles of a quarter of the size from now on; return whether there are any, and it is the first time."""
        pixels, before = math.prod(self.grid.sides) // 4, self.grid
        if self._shrunk or pixels < 1:
            return False
        self._shrunk = True
        self._kept.clear()
        if self.method.context is not None:
            self.grid = exact_grid(self.method, before.shape, pixels)
        else:
            self.grid = make_grid(before.shape, BLEND[len(before.shape)], pixels, wide=True)
        self.notes.append(f"memory ran out on {self.method.device}: tiles of a quarter of the size from now on")
        if self.method.context is None and BLENDED not in self.notes:
            self.notes.append(BLENDED)
        return self.grid.sides != before.sides

    def _probabilities(self, region: Region) -> NDArray[np.float32]:
        places = list(self.grid.reaching(region, 0 if self.method.context is not None else self.grid.halo))
        if len(places) == 1 and (self.method.context is not None or len(self.grid) == 1):
            return self._part(region)
        sides = [part.stop - part.start for part in region]
        result = np.zeros((self.method.n_classes, *sides), np.float32)
        with reusing_memory():
            for place in places:
                tile = self.grid.tile(place)
                exact = self.method.context is not None
                shared = _overlap(tile.core if exact else tile.outer, region)
                if any(part.start >= part.stop for part in shared):
                    continue
                at = (slice(None), *within(shared, region))
                if exact:
                    result[at] = self._part(shared)
                else:
                    values = self._tile(place)[(slice(None), *within(shared, tile.outer))]
                    result[at] += self.grid.weights(place, shared) * values
        return result

    def _part(self, region: Region) -> NDArray[np.float32]:
        """Return the region out of what the method gives for it and its context."""
        context, step = self.method.context, self.method.multiple
        if context is None:
            outer = tuple(slice(0, n) for n in self.grid.shape)
        else:
            sides = zip(region, self.grid.shape, strict=True)
            outer = tuple(
                slice(max(0, p.start - context) // step * step, min(n, -(-(p.stop + context) // step) * step))
                for p, n in sides
            )
        return self._assigned(outer)[(slice(None), *within(region, outer))]

    @torch.no_grad()
    def _assigned(self, region: Region) -> NDArray[np.float32]:
        """Return ``[K *region]`` as the method gives it for this region alone."""
        memo = self.memo_of(region)
        owner, kept = (memo or {}).pop(ASSIGNED, (None, None))
        if owner is not None and owner() is self.method:
            known: NDArray[np.float32] = kept
            return known
        coming: OnItsWay | None = (memo or {}).pop(COPIED, None)
        if coming is not None:
            images = coming.arrived()
        else:
            images = torch.from_numpy(np.ascontiguousarray(self.read(region)))[None].to(self.method.device)
        passed = [memo] if memo is not None and self.method.uses_memos else None
        found = self.method.assign(images) if passed is None else self.method.assign(images, passed)
        probabilities: NDArray[np.float32] = found[0].float().cpu().numpy()
        return probabilities

    def _tile(self, place: tuple[int, ...]) -> NDArray[np.float32]:
        found = self._kept.pop(place, None)
        if found is None:
            found = self._assigned(self.grid.tile(place).outer)
        self._kept[place] = found
        while len(self._kept) > 1 and sum(part.nbytes for part in self._kept.values()) > self.kept_bytes:
            self._kept.popitem(last=False)
        return found


def predict(
    method: Method, array: NDArray[np.float32], tile_pixels: int | None = None, memory: int | None = None
) -> NDArray[np.float32]:
    """Return the cluster probabilities of one prepared image in memory.

    Parameters
    ----------
    method
        A fitted method, on any device.
    array
        ``[C *S]`` float32.
    tile_pixels
        Largest number of pixels of a tile, where its context is finite; None = as `memory` allows.
    memory
        Most that this process may take in all, in bytes; None = by what is free.

    Returns
    -------
    ndarray
        ``[K *S]`` float32, sums to 1 over K.
    """
    shape = array.shape[1:]
    if 0 in shape:
        raise ValueError(f"image of shape {array.shape}: expected at least one pixel")
    if tile_pixels is not None and method.context is not None:
        grid = exact_grid(method, shape, tile_pixels)
    else:
        grid = plan_grid(method, shape, memory_budget(memory, method.device))
    tiles = Tiles(method, lambda region: array[(slice(None), *region)], grid)
    return tiles.probabilities(tuple(slice(0, n) for n in shape))


def _overlap(first: Region, second: Region) -> Region:
    return tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
