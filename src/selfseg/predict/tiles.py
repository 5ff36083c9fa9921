"""Tiles: how an image is cut so that tiles with a halo give what the whole image gives."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def tile_plan(shape: Sequence[int], halo: int, max_pixels: int, multiple: int = 1) -> Iterator[Tile]:
    """Yield tiles whose cores cover an image of `shape` once each, in row order.

    Parameters
    ----------
    shape
        Sizes of the spatial axes.
    halo
        Pixels of context on each side; at the image's own borders there is none, as for the whole image.
    max_pixels
        Largest number of pixels of a core, before it is rounded to `multiple`. The longest axis is halved until it is met.
    multiple
        Cores and halos are rounded up to multiples of this, so that every tile begins at one.
    """
    halo = -(-halo // multiple) * multiple
    counts = [1] * len(shape)
    sizes = list(shape)
    while _product(sizes) > max_pixels and max(sizes) > 1:
        axis = sizes.index(max(sizes))
        if sizes[axis] <= multiple:
            break
        counts[axis] *= 2
        sizes[axis] = -(-shape[axis] // (counts[axis] * multiple)) * multiple
    ranges = [
        [(start, min(start + size, n)) for start in range(0, n, size)] for n, size in zip(shape, sizes, strict=True)
    ]
    for bounds in itertools.product(*ranges):
        outer = [(max(0, a - halo), min(n, b + halo)) for (a, b), n in zip(bounds, shape, strict=True)]
        yield Tile(
            core=tuple(slice(a, b) for a, b in bounds),
            outer=tuple(slice(a, b) for a, b in outer),
            inner=tuple(slice(a - first, b - first) for (a, b), (first, _) in zip(bounds, outer, strict=True)),
        )


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
