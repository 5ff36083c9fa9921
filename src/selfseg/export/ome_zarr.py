"""Labels as OME-Zarr (NGFF 0.5 or 0.4, ``selfseg[zarr]``).

`write_ome_zarr` writes the image as a pyramid, and in it a labels group with names and colours. `open_label_zarr` makes a label image
larger than memory: one level, written region by region.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import OutputError
from selfseg.core.files import writing_folder
from selfseg.core.image import Image, spatial_axes
from selfseg.export.georeference import zarr_attributes
from selfseg.export.labels import LabelImage

ORDER = "TCZYX"
"""The order of axes that NGFF prescribes."""

NAME = "classes"
"""Name of the label image in the group ``labels``."""

CHUNK = {"T": 1, "C": 1, "Z": 32, "Y": 512, "X": 512}
LEAST_SIDE = 512
"""Most rows and columns of the coarsest level: the first level that fits is the last."""

RGB = ("FF0000", "00FF00", "0000FF")
MOST_SAMPLED = 1_000_000


def write_ome_zarr(path: Path, content: LabelImage, ngff: str = "0.5") -> None:
    """Write a folder that napari, Fiji (MoBIE, N5), neuroglancer and vizarr open as an image with labels over it.

    A labels group only has a meaning inside an image, thus the image is written as well, as it was read. Levels halve rows and
    columns: images by means, labels by every second pixel. Scales and translations are exact for both. A folder that is there already
    is replaced when all is written. `ngff` is ``"0.5"`` (zarr 3) or ``"0.4"`` (zarr 2).
    """
    import zarr

    image = content.image
    with writing_folder(path) as temporary:
        root = zarr.create_group(temporary, zarr_format=3 if ngff == "0.5" else 2, overwrite=True)
        scales = _write_levels(root, image.data, image.axes, image, ngff, labels=False)
        _describe(root, {"multiscales": scales, "omero": _omero(image)}, ngff)
        _describe(root.create_group("labels"), {"labels": [NAME]}, ngff)
        group = root.create_group(f"labels/{NAME}")
        scales = _write_levels(group, content.labels, content.axes, image, ngff, labels=True)
        version = {"version": ngff} if ngff == "0.4" else {}
        label = {"source": {"image": "../../"}, **version, **ngff_classes(content.table)}
        _describe(group, {"multiscales": scales, "image-label": label}, ngff)


def _describe(group: Any, metadata: dict[str, Any], ngff: str) -> None:
    """Store metadata where the version wants them: 0.5 under one key, with one version for all."""
    group.attrs.update({"ome": {"version": ngff, **metadata}} if ngff == "0.5" else metadata)


def _write_levels(
    group: Any, data: NDArray[Any], axes: str, image: Image, ngff: str, labels: bool
) -> list[dict[str, Any]]:
    """Write all levels of an array; return their metadata."""
    order = "".join(letter for letter in ORDER if letter in axes)
    data = data.transpose([axes.index(letter) for letter in order])
    if data.dtype == np.bool_:
        data = data.astype(np.uint8)
    steps = dict(zip(spatial_axes(image.axes), image.spacing, strict=True))
    interval = image.meta.get("interval")
    steps |= {"T": interval} if interval else {}
    offset = image.meta.get("offset", {})
    datasets = []
    for level, array in enumerate(_levels(data, order, labels)):
        stored = _write_array(group, str(level), array, order, ngff)
        stored.attrs.update(zarr_attributes(image.geotiff, 2.0**level))
        factors = {letter: 2.0**level if letter in "YX" else 1.0 for letter in order}
        # the mean of 2 pixels lies between them, every second pixel lies where it lay
        shift = {letter: 0.0 if labels else steps.get(letter, 0.0) * (factors[letter] - 1) / 2 for letter in order}
        scale = [steps.get(letter, 1.0) * factors[letter] for letter in order]
        start = [float(offset.get(letter, 0.0)) + shift[letter] for letter in order]
        datasets.append({"path": str(level), "coordinateTransformations": _transforms(scale, start)})
    scales = {
        "name": NAME if labels else image.name,
        "axes": ngff_axes(order, image.unit, timed=bool(interval)),
        "datasets": datasets,
    }
    return [scales if ngff == "0.5" else {"version": ngff, **scales}]


def _levels(data: NDArray[Any], order: str, labels: bool) -> Iterator[NDArray[Any]]:
    """Yield the array, and halves of rows and columns until they are small."""
    rows, columns = order.index("Y"), order.index("X")
    yield data
    while max(data.shape[rows], data.shape[columns]) > LEAST_SIDE and min(data.shape[rows], data.shape[columns]) > 1:
        if labels:
            data = data[..., ::2, ::2]
        else:
            even = data[..., : data.shape[-2] // 2 * 2, : data.shape[-1] // 2 * 2].astype(np.float32)
            mean = (even[..., ::2, ::2] + even[..., 1::2, ::2] + even[..., ::2, 1::2] + even[..., 1::2, 1::2]) / 4
            data = (np.rint(mean) if data.dtype.kind in "iu" else mean).astype(data.dtype)
        yield data


def _write_array(group: Any, name: str, array: NDArray[Any], order: str, ngff: str) -> Any:
    chunks = tuple(min(n, CHUNK[letter]) for n, letter in zip(array.shape, order, strict=True))
    if ngff == "0.5":
        layout: dict[str, Any] = {"dimension_names": [letter.lower() for letter in order]}
    else:
        layout = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    stored = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks, fill_value=0, **layout)
    stored[...] = array
    return stored


def _transforms(scale: list[float], start: Sequence[float] = ()) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    return [*steps, {"type": "translation", "translation": start}] if any(start) else steps


def _omero(image: Image) -> dict[str, Any]:
    """Return how viewers should show the channels: colours, and the range from the 1st to the 99th percentile."""
    channels = []
    values = np.moveaxis(image.data, image.axes.index("C"), 0) if "C" in image.axes else image.data[None]
    for number, channel in enumerate(values):
        low, start, end, high = _range(channel)
        colour = RGB[number] if len(values) == 3 else "FFFFFF"
        label = image.channels[number] if number < len(image.channels) else f"channel {number + 1}"
        window = {"min": low, "start": start, "end": end, "max": high}
        channels.append({"label": label, "color": colour, "active": len(values) <= 3 or number == 0, "window": window})
    return {"channels": channels}


def _range(values: NDArray[Any]) -> tuple[float, float, float, float]:
    flat = values.ravel()[:: max(1, values.size // MOST_SAMPLED)]
    finite = flat[np.isfinite(flat)].astype(np.float64)
    if not finite.size:
        return (0.0, 0.0, 1.0, 1.0)
    low, start, end, high = (float(value) for value in np.percentile(finite, (0, 1, 99, 100)))
    return low, start, max(end, math.nextafter(start, math.inf)), max(high, math.nextafter(low, math.inf))


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
    image: Image,
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
    axes
        Axes of the array, out of TZYX.
    image
        The image, or labels of it, for the size of a pixel, its unit, and the place on Earth of a map.
    table
        The classes; None = objects.
    fresh
        Remove what is there; else continue it if it is such an array.

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
                steps = dict(zip(spatial_axes(axes), image.spacing, strict=True))
                transforms = _transforms([float(steps.get(letter, 1.0)) for letter in axes])
                dataset = {"path": LEVEL, "coordinateTransformations": transforms}
                scales = {"name": path.stem, "axes": ngff_axes(axes, image.unit), "datasets": [dataset]}
                label = {} if table is None else {"image-label": {"version": NGFF, **ngff_classes(table)}}
                _describe(group, {"multiscales": [scales], **label}, NGFF)
                options = {"shape": tuple(shape), "chunks": tuple(chunks), "dtype": dtype, "fill_value": 0}
                names, place = [letter.lower() for letter in axes], zarr_attributes(image.geotiff)
                group.create_array(LEVEL, dimension_names=names, attributes=place, **options)
        return zarr.open_array(path / LEVEL, mode="r+")


def known_label_zarr(path: Path) -> Any:
    """Return the array of a label image that `open_label_zarr` has made, perhaps in another process, to be written.

    Without such an array, or without zarr, it raises `OutputError`.
    """
    zarr = _zarr(path)
    if not (path / LEVEL / "zarr.json").is_file():
        raise OutputError(
            path,
            expected="the labels that were begun",
            got="no such folder",
            fix="put the output folder where every machine sees it under the same path",
        )
    with storing(path):
        return zarr.open_array(path / LEVEL, mode="r+")


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Raise `OutputError`, in one line, if the disk is full or the folder may not be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            path,
            expected="a folder to be written",
            got=error.strerror or str(error),
            fix="make room, then run the same command again: a prediction continues",
        ) from error


def is_label_zarr(path: Path, shape: Sequence[int]) -> bool:
    """Tell whether a folder holds labels of this shape that can be gone on with."""
    try:
        found = json.loads((path / LEVEL / "zarr.json").read_text(encoding="utf-8"))["shape"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(found == list(shape))


def ngff_axes(axes: str, unit: str, timed: bool = False) -> list[dict[str, str]]:
    """Return NGFF's description of axes; the spatial ones have the unit where NGFF has it, and time is in seconds if it is `timed`."""
    name = UNITS.get(unit, unit)
    length = {"unit": name} if name in KNOWN else {}
    kinds = {"T": {"type": "time", **({"unit": "second"} if timed else {})}, "C": {"type": "channel"}}
    return [{"name": letter.lower(), **kinds.get(letter, {"type": "space", **length})} for letter in axes]


def ngff_classes(table: ClassTable | None) -> dict[str, Any]:
    """Return NGFF's colours and names of classes; nothing without any."""
    if table is None or not len(table):
        return {}
    colours = [{"label-value": item.id, "rgba": list(item.rgba)} for item in table.classes]
    return {"colors": colours, "properties": [{"label-value": item.id, "name": item.name} for item in table.classes]}


def _zarr(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise OutputError(
            path, expected="the package zarr", got="none installed", fix="pip install 'selfseg[zarr]'"
        ) from error
    return zarr
