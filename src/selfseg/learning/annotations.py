"""Annotations of training images: labels and scribbles, found by the images' names, read and numbered as classes."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Silent
from selfseg.methods.base import Method
from selfseg.read import Source, find_annotations, read_annotations
from selfseg.read.gate import Role
from selfseg.read.labels import LabelItem, label_items, read_labels
from selfseg.read.sources import as_path
from selfseg.regions.graph import separate_objects
from selfseg.sample.chain import PreparedImage

MEANINGS = ("sparse", "full", "objects")
"""Meanings of the values of label images: classes with 0 = not labelled, classes with 0 as one of them, single objects."""

AUTO = "auto"
"""Meaning of labels whose meaning is not given: sparse, but full where they hold 0 and one other value alone."""

HANDFUL = 0.001
"""Share of the labelled pixels below which a class is one of few pixels."""

MANY = 8
"""Classes of few pixels from which on there must be a reason other than rarity."""

SCRIBBLES = "scribbles"
"""Meaning of scribbles: classes from 0 on, 255 = not drawn."""

MOST_KEPT = 32
"""Scribble values from 1 up to this are the ids of their classes; larger ones, grey levels of a paint program, are numbered."""

MAX_CLASSES = 255
NONE = -1
"""Pixel without annotation."""

LabelArray = NDArray[np.integer]
SILENT = Silent()


@dataclass(frozen=True)
class Annotations:
    """Annotations of training images, at the images' own size.

    Attributes
    ----------
    arrays
        One array of integers ``[*S]`` for each frame of an image, by the image's name: position of the value in `values`, -1 = none.
        With `objects` instead the number of the object, 0 = background.
    values
        The user's values; class c stands for ``values[c]``.
    ids
        Label value of each class in the model: of every class of a method made of annotations, else of the one that took them.
    names
        Name of each class.
    objects
        The arrays number objects.
    """

    arrays: dict[str, list[LabelArray]]
    values: tuple[int, ...]
    ids: tuple[int, ...]
    names: tuple[str, ...]
    objects: bool = False

    def prepared(self, name: str, frame: int, prepared: PreparedImage) -> NDArray[np.int64] | None:
        """Return the classes of one frame at its prepared size, -1 = none; None for an image without annotations.

        Objects are set apart there, not before: a border of two pixels would not survive a shrinking.
        """
        if name not in self.arrays:
            return None
        return self.as_classes(prepared.forward_annotations(self.arrays[name][frame])).astype(np.int64)

    def as_classes(self, part: LabelArray) -> LabelArray:
        """Return the classes ``[*S]`` of a part of an array: itself, or background and object, set apart where objects touch."""
        return np.where(part < 0, NONE, separate_objects(part) > 0).astype(np.int8) if self.objects else part

    def values_in(self, parts: Iterable[LabelArray]) -> list[int]:
        """Return the user's values that occur in parts of `arrays`, ascending; of objects 0 and 1."""
        positions = {min(one, 1) if self.objects else one for part in parts for one in _distinct(part, 0)}
        return [self.values[one] for one in sorted(positions)]


@dataclass(frozen=True)
class AnnotationFiles:
    """Annotations not read yet, by the name of their image.

    Attributes
    ----------
    items
        A file, or an array ``[*S]``, with T first or wherever the image has it.
    meaning
        One of `MEANINGS`, `AUTO`, or `SCRIBBLES`.
    names
        Names of label values, where the labels came with a class table.
    say
        Called with a line on what is odd about the values.
    """

    items: Mapping[str, LabelItem]
    meaning: str
    names: Mapping[int, str] = field(default_factory=dict)
    say: Callable[[str], None] = field(default=SILENT.say, repr=False)

    def read(self, images: Mapping[str, Image]) -> Annotations:
        """Read the annotations of those images.

        Raises
        ------
        InputError
            If one is not of its image's size or has too many values, or no pixel of any is labelled.
        """
        role: Role = "objects" if self.meaning == "objects" else "labels"
        frames = self._scribbles if self.meaning == SCRIBBLES else partial(_label_frames, role=role)
        arrays = {name: frames(self.items[name], image) for name, image in images.items() if name in self.items}
        if self.meaning == "objects":
            return Annotations(arrays, (0, 1), (1, 2), ("background", "object"), objects=True)
        meaning = self._meaning(arrays)
        sparse = meaning == "sparse"
        values, arrays = _numbered(arrays, lowest=int(sparse))
        top = max(values, default=0) if sparse else len(values)
        if self.meaning != SCRIBBLES and (not values or top > MAX_CLASSES):
            raise InputError(
                "labels",
                expected="class numbers from 1 to 255",
                got=f"{len(values)}, the largest {max(values)}" if values else "none",
                fix="give --labels-as objects if each number is an object, or full if 0 is a class",
            )
        self._tell_of_few(arrays, values)
        kind = {"sparse": "class", "full": "label", SCRIBBLES: "scribble"}[meaning]
        names = tuple(self.names.get(value, f"{kind} {value}") for value in values)
        kept = sparse or (meaning == SCRIBBLES and 1 <= min(values, default=0) <= max(values, default=0) <= MOST_KEPT)
        return Annotations(arrays, values, values if kept else tuple(range(1, len(values) + 1)), names)

    def _meaning(self, arrays: Mapping[str, list[LabelArray]]) -> str:
        """Return the meaning of the values: that which is given, else by the values themselves."""
        if self.meaning != AUTO:
            return self.meaning
        found = {value for frames in arrays.values() for array in frames for value in _distinct(array, 0)}
        if len(found) != 2 or 0 not in found:
            return "sparse"
        other = max(found)
        self.say(
            f"labels hold 0 and {other} alone: learned as two classes, as by --labels-as full (sparse: 0 is not labelled; "
            "objects: touching ones are kept apart)"
        )
        return "full"

    def _tell_of_few(self, arrays: Mapping[str, list[LabelArray]], values: Sequence[int]) -> None:
        """Say where many classes have a handful of pixels: what JPEG, smoothing or resizing makes of a few classes."""
        counts = np.zeros(len(values), np.int64)
        for frames in arrays.values():
            for row in (row for array in frames for row in array):
                counts += np.bincount(row[row >= 0].ravel().astype(np.int64), minlength=len(values))[: len(values)]
        few = int((counts < max(1.0, HANDFUL * counts.sum())).sum())
        if few >= MANY:
            self.say(
                f"labels: {few} of {len(values)} classes have less than {HANDFUL:.1%} of the labelled pixels each, as after JPEG, "
                "smoothing or resizing; save labels as PNG or TIFF, unsmoothed, or give --labels-as objects if each number is an object"
            )

    @staticmethod
    def _scribbles(path: Any, image: Image) -> list[LabelArray]:
        if "T" in image.axes:
            raise UsageError(
                path,
                expected="scribbles on single images",
                got=f"a series in {image.name}",
                fix="give the frame as a file of its own",
            )
        return [read_annotations(path, image.spatial_shape)]


def requested_annotations(
    kind: type[Method],
    method: str,
    labels: Any,
    meaning: str | None,
    scribbles: Any,
    sources: Sequence[Source],
    say: Callable[[str], None] = SILENT.say,
) -> AnnotationFiles | None:
    """Find the labels (see `find_label_files`) or the scribbles (see `read.find_annotations`) that the user gives; None without.

    Raises
    ------
    UsageError
        If the method has no use for what is given, lacks what it needs, or both are given.
    """
    given = scribbles is not None or labels is not None
    if given and not kind.uses_annotations:
        what = "labels" if scribbles is None else "scribbles"
        raise UsageError(
            what,
            expected="a method that learns from them",
            got=method,
            fix="leave them out, or use --method unet or feature_clustering",
        )
    if kind.needs_annotations and not given:
        raise UsageError(
            method,
            expected="labels of some of the images",
            got="images alone",
            fix="give --labels to `selfseg fit`, or --scribbles",
        )
    if scribbles is not None and labels is not None:
        raise UsageError("labels", expected="labels or scribbles", got="both", fix="give one of them")
    if scribbles is not None:
        return AnnotationFiles(find_annotations(scribbles, sources), SCRIBBLES, say=say)
    meaning = meaning or (AUTO if kind.needs_annotations else "sparse")
    return None if labels is None else find_label_files(labels, sources, meaning, say)


def find_label_files(
    labels: Any, sources: Sequence[Source], meaning: str | None, say: Callable[[str], None] = SILENT.say
) -> AnnotationFiles:
    """Find the labels of the inputs.

    Parameters
    ----------
    labels
        A file for a single input, a folder with files of the inputs' names (such as the output folder of ``selfseg
        segment``), an array for a single input, or a list of arrays (None = without labels), one for each input.
    sources
        The inputs.
    meaning
        One of `MEANINGS`; None = `AUTO`.
    say
        Called with a line on what is odd about the files or their values.

    Raises
    ------
    InputError
        If nothing is there, or nothing fits an input.
    UsageError
        If the meaning is unknown, or the number of arrays is not that of the inputs.
    """
    meaning = meaning or AUTO
    if meaning not in (*MEANINGS, AUTO):
        raise UsageError(
            "--labels-as",
            expected=f"one of {', '.join(MEANINGS)}",
            got=repr(meaning),
            fix="sparse: 0 = not labelled; full: 0 is a class; objects: a number an object",
        )
    names: Mapping[int, str] = {}
    if isinstance(labels, str | bytes | PathLike):
        labels = as_path(labels).expanduser()
        inside = labels / "labels"
        labels = inside if (labels / "run.json").is_file() and inside.is_dir() else labels
        names = _table_names(labels.parent if labels.is_file() else labels)
    return AnnotationFiles(label_items(labels, sources, "labels", say), meaning, names, say)


def _label_frames(labels: LabelItem, image: Image, role: Role = "labels") -> list[LabelArray]:
    """Return the labels of each frame of an image."""
    array = read_labels(labels, role, image.name)
    axes = image.axes.replace("C", "")
    shape = tuple(image.size(axis) for axis in axes)
    if array.shape != shape:
        expected, got = (" x ".join(map(str, sizes)) for sizes in (shape, array.shape))
        what = f"labels {labels}" if isinstance(labels, Path) else f"labels of {image.name}"
        raise InputError(
            what,
            expected=f"the size of the image, {expected}",
            got=got,
            fix="give labels at the full size of the image",
        )
    return list(np.moveaxis(array, axes.index("T"), 0)) if "T" in axes else [array]


def _numbered(arrays: dict[str, list[LabelArray]], lowest: int) -> tuple[tuple[int, ...], dict[str, list[LabelArray]]]:
    """Return all values from `lowest` on in their order, and the arrays with positions in that order, -1 below it."""
    values = np.array(sorted({v for frames in arrays.values() for a in frames for v in _distinct(a, lowest)}), np.int64)
    if len(values) <= np.iinfo(np.int16).max:  # more cannot be classes: the caller refuses them
        arrays = {name: [_positions(array, values) for array in frames] for name, frames in arrays.items()}
    return tuple(values.tolist()), arrays


def _distinct(array: LabelArray, lowest: int) -> set[int]:
    """Return the values from `lowest` on, row by row: labels of large images leave no memory for a copy."""
    return {int(value) for row in array for value in np.unique(row) if value >= lowest}


def _positions(array: LabelArray, values: NDArray[np.int64]) -> NDArray[np.int16]:
    """Return the position of each pixel's value in `values`, -1 where it is not among them."""
    result = np.full(array.shape, NONE, np.int16)
    if len(values):
        for row, into in zip(array, result, strict=True):
            positions = np.searchsorted(values, row)
            known = values.take(positions, mode="clip") == row
            into[known] = positions[known]
    return result


def _table_names(folder: Path) -> dict[int, str]:
    """Return the class names of a table beside the labels, or beside their folder, as ``selfseg segment`` writes it."""
    for file in (folder / "classes.json", folder.parent / "classes.json"):
        try:
            table = ClassTable.from_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            continue
        return {item.id: item.name for item in table.classes}
    return {}
