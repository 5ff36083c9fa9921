"""The class table: what each label value means, in every image of a model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

IGNORE = 0
"""Label value of pixels that belong to no class."""


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
        """Build a table from the plain values of `to_json`."""
        tuples = ({**row, "rgba": tuple(row["rgba"]), "sources": tuple(row["sources"])} for row in rows)
        return cls(tuple(SegmentClass(**row) for row in tuples))
