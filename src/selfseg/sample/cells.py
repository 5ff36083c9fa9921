"""Parts of an image: cells of a grid that are drawn by a seed, and bands that are read one after the other."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from selfseg.core.seed import generator

WINDOW = 2**22
"""Pixels that are read at a time."""

WINDOW_SIDE = {2: 512, 3: 64}
"""Side of a window by the number of spatial axes: as many pixels in a volume as in a picture."""

LOOKED_AT = 32
"""Windows that statistics are taken from where not all of an image is looked at."""

Region = tuple[slice, ...]


def spread_windows(shape: Sequence[int], sides: Sequence[int], n: int, seed: int) -> list[Region]:
    """Draw cells of a grid over an image, each at most once.

    Parameters
    ----------
    shape
        Sizes of the image's axes.
    sides
        Sides of a cell; an axis that is shorter is taken whole. What is left over along an axis lies before or behind the grid.
    n
        Cells wanted; all of them come, in random order, if there are fewer.
    seed
        Decides which, and where the grid begins.
    """
    rng = generator(seed, "windows")
    kept = [min(side, size) for side, size in zip(sides, shape, strict=True)]
    counts = [size // side for size, side in zip(shape, kept, strict=True)]
    begins = [int(rng.integers(size - count * side + 1)) for size, count, side in zip(shape, counts, kept, strict=True)]
    total = math.prod(counts)
    chosen = np.unravel_index(rng.choice(total, min(n, total), replace=False), counts)
    return [
        tuple(slice(a + i * side, a + (i + 1) * side) for a, i, side in zip(begins, place, kept, strict=True))
        for place in zip(*(column.tolist() for column in chosen), strict=True)
    ]


def bands(region: Region, most: float) -> Iterator[Region]:
    """Cut a region into parts of at most `most` pixels, along its first axes."""
    first, *rest = region
    row = math.prod(part.stop - part.start for part in rest)
    step = max(1, int(most / row))
    for start in range(first.start, first.stop, step):
        band = slice(start, min(start + step, first.stop))
        if row <= most or not rest:
            yield (band, *rest)
        else:
            yield from ((band, *part) for part in bands(tuple(rest), most))
