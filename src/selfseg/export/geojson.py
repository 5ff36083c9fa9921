"""GeoJSON (RFC 7946) for QuPath: polygons with holes, class names and colours, in pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.files import write_text
from selfseg.export.outlines import Outline, Shape, shapes


def write_geojson(
    path: Path | str,
    labels: NDArray[Any],
    table: ClassTable | None = None,
    objects: NDArray[Any] | None = None,
    axes: str = "YX",
    least_area: int = 1,
) -> None:
    """Write polygons as GeoJSON that QuPath imports (drag the file onto the image): regions of classes as annotations,
    objects as detections, both with class names and colours.

    Coordinates are (x, y) in pixels, in QuPath's frame: (0, 0) is the outer corner of the first pixel.

    Parameters
    ----------
    labels, table, objects, axes, least_area
        As in `export.outlines.shapes`; planes are numbered from 0 along Z and T.

    Raises
    ------
    UsageError
        If the axes are others, or `objects` do not fit.
    OutputError
        If the file cannot be written.
    """
    kind = "annotation" if objects is None else "detection"
    features = [_feature(item, kind) for item in shapes(labels, table, objects, axes, least_area)]
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


def _rings(part: Outline) -> list[list[list[int]]]:
    return [np.concatenate([ring, ring[:1]])[:, ::-1].tolist() for ring in (part.exterior, *part.holes)]
