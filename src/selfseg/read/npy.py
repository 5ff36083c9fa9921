"""NumPy files: one array of a ``.npy`` (read window by window) or ``.npz``, never unpickled."""

import math
import tokenize
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.core.image import spatial_axes
from selfseg.read._lazy_array import FileArray, check_real, from_sliceable
from selfseg.read.arrays import (
    MAX_DEFLATE,
    Decoded,
    by_letter,
    check_size,
    decoding,
    guess_axes,
    named_axes,
    quiet,
    split_address,
)

MAX_STORED = {zipfile.ZIP_STORED: 1.0, zipfile.ZIP_DEFLATED: float(MAX_DEFLATE)}
"""Bytes that one stored byte can stand for, by the compression of a member of an NPZ file."""

COMPANIONS = ("axes", "spacing", "unit", "offset")
"""Small arrays of an NPZ file that say what the large one is: those that the export writes."""


def open_file(path: Path, max_bytes: int | None, as_labels: bool) -> Decoded:
    """Open one array, or read that of an NPZ file, which has no parts; an address ``file.npz:/name`` chooses one of several.

    Axes are guessed, unless an NPZ file has small arrays ``axes`` (a string), ``spacing`` and ``unit`` beside the large.

    Values are always as they are in the file: `as_labels` changes nothing. Raise `InputError` if the file is damaged,
    holds pickled objects, several arrays, or none, or an array of an NPZ file is too large.
    """
    file, inside = split_address(path)
    with decoding(path, zipfile.BadZipFile, tokenize.TokenError):
        if _is_archive(file):
            return _decode_archive(path, file, inside, max_bytes)
        with file.open("rb") as opened:
            shape, fortran, dtype = _header(opened)
            start = opened.tell()
            stored = file.stat().st_size - start
        check_real(path, dtype)
        if math.prod(shape) * dtype.itemsize > stored:
            raise ValueError(f"{stored} bytes for {math.prod(shape)} values of type {dtype}")
        axes, guessed = guess_axes(shape, str(path))
        values = FileArray(file, dtype, start, shape, order="F" if fortran else "C")
        return Decoded(from_sliceable(path, values, stored=stored, ratio=1.0), axes, guessed)


def _is_archive(file: Path) -> bool:
    with file.open("rb") as start:
        return start.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _header(file: BinaryIO | Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and type out of a NPY header, leaving `file` at the first value."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"NPY version {version[0]}.{version[1]}, which holds no plain array of numbers")
    with quiet("numpy"):
        shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _decode_archive(path: Path, file: Path, inside: str, max_bytes: int | None) -> Decoded:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = _chosen(path, archive, members, inside)
        array = _load(path, archive, members[wanted], max_bytes)
        extra = {
            name: _load(path, archive, members[name], 1 << 16)
            for name in COMPANIONS
            if name in members and name != wanted and members[name].file_size < 1 << 12
        }
    return _described(path, array, extra)


def _chosen(path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], inside: str) -> str:
    if inside:
        if inside in members:
            return inside
        raise InputError(
            path,
            expected=f"an array {inside!r}",
            got=f"the arrays {', '.join(members)}"[:200],
            fix="choose one of them",
        )
    images = []
    for name, info in members.items():
        with archive.open(info) as member:
            shape, _, dtype = _header(member)
        if len(shape) >= 2 and dtype.kind in "buifO":
            images.append(name)
    if len(images) != 1:
        raise InputError(
            path,
            expected="one array of two axes or more",
            got=f"{len(images)}: {', '.join(images)}"[:200] if images else "none",
            fix=f"choose one: {path}:/{images[0]}" if images else "save an image into it",
        )
    return images[0]


def _load(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int | None) -> NDArray[Any]:
    with archive.open(info) as member:
        shape, fortran, dtype = _header(member)
        if dtype.hasobject:
            check_real(path, dtype)
        ratio = MAX_STORED.get(info.compress_type, math.inf)
        if shape:
            check_size(path, shape, dtype.itemsize, info.compress_size, max_bytes, ratio)
        content = member.read()
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for the {math.prod(shape)} values of {info.filename}")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _described(path: Path, array: NDArray[Any], extra: dict[str, NDArray[Any]]) -> Decoded:
    words = {name: str(extra[name]) for name in ("axes", "unit") if name in extra and extra[name].dtype.kind == "U"}
    axes, guessed = named_axes([words.get("axes", "")], array.shape, path)
    if guessed or "axes" not in words:
        return Decoded(array, axes, guessed)
    spacing, offset = (by_letter(extra.get(name), spatial_axes(axes)) for name in ("spacing", "offset"))
    sound = spacing if min(spacing.values(), default=0) > 0 else {}
    return Decoded(array, axes, False, sound, words.get("unit", "pixel"), meta={"offset": offset} if offset else {})
