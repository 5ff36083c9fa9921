"""Regular grids of cells that are as cubic as they can be: where superpixels start."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def grid_counts(shape: Sequence[int], n_cells: int, spacing: Sequence[float]) -> tuple[int, ...]:
    """Return into how many cells to cut each axis, so that about `n_cells` cells are about cubic in physical units.

    An axis shorter than the side of such a cube is left whole, and the others share out the cells.

    Parameters
    ----------
    shape, spacing
        Pixels, and the size of a pixel, along each axis.
    n_cells
        1 or more.
    """
    extent = [n * unit for n, unit in zip(shape, spacing, strict=True)]
    free = [axis for axis, n in enumerate(shape) if n > 1]
    step = math.inf
    while free:
        step = (math.prod(extent[axis] for axis in free) / n_cells) ** (1 / len(free))
        thin = [axis for axis in free if extent[axis] < step]
        if not thin or len(free) == 1:
            break
        free = [axis for axis in free if axis not in thin] or [max(thin, key=lambda axis: extent[axis])]
    return tuple(min(n, max(1, round(extent[axis] / step))) if axis in free else 1 for axis, n in enumerate(shape))


def grid_cells(shape: Sequence[int], counts: Sequence[int]) -> NDArray[np.int32]:
    """Return the cell number of each pixel, ``[*S]`` int32, row by row, when each axis is cut into `counts` parts."""
    cells = np.zeros((1,) * len(shape), np.int64)
    for axis, (n, count) in enumerate(zip(shape, counts, strict=True)):
        along = np.arange(n) * count // n
        cells = cells * count + along.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.broadcast_to(cells, tuple(shape)).astype(np.int32)
