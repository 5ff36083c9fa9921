"""Supervision: labels and scribbles of training images, found, read and numbered as classes; and what is held out of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.methods._base import Method
from selfseg.read import Source, find_annotations, read_annotations
from selfseg.read.labels import find_labels, read_labels
from selfseg.regions.connect import separate_objects
from selfseg.sample.prepare import PreparedImage

MEANINGS = ("sparse", "full", "objects")
"""What the values of label images can mean: classes with 0 = not labelled, classes with 0 as one of them, single objects."""

MAX_CLASSES = 255
NOTHING = -1

LabelArray = NDArray[np.integer]


@dataclass(frozen=True)
class Annotations:
    """Labels of training images, at the images' own size.

    Attributes
    ----------
    arrays
        One array of integers ``[*S]`` for each frame of an image, by the image's name: position of the value in `values`, -1 = none.
        With `objects` instead the number of the object, 0 = background.
    values
        The users' values; class c stands for ``values[c]``.
    ids
        Label value of each class in the model, where the method keeps the classes as they are given.
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
        """Return the classes of one frame at its prepared size, -1 = none; None for an image without labels.

        Objects are set apart there, not before: a border of two pixels would not survive a shrinking.
        """
        if name not in self.arrays:
            return None
        return self.as_classes(prepared.forward_annotations(self.arrays[name][frame])).astype(np.int64)

    def as_classes(self, found: LabelArray) -> LabelArray:
        """Return the classes ``[*S]`` of a part of an array: itself, or background and object, set apart where objects touch."""
        return np.where(found < 0, NOTHING, separate_objects(found) > 0).astype(np.int8) if self.objects else found

    def values_in(self, parts: Iterable[LabelArray]) -> list[int]:
        """Return the users' values that occur in parts of `arrays`, ascending; of objects 0 and 1."""
        found = {min(place, 1) if self.objects else place for part in parts for place in _distinct(part, 0)}
        return [self.values[place] for place in sorted(found)]


@dataclass(frozen=True)
class ScribbleFiles:
    """Scribbles not read yet: their files by the name of the image (`read.find_annotations`)."""

    files: Mapping[str, Path]

    def read(self, images: Mapping[str, Image]) -> Annotations:
        """Read the scribbles of those images, and number their values 0, 1, 2, ... over all of them."""
        arrays: dict[str, list[LabelArray]] = {}
        for name, path in self.files.items():
            if name not in images:
                continue
            if "T" in images[name].axes:
                fix = "give the frame as a file of its own"
                raise UsageError(path, expected="scribbles on single images", got=f"a series in {name}", fix=fix)
            arrays[name] = [read_annotations(path, images[name].spatial_shape)]
        values, arrays = _numbered(arrays, 0)
        return Annotations(
            arrays, values, tuple(range(1, len(values) + 1)), tuple(f"scribble {value}" for value in values)
        )


@dataclass(frozen=True)
class LabelSet:
    """Label images not read yet, by the name of their image.

    Attributes
    ----------
    found
        A file, or an array ``[*S]``, with T first or wherever the image has it.
    meaning
        One of `MEANINGS`.
    names
        Names of label values, where the labels came with a class table.
    """

    found: Mapping[str, Path | LabelArray]
    meaning: str
    names: Mapping[int, str]

    def read(self, images: Mapping[str, Image]) -> Annotations:
        """Read the labels of those images.

        Raises
        ------
        InputError
            If one is not of its image's size or has too many values, or no pixel of any is labelled.
        """
        arrays = {name: _frames(self.found[name], image) for name, image in images.items() if name in self.found}
        if self.meaning == "objects":
            return Annotations(arrays, (0, 1), (1, 2), ("background", "object"), objects=True)
        values, arrays = _numbered(arrays, 1 if self.meaning == "sparse" else 0)
        top = max(values, default=0) if self.meaning == "sparse" else len(values)
        if not values or top > MAX_CLASSES:
            got = f"{len(values)}, the largest {max(values)}" if values else "none"
            fix = "give --labels-as objects if each number is an object, or full if 0 is a class"
            raise InputError("labels", expected="class numbers from 1 to 255", got=got, fix=fix)
        ids = values if self.meaning == "sparse" else tuple(range(1, len(values) + 1))
        kind = "class" if self.meaning == "sparse" else "label"
        return Annotations(arrays, values, ids, tuple(self.names.get(value, f"{kind} {value}") for value in values))


def find_supervision(
    kind: type[Method], name: str, labels: Any, meaning: str, scribbles: str | Path | None, sources: Sequence[Source]
) -> LabelSet | ScribbleFiles | None:
    """Find labels or scribbles; refuse them where they would be ignored, and their lack where nothing can be learned.

    Parameters
    ----------
    kind, name
        The method.
    labels, meaning
        As for `find_label_set`; None = there are none.
    scribbles
        A label image (255 = no scribble) for one image, or a folder with one for some of the images; None = there are none.
    sources
        The inputs.

    Raises
    ------
    UsageError
        If the method has no use for what is given, lacks what it needs, or both are given.
    """
    given = scribbles is not None or labels is not None
    if given and not kind.uses_annotations:
        what = "labels" if scribbles is None else "scribbles"
        fix = "leave them out, or use --method unet or feature_clustering"
        raise UsageError(what, expected="a method that learns from them", got=name, fix=fix)
    if kind.needs_annotations and not given:
        expected, fix = "labels of some of the images", "give --labels to `selfseg fit`, or --scribbles"
        raise UsageError(name, expected=expected, got="images alone", fix=fix)
    if scribbles is not None and labels is not None:
        raise UsageError("labels", expected="labels or scribbles", got="both", fix="give one of them")
    if scribbles is not None:
        return ScribbleFiles(find_annotations(scribbles, sources))
    return None if labels is None else find_label_set(labels, sources, meaning)


def find_label_set(labels: Any, sources: Sequence[Source], meaning: str) -> LabelSet:
    """Find the labels of the inputs.

    Parameters
    ----------
    labels
        A file for a single input, a folder with files of the inputs' names (such as the output folder of ``selfseg
        segment``), an array for a single input, or a list of arrays (None = without labels), one for each input.
    sources
        The inputs.
    meaning
        One of `MEANINGS`.

    Raises
    ------
    InputError
        If nothing is there, or nothing fits an input.
    UsageError
        If the meaning is unknown, or the number of arrays is not that of the inputs.
    """
    if meaning not in MEANINGS:
        got, fix = repr(meaning), "sparse: 0 = not labelled; full: 0 is a class; objects: a number an object"
        raise UsageError("--labels-as", expected=f"one of {', '.join(MEANINGS)}", got=got, fix=fix)
    if not isinstance(labels, str | Path):
        return LabelSet(_given_arrays(labels, sources), meaning, {})
    folder = Path(labels).expanduser()
    inside = folder / "labels"
    folder = inside if (folder / "run.json").is_file() and inside.is_dir() else folder
    files = find_labels(folder)
    if folder.is_file() and len(sources) == 1:
        return LabelSet({sources[0].name: folder}, meaning, _known_names(folder.parent))
    stems: dict[str, list[Path]] = {}
    for name, path in files.items():
        stems.setdefault(name.rsplit("/", 1)[-1], []).append(path)
    found = {}
    for source in sources:
        stem = source.name.rsplit("/", 1)[-1]
        if source.name in files:
            found[source.name] = files[source.name]
        elif len(stems.get(stem, [])) == 1:
            found[source.name] = stems[stem][0]
    if not found:
        expected, got = "a file named like an input", f"none of {', '.join(list(files)[:3])}"
        raise InputError(f"labels {labels}", expected=expected, got=got, fix="rename the files")
    return LabelSet(found, meaning, _known_names(folder))


def _given_arrays(labels: Any, sources: Sequence[Source]) -> dict[str, LabelArray]:
    items = [labels] if isinstance(labels, np.ndarray | Image) else list(labels)
    if len(items) != len(sources):
        expected, fix = f"{len(sources)}, one for each input", "give None for an input without labels"
        raise UsageError("labels", expected=expected, got=str(len(items)), fix=fix)
    found: dict[str, LabelArray] = {}
    for source, item in zip(sources, items, strict=True):
        array = item.data if isinstance(item, Image) else item
        if array is None:
            continue
        array = np.asarray(array)
        if array.dtype.kind not in "biu":
            got, fix = f"values of type {array.dtype}", "convert them"
            raise InputError(f"labels of {source.name}", expected="integers", got=got, fix=fix)
        found[source.name] = array
    if not found:
        raise InputError("labels", expected="some", got="none for any input", fix="give labels of some inputs")
    return found


def _frames(labels: Path | LabelArray, image: Image) -> list[LabelArray]:
    """Return the labels of each frame of an image."""
    array = read_labels(labels) if isinstance(labels, Path) else labels
    axes = image.axes.replace("C", "")
    wanted = tuple(n for n, axis in zip(image.data.shape, image.axes, strict=True) if axis != "C")
    if array.shape != wanted:
        expected, got = (" x ".join(map(str, shape)) for shape in (wanted, array.shape))
        what = f"labels {labels}" if isinstance(labels, Path) else f"labels of {image.name}"
        fix = "give labels at the full size of the image"
        raise InputError(what, expected=f"the size of the image, {expected}", got=got, fix=fix)
    return list(np.moveaxis(array, axes.index("T"), 0)) if "T" in axes else [array]


def _numbered(arrays: dict[str, list[LabelArray]], lowest: int) -> tuple[tuple[int, ...], dict[str, list[LabelArray]]]:
    """Return all values from `lowest` on in their order, and the arrays with positions in that order, -1 below it."""
    values = np.array(sorted({v for frames in arrays.values() for a in frames for v in _distinct(a, lowest)}), np.int64)
    if len(values) > np.iinfo(np.int16).max:
        return tuple(values.tolist()), arrays  # too many to be classes, whoever asks says so
    return tuple(values.tolist()), {name: [_positions(a, values) for a in frames] for name, frames in arrays.items()}


def _distinct(array: LabelArray, lowest: int) -> set[int]:
    """Return the values from `lowest` on, looked for row by row: labels of large images have room for no copy."""
    return {int(value) for row in array for value in np.unique(row) if value >= lowest}


def _positions(array: LabelArray, values: NDArray[np.int64]) -> NDArray[np.int16]:
    """Return where in `values` each value stands, -1 where it does not."""
    result = np.full(array.shape, NOTHING, np.int16)
    for row, into in zip(array, result, strict=True):
        found = np.searchsorted(values, row)
        known = values.take(found, mode="clip") == row if len(values) else np.zeros(row.shape, np.bool_)
        into[known] = found[known]
    return result


def _known_names(folder: Path) -> dict[int, str]:
    """Return the class names of a table beside the labels, or beside their folder, as ``selfseg segment`` writes it."""
    for place in (folder / "classes.json", folder.parent / "classes.json"):
        try:
            table = ClassTable.from_json(json.loads(place.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            continue
        return {item.id: item.name for item in table.classes}
    return {}
