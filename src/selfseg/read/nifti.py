"""NIfTI volumes (``.nii``, ``.nii.gz``) with nibabel, an extra (``selfseg[nifti]``)."""

import contextlib
import gzip
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.units import seconds
from selfseg.read._lazy_array import FileArray, from_sliceable
from selfseg.read.arrays import ANY_SIZE, MAX_DEFLATE, Decoded, check_size, damaged, decoding, needed, quiet

GZIP = b"\x1f\x8b"
UNITS = {"mm": "millimeter", "micron": "micrometer", "meter": "meter"}
LETTERS = "XYZTC"
"""Axes of a NIfTI array, in the file's order."""

TIMES = ("sec", "msec", "usec")

FEW = 8
"""Places on a fourth axis, one second apart, up to which it may well be something else than time: 1 is what is written without thought."""

AGREES = 1e-4
"""Share by which the voxel sizes of header and affine may differ and be the same."""

PIECE = 1 << 20


def open_file(path: Path, max_bytes: int | None, as_labels: bool) -> Decoded:
    """Open one volume, turned to the standard orientation that is closest to the file's affine; a packed one is read whole.

    Rows, columns and slices may be stored in any order and direction, and an image and its mask need not agree in that.
    Here X always runs to the patient's right, Y to the front and Z up, so that they fit each other: the array is
    ``nibabel.as_closest_canonical(file)`` with its axes reversed. Nothing is resampled: an oblique volume stays oblique.

    Axes are ``ZYX``, with T before and C behind where the file has them; those of length 1 other than Y and X are left out.
    Integers stay integers, unless the header scales them: then they are float32. Voxel sizes are in the file's unit. Raise
    `InputError` if nibabel is not installed, the file is damaged, truncated or, packed, too large, or holds no real numbers.
    """
    nibabel = needed(path, "nibabel", "nifti")
    errors = (nibabel.spatialimages.HeaderDataError, nibabel.wrapstruct.WrapStructError)
    try:
        with decoding(path), _opened(path) as file:
            kind = nibabel.Nifti2Header if _is_second(file) else nibabel.Nifti1Header
            with quiet("nibabel.global"):
                header = kind.from_fileobj(file)
            packed = _check_declared(path, header, max_bytes)
            dtype, start = header.get_data_dtype(), int(header.get_data_offset())
            shape = header.get_data_shape() + (1,) * (3 - len(header.get_data_shape()))
            stored: NDArray[Any] | FileArray
            if packed:
                stored = nibabel.volumeutils.array_from_file(shape, dtype, file, start, order="F", mmap=False)
                while file.read(PIECE):  # to the end, where gzip keeps its checksum
                    pass
            else:
                stored = FileArray(path, dtype, start, shape, order="F")
            decoded = _arranged(nibabel, path, stored, header)
            return replace(decoded, data=decoded.data[...]) if packed else decoded
    except errors as error:
        raise damaged(path, str(error)) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacked if its first bytes say that it is packed, whatever its name."""
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        if packed:
            with gzip.open(raw) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield raw


def _is_second(file: BinaryIO) -> bool:
    """Tell NIfTI-2 by the size that its header declares, in either byte order, and go back to the start."""
    start = file.read(4)
    file.seek(0)
    return 540 in (int.from_bytes(start, "little"), int.from_bytes(start, "big"))


def _check_declared(path: Path, header: Any, max_bytes: int | None) -> bool:
    """Refuse a header that cannot be true; return whether the file is packed."""
    if header["magic"].item() not in (b"n+1", b"n+2"):
        raise InputError(
            path,
            expected="a NIfTI file with its voxels",
            got="a header alone, or a file of another kind",
            fix="save it as one file, .nii or .nii.gz",
        )
    dtype = header.get_data_dtype()
    if dtype.kind not in "uif":
        raise InputError(
            path, expected="real numbers", got=f"voxels of type {dtype}", fix="save one real number a voxel"
        )
    with path.open("rb") as raw:
        packed = raw.read(2) == GZIP
    itemsize = max(dtype.itemsize, 4 if _scale(header) else 0)
    ratio = (float(MAX_DEFLATE) if packed else 1.0) * itemsize / dtype.itemsize
    shape, stored = header.get_data_shape(), path.stat().st_size
    check_size(path, shape, itemsize, stored, max_bytes if packed else ANY_SIZE, ratio)
    return packed


def _scale(header: Any) -> tuple[float, float] | None:
    """Return slope and intercept if they change anything. Slope 0 or NaN means no scale."""
    slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
    if slope == 0 or not math.isfinite(slope):
        return None
    intercept = intercept if math.isfinite(intercept) else 0.0
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _scaled(values: NDArray[Any], slope: float, intercept: float) -> NDArray[np.float32]:
    """Return values as they are meant; those beyond float32 become infinite, and such pixels do not count."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (values * slope + intercept).astype(np.float32)


def _arranged(nibabel: Any, path: Path, stored: NDArray[Any] | FileArray, header: Any) -> Decoded:
    """Turn ``[X Y Z T C]`` to the standard orientation, reverse the axes that are left, and put C last."""
    n_axes = len(stored.shape)
    if n_axes > len(LETTERS):
        raise ValueError(f"{n_axes} axes, of which at most {len(LETTERS)} have a meaning")
    data = from_sliceable(path, stored)
    scale = _scale(header)
    if scale is not None:
        data = data.mapped(lambda values: _scaled(values, *scale), np.float32)
    affine = _affine(header)
    turn = nibabel.io_orientation(affine)
    own = [int(np.flatnonzero(turn[:, 0] == world)[0]) for world in range(3)]  # the file's axis that runs along X, Y, Z
    own += range(3, n_axes)
    kept = [i for i in range(n_axes) if LETTERS[i] in "YX" or stored.shape[own[i]] > 1]
    order = [i for i in reversed(kept) if LETTERS[i] != "C"] + [i for i in kept if LETTERS[i] == "C"]
    data = data.arranged([own[i] for i in order], [axis for axis in range(3) if turn[axis, 1] < 0])
    sizes = _voxel_sizes(header, affine)
    spacing = {letter: sizes[own[i]] for i, letter in enumerate("XYZ")}
    unit, time = header.get_xyzt_units()
    meta: dict[str, Any] = {"nifti": {"header": header.copy(), "turn": turn}}
    meta["affine"] = affine @ nibabel.orientations.inv_ornt_aff(turn, stored.shape[:3])
    axes = "".join(LETTERS[i] for i in order)
    step = seconds(float(header["pixdim"][4]), time) if "T" in axes and time in TIMES else None
    if step is not None:
        meta["interval"] = step
    # a fourth axis is time by the standard, and what people store there is also modalities, echoes, directions
    guessed = "T" in axes and not ("interval" in meta and (step != 1 or stored.shape[3] > FEW))
    return Decoded(data, axes, guessed, spacing, UNITS.get(unit, "pixel"), meta=meta)


def _affine(header: Any) -> NDArray[np.float64]:
    """Return the matrix from voxels to the world that is in force: sform, else qform, by their codes, else that of the voxel sizes.

    One that maps the voxels onto a plane, or has no numbers, is none.
    """
    codes = (("sform_code", header.get_sform), ("qform_code", header.get_qform))
    with np.errstate(all="ignore"):
        for found in (get() for name, get in codes if int(header[name]) > 0):
            if np.isfinite(found).all() and np.linalg.matrix_rank(found[:3, :3]) == 3:
                return np.asarray(found, np.float64)
    header = header.copy()
    steps = header["pixdim"][1:4]
    header["pixdim"][1:4] = np.where(np.isfinite(steps) & (steps > 0), steps, 1.0)
    return np.asarray(header.get_base_affine(), np.float64)


def _voxel_sizes(header: Any, affine: NDArray[np.float64]) -> list[float]:
    """Return the lengths of the affine's axes; as the header rounds them where it agrees."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    told = header["pixdim"][1:4].astype(np.float64)
    return [float(size) for size in np.where(np.isclose(sizes, told, rtol=AGREES), told, sizes)]
