"""Square grid: n x n equal blocks, without a look at the image."""

from selfseg.benchmark.baselines._base import Outcome, cut_outcome, n_wanted, read_pixels
from selfseg.core.image import Image
from selfseg.regions.slic import grid_cells

SIDES = (20, 16, 12, 10, 8, 6, 5, 4, 3, 2)
"""Blocks along each axis: the scales."""

DEFAULT = 2
"""Blocks along each axis of the one output: the best of these for the covering on BSDS500 train."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return blocks, 2 x 2 as the one output. `n_classes` is ignored: few numbers are squares."""
    n_wanted(n_classes, DEFAULT)
    pixels = read_pixels(image)
    shape = pixels.shape
    return cut_outcome(
        lambda n: pixels.region_ids(grid_cells(shape, [min(int(n), size) for size in shape])), DEFAULT, SIDES
    )
