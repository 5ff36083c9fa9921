"""The superpixel graphs of SP-WNet: made once an image, kept while memory for it lasts, and never part of the model."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfseg.core.errors import InputError, UsageError
from selfseg.losses.affinity import Affinity
from selfseg.losses.region_affinity import region_affinity
from selfseg.losses.region_continuity import Neighbours, neighbour_weights
from selfseg.methods._sp_wnet_options import SPWNetConfig
from selfseg.nets.region_pool import RegionMap, region_map
from selfseg.regions.graph import adjacency
from selfseg.regions.superpixels import SuperpixelRecipe, make_superpixels, neighbour_distances
from selfseg.sample.lru_cache import LRUCache, image_key
from selfseg.sample.patches import extent

KEPT_PIXELS = 2**24
"""Pixels of all images whose graphs are kept: some 50 bytes each."""

KEPT_OWN = 2**27
"""Pixels of all images whose own superpixels, given by the user, are kept: 4 bytes each."""

TAU = {"nearest": -math.inf, "farthest": math.inf}


class SuperpixelGraph(NamedTuple):
    """Superpixels of one image and weights between neighbours: in the cut, in the continuity, and when labels merge."""

    regions: RegionMap
    affinity: Affinity
    neighbours: Neighbours
    ties: Affinity


class SuperpixelGraphs:
    """Graphs of images by their content.

    Parameters
    ----------
    config
        How superpixels are made and weighed.
    """

    def __init__(self, config: SPWNetConfig) -> None:
        self.config = config
        self._graphs: LRUCache[SuperpixelGraph] = LRUCache(KEPT_PIXELS)
        self._own: LRUCache[NDArray[np.int32]] = LRUCache(KEPT_OWN)

    def take(self, image: NDArray[np.float32], superpixels: NDArray[np.integer]) -> None:
        """Keep the user's own superpixels ``[*S]`` of a prepared image ``[C *S]``; negative = outside.

        Raises
        ------
        UsageError
            If the model makes its own.
        """
        if self.config.superpixels != "given":
            got, fix = self.config.superpixels, "leave --superpixels out, or learn with it too"
            raise UsageError("superpixels", expected="a model that learned with given ones", got=got, fix=fix)
        numbers, labels = np.unique(superpixels, return_inverse=True)
        labels = labels.reshape(superpixels.shape) - int((numbers < 0).sum())
        self._own.put(image_key(image), np.maximum(labels, -1).astype(np.int32), labels.size)

    def of(self, image: Tensor, valid: Tensor | None = None) -> SuperpixelGraph | None:
        """Return the graph of ``[C *S]``, whose superpixels are -1 where `valid` ``[*S]`` is False; None in dense mode.

        Padding, beyond the last valid pixel along each axis, is not looked at.

        Raises
        ------
        InputError
            If superpixels should be given, and are not.
        """
        if self.config.superpixels == "none":
            return None
        shape = image.shape[1:]
        box = tuple(slice(0, n) for n in (shape if valid is None else extent(valid)))
        plain = image.detach()[(slice(None), *box)].float().cpu().contiguous().numpy()
        counted = None if valid is None else valid[box].cpu().numpy()
        key = f"{image_key(plain, counted)} {tuple(shape)} {image.device}"
        make = partial(self._make, plain, counted, shape, image.device)
        return self._graphs.get_or_make(key, shape.numel(), make)

    def _make(
        self, image: NDArray[np.float32], valid: NDArray[np.bool_] | None, shape: torch.Size, device: torch.device
    ) -> SuperpixelGraph:
        config = self.config
        labels = self._labels(image, valid)
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

    def _labels(self, image: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> NDArray[np.int32]:
        c = self.config
        if c.superpixels in ("slic", "watershed"):
            size, round_ = (c.n_superpixels, c.superpixel_size), (c.compactness, c.superpixel_sigma)
            return make_superpixels(image, SuperpixelRecipe(c.superpixels, *size, *round_, c.spacing), valid)
        own = self._own.get(image_key(image))
        if own is None:
            fix = "name a label image, or a folder with one for each image, with --superpixels"
            raise InputError("superpixels", expected="your own for every image", got="none for one", fix=fix)
        return own if valid is None else np.where(valid, own, np.int32(-1))
