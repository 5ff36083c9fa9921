import numpy as np
import pytest

from selfseg import measure
from selfseg.core.errors import InputError


def random_tree(n_leaves, seed):
    """Merge random pairs at rising costs, some of them equal."""
    rng = np.random.default_rng(seed)
    parents, altitudes = np.zeros(2 * n_leaves - 1, int), np.zeros(2 * n_leaves - 1)
    tops, height = list(range(n_leaves)), 0.0
    for node in range(n_leaves, 2 * n_leaves - 1):
        height += rng.choice([0.0, 0.5, 1.0])
        for child in rng.choice(tops, 2, replace=False):
            parents[child] = node
            tops.remove(child)
        tops.append(node)
        altitudes[node] = height
    parents[-1] = 2 * n_leaves - 2
    return parents, altitudes


def cut_by_walking(superpixels, parents, altitudes, level):
    """Walk up from each superpixel while the parent is not above the level."""
    labels = np.empty_like(superpixels)
    for index, node in np.ndenumerate(superpixels):
        while parents[node] != node and altitudes[parents[node]] <= level:
            node = parents[node]
        labels[index] = node
    return labels


@pytest.fixture
def scene():
    rng = np.random.default_rng(7)
    superpixels = np.repeat(np.repeat(rng.permutation(30).reshape(5, 6), 3, 0), 4, 1)
    truths = np.stack([np.repeat(np.repeat(rng.integers(0, k + 2, (5, 4)), 3, 0), 6, 1) for k in range(3)])
    return superpixels, *random_tree(30, 1), truths


def assert_level_scores(scores, k, labels, truths, ignore=None):
    covered = measure.covering_sums(labels, truths, ignore)
    assert scores.rand[k] == pytest.approx(measure.probabilistic_rand_index(labels, truths, ignore))
    assert scores.variation[k] == pytest.approx(measure.variation_of_information(labels, truths, ignore), abs=1e-12)
    assert scores.covered[k] == pytest.approx(covered.sum)
    assert scores.area == covered.weight


@pytest.mark.parametrize("ignore", [None, 1])
def test_every_level_of_a_tree_is_scored_as_if_it_were_counted_anew(scene, ignore):
    superpixels, parents, altitudes, truths = scene
    levels = np.array([3.0, -1.0, 0.25, 7.5, 1e9, 5.0])  # in no order
    scores = measure.tree_scores(superpixels, parents, altitudes, truths, levels, ignore=ignore)
    for k, level in enumerate(levels):
        labels = cut_by_walking(superpixels, parents, altitudes, level)
        assert_level_scores(scores, k, labels, truths, ignore)
        if ignore is None:
            assert scores.n_regions[k] == len(np.unique(labels))
    if ignore is None:
        assert scores.n_regions[1] == 30 and scores.n_regions[4] == 1
    assert np.array_equal(scores.levels, levels)


def test_cuts_by_number_of_regions_have_that_number(scene):
    superpixels, parents, altitudes, truths = scene
    numbers = np.array([1, 12, 30, 5, 99])
    scores = measure.tree_scores(superpixels, parents, altitudes, truths, numbers, by="regions")
    assert scores.n_regions.tolist() == [1, 12, 30, 5, 30]
    assert_level_scores(scores, 0, np.zeros_like(superpixels), truths)
    assert_level_scores(scores, 2, superpixels, truths)


def test_covering_at_the_best_level_of_each_truth_region(scene):
    superpixels, parents, altitudes, truths = scene
    levels = np.linspace(0, altitudes.max(), 6)
    best = 0.0
    cuts = [cut_by_walking(superpixels, parents, altitudes, level) for level in levels]
    for truth in truths:
        for value in np.unique(truth):
            a = truth == value
            regions = (labels == v for labels in cuts for v in np.unique(labels))
            best += a.sum() * max((a & b).sum() / (a | b).sum() for b in regions)
    scores = measure.tree_scores(superpixels, parents, altitudes, truths, levels)
    assert scores.covered_best == pytest.approx(best)
    assert scores.covered_best >= scores.covered.max()


def test_pixels_outside_the_tree_are_one_region_of_their_own(scene):
    superpixels, parents, altitudes, truths = scene
    masked = superpixels.copy()
    masked[:2] = -1
    scores = measure.tree_scores(masked, parents, altitudes, truths, [2.0, 1e9])
    inside = cut_by_walking(superpixels, parents, altitudes, 2.0)
    inside[:2] = -1
    assert_level_scores(scores, 0, inside, truths)
    assert scores.n_regions[1] == 2


def test_a_list_of_cuts_scores_as_the_tree_does(scene):
    superpixels, parents, altitudes, truths = scene
    levels = [0.0, 2.0, 6.0]
    cuts = (cut_by_walking(superpixels, parents, altitudes, level) for level in levels)
    from_list = measure.list_scores(cuts, truths, levels, boundaries=True)
    from_tree = measure.tree_scores(superpixels, parents, altitudes, truths, levels, boundaries=True)
    for name in ("levels", "n_regions", "rand", "variation", "covered", "covered_best", "area"):
        assert np.array_equal(getattr(from_list, name), getattr(from_tree, name)), name
    assert from_list.boundaries == from_tree.boundaries
    assert len(from_list.boundaries) == 3


def scores_of(covered, rand, variation, area=10.0, best=9.0):
    n = len(covered)
    numbers = np.arange(n, dtype=float)
    arrays = [np.array(values, float) for values in (rand, variation, covered)]
    return measure.ScaleScores(numbers, np.ones(n, int), *arrays, best, area)


def test_ods_and_ois_by_hand():
    images = [
        scores_of(covered=[8, 4, 1], rand=[0.9, 0.6, 0.1], variation=[3, 1, 2]),
        scores_of(covered=[2, 10, 12], rand=[0.2, 0.6, 0.7], variation=[5, 4, 1], area=20.0, best=15.0),
    ]
    result = measure.ods_ois(images)
    assert result.covering == measure.BestScale(ods=14 / 30, ois=(8 + 12) / 30, level=1.0, best=24 / 30)
    assert (result.rand.ods, result.rand.ois, result.rand.level) == pytest.approx((0.6, 0.8, 1.0))
    assert (result.variation.ods, result.variation.ois, result.variation.level) == pytest.approx((1.5, 1.0, 2.0))
    assert result.boundary is None


def test_boundary_counts_are_summed_before_f_is_taken():
    from dataclasses import replace

    counts = measure.BoundaryCounts
    images = [
        replace(scores_of([1, 1], [1, 1], [1, 1]), boundaries=(counts(8, 10, 8, 40), counts(10, 50, 20, 40))),
        replace(scores_of([1, 1], [1, 1], [1, 1]), boundaries=(counts(10, 10, 10, 10), counts(10, 90, 10, 10))),
    ]
    result = measure.ods_ois(images).boundary
    p, r = 18 / 20, 18 / 50
    assert result.ods == pytest.approx(2 * p * r / (p + r))
    p, r = 18 / 20, 18 / 50  # the first level has the larger F in either image
    assert result.ois == pytest.approx(2 * p * r / (p + r))
    assert result.level == 0.0
    # Precision falls linearly from (.36, .9) to (.6, 1/7); the area counts the recalls .36, .37, ..., .60.
    grid = [0.9 + (k / 100 - 0.36) / 0.24 * (1 / 7 - 0.9) for k in range(36, 61)]
    assert result.best == pytest.approx(sum(grid) / 100, abs=1e-9)


def test_what_is_no_tree_is_refused(scene):
    superpixels, parents, altitudes, truths = scene
    looped, falling = parents.copy(), altitudes.copy()
    looped[-2] = 0
    falling[-1] = -5.0
    for arguments, message in [
        ((superpixels, parents[:-1], altitudes, truths), "2R-1"),
        ((superpixels, looped, altitudes, truths), "parents"),
        ((superpixels, parents, falling, truths), "altitudes"),
        ((superpixels + 1, parents, altitudes, truths), "0..29|up to 29"),
        ((superpixels[:4], parents, altitudes, truths), r"\(4, 24\).*\(15, 24\)"),
    ]:
        with pytest.raises(InputError, match=message):
            measure.tree_scores(*arguments, [1.0])
    with pytest.raises(InputError, match="at least one"):
        measure.list_scores([], truths)
    with pytest.raises(InputError, match="one for each"):
        measure.list_scores([superpixels], truths, [1.0, 2.0])
    with pytest.raises(InputError, match="same levels"):
        measure.ods_ois([scores_of([1], [1], [1]), scores_of([1, 2], [1, 1], [1, 1])])
    with pytest.raises(InputError, match="at least one image"):
        measure.ods_ois([])


def test_a_tree_of_one_superpixel_is_a_tree():
    scores = measure.tree_scores(np.zeros((3, 3), int), [0], [0.0], np.eye(3, dtype=int), [0.0, 4.0])
    assert scores.n_regions.tolist() == [1, 1]
