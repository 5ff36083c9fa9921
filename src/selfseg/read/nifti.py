"""NIfTI volumes (``.nii``, ``.nii.gz``) with nibabel, an extra: ``pip install selfseg[nifti]``."""

import contextlib
import gzip
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError, explain
from selfseg.read._decoded import DAMAGE, MAX_DEFLATE, Decoded, check_size, damaged

GZIP = b"\x1f\x8b"
UNITS = {"mm": "millimeter", "micron": "micrometer", "meter": "meter"}
LETTERS = "XYZTC"
"""What the axes of a NIfTI array are, in the file's order."""

PIECE = 1 << 20


def decode(path: Path, max_bytes: int | None = None, as_labels: bool = False) -> Decoded:
    """Read one volume, turned to the standard orientation that is closest to the file's affine.

    Rows, columns and slices may be stored in any order and direction, and an image and its mask need not agree in that.
    Here X always runs to the patient's right, Y to the front and Z up, so that they fit each other: the array is
    ``nibabel.as_closest_canonical(file)`` with its axes reversed. Nothing is resampled: an oblique volume stays oblique.

    Parameters
    ----------
    path
        The file.
    max_bytes
        Pixel bytes allowed; None = three quarters of the free memory.
    as_labels
        The values are labels: whole numbers that are stored as floats become integers.

    Returns
    -------
    Decoded
        ``ZYX``, with T before and C behind where the file has them; axes of length 1 other than Y and X are left out.
        Integers stay integers, unless the header scales them: then they are float32. Voxel sizes are in the file's unit.

    Raises
    ------
    InputError
        If nibabel is not installed, the file is damaged, truncated or too large, or holds no real numbers.
    """
    nibabel = _nibabel(path)
    errors = (*DAMAGE, nibabel.spatialimages.HeaderDataError, nibabel.wrapstruct.WrapStructError)
    try:
        with _quiet(), _opened(path) as file:
            kind = nibabel.Nifti2Header if _is_second(file) else nibabel.Nifti1Header
            header = kind.from_fileobj(file)
            _check_declared(path, header, max_bytes)
            stored = header.raw_data_from_fileobj(file)
            while file.read(PIECE):  # to the end, where gzip keeps its checksum
                pass
        array = _scaled(np.asarray(stored), header)
        if as_labels and array.dtype.kind == "f" and np.array_equal(array, np.rint(array)):
            array = array.astype(np.int32)
        return _arranged(array, header)
    except errors as error:
        raise damaged(path, str(error)) from error


def _nibabel(path: Path) -> Any:
    try:
        import nibabel
    except ImportError as error:
        fix = "pip install selfseg[nifti]"
        raise InputError(explain(str(path), expected="the package nibabel", got="none installed", fix=fix)) from error
    return nibabel


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the user's screen what nibabel says of oddities in a header that it mends."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("nibabel.global")
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


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


def _check_declared(path: Path, header: Any, max_bytes: int | None) -> None:
    if header["magic"].item() not in (b"n+1", b"n+2"):
        fix = "save it as one file, .nii or .nii.gz"
        got = "a header alone, or a file of another kind"
        raise InputError(explain(str(path), expected="a NIfTI file with its voxels", got=got, fix=fix))
    dtype = header.get_data_dtype()
    if dtype.kind not in "uif":
        fix = "save one real number a voxel"
        raise InputError(explain(str(path), expected="real numbers", got=f"voxels of type {dtype}", fix=fix))
    with path.open("rb") as raw:
        ratio = float(MAX_DEFLATE) if raw.read(2) == GZIP else 1.0
    itemsize = max(dtype.itemsize, 4 if _scale(header) else 0)
    ratio *= itemsize / dtype.itemsize
    check_size(path, header.get_data_shape(), itemsize, path.stat().st_size, max_bytes, ratio)


def _scale(header: Any) -> tuple[float, float] | None:
    """Return slope and intercept if they change anything. Slope 0 or NaN says that there is no scale."""
    slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
    if slope == 0 or not math.isfinite(slope):
        return None
    intercept = intercept if math.isfinite(intercept) else 0.0
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _scaled(array: NDArray[Any], header: Any) -> NDArray[Any]:
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    scale = _scale(header)
    return array if scale is None else (array * scale[0] + scale[1]).astype(np.float32)


def _arranged(array: NDArray[Any], header: Any) -> Decoded:
    """Turn ``[X Y Z T C]`` to the standard orientation, reverse the axes that are left, and put C last."""
    import nibabel

    array = array.reshape(array.shape + (1,) * (3 - array.ndim))
    if array.ndim > len(LETTERS):
        raise ValueError(f"{array.ndim} axes, of which at most {len(LETTERS)} have a meaning")
    sizes = [float(size) for size in header.get_zooms()[:3]]
    sizes += [1.0] * (3 - len(sizes))
    orientation = nibabel.io_orientation(header.get_best_affine())
    if np.isfinite(orientation).all():
        array = nibabel.apply_orientation(array, orientation)
        order = orientation[:, 0].astype(int)
        sizes = [sizes[int(np.flatnonzero(order == axis)[0])] for axis in range(3)]
    letters = LETTERS[: array.ndim]
    keep = [i for i, letter in enumerate(letters) if letter in "YX" or array.shape[i] > 1]
    array = array.reshape([array.shape[i] for i in keep])
    axes = "".join(letters[i] for i in reversed(keep))
    array = array.transpose()
    if axes.startswith("C"):
        array, axes = np.moveaxis(array, 0, -1), axes[1:] + "C"
    spacing = {
        letter: size if math.isfinite(size) and size > 0 else 1.0 for letter, size in zip("XYZ", sizes, strict=True)
    }
    unit = UNITS.get(header.get_xyzt_units()[0], "pixel")
    return Decoded(np.ascontiguousarray(array), axes, False, spacing, unit)
