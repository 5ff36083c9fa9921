"""The formats that can be read, and the opening of one file of any of them.

A new format is one file in this package and one row in `SUFFIXES`. The file has a function
``open_file(path, max_bytes, as_labels) -> Decoded``: lazy arrays where parts can be read without the whole (`LazyArray`), else all of
the pixels, of which `max_bytes` are allowed. It raises `InputError` for what it cannot decode. Formats of `PYRAMIDS` take `level` too.
"""

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read._lazy_array import LazyArray, check_real
from selfseg.read.arrays import Decoded, damaged, make_image, split_address, unchanged
from selfseg.read.ome_zarr import is_zarr

SUFFIXES = {
    "tiff": ".ome.tiff .ome.tif .tiff .tif .btf",
    "image": ".png .jpg .jpeg .bmp .webp .gif",
    "nifti": ".nii.gz .nii",
    "ome_zarr": ".ome.zarr .zarr",
    "mrc": ".mrc .mrcs .rec .map .ccp4",
    "hdf5": ".h5 .hdf5 .hdf",
    "npy": ".npy .npz",
    "dicom": ".dcm .dicom .ima",
    "video": ".mp4 .m4v .mov .avi .mkv .webm .wmv .mpg .mpeg .ogv .flv",
}
"""Suffixes of the files that a module of this package reads; long ones stand before the short ones that they end in."""

FORMATS = {suffix: module for module, suffixes in SUFFIXES.items() for suffix in suffixes.split()}

SIGNATURES = {
    (128, b"DICM"): "dicom",  # before TIFF: what lies before it is free, and scanners put a TIFF header there
    (0, b"II*\0"): "tiff",
    (0, b"MM\0*"): "tiff",
    (0, b"II+\0"): "tiff",
    (0, b"MM\0+"): "tiff",
    (0, b"\x89PNG"): "image",
    (0, b"\xff\xd8\xff"): "image",
    (0, b"GIF8"): "image",
    (8, b"WEBP"): "image",
    (0, b"\x89HDF"): "hdf5",
    (0, b"\x93NUM"): "npy",
    (344, b"n+1\0"): "nifti",
    (4, b"n+2\0"): "nifti",
    (208, b"MAP "): "mrc",
    (0, b"\x1a\x45\xdf\xa3"): "video",
    (8, b"AVI "): "video",
    (4, b"ftypisom"): "video",
    (4, b"ftypmp4"): "video",
    (4, b"ftypqt"): "video",
}
"""Bytes at a place near the start that tell the module better than a suffix does; the first that fits counts."""

SIGNED = 348
"""Bytes at the start of a file in which its signature lies."""

PYRAMIDS = ("tiff", "ome_zarr")
"""Modules whose images may have several levels."""

FLOAT_LABELS = ("nifti", "mrc", "dicom")
"""Modules of formats in which labels are often stored as floats."""


def suffix_of(path: Path) -> str | None:
    """Return the suffix by which a file would be read, in lower case, or None if no format has it."""
    name = path.name.lower()
    return next((suffix for suffix in FORMATS if name.endswith(suffix) and len(name) > len(suffix)), None)


def stem_of(path: Path) -> str:
    """Return a file's name without the suffix of its format: ``"a"`` of ``a.ome.tif``, ``"a_raw"`` of ``a.h5:/raw``."""
    file, inside = split_address(path)
    suffix = suffix_of(file)
    stem = file.name[: -len(suffix)] if suffix else file.name if file.is_dir() else file.stem
    return f"{stem}_{inside.replace('/', '_')}" if inside else stem


def kind_of(path: Path) -> str | None:
    """Return the module that reads a file met in a folder: by its suffix, or by its first bytes where it has none; None = no image.

    Scanners and CDs write DICOM without a suffix, or with a number for one. A suffix of letters that no format has is
    believed, but for DICOM: cameras' raw files and slides begin like a TIFF.
    """
    suffix = suffix_of(path)
    if suffix is not None:
        return FORMATS[suffix]
    try:
        told = _told(path) if path.is_file() else None
    except OSError:
        return None
    return told if told == "dicom" or not re.search("[a-zA-Z]", path.suffix) else None


def _told(path: Path) -> str | None:
    """Return the module that the first bytes of a file tell."""
    with path.open("rb") as opened:
        start = opened.read(SIGNED)
    return next((module for (at, mark), module in SIGNATURES.items() if start[at:].startswith(mark)), None)


def known_suffixes() -> str:
    """Return the suffixes that can be read, for messages."""
    return " ".join(sorted(FORMATS))


def module_of(path: Path) -> str:
    """Return the module that a file's first bytes, or else its suffix, ask for; of a folder (zarr, DICOM), what is in it.

    Of an address ``file.h5:/inside`` the file counts. Raise `InputError` if there is no such file, it may not be read, it is empty,
    or its first bytes and its suffix are unknown.
    """
    file, _ = split_address(path)
    suffix = suffix_of(file)
    try:
        if file.is_dir():
            return _module_of_folder(file)
        if not file.is_file():
            raise InputError(
                path,
                expected="an image file",
                got="something that is no ordinary file" if file.exists() else "nothing: there is no such file",
                fix="check the name and the folder",
            )
        empty, told = not file.stat().st_size, _told(file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            path, expected="a file that can be opened", got=reason, fix="check that you may read it"
        ) from error
    if empty:
        raise InputError(
            path, expected="an image", got="an empty file of zero bytes", fix="copy or export the file again"
        )
    if suffix is None and told is None:
        raise InputError(
            path,
            expected=f"one of {known_suffixes()}",
            got=f"the suffix {file.suffix!r}" if file.suffix else "no suffix, and first bytes that tell nothing",
            fix="convert the file, to TIFF for example",
        )
    return told or FORMATS[suffix or ""]


def _module_of_folder(folder: Path) -> str:
    if is_zarr(folder):
        return "ome_zarr"
    if any(kind_of(file) == "dicom" for file in folder.iterdir()):
        return "dicom"
    if FORMATS.get(suffix_of(folder) or "") == "ome_zarr":
        raise damaged(folder, "a folder without zarr metadata")
    raise InputError(
        folder, expected="a file", got="a folder", fix="give the folder where a folder is taken, or a file in it"
    )


def open_file(path: Path, max_bytes: int | None = None, as_labels: bool = False, level: int = 0) -> Decoded:
    """Open a file, or a folder that is one image, with the module of its format.

    Raise `InputError` as for `module_of`, if it has no such level, its bytes are no image, or if they change while they
    are read.
    """
    module = module_of(path)
    if level and module not in PYRAMIDS:
        raise InputError(path, expected="level 0: it is no pyramid", got=str(level), fix="leave the level out")
    levels = {"level": level} if level else {}
    with unchanged(path):
        decoded: Decoded = import_module(f"selfseg.read.{module}").open_file(path, max_bytes, as_labels, **levels)
    return decoded


def decode_labels(path: Path) -> Decoded:
    """Decode a file whose values are labels, all of it. Raise `InputError` as for `read_image`."""
    decoded = open_file(path, as_labels=True)
    lazy = decoded.data
    if isinstance(lazy, LazyArray):
        try:
            check_real(path, lazy.dtype)
            lazy.check_fits()
            valid = None if decoded.valid is None else decoded.valid[...]
            decoded = replace(decoded, data=lazy[...], valid=valid)
        finally:
            lazy.close()
    data = decoded.data
    if data.dtype.kind == "f" and module_of(path) in FLOAT_LABELS and np.array_equal(data, np.rint(data)):
        decoded = replace(decoded, data=data.astype(np.int32))
    return decoded


def open_lazy(
    path: Path | str, axes: str | None = None, name: str | None = None, level: int = 0, max_bytes: int | None = None
) -> Image:
    """Open an image without reading it: TIFF, OME-Zarr and zarr, HDF5, NumPy, NIfTI, MRC.

    Formats that cannot be read in parts (PNG, JPEG, packed NIfTI, NPZ, DICOM) are read whole.

    Parameters
    ----------
    path, axes, name, max_bytes
        As for `read_image`; `max_bytes` limits what is read at once.
    level
        Level of a pyramid, 0 = the finest.

    Raises
    ------
    InputError
        If the file is missing, damaged, of no known format, holds no real numbers, or has no such level.
    UsageError
        If `axes` is no axes string.
    """
    path = Path(path)
    decoded = open_file(path, max_bytes, level=level)
    try:
        return make_image(decoded, axes, stem_of(path) if name is None else name, str(path))
    except BaseException:
        if isinstance(decoded.data, LazyArray):
            decoded.data.close()
        raise


def read_image(
    path: Path | str, axes: str | None = None, name: str | None = None, max_bytes: int | None = None
) -> Image:
    """Read one image file of any known format.

    Parameters
    ----------
    path
        The file, the folder that is one image (zarr, DICOM series), or a place inside a file: ``a.h5:/raw``, ``a.npz:/b``,
        ``a.tif:/1``.
    axes
        What its axes are, one letter each (``"ZYX"``); None = as the file says, else as guessed: two axes are ``YX``,
        a last axis of 3 or 4 is C, pages of unknown meaning are Z. `Image.guessed_axes` says so where the guess could
        be wrong.
    name
        Output stem; None = the file's name without its suffix.
    max_bytes
        Pixel bytes allowed; None = three quarters of the memory that is free.

    Returns
    -------
    Image
        Integers keep their range. Palettes and CMYK are RGB, alpha has become `valid`, photos stand upright.

    Raises
    ------
    InputError
        One line that names the file: missing, a folder, not readable, unknown suffix, empty, no image, truncated,
        damaged, too large, a false header, values that are all NaN, or `axes` of another number.
    UsageError
        If `axes` is no axes string.
    """
    with open_lazy(path, axes, name, max_bytes=max_bytes) as image:
        return image.load(max_bytes)
