"""Images larger than memory: predicted block by block, from the file that they are in into a zarr of labels; restartable."""

import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.errors import UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.export.classes import ClassArea, count_areas
from selfseg.export.label_zarr import open_label_zarr
from selfseg.read import Source
from selfseg.refine.cleaning import Cleaning
from selfseg.refine.steps import parse_refinements
from selfseg.results.model import FittedModel
from selfseg.results.result import Result
from selfseg.sample.windowed import Windowed, prepare_windowed
from selfseg.segmenting.block_plan import CHUNK, begin_blocks, refining_halo
from selfseg.segmenting.block_refining import measure_refining
from selfseg.segmenting.block_work import BlockWork, Target
from selfseg.tiling.blocks import Executor, Serial, predict_blocks
from selfseg.tiling.tiles import Grid
from selfseg.tiling.tilewise import memory_budget

PREVIEW_SIDE = 1500
"""Longest side of the picture that stands for a large image, in pixels."""


@dataclass
class LargeResult:
    """The segmentation of an image that was never in memory as a whole.

    Attributes
    ----------
    image
        The image in its file.
    path
        The zarr folder of its labels.
    labels
        Its array, read and written by regions.
    areas
        What each class covers.
    preview
        Every n-th pixel of the image (of the middle plane of a volume, of a series' first time point) and its labels.
    seconds
        Time that the prediction took, in this run.
    """

    image: Image
    path: Path
    labels: Any
    areas: list[ClassArea]
    preview: Result
    seconds: float


def open_if_large(
    model: FittedModel, source: Source, axes: str | None, memory: int | None, wanted: bool = False
) -> Image | None:
    """Return an image in its file if predicting it as a whole would take more memory than there is; None if not.

    Parameters
    ----------
    model
        A fitted model.
    source
        The input.
    axes
        What its axes are, None = as the file says.
    memory
        Most that this process may take, in bytes; None = by what is free.
    wanted
        Parts are wanted, however small the image is.
    """
    image = source.open(axes)
    if image.in_memory:
        return None
    n_pixels = math.prod(image.data.shape) // image.n_channels
    clusters, itemsize = model.method.n_classes, image.data.dtype.itemsize
    # probabilities of clusters and of classes; the image, on its way through the preparation, and prepared
    per_pixel = 4 * (clusters + len(model.table)) + image.n_channels * (itemsize + 8 + 4)
    series_of_volumes = model.slices_volume(image) and "T" in image.axes
    if series_of_volumes or (not wanted and n_pixels * per_pixel <= memory_budget(memory)):
        return None
    return image


def predict_large(
    model: FittedModel,
    image: Image,
    out: Path | str,
    memory: int | None = None,
    progress: Progress | None = None,
    executor: Executor[BlockWork] | None = None,
) -> LargeResult:
    """Segment an image block by block into ``OUT/labels/NAME.zarr``.

    Where the method's context is finite the labels are those of the whole image at once. A prediction that was killed goes
    on when it is called again with the same model, image and folder, and ends with the same bytes.

    A CRF is done on each block and as many pixels around it as `refine.steps.Refinement.reach` says, with the colours measured on
    the whole image: near to that of the whole image, not equal to it (`docs/formats.md` says how near).

    Parameters
    ----------
    model
        A fitted model.
    image
        The image, opened by `read.open_lazy`; a series is predicted frame by frame, a volume with a 2D model slice by slice
        along z.
    out
        The folder.
    memory
        Most that a process that does blocks may take in all, in bytes; None = by what is free.
    progress
        Who watches, in megapixels.
    executor
        Who does the blocks; None = this process.

    Raises
    ------
    UsageError
        If a refinement, a cleaning or the preparation of the model needs the whole image.
    InputError
        If the image does not fit the model.
    OutputError
        If zarr is not installed, or the labels cannot be written.
    """
    model.check(image)
    refining_halo(parse_refinements(model.refine), image)  # refuses what cannot be done, before anything is written
    if str(Cleaning.parse(model.clean)) != "none":
        fix = "predict with --clean none, or use a smaller image"
        expected = "no cleaning of an image that is predicted in parts"
        raise UsageError(image.source, expected=expected, got=str(model.clean), fix=fix)
    begun, executor = time.monotonic(), executor or Serial()
    memory = executor.memory(memory)
    path = Path(out) / "labels" / f"{image.name}.zarr"
    stack = "Z" if model.slices_volume(image) else "T" if "T" in image.axes else None
    frame = _frame(model, image, stack, 0)
    log, plan = begin_blocks(model, image, frame, path, memory)
    labels = _open_labels(model, image, path, stack, fresh=not log.done)
    grid, n_frames = plan.blocks, 1 if stack is None else image.data.shape[image.axes.index(stack)]
    targets = [Target(path, image.axes, stack, number) for number in range(n_frames)]
    for first, target in zip(itertools.count(0, len(grid)), targets, strict=False):
        if log.done.issuperset(range(first, first + len(grid))):
            continue
        windowed = frame if target.number == 0 else _frame(model, image, stack, target.number)
        refining, kept = measure_refining(model, windowed), memory_budget(memory) // 2
        work = BlockWork(model, windowed, plan, target, labels, kept, first, refining)
        predict_blocks(grid, work, executor, log, progress or Silent(), first, memory)
    areas = _areas(model, image, labels, grid, targets)
    seconds = time.monotonic() - begun
    shown = targets[n_frames // 2 if stack == "Z" else 0]
    preview = _preview(model, _frame(model, image, stack, shown.number), labels, shown, seconds)
    log.close()
    return LargeResult(image, path, labels, areas, preview, seconds)


def _frame(model: FittedModel, image: Image, stack: str | None, number: int) -> Windowed:
    """Return a place along the axis `stack`, prepared; the image itself if it is None."""
    return prepare_windowed(model.preparation, image if stack is None else image.at(stack, number))


def _open_labels(model: FittedModel, image: Image, path: Path, stack: str | None, fresh: bool) -> Any:
    sizes = dict(zip(image.axes, image.data.shape, strict=True))
    axes = image.axes.replace("C", "")
    chunk = CHUNK[len(image.spatial_shape) - (stack == "Z")]
    chunks = tuple(1 if letter == stack else min(chunk, sizes[letter]) for letter in axes)
    kind = np.min_scalar_type(max(item.id for item in model.table.classes))
    shape = tuple(sizes[letter] for letter in axes)
    return open_label_zarr(path, shape, kind, chunks, axes, image.spacing, image.unit, model.table, fresh)


def _areas(model: FittedModel, image: Image, labels: Any, grid: Grid, targets: list[Target]) -> list[ClassArea]:
    counts = np.zeros(1 + max(item.id for item in model.table.classes), np.int64)
    for target in targets:
        for place in grid.places():
            part = np.asarray(labels[target.place(grid.tile(place).core)])
            counts += np.bincount(part.ravel(), minlength=len(counts))
    return count_areas(image.name, counts, model.table, image.spacing, image.unit)


def _preview(model: FittedModel, windowed: Windowed, labels: Any, target: Target, seconds: float) -> Result:
    """Return every n-th row and column of the image and of its labels, read band by band."""
    image = windowed.image
    *depth, height, width = image.spatial_shape
    step = max(1, -(-max(height, width) // PREVIEW_SIDE))
    middle = [slice(n // 2, n // 2 + 1) for n in depth]
    band = max(step, CHUNK[2] // step * step)
    pictures, ids = [], []
    for top in range(0, height, band):
        region = (*middle, slice(top, min(top + band, height)), slice(0, width))
        window = windowed.window(region)
        # copies: a view of every n-th pixel would keep all of them in memory
        pictures.append(window.channels_last().reshape(-1, width, image.n_channels)[::step, ::step].copy())
        ids.append(np.asarray(labels[target.place(region)]).reshape(-1, width)[::step, ::step].copy())
    spacing = tuple(size * step for size in image.spacing[-2:])
    small = Image(np.concatenate(pictures), "YXC", spacing, image.unit, image.channels, image.name, image.source)
    shown = np.concatenate(ids)
    return Result(small, shown, np.zeros((0, *shown.shape), np.float32), model.table, seconds)
