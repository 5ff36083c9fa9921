import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label as connected

from reference.cleaning_loops import clean_loops
from selfseg.core.errors import UsageError
from selfseg.refine.decide import Cleaning, clean_blocks


def rings():
    """A ring (2) on a ground (1), a hole (1) in it with a speck (3) inside, and a bay (1) that reaches the border."""
    labels = np.ones((12, 14), np.int64)
    labels[2:10, 2:10] = 2
    labels[3:9, 3:9] = 1
    labels[5, 5] = 3
    return labels


def fill_holes(labels, size):
    return Cleaning(holes=size).apply(labels)


def test_a_hole_within_a_hole_is_filled_with_what_surrounds_both():
    filled = fill_holes(rings(), 60)
    assert (filled[2:10, 2:10] == 2).all() and (filled[0] == 1).all()
    assert (fill_holes(rings(), 3)[5, 5], fill_holes(rings(), 3)[3, 3]) == (1, 1)
    assert (fill_holes(rings(), 0) == rings()).all()


def test_what_touches_the_border_or_two_neighbours_or_the_outside_is_no_hole():
    labels = rings()
    labels[0:2, 0] = 5  # at the border
    labels[4, 12] = 6
    labels[5, 12] = 7  # two specks side by side: neither is within one other component
    assert (fill_holes(labels, 4)[[0, 1, 4, 5], [0, 0, 12, 12]] == [5, 5, 6, 7]).all()
    labels = rings()
    labels[5, 6] = 0  # the speck now lies at the outside
    assert fill_holes(labels, 4)[5, 5] == 3


def test_holes_in_volumes():
    volume = np.full((5, 6, 7), 4)
    volume[2, 3, 3:5] = 9
    assert (fill_holes(volume, 3) == 4).all()
    assert (fill_holes(volume, 2) == volume).all()


def test_specks_go_and_the_rest_stays():
    labels = np.ones((20, 20), np.uint8)
    labels[4:16, 4:16] = 3
    clean = labels.copy()
    labels[1, 1], labels[8:10, 8:10] = 7, 1
    np.testing.assert_array_equal(Cleaning(objects=5).apply(labels), clean)
    assert labels[1, 1] == 7  # the input is left alone


def test_the_longest_boundary_wins():
    labels = np.array([[1, 1, 1, 1], [1, 5, 5, 1], [2, 2, 2, 2]])
    assert Cleaning(objects=3).apply(labels)[1].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("shape", [(40, 40), (10, 12, 14)])
def test_no_small_component_is_left_in_noise_and_outside_stays(shape):
    labels = np.random.default_rng(0).integers(1, 4, shape)
    labels.reshape(-1)[:10] = 0
    cleaned = Cleaning(objects=9).apply(labels)
    np.testing.assert_array_equal(cleaned == 0, labels == 0)
    for value in range(1, 4):
        parts, count = connected(cleaned == value)
        assert count == 0 or np.bincount(parts.ravel())[1:].min() >= 9


images = arrays(np.uint8, st.tuples(*[st.integers(1, 12)] * 2), elements=st.integers(0, 3))
volumes = arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 3))


@settings(deadline=None, max_examples=100)
@given(
    st.one_of(images, volumes),
    st.lists(st.integers(1, 7), min_size=3, max_size=3),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_blocks_are_cleaned_as_the_whole_and_as_the_rule_says(labels, sides, holes, objects):
    cleaning, expected = Cleaning(holes, objects), clean_loops(labels, holes, objects)
    np.testing.assert_array_equal(cleaning.apply(labels), expected)
    parts = labels.copy()
    clean_blocks(parts, sides[: labels.ndim], cleaning)
    np.testing.assert_array_equal(parts, expected)


def test_labels_in_a_zarr_are_cleaned_in_place(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (50, 40)).astype(np.uint8)
    stored = zarr.create_array(tmp_path / "labels.zarr", shape=labels.shape, chunks=(16, 16), dtype="u1")
    stored[:] = labels
    clean_blocks(stored, (16, 32), Cleaning(8, 20))
    np.testing.assert_array_equal(stored[:], Cleaning(8, 20).apply(labels))


def test_objects_go_and_ignored_pixels_stay():
    labels = rings().astype(np.uint8)
    labels[:, 13] = 0
    labels[6, 12] = 4
    cleaned = Cleaning.parse("objects:2,holes:60").apply(labels)
    assert cleaned.dtype == np.uint8
    assert (cleaned[:, 13] == 0).all() and cleaned[6, 12] == 1
    assert (cleaned[2:10, 2:10] == 2).all()
    assert Cleaning.parse("none").apply(labels) is labels


def test_spelling():
    assert str(Cleaning.parse("holes:100, objects:200")) == "objects:200,holes:100"
    assert Cleaning.parse(None) == Cleaning.parse("none") == Cleaning.parse("") == Cleaning()
    assert str(Cleaning()) == "none"
    assert Cleaning.parse("objects(200), holes(size=100)") == Cleaning(holes=100, objects=200)
    for wrong in ("objects", "objects:-3", "dust:5", "holes:1,holes:2"):
        with pytest.raises(UsageError, match="clean"):
            Cleaning.parse(wrong)
