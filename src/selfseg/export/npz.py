"""Labels as an NPZ file: one array, and beside it what it means."""

from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.axes import spatial_axes
from selfseg.core.files import writing
from selfseg.export.label_files import LabelImage


def write(path: Path, content: LabelImage) -> None:
    """Write ``labels``, ``axes``, ``spacing``, ``unit``, ``offset``, ``class_ids`` and ``class_names``, deflated; nothing pickled.

    Equal input gives equal bytes.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    image = content.image
    arrays: dict[str, Any] = {
        "labels": content.labels,
        "axes": np.array(content.axes),
        "spacing": np.array(image.spacing),
        "unit": np.array(image.unit),
    }
    if "offset" in image.meta:
        arrays["offset"] = np.array([image.meta["offset"].get(letter, 0.0) for letter in spatial_axes(image.axes)])
    if content.table is not None:
        arrays["class_ids"] = np.array([item.id for item in content.table.classes], np.int64)
        arrays["class_names"] = np.array([item.name for item in content.table.classes], np.str_)
    with writing(path) as temporary:
        np.savez_compressed(temporary, **arrays)
