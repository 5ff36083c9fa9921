"""The default preparation (`auto`): one wild value does not rule an image, and nothing is lost where no value is wild."""

import json

import numpy as np
import pytest
import zarr

from selfseg.core.image import Image
from selfseg.read import open_lazy
from selfseg.sample import statistics
from selfseg.sample.prepare import Preparation, prepare
from selfseg.sample.statistics import robust_limits

RNG = np.random.default_rng(0)
AUTO, RANGE = Preparation.parse(""), Preparation.parse("range")


def image(data, axes="YX", **options):
    return Image(data, axes, **options)


def camera(dtype=np.uint16, shape=(60, 70)):
    """Return 12-bit counts of a ground and a square."""
    data = RNG.normal(800, 50, shape)
    data[..., 20:40, 20:50] += 1500
    return data.astype(dtype)


def test_the_limits_are_their_equation():
    for values in (RNG.normal(0, 1, 501), np.append(RNG.normal(5, 1, 500), 1e6), np.append(RNG.random(700), [-99, 50])):
        ordered = sorted(values)

        def percentile(share, ordered=ordered):  # linear between ranks, as NumPy's default
            place = share / 100 * (len(ordered) - 1)
            low = int(place)
            return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])

        p, q = percentile(2), percentile(98)
        low, high = ordered[0], ordered[-1]
        if high > q + (q - p):
            high = min(percentile(99.8), q + 0.5 * (q - p))
        if low < p - (q - p):
            low = max(percentile(0.2), p - 0.5 * (q - p))
        np.testing.assert_allclose(robust_limits(values, min(values), max(values)), (low, high))


def test_limits_of_a_ground_of_one_value_are_those_of_what_lies_on_it():
    values = np.full(10_000, 7.0)
    values[:100] = np.linspace(8, 90, 100)
    low, high = robust_limits(values, values.min(), values.max())
    assert low == 7 and high > 60
    assert robust_limits(np.full(9, 3.0), 3, 3) == (3, 3)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_8_bits_stay_as_they_are(dtype):
    data = RNG.integers(0, 2 if dtype is bool else 256, (20, 30, 3)).astype(dtype)
    np.testing.assert_array_equal(AUTO.apply(image(data, "YXC")).array, RANGE.apply(image(data, "YXC")).array)
    fitted = AUTO.fit([image(camera()[..., None].repeat(3, -1), "YXC")])
    np.testing.assert_array_equal(fitted.apply(image(data, "YXC")).array, RANGE.apply(image(data, "YXC")).array)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_data_that_fill_their_range_lose_nothing(dtype):
    data = RNG.random((50, 60))
    data = (data * 65535).astype(dtype) if dtype is np.uint16 else data.astype(dtype)
    np.testing.assert_array_equal(AUTO.apply(image(data)).array, RANGE.apply(image(data)).array)
    np.testing.assert_array_equal(AUTO.fit([image(data)]).apply(image(data)).array, RANGE.apply(image(data)).array)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("wild", [1, 8])
def test_wild_values_leave_the_others_their_contrast(dtype, wild):
    data = camera(dtype)
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1e9
    data.flat[np.arange(wild) * 301 + 4] = top
    array = AUTO.apply(image(data)).array[0]
    assert array[22:38, 22:48].mean() - np.median(array) > 0.5
    assert array.min() >= 0 and array.max() <= 1
    explicit = RANGE.apply(image(data)).array[0]  # it means what it says
    assert explicit[22:38, 22:48].mean() - np.median(explicit) < 0.1


def test_an_offset_and_a_dead_pixel():
    data = camera() + np.uint16(32768)
    data[3, 3] = 0
    array = AUTO.apply(image(data)).array[0]
    assert array[22:38, 22:48].mean() - np.median(array) > 0.5


def test_floats_near_zero_keep_their_contrast_below_a_huge_value():
    data = (camera(np.float32) / 65535).astype(np.float32)
    data[0, 0] = 1e6
    for steps in ("auto", "percentile=1:99", "robust"):
        array = Preparation.parse(steps).apply(image(data)).array[0]
        assert array[22:38, 22:48].mean() - np.median(array) > 0.5


def test_each_channel_has_its_own_limits():
    data = np.stack([camera(), camera() // 8, RNG.integers(0, 65536, (60, 70)).astype(np.uint16)], -1)
    array = AUTO.apply(image(data, "YXC")).array
    for channel in range(2):
        assert array[channel, 22:38, 22:48].mean() - np.median(array[channel]) > 0.5
    np.testing.assert_array_equal(array[2], RANGE.apply(image(data, "YXC")).array[2])


@pytest.mark.parametrize("axes", ["YX", "ZYX", "YXC"])
@pytest.mark.parametrize("steps", ["auto", "auto=image", "rescale=0.5,auto", "foreground=300,auto"])
def test_limits_are_equal_whole_and_in_parts(tmp_path, monkeypatch, axes, steps):
    monkeypatch.setattr(statistics, "WINDOW", 1500)
    shape = {"YX": (60, 70), "ZYX": (2, 50, 60), "YXC": (60, 70, 2)}[axes]
    data = camera(np.float32, shape) if axes != "YXC" else np.stack([camera(np.float32)] * 2, -1)
    data.flat[[5, 700]] = np.nan, 1e8
    array = zarr.create_array(tmp_path / "image.zarr", shape=shape, chunks=(32,) * len(shape), dtype=data.dtype)
    array[...] = data
    whole, stored = image(data, axes), open_lazy(tmp_path / "image.zarr", axes)
    for preparation in (Preparation.parse(steps), Preparation.parse(steps).fit([whole])):
        in_parts = prepare(stored, preparation)
        np.testing.assert_allclose(in_parts.array, prepare(whole, preparation).array, atol=1e-6)
    fitted = [Preparation.parse(steps).fit([one]).fitted for one in (whole, stored)]
    assert fitted[0] == fitted[1]


def test_pixels_outside_a_mask_and_nan_do_not_count():
    data, valid = camera(np.float32), np.ones((60, 70), bool)
    clean = AUTO.fit([image(data)]).fitted
    outside = data.copy()
    outside[:10], valid[:10] = 1e9, False
    assert AUTO.fit([image(outside, valid=valid)]).fitted.scale[0] == pytest.approx(clean.scale[0], rel=0.1)
    outside[:10] = np.nan
    assert AUTO.fit([image(outside)]).fitted.scale[0] == pytest.approx(clean.scale[0], rel=0.1)


def test_all_images_have_the_same_limits_and_a_model_keeps_them():
    bright, dark = camera(), (camera() // 4).astype(np.uint16)
    fitted = AUTO.fit([image(bright), image(dark)])
    assert Preparation.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted
    once, again = fitted.apply(image(bright)).array, fitted.apply(image(np.concatenate([bright, bright]))).array
    np.testing.assert_array_equal(once, again[:, :60])
    assert "values from" in fitted.describe_limits([image(bright)])
    assert AUTO.fit([image(np.zeros((4, 4), np.uint8))]).describe_limits([]) == ""
    own = Preparation.parse("auto=image").fit([image(bright), image(dark)])
    assert str(own) == "auto=image" and own.fitted is None
    assert own.apply(image(dark)).array.max() == 1


def test_frames_of_a_sequence_have_one_set_of_limits_where_the_model_has_none():
    frames = [image((camera() * factor).astype(np.uint16)) for factor in (1, 2, 3)]
    one = AUTO.for_series(iter(frames))
    assert one == AUTO.fit(frames) and one.fitted is not None
    assert one.for_series(frames[:1]) is one and RANGE.for_series(frames) is RANGE
    photos = iter([image(np.zeros((4, 4), np.uint8))] * 3)
    assert AUTO.for_series(photos) is AUTO and len(list(photos)) == 2  # a film is not decoded twice


def test_an_image_without_valid_pixels_does_not_keep_others_from_limits():
    series = [image(np.full((5, 5), np.nan, np.float32)), image(camera(np.float32))]
    assert AUTO.for_series(series).fitted == AUTO.fit(series[1:]).fitted


def test_a_model_of_before_keeps_its_meaning():
    data = camera()
    data[0, 0] = 65535
    stored = Preparation.from_json({"steps": "size=1600,range", "fitted": None})
    np.testing.assert_array_equal(stored.apply(image(data)).array[0], (data / np.float32(65535)).astype(np.float32))
