"""Region merging: superpixels, a merge tree over their colour and texture, and a codebook of what regions look like.

No network and no gradient: the honest baseline, and an instant preview.

1. A prepared image becomes feature channels: Lab colour (three channels) or the channels themselves, and texture.
2. SLIC cuts it into superpixels, or the watershed of contours does (preset ``contours``); neighbours merge, cheapest first.
   The cost is a product of size, difference of the mean features, and strength of the boundary between the two
   (`regions.merge_tree.merge`).
3. The tree is cut at one level, the same for every image. It was chosen once, on training photographs.
4. What the regions of all training images look like is clustered (Ward, then k-means). The clusters are the classes.
   A region belongs to each class by the distance between its mean features and the class centre.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.methods.base import Batch, Memo, Method, MethodConfig
from selfseg.regions.clusters import codebook
from selfseg.regions.contours import contour_strength
from selfseg.regions.graph import RegionGraph, adjacency, region_means
from selfseg.regions.merge_tree import MergeTree, merge
from selfseg.regions.slic import slic
from selfseg.regions.texture import BANDS, band_energy, gradient_strength, rgb_to_lab
from selfseg.regions.watershed import oriented_watershed

LIGHTNESS = 100.0
"""Lab's L of white. Channels that are not colours are put on this scale, so that one level serves both."""

NOWHERE = 1e6
"""Coordinate of a class for which there was no region: so far away that nothing is ever assigned to it."""


SEGMENTING = {
    *("boundaries", "superpixel_size", "compactness", "lightness", "texture", "boundary_sigma"),
    *("size_power", "difference_power", "strength_power"),
}
"""Options that decide the superpixels and their tree."""

Segments = tuple[NDArray[np.int32], MergeTree, NDArray[np.float64]]
"""Superpixels ``[*S]``, their merge tree, their mean features ``[R D]``."""


class RegionMergingConfig(MethodConfig):
    """Options of region merging."""

    boundaries: Literal["gradient", "contours"] = "gradient"
    """What lies between regions: the gradient of smoothed colour between SLIC superpixels; or, in 2D only and over ten times
    slower, contours (`regions.contours`), whose watershed gives the superpixels, so that size and roundness have no say."""
    superpixel_size: float = Field(default=200.0, gt=0)
    """Mean size of a superpixel, in pixels (voxels). Smaller ones follow finer detail and take longer."""
    compactness: float = Field(default=8.0, ge=0)
    """How round superpixels are, in units of Lab (SLIC's m)."""
    level: float = Field(default=9.0, ge=0)
    """Where the merge tree is cut: merges that cost at most this are done. Larger = fewer regions."""
    lightness: float = Field(default=0.5, ge=0)
    """Weight of lightness (and of channels that are not colours) against a and b: shading changes lightness most."""
    texture: float = Field(default=20.0, ge=0)
    """Weight of texture against colour; 0 = colour alone."""
    boundary_sigma: float = Field(default=2.5, ge=0)
    """Smoothing before boundaries are measured, in pixels."""
    size_power: float = Field(default=0.4, ge=0)
    """Exponent of size in the cost of a merge: 1 as in Ward's method, 0 = small regions are treated like large ones."""
    difference_power: float = Field(default=1.0, ge=0)
    """Exponent of the difference of the mean features in the cost of a merge: 2 as in Ward's method."""
    strength_power: float = Field(default=1.0, ge=0)
    """Exponent of boundary strength in the cost of a merge; 0 = boundaries do not count."""
    explained: float = Field(default=0.98, gt=0, le=1)
    """Without a fixed number of classes: the fewest that explain this share of the variance between regions."""
    max_classes: int = Field(default=24, ge=1, le=255)
    """Without a fixed number of classes: never more than this."""
    softness: float = Field(default=4.0, gt=0)
    """Standard deviation of a region's membership of a class, a Gaussian of their distance, in units of Lab."""


class RegionMerging(Method):
    """Superpixels, their merge tree, and classes from a codebook. See the module's text.

    The default level suits photographs of a few large objects. Images of many small ones (nuclei, membranes), whose
    tree has no level at which all of them are whole, want the preset ``cells``: fine regions, few classes over them.
    """

    Config = RegionMergingConfig
    uses_memos = True
    distributed_unsupported = "it has nothing to learn by gradients; it takes under a second an image"
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
        "contours": {"boundaries": "contours", "size_power": 0.15, "difference_power": 0.5, "level": 0.84},
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
    centres: Tensor
    pool: Tensor

    def __init__(self, config: RegionMergingConfig, n_channels: int, n_dims: int = 2) -> None:
        super().__init__(config, n_channels, n_dims)
        self._spacing = config.distances(n_dims)
        if config.boundaries == "contours" and n_dims != 2:
            raise UsageError(
                "boundaries", expected="gradient in 3D", got="contours", fix="leave boundaries at gradient"
            )
        width = (3 if n_channels == 3 else n_channels) + len(BANDS) - 1
        self.register_buffer("centres", torch.full((config.n_classes or 1, width), NOWHERE, dtype=torch.float64))
        # One row a region of the training images: its share of its image, then its mean features.
        self.register_buffer("pool", torch.zeros((0, 1 + width), dtype=torch.float64))

    @property
    def n_classes(self) -> int:
        """Number of entries of the codebook."""
        return len(self.centres)

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Add the regions of each image to the pool. There is no loss, so nothing is yielded."""
        self._gather(batch)
        yield from ()

    def finish(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Make the codebook out of the pool, and empty the pool."""
        if not len(self.pool):
            for batch in batches():
                self._gather(batch)
        pool = self.pool.cpu().numpy()
        config = self.config
        centres = codebook(pool[:, 1:], pool[:, 0], config.n_classes, config.explained, config.max_classes)
        # Dark to bright, as class ids are ordered everywhere.
        centres = centres[np.lexsort(centres.T[::-1])]
        wanted = self.config.n_classes or max(1, len(centres))
        self.centres = torch.full(
            (wanted, self.centres.shape[1]), NOWHERE, dtype=self.pool.dtype, device=self.pool.device
        )
        self.centres[: len(centres)] = torch.from_numpy(centres)
        self.pool = self.pool[:0]

    def assign(self, images: Tensor, memos: Sequence[Memo] | None = None) -> Tensor:
        """Return the memberships of each pixel's region, ``[B K *S]`` float32, of prepared images ``[B C *S]``."""
        memos = memos or [{} for _ in images]
        return torch.stack([self._assign_one(image, memo) for image, memo in zip(images, memos, strict=True)])

    def hierarchy(self, image: Tensor, memo: Memo | None = None) -> tuple[NDArray[np.int32], MergeTree]:
        """Return superpixels ``[*S]`` int32 and their merge tree, of a prepared image ``[C *S]``."""
        superpixels, tree, _ = self.segments(image, None, memo)
        return superpixels, tree

    def status(self) -> dict[str, int]:
        """Return the number of regions in the pool and of classes."""
        return {"regions": len(self.pool), "classes": self.n_classes}

    def training_bytes(self, n_pixels: int) -> int:
        """Return the memory of the float32 channels and the labels of one image, twice for what is under way."""
        return 2 * 4 * n_pixels * (2 * self.centres.shape[1] + 6)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state. The codebook and the pool have as many rows as the training images gave."""
        for name, columns in (("centres", self.centres.shape[1]), ("pool", self.pool.shape[1])):
            tensor = state[name]
            if tensor.ndim != 2 or tensor.shape[1] != columns:
                raise RuntimeError(f"{name}: expected [any {columns}], got {list(tensor.shape)}")
            setattr(self, name, tensor.detach().clone().to(self.pool))

    def _features(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``[*S D]``: weighted colour or channels, then weighted texture."""
        config = self.config
        last = np.nan_to_num(np.moveaxis(image, 0, -1), posinf=0, neginf=0)
        if self.n_channels == 3:
            colour = rgb_to_lab(last)
            light = colour[..., 0].copy()
            colour[..., 0] *= config.lightness
        else:
            light = last.mean(-1) * LIGHTNESS
            colour = last * (config.lightness * LIGHTNESS / np.sqrt(self.n_channels))
        texture = band_energy(light, spacing=self._spacing) * config.texture
        return np.concatenate([colour, texture], -1).astype(np.float32)

    def segments(self, image: Tensor, valid: Tensor | None = None, memo: Memo | None = None) -> Segments:
        """Return superpixels ``[*S]`` (-1 where `valid` is False), tree and mean features of ``[C *S]``, from its memo if they are there.

        One image is segmented for the codebook, for the class table, for its labels and for its tree.
        """
        memo = {} if memo is None else memo
        mask = None if valid is None or bool(valid.all()) else valid.cpu().numpy().astype(bool)
        options = self.config.model_dump(include=SEGMENTING)
        key = f"region_merging {options} {self._spacing} {tuple(image.shape)} {'all' if mask is None else 'masked'}"
        if key not in memo:
            plain = np.ascontiguousarray(image.detach().float().cpu().numpy())
            memo[key] = self._merged(plain, mask)
        segments: Segments = memo[key]
        return segments

    def _merged(self, plain: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> Segments:
        config = self.config
        features = self._features(plain)
        if config.boundaries == "contours":
            superpixels, graph = oriented_watershed(contour_strength(np.moveaxis(plain, 0, -1), mask=mask), mask)
        else:
            superpixels, graph = self._slic_graph(features[..., : 1 - len(BANDS)], mask)
        means = region_means(superpixels, features)
        tree = merge(
            graph,
            means,
            size_power=config.size_power,
            # `merge` takes the exponent of the squared difference.
            feature_power=config.difference_power / 2,
            strength_power=config.strength_power,
        )
        return superpixels, tree, means

    def _slic_graph(
        self, colour: NDArray[np.float32], mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int32], RegionGraph]:
        """Return SLIC superpixels of ``colour [*S C]`` and their graph with gradient strengths."""
        config = self.config
        n_pixels = colour[..., 0].size if mask is None else int(mask.sum())
        n_segments = max(1, round(n_pixels / config.superpixel_size))
        superpixels = slic(colour, n_segments, config.compactness, self._spacing, mask=mask)
        strength = gradient_strength(colour, config.boundary_sigma, self._spacing)
        return superpixels, adjacency(superpixels, strength, self._spacing)

    def _regions(
        self, image: Tensor, valid: Tensor | None, memo: Memo | None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Cut the tree: return the region of each pixel ``[*S]``, mean features ``[R D]`` and shares ``[R]``."""
        superpixels, tree, means = self.segments(image, valid, memo)
        at_least = self.config.n_classes or 1
        leaf = tree.cut(level=self.config.level)
        if leaf.max() + 1 < at_least:
            leaf = tree.cut(n_regions=at_least)
        weights = tree.sizes[: tree.n_leaves]
        share = np.bincount(leaf, weights)
        mean = np.stack([np.bincount(leaf, weights * column) for column in means.T], -1) / share[:, None]
        return np.append(leaf, -1)[superpixels], mean, share / share.sum()

    def _gather(self, batch: Batch) -> None:
        for b, image in enumerate(batch.images):
            valid = None if batch.valid is None else batch.valid[b]
            if valid is not None:
                if not valid.any():
                    continue
                # Padding is cut off, not just masked: smoothing would carry its edge into the image.
                box = [slice(int(i.min()), int(i.max()) + 1) for i in torch.nonzero(valid, as_tuple=True)]
                image, valid = image[(slice(None), *box)], valid[tuple(box)]
            _, mean, share = self._regions(image, valid, None if batch.memos is None else batch.memos[b])
            rows = torch.from_numpy(np.concatenate([share[:, None], mean], 1))
            self.pool = torch.cat([self.pool, rows.to(self.pool)])

    def _assign_one(self, image: Tensor, memo: Memo) -> Tensor:
        regions, mean, _ = self._regions(image, None, memo)
        centres = self.centres.cpu().numpy()
        gap = ((mean[:, None] - centres[None]) ** 2).sum(-1) / (2 * self.config.softness**2)
        membership = np.exp(gap.min(1, keepdims=True) - gap)
        membership /= membership.sum(1, keepdims=True)
        return torch.from_numpy(membership.T[:, regions].astype(np.float32)).to(image.device)
