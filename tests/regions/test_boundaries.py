import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.regions.texture import gradient_at_angles, gradient_strength


def test_the_slope_across_a_line_is_the_part_of_the_gradient_along_its_normal():
    y, x = np.mgrid[:40, :40].astype(float)
    ramps = np.stack([3 * x, 4 * y, x + y], -1)
    got = gradient_at_angles(ramps, 1.5)[:, 15:25, 15:25]
    for k in range(8):
        normal = np.array([-np.sin(k * np.pi / 8), np.cos(k * np.pi / 8)])  # x, y
        slopes = [np.dot(normal, slope) for slope in ((3, 0), (0, 4), (1, 1))]
        np.testing.assert_allclose(got[k], np.sqrt(np.square(slopes).sum()), rtol=1e-3)


def test_the_squares_of_two_crossed_angles_sum_to_the_whole_gradient():
    image = np.random.default_rng(0).random((30, 40, 3))
    planes = gradient_at_angles(image, 3.0)
    whole = gradient_strength(image, 3.0)[3:-3, 3:-3]
    for k in range(4):
        crossed = np.hypot(planes[k], planes[k + 4])[3:-3, 3:-3]
        np.testing.assert_allclose(crossed, whole, rtol=0.15, atol=1e-3)


def test_nan_counts_as_zero_and_a_flat_array_is_named():
    assert gradient_at_angles(np.full((5, 6, 2), np.nan)).max() == 0
    with pytest.raises(UsageError, match=r"\[Y X C\]"):
        gradient_at_angles(np.zeros((5, 6)))
