"""Refinement of an image that is never whole in memory: each block with a halo, and the colours of the whole image."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfseg.core.image import Image
from selfseg.refine.crf import colour_range
from selfseg.refine.steps import Refinement, parse_refinements, refine
from selfseg.results.model import FittedModel
from selfseg.sample.prepare import PreparedImage
from selfseg.sample.statistics import LOOKED_AT, WINDOW_SIDE, spread_windows
from selfseg.segmenting.block_plan import refining_halo
from selfseg.tiling.tiles import Region


@dataclass(frozen=True)
class BlockRefining:
    """What blocks are refined by.

    Attributes
    ----------
    refinements
        One after the other; empty = none.
    halo
        Pixels of the finest axis around a block that are refined with it.
    colours
        Range of each channel over the whole image; None where nothing is refined.
    """

    refinements: tuple[Refinement, ...] = ()
    halo: int = 0
    colours: NDArray[np.float32] | None = None

    def grown(self, region: Region, image: Image) -> tuple[Region, Region]:
        """Return a region with its halo, cut at the borders of the image, and where the region lies in it."""
        reach = [math.ceil(self.halo * min(image.spacing) / step) for step in image.spacing]
        sides = list(zip(region, reach, image.spatial_shape, strict=True))
        outer = tuple(slice(max(0, part.start - far), min(n, part.stop + far)) for part, far, n in sides)
        return outer, tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, outer, strict=True))

    def refined(
        self, probabilities: NDArray[np.float32], window: Image, valid: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        """Return probabilities ``[K *region]``, refined with the pixels of their window."""
        return refine(self.refinements, probabilities, window, valid, self.colours).probabilities


def measure_refining(model: FittedModel, windowed: PreparedImage) -> BlockRefining:
    """Return how a model refines an image that is prepared window by window.

    Raises
    ------
    UsageError
        If one of its refinements needs the whole image.
    """
    refinements = parse_refinements(model.refine)
    halo = refining_halo(refinements, windowed.image)
    return BlockRefining(refinements, halo, _colours(windowed) if refinements else None)


def _colours(windowed: PreparedImage) -> NDArray[np.float32]:
    """Return the range of each channel of an image, measured on windows of it: the same ones every time."""
    image = windowed.image
    side = WINDOW_SIDE[len(image.spatial_shape)]
    pixels = []
    for region in spread_windows(image.spatial_shape, (side,) * len(image.spatial_shape), LOOKED_AT, seed=0):
        window = windowed.image_window(region)
        values = window.channels_last().astype(np.float32)
        pixels.append(values.reshape(-1, image.n_channels) if window.valid is None else values[window.valid])
    return colour_range(np.concatenate(pixels).T)
