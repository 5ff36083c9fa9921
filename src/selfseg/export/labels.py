"""Label images as TIFF: integers with axes, spacing and class names; equal input, equal bytes."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from selfseg.core.axes import check_axes
from selfseg.core.classes import ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.files import writing
from selfseg.export.label_values import imagej_info, imagej_look, imagej_unit, in_order, smallest_integers

LARGEST_IMAGEJ = 2**31
"""Bytes of pixels above which a file is written as OME-BigTIFF: ImageJ's own format ends at 4 GiB."""

OME_UNITS = {
    "micrometer": "µm",
    "micron": "µm",
    "um": "µm",
    "μm": "µm",
    "nanometer": "nm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "angstrom": "Å",
}
"""OME's spelling of units."""


def write_labels(
    path: Path | str,
    labels: NDArray[Any],
    table: ClassTable | None = None,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    axes: str = "YX",
) -> None:
    """Write a label image as a TIFF that Fiji, napari, QuPath, tifffile and scikit-image read as plain integers.

    The pixels are uint8, uint16 or uint32, the smallest that holds the largest id of `labels` and of `table`, deflated.
    8 and 16 bit go into ImageJ's TIFF, with the class names in its "Info" and, for 8 bit, the class colours as a lookup
    table, so that Fiji opens the file in the colours of the classes. 32 bit, which ImageJ does not know, and files of
    more than 2 GiB go into OME-TIFF. No time or random number is written: equal input gives equal bytes.

    Parameters
    ----------
    labels
        Ids, 0 = ignore, with the axes `axes`.
    table
        Names and colours of the classes; None = regions without a meaning.
    spacing
        Size of a pixel along each spatial axis, in the order of `axes`; None = unknown.
    unit
        Unit of `spacing`; None = pixel.
    axes
        Letters out of T Z Y X. The file's order is always that of TZYX; `labels` in another order are transposed.

    Raises
    ------
    UsageError
        If `labels` are not integers from 0 to 2**32 - 1, or do not fit `axes` or `spacing`.
    OutputError
        If the file cannot be written.
    """
    axes = check_axes(axes, np.ndim(labels))
    if "C" in axes:
        raise UsageError("labels", expected="axes out of TZYX", got=axes, fix="labels have no channel axis")
    whole = smallest_integers(np.asarray(labels), table)
    data, order, steps = in_order(whole, axes, spacing)
    if whole.dtype == np.uint32 or whole.nbytes > LARGEST_IMAGEJ:
        _write(path, data, ome=True, metadata=_ome_metadata(data, order, steps, unit))
        return
    metadata = _imagej_metadata(order, steps, unit)
    if table is not None:
        metadata["Info"] = imagej_info(table)
    if whole.dtype == np.uint8:
        metadata |= imagej_look(table, int(data.max(initial=0)))
    else:
        metadata.update(min=0.0, max=float(max(1, data.max(initial=0))))
    _write(path, data, imagej=True, metadata=metadata, **_resolution(steps))


def _imagej_metadata(order: str, steps: Mapping[str, float], unit: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": order, "unit": imagej_unit(unit)}
    if "Z" in steps:
        metadata["spacing"] = steps["Z"]
    return metadata


def _ome_metadata(data: NDArray[Any], order: str, steps: Mapping[str, float], unit: str | None) -> dict[str, Any]:
    name = OME_UNITS.get(unit or "pixel", unit or "pixel")
    # a hash in place of tifffile's random number: equal bytes each time
    content = hashlib.blake2b(data.data, digest_size=16).digest()
    metadata: dict[str, Any] = {"axes": order, "UUID": UUID(bytes=content).urn, "Creator": "selfseg"}
    for letter, step in steps.items():
        metadata[f"PhysicalSize{letter}"] = step
        metadata[f"PhysicalSize{letter}Unit"] = name
    return metadata


def _resolution(steps: Mapping[str, float]) -> dict[str, Any]:
    return {"resolution": (1 / steps["X"], 1 / steps["Y"]), "resolutionunit": "NONE"}


def _write(path: Path | str, data: NDArray[Any], **options: Any) -> None:
    import tifffile  # here, since what only segments should not wait for it

    big = data.nbytes > LARGEST_IMAGEJ
    with writing(path) as temporary:
        tifffile.imwrite(
            temporary, data, bigtiff=big, photometric="minisblack", compression="zlib", software="selfseg", **options
        )
