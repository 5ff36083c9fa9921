"""MRC / CCP4 images, stacks and volumes, by the header of MRC2014 (Cheng et al., J Struct Biol 192, 2015)."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.errors import InputError
from selfseg.read._lazy_array import FileArray, from_sliceable
from selfseg.read.arrays import Decoded, decoding

HEADER = np.dtype(
    [
        *((name, "<i4") for name in ("nx", "ny", "nz", "mode", "nxstart", "nystart", "nzstart", "mx", "my", "mz")),
        ("cella", "<f4", (3,)),
        ("cellb", "<f4", (3,)),
        *((name, "<i4") for name in ("mapc", "mapr", "maps")),
        *((name, "<f4") for name in ("dmin", "dmax", "dmean")),
        ("ispg", "<i4"),
        ("nsymbt", "<i4"),
        ("extra1", "V8"),
        ("exttyp", "S4"),
        ("nversion", "<i4"),
        ("extra2", "V40"),
        ("imod_stamp", "<i4"),
        ("imod_flags", "<i4"),
        ("extra3", "V36"),
        ("origin", "<f4", (3,)),
        ("map", "S4"),
        ("machst", "u1", (4,)),
        ("rms", "<f4"),
        ("nlabl", "<i4"),
        ("label", "S80", (10,)),
    ]
)
"""The first 1024 bytes. Triples are X Y Z; nx, ny, nz are columns, rows and sections."""

TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""NumPy type by the header's mode; 3 and 4 are complex, 101 packs two values into a byte."""

LITTLE, BIG = 0x44, 0x11
"""First byte of the machine stamp."""

IMAGE_STACK, VOLUMES = 0, 401
"""Space groups of separate images and (from here on) of series of volumes; 1 to 230 are one volume."""

IMOD_STAMP, IMOD_SIGNED = 1146047817, 1
"""IMOD writes unsigned bytes in mode 0 unless the first bit of its flags is set (its own page on the format)."""

UNIT = "angstrom"


def open_file(path: Path, max_bytes: int | None, as_labels: bool) -> Decoded:
    """Open one image, stack or volume; nothing is read, and `max_bytes` and `as_labels` change nothing.

    Axes are turned to Z Y X where the header orders them differently (MAPC, MAPR, MAPS). Pixel sizes are the cell over
    the sampling, in angstrom. Raise `InputError` if the file is damaged or truncated, or holds no real numbers.
    """
    with decoding(path):
        header = _header(path)
        dtype = _dtype(path, header)
        shape, letters = _shape(header)
        start = HEADER.itemsize + max(0, int(header["nsymbt"]))
        stored = path.stat().st_size - start
        if min(shape) < 1 or math.prod(shape) * dtype.itemsize > stored:
            size = " x ".join(str(n) for n in shape)
            raise ValueError(f"{max(stored, 0)} bytes for {size} values of {dtype.itemsize} bytes")
        data = from_sliceable(path, FileArray(path, dtype, start, shape), stored=stored, ratio=1.0)
    axes = "".join(a for a in "TZYX" if a in letters and (a in "YX" or shape[letters.index(a)] > 1))
    data = data.arranged([letters.index(letter) for letter in axes])
    guessed = "Z" in axes and int(header["ispg"]) == IMAGE_STACK
    spacing = _spacing(header)
    return Decoded(data, axes, guessed, spacing, UNIT if spacing else "pixel", meta=_place(header))


def _header(path: Path) -> Any:
    with path.open("rb") as file:
        content = file.read(HEADER.itemsize)
    if len(content) < HEADER.itemsize:
        raise ValueError(f"{len(content)} bytes, less than a header")
    header = np.frombuffer(content, HEADER)[0]
    stamp, mode = int(header["machst"][0]), int(header["mode"])
    if stamp == BIG or (stamp != LITTLE and not 0 <= mode < 256):
        header = np.frombuffer(content, HEADER.newbyteorder(">"))[0]
    return header


def _dtype(path: Path, header: Any) -> np.dtype[Any]:
    mode = int(header["mode"])
    if mode not in TYPES:
        known, fix = ", ".join(str(key) for key in TYPES), "save real numbers, one a pixel"
        raise InputError(path, expected=f"an MRC file of mode {known}", got=f"mode {mode}", fix=fix)
    if mode == 0 and int(header["imod_stamp"]) == IMOD_STAMP and not int(header["imod_flags"]) & IMOD_SIGNED:
        return np.dtype("u1")
    kind = np.dtype(TYPES[mode])
    return kind if header.dtype["mode"].isnative else kind.newbyteorder("S")


def _shape(header: Any) -> tuple[tuple[int, ...], str]:
    """Return the sizes in the file's order, and the letters of the axes."""
    sections, rows, columns = (int(header[name]) for name in ("nz", "ny", "nx"))
    letters = _letters(header)
    depth = int(header["mz"])
    if int(header["ispg"]) >= VOLUMES and 0 < depth < sections and sections % depth == 0:
        return (sections // depth, depth, rows, columns), "T" + letters
    return (sections, rows, columns), letters


def _letters(header: Any) -> str:
    """Return the letters of sections, rows and columns."""
    order = [int(header[name]) for name in ("maps", "mapr", "mapc")]
    return "".join("XYZ"[i - 1] for i in order) if sorted(order) == [1, 2, 3] else "ZYX"


def _spacing(header: Any) -> dict[str, float]:
    counts = (int(header[name]) for name in ("mx", "my", "mz"))
    sizes = [float(cell) / count if count > 0 else 0.0 for cell, count in zip(header["cella"], counts, strict=True)]
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        return {}
    return dict(zip("XYZ", sizes, strict=True))


def _place(header: Any) -> dict[str, Any]:
    """Return what keeps the volume where it is: the origin, and the number of the first column, row and section."""
    origin = tuple(float(value) for value in header["origin"])
    starts = (int(header[name]) for name in ("nzstart", "nystart", "nxstart"))
    by_letter = dict(zip(_letters(header), starts, strict=True))
    if not all(math.isfinite(value) for value in origin):
        origin = (0.0, 0.0, 0.0)
    return {"mrc": {"origin": origin, "start": tuple(by_letter[letter] for letter in "XYZ")}}
