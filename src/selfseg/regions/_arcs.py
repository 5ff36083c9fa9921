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
def _walk(first, side, ends, partner, done, chain, corners):
    """Follow an arc from face `first`, leaving by its end `side`; return its number of faces, written to chain, corners."""
    face, count = first, 0
    corners[0] = ends[face, 1 - side]
    while face >= 0 and not done[face]:
        done[face] = True
        chain[count] = face
        count += 1
        corners[count] = ends[face, side]
        following = partner[face, side]
        if following >= 0:
            side = 1 if ends[following, 0] == ends[face, side] else 0
        face = following
    return count


@njit(cache=True, nogil=True)
def face_angles(ends, arc, n_corners, width, reach):
    """Return the angle of the arc at each face, in radians from the X axis, half a turn.

    It is that of the chord between the points of the arc that are `reach` faces before and after, or its ends.

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
    chain, corners = np.zeros(len(ends), np.int64), np.zeros(len(ends) + 1, np.int64)
    # Open arcs first, from one of their ends; what is left then are closed loops, which may begin anywhere.
    for loops in range(2):
        for first in range(len(ends)):
            if done[first] or (loops == 0 and partner[first, 0] >= 0 and partner[first, 1] >= 0):
                continue
            side = 0 if partner[first, 0] >= 0 else 1
            count = _walk(first, side, ends, partner, done, chain, corners)
            for i in range(count):
                a, b = corners[max(i - reach, 0)], corners[min(i + 1 + reach, count)]
                if a == b:
                    a, b = corners[i], corners[i + 1]
                angle[chain[i]] = np.arctan2(b // width - a // width, b % width - a % width) % np.pi
    return angle
