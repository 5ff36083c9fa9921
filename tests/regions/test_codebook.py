import numpy as np
import pytest
from sklearn.cluster import KMeans, kmeans_plusplus

from selfseg.regions.clusters import codebook, lloyd, seed_centres


def test_the_fewest_entries_that_explain_enough():
    rng = np.random.default_rng(0)
    rows = np.repeat(np.diag([50.0, 60.0, 70.0]), 200, axis=0) + rng.normal(0, 1, (600, 3))  # > 256: the k-means start
    centres = codebook(rows, np.ones(600), None, 0.98, 24)
    assert len(centres) == 3
    np.testing.assert_allclose(sorted(centres.max(1)), [50, 60, 70], atol=0.5)
    assert len(codebook(rows, np.ones(600), None, 0.5, 24)) == 2
    assert len(codebook(rows, np.ones(600), None, 1.0, 24)) == 24


def test_never_more_entries_than_different_regions():
    rows = np.array([[1.0, 2.0], [1.0, 2.0], [5.0, 0.0]])
    np.testing.assert_allclose(np.sort(codebook(rows, np.ones(3), 7, 0.98, 24), 0), [[1, 0], [5, 2]])
    assert codebook(rows[:2], np.ones(2), 7, 0.98, 24).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("seed", range(6))
def test_lloyd_arrives_where_scikit_learn_does(seed):
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.normal(place, 8, (40, 3)) for place in (0, 10, 25)])
    weights = rng.uniform(0.1, 5, len(rows))
    start = rows[rng.choice(len(rows), 4, replace=False)]
    theirs = KMeans(4, init=start, n_init=1).fit(rows, sample_weight=weights).cluster_centers_
    np.testing.assert_allclose(lloyd(rows, weights, start), theirs, atol=1e-6)


def test_a_centre_without_rows_stays():
    rows = np.array([[0.0], [1.0]])
    assert lloyd(rows, np.ones(2), np.array([[0.4], [99.0]])).tolist() == [[0.5], [99.0]]


@pytest.mark.parametrize("seed", range(5))
def test_first_centres_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(40, 3)) * 10)[rng.integers(40, size=2000)] + rng.normal(size=(2000, 3))
    theirs, _ = kmeans_plusplus(rows, 40, random_state=seed)
    np.testing.assert_array_equal(seed_centres(rows, 40, seed), theirs)


def test_first_centres_of_rows_that_are_all_alike_are_that_row():
    assert seed_centres(np.ones((5, 2)), 3).tolist() == [[1, 1]] * 3
