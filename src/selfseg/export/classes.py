"""The class table as ``classes.json``, and tables as CSV: what each class covers in each image, and measures of objects.

Functions that write raise `OutputError` where the file cannot be written.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    """Write the class table as JSON: one object a class, with id, name, rgba, area_share, intensity and sources."""
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


def count_areas(
    image: str, counts: NDArray[np.integer], table: ClassTable, spacing: Sequence[float], unit: str = "pixel"
) -> list[ClassArea]:
    """Return what each class of `table` covers in one image, in the table's order; classes that are absent cover 0.

    Parameters
    ----------
    counts
        ``[n]`` pixels of each id; 0 (ignore) is not counted.
    spacing, unit
        Size of a pixel along each spatial axis, and its unit.
    """
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
    """Write one line for each image and class as CSV in UTF-8, with the columns of `COLUMNS`."""
    with _csv_rows(path) as rows:
        rows.writerow(COLUMNS)
        for one in areas:
            rows.writerow((one.image, one.id, one.name, one.pixels, f"{one.share:.6f}", f"{one.area:.9g}", one.unit))


@contextmanager
def _csv_rows(path: Path | str) -> Iterator[Any]:
    with writing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield csv.writer(file, lineterminator="\n")


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
    """Return the colours (see `colour_table`) of ids ``[*S]``: red, green, blue, alpha ``[*S 4]`` uint8; 0 is transparent."""
    picture: NDArray[np.uint8] = colour_table(table, int(labels.max(initial=0)))[labels]
    return picture


def write_object_table(path: Path | str, tables: Sequence[Mapping[str, NDArray[Any] | Sequence[Any]]]) -> int:
    """Write the columns of several images below each other as CSV in UTF-8; return the number of lines below the header.

    Parameters
    ----------
    tables
        Columns of equal length by name, one table an image. Where a table lacks a column of another, its fields are
        empty; so are NaN. Truth values are 0 and 1, floating values have 7 digits.
    """
    names = list(dict.fromkeys(name for table in tables for name in table))
    n_lines = 0
    with _csv_rows(path) as rows:
        rows.writerow(names)
        for table in tables:
            length = max((len(column) for column in table.values()), default=0)
            columns = [_texts(table[name]) if name in table else [""] * length for name in names]
            rows.writerows(zip(*columns, strict=True))
            n_lines += length
    return n_lines


def _texts(column: NDArray[Any] | Sequence[Any]) -> list[Any]:
    values = np.asarray(column)
    if values.dtype.kind == "f":
        return ["" if np.isnan(value) else f"{value:.7g}" for value in values.tolist()]
    return values.astype(int).tolist() if values.dtype.kind == "b" else values.tolist()
