"""Probabilities and confidence as files: float16 TIFF of an image in memory, float16 zarr of one that is predicted in parts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.files import writing
from selfseg.core.image import Image
from selfseg.export.labels import in_order, one_line

CONFIDENCE, PROBABILITIES = "confidence", "probabilities"
"""The maps, and the folders in which they are."""

ORDER = "TCZYX"
"""Order of axes in these files: that of NGFF."""


def chosen_probability(probabilities: NDArray[Any], labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the probability ``[*S]`` of the label of each pixel out of ``[K *S]``: channel k belongs to label k + 1; 0 where it is 0."""
    chosen = np.take_along_axis(probabilities, np.maximum(labels, 1).astype(np.int64)[None] - 1, 0)[0]
    return np.where(labels > 0, chosen, np.float32(0)).astype(np.float32, copy=False)


def map_axes(kind: str, axes: str) -> str:
    """Return the axes of a map of labels with `axes` (out of TZYX): probabilities have C in front, but behind a leading T."""
    if kind == CONFIDENCE:
        return axes
    return f"TC{axes[1:]}" if axes.startswith("T") else f"C{axes}"


def write_maps(
    out: Path,
    name: str,
    kinds: Sequence[str],
    probabilities: NDArray[np.float32],
    labels: NDArray[np.integer],
    image: Image,
    table: ClassTable,
) -> None:
    """Write ``confidence/NAME.tif`` and ``probabilities/NAME.tif``, float16.

    Parameters
    ----------
    out
        The output folder.
    name
        Name of the image.
    kinds
        `CONFIDENCE`, `PROBABILITIES`, or both.
    probabilities
        ``[K *S]`` with the axes of `labels` behind K.
    labels
        Ids ``[*S]``, 0 = ignore, with the axes of the image other than C.
    image
        The image: its axes, spacing and unit.
    table
        The classes, whose names are kept in the file.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    axes = image.axes.replace("C", "")
    for kind in kinds:
        values = chosen_probability(probabilities, labels) if kind == CONFIDENCE else probabilities
        _write(out / kind / f"{name}.tif", values, axes if kind == CONFIDENCE else f"C{axes}", image, table)


def _write(path: Path, values: NDArray[np.float32], axes: str, image: Image, table: ClassTable) -> None:
    import tifffile  # here, since what only segments should not wait for it

    data, order, steps = in_order(values.astype(np.float16), axes, image.spacing, ORDER)
    metadata: dict[str, Any] = {"axes": order, "unit": image.unit, **{f"spacing_{one}": steps[one] for one in steps}}
    if "C" in order:
        metadata["channels"] = [one_line(item.name) for item in table.classes]
    resolution = (1 / steps["X"], 1 / steps["Y"])
    with writing(path) as temporary:
        tifffile.imwrite(
            temporary,
            data,
            photometric="minisblack",
            planarconfig=None,
            compression="zlib",
            software="selfseg",
            metadata=metadata,
            resolution=resolution,
            resolutionunit="NONE",
            bigtiff=data.nbytes > 2**31,
            extratags=[(*tag, True) for tag in image.geotiff],
        )
