"""Square grid: n x n equal blocks, without a look at the image."""

from selfseg.benchmark.baselines._pixels import n_wanted, read_pixels, region_ids
from selfseg.benchmark.outcome import Outcome
from selfseg.core.image import Image
from selfseg.regions.grid import grid_cells

SIDES = (20, 16, 12, 10, 8, 6, 5, 4, 3, 2)
"""Blocks along each axis: the scales."""

DEFAULT = 2
"""Blocks along each axis of the one output: the best of these for the covering on BSDS500 train."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return blocks, 2 x 2 as the one output. `n_classes` is ignored: few numbers are squares."""
    n_wanted(n_classes, DEFAULT)
    pixels = read_pixels(image)
    cuts = {n: grid_cells(pixels.shape, [min(n, size) for size in pixels.shape]) for n in SIDES}
    scales = tuple((float(n), region_ids(cut, pixels)) for n, cut in cuts.items())
    return Outcome(dict(scales)[DEFAULT], scales)
