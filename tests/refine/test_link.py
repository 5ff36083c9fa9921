"""Components over blocks: the partition of the whole image, whatever the blocks, in memory and in zarr."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

from selfseg.core.errors import UsageError
from selfseg.refine.link import link_components

images = arrays(np.uint8, st.tuples(*[st.integers(1, 12)] * 2), elements=st.integers(0, 2))
volumes = arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 2))


def _same_partition(a, b):
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len({i for i, _ in pairs}) == len({j for _, j in pairs})


@settings(deadline=None)
@given(st.one_of(images, volumes), st.integers(1, 5), st.integers(1, 7))
def test_big_is_whole_up_to_numbers(labels, first, second):
    out = np.zeros(labels.shape, np.uint32)
    n_found = link_components(labels, out, [first, second, first][: labels.ndim])
    whole = label(labels, background=0, connectivity=1)
    assert n_found == whole.max() == out.max()
    assert set(np.unique(out)) <= set(range(n_found + 1))
    assert _same_partition(out, whole)
    np.testing.assert_array_equal(out == 0, labels == 0)


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
    n_found = link_components(stored, out, (16, 32), tick=visits.append)
    assert visits == list(range(1, 2 * 4 * 2 + 1))
    whole = label(labels, background=0, connectivity=1)
    assert n_found == whole.max()
    assert _same_partition(out[:], whole)


def test_other_shapes_are_refused():
    with pytest.raises(UsageError, match="components"):
        link_components(np.zeros((3, 4), int), np.zeros((4, 3), int), (2, 2))
