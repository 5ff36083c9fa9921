import numpy as np
import pytest

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.refine.steps import contour_tree, parse_refinements, refine, region_probabilities


def halves(noise: float, seed: int = 0) -> tuple[Image, np.ndarray]:
    """A picture of two halves, dark and bright, and probabilities that say so with errors."""
    rng = np.random.default_rng(seed)
    data = np.full((48, 60, 3), 60, np.uint8)
    data[:, 30:] = 190
    bright = np.where(np.arange(60) >= 30, 0.7, 0.3) + rng.normal(0, noise, (48, 60))
    bright = np.clip(bright, 0, 1).astype(np.float32)
    return Image(data, "YXC"), np.stack([1 - bright, bright])


def test_a_region_has_the_mean_probability_of_its_pixels():
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(3), (7, 9)).transpose(2, 0, 1).astype(np.float32)
    regions = rng.integers(-1, 4, (7, 9))
    result = region_probabilities(probabilities, regions)
    for region in range(4):
        inside = regions == region
        for k in range(3):
            np.testing.assert_allclose(result[k][inside], probabilities[k][inside].mean(), rtol=1e-5)
    np.testing.assert_array_equal(result[:, regions < 0], probabilities[:, regions < 0])


def test_contours_heal_what_the_probabilities_get_wrong():
    image, probabilities = halves(noise=0.35)
    truth = np.broadcast_to(np.arange(60) >= 30, (48, 60))
    assert (probabilities.argmax(0) == truth).mean() < 0.8  # the errors are there
    refined = refine(parse_refinements("contours=level:0.5"), probabilities, image)
    assert (refined.probabilities.argmax(0) == truth).mean() > 0.97
    np.testing.assert_allclose(refined.probabilities.sum(0), 1, atol=1e-5)
    two = refined.tree.cut(n_regions=2)
    assert max((two == truth).mean(), (two != truth).mean()) > 0.97


def test_the_probabilities_draw_contours_where_the_picture_has_none():
    image, probabilities = halves(noise=0)
    flat = Image(np.full_like(image.data, 128), "YXC")
    with_them = contour_tree(probabilities, flat, None, learned=1.0)
    assert with_them.tree.altitudes[-1] > 1.3 * with_them.tree.altitudes[-2]
    two = with_them.cut(n_regions=2)
    assert len(np.unique(two[:, :25])) == len(np.unique(two[:, 35:])) == 1 and two[0, 0] != two[0, -1]


def test_sixteen_bits_are_seen_at_their_own_range():
    image, probabilities = halves(noise=0)
    dim = Image((image.data[..., 0].astype(np.uint16) + 300), "YX")
    altitudes = contour_tree(probabilities * 0 + 0.5, dim, None, learned=0.5).tree.altitudes
    assert altitudes.max() > 0.1


def test_pixels_outside_stay_outside():
    image, probabilities = halves(noise=0.1)
    valid = np.ones((48, 60), bool)
    valid[:10] = False
    refined = refine(parse_refinements("contours"), probabilities, image, valid)
    assert (refined.tree.superpixels[:10] == -1).all() and (refined.tree.superpixels[10:] >= 0).all()
    np.testing.assert_array_equal(refined.probabilities[:, :10], probabilities[:, :10])


def test_refinements_go_one_after_the_other():
    image, probabilities = halves(noise=0.35)
    both = refine(parse_refinements("crf=iterations:2,contours=level:0.5,learned:1"), probabilities, image)
    first = refine(parse_refinements("crf=iterations:2"), probabilities, image)
    alone = refine(parse_refinements("contours=level:0.5,learned:1"), first.probabilities, image)
    assert first.tree is None
    np.testing.assert_array_equal(both.probabilities, alone.probabilities)
    np.testing.assert_array_equal(both.tree.tree.altitudes, alone.tree.tree.altitudes)


def test_a_volume_is_refused_in_one_line():
    volume = Image(np.zeros((4, 5, 6), np.uint8), "ZYX", name="cube")
    with pytest.raises(InputError, match="cube: contours: expected an image with axes YX, got axes ZYX"):
        refine(parse_refinements("contours"), np.full((2, 4, 5, 6), 0.5, np.float32), volume)


def test_a_wrong_value_is_named():
    with pytest.raises(UsageError, match="contours"):
        parse_refinements("contours=level:-1")
