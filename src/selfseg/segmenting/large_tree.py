"""The merge tree of an image larger than memory: superpixels block by block, one graph over all of them, one tree."""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from selfseg.core.memory import reusing_memory
from selfseg.core.progress import Progress, Silent
from selfseg.export.label_zarr import open_label_zarr, storing
from selfseg.refine.decide import class_probabilities
from selfseg.refine.hierarchy import HALO, IMAGE_WEIGHT, SUPERPIXEL_SIZE, TreeBlock, merge_blocks, tree_block
from selfseg.regions.merge_tree import MergeTree
from selfseg.results.model import FittedModel
from selfseg.results.trees import TREES, check_single, write_tree
from selfseg.sample.windowed import Windowed, prepare_windowed
from selfseg.segmenting.block_plan import CHUNK
from selfseg.segmenting.large import LargeResult
from selfseg.tiling.tiles import Region, make_grid
from selfseg.tiling.tilewise import LARGEST_TILE, SMALLEST_TILE, TileWise, bytes_per_pixel, memory_budget, plan_grid

MOST_SUPERPIXELS = 2**20
"""Superpixels of a large image: beyond it they become larger, so that the tree stays in memory."""

BYTES_PER_FEATURE = 40
"""Bytes that a feature of a pixel takes on its way through gradient, superpixels and sums."""


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
    grounds = _Grounds(model, prepare_windowed(model.preparation, image), memory)
    size = max(superpixel_size, math.prod(shape) / MOST_SUPERPIXELS)
    grid = grounds.blocks
    progress.start("merge tree (blocks)", len(grid))

    def store(place: tuple[int, ...], numbers: NDArray[np.int64]) -> None:
        with storing(path):
            stored[grid.tile(place).core] = (numbers + 1).astype(np.uint32)
        done = int(np.ravel_multi_index(place, grid.counts)) + 1
        progress.update(done, {"superpixels": int(numbers.max(initial=-1)) + 1})

    try:
        with reusing_memory():
            blocks = (grounds.of(grid.tile(place).core, size) for place in grid.places())
            tree = merge_blocks(blocks, grid.counts, image.spacing, store, image.source)
    finally:
        progress.finish()
    write_tree(path.with_suffix(".npz"), tree)
    return tree


class _Grounds:
    """Gives the ground of any block of an image, computed from the block and `HALO` pixels around it."""

    def __init__(self, model: FittedModel, windowed: Windowed, memory: int | None) -> None:
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
        self.tiles = TileWise(method, lambda region: windowed.read(region)[0], tiles, kept_bytes=budget)

    def of(self, core: Region, superpixel_size: float) -> TreeBlock:
        """Return the ground of a block."""
        shape = self.windowed.image.spatial_shape
        outer = tuple(slice(max(0, p.start - HALO), min(n, p.stop + HALO)) for p, n in zip(core, shape, strict=True))
        inner = tuple(slice(p.start - o.start, p.stop - o.start) for p, o in zip(core, outer, strict=True))
        clusters = self.windowed.restored(outer, self.tiles.probabilities)
        probabilities = class_probabilities(clusters, self.model.table)
        prepared = self.windowed.restored(outer, lambda region: self.windowed.read(region)[0])
        valid = self.windowed.window(outer).valid
        how = (self.windowed.image.spacing, valid, IMAGE_WEIGHT, superpixel_size)
        return tree_block(probabilities, prepared, None, *how, inner=inner)
