"""Files straight from a microscope: ND2 (Nikon), CZI (Zeiss), LIF (Leica), scene by scene and plane by plane (``selfseg[vendor]``).

A scene is a position of the stage (ND2), a scene (CZI) or an image of the file (LIF); ``file.lif:/2`` is the third. Planes are decoded by
nd2, czifile and liffile when they are asked for.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import InputError
from selfseg.read._lazy_array import LazyArray, check_real, from_sliceable
from selfseg.read.arrays import Decoded, decoding, needed, quiet, split_address

KINDS = {".nd2": "nd2", ".czi": "czifile", ".lif": "liffile"}
"""Package that decodes a file, by suffix."""

SIGNATURES = {b"\xda\xce\xbe\x0a": "nd2", b"ZISRAWFILE": "czifile", b"\x70\0\0\0": "liffile"}
"""The same, by the first bytes."""

ZSTD0, ZSTD1 = 5, 6
"""Compressions of a CZI that newer versions of ZEN write by default: Zstd alone, and with a header."""

UNIT = "micrometer"
METRES = 1e6
"""Micrometres of a metre, in which CZI and LIF count."""

MOST_NAMED = 8
"""Scenes named in a message."""


@dataclass(frozen=True)
class Planes:
    """Pixels that are decoded plane by plane, as something that reads slices.

    Attributes
    ----------
    outer
        Size of each axis of which a plane has one place, by its letter, in order.
    inner
        Axes of a plane.
    shape
        Sizes of all axes: `outer`, then `inner`.
    dtype
        Type of the values.
    read
        Returns the plane at the places of the outer axes, by their letters.
    """

    outer: Mapping[str, int]
    inner: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[dict[str, int]], NDArray[Any]]

    @property
    def axes(self) -> str:
        """Letters of all axes."""
        return "".join(self.outer) + self.inner

    def __getitem__(self, ranges: tuple[slice, ...]) -> NDArray[Any]:
        places = [range(*one.indices(n)) for one, n in zip(ranges, self.shape, strict=True)]
        outer, inner = places[: len(self.outer)], ranges[len(self.outer) :]
        found = np.empty([len(one) for one in places], self.dtype)
        for where in itertools.product(*(range(len(one)) for one in outer)):
            at = {letter: one[i] for letter, one, i in zip(self.outer, outer, where, strict=True)}
            found[where] = self.read(at)[inner]
        return found


@dataclass(frozen=True)
class Scene:
    """One scene of a file.

    Attributes
    ----------
    planes
        Its pixels: `Planes`, or what has shape, dtype and axes and reads slices like it.
    spacing
        Size of a pixel by axis, in micrometres.
    channels
        Names of the channels.
    interval
        Seconds from one time point to the next; 0 = unknown.
    """

    planes: Any
    spacing: Mapping[str, float]
    channels: tuple[str, ...] = ()
    interval: float = 0.0


class Nd2:
    """A file of NIS-Elements. Its frames hold all channels of a plane; positions of the stage are its scenes."""

    def __init__(self, package: Any, path: Path) -> None:
        self.path, self.file = path, package.ND2File(str(path))
        self.close = self.file.close
        self.loops = {loop.type: loop.parameters for loop in self.file.experiment}

    @property
    def names(self) -> list[str]:
        """Name of each position, or its number."""
        points = getattr(self.loops.get("XYPosLoop"), "points", ())
        names = [str(getattr(point, "name", None) or "") for point in points]
        return [(names[i] if i < len(names) else "") or str(i) for i in range(self.file.sizes.get("P", 1))]

    def scene(self, number: int) -> Scene:
        """Return a position."""
        sizes = dict(self.file.sizes)
        positions = sizes.pop("P", 1)
        colours = sizes.pop("S", 1)
        if colours > 1 and sizes.get("C", 1) > 1:
            raise InputError(
                self.path, expected="colour pictures or channels", got="both", fix="export what is wanted as OME-TIFF"
            )
        _check_axes(self.path, list(sizes))
        frames = {tuple(sorted(place.items())): i for i, place in enumerate(self.file.loop_indices)}
        looped = {letter for place in frames for letter, _ in place}
        outer = {letter: n for letter, n in sizes.items() if letter in looped and letter not in "YX"}
        inner = ("" if "C" in outer or sizes.get("C", 1) == 1 else "C") + "YX" + ("C" if colours > 1 else "")
        counts = {**sizes, **({"C": colours} if colours > 1 else {})}

        def read(at: dict[str, int]) -> NDArray[Any]:
            place = {**at, "P": number} if positions > 1 else at
            frame = np.asarray(self.file.read_frame(frames[tuple(sorted(place.items()))]))
            return frame.reshape([counts[letter] for letter in inner])

        shape = (*outer.values(), *(counts[letter] for letter in inner))
        planes = Planes(outer, inner, shape, np.dtype(self.file.dtype), read)
        size = self.file.voxel_size()
        period = getattr(self.loops.get("TimeLoop"), "periodMs", 0.0) or 0.0
        names = [one.channel.name for one in getattr(self.file.metadata, "channels", None) or ()]
        channels = tuple(names) if colours == 1 else ()
        return Scene(planes, {"X": size.x, "Y": size.y, "Z": size.z}, channels, period / 1000)


class Lif:
    """A file of Leica's LAS: each of its images is a scene."""

    def __init__(self, package: Any, path: Path) -> None:
        self.path, self.file = path, package.LifFile(str(path))
        self.close = self.file.close

    @property
    def names(self) -> list[str]:
        """Name of each image."""
        return [str(image.name) for image in self.file.images]

    def scene(self, number: int) -> Scene:
        """Return an image."""
        image = self.file.images[number]
        letters = ["C" if letter == "S" and "C" not in image.dims else letter for letter in image.dims]
        _check_axes(self.path, letters)
        n_inner = 3 if image.dims[-1] == "S" else 2
        outer = dict(zip(letters[:-n_inner], image.shape[:-n_inner], strict=True))
        inner, shape, dtype = "".join(letters[-n_inner:]), tuple(image.shape), np.dtype(image.dtype)
        planes = Planes(outer, inner, shape, dtype, lambda at: np.asarray(image.frame(**at)))
        steps = {letter: _step(image.coords.get(letter)) for letter in image.dims}
        spacing = {letter: abs(steps[letter]) * METRES for letter in "ZYX" if letter in steps}
        return Scene(planes, spacing, (), steps.get("T", 0.0))


class Czi:
    """A file of ZEN: its subblocks are tiles of planes, anywhere in a scene; those of a pyramid are left out."""

    def __init__(self, package: Any, path: Path) -> None:
        self.path, self.file = path, package.CziFile(str(path))
        self.close = self.file.close
        self.blocks = list(self.file.filtered_subblock_directory)
        if not self.blocks:
            raise ValueError("no pixels")
        self.letters = self.blocks[0].axes
        self.scenes = sorted({self._scene_of(block) for block in self.blocks})

    def _scene_of(self, block: Any) -> int:
        return int(block.start[self.letters.index("S")]) if "S" in self.letters else 0

    @property
    def names(self) -> list[str]:
        """Number of each scene."""
        return [str(number) for number in self.scenes]

    def scene(self, number: int) -> Scene:
        """Return a scene: the box around its tiles, 0 between them."""
        blocks = [block for block in self.blocks if self._scene_of(block) == self.scenes[number]]
        starts, shapes = np.array([block.start for block in blocks]), np.array([block.shape for block in blocks])
        low, high = starts.min(0), (starts + shapes).max(0)
        sizes = dict(zip(self.letters, (int(n) for n in high - low), strict=True))
        strange = [one for one, n in sizes.items() if one not in "STCZYX0" and n > 1]
        colours = sizes.get("0", 1)
        if colours > 1 and sizes.get("C", 1) > 1:
            strange = ["colour pictures in several channels"]
        _check_axes(self.path, strange)
        kept = [letter for letter in self.letters if letter in "TCZYX" and (colours == 1 or letter != "C")]
        kept += ["0"] if colours > 1 else []
        planes = Tiles(
            blocks, self.letters, low, "".join(kept), tuple(sizes[one] for one in kept), np.dtype(self.file.dtype)
        )
        xml = ElementTree.fromstring(self.file.metadata())
        steps = {one.get("Id"): float(one.findtext("Value") or 0) * METRES for one in xml.iter("Distance")}
        names = [one.get("Name") or one.get("Id") or "" for one in xml.iterfind(".//Dimensions/Channels/Channel")]
        return Scene(planes, {one: steps[one] for one in "ZYX" if one in steps}, tuple(names) if colours == 1 else ())


@dataclass(frozen=True)
class Tiles:
    """Pixels put together of the tiles that a region meets.

    Attributes
    ----------
    blocks
        The tiles: ``start`` and ``shape`` along `letters`, and ``data_segment().data()``.
    letters
        Axes of a tile.
    low
        Where the scene begins along them.
    kept
        Axes of the scene; ``0`` are the colours of a picture.
    shape
        Its sizes.
    dtype
        Type of the values.
    """

    blocks: Sequence[Any]
    letters: str
    low: NDArray[np.integer]
    kept: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def axes(self) -> str:
        """Letters of all axes."""
        return self.kept.replace("0", "C")

    def __getitem__(self, ranges: tuple[slice, ...]) -> NDArray[Any]:
        spans = [one.indices(n) for one, n in zip(ranges, self.shape, strict=True)]
        found = np.zeros([stop - start for start, stop, _ in spans], self.dtype)
        order = [self.letters.index(letter) for letter in self.kept]
        for block in self.blocks:
            begins = [int(block.start[i] - self.low[i]) for i in order]
            sizes = [int(block.shape[i]) for i in order]
            cuts = [
                (max(start, begin), min(stop, begin + size))
                for (start, stop, _), begin, size in zip(spans, begins, sizes, strict=True)
            ]
            if any(first >= last for first, last in cuts):
                continue
            tile = _pixels(block)
            tile = tile[tuple(slice(None) if i in order else 0 for i in range(tile.ndim))]
            tile = tile.transpose([sorted(order).index(i) for i in order])
            inside = tuple(slice(a - begin, b - begin) for (a, b), begin in zip(cuts, begins, strict=True))
            found[tuple(slice(a - start, b - start) for (a, b), (start, _, _) in zip(cuts, spans, strict=True))] = tile[
                inside
            ]
        step = tuple(slice(None, None, one) for _, _, one in spans)
        return found[step]


def _pixels(block: Any) -> NDArray[Any]:
    """Decode a tile; Zstd, which czifile of before 2025 does not know, by the description of the format (DS ZISRAW 1.2.2)."""
    segment, compression = block.data_segment(), getattr(block, "compression", 0)
    if compression not in (ZSTD0, ZSTD1):
        return np.asarray(segment.data())
    import imagecodecs

    stored = segment.data(raw=True)
    header = stored[0] if compression == ZSTD1 else 0
    plain = np.frombuffer(imagecodecs.zstd_decode(stored[header:]), np.uint8)
    if header == 3 and stored[1] == 1 and stored[2] & 1:  # all low bytes, then all high bytes
        plain = np.ascontiguousarray(plain.reshape(2, -1).T)
    pixels = plain.reshape(-1).view(np.dtype(block.dtype).base).reshape(block.stored_shape)
    return pixels[..., ::-1] if pixels.shape[-1] == 3 else pixels  # BGR


READERS: Mapping[str, Callable[[Any, Path], Any]] = {"nd2": Nd2, "czifile": Czi, "liffile": Lif}
"""Reader by the package that decodes: `names`, `scene(number)` and `close`."""


def open_file(path: Path, max_bytes: int | None, as_labels: bool) -> Decoded:
    """Open one scene; nothing is read, and `max_bytes` and `as_labels` change nothing.

    Raise `InputError` if the package of the extra is missing, the file is damaged, it has several scenes and none is named, or an axis
    has no meaning here.
    """
    file, inside = split_address(path)
    kind = _kind(file)
    package = needed(file, kind, "vendor")
    with decoding(path, KeyError, RuntimeError), quiet(kind), contextlib.ExitStack() as stack:
        opened = READERS[kind](package, file)
        stack.callback(opened.close)
        scene = opened.scene(_number(path, file, inside, opened.names))
        check_real(path, scene.planes.dtype)
        stack.pop_all()
        data = from_sliceable(path, scene.planes, close=opened.close, stored=file.stat().st_size, ratio=math.inf)
    axes, data = _without_single(scene.planes.axes, data)
    spacing = {letter: size for letter, size in scene.spacing.items() if math.isfinite(size) and size > 0}
    meta = {"interval": scene.interval} if scene.interval > 0 and "T" in axes else {}
    return Decoded(
        data, axes, False, spacing, UNIT if spacing else "pixel", scene.channels if "C" in axes else (), meta=meta
    )


def scenes_of(path: Path) -> list[Path]:
    """Return the address of each scene of a file that has several; empty for others, and where the package is missing."""
    try:
        kind = _kind(path)
        package = needed(path, kind, "vendor")
        with (
            decoding(path, KeyError, RuntimeError),
            quiet(kind),
            contextlib.closing(READERS[kind](package, path)) as opened,
        ):
            names = opened.names
    except InputError:  # raised again when the file is opened
        return []
    return [Path(f"{path}:/{number}") for number in range(len(names))] if len(names) > 1 else []


def _kind(path: Path) -> str:
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        with path.open("rb") as file:
            start = file.read(16)
        kind = next((kind for mark, kind in SIGNATURES.items() if start.startswith(mark)), "nd2")
    return kind


def _number(path: Path, file: Path, inside: str, names: Sequence[str]) -> int:
    """Return the number of the scene that is meant."""
    if not names:
        raise InputError(path, expected="at least one image", got="none", fix="check the file")
    if inside in names:
        return names.index(inside)
    if inside.isdecimal() and int(inside) < len(names):
        return int(inside)
    if not inside and len(names) == 1:
        return 0
    shown = ", ".join(f"{number} ({name})" for number, name in enumerate(names[:MOST_NAMED]))
    more = ", ..." if len(names) > MOST_NAMED else ""
    raise InputError(
        path,
        expected="the number or name of a scene",
        got=f"{inside!r} of {shown}{more}" if inside else f"{len(names)} scenes: {shown}{more}",
        fix=f"choose one, for example {file}:/0",
    )


def _without_single(axes: str, data: LazyArray) -> tuple[str, LazyArray]:
    """Drop axes of one place, but rows and columns: they mean nothing."""
    kept = [i for i, letter in enumerate(axes) if letter in "YX" or data.shape[i] > 1]
    return "".join(axes[i] for i in kept), data.arranged(kept)


def _check_axes(path: Path, letters: Sequence[str]) -> None:
    """Raise `InputError` if an axis has no meaning here."""
    if strange := [letter for letter in letters if letter not in [*"TCZYX"]]:
        raise InputError(
            path, expected="axes out of T C Z Y X", got=", ".join(strange), fix="export what is wanted as OME-TIFF"
        )


def _step(places: Any) -> float:
    """Return the distance of the first two of some coordinates; 0 where there are fewer."""
    return float(places[1] - places[0]) if places is not None and len(places) > 1 else 0.0
