"""Objects: components as scikit-image counts them; necks cut where the definition says; spacing, classes, sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

from selfseg.core.errors import UsageError
from selfseg.refine.instances import find_instances

small = arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 2))


def _discs(*centres_and_radii, shape=(60, 100), spacing=(1.0, 1.0)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, np.uint8)
    for cy, cx, radius in centres_and_radii:
        mask[((y - cy) * spacing[0]) ** 2 + ((x - cx) * spacing[1]) ** 2 <= radius**2] = 1
    return mask


def _same_partition(a, b):
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len({i for i, _ in pairs}) == len({j for _, j in pairs})


@given(small)
def test_components_are_those_of_scikit_image(labels):
    found = find_instances(labels, "components")
    assert _same_partition(found, label(labels, background=0, connectivity=1))


@given(small)
def test_the_watershed_cuts_components_and_joins_none(labels):
    parts, whole = find_instances(labels), find_instances(labels, "components")
    np.testing.assert_array_equal(parts > 0, labels > 0)
    assert set(np.unique(parts)) <= set(range(int(parts.max()) + 1))
    for number in range(1, int(parts.max()) + 1):
        mask = parts == number
        assert label(mask, connectivity=1).max() == 1
        assert len(set(whole[mask].tolist())) == 1
    firsts = [np.flatnonzero(parts == number)[0] for number in range(1, int(parts.max()) + 1)]
    assert firsts == sorted(firsts)


def test_touching_discs_are_cut_at_their_neck():
    mask = _discs((30, 30, 14), (30, 54, 14))
    assert find_instances(mask, "components").max() == 1
    found = find_instances(mask)
    assert found.max() == 2
    assert found[30, 30] == 1
    assert found[30, 54] == 2
    left = np.nonzero(found == 1)[1]
    assert abs(int(left.max()) - 42) <= 1


def test_a_neck_is_cut_if_it_is_deep_enough():
    mask = np.zeros((30, 80), int)
    mask[5:26, 5:36] = mask[5:26, 45:76] = 1  # two blocks whose middle lines are 11 pixels from the border
    mask[9:22, 36:45] = 1  # a bridge of 13 rows: its middle line is 7 pixels from it
    assert find_instances(mask, depth=3.9).max() == 2
    assert find_instances(mask, depth=4.1).max() == 1


@pytest.mark.parametrize("shape", ["disc", "ellipse", "bar"])
def test_convex_objects_stay_whole(shape):
    y, x = np.mgrid[:80, :120]
    mask = {
        "disc": (y - 40) ** 2 + (x - 60) ** 2 <= 30**2,
        "ellipse": ((y - 40) / 15) ** 2 + ((x - 60) / 50) ** 2 <= 1,
        "bar": (abs(y - 40) < 8) & (abs(x - 60) < 50),
    }[shape]
    assert find_instances(mask.astype(int)).max() == 1


def test_distances_are_in_physical_units():
    spacing = (4.0, 1.0)
    mask = _discs((15, 30, 28), (15, 74, 28), shape=(30, 110), spacing=spacing)
    assert find_instances(mask, spacing=spacing).max() == 2
    volume = np.repeat(mask[None], 3, axis=0)
    volume[[0, 2]] = 0
    assert find_instances(volume, spacing=(1000.0, *spacing)).max() == 2


def test_balls_are_cut_in_three_dimensions():
    z, y, x = np.mgrid[:24, :24, :44]
    balls = [(z - 12) ** 2 + (y - 12) ** 2 + (x - cx) ** 2 <= 100 for cx in (13, 30)]
    found = find_instances((balls[0] | balls[1]).astype(np.uint8))
    assert found.max() == 2
    assert (found[12, 12, 13], found[12, 12, 30]) == (1, 2)


def test_only_the_classes_asked_for_have_objects_and_classes_never_join():
    labels = np.array([[1, 1, 2, 2, 0, 3, 3, 2]])
    assert find_instances(labels, classes=[2, 3]).tolist() == [[0, 0, 1, 1, 0, 2, 2, 3]]
    assert find_instances(labels, classes=[]).tolist() == [[0] * 8]


def test_small_objects_are_left_out_and_numbers_have_no_gaps():
    labels = np.array([[1, 0, 1, 1, 0, 1, 1, 1]])
    assert find_instances(labels, "components", min_size=2).tolist() == [[0, 0, 1, 1, 0, 2, 2, 2]]


def test_an_image_of_one_class_is_one_object():
    assert (find_instances(np.ones((7, 9), int)) == 1).all()
    assert find_instances(np.zeros((7, 9), int)).max() == 0
    assert find_instances(np.ones((1, 1), int)).tolist() == [[1]]


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (np.zeros((3, 4)), {}),
        (np.zeros(4, int), {}),
        (np.zeros((3, 4), int), {"kind": "magic"}),
        (np.zeros((3, 4), int), {"spacing": (1.0,)}),
        (np.zeros((3, 4), int), {"spacing": (1.0, -1.0)}),
        (np.zeros((3, 4), int), {"min_size": -1}),
        (np.zeros((3, 4), int), {"depth": -1.0}),
        (np.zeros((3, 4), int), {"depth": np.inf}),
    ],
)
def test_what_cannot_be_is_refused(labels, options):
    with pytest.raises(UsageError, match="expected"):
        find_instances(labels, **options)
