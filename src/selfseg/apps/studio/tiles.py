"""Tiles: pieces of a plane at a level, as raw little-endian values that the page hands to its graphics card."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.apps.studio.pictures import AXES, TILE, Picture
from selfseg.apps.studio.results import StoredResult
from selfseg.core.errors import UsageError

MOST_CHANNELS = 4
"""Channels in one tile: those of a texture."""

OUTSIDE = 0
"""Value of pixels outside the mask in tiles of leaves, whose ids are moved up by one."""


@dataclass(frozen=True)
class TilePosition:
    """Which tile: a plane along an axis ("z", "y", "x") of a frame, a level, and the tile's column and row in it."""

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

    Raises
    ------
    UsageError
        If there is no such tile or channel.
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
    """Return leaf ids + 1 as uint32 ``[rows + 2, columns + 2]``: one pixel more on each side, for the boundaries."""
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
    """Return a plane with every 2^level-th pixel of it: ids have no means."""
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
