import numpy as np
import pytest

from selfseg import measure
from selfseg.core.errors import InputError


@pytest.fixture(params=[(9, 8), (4, 3, 5)])
def scene(request):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, request.param) * 3 - 1
    return labels, rng.integers(0, 256, (*request.param, 2)).astype(float)


def by_least_squares(labels, image, degree):
    error = total = 0.0
    mean = image.reshape(-1, image.shape[-1]).mean(0)
    for value in np.unique(labels):
        places = np.argwhere(labels == value).astype(float)
        design = np.concatenate([np.ones((len(places), 1)), places], 1)[:, : 1 + degree * labels.ndim]
        values = image[labels == value]
        fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
        error += ((values - fitted) ** 2).sum()
        total += ((values - mean) ** 2).sum()
    return error / total


@pytest.mark.parametrize("degree", [0, 1])
def test_error_is_that_of_a_least_squares_fit_of_each_region(scene, degree):
    labels, image = scene
    expected = by_least_squares(labels, image, degree)
    assert 0 < expected < 1
    assert measure.reconstruction_error(labels, image, degree=degree) == pytest.approx(expected)


def test_regions_without_extent_have_no_slope():
    labels = np.arange(12).reshape(3, 4) // 2  # pairs in a row: the second axis has a slope, the first has none
    image = np.random.default_rng(1).random((3, 4, 3))
    assert measure.reconstruction_error(labels, image, degree=1) == pytest.approx(0.0, abs=1e-12)
    lines = np.repeat(np.arange(3)[:, None], 4, 1)
    assert measure.reconstruction_error(lines, image, degree=1) == pytest.approx(by_least_squares(lines, image, 1))


def test_shading_costs_planes_nothing_and_one_region_leaves_everything():
    y, x = np.mgrid[:12, :10]
    labels = (x > 4).astype(int)
    shaded = 3.0 * y + 2.0 * x + 40.0 * labels
    assert measure.reconstruction_error(labels, shaded, degree=1) == pytest.approx(0.0, abs=1e-12)
    assert measure.reconstruction_error(labels, shaded) > 0.1
    assert measure.reconstruction_error(np.zeros_like(labels), shaded) == pytest.approx(1.0)
    assert measure.reconstruction_error(labels, np.full(labels.shape, 7.0)) == 0.0


def test_far_coordinates_and_values_lose_no_digits():
    rng = np.random.default_rng(2)
    image = rng.random((2, 3000)) + 1e5
    labels = np.repeat([[0, 1]], 1500, axis=1).repeat(2, 0)
    assert measure.reconstruction_error(labels, image, degree=1) == pytest.approx(
        by_least_squares(labels, image[..., None], 1), rel=1e-6
    )


def test_another_degree_is_refused():
    with pytest.raises(InputError, match="degree"):
        measure.reconstruction_error(np.zeros((2, 2), int), np.zeros((2, 2)), degree=2)
