"""Each baseline on a picture whose right segmentation is known."""

import numpy as np
import pytest
from scipy.ndimage import label as components
from sklearn.metrics import adjusted_rand_score

from conftest import blobs
from selfseg.benchmark.baselines import (
    felzenszwalb,
    grid,
    k_means,
    mean_shift,
    ncut,
    one_region,
    otsu,
    otsu_watershed,
    quickshift,
    random_walker,
    slic_merge,
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


@pytest.mark.parametrize("dark", [False, True])
def test_touching_nuclei_are_split_whatever_their_polarity(dark):
    left, right, alone = discs((30, 20), (30, 41), (30, 75), radius=12)
    nuclei = left | right | alone
    assert components(nuclei)[1] == 2
    array = np.where(nuclei != dark, 200, 40).astype(np.uint8)
    labels = otsu_watershed.segment(Image(array, "YX"), None, 0).labels
    assert otsu_watershed.INSTANCES
    assert np.array_equal(np.unique(labels), [1, 2, 3, 4])
    iou = lambda a, b: (a & b).sum() / (a | b).sum()  # noqa: E731
    assert iou(labels == 1, ~nuclei) > 0.97
    for disc in (left, right, alone):
        assert max(iou(labels == i, disc) for i in (2, 3, 4)) > 0.85


def test_an_image_without_nuclei_is_all_background():
    labels = otsu_watershed.segment(Image(np.full((20, 30), 9, np.uint8), "YX"), None, 0).labels
    assert np.array_equal(labels, np.ones((20, 30)))


def test_specks_are_no_nuclei():
    array = np.full((60, 90), 40, np.uint8)
    array[discs((30, 30))[0]] = 200
    array[5:8, 80:83] = 200
    labels = otsu_watershed.segment(Image(array, "YX"), None, 0).labels
    assert labels.max() == 2
    assert labels[6, 81] == 1
