"""The formats that can be read, and the opening of one file of any of them.

A new format is one file in this package and one row in `SUFFIXES`. The file has a function
``open_file(path, max_bytes, as_labels) -> Decoded``: lazy arrays where parts can be read without the whole (`LazyArray`), else all of
the pixels, of which `max_bytes` are allowed. It raises `InputError` for what it cannot decode. Formats of `PYRAMIDS` take `level` too.
"""

import re
from collections.abc import Iterable
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
    "tiff": ".ome.tiff .ome.tif .tiff .tif .btf .tf8 .tf2 .lsm .svs .scn .ndpi .bif .qptiff .stk",
    "image": ".png .apng .jpg .jpeg .jpe .jfif .bmp .dib .webp .gif .jp2 .j2k .j2c .jpc .jpf .jpx .jxl .avif "
    ".pbm .pgm .ppm .pnm .pfm .tga .qoi .pcx .sgi",
    "nifti": ".nii.gz .nii",
    "ome_zarr": ".ome.zarr .zarr",
    "mrc": ".mrc .mrcs .rec .map .ccp4",
    "hdf5": ".h5 .hdf5 .hdf",
    "npy": ".npy .npz",
    "dicom": ".dcm .dicom .ima",
    "vendor": ".nd2 .czi .lif",
    "video": ".mp4 .m4v .mov .avi .mkv .webm .wmv .mpg .mpeg .ogv .flv",
}
"""Suffixes of the files that a module of this package reads; long ones stand before the short ones that they end in."""

FORMATS = {suffix: module for module, suffixes in SUFFIXES.items() for suffix in suffixes.split()}

SIGNATURES = (
    (128, b"DICM", "dicom"),  # the 128 bytes before it are free, and some scanners write the start of a TIFF there
    (0, rb"II[*+]\0", "tiff"),
    (0, rb"MM\0[*+]", "tiff"),
    (0, b"\x89PNG", "image"),
    (0, rb"\xff\xd8\xff(?!\xf7|\xe8..SPIFF.{15}\x06)", "image"),
    (0, b"GIF8", "image"),
    (0, rb"RIFF.{4}WEBP", "image"),
    (4, b"jP  \r\n\x87\n", "image"),
    (0, b"\xff\x4f\xff\x51", "image"),
    (4, b"JXL \r\n\x87\n", "image"),
    (4, b"ftypavif", "image"),
    (4, b"ftypavis", "image"),
    (4, b"ftypmif1", "image"),
    (0, b"qoif", "image"),
    (0, b"\x89HDF", "hdf5"),
    (0, b"\x93NUM", "npy"),
    (0, b"\xda\xce\xbe\x0a", "vendor"),
    (0, b"ZISRAWFILE", "vendor"),
)
"""Patterns of bytes that tell the module better than a wrong suffix does, and where they stand; the first that fits counts."""

WEAK_SIGNATURES = (
    (344, rb"n\+1\0", "nifti"),
    (4, rb"n\+2\0", "nifti"),
    (208, b"MAP ", "mrc"),
    (4, b"ftyp", "video"),
    (0, b"\x1aE\xdf\xa3", "video"),
    (0, rb"RIFF.{4}AVI ", "video"),
    (0, b"\x70\0\0\0", "vendor"),
    (0, b"\xff\x0a", "image"),
    (0, rb"P[1-6]\s+(#|\d+\s)", "image"),
    (0, rb"BM.{4}\0{4}", "image"),
)
"""Bytes that tell the module of a file whose name does not."""

STRANGERS = (
    (4, b"ftyphei", "a HEIC picture"),
    (0, rb"\xff\xd8\xff(\xf7|\xe8..SPIFF.{15}\x06)", "a JPEG-LS picture"),
    (0, b"II\xbc", "a JPEG XR picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
    (0, b"\xd0\xcf\x11\xe0", "a compound file (Olympus OIB, old Zeiss ZVI)"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (0, b"CDF", "a NetCDF 3 file"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"PK\x03\x04", "a ZIP file"),
)
"""Files that are met and not read, to be refused by their name."""

LONGEST_START = 352
"""Bytes of a file within which all of these stand."""

PYRAMIDS = ("tiff", "ome_zarr")
"""Modules whose images may have several levels."""

FLOAT_LABELS = ("nifti", "mrc", "dicom")
"""Modules of formats in which labels are often stored as floats."""


def suffix_of(path: Path) -> str | None:
    """Return the suffix by which a file would be read, in lower case, or None if no format has it."""
    name = path.name.lower()
    return next((suffix for suffix in FORMATS if name.endswith(suffix) and len(name) > len(suffix)), None)


def format_of(path: Path) -> str | None:
    """Return the module for a file that a search meets: that of its suffix, or, where its name has no suffix, of its first bytes.

    A name that ends with a number (``IM.0001``, ``1.2.840.5``) has none; DICOM is recognised under any suffix that no format has.
    None = no module; what cannot be opened has none either.
    """
    suffix = suffix_of(path)
    if suffix is not None:
        return FORMATS[suffix]
    try:
        told = _module_told(_start(path), named=False) if path.is_file() else None
    except OSError:
        return None
    return told if told == "dicom" or not has_suffix(path) else None


def has_suffix(path: Path) -> bool:
    """Return whether the end of a name is a suffix, known here or not: ``.txt`` does, the number in ``IM.0001`` does not."""
    return path.suffix != "" and not path.suffix[1:].isdecimal()


def _start(path: Path) -> bytes:
    with path.open("rb") as opened:
        return opened.read(LONGEST_START)


def _module_told(start: bytes, named: bool) -> str | None:
    """Return the module that the first bytes of a file ask for; few bytes count only where the name tells nothing."""
    module = _told(start, SIGNATURES)
    return module if module or named or _told(start, STRANGERS) else _told(start, WEAK_SIGNATURES)


def _told(start: bytes, signatures: Iterable[tuple[int, bytes, str]]) -> str | None:
    """Return what the first bytes of a file stand for."""
    fits = (what for at, pattern, what in signatures if re.compile(pattern, re.DOTALL).match(start, at))
    return next(fits, None)


def stem_of(path: Path) -> str:
    """Return a file's name without the suffix of its format: ``"a"`` of ``a.ome.tif``, ``"a_raw"`` of ``a.h5:/raw``."""
    file, inside = split_address(path)
    suffix = suffix_of(file)
    whole = file.is_dir() or not has_suffix(file)
    stem = file.name[: -len(suffix)] if suffix else file.name if whole else file.stem
    return f"{stem}_{inside.replace('/', '_')}" if inside else stem


def known_suffixes() -> str:
    """Return the suffixes that can be read, for messages."""
    return " ".join(sorted(FORMATS))


def module_of(path: Path) -> str:
    """Return the module that a file's first bytes, or else its suffix, ask for; of a folder (zarr, DICOM), what is in it.

    Of an address ``file.h5:/inside`` the file counts. Raise `InputError` if there is no such file, it may not be read, it is empty,
    or neither its first bytes nor its suffix are known.
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
        start = _start(file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            path, expected="a file that can be opened", got=reason, fix="check that you may read it"
        ) from error
    if not start:
        raise InputError(
            path, expected="an image", got="an empty file of zero bytes", fix="copy or export the file again"
        )
    module = _module_told(start, named=suffix is not None)
    stranger = None if module else _told(start, STRANGERS)
    if module is None and (suffix is None or (stranger and FORMATS[suffix] in ("tiff", "image"))):
        kind = stranger or (f"the suffix {file.suffix!r}" if file.suffix else "no suffix")
        fix = "convert the file, to TIFF for example"
        raise InputError(path, expected=f"one of {known_suffixes()}", got=kind, fix=fix)
    return module or FORMATS[str(suffix)]


def _module_of_folder(folder: Path) -> str:
    if is_zarr(folder):
        return "ome_zarr"
    if any(format_of(file) == "dicom" for file in folder.iterdir()):
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

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.read import open_lazy
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "cells.npy")
    >>> np.save(path, np.zeros((40, 50), np.uint8))
    >>> image = open_lazy(path)
    >>> image.in_memory, image.window(Y=slice(0, 8)).spatial_shape
    (False, (8, 50))
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
        What its axes are, one letter each (``"ZYX"``); None = as in the file, else as guessed: two axes are ``YX``,
        a last axis of 3 or 4 is C, pages of unknown meaning are Z. `Image.guessed_axes` is True where the guess could
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

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.read import read_image
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "cells.npy")
    >>> np.save(path, np.zeros((4, 5), np.uint8))
    >>> image = read_image(path)
    >>> image.axes, image.name
    ('YX', 'cells')
    """
    with open_lazy(path, axes, name, max_bytes=max_bytes) as image:
        return image.load(max_bytes)
