"""Labels as a dataset of an HDF5 file, with h5py (``selfseg[hdf5]``)."""

import io
from pathlib import Path

import numpy as np

from selfseg.core.axes import spatial_axes
from selfseg.core.files import writing
from selfseg.export._label_values import in_unit
from selfseg.export.label_files import LabelImage

DATASET = "labels"


def write(path: Path, content: LabelImage) -> None:
    """Write the dataset ``/labels``, in chunks and deflated, with axes, pixel sizes and classes as attributes.

    Axes are ``axes`` and ``DIMENSION_LABELS``; ``spacing``, ``offset`` and ``unit`` go with them, and ``element_size_um`` (Z Y X), which
    several programs for microscopy read, where the unit is a length. ``class_ids`` and ``class_names`` name the classes.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    import h5py

    image = content.image
    letters = spatial_axes(image.axes)
    packed = io.BytesIO()  # HDF5 writing to a full disk ends the process
    with h5py.File(packed, "w") as file:
        dataset = file.create_dataset(DATASET, data=content.labels, chunks=True, compression="gzip", compression_opts=4)
        for axis, letter in enumerate(content.axes):
            dataset.dims[axis].label = letter.lower()
        dataset.attrs["spacing"] = np.array(image.spacing)
        dataset.attrs["axes"] = np.bytes_(content.axes)  # of fixed length: such texts are read at no cost
        dataset.attrs["unit"] = np.bytes_(image.unit.encode())
        if "offset" in image.meta:
            dataset.attrs["offset"] = np.array([image.meta["offset"].get(letter, 0.0) for letter in letters])
        steps = in_unit(image.spacing, image.unit, "micrometer")
        if steps is not None:
            by_letter = dict(zip(letters, steps, strict=True))
            dataset.attrs["element_size_um"] = np.array([by_letter.get(letter, 1.0) for letter in "ZYX"])
        if content.table is not None:
            dataset.attrs["class_ids"] = np.array([item.id for item in content.table.classes])
            dataset.attrs.create(
                "class_names", [item.name for item in content.table.classes], dtype=h5py.string_dtype()
            )
    with writing(path) as temporary:
        temporary.write_bytes(packed.getbuffer())
