from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfseg import measure
from selfseg.core.errors import InputError


def ious_by_loop(labels, truth):
    rows, columns = [v for v in np.unique(labels) if v], [v for v in np.unique(truth) if v]
    return np.array(
        [[((labels == a) & (truth == b)).sum() / ((labels == a) | (truth == b)).sum() for b in columns] for a in rows]
    ).reshape(len(rows), len(columns))


def best_by_trying_all(ious, level):
    """Largest (pairs, summed IoU) over all one-to-one matchings."""
    if ious.shape[0] > ious.shape[1]:
        ious = ious.T
    best = (0, 0.0)
    for order in permutations(range(ious.shape[1]), ious.shape[0]):
        chosen = [ious[i, j] for i, j in enumerate(order) if ious[i, j] > level]
        best = max(best, (len(chosen), sum(chosen)))
    return best


@given(seed=st.integers(0, 10_000), n=st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_matches_equal_trying_all(seed, n):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, (3, 3)).repeat(3, 0).repeat(3, 1)
    labels = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, n + 1, truth.shape), np.minimum(truth, n))
    levels = (0.1, 0.3, 0.5, 0.75)
    scores = measure.instance_scores(labels, truth, levels)
    ious = ious_by_loop(labels, truth)
    for k, level in enumerate(levels):
        pairs, total = best_by_trying_all(ious, level)
        assert scores.true[k] == pairs
        assert scores.matched_iou[k] == pytest.approx(total)
        assert scores.false[k] == ious.shape[0] - pairs
        assert scores.missed[k] == ious.shape[1] - pairs


def disc(shape, y, x, r):
    v, u = np.ogrid[: shape[0], : shape[1]]
    return (v - y) ** 2 + (u - x) ** 2 <= r * r


def test_ratios_by_hand():
    truth, labels = np.zeros((2, 30), int), np.zeros((2, 30), int)
    truth[:, :10], truth[:, 10:20] = 1, 2
    labels[:, :8], labels[:, 14:20], labels[:, 25:] = 5, 6, 7  # IoU .8, .6, none
    scores = measure.instance_scores(labels, truth, (0.5, 0.7))
    assert scores.average_precision.tolist() == pytest.approx([2 / 3, 1 / 4])
    assert scores.precision.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert scores.recall.tolist() == pytest.approx([1.0, 1 / 2])
    assert scores.f1.tolist() == pytest.approx([4 / 5, 2 / 5])
    assert measure.panoptic_quality(labels, truth) == pytest.approx(1.4 / 2.5)
    assert scores.mean_average_precision == pytest.approx((2 / 3 + 1 / 4) / 2)
    both = scores + scores
    assert both.true.tolist() == [4, 2] and both.f1.tolist() == scores.f1.tolist()
    with pytest.raises(InputError, match="thresholds"):
        _ = scores + measure.instance_scores(labels, truth, (0.6,))


def test_half_covered_is_no_match_and_perfect_is():
    truth, half = np.ones((1, 4), int), np.array([[3, 3, 0, 0]])
    assert measure.instance_scores(half, truth, (0.5,)).true.tolist() == [0]
    assert measure.instance_scores(truth, truth).average_precision.tolist() == [1.0] * 9


def test_without_instances():
    none, one = np.zeros((3, 3), int), np.eye(3, dtype=int)
    assert measure.panoptic_quality(none, none) == 1.0
    assert measure.panoptic_quality(none, one) == 0.0
    assert measure.panoptic_quality(one, none) == 0.0


def test_instances_under_ignored_truth_are_not_held_against_the_prediction():
    truth = np.array([[1, 1, 0, 9, 9]])
    labels = np.array([[1, 1, 0, 2, 2]])
    assert measure.panoptic_quality(labels, truth) == pytest.approx(1.0)
    assert measure.instance_scores(labels, truth, (0.5,), ignore=9).false.tolist() == [0]


def test_lesions_are_components_in_two_and_three_dimensions():
    truth = np.zeros((30, 30), bool)
    truth |= disc(truth.shape, 5, 5, 3) | disc(truth.shape, 20, 20, 4) | disc(truth.shape, 5, 22, 2)
    mask = disc(truth.shape, 6, 6, 1) | disc(truth.shape, 20, 24, 2) | disc(truth.shape, 27, 3, 1)
    counts = measure.lesion_counts(mask, truth)
    assert counts == (2, 3, 2, 3)
    assert (counts.recall, counts.precision, counts.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert measure.lesion_counts(np.stack([mask, mask]), np.stack([truth, truth])) == (2, 3, 2, 3)


def test_a_least_overlap_and_ignored_pixels():
    truth = np.array([[1, 1, 1, 0, 0, 1, 1, 0, 1]])
    mask = np.array([[0, 0, 1, 1, 0, 1, 1, 0, 0]])
    assert measure.lesion_counts(mask, truth) == (2, 3, 2, 2)
    assert measure.lesion_counts(mask, truth, min_pixels=2) == (1, 3, 1, 2)
    hidden = np.where(np.arange(9) == 8, 7, truth)
    assert measure.lesion_counts(mask, hidden, ignore=7) == (2, 2, 2, 2)
    none = measure.lesion_counts(np.zeros((2, 2), int), np.zeros((2, 2), int))
    assert none.f1 == 1.0
    with pytest.raises(InputError, match="ignore"):
        measure.lesion_counts(mask, np.full_like(mask, 7), ignore=7)
