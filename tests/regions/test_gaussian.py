"""Gaussians: SciPy's own values, bit by bit."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from selfseg.regions.gaussian import smoothed


@pytest.mark.parametrize("shape", [(37, 53), (1, 1), (1, 70), (3, 1), (64, 16)])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.7, 4.0), (1.0, 4.0), (4.0, 4.0), (8.0, 3.0), (20.0, 3.0)])
def test_values_are_those_of_scipy(shape, sigma, truncate):
    image = np.random.default_rng(0).normal(100, 30, shape).astype(np.float32)
    assert np.array_equal(smoothed(image, sigma, truncate), gaussian_filter(image, sigma, truncate=truncate))
    turned = np.asfortranarray(image)
    assert np.array_equal(smoothed(turned, sigma, truncate), smoothed(image, sigma, truncate))


def test_volumes_and_double_precision_are_left_to_scipy():
    volume = np.random.default_rng(1).random((5, 6, 7), np.float32)
    assert np.array_equal(smoothed(volume, 1.5), gaussian_filter(volume, 1.5))
    double = volume[0].astype(np.float64)
    assert smoothed(double, 1.5).dtype == np.float64
