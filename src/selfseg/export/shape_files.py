"""Regions and objects as polygons for other programs.

GeoJSON (RFC 7946) for QuPath, COCO, and ImageJ regions of interest: a ZIP file that Fiji's ROI Manager opens, written with roifile
(``pip install 'selfseg[roi]'``).
"""

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError, OutputError, UsageError
from selfseg.core.files import write_text, writing
from selfseg.core.image import GeoTags
from selfseg.export.georeference import longitude_latitude
from selfseg.export.outlines import Outline, Shape, shapes


def write_geojson(
    path: Path | str,
    labels: NDArray[Any],
    table: ClassTable | None = None,
    objects: NDArray[Any] | None = None,
    axes: str = "YX",
    least_area: int = 1,
    geotiff: GeoTags = (),
) -> None:
    """Write polygons as GeoJSON: in pixels as QuPath imports it, or of a map in longitude and latitude.

    In pixels (drag the file onto the image in QuPath), regions of classes are annotations, objects detections, both with class names and
    colours. Coordinates are (x, y) in QuPath's frame: (0, 0) is the outer corner of the first pixel. Planes are numbered from 0
    along Z and T. See `export.outlines.shapes` for the arguments.

    Parameters
    ----------
    geotiff
        Tags that say where on Earth the image lies (`Image.geotiff`); empty = write pixels. Else coordinates are longitude and latitude on
        WGS 84, as RFC 7946 asks for, and features have plain properties, as QGIS shows them.

    Raises
    ------
    UsageError
        If the axes are others, or `objects` do not fit.
    InputError
        If the coordinate system does not lead to longitude and latitude.
    OutputError
        If the file cannot be written, or rasterio is missing for a map.
    """
    kind = "annotation" if objects is None else "detection"
    found = shapes(labels, table, objects, axes, least_area)
    if geotiff:
        height, width = labels.shape[-2:]
        rings = [[[ring[:, ::-1] for ring in (part.exterior, *part.holes)] for part in item.parts] for item in found]
        geometries = longitude_latitude(str(path), geotiff, rings, (width / 2, height / 2))
        features = [_map_feature(*one, axes, kind) for one in zip(found, geometries, strict=True)]
    else:
        features = [_feature(item, kind) for item in found]
    # one feature a line: small, and still readable and comparable
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False, separators=(",", ":")) for feature in features)
    write_text(path, f'{{"type":"FeatureCollection","features":[\n{lines}\n]}}\n')


def _feature(item: Shape, kind: str) -> dict[str, Any]:
    polygons = [_rings(part) for part in item.parts]
    single = len(polygons) == 1
    return {
        "type": "Feature",
        "geometry": {
            "type": "Polygon" if single else "MultiPolygon",
            "coordinates": polygons[0] if single else polygons,
            "plane": {"c": -1, "z": item.z, "t": item.t},
        },
        "properties": {
            "objectType": kind,
            "classification": {"name": item.name, "color": list(item.colour)},
            "label": item.class_id,
            **({"name": str(item.id)} if kind == "detection" else {}),
        },
    }


def _map_feature(item: Shape, geometry: dict[str, Any], axes: str, kind: str) -> dict[str, Any]:
    numbers = {"object": item.id} if kind == "detection" else {}
    numbers |= {letter.lower(): getattr(item, letter.lower()) for letter in axes[:-2]}
    red, green, blue = item.colour
    named = {"class": item.name, "label": item.class_id, **numbers, "fill": f"#{red:02x}{green:02x}{blue:02x}"}
    return {"type": "Feature", "geometry": geometry, "properties": named}


def _rings(part: Outline) -> list[list[list[int]]]:
    return [np.concatenate([ring, ring[:1]])[:, ::-1].tolist() for ring in (part.exterior, *part.holes)]


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
    """Write all images as one COCO detection file; return the number of annotations.

    A category's id is that of the class. An object without holes is a list of polygons along pixel edges; one with
    holes, which COCO's polygons cannot have, is an uncompressed run-length code. Either gives exactly the object's
    pixels in pycocotools. Images and annotations are numbered from 1; boxes are x, y, width, height; areas are pixels.

    Parameters
    ----------
    images
        Taken one at a time.
    least_area
        Leave out parts of fewer pixels.

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
            raise InputError(
                image.file_name,
                expected="labels with axes YX",
                got=f"{image.labels.ndim} axes",
                fix="COCO has no volumes: use geojson, imagej-roi or nnunet",
            )
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
    outside. Each horizontal side of a ring (corners ``[N 2]``, (Y, X)) is where a run of its columns begins or ends. A pixel is inside
    if an odd number of rings go around it.
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
    # what ends at the foot of a column and begins at the head of the next continues: turns at one place cancel
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


LARGEST = 2**15 - 1
"""Largest coordinate in the format, which has 16 bits for it."""

MOVE_TO, LINE_TO, CLOSE = 0.0, 1.0, 4.0
"""Steps of a path, as in Java's ``PathIterator``."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the archive: equal input, equal bytes."""


def write_imagej_rois(
    path: Path | str,
    labels: NDArray[Any],
    table: ClassTable | None = None,
    objects: NDArray[Any] | None = None,
    axes: str = "YX",
    least_area: int = 1,
    hyperstack: bool = False,
) -> int:
    """Write objects, or connected regions of classes, as a ZIP of ImageJ ROIs; return their number.

    Polygons run along pixel edges, as ImageJ's own wand traces them: a ROI selects exactly the pixels of its object.
    Those with holes, or of several parts, are composite ROIs. Each has the name of its class and a number, the colour
    of the class as stroke, and its class id as group. See `export.outlines.shapes` for the other arguments.

    Parameters
    ----------
    hyperstack
        The image that they are for has channels besides Z or T: positions are then (slice, frame) on any channel, and
        not numbers of planes. Labels with both Z and T always have such positions.

    Raises
    ------
    UsageError
        If the axes are others, `objects` do not fit, or the image is wider or higher than 32767 pixels.
    OutputError
        If roifile is not installed, or the file cannot be written.
    """
    roifile = require_roifile(path)
    if max(labels.shape[-2:]) > LARGEST:
        raise UsageError(
            "labels",
            expected=f"sides of up to {LARGEST} pixels",
            got=" x ".join(str(n) for n in labels.shape[-2:]),
            fix="use geojson, or cut the image",
        )
    found = shapes(labels, table, objects, axes, least_area)
    digits = max(4, len(str(max((item.id for item in found), default=0))))
    taken: set[str] = set()
    with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in found:
            roi = _roi(roifile, item, f"{item.id:0{digits}d} {item.name}")
            _place(roi, item, axes, hyperstack or axes == "TZYX")
            archive.writestr(zipfile.ZipInfo(_entry(roi.name, item, taken), EPOCH), roi.tobytes(), zipfile.ZIP_DEFLATED)
    return len(found)


def require_roifile(path: Path | str) -> Any:
    """Return the package roifile; `OutputError` if it is not installed."""
    try:
        import roifile
    except ImportError as error:
        raise OutputError(
            path, expected="the package roifile", got="none installed", fix="pip install 'selfseg[roi]'"
        ) from error
    return roifile


def _roi(roifile: Any, item: Shape, name: str) -> Any:
    top, left, bottom, right = item.box
    roi = roifile.ImagejRoi()
    roi.name = name
    roi.top, roi.left, roi.bottom, roi.right = top, left, bottom, right
    roi.stroke_color = bytes((255, *item.colour))
    roi.group = item.class_id
    if len(item.rings) == 1:
        corners = item.rings[0][:, ::-1]
        roi.roitype = roifile.ROI_TYPE.TRACED
        roi.n_coordinates = len(corners)
        roi.integer_coordinates = (corners - (left, top)).astype(np.int32)
    else:
        path = _path(item)
        roi.roitype = roifile.ROI_TYPE.RECT  # what a composite calls itself
        roi.shape_roi_size, roi.multi_coordinates = len(path), path
    return roi


def _path(item: Shape) -> NDArray[np.float32]:
    """Return all rings as one path: a step's kind, then its x and y."""
    steps = []
    for ring in item.rings:
        kinds = np.full(len(ring), LINE_TO)
        kinds[0] = MOVE_TO
        steps += [np.column_stack([kinds, ring[:, ::-1]]).ravel(), np.array([CLOSE])]
    return np.concatenate(steps).astype(np.float32)


def _place(roi: Any, item: Shape, axes: str, hyperstack: bool) -> None:
    """Say on which plane a ROI lies. ImageJ heeds plane numbers on stacks, and slice and frame on hyperstacks."""
    if hyperstack:
        roi.z_position = item.z + 1 if "Z" in axes else 0
        roi.t_position = item.t + 1 if "T" in axes else 0
    elif axes != "YX":
        roi.position = max(item.z, item.t) + 1


def _entry(name: str, item: Shape, taken: set[str]) -> str:
    """Return a name within the archive that no other ROI has: an object of a volume has one in each of its slices."""
    safe = "".join(letter if letter.isalnum() or letter in " ._-" else "_" for letter in name)
    entry = safe if safe not in taken else f"{safe} t{item.t} z{item.z}"
    taken.add(entry)
    return f"{entry}.roi"
