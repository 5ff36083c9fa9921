"""Edits: what a person did to a segmentation by hand, as plain values that can be repeated on any image of the model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import IGNORE, MOST, ClassTable, SegmentClass, class_colours
from selfseg.core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from selfseg.refine.hierarchy import Leaves

Colour = tuple[int, int, int, int]

AS_LEARNED = -1.0
"""Level below every merge of the tree: the labels are exactly those of the model."""


class Looks(Protocol):
    """What merges and splits ask of leaves: the class of each ``[R]`` and its look ``[R D]``, without tree or superpixels."""

    @property
    def classes(self) -> NDArray[np.integer]:
        """See `Leaves.classes`."""

    @property
    def features(self) -> NDArray[np.float32]:
        """See `Leaves.features`."""


@dataclass(frozen=True)
class Merge:
    """All of class `source` becomes class `target`."""

    source: int
    target: int


@dataclass(frozen=True)
class Split:
    """A class falls into parts by what its leaves look like."""

    source: int
    """The class."""
    parts: tuple[int, ...]
    """Its new ids, the first of which is `source` itself."""
    centres: tuple[tuple[float, ...], ...]
    """``[len(parts) D]`` mean look of each part, as in `Leaves.features`."""


@dataclass(frozen=True)
class Edits:
    """Everything done by hand to the classes of one model."""

    level: float = AS_LEARNED
    """Where the merge tree is cut, the same for all images; each region then takes the class of most of its pixels.
    `AS_LEARNED` leaves the model's labels as they are."""
    steps: tuple[Merge | Split, ...] = ()
    """Merges and splits of classes, in the order in which they were made."""
    ignored: frozenset[int] = frozenset()
    """Classes whose pixels become 0."""
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, Colour] = field(default_factory=dict)
    """By class id, where they differ from the model's."""

    def classes(self, leaves: Looks) -> NDArray[np.integer]:
        """Return the class of each leaf ``[R]`` after all merges and splits; ignored classes keep their ids."""
        classes = leaves.classes.astype(np.uint16)
        for step in self.steps:
            chosen = classes == step.source
            if isinstance(step, Merge):
                classes[chosen] = step.target
            elif chosen.any():
                gaps = leaves.features[chosen][:, None].astype(np.float64) - np.array(step.centres)
                classes[chosen] = np.array(step.parts, np.uint16)[np.square(gaps).sum(-1).argmin(1)]
        return classes

    def label_leaves(self, leaves: "Leaves") -> NDArray[np.integer]:
        """Return the final label of each leaf ``[R]``: of most pixels of its region at `level`, ties to the smaller id."""
        classes = self.classes(leaves)
        classes[np.isin(classes, list(self.ignored))] = IGNORE
        if self.level < 0:
            return classes
        region = leaves.tree.cut(level=self.level)
        width = int(classes.max(initial=0)) + 1
        pixels = np.zeros((int(region.max(initial=0)) + 1, width))
        np.add.at(pixels, (region, classes), leaves.sizes)
        return pixels.argmax(1).astype(np.uint16)[region]

    def labels(self, leaves: "Leaves") -> NDArray[np.uint16]:
        """Return the label image ``[*S]``; 0 = ignored, and outside the mask."""
        values = np.append(self.label_leaves(leaves), IGNORE).astype(np.uint16)
        return np.asarray(values[np.maximum(leaves.superpixels, -1)])

    def table(self, table: ClassTable) -> ClassTable:
        """Return the classes that are left, with names and colours as edited; shares and clusters of merged ones are joined."""
        rows = {item.id: item for item in table.classes}
        for step in self.steps:
            if isinstance(step, Merge):
                rows = _merged(rows, step)
            else:
                rows |= {part: _part(rows[step.source], part) for part in step.parts[1:]}
        kept = (rows[key] for key in sorted(rows) if key not in self.ignored)
        edited = (
            replace(row, name=self.names.get(row.id, row.name), rgba=self.colours.get(row.id, row.rgba)) for row in kept
        )
        return ClassTable(tuple(edited))

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `from_json` reads them."""
        plain = asdict(self)
        plain["ignored"] = sorted(self.ignored)
        return plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Edits":
        """Build edits from the plain values of `to_json`; others raise `UsageError`."""
        try:
            steps = tuple(_step_from(row) for row in values.get("steps", ()))
            return cls(
                float(values.get("level", AS_LEARNED)),
                steps,
                frozenset(int(key) for key in values.get("ignored", ())),
                {int(key): str(name) for key, name in values.get("names", {}).items()},
                {int(key): _colour(rgba) for key, rgba in values.get("colours", {}).items()},
            )
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UsageError(
                "edits",
                expected="plain values of edits",
                got=f"{type(error).__name__}: {error}",
                fix="give what `Edits.to_json` returned",
            ) from error


def read_edits(path: Path | str) -> Edits:
    """Read edits that the studio wrote.

    Raises
    ------
    ModelError
        If the file cannot be read.
    UsageError
        If it holds something else.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            path, expected="a file of edits", got=str(error), fix="give the edits.json of a run of the studio"
        ) from error
    return Edits.from_json(values)


def split_class(
    images: Sequence["Leaves"], classes: Sequence[NDArray[np.integer]], source: int, n_parts: int, known: Sequence[int]
) -> Split:
    """Find the parts of one class by clustering what its leaves look like, over all given images together.

    Parameters
    ----------
    images
        Leaves of the images.
    classes
        The class of each leaf now (`Edits.classes`), for each image.
    source
        The class.
    n_parts
        Parts wanted, 2 or more.
    known
        Ids in use, which the new classes must not take.

    Returns
    -------
    Split
        The largest part keeps the id.

    Raises
    ------
    UsageError
        If `n_parts` is below 2, the class has fewer different leaves, or no id is left.
    """
    from selfseg.regions.clusters import codebook  # scikit-learn takes a second to import, and few split a class

    chosen = [found == source for found in classes]
    rows = np.concatenate([image.features[here] for image, here in zip(images, chosen, strict=True)])
    weights = np.concatenate([image.sizes[here] for image, here in zip(images, chosen, strict=True)])
    centres = codebook(rows, weights, n_parts, 1.0, n_parts) if n_parts >= 2 and len(rows) >= 2 else rows[:1]
    if n_parts < 2 or len(centres) < n_parts:
        raise UsageError(
            "split",
            expected=f"{max(2, n_parts)} or more different regions",
            got=f"{len(centres)} in class {source}" if n_parts >= 2 else f"{n_parts} parts",
            fix="choose a larger class, or fewer parts",
        )
    nearest = np.square(rows[:, None] - centres).sum(-1).argmin(1)
    order = np.argsort(-np.bincount(nearest, weights, len(centres)), kind="stable")
    free = [key for key in range(1, MOST + 1) if key > max(known, default=0)][: n_parts - 1]
    if len(free) < n_parts - 1:
        raise UsageError("split", expected=f"an id of at most {MOST}", got="none left", fix="merge some classes")
    return Split(source, (source, *free), tuple(tuple(map(float, centres[i])) for i in order))


def _merged(rows: Mapping[int, SegmentClass], step: Merge) -> dict[int, SegmentClass]:
    gone, kept = rows[step.source], rows[step.target]
    share = gone.area_share + kept.area_share
    mean = (gone.area_share * gone.intensity + kept.area_share * kept.intensity) / share if share else kept.intensity
    sources = tuple(sorted({*kept.sources, *gone.sources}))
    joined = replace(kept, area_share=share, intensity=mean, sources=sources)
    return {key: joined if key == step.target else row for key, row in rows.items() if key != step.source}


def _part(row: SegmentClass, key: int) -> SegmentClass:
    return replace(row, id=key, name=f"class {key}", rgba=class_colours(key)[key - 1])


def _step_from(row: Mapping[str, Any]) -> Merge | Split:
    if "target" in row:
        return Merge(int(row["source"]), int(row["target"]))
    centres = tuple(tuple(float(value) for value in centre) for centre in row["centres"])
    return Split(int(row["source"]), tuple(int(part) for part in row["parts"]), centres)


def _colour(rgba: Sequence[Any]) -> Colour:
    red, green, blue, alpha = (int(value) for value in rgba)
    return red, green, blue, alpha
