"""Labels in the formats of volumes.

NIfTI with nibabel (``selfseg[nifti]``), MRC (MRC2014), NPZ, HDF5 with h5py (``selfseg[hdf5]``), and DICOM-SEG with highdicom
(``selfseg[dicom]``).
"""

import gzip
import hashlib
import io
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import class_colours
from selfseg.core.errors import InputError, UsageError
from selfseg.core.files import writing
from selfseg.core.image import spatial_axes
from selfseg.core.units import in_unit
from selfseg.export.labels import LabelImage, class_lines, imagej_info, in_order, one_line
from selfseg.read.mrc import HEADER, LITTLE, UNIT, VOLUMES

ORDER = "XYZT"
LABELS = 1002
"""NIfTI's intent code for values that are indices into a list of names."""

COMMENT = 6
"""Code of a NIfTI extension of plain text."""

UNITS = {"millimeter": "mm", "micrometer": "micron", "meter": "meter"}


def write_nifti(path: Path, content: LabelImage) -> None:
    """Write labels as ``.nii.gz``, on the grid of the volume: uint8, int16 or int32, with the class names in a comment.

    Of a volume that came from NIfTI the storage order, both affines and the units are kept to the bit, so that labels and
    image fit voxel by voxel in every viewer. Of others the affine is made of the patient's axes (DICOM), or of pixel sizes and
    offset. Equal input gives equal bytes. An id above 2**31 - 1 raises `UsageError`.
    """
    import nibabel

    array = _nifti_type(_canonical(content))
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


def _nifti_type(array: NDArray[Any]) -> NDArray[Any]:
    """Return integers of a type that every reader of NIfTI supports."""
    largest = int(array.max(initial=0))
    if largest >= 2**31:
        raise UsageError(
            "labels for NIfTI",
            expected="ids below 2147483648",
            got=str(largest),
            fix="relabel the regions, or use --write tiff",
        )
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
    interval = image.meta.get("interval") if "T" in image.axes else None
    if interval is not None:
        header["pixdim"][4] = interval
    header.set_xyzt_units(UNITS.get(unit, "unknown"), "unknown" if interval is None else "sec")
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


VERSION = 20141
LABEL_LENGTH, MOST_LABELS = 80, 10
ONE_VOLUME = 1


def write_mrc(path: Path, content: LabelImage) -> None:
    """Write labels as int8, int16, uint16 or (for more than 65535 regions) float32, and the first nine class names.

    Cell (in angstrom) and origin are those of the map that was segmented; where the image has no unit of length the cell is left empty.
    Equal input gives equal bytes. An id above 2**24, which float32 cannot hold, raises `UsageError`.
    """
    array, axes, _ = in_order(content.labels, content.axes, content.image.spacing, "TZYX")
    array, mode = _mrc_type(array)
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


def _mrc_type(array: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return the labels in the smallest of MRC's types, little-endian, and its mode."""
    largest = int(array.max(initial=0))
    if largest > 2**24:
        raise UsageError(
            "labels for MRC",
            expected="ids up to 16777216",
            got=str(largest),
            fix="relabel the regions, or use --write tiff",
        )
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


MOST_SEGMENTS = 255
SERIES_NUMBER = 900
LONGEST_NAME = 64
"""Characters of a segment's label (DICOM's LO)."""


def write_dicom_seg(path: Path, content: LabelImage) -> None:
    """Write one binary segment for each class, named and coloured; it refers to the slices that it was made of.

    Patient and study are those of the source images; the series is new. All identifiers are made of the source's and of the
    labels, so that the same labels get the same ones.

    Raises
    ------
    InputError
        If the image did not come from DICOM, or lacks what a segmentation must refer to.
    UsageError
        If there are more than 255 classes or regions.
    """
    import highdicom
    from pydicom import dcmread

    source = content.image.source
    planes = content.image.meta.get("dicom")
    if not planes:
        raise InputError(
            source,
            expected="a DICOM input for --write dicom-seg",
            got="another format",
            fix="use --write nifti or --write tiff for it",
        )
    labels = content.labels if "Z" in spatial_axes(content.axes) or "T" in content.axes else content.labels[None]
    files = list(dict.fromkeys(file for file, _ in planes))
    if len(files) == 1:  # frames of one file are segmented in the order in which they stand there
        labels = labels[np.argsort([frame for _, frame in planes], kind="stable")]
    labels = np.ascontiguousarray(labels)
    try:
        datasets = [dcmread(file, stop_before_pixels=True) for file in files]
        uids = _uids(datasets, labels)
        segmentation = highdicom.seg.Segmentation(
            source_images=datasets,
            pixel_array=labels,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_descriptions(content, int(labels.max(initial=0))),
            series_instance_uid=uids[0],
            series_number=SERIES_NUMBER,
            sop_instance_uid=uids[1],
            instance_number=1,
            manufacturer="selfseg",
            manufacturer_model_name="selfseg",
            software_versions=_version(),
            device_serial_number="none",
            series_description="selfseg labels",
            omit_empty_frames=bool(labels.any(axis=(1, 2)).all()),  # each plane must be there for one frame at least
        )
    except (AttributeError, ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(
            source,
            expected="DICOM images that can be referred to",
            got=f"{type(error).__name__}: {error}"[:200],
            fix="use --write nifti for it",
        ) from error
    with writing(path) as temporary:
        segmentation.save_as(temporary)


def _descriptions(content: LabelImage, largest: int) -> Sequence[Any]:
    """Return a description of every segment from 1 to the largest id."""
    from highdicom.color import CIELabColor
    from highdicom.content import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    classes = {} if content.table is None else {item.id: item for item in content.table.classes}
    n = max([largest, 1, *classes])
    if n > MOST_SEGMENTS:
        raise UsageError(
            "labels for DICOM-SEG",
            expected=f"at most {MOST_SEGMENTS} segments",
            got=str(n),
            fix="merge classes, or use --write nifti",
        )
    algorithm = AlgorithmIdentificationSequence(
        name="selfseg", version=_version(), family=codes.cid7162.ArtificialIntelligence
    )
    palette = class_colours(n)
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=one_line(classes[number].name)[:LONGEST_NAME] if number in classes else f"region {number}",
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(
                *(classes[number].rgba if number in classes else palette[number - 1])[:3]
            ),
        )
        for number in range(1, n + 1)
    ]


def _uids(datasets: Sequence[Any], labels: Any) -> tuple[str, str]:
    from pydicom.uid import generate_uid

    content = hashlib.sha256(labels.tobytes()).hexdigest()
    sources = [str(dataset.SOPInstanceUID) for dataset in datasets]
    return str(generate_uid(entropy_srcs=["series", *sources])), str(generate_uid(entropy_srcs=[content, *sources]))


def _version() -> str:
    try:
        return version("selfseg")
    except PackageNotFoundError:
        return "unknown"
