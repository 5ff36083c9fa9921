import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.sparse import csr_array

from selfseg.core.errors import UsageError
from selfseg.regions import spectral
from selfseg.regions.spectral import half_window, normalised_cuts, sparse_window_affinity, spectral_gradient


def test_the_half_window_has_one_of_each_opposite_pair():
    offsets = {tuple(offset) for offset in half_window(2).tolist()}
    assert offsets == {(0, 1), (0, 2), (1, -1), (1, 0), (1, 1), (2, 0)}


def test_the_matrix_ties_each_pixel_to_its_partner_and_nothing_beyond_the_border():
    rng = np.random.default_rng(0)
    offsets = half_window(2.5)
    ties = rng.random((len(offsets), 4, 5))
    expected = np.eye(20)
    for o, (dy, dx) in enumerate(offsets.tolist()):
        for y in range(4):
            for x in range(5):
                if 0 <= y + dy < 4 and 0 <= x + dx < 5:
                    i, j = y * 5 + x, (y + dy) * 5 + x + dx
                    expected[i, j] = expected[j, i] = ties[o, y, x]
    np.testing.assert_allclose(sparse_window_affinity(ties, offsets).toarray(), expected)


def tied(strength, radius=5.0, sigma=0.1):
    """Tie pixels by the strongest boundary on the line between them: Berkeley's intervening contour."""
    ties, offsets = [], half_window(radius)
    for down, right in offsets.tolist():
        steps = max(abs(down), abs(right))
        line = [(-round(down * t / steps), -round(right * t / steps)) for t in range(steps + 1)]
        ties.append(np.exp(-np.maximum.reduce([np.roll(strength, step, (0, 1)) for step in line]) / sigma))
    return sparse_window_affinity(np.maximum(ties, 1e-6), offsets)


def test_eigenvectors_are_those_of_the_dense_problem():
    rng = np.random.default_rng(0)
    affinity = tied(rng.random((12, 14)) * 0.3, 3)
    vectors, values = normalised_cuts(affinity, (12, 14), 4)
    dense = affinity.toarray()
    degree = np.diag(dense.sum(1))
    expected, columns = eigh(degree - dense, degree)
    np.testing.assert_allclose(values, expected[1:5], rtol=1e-3)
    for k in range(4):
        # Scaled to 0-1 and of either sign: what is left is correlation.
        assert abs(np.corrcoef(vectors[k].ravel(), columns[:, k + 1])[0, 1]) > 0.999
        assert vectors[k].min() == 0 and vectors[k].max() == 1


def test_two_halves_are_found_on_the_reduced_picture_too(monkeypatch):
    monkeypatch.setattr(spectral, "FEW_NODES", 100)
    strength = np.zeros((32, 40))
    strength[:, 17] = 1.0
    vectors, values = normalised_cuts(tied(strength, 4), (32, 40), 3)
    assert values[0] < values[1] / 10
    assert np.abs(vectors[0][:, :16] - vectors[0][0, 0]).max() < 0.02
    assert np.abs(vectors[0][:, 18:] - vectors[0][0, -1]).max() < 0.02
    gradient = spectral_gradient(vectors, values)
    y, x = np.unravel_index(gradient.max(0).argmax(), strength.shape)
    assert x in (16, 17, 18) and gradient[:, y, x].argmax() == 4


def test_the_gradient_is_the_sum_of_oriented_slopes():
    y, x = np.mgrid[:30, :30].astype(float)
    gradient = spectral_gradient(np.stack([0.1 * x, 0.2 * y]), np.array([0.25, 4.0]))
    for k in range(8):
        angle = k * np.pi / 8
        expected = 0.1 * abs(np.sin(angle)) / 0.5 + 0.2 * abs(np.cos(angle)) / 2
        np.testing.assert_allclose(gradient[k, 10:20, 10:20], expected, rtol=1e-3)


def test_the_same_seed_gives_the_same_vectors():
    affinity = tied(np.random.default_rng(0).random((30, 40)), 3)
    one, other = (normalised_cuts(affinity, (30, 40), 5, seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 3)])
def test_tiny_pictures(shape):
    vectors, values = normalised_cuts(tied(np.zeros(shape)), shape)
    assert np.isfinite(vectors).all() and len(values) == shape[0] * shape[1] - 1
    assert np.isfinite(spectral_gradient(vectors, values)).all()


def test_a_matrix_of_another_shape_is_named():
    with pytest.raises(UsageError, match="one row a pixel"):
        normalised_cuts(csr_array(np.eye(5)), (2, 3))
