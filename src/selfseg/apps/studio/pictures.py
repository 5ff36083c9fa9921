"""Pictures as the page shows them: planes along any axis in levels of half the size each, as raw tiles, and volumes as NIfTI-1."""

import io
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.apps.studio.project import Project
from selfseg.apps.studio.results import StoredResult
from selfseg.core.classes import class_colours
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.read import Source
from selfseg.read.arrays import memory_limit
from selfseg.read.video import VideoFrames

TILE = 512
"""Side of a tile, in pixels of its level."""

LOW, HIGH = 0.5, 99.5
"""Percentiles that are black and white at first, except in 8-bit pictures."""

THUMBNAIL = 160
"""Longer side of a thumbnail, in pixels."""

BINS = 96
"""Bars of the histogram of a channel."""

SATURATED = 0.02
"""Share of values at the largest one above which a channel is called saturated."""

SAMPLE = 400_000
"""Values of a channel from which percentiles are computed."""

MOST_BYTES = 4 * 2**30
"""Decoded pixels of one picture at most, in bytes."""

CACHE_BYTES = 2**30
"""Decoded pixels of all pictures that are kept, in bytes; one picture at least."""

REEL_BYTES = 2**28
"""Decoded frames of one video that are kept, in bytes; two frames at least."""

REACH = 48
"""Frames ahead of the last one up to which decoding continues; beyond them it starts again at a key frame."""

AXES = {"z": (0, 1, 2), "y": (1, 0, 2), "x": (2, 0, 1)}
"""For each viewing axis: that axis, then the rows and the columns of its planes, in an array ``[Z Y X]``."""

TINTS = {1: [[255, 255, 255]], 2: [[255, 0, 255], [0, 255, 0]], 3: [[255, 0, 0], [0, 255, 0], [0, 0, 255]]}
"""Colours of the channels of pictures with up to three; more have those of the class palette."""


class Reel:
    """A lazy array ``[T 1 Y X C]`` over the frames of a video, the last ones kept: `reel[3]` is frame 3, ``[1 Y X C]``."""

    def __init__(self, video: VideoFrames) -> None:
        self.video = video
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._walk: Iterator[tuple[int, Image]] = iter(())
        self._at = video.n_frames
        self._turn = threading.Lock()
        self.first = video.frame(0)
        frame = self.first.channels_last()
        self.shape = (video.n_frames, 1, *frame.shape)
        self.dtype = frame.dtype
        self._most = max(2, REEL_BYTES // frame.nbytes)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that the kept frames take at most."""
        return min(len(self), self._most) * int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def __getitem__(self, number: int) -> NDArray[Any]:
        """Return a frame; InputError if it does not decode, or has another size than the first."""
        with self._turn:
            if number not in self._kept:
                self._decode_to(number)
            if number not in self._kept:
                fix = "continue with the next one; copy or export the file again"
                what = f"{self.video.source}, frame {number}"
                raise InputError(what, expected="a frame that decodes", got="damaged data", fix=fix)
            self._kept.move_to_end(number)
            return self._kept[number]

    def _decode_to(self, number: int) -> None:
        """Decode up to a frame, from the last one where that is near; keep all in between."""
        if not self._at < number <= self._at + REACH:
            self._walk = self.video.frames_from(number)
        for found, image in self._walk:
            self._at = found
            data = image.channels_last()[None]
            if data.shape == self.shape[1:]:
                self._kept[found] = data
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            if found >= number:
                return
        self._at = len(self)


@dataclass
class Picture:
    """A picture, ready to be cut into tiles."""

    image: Image
    """As it was read."""
    data: NDArray[Any] | Reel
    """``[T Z Y X C]`` uint8 or uint16; of a video a `Reel`."""
    offset: float
    scale: float
    """A value of the image is `offset` + `scale` times that of `data`."""
    ranges: list[tuple[float, float]]
    """Display range of each channel, in values of `data`."""
    fps: float | None = None
    """Frames a second of a video."""
    _planes: OrderedDict[tuple[str, int, int, int], NDArray[Any]] = field(default_factory=OrderedDict, repr=False)

    @property
    def is_video(self) -> bool:
        """True if its frames are decoded one by one."""
        return not isinstance(self.data, np.ndarray)

    @property
    def n_levels(self) -> int:
        """Levels of half the size each, until the whole fits into one tile."""
        longest = max(self.data.shape[1:4])
        return max(1, int(np.ceil(np.log2(max(1, longest / TILE)))) + 1)

    def plane(self, axis: str, frame: int, index: int, level: int) -> NDArray[Any]:
        """Return a plane ``[rows columns C]`` at a level (means of 2 x 2 pixels of the level before); IndexError beyond the last."""
        first = AXES[axis][0]
        if not (0 <= frame < len(self.data) and 0 <= index < self.data.shape[1 + first] and 0 <= level < self.n_levels):
            raise IndexError(f"plane {axis}{index} of frame {frame} at level {level}")
        key = (axis, frame, index, level)
        if level == 0:
            return self.data[frame].take(index, axis=first)
        if key not in self._planes:
            self._planes[key] = _halved(self.plane(axis, frame, index, level - 1))
            while len(self._planes) > 48:
                self._planes.popitem(last=False)
        return self._planes[key]

    def _sample(self) -> NDArray[Any]:
        """Return some values of all channels ``[n C]``; of a video those of its first frame."""
        flat = (self.data if isinstance(self.data, np.ndarray) else self.data[0]).reshape(-1, self.data.shape[-1])
        return flat[:: max(1, len(flat) // SAMPLE)]

    def histograms(self) -> list[dict[str, Any]]:
        """Return the least and the largest value of each channel, in values of `data`, and how many lie in each part between."""
        found = []
        for channel in self._sample().T:
            low, high = float(channel.min()), float(channel.max())
            counts, _ = np.histogram(channel, BINS, (low, max(high, low + 1)))
            found.append({"low": low, "high": high, "counts": counts.tolist()})
        return found

    def notes(self) -> list[str]:
        """Return lines on what was guessed, and on values that say nothing."""
        image, found = self.image, []
        if image.guessed_axes:
            found.append(f"axes guessed: {image.axes}; start the studio with --axes to say otherwise")
        names = list(image.channels) or _channel_names(self.data.shape[-1])
        for name, channel in zip(names, self._sample().T, strict=True):
            top = int(channel.max())
            share = float((channel == top).mean())
            if self.scale == 1.0 and (top + 1) & top == 0 and top >= 255 and SATURATED < share < 1:
                found.append(
                    f"{name}: {share:.1%} of the values are the largest, {top}: saturated, their differences are lost"
                )
        return found

    def facts(self) -> dict[str, Any]:
        """Return axes, sizes, channels, values and display ranges for the page."""
        frames, depth, height, width, channels = self.data.shape
        image = self.image
        return {
            "axes": image.axes,
            "guessed": image.guessed_axes,
            "frames": frames,
            "video": self.is_video,
            "fps": self.fps,
            "depth": depth,
            "height": height,
            "width": width,
            "channels": channels,
            "channel_names": list(image.channels) or _channel_names(channels),
            "channel_colours": _channel_colours(channels),
            "bits": 8 if self.data.dtype == np.uint8 else 16,
            "values": str(image.data.dtype),
            "offset": self.offset,
            "scale": self.scale,
            "ranges": self.ranges,
            "histograms": self.histograms(),
            "notes": self.notes(),
            "spacing": list(image.spacing),
            "unit": image.unit,
            "levels": self.n_levels,
            "tile": TILE,
        }


class Pictures:
    """The pictures of a project, read on demand; those used last stay in memory."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._kept: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Picture:
        """Return a picture; InputError if it is not of the project, cannot be read, or is too large."""
        with self._lock:
            if name not in self._kept:
                self._kept[name] = open_picture(self.project.source(name), self.project.axes)
                while len(self._kept) > 1 and sum(p.data.nbytes for p in self._kept.values()) > CACHE_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(name)
            return self._kept[name]


def open_picture(source: Source, axes: str | None) -> Picture:
    """Read a picture, or the first frame of a video; InputError if it cannot be read, or is too large."""
    if not source.is_video(axes) or source.path is None:
        return as_picture(source.read(axes, min(MOST_BYTES, memory_limit())))
    reel = Reel(VideoFrames(source.path, source.name))
    image = Image(reel.first.data[None], f"T{reel.first.axes}", name=source.name, source=str(source.path))
    return Picture(image, reel, 0.0, 1.0, _ranges(reel[0][None]), reel.video.fps)


def _shown(picture: Picture, frame: int) -> NDArray[np.uint8]:
    """Return the middle plane of a frame at its coarsest level as sRGB ``[Y X 3]``, with the first display ranges."""
    plane = picture.plane("z", frame, picture.data.shape[1] // 2, picture.n_levels - 1).astype(np.float32)
    low, high = np.array(picture.ranges, np.float32).T
    tints = np.array(_channel_colours(plane.shape[-1]), np.float32)
    return np.clip(np.clip((plane - low) / (high - low), 0, 1) @ tints, 0, 255).astype(np.uint8)


def mean_colours(picture: Picture, labels: NDArray[np.integer], frame: int) -> dict[int, NDArray[np.float64]]:
    """Return the mean sRGB colour 0-255 under each label ``[*S]``, in the middle plane; under one that is not there, of all."""
    shown, step = _shown(picture, frame), 2 ** (picture.n_levels - 1)
    volume = labels if labels.ndim == 3 else labels[None]
    plane = volume[len(volume) // 2, ::step, ::step][: len(shown), : shown.shape[1]]
    rgb = shown[: len(plane), : plane.shape[1]].astype(np.float64)
    return {
        int(key): (rgb[plane == key] if (plane == key).any() else rgb).reshape(-1, 3).mean(0)
        for key in np.unique(labels)
    }


def thumbnail_png(picture: Picture) -> bytes:
    """Return the middle plane as a small PNG, with the first display ranges."""
    from PIL import Image as Pillow

    small = Pillow.fromarray(_shown(picture, 0))
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    return buffer.getvalue()


def as_picture(image: Image) -> Picture:
    """Return an image of any kind as a picture: 8 and 16 bit stay as they are, other values are spread over 16 bit."""
    data = image.channels_last()
    letters = [letter for letter in image.axes if letter != "C"]
    ordered = data.transpose([*(letters.index(k) for k in "TZYX" if k in letters), data.ndim - 1])
    for place, letter in enumerate("TZ"):
        if letter not in letters:
            ordered = np.expand_dims(ordered, place)
    values, offset, scale = _as_counts(ordered)
    return Picture(image, values, offset, scale, _ranges(values))


def _as_counts(values: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    if values.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(values), 0.0, 1.0
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    scale = (high - low) / 65535 or 1.0
    share = (values.astype(np.float64) - low) / scale
    return np.clip(np.nan_to_num(share, nan=0, posinf=65535, neginf=0).round(), 0, 65535).astype(np.uint16), low, scale


def _ranges(values: NDArray[Any]) -> list[tuple[float, float]]:
    n_channels = values.shape[-1]
    if values.dtype == np.uint8 and n_channels in (1, 3):
        return [(0.0, 255.0)] * n_channels
    flat = values.reshape(-1, n_channels)
    thin = flat[:: max(1, len(flat) // SAMPLE)]
    low, high = np.percentile(thin, (LOW, HIGH), axis=0)
    return [(float(a), float(max(b, a + 1))) for a, b in zip(low, high, strict=True)]


def _halved(plane: NDArray[Any]) -> NDArray[Any]:
    height, width = plane.shape[:2]
    even = np.pad(plane, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    kind = np.uint16 if plane.dtype == np.uint8 else np.uint32
    total = even[::2, ::2].astype(kind) + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) // 4).astype(plane.dtype)


def _channel_names(n_channels: int) -> list[str]:
    return ["red", "green", "blue"] if n_channels == 3 else [f"channel {i + 1}" for i in range(n_channels)]


def _channel_colours(n_channels: int) -> list[list[int]]:
    if n_channels in TINTS:
        return TINTS[n_channels]
    return [list(colour[:3]) for colour in class_colours(n_channels)]


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
            raise UsageError(
                "tile",
                expected="an axis z, y or x and numbers from 0",
                got=str(self),
                fix="ask for a tile of the picture",
            )


def image_tile(picture: Picture, place: TilePosition, channels: list[int]) -> bytes:
    """Return ``[rows columns C]`` of some channels, at most `TILE` wide and high; UsageError if there is no such tile or channel."""
    n_channels = picture.data.shape[-1]
    if not 1 <= len(channels) <= MOST_CHANNELS or not all(0 <= c < n_channels for c in channels):
        raise UsageError(
            "tile",
            expected=f"1 to {MOST_CHANNELS} channels below {n_channels}",
            got=str(channels),
            fix="choose other channels",
        )
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
    return _bordered(_thin_plane(result.volume("superpixels"), place), place, 1)


def number_tile(numbers: NDArray[np.uint32], place: TilePosition) -> bytes:
    """Return object numbers (0 = none) ``[*S]`` as `leaf_tile` returns leaves."""
    volume = numbers if numbers.ndim == 3 else numbers[None]
    return _bordered(_thin_plane(volume, place), place, 0)


def _bordered(plane: NDArray[Any], place: TilePosition, more: int) -> bytes:
    height, width = plane.shape
    top, left = place.y * TILE, place.x * TILE
    if top >= height or left >= width:
        raise _nowhere(place)
    rows = np.clip(np.arange(top - 1, min(top + TILE, height) + 1), 0, height - 1)
    columns = np.clip(np.arange(left - 1, min(left + TILE, width) + 1), 0, width - 1)
    tile = np.asarray(plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return _raw((tile[np.ix_(rows - rows[0], columns - columns[0])] + more).astype(np.uint32))


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

    `spacing` is the size of a voxel along Z, Y, X. InputError if it is not a volume.
    """
    if volume.ndim != 3 or min(volume.shape) < 2 or str(volume.dtype) not in NIFTI_TYPES:
        raise InputError(
            "3D view", expected="a volume", got=f"{volume.dtype} of {volume.shape}", fix="look at it as a picture"
        )
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
