"""COCO: images, categories and annotations in one JSON file; polygons where they suffice, run lengths where not."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError
from selfseg.core.files import write_text
from selfseg.export.outlines import Shape, shapes


@dataclass(frozen=True)
class CocoImage:
    """One image of a COCO file."""

    file_name: str
    """Where the image is, below the folder that a reader of the file is given."""
    labels: NDArray[Any]
    """Class ids ``[Y X]``, 0 = ignore."""
    objects: NDArray[Any] | None = None
    """Object ids ``[Y X]``, 0 = none; None = each connected region of a class is an object."""


def write_coco(path: Path | str, images: Iterable[CocoImage], table: ClassTable, least_area: int = 1) -> int:
    """Write all images as one COCO detection file.

    A category's id is that of the class. An object without holes is a list of polygons along pixel edges; one with
    holes, which COCO's polygons cannot have, is an uncompressed run-length code. Either gives exactly the object's
    pixels in pycocotools. Images and annotations are numbered from 1; boxes are x, y, width, height; areas are pixels.

    Parameters
    ----------
    images
        Taken one at a time.
    least_area
        Leave out parts of fewer pixels.

    Returns
    -------
    int
        Number of annotations.

    Raises
    ------
    InputError
        If an image is not two-dimensional.
    OutputError
        If the file cannot be written.
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        if image.labels.ndim != 2:
            got, fix = f"{image.labels.ndim} axes", "COCO has no volumes: use geojson, imagej-roi or nnunet"
            raise InputError(image.file_name, expected="labels with axes YX", got=got, fix=fix)
        height, width = image.labels.shape
        entries.append({"id": number, "file_name": image.file_name, "width": width, "height": height})
        for shape in shapes(image.labels, table, image.objects, least_area=least_area):
            annotations.append(_annotation(len(annotations) + 1, number, shape, (height, width)))
    categories = [{"id": item.id, "name": item.name, "supercategory": ""} for item in table.classes]
    head = json.dumps({"images": entries, "categories": categories}, ensure_ascii=False, indent=1)
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in annotations)
    write_text(path, f'{head[:-2]},\n "annotations": [\n{lines}\n]\n}}\n')
    return len(annotations)


def run_lengths(rings: Iterable[NDArray[np.int64]], shape: tuple[int, int]) -> list[int]:
    """Return COCO's run lengths of what rings along pixel edges enclose.

    Pixels are counted down the columns, column after column; runs of pixels outside and inside take turns, beginning
    outside. Each horizontal side of a ring is where a run of its columns begins or ends.

    Parameters
    ----------
    rings
        Corners ``[N 2]``, (Y, X); a pixel is inside if an odd number of rings go around it.
    """
    height, width = shape
    turns = []
    for ring in rings:
        (y, x), (next_y, next_x) = ring.T, np.roll(ring, -1, axis=0).T
        level = y == next_y
        left, right = np.minimum(x, next_x)[level], np.maximum(x, next_x)[level]
        lengths = right - left
        steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        turns.append((np.repeat(left, lengths) + steps) * height + np.repeat(y[level], lengths))
    # what ends at the foot of a column and begins at the head of the next goes on: turns at one place cancel
    places, counts = np.unique(np.concatenate(turns), return_counts=True)
    bounds = np.concatenate([[0], places[counts % 2 == 1], [height * width]])
    runs: list[int] = np.diff(bounds).tolist()
    return runs if runs[-1] else runs[:-1]


def _annotation(number: int, image: int, shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    top, left, bottom, right = shape.box
    segmentation: Any
    if any(part.holes for part in shape.parts):
        segmentation = {"size": list(size), "counts": run_lengths(shape.rings, size)}
    else:
        segmentation = [part.exterior[:, ::-1].ravel().tolist() for part in shape.parts]
    return {
        "id": number,
        "image_id": image,
        "category_id": shape.class_id,
        "segmentation": segmentation,
        "area": shape.area,
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
    }
