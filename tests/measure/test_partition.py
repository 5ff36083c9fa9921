import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import adapted_rand_error as skimage_adapted_rand_error
from sklearn import metrics

from selfseg import measure


def pairs_by_loop(labels, truth):
    """Count all pixel pairs: together in both, in the labels only, in the truth only, in neither."""
    a, b = labels.ravel().tolist(), truth.ravel().tolist()
    counts = Counter((a[i] == a[j], b[i] == b[j]) for i, j in combinations(range(len(a)), 2))
    return counts[True, True], counts[True, False], counts[False, True], counts[False, False]


def conditional_entropy_by_loop(x, given):
    """H(x | given) in bits, from its definition."""
    n = len(x)
    joint, of_given = Counter(zip(x, given, strict=True)), Counter(given)
    return -sum(count / n * math.log2(count / of_given[g]) for (_, g), count in joint.items())


@st.composite
def label_pairs(draw, most=5):
    seed, n_labels, n_truth = draw(st.integers(0, 10**6)), draw(st.integers(1, most)), draw(st.integers(1, most))
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, rng.integers(1, 4)))
    return rng.integers(0, n_labels, shape), rng.integers(0, n_truth, shape)


@given(label_pairs())
@settings(max_examples=100, deadline=None)
def test_pair_scores_equal_counting_every_pair(pair):
    both, merged, cut, apart = pairs_by_loop(*pair)
    n = both + merged + cut + apart
    scores = measure.pair_scores(measure.contingency(*pair))
    assert scores.rand == pytest.approx((both + apart) / n if n else 1.0)
    assert scores.precision == pytest.approx(both / (both + merged) if both + merged else 1.0)
    assert scores.recall == pytest.approx(both / (both + cut) if both + cut else 1.0)
    assert measure.rand_index(*pair) == scores.rand
    assert scores.fowlkes_mallows == pytest.approx(math.sqrt(scores.precision * scores.recall))
    # Hubert & Arabie 1985, eq. 5: the pairs that are together in both, less those expected, over the most there can be.
    chance = (both + merged) * (both + cut) / n if n else 0.0
    most = (both + merged + both + cut) / 2
    adjusted = (both - chance) / (most - chance) if most > chance else 1.0
    assert measure.adjusted_rand_index(*pair) == pytest.approx(adjusted, abs=1e-9)


@given(label_pairs())
@settings(max_examples=100, deadline=None)
def test_information_scores_equal_their_definition(pair):
    labels, truth = (array.ravel().tolist() for array in pair)
    split, merge = measure.variation_parts(*pair)
    assert split == pytest.approx(conditional_entropy_by_loop(labels, truth), abs=1e-12)
    assert merge == pytest.approx(conditional_entropy_by_loop(truth, labels), abs=1e-12)
    assert measure.variation_of_information(*pair) == pytest.approx(split + merge, abs=1e-12)
    scores = measure.information_scores(measure.contingency(*pair))
    whole = [0] * len(labels)
    assert scores.entropy_labels == pytest.approx(conditional_entropy_by_loop(labels, whole), abs=1e-12)
    assert scores.entropy_truth == pytest.approx(conditional_entropy_by_loop(truth, whole), abs=1e-12)
    assert scores.mutual == pytest.approx(scores.entropy_labels - split, abs=1e-12)
    # Rosenberg & Hirschberg 2007: 1 - H(T|S) / H(T), 1 - H(S|T) / H(S), and their harmonic mean.
    homogeneity = 1 - merge / scores.entropy_truth if len(set(truth)) > 1 else 1.0
    completeness = 1 - split / scores.entropy_labels if len(set(labels)) > 1 else 1.0
    both = homogeneity + completeness
    assert measure.homogeneity(*pair) == pytest.approx(homogeneity, abs=1e-9)
    assert measure.completeness(*pair) == pytest.approx(completeness, abs=1e-9)
    assert measure.v_measure(*pair) == pytest.approx(
        2 * homogeneity * completeness / both if both > 1e-9 else 0, abs=1e-6
    )


@given(label_pairs(most=12))
@settings(max_examples=60, deadline=None)
def test_scores_equal_those_of_scikit_learn(pair):
    labels, truth = pair
    flat = truth.ravel(), labels.ravel()
    assert measure.adjusted_rand_index(labels, truth) == pytest.approx(metrics.adjusted_rand_score(*flat))
    assert measure.homogeneity(labels, truth) == pytest.approx(metrics.homogeneity_score(*flat), abs=1e-9)
    assert measure.completeness(labels, truth) == pytest.approx(metrics.completeness_score(*flat), abs=1e-9)
    assert measure.v_measure(labels, truth) == pytest.approx(metrics.v_measure_score(*flat), abs=1e-9)
    if labels.size > 1:
        assert measure.rand_index(labels, truth) == pytest.approx(metrics.rand_score(*flat))
    pairs = pairs_by_loop(labels, truth)
    if pairs[0]:  # with no pair together scikit-learn calls it 0; here an empty precision is 1
        assert measure.fowlkes_mallows(labels, truth) == pytest.approx(metrics.fowlkes_mallows_score(*flat))


@pytest.mark.parametrize(("size", "n_labels", "n_truth"), [(60, 4, 3), (500, 40, 7), (20_000, 60, 12), (200, 150, 150)])
def test_adjusted_mutual_information_equals_that_of_scikit_learn(size, n_labels, n_truth):
    rng = np.random.default_rng(size)
    truth = np.sort(rng.integers(0, n_truth, size))
    labels = np.where(rng.random(size) < 0.4, rng.integers(0, n_labels, size), truth * n_labels // n_truth)
    ours = measure.adjusted_mutual_information(labels, truth)
    assert ours == pytest.approx(metrics.adjusted_mutual_info_score(truth, labels), abs=1e-7)


def test_adjusted_mutual_information_is_corrected_by_the_mean_over_all_relabellings():
    # Every way to place the second partition on six pixels, with sizes (3, 2, 1) against (4, 2).
    from itertools import permutations

    labels = np.array([0, 0, 0, 1, 1, 2])
    values = []
    for truth in permutations([0, 0, 0, 0, 1, 1]):
        scores = measure.information_scores(measure.contingency(labels, np.array(truth)))
        values.append(scores.mutual * math.log(2))
    truth = np.array([0, 0, 0, 0, 1, 1])
    scores, chance = measure.information_scores(measure.contingency(labels, truth)), np.mean(values) / math.log(2)
    ceiling = (scores.entropy_labels + scores.entropy_truth) / 2
    expected = (scores.mutual - chance) / (ceiling - chance)
    assert measure.adjusted_mutual_information(labels, truth) == pytest.approx(expected, rel=1e-9)


def test_adapted_rand_error_equals_a_loop_and_names_its_halves_rightly():
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(0, 4, (6, 7)), rng.integers(0, 3, (6, 7))
    a, b = labels.ravel(), truth.ravel()
    both = sum(int(x == y and u == v) for x, u in zip(a, b, strict=True) for y, v in zip(a, b, strict=True))
    in_labels = sum(int(x == y) for x in a for y in a)
    in_truth = sum(int(x == y) for x in b for y in b)
    result = measure.adapted_rand_error(labels, truth)
    assert result.precision == pytest.approx(both / in_labels)
    assert result.recall == pytest.approx(both / in_truth)
    assert result.error == pytest.approx(1 - 2 * both / (in_labels + in_truth))
    # A segmentation that only merges keeps recall, one that only splits keeps precision.
    assert measure.adapted_rand_error(np.zeros_like(truth), truth).recall == 1.0
    assert measure.adapted_rand_error(np.arange(truth.size).reshape(truth.shape), truth).precision == 1.0


def test_adapted_rand_error_is_that_of_scikit_image_with_the_background_left_out():
    rng = np.random.default_rng(1)
    truth = np.repeat(np.repeat(rng.integers(0, 4, (5, 5)), 6, 0), 6, 1)
    labels = np.where(rng.random(truth.shape) < 0.2, rng.integers(1, 9, truth.shape), truth + 1)
    error = skimage_adapted_rand_error(truth, labels, ignore_labels=(0,))[0]
    # scikit-image counts pairs of different pixels, the papers every ordered pair: they differ by O(1/n).
    assert measure.adapted_rand_error(labels, truth, ignore=0).error == pytest.approx(error, abs=2e-3)
    table = measure.pair_scores(measure.contingency(labels, truth, ignore=0))
    harmonic = 2 * table.precision * table.recall / (table.precision + table.recall)
    assert 1 - harmonic == pytest.approx(error, abs=1e-9)


def test_probabilistic_rand_and_variation_are_means_over_annotators():
    rng = np.random.default_rng(2)
    labels, truths = rng.integers(0, 4, (8, 9)), rng.integers(0, 3, (4, 8, 9))
    rands = [measure.rand_index(labels, truth) for truth in truths]
    assert measure.probabilistic_rand_index(labels, truths) == pytest.approx(np.mean(rands))
    bits = [measure.variation_of_information(labels, truth) for truth in truths]
    assert measure.variation_of_information(labels, truths) == pytest.approx(np.mean(bits))


@given(label_pairs(), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_scores_do_not_depend_on_names_or_order(pair, seed):
    rng = np.random.default_rng(seed)
    labels, truth = pair
    names, places = rng.permutation(20) * 7 - 30, rng.permutation(labels.size)
    before = measure.region_scores(labels, truth)
    after = measure.region_scores(names[labels.ravel()][places], names[truth.ravel()][places])
    assert after == pytest.approx(before, abs=1e-9)


def test_ignored_pixels_leave_every_score_as_if_they_were_cut_off():
    rng = np.random.default_rng(6)
    labels, truth = rng.integers(0, 5, (10, 12)), rng.integers(1, 4, (10, 12))
    masked = truth.copy()
    masked[:, 8:] = 9
    assert measure.region_scores(labels, masked, ignore=9) == measure.region_scores(labels[:, :8], truth[:, :8])


@pytest.mark.parametrize("shape", [(1, 1), (7,), (4, 5), (2, 3, 4)])
def test_one_region_in_both_is_perfect(shape):
    scores = measure.region_scores(np.full(shape, 3), np.zeros(shape, int))
    zero = ("variation_of_information", "split", "merge", "adapted_rand_error")
    assert all(scores[name] == 0.0 for name in zero)
    assert all(value == 1.0 for name, value in scores.items() if name not in zero)


def test_scores_of_large_regions_keep_their_precision():
    # 10^9 pixels in a table without an array: n^2 exceeds 2^53, differences of it must not drown.
    half = 5 * 10**8
    index = np.array([0, 1])
    table = measure.Table(index, index, np.array([half, half]), index, index)
    assert measure.pair_scores(table).adjusted_rand == 1.0
    assert measure.information_scores(table).split == 0.0
    assert measure.information_scores(table).entropy_truth == pytest.approx(1.0, abs=1e-12)
