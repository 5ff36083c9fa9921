import numpy as np
import pytest
from scipy.signal import correlate2d
from sklearn.cluster import KMeans

from selfseg.core.errors import UsageError
from selfseg.regions.clusters import feature_words
from selfseg.regions.texture import filter_bank, filter_responses, textons


def test_filters_see_no_constant_and_the_right_angle():
    bank = filter_bank()
    assert bank.shape[0] == 17
    np.testing.assert_allclose(bank.sum((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.abs(bank).sum((1, 2)), 1, rtol=1e-5)
    y, x = np.mgrid[-40:41, -40:41]
    for k in range(8):
        side = y * np.cos(k * np.pi / 8) - x * np.sin(k * np.pi / 8)
        line = filter_responses(np.exp(-0.5 * (side / 2) ** 2))[:8, 40, 40]
        assert np.abs(line).argmax() == k
        step = filter_responses((side > 0).astype(float))[8:16, 40, 40]
        assert np.abs(step).argmax() == k


def test_responses_are_convolutions_with_a_mirrored_border():
    channel = np.random.default_rng(0).random((21, 25))
    bank = filter_bank(1.0)
    reach = bank.shape[1] // 2
    padded = np.pad(channel, reach, mode="symmetric")
    got = filter_responses(channel, 1.0)
    for k in (0, 5, 11, 16):
        expected = correlate2d(padded, bank[k, ::-1, ::-1], mode="valid")
        np.testing.assert_allclose(got[k], expected, atol=1e-5)


def test_two_textures_get_different_words():
    rng = np.random.default_rng(0)
    channel = np.where(np.arange(80)[None] < 40, np.arange(60)[:, None] % 6 < 3, rng.random((60, 80)) < 0.5) * 100.0
    words, count = textons(channel, 8)
    left, right = (
        np.bincount(words[:, s].ravel(), minlength=count) / words[:, s].size for s in (slice(30), slice(50, 80))
    )
    assert 0.5 * np.abs(left - right).sum() > 0.6


def test_words_are_about_as_good_as_those_of_kmeans():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (40, 50, 2)) + rng.integers(0, 4, (40, 50, 1)) * 5
    words, centres = feature_words(features, 10)
    error = ((features - centres[words]) ** 2).sum()
    assert error < 1.15 * KMeans(10, n_init=3, random_state=0).fit(features.reshape(-1, 2)).inertia_
    distance = ((features[:, :, None] - centres) ** 2).sum(-1)
    np.testing.assert_allclose(np.take_along_axis(distance, words[..., None], -1)[..., 0], distance.min(-1), atol=1e-3)


def test_there_are_never_more_words_than_different_pixels():
    assert textons(np.zeros((12, 14)))[1] == 1
    words, centres = feature_words(np.array([[[0.0], [0.0], [3.0]]]), 32)
    assert len(centres) == 2 and words[0, 0] == words[0, 1] != words[0, 2]


def test_the_same_seed_gives_the_same_words():
    channel = np.random.default_rng(0).random((30, 40))
    np.testing.assert_array_equal(textons(channel, 8, seed=5)[0], textons(channel, 8, seed=5)[0])


def test_wrong_input_is_named():
    with pytest.raises(UsageError, match="expected"):
        textons(np.zeros((3, 4, 5)))
    with pytest.raises(UsageError, match="expected"):
        feature_words(np.zeros((3, 4, 5)), 256)
