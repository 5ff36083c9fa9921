"""The merge tree of an image larger than memory: superpixels block by block, one graph over all of them, one tree."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.memory import reusing_memory
from selfseg.core.progress import Progress, Silent
from selfseg.export.label_zarr import open_label_zarr, storing
from selfseg.refine.block_graph import BlockGraph
from selfseg.refine.decide import class_probabilities
from selfseg.refine.hierarchy import SIGMA, SUPERPIXEL_SIZE, merge_regions, split_classes, tree_features
from selfseg.regions.boundaries import gradient_strength
from selfseg.regions.merge_tree import MergeTree
from selfseg.results.model import FittedModel
from selfseg.results.trees import TREES, check_single, write_tree
from selfseg.sample.prepare import PreparedImage, prepare
from selfseg.segmenting.block_plan import CHUNK
from selfseg.segmenting.large import LargeResult
from selfseg.tiling.tiles import Grid, Region, make_grid
from selfseg.tiling.tilewise import LARGEST_TILE, SMALLEST_TILE, TileWise, bytes_per_pixel, memory_budget, plan_grid

MOST_SUPERPIXELS = 2**20
"""Superpixels of a large image: beyond it they become larger, so that the tree stays in memory."""

HALO = math.ceil(4 * SIGMA) + 2
"""Pixels around a block that its boundary strength depends on: the Gaussian's reach, and one for the slope."""

BYTES_PER_FEATURE = 40
"""Bytes that a feature of a pixel takes on its way through gradient, superpixels and sums."""


@dataclass(frozen=True)
class Ground:
    """What the tree of a region is made from: its features, what superpixels are cut by, boundary strength, classes ``[*s]``."""

    features: NDArray[np.float32]
    guide: NDArray[np.float32]
    strength: NDArray[np.float32]
    classes: NDArray[np.int64]


def large_tree(
    model: FittedModel,
    result: LargeResult,
    out: Path | str,
    memory: int | None = None,
    progress: Progress | None = None,
    superpixel_size: float = SUPERPIXEL_SIZE,
) -> MergeTree:
    """Build the merge tree of a large image into ``OUT/tree/NAME.zarr`` (superpixels) and ``OUT/tree/NAME.npz`` (the tree).

    It is that of `refine.hierarchy.hierarchy` but that superpixels end where blocks end: their parts have like features and no
    boundary between them, and merge early. The probabilities are computed once more, block by block.

    Parameters
    ----------
    model
        The model that made the result.
    result
        The segmentation of an image without T.
    out
        The folder.
    memory
        Most that this process may take in all, in bytes; None = by what is free.
    progress
        Who watches, in blocks.
    superpixel_size
        Their mean size in pixels; larger where there would be more than `MOST_SUPERPIXELS`.

    Returns
    -------
    MergeTree

    Raises
    ------
    UsageError
        If the image is a series, or nothing of the image is valid.
    OutputError
        If the files cannot be written.
    """
    check_single(result.image)
    image, axes, progress = result.image, result.image.axes.replace("C", ""), progress or Silent()
    shape, chunk = image.spatial_shape, CHUNK[len(image.spatial_shape)]
    path = Path(out) / TREES / f"{image.name}.zarr"
    chunks = tuple(min(chunk, n) for n in shape)
    stored = open_label_zarr(path, shape, np.uint32, chunks, axes, image.spacing, image.unit)
    grounds = _Grounds(model, prepare(image, model.preparation), memory)
    size = max(superpixel_size, math.prod(shape) / MOST_SUPERPIXELS)
    grid = grounds.blocks
    graph: BlockGraph | None = None
    progress.start("merge tree (blocks)", len(grid))
    try:
        with reusing_memory():
            for done, place in enumerate(grid.places(), 1):
                core = grid.tile(place).core
                ground = grounds.of(core)
                graph = graph or BlockGraph(ground.features.shape[-1], image.spacing)
                numbers = _superpixels(graph, ground, place, grid, size, image.spacing)
                with storing(path):
                    stored[core] = (numbers + 1).astype(np.uint32)
                progress.update(done, {"superpixels": graph.n_regions})
    finally:
        progress.finish()
    if graph is None or not graph.n_regions:
        raise UsageError(image.source, expected="some valid pixels", got="none", fix="leave --tree out")
    tree = merge_regions(*graph.finish())
    write_tree(path.with_suffix(".npz"), tree)
    return tree


def _superpixels(
    graph: BlockGraph, ground: Ground, place: tuple[int, ...], grid: Grid, size: float, spacing: tuple[float, ...]
) -> NDArray[np.int64]:
    """Cut a block into superpixels, add them to the graph, and return their numbers ``[*s]``."""
    local = np.full(ground.classes.shape, -1, np.int32)
    if (ground.classes >= 0).any():
        local = split_classes(ground.classes, ground.guide, size, spacing)
    last = [i == count - 1 for i, count in zip(place, grid.counts, strict=True)]
    return graph.add(place, local, ground.features, ground.strength, last)


class _Grounds:
    """Gives the ground of any block of an image, computed from the block and `HALO` pixels around it."""

    def __init__(self, model: FittedModel, windowed: PreparedImage, memory: int | None) -> None:
        self.model, self.windowed = model, windowed
        method, image = model.method, windowed.image
        device = next((tensor.device for tensor in method.state().values()), torch.device("cpu"))
        budget = memory_budget(memory, device) // 2
        shape = image.spatial_shape
        n_features = len(model.table) + image.n_channels
        per_pixel = bytes_per_pixel(method) / windowed.shrinking + BYTES_PER_FEATURE * n_features + 8 * method.n_classes
        most = max(SMALLEST_TILE, min(LARGEST_TILE, int(budget / per_pixel)))
        self.blocks = make_grid(shape, 0, most, CHUNK[len(shape)])
        tiles = plan_grid(method, windowed.shape, budget, 1)
        self.tiles = TileWise(method, windowed.read, tiles, kept_bytes=budget)

    def of(self, core: Region) -> Ground:
        """Return the ground of a block."""
        shape = self.windowed.image.spatial_shape
        outer = tuple(slice(max(0, p.start - HALO), min(n, p.stop + HALO)) for p, n in zip(core, shape, strict=True))
        inner = tuple(slice(p.start - o.start, p.stop - o.start) for p, o in zip(core, outer, strict=True))
        clusters = self.windowed.restore(outer, self.tiles.probabilities)
        probabilities = class_probabilities(clusters, self.model.table)
        prepared = self.windowed.restore(outer, self.windowed.read)
        features, guide = tree_features(probabilities, prepared)
        strength = gradient_strength(features, SIGMA, self.windowed.image.spacing)
        classes = probabilities.argmax(0)
        valid = self.windowed.inside(outer)
        classes = classes if valid is None else np.where(valid, classes, -1)
        return Ground(features[inner], guide[inner], strength[inner], classes[inner])
