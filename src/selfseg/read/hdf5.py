"""HDF5: one dataset of a file, by its path or because it is the only image, with h5py (``selfseg[hdf5]``)."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.axes import KNOWN, SPATIAL
from selfseg.core.errors import InputError, explain
from selfseg.read._decoded import DAMAGE, MAX_DEFLATE, Decoded, check_chunk, decoding, needed, split_address
from selfseg.read._lazy_array import check_real, from_sliceable, read_whole
from selfseg.read._tiff_scale import unit_name
from selfseg.read.arrays import guess_axes

MAX_RATIO = {None: 1.0, "gzip": float(MAX_DEFLATE)}
"""Bytes that one stored byte can stand for, by compression; others have no bound."""

MOST_NAMED = 8
"""Datasets named in a message."""


def decode(path: Path, max_bytes: int | None = None, as_labels: bool = False) -> Decoded:
    """Read one dataset: that of the address ``file.h5:/path``, else the only one of two axes or more.

    Axes are taken from ``DIMENSION_LABELS`` (h5py, BigDataViewer), ilastik's ``axistags``, or an attribute ``axes``;
    pixel sizes from ``element_size_um``, or ``spacing`` and ``unit``.

    Parameters
    ----------
    path
        The file or the address.
    max_bytes
        Pixel bytes allowed; None = three quarters of the free memory.
    as_labels
        Changes nothing: values are always as they are in the file.

    Raises
    ------
    InputError
        If h5py is not installed, the file is damaged or too large, or nothing says which dataset is meant.
    """
    return read_whole(open_lazy(path), max_bytes)


def open_lazy(path: Path, as_labels: bool = False, level: int = 0) -> Decoded:
    """Open one dataset without reading it.

    Raises
    ------
    InputError
        As for `decode`.
    """
    file, inside = split_address(path)
    h5py = needed(file, "h5py", "hdf5")
    with decoding(path), contextlib.ExitStack() as stack:
        opened = stack.enter_context(h5py.File(file, "r", locking="best-effort"))
        dataset = _dataset(h5py, path, opened, inside)
        check_real(path, dataset.dtype)
        check_chunk(path, dataset.chunks, dataset.dtype.itemsize)
        axes, guessed = _axes(dataset)
        spacing, unit, offset = _scale(dataset, axes)
        stored = min(int(dataset.id.get_storage_size()), file.stat().st_size)
        ratio = math.inf if stored == 0 or dataset.is_virtual else MAX_RATIO.get(dataset.compression, math.inf)
        stack.pop_all()
        data = from_sliceable(path, dataset, close=opened.close, stored=stored, ratio=ratio)
        return Decoded(data, axes, guessed, spacing, unit, meta={"offset": offset} if offset else {})


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
    fix = f"choose one: {file}:{found[0].name}" if found else "save an image into it"
    expected = f"a dataset {inside!r}" if inside else "one dataset of two axes or more"
    raise InputError(explain(str(path), expected=expected, got=f"{len(found)}: {names}" if found else "none", fix=fix))


def _axes(dataset: Any) -> tuple[str, bool]:
    """Return the axes that the dataset names, else a guess."""
    for letters in (_dimension_labels(dataset), _axistags(dataset), _text(dataset, "axes")):
        axes = letters.upper()
        if len(axes) == dataset.ndim and len(set(axes)) == len(axes) and not set(axes) - set(KNOWN):
            return axes, False
    return guess_axes(dataset.shape)


def _dimension_labels(dataset: Any) -> str:
    # Not through `dataset.dims`: HDF5's function for it crashes on damaged labels.
    try:
        labels = dataset.attrs.get("DIMENSION_LABELS", ())
        return "".join(label.decode() if isinstance(label, bytes) else str(label) for label in labels)
    except DAMAGE:
        return ""


def _axistags(dataset: Any) -> str:
    """Return the axes of ilastik's and vigra's JSON."""
    try:
        return "".join(str(axis["key"]) for axis in json.loads(_text(dataset, "axistags"))["axes"])
    except DAMAGE:
        return ""


def _text(dataset: Any, name: str) -> str:
    try:
        value = dataset.attrs.get(name, "")
        return value.decode() if isinstance(value, bytes) else str(value)
    except DAMAGE:
        return ""


def _scale(dataset: Any, axes: str) -> tuple[dict[str, float], str, dict[str, float]]:
    """Return spacing, unit and offset."""
    letters = [letter for letter in axes if letter in SPATIAL]
    offset = _sizes(dataset, "offset", letters)
    sizes = _sizes(dataset, "spacing", letters)
    if sizes and min(sizes.values()) > 0:
        return sizes, unit_name(_text(dataset, "unit")), offset
    sizes = _sizes(dataset, "element_size_um", [*SPATIAL])  # always three, Z Y X
    if sizes and min(sizes.values()) > 0:
        return sizes, "micrometer", offset
    return {}, "pixel", offset


def _sizes(dataset: Any, name: str, letters: list[str]) -> dict[str, float]:
    try:
        values = np.asarray(dataset.attrs[name], np.float64)
    except DAMAGE:
        return {}
    if values.shape != (len(letters),) or not np.isfinite(values).all():
        return {}
    return {letter: float(value) for letter, value in zip(letters, values, strict=True)}
