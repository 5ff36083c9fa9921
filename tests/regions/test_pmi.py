import math

import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.regions.spectral import (
    FLOOR,
    joint_counts,
    local_variance,
    normalised_cuts,
    pmi_affinity,
    pointwise_mutual_information,
    smear,
)


def test_pairs_are_counted_by_the_gaussian_of_their_distance():
    words = np.array([[0, 1, 1, 0], [2, 1, 0, 0], [2, 2, 1, 0]])
    expected = np.zeros((3, 3))
    for y in range(3):
        for x in range(4):
            for yy in range(3):
                for xx in range(4):
                    squared = (y - yy) ** 2 + (x - xx) ** 2
                    if 0 < squared <= 9:
                        expected[words[y, x], words[yy, xx]] += math.exp(-squared / 2)
    np.testing.assert_allclose(joint_counts(words, 3, sigma=1.0), expected / expected.sum())


def test_mutual_information_is_its_formula():
    joint = np.array([[0.3, 0.05, 0.0], [0.05, 0.2, 0.1], [0.0, 0.1, 0.2]])
    pmi = pointwise_mutual_information(joint, rho=1.25)
    for a in range(3):
        for b in range(3):
            together, alone = joint[a, b] + FLOOR, joint[a].sum() * joint[b].sum() + FLOOR
            assert pmi[a, b] == pytest.approx(math.log(together**1.25 / alone))


def test_independent_words_have_no_information():
    alone = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(pointwise_mutual_information(np.outer(alone, alone), rho=1), 0, atol=1e-6)


def test_smearing_is_a_kernel_density_on_the_words():
    joint = np.array([[0.4, 0.1, 0.0], [0.1, 0.2, 0.05], [0.0, 0.05, 0.1]])
    centres = np.array([[0.0], [1.0], [3.0]])
    width = 1.0 * (1 + 1 + 2) / 3  # mean distance to the nearest
    spread = np.array([[math.exp(-((a - b) ** 2) / (2 * width**2)) for b in (0, 1, 3)] for a in (0, 1, 3)])
    spread /= spread.sum(1, keepdims=True)
    expected = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            for i in range(3):
                for j in range(3):
                    expected[i, j] += joint[a, b] * spread[a, i] * spread[b, j]
    np.testing.assert_allclose(smear(joint, centres), expected)
    assert smear(joint, centres).sum() == pytest.approx(1)
    np.testing.assert_array_equal(smear(joint, centres, 0), joint)


def test_local_variance_is_that_of_the_window():
    image = np.random.default_rng(0).random((6, 7, 2))
    got = local_variance(image)
    for y in range(1, 5):
        for x in range(1, 6):
            np.testing.assert_allclose(got[y, x], image[y - 1 : y + 2, x - 1 : x + 2].std((0, 1)), atol=1e-9)


def test_stripes_hold_together_and_the_ground_does_not_join_them():
    # Black and white stripes on grey: their contrast is twice that towards the ground, yet they meet all the time.
    image = np.full((40, 60, 3), 50.0)
    image[:, 30:] = np.where(np.arange(30)[None, :, None] // 2 % 2, 0.0, 100.0)
    image += np.random.default_rng(0).normal(0, 2, image.shape)
    vectors, _ = normalised_cuts(pmi_affinity(image), (40, 60), 1)
    left, right = vectors[0][:, :27], vectors[0][:, 33:]
    assert abs(left.mean() - right.mean()) > 4 * max(left.std(), right.std())


def test_ties_are_symmetric_at_most_one_and_repeatable():
    image = np.random.default_rng(0).random((9, 11, 3)) * 100
    tie = pmi_affinity(image, radius=3, seed=1)
    assert (tie != tie.T).nnz == 0
    assert tie.data.min() > 0 and tie.data.max() <= 1
    assert (tie != pmi_affinity(image, radius=3, seed=1)).nnz == 0


@pytest.mark.parametrize("image", [np.zeros((1, 1, 3)), np.full((5, 6, 1), np.nan), np.ones((20, 20, 3))])
def test_pictures_without_any_difference(image):
    assert np.isfinite(pmi_affinity(image).data).all()


def test_a_flat_array_is_named():
    with pytest.raises(UsageError, match=r"\[Y X C\]"):
        pmi_affinity(np.zeros((4, 5)))
