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
    """Values of leaves that merges and splits need: the class of each ``[R]`` and its look ``[R D]``, without tree or superpixels."""

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


NOT_DRAWN = 255
"""Value of pixels without a scribble, in scribble images."""


@dataclass(frozen=True)
class Painted:
    """A stroke of the brush over the labels of one image."""

    value: int
    """Class of the pixels under it; 0 = ignore."""
    radius: float
    points: tuple[tuple[float, float], ...]
    """(Y, X) in pixels; (0, 0) is the outer corner of the first one. A pixel is under the stroke if its centre is at most `radius` away."""
    plane: int = 0
    frame: int = 0


Runs = tuple[int, ...]
"""Pixels of an image, as start and length of each run along X, in turn: flat places in its array ``[*S]``."""


@dataclass(frozen=True)
class Given:
    """Pixels of one image that were given to a class: a region, or an object."""

    value: int
    runs: Runs
    frame: int = 0


@dataclass(frozen=True)
class Remade:
    """Objects of one image that were made by hand: joined, cut, drawn or removed."""

    clear: Runs
    """Pixels that belong to no object of before any more."""
    parts: tuple[Runs, ...] = ()
    """Pixels of each new object."""
    frame: int = 0


Correction = Painted | Given | Remade


@dataclass(frozen=True)
class Counting:
    """Objects that are counted."""

    kind: str = "watershed"
    """See `results.instances.ObjectOptions`."""
    of: tuple[int, ...] = ()
    """Classes that consist of objects; empty = all but the background."""
    min_size: int = 1
    """Objects of fewer pixels do not count."""


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
    corrections: Mapping[str, tuple[Correction, ...]] = field(default_factory=dict)
    """By the name of the image, in the order in which they were made; on other images there are none."""
    counting: Counting | None = None
    """How objects are counted; None = they are not."""

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

    def correct(
        self,
        labels: NDArray[Any],
        name: str,
        frame: int = 0,
        region: Sequence[slice] | None = None,
        shape: Sequence[int] = (),
    ) -> NDArray[Any]:
        """Return labels ``[*S]`` of an image with the corrections made by hand; of a `region` of an image of that `shape`, its labels."""
        made = [one for one in self.corrections.get(name, ()) if one.frame == frame and not isinstance(one, Remade)]
        if not made:
            return labels
        place = region or tuple(slice(0, n) for n in labels.shape)
        labels = labels.astype(np.promote_types(labels.dtype, np.min_scalar_type(max(one.value for one in made))))
        for one in made:
            if isinstance(one, Painted):
                _paint(labels, one, place)
            else:
                labels[_inside(one.runs, shape or labels.shape, place)] = one.value
        return labels

    def of_frame(self, name: str, number: int, frame_name: str) -> "Edits":
        """Return the edits for one frame of a sequence as an image of its own: corrections of that frame, or of an image of its name."""
        own = [replace(one, frame=0) for one in self.corrections.get(name, ()) if one.frame == number]
        made = (*(self.corrections.get(frame_name, ()) if frame_name != name else ()), *own)
        return replace(self, corrections={frame_name: made} if made else {})

    def remakes(self, name: str, frame: int | None = None) -> list[Remade]:
        """Return the objects of an image that were made by hand, of all frames or of one."""
        made = (one for one in self.corrections.get(name, ()) if isinstance(one, Remade))
        return [one for one in made if frame is None or one.frame == frame]

    def correct_objects(
        self,
        objects: NDArray[Any],
        name: str,
        frame: int = 0,
        region: Sequence[slice] | None = None,
        shape: Sequence[int] = (),
        first: int | None = None,
    ) -> NDArray[Any]:
        """Return objects ``[*S]``, ids from 1 on, with those that were made by hand; of a `region` of an image of that `shape`, its part.

        The first of them gets the id `first` (None = one more than the largest here), the next one more.
        """
        objects = objects.copy()
        next_ = int(objects.max(initial=0)) + 1 if first is None else first
        for one in self.remakes(name, frame):
            objects[_inside(one.clear, shape or objects.shape, region)] = 0
            for runs in one.parts:
                objects[_inside(runs, shape or objects.shape, region)] = next_
                next_ += 1
        return objects

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
        plain["corrections"] = {
            name: [{"kind": type(one).__name__.lower(), **asdict(one)} for one in made]
            for name, made in self.corrections.items()
        }
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
                {str(name): tuple(map(correction_from, rows)) for name, rows in values.get("corrections", {}).items()},
                counting_from(values.get("counting")),
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


def correction_from(row: Mapping[str, Any]) -> Correction:
    """Build a correction from plain values, of `Edits.to_json` or of a log, by its ``kind``."""
    frame = int(row.get("frame", 0))
    match row["kind"]:
        case "painted":
            points = tuple((float(y), float(x)) for y, x in row["points"])
            return Painted(int(row["value"]), float(row["radius"]), points, int(row.get("plane", 0)), frame)
        case "given":
            return Given(int(row["value"]), _runs(row["runs"]), frame)
        case "remade":
            return Remade(_runs(row["clear"]), tuple(map(_runs, row["parts"])), frame)
        case kind:
            raise ValueError(f"kind of correction {kind!r}")


def counting_from(row: Mapping[str, Any] | None) -> Counting | None:
    """Build the way of counting from plain values."""
    if row is None:
        return None
    return Counting(str(row["kind"]), tuple(int(key) for key in row["of"]), int(row["min_size"]))


def _runs(values: Sequence[Any]) -> Runs:
    runs = tuple(int(value) for value in values)
    if len(runs) % 2 or min(runs, default=0) < 0:
        raise ValueError("runs are start and length, in turn")
    return runs


def runs_of(mask: NDArray[np.bool_]) -> Runs:
    """Return the pixels of a mask ``[*S]`` as runs along its last axis."""
    rows = mask.reshape(-1, mask.shape[-1]).astype(np.int8)
    steps = np.diff(np.pad(rows, ((0, 0), (1, 1))), axis=1)
    row, first = np.nonzero(steps == 1)
    _, last = np.nonzero(steps == -1)
    return tuple(np.stack([row * mask.shape[-1] + first, last - first], 1).ravel().tolist())


def _inside(runs: Runs, shape: Sequence[int], region: Sequence[slice] | None = None) -> tuple[NDArray[np.int64], ...]:
    """Return the places of runs in an image of that shape, those within a region by their places there."""
    starts, lengths = np.array(runs, np.int64).reshape(-1, 2).T
    flat = np.repeat(starts - np.append(0, lengths.cumsum()[:-1]), lengths) + np.arange(lengths.sum())
    places = np.unravel_index(flat[flat < np.prod(shape)], tuple(shape))
    if region is None:
        return places
    here = np.logical_and.reduce([(axis >= s.start) & (axis < s.stop) for axis, s in zip(places, region, strict=True)])
    return tuple(axis[here] - s.start for axis, s in zip(places, region, strict=True))


def _paint(labels: NDArray[Any], stroke: Painted, region: Sequence[slice]) -> None:
    volume = labels if labels.ndim == 3 else labels[None]
    first = region[0].start if labels.ndim == 3 else 0
    if first <= stroke.plane < first + len(volume):
        corner = np.array([edge.start for edge in region[-2:]], np.float64)
        draw_stroke(
            volume[stroke.plane - first], np.array(stroke.points, np.float64) - corner, stroke.radius, stroke.value
        )


def draw(shape: tuple[int, ...], strokes: Sequence[Mapping[str, Any]]) -> NDArray[np.uint8]:
    """Return strokes as a label image ``(Y, X)`` or ``(Z, Y, X)``, 255 where nothing is drawn; later ones cover earlier ones.

    Strokes have `plane`, `value`, `radius` in pixels and `points` (see `Painted`). A pixel belongs to a stroke if its centre is at
    most `radius` from the line, and the one under a point always does.
    """
    labels = np.full(shape, NOT_DRAWN, np.uint8)
    volume = labels if labels.ndim == 3 else labels[None]
    for stroke in strokes:
        if stroke["plane"] < len(volume):
            points = np.array(stroke["points"], np.float64)
            draw_stroke(volume[stroke["plane"]], points, stroke["radius"], stroke["value"])
    return labels


def draw_stroke(plane: NDArray[Any], points: NDArray[np.float64], radius: float, value: int) -> None:
    """Draw a line of points ``[P 2]`` (Y, X) into a plane ``[Y X]`` (see `draw`)."""
    height, width = plane.shape
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        low = np.floor(np.minimum(start, end) - radius).astype(int)
        high = np.ceil(np.maximum(start, end) + radius).astype(int) + 1
        top, left = max(0, low[0]), max(0, low[1])
        y, x = np.mgrid[top : max(top, min(height, high[0])), left : max(left, min(width, high[1]))] + 0.5
        along = end - start
        share = np.clip(((y - start[0]) * along[0] + (x - start[1]) * along[1]) / max(along @ along, 1e-9), 0, 1)
        gap = (y - start[0] - share * along[0]) ** 2 + (x - start[1] - share * along[1]) ** 2
        plane[top : top + y.shape[0], left : left + y.shape[1]][gap <= radius**2] = value
        row, column = int(np.floor(start[0])), int(np.floor(start[1]))
        if 0 <= row < height and 0 <= column < width:
            plane[row, column] = value


def _colour(rgba: Sequence[Any]) -> Colour:
    red, green, blue, alpha = (int(value) for value in rgba)
    return red, green, blue, alpha
