import numpy as np
import pytest
from scipy.ndimage import label as connected

from selfseg.core.errors import UsageError
from selfseg.refine.components import keep_largest, remove_small


def test_specks_and_holes_go_and_the_rest_stays():
    labels = np.zeros((20, 20), np.uint8)
    labels[4:16, 4:16] = 3
    clean = labels.copy()
    labels[1, 1], labels[8:10, 8:10] = 7, 0
    np.testing.assert_array_equal(remove_small(labels, 5), clean)
    assert labels[1, 1] == 7  # the input is left alone
    assert remove_small(labels, 5).dtype == np.uint8


def test_the_longest_boundary_wins():
    labels = np.array([[1, 1, 1, 1], [1, 5, 5, 2], [2, 2, 2, 2]])
    assert remove_small(labels, 3)[1].tolist() == [1, 1, 1, 2] or remove_small(labels, 3)[1].tolist() == [1, 2, 2, 2]
    labels = np.array([[1, 1, 1, 1], [1, 5, 5, 1], [2, 2, 2, 2]])
    assert remove_small(labels, 3)[1].tolist() == [1, 1, 1, 1]


def test_only_some_labels_are_removed():
    labels = np.zeros((9, 9), int)
    labels[2:7, 2:7], labels[4, 4], labels[0, 0] = 1, 0, 1
    filled = remove_small(labels, 4, only=[0])
    assert filled[4, 4] == 1 and filled[0, 0] == 1
    opened = remove_small(labels, 4, only=[1])
    assert opened[4, 4] == 0 and opened[0, 0] == 0


def test_size_counts_in_physical_units():
    labels = np.zeros((4, 8, 8), int)
    labels[1:3, 2:4, 2:4] = 1
    assert remove_small(labels, 8.5).max() == 0
    assert remove_small(labels, 8.5, spacing=(2.0, 1.0, 1.0)).max() == 1


@pytest.mark.parametrize("shape", [(40, 40), (10, 12, 14)])
def test_no_small_component_is_left_in_noise_and_outside_stays(shape):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, shape)
    labels.reshape(-1)[:10] = -1
    cleaned = remove_small(labels, 9)
    np.testing.assert_array_equal(cleaned < 0, labels < 0)
    for value in range(3):
        parts, count = connected(cleaned == value)
        assert count == 0 or np.bincount(parts.ravel())[1:].min() >= 9


def test_keep_largest():
    labels = np.array([[1, 1, 0, 1], [0, 0, 0, 2], [2, 2, 0, -1]])
    assert keep_largest(labels).tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [2, 2, 0, -1]]


def test_wrong_input_is_named():
    with pytest.raises(UsageError, match="0 or more"):
        remove_small(np.zeros((2, 2), int), -1)
    with pytest.raises(UsageError, match="integers"):
        remove_small(np.zeros((2, 2)), 1)
