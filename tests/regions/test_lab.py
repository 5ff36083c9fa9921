import numpy as np
import pytest
from skimage.color import rgb2lab

from selfseg.core.errors import UsageError
from selfseg.regions.texture import rgb_to_lab


def test_agrees_with_scikit_image_on_the_whole_cube():
    axis = np.linspace(0, 1, 37)
    cube = np.stack(np.meshgrid(axis, axis, axis), -1)
    assert np.abs(rgb_to_lab(cube) - rgb2lab(cube)).max() < 0.02


def test_known_colours():
    lab = rgb_to_lab(np.array([[0, 0, 0], [1, 1, 1], [1, 0, 0]], float))
    np.testing.assert_allclose(lab[0], [0, 0, 0], atol=0.01)
    np.testing.assert_allclose(lab[1], [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(lab[2], [53.24, 80.09, 67.20], atol=0.05)  # Lindbloom's tables, D65


def test_clips_and_survives_nan_without_touching_its_input():
    rgb = np.array([[2.0, -1.0, np.nan]])
    np.testing.assert_array_equal(rgb_to_lab(rgb), rgb_to_lab(np.array([[1.0, 0.0, 0.0]])))
    assert np.isnan(rgb[0, 2])


def test_other_channel_counts_are_refused():
    with pytest.raises(UsageError, match=r"\[\*S 3\]"):
        rgb_to_lab(np.zeros((4, 4)))
