"""Units of length: one spelling for each, and one unit for all axes of an image."""

import math
from collections.abc import Mapping, Sequence

MICROMETER = "micrometer"
PIXEL = "pixel"

METERS = {
    "angstrom": 1e-10,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1.0,
}
"""Meters in a unit of length, by the names that images have: the units that outputs know."""

OTHERS = {
    "picometer": 1e-12,
    "decimeter": 1e-1,
    "hectometer": 1e2,
    "kilometer": 1e3,
    "inch": 0.0254,
    "foot": 0.3048,
    "yard": 0.9144,
    "mile": 1609.344,
    "thou": 2.54e-5,
    "line": 0.0254 / 12,
    "point": 0.0254 / 72,
}
"""Meters in other units that files use; their sizes are turned into micrometres."""

SPELLINGS = {
    MICROMETER: "um µm μm \\u00b5m \\u03bcm &#181;m &micro;m âµm micron microns micrometre micrometers micrometres",
    "nanometer": "nm nanometre nanometers nanometres",
    "millimeter": "mm millimetre millimeters millimetres",
    "centimeter": "cm centimetre centimeters centimetres",
    "meter": "m metre meters metres",
    "angstrom": "a å å \\u00c5 \\u00e5 ångström ångstrom angstroms",
    "picometer": "pm picometre picometers",
    "decimeter": "dm decimetre decimeters",
    "hectometer": "hm hectometre hectometers",
    "kilometer": "km kilometre kilometers",
    "inch": 'in inches "',
    "foot": "ft feet",
    "yard": "yd yards",
    "mile": "mi miles",
    "thou": "mil",
    "line": "li",
    "point": "pt",
    PIXEL: "pixels px voxel voxels",
}
"""Spellings that are met in files, in lower case; a sign beyond ASCII may be escaped, or have been read in another encoding."""

SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", ""), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("\u00b5s", "\u03bcs", "us", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
"""Seconds in a unit of time, by its name in small letters."""

UNIT_NAMES = {"": PIXEL} | {other: name for name, others in SPELLINGS.items() for other in (name, *others.split())}


def unit_name(unit: str) -> str:
    """Return one spelling for a unit of length: ``"um"``, ``"micron"`` and their like are ``"micrometer"``."""
    return UNIT_NAMES.get(unit.strip().lower(), unit.strip())


def in_unit(sizes: Sequence[float], unit: str, wanted: str) -> tuple[float, ...] | None:
    """Return lengths in another unit; None if `unit` is no length that outputs know, like ``"pixel"``."""
    if unit == wanted:
        return tuple(sizes)
    if unit not in METERS:
        return None
    # whole powers of ten, so that 0.5 micrometres are 500 nanometres and not 499.99999999999994
    power = round(math.log10(METERS[unit]) - math.log10(METERS[wanted]))
    return tuple(float(size * 10**power) if power >= 0 else float(size / 10**-power) for size in sizes)


def common_unit(sizes: Mapping[str, float], units: Mapping[str, str]) -> tuple[dict[str, float], str, tuple[str, ...]]:
    """Return sizes whose axes have units of their own in one unit: that of X, else of Y, else of another axis.

    Parameters
    ----------
    sizes
        Of a pixel along some axes, by their letters.
    units
        Of each of these axes, in any spelling; an axis without one has that of the others.

    Returns
    -------
    sizes, unit, notes
        A size that cannot be compared with that of X is left out, with a note.
    """
    order = [letter for letter in ("X", "Y", *sizes) if letter in sizes and units.get(letter)]
    main = unit_name(units[order[0]]) if order else PIXEL
    unit = MICROMETER if main in OTHERS else main
    kept = {}
    for letter, size in sizes.items():
        converted = _converted(size, unit_name(units.get(letter) or main), unit)
        if converted is not None:
            kept[letter] = converted
    strange = ", ".join(f"along {letter} in {units[letter]!r}" for letter in sizes if letter not in kept)
    return kept, unit, (f"sizes are in {unit}, but {strange}: taken as unknown",) if strange else ()


def _converted(size: float, unit: str, wanted: str) -> float | None:
    if unit in OTHERS and wanted in METERS:
        return size * OTHERS[unit] / METERS[wanted]
    same = in_unit([size], unit, wanted) if unit == wanted or wanted in METERS else None
    return None if same is None else same[0]


def seconds(time: float, unit: str) -> float | None:
    """Return a time in seconds; None if it is not above 0, or `unit` is none of time."""
    known = time * SECONDS.get(unit.strip().lower().rstrip("."), 0.0)
    return known if known > 0 and math.isfinite(known) else None
