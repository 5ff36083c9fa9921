"""The parts that are our own, against their equation as a loop or against a library."""

import itertools

import numpy as np
import pytest
from scipy.linalg import eigh
from skimage.filters import threshold_multiotsu, threshold_otsu
from skimage.segmentation import quickshift as library_quickshift
from sklearn.cluster import MeanShift

from conftest import blobs
from selfseg.benchmark.baselines import _base, mean_shift, ncut, otsu, quickshift, slic_merge
from selfseg.benchmark.baselines._base import LAB_UNIT, k_means, read_pixels
from selfseg.core.image import Image
from selfseg.regions.thresholds import otsu_thresholds


def photo(seed=0):
    """A picture with gradients and noise, so that nothing is equal by symmetry."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:45, :60] / 60
    tones = np.stack([y, x * y, 0.5 + 0.4 * np.sin(7 * x)], -1)
    return np.clip(255 * tones + rng.normal(0, 12, (45, 60, 3)), 0, 255).astype(np.uint8)


def test_otsu_takes_the_thresholds_of_the_largest_variance_between_classes():
    rng = np.random.default_rng(4)
    counts, values = rng.integers(1, 40, 9).astype(float), np.sort(rng.choice(50, 9, replace=False)) + 0.5
    mean = (counts * values).sum() / counts.sum()
    for k in (1, 2, 3, 4, 5):
        best, wanted = -1.0, None
        for cuts in itertools.combinations(range(1, 9), k - 1):
            variance = 0.0
            for start, stop in itertools.pairwise((0, *cuts, 9)):
                share = sum(counts[start:stop])
                inside = sum(counts[i] * values[i] for i in range(start, stop)) / share
                variance += share * (inside - mean) ** 2
            if variance > best:
                best, wanted = variance, [sum(i >= cut for cut in cuts) for i in range(9)]
        thresholds = otsu_thresholds(np.repeat(values, counts.astype(int)), k)
        assert np.searchsorted(thresholds, values).tolist() == wanted


@pytest.mark.parametrize("k", [2, 3, 4])
def test_otsu_agrees_with_scikit_image(k):
    grey = photo()[..., 0]
    thresholds = [threshold_otsu(grey)] if k == 2 else threshold_multiotsu(grey, k)
    labels = otsu.segment(Image(grey, "YX"), k, 0).labels
    assert np.array_equal(labels, np.digitize(grey, thresholds, right=True) + 1)


def test_otsu_agrees_with_the_library_on_luma():
    light = photo() @ np.array([0.2126, 0.7152, 0.0722])
    labels = otsu.segment(Image(photo(), "YXC"), None, 0).labels
    # Bins lie a little differently after the division by 255.
    assert ((light > threshold_otsu(light)) == (labels == 2)).mean() > 0.995


@pytest.mark.parametrize("bandwidth", [0.1, 0.25, 0.6])
def test_mean_shift_agrees_with_scikit_learn(bandwidth):
    points = np.random.default_rng(1).normal(0, 0.3, (150, 4))
    theirs = MeanShift(bandwidth=bandwidth).fit(points).labels_
    ours = mean_shift.mean_shift(points, bandwidth)
    assert len(set(zip(ours, theirs, strict=True))) == len(set(theirs)) == len(set(ours))


def test_quickshift_of_one_tree_is_the_library_at_each_step_length():
    image = Image(photo(), "YXC")
    pixels = read_pixels(image)
    for reach, labels in quickshift.segment(image, None, 5).scales:
        theirs = library_quickshift(
            pixels.colour * np.float32(LAB_UNIT),
            quickshift.COLOUR_WEIGHT,
            quickshift.KERNEL,
            max_dist=reach,
            convert2lab=False,
            rng=5,
        )
        assert np.array_equal(labels, pixels.region_ids(theirs))


def test_affinity_is_the_equation_of_shi_and_malik():
    rng = np.random.default_rng(2)
    colours, places = rng.random((12, 3)) * 0.2, rng.random((12, 2)) * 0.4
    wanted = np.zeros((12, 12))
    for i in range(12):
        for j in range(12):
            apart = sum((places[i] - places[j]) ** 2)
            if apart < ncut.RADIUS**2:
                other = sum((colours[i] - colours[j]) ** 2)
                wanted[i, j] = np.exp(-other / ncut.SIGMA_COLOUR**2) * np.exp(-apart / ncut.SIGMA_PLACE**2)
    np.testing.assert_allclose(ncut.affinity(colours, places), wanted, atol=1e-12)
    assert (wanted == 0).any()


def test_eigenvectors_solve_the_generalised_system():
    weights = np.random.default_rng(3).random((15, 15))
    weights = weights + weights.T
    degree = np.diag(weights.sum(1))
    vectors = ncut.eigenvectors(weights, 4)
    lambdas = eigh(degree - weights, degree, eigvals_only=True)[:4]
    np.testing.assert_allclose((degree - weights) @ vectors, degree @ vectors * lambdas, atol=1e-9)
    # The first is constant: the whole graph is one segment.
    assert np.ptp(vectors[:, 0]) < 1e-9


def test_ncut_of_two_in_two_parts_is_the_smallest_of_all_cuts():
    # Two groups of four superpixels, a weak link between them: every bipartition is tried.
    places = np.array([[0.0, 0.01 * i] for i in range(8)])
    colours = np.array([[0.0]] * 4 + [[0.25]] * 4) + np.linspace(0, 0.03, 8)[:, None]
    weights = ncut.affinity(colours, places)
    best, wanted = np.inf, None
    for bits in range(1, 2**7):
        side = np.array([(bits >> i) & 1 for i in range(8)], bool)
        cut = weights[side][:, ~side].sum()
        value = cut / weights[side].sum() + cut / weights[~side].sum()
        if value < best:
            best, wanted = value, side
    second = ncut.eigenvectors(weights, 2)[:, 1]
    assert np.array_equal(second > 0, wanted) or np.array_equal(second < 0, wanted)


def test_k_means_gives_each_row_to_its_nearest_mean():
    rows = np.random.default_rng(0).random((300, 4)).astype(np.float32)
    clusters, distances = k_means(rows, 5, 0)
    means = np.stack([rows[clusters == k].mean(0) for k in range(5)])
    apart = np.linalg.norm(rows[:, None] - means, axis=2)
    assert np.array_equal(clusters, apart.argmin(1))
    np.testing.assert_allclose(distances, apart.min(1), rtol=1e-4)


@pytest.mark.filterwarnings("error")
def test_k_means_finds_no_more_clusters_than_rows_differ():
    clusters, distances = k_means(np.array([[0.0], [1.0], [1.0], [0.0]]), 3, 0)
    assert sorted(set(clusters)) == [0, 1]
    assert (distances == 0).all()


def merged_by_loops(superpixels, colours, threshold):
    """Join the two neighbours of nearest mean colour, again and again, while they are nearer than the threshold."""
    labels = superpixels.copy()
    while True:
        best, pair = threshold, None
        for i in np.unique(labels):
            for j in np.unique(labels):
                if i < j and touch(labels, i, j):
                    gap = np.linalg.norm(colours[labels == i].mean(0) - colours[labels == j].mean(0))
                    if gap < best:
                        best, pair = gap, (i, j)
        if pair is None:
            return labels
        labels[labels == pair[1]] = pair[0]


def touch(labels, i, j):
    sides = [(labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])]
    return any((((a == i) & (b == j)) | ((a == j) & (b == i))).any() for a, b in sides)


def test_slic_merge_joins_the_nearest_neighbours_first(monkeypatch):
    monkeypatch.setattr(_base, "LEAST_SUPERPIXEL", 30)
    image = Image(blobs(24, 30, seed=1), "YXC")
    pixels = read_pixels(image)
    superpixels = slic_merge._superpixels(pixels)
    assert superpixels.max() > 8
    for threshold, labels in slic_merge.segment(image, None, 0).scales:
        wanted = merged_by_loops(superpixels, pixels.colour.astype(np.float64) * LAB_UNIT, threshold)
        assert np.array_equal(labels, pixels.region_ids(wanted))
