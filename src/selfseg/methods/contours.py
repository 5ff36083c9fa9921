"""Contours: the watershed of oriented boundary strength, a merge tree over it, and a codebook of its regions.

No network and no gradient; the best regions of a photograph, in a few seconds. In 2D.

The strength of boundaries at 8 angles is the sum of local gradients of brightness, colour and texture, and of normalised cuts of the
mutual information of colours over the whole picture (`regions.contours`). Its oriented watershed gives the superpixels and the strength
of the arcs between them (Arbelaez, Maire, Fowlkes & Malik, PAMI 2011; Isola et al., ECCV 2014). Neighbours merge, cheapest first
(`regions.merge_tree.merge`). Cut, codebook and classes: `_regions`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from selfseg.methods._regions import RegionConfig, RegionMethod
from selfseg.regions.contours import CUES, FEATURE_POWER, SIZE_POWER, contour_strength
from selfseg.regions.graph import RegionGraph
from selfseg.regions.watershed import oriented_watershed


class ContoursConfig(RegionConfig):
    """Options of contours."""

    level: float = Field(default=0.84, ge=0)
    """Cost up to which regions are merged. Larger = fewer regions."""
    size_power: float = Field(default=SIZE_POWER, ge=0)
    """Exponent of size in the cost of a merge: 1 as in Ward's method, 0 = small regions are treated like large ones."""
    difference_power: float = Field(default=2 * FEATURE_POWER, ge=0)
    """Exponent of the difference of the mean features in the cost of a merge: 2 as in Ward's method."""
    local: float = Field(default=CUES["local"], ge=0)
    """Weight of local gradients of brightness, colour and texture in the strength of a boundary."""
    pmi: float = Field(default=CUES["pmi"], ge=0)
    """Weight of normalised cuts of the mutual information of colours; 0 = without them, in a third of the time."""


class Contours(RegionMethod):
    """Contours, their merge tree, and classes from a codebook. See the module's text."""

    Config = ContoursConfig
    segmenting = RegionMethod.segmenting | {"local", "pmi"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"pmi": 0.0},
        "fine": {"level": 0.5},
        "coarse": {"level": 1.2},
    }
    dimensions = (2,)
    config: ContoursConfig

    def partition(
        self, image: NDArray[np.float32], colour: NDArray[np.float32], mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int32], RegionGraph]:
        """Return the basins of the oriented watershed ``[Y X]``, and the strengths of the arcs between them."""
        cues = {"local": self.config.local, "pmi": self.config.pmi}
        return oriented_watershed(contour_strength(np.moveaxis(image, 0, -1), cues, mask), mask)
