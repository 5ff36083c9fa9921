"""A folder that segment or predict wrote, read back: labels, class table, objects, and the images they are of."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import Failure, InputError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.export.classes import read_classes
from selfseg.read import Source, find_inputs
from selfseg.read._decoded import split_address
from selfseg.read.labels import find_labels, read_label_image

LABELS, INSTANCES = "labels", "instances"
SUFFIX = ".tif"
"""What is read where labels were written in several formats."""


@dataclass(frozen=True)
class Segmented:
    """One segmented image.

    Attributes
    ----------
    labels
        Class ids, with axes, spacing, unit and name.
    objects
        Object ids of the same shape, 0 = none; None = nobody has looked for objects.
    source
        The image that the labels are of; None = not known.
    axes
        Its axes, as they were when it was segmented; None = as the file says.
    sha256
        Its fingerprint at that time, empty = not known.
    content
        The image itself, where it is in memory already.
    """

    labels: Image
    objects: NDArray[Any] | None = None
    source: Source | None = None
    axes: str | None = None
    sha256: str = ""
    content: Image | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.labels.name

    @property
    def file_name(self) -> str:
        """Name of the image's file below the folder of the inputs, ``"series1/cell_03.png"``."""
        suffix = self.source.path.suffix if self.source is not None and self.source.path is not None else ""
        return self.name + suffix

    def image(self) -> Image:
        """Read the image.

        Raises
        ------
        InputError
            If nothing says where it is, it is gone, has changed since, or is of another size than the labels.
        """
        image = self.content or self._read()
        shape = tuple(n for n, letter in zip(image.data.shape, image.axes, strict=True) if letter != "C")
        if shape != self.labels.data.shape or image.axes.replace("C", "") != self.labels.axes:
            expected = f"{self.labels.axes} of {_size(self.labels.data.shape)}, like its labels"
            got, fix = f"{image.axes} of {_size(image.data.shape)}", "give the images that were segmented with --images"
            raise InputError(image.source, expected=expected, got=got, fix=fix)
        return image

    def _read(self) -> Image:
        fix = "say with --images where the images are"
        if self.source is None:
            raise InputError(self.name, expected="a note of its image in run.json", got="none", fix=fix)
        if self.source.path is not None and not split_address(self.source.path)[0].exists():
            got = "nothing: it has moved or was an array"
            raise InputError(self.source.path, expected="the segmented image", got=got, fix=fix)
        if self.sha256 and self.source.fingerprint() != self.sha256:
            got = "a file with other content than the one that was segmented"
            raise InputError(self.source.path, expected="the same image", got=got, fix=fix)
        return self.source.read(self.axes)


class RunFolder:
    """Reads the folder that a run wrote.

    Parameters
    ----------
    out
        The folder, with ``labels/`` and ``classes.json``; ``run.json`` names the images.
    images
        Where the images are now, if not where ``run.json`` says: a file, folder or glob, matched by name.

    Raises
    ------
    InputError
        If the folder is not one that a run wrote.
    ModelError
        If its class table is damaged.
    """

    def __init__(self, out: Path | str, images: Any = None) -> None:
        self.out = Path(out)
        if not (self.out / LABELS).is_dir() or not (self.out / "classes.json").is_file():
            fix = "give the OUT folder of `selfseg segment` or `selfseg predict`"
            got = "another folder" if self.out.is_dir() else "nothing: there is no such folder"
            raise InputError(out, expected="a folder with labels/ and classes.json", got=got, fix=fix)
        self.table: ClassTable = read_classes(self.out / "classes.json")
        self._labels = find_labels(self.out / LABELS, SUFFIX)
        self._objects = find_labels(self.out / INSTANCES, SUFFIX) if (self.out / INSTANCES).is_dir() else {}
        self._facts = {row["name"]: row for row in _image_rows(self.out / "run.json")}
        self._moved = {source.name: source for source in find_inputs(images)} if images is not None else None

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def has_objects(self) -> bool:
        """Whether objects were looked for in every image."""
        return bool(self._labels) and set(self._labels) <= set(self._objects)

    def read(self, failures: list[Failure], objects: bool = False) -> Iterator[Segmented]:
        """Yield the segmented images, one in memory at a time; what cannot be read is added to `failures`.

        Parameters
        ----------
        failures
            Collects (name, message).
        objects
            Read the objects too.
        """
        for name, path in self._labels.items():
            try:
                yield self._read_one(name, path, objects)
            except SelfsegError as error:
                failures.append((name, str(error)))

    def _read_one(self, name: str, path: Path, objects: bool) -> Segmented:
        labels = read_label_image(path, name)
        found = read_label_image(self._objects[name]) if objects else None
        if found is not None and found.data.shape != labels.data.shape:
            fix = "run `selfseg instances` again"
            got = _size(found.data.shape)
            raise InputError(
                str(self._objects[name]),
                expected=f"the size of its labels, {_size(labels.data.shape)}",
                got=got,
                fix=fix,
            )
        row = self._facts.get(name, {})
        data = None if found is None else found.data
        return Segmented(labels, data, self._source(name, row), row.get("axes"), row.get("sha256", ""))

    def _source(self, name: str, row: dict[str, Any]) -> Source | None:
        if self._moved is not None:
            return self._moved.get(name)
        return Source(name, Path(row["source"])) if "source" in row else None


def background_class(table: ClassTable, wanted: str | int | None = None) -> int:
    """Return the id of the class that is the background: the one that is asked for, else that of the largest share.

    Raises
    ------
    UsageError
        If no class is called so.
    """
    if wanted is None:
        return max(table.classes, key=lambda item: (item.area_share, -item.id)).id
    return find_classes(table, [wanted])[0]


def find_classes(table: ClassTable, wanted: list[str | int]) -> list[int]:
    """Return the ids of classes by their names or ids.

    Raises
    ------
    UsageError
        If there is no such class.
    """
    by_name = {item.name: item.id for item in table.classes}
    by_name |= {str(item.id): item.id for item in table.classes}
    unknown = [str(item) for item in wanted if str(item) not in by_name]
    if unknown:
        known = ", ".join(f"{item.id} ({item.name})" for item in table.classes)
        raise UsageError("class", expected=f"one of {known}", got=unknown[0], fix="give its id or its name")
    return [by_name[str(item)] for item in wanted]


def _image_rows(path: Path) -> list[dict[str, Any]]:
    """Return what ``run.json`` says of each image; nothing where there is no such file."""
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["images"]
        if not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
            raise TypeError("images without names")
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "restore it, or segment again"
        raise InputError(path, expected="the facts of a run", got=str(error), fix=fix) from error
    return list(rows)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
