"""What the vector formats share: objects and regions as polygons, plane by plane, with class, name and colour."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.draw import polygon2mask

from selfseg.core.classes import ClassTable, SegmentClass
from selfseg.core.errors import UsageError
from selfseg.export.outlines import object_classes, shapes

sizes = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))


def _fill(shape, size):
    """Return the pixels whose centres an odd number of rings go around."""
    inside = np.zeros(size, bool)
    for ring in shape.rings:
        inside ^= polygon2mask(size, ring - 0.5)
    return inside


@given(arrays(np.uint8, sizes, elements=st.integers(0, 3)), arrays(np.uint8, (3, 7, 7), elements=st.integers(0, 4)))
def test_objects_filled_again_are_the_object_image(labels, all_objects):
    objects = all_objects[tuple(slice(n) for n in labels.shape)]
    painted = np.zeros_like(objects)
    for item in shapes(labels, objects=objects, axes="ZYX"):
        inside = _fill(item, objects.shape[1:])
        assert item.area == inside.sum()
        rows, columns = np.nonzero(inside)
        assert item.box == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        painted[item.z][inside] = item.id
    np.testing.assert_array_equal(painted, objects)


@given(arrays(np.uint8, sizes, elements=st.integers(0, 3)))
def test_regions_filled_again_are_the_label_image(labels):
    painted = np.zeros_like(labels)
    found = shapes(labels, axes="TYX")
    for item in found:
        painted[item.t][_fill(item, labels.shape[1:])] = item.class_id
    np.testing.assert_array_equal(painted, labels)
    assert [item.id for item in found] == list(range(1, len(found) + 1))


def test_the_class_of_an_object_is_that_of_most_of_its_pixels():
    objects = np.array([[1, 1, 1, 2, 2, 3, 5]])
    labels = np.array([[2, 2, 1, 0, 3, 0, 1]])
    assert object_classes(objects, labels).tolist() == [0, 2, 3, 0, 0, 1]


def test_names_and_colours_come_from_the_table():
    table = ClassTable((SegmentClass(2, "nucleus", (1, 2, 3, 255), 1.0, 0.0, (0,)),))
    labels = np.array([[2, 0, 5]])
    nucleus, other = shapes(labels, table)
    assert (nucleus.name, nucleus.colour) == ("nucleus", (1, 2, 3))
    assert other.name == "class 5"
    (nameless,) = shapes(np.zeros((1, 3), int), table, objects=np.array([[7, 0, 0]]))
    assert (nameless.id, nameless.class_id, nameless.name) == (7, 0, "object")


def test_planes_of_a_series_of_volumes_are_numbered():
    labels = np.zeros((2, 3, 4, 5), np.uint8)
    labels[1, 2, 0, 0] = labels[0, 1, 3, 4] = 1
    assert [(item.t, item.z) for item in shapes(labels, axes="TZYX")] == [(0, 1), (1, 2)]


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="axes YX, ZYX"):
        shapes(np.zeros((2, 3, 4), int), axes="YX")
    with pytest.raises(UsageError, match="objects: expected shape"):
        shapes(np.zeros((3, 4), int), objects=np.zeros((4, 3), int))
