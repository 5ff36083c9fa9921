"""Objects of an image larger than memory: connected over its blocks, cut at their necks, numbered into a zarr and measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Progress
from selfseg.export.label_zarr import open_label_zarr, storing
from selfseg.measure.objects import ObjectSums
from selfseg.refine.instances import LARGEST_PART, number_objects
from selfseg.results.instances import ObjectOptions, channel_names, describe_objects
from selfseg.results.run_folder import INSTANCES
from selfseg.segmenting.large import LargeResult
from selfseg.tiling.tiles import make_grid

BLOCK = 2**22
"""Pixels of a block."""


def check_large_objects(image: Image, options: ObjectOptions) -> None:
    """Raise unless objects can be found in parts of such an image.

    Raises
    ------
    UsageError
        If the image is a series.
    """
    if "T" in image.axes:
        got = f"an image with axes {image.axes}"
        expected = "objects of an image or volume that is predicted in parts"
        raise UsageError(image.source, expected=expected, got=got, fix="give the frames of a series one by one")


def large_instances(result: LargeResult, out: Path, options: ObjectOptions, progress: Progress) -> dict[str, Any]:
    """Number the objects of a large image into ``OUT/instances/NAME.zarr``, and return their measures.

    They are those of the whole image at once (`refine.instances`).

    Parameters
    ----------
    result
        The segmentation, of an image without T.
    out
        The folder.
    options
        Which classes, how they are cut, and how small objects may be.
    progress
        Who watches, in visits of blocks.

    Returns
    -------
    dict
        Columns, as `results.instances.Instances` has them.

    Raises
    ------
    UsageError
        As for `check_large_objects`.
    OutputError
        If the numbers cannot be written.
    """
    check_large_objects(result.image, options)
    image, table = result.image, result.preview.table
    axes = image.axes.replace("C", "")
    labels = result.labels
    where = (out / INSTANCES / f"{image.name}.zarr", labels.shape, np.uint32, labels.chunks, axes)
    numbers = open_label_zarr(*where, image.spacing, image.unit)
    grid = make_grid(labels.shape, 0, BLOCK, max(labels.chunks))
    with storing(where[0]):
        found = _number(labels, numbers, grid.sides, result, options, progress)
    progress.start("measuring objects", len(grid))
    try:
        sums = ObjectSums(labels.shape, found, image.spacing, axes)
        kinds = np.zeros(found + 1, np.int64)
        for done, place in enumerate(grid.places(), 1):
            core = grid.tile(place).core
            part = np.asarray(numbers[core])
            window = image.window(**dict(zip(axes, core, strict=True)))
            data = window.channels_last()
            if window.valid is not None:
                data = np.where(window.valid[..., None], data, np.nan)
            names = channel_names(window)
            sums.add(part, {name: data[..., i] for i, name in enumerate(names)}, [edge.start for edge in core])
            kinds[part] = labels[core]
            progress.update(done, {"objects": found})
    finally:
        progress.finish()
    return describe_objects(result.preview.image, sums.columns(), kinds[1:], table, len(axes))


def _number(
    labels: Any, numbers: Any, sides: Sequence[int], result: LargeResult, options: ObjectOptions, progress: Progress
) -> int:
    """Write the numbers of the objects, and return how many there are."""
    how = (options.kind, options.classes(result.preview.table), result.image.spacing, options.min_size, options.depth)
    found, n_whole = number_objects(labels, numbers, *how, sides=sides, progress=progress)
    if n_whole:
        most = f"{LARGEST_PART / 1e6:.0f} megapixels"
        progress.say(f"{result.image.name}: {n_whole} connected part(s) in boxes of more than {most} are not cut")
    return found
