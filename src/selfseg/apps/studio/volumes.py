"""Volumes for the 3D view, as uncompressed NIfTI-1 in memory: a header of 348 bytes, then the voxels, X fastest."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError

KINDS = {"uint8": (2, 8), "uint16": (512, 16)}
"""NIfTI's number for each type, and its bits."""

MOST_VOXELS = 2**28
"""Voxels that a browser's graphics card is given; larger volumes are thinned."""


def as_nifti(volume: NDArray[Any], spacing: tuple[float, ...]) -> bytes:
    """Return a volume ``[Z Y X]`` of uint8 or uint16 as NIfTI-1, thinned evenly if it is too large.

    Parameters
    ----------
    volume
        The voxels.
    spacing
        Size of a voxel along Z, Y, X.

    Raises
    ------
    InputError
        If it is no volume.
    """
    if volume.ndim != 3 or min(volume.shape) < 2 or str(volume.dtype) not in KINDS:
        got, fix = f"{volume.dtype} of {volume.shape}", "look at it as a picture"
        raise InputError("3D view", expected="a volume", got=got, fix=fix)
    step = max(1, int(np.ceil((volume.size / MOST_VOXELS) ** (1 / 3))))
    thin = volume[::step, ::step, ::step]
    depth, height, width = thin.shape
    z, y, x = (float(size) * step for size in spacing)
    kind, bits = KINDS[str(volume.dtype)]
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, width, height, depth, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, kind, bits)
    struct.pack_into("<8f", header, 76, 1, x, y, z, 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    struct.pack_into("<h", header, 254, 1)
    # Rows run downwards in a picture, and upwards in NIfTI: the second axis is turned.
    rows = (x, 0, 0, 0), (0, -y, 0, y * height), (0, 0, z, 0)
    struct.pack_into("<12f", header, 280, *(value for row in rows for value in row))
    header[344:348] = b"n+1\0"
    return bytes(header) + np.ascontiguousarray(thin, thin.dtype.newbyteorder("<")).tobytes()
