"""Prediction tile by tile of an image that is read window by window, so that memory does not grow with the image."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.memory import free_memory, resident_memory
from selfseg.methods.base import Method
from selfseg.predict.tiles import Grid, Region, make_grid
from selfseg.sample.stream import Memo

LARGEST_TILE = 2**20
"""Pixels of the largest tile where the method's context is finite: larger ones are no faster."""

SMALLEST_TILE = 2**12
"""Pixels of the smallest tile that is ever planned, however little memory there is."""

BLEND = {2: 64, 3: 16}
"""Pixels over which tiles run into each other, on both sides of their border, where the context is the whole image."""

SHARE_OF_FREE = 0.3
"""Share of the free memory that is planned with where nothing is said."""

SHARE_OF_LIMIT = 0.35
"""Share of what a limit leaves that is planned with. Memory that is freed is kept for the next tile, and cut up: a process grows to
about twice what is in use at once (measured: 4700 bytes a pixel where 2150 were in use)."""

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
    if device is not None and device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
        return int(SHARE_OF_FREE * (free if memory is None else min(free, memory)))
    if memory is None:
        return int(SHARE_OF_FREE * free_memory())
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
        Sizes of the spatial axes.
    budget
        Bytes that a tile may take.
    multiple
        Sides of tiles are multiples of this, except along axes that are not cut.
    reading_bytes
        Bytes that it takes besides to read and prepare a pixel.
    """
    per_pixel = bytes_per_pixel(method) + reading_bytes
    most = max(SMALLEST_TILE, int(budget / per_pixel))
    if method.context is not None:
        return exact_grid(method, shape, min(most, LARGEST_TILE), multiple)
    if int(np.prod(shape, dtype=np.int64)) <= most:
        return Grid(tuple(shape), tuple(shape), 0)
    return make_grid(shape, BLEND[len(shape)], most, multiple, wide=True)


def exact_grid(method: Method, shape: Sequence[int], max_pixels: int, multiple: int = 1) -> Grid:
    """Return tiles that give what the whole image gives: the method's finite context as halo, on the grid of its poolings.

    Parameters
    ----------
    method
        A method whose context is not None.
    shape, max_pixels, multiple
        As in `predict.tiles.make_grid`.
    """
    step, context = method.multiple, method.context or 0
    return make_grid(shape, -(-context // step) * step, max_pixels, math.lcm(multiple, step))


class TileWise:
    """Gives the probabilities of any region of an image, best of one that is a tile of the grid.

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
    """

    def __init__(self, method: Method, read: Reader, grid: Grid, kept_bytes: int = 0) -> None:
        self.method, self.read, self.grid = method, read, grid
        self.kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[int, ...], NDArray[np.float32]] = OrderedDict()
        self._device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))

    @property
    def exact(self) -> bool:
        """Whether the tiles give what the whole image gives."""
        return self.method.context is not None or len(self.grid) == 1

    def probabilities(self, region: Region) -> NDArray[np.float32]:
        """Return ``[K *region]`` of any region of the prepared image."""
        if self.method.context is not None:
            reach = self.method.context
            sides = zip(region, self.grid.shape, strict=True)
            outer = tuple(slice(max(0, part.start - reach), min(n, part.stop + reach)) for part, n in sides)
            return self.assigned(outer)[(slice(None), *_within(region, outer))]
        blended = np.zeros((self.method.n_classes, *(part.stop - part.start for part in region)), np.float32)
        for place in self.grid.reaching(region):
            outer = self.grid.tile(place).outer
            shared = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(outer, region, strict=True)
            )
            if any(part.start >= part.stop for part in shared):
                continue
            weighted = self.grid.weights(place, shared) * self._tile(place)[(slice(None), *_within(shared, outer))]
            blended[(slice(None), *_within(shared, region))] += weighted
        return blended

    @torch.no_grad()
    def assigned(self, region: Region, memo: Memo | None = None) -> NDArray[np.float32]:
        """Return ``[K *region]`` as the method gives it for this region alone; `memo` is that of the whole image, if it is the region."""
        images = torch.from_numpy(np.ascontiguousarray(self.read(region)))[None].to(self._device)
        known = {} if memo is None or not self.method.uses_memos else {"memos": (memo,)}
        found = self.method.assign(images, **known)
        probabilities: NDArray[np.float32] = found[0].float().cpu().numpy()
        return probabilities

    def _tile(self, place: tuple[int, ...]) -> NDArray[np.float32]:
        found = self._kept.pop(place, None)
        if found is None:
            found = self.assigned(self.grid.tile(place).outer)
        self._kept[place] = found
        while len(self._kept) > 1 and sum(part.nbytes for part in self._kept.values()) > self.kept_bytes:
            self._kept.popitem(last=False)
        return found


def _within(region: Region, frame: Region) -> Region:
    """Return a region of the image in the frame of a region that holds it."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, frame, strict=True))
