import numpy as np
import pytest
from scipy.ndimage import label as connected

from selfseg.core.errors import UsageError
from selfseg.regions.texture import gradient_strength
from selfseg.regions.watershed import watershed


def test_basins_meet_on_the_ridge():
    boundary = np.abs(np.arange(40) - 17.0).max() - np.abs(np.arange(40) - 17.0) + np.zeros((20, 1))
    labels = watershed(boundary)
    assert labels.max() == 1
    assert len(set(labels[:, :17].ravel())) == 1 and len(set(labels[:, 18:].ravel())) == 1


@pytest.mark.parametrize("shape", [(40, 50), (8, 20, 20), (1, 30)])
def test_basins_are_whole(shape):
    boundary = np.random.default_rng(0).random(shape)
    mask = np.random.default_rng(1).random(shape) < 0.9
    for labels, inside in ((watershed(boundary, 20), boundary >= 0), (watershed(boundary, 20, 0.1, mask=mask), mask)):
        np.testing.assert_array_equal(labels >= 0, inside)
        values, first = np.unique(labels[inside], return_index=True)
        np.testing.assert_array_equal(values, np.arange(len(values)))
        assert np.all(np.diff(first) > 0)
        assert all(connected(labels == r)[1] == 1 for r in values)


def test_the_number_of_basins_is_the_number_of_grid_cells():
    assert watershed(np.random.default_rng(0).random((60, 90)), 24).max() + 1 == 24


def test_spacing_changes_the_grid():
    flat = np.random.default_rng(0).random((8, 32, 32))
    assert len(np.unique(watershed(flat, 8, 1.0, spacing=(8, 1, 1))[:, 0, 0])) >= 2
    assert watershed(flat, 16, 1.0, spacing=(0.1, 1, 1)).max() + 1 == 16


def test_gradient_of_a_ramp_is_its_slope_in_physical_units():
    ramp = np.arange(30.0)[:, None, None] * np.array([3.0, 4.0]) + np.zeros((1, 20, 1))
    np.testing.assert_allclose(gradient_strength(ramp, 0), 5.0, rtol=1e-6)
    np.testing.assert_allclose(gradient_strength(ramp, 1, spacing=(2.0, 1.0))[10:20], 2.5, rtol=1e-4)


def test_gradient_of_one_pixel_and_of_nan():
    assert gradient_strength(np.ones((1, 1, 3))).tolist() == [[0.0]]
    assert np.isfinite(gradient_strength(np.full((5, 5, 1), np.nan))).all()


def test_wrong_input_is_named():
    for bad in ({"n_segments": 0}, {"spacing": (1,)}, {"mask": np.ones((1, 1), bool)}):
        with pytest.raises(UsageError, match="expected"):
            watershed(np.zeros((4, 4)), **bad)
