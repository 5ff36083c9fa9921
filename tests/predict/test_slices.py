from types import SimpleNamespace

import numpy as np
import pytest

from selfseg.core.image import Image
from selfseg.sample.prepare import Preparation
from selfseg.segmenting.blocks import SlicedMaps


def volume():
    data = np.random.default_rng(0).random((4, 5, 6))
    return Image(data, "ZYX", (3.0, 1.0, 2.0), name="v")


class Bright:
    """A model that looks at one plane: the share of its brightest pixel, and one row that it did not look at."""

    notes = ()

    def __init__(self, plane):
        self.share = (plane.data / plane.data.max()).astype(np.float32)

    def region(self, region):
        inside = np.ones(self.share.shape, bool)
        inside[-1] = False
        return np.stack([1 - self.share, self.share])[(slice(None), *region)], inside[region]


@pytest.fixture
def maps(monkeypatch):
    monkeypatch.setattr(SlicedMaps, "_open", lambda self, axis, number: Bright(self.image.at(axis, number)))
    model = SimpleNamespace(table=[0, 1], preparation=Preparation.parse("range"))
    model.fixed = lambda: model
    return lambda axes: SlicedMaps(model, volume(), axes)


@pytest.mark.parametrize("axes", ["Z", "Y", "X", "ZYX"])
def test_each_voxel_has_the_mean_over_the_slices_that_saw_it(maps, axes):
    image = volume()
    found, inside = maps(axes).region((slice(0, 4), slice(0, 5), slice(0, 6)))
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


@pytest.mark.parametrize("axes", ["Z", "X", "ZYX"])
def test_a_region_is_that_of_the_whole_volume(maps, axes):
    whole, inside = maps(axes).region((slice(0, 4), slice(0, 5), slice(0, 6)))
    region = (slice(1, 3), slice(2, 5), slice(0, 4))
    found, part = maps(axes).region(region)
    np.testing.assert_allclose(found, whole[(slice(None), *region)], atol=1e-7)
    np.testing.assert_array_equal(True if part is None else part, inside[region])
