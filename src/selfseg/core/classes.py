"""The class table: ids, names and colours; and colours that colour-blind people can distinguish too."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError

IGNORE = 0
"""Label value of pixels that belong to no class."""

LARGEST_ID = 2**16 - 1
"""Largest id of a class."""


@dataclass(frozen=True)
class SegmentClass:
    """One class of a model."""

    id: int
    """Label value in files, 1..K. 0 is "ignore"."""
    name: str
    """The user's name for it."""
    rgba: tuple[int, int, int, int]
    """Colour, four values 0-255."""
    area_share: float
    """Share of the valid training pixels, 0-1."""
    intensity: float
    """Mean intensity on the training data, of the prepared images, the key by which ids are ordered (dark to
    bright)."""
    sources: tuple[int, ...]
    """Clusters of the method (0-based channels of its probabilities) that make up this class."""


@dataclass(frozen=True)
class ClassTable:
    """All classes of a model, in the order of their ids."""

    classes: tuple[SegmentClass, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def merged(self, groups: Sequence[Sequence[int]], keep: Collection[int] = ()) -> "ClassTable":
        """Return a table in which the classes of each group are one. The others stay; ids are given anew, dark to bright.

        A merged class has the sum of the areas and their mean intensity, and name and colour of its largest member: of
        one whose id is in `keep`, the ids of those that were named by hand, where there is one. Raise `UsageError` if
        an id is unknown or named twice, or a group has fewer than two.
        """
        named = [label for group in groups for label in group]
        known = {item.id: item for item in self.classes}
        if any(len(group) < 2 for group in groups) or len(set(named)) < len(named) or not set(named) <= set(known):
            raise UsageError(
                "merge",
                expected=f"groups of two or more ids out of 1..{len(self)}, each id once",
                got=", ".join("+".join(map(str, group)) for group in groups),
                fix="see classes.json for the ids",
            )
        rows = [_union([known[label] for label in group], keep) for group in groups]
        rows += [item for item in self.classes if item.id not in named]
        # A class without area has no intensity of its own, and comes last, as where classes are numbered first.
        rows.sort(key=lambda item: (item.area_share == 0, item.intensity, item.id))
        return ClassTable(tuple(_renumbered(item, label) for label, item in enumerate(rows, 1)))

    def named(self, names: Mapping[int, str]) -> "ClassTable":
        """Return a table with other names, by id. Raise `UsageError` if an id is unknown, or a name is empty."""
        if not set(names) <= {item.id for item in self.classes} or not all(name.strip() for name in names.values()):
            raise UsageError(
                "name",
                expected=f"ID=NAME with an id out of 1..{len(self)}",
                got=", ".join(f"{label}={name}" for label, name in names.items()),
                fix="see classes.json for the ids",
            )
        rows = (replace(item, name=names.get(item.id, item.name).strip()) for item in self.classes)
        return ClassTable(tuple(rows))

    def find(self, wanted: Sequence[str | int]) -> list[int]:
        """Return the ids of classes by their names or ids. Raise `UsageError` if there is no such class."""
        by_name = {item.name: item.id for item in self.classes} | {str(item.id): item.id for item in self.classes}
        unknown = [str(item) for item in wanted if str(item) not in by_name]
        if unknown:
            known = ", ".join(f"{item.id} ({item.name})" for item in self.classes)
            raise UsageError("class", expected=f"one of {known}", got=unknown[0], fix="give its id or its name")
        return [by_name[str(item)] for item in wanted]

    def background(self, wanted: str | int | None = None) -> int:
        """Return the id of the class that is the background: the requested one, else that of the largest share.

        Raise `UsageError` if there is no such class.
        """
        if wanted is None:
            return max(self.classes, key=lambda item: (item.area_share, -item.id)).id
        return self.find([wanted])[0]

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain values for ``classes.json``."""
        return [asdict(item) for item in self.classes]

    @classmethod
    def from_json(cls, rows: Sequence[dict[str, Any]]) -> "ClassTable":
        """Build a table from the plain values of `to_json`.

        Raise `TypeError`, `KeyError` or `ValueError` if a row is no class, a value is not of its kind, or two rows have
        one id.
        """
        tuples = ({**row, "rgba": tuple(row["rgba"]), "sources": tuple(row["sources"])} for row in rows)
        table = cls(tuple(SegmentClass(**row) for row in tuples))
        for item in table.classes:
            if not _sound(item):
                raise ValueError(
                    f"class {item.id!r}: an id, a name, four colour values 0-255, shares and sources are needed"
                )
        if len({item.id for item in table.classes}) != len(table):
            raise ValueError("two classes of one id")
        return table


def _sound(item: SegmentClass) -> bool:
    """Tell whether every value is of its kind, and the id such that tables of all ids stay small."""
    colours = len(item.rgba) == 4 and all(type(value) is int and 0 <= value <= 255 for value in item.rgba)
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in (item.area_share, item.intensity))
    sources = all(type(value) is int and value >= 0 for value in item.sources)
    known = type(item.id) is int and 1 <= item.id <= LARGEST_ID and isinstance(item.name, str)
    return colours and numbers and sources and known


def keep_ids(order: Sequence[int], wanted: Mapping[int, int], reserved: Collection[int] = ()) -> list[int | None]:
    """Return which cluster has each of the ids 1..K; None = none has.

    Clusters of `wanted` get the ids that it gives them, the others in `order` the smallest ids that are free: neither among
    those of `wanted` nor `reserved`.
    """
    taken = {label: cluster for cluster, label in wanted.items() if cluster in order}
    free = (label for label in count(1) if label not in taken and label not in reserved)
    taken |= {next(free): cluster for cluster in order if cluster not in wanted}
    return [taken.get(label) for label in range(1, max(taken, default=0) + 1)]


def _union(members: Sequence[SegmentClass], keep: Collection[int]) -> SegmentClass:
    largest = max(members, key=lambda item: (item.id in keep, item.area_share))
    share = sum(item.area_share for item in members)
    weighted = sum(item.area_share * item.intensity for item in members)
    sources = tuple(sorted(source for item in members for source in item.sources))
    return replace(largest, area_share=share, intensity=weighted / share if share else 0.0, sources=sources)


def _renumbered(item: SegmentClass, label: int) -> SegmentClass:
    """Give a class another id; a name made from the id follows it."""
    return replace(item, id=label, name=f"class {label}" if item.name == f"class {item.id}" else item.name)


MOST = 255
"""Largest number of classes that have a colour of their own."""

SAFE = ("e69f00", "56b4e9", "009e73", "332288", "f0e442", "cc79a7", "d55e00", "0072b2")
"""The first eight: Okabe and Ito, "Color Universal Design" (2008), with Tol's indigo in place of black, hues apart."""

DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
"""Linear RGB as it looks without M cones: Machado, Oliveira and Fernandes (2009), table 1, severity 1."""

PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
"""Linear RGB as it looks without L cones: the same source."""

NEAR_IDS = 3
"""How many of the ids before a new one must differ from it more than the others do."""

NEAR_WEIGHT = 0.4
"""Distances to those ids count this much, so that they have to be 1 / 0.4 = 2.5 times as large."""

GRID = 8
"""Values of each of red, green and blue among which the further colours are chosen."""

COLOUR_BLIND_WEIGHT = 2.0
"""Distances seen without M or L cones count this much: with 1, the further colours would be blues and greens alone."""

_TO_XYZ = np.array(
    ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
)
_WHITE = np.array((0.95047, 1.0, 1.08883))


def class_colours(n: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return the colours of the classes 1..n: red, green, blue and alpha 0-255. The first k are the same for every n >= k.

    The first eight are a published set. Each further colour is the one, out of a grid over sRGB, that is farthest in
    CIELAB from all before it, as the least of what a full eye and (weighted) eyes without M or L cones see. The last
    few ids count more, so that neighbouring ids differ well. Raise `UsageError` unless `n` is 0 to 255.
    """
    if not 0 <= n <= MOST:
        raise UsageError("number of colours", expected=f"0 to {MOST}", got=str(n), fix="merge some classes first")
    colours = _safe() if n <= len(SAFE) else _extended()
    return tuple((int(red), int(green), int(blue), 255) for red, green, blue in colours[:n])


def standing_out(beneath: NDArray[np.floating]) -> tuple[tuple[int, int, int, int], ...]:
    """Return a colour for each class that differs from the picture beneath it, and from those of the others.

    Of the first colours of `class_colours`, three times as many as classes and at least 16, each class gets one, so that the sum of
    CIELAB distances (to the mean colour beneath the class, at most `CLEAR` each, since more is no clearer) is largest.

    Parameters
    ----------
    beneath
        ``[N 3]`` mean sRGB colour 0-255 of the picture under each class.
    """
    from scipy.optimize import linear_sum_assignment  # here, since most that import this file never choose colours

    colours = class_colours(min(MOST, max(16, 3 * len(beneath))))
    known, under = (seen_lab(np.asarray(rgb, np.float64)[:, :3]) for rgb in (colours, beneath))
    gaps = np.minimum(np.linalg.norm(under[:, None] - known, axis=-1), CLEAR)
    _, chosen = linear_sum_assignment(gaps - 1e-3 * np.arange(len(known)), maximize=True)  # the earlier of equals
    return tuple(colours[place] for place in chosen)


def relative_luminance(rgb: tuple[int, ...]) -> float:
    """Return the luminance 0-1 of an sRGB colour (WCAG 2.2), for choosing dark or light text on it."""
    return float(_linear(np.array([rgb[:3]], np.float64))[0] @ _TO_XYZ[1])


def seen_lab(rgb: NDArray[np.float64], cones: tuple[tuple[float, ...], ...] | None = None) -> NDArray[np.float64]:
    """Return the CIELAB values (D65) L*, a*, b* ``[N 3]`` that an eye sees of sRGB values 0-255 ``[N 3]``.

    `cones` is `DEUTERANOPIA`, `PROTANOPIA`, or None for an eye with all three cones.
    """
    linear = _linear(rgb)
    if cones is not None:
        linear = np.clip(linear @ np.array(cones).T, 0.0, 1.0)
    ratio = linear @ _TO_XYZ.T / _WHITE
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def _linear(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    share = rgb / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _safe() -> NDArray[np.float64]:
    return np.array([list(bytes.fromhex(code)) for code in SAFE], np.float64)


CLEAR = 60.0
"""CIELAB distance between a class's colour and the picture beneath it from which more is no clearer."""


@lru_cache(maxsize=1)
def _extended() -> NDArray[np.float64]:
    """Return all colours ``[255 3]``: the safe ones, then the farthest points of the grid, one after the other."""
    steps = np.linspace(0, 255, GRID).round()
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = seen_lab(grid)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    useful = (lab[:, 0] > 25) & (lab[:, 0] < 92) & (chroma > 15) & (chroma < 100)  # no greys: they look like no class
    grid = np.concatenate([_safe(), grid[useful]])
    distances = np.minimum(_distances(grid), COLOUR_BLIND_WEIGHT * _distances(grid, DEUTERANOPIA))
    np.minimum(distances, COLOUR_BLIND_WEIGHT * _distances(grid, PROTANOPIA), out=distances)
    order = list(range(len(SAFE)))
    nearest = distances[order].min(axis=0)
    for _ in range(MOST - len(SAFE)):
        recent = distances[order[-NEAR_IDS:]].min(axis=0)
        order.append(int(np.argmax(np.minimum(nearest, NEAR_WEIGHT * recent))))
        np.minimum(nearest, distances[order[-1]], out=nearest)
    return grid[order]


def _distances(rgb: NDArray[np.float64], cones: tuple[tuple[float, ...], ...] | None = None) -> NDArray[np.float32]:
    """Return the CIELAB distance of every pair of colours that an eye sees ``[N N]``."""
    lab = seen_lab(rgb, cones).astype(np.float32)
    squares = np.einsum("nc,nc->n", lab, lab)
    between: NDArray[np.float32] = np.sqrt(np.maximum(squares[:, None] + squares - 2 * lab @ lab.T, 0.0))
    return between
