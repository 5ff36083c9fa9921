import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfseg import measure
from selfseg.core.errors import InputError
from selfseg.measure import _table


def counted_by_loop(labels, truth, ignore=None):
    counts = {}
    for a, b in zip(labels.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if b != ignore:
            counts[a, b] = counts.get((a, b), 0) + 1
    return counts


def entries(table):
    keys = zip(table.row_labels[table.rows].tolist(), table.column_labels[table.columns].tolist(), strict=True)
    return dict(zip(keys, table.counts.tolist(), strict=True))


@given(seed=st.integers(0, 10_000), n_dims=st.integers(1, 4), spread=st.sampled_from([3, 40, 10**12]))
@settings(max_examples=60, deadline=None)
def test_table_equals_a_loop_over_pixels(seed, n_dims, spread):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, n_dims))
    values = rng.integers(-spread, spread, (2, 6))
    labels, truth = values[0][rng.integers(0, 6, shape)], values[1][rng.integers(0, 6, shape)]
    assert entries(measure.contingency(labels, truth)) == counted_by_loop(labels, truth)
    ignore = int(truth.flat[0])
    if (truth != ignore).any():
        assert entries(measure.contingency(labels, truth, ignore)) == counted_by_loop(labels, truth, ignore)


def test_sums_and_ious_are_of_the_counted_pixels_only():
    labels = np.array([[1, 1, 2], [2, 2, 2]])
    truth = np.array([[5, 5, 5], [7, 7, 0]])
    table = measure.contingency(labels, truth, ignore=0)
    assert table.row_sums.tolist() == [2, 3]
    assert table.column_sums.tolist() == [3, 2]
    assert table.total == 5
    assert table.ious.tolist() == [2 / 3, 1 / 5, 2 / 3]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint32, np.uint64])
def test_every_integer_type_is_counted_alike(dtype):
    labels = np.array([[0, 1], [1, 1]], dtype)
    truth = np.array([[1, 1], [0, 1]], dtype)
    assert entries(measure.contingency(labels, truth)) == {(0, 1): 1, (1, 0): 1, (1, 1): 2}


@pytest.mark.parametrize("n_groups", [1, 3, 7])
@pytest.mark.parametrize("dense_bins", [0, 1 << 22])
def test_regrouped_table_equals_counting_the_coarser_labels(n_groups, dense_bins, monkeypatch):
    monkeypatch.setattr(_table, "DENSE_BINS", dense_bins)
    rng = np.random.default_rng(3)
    labels, truth = rng.integers(0, 30, (2, 9, 11))
    table = measure.contingency(labels, truth)
    group = rng.integers(0, n_groups, len(table.row_labels))
    of_label = dict(zip(table.row_labels.tolist(), group.tolist(), strict=True))
    coarse = np.vectorize(of_label.get)(labels)
    merged = table.regrouped(group)
    assert entries(merged) == counted_by_loop(coarse, truth)
    assert merged.row_sums.sum() == labels.size


def test_pooled_table_equals_counting_all_images_together():
    rng = np.random.default_rng(4)
    images = [rng.integers(low, low + 4, (2, 5, 6)) for low in (0, 2, 9)]
    together = np.concatenate(images, axis=1)
    pooled = measure.pooled([measure.contingency(labels, truth) for labels, truth in images])
    assert entries(pooled) == counted_by_loop(*together)
    assert pooled.row_sums.sum() == together[0].size


def test_annotators_may_be_a_list_or_an_array():
    rng = np.random.default_rng(5)
    labels, truths = rng.integers(0, 3, (4, 5)), rng.integers(0, 3, (3, 4, 5))
    from_array = [entries(t) for t in measure.contingencies(labels, truths)]
    assert from_array == [entries(t) for t in measure.contingencies(labels, list(truths))]
    assert from_array == [counted_by_loop(labels, truth) for truth in truths]
    assert len(measure.contingencies(labels, truths[0])) == 1
    assert len(measure.contingencies([[1, 2], [1, 1]], [[1, 2], [3, 3]])) == 1


def test_labels_beyond_the_largest_integer_are_refused():
    labels = np.array([1, 2**63 + 5], np.uint64)
    with pytest.raises(InputError, match=r"2\*\*63"):
        measure.rand_index(labels, labels)
    extremes = np.array([-(2**63), 2**63 - 1, 2**63 - 1])
    assert entries(measure.contingency(extremes, extremes)) == counted_by_loop(extremes, extremes)


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def test_different_shapes_are_both_named():
    with pytest.raises(InputError) as error:
        measure.covering(np.zeros((3, 4), int), np.zeros((4, 3), int))
    assert "(3, 4)" in one_line(error) and "(4, 3)" in one_line(error)
    with pytest.raises(InputError, match=r"\(2, 2\).*\(2, 3\)"):
        measure.covering(np.zeros((2, 2), int), [np.zeros((2, 2), int), np.zeros((2, 3), int)])


@pytest.mark.parametrize(("which", "bad"), [("labels", (0, 1)), ("truth", (1, 0))])
def test_float_labels_are_refused_by_name(which, bad):
    arrays = [np.zeros((2, 5)) if flag == 0 else np.zeros((2, 5), int) for flag in bad]
    with pytest.raises(InputError) as error:
        measure.rand_index(*arrays)
    assert one_line(error).startswith(which) and "float64" in one_line(error) and "(2, 5)" in one_line(error)


def test_a_truth_that_is_ignored_altogether_is_refused():
    with pytest.raises(InputError) as error:
        measure.variation_of_information(np.ones((3, 2), int), np.zeros((3, 2), int), ignore=0)
    assert "(3, 2)" in one_line(error) and "ignore" in one_line(error)


def test_empty_arrays_and_no_annotators_are_refused():
    with pytest.raises(InputError, match=r"\(0, 3\)"):
        measure.rand_index(np.zeros((0, 3), int), np.zeros((0, 3), int))
    with pytest.raises(InputError, match="at least one annotator"):
        measure.covering(np.zeros((2, 2), int), [])
    with pytest.raises(InputError, match="at least one table"):
        measure.pooled([])


def test_every_public_name_is_there_and_importing_is_light():
    for name in measure.__all__:
        assert getattr(measure, name).__doc__
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = measure.nothing_of_the_kind
    heavy = "numba", "scipy", "skimage", "sklearn", "torch"
    code = f"import sys, selfseg.measure; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
