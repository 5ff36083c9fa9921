from itertools import combinations

import numpy as np
import pytest
from sklearn import metrics

from selfseg import measure
from selfseg.core.errors import InputError


def test_stability_is_the_mean_over_pairs_of_runs():
    rng = np.random.default_rng(2)
    runs = list(rng.integers(0, 3, (4, 6, 7)))
    pairs = [metrics.adjusted_rand_score(a.ravel(), b.ravel()) for a, b in combinations(runs, 2)]
    assert measure.stability(runs) == pytest.approx(np.mean(pairs))
    assert measure.stability([runs[0], 7 - runs[0]]) == 1.0
    with pytest.raises(InputError, match="two or more"):
        measure.stability(runs[:1])


def squares(shape=(30, 40), channels=3):
    labels = (np.add.outer(np.arange(shape[0]) // 10, np.arange(shape[1]) // 10) % 3).astype(int)
    return labels, np.stack([labels * 50.0 + 20 * c for c in range(channels)], -1)


def test_labels_of_a_changed_image_come_back_into_place():
    labels, image = squares()
    for change in measure.small_changes(image, shrink=0.8):
        # The first channel's tones are 0, 50, 100; a twentieth more or less and 2 % of noise move none past a middle.
        found = np.digitize(change.image[..., 0], [25, 75])
        back = change.undo(found)
        assert back.shape == labels.shape
        inside = np.pad(labels[1:-1, 1:-1], 1, mode="edge") == labels
        for axis in (0, 1):
            for step in (-1, 1):
                inside &= np.roll(labels, step, axis) == labels
        assert (back == labels)[inside].all()
        assert np.abs(change.image - image).max() > 0 if change.name != "shrink" else change.image.shape == (24, 32, 3)


def test_shrinking_keeps_a_ramp_at_the_centres_of_its_pixels():
    y, x = np.mgrid[:20, :10]
    image = np.stack([y + 0.5, x + 0.5], -1)  # each pixel holds the place of its centre
    shrink = measure.small_changes(image, shrink=0.5)[2].image
    expected = np.stack(np.meshgrid(np.arange(1, 20, 2.0), np.arange(1, 10, 2.0), indexing="ij"), -1)
    assert np.allclose(shrink, expected)


def test_changes_are_as_large_as_asked_and_repeatable():
    _, image = squares((60, 80))
    middle = np.abs(image - image.mean()) < 60
    noise, tone, _ = measure.small_changes(image, seed=3, noise=0.03, tone=0.1)
    spread = (noise.image - image)[middle].std() / np.ptp(image)
    assert 0.02 < spread < 0.04
    gains = [tone.image[10, 10, c] / image[10, 10, c] for c in range(3) if image[10, 10, c] > 0]
    assert all(0.9 <= gain <= 1.1 for gain in gains) and len(set(np.round(gains, 6))) == len(gains) > 1
    again, other = (measure.small_changes(image, seed=seed, noise=0.03)[0].image for seed in (3, 4))
    assert np.array_equal(again, noise.image) and not np.array_equal(other, noise.image)


def test_a_volume_and_a_change_of_nothing():
    volume = np.random.default_rng(5).random((4, 6, 5, 1))
    for change in measure.small_changes(volume, noise=0, tone=0, shrink=1):
        assert np.allclose(change.image, volume)
        assert change.undo(np.ones((4, 6, 5), int)).shape == (4, 6, 5)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (np.zeros(4), {}),
        (np.full((3, 3, 1), np.nan), {}),
        (np.zeros((3, 3, 1)), {"noise": -1}),
        (np.zeros((3, 3, 1)), {"tone": 1}),
        (np.zeros((3, 3, 1)), {"shrink": 0}),
    ],
)
def test_impossible_changes_are_refused(image, options):
    with pytest.raises(InputError, match="expected"):
        measure.small_changes(image, **options)
