import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.regions.contours import CUES, contour_strength, merge_contours
from selfseg.regions.graph import region_means
from selfseg.regions.texture import appearance
from selfseg.regions.watershed import oriented_watershed

ALL = {"local": 1.0, "pmi": 1.0}


def contour_hierarchy(image, cues=CUES, mask=None, seed=0):
    superpixels, graph = oriented_watershed(contour_strength(image, cues, mask, seed), mask)
    return superpixels, merge_contours(graph, region_means(superpixels, appearance(image)))


def discs(height=60, width=80, channels=3, seed=0):
    """A dark disc and a bright square on grey, with noise: ``[Y X C]`` 0-1, and their true labels."""
    y, x = np.mgrid[:height, :width]
    truth = np.zeros((height, width), int)
    truth[(y - 30) ** 2 + (x - 22) ** 2 < 15**2] = 1
    truth[18:44, 50:70] = 2
    tone = np.array([0.5, 0.2, 0.8])[truth]
    noise = np.random.default_rng(seed).normal(0, 0.03, (height, width, channels))
    return np.clip(tone[..., None] + noise, 0, 1), truth


@pytest.mark.parametrize("cues", [{"local": 1.0}, {"pmi": 1.0}, ALL], ids=lambda cues: "+".join(cues))
@pytest.mark.parametrize("channels", [1, 3])
def test_objects_are_found(cues, channels):
    image, truth = discs(channels=channels)
    superpixels, tree = contour_hierarchy(image, cues)
    labels = tree.labels(superpixels, n_regions=3)
    table = np.zeros((3, 3))
    np.add.at(table, (truth, labels), 1)
    overlap = table / (table.sum(1, keepdims=True) + table.sum(0) - table)
    assert overlap.max(1).min() > 0.85


def test_the_strength_is_on_the_boundary_and_at_its_angle():
    image, _ = discs()
    strength = contour_strength(image, ALL)
    assert strength.shape == (8, 60, 80) and strength.dtype == np.float32
    assert strength[:, 31, 49:52].max(1).argmax() == 4  # the square's left side is upright
    assert strength[:, 43:46, 60].max(1).argmax() == 0
    assert strength[:, 31, 49:52].max() > 4 * strength[:, 28:34, 20:25].max()


def test_the_same_seed_gives_the_same_tree():
    image, _ = discs()
    (one, tree), (other, again) = contour_hierarchy(image, seed=4), contour_hierarchy(image, seed=4)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(tree.altitudes, again.altitudes)


def test_weights_add_up():
    image, _ = discs()
    parts = contour_strength(image, {"local": 1.0}) + 2 * contour_strength(image, {"pmi": 1.0})
    np.testing.assert_allclose(contour_strength(image, {"local": 1.0, "pmi": 2.0}), parts, rtol=1e-5, atol=1e-6)


def test_what_lies_outside_the_mask_is_no_contour():
    image, _ = discs()
    mask = np.zeros((60, 80), bool)
    mask[:, :45] = True
    superpixels, tree = contour_hierarchy(image, mask=mask)
    np.testing.assert_array_equal(superpixels >= 0, mask)
    assert tree.sizes[-1] == mask.sum()
    image[~mask] = np.random.default_rng(1).random(image[~mask].shape)
    local = {"local": 1.0}
    assert contour_strength(image, local, mask)[4, 30, 44] < 0.5 * contour_strength(image, local)[4, 30, 44]


def test_a_large_picture_is_reduced_for_its_cuts_and_comes_back_in_place(monkeypatch):
    image, _ = discs()
    monkeypatch.setattr("selfseg.regions.contours.NODES", 60 * 80 // 9)
    across = contour_strength(image, {"pmi": 1.0})[4, 31]
    assert abs(int(across[44:58].argmax()) + 44 - 49.5) <= 1.5


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 1), (5, 4, 3), (30, 30, 2)])
@pytest.mark.parametrize("value", [0.5, np.nan])
def test_pictures_of_one_colour(shape, value):
    superpixels, tree = contour_hierarchy(np.full(shape, value), ALL)
    assert superpixels.shape == shape[:2] and np.isfinite(tree.altitudes).all()
    assert tree.altitudes.max() < 1e-3


def test_wrong_input_is_named():
    image = np.zeros((5, 6, 3))
    for bad in ({"image": image[0]}, {"image": image, "cues": {"gpb": 1.0}}, {"image": image, "cues": {"pmi": -1.0}},
                {"image": image, "mask": np.ones((6, 5), bool)}):  # fmt: skip
        with pytest.raises(UsageError, match="expected"):
            contour_strength(**bad)
