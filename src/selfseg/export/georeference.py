"""Place on Earth of an image that came as a GeoTIFF, from the tags in `Image.geotiff`: for zarr by the GeoZarr conventions, for GeoJSON as
longitude and latitude (``pip install 'selfseg[geo]'``).
"""

import math
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, OutputError
from selfseg.core.image import GeoTags

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, KEYS = 33550, 33922, 34264, 34735
"""TIFF tags (OGC 19-008, section 7.1 and annex B)."""

MODEL_TYPE, RASTER_TYPE, GEODETIC_CRS, PROJECTED_CRS = 1024, 1025, 2048, 3072
"""GeoKeys. The model type is 1 for a projected system, 2 for longitude and latitude."""

PIXEL_IS_POINT, USER_DEFINED = 2, 32767

STEP = 32
"""Pixels between points along a polygon's side: a straight side is a curve in another coordinate system. A side of 32 pixels of 1 km bends
by 0.02 pixels (L² tan(latitude) / 8 R), and neighbours get the same points, as they lie on one grid."""

CONVENTIONS = (
    (
        "proj:",
        "geo-proj",
        "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "Coordinate reference system information for geospatial data",
    ),
    ("spatial:", "spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
)
"""The two conventions of GeoZarr: name, repository, identifier, description."""


def keys(tags: GeoTags) -> dict[int, int]:
    """Return the GeoKeys whose value is a code, by their number."""
    directory = next((value for code, _, _, value in tags if code == KEYS), ())
    rows = [directory[i : i + 4] for i in range(4, len(directory) - 3, 4)]
    return {int(key): int(value) for key, location, _, value in rows if location == 0}


def is_map(tags: GeoTags) -> bool:
    """Tell whether the tags name a coordinate system."""
    return any(code == KEYS for code, *_ in tags)


def affine(tags: GeoTags) -> NDArray[np.float64] | None:
    """Return the matrix ``[2 3]`` from pixel edges (x, y, 1) to coordinates of the map; None if the tags have no scale.

    (0, 0) is the outer corner of the first pixel. Where the tags give the place of pixel centres (PixelIsPoint), half a pixel is taken off.
    """
    given = {code: value for code, _, _, value in tags}
    if PIXEL_SCALE in given and TIE_POINTS in given:
        (step_x, step_y), (i, j, _, x, y) = given[PIXEL_SCALE][:2], given[TIE_POINTS][:5]
        matrix = np.array([[step_x, 0, x - i * step_x], [0, -step_y, y + j * step_y]], np.float64)
    elif TRANSFORMATION in given:
        matrix = np.reshape(given[TRANSFORMATION], (4, 4))[:2, [0, 1, 3]].astype(np.float64)
    else:
        return None
    if keys(tags).get(RASTER_TYPE) == PIXEL_IS_POINT:
        matrix[:, 2] -= matrix[:, :2].sum(1) / 2
    return matrix


def epsg(tags: GeoTags) -> int | None:
    """Return the EPSG code of the coordinate system; None if it is described otherwise."""
    found = keys(tags)
    code = found.get(PROJECTED_CRS if found.get(MODEL_TYPE) == 1 else GEODETIC_CRS, 0)
    return code if 0 < code < USER_DEFINED else None


def coordinate_system(tags: GeoTags) -> Any:
    """Return the coordinate system as rasterio has it: it reads a TIFF of one pixel with these tags. None if it finds none.

    Raises
    ------
    ImportError
        If rasterio is not installed.
    """
    import rasterio
    import tifffile

    file = BytesIO()
    options: dict[str, Any] = {"photometric": "minisblack", "extratags": [(*tag, True) for tag in tags]}
    tifffile.imwrite(file, np.zeros((1, 1), np.uint8), metadata=None, **options)
    with rasterio.MemoryFile(file.getvalue()) as memory, memory.open() as opened:
        return opened.crs


def zarr_attributes(tags: GeoTags, factor: float = 1.0) -> dict[str, Any]:
    """Return the attributes of an array that say where it lies: GeoZarr's ``spatial:`` and ``proj:``, and the tags.

    Parameters
    ----------
    tags
        Empty = no attributes.
    factor
        Pixels of the image in one of the array's, along Y and X: those of a level of a pyramid.
    """
    matrix = affine(tags)
    if matrix is None:
        return {}
    place: dict[str, Any] = {
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": (matrix * (factor, factor, 1)).ravel().tolist(),
    }
    if is_map(tags):
        code = epsg(tags)
        described = {"proj:code": f"EPSG:{code}"} if code else _described(tags)
        place |= described
    names = {name.partition(":")[0] for name in place}
    conventions = [
        {
            "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{repository}/refs/tags/v1/schema.json",
            "spec_url": f"https://github.com/zarr-conventions/{repository}/blob/v1/README.md",
            "uuid": identifier,
            "name": name,
            "description": description,
        }
        for name, repository, identifier, description in CONVENTIONS
        if name.rstrip(":") in names
    ]
    return {"zarr_conventions": conventions, **place, "geotiff": [list(tag) for tag in tags]}


def _described(tags: GeoTags) -> dict[str, str]:
    """Return a coordinate system without an EPSG code as text, where rasterio is installed to read it."""
    try:
        found = coordinate_system(tags)
    except ImportError:
        return {}
    return {"proj:wkt2": found.to_wkt(version="WKT2_2019")} if found else {}


def longitude_latitude(
    source: str, tags: GeoTags, polygons: Sequence[Sequence[Sequence[NDArray[Any]]]], middle: tuple[float, float]
) -> list[dict[str, Any]]:
    """Return polygons along pixel edges as geometries of GeoJSON (RFC 7946): longitude and latitude on WGS 84.

    Exteriors run counter-clockwise (section 3.1.6), and what crosses the antimeridian is cut there (3.1.9).
    Numbers are rounded to less than a hundredth of a pixel.

    Parameters
    ----------
    source
        Name for messages.
    tags
        Tags of the map.
    polygons
        For each geometry its parts, of each its rings: exterior, then holes, corners ``[N 2]``, (X, Y) in pixels.
    middle
        The image's middle (X, Y), in pixels, where the size of a pixel is measured.

    Raises
    ------
    OutputError
        If rasterio is not installed.
    InputError
        If the coordinate system cannot be read, or does not reach where the image lies.
    """
    fix = "pip install 'selfseg[geo]', or export with --format qupath, in pixels"
    try:
        from rasterio.errors import RasterioError
        from rasterio.warp import transform, transform_geom
    except ImportError as error:
        raise OutputError(
            source, expected="the package rasterio for the GeoJSON of a map", got="none installed", fix=fix
        ) from error
    system, matrix = coordinate_system(tags), affine(tags)
    if system is None or matrix is None:
        raise _unknown(source, "one that cannot be read")
    if not (system.is_geographic or system.is_projected):
        raise _unknown(source, "a local one")
    on_map = [
        {
            "type": "MultiPolygon",
            "coordinates": [
                [(_with_points(ring) @ matrix[:, :2].T + matrix[:, 2]).tolist() for ring in part] for part in one
            ],
        }
        for one in polygons
    ]
    try:
        around = np.add(middle, [(0, 0), (1, 0), (0, 1)]) @ matrix[:, :2].T + matrix[:, 2]
        lon, lat = np.array(transform(system, "EPSG:4326", *around.T.tolist()))
        size = np.hypot(lon[1:] - lon[0], lat[1:] - lat[0]).min()
        digits = math.ceil(2 - math.log10(size)) if 1e-12 < size < np.inf else 12
        found = transform_geom(system, "EPSG:4326", on_map, precision=digits) if on_map else []
    except RasterioError as error:
        raise _unknown(source, " ".join(str(error).split())) from error
    return [_geometry(source, one) for one in found]


def _unknown(source: str, got: str) -> InputError:
    return InputError(
        source,
        expected="a coordinate system that leads to longitude and latitude",
        got=got,
        fix="check the map, or export with --format qupath, in pixels",
    )


def _with_points(ring: NDArray[Any]) -> NDArray[np.float64]:
    """Return a ring along pixel edges, closed, with points on its sides wherever they meet a multiple of `STEP`."""
    closed = np.concatenate([ring, ring[:1]])
    parts = []
    for start, end in pairwise(closed):
        axis = int(start[0] == end[0])  # the one along which the side runs
        low, high = sorted((int(start[axis]), int(end[axis])))
        between = np.arange(low // STEP + 1, -(-high // STEP)) * STEP
        side = np.tile(start, (1 + len(between), 1)).astype(np.float64)
        side[1:, axis] = between if end[axis] > start[axis] else between[::-1]
        parts.append(side)
    return np.concatenate([*parts, closed[:1].astype(np.float64)])


def _geometry(source: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return a geometry with rings in the right direction, a polygon if it has one part."""
    parts = [found["coordinates"]] if found["type"] == "Polygon" else found["coordinates"]
    turned = []
    for part in parts:
        rings = [np.asarray(ring, np.float64) for ring in part]
        if not all(np.isfinite(ring).all() for ring in rings):
            raise _unknown(source, "points for which there is no longitude and latitude")
        turned.append(
            [(ring if (_area(ring) > 0) == (i == 0) else ring[::-1]).tolist() for i, ring in enumerate(rings)]
        )
    single = len(turned) == 1
    return {"type": "Polygon" if single else "MultiPolygon", "coordinates": turned[0] if single else turned}


def _area(ring: NDArray[np.float64]) -> float:
    """Return the area within a closed ring, positive if it runs counter-clockwise; X to the right, Y up."""
    x, y = (ring - ring[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
