"""Boundaries and polygons: small pictures by hand, then the pixels counted back from the polygons."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.draw import polygon2mask
from skimage.segmentation import find_boundaries

from selfseg.core.errors import UsageError
from selfseg.export.outlines import outlines
from selfseg.export.overlay import boundaries

small = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3))


def test_boundaries_of_a_small_picture():
    labels = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]])
    assert boundaries(labels).tolist() == [[False, True, False], [True, True, True], [False, False, False]]
    assert boundaries(labels, thick=True).tolist() == [[False, True, True], [True, True, True], [True, True, True]]


@pytest.mark.parametrize("shape", [(7,), (7, 9), (4, 5, 6)])
def test_thick_boundaries_are_those_of_scikit_image(shape):
    labels = np.random.default_rng(0).integers(0, 3, shape)
    np.testing.assert_array_equal(boundaries(labels, thick=True), find_boundaries(labels, connectivity=1, mode="thick"))


def test_a_rectangle_has_four_corners():
    labels = np.zeros((5, 6), int)
    labels[1:3, 2:5] = 7
    (found,) = outlines(labels)
    assert found.label == 7
    assert found.holes == ()
    assert {tuple(corner) for corner in found.exterior.tolist()} == {(1, 2), (1, 5), (3, 5), (3, 2)}
    assert len(found.exterior) == 4


def test_a_ring_has_a_hole_and_diagonal_pixels_are_two_regions():
    ring = np.ones((3, 3), int)
    ring[1, 1] = 2
    outer, inner = outlines(ring)
    assert outer.label == 1
    assert inner.label == 2
    assert {tuple(corner) for corner in outer.holes[0].tolist()} == {
        tuple(corner) for corner in inner.exterior.tolist()
    }
    assert len(outlines(np.eye(3, dtype=int))) == 3
    assert outlines(np.zeros((3, 3), int)) == []


def _pixel_sides(ring):
    """Return every unit step of a ring, without direction, in a slow loop."""
    sides = []
    for (y, x), (v, u) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
        assert (y == v) != (x == u)
        while (y, x) != (v, u):
            step = (y + int(np.sign(v - y)), x + int(np.sign(u - x)))
            sides.append(frozenset([(y, x), step]))
            y, x = step
    return sides


@given(small)
@settings(deadline=None)
def test_polygons_hold_exactly_their_pixels(labels):
    painted = np.zeros_like(labels)
    for item in outlines(labels):
        inside = polygon2mask(labels.shape, item.exterior - 0.5)
        for hole in item.holes:
            inside &= ~polygon2mask(labels.shape, hole - 0.5)
        assert not painted[inside].any()
        painted[inside] = item.label
    np.testing.assert_array_equal(painted, labels)


@given(small)
@settings(deadline=None)
def test_polygons_are_valid_and_of_their_area(labels):
    for item in outlines(labels):
        polygon = shapely.Polygon(item.exterior, item.holes)
        assert polygon.is_valid, shapely.is_valid_reason(polygon)
        assert polygon.area == item.area


def test_a_ring_closed_by_a_corner_alone_has_a_hole_that_touches_the_exterior():
    labels = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    (item,) = outlines(labels)
    assert [len(ring) for ring in (item.exterior, *item.holes)] == [6, 4]
    assert item.area == 7


@given(small)
@settings(deadline=None)
def test_neighbours_share_their_sides_exactly(labels):
    sides = [s for item in outlines(labels) for ring in (item.exterior, *item.holes) for s in _pixel_sides(ring)]
    padded = np.pad(labels, 1).astype(int)
    wanted = []
    for (y, x), label in np.ndenumerate(padded[1:, 1:]):  # each side between two labels, once for each that is not 0
        for other, side in (
            (padded[y, x + 1], frozenset([(y, x), (y, x + 1)])),
            (padded[y + 1, x], frozenset([(y, x), (y + 1, x)])),
        ):
            wanted += [side] * int((label != other) * (int(label > 0) + int(other > 0)))
    assert sorted(map(sorted, sides)) == sorted(map(sorted, wanted))


def test_small_regions_can_be_left_out():
    labels = np.array([[1, 0, 2, 2]])
    assert [item.label for item in outlines(labels, least_area=2)] == [2]


def test_a_volume_has_no_polygons():
    with pytest.raises(UsageError, match="axes YX"):
        outlines(np.zeros((2, 3, 4), int))
