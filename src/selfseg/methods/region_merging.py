"""Region merging: SLIC superpixels, a merge tree over their colour and texture, and a codebook of their regions.

No network and no gradient: under a second an image, in 2D and 3D.

SLIC cuts the image into superpixels; neighbours merge, cheapest first. The cost is a product of size, difference of the mean features,
and gradient of smoothed colour on the boundary between the two (`regions.merge_tree.merge`). Cut, codebook and classes: `_regions`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from selfseg.methods._regions import RegionConfig, RegionMethod
from selfseg.regions.graph import RegionGraph, adjacency
from selfseg.regions.slic import slic
from selfseg.regions.texture import gradient_strength


class RegionMergingConfig(RegionConfig):
    """Options of region merging."""

    superpixel_size: float = Field(default=200.0, gt=0)
    """Mean size of a superpixel, in pixels (voxels). Smaller ones follow finer detail and take longer."""
    compactness: float = Field(default=8.0, ge=0)
    """How round superpixels are, in units of Lab (SLIC's m)."""
    boundary_sigma: float = Field(default=2.5, ge=0)
    """Smoothing before boundaries are measured, in pixels."""


OWN = frozenset({"superpixel_size", "compactness", "boundary_sigma"})
"""Options of the superpixels and of the boundaries between them."""


class RegionMerging(RegionMethod):
    """Superpixels, their merge tree, and classes from a codebook. See the module's text.

    The default level suits photographs of a few large objects. Images of many small ones (nuclei, membranes), whose
    tree has no level at which all of them are whole, want the preset ``cells``: fine regions, few classes over them.
    """

    Config = RegionMergingConfig
    segmenting = RegionMethod.segmenting | OWN
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"superpixel_size": 600.0},
        "fine": {"superpixel_size": 100.0, "level": 4.5},
        "coarse": {"level": 18.0},
        "cells": {
            "superpixel_size": 30.0,
            "level": 0.5,
            "texture": 5.0,
            "boundary_sigma": 1.0,
            "explained": 0.9,
            "max_classes": 4,
        },
        "ward": {
            "size_power": 1.0,
            "difference_power": 2.0,
            "strength_power": 0.0,
            "lightness": 1.0,
            "texture": 0.0,
            "level": 10.0,
        },
    }
    config: RegionMergingConfig

    @classmethod
    def moved(cls, preset: str, options: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]] | None:
        """Contours were the preset ``contours`` of this method, and a value of its option ``boundaries``."""
        others = {name: value for name, value in options.items() if name != "boundaries"}
        if preset == "contours" or options.get("boundaries") == "contours":
            contours = {name: value for name, value in others.items() if name not in OWN}
            return "contours", "default" if preset == "contours" else preset, contours
        return ("region_merging", preset, others) if "boundaries" in options else None

    def partition(
        self, image: NDArray[np.float32], colour: NDArray[np.float32], mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int32], RegionGraph]:
        """Return SLIC superpixels of ``colour [*S D]`` and their graph with gradient strengths."""
        config = self.config
        n_pixels = colour[..., 0].size if mask is None else int(mask.sum())
        n_segments = max(1, round(n_pixels / config.superpixel_size))
        superpixels = slic(colour, n_segments, config.compactness, self._spacing, mask=mask)
        strength = gradient_strength(colour, config.boundary_sigma, self._spacing)
        return superpixels, adjacency(superpixels, strength, self._spacing)
