"""Labels as an array in an NPZ file, or as a dataset of an HDF5 file with h5py (``selfseg[hdf5]``)."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.files import writing
from selfseg.core.image import spatial_axes
from selfseg.export.labels import LabelImage, in_unit


def write_npz(path: Path, content: LabelImage) -> None:
    """Write ``labels``, ``axes``, ``spacing``, ``unit``, ``offset``, ``class_ids`` and ``class_names``, deflated; nothing pickled.

    Equal input gives equal bytes.
    """
    arrays: dict[str, Any] = {"labels": content.labels, "axes": np.array(content.axes), **_numbers(content)}
    arrays["unit"] = np.array(content.image.unit)
    if content.table is not None:
        arrays["class_names"] = np.array([item.name for item in content.table.classes], np.str_)
    with writing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def write_hdf5(path: Path, content: LabelImage) -> None:
    """Write the dataset ``/labels``, in chunks and deflated, with axes, pixel sizes and classes as attributes.

    Axes are ``axes`` and ``DIMENSION_LABELS``; ``spacing``, ``offset`` and ``unit`` go with them, and ``element_size_um`` (Z Y X),
    which several programs for microscopy read, where the unit is a length. ``class_ids`` and ``class_names`` name the classes.
    """
    import h5py

    image = content.image
    packed = io.BytesIO()  # HDF5 writing to a full disk ends the process
    with h5py.File(packed, "w") as file:
        dataset = file.create_dataset(
            "labels", data=content.labels, chunks=True, compression="gzip", compression_opts=4
        )
        for axis, letter in enumerate(content.axes):
            dataset.dims[axis].label = letter.lower()
        for name, value in _numbers(content).items():
            dataset.attrs[name] = value
        dataset.attrs["axes"] = np.bytes_(content.axes)  # of fixed length: such texts are read at no cost
        dataset.attrs["unit"] = np.bytes_(image.unit.encode())
        steps = in_unit(image.spacing, image.unit, "micrometer")
        if steps is not None:
            by_letter = dict(zip(spatial_axes(image.axes), steps, strict=True))
            dataset.attrs["element_size_um"] = np.array([by_letter.get(letter, 1.0) for letter in "ZYX"])
        if content.table is not None:
            names = [item.name for item in content.table.classes]
            dataset.attrs.create("class_names", names, dtype=h5py.string_dtype())
    with writing(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def _numbers(content: LabelImage) -> dict[str, Any]:
    """Return the numbers that both formats store beside the labels."""
    image = content.image
    numbers: dict[str, Any] = {"spacing": np.array(image.spacing)}
    if "offset" in image.meta:
        numbers["offset"] = np.array([image.meta["offset"].get(letter, 0.0) for letter in spatial_axes(image.axes)])
    if content.table is not None:
        numbers["class_ids"] = np.array([item.id for item in content.table.classes], np.int64)
    return numbers
