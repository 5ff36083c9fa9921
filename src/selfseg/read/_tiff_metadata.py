"""Metadata of an image in a TIFF: pixel sizes and their units, channel names, each of one image and one axis."""

import math
from typing import Any
from xml.etree import ElementTree

from selfseg.core.image import GeoTags
from selfseg.core.units import MICROMETER, PIXEL, common_unit, seconds

PER_MICROMETER = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}
"""Micrometres in the unit of the tag ResolutionUnit: inch, centimetre, millimetre, micrometre."""

SPATIAL_SIZES = ("SizeX", "SizeY", "SizeZ", "SizeT")

Scale = tuple[dict[str, float], str, tuple[str, ...]]
"""Pixel sizes by the letters of their axes, their unit, and notes for the user."""


GEOTIFF = (33550, 33922, 34264, 34735, 34736, 34737)
"""Tags of GeoTIFF 1.1 (OGC 19-008): scale, tie points, transformation, and the coordinate system with its numbers and texts."""

MOST_VALUES = 10_000
"""Values of such a tag, at most: a map that is held by more points is not carried on."""


def read_geotiff(page: Any) -> GeoTags:
    """Return the tags that say where on Earth a page lies, as tifffile writes them: code, type, count and value; empty if it is no map."""
    tags = [page.tags[code] for code in GEOTIFF if code in page.tags]
    if not {33550, 34264} & {tag.code for tag in tags} or any(tag.count > MOST_VALUES for tag in tags):
        return ()
    return tuple((tag.code, int(tag.dtype), 0 if isinstance(tag.value, str) else tag.count, tag.value) for tag in tags)


def known_geotiff(rows: Any) -> GeoTags:
    """Return such tags out of the attribute ``geotiff`` that selfseg writes into a zarr; empty for anything else."""
    try:
        tags = tuple(
            (int(code), int(kind), int(count), value if isinstance(value, str) else tuple(value))
            for code, kind, count, value in rows
        )
    except (TypeError, ValueError):
        return ()
    known = all(code in GEOTIFF and len(value) <= MOST_VALUES for code, _, _, value in tags)
    return tags if known else ()


def read_spacing(tif: Any, series: Any) -> Scale:
    """Return the pixel sizes of a series: from OME, then ImageJ, then the resolution tags of its first page.

    Each axis has a unit of its own in OME and ImageJ. Values that are zero, negative or not finite are taken as not given.
    """
    pixels, page = ome_pixels(tif, series), series.keyframe
    if pixels is not None and _positive(pixels.get("PhysicalSizeX"), 0.0):
        sizes = {letter: _positive(pixels.get(f"PhysicalSize{letter}"), 0.0) for letter in "ZYX"}
        units = {letter: pixels.get(f"PhysicalSize{letter}Unit", "um") for letter in "ZYX"}
        return common_unit({letter: size for letter, size in sizes.items() if size}, units)
    x, y = (_per_unit(page, code) for code in (282, 283))
    if tif.is_imagej:
        metadata = tif.imagej_metadata or {}
        unit = str(metadata.get("unit", ""))
        units = {"X": unit} | {letter: str(metadata.get(f"{letter.lower()}unit") or unit) for letter in "ZY"}
        return common_unit({"Z": _positive(metadata.get("spacing")), "Y": 1 / y, "X": 1 / x}, units)
    scale = PER_MICROMETER.get(int(page.tags.valueof(296, default=2)))
    if any(_per_unit(page, code, missing=0.0) == 0 for code in (282, 283)):
        return {}, PIXEL, ()
    if scale is None:
        return {"Y": x / y, "X": 1.0}, PIXEL, ()  # the tags then tell the aspect alone
    return {"Y": scale / y, "X": scale / x}, MICROMETER, ()


def read_interval(tif: Any, series: Any) -> float | None:
    """Return the seconds from one time point to the next, out of OME or ImageJ metadata; None where they do not say."""
    pixels = ome_pixels(tif, series)
    given: Any
    if pixels is not None:
        given, unit = pixels.get("TimeIncrement"), str(pixels.get("TimeIncrementUnit", "s"))
    elif tif.is_imagej:
        metadata = tif.imagej_metadata or {}
        given, unit = metadata.get("finterval"), str(metadata.get("tunit", "s"))
        fps = _positive(metadata.get("fps"), 0.0)
        given = 1 / fps if not _positive(given, 0.0) and fps else given
    else:
        return None
    return seconds(_positive(given, 0.0), unit)


def channel_names(tif: Any, series: Any, n_channels: int) -> tuple[str, ...]:
    """Return the channel names of OME metadata if there is one for each channel of the series, else nothing."""
    pixels = ome_pixels(tif, series)
    if pixels is None:
        return ()
    names = tuple(str(channel.get("Name") or "") for channel in pixels.iterfind("{*}Channel"))
    return names if len(names) == n_channels and all(names) else ()


def ome_pixels(tif: Any, series: Any) -> ElementTree.Element | None:
    """Return the element of OME metadata that describes a series: the images stand there in the order of the series.

    tifffile passes over images without planes. Where it has, one of the series' own size counts.
    """
    if not tif.is_ome:
        return None
    try:
        described = ElementTree.fromstring(tif.ome_metadata or "").findall("{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return None
    own = [one for one in tif.series if one.kind == "ome"]
    series = getattr(series, "whole", None) or series
    if len(own) != len(described):
        described = [one for one in described if _sizes(one) == _stored_sizes(series)]
        own = [one for one in own if _stored_sizes(one) == _stored_sizes(series)]
    number = next((i for i, one in enumerate(own) if one is series), 0)
    return described[number] if number < len(described) else None


def _sizes(pixels: ElementTree.Element) -> tuple[int, ...]:
    return tuple(int(pixels.get(name, "1")) for name in SPATIAL_SIZES)


def _stored_sizes(series: Any) -> tuple[int, ...]:
    sizes = dict(zip(series.get_axes(squeeze=False), series.get_shape(squeeze=False), strict=True))
    return tuple(int(sizes.get(name[-1], 1)) for name in SPATIAL_SIZES)


def _positive(value: Any, otherwise: float = 1.0) -> float:
    """Return a positive finite number, or `otherwise` for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return otherwise
    return number if math.isfinite(number) and number > 0 else otherwise


def _per_unit(page: Any, code: int, missing: float = 1.0) -> float:
    """Return pixels per unit out of a rational tag; `missing` if it is not there or senseless."""
    value = page.tags.valueof(code, default=None)
    if not isinstance(value, tuple) or len(value) != 2 or not value[1]:
        return missing
    return _positive(value[0] / value[1], missing)
