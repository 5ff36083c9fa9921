import numpy as np
import pytest
from skimage.color import rgb2lab

from conftest import blobs
from selfseg.regions.graph import adjacency
from selfseg.regions.superpixels import SuperpixelRecipe, make_superpixels, neighbour_distances, probability_tree
from selfseg.regions.texture import colour_channels


def image(channels=3):
    return np.moveaxis(blobs(channels=channels), -1, 0).astype(np.float32) / 255


@pytest.mark.parametrize("kind", ["slic", "watershed"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_superpixels_are_about_as_many_as_asked_and_keep_to_the_mask(kind, channels):
    by_number = make_superpixels(image(channels), SuperpixelRecipe(kind, number=40))
    by_size = make_superpixels(image(channels), SuperpixelRecipe(kind, size=40 * 52 / 40))
    assert np.array_equal(by_number, by_size)
    assert 25 <= by_number.max() + 1 <= 55
    valid = np.ones((40, 52), bool)
    valid[:, 30:] = False
    masked = make_superpixels(image(channels), SuperpixelRecipe(kind, size=52), valid)
    assert np.array_equal(masked >= 0, valid) and 15 <= masked.max() + 1 <= 35


@pytest.mark.parametrize("kind", ["slic", "watershed"])
def test_superpixels_follow_the_disc(kind):
    labels = make_superpixels(image(), SuperpixelRecipe(kind, number=120))
    y, x = np.mgrid[:40, :52]
    disc = (y - 20) ** 2 + (x - 26) ** 2 < 100
    inside = np.bincount(labels.ravel(), disc.ravel()) / np.bincount(labels.ravel())
    assert (np.minimum(inside, 1 - inside) * np.bincount(labels.ravel())).sum() < 0.03 * labels.size


def test_smoothing_and_spacing_count_in_the_same_unit():
    volume = np.repeat(image()[:, None], 4, 1)
    labels = make_superpixels(volume, SuperpixelRecipe(number=40, spacing=(8.0, 1.0, 1.0)))
    thick = [len(np.unique(np.nonzero(labels == r)[0])) for r in range(labels.max() + 1)]
    assert np.mean(thick) < 2  # slices far apart are not joined


def test_colours_are_lab_and_other_channels_are_on_its_scale():
    np.testing.assert_allclose(
        colour_channels(np.moveaxis(image(), 0, -1)), rgb2lab(np.moveaxis(image(), 0, -1)), atol=0.05
    )
    one = np.array([[[0.0, 1.0, np.nan]]])
    assert colour_channels(np.moveaxis(one, 0, -1))[0, :, 0].tolist() == [0, 100, 0]
    four = np.stack([np.zeros((1, 2)), *[np.array([[0.0, 1.0]])] * 3])
    assert np.linalg.norm(np.diff(colour_channels(np.moveaxis(four, 0, -1)), axis=1)) == pytest.approx(100 * 3**0.5 / 2)


def test_distances_of_neighbours():
    labels = np.array([[0, 0, 1, 1], [0, 0, 2, 2]])
    picture = np.stack([labels * 0.3, np.array([[0.0, 0.2, 0.5, 0.5], [0.0, 0.2, 0.1, 0.1]]), labels * 0.0])
    graph = adjacency(labels)
    assert graph.edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    expected = [np.hypot(0.3, 0.4), np.hypot(0.6, 0.0), np.hypot(0.3, 0.4)]
    np.testing.assert_allclose(neighbour_distances(picture, labels, graph), expected)
    white = np.stack([np.array([[0.0, 0.0, 1.0, 1.0]])] * 3)
    edge = adjacency(np.array([[0, 0, 1, 1]]))
    lab = neighbour_distances(white, np.array([[0, 0, 1, 1]]), edge, "lab")
    np.testing.assert_allclose(lab, [1.0], atol=1e-3)


def test_the_tree_merges_what_has_one_class_before_what_has_two():
    picture = np.full((3, 12, 12), 0.5, np.float32)
    labels = np.repeat(np.repeat(np.arange(16).reshape(4, 4), 3, 0), 3, 1).astype(np.int32)
    classes = np.array([0, 0, 1, 1] * 4)
    probabilities = np.where(np.arange(2)[:, None] == classes, 0.98, 0.02)
    tree = probability_tree(picture, labels, probabilities)
    assert np.array_equal(tree.cut(n_regions=2), classes)
    assert tree.cut(n_regions=1).max() == 0
