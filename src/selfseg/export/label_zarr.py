"""Label images larger than memory: an OME-Zarr image with one level, written region by region (``selfseg[zarr]``)."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike

from selfseg.core.classes import ClassTable
from selfseg.core.errors import OutputError
from selfseg.core.files import writing_folder
from selfseg.core.image import spatial_axes

NGFF = "0.5"
UNITS = {
    "nm": "nanometer",
    "um": "micrometer",
    "µm": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
}
"""Short names of units that NGFF spells out."""

KNOWN = frozenset((*UNITS.values(), "angstrom", "kilometer", "inch", "foot"))
LEVEL = "0"


def open_label_zarr(
    path: Path,
    shape: Sequence[int],
    dtype: DTypeLike,
    chunks: Sequence[int],
    axes: str,
    spacing: Sequence[float],
    unit: str,
    table: ClassTable | None = None,
    fresh: bool = True,
) -> Any:
    """Return the zarr array of a label image, to be read and written by regions; 0 where nothing was written.

    The folder is an OME-Zarr 0.5 image (zarr version 3, one level): napari, Fiji (MoBIE, N5) and ome-zarr open it. Names and
    colours of classes are in ``image-label``. Equal labels give equal bytes.

    Parameters
    ----------
    path
        The folder, called ``NAME.zarr``.
    shape, dtype, chunks
        Of the array.
    axes
        Its axes, out of TZYX.
    spacing, unit
        Size of a pixel along the spatial axes.
    table
        The classes; None = objects.
    fresh
        Remove what is there; else go on with it if it is such an array.

    Raises
    ------
    OutputError
        If zarr is not installed, or the folder cannot be written.
    """
    zarr = _zarr(path)
    with storing(path):
        if fresh or not (path / LEVEL / "zarr.json").is_file():
            with writing_folder(path) as temporary:
                group = zarr.open_group(temporary, mode="w", zarr_format=3)
                group.attrs["ome"] = _metadata(path, axes, spacing, unit, table)
                options = {"shape": tuple(shape), "chunks": tuple(chunks), "dtype": dtype, "fill_value": 0}
                group.create_array(LEVEL, dimension_names=[letter.lower() for letter in axes], **options)
        return zarr.open_array(path / LEVEL, mode="r+")


def known_label_zarr(path: Path) -> Any:
    """Return the array of a label image that `open_label_zarr` has made, perhaps in another process, to be written.

    Raises
    ------
    OutputError
        If there is none, or zarr is not installed.
    """
    zarr = _zarr(path)
    if not (path / LEVEL / "zarr.json").is_file():
        fix = "put the output folder where every machine sees it under the same path"
        raise OutputError(path, expected="the labels that were begun", got="no such folder", fix=fix)
    with storing(path):
        return zarr.open_array(path / LEVEL, mode="r+")


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the disk says against writing into one line.

    Raises
    ------
    OutputError
        If the disk is full or the folder may not be written.
    """
    try:
        yield
    except OSError as error:
        got, fix = error.strerror or str(error), "make room, then run the same command again: a prediction goes on"
        raise OutputError(path, expected="a folder to be written", got=got, fix=fix) from error


def is_label_zarr(path: Path, shape: Sequence[int]) -> bool:
    """Tell whether a folder holds labels of this shape that can be gone on with."""
    try:
        found = json.loads((path / LEVEL / "zarr.json").read_text(encoding="utf-8"))["shape"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(found == list(shape))


def ngff_axes(axes: str, unit: str) -> list[dict[str, str]]:
    """Return NGFF's description of axes; the spatial ones have the unit where NGFF knows it."""
    name = UNITS.get(unit, unit)
    length = {"unit": name} if name in KNOWN else {}
    kinds = {"T": {"type": "time"}, "C": {"type": "channel"}}
    return [{"name": letter.lower(), **kinds.get(letter, {"type": "space", **length})} for letter in axes]


def ngff_classes(table: ClassTable | None) -> dict[str, Any]:
    """Return NGFF's colours and names of classes; nothing without any."""
    if table is None or not len(table):
        return {}
    colours = [{"label-value": item.id, "rgba": list(item.rgba)} for item in table.classes]
    return {"colors": colours, "properties": [{"label-value": item.id, "name": item.name} for item in table.classes]}


def _metadata(path: Path, axes: str, spacing: Sequence[float], unit: str, table: ClassTable | None) -> dict[str, Any]:
    steps = dict(zip(spatial_axes(axes), spacing, strict=True))
    scale = {"type": "scale", "scale": [float(steps.get(letter, 1.0)) for letter in axes]}
    dataset = {"path": LEVEL, "coordinateTransformations": [scale]}
    scales = {"name": path.stem, "axes": ngff_axes(axes, unit), "datasets": [dataset]}
    label = {} if table is None else {"image-label": {"version": NGFF, **ngff_classes(table)}}
    return {"version": NGFF, "multiscales": [scales], **label}


def _zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        fix = "pip install 'selfseg[zarr]'"
        raise OutputError(path, expected="the package zarr", got="none installed", fix=fix) from error
    return zarr
