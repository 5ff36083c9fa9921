"""The class table: what each label value means, in every image of a model."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
