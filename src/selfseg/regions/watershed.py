"""Watershed superpixels: basins of a boundary map, from its local minima or from a regular grid of markers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.regions.connect import connected_components, number_by_first_pixel
from selfseg.regions.slic import grid_cells, grid_counts


def _grid_markers(
    boundary: NDArray[Any], n_segments: int, units: NDArray[Any], inside: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Mark the weakest pixel of each cell of a regular grid of about `n_segments` cells, 1..R."""
    cell = grid_cells(boundary.shape, grid_counts(boundary.shape, n_segments, units.tolist())).ravel()
    height = np.where(inside, boundary, np.inf).ravel()
    order = np.lexsort((height, cell))
    lowest = order[np.unique(cell[order], return_index=True)[1]]
    lowest = np.sort(lowest[inside.ravel()[lowest]])
    markers = np.zeros(boundary.size, np.int32)
    markers[lowest] = np.arange(1, len(lowest) + 1)
    return markers.reshape(boundary.shape)


def watershed(
    boundary: NDArray[Any],
    n_segments: int | None = None,
    compactness: float = 0.0,
    spacing: Sequence[float] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.int32]:
    """Cut the plane into the basins of a boundary map.

    Parameters
    ----------
    boundary
        ``[*S]``, large on boundaries, for example `boundaries.gradient_strength`. NaN counts as the largest value.
    n_segments
        Basins wanted: their markers are the weakest pixels of a regular grid's cells. Without it, each local minimum
        is a marker.
    compactness
        0 follows the boundary map alone; larger values give rounder basins (Neubert & Protzel, ICPR 2014). In units of
        the map per pixel.
    spacing
        Size of a pixel along each axis: the grid's cells are cubes in these units.
    mask
        ``[*S]`` bool, False = the pixel belongs to no basin.

    Returns
    -------
    ndarray
        ``[*S]`` int32, 0..R-1 without gaps, connected by faces, in the order of their first pixels; -1 outside.

    Raises
    ------
    UsageError
        If `n_segments` is below 1, or `spacing` or `mask` does not fit.
    """
    from skimage.morphology import local_minima  # here, since few of those who import this file flood anything
    from skimage.segmentation import watershed as flood

    units = np.ones(boundary.ndim) if spacing is None else np.asarray(spacing, float)
    if len(units) != boundary.ndim or units.min(initial=1) <= 0:
        raise UsageError(
            "spacing", expected=f"{boundary.ndim} positive numbers", got=str(spacing), fix="one number an axis"
        )
    if n_segments is not None and n_segments < 1:
        raise UsageError("n_segments", expected="at least 1", got=str(n_segments), fix="ask for more basins")
    if mask is not None and mask.shape != boundary.shape:
        raise UsageError("mask", expected=str(list(boundary.shape)), got=str(list(mask.shape)), fix="crop it alike")
    finite = boundary[np.isfinite(boundary)]
    height = np.nan_to_num(boundary.astype(np.float32), nan=finite.max(initial=0), posinf=finite.max(initial=0))
    inside = np.ones(boundary.shape, bool) if mask is None else mask.astype(bool)
    if n_segments is None:
        low = local_minima(height, connectivity=1) & inside
        markers = connected_components(np.where(low, 0, -1)) + np.int32(1)
    else:
        markers = _grid_markers(height, n_segments, units, inside)
    basins = flood(height, markers, connectivity=1, compactness=compactness, mask=inside).astype(np.int32) - np.int32(1)
    # Parts of the mask without any marker are basins of their own.
    missed = connected_components(np.where(inside & (basins < 0), 0, -1))
    basins = np.where(missed >= 0, missed + basins.max(initial=-1) + np.int32(1), basins).astype(np.int32)
    return number_by_first_pixel(basins, int(basins.max(initial=-1)) + 1)
