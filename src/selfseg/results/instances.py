"""Objects out of classes, for one image and for a folder of results: label image, overlay and a table of measures."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.files import Manifest
from selfseg.core.image import Image, spatial_axes, time_points
from selfseg.core.progress import Progress
from selfseg.export.labels import POWERS, LabelWriter, write_object_table
from selfseg.export.ome_zarr import open_label_zarr, storing
from selfseg.export.overlay import overlay_png, write_overlay
from selfseg.measure.objects import ObjectSums
from selfseg.refine.edits import Edits
from selfseg.refine.instances import DEPTH, LARGEST_PART, check_kind, number_objects
from selfseg.tiling.tiles import Grid, Region, make_grid

OWN = "own"
"""Kind of objects that the method itself found, as against those cut out of classes (`refine.instances.KINDS`)."""

INSTANCES, OVERLAYS, TABLE = "instances", "instances_overlay", "instances.csv"
OPACITY = 0.35

BLOCK = 2**22
"""Pixels of a block of an image in its file."""


@dataclass(frozen=True)
class ObjectOptions:
    """How objects are found.

    Attributes
    ----------
    kind
        ``"components"`` or ``"watershed"``, see `refine.instances.number_objects`; ``"own"`` = those of the method.
    of
        Names or ids of the classes that consist of objects; None = all but the background, the largest class, or, of a method's own
        objects, all but its first one.
    min_size
        Objects of fewer pixels are left out.
    depth
        How clear a neck must be for ``watershed`` to cut it, in pixels.
    """

    kind: str = "watershed"
    of: tuple[str | int, ...] | None = None
    min_size: int = 1
    depth: float = DEPTH

    def __post_init__(self) -> None:
        if self.kind != OWN:
            check_kind(self.kind, self.depth)

    def classes(self, table: ClassTable) -> list[int]:
        """Return the ids of the classes that consist of objects.

        Raises
        ------
        UsageError
            If a class of `of` is not in the table.
        """
        if self.of is not None:
            return table.find(self.of)
        ground = (
            {item.id for item in table.classes if item.sources == (0,)} if self.kind == OWN else {table.background()}
        )
        others = [item.id for item in table.classes if item.id not in ground]
        return others or [item.id for item in table.classes]


@dataclass
class Instances:
    """The objects of one image.

    Attributes
    ----------
    image
        The image; its data are the labels where the image itself is not at hand.
    labels
        Object ids, uint32, 0 = none; axes of the image without C. In a series each frame has ids of its own.
    columns
        One entry an object: class, size, place, shape, intensities; see `measure.objects.measure_objects`.
    """

    image: Image
    labels: NDArray[np.uint32]
    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["id"])

    def _repr_png_(self) -> bytes:
        """Return the overlay of the objects, which notebooks show."""
        return overlay_png(self.image, self.labels, None, opacity=OPACITY)

    def save(self, out: Path | str) -> None:
        """Write ``instances/NAME.tif`` and ``instances_overlay/NAME.png`` into the folder `out`."""
        out, image = Path(out), self.image
        name = image.name
        with Manifest(out):
            LabelWriter().write(out / INSTANCES, name, self.labels, image)
            write_overlay(out / OVERLAYS / f"{name}.png", image, self.labels, None, opacity=OPACITY)


Numbering = Callable[[int, Any, Any], int]
"""Writes the numbers 1..N of the objects of a time point into an array, from its place, its labels and that array; returns N."""


def image_instances(
    image: Image,
    labels: NDArray[Any],
    table: ClassTable,
    options: ObjectOptions,
    objects: NDArray[Any] | None = None,
    edits: Edits | None = None,
) -> Instances:
    """Find and measure the objects of one image in memory, a volume as a whole, a series frame by frame.

    Parameters
    ----------
    image
        The image; where `labels` are all there is, they themselves as an `Image`, and no intensities are measured.
    labels
        Class ids with the axes of `image` without C.
    table
        The classes.
    options
        How objects are found.
    objects
        Objects that were found before, and are only measured; of a method's ``own`` those parts that are still of its classes, and of
        `min_size` pixels.
    edits
        Objects that were joined, cut, drawn or removed by hand; all are numbered anew then, in the order of their first pixels.
    """
    if edits is not None and edits.remakes(image.name):
        every = image_instances(image, labels, table, replace(options, min_size=1), objects)
        remade = _remade(every.labels, image, edits, options.min_size)
        return Instances(image, remade, _measured(image, labels, remade, table, None))
    if objects is None:
        numbers = np.zeros(labels.shape, np.uint32)
        return Instances(image, numbers, _measured(image, labels, numbers, table, options))
    if options.kind == OWN:
        objects = np.where(np.isin(labels, options.classes(table)), objects, 0).astype(np.uint32)
        sizes = np.bincount(objects.ravel())
        objects[sizes[objects] < options.min_size] = 0
    return Instances(image, objects, _measured(image, labels, objects, table, None))


def _remade(objects: NDArray[np.uint32], image: Image, edits: Edits, min_size: int) -> NDArray[np.uint32]:
    """Return objects with those that were made by hand, without small ones, numbered on over the frames of a series."""
    found, before = objects.copy(), 0
    for number, frame in enumerate(time_points(found, image.axes.replace("C", ""))):
        whole = make_grid(frame.shape, 0, frame.size, max(frame.shape))
        n_objects = _remake(frame, int(frame.max(initial=0)), edits, image.name, number, whole, min_size)
        frame[frame > 0] += np.uint32(before)
        before += n_objects
    return found


def _remake(numbers: Any, n_objects: int, edits: Edits, name: str, frame: int, grid: Grid, min_size: int) -> int:
    """Make the objects of a frame as they were made by hand, in place, block by block; return how many there are.

    All of at least `min_size` pixels are numbered from 1 on in the order of their first pixels.
    """
    shape = tuple(numbers.shape)
    most = n_objects + sum(len(one.parts) for one in edits.remakes(name, frame))
    sizes, first = np.zeros(most + 1, np.int64), np.full(most + 1, math.prod(shape), np.int64)
    cores = [grid.tile(place).core for place in grid.places()]
    for core in cores:
        made = edits.correct_objects(np.asarray(numbers[core]), name, frame, core, shape, n_objects + 1)
        numbers[core] = made
        sizes += np.bincount(made.ravel(), minlength=most + 1)
        ids, places = np.unique(made, return_index=True)
        start = [edge.start for edge in core]
        whole = np.add(np.stack(np.unravel_index(places, made.shape), 1), start)
        np.minimum.at(first, ids, np.ravel_multi_index(tuple(whole.T), shape))
    sizes[0] = 0
    kept = np.flatnonzero(sizes >= max(1, min_size))
    number_of = np.zeros(most + 1, np.uint32)
    number_of[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1)
    for core in cores:
        numbers[core] = number_of[np.asarray(numbers[core])].astype(numbers.dtype)
    return len(kept)


def store_instances(
    image: Image,
    labels: Any,
    table: ClassTable,
    out: Path,
    options: ObjectOptions,
    progress: Progress,
    numbering: Numbering | None = None,
    edits: Edits | None = None,
) -> dict[str, Any]:
    """Number the objects of stored labels (a zarr array) into ``OUT/instances/NAME.zarr``, and return their measures.

    They are those of the whole image at once (`refine.instances.number_objects`), or those that `numbering` writes; with `edits`,
    as they were made by hand.

    Raises
    ------
    OutputError
        If the numbers cannot be written.
    """
    path = out / INSTANCES / f"{image.name}.zarr"
    axes = image.axes.replace("C", "")
    numbers = open_label_zarr(path, labels.shape, np.uint32, labels.chunks, axes, image)
    with storing(path):
        return _measured(image, labels, numbers, table, options, BLOCK, progress, numbering, edits)


def _measured(
    image: Image,
    labels: Any,
    numbers: Any,
    table: ClassTable,
    options: ObjectOptions | None,
    block: int | None = None,
    progress: Progress | None = None,
    numbering: Numbering | None = None,
    edits: Edits | None = None,
) -> dict[str, Any]:
    """Number the objects of each time point on into `numbers` (`options` None = they are there), and return their measures.

    Parameters
    ----------
    block
        Pixels of a block; None = the whole image is one.
    numbering
        Writes the numbers; None = objects are cut out of the classes.
    edits
        Objects made by hand, which are made so in `numbers`.
    """
    axes = image.axes.replace("C", "")
    measured = image.data is not labels
    n_before, tables = 0, []
    frames = zip(time_points(labels, axes), time_points(numbers, axes), strict=True)
    for t, (frame, found) in enumerate(frames):
        shape = tuple(frame.shape)
        grid = make_grid(shape, 0, math.prod(shape) if block is None else block, max(getattr(labels, "chunks", shape)))
        if options is not None:
            remakes = edits is not None and bool(edits.remakes(image.name, t))
            every = replace(options, min_size=1) if remakes else options  # of pieces that are joined each may be small
            if numbering is not None:
                n_objects = numbering(t, frame, found)
            else:
                n_objects = _number(image, frame, found, table, every, grid, progress)
            if edits is not None and remakes:
                n_objects = _remake(found, n_objects, edits, image.name, t, grid, options.min_size)
            ids = np.arange(1, n_objects + 1)
        else:
            ids = np.unique(found)
            ids = ids[ids > 0].astype(np.int64)
        sums = ObjectSums(shape, len(ids), image.spacing, axes.replace("T", ""))
        kinds = np.zeros(len(ids) + 1, np.int64)
        for place in grid.places():
            core = grid.tile(place).core
            part = np.searchsorted(ids, found[core]) + 1
            part[np.asarray(found[core]) == 0] = 0
            channels = _channels(image, t if "T" in axes else None, core) if measured else {}
            sums.add(part, channels, [edge.start for edge in core])
            kinds[part] = frame[core]
            if n_before and options is not None:
                found[core] = np.where(part > 0, part + n_before, 0).astype(numbers.dtype)
        columns = {**sums.columns(), "id": ids + (n_before if options is not None else 0)}
        tables.append(describe_objects(image, columns, kinds[1:], table, len(shape), t if "T" in axes else None))
        n_before += len(ids)
    return {name: np.concatenate([np.asarray(part[name]) for part in tables]) for name in tables[0]}


def _number(
    image: Image,
    labels: Any,
    numbers: Any,
    table: ClassTable,
    options: ObjectOptions,
    grid: Grid,
    progress: Progress | None,
) -> int:
    how = (options.kind, options.classes(table), image.spacing, options.min_size, options.depth)
    found, n_whole = number_objects(labels, numbers, *how, sides=grid.sides, progress=progress)
    if n_whole and progress is not None:
        most = f"{LARGEST_PART / 1e6:.0f} megapixels"
        progress.say(f"{image.name}: {n_whole} connected part(s) in boxes of more than {most} are not cut")
    return found


def _channels(image: Image, frame: int | None, region: Region) -> dict[str, NDArray[Any]]:
    """Return the channels of a region by name ``[*s]``, NaN where the image is not valid."""
    ranges = dict(zip(spatial_axes(image.axes), region, strict=True))
    window = (image if frame is None else image.at("T", frame)).window(**ranges)
    data = window.channels_last()
    if window.valid is not None:
        data = np.where(window.valid[..., None], data, np.nan)
    return {name: data[..., i] for i, name in enumerate(channel_names(image))}


def channel_names(image: Image) -> tuple[str, ...]:
    """Return the names that the channels of an image have in tables."""
    if len(image.channels) == image.n_channels:
        return image.channels
    return ("intensity",) if image.n_channels == 1 else tuple(f"channel{i + 1}" for i in range(image.n_channels))


def describe_objects(
    image: Image,
    columns: dict[str, NDArray[Any]],
    kinds: NDArray[Any],
    table: ClassTable,
    n_dims: int,
    frame: int | None = None,
) -> dict[str, Any]:
    """Put before the measures of objects what they are of, their classes, and the units that they are in.

    Parameters
    ----------
    image
        The image: its name and unit.
    columns
        Measures, of `measure.objects`.
    kinds
        Class id of each object.
    table
        The classes.
    n_dims
        Number of spatial axes.
    frame
        Time point, None = not of a series.
    """
    names, n = {item.id: item.name for item in table.classes}, len(kinds)
    first: dict[str, Any] = {"image": [image.name] * n}
    if frame is not None:
        first["frame"] = [frame] * n
    first |= {"id": columns["id"], "class_id": kinds, "class": [names.get(int(kind), "") for kind in kinds]}
    units = {"unit": [image.unit] * n, "size_unit": [f"{image.unit}{POWERS[n_dims]}"] * n}
    return {**first, **units, **{name: column for name, column in columns.items() if name != "id"}}


MOST_TOLD = 50
"""Images whose objects are reported one by one while they are segmented; ``instances.csv`` and the report have all."""

PER = {2: (10_000, "10,000"), 3: (1_000_000, "1,000,000")}
"""Area and volume, in units of the image, that densities refer to."""


@dataclass(frozen=True)
class Counted:
    """How many objects an image has, how large and how dense they are.

    Attributes
    ----------
    n_objects
        Their number, over all time points.
    median_size
        Median area or volume; NaN without any.
    density
        Objects for each `per`.
    unit, per
        Units of both, as words.
    kind
        How they were found (`ObjectOptions.kind`).
    labels
        Their ids, where they are in memory.
    """

    n_objects: int
    median_size: float
    density: float
    unit: str
    per: str
    kind: str
    labels: NDArray[Any] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, image: Image, n_pixels: int, columns: dict[str, Any], kind: str, labels: NDArray[Any] | None = None
    ) -> "Counted":
        """Count the objects of a table of measures, of an image with `n_pixels` pixels (voxels, over all time points)."""
        n_dims = len(image.spatial_shape)
        amount, word = PER[n_dims]
        unit = f"{image.unit}{POWERS[n_dims]}"
        sizes = np.asarray(columns["size"], np.float64)
        median = float(np.median(sizes)) if len(sizes) else math.nan
        whole = n_pixels * math.prod(image.spacing)
        return cls(len(sizes), median, len(sizes) * amount / max(whole, 1e-300), unit, f"{word} {unit}", kind, labels)

    def __str__(self) -> str:
        if not self.n_objects:
            return "no objects"
        said = "1 object" if self.n_objects == 1 else f"{self.n_objects} objects"
        kind = "area" if self.unit.endswith("²") else "volume"
        return f"{said}, median {kind} {self.median_size:.4g} {self.unit}, {self.density:.3g} in {self.per}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        median = None if math.isnan(self.median_size) else round(self.median_size, 6)
        return {"n": self.n_objects, "median_size": median, "unit": self.unit, "density": self.density, "per": self.per}


class InstanceFolder:
    """Writes the objects of one image after the other into a folder; `close` writes the table of all of them.

    Parameters
    ----------
    out
        The folder.
    table
        The classes.
    options
        How objects are found.
    edits
        Objects made by hand.

    Attributes
    ----------
    names
        Names of the classes that consist of objects, for messages.
    """

    def __init__(self, out: Path, table: ClassTable, options: ObjectOptions, edits: Edits | None = None) -> None:
        chosen = set(options.classes(table))  # a mistake in it is found at once
        self.names = ", ".join(item.name for item in table.classes if item.id in chosen)
        self.out, self.table, self.options, self.edits = out, table, options, edits
        self.tables: list[dict[str, Any]] = []
        self.tracks: list[dict[str, Any]] = []  # of linked sequences, one table each (`results.tracks`)

    def add(
        self,
        image: Image,
        labels: Any,
        progress: Progress,
        objects: NDArray[Any] | None = None,
        numbering: Numbering | None = None,
    ) -> "Counted":
        """Find, measure and write the objects of one image, whose labels are in memory or in a zarr.

        Parameters
        ----------
        image, labels
            The image and its class ids.
        progress
            Called with their number.
        objects, numbering
            A method's own objects ``[*S]``, in memory; or what writes them, for labels in a zarr.
        """
        picture, options = None, self.options
        if options.kind == OWN and objects is None and numbering is None:
            progress.say(
                f"{image.name}: its objects are cut out of the classes, as slices and resized images in parts have no others"
            )
            options = replace(options, kind="watershed")
        if isinstance(labels, np.ndarray):
            found = image_instances(image, labels, self.table, options, objects, self.edits)
            found.save(self.out)
            columns, picture = found.columns, found.labels
        else:
            columns = store_instances(image, labels, self.table, self.out, options, progress, numbering, self.edits)
        self.tables.append(columns)
        counted = Counted.of(image, math.prod(labels.shape), columns, options.kind, picture)
        if len(self.tables) <= MOST_TOLD:
            progress.say(f"{image.name}: {counted}")
        return counted

    def close(self) -> int:
        """Write ``instances.csv``, and return the number of objects."""
        return write_object_table(self.out / TABLE, self.tables)
