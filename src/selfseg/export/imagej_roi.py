"""ImageJ regions of interest: a ZIP file that Fiji's ROI Manager opens, written with roifile (``pip install 'selfseg[roi]'``)."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import OutputError, UsageError
from selfseg.core.files import writing
from selfseg.export.outlines import Shape, shapes

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
    """Write objects, or connected regions of classes, as a ZIP of ImageJ ROIs.

    Polygons run along pixel edges, as ImageJ's own wand traces them: a ROI selects exactly the pixels of its object.
    Those with holes, or of several parts, are composite ROIs. Each has the name of its class and a number, the colour
    of the class as stroke, and its class id as group.

    Parameters
    ----------
    labels, table, objects, axes, least_area
        As in `export.outlines.shapes`.
    hyperstack
        The image that they are for has channels besides Z or T: positions are then (slice, frame) on any channel, and
        not numbers of planes. Labels with both Z and T always have such positions.

    Returns
    -------
    int
        Number of ROIs.

    Raises
    ------
    UsageError
        If the axes are others, `objects` do not fit, or the image is wider or higher than 32767 pixels.
    OutputError
        If roifile is not installed, or the file cannot be written.
    """
    roifile = require_roifile(path)
    if max(labels.shape[-2:]) > LARGEST:
        got, fix = " x ".join(str(n) for n in labels.shape[-2:]), "use geojson, or cut the image"
        raise UsageError("labels", expected=f"sides of up to {LARGEST} pixels", got=got, fix=fix)
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
    """Return the package roifile.

    Raises
    ------
    OutputError
        If it is not installed.
    """
    try:
        import roifile
    except ImportError as error:
        fix = "pip install 'selfseg[roi]'"
        raise OutputError(path, expected="the package roifile", got="none installed", fix=fix) from error
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
