"""Windows of an image in its file, prepared as if the whole image had been."""

import numpy as np
import pytest
import zarr

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.read import open_lazy
from selfseg.sample import windowed as module
from selfseg.sample.prepare import Preparation
from selfseg.sample.windowed import prepare_windowed


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Put an array into a zarr, and have it read in small parts for statistics."""
    monkeypatch.setattr(module, "WINDOW", 100)

    def store(data, axes):
        array = zarr.create_array(tmp_path / "image.zarr", shape=data.shape, chunks=(7,) * data.ndim, dtype=data.dtype)
        array[...] = data
        return open_lazy(tmp_path / "image.zarr", axes)

    return store


def _check(steps, data, axes, lazy, atol=1e-6):
    preparation = Preparation.parse(steps)
    whole = preparation.apply(Image(data, axes))
    prepared = prepare_windowed(preparation, lazy)
    region = tuple(slice(n // 4, n - n // 3) for n in whole.array.shape[1:])
    array, valid = prepared.read(region)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, whole.array[(slice(None), *region)], atol=atol)
    if whole.valid is not None:
        np.testing.assert_array_equal(valid, whole.valid[region])


@pytest.mark.parametrize("steps", ["range", "minmax", "max", "zscore", "max,zscore", "minmax,range", "zscore,range"])
@pytest.mark.parametrize("kind", ["u1", "u2", "i4", "f4", "f8"])
def test_windows_are_those_of_the_prepared_image(stored, steps, kind):
    data = (np.random.default_rng(0).random((40, 33, 2)) * 200 + [3, 11]).astype(kind)
    _check(steps, data, "YXC", stored(data, "YXC"), atol=2e-6 if "zscore" not in steps else 2e-5)


def test_floats_between_0_and_1_are_a_known_range(stored):
    data = np.random.default_rng(0).random((20, 21)).astype(np.float32) * 0.5
    _check("range", data, "YX", stored(data, "YX"))


def test_values_that_are_not_finite_are_not_valid(stored):
    data = np.random.default_rng(0).normal(size=(20, 21)).astype(np.float32)
    data[8:12, 9] = np.nan
    _check("zscore", data, "YX", stored(data, "YX"), atol=1e-5)


def test_volumes_and_channels_first(stored):
    data = np.random.default_rng(0).integers(0, 4000, (2, 12, 13, 14)).astype(np.uint16)
    _check("minmax", data, "CZYX", stored(data, "CZYX"))


def test_percentiles_are_those_of_a_sample(stored):
    data = np.random.default_rng(0).integers(0, 255, (60, 70)).astype(np.uint8)
    _check("percentile=2:98", data, "YX", stored(data, "YX"), atol=0.02)


def test_statistics_of_the_training_images_are_used_where_a_step_is_global(stored):
    data = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    preparation = Preparation.parse("zscore:global").fit([Image(data // 2, "YX")])
    lazy = stored(data, "YX")
    region = (slice(2, 9), slice(4, 11))
    wanted = preparation.apply(Image(data, "YX")).array[(slice(None), *region)]
    np.testing.assert_allclose(prepare_windowed(preparation, lazy).read(region)[0], wanted, atol=1e-5)
    with pytest.raises(InputError, match="1 channels, like the training images"):
        prepare_windowed(preparation, stored_as_colour(lazy))


def stored_as_colour(lazy):
    """Return the same image, its columns called channels."""
    from dataclasses import replace

    from selfseg.read._lazy_array import from_sliceable

    return replace(lazy, data=from_sliceable(lazy.data.path, np.zeros((20, 30, 3), np.uint8)), axes="YXC")


def test_frames_of_a_series_are_prepared_one_by_one(stored):
    data = np.random.default_rng(0).integers(0, 255, (3, 20, 30)).astype(np.uint8)
    lazy = stored(data, "TYX")
    region = (slice(0, 20), slice(0, 30))
    for frame in range(3):
        wanted = Preparation.parse("minmax").apply(Image(data[frame], "YX")).array
        got = prepare_windowed(Preparation.parse("minmax"), lazy, {"T": frame}).read(region)[0]
        np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "steps", ["rescale=0.4", "size=17", "rescale=1.7:0.6,minmax", "max,size=23,rescale=1.5", "size=999"]
)
def test_the_size_may_change_there_and_back(stored, steps):
    data = np.random.default_rng(0).integers(0, 255, (40, 33, 2)).astype(np.uint8)
    lazy = stored(data, "YXC")
    _check(steps, data, "YXC", lazy, atol=1e-5)
    preparation = Preparation.parse(steps)
    whole = preparation.apply(Image(data, "YXC"))
    prepared = prepare_windowed(preparation, lazy)
    assert prepared.shape == whole.array.shape[1:]
    values = np.random.default_rng(1).random((3, *prepared.shape)).astype(np.float32)
    restored = whole.restore(values)
    asked = []

    def read(region):
        asked.append(region)
        return values[(slice(None), *region)]

    for region in ((slice(0, 40), slice(0, 33)), (slice(11, 19), slice(30, 33))):
        part = prepared.restored(region, read)
        np.testing.assert_allclose(part, restored[(slice(None), *region)], atol=1e-6)
    n_asked = np.prod([part.stop - part.start for part in asked[-1]])
    assert n_asked < 0.5 * np.prod(prepared.shape)  # only what the region is made of is asked for


def test_what_is_near_a_pixel_without_a_value_is_not_valid_when_shrunk(stored):
    data = np.random.default_rng(0).random((24, 26)).astype(np.float32)
    data[8:12, 9] = np.nan
    preparation = Preparation.parse("size=13,range")
    whole = preparation.apply(Image(data, "YX"))
    array, valid = prepare_windowed(preparation, stored(data, "YX")).read((slice(0, 12), slice(0, 13)))
    np.testing.assert_array_equal(valid, whole.valid)
    np.testing.assert_allclose(array[:, valid], whole.array[:, whole.valid], atol=1e-6)


def test_steps_that_need_the_whole_image_are_refused(stored):
    lazy = stored(np.zeros((20, 30), np.uint8), "YX")
    with pytest.raises(UsageError, match="got border=2"):
        prepare_windowed(Preparation.parse("border=2,range"), lazy)


def test_nothing_but_nan_is_refused(stored):
    lazy = stored(np.full((20, 30), np.nan, np.float32), "YX")
    with pytest.raises(InputError, match="only NaN"):
        prepare_windowed(Preparation.parse("range"), lazy)
