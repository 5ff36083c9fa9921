import numpy as np
import pytest

from selfseg.core.image import Image
from selfseg.tiling.slices import predict_slices


def volume(axes="ZYX"):
    data = np.random.default_rng(0).random((4, 5, 6))
    return Image(data, axes, (3.0, 1.0, 2.0), name="v")


def bright(plane):
    """A model that looks at one plane: the share of its brightest pixel, and one row that it did not look at."""
    share = (plane.data / plane.data.max()).astype(np.float32)
    inside = np.ones(share.shape, bool)
    inside[-1] = False
    return np.stack([1 - share, share]), inside


@pytest.mark.parametrize("axes", [["Z"], ["Y"], ["X"], ["Z", "Y", "X"]])
def test_each_voxel_has_the_mean_over_the_slices_that_saw_it(axes):
    image = volume()
    found, inside = predict_slices(bright, image, axes)
    for place in np.ndindex(4, 5, 6):
        votes = []
        for axis in axes:
            index = "ZYX".index(axis)
            plane = image.data.take(place[index], index)
            row = place[1] if index == 0 else place[0]
            if row != plane.shape[0] - 1:
                votes.append(image.data[place] / plane.max())
        assert inside[place] == bool(votes)
        expected = np.mean(votes) if votes else 0.5
        np.testing.assert_allclose(found[(slice(None), *place)], [1 - expected, expected], atol=1e-6)


def test_where_all_is_seen_there_is_no_mask_and_progress_counts_slices():
    told = []
    found, inside = predict_slices(
        lambda plane: (np.ones((1, *plane.data.shape), np.float32), None),
        volume("YZX"),
        "ZYX",
        lambda *x: told.append(x),
    )
    assert inside is None and (found == 1).all() and found.shape == (1, 4, 5, 6)
    assert told == [(i, 15) for i in range(1, 16)]
