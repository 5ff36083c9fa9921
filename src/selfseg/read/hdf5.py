"""HDF5: one dataset of a file, by its path or because it is the only image, with h5py (``selfseg[hdf5]``)."""

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.errors import InputError
from selfseg.core.image import SPATIAL, spatial_axes
from selfseg.core.units import unit_name
from selfseg.read._lazy_array import check_real, from_sliceable, shown
from selfseg.read._no_data import FILL_ATTRIBUTES, fill_values
from selfseg.read.arrays import (
    DAMAGE,
    MAX_DEFLATE,
    Decoded,
    by_letter,
    check_chunk,
    decoding,
    named_axes,
    needed,
    split_address,
)

MAX_RATIO = {None: 1.0, "gzip": float(MAX_DEFLATE)}
"""Bytes that one stored byte can stand for, by compression; others have no bound."""

TEXTS = ("axes", "DIMENSION_LABELS", "axistags", "unit")
NUMBERS = ("element_size_um", "spacing", "offset", *FILL_ATTRIBUTES)
"""Attributes that describe an image."""

LARGEST_ATTRIBUTE = 1 << 16
"""Bytes of such an attribute, at most."""

MOST_NAMED = 8
"""Datasets named in a message."""

# HDF5 keeps texts of free length on a heap whose lengths and addresses its library believes: where they are damaged, it crashes, or
# fills gigabytes. A child process that dies or takes too long costs one line instead.
SECONDS = 8.0
"""Longest time that the texts of one dataset may take."""

MEMORY = 4 << 30
"""Address space of the child, in bytes, where the system can limit it."""

SCRIPT = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[4]), int(sys.argv[4])))
except (ImportError, ValueError, OSError):
    pass
import h5py
import numpy
texts = {}
with h5py.File(sys.argv[1], "r", locking="best-effort") as file:
    for name in sys.argv[3].split():
        values = numpy.ravel(file[sys.argv[2]].attrs[name]).tolist()
        texts[name] = [value.decode() if isinstance(value, bytes) else str(value) for value in values]
print(json.dumps(texts))
"""


def open_file(path: Path, max_bytes: int | None, as_labels: bool) -> Decoded:
    """Open one dataset: that of the address ``file.h5:/path``, else the only one of two axes or more.

    Axes are taken from ``DIMENSION_LABELS`` (h5py, BigDataViewer), ilastik's ``axistags``, or an attribute ``axes``;
    pixel sizes from ``element_size_um``, or ``spacing`` and ``unit``. Values of ``_FillValue`` and ``missing_value`` are not valid,
    unless they are labels.

    Nothing is read, and values are always as they are in the file: `max_bytes` changes nothing. Raise
    `InputError` if h5py is not installed, the file is damaged, or the dataset is ambiguous.
    """
    file, inside = split_address(path)
    h5py = needed(file, "h5py", "hdf5")
    with decoding(path), contextlib.ExitStack() as stack:
        opened = stack.enter_context(h5py.File(file, "r", locking="best-effort"))
        dataset = _dataset(h5py, path, opened, inside)
        check_real(path, dataset.dtype)
        check_chunk(path, dataset.chunks, dataset.dtype.itemsize)
        attributes = _attributes(h5py, file, dataset)
        named = [_text(attributes, "axes"), _text(attributes, "DIMENSION_LABELS"), _axistags(attributes)]
        axes, guessed = named_axes(named, dataset.shape, path)
        spacing, unit, offset = _scale(attributes, axes)
        stored = min(int(dataset.id.get_storage_size()), file.stat().st_size)
        ratio = math.inf if stored == 0 or dataset.is_virtual else MAX_RATIO.get(dataset.compression, math.inf)
        stack.pop_all()
        data = from_sliceable(path, dataset, close=opened.close, stored=stored, ratio=ratio)
        valid = shown(data, axes, [] if as_labels else fill_values(attributes, dataset.dtype))
        return Decoded(data, axes, guessed, spacing, unit, valid=valid, meta={"offset": offset} if offset else {})


def _dataset(h5py: Any, path: Path, opened: Any, inside: str) -> Any:
    """Return the dataset that is meant."""
    if inside:
        item = opened.get(inside)
        if isinstance(item, h5py.Dataset):
            return item
        opened = item if isinstance(item, h5py.Group) else opened
    found: list[Any] = []

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "buif" and item.size:
            found.append(item)

    opened.visititems(keep)
    if len(found) == 1 and (not inside or isinstance(item, h5py.Group)):
        return found[0]
    file, _ = split_address(path)
    names = ", ".join(item.name for item in found[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
    raise InputError(
        path,
        expected=f"a dataset {inside!r}" if inside else "one dataset of two axes or more",
        got=f"{len(found)}: {names}" if found else "none",
        fix=f"choose one: {file}:{found[0].name}" if found else "save an image into it",
    )


def _attributes(h5py: Any, file: Path, dataset: Any) -> dict[str, Any]:
    """Return those attributes that describe an image; a damaged one may claim to be of any size, and is left out."""
    found: dict[str, Any] = {}
    texts = []
    for name in TEXTS + NUMBERS:
        with contextlib.suppress(*DAMAGE):
            stored = dataset.attrs.get_id(name)
            text = h5py.check_string_dtype(stored.dtype)
            if math.prod(stored.shape) * stored.dtype.itemsize > LARGEST_ATTRIBUTE:
                continue
            if text is not None and text.length is None:
                texts.append(name)
            elif text is not None or stored.dtype.kind in "iuf":
                found[name] = dataset.attrs[name]
    if "axes" in found:
        texts = [name for name in texts if name not in ("DIMENSION_LABELS", "axistags")]
    return {**found, **(_texts(file, dataset.name, texts) if texts else {})}


def _texts(file: Path, dataset: str, names: list[str]) -> dict[str, list[str]]:
    """Return attributes of a dataset that are texts, each as a list; `ValueError` if the child that reads them fails."""
    # -P: the folder that the user stands in is no place to import from
    words = [sys.executable, "-P", "-c", SCRIPT, str(file), dataset, " ".join(names), str(MEMORY)]
    try:
        done = subprocess.run(words, capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise ValueError("its attributes take too long to be read") from error
    if done.returncode != 0:
        raise ValueError("its attributes cannot be read")
    texts: dict[str, list[str]] = json.loads(done.stdout)
    return texts


def _text(attributes: Mapping[str, Any], name: str) -> str:
    parts = np.ravel(attributes.get(name, ())).tolist()
    return "".join(part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in parts)


def _axistags(attributes: Mapping[str, Any]) -> str:
    """Return the axes of ilastik's and vigra's JSON."""
    try:
        return "".join(str(axis["key"]) for axis in json.loads(_text(attributes, "axistags"))["axes"])
    except DAMAGE:
        return ""


def _scale(attributes: Mapping[str, Any], axes: str) -> tuple[dict[str, float], str, dict[str, float]]:
    """Return spacing, unit and offset."""
    offset, sizes = (by_letter(attributes.get(name), spatial_axes(axes)) for name in ("offset", "spacing"))
    if sizes and min(sizes.values()) > 0:
        return sizes, unit_name(_text(attributes, "unit")), offset
    sizes = by_letter(attributes.get("element_size_um"), SPATIAL)  # always three, Z Y X
    if sizes and min(sizes.values()) > 0:
        return sizes, "micrometer", offset
    return {}, "pixel", offset
