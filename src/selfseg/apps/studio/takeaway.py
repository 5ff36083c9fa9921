"""Taking away: edited labels as files, in the formats that the rest of selfseg writes."""

import zipfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfseg.apps.studio.formats import FOLDERS, LABEL_FILES, label_kinds
from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.files import writing
from selfseg.core.image import Image
from selfseg.core.progress import Silent
from selfseg.export.classes import write_classes
from selfseg.export.labels import write_labels
from selfseg.export.overlay import write_labels_picture, write_overlay
from selfseg.read import Source
from selfseg.refine.edits import Edits
from selfseg.refine.leaves import Leaves

if TYPE_CHECKING:
    from selfseg.learning.segmenter import Segmenter

Writer = Callable[[Path, Image, NDArray[Any], ClassTable], None]


def _labels(out: Path, image: Image, labels: NDArray[Any], table: ClassTable) -> None:
    axes = image.axes.replace("C", "")
    write_labels(out / "labels" / f"{image.name}.tif", labels, table, image.spacing, image.unit, axes)


def _overlay(out: Path, image: Image, labels: NDArray[Any], table: ClassTable) -> None:
    write_overlay(out / "overlay" / f"{image.name}.png", image, labels, table)


def _colours(out: Path, image: Image, labels: NDArray[Any], table: ClassTable) -> None:
    write_labels_picture(out / "colours" / f"{image.name}.png", image, labels, table)


WRITERS: dict[str, Writer] = {"labels": _labels, "overlay": _overlay, "colours": _colours}
"""Who writes each of the studio's own formats."""


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
        Names of formats; those of whole folders are passed over here (`save_folder`).

    Raises
    ------
    UsageError
        If a format is unknown, or cannot hold this picture.
    """
    if not formats:
        raise UsageError("format", expected="at least one", got="none", fix="choose from the list")
    parts = [edits.labels(leaves) for leaves in frames]
    labels = np.stack(parts, image.axes.replace("C", "").index("T")) if "T" in image.axes else parts[0]
    before = set(_files(out))
    for name in formats:
        if name in WRITERS:
            WRITERS[name](out, image, labels, table)
        elif name in label_kinds():
            import_module(LABEL_FILES).LabelWriter((name,)).write(out / "labels", image.name, labels, image, table)
    write_classes(out / "classes.json", table)
    return sorted(set(_files(out)) - before)


def save_video(out: Path, source: Source, model: "Segmenter", edits: Edits) -> list[str]:
    """Segment a video frame by frame and write its label stack, its overlay and its class colours; return the files' names.

    Raises
    ------
    InputError
        If it cannot be opened, or no frame can be segmented.
    """
    from selfseg.read.video import open_video
    from selfseg.segmenting.sequence import segment_sequence

    before = set(_files(out))
    segment_sequence(model.fitted, open_video(source), out, False, Silent(), edits)
    write_classes(out / "classes.json", edits.table(model.table_))
    return sorted(set(_files(out)) - before)


def save_folder(out: Path, formats: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Write a folder of results, which has label TIFFs and ``run.json``, in formats of whole folders.

    Returns
    -------
    tuple
        New files below `out`, and (name, message) of each picture that failed.
    """
    before = set(_files(out))
    _, failures = import_module(FOLDERS).export_folder(out, formats, out)
    return sorted(set(_files(out)) - before), failures


def zip_folder(folder: Path, path: Path) -> None:
    """Write a folder's files into a zip, stored without compression: most are compressed already."""
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in _files(folder):
            archive.write(folder / name, f"{folder.name}/{name}")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
