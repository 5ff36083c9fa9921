"""Cells between thin dark lines: a threshold on the smoothed image gives pieces of cells, and weak lines between pieces are removed.

1. The image is smoothed by half the width of a line, so that grain goes and gaps in lines close. Otsu's threshold parts lines from cells.
2. Connected parts above it are pieces; a watershed grows them over everything else.
3. Neighbours merge, in the order of a cost (`merge_tree.merge`): the mean darkness below the threshold between the two, times a power
   of their size. So dark things inside a cell, which part it only in places, go first; membranes stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from selfseg.core.errors import UsageError
from selfseg.regions.graph import adjacency, check_shape, check_spacing, connected_components
from selfseg.regions.merge_tree import MergeTree, merge
from selfseg.regions.watershed import watershed

SMALLEST = 10
"""Pieces of fewer pixels are part of the line that they lie in."""

SIZE_POWER = 0.3
"""Exponent of size in the cost of a merge. ISBI 2012, sections to learn from: .1 to .3 differ by .001 in V_rand (EXPERIMENTS.md)."""

NEAR = 0.75
"""Lines reach this many widths from the border in their middle."""

WITHIN = 1e-6
"""Strength of what lies between two basins of one piece: less than any line."""

UNIT_AREA = 125.0
"""Area, in squares of a line's width, of two regions whose merge costs just the mean darkness between them."""


@dataclass(frozen=True)
class Membranes:
    """The lines of one image, and the tree of the pieces between them.

    Attributes
    ----------
    height
        ``[Y X]`` float32: smoothed values above the threshold, in units of the difference between cells and lines; below 0 in lines.
    basins
        ``[Y X]`` int32, 0..R-1, -1 outside: basins of the height, each in one piece.
    tree
        Merge tree of the basins. Those of one piece merge first, at about 0. Altitudes are the darkness, in the same units,
        that parts two regions of `UNIT_AREA`.
    width
        Of a line, in pixels.
    """

    height: NDArray[np.float32]
    basins: NDArray[np.int32]
    tree: MergeTree
    width: float

    def cells(self, level: float) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Cut the tree at a level: return the regions ``[Y X]``, 0..K-1, -1 outside, and the lines between them ``[Y X]``.

        Lines are the borders between regions, so that those do not touch, and what is dark near one; other dark things lie in a cell.
        In an image of one region they are the dark parts that reach its side.
        """
        regions = self.tree.labels(self.basins, level=level)
        border, dark = _borders(regions), (self.height < 0) & (regions >= 0)
        if border.any():
            return regions, border | (dark & (distance_transform_edt(~border) <= NEAR * self.width))
        parts = connected_components(np.where(dark, 0, -1))
        side = np.ones(regions.shape, np.bool_)
        side[1:-1, 1:-1] = False
        return regions, dark & np.isin(parts, parts[side & dark])


def dark_lines(light: NDArray[np.floating], width: float = 4.0) -> tuple[float, float]:
    """Measure whether dark lines are everywhere in an image, and how strong they are.

    The strength of a line at a pixel is how far the largest second derivative of the smoothed image (eigenvalue of its Hessian)
    exceeds the other's size, as of a valley that is longer than wide.

    Parameters
    ----------
    light
        ``[Y X]``, in any unit.
    width
        Of a line, in pixels. The image is smoothed by half of it.

    Returns
    -------
    evenness, strength
        Geometric over arithmetic mean of the squared strength in 8 x 8 blocks of the image, 0-1: 1 = the same everywhere. Root of
        its mean over all pixels, times the square of the smoothing, in standard deviations of the image. Both are 0 of a flat one.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.regions.membranes import dark_lines
    >>> light = np.ones((64, 64))
    >>> light[:, 31:34] = 0
    >>> wide, strong = dark_lines(light)
    >>> bool(wide > 0)
    True
    """
    sigma = width / 2
    light = np.asarray(light, np.float32)
    down, right, both = (gaussian_filter(light, sigma, order=order) for order in ((2, 0), (0, 2), (1, 1)))
    middle, radius = (down + right) / 2, np.hypot((down - right) / 2, both)
    squares = np.maximum(middle + radius - np.abs(middle - radius), 0) ** 2
    deviation = float(light.std())
    if deviation == 0 or not squares.any():
        return 0.0, 0.0
    blocks = [block for rows in np.array_split(squares, 8) for block in np.array_split(rows, 8, axis=1) if block.size]
    means = np.array([block.mean() for block in blocks], np.float64)
    evenness = float(np.exp(np.log(means + 1e-9 * means.mean()).mean()) / means.mean())
    return evenness, float(np.sqrt(squares.mean()) * sigma**2 / deviation)


def _borders(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the pixels ``[Y X]`` before a face between two labels of 0 or more."""
    border = np.zeros(labels.shape, np.bool_)
    for axis in range(labels.ndim):
        first, second = (np.moveaxis(labels, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        np.moveaxis(border, axis, 0)[:-1] |= (first != second) & (first >= 0) & (second >= 0)
    return border


def find_membranes(
    light: NDArray[np.floating],
    width: float = 4.0,
    polarity: int = -1,
    spacing: Sequence[float] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Membranes:
    """Find lines of about one width and the pieces between them.

    Parameters
    ----------
    light
        ``[Y X]`` finite values.
    width
        Width of a line, in the unit of the spacing.
    polarity
        -1 for dark lines, 1 for bright ones.
    spacing
        Size of a pixel along each axis; None = 1.
    mask
        ``[Y X]`` bool, False = outside.

    Raises
    ------
    UsageError
        If the image is not 2D, or spacing or mask does not fit.
    """
    if light.ndim != 2:
        raise UsageError("membranes", expected="an image [Y X]", got=f"{light.ndim} axes", fix="go slice by slice")
    units = np.asarray(check_spacing(spacing, 2), float)
    check_shape("mask", mask, light.shape)
    inside = np.ones(light.shape, np.bool_) if mask is None else mask.astype(np.bool_)
    if not inside.any():
        tree = MergeTree(np.zeros(1, np.int32), np.zeros(1), np.zeros(1))
        return Membranes(np.zeros(light.shape, np.float32), np.full(light.shape, -1, np.int32), tree, width)
    height = _height(-polarity * light, inside, width / 2 / units)
    cells = _grown(height, inside)
    basins = watershed(-height, mask=inside)
    leaves = connected_components(np.where(inside, cells * (basins.max(initial=0) + 1) + basins, -1).astype(np.int64))
    graph = adjacency(leaves, np.maximum(-height, 0), tuple(units))
    depth = adjacency(leaves, height.max(initial=0) - height, tuple(units)).strength
    cell = np.zeros(graph.n_regions, np.int64)
    cell[leaves[inside]] = cells[inside]
    one = cell[graph.edges[:, 0]] == cell[graph.edges[:, 1]]
    graph = replace(graph, strength=np.where(one, WITHIN * (1 + depth), graph.strength))
    tree = merge(graph, None, size_power=SIZE_POWER, feature_power=0.0, strength_power=1.0)
    # `merge` counts a b / (a + b) as its share of all pixels; of two regions of `UNIT_AREA` it is half of that.
    scale = (2 * inside.sum() * units.prod() / (UNIT_AREA * width**2)) ** SIZE_POWER
    return Membranes(height, leaves, MergeTree(tree.parents, tree.altitudes * scale, tree.sizes), width / units.min())


def _height(
    light: NDArray[np.floating], inside: NDArray[np.bool_], sigmas: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Smooth over what is inside, and return the distance from Otsu's threshold in units of the two sides' difference; 0 outside."""
    from skimage.filters import threshold_otsu  # here, since few of those who import this file threshold anything

    weight = gaussian_filter(inside.astype(np.float32), sigmas, mode="nearest")
    total = gaussian_filter(np.where(inside, light, 0).astype(np.float32), sigmas, mode="nearest")
    smooth = np.where(inside, total / np.maximum(weight, 1e-3), 0)
    values = smooth[inside]
    if not values.size or values.min() == values.max():
        return np.zeros(light.shape, np.float32)
    threshold = threshold_otsu(values)
    above = values > threshold
    unit = values[above].mean() - values[~above].mean()
    return np.where(inside, (smooth - threshold) / unit, 0).astype(np.float32)


def _grown(height: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the parts above 0, grown over all that is inside: ``[Y X]``, numbers of 0 and more, -1 outside."""
    from skimage.segmentation import watershed as flood

    parts = connected_components(np.where(inside & (height > 0), 0, -1))
    sizes = np.bincount(parts[parts >= 0], minlength=1)
    seeds = np.where((parts >= 0) & (sizes[parts] >= SMALLEST), parts + 1, 0)
    grown = flood(-height, seeds, connectivity=1, mask=inside).astype(np.int32) - np.int32(1)
    missed = connected_components(np.where(inside & (grown < 0), 0, -1))  # without any seed: each is one by itself
    return np.where(missed >= 0, missed + parts.max(initial=-1) + np.int32(1), grown).astype(np.int32)
