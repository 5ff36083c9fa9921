"""The class table as ``classes.json``, and what each class covers in each image as ``classes.csv``."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import IGNORE, MOST, ClassTable, class_colours
from selfseg.core.errors import ModelError
from selfseg.core.files import write_json, writing

COLUMNS = ("image", "class", "name", "pixels", "share", "area", "unit")
"""First line of ``classes.csv``."""

POWERS = {1: "", 2: "²", 3: "³"}


@dataclass(frozen=True)
class ClassArea:
    """What one class covers in one image."""

    image: str
    """Name of the image."""
    id: int
    name: str
    """The class."""
    pixels: int
    """Number of its pixels (voxels; over all time points)."""
    share: float
    """`pixels` over the number of pixels of all classes, 0-1; 0 where every pixel is ignored."""
    area: float
    """`pixels` times the size of a pixel: an area in 2D, a volume in 3D."""
    unit: str
    """Unit of `area`: ``"µm²"``, ``"pixel²"``, ``"mm³"``."""


def write_classes(path: Path | str, table: ClassTable) -> None:
    """Write the class table as JSON: one object a class, with id, name, rgba, area_share, intensity and sources.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    write_json(path, table.to_json())


def read_classes(path: Path | str) -> ClassTable:
    """Read a class table that `write_classes` wrote, perhaps with names and colours changed by hand.

    Raises
    ------
    ModelError
        If the file cannot be read or is not such a table.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
        return ClassTable.from_json(rows)
    except (OSError, ValueError, TypeError, KeyError) as error:
        fix = "give each class its own id of 1 or more, a name and four colour values 0-255, or segment again"
        raise ModelError(
            str(path), expected="a class table", got=f"{type(error).__name__}: {error}", fix=fix
        ) from error


def class_areas(
    image: str, labels: NDArray[Any], table: ClassTable, spacing: Sequence[float] | None = None, unit: str = "pixel"
) -> list[ClassArea]:
    """Count what each class of `table` covers in one image, in the table's order; classes that are absent cover 0.

    Parameters
    ----------
    labels
        Ids ``[*S]``; 0 (ignore) is not counted.
    spacing
        Size of a pixel along each spatial axis; None = 1 along each axis of `labels`.
    unit
        Unit of `spacing`.
    """
    counts = np.bincount(labels.ravel())
    return count_areas(image, counts, table, spacing if spacing is not None else (1.0,) * labels.ndim, unit)


def count_areas(
    image: str, counts: NDArray[np.integer], table: ClassTable, spacing: Sequence[float], unit: str = "pixel"
) -> list[ClassArea]:
    """Return what each class covers, as `class_areas`, where the pixels of each id ``[n]`` are counted."""
    counts = np.pad(counts, (0, max(0, 1 + max((item.id for item in table.classes), default=0) - len(counts))))
    total = int(counts.sum() - counts[IGNORE])
    size = math.prod(spacing)
    power = f"{unit}{POWERS.get(len(spacing), f'^{len(spacing)}')}"
    pixels = {item.id: int(counts[item.id]) for item in table.classes}
    return [
        ClassArea(image, i.id, i.name, pixels[i.id], pixels[i.id] / total if total else 0.0, pixels[i.id] * size, power)
        for i in table.classes
    ]


def write_areas(path: Path | str, areas: Iterable[ClassArea]) -> None:
    """Write one line for each image and class as CSV in UTF-8, with the columns of `COLUMNS`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for item in areas:
            rows.writerow(
                (item.image, item.id, item.name, item.pixels, f"{item.share:.6f}", f"{item.area:.9g}", item.unit)
            )


def colour_table(table: ClassTable | None, largest: int = 0) -> NDArray[np.uint8]:
    """Return the colours of the ids 0, 1, 2, ...

    Parameters
    ----------
    table
        Classes whose colours are used. Ids that it does not hold get those of `class_colours`, over and over.
    largest
        Largest id in the label image.

    Returns
    -------
    NDArray
        Red, green, blue, alpha ``[n 4]`` uint8, with n > `largest` and n > every id of the table. Row 0 (ignore) is
        transparent.
    """
    classes = table.classes if table is not None else ()
    n_ids = max([largest, *(item.id for item in classes)])
    colours = np.zeros((n_ids + 1, 4), np.uint8)
    if n_ids:
        palette = np.array(class_colours(min(n_ids, MOST)), np.uint8)
        colours[1:] = palette[np.arange(n_ids) % len(palette)]
    for item in classes:
        colours[item.id] = item.rgba
    return colours


def labels_picture(labels: NDArray[Any], table: ClassTable | None = None) -> NDArray[np.uint8]:
    """Return the class colours of a label image: red, green, blue, alpha ``[*S 4]`` uint8. Ignored pixels are transparent.

    Parameters
    ----------
    labels
        Ids ``[*S]``, 0 = ignore.
    table
        Colours of the ids, as in `colour_table`.
    """
    picture: NDArray[np.uint8] = colour_table(table, int(labels.max(initial=0)))[labels]
    return picture
