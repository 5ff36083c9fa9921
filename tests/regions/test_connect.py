import numpy as np
from scipy.ndimage import label as connected

from selfseg.regions.connect import connected_components, merge_small, number_by_first_pixel


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
    for shape in ((12, 13), (5, 6, 7), (1, 9)):
        labels = rng.integers(-1, 3, shape)
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
