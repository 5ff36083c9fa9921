"""Which DICOM files belong together, in which order they lie, and where in the patient."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read._decoded import DAMAGE, quiet

SUFFIXES = (".dcm", ".dicom", ".ima")

HEADERS = (
    "SOPInstanceUID SeriesInstanceUID SeriesDescription Modality Rows Columns NumberOfFrames SamplesPerPixel InstanceNumber "
    "BitsAllocated ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness SpacingBetweenSlices"
)
"""What is read of a file to sort it."""

NO_IMAGES = ("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG")
"""Modalities of files that lie beside images and are none."""

PLACE_TOLERANCE = 1e-3
"""Millimetres by which two slices must be apart."""

GAP_TOLERANCE = 0.1
"""Share of the usual gap by which a gap between two slices may differ."""

TO_RIGHT_FRONT_TOP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's axes (left, back, top) to those of NIfTI (right, front, top)."""


@dataclass(frozen=True)
class Slice:
    """One image plane: its file, the frame in it, and where it lies.

    Attributes
    ----------
    path, frame
        The file, and the number of the frame, from 0.
    corner
        Place of the first pixel's centre ``[3]`` in mm, to the left, back and top; None = not told.
    directions
        Directions ``[2 3]`` in which columns and rows count up; None = not told.
    """

    path: Path
    frame: int
    corner: NDArray[np.float64] | None
    directions: NDArray[np.float64] | None


def group_series(files: Sequence[Path]) -> list[Path]:
    """Put one path in place of the DICOM files of a folder that make up one volume: the folder, or ``folder:/UID``.

    Files of one series that lie at different places in the patient are a volume. Files that hold no image are left out.
    Others stay as they are, in their order; without pydicom, all DICOM files of a folder count as one series.
    """
    dicom = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not dicom:
        return list(files)
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for file in dicom:
        by_folder[file.parent].append(file)
    stands_for = {
        file: item for folder, members in by_folder.items() for file, item in _grouped(folder, members).items()
    }
    chosen = [stands_for.get(file, file) for file in files]
    return list(dict.fromkeys(item for item in chosen if item is not None))


def _grouped(folder: Path, files: Sequence[Path]) -> dict[Path, Path | None]:
    """Return what each file of a folder is taken for; None = left out."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        return {file: folder if len(files) > 1 else file for file in files}
    series: dict[str, list[Path]] = defaultdict(list)
    taken: dict[Path, Path | None] = {}
    for file in files:
        header = read_header(file)
        if header is None:
            taken[file] = file  # it fails when it is read, and is named then
        elif str(header.get("Modality", "")) in NO_IMAGES or "Rows" not in header:
            taken[file] = None
        elif "ImagePositionPatient" in header and int(header.get("NumberOfFrames") or 1) == 1:
            series[str(header.get("SeriesInstanceUID", ""))].append(file)
    alone = len(series) == 1
    for uid, members in series.items():
        item = members[0] if len(members) == 1 else folder if alone else Path(f"{folder}:/{uid}")
        taken.update(dict.fromkeys(members, item))
    return taken


def read_header(path: Path) -> Any | None:
    """Return what sorts a file, without its pixels; None if it cannot be read."""
    from pydicom import dcmread

    try:
        with quiet("pydicom"):
            return dcmread(path, stop_before_pixels=True, specific_tags=HEADERS.split())
    except Exception as error:
        if isinstance(error, DAMAGE) or type(error).__module__.startswith("pydicom"):
            return None
        raise


def files_of(folder: Path, uid: str) -> list[Path]:
    """Return the files of one series in a folder.

    Raises
    ------
    InputError
        If the folder holds several series and none is chosen, or none of that name.
    """
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    series: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        header = read_header(file)
        if header is None:
            fix = "copy the file again, or leave it out"
            raise InputError(file, expected="a DICOM file", got="a damaged or foreign one", fix=fix)
        if str(header.get("Modality", "")) not in NO_IMAGES and "Rows" in header:
            series[str(header.get("SeriesInstanceUID", ""))].append(file)
    if uid in series:
        return series[uid]
    if len(series) != 1 or uid:
        got = f"{len(series)}: " + ", ".join(list(series)[:3])
        fix = f"choose one: {folder}:/{next(iter(series))}" if series else "check the folder"
        raise InputError(folder, expected=f"one series {uid}".strip(), got=got, fix=fix)
    return next(iter(series.values()))


def ordered(path: Path, slices: Sequence[Slice]) -> tuple[list[Slice], float | None]:
    """Sort slices along the normal of their plane.

    Returns
    -------
    tuple
        The slices, and the millimetres between two of them; None if they do not say where they lie.

    Raises
    ------
    InputError
        If two slices lie at one place, a slice is missing, or they are not parallel.
    """
    corners = [one.corner for one in slices if one.corner is not None]
    directions = [one.directions for one in slices if one.directions is not None]
    if len(corners) < len(slices) or len(directions) < len(slices) or len(slices) < 2:
        return list(slices), None
    if any(not np.allclose(one, directions[0], atol=1e-3) for one in directions):
        fix = "split them, or give the slices as single files"
        raise InputError(path, expected="parallel slices", got="several orientations", fix=fix)
    places = np.array(corners) @ np.cross(*directions[0])
    order = np.argsort(places, kind="stable")
    gaps = np.diff(places[order])
    usual = float(np.median(gaps))
    if gaps.min() < PLACE_TOLERANCE:
        fix = "give one time point or echo at a time"
        raise InputError(path, expected="one slice at a place", got="several", fix=fix)
    if np.abs(gaps - usual).max() > GAP_TOLERANCE * usual:
        got = f"gaps of {gaps.min():.4g} to {gaps.max():.4g} mm"
        fix = "copy the missing slices, or give the slices as single files"
        raise InputError(path, expected="evenly spaced slices", got=got, fix=fix)
    return [slices[int(i)] for i in order], usual


def affine_of(slices: Sequence[Slice], step: float | None, rows: float, columns: float) -> NDArray[np.float64] | None:
    """Return the matrix from indices (X, Y, Z) to millimetres to the right, front and top.

    Parameters
    ----------
    slices
        In order.
    step
        Millimetres between slices.
    rows, columns
        Millimetres between two rows, and between two columns.
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


def vector(values: Any, n: int) -> NDArray[np.float64] | None:
    """Return `n` finite numbers as an array, or None for anything else."""
    if values is None:
        return None
    try:
        array = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        return None
    return array if array.shape == (n,) and all(math.isfinite(value) for value in array) else None
