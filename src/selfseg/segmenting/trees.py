"""Merge tree and edits over the blocks of an image in its file."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.machine import reusing_memory
from selfseg.core.progress import Progress
from selfseg.export.ome_zarr import known_label_zarr, open_label_zarr, storing
from selfseg.refine.edits import Edits
from selfseg.refine.hierarchy import HALO, IMAGE_WEIGHT, SUPERPIXEL_SIZE, LeafSums, TreeBlock, merge_blocks, tree_block
from selfseg.regions.merge_tree import MergeTree
from selfseg.results.merge_trees import TREES, check_single, read_tree, write_tree
from selfseg.results.model import FittedModel
from selfseg.results.result import Result
from selfseg.sample.prepare import prepare
from selfseg.segmenting.blocks import ImageMaps, SlicedMaps
from selfseg.segmenting.images import Settings
from selfseg.segmenting.plan import CHUNK, plan_blocks
from selfseg.tiling.tiles import (
    LARGEST_TILE,
    SMALLEST_TILE,
    Grid,
    Region,
    bytes_per_pixel,
    grown,
    make_grid,
    memory_budget,
    within,
)

MOST_SUPERPIXELS = 2**20
"""Superpixels of an image in its file: beyond it they become larger, so that the tree stays in memory."""

BYTES_PER_FEATURE = 40
"""Bytes that a feature of a pixel takes on its way through gradient, superpixels and sums."""


def store_tree(
    model: FittedModel, result: Result, out: Path | str, settings: Settings, superpixel_size: float = SUPERPIXEL_SIZE
) -> MergeTree:
    """Build the merge tree of a stored result into ``OUT/tree/NAME.zarr`` (superpixels) and ``OUT/tree/NAME.npz`` (the tree).

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
    settings
        Prediction options.
    superpixel_size
        Their mean size in pixels; larger where there would be more than `MOST_SUPERPIXELS`.

    Raises
    ------
    UsageError
        If the image is a series, or nothing of it is valid.
    OutputError
        If the files cannot be written.
    """
    check_single(result.image)
    image, progress = result.image, settings.progress
    axes, shape, chunk = image.axes.replace("C", ""), image.spatial_shape, CHUNK[len(image.spatial_shape)]
    path = Path(out) / TREES / f"{image.name}.zarr"
    chunks = tuple(min(chunk, n) for n in shape)
    stored = open_label_zarr(path, shape, np.uint32, chunks, axes, image)
    size = max(superpixel_size, math.prod(shape) / MOST_SUPERPIXELS)
    maps, grid = _open_maps(model, result, settings)
    progress.start("merge tree (blocks)", len(grid))

    def store(place: tuple[int, ...], numbers: NDArray[np.int64]) -> None:
        with storing(path):
            stored[grid.tile(place).core] = (numbers + 1).astype(np.uint32)
        done = int(np.ravel_multi_index(place, grid.counts)) + 1
        progress.update(done, {"superpixels": int(numbers.max(initial=-1)) + 1})

    try:
        with reusing_memory():
            blocks = (_tree_block(maps, grid.tile(place).core, size) for place in grid.places())
            tree = merge_blocks(blocks, grid.counts, maps.spacing, store, image.source)
    finally:
        progress.finish()
    write_tree(path.with_suffix(".npz"), tree)
    return tree


def _open_maps(model: FittedModel, result: Result, settings: Settings) -> tuple[ImageMaps | SlicedMaps, Grid]:
    """Return the class maps of an image in its file, and the blocks by which its tree is made."""
    image, method = model.view(result.image), model.method
    budget = memory_budget(settings.memory, method.device) // 2
    shrinking = 1.0
    maps: ImageMaps | SlicedMaps
    if model.slices_volume(image):
        maps = SlicedMaps(model, image, settings.axes, settings.memory)
    else:
        prepared = prepare(image, model.preparation)
        shrinking = prepared.shrinking
        maps = ImageMaps(model, prepared, plan_blocks(model, prepared, settings.memory), budget)
    n_features = len(model.table) + image.n_channels
    per_pixel = bytes_per_pixel(method) / shrinking + BYTES_PER_FEATURE * n_features + 8 * method.n_classes
    most = max(SMALLEST_TILE, min(LARGEST_TILE, int(budget / per_pixel)))
    return maps, make_grid(image.spatial_shape, 0, most, CHUNK[len(image.spatial_shape)])


def _tree_block(maps: ImageMaps | SlicedMaps, core: Region, superpixel_size: float) -> TreeBlock:
    """Return what the tree of a block is made from, computed from the block and `HALO` pixels around it."""
    outer = grown(core, (HALO,) * len(core), maps.shape)
    probabilities, inside = maps.region(outer)
    how = (maps.spacing, inside, IMAGE_WEIGHT, superpixel_size)
    return tree_block(probabilities, maps.picture(outer), None, *how, inner=within(core, outer))


def edit_stored(model: FittedModel, result: Result, out: Path | str, edits: Edits, progress: Progress) -> Result:
    """Edit the stored labels of an image in its file, along the merge tree that `store_tree` left.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    folder, path = Path(out) / TREES, result.path
    tree, prepared = read_tree(folder / f"{result.name}.npz"), prepare(model.view(result.image), model.preparation)
    superpixels = known_label_zarr(folder / f"{result.name}.zarr")
    sums = LeafSums(tree, 1 + max(item.id for item in result.table.classes))
    blocks = result.blocks()
    progress.start("editing (blocks)", 2 * len(blocks))
    try:
        for done, block in enumerate(blocks, 1):
            picture = prepared.restore(block, prepared.read)
            sums.add(_numbers(superpixels, block), np.asarray(result.labels[block]), picture)
            progress.update(done, {})
        leaves = sums.finish()
        values = np.append(edits.label_leaves(leaves), 0)
        for done, block in enumerate(blocks, 1):
            found = sums.leaf_of(_numbers(superpixels, block), np.asarray(result.labels[block]))
            with storing(path or folder):
                labels = edits.correct(values[found], result.image.name, 0, block, result.labels.shape)
                result.labels[block] = labels.astype(result.labels.dtype)
            progress.update(len(blocks) + done, {})
    finally:
        progress.finish()
    return replace(result, table=edits.table(result.table))


def _numbers(superpixels: Any, block: Region) -> NDArray[np.int64]:
    """Return the superpixels of a block, -1 = outside: the file has 0 there."""
    numbers: NDArray[np.int64] = np.asarray(superpixels[block]).astype(np.int64) - 1
    return numbers
