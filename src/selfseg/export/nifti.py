"""Labels as NIfTI, on exactly the grid of the volume that was segmented, with nibabel (``selfseg[nifti]``)."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.files import writing
from selfseg.core.image import spatial_axes
from selfseg.export.labels import LabelImage, imagej_info, in_unit

ORDER = "XYZT"
LABELS = 1002
"""NIfTI's intent code for values that are indices into a list of names."""

COMMENT = 6
"""Code of a NIfTI extension of plain text."""

UNITS = {"millimeter": "mm", "micrometer": "micron", "meter": "meter"}


def write_nifti(path: Path, content: LabelImage) -> None:
    """Write labels as ``.nii.gz``: uint8, int16 or int32, with the class names in a comment.

    Of a volume that came from NIfTI the storage order, both affines and the units are kept to the bit, so that labels and
    image fit voxel by voxel in every viewer. Of others the affine is made of the patient's axes (DICOM), or of pixel sizes and
    offset. Equal input gives equal bytes.

    Raises
    ------
    UsageError
        If an id is above 2**31 - 1.
    """
    import nibabel

    array = _stored_type(_canonical(content))
    own = content.image.meta.get("nifti")
    if own is not None and _fits(array, own):
        header = own["header"].copy()
        array = _as_stored(array, own["turn"])
    else:
        header = _new_header(nibabel, content)
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"], header["intent_code"], header["vox_offset"] = 0, 0, LABELS, 0
    header["descrip"] = b"labels by selfseg"
    header.extensions.clear()
    if content.table is not None:
        header.extensions.append(nibabel.nifti1.Nifti1Extension(COMMENT, imagej_info(content.table).encode()))
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    with writing(path) as temporary:
        temporary.write_bytes(gzip.compress(kind(array, None, header).to_bytes(), 6, mtime=0))


def _canonical(content: LabelImage) -> NDArray[Any]:
    """Return the labels as ``[X Y Z]`` or ``[X Y Z T]``: X to the right, Y to the front, Z up."""
    axes = content.axes + ("" if "Z" in content.axes else "Z")
    array = content.labels if "Z" in content.axes else content.labels[..., None]
    return array.transpose([axes.index(letter) for letter in ORDER if letter in axes])


def _stored_type(array: NDArray[Any]) -> NDArray[Any]:
    """Return integers of a type that every reader of NIfTI knows."""
    largest = int(array.max(initial=0))
    if largest >= 2**31:
        fix = "relabel the regions, or use --write tiff"
        raise UsageError("labels for NIfTI", expected="ids below 2147483648", got=str(largest), fix=fix)
    return array.astype(np.uint8 if largest < 2**8 else np.int16 if largest < 2**15 else np.int32)


def _fits(array: NDArray[Any], own: Any) -> bool:
    """Tell whether the volume has the sizes that its file had: it may have been given other axes by hand."""
    shape = tuple(own["header"].get_data_shape())
    shape += (1,) * (3 - len(shape))
    turned = tuple(array.shape[int(axis)] for axis in own["turn"][:, 0])
    return turned == shape[:3] and array.shape[3:] == tuple(n for n in shape[3:4] if n > 1)


def _as_stored(array: NDArray[Any], turn: NDArray[Any]) -> NDArray[Any]:
    """Return a volume of standard orientation in the order and directions of its file."""
    order = [int(axis) for axis in turn[:, 0]]
    array = array.transpose([*order, *range(3, array.ndim)])
    return np.flip(array, tuple(axis for axis in range(3) if turn[axis, 1] < 0))


def _new_header(nibabel: Any, content: LabelImage) -> Any:
    """Return a header with the place of an image that did not come from NIfTI."""
    image = content.image
    header = nibabel.Nifti1Header()
    if max(content.labels.shape) >= 2**15:
        header = nibabel.Nifti2Header()
    affine, unit = image.meta.get("affine"), "millimeter"
    if affine is None:
        affine, unit = _plain_affine(content)
    header.set_data_shape([2] * len(_canonical(content).shape))
    header.set_sform(affine, code="scanner" if "affine" in image.meta else "aligned")
    header.set_qform(affine, code="scanner" if "affine" in image.meta else "aligned")
    header.set_xyzt_units(UNITS.get(unit, "unknown"), "unknown")
    return header


def _plain_affine(content: LabelImage) -> tuple[NDArray[np.float64], str]:
    image = content.image
    unit = image.unit if image.unit in UNITS else "micrometer"
    letters = spatial_axes(image.axes)
    offset = image.meta.get("offset", {})
    steps = in_unit(image.spacing, image.unit, unit)
    starts = in_unit([offset.get(letter, 0.0) for letter in letters], image.unit, unit)
    if steps is None or starts is None:
        steps, starts, unit = image.spacing, tuple(offset.get(letter, 0.0) for letter in letters), "pixel"
    affine = np.eye(4)
    for letter, step, start in zip(letters, steps, starts, strict=True):
        affine["XYZ".index(letter), "XYZ".index(letter)] = step
        affine["XYZ".index(letter), 3] = start
    return affine, unit
