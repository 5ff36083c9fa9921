"""Images in their files: prepared as those in memory (tests/whole_parts), and no more of them is read than is needed."""

from dataclasses import replace

import numpy as np
import pytest
import zarr

from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.read import open_lazy
from selfseg.read._lazy_array import from_sliceable
from selfseg.sample import statistics
from selfseg.sample.prepare import Preparation, prepare


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Put an array into a zarr, and have it read in small parts for statistics."""
    monkeypatch.setattr(statistics, "WINDOW", 100)

    def store(data, axes):
        array = zarr.create_array(tmp_path / "image.zarr", shape=data.shape, chunks=(7,) * data.ndim, dtype=data.dtype)
        array[...] = data
        return open_lazy(tmp_path / "image.zarr", axes)

    return store


@pytest.mark.parametrize("steps", ["range", "max,zscore", "percentile=2:98", "border=2,unsharp=1,clahe=0.02"])
def test_volumes_and_channels_first(stored, steps):
    data = np.random.default_rng(0).integers(0, 4000, (2, 12, 13, 14)).astype(np.uint16)
    whole, parts = (prepare(image, Preparation.parse(steps)) for image in (Image(data, "CZYX"), stored(data, "CZYX")))
    region = tuple(slice(n // 4, n - n // 3) for n in whole.shape)
    np.testing.assert_allclose(parts.read(region), whole.read(region), atol=1e-5)


def test_statistics_of_the_training_images_are_used_where_a_step_is_global(stored):
    data = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    preparation = Preparation.parse("zscore:global").fit([Image(data // 2, "YX")])
    lazy = stored(data, "YX")
    region = (slice(2, 9), slice(4, 11))
    wanted = preparation.apply(Image(data, "YX")).read(region)
    np.testing.assert_allclose(prepare(lazy, preparation).read(region), wanted, atol=1e-5)
    colour = replace(lazy, data=from_sliceable(lazy.data.path, np.zeros((20, 30, 3), np.uint8)), axes="YXC")
    with pytest.raises(InputError, match="1 channels, like the training images"):
        prepare(colour, preparation)


def test_frames_of_a_series_are_prepared_one_by_one(stored):
    data = np.random.default_rng(0).integers(0, 255, (3, 20, 30)).astype(np.uint8)
    lazy = stored(data, "TYX")
    for frame in range(3):
        wanted = Preparation.parse("minmax").apply(Image(data[frame], "YX")).array
        np.testing.assert_allclose(prepare(lazy.at("T", frame), Preparation.parse("minmax")).array, wanted, atol=1e-6)


@pytest.mark.parametrize("steps", ["rescale=0.4", "size=17", "rescale=1.7:0.6,minmax", "max,size=23,rescale=1.5"])
def test_only_what_a_region_is_restored_from_is_asked_for(stored, steps):
    prepared = prepare(stored(np.zeros((40, 33, 2), np.uint8), "YXC"), Preparation.parse(steps))
    asked = []

    def read(region):
        asked.append(region)
        return np.zeros((3, *(part.stop - part.start for part in region)), np.float32)

    prepared.restore((slice(11, 19), slice(30, 33)), read)
    assert np.prod([part.stop - part.start for part in asked[-1]]) < 0.5 * np.prod(prepared.shape)


def test_integers_of_a_known_range_are_not_read_for_statistics(stored, monkeypatch):
    lazy = stored(np.zeros((20, 30), np.uint16), "YX")
    reads = []
    monkeypatch.setattr(lazy.data, "read", reads.append)
    assert prepare(lazy, Preparation.parse("rescale=0.5,border=2,range")).shape == (6, 11) and not reads


def test_nothing_but_nan_is_refused(stored):
    lazy = stored(np.full((20, 30), np.nan, np.float32), "YX")
    with pytest.raises(InputError, match="valid pixels, got none"):
        prepare(lazy, Preparation.parse("range"))


def test_an_image_is_prepared_once():
    image = Image(np.zeros((5, 6)), "YX")
    preparation = Preparation.parse("range")
    assert prepare(image, preparation) is preparation.apply(image)
    assert prepare(image, preparation) is not prepare(image, Preparation.parse("max"))
