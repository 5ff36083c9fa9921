import numpy as np
import pytest
from scipy.ndimage import label as connected
from skimage.measure import label

from selfseg.regions.graph import connected_components, merge_small, number_by_first_pixel, separate_objects


def flood_fill(labels):
    """Components by filling from each unseen pixel in turn."""
    out = np.full(labels.shape, -1)
    count = 0
    for start in np.ndindex(labels.shape):
        if out[start] >= 0 or labels[start] < 0:
            continue
        stack = [start]
        while stack:
            place = stack.pop()
            if out[place] >= 0:
                continue
            out[place] = count
            for axis in range(labels.ndim):
                for move in (-1, 1):
                    other = tuple(p + move * (i == axis) for i, p in enumerate(place))
                    if 0 <= other[axis] < labels.shape[axis] and labels[other] == labels[start]:
                        stack.append(other)
        count += 1
    return out


def test_components_equal_a_flood_fill():
    rng = np.random.default_rng(0)
    for shape in ((12, 13), (13, 12), (5, 6, 7), (7, 6, 5), (1, 9), (9, 1), (5, 4, 1), (5, 1, 6), (1, 1, 1), (3, 0)):
        labels = rng.integers(-2, 3, shape)
        np.testing.assert_array_equal(connected_components(labels), flood_fill(labels))


def test_numbering_follows_the_first_pixels():
    labels = np.array([[4, 4, -1], [2, 4, 0]], np.int32)
    assert number_by_first_pixel(labels, 6).tolist() == [[0, 0, -1], [1, 0, 2]]


def test_a_small_region_joins_its_nearest_neighbour():
    labels = np.array([[0, 0, 0, 1, 2, 2, 2]], np.int32)
    for value, expected in ((1.0, [0, 0, 0, 0, 1, 1, 1]), (9.0, [0, 0, 0, 1, 1, 1, 1])):
        features = np.array([[0, 0, 0, value, 10, 10, 10]])[..., None]
        assert merge_small(labels, features, 2)[0].tolist() == expected


def test_small_regions_never_bridge_large_ones_and_none_is_left():
    rng = np.random.default_rng(5)
    labels = connected_components(np.where(rng.random((30, 30)) < 0.3, rng.integers(0, 4, (30, 30)), 9))
    sizes = np.bincount(labels.ravel())
    merged = merge_small(labels, rng.random((30, 30, 2)), 12)
    assert np.bincount(merged.ravel()).min() >= 12
    for r in range(merged.max() + 1):
        assert connected(merged == r)[1] == 1
        if (sizes >= 12).sum() > 1:
            assert (sizes[np.unique(labels[merged == r])] >= 12).sum() <= 1


def loop(objects):
    out = objects.copy()
    for place in np.argwhere(objects > 0):
        around = tuple(slice(max(0, i - 1), i + 2) for i in place)
        near = objects[around]
        if ((near > 0) & (near != objects[tuple(place)])).any():
            out[tuple(place)] = 0
    return out


@pytest.mark.parametrize("shape", [(20, 25), (6, 9, 8)])
def test_pixels_beside_another_object_become_background(shape):
    rng = np.random.default_rng(0)
    objects = rng.integers(0, 4, shape) * (rng.random(shape) < 0.8)
    objects[0] = -1
    assert np.array_equal(separate_objects(objects), loop(objects))


def test_touching_objects_become_two_components_and_others_keep_their_pixels():
    objects = np.zeros((12, 24), int)
    objects[2:10, 2:8], objects[2:10, 8:14], objects[3:6, 17:22] = 7, 2, 5
    apart = separate_objects(objects)
    assert label(objects > 0, connectivity=2).max() == 2 and label(apart > 0, connectivity=2).max() == 3
    assert np.array_equal(apart == 5, objects == 5)
    assert not apart[2:10, 7:9].any() and (apart[2:10, 6] == 7).all()
