"""Taking away: edited labels as files, in the formats that the rest of selfseg writes."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError, explain
from selfseg.core.files import writing
from selfseg.core.image import Image
from selfseg.export.classes import ClassArea, class_areas, write_areas, write_classes
from selfseg.export.labels import write_labels
from selfseg.export.outlines import write_geojson
from selfseg.export.overlay import write_labels_picture, write_overlay
from selfseg.refine.edits import Edits
from selfseg.refine.leaves import Leaves

Writer = Callable[[Path, Image, NDArray[Any], ClassTable], None]


def _labels(out: Path, image: Image, labels: NDArray[Any], table: ClassTable) -> None:
    axes = image.axes.replace("C", "")
    write_labels(out / "labels" / f"{image.name}.tif", labels, table, image.spacing, image.unit, axes)


def _overlay(out: Path, image: Image, labels: NDArray[Any], table: ClassTable) -> None:
    write_overlay(out / "overlay" / f"{image.name}.png", image, labels, table)


def _colours(out: Path, image: Image, labels: NDArray[Any], table: ClassTable) -> None:
    write_labels_picture(out / "colours" / f"{image.name}.png", image, labels, table)


def _geojson(out: Path, image: Image, labels: NDArray[Any], table: ClassTable) -> None:
    write_geojson(out / "outlines" / f"{image.name}.geojson", labels, table, image.axes.replace("C", ""))


def _csv(out: Path, image: Image, labels: NDArray[Any], table: ClassTable) -> None:
    areas: list[ClassArea] = class_areas(image.name, labels, table, image.spacing, image.unit)
    write_areas(out / "areas" / f"{image.name}.csv", areas)


FORMATS: dict[str, Writer] = {
    "labels": _labels,
    "overlay": _overlay,
    "colours": _colours,
    "geojson": _geojson,
    "csv": _csv,
}
"""Who writes each format of `formats.TITLES`."""


def save_edited(
    out: Path, image: Image, frames: Sequence[Leaves], edits: Edits, table: ClassTable, formats: Sequence[str]
) -> list[str]:
    """Write one picture in some formats, and the class table beside it; return the files' names below `out`.

    Parameters
    ----------
    out
        The folder.
    image
        The picture as it was read.
    frames
        Leaves of each frame; one for a picture without T.
    edits
        What was done by hand.
    table
        The classes as edited.
    formats
        Keys of `FORMATS`.

    Raises
    ------
    UsageError
        If a format is unknown, or cannot hold this picture.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        got = ", ".join(unknown) or "none"
        raise UsageError(
            explain("format", expected=f"one of {', '.join(FORMATS)}", got=got, fix="choose from the list")
        )
    parts = [edits.labels(leaves) for leaves in frames]
    labels = np.stack(parts, image.axes.replace("C", "").index("T")) if "T" in image.axes else parts[0]
    before = set(_files(out))
    for name in formats:
        FORMATS[name](out, image, labels, table)
    write_classes(out / "classes.json", table)
    return sorted(set(_files(out)) - before)


def zip_folder(folder: Path, path: Path) -> None:
    """Write a folder's files into a zip, stored without compression: most are compressed already."""
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in _files(folder):
            archive.write(folder / name, f"{folder.name}/{name}")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
