"""Objects: components as scikit-image counts them; necks cut where the definition says; in blocks as in the whole image."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

from selfseg.core.errors import UsageError
from selfseg.core.progress import Silent
from selfseg.refine import instances
from selfseg.refine.instances import number_objects

small = arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 2))


def find_instances(labels, *args, **options):
    out = np.zeros(labels.shape, np.uint32)
    number_objects(labels, out, *args, **options)
    return out


def _discs(*centres_and_radii, shape=(60, 100), spacing=(1.0, 1.0)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, np.uint8)
    for cy, cx, radius in centres_and_radii:
        mask[((y - cy) * spacing[0]) ** 2 + ((x - cx) * spacing[1]) ** 2 <= radius**2] = 1
    return mask


def _same_partition(a, b):
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len({i for i, _ in pairs}) == len({j for _, j in pairs})


@settings(deadline=None)
@given(small)
def test_components_are_those_of_scikit_image(labels):
    found = find_instances(labels, "components")
    assert _same_partition(found, label(labels, background=0, connectivity=1))


@settings(deadline=None)
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


def link_components(labels, out, sides, **how):
    found, n_whole = number_objects(labels, out, "components", sides=sides, **how)
    assert n_whole == 0
    return found


images = arrays(np.uint8, st.tuples(*[st.integers(1, 12)] * 2), elements=st.integers(0, 2))
volumes = arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 2))


@settings(deadline=None)
@given(st.one_of(images, volumes), st.integers(1, 5), st.integers(1, 7))
def test_components_over_blocks_are_those_of_the_whole(labels, first, second):
    out = np.zeros(labels.shape, np.uint32)
    n_found = link_components(labels, out, [first, second, first][: labels.ndim])
    whole = label(labels, background=0, connectivity=1)
    assert n_found == whole.max()
    assert _same_partition(out, whole)
    firsts = np.unique(out[out > 0], return_index=True)[1]
    assert (np.diff(firsts) > 0).all() and (out == 0).tolist() == (labels == 0).tolist()


def test_a_spiral_through_all_blocks_is_one_component():
    labels = np.zeros((31, 31), np.uint8)
    for ring in range(0, 15, 2):
        labels[ring, ring - 1 if ring else 0 : 31 - ring] = labels[ring : 31 - ring, 30 - ring] = 1
        labels[30 - ring, ring : 31 - ring] = labels[ring + 2 : 31 - ring, ring] = 1
    assert label(labels, connectivity=1).max() == 1
    out = np.zeros(labels.shape, np.uint32)
    assert link_components(labels, out, (4, 5)) == 1
    np.testing.assert_array_equal(out, labels)


def test_classes_and_sizes_are_chosen_over_blocks():
    labels = np.array([[1, 1, 1, 1, 0, 2, 3, 3]])
    out = np.zeros(labels.shape, np.uint32)
    assert link_components(labels, out, (1, 2), classes=[1, 2, 3], min_size=2) == 2
    assert out.tolist() == [[1, 1, 1, 1, 0, 0, 2, 2]]
    assert link_components(labels, out, (1, 3), classes=[3]) == 1
    assert out.tolist() == [[0, 0, 0, 0, 0, 0, 1, 1]]


def test_arrays_in_zarr(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (50, 40)).astype(np.uint8)
    stored = zarr.create_array(tmp_path / "labels.zarr", shape=labels.shape, chunks=(16, 16), dtype="u1")
    stored[:] = labels
    out = zarr.create_array(tmp_path / "objects.zarr", shape=labels.shape, chunks=(16, 16), dtype="u4")
    visits = []
    progress = Silent()
    progress.update = lambda done, values: visits.append(done)
    n_found = link_components(stored, out, (16, 32), progress=progress)
    assert visits == list(range(1, 2 * 4 * 2 + 1))
    whole = label(labels, background=0, connectivity=1)
    assert n_found == whole.max()
    np.testing.assert_array_equal(out[:], whole)
    number_objects(stored, out, min_size=3, sides=(16, 32))
    np.testing.assert_array_equal(out[:], find_instances(labels, min_size=3))


def test_other_shapes_are_refused():
    with pytest.raises(UsageError, match="objects"):
        link_components(np.zeros((3, 4), int), np.zeros((4, 3), int), (2, 2))


def _many_discs(shape, n, seed, radii=(3, 9)):
    """Class 1: discs (or balls) that often touch; class 2: a strip; the rest is 3 or ignored."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    labels = np.full(shape, 3, np.uint8)
    labels[..., : shape[-1] // 20] = 0
    for _ in range(n):
        centre, radius = [rng.uniform(0, n) for n in shape], rng.uniform(*radii)
        away = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True))
        labels[away < radius**2] = 1
    labels[shape[0] // 2 : shape[0] // 2 + 3] = 2
    return labels


def _in_blocks(labels, sides, classes, min_size=1, **how):
    numbers = np.zeros(labels.shape, np.uint32)
    found, n_whole = number_objects(labels, numbers, classes=classes, min_size=min_size, sides=sides, **how)
    return numbers, found, n_whole


@pytest.mark.parametrize(
    ("shape", "sides", "spacing"),
    [((120, 140), (32, 32), None), ((90, 100), (16, 50), (2.0, 1.0)), ((24, 50, 44), (16, 16, 16), (2.0, 1.0, 1.0))],
)
@pytest.mark.parametrize("min_size", [1, 20])
def test_blocks_are_cut_like_the_whole(shape, sides, spacing, min_size):
    labels = _many_discs(shape, 40, seed=len(shape))
    whole = find_instances(labels, "watershed", [1, 2], spacing, min_size)
    numbers, found, n_whole = _in_blocks(labels, sides, [1, 2], min_size, spacing=spacing)
    assert n_whole == 0
    assert whole.max() == found
    np.testing.assert_array_equal(numbers, whole)
    assert found > find_instances(labels, "components", [1, 2], spacing, min_size).max()


def test_a_part_that_is_too_large_stays_whole_and_is_counted(monkeypatch):
    monkeypatch.setattr(instances, "LARGEST_PART", 200)
    labels = np.zeros((40, 60), np.uint8)
    labels[3:9, 3:9] = 1
    labels[20:30, 2:50] = 1  # a box of 480 pixels
    numbers, found, n_whole = _in_blocks(labels, (16, 16), [1])
    assert (found, n_whole) == (2, 1)
    assert len(np.unique(numbers[20:30, 2:50])) == 1


def test_without_objects_there_are_none():
    numbers, found, n_whole = _in_blocks(np.zeros((20, 30), np.uint8), (16, 16), [1])
    assert (found, n_whole, numbers.max()) == (0, 0, 0)
