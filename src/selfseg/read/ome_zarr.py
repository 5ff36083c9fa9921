"""OME-Zarr 0.1 to 0.5 (NGFF) and plain zarr arrays, versions 2 and 3, with zarr (``selfseg[zarr]``)."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from selfseg.core.errors import InputError
from selfseg.core.image import KNOWN
from selfseg.core.units import common_unit, seconds
from selfseg.read._lazy_array import check_real, from_sliceable, shown
from selfseg.read._no_data import fill_values
from selfseg.read._tiff_metadata import known_geotiff
from selfseg.read.arrays import (
    DAMAGE,
    Decoded,
    check_chunk,
    check_level,
    damaged,
    decoding,
    named_axes,
    needed,
    split_address,
)

MARKS = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
"""Files of which every zarr group or array has one."""

# fmt: off
CODECS = frozenset((
    "adler32", "astype", "bitround", "blosc", "bytes", "bz2", "cast_value", "crc32", "crc32c", "delta", "fixedscaleoffset",
    "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "pcodec", "quantize", "sharding_indexed", "shuffle",
    "transpose", "zfpy", "zlib", "zstd",
))
# fmt: on
"""Codecs that only compute. Others are refused before a byte is decoded: ``pickle`` would run code from the file."""

MOST_NAMED = 8

VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5")
"""Versions of NGFF that are known here."""

DEPTH = 3
"""Folders below a plate in which its images are: row, column, field."""


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a zarr group or array."""
    return any((path / mark).is_file() for mark in MARKS)


def open_file(path: Path, max_bytes: int | None, as_labels: bool, level: int = 0) -> Decoded:
    """Open one level of a multiscale image, or a plain array; nothing is read, and `max_bytes` changes nothing.

    Axes, pixel sizes, units and channel names are those of the NGFF metadata; axes of length 1 other than Y and X are left
    out. Chunks that are missing have the array's fill value: by the format, so a lost chunk cannot be noticed.
    `path` may be a folder inside (``x.zarr/0``), `level` 0 is the finest. As labels, open the label image of an image that has
    exactly one (``x.zarr/labels/NAME``).

    Raise `InputError` if zarr is not installed, the metadata are damaged, there are several images, a codec is unknown, or there is
    no such level.
    """
    file, inside = split_address(path)
    folder = file / inside
    zarr = needed(path, "zarr", "zarr")
    with decoding(path):
        folder, attributes = _image_group(path, folder, as_labels)
        multiscale = _multiscale(attributes)
        if multiscale is None:
            return _plain(path, zarr, folder, level, as_labels)
        datasets = multiscale["datasets"]
        check_level(path, level, len(datasets))
        array = _array(path, zarr, folder / _safe(path, str(datasets[level]["path"])))
        decoded = _described(path, array, attributes, multiscale, level)
        return decoded if as_labels else _without_fill(decoded, array)


def read_attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group or array, of either zarr version; NGFF 0.5 keeps its own under ``ome``."""
    if (folder / "zarr.json").is_file():
        attributes = json.loads((folder / "zarr.json").read_text(encoding="utf-8")).get("attributes") or {}
    elif (folder / ".zattrs").is_file():
        attributes = json.loads((folder / ".zattrs").read_text(encoding="utf-8"))
    else:
        attributes = {}
    ome = attributes.get("ome")
    return {**attributes, **ome} if isinstance(ome, dict) else dict(attributes)


def is_image(folder: Path) -> bool:
    """Tell whether a folder is the group of an image, or of a well, of whatever name: a field inside a plate for example."""
    return bool({"multiscales", "well"} & _known_attributes(folder).keys())


def field_name(folder: Path, root: Path | None = None) -> str | None:
    """Return the name of a field, or a well, of a plate: plate, row, column and number; None = it is in none.

    Found by a search that begins at `root`, it has the folders between `root` and the plate before it; if `root` is the plate, or in it,
    the name is without the plate.
    """
    if not folder.is_dir() or not is_zarr(folder):
        return None
    above = list(folder.parents)[:DEPTH]
    plate = next((one for one in above if is_zarr(one) and "plate" in _known_attributes(one)), None)
    if plate is None:
        return None
    inside, stem = folder.relative_to(plate), plate.name.removesuffix(".zarr").removesuffix(".ome")
    if root is not None and root.is_relative_to(plate):
        return inside.as_posix()
    return ((plate.parent.relative_to(root) if root else Path()) / stem / inside).as_posix()


def fields_of(folder: Path) -> list[Path]:
    """Return the fields of a plate, or of a well, in the order of its wells; empty for anything else.

    What the plate names and is not there is among them, and fails when it is read.
    """
    attributes, fields = _known_attributes(folder), list[Path]()
    with decoding(folder):
        wells = [row["path"] for row in (attributes.get("plate") or {}).get("wells") or ()]
        for well in [folder / _safe(folder, str(path)) for path in wells] or [folder] * ("well" in attributes):
            images = (_known_attributes(well).get("well") or {}).get("images")
            fields += [well / _safe(folder, str(row["path"])) for row in images or ()] if images else [well]
    return fields


def _known_attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group; none of what is no group, or damaged, which is said when it is read."""
    try:
        return read_attributes(folder) if is_zarr(folder) else {}
    except DAMAGE:
        return {}


def _image_group(path: Path, folder: Path, as_labels: bool) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the one image that is meant, and its attributes."""
    if not is_zarr(folder):
        raise damaged(path, "the folder holds none of " + ", ".join(MARKS))
    attributes = read_attributes(folder)
    if as_labels and is_zarr(folder / "labels"):
        names = [str(name) for name in read_attributes(folder / "labels").get("labels") or ()]
        if len(names) != 1:
            raise _several(path, "label image", [f"labels/{name}" for name in names])
        folder = folder / "labels" / _safe(path, names[0])
        return folder, read_attributes(folder)
    if "plate" in attributes or "well" in attributes or "bioformats2raw.layout" in attributes:
        images = [item for item in _below(folder) if _multiscale(read_attributes(item)) is not None]
        if len(images) != 1:
            raise _several(path, "image", [item.relative_to(folder).as_posix() for item in images])
        return images[0], read_attributes(images[0])
    return folder, attributes


def _below(folder: Path, depth: int = DEPTH) -> list[Path]:
    """Return the groups below a folder: a plate keeps its images at ROW/COLUMN/FIELD."""
    groups = sorted(item for item in folder.iterdir() if item.is_dir() and is_zarr(item)) if depth else []
    return [deep for item in groups for deep in (item, *_below(item, depth - 1)) if item.name not in ("labels", "OME")]


def _several(path: Path, kind: str, names: Sequence[str]) -> InputError:
    shown = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return InputError(
        path,
        expected=f"one {kind}",
        got=f"{len(names)}: {shown}",
        fix=f"choose one: {path}/{names[0]}" if names else "check the file",
    )


def _safe(path: Path, inside: str) -> PurePosixPath:
    """Return a place that metadata name, if it does not lead out of the folder."""
    place = PurePosixPath(inside)
    if place.is_absolute() or ".." in place.parts or "\0" in inside or "\\" in inside:
        raise damaged(path, f"its metadata point outside of it, to {inside!r}")
    return place


def _multiscale(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    scales = attributes.get("multiscales")
    return dict(scales[0]) if scales else None


def _array(path: Path, zarr: Any, folder: Path) -> Any:
    """Open an array after its codecs have been looked at."""
    described = folder / ("zarr.json" if (folder / "zarr.json").is_file() else ".zarray")
    metadata = json.loads(described.read_text(encoding="utf-8"))
    strange = sorted(set(_codecs(metadata)) - CODECS)
    if strange:
        raise InputError(
            path, expected="codecs of numbers", got=", ".join(strange)[:80], fix="save it with zstd, blosc or gzip"
        )
    array = zarr.open_array(zarr.storage.LocalStore(folder, read_only=True), mode="r")
    check_real(path, array.dtype)
    check_chunk(path, array.shards or array.chunks, array.dtype.itemsize)
    check_chunk(path, array.chunks, array.dtype.itemsize)
    return array


def _codecs(metadata: Mapping[str, Any]) -> list[str]:
    """Return the names of all codecs of an array, without ``numcodecs.`` before them."""
    names = []
    for codec in [metadata.get("compressor"), *(metadata.get("filters") or ()), *(metadata.get("codecs") or ())]:
        if codec is not None:
            names.append(str(codec.get("id") or codec.get("name")).removeprefix("numcodecs."))
            inner = codec.get("configuration") or {}
            names += _codecs({"codecs": [*(inner.get("codecs") or ()), *(inner.get("index_codecs") or ())]})
    return names


def _plain(path: Path, zarr: Any, folder: Path, level: int, as_labels: bool) -> Decoded:
    """Open an array without NGFF metadata: the folder itself, or the only array in it."""
    arrays = [folder] if _is_array(folder) else [item for item in _below(folder) if _is_array(item)]
    if len(arrays) != 1:
        raise _several(path, "image or array", [item.relative_to(folder).as_posix() for item in arrays])
    if level:
        raise InputError(path, expected="level 0: it is no pyramid", got=str(level), fix="leave the level out")
    array = _array(path, zarr, arrays[0])
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    axes = "".join(str(name)[:1].upper() for name in names)
    decoded = Decoded(from_sliceable(path, array), *named_axes([axes], array.shape, path))
    return decoded if as_labels else _without_fill(decoded, array)


def _without_fill(decoded: Decoded, array: Any) -> Decoded:
    """Return an array whose values of ``_FillValue`` and ``missing_value`` are not valid.

    Zarr's own fill value is only what is not stored.
    """
    return replace(decoded, valid=shown(decoded.data, decoded.axes, fill_values(dict(array.attrs), array.dtype)))


def _is_array(folder: Path) -> bool:
    if (folder / "zarr.json").is_file():
        node = json.loads((folder / "zarr.json").read_text(encoding="utf-8")).get("node_type")
        return bool(node == "array")
    return (folder / ".zarray").is_file()


def _described(
    path: Path, array: Any, attributes: Mapping[str, Any], multiscale: dict[str, Any], level: int
) -> Decoded:
    letters, units = _axes(multiscale, array.ndim, level)
    several = len(attributes["multiscales"])
    scale, offset, notes = _transform(multiscale, level, letters)
    version = str(attributes.get("version") or multiscale.get("version") or VERSIONS[0])
    if several > 1:
        notes = (f"it holds {several} multiscale images; the first is read", *notes)
    if version not in VERSIONS:
        notes = (f"its metadata are of NGFF {version}; what is newer than {VERSIONS[-1]} may be overlooked", *notes)
    keep = [i for i, letter in enumerate(letters) if letter in "YX" or array.shape[i] > 1]
    axes = "".join(letters[i] for i in keep)
    spatial = [i for i, letter in enumerate(letters) if letter in "ZYX"]
    named = {letters[i]: units[i] for i in spatial}
    sizes = {letters[i]: scale[i] for i in spatial} if scale else {}
    spacing, unit, strange = common_unit(sizes, named)
    start, _, _ = common_unit({letters[i]: offset[i] for i in spatial}, named)
    n_channels = array.shape[letters.index("C")] if "C" in axes else 1
    start = {letter: value for letter, value in start.items() if letter in axes}
    meta: dict[str, Any] = {"offset": start} if any(start.values()) else {}
    time = letters.find("T")
    interval = seconds(scale[time], units[time]) if scale and "T" in axes and units[time] else None
    meta |= {} if interval is None else {"interval": interval}
    geotiff = known_geotiff(array.attrs.get("geotiff"))
    meta |= {"geotiff": geotiff} if geotiff else {}
    data = from_sliceable(path, array).arranged(keep)
    return Decoded(
        data, axes, False, spacing, unit, _channels(attributes, n_channels), meta=meta, notes=(*notes, *strange)
    )


def _axes(multiscale: Mapping[str, Any], ndim: int, level: int) -> tuple[str, list[str]]:
    """Return letters and units.

    NGFF 0.1 and 0.2 have five fixed axes, 0.3 has names, 0.4 and 0.5 also types and units; 0.6 has them in a coordinate system.
    """
    given = multiscale.get("axes") or _system(multiscale, level) or [*"tczyx"][-ndim:]
    rows = [row if isinstance(row, dict) else {"name": row} for row in given]
    letters = "".join(_letter(row) for row in rows)
    if len(letters) != ndim or len(set(letters)) != ndim or not set("YX") <= set(letters) <= set(KNOWN):
        names = ", ".join(str(row.get("name")) for row in rows)
        raise ValueError(f"{ndim} axes, called {names}")
    return letters, [str(row.get("unit") or "") for row in rows]


def _system(multiscale: Mapping[str, Any], level: int) -> list[Any]:
    """Return the axes of the coordinate system into which the transformation of a level leads."""
    systems = multiscale.get("coordinateSystems") or ()
    own: Sequence[Any] = multiscale["datasets"][level].get("coordinateTransformations") or ({},)
    output = own[-1].get("output")
    name = output.get("name") if isinstance(output, dict) else output
    return list(next((one for one in systems if one.get("name") == name), [*systems, {}][0]).get("axes") or ())


def _letter(row: Mapping[str, Any]) -> str:
    kinds = {"time": "T", "channel": "C"}
    return kinds.get(str(row.get("type"))) or str(row.get("name"))[:1].upper()


def _transform(
    multiscale: Mapping[str, Any], level: int, letters: str
) -> tuple[list[float], list[float], tuple[str, ...]]:
    """Return scale and translation of a level: its own, then those of the whole image; and a note on what was not applied.

    Where a level's own transformation is more than that (an affine matrix, a rotation), there is no scale.
    """
    own = list(_flat(multiscale["datasets"][level].get("coordinateTransformations") or ()))
    further = list(_flat(multiscale.get("coordinateTransformations") or ()))
    if not own and level:
        raise ValueError(f"no scale for level {level}")
    strange = [str(step.get("type")) for step in (*own, *further) if not _is_known(step)]
    notes: tuple[str, ...] = ()
    if strange:
        unknown = not all(map(_is_known, own))
        further = []
        what = "pixel sizes and place are taken as unknown" if unknown else "they are not applied"
        notes = (
            f"its transformations ({', '.join(dict.fromkeys(strange))}) are more than scale and translation: {what}",
        )
        if unknown:
            return [], [0.0] * len(letters), notes
    scale, offset = _applied([*own, *further], len(letters))
    spatial = [i for i, letter in enumerate(letters) if letter in "ZYX"]  # a scale of time or channels may be anything
    if not all(math.isfinite(scale[i]) and scale[i] > 0 and math.isfinite(offset[i]) for i in spatial):
        raise ValueError(f"pixel sizes {[scale[i] for i in spatial]}, offsets {[offset[i] for i in spatial]}")
    return scale, offset, notes


def _flat(steps: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps of transformations, also of sequences of them, without those that change nothing."""
    for step in steps:
        if step.get("type") == "sequence":
            yield from _flat(step.get("transformations") or ())
        elif step.get("type") != "identity":
            yield step


def _is_known(step: Mapping[str, Any]) -> bool:
    return step.get("type") in ("scale", "translation") and step["type"] in step


def _applied(steps: Iterable[Mapping[str, Any]], ndim: int) -> tuple[list[float], list[float]]:
    scale, offset = [1.0] * ndim, [0.0] * ndim
    for step in steps:
        numbers = _numbers(step[step["type"]], ndim)
        if step["type"] == "scale":
            scale = [a * b for a, b in zip(scale, numbers, strict=True)]
            offset = [a * b for a, b in zip(offset, numbers, strict=True)]
        else:
            offset = [a + b for a, b in zip(offset, numbers, strict=True)]
    return scale, offset


def _numbers(values: Sequence[Any], ndim: int) -> list[float]:
    if len(values) != ndim:
        raise ValueError(f"{len(values)} factors for {ndim} axes")
    return [float(value) for value in values]


def _channels(attributes: Mapping[str, Any], n_channels: int) -> tuple[str, ...]:
    rows = (attributes.get("omero") or {}).get("channels") or ()
    names = tuple(str(row.get("label") or "") for row in rows)
    return names if len(names) == n_channels and all(names) else ()
