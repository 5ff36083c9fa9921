"""Objects out of classes, for one image and for a folder of results: label image, overlay and a table of measures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import SelfsegError
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.export.classes import POWERS
from selfseg.export.labels import write_labels
from selfseg.export.object_table import write_object_table
from selfseg.export.outlines import object_classes
from selfseg.export.overlay import write_overlay
from selfseg.measure.objects import measure_objects
from selfseg.pipeline.run_folder import INSTANCES, RunFolder, Segmented, background_class, find_classes
from selfseg.pipeline.training_set import Failure
from selfseg.refine.instances import DEPTH, check_kind, find_instances

OVERLAYS, TABLE = "instances_overlay", "instances.csv"
OPACITY = 0.35


@dataclass(frozen=True)
class ObjectOptions:
    """How objects are found.

    Attributes
    ----------
    kind
        ``"components"`` or ``"watershed"``, see `refine.instances.find_instances`.
    of
        Names or ids of the classes that consist of objects; None = all but the background, the largest class.
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
        check_kind(self.kind, self.depth)

    def classes(self, table: ClassTable) -> list[int]:
        """Return the ids of the classes that consist of objects.

        Raises
        ------
        UsageError
            If a class of `of` is not in the table.
        """
        if self.of is not None:
            return find_classes(table, list(self.of))
        others = [item.id for item in table.classes if item.id != background_class(table)]
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

    def save(self, out: Path | str) -> None:
        """Write ``instances/NAME.tif`` and ``instances_overlay/NAME.png`` into the folder `out`."""
        out, image = Path(out), self.image
        axes, name = image.axes.replace("C", ""), image.name
        write_labels(out / INSTANCES / f"{name}.tif", self.labels, None, image.spacing, image.unit, axes)
        write_overlay(out / OVERLAYS / f"{name}.png", image, self.labels, None, opacity=OPACITY)


def image_instances(
    image: Image, labels: NDArray[Any], table: ClassTable, options: ObjectOptions, objects: NDArray[Any] | None = None
) -> Instances:
    """Find and measure the objects of one image, a volume as a whole, a series frame by frame.

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
        Objects that were found before, and are only measured.
    """
    axes = image.axes.replace("C", "")
    order = [axes.index("T")] + [i for i in range(len(axes)) if axes[i] != "T"] if "T" in axes else None
    frames = labels.transpose(order) if order else labels[None]
    values = _channels(image, order) if image.data is not labels else {}
    if objects is None:
        found = _found(frames, options, options.classes(table), image.spacing)
    else:
        found = objects.transpose(order) if order else objects[None]
    tables: list[dict[str, Any]] = []
    for t, frame in enumerate(found):
        intensities = {name: channel[t] for name, channel in values.items()}
        columns = measure_objects(frame, intensities, image.spacing, axes.replace("T", ""))
        kinds = object_classes(frame, frames[t])[columns["id"]]
        tables.append(describe_objects(image, columns, kinds, table, frame.ndim, t if order else None))
    whole = found.transpose(np.argsort(order)) if order else found[0]
    joined = {name: np.concatenate([np.asarray(part[name]) for part in tables]) for name in tables[0]}
    return Instances(image, np.ascontiguousarray(whole), joined)


def _found(
    frames: NDArray[Any], options: ObjectOptions, classes: list[int], spacing: tuple[float, ...]
) -> NDArray[np.uint32]:
    """Return objects ``[T *S]``, numbered on from frame to frame."""
    found = np.zeros(frames.shape, np.uint32)
    n_before = 0
    for t, frame in enumerate(frames):
        objects = find_instances(frame, options.kind, classes, spacing, options.min_size, options.depth)
        found[t] = np.where(objects > 0, objects + np.uint32(n_before), 0)
        n_before += int(objects.max(initial=0))
    return found


def _channels(image: Image, order: list[int] | None) -> dict[str, NDArray[Any]]:
    """Return the channels by name ``[T *S]``, NaN where the image is not valid."""
    data = image.channels_last()
    channels = {}
    for i, name in enumerate(channel_names(image)):
        values = data[..., i] if image.valid is None else np.where(image.valid, data[..., i], np.nan)
        channels[name] = values.transpose(order) if order else values[None]
    return channels


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

    Attributes
    ----------
    names
        Names of the classes that consist of objects, for messages.
    """

    def __init__(self, out: Path, table: ClassTable, options: ObjectOptions) -> None:
        chosen = set(options.classes(table))  # a mistake in it is found at once
        self.names = ", ".join(item.name for item in table.classes if item.id in chosen)
        self.out, self.table, self.options = out, table, options
        self.tables: list[dict[str, Any]] = []

    def add(self, image: Image, labels: NDArray[Any]) -> Instances:
        """Find, measure and write the objects of one image."""
        found = image_instances(image, labels, self.table, self.options)
        found.save(self.out)
        self.tables.append(found.columns)
        return found

    def close(self) -> int:
        """Write ``instances.csv``, and return the number of objects."""
        return write_object_table(self.out / TABLE, self.tables)


def instances(
    out: Path | str, options: ObjectOptions | None = None, images: Any = None, progress: Progress | None = None
) -> tuple[int, list[Failure]]:
    """Find and measure objects in a folder that segment or predict wrote.

    Where an image cannot be found or has changed, its objects are found in the labels alone, without intensities.

    Parameters
    ----------
    out
        The folder; ``instances/``, ``instances_overlay/`` and ``instances.csv`` are added to it.
    options
        How objects are found.
    images
        Where the images are now, if not where they were.
    progress
        Who watches.

    Returns
    -------
    tuple
        The number of objects, and (name, message) of each image that failed.
    """
    progress = progress or Silent()
    folder = RunFolder(out, images)
    written = InstanceFolder(folder.out, folder.table, options or ObjectOptions())
    failures: list[Failure] = []
    progress.say(f"{written.options.kind} of {written.names}")
    progress.start("objects", len(folder))
    try:
        for done, item in enumerate(folder.read(failures), 1):
            written.add(_image_or_labels(item, progress), item.labels.data)
            progress.update(done, {"objects": sum(len(table["id"]) for table in written.tables)})
    finally:
        progress.finish()
    return written.close(), failures


def _image_or_labels(item: Segmented, progress: Progress) -> Image:
    try:
        return item.image()
    except SelfsegError as error:
        progress.say(f"{error} (its objects have no intensities)")
        return item.labels
