"""Each baseline on a picture whose right segmentation is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as components
from sklearn.metrics import adjusted_rand_score

from conftest import blobs
from selfseg.benchmark.baselines import (
    felzenszwalb,
    grid,
    hysteresis,
    k_means,
    mean_shift,
    ncut,
    one_region,
    otsu,
    otsu_polarity,
    otsu_smooth,
    otsu_watershed,
    quickshift,
    random_walker,
    slic_merge,
    tophat_otsu,
)
from selfseg.core.image import Image

COLOURS = np.array([[30, 30, 120], [200, 60, 40], [60, 180, 60], [230, 220, 120]])


def quarters(height=60, width=80, noise=4.0, seed=0):
    """Four noisy colours in the four quarters of a picture, and the quarter 0..3 of each pixel."""
    truth = np.zeros((height, width), int)
    truth[:, width // 2 :] += 1
    truth[height // 2 :] += 2
    noisy = COLOURS[truth] + np.random.default_rng(seed).normal(0, noise, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8), truth


def agreement(labels, truth):
    return adjusted_rand_score(truth.ravel(), labels.ravel())


def discs(*centres, radius=12, shape=(60, 90)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return [(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in centres]


@pytest.mark.parametrize("baseline", [k_means, ncut, random_walker, slic_merge])
def test_four_colours_are_four_classes_when_four_are_asked_for(baseline):
    array, truth = quarters()
    assert agreement(baseline.segment(Image(array, "YXC"), 4, 0).labels, truth) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("baseline", [felzenszwalb, mean_shift, slic_merge])
def test_four_colours_are_found_at_the_fixed_scale(baseline):
    array, truth = quarters()
    labels = baseline.segment(Image(array, "YXC"), None, 0).labels
    assert labels.max() == 4
    # Smoothing moves the border by a pixel.
    assert agreement(labels, truth) == pytest.approx(1, abs=0.05)


def test_quickshift_climbs_to_the_four_modes():
    array, truth = quarters()
    outcome = quickshift.segment(Image(array, "YXC"), None, 0)
    best = max(agreement(labels, truth) for _, labels in outcome.scales)
    assert best > 0.9
    # No tree reaches from one colour to another: each region lies in one quarter but for its blocks at the border.
    table = np.zeros((outcome.labels.max() + 1, 4))
    np.add.at(table, (outcome.labels.ravel(), truth.ravel()), 1)
    assert table.max(1).sum() / truth.size > 0.95


@pytest.mark.parametrize("baseline", [quickshift, random_walker])
def test_a_reduced_picture_comes_back_at_its_size(baseline):
    array, truth = quarters(243, 301)
    outcome = baseline.segment(Image(array, "YXC"), 4, 0)
    assert outcome.labels.shape == truth.shape
    # Blocks are up to 3 or 4 pixels wide, so that the two borders may be off by so much.
    far = np.ones(truth.shape, bool)
    far[118:126] = far[:, 146:155] = False
    table = np.zeros((outcome.labels.max() + 1, 4))
    np.add.at(table, (outcome.labels[far], truth[far]), 1)
    assert table.max(1).sum() / far.sum() > 0.97


def test_one_region_is_all_ones():
    outcome = one_region.segment(Image(blobs(), "YXC"), 5, 0)
    assert np.array_equal(outcome.labels, np.ones((40, 52)))


def test_grid_blocks_are_equal():
    outcome = grid.segment(Image(np.zeros((40, 60), np.uint8), "YX"), None, 0)
    by_level = dict(outcome.scales)
    assert np.array_equal(by_level[2.0], np.kron([[1, 2], [3, 4]], np.ones((20, 30))))
    assert np.array_equal(np.bincount(by_level[10.0].ravel())[1:], np.full(100, 24))
    assert np.array_equal(outcome.labels, by_level[float(grid.DEFAULT)])


def test_otsu_separates_dark_from_bright():
    array = np.full((30, 40), 60.0)
    array[:10] = 180
    array += np.random.default_rng(0).normal(0, 8, array.shape)
    labels = otsu.segment(Image(array.astype(np.uint8), "YX"), None, 0).labels
    assert np.array_equal(labels, 1 + (np.arange(30) < 10)[:, None] * np.ones(40))


def test_classes_are_dark_to_bright():
    array, _ = quarters()
    light = array @ np.array([0.2126, 0.7152, 0.0722])
    for baseline in (k_means, ncut, otsu, random_walker):
        labels = baseline.segment(Image(array, "YXC"), 4, 0).labels
        means = [light[labels == i].mean() for i in range(1, 5)]
        assert means == sorted(means)


NUCLEI = pytest.mark.parametrize("baseline", [otsu_watershed, otsu_polarity, tophat_otsu])


def test_smoothing_takes_grain_away_from_otsu():
    truth = np.zeros((60, 80), int)
    truth[:, 40:] = 1
    array = np.clip(90 + 60 * truth + np.random.default_rng(0).normal(0, 60, truth.shape), 0, 255).astype(np.uint8)
    rough, smooth = (b.segment(Image(array, "YX"), None, 0).labels - 1 for b in (otsu, otsu_smooth))
    assert (rough != truth).mean() > 0.2 and (smooth != truth).mean() < 0.01


def test_nuclei_that_cover_most_of_the_picture_are_no_background():
    packed = sum(discs(*((y, x) for y in range(20, 150, 34) for x in range(20, 150, 34)), radius=16, shape=(170, 170)))
    packed[5:-5, 5:-5] |= np.random.default_rng(0).random((160, 160)) < 0.2
    assert (packed > 0).mean() > 0.5
    array = np.where(packed > 0, 60, 200).astype(np.uint8)
    labels = otsu_polarity.segment(Image(array, "YX"), None, 0).labels
    assert ((labels > 1) == (packed > 0)).mean() > 0.9


def test_uneven_light_is_taken_away_by_the_top_hat():
    centres = [(y, x) for y in range(20, 120, 33) for x in range(20, 300, 33)]
    nuclei = np.any(discs(*centres, radius=8, shape=(120, 300)), 0)
    array = (40 * nuclei + 20 + 100 * np.linspace(0, 1, 300)[None] ** 2).astype(np.uint8)
    labels = tophat_otsu.segment(Image(array, "YX"), None, 0).labels
    assert labels.max() == 1 + len(centres) and ((labels > 1) == nuclei).mean() > 0.98
    assert ((otsu_polarity.segment(Image(array, "YX"), None, 0).labels > 1) == nuclei).mean() < 0.8


def test_hysteresis_keeps_weak_voxels_beside_a_peak_only():
    array = np.random.default_rng(0).normal(100, 2, (40, 60))
    array[5:12, 5:12] = 101.5  # weak, without a peak
    array[20:30, 20:30] = 101.5
    array[23:27, 23:27] = 115
    labels = hysteresis.segment(Image(array, "YX"), None, 0).labels
    assert (labels[22:28, 22:28] == 2).all() and (labels[:14, :14] == 1).all() and labels.max() == 2
    blurred = gaussian_filter(array, 1, mode="nearest")
    z = (blurred - np.median(blurred)) / (1.4826 * np.median(np.abs(blurred - np.median(blurred))))
    parts, n = components(z > 2)
    wanted = np.isin(parts, [k for k in range(1, n + 1) if z[parts == k].max() > 3.5])
    np.testing.assert_array_equal(labels == 2, wanted)


@NUCLEI
@pytest.mark.parametrize("dark", [False, True])
def test_touching_nuclei_are_split_whatever_their_polarity(dark, baseline):
    left, right, alone = discs((30, 20), (30, 41), (30, 75), radius=12)
    nuclei = left | right | alone
    assert components(nuclei)[1] == 2
    array = np.where(nuclei != dark, 200, 40).astype(np.uint8)
    labels = baseline.segment(Image(array, "YX"), None, 0).labels
    assert baseline.INSTANCES
    assert np.array_equal(np.unique(labels), [1, 2, 3, 4])
    iou = lambda a, b: (a & b).sum() / (a | b).sum()  # noqa: E731
    assert iou(labels == 1, ~nuclei) > 0.97
    for disc in (left, right, alone):
        assert max(iou(labels == i, disc) for i in (2, 3, 4)) > 0.85


@NUCLEI
def test_an_image_without_nuclei_is_all_background(baseline):
    labels = baseline.segment(Image(np.full((20, 30), 9, np.uint8), "YX"), None, 0).labels
    assert np.array_equal(labels, np.ones((20, 30)))


@NUCLEI
def test_specks_are_no_nuclei(baseline):
    array = np.full((60, 90), 40, np.uint8)
    array[discs((30, 30))[0]] = 200
    array[5:8, 80:83] = 200
    labels = baseline.segment(Image(array, "YX"), None, 0).labels
    assert labels.max() == 2
    assert labels[6, 81] == 1
