"""A raw dataset of nnU-Net v2: ``imagesTr``, ``labelsTr``, ``dataset.json``, with the ignore label."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from selfseg.core.classes import IGNORE, ClassTable
from selfseg.core.errors import InputError, OutputError, UsageError
from selfseg.core.files import remove, write_json, writing
from selfseg.core.image import Image, spatial_axes

FOLDER = re.compile(r"Dataset\d{3}_\w[\w-]*")
"""Names of datasets' folders in nnU-Net."""

READERS = {2: "NaturalImage2DIO", 3: "Tiff3DIO"}
"""nnU-Net's readers of TIFF by number of spatial axes."""

ENDING = ".tif"
RGB = ("red", "green", "blue")
RESERVED = ("background", "ignore")
MOST_CHANNELS = 10000


@dataclass
class _Written:
    """Properties that all cases so far share."""

    names: dict[str, str] = field(default_factory=dict)
    """Case by the name of its image."""
    n_dims: int | None = None
    channels: tuple[str, ...] = ()


def write_nnunet(
    folder: Path | str,
    cases: Iterable[tuple[Image, NDArray[Any]]],
    table: ClassTable,
    background: int,
    failed: Callable[[str, InputError], None] | None = None,
) -> dict[str, str]:
    """Write images and their labels as a dataset that nnU-Net v2 takes for training; return the case by the name of its image.

    Every channel is a TIFF of its own; volumes have their voxel size in ``CASE.json`` beside them, as nnU-Net's reader
    of 3D TIFFs expects. nnU-Net wants background 0, the classes 1, 2, ... without gaps, and ``ignore`` as the highest
    label: so the class `background` becomes 0, the others follow in their order, and our 0 (ignored pixels) becomes the
    highest. Values that are not finite become 0; where an image's valid mask excludes them, the label is ``ignore``.

    Parameters
    ----------
    folder
        Called ``DatasetNNN_NAME``.
    cases
        Images (2D, or volumes) with their class ids ``[*S]``, taken one at a time.
    background
        Id of the class that is nnU-Net's background.
    failed
        Called with the name of an image that cannot be a case, and why; the others are written. None = it is raised.

    Raises
    ------
    UsageError
        If the folder is not called so, or `background` is no class.
    InputError
        If images differ in axes or channels, two have one name, labels do not fit their image, or no case is written.
    OutputError
        If the folder holds cases of another export, or cannot be written.
    """
    folder = Path(folder)
    values = label_values(table, background)
    if not FOLDER.fullmatch(folder.name):
        raise UsageError(
            "folder",
            expected="a name like Dataset501_cells",
            got=folder.name,
            fix="nnU-Net finds datasets by such names",
        )
    remove(folder / "dataset.json")  # without it nnU-Net does not take a half-written dataset for a whole one
    written = _Written()
    for image, labels in cases:
        try:
            _write_case(folder, image, labels, values, written)
        except InputError as error:
            if failed is None:
                raise
            failed(image.name, error)
    if not written.names:
        raise InputError(
            folder,
            expected="at least one image",
            got="none",
            fix="the images themselves are wanted, not only their labels",
        )
    _check_nothing_else(folder, set(written.names.values()))
    names = {item.id: _label_name(item.name, item.id, table) for item in table.classes}
    known = {"background": 0, **{names[i]: int(values[i]) for i in sorted(names) if i != background}}
    facts = {
        "channel_names": {str(i): name for i, name in enumerate(written.channels)},
        "labels": {**known, "ignore": int(values[IGNORE])},
        "numTraining": len(written.names),
        "file_ending": ENDING,
        "overwrite_image_reader_writer": READERS[written.n_dims or 2],
        "description": f"Labels by selfseg, not by hand. Background is the class {names[background]!r}.",
    }
    write_json(folder / "dataset.json", facts)
    return written.names


def label_values(table: ClassTable, background: int) -> NDArray[np.uint8]:
    """Return nnU-Net's value for each of our ids ``[largest id + 1]``: the background 0, then the others, ignore last.

    A background that is no class, or more classes than 8 bits hold, raise `UsageError`.
    """
    ids = sorted(item.id for item in table.classes)
    if background not in ids:
        raise UsageError(
            "background",
            expected=f"one of {ids}",
            got=str(background),
            fix="give the id of the class that is the background",
        )
    if len(ids) > 255:
        raise UsageError(
            "classes", expected="at most 255 for nnU-Net", got=str(len(ids)), fix="merge some classes first"
        )
    values = np.full(max(ids) + 1, len(ids), np.uint8)  # ids that are no class are ignored too
    values[background] = 0
    values[[i for i in ids if i != background]] = np.arange(1, len(ids))
    return values


def case_name(name: str, taken: Iterable[str] = ()) -> str:
    """Return an image's name as one that nnU-Net can have in a file: sub-folders become ``__``.

    With a number behind it if it is taken: many names give the same one. Upper and lower case count as equal, as on some disks.
    """
    plain = case = re.sub(r"[^\w.-]", "_", name.replace("/", "__"))
    others, number = {one.casefold() for one in taken}, 1
    while case.casefold() in others:
        number += 1
        case = f"{plain}_{number}"
    return case


def _write_case(folder: Path, image: Image, labels: NDArray[Any], values: NDArray[np.uint8], written: _Written) -> None:
    name, channels = case_name(image.name, written.names.values()), _channels(image)
    _check_alike(image, name, len(channels), labels, written)
    known = np.where(labels < len(values), labels, IGNORE)
    stored = values[known if image.valid is None else np.where(image.valid, known, IGNORE)]
    for i, channel in enumerate(channels):
        _write_tiff(folder / "imagesTr" / f"{name}_{i:04d}{ENDING}", channel)
    if len(image.spatial_shape) == 3:
        steps = dict(zip(spatial_axes(image.axes), image.spacing, strict=True))
        for kind in ("imagesTr", "labelsTr"):
            write_json(folder / kind / f"{name}.json", {"spacing": [float(steps[letter]) for letter in "ZYX"]})
    # last, so that a case whose label is there is whole
    _write_tiff(folder / "labelsTr" / f"{name}{ENDING}", _ordered(stored, image.axes.replace("C", "")))
    written.names[image.name] = name


def _channels(image: Image) -> list[NDArray[Any]]:
    """Return the channels ``[*S]`` with axes in the order ZYX, as values that every reader takes: no NaN, 32 bits."""
    data = image.channels_last()
    axes = image.axes.replace("C", "")
    planes = [_ordered(data[..., i], axes) for i in range(image.n_channels)]
    return [_plain(plane) for plane in planes]


def _plain(plane: NDArray[Any]) -> NDArray[Any]:
    if plane.dtype.kind == "f":
        return np.nan_to_num(plane, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    return plane if plane.dtype.itemsize <= 2 else plane.astype(np.float32)


def _ordered(data: NDArray[Any], axes: str) -> NDArray[Any]:
    return np.ascontiguousarray(data.transpose([axes.index(letter) for letter in "ZYX" if letter in axes]))


def _check_alike(image: Image, name: str, n_channels: int, labels: NDArray[Any], written: _Written) -> None:
    n_dims, what = len(image.spatial_shape), f"nnU-Net case {name}"
    if "T" in image.axes or n_channels > MOST_CHANNELS:
        raise InputError(
            what, expected="an image or a volume", got=f"axes {image.axes}", fix="give its frames one by one"
        )
    if labels.shape != image.spatial_shape:
        expected, got = str(list(image.spatial_shape)), str(list(labels.shape))
        raise InputError(what, expected=f"labels of {expected}", got=got, fix="use the labels of this image")
    if written.n_dims is None:
        written.n_dims, written.channels = n_dims, _channel_names(image)
    if (n_dims, n_channels) != (written.n_dims, len(written.channels)):
        raise InputError(
            what,
            expected=f"{len(written.channels)} channel(s) in {written.n_dims}D, like the others",
            got=f"{n_channels} in {n_dims}D",
            fix="export them apart: nnU-Net wants equal channels in a dataset",
        )
    if image.name in written.names:
        raise InputError(what, expected="one image of that name", got="another", fix="rename one of the images")


def _channel_names(image: Image) -> tuple[str, ...]:
    if len(image.channels) == image.n_channels:
        return image.channels
    return RGB if image.n_channels == 3 else tuple(f"channel {i + 1}" for i in range(image.n_channels))


def _label_name(name: str, number: int, table: ClassTable) -> str:
    """Return a class name that nnU-Net does not mistake for another."""
    shared = sum(item.name == name for item in table.classes) > 1
    return f"{name} {number}" if shared or name.lower() in RESERVED else name


def _check_nothing_else(folder: Path, names: set[str]) -> None:
    there = {path.name.removesuffix(ENDING) for path in (folder / "labelsTr").glob(f"*{ENDING}")}
    others = sorted(there - names)
    if others:
        raise OutputError(
            folder,
            expected="a new dataset",
            got=f"{len(others)} case(s) of another export, such as {others[0]}",
            fix="remove it, or choose another place with -o",
        )


def _write_tiff(path: Path, data: NDArray[Any]) -> None:
    with writing(path) as temporary:
        tifffile.imwrite(temporary, data, photometric="minisblack", compression="zlib", software="selfseg")
