"""Where regions end: boundary masks in any number of dimensions, polygons along pixel edges, and shapes with a class.

Polygons live in the frame of pixel edges: pixel (r, c) covers the square from (r, c) to (r + 1, c + 1). Vertices are
whole numbers, the centre of the first pixel is at (0.5, 0.5), and neighbours run along the same edges exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import IGNORE, ClassTable
from selfseg.core.errors import UsageError
from selfseg.core.image import check_axes
from selfseg.export.labels import colour_table
from selfseg.regions.graph import connected_components

# The sides of a pixel, clockwise, so that the region lies on the right hand: top (going east), right (south),
# bottom (west), left (north). Each row: step to the pixel ahead, corner at which the side starts.
AHEAD = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
START = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])


PLANE_AXES = ("YX", "ZYX", "TYX", "TZYX")
"""Axes that labels may have to be cut into planes."""


@dataclass(frozen=True)
class Outline:
    """One connected region (4 neighbours) of a class as a polygon.

    No ring passes a corner twice: where pixels of a region touch by a corner alone, a hole touches the exterior or
    another hole in that one point, as OGC Simple Features (section 6.1.11) asks for.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.export.outlines import outlines
    >>> [one.area for one in outlines(np.array([[0, 1], [2, 1]]))]
    [2, 1]
    """

    label: int
    """Its id."""
    exterior: NDArray[np.int64]
    """Corners ``[N 2]`` int, (Y, X) at pixel edges, clockwise as seen, not repeated at the end."""
    holes: tuple[NDArray[np.int64], ...] = ()
    """The same for each hole, counter-clockwise."""

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return round(_signed_area(self.exterior) + sum(_signed_area(hole) for hole in self.holes))


def outlines(labels: NDArray[Any], least_area: int = 1) -> list[Outline]:
    """Return the polygons of all connected regions but those of id 0, in the order of their first pixels, row by row.

    Parameters
    ----------
    labels
        Ids ``[Y X]``.
    least_area
        Leave out regions of fewer pixels. Holes are kept at any size, since another region fills them.

    Raises
    ------
    UsageError
        If `labels` are not two-dimensional.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg.export.outlines import outlines
    >>> outlines(np.array([[0, 1], [0, 1]]))[0].exterior.tolist()
    [[0, 1], [0, 2], [2, 2], [2, 1]]
    """
    if labels.ndim != 2:
        raise UsageError("labels", expected="axes YX", got=f"{labels.ndim} axes", fix="give one plane at a time")
    regions = connected_regions(labels)
    areas = np.bincount(regions.ravel())
    exteriors: dict[int, NDArray[np.int64]] = {}
    holes: dict[int, list[NDArray[np.int64]]] = {}
    for region, ring in _rings(regions):
        if _signed_area(ring) > 0:
            exteriors[region] = ring
        else:
            holes.setdefault(region, []).append(ring)
    ids = np.zeros(len(areas), labels.dtype)
    ids[regions.ravel()] = labels.ravel()  # all pixels of a region write the same
    return [
        Outline(int(ids[region]), exteriors[region], tuple(holes.get(region, ())))
        for region in sorted(exteriors)
        if areas[region] >= least_area
    ]


def connected_regions(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the connected regions (4 neighbours) of equal ids, 1, 2, ... by their first pixels; 0 where the id is 0."""
    return connected_components(labels.astype(np.int64) - 1).astype(np.int64) + 1


def _rings(regions: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each closed run of pixel sides of a region: the region, and its corners without those on a straight line.

    The successor of each side follows from three look-ups: the pixel ahead and the one ahead on the left. This is a
    permutation of all sides, whose cycles are the rings.
    """
    sides, successor = _sides(np.pad(regions, 1))
    if not len(sides):
        return
    order, bounds = _cycles(successor)
    side, row, column = sides[order].T
    corners = np.stack([row, column], axis=1) - 1 + START[side]
    owner = regions[row - 1, column - 1]
    for start, stop in pairwise(bounds.tolist()):
        directions = side[start:stop]
        turns = directions != np.roll(directions, 1)
        for ring in _simple(corners[start:stop][turns]):
            yield int(owner[start]), ring


def _simple(ring: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Cut a ring wherever it comes back to a corner, into rings that pass each of their corners once."""
    codes = ring[:, 0] * (int(ring[:, 1].max()) + 1) + ring[:, 1]
    if len(np.unique(codes)) == len(codes):
        yield ring
        return
    open_corners: list[int] = []
    place: dict[int, int] = {}
    for i, code in enumerate(codes.tolist()):
        if code in place:
            start = place[code]
            yield ring[open_corners[start:]]
            for j in open_corners[start:]:
                del place[int(codes[j])]
            del open_corners[start:]
        place[code] = len(open_corners)
        open_corners.append(i)
    yield ring[open_corners]


def _sides(padded: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return every pixel side at the edge of a region, as (side, row, column) ``[N 3]``, and its successor ``[N]``."""
    inside = padded != IGNORE
    found = []
    for side, (dy, dx) in enumerate(AHEAD[[3, 0, 1, 2]]):  # the pixel beyond the top is the one ahead of the left side
        beyond = np.roll(padded, (-dy, -dx), axis=(0, 1))
        rows, columns = np.nonzero(inside & (beyond != padded))
        found.append(np.stack([np.full_like(rows, side), rows, columns], axis=1))
    sides = np.concatenate(found)
    side, row, column = sides.T
    ahead_row, ahead_column = row + AHEAD[side, 0], column + AHEAD[side, 1]
    left = AHEAD[(side + 3) % 4]
    left_row, left_column = ahead_row + left[:, 0], ahead_column + left[:, 1]
    own = padded[row, column]
    straight = padded[ahead_row, ahead_column] == own
    turns_left = straight & (padded[left_row, left_column] == own)
    next_side = np.where(turns_left, (side + 3) % 4, np.where(straight, side, (side + 1) % 4))
    next_row = np.where(turns_left, left_row, np.where(straight, ahead_row, row))
    next_column = np.where(turns_left, left_column, np.where(straight, ahead_column, column))
    codes, next_codes = (
        np.ravel_multi_index(place, (4, *padded.shape))
        for place in ((side, row, column), (next_side, next_row, next_column))
    )
    return sides, np.searchsorted(codes, next_codes)  # `codes` rise, as nonzero goes row by row


def _cycles(successor: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the elements of a permutation cycle by cycle, each from its smallest, and the bounds of the cycles.

    Pointer doubling: after k rounds each element has the smallest of the 2**k elements from it on; then, with the
    cycles cut before their smallest, how far it is to the end.
    """
    n = len(successor)
    smallest, jump = np.arange(n), successor.copy()
    while True:
        better = np.minimum(smallest, smallest[jump])
        if np.array_equal(better, smallest):
            break
        smallest, jump = better, jump[jump]
    last = smallest == successor
    following = np.where(last, np.arange(n), successor)
    to_end = np.where(last, 0, 1)
    while not last[following].all():
        to_end = to_end + to_end[following]
        following = following[following]
    order = np.lexsort((-to_end, smallest))
    bounds = np.flatnonzero(np.diff(smallest[order], prepend=-1))
    return order, np.append(bounds, n)


def _signed_area(ring: NDArray[np.int64]) -> float:
    """Return the enclosed area in pixels, positive if clockwise as seen (Y down)."""
    y, x = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


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
        raise UsageError(
            "labels",
            expected=f"axes {', '.join(PLANE_AXES)}",
            got=f"{axes}, {labels.ndim} axes",
            fix="transpose the labels, or give one plane at a time",
        )
    if objects is not None and objects.shape != labels.shape:
        raise UsageError(
            "objects",
            expected=f"shape {list(labels.shape)}",
            got=str(list(objects.shape)),
            fix="use the objects of these labels",
        )
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
