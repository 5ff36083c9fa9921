"""DICOM: one file, or a folder of files that are the slices of one volume, with pydicom (``selfseg[dicom]``)."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.units import seconds
from selfseg.read.arrays import DAMAGE, Decoded, check_size, decoding, needed, quiet, split_address
from selfseg.read.formats import format_of
from selfseg.read.search import PassedOver

UNIT = "millimeter"

PACKED = "dicom-packed"
"""The extra that unpacks JPEG Lossless, JPEG of 12 bits and JPEG 2000 of high throughput."""

DEFERRED = 1 << 16
"""Bytes above which an element is read only when it is asked for: the pixels, after their size has been checked."""

LARGEST_VALUE = 4
"""Bytes of a value after slope and intercept."""

LEAST_FRAME = 2
"""Bytes that each of several frames takes in a file, packed or not, at least."""


HEADERS = (
    "SOPInstanceUID SeriesInstanceUID SeriesDescription Modality Rows Columns NumberOfFrames SamplesPerPixel InstanceNumber "
    "BitsAllocated ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices"
)
"""Metadata of a file by which it is sorted."""

NO_IMAGES = ("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG")
"""Modalities of files that lie beside images and are none."""

PLACE_TOLERANCE = 1e-3
"""Millimetres by which two slices must be apart."""

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
"""Elements of which an image has one."""

BARE = (b"\2\0", b"\x08\0", b"\0\2", b"\0\x08")
"""First bytes of files without the preamble, in either byte order: the groups with which the elements begin."""

GAP_TOLERANCE = 0.1
"""Share of the usual gap by which a gap between two slices may differ."""

TO_RIGHT_FRONT_TOP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's axes (left, back, top) to those of NIfTI (right, front, top)."""


@dataclass(frozen=True)
class Slice:
    """One image plane: its file, the frame in it, and where it lies."""

    path: Path
    frame: int
    """The file, and the number of the frame, from 0."""
    corner: NDArray[np.float64] | None
    """Place of the first pixel's centre ``[3]`` in mm, to the left, back and top; None = not in the file."""
    directions: NDArray[np.float64] | None
    """Directions ``[2 3]`` in which columns and rows count up; None = not in the file."""


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
        Pixel bytes allowed.
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
        files = _files_of(file, uid) if file.is_dir() else [file]
        datasets = [_read(one, defer_size=DEFERRED) for one in files]
        for one, dataset in zip(files, datasets, strict=True):
            _check_image(one, dataset)
        if str(datasets[0].get("Modality", "")) == "SEG":
            return _segmentation(path, files[0], as_labels, max_bytes)
        return _volume(path, files, datasets, max_bytes)


def _read(file: Path, **options: Any) -> Any:
    """Read a file, also one of old that begins without the preamble and the head that say what it is."""
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with file.open("rb") as opened:
        bare = opened.read(2) in BARE
    dataset = dcmread(file, force=bare, **options)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _check_image(path: Path, dataset: Any) -> None:
    """Refuse an object without pixels by its own name: a report, a plan, a palette, an index of a disc."""
    if "Rows" in dataset and any(name in dataset for name in PIXELS):
        return
    kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    name = getattr(kind, "name", "") or str(dataset.get("Modality", "")) or "of no known kind"
    raise InputError(
        path,
        expected="a DICOM image",
        got=f"a DICOM object without pixels ({name})",
        fix="leave it out, and give the images that it belongs to",
    )


def _volume(path: Path, files: Sequence[Path], datasets: Sequence[Any], max_bytes: int | None) -> Decoded:
    _check_alike(path, datasets)
    _check_declared(path, files, datasets, max_bytes)
    first = datasets[0]
    if len(datasets) == 1 and "TotalPixelMatrixColumns" in first:
        return _slide(path, first, max_bytes)
    planes = [
        Slice(file, frame, *_place(dataset, frame))
        for file, dataset in zip(files, datasets, strict=True)
        for frame in range(_n_frames(dataset))
    ]
    order, step = _ordered(path, planes)
    data, valid = _stacked(order, {file: _values(path, one) for file, one in zip(files, datasets, strict=True)})
    axes = _axes(first, len(order), step)
    guessed = len(order) > 1 and step is None and "T" not in axes
    if len(order) == 1:
        data, valid = data[0], None if valid is None else valid[0]
    rows, columns = _pixel_size(first)
    depth = step or _thickness(first)
    spacing = {"Z": depth, "Y": rows, "X": columns} if rows else {}
    meta: dict[str, Any] = {"dicom": tuple((one.path, one.frame) for one in order)}
    affine = _affine_of(order, depth, rows or 1.0, columns or 1.0)
    if affine is not None:
        meta["affine"] = affine
    interval = seconds(float(first.get("FrameTime") or 0), "ms") if "T" in axes else None
    meta |= {} if interval is None else {"interval": interval}
    axes += "C" if data.ndim > len(axes) else ""
    return Decoded(data, axes, guessed, spacing, UNIT if rows else "pixel", valid=valid, meta=meta)


def _slide(path: Path, dataset: Any, max_bytes: int | None) -> Decoded:
    """Put the tiles of a slide together, ``YX`` or ``YXC``; where a tile was left out, there is nothing."""
    size = (int(dataset.TotalPixelMatrixRows), int(dataset.TotalPixelMatrixColumns))
    samples, itemsize = int(dataset.get("SamplesPerPixel") or 1), max(int(dataset.BitsAllocated) // 8, 1)
    check_size(path, (*size, samples), itemsize, path.stat().st_size, max_bytes, math.inf)
    corners = _tile_corners(path, dataset, size)
    tiles, own = _values(path, dataset)
    data, valid = np.zeros((*size, *tiles.shape[3:]), tiles.dtype), np.zeros(size, bool)
    for number, ((row, column), tile) in enumerate(zip(corners, tiles, strict=True)):
        place = (slice(row, row + tile.shape[0]), slice(column, column + tile.shape[1]))
        rows, columns = data[place].shape[:2]  # the last ones reach beyond the slide
        data[place] = tile[:rows, :columns]
        valid[place] = True if own is None else own[number, :rows, :columns]
    steps = _pixel_size(dataset)
    spacing, unit = ({"Y": steps[0], "X": steps[1]}, UNIT) if steps[0] else ({}, "pixel")
    axes = "YX" if data.ndim == 2 else "YXC"
    return Decoded(data, axes, False, spacing, unit, valid=None if valid.all() else valid)


def _tile_corners(path: Path, dataset: Any, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return row and column of each tile's first pixel on the slide, from 0 (DICOM PS3.3, C.7.6.17.3)."""
    height, width, n_frames = int(dataset.Rows), int(dataset.Columns), _n_frames(dataset)
    wanted = math.ceil(size[0] / height) * math.ceil(size[1] / width)
    kind, groups = str(dataset.get("DimensionOrganizationType", "")), "PerFrameFunctionalGroupsSequence"
    full = kind == "TILED_FULL" or groups not in dataset
    corners: list[tuple[int, int]] = []
    if full and wanted == n_frames:
        corners = [(row, column) for row in range(0, size[0], height) for column in range(0, size[1], width)]
    elif not full:
        own = [_group(dataset, frame, "PlanePositionSlideSequence") for frame in range(n_frames)]
        names = ("RowPositionInTotalImagePixelMatrix", "ColumnPositionInTotalImagePixelMatrix")
        corners = [(int(one[names[0]].value) - 1, int(one[names[1]].value) - 1) for one in own]
    if len(corners) != n_frames or len(set(corners)) < n_frames:
        raise InputError(
            path,
            expected=f"one tile at a place, {wanted} for a slide of {size[0]} x {size[1]}",
            got=f"{n_frames} frames",
            fix="save one focal plane and one stain as a file of its own, with all of its tiles",
        )
    if not all(0 <= row < size[0] and 0 <= column < size[1] for row, column in corners):
        raise ValueError("a tile lies beyond the slide")
    return corners


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
        raise InputError(
            path,
            expected="slices of one size and type",
            got=", ".join(f"{rows} x {columns}, {bits} bit" for rows, columns, _, bits in sorted(kinds)[:3]),
            fix="give them as single files",
        )


def _group(dataset: Any, frame: int, name: str) -> Any:
    """Return a functional group of a frame of an enhanced image: its own, else the shared one, else the dataset."""
    for sequence, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(sequence) or ()
        if index < len(items) and items[index].get(name):
            return items[index][name][0]
    return dataset


def _place(dataset: Any, frame: int) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Return corner and directions of a frame, see `Slice`."""
    group = _group(dataset, frame, "PlanePositionSequence")
    # one place for all frames of a file is the place of none
    told = group is not dataset or _n_frames(dataset) == 1
    corner = _vector(group.get("ImagePositionPatient"), 3) if told else None
    directions = _vector(_group(dataset, frame, "PlaneOrientationSequence").get("ImageOrientationPatient"), 6)
    directions = None if directions is None else directions.reshape(2, 3)
    offsets = _vector(dataset.get("GridFrameOffsetVector"), _n_frames(dataset))
    first = _vector(dataset.get("ImagePositionPatient"), 3)
    if offsets is not None and first is not None and directions is not None:  # of a dose
        corner = first + (offsets[frame] - offsets[0]) * np.cross(*directions)
    return corner, directions


def _pixel_size(dataset: Any) -> tuple[float, float]:
    """Return millimetres between rows and between columns; 0 where the file does not say."""
    measures = _group(dataset, 0, "PixelMeasuresSequence")
    sizes = _vector(measures.get("PixelSpacing") or dataset.get("ImagerPixelSpacing"), 2)
    return (float(sizes[0]), float(sizes[1])) if sizes is not None and sizes.min() > 0 else (0.0, 0.0)


def _thickness(dataset: Any) -> float:
    measures = _group(dataset, 0, "PixelMeasuresSequence")
    sizes = _vector([measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")], 1)
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
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    try:  # RLE: another decoder, of a package that may be installed, ends in a panic on damaged data
        stored = pixel_array(dataset, decoding_plugin="pydicom" if syntax == RLELossless else "")
    except (RuntimeError, NotImplementedError) as error:
        more = "" if find_spec("libjpeg") and find_spec("openjpeg") else f"pip install 'selfseg[{PACKED}]', or "
        raise InputError(
            path,
            expected="pixels that can be unpacked",
            got=f"{syntax.name}, by none of the packages that are installed",
            fix=f"{more}convert it to Explicit VR Little Endian, with gdcmconv --raw for example",
        ) from error
    stored = stored if _n_frames(dataset) > 1 else stored[None]
    if str(dataset.get("PhotometricInterpretation", "")) == "PALETTE COLOR":
        colours = apply_color_lut(stored, dataset)
        return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours, None
    padding = dataset.get("PixelPaddingValue")
    valid = None
    if padding is not None and stored.ndim == 3:
        low, high = sorted((int(padding), int(dataset.get("PixelPaddingRangeLimit", padding))))
        valid = (stored < low) | (stored > high)
    if str(dataset.get("PhotometricInterpretation", "")) == "MONOCHROME1" and stored.dtype.kind in "iu":
        lowest_and_highest = 2 ** int(dataset.BitsStored) - 1 if stored.dtype.kind == "u" else -1
        stored = stored.dtype.type(lowest_and_highest) - stored
    return np.stack([_rescaled(plane, dataset, frame) for frame, plane in enumerate(stored)]), valid


def _rescaled(plane: NDArray[Any], dataset: Any, frame: int) -> NDArray[Any]:
    from pydicom.pixels import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(plane, dataset))
    transform = _group(dataset, frame, "PixelValueTransformationSequence")
    factors = _vector(
        [transform.get("RescaleSlope", dataset.get("DoseGridScaling", 1)), transform.get("RescaleIntercept", 0)], 2
    )
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
        raise InputError(path, expected="an image", got="a DICOM segmentation", fix="give the images that it segments")
    seg = needed(path, "highdicom", "dicom").seg.segread(file)
    check_size(
        path, (int(seg.NumberOfFrames), int(seg.Rows), int(seg.Columns)), 1, file.stat().st_size, max_bytes, math.inf
    )
    if seg.get("FrameOfReferenceUID") is None:
        raise InputError(
            path,
            expected="a segmentation with places",
            got="none",
            fix="give one that was made of slices with a place in the patient",
        )
    volume = seg.get_volume(combine_segments=True)
    labels, places = np.asarray(volume.array), volume.affine[:3]
    if np.dot(places[:, 0], np.cross(places[:, 2], places[:, 1])) < 0:  # our slices follow the normal of their plane
        labels = labels[::-1]
    spacing = dict(zip("ZYX", map(float, volume.spacing), strict=True))
    return Decoded(np.ascontiguousarray(labels), "ZYX", False, spacing, UNIT)


def group_series(files: Sequence[Path], passed: PassedOver, named: bool = False) -> dict[Path, tuple[Path, ...]]:
    """Return what each DICOM file of a folder is taken for: the folder that is its volume, or ``folder:/UID``; nothing if it has no image.

    Files of one series that lie at different places in the patient are a volume. Files that hold no image are left out, and counted.
    Others stay as they are; without pydicom, all DICOM files of a folder count as one series. See `read.sets.images_of`.
    """
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        if format_of(file) == "dicom" and not (named and file.is_dir()):
            by_folder[file.parent].append(file)
    taken: dict[Path, tuple[Path, ...]] = {}
    for folder, members in by_folder.items():
        taken |= _grouped(folder, members, passed, named)
    return taken


def _grouped(folder: Path, files: Sequence[Path], passed: PassedOver, named: bool) -> dict[Path, tuple[Path, ...]]:
    try:
        import pydicom  # noqa: F401
    except ImportError:
        return {file: (file if named or len(files) == 1 else folder,) for file in files}
    headers = {file: _read_header(file) for file in files}
    taken: dict[Path, tuple[Path, ...]] = {}
    for file, header in headers.items():
        # what cannot be read fails in its turn, and is named then
        taken[file] = (file,) if named or header is None or _is_image(header) else ()
        if header is not None and not taken[file]:
            passed.add("DICOM files without an image", str(header.get("Modality", "")) or "of no modality")
    series = _series(headers)
    for uid, members in series.items():
        whole = folder if len(series) == 1 else Path(f"{folder}:/{uid}")
        if len(members) > 1 and not (named and _has_others(folder, uid, members)):
            taken.update(dict.fromkeys(members, (whole,)))
    return taken


def _has_others(folder: Path, uid: str, members: Sequence[Path]) -> bool:
    """Tell whether a folder has more files of a series than these."""
    try:
        return bool(set(_files_of(folder, uid)) - set(members))
    except InputError:
        return True


def _is_image(header: Any) -> bool:
    return "Rows" in header and str(header.get("Modality", "")) not in NO_IMAGES


def _series(headers: Mapping[Path, Any]) -> dict[str, list[Path]]:
    """Return the files of each series that are planes with a place in the patient."""
    series: dict[str, list[Path]] = defaultdict(list)
    for file, header in headers.items():
        placed = header is not None and _is_image(header) and "ImagePositionPatient" in header
        if placed and int(header.get("NumberOfFrames") or 1) == 1:
            series[str(header.get("SeriesInstanceUID", ""))].append(file)
    return series


def _read_header(path: Path) -> Any | None:
    """Return what sorts a file, without its pixels; None if it cannot be read."""
    try:
        with quiet("pydicom"):
            return _read(path, stop_before_pixels=True, specific_tags=HEADERS.split())
    except Exception as error:
        if isinstance(error, DAMAGE) or type(error).__module__.startswith("pydicom"):
            return None
        raise


def _files_of(folder: Path, uid: str) -> list[Path]:
    """Return the files of one series in a folder: of the only one where none is chosen."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and format_of(file) == "dicom")
    headers = {file: _read_header(file) for file in files}
    for file, header in headers.items():
        if header is None:
            raise InputError(
                file,
                expected="a DICOM file",
                got="a damaged or foreign one",
                fix="copy the file again, or leave it out",
            )
    series = _series(headers)
    if not series:  # nothing has a place: what there is, by its series
        for file, header in headers.items():
            if header is not None and _is_image(header):
                series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(file)
    if uid in series:
        return series[uid]
    if len(series) != 1 or uid:
        raise InputError(
            folder,
            expected=f"one series {uid}".strip(),
            got=f"{len(series)}: " + ", ".join(list(series)[:3]),
            fix=f"choose one: {folder}:/{next(iter(series))}" if series else "check the folder",
        )
    return next(iter(series.values()))


def _ordered(path: Path, slices: Sequence[Slice]) -> tuple[list[Slice], float | None]:
    """Sort slices along the normal of their plane.

    Return them and the millimetres between two of them; None if they do not say where they lie. Two slices at one place, missing ones
    and ones that are not parallel are refused.
    """
    corners = [one.corner for one in slices if one.corner is not None]
    directions = [one.directions for one in slices if one.directions is not None]
    if len(corners) < len(slices) or len(directions) < len(slices) or len(slices) < 2:
        return list(slices), None
    if any(not np.allclose(one, directions[0], atol=1e-3) for one in directions):
        raise InputError(
            path,
            expected="parallel slices",
            got="several orientations",
            fix="split them, or give the slices as single files",
        )
    places = np.array(corners) @ np.cross(*directions[0])
    order = np.argsort(places, kind="stable")
    gaps = np.diff(places[order])
    usual = float(np.median(gaps))
    if gaps.min() < PLACE_TOLERANCE:
        raise InputError(
            path, expected="one slice at a place", got="several", fix="give one time point or echo at a time"
        )
    if np.abs(gaps - usual).max() > GAP_TOLERANCE * usual:
        raise InputError(
            path,
            expected="evenly spaced slices",
            got=f"gaps of {gaps.min():.4g} to {gaps.max():.4g} mm",
            fix="copy the missing slices, or give the slices as single files",
        )
    return [slices[int(i)] for i in order], usual


def _affine_of(slices: Sequence[Slice], step: float | None, rows: float, columns: float) -> NDArray[np.float64] | None:
    """Return the matrix from indices (X, Y, Z) to millimetres to the right, front and top.

    The slices are in order; `step`, `rows` and `columns` are the millimetres between two of them.
    """
    first = slices[0]
    if first.corner is None or first.directions is None:
        return None
    along = np.cross(*first.directions) * (step or 1.0)
    last = slices[-1].corner
    if len(slices) > 1 and last is not None:
        along = (last - first.corner) / (len(slices) - 1)
    matrix = np.eye(4)
    matrix[:3, 0] = first.directions[0] * columns
    matrix[:3, 1] = first.directions[1] * rows
    matrix[:3, 2] = along
    matrix[:3, 3] = first.corner
    return TO_RIGHT_FRONT_TOP @ matrix


def _vector(values: Any, n: int) -> NDArray[np.float64] | None:
    """Return `n` finite numbers as an array, or None for anything else."""
    if values is None:
        return None
    try:
        array = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        return None
    return array if array.shape == (n,) and all(math.isfinite(value) for value in array) else None
