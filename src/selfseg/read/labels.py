"""Label images: segmentations and truth, of one annotator or of several, found and read from files."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read._decoded import split_address
from selfseg.read.arrays import make_image
from selfseg.read.formats import decode_labels, stem_of, suffix_of
from selfseg.read.ome_zarr import is_zarr
from selfseg.read.sources import natural_order, walk

SEVERAL = "segmentations"
"""Name of the array in an NPZ file that holds several annotators ``[A *S]``."""


def read_labels(path: Path | str) -> NDArray[np.integer]:
    """Read one label image of integers, of any format that is read. A palette counts by its indices.

    Of an OME-Zarr image its one label image is read, of a DICOM segmentation the number of the segment at each pixel.

    Returns
    -------
    NDArray
        ``[*S]`` integers, as they are in the file; True and False become 1 and 0.

    Raises
    ------
    InputError
        If the file cannot be read, or holds several annotators, colours, or values that are no integers.
    """
    several = read_truths(path)
    if len(several) > 1:
        got, fix = f"{len(several)}", "give it as the truth"
        raise InputError(f"labels {path}", expected="one segmentation", got=got, fix=fix)
    return several[0]


def read_label_image(path: Path | str, name: str | None = None) -> Image:
    """Read one label image with its axes, spacing and unit: integers in any image format, not in a NumPy file.

    Raises
    ------
    InputError
        If the file cannot be read, or holds colours or values that are no integers.
    """
    path = Path(path)
    image = make_image(decode_labels(path), None, name or stem_of(path), str(path))
    if "C" in image.axes:
        fix = "save label numbers as grey values, not as colours"
        got = f"{image.n_channels} channels"
        raise InputError(f"labels {path}", expected="one channel of integers", got=got, fix=fix)
    return image.with_data(_integers(image.data, path), image.axes)


def read_truths(path: Path | str) -> list[NDArray[np.integer]]:
    """Read the truth of one image: one array ``[*S]`` an annotator.

    An NPZ file with an array ``segmentations`` ``[A *S]`` holds several annotators; every other file holds one.

    Raises
    ------
    InputError
        As for `read_labels`.
    """
    path = Path(path)
    several = _annotators(path)
    if several is not None:
        return [_integers(part, path) for part in several]
    decoded = decode_labels(path)
    if "C" in decoded.axes:
        fix = "save label numbers as grey values or palette indices, not as colours"
        got = f"{decoded.data.shape[-1]} channels"
        raise InputError(f"labels {path}", expected="one channel of integers", got=got, fix=fix)
    return [_integers(decoded.data, path)]


def find_labels(where: Path | str, prefer: str | None = None) -> dict[str, Path]:
    """Return the label files that a file or a folder stands for, by their name below the folder without its suffix.

    Parameters
    ----------
    where
        A file or a folder.
    prefer
        Suffix of the file to take where several formats of one name are known to hold the same; None = they may not.

    Raises
    ------
    InputError
        If nothing is there, or two files have the same name.
    """
    where = Path(where)
    if split_address(where)[1] or where.is_file() or is_zarr(where):
        return {stem_of(where): where}
    if not where.is_dir():
        raise InputError(f"labels {where}", expected="a file or a folder", got="nothing", fix="check the name")
    found: dict[str, Path] = {}
    for path in sorted((p for p in walk(where) if _is_labels(p, where)), key=lambda p: natural_order(p, where)):
        name = (path.relative_to(where).parent / stem_of(path)).as_posix()
        if name in found and prefer is not None:
            found[name] = path if suffix_of(path) == prefer else found[name]
            continue
        if name in found:
            got, fix = f"{found[name].name} and {path.name}", "remove one of them"
            raise InputError(f"labels {where}", expected="one file a name", got=got, fix=fix)
        found[name] = path
    if not found:
        raise InputError(f"labels {where}", expected="label images", got="none", fix="check the folder")
    return found


def _is_labels(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and suffix_of(path) is not None


def _annotators(path: Path) -> NDArray[Any] | None:
    """Return the array of several annotators if an NPZ file has one, never unpickling."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as loaded:
            return np.asarray(loaded[SEVERAL]) if SEVERAL in loaded.files else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        got = getattr(error, "strerror", None) or str(error) or type(error).__name__
    expected = f"a NumPy file of one array, or with an array {SEVERAL!r}"
    raise InputError(f"labels {path}", expected=expected, got=got, fix="check the file")


def _integers(array: NDArray[Any], path: Path) -> NDArray[np.integer]:
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        fix = "round the values and save them as uint8, uint16 or int32"
        raise InputError(f"labels {path}", expected="integers", got=f"values of type {array.dtype}", fix=fix)
    return array
