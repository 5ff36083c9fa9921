"""Images that stay in their files: opened at once, read window by window."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

from selfseg.core.axes import check_axes, spatial_axes
from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read._decoded import Decoded, decoding
from selfseg.read._lazy_array import LazyArray, check_real, from_sliceable
from selfseg.read._unchanged import unchanged
from selfseg.read.arrays import chosen_axes
from selfseg.read.formats import module_of, stem_of
from selfseg.read.sources import Source


def open_lazy(path: Path | str, axes: str | None = None, name: str | None = None, level: int = 0) -> Image:
    """Open an image without reading it: TIFF, OME-Zarr and zarr, HDF5, NumPy, NIfTI, MRC.

    Formats that cannot be read in parts (PNG, JPEG, packed NIfTI, NPZ, DICOM) are read whole, and looked at in the same way.

    Parameters
    ----------
    path
        As for `selfseg.read.read_image`.
    axes
        What its axes are, None = as the file says.
    name
        Output stem; None = the file's name without its suffix.
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
    module = import_module(f"selfseg.read.{module_of(path)}")
    with unchanged(path):
        decoded: Decoded = module.open_lazy(path, level=level) if hasattr(module, "open_lazy") else module.decode(path)
    decoded = _lazy(path, decoded)
    try:
        check_real(path, decoded.data.dtype)
        if 0 in decoded.data.shape:
            raise InputError(path, expected="at least one pixel", got="an empty array", fix="leave it out")
        chosen = check_axes(chosen_axes(decoded, axes, str(path)), decoded.data.ndim)
    except Exception:
        decoded.data.close()
        raise
    return Image(
        decoded.data,
        chosen,
        tuple(float(decoded.spacing.get(letter, 1.0)) for letter in spatial_axes(chosen)),
        decoded.unit,
        decoded.channels if "C" in chosen else (),
        stem_of(path) if name is None else name,
        str(path),
        decoded.valid,
        decoded.guessed and axes is None,
        decoded.meta,
    )


def open_in_parts(source: Source, axes: str | None = None) -> Image | None:
    """Open an input without reading it.

    Parameters
    ----------
    source
        The input.
    axes
        What its axes are, None = as the file says.

    Returns
    -------
    Image or None
        None for an array in memory, and for a file that can only be read as a whole.

    Raises
    ------
    InputError, UsageError
        As for `open_lazy`.
    """
    # what is packed as a whole can only be read as a whole, and so can a mask
    if source.path is None or source.path.suffix == ".gz" or source.whole_only:
        return None
    if not hasattr(import_module(f"selfseg.read.{module_of(source.path)}"), "open_lazy"):
        return None
    return open_lazy(source.path, axes, source.name)


def _lazy(path: Path, decoded: Decoded) -> Decoded:
    """Give arrays that are in memory the manners of one that is not."""
    data, valid = decoded.data, decoded.valid
    with decoding(path):
        data = data if isinstance(data, LazyArray) else from_sliceable(path, data)
        valid = valid if valid is None or isinstance(valid, LazyArray) else from_sliceable(path, valid)
    return replace(decoded, data=data, valid=valid)
