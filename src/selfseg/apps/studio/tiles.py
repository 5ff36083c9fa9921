"""Pixels in the forms that the page draws: tiles of a plane as raw little-endian values, volumes as NIfTI-1."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.apps.studio.pictures import AXES, TILE, Picture
from selfseg.apps.studio.results import StoredResult
from selfseg.core.errors import InputError, UsageError

MOST_CHANNELS = 4
"""Channels in one tile: those of a texture."""

NIFTI_TYPES = {"uint8": (2, 8), "uint16": (512, 16)}
"""Code of NIfTI for each type, and its bits."""

MOST_VOXELS = 2**28
"""Voxels of a volume for the 3D view at most; larger volumes are thinned."""


@dataclass(frozen=True)
class TilePosition:
    """Position of a tile: plane `index` along an axis ("z", "y", "x") of a frame, level, and the tile's column and row."""

    axis: str
    frame: int
    index: int
    level: int
    x: int
    y: int

    def __post_init__(self) -> None:
        if self.axis not in AXES or min(self.frame, self.index, self.level, self.x, self.y) < 0 or self.level > 30:
            fix = "ask for a tile of the picture"
            raise UsageError("tile", expected="an axis z, y or x and numbers from 0", got=str(self), fix=fix)


def image_tile(picture: Picture, place: TilePosition, channels: list[int]) -> bytes:
    """Return ``[rows columns C]`` of some channels, at most `TILE` wide and high.

    UsageError if there is no such tile or channel.
    """
    n_channels = picture.data.shape[-1]
    if not 1 <= len(channels) <= MOST_CHANNELS or not all(0 <= c < n_channels for c in channels):
        expected = f"1 to {MOST_CHANNELS} channels below {n_channels}"
        raise UsageError("tile", expected=expected, got=str(channels), fix="choose other channels")
    try:
        plane = picture.plane(place.axis, place.frame, place.index, place.level)
    except IndexError as error:
        raise _nowhere(place) from error
    top, left = place.y * TILE, place.x * TILE
    tile = plane[top : top + TILE, left : left + TILE, channels]
    if tile.size == 0:
        raise _nowhere(place)
    return _raw(tile)


def leaf_tile(result: StoredResult, place: TilePosition) -> bytes:
    """Return leaf ids + 1 (0 = outside the mask) as uint32 ``[rows + 2, columns + 2]``: one pixel more on each side."""
    plane = _thin_plane(result.volume("superpixels"), place)
    height, width = plane.shape
    top, left = place.y * TILE, place.x * TILE
    if top >= height or left >= width:
        raise _nowhere(place)
    rows = np.clip(np.arange(top - 1, min(top + TILE, height) + 1), 0, height - 1)
    columns = np.clip(np.arange(left - 1, min(left + TILE, width) + 1), 0, width - 1)
    tile = np.asarray(plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return _raw((tile[np.ix_(rows - rows[0], columns - columns[0])] + 1).astype(np.uint32))


def probability_tile(result: StoredResult, place: TilePosition, sources: list[int]) -> bytes:
    """Return the summed probability of some of the model's classes (0-based), or that of the likeliest, as uint8 0-255."""
    planes = result.volume("probabilities")
    if not all(0 <= source < len(planes) for source in sources):
        raise UsageError("probability", expected=f"classes below {len(planes)}", got=str(sources), fix="choose others")
    top, left = place.y * TILE, place.x * TILE
    wanted = [planes[source] for source in sources] or list(planes)
    tiles = np.stack([_thin_plane(each, place)[top : top + TILE, left : left + TILE] for each in wanted])
    if tiles.size == 0:
        raise _nowhere(place)
    return _raw(np.minimum(tiles.sum(0, dtype=np.uint32), 255).astype(np.uint8) if sources else tiles.max(0))


def _thin_plane(volume: NDArray[Any], place: TilePosition) -> NDArray[Any]:
    """Return every 2^level-th pixel of a plane: ids have no means."""
    first = AXES[place.axis][0]
    if place.frame < 0 or place.index >= volume.shape[first]:
        raise _nowhere(place)
    step = 2**place.level
    plane = volume[(slice(None),) * first + (place.index,)]
    return plane[::step, ::step]


def _raw(tile: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(tile, tile.dtype.newbyteorder("<")).tobytes()


def _nowhere(place: TilePosition) -> UsageError:
    return UsageError("tile", expected="one inside the picture", got=str(place), fix="ask for one of the picture's own")


def as_nifti(volume: NDArray[Any], spacing: tuple[float, ...]) -> bytes:
    """Return a volume ``[Z Y X]`` of uint8 or uint16 as uncompressed NIfTI-1, thinned evenly if it is too large.

    Parameters
    ----------
    volume
        The voxels.
    spacing
        Size of a voxel along Z, Y, X.

    InputError if it is not a volume.
    """
    if volume.ndim != 3 or min(volume.shape) < 2 or str(volume.dtype) not in NIFTI_TYPES:
        got = f"{volume.dtype} of {volume.shape}"
        raise InputError("3D view", expected="a volume", got=got, fix="look at it as a picture")
    step = max(1, int(np.ceil((volume.size / MOST_VOXELS) ** (1 / 3))))
    thin = volume[::step, ::step, ::step]
    depth, height, width = thin.shape
    z, y, x = (float(size) * step for size in spacing)
    kind, bits = NIFTI_TYPES[str(volume.dtype)]
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, width, height, depth, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, kind, bits)
    struct.pack_into("<8f", header, 76, 1, x, y, z, 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    struct.pack_into("<h", header, 254, 1)
    # Rows run downwards in a picture, and upwards in NIfTI: the second axis is flipped.
    rows = (x, 0, 0, 0), (0, -y, 0, y * height), (0, 0, z, 0)
    struct.pack_into("<12f", header, 280, *(value for row in rows for value in row))
    header[344:348] = b"n+1\0"
    return bytes(header) + np.ascontiguousarray(thin, thin.dtype.newbyteorder("<")).tobytes()
