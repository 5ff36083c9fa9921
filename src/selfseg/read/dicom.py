"""DICOM: one file, or a folder of files that are the slices of one volume, with pydicom (``selfseg[dicom]``)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read._decoded import Decoded, check_size, decoding, needed, quiet, split_address
from selfseg.read._dicom_series import Slice, affine_of, files_of, ordered, vector

UNIT = "millimeter"

DEFERRED = 1 << 16
"""Bytes above which an element is read only when it is asked for: the pixels, after their size has been checked."""

LARGEST_VALUE = 4
"""Bytes of a value after slope and intercept."""

LEAST_FRAME = 2
"""Bytes that each of several frames takes in a file, packed or not, at least."""


def open_file(path: Path, max_bytes: int | None, as_labels: bool) -> Decoded:
    """Read one image or volume.

    Slices are ordered by their place in the patient, not by their names. Values are those of the rescale slope and
    intercept (Hounsfield units of a CT): integers where these are whole numbers, else float32. "0 is white" is turned to "0 is
    black", palettes and YBR become RGB, padding is not `valid`.

    Parameters
    ----------
    path
        A file, a folder of the files of one series, or ``folder:/SeriesInstanceUID``.
    max_bytes
        Pixel bytes allowed; None = three quarters of the free memory.
    as_labels
        Read a DICOM segmentation (SEG) as labels: the number of its segment in each pixel.

    Raises
    ------
    InputError
        If pydicom is not installed, the files are damaged or too large, slices are missing, or there are several series.
    """
    pydicom = needed(path, "pydicom", "dicom")
    file, uid = split_address(path)
    errors = (pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException)
    with decoding(path, *errors), quiet("pydicom"):
        files = files_of(file, uid) if file.is_dir() else [file]
        datasets = [pydicom.dcmread(one, defer_size=DEFERRED) for one in files]
        if str(datasets[0].get("Modality", "")) == "SEG":
            return _segmentation(path, files[0], as_labels, max_bytes)
        return _volume(path, files, datasets, max_bytes)


def _volume(path: Path, files: Sequence[Path], datasets: Sequence[Any], max_bytes: int | None) -> Decoded:
    _check_alike(path, datasets)
    _check_declared(path, files, datasets, max_bytes)
    first = datasets[0]
    planes = [
        Slice(file, frame, *_place(dataset, frame))
        for file, dataset in zip(files, datasets, strict=True)
        for frame in range(_n_frames(dataset))
    ]
    order, step = ordered(path, planes)
    data, valid = _stacked(order, {file: _values(path, one) for file, one in zip(files, datasets, strict=True)})
    axes = _axes(first, len(order), step)
    guessed = len(order) > 1 and step is None and "T" not in axes
    if len(order) == 1:
        data, valid = data[0], None if valid is None else valid[0]
    rows, columns = _pixel_size(first)
    depth = step or _thickness(first)
    spacing = {"Z": depth, "Y": rows, "X": columns} if rows else {}
    meta: dict[str, Any] = {"dicom": tuple((one.path, one.frame) for one in order)}
    affine = affine_of(order, depth, rows or 1.0, columns or 1.0)
    if affine is not None:
        meta["affine"] = affine
    axes += "C" if data.ndim > len(axes) else ""
    return Decoded(data, axes, guessed, spacing, UNIT if rows else "pixel", valid=valid, meta=meta)


def _n_frames(dataset: Any) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _check_declared(path: Path, files: Sequence[Path], datasets: Sequence[Any], max_bytes: int | None) -> None:
    """Refuse a number of frames and a size that the files cannot hold, or that do not fit in memory."""
    first = datasets[0]
    frames, stored = sum(map(_n_frames, datasets)), sum(file.stat().st_size for file in files)
    bits = max(int(first.BitsAllocated), 1)
    itemsize = max(bits // 8, LARGEST_VALUE)  # a rescaled value may take as much
    packed = first.file_meta.TransferSyntaxUID.is_compressed
    if frames * LEAST_FRAME > stored and frames > 1:
        raise ValueError(f"{frames} frames in {stored} bytes")
    shape = (frames, int(first.Rows), int(first.Columns), int(first.get("SamplesPerPixel") or 1))
    check_size(path, shape, itemsize, stored, max_bytes, math.inf if packed else 8 * itemsize / bits)


def _check_alike(path: Path, datasets: Sequence[Any]) -> None:
    kinds = {
        (int(one.Rows), int(one.Columns), int(one.get("SamplesPerPixel") or 1), int(one.BitsAllocated))
        for one in datasets
    }
    if len(kinds) > 1:
        got = ", ".join(f"{rows} x {columns}, {bits} bit" for rows, columns, _, bits in sorted(kinds)[:3])
        raise InputError(path, expected="slices of one size and type", got=got, fix="give them as single files")


def _group(dataset: Any, frame: int, name: str) -> Any:
    """Return a functional group of a frame of an enhanced image: its own, else the shared one, else the dataset."""
    for sequence, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(sequence) or ()
        if index < len(items) and items[index].get(name):
            return items[index][name][0]
    return dataset


def _place(dataset: Any, frame: int) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    group = _group(dataset, frame, "PlanePositionSequence")
    # one place for all frames of a file is the place of none
    told = group is not dataset or _n_frames(dataset) == 1
    corner = vector(group.get("ImagePositionPatient"), 3) if told else None
    directions = vector(_group(dataset, frame, "PlaneOrientationSequence").get("ImageOrientationPatient"), 6)
    return corner, None if directions is None else directions.reshape(2, 3)


def _pixel_size(dataset: Any) -> tuple[float, float]:
    """Return millimetres between rows and between columns; 0 where the file does not say."""
    measures = _group(dataset, 0, "PixelMeasuresSequence")
    sizes = vector(measures.get("PixelSpacing") or dataset.get("ImagerPixelSpacing"), 2)
    return (float(sizes[0]), float(sizes[1])) if sizes is not None and sizes.min() > 0 else (0.0, 0.0)


def _thickness(dataset: Any) -> float:
    measures = _group(dataset, 0, "PixelMeasuresSequence")
    sizes = vector([measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")], 1)
    return float(sizes[0]) if sizes is not None and sizes[0] > 0 else 1.0


def _axes(dataset: Any, n: int, step: float | None) -> str:
    if n == 1:
        return "YX"
    clocks = ("FrameTime", "CineRate", "FrameTimeVector")
    timed = _n_frames(dataset) > 1 and step is None and any(name in dataset for name in clocks)
    return "TYX" if timed else "ZYX"


def _values(path: Path, dataset: Any) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return the values of one file ``[F Y X]`` or ``[F Y X C]``, and where there is something, None = everywhere."""
    from pydicom.pixels import apply_color_lut, pixel_array

    try:
        stored = pixel_array(dataset)
    except (RuntimeError, NotImplementedError) as error:
        kind = dataset.file_meta.TransferSyntaxUID.name
        fix = "convert it to Explicit VR Little Endian, with gdcmconv --raw for example"
        raise InputError(path, expected="pixels that can be unpacked", got=kind, fix=fix) from error
    stored = stored if _n_frames(dataset) > 1 else stored[None]
    if str(dataset.get("PhotometricInterpretation", "")) == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset)
        return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours, None
    padding = dataset.get("PixelPaddingValue")
    valid = None if padding is None or stored.ndim > 3 else stored != int(padding)
    if str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1" and stored.dtype.kind == "u":
        stored = stored.dtype.type(2 ** int(dataset.BitsStored) - 1) - stored
    return np.stack([_rescaled(plane, dataset, frame) for frame, plane in enumerate(stored)]), valid


def _rescaled(plane: NDArray[Any], dataset: Any, frame: int) -> NDArray[Any]:
    transform = _group(dataset, frame, "PixelValueTransformationSequence")
    factors = vector([transform.get("RescaleSlope", 1), transform.get("RescaleIntercept", 0)], 2)
    slope, intercept = (1.0, 0.0) if factors is None else (float(factors[0]), float(factors[1]))
    if (slope, intercept) == (1.0, 0.0):
        return plane
    if plane.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer() and plane.dtype.itemsize < 4:
        return plane.astype(np.int32) * np.int32(slope) + np.int32(intercept)
    return (plane * slope + intercept).astype(np.float32)


def _stacked(
    order: Sequence[Slice], arrays: Mapping[Path, tuple[NDArray[Any], NDArray[np.bool_] | None]]
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return the planes in their order, and where there is something, None = everywhere."""
    data = np.stack([arrays[one.path][0][one.frame] for one in order])
    mask = np.ones(data.shape[:3], bool)
    for i, one in enumerate(order):
        own = arrays[one.path][1]
        if own is not None:
            mask[i] = own[one.frame]
    return data, None if mask.all() else mask


def _segmentation(path: Path, file: Path, as_labels: bool, max_bytes: int | None) -> Decoded:
    """Read a segmentation as one label image over its own planes."""
    if not as_labels:
        fix = "give the images that it segments"
        raise InputError(path, expected="an image", got="a DICOM segmentation", fix=fix)
    seg = needed(path, "highdicom", "dicom").seg.segread(file)
    check_size(
        path, (int(seg.NumberOfFrames), int(seg.Rows), int(seg.Columns)), 1, file.stat().st_size, max_bytes, math.inf
    )
    if seg.get("FrameOfReferenceUID") is None:
        fix = "give one that was made of slices with a place in the patient"
        raise InputError(path, expected="a segmentation with places", got="none", fix=fix)
    volume = seg.get_volume(combine_segments=True)
    labels, places = np.asarray(volume.array), volume.affine[:3]
    if np.dot(places[:, 0], np.cross(places[:, 2], places[:, 1])) < 0:  # our slices follow the normal of their plane
        labels = labels[::-1]
    spacing = dict(zip("ZYX", map(float, volume.spacing), strict=True))
    return Decoded(np.ascontiguousarray(labels), "ZYX", False, spacing, UNIT)
