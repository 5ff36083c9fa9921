"""SLIC + region merging: superpixels whose mean colours are near merge one by one (scikit-image's graph merging)."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import graph
from skimage.segmentation import slic

from selfseg.benchmark.baselines._base import Outcome, Pixels, n_wanted, read_pixels
from selfseg.core.image import Image
from selfseg.regions.graph import adjacency, region_sums

COMPACTNESS = 10.0
"""SLIC's m for Lab."""

GREY_COMPACTNESS = 0.1
"""The same for channels in 0-1."""

SIGMA = 0.5
"""Smoothing before SLIC, in pixels: without it, noise leaves scikit-image with a few large superpixels."""

THRESHOLDS = (4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 17.0, 20.0, 25.0, 30.0)
"""Distances of mean colours, L = 100 from black to white, below which regions merge: the scales."""

DEFAULT = 17.0
"""Threshold of the one output, chosen on BSDS500 train."""


def segment(image: Image, n_classes: int | None, seed: int) -> Outcome:
    """Return merged superpixels; exactly `n_classes` regions if it is given, unless invalid pixels part the image."""
    pixels = read_pixels(image)
    wanted = n_wanted(n_classes, 0)
    superpixels = _superpixels(pixels)
    merges = _merges(superpixels, pixels)
    n_superpixels = int(superpixels.max()) + 1

    @cache
    def cut(threshold: float) -> NDArray[np.int32]:
        below = next((i for i, (_, _, weight) in enumerate(merges) if weight >= threshold), len(merges))
        return _cut(superpixels, merges[:below], pixels)

    labels = _cut(superpixels, merges[: max(0, n_superpixels - wanted)], pixels) if wanted else cut(DEFAULT)
    return Outcome(labels, THRESHOLDS, cut)


def _superpixels(pixels: Pixels) -> NDArray[np.int32]:
    """Return superpixels ``[*S]``, 0..R-1, -1 where a pixel is not valid."""
    colour = pixels.values.shape[-1] == 3
    compactness = COMPACTNESS if colour else GREY_COMPACTNESS
    found = slic(
        pixels.values,
        pixels.n_superpixels,
        compactness,
        sigma=SIGMA,
        spacing=pixels.spacing,
        start_label=0,
        channel_axis=-1,
    )
    return pixels.region_ids(found) - np.int32(1)


def _merges(superpixels: NDArray[np.int32], pixels: Pixels) -> list[tuple[int, int, float]]:
    """Merge the nearest two until one region is left. Return what went into what, and their distance, in order."""
    rag = graph.RAG()
    colours = pixels.lab
    neighbours = adjacency(superpixels)
    for i, (total, size) in enumerate(zip(region_sums(superpixels, colours), neighbours.sizes, strict=True)):
        rag.add_node(i, labels=[i], total=total, size=size)
    for i, j in neighbours.edges.tolist():
        rag.add_edge(i, j, weight=_distance(rag, i, j))
    merges = []

    def merge(rag: Any, source: int, target: int) -> None:
        merges.append((source, target, rag[source][target]["weight"]))
        rag.nodes[target]["total"] = rag.nodes[target]["total"] + rag.nodes[source]["total"]
        rag.nodes[target]["size"] += rag.nodes[source]["size"]

    def weight(rag: Any, source: int, target: int, neighbour: int) -> dict[str, float]:
        return {"weight": _distance(rag, target, neighbour)}

    graph.merge_hierarchical(superpixels.clip(0), rag, np.inf, False, True, merge, weight)
    return merges


def _distance(rag: Any, i: int, j: int) -> float:
    a, b = rag.nodes[i], rag.nodes[j]
    return float(np.linalg.norm(a["total"] / a["size"] - b["total"] / b["size"]))


def _cut(superpixels: NDArray[np.int32], merges: list[tuple[int, int, float]], pixels: Pixels) -> NDArray[np.int32]:
    """Return the regions after the first merges."""
    target = np.arange(int(superpixels.max()) + 1)
    # Backwards, since what a region went into may itself go into another one later.
    for source, into, _ in reversed(merges):
        target[source] = target[into]
    return pixels.region_ids(target[superpixels])
