from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfseg import measure
from selfseg.core.errors import UsageError
from selfseg.measure.overlap import connected_parts


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def covering_by_loop(labels, truths):
    """Arbelaez et al. 2011, eq. 10, with the truth as the covered side, pooled over annotators."""
    total = 0.0
    for truth in truths:
        for value in np.unique(truth):
            region = truth == value
            total += region.sum() * max(iou(region, labels == other) for other in np.unique(labels))
    return total / (labels.size * len(truths))


def draw_labels(seed, n_labels=5, shape=(6, 7)):
    return np.random.default_rng(seed).integers(0, n_labels, shape)


@given(seed=st.integers(0, 10_000), n_labels=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_covering_equals_a_loop_over_regions(seed, n_labels):
    labels = draw_labels(seed, n_labels)
    truths = [draw_labels(seed + k + 1, k + 1) for k in range(3)]
    assert measure.covering(labels, truths) == pytest.approx(covering_by_loop(labels, truths))


def test_covering_is_not_symmetric_and_covers_the_truth():
    truth = np.array([[0, 0, 0, 1]])
    assert measure.covering(np.zeros_like(truth), truth) == pytest.approx((3 * 3 / 4 + 1 * 1 / 4) / 4)
    assert measure.covering(truth, np.zeros_like(truth)) == pytest.approx(3 / 4)


def test_covering_sums_pool_by_area():
    small, large = np.array([0, 1]), np.arange(30)
    parts = [measure.covering_sums(small, small), measure.covering_sums(np.zeros(30, int), large)]
    assert parts[0] == (2.0, 2.0)
    assert sum(p.sum for p in parts) / sum(p.weight for p in parts) == pytest.approx((2 + 30 * 1 / 30) / 32)


def matched_by_trying_all(labels, truth):
    """Best summed IoU over every one-to-one assignment."""
    rows, columns = list(np.unique(labels)), list(np.unique(truth))
    rows += [-1] * max(0, len(columns) - len(rows))
    best = 0.0
    for chosen in permutations(rows, len(columns)):
        best = max(best, sum(iou(labels == a, truth == b) for a, b in zip(chosen, columns, strict=True)))
    return best / len(columns)


@given(seed=st.integers(0, 10_000), n_labels=st.integers(1, 5), n_truth=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_hungarian_matching_is_the_best_of_all(seed, n_labels, n_truth):
    labels, truth = draw_labels(seed, n_labels), draw_labels(seed + 1, n_truth)
    scores = measure.hungarian_class_scores(measure.contingency(labels, truth))
    assert scores.mean_iou == pytest.approx(matched_by_trying_all(labels, truth))
    assert len(set(scores.mapping.values())) == len(scores.mapping)


@given(seed=st.integers(0, 10_000), n_labels=st.integers(1, 6), n_truth=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_class_scores_equal_masks_of_the_mapped_labels(seed, n_labels, n_truth):
    labels, truth = draw_labels(seed, n_labels) + 10, draw_labels(seed + 1, n_truth)
    table = measure.contingency(labels, truth)
    for scores in (measure.hungarian_class_scores(table), measure.majority_class_scores(table)):
        mapped = np.vectorize(lambda value, to=scores.mapping: to.get(value, -1))(labels)
        for k, value in enumerate(scores.classes):
            a, b = mapped == value, truth == value
            assert scores.iou[k] == pytest.approx(iou(a, b))
            assert scores.dice[k] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert scores.accuracy == pytest.approx((mapped == truth).mean())


def test_majority_mapping_takes_the_commonest_class_and_the_lower_of_equals():
    labels = np.array([4, 4, 4, 7, 7, 9])
    truth = np.array([1, 1, 0, 1, 0, 0])
    scores = measure.majority_class_scores(measure.contingency(labels, truth))
    assert scores.mapping == {4: 1, 7: 0, 9: 0}


def test_majority_of_single_pixels_is_perfect_but_hungarian_is_not():
    truth = np.repeat([0, 1], 10)
    table = measure.contingency(np.arange(20), truth)
    assert measure.majority_class_scores(table).mean_iou == 1.0
    assert measure.hungarian_class_scores(table).mean_iou == pytest.approx(0.1)


def test_same_classes_are_not_matched():
    truth = np.array([0, 0, 1, 1, 2, 2])
    labels = np.array([1, 1, 0, 1, 2, 5])
    scores = measure.same_class_scores(measure.contingency(labels, truth))
    assert scores.classes.tolist() == [0, 1, 2]
    assert scores.iou.tolist() == pytest.approx([0.0, 1 / 4, 1 / 2])
    assert scores.dice.tolist() == pytest.approx([0.0, 2 / 5, 2 / 3])
    assert scores.accuracy == pytest.approx(2 / 6)


def components_by_flood(labels):
    names, count = np.zeros(labels.shape, int), 0
    for start in np.ndindex(labels.shape):
        if names[start]:
            continue
        count += 1
        todo = [start]
        while todo:
            here = todo.pop()
            if names[here]:
                continue
            names[here] = count
            for axis in range(labels.ndim):
                for step in (-1, 1):
                    there = tuple(p + step * (k == axis) for k, p in enumerate(here))
                    inside = all(0 <= p < n for p, n in zip(there, labels.shape, strict=True))
                    if inside and labels[there] == labels[here]:
                        todo.append(there)
    return names


@pytest.mark.parametrize("shape", [(8, 9), (4, 5, 4)])
def test_components_equal_a_flood_fill(shape):
    labels = draw_labels(3, 3, shape) - 1
    assert measure.rand_index(connected_parts(labels), components_by_flood(labels)) == 1.0
    assert len(np.unique(connected_parts(labels))) == components_by_flood(labels).max()


def kim_by_loop(labels, truths):
    """Each truth segment takes the component of largest IoU; the mean is over segments, of all annotators alike."""
    parts = components_by_flood(labels)
    ious = [max(iou(t == v, parts == p) for p in np.unique(parts)) for t in truths for v in np.unique(t)]
    return sum(ious), len(ious)


def test_best_overlap_follows_kim():
    labels = draw_labels(0, 2, (7, 8))
    truths = [draw_labels(k, k + 2, (7, 8)) for k in range(4)]
    assert measure.best_overlap_sums(labels, truths) == pytest.approx(kim_by_loop(labels, truths))
    assert measure.best_overlap_sums(labels, truths, "coarse") == pytest.approx(kim_by_loop(labels, truths[:1]))
    assert measure.best_overlap_sums(labels, truths, "fine") == pytest.approx(kim_by_loop(labels, truths[3:]))
    total, count = kim_by_loop(labels, truths)
    assert measure.best_overlap_miou(labels, truths) == pytest.approx(total / count)
    with pytest.raises(UsageError, match="fine"):
        measure.best_overlap_miou(labels, truths, "medium")


def test_best_overlap_splits_the_segmentation_but_not_the_truth():
    apart = np.array([[1, 0, 1]])
    assert measure.best_overlap_miou(apart, apart) == pytest.approx((1 / 2 + 1) / 2)
    assert measure.best_overlap_sums(apart, apart, components=False) == (2.0, 2.0)


def test_region_scores_are_the_single_scores():
    labels, truths = draw_labels(0), np.stack([draw_labels(1, 3), draw_labels(2, 4)])
    scores = measure.region_scores(labels, truths)
    split, merge = measure.variation_parts(labels, truths)
    wanted = {
        "covering": measure.covering(labels, truths),
        "probabilistic_rand_index": measure.probabilistic_rand_index(labels, truths),
        "variation_of_information": split + merge,
        "split": split,
        "merge": merge,
        "adjusted_rand_index": np.mean([measure.adjusted_rand_index(labels, t) for t in truths]),
        "adapted_rand_error": np.mean([measure.adapted_rand_error(labels, t).error for t in truths]),
        "fowlkes_mallows": np.mean([measure.fowlkes_mallows(labels, t) for t in truths]),
        "adjusted_mutual_information": np.mean([measure.adjusted_mutual_information(labels, t) for t in truths]),
        "homogeneity": np.mean([measure.homogeneity(labels, t) for t in truths]),
        "completeness": np.mean([measure.completeness(labels, t) for t in truths]),
        "v_measure": np.mean([measure.v_measure(labels, t) for t in truths]),
        "n_regions": 5,
    }
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted)
