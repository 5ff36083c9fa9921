"""Where regions end: boundary masks in any number of dimensions, and polygons along the edges of pixels.

Polygons live in the frame of pixel edges: pixel (r, c) covers the square from (r, c) to (r + 1, c + 1). Vertices are
whole numbers, the centre of the first pixel is at (0.5, 0.5), and neighbours run along the same edges exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import IGNORE
from selfseg.core.errors import UsageError
from selfseg.regions.connect import connected_components

# The sides of a pixel, clockwise, so that the region lies on the right hand: top (going east), right (south),
# bottom (west), left (north). Each row: step to the pixel ahead, corner at which the side starts.
AHEAD = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
START = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])


@dataclass(frozen=True)
class Outline:
    """One connected region (4 neighbours) of a class as a polygon.

    No ring passes a corner twice: where pixels of a region touch by a corner alone, a hole touches the exterior or
    another hole in that one point, as OGC Simple Features (section 6.1.11) asks for.
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


def boundaries(labels: NDArray[Any], thick: bool = False) -> NDArray[np.bool_]:
    """Return where the label changes.

    Parameters
    ----------
    labels
        Ids ``[*S]``.
    thick
        Mark the pixels on both sides of a change; else only the one before it (the upper, or the left).

    Returns
    -------
    NDArray
        ``[*S]`` bool: True where a pixel differs from the next one along some axis.
    """
    marked = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        before = tuple(slice(None, -1) if i == axis else slice(None) for i in range(labels.ndim))
        after = tuple(slice(1, None) if i == axis else slice(None) for i in range(labels.ndim))
        changes = labels[before] != labels[after]
        marked[before] |= changes
        if thick:
            marked[after] |= changes
    return marked


def outlines(labels: NDArray[Any], least_area: int = 1) -> list[Outline]:
    """Return the polygons of all connected regions but those of id 0.

    Parameters
    ----------
    labels
        Ids ``[Y X]``.
    least_area
        Leave out regions of fewer pixels. Holes are kept at any size, since another region fills them.

    Returns
    -------
    list of Outline
        In the order of the regions' first pixels, row by row.

    Raises
    ------
    UsageError
        If `labels` are not two-dimensional.
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

    Every side knows its successor, from three look-ups: the pixel ahead and the one ahead on the left. This is a
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

    Pointer doubling: after k rounds each element knows the smallest of the 2**k elements from it on; then, with the
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
