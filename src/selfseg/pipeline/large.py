"""Images larger than memory: predicted block by block, from the file that they are in into a zarr of labels; restartable."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError, explain
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.export.classes import ClassArea, count_areas
from selfseg.export.label_zarr import open_label_zarr, storing
from selfseg.pipeline.block_plan import CHUNK, begin_blocks, refining_halo
from selfseg.pipeline.result import Result
from selfseg.pipeline.segmenter import Segmenter
from selfseg.predict.blocks import predict_blocks
from selfseg.predict.tiles import Grid, Region
from selfseg.predict.tilewise import TileWise, memory_budget
from selfseg.read import Source
from selfseg.read.lazy import LazyImage, open_in_parts
from selfseg.refine.cleaning import Cleaning
from selfseg.refine.crf import colour_range
from selfseg.refine.decide import class_probabilities, decide
from selfseg.refine.steps import Refinement, parse_refinements, refine
from selfseg.sample.cells import LOOKED_AT, WINDOW_SIDE, spread_windows
from selfseg.sample.windowed import Windowed, prepare_windowed

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

    image: LazyImage
    path: Path
    labels: Any
    areas: list[ClassArea]
    preview: Result
    seconds: float


def open_if_large(model: Segmenter, source: Source, axes: str | None, memory: int | None) -> LazyImage | None:
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
    """
    image = open_in_parts(source, axes)
    if image is None:
        return None
    n_pixels = math.prod(image.data.shape) // image.n_channels
    clusters, itemsize = model.method_.n_classes, image.data.dtype.itemsize
    # probabilities of clusters and of classes; the image, on its way through the preparation, and prepared
    per_pixel = 4 * (clusters + len(model.table_)) + image.n_channels * (itemsize + 8 + 4)
    series_of_volumes = model.segmenting().cuts(image) and "T" in image.axes
    if n_pixels * per_pixel <= memory_budget(memory) or series_of_volumes:
        image.close()
        return None
    return image


def predict_large(
    model: Segmenter,
    image: LazyImage,
    out: Path | str,
    memory: int | None = None,
    progress: Progress | None = None,
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
        The image, opened by `read.lazy.open_lazy`; a series is predicted frame by frame, a volume with a 2D model slice by slice
        along z.
    out
        The folder.
    memory
        Most that this process may take in all, in bytes; None = by what is free.
    progress
        Who watches, in megapixels.

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
    refinements = parse_refinements(model.refine)
    halo = refining_halo(refinements, image)
    if str(Cleaning.parse(model.clean)) != "none":
        fix = "predict with --clean none, or use a smaller image"
        expected = "no cleaning of an image that is predicted in parts"
        raise UsageError(explain(image.source, expected=expected, got=str(model.clean), fix=fix))
    begun = time.monotonic()
    path = Path(out) / "labels" / f"{image.name}.zarr"
    axes = image.axes.replace("C", "")
    stack = "Z" if model.segmenting().cuts(image) else "T" if "T" in axes else None
    first = _frame(model, image, stack, 0)
    log, plan = begin_blocks(model, image, first, path, memory)
    labels = _open_labels(model, image, path, stack, fresh=not log.done)
    grid, n_frames = plan.blocks, 1 if stack is None else image.data.shape[image.axes.index(stack)]
    for number in range(n_frames):
        if log.done.issuperset(range(number * len(grid), (number + 1) * len(grid))):
            continue
        windowed = first if number == 0 else _frame(model, image, stack, number)
        tiles = TileWise(model.method_, _reader(windowed), plan.tiles, kept_bytes=memory_budget(memory) // 2)
        width = _colours(windowed) if refinements else None
        label = _Labeller(model, windowed, tiles, refinements, halo, width)
        write = _Writer(path, labels, axes, stack, number)
        predict_blocks(grid, label, write, log, progress or Silent(), number * len(grid), memory)
    areas = _areas(model, image, labels, grid, axes, stack, n_frames)
    seconds = time.monotonic() - begun
    shown = n_frames // 2 if stack == "Z" else 0
    preview = _preview(model, _frame(model, image, stack, shown), labels, (axes, stack, shown), seconds)
    log.close()
    return LargeResult(image, path, labels, areas, preview, seconds)


def _frame(model: Segmenter, image: LazyImage, stack: str | None, number: int) -> Windowed:
    """Return a place along the axis `stack`, prepared; the image itself if it is None."""
    return prepare_windowed(model.preparation_, image if stack is None else image.at(stack, number))


def _open_labels(model: Segmenter, image: LazyImage, path: Path, stack: str | None, fresh: bool) -> Any:
    sizes = dict(zip(image.axes, image.data.shape, strict=True))
    axes = image.axes.replace("C", "")
    chunk = CHUNK[len(image.spatial_shape) - (stack == "Z")]
    chunks = tuple(1 if letter == stack else min(chunk, sizes[letter]) for letter in axes)
    kind = np.min_scalar_type(max(item.id for item in model.table_.classes))
    shape = tuple(sizes[letter] for letter in axes)
    return open_label_zarr(path, shape, kind, chunks, axes, image.spacing, image.unit, model.table_, fresh)


def _reader(windowed: Windowed) -> Any:
    def read(region: Region) -> NDArray[np.float32]:
        return windowed.read(region)[0]

    return read


@dataclass
class _Labeller:
    """From a region of the image to its labels, 0 where the image has nothing."""

    model: Segmenter
    windowed: Windowed
    tiles: TileWise
    refinements: tuple[Refinement, ...] = ()
    halo: int = 0
    width: NDArray[np.float32] | None = None

    def __call__(self, region: Region) -> NDArray[np.integer]:
        image = self.windowed.image
        outer, inner = _grown(region, image, self.halo)
        probabilities = class_probabilities(self.windowed.restored(outer, self.tiles.probabilities), self.model.table_)
        window = None
        if self.refinements or image.valid is not None or image.data.dtype.kind == "f":
            window = self.windowed.window(outer)
        valid = None if window is None else window.valid
        if window is not None and self.refinements:
            probabilities = refine(self.refinements, probabilities, window, valid, self.width).probabilities
        return decide(probabilities[(slice(None), *inner)], None if valid is None else valid[inner])


def _colours(windowed: Windowed) -> NDArray[np.float32]:
    """Return the range of each channel of an image, measured on windows of it: the same ones every time."""
    image = windowed.image
    side = WINDOW_SIDE[len(image.spatial_shape)]
    pixels = []
    for region in spread_windows(image.spatial_shape, (side,) * len(image.spatial_shape), LOOKED_AT, seed=0):
        window = windowed.window(region)
        values = window.channels_last().astype(np.float32)
        pixels.append(values.reshape(-1, image.n_channels) if window.valid is None else values[window.valid])
    return colour_range(np.concatenate(pixels).T)


def _grown(region: Region, image: LazyImage, halo: int) -> tuple[Region, Region]:
    """Return a region with a halo (in pixels of the finest axis), cut at the image's borders, and where the region lies in it."""
    reach = [math.ceil(halo * min(image.spacing) / step) for step in image.spacing]
    sides = list(zip(region, reach, image.spatial_shape, strict=True))
    outer = tuple(slice(max(0, part.start - far), min(n, part.stop + far)) for part, far, n in sides)
    return outer, tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(region, outer, strict=True))


@dataclass
class _Writer:
    """Stores the labels of a region of one frame."""

    path: Path
    labels: Any
    axes: str
    stack: str | None
    number: int

    def __call__(self, region: Region, values: NDArray[np.integer]) -> None:
        with storing(self.path):
            place = _place(self.axes, self.stack, self.number, region)
            self.labels[place] = values.reshape([part.stop - part.start for part in place])


def _place(axes: str, stack: str | None, number: int, region: Region) -> tuple[slice, ...]:
    """Return where a region of a frame lies in an array with the axes `axes`."""
    spatial = iter(region)
    return tuple(slice(number, number + 1) if letter == stack else next(spatial) for letter in axes)


def _areas(
    model: Segmenter, image: LazyImage, labels: Any, grid: Grid, axes: str, stack: str | None, n_frames: int
) -> list[ClassArea]:
    counts = np.zeros(1 + max(item.id for item in model.table_.classes), np.int64)
    for number in range(n_frames):
        for place in grid.places():
            part = np.asarray(labels[_place(axes, stack, number, grid.tile(place).core)])
            counts += np.bincount(part.ravel(), minlength=len(counts))
    return count_areas(image.name, counts, model.table_, image.spacing, image.unit)


def _preview(
    model: Segmenter, windowed: Windowed, labels: Any, where: tuple[str, str | None, int], seconds: float
) -> Result:
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
        ids.append(np.asarray(labels[_place(*where, region)]).reshape(-1, width)[::step, ::step].copy())
    spacing = tuple(size * step for size in image.spacing[-2:])
    small = Image(np.concatenate(pictures), "YXC", spacing, image.unit, image.channels, image.name, image.source)
    shown = np.concatenate(ids)
    return Result(small, shown, np.zeros((0, *shown.shape), np.float32), model.table_, seconds)
