"""What the vector formats share: each object, or each connected region of a class, as polygons with a name and a colour."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.axes import check_axes
from selfseg.core.classes import IGNORE, ClassTable
from selfseg.core.errors import UsageError
from selfseg.export.colour_table import colour_table
from selfseg.export.outlines import Outline, outlines

PLANE_AXES = ("YX", "ZYX", "TYX", "TZYX")
"""Axes that labels may have to be cut into planes."""


@dataclass(frozen=True)
class Shape:
    """One object, or one connected region of a class, in one plane."""

    id: int
    """Id of the object; for regions a number from 1 on, over all planes."""
    class_id: int
    """Its class; 0 = none."""
    name: str
    """Name of the class."""
    colour: tuple[int, int, int]
    """Red, green, blue, 0-255: the colour of the class."""
    parts: tuple[Outline, ...]
    """Its polygons. Regions have one, and so have objects that are connected."""
    z: int = 0
    t: int = 0
    """Slice and time point, from 0."""

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return sum(part.area for part in self.parts)

    @property
    def rings(self) -> list[NDArray[np.int64]]:
        """All rings, exteriors and holes."""
        return [ring for part in self.parts for ring in (part.exterior, *part.holes)]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right, at pixel edges."""
        corners = np.concatenate([part.exterior for part in self.parts])
        (top, left), (bottom, right) = corners.min(0).tolist(), corners.max(0).tolist()
        return top, left, bottom, right


def shapes(
    labels: NDArray[Any],
    table: ClassTable | None = None,
    objects: NDArray[Any] | None = None,
    axes: str = "YX",
    least_area: int = 1,
) -> list[Shape]:
    """Return the objects of an image, or the connected regions of its classes, as polygons along pixel edges.

    The polygons cover exactly the pixels of the label image: filled again, they give it back.

    Parameters
    ----------
    labels
        Class ids, 0 = ignore, with the axes `axes`.
    table
        Names and colours; a class without any is called "class ID".
    objects
        Object ids of the same shape, 0 = none; None = each connected region (4 neighbours) of a class is taken.
    axes
        ``"YX"``, ``"ZYX"``, ``"TYX"`` or ``"TZYX"``; objects of a volume give one shape a slice.
    least_area
        Leave out parts of fewer pixels.

    Returns
    -------
    list of Shape
        Plane by plane; in a plane objects by id, regions by their first pixels.

    Raises
    ------
    UsageError
        If the axes are others, or `objects` are not of the shape of `labels`.
    """
    if check_axes(axes) not in PLANE_AXES or labels.ndim != len(axes):
        fix = "transpose the labels, or give one plane at a time"
        raise UsageError("labels", expected=f"axes {', '.join(PLANE_AXES)}", got=f"{axes}, {labels.ndim} axes", fix=fix)
    if objects is not None and objects.shape != labels.shape:
        got, fix = str(list(objects.shape)), "use the objects of these labels"
        raise UsageError("objects", expected=f"shape {list(labels.shape)}", got=got, fix=fix)
    classes = None if objects is None else object_classes(objects, labels)
    names = {item.id: item.name for item in table.classes} if table is not None else {}
    colours = colour_table(table, int(labels.max(initial=0)))
    found: list[Shape] = []
    for place in np.ndindex(labels.shape[:-2]):
        where = {"z": 0, "t": 0, **{letter.lower(): i for letter, i in zip(axes[:-2], place, strict=True)}}
        for number, class_id, parts in _pieces(labels[place], None if objects is None else objects[place], least_area):
            kind = class_id if classes is None else int(classes[number])
            name = names.get(kind, f"class {kind}" if kind != IGNORE else "object")
            red, green, blue = (int(value) for value in colours[kind, :3])
            made = Shape(number or len(found) + 1, kind, name, (red, green, blue), parts, **where)
            found.append(made)
    return found


def object_classes(objects: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class that most pixels of each object have ``[largest id + 1]``; ignored pixels do not vote."""
    n_objects, n_classes = int(objects.max(initial=0)) + 1, int(labels.max(initial=0)) + 1
    inside = (objects > 0) & (labels > 0)
    pairs, votes = np.unique(objects[inside].astype(np.int64) * n_classes + labels[inside], return_counts=True)
    classes = np.zeros(n_objects, np.int64)
    order = np.lexsort((-pairs, votes))  # the last that is written stays: the most votes, then the lower class
    classes[pairs[order] // n_classes] = pairs[order] % n_classes
    return classes


def _pieces(
    labels: NDArray[Any], objects: NDArray[Any] | None, least_area: int
) -> Iterator[tuple[int, int, tuple[Outline, ...]]]:
    """Yield object id (0 for regions), class id (0 for objects) and polygons of each piece of one plane."""
    if objects is None:
        for item in outlines(labels, least_area):
            yield 0, item.label, (item,)
        return
    by_object = sorted(outlines(objects, least_area), key=lambda item: item.label)
    for number, parts in groupby(by_object, key=lambda item: item.label):
        yield number, IGNORE, tuple(parts)
