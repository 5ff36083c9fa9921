"""Labels as MRC (MRC2014), with the cell and origin of the map that was segmented."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.files import writing
from selfseg.core.image import spatial_axes
from selfseg.export.labels import LabelImage, class_lines, in_order, in_unit
from selfseg.read.mrc import HEADER, LITTLE, UNIT, VOLUMES

VERSION = 20141
LABEL_LENGTH, MOST_LABELS = 80, 10
ONE_VOLUME = 1


def write_mrc(path: Path, content: LabelImage) -> None:
    """Write labels as int8, int16, uint16 or (for more than 65535 regions) float32, and the first nine class names.

    The cell is in angstrom; where the image has no unit of length the cell is left empty. Equal input gives equal bytes.

    Raises
    ------
    UsageError
        If an id is above 2**24, which float32 cannot hold.
    """
    array, axes, _ = in_order(content.labels, content.axes, content.image.spacing, "TZYX")
    array, mode = _stored_type(array)
    header = np.zeros((), HEADER)
    sizes = dict(zip(axes, array.shape, strict=True))
    depth, volumes = sizes.get("Z", 1), sizes.get("T", 1)
    series = "T" in sizes
    header["nx"], header["ny"], header["nz"] = sizes["X"], sizes["Y"], depth * volumes
    header["mx"], header["my"], header["mz"] = sizes["X"], sizes["Y"], depth
    header["mode"], header["mapc"], header["mapr"], header["maps"] = mode, 1, 2, 3
    header["ispg"] = VOLUMES if series else ONE_VOLUME if "Z" in sizes else 0
    header["cella"], header["cellb"] = _cell(content, sizes), 90.0
    header["origin"], (header["nxstart"], header["nystart"], header["nzstart"]) = _place(content)
    header["map"], header["machst"], header["nversion"] = b"MAP ", (LITTLE, LITTLE, 0, 0), VERSION
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = array.min(), array.max(), array.mean(), array.std()
    texts = ["labels by selfseg", *class_lines(content.table)]
    header["nlabl"] = min(len(texts), MOST_LABELS)
    for i, text in enumerate(texts[:MOST_LABELS]):
        header["label"][i] = text.encode("ascii", "replace")[:LABEL_LENGTH].ljust(LABEL_LENGTH)
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(header.tobytes())
        file.write(np.ascontiguousarray(array).data)


def _stored_type(array: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return the labels in the smallest of MRC's types, little-endian, and its mode."""
    largest = int(array.max(initial=0))
    if largest > 2**24:
        fix = "relabel the regions, or use --write tiff"
        raise UsageError("labels for MRC", expected="ids up to 16777216", got=str(largest), fix=fix)
    for limit, kind, mode in ((2**7, "<i1", 0), (2**15, "<i2", 1), (2**16, "<u2", 6)):
        if largest < limit:
            return array.astype(kind), mode
    return array.astype("<f4"), 2


def _cell(content: LabelImage, sizes: dict[str, int]) -> tuple[float, float, float]:
    image = content.image
    steps = in_unit(image.spacing, image.unit, UNIT)
    if steps is None:
        return (0.0, 0.0, 0.0)
    by_letter = dict(zip(spatial_axes(image.axes), steps, strict=True))
    x, y, z = (sizes.get(letter, 1) * by_letter.get(letter, by_letter["X"]) for letter in "XYZ")
    return (x, y, z)


def _place(content: LabelImage) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return origin and first indices, X Y Z: those of the file if it was an MRC, else its offset."""
    own = content.image.meta.get("mrc")
    if own is not None:
        return own["origin"], own["start"]
    offset = content.image.meta.get("offset", {})
    origin = in_unit([offset.get(letter, 0.0) for letter in "XYZ"], content.image.unit, UNIT)
    return origin or (0.0, 0.0, 0.0), (0, 0, 0)
