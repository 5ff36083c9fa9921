"""What a TIFF says about the size of its pixels and the names of its channels."""

import math
from typing import Any
from xml.etree import ElementTree

MICROMETER = "micrometer"

UNIT_NAMES = {
    "um": MICROMETER,
    "\u00b5m": MICROMETER,
    "\u03bcm": MICROMETER,
    "\\u00b5m": MICROMETER,
    "micron": MICROMETER,
    "microns": MICROMETER,
    "micrometre": MICROMETER,
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "pixels": "pixel",
    "": "pixel",
}
"""Spellings of units that are met in files, by lower case."""

PER_MICROMETER = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}
"""Micrometres in the unit of the tag ResolutionUnit: inch, centimetre, millimetre, micrometre."""


def read_spacing(tif: Any, page: Any) -> tuple[dict[str, float], str]:
    """Return the pixel size by axis letter, and its unit: from OME, then ImageJ, then the resolution tags.

    Values that are zero, negative or not finite are taken as not given.
    """
    pixels = _ome_pixels(tif)
    if pixels is not None and pixels.get("PhysicalSizeX"):
        unit = pixels.get("PhysicalSizeXUnit", "um")
        return {letter: _positive(pixels.get(f"PhysicalSize{letter}")) for letter in "ZYX"}, unit_name(unit)
    x, y = (_per_unit(page, code) for code in (282, 283))
    if tif.is_imagej:
        metadata = tif.imagej_metadata or {}
        unit = unit_name(str(metadata.get("unit", "")))
        return {"Z": _positive(metadata.get("spacing")), "Y": _positive(1 / y), "X": _positive(1 / x)}, unit
    scale = PER_MICROMETER.get(int(page.tags.valueof(296, default=2)))
    if any(_per_unit(page, code, missing=0.0) == 0 for code in (282, 283)):
        return {}, "pixel"
    if scale is None:
        return {"Y": _positive(x / y), "X": 1.0}, "pixel"  # the tags then tell the aspect alone
    return {"Y": scale / y, "X": scale / x}, MICROMETER


def channel_names(tif: Any, n_channels: int) -> tuple[str, ...]:
    """Return the channel names of OME metadata if there is one for each channel, else nothing."""
    pixels = _ome_pixels(tif)
    if pixels is None:
        return ()
    names = tuple(str(channel.get("Name") or "") for channel in pixels.iterfind("{*}Channel"))
    return names if len(names) == n_channels and all(names) else ()


def unit_name(unit: str) -> str:
    """Return one spelling for a unit of length: ``"um"``, ``"micron"`` and their like are ``"micrometer"``."""
    return UNIT_NAMES.get(unit.strip().lower(), unit.strip())


def _ome_pixels(tif: Any) -> ElementTree.Element | None:
    if not tif.is_ome:
        return None
    try:
        return ElementTree.fromstring(tif.ome_metadata or "").find(".//{*}Pixels")
    except ElementTree.ParseError:
        return None


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
