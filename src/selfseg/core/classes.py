"""The class table: what each label value means, in every image of a model."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from selfseg.core.errors import UsageError

IGNORE = 0
"""Label value of pixels that belong to no class."""

LARGEST_ID = 2**16 - 1
"""Largest id of a class."""


@dataclass(frozen=True)
class SegmentClass:
    """One class of a model.

    Attributes
    ----------
    id
        Label value in files, 1..K. 0 is "ignore".
    name
        What the user calls it.
    rgba
        Colour, four values 0-255.
    area_share
        Share of the valid training pixels, 0-1.
    intensity
        Mean intensity on the training data, of the prepared images, the key by which ids are ordered (dark to bright).
    sources
        Clusters of the method (0-based channels of its probabilities) that make up this class.
    """

    id: int
    name: str
    rgba: tuple[int, int, int, int]
    area_share: float
    intensity: float
    sources: tuple[int, ...]


@dataclass(frozen=True)
class ClassTable:
    """All classes of a model, in the order of their ids."""

    classes: tuple[SegmentClass, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def merged(self, groups: Sequence[Sequence[int]], keep: Collection[int] = ()) -> "ClassTable":
        """Return a table in which the classes of each group are one. The others stay; ids are given anew, dark to bright.

        A merged class has the sum of the areas and their mean intensity, and name and colour of its largest member: of one whose
        id is in `keep`, the ids of those that were named by hand, where there is one.

        Raises
        ------
        UsageError
            If an id is unknown or named twice, or a group has fewer than two.
        """
        named = [label for group in groups for label in group]
        known = {item.id: item for item in self.classes}
        if any(len(group) < 2 for group in groups) or len(set(named)) < len(named) or not set(named) <= set(known):
            got = ", ".join("+".join(map(str, group)) for group in groups)
            expected = f"groups of two or more ids out of 1..{len(self)}, each id once"
            raise UsageError("merge", expected=expected, got=got, fix="see classes.json for the ids")
        rows = [_union([known[label] for label in group], keep) for group in groups]
        rows += [item for item in self.classes if item.id not in named]
        # A class without area has no intensity of its own, and comes last, as where classes are numbered first.
        rows.sort(key=lambda item: (item.area_share == 0, item.intensity, item.id))
        return ClassTable(tuple(_renumbered(item, label) for label, item in enumerate(rows, 1)))

    def named(self, names: Mapping[int, str]) -> "ClassTable":
        """Return a table with other names, by id.

        Raises
        ------
        UsageError
            If an id is unknown, or a name is empty.
        """
        if not set(names) <= {item.id for item in self.classes} or not all(name.strip() for name in names.values()):
            got = ", ".join(f"{label}={name}" for label, name in names.items())
            expected = f"ID=NAME with an id out of 1..{len(self)}"
            raise UsageError("name", expected=expected, got=got, fix="see classes.json for the ids")
        rows = (replace(item, name=names.get(item.id, item.name).strip()) for item in self.classes)
        return ClassTable(tuple(rows))

    def find(self, wanted: Sequence[str | int]) -> list[int]:
        """Return the ids of classes by their names or ids.

        Raises
        ------
        UsageError
            If there is no such class.
        """
        by_name = {item.name: item.id for item in self.classes} | {str(item.id): item.id for item in self.classes}
        unknown = [str(item) for item in wanted if str(item) not in by_name]
        if unknown:
            known = ", ".join(f"{item.id} ({item.name})" for item in self.classes)
            raise UsageError("class", expected=f"one of {known}", got=unknown[0], fix="give its id or its name")
        return [by_name[str(item)] for item in wanted]

    def background(self, wanted: str | int | None = None) -> int:
        """Return the id of the class that is the background: the one that is asked for, else that of the largest share.

        Raises
        ------
        UsageError
            If there is no such class.
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

        Raises
        ------
        TypeError, KeyError, ValueError
            If a row is no class, a value is not of its kind, or two rows have one id.
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


def _union(members: Sequence[SegmentClass], keep: Collection[int]) -> SegmentClass:
    largest = max(members, key=lambda item: (item.id in keep, item.area_share))
    share = sum(item.area_share for item in members)
    weighted = sum(item.area_share * item.intensity for item in members)
    sources = tuple(sorted(source for item in members for source in item.sources))
    return replace(largest, area_share=share, intensity=weighted / share if share else 0.0, sources=sources)


def _renumbered(item: SegmentClass, label: int) -> SegmentClass:
    """Give a class another id; a name that only says the id follows it."""
    return replace(item, id=label, name=f"class {label}" if item.name == f"class {item.id}" else item.name)
