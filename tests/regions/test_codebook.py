import numpy as np

from selfseg.regions.codebook import codebook


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
