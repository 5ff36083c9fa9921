"""Labels as files: TIFF with class names and colours, the other formats by name, the class table as ``classes.json``, tables as CSV.

Functions that write raise `OutputError` where the file cannot be written.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import IGNORE, MOST, ClassTable, class_colours
from selfseg.core.errors import ModelError, UsageError
from selfseg.core.files import write_json, writing
from selfseg.core.image import GeoTags, Image, check_axes, spatial_axes

LARGEST_IMAGEJ = 2**31
"""Bytes of pixels above which a file is written as OME-BigTIFF: ImageJ's own format ends at 4 GiB."""

NO_DATA = (42113, 2, 0, "0")
"""GDAL's tag by which labels 0 of a map are no data."""

OME_UNITS = {
    "micrometer": "µm",
    "micron": "µm",
    "um": "µm",
    "μm": "µm",
    "nanometer": "nm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "angstrom": "Å",
}
"""OME's spelling of units."""


def write_labels(
    path: Path | str,
    labels: NDArray[Any],
    table: ClassTable | None = None,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    axes: str = "YX",
    interval: float | None = None,
    geotiff: GeoTags = (),
) -> None:
    """Write a label image as a TIFF that Fiji, napari, QuPath, tifffile and scikit-image read as plain integers.

    The pixels are uint8, uint16 or uint32, the smallest that holds the largest id of `labels` and of `table`, deflated.
    8 and 16 bit go into ImageJ's TIFF, with the class names in its "Info" and, for 8 bit, the class colours as a lookup
    table, so that Fiji opens the file in the colours of the classes. 32 bit, which ImageJ does not know, and files of
    more than 2 GiB go into OME-TIFF. No time or random number is written: equal input gives equal bytes.

    Parameters
    ----------
    labels
        Ids, 0 = ignore, with the axes `axes`.
    table
        Names and colours of the classes; None = regions without a meaning.
    spacing
        Size of a pixel along each spatial axis, in the order of `axes`; None = unknown.
    unit
        Unit of `spacing`; None = pixel.
    axes
        Letters out of T Z Y X. The file's order is always that of TZYX; `labels` in another order are transposed.
    interval
        Seconds from one time point to the next; None = unknown.
    geotiff
        Tags that say where on Earth the image lies (`Image.geotiff`); empty = nowhere. Labels 0 are then no data for GDAL.

    Raises
    ------
    UsageError
        If `labels` are not integers from 0 to 2**32 - 1, or do not fit `axes` or `spacing`.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from selfseg.export.labels import write_labels
    >>> from selfseg.read import read_image
    >>> path = Path(tempfile.mkdtemp(), "labels.tif")
    >>> write_labels(path, np.array([[1, 2], [2, 0]]))
    >>> read_image(path).data.tolist()
    [[1, 2], [2, 0]]
    """
    axes = check_axes(axes, np.ndim(labels))
    if "C" in axes:
        raise UsageError("labels", expected="axes out of TZYX", got=axes, fix="labels have no channel axis")
    whole = smallest_integers(np.asarray(labels), table)
    data, order, steps = in_order(whole, axes, spacing)
    if whole.dtype == np.uint32 or whole.nbytes > LARGEST_IMAGEJ:
        times = {"TimeIncrement": interval, "TimeIncrementUnit": "s"} if interval and "T" in order else {}
        _write(path, data, geotiff, ome=True, metadata=_ome_metadata(data, order, steps, unit) | times)
        return
    metadata: dict[str, Any] = {"axes": order, "unit": imagej_unit(unit)}
    if interval and "T" in order:
        metadata["finterval"] = interval
    if "Z" in steps:
        metadata["spacing"] = steps["Z"]
    if table is not None:
        metadata["Info"] = imagej_info(table)
    if whole.dtype == np.uint8:
        metadata |= imagej_look(table, int(data.max(initial=0)))
    else:
        metadata.update(min=0.0, max=float(max(1, data.max(initial=0))))
    resolution = (1 / steps["X"], 1 / steps["Y"])
    _write(path, data, geotiff, imagej=True, metadata=metadata, resolution=resolution, resolutionunit="NONE")


def _ome_metadata(data: NDArray[Any], order: str, steps: Mapping[str, float], unit: str | None) -> dict[str, Any]:
    name = OME_UNITS.get(unit or "pixel", unit or "pixel")
    # a hash in place of tifffile's random number: equal bytes each time
    content = hashlib.blake2b(data.data, digest_size=16).digest()
    metadata: dict[str, Any] = {"axes": order, "UUID": UUID(bytes=content).urn, "Creator": "selfseg"}
    for letter, step in steps.items():
        metadata[f"PhysicalSize{letter}"] = step
        metadata[f"PhysicalSize{letter}Unit"] = name
    return metadata


def _write(path: Path | str, data: NDArray[Any], geotiff: GeoTags = (), **options: Any) -> None:
    import tifffile  # here, since what only segments should not wait for it

    big = data.nbytes > LARGEST_IMAGEJ
    options["extratags"] = [(*tag, True) for tag in (*geotiff, NO_DATA) if geotiff]
    with writing(path) as temporary:
        tifffile.imwrite(
            temporary, data, bigtiff=big, photometric="minisblack", compression="zlib", software="selfseg", **options
        )


TIFF_AXES = "TZCYX"
"""The one order of axes in TIFF files: that of ImageJ."""

IMAGEJ_UNITS = {
    "micrometer": "micron",
    "um": "micron",
    "µm": "micron",
    "μm": "micron",
    "nanometer": "nm",
    "millimeter": "mm",
}
"""ImageJ's own, ASCII, spelling of units."""


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


def class_lines(table: ClassTable | None) -> list[str]:
    """Return a line ``ID = NAME`` for each class."""
    return [f"{item.id} = {one_line(item.name)}" for item in table.classes] if table is not None else []


def imagej_look(table: ClassTable | None, largest: int = 0) -> dict[str, Any]:
    """Return ImageJ's metadata that show 8-bit labels up to `largest` in the colours of their classes."""
    colours = np.zeros((256, 4), np.uint8)
    known = colour_table(table, largest)
    colours[: len(known)] = known
    return {"LUTs": [np.ascontiguousarray(colours[:, :3].T)], "Ranges": (0.0, 255.0)}


def imagej_info(table: ClassTable | None) -> str:
    """Return the class names as ImageJ's "Info" has them: one a line."""
    return "".join(f"{line}\n" for line in class_lines(table))


def imagej_unit(unit: str | None) -> str:
    """Return a unit in ImageJ's own, ASCII, spelling."""
    name = IMAGEJ_UNITS.get(unit or "pixel", unit or "pixel")
    return one_line(name.encode("ascii", "backslashreplace").decode("ascii"))


def smallest_integers(labels: NDArray[Any], table: ClassTable | None) -> NDArray[Any]:
    """Return labels as the smallest unsigned integers that hold all ids of `labels` and of `table`.

    Labels that are no integers from 0 to 2**32 - 1 raise `UsageError`.
    """
    if labels.dtype.kind not in "biu":
        raise UsageError("labels", expected="integers", got=str(labels.dtype), fix="round and convert them first")
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high >= 2**32:
        raise UsageError(
            "labels", expected="0 to 4294967295", got=f"{low} to {high}", fix="0 is ignore, classes are 1..K"
        )
    largest = max([high, *(item.id for item in table.classes)] if table is not None else [high])
    return labels.astype(np.min_scalar_type(largest) if largest < 2**32 else np.uint32, copy=False)


def in_order(
    data: NDArray[Any], axes: str, spacing: Sequence[float] | None, wanted: str = TIFF_AXES
) -> tuple[NDArray[Any], str, dict[str, float]]:
    """Return the data with its axes in the order of `wanted`, these axes, and the spacing by letter in the same order.

    A spacing that does not fit the axes raises `UsageError`.
    """
    letters = spatial_axes(axes)
    steps = tuple(spacing) if spacing is not None else (1.0,) * len(letters)
    if len(steps) != len(letters) or not all(math.isfinite(step) and step > 0 for step in steps):
        raise UsageError(
            "spacing",
            expected=f"{len(letters)} positive sizes for {letters}",
            got=str(steps),
            fix="give one size for each spatial axis",
        )
    order = "".join(letter for letter in wanted if letter in axes)
    by_letter = dict(zip(letters, steps, strict=True))
    ordered = np.ascontiguousarray(data.transpose([axes.index(letter) for letter in order]))
    return ordered, order, {letter: float(by_letter[letter]) for letter in order if letter in by_letter}


class LabelFormat(NamedTuple):
    """One way to write labels."""

    suffix: str
    """Of the files."""
    writer: str = ""
    """Module of this package, and its function that takes a path and a `LabelImage`; empty = `labels.write_labels`."""
    extra: str = ""
    """Extra to install, ``selfseg[EXTRA]``; empty = nothing more."""
    packages: tuple[str, ...] = ()
    """Packages that the extra brings and the writer imports."""


FORMATS = {
    "tiff": LabelFormat(".tif"),
    "ome-zarr": LabelFormat(".ome.zarr", "ome_zarr.write_ome_zarr", "zarr", ("zarr",)),
    "nifti": LabelFormat(".nii.gz", "volumes.write_nifti", "nifti", ("nibabel",)),
    "mrc": LabelFormat(".mrc", "volumes.write_mrc"),
    "hdf5": LabelFormat(".h5", "volumes.write_hdf5", "hdf5", ("h5py",)),
    "numpy": LabelFormat(".npz", "volumes.write_npz"),
    "dicom-seg": LabelFormat(".dcm", "volumes.write_dicom_seg", "dicom", ("pydicom", "highdicom")),
}
"""Formats by the name that ``--write`` takes."""

NGFF_VERSIONS = ("0.5", "0.4")


@dataclass(frozen=True)
class LabelImage:
    """Labels and all that a file may say of them."""

    labels: NDArray[Any]
    """The smallest unsigned integers that hold the ids, 0 = ignore."""
    axes: str
    """Letters out of T Z Y X."""
    image: Image
    """The image that was segmented: its spacing, unit and place."""
    table: ClassTable | None = None
    """The classes; None = regions without a meaning."""


@dataclass(frozen=True)
class LabelWriter:
    """Writes label images in chosen formats.

    Raises
    ------
    UsageError
        At once, before anything is computed: if a name is unknown, or its extra is not installed.
    """

    kinds: Sequence[str] = ("tiff",)
    """Names out of `FORMATS`."""
    ngff: str = "0.5"
    """Version of OME-Zarr, ``"0.5"`` or ``"0.4"``."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in FORMATS:
                known = f"one of {', '.join(FORMATS)}"
                raise UsageError("--write", expected=known, got=repr(kind), fix="check the name")
            for package in FORMATS[kind].packages:
                if find_spec(package) is None:
                    raise UsageError(
                        f"--write {kind}",
                        expected=f"the package {package}",
                        got="none installed",
                        fix=f"pip install 'selfseg[{FORMATS[kind].extra}]'",
                    )
        if self.ngff not in NGFF_VERSIONS:
            versions = " or ".join(NGFF_VERSIONS)
            raise UsageError("--ngff", expected=versions, got=repr(self.ngff), fix="leave it out for 0.5")

    def write(
        self, folder: Path | str, name: str, labels: NDArray[Any], image: Image, table: ClassTable | None = None
    ) -> list[Path]:
        """Write ``folder/NAME.SUFFIX`` in each format; return the paths.

        `labels` are ids with the axes of the image other than C, 0 = ignore; `name` may have ``/`` in it.

        Raises
        ------
        UsageError
            If `labels` are no ids or do not fit the axes.
        InputError
            If a format cannot hold them: DICOM-SEG of an image that did not come from DICOM.
        OutputError
            If a file cannot be written.
        """
        axes = check_axes(image.axes.replace("C", ""), np.ndim(labels))
        written = []
        for kind in self.kinds:
            path = Path(folder) / f"{name}{FORMATS[kind].suffix}"
            if kind == "tiff":
                interval = image.meta.get("interval")
                write_labels(path, labels, table, image.spacing, image.unit, axes, interval, image.geotiff)
            else:
                options = {"ngff": self.ngff} if kind == "ome-zarr" else {}
                content = LabelImage(smallest_integers(np.asarray(labels), table), axes, image, table)
                module, function = FORMATS[kind].writer.split(".")
                getattr(import_module(f"selfseg.export.{module}"), function)(path, content, **options)
            written.append(path)
        return written


COLUMNS = ("image", "class", "name", "pixels", "share", "area", "unit")
"""First line of ``classes.csv``."""

POWERS = {1: "", 2: "²", 3: "³"}


@dataclass(frozen=True)
class ClassArea:
    """Area of one class in one image."""

    image: str
    """Name of the image."""
    id: int
    name: str
    """The class."""
    pixels: int
    """Number of its pixels (voxels; over all time points)."""
    share: float
    """`pixels` over the number of pixels of all classes, 0-1; 0 where every pixel is ignored."""
    area: float
    """`pixels` times the size of a pixel: an area in 2D, a volume in 3D."""
    unit: str
    """Unit of `area`: ``"µm²"``, ``"pixel²"``, ``"mm³"``."""


def write_classes(path: Path | str, table: ClassTable) -> None:
    """Write the class table as JSON: one object a class, with id, name, rgba, area_share, intensity and sources.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import selfseg
    >>> from selfseg.export.labels import read_classes, write_classes
    >>> path = Path(tempfile.mkdtemp(), "classes.json")
    >>> model = selfseg.fit(np.eye(8), "kmeans", n_classes=2, seed=0)
    >>> write_classes(path, model.table_)
    >>> len(read_classes(path))
    2
    """
    write_json(path, table.to_json())


def read_classes(path: Path | str) -> ClassTable:
    """Read a class table that `write_classes` wrote, perhaps with names and colours changed by hand.

    Raises
    ------
    ModelError
        If the file cannot be read or is not such a table.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import selfseg
    >>> from selfseg.export.labels import read_classes, write_classes
    >>> path = Path(tempfile.mkdtemp(), "classes.json")
    >>> model = selfseg.fit(np.eye(8), "kmeans", n_classes=2, seed=0)
    >>> write_classes(path, model.table_)
    >>> [one.id for one in read_classes(path).classes]
    [1, 2]
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
        return ClassTable.from_json(rows)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            str(path),
            expected="a class table",
            got=f"{type(error).__name__}: {error}",
            fix="give each class its own id of 1 or more, a name and four colour values 0-255, or segment again",
        ) from error


def count_areas(
    image: str, counts: NDArray[np.integer], table: ClassTable, spacing: Sequence[float], unit: str = "pixel"
) -> list[ClassArea]:
    """Return what each class of `table` covers in one image, in the table's order; classes that are absent cover 0.

    Parameters
    ----------
    counts
        ``[n]`` pixels of each id; 0 (ignore) is not counted.
    spacing, unit
        Size of a pixel along each spatial axis, and its unit.
    """
    counts = np.pad(counts, (0, max(0, 1 + max((item.id for item in table.classes), default=0) - len(counts))))
    total = int(counts.sum() - counts[IGNORE])
    size = math.prod(spacing)
    power = f"{unit}{POWERS.get(len(spacing), f'^{len(spacing)}')}"
    pixels = {item.id: int(counts[item.id]) for item in table.classes}
    return [
        ClassArea(image, i.id, i.name, pixels[i.id], pixels[i.id] / total if total else 0.0, pixels[i.id] * size, power)
        for i in table.classes
    ]


def write_areas(path: Path | str, areas: Iterable[ClassArea]) -> None:
    """Write one line for each image and class as CSV in UTF-8, with the columns of `COLUMNS`."""
    with _csv_rows(path) as rows:
        rows.writerow(COLUMNS)
        for one in areas:
            rows.writerow((one.image, one.id, one.name, one.pixels, f"{one.share:.6f}", f"{one.area:.9g}", one.unit))


@contextmanager
def _csv_rows(path: Path | str) -> Iterator[Any]:
    with (
        writing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield csv.writer(file, lineterminator="\n")


def colour_table(table: ClassTable | None, largest: int = 0) -> NDArray[np.uint8]:
    """Return the colours of the ids 0, 1, 2, ...

    Parameters
    ----------
    table
        Classes whose colours are used. Ids that it does not hold get those of `class_colours`, over and over.
    largest
        Largest id in the label image.

    Returns
    -------
    NDArray
        Red, green, blue, alpha ``[n 4]`` uint8, with n > `largest` and n > every id of the table. Row 0 (ignore) is
        transparent.
    """
    classes = table.classes if table is not None else ()
    n_ids = max([largest, *(item.id for item in classes)])
    colours = np.zeros((n_ids + 1, 4), np.uint8)
    if n_ids:
        palette = np.array(class_colours(min(n_ids, MOST)), np.uint8)
        colours[1:] = palette[np.arange(n_ids) % len(palette)]
    for item in classes:
        colours[item.id] = item.rgba
    return colours


def labels_picture(labels: NDArray[Any], table: ClassTable | None = None) -> NDArray[np.uint8]:
    """Return the colours (see `colour_table`) of ids ``[*S]``: red, green, blue, alpha ``[*S 4]`` uint8; 0 is transparent."""
    picture: NDArray[np.uint8] = colour_table(table, int(labels.max(initial=0)))[labels]
    return picture


def write_object_table(path: Path | str, tables: Sequence[Mapping[str, NDArray[Any] | Sequence[Any]]]) -> int:
    """Write the columns of several images below each other as CSV in UTF-8; return the number of lines below the header.

    Parameters
    ----------
    tables
        Columns of equal length by name, one table an image. Where a table lacks a column of another, its fields are
        empty; so are NaN. Truth values are 0 and 1, floating values have 7 digits.
    """
    names = list(dict.fromkeys(name for table in tables for name in table))
    n_lines = 0
    with _csv_rows(path) as rows:
        rows.writerow(names)
        for table in tables:
            length = max((len(column) for column in table.values()), default=0)
            columns = [_texts(table[name]) if name in table else [""] * length for name in names]
            rows.writerows(zip(*columns, strict=True))
            n_lines += length
    return n_lines


def _texts(column: NDArray[Any] | Sequence[Any]) -> list[Any]:
    values = np.asarray(column)
    if values.dtype.kind == "f":
        return ["" if np.isnan(value) else f"{value:.7g}" for value in values.tolist()]
    return values.astype(int).tolist() if values.dtype.kind == "b" else values.tolist()
