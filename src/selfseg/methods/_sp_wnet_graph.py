"""The superpixel graph of SP-WNet: its options, and the weights between superpixels of one image."""

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from selfseg.core.errors import InputError, UsageError
from selfseg.losses.clustering import Neighbours, neighbour_weights
from selfseg.losses.soft_ncut import Affinity, region_affinity
from selfseg.methods.base import Memo, MethodConfig
from selfseg.nets.region_pool import RegionMap, region_map
from selfseg.regions.graph import adjacency
from selfseg.regions.superpixels import SuperpixelRecipe, make_superpixels, neighbour_distances
from selfseg.sample.stream import extent

KEPT_PIXELS = 2**24
"""Pixels of all images whose graphs are kept in their memos: some 50 bytes each. Further graphs are made at each use."""

TAU = {"nearest": -math.inf, "farthest": math.inf}


class SuperpixelConfig(MethodConfig):
    """Options of the superpixel graph."""

    superpixels: Literal["slic", "watershed", "given", "none"] = "slic"
    """Where superpixels come from: SLIC, watershed, your own label images (``--superpixels``), or none: all terms on pixels."""
    n_superpixels: int | None = Field(default=None, ge=1)
    """Superpixels of an image, about; empty = as many as `superpixel_size` gives."""
    superpixel_size: float = Field(default=24.0, gt=0)
    """Mean size of a superpixel, in pixels (voxels) of the prepared image."""
    compactness: float = Field(default=10.0, ge=0)
    """How round superpixels are: SLIC's m, in units of Lab; of the watershed, in Lab a pixel."""
    superpixel_sigma: float = Field(default=1.0, ge=0)
    """Smoothing before superpixels are made, in pixels."""
    distance: Literal["values", "lab"] = "values"
    """Distance d of two superpixels: of their mean values as in the origin, or of their mean Lab colours / 100."""
    relative_distance: bool = False
    """Divide d by its mean over the image, so that tau_cut and tau_con mean the same in faint and in strong images."""
    tau_cut: float = Field(default=-1.0, le=0)
    """Weights of the cut fall with the distance d as exp(tau_cut d)."""
    cut_lengths: bool = False
    """Weigh the edges of the cut by the boundary that two superpixels share."""
    cut_sizes: bool = False
    """Weigh the edges of the cut by the product of the sizes of the two superpixels."""
    tau_con: float | Literal["nearest", "farthest"] = "nearest"
    """Weights of the neighbours in the continuity, exp(tau_con d): 0 = plain mean, as in the origin, which smooths edges too;
    ``nearest`` and ``farthest`` = that one alone (minus and plus infinity)."""


@dataclass(frozen=True, eq=False)
class SuperpixelGraph:
    """Superpixels of one image and weights between neighbours: in the cut, in the continuity, and when labels merge."""

    regions: RegionMap
    affinity: Affinity
    neighbours: Neighbours
    ties: Affinity


class SuperpixelGraphs:
    """Graphs of images, made with the options of `config` and kept in the memos of the images."""

    def __init__(self, config: SuperpixelConfig) -> None:
        self.config = config
        self._kept_pixels = 0
        self._options = str(config.model_dump(include={*SuperpixelConfig.model_fields} - {*MethodConfig.model_fields}))

    def of(
        self, image: Tensor, valid: Tensor | None = None, memo: Memo | None = None, reach: Sequence[int] | None = None
    ) -> SuperpixelGraph | None:
        """Return the graph of ``[C *S]``, whose superpixels are -1 where `valid` ``[*S]`` is False; None in dense mode.

        Padding, beyond the last valid pixel along each axis (`reach`, where it is known), is not looked at.
        `InputError` if superpixels should be given, and are not;
        `UsageError` if they are given, and the model makes its own.
        """
        memo = {} if memo is None else memo
        if "superpixels" in memo and self.config.superpixels != "given":
            raise UsageError(
                "superpixels",
                expected="a model that learned with given ones",
                got=self.config.superpixels,
                fix="leave --superpixels out, or learn with it too",
            )
        if self.config.superpixels == "none":
            return None
        shape = image.shape[1:]
        box = tuple(slice(0, n) for n in (shape if valid is None else reach or extent(valid)))
        key = f"sp_wnet {self._options} {self.config.spacing} {tuple(shape)} {box} {valid is None} {image.device}"
        graph: SuperpixelGraph | None = memo.get(key)
        if graph is None:
            plain = image.detach()[(slice(None), *box)].float().cpu().contiguous().numpy()
            own = memo["superpixels"][box] if "superpixels" in memo else None
            counted = None if valid is None else valid[box].cpu().numpy()
            graph = self._make(plain, counted, own, shape, image.device)
            self._keep(graph, memo, key, shape.numel())
        return graph

    def _keep(self, graph: SuperpixelGraph, memo: Memo, key: str, n_pixels: int) -> None:
        """Keep a graph for as long as its image lives, if all kept graphs together are small enough."""
        if not self._kept_pixels or self._kept_pixels + n_pixels <= KEPT_PIXELS:
            memo[key] = graph
            self._kept_pixels += n_pixels
            weakref.finalize(graph, self._forget, n_pixels).atexit = False

    def _forget(self, n_pixels: int) -> None:
        self._kept_pixels -= n_pixels

    def _make(
        self,
        image: NDArray[np.float32],
        valid: NDArray[np.bool_] | None,
        own: NDArray[np.integer] | None,
        shape: torch.Size,
        device: torch.device,
    ) -> SuperpixelGraph:
        config = self.config
        labels = self._labels(image, valid, own)
        graph = adjacency(labels, spacing=config.spacing or None)
        n, edges = graph.n_regions, torch.from_numpy(graph.edges).long().to(device)
        plain = neighbour_distances(image, labels, graph, config.distance)
        relative = plain / max(plain.mean() if plain.size else 1.0, 1e-12)
        d, ratio, lengths, sizes = (
            torch.from_numpy(np.asarray(values, np.float32)).to(device)
            for values in (relative if config.relative_distance else plain, relative, graph.length, graph.sizes)
        )
        factors = lengths if config.cut_lengths else None, sizes if config.cut_sizes else None
        tau = TAU[config.tau_con] if isinstance(config.tau_con, str) else config.tau_con
        padding = [(0, whole - own) for whole, own in zip(shape, labels.shape, strict=True)]
        regions = region_map(np.pad(labels, padding, constant_values=-1), n, device)
        cut = region_affinity(edges, d, n, config.tau_cut, *factors)
        return SuperpixelGraph(
            regions, cut, neighbour_weights(edges, d, n, tau), region_affinity(edges, ratio, n, -1.0, lengths)
        )

    def _labels(
        self, image: NDArray[np.float32], valid: NDArray[np.bool_] | None, own: NDArray[np.integer] | None
    ) -> NDArray[np.int32]:
        """Return superpixels ``[*S]`` 0..R-1, -1 = outside: made, or the user's `own` numbered anew."""
        c = self.config
        if c.superpixels in ("slic", "watershed"):
            size, round_ = (c.n_superpixels, c.superpixel_size), (c.compactness, c.superpixel_sigma)
            return make_superpixels(image, SuperpixelRecipe(c.superpixels, *size, *round_, c.spacing), valid)
        if own is None:
            raise InputError(
                "superpixels",
                expected="your own for every image",
                got="none for one",
                fix="name a label image, or a folder with one for each image, with --superpixels",
            )
        numbers, labels = np.unique(own, return_inverse=True)
        labels = np.maximum(labels.reshape(own.shape) - int((numbers < 0).sum()), -1).astype(np.int32)
        return labels if valid is None else np.where(valid, labels, np.int32(-1))
