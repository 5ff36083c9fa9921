"""The kernel of the oriented watershed: follow the arcs between regions, pixel face by pixel face, and find their angles."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _link(ends, arc, n_corners):
    """For each face [F] and end (two corners a face), the one other face of its arc that meets it there, else -1."""
    partner = np.full(ends.shape, -1)
    at_corner = np.full((n_corners, 4), -1)
    for face in range(len(ends)):
        for side in range(2):
            corner, slot = ends[face, side], 0
            while at_corner[corner, slot] >= 0:
                slot += 1
            at_corner[corner, slot] = face
    for face in range(len(ends)):
        for side in range(2):
            found = 0
            for other in at_corner[ends[face, side]]:
                if other >= 0 and other != face and arc[other] == arc[face]:
                    partner[face, side] = other
                    found += 1
            if found != 1:
                partner[face, side] = -1
    return partner


@njit(cache=True, nogil=True)
def _walk(first, side, ends, partner, done, chain):
    """Follow an arc from face `first`, leaving by its end `side`; write its faces to chain and return their number."""
    face, count = first, 0
    while face >= 0 and not done[face]:
        done[face] = True
        chain[count] = face
        count += 1
        following = partner[face, side]
        if following >= 0:
            side = 1 if ends[following, 0] == ends[face, side] else 0
        face = following
    return count


@njit(cache=True, nogil=True)
def face_angles(ends, arc, n_corners, width, reach):
    """Return the angle of the arc at each face, in radians from the X axis, half a turn.

    It is that of the chord between the middles of the faces that are `reach` steps before and after, or the arc's last ones.

    Parameters
    ----------
    ends
        ``[F 2]``, the corners of the pixel grid that a face joins, numbered row by row.
    arc
        ``[F]``, the arc (the pair of regions) of each face.
    n_corners, width
        Corners of the grid in all, and in one of its rows.
    reach
        Faces.
    """
    partner = _link(ends, arc, n_corners)
    done, angle = np.zeros(len(ends), np.bool_), np.zeros(len(ends), np.float64)
    chain = np.zeros(len(ends), np.int64)
    # Twice the places of the middles, which are whole numbers.
    y, x = (ends // width).sum(1), (ends % width).sum(1)
    # Open arcs first, from one of their ends; what is left then are closed loops, which may begin anywhere.
    for loops in range(2):
        for first in range(len(ends)):
            if done[first] or (loops == 0 and partner[first, 0] >= 0 and partner[first, 1] >= 0):
                continue
            side = 0 if partner[first, 0] >= 0 else 1
            count = _walk(first, side, ends, partner, done, chain)
            for i in range(count):
                face, a, b = chain[i], chain[max(i - reach, 0)], chain[min(i + reach, count - 1)]
                down, right = y[b] - y[a], x[b] - x[a]
                if down == 0 and right == 0:
                    down = ends[face, 1] // width - ends[face, 0] // width
                    right = ends[face, 1] % width - ends[face, 0] % width
                angle[face] = np.arctan2(down, right) % np.pi
    return angle
