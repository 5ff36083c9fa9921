"""Objects of an image larger than memory: components over its blocks, numbered into a zarr and measured."""

from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.errors import UsageError, explain
from selfseg.core.progress import Progress
from selfseg.export.label_zarr import open_label_zarr
from selfseg.measure.objects import ObjectSums
from selfseg.pipeline.instances import ObjectOptions, channel_names, describe_objects
from selfseg.pipeline.large import LargeResult
from selfseg.pipeline.run_folder import INSTANCES
from selfseg.predict.tiles import make_grid
from selfseg.read.lazy import LazyImage
from selfseg.refine.link import link_components

BLOCK = 2**22
"""Pixels of a block."""


def check_large_objects(image: LazyImage, options: ObjectOptions) -> None:
    """Raise unless objects can be found in parts of such an image.

    Raises
    ------
    UsageError
        If they are asked for in another way than by components, or the image is a series.
    """
    if options.kind != "components" or "T" in image.axes:
        fix = "use --instances components, and give the frames of a series one by one"
        got = f"{options.kind} of an image with axes {image.axes}"
        expected = "components of an image or volume that is predicted in parts"
        raise UsageError(explain(image.source, expected=expected, got=got, fix=fix))


def large_instances(result: LargeResult, out: Path, options: ObjectOptions, progress: Progress) -> dict[str, Any]:
    """Number the components of a large image into ``OUT/instances/NAME.zarr``, and return their measures.

    Parameters
    ----------
    result
        The segmentation, of an image without T.
    out
        The folder.
    options
        Which classes, and how small objects may be. `kind` must be ``components``: a watershed needs the whole object.
    progress
        Who watches, in visits of blocks.

    Returns
    -------
    dict
        Columns, as `pipeline.instances.Instances` has them.

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
    progress.start("objects", 3 * len(grid))
    try:
        found = link_components(
            labels,
            numbers,
            grid.sides,
            options.classes(table),
            options.min_size,
            lambda done: progress.update(done, {}),
        )
        sums = ObjectSums(labels.shape, found, image.spacing, axes)
        kinds = np.zeros(found + 1, np.int64)
        for done, place in enumerate(grid.places(), 2 * len(grid) + 1):
            core = grid.tile(place).core
            part, classes = np.asarray(numbers[core]), np.asarray(labels[core])
            window = image.window(**dict(zip(axes, core, strict=True)))
            data = window.channels_last()
            if window.valid is not None:
                data = np.where(window.valid[..., None], data, np.nan)
            names = channel_names(window)
            sums.add(part, {name: data[..., i] for i, name in enumerate(names)}, [edge.start for edge in core])
            kinds[part] = classes
            progress.update(done, {"objects": found})
    finally:
        progress.finish()
    return describe_objects(result.preview.image, sums.columns(), kinds[1:], table, len(axes))
