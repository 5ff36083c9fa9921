"""Contrast, normalisation, masks: against plain formulas, and for values of every kind."""

import json

import numpy as np
import pytest
from scipy import ndimage
from skimage import exposure

from selfseg.core.errors import InputError, UsageError
from selfseg.core.image import Image
from selfseg.sample import statistics
from selfseg.sample.prepare import Preparation

RNG = np.random.default_rng(0)
ALL_STEPS = [
    "auto",
    "range",
    "minmax",
    "max",
    "percentile",
    "zscore",
    "robust",
    "clahe=0.01",
    "unsharp=1",
    "smooth=1",
    "tophat=5",
    "tophat=5:dark",
    "flatten=6",
    "rescale=0.5",
    "size=4",
]


def apply(data, text, axes=None, **options):
    return Preparation.parse(text).apply(Image(data, axes or ("YXC" if data.ndim == 3 else "YX"), **options))


@pytest.mark.parametrize(
    ("dtype", "top"),
    [(bool, 1), (np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 1), (np.float16, 1)],
)
def test_range_divides_by_the_largest_value_of_the_type(dtype, top):
    data = (RNG.random((6, 7, 3)) * top).astype(dtype)
    data[0, 0] = top
    image = apply(data, "range")
    np.testing.assert_allclose(image.array, np.moveaxis(data.astype(float), -1, 0) / top, rtol=1e-6)
    assert image.array.dtype == np.float32 and image.notes == () and image.valid() is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint32, np.int64])
def test_range_of_unknown_ranges_is_min_max_and_says_so(dtype):
    data = np.array([[-1000, 0], [1000, 3000]]).astype(dtype)
    if np.dtype(dtype).kind == "u":
        data = np.array([[0, 1000], [2000, 4000]], dtype)
    image = apply(data, "range")
    np.testing.assert_allclose(image.array[0], [[0, 0.25], [0.5, 1]])
    assert len(image.notes) == 1 and "mapped to 0-1" in image.notes[0]


def test_twelve_bits_in_sixteen_are_remarked_upon():
    assert "percentile=1:99.8" in apply(np.full((4, 4), 4095, np.uint16), "range").notes[0]
    assert apply(np.full((4, 4), 40950, np.uint16), "range").notes == ()


def test_small_differences_of_large_numbers_are_kept():
    data = 1e7 + np.arange(12.0).reshape(3, 4) / 11
    np.testing.assert_allclose(apply(data, "minmax").array[0], (data - 1e7), atol=1e-6)
    whole = 2**31 - 12 + np.arange(12).reshape(3, 4)
    np.testing.assert_allclose(apply(whole, "minmax").array[0] * 11, np.arange(12).reshape(3, 4), atol=1e-5)


def test_normalisations_are_their_formulas_in_each_channel():
    data = RNG.normal((5, -3, 100), (1, 2, 30), (20, 30, 3)).astype(np.float32)
    plain = np.moveaxis(data, -1, 0).astype(float)

    def over(function, *args):
        return function(plain.reshape(3, -1), *args, axis=1).reshape(3, 1, 1)

    low, high = over(np.min), over(np.max)
    np.testing.assert_allclose(apply(data, "minmax").array, (plain - low) / (high - low), atol=1e-5)
    np.testing.assert_allclose(apply(data, "max").array, plain / _peak(plain), atol=1e-5)
    np.testing.assert_allclose(apply(data, "zscore").array, (plain - over(np.mean)) / over(np.std), atol=1e-4)
    middle = over(np.median)
    wide = 1.4826 * np.median(np.abs(plain - middle).reshape(3, -1), axis=1).reshape(3, 1, 1)
    np.testing.assert_allclose(apply(data, "robust").array, (plain - middle) / wide, atol=1e-4)
    first, last = (np.percentile(plain.reshape(3, -1), p, axis=1).reshape(3, 1, 1) for p in (2, 98))
    want = np.clip((plain - first) / (last - first), 0, 1)
    np.testing.assert_allclose(apply(data, "percentile=2:98").array, want, atol=1e-5)


def _peak(plain):
    return np.abs(plain.reshape(3, -1)).max(axis=1).reshape(3, 1, 1)


@pytest.mark.parametrize("text", ALL_STEPS)
@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (9, 11), (9, 11, 3), (9, 11, 2)])
def test_one_colour_and_one_pixel_give_finite_numbers(text, value, shape):
    for dtype in (np.uint8, np.float32):
        image = apply(np.full(shape, value, dtype), text)
        assert np.isfinite(image.array).all()
        assert np.ptp(image.array, axis=(1, 2)).max() < 1e-5  # and nothing is made of the noise of rounding


@pytest.mark.parametrize(
    "step", ["minmax", "max", "percentile", "zscore", "robust", "percentile:global", "zscore:global", "robust:global"]
)
def test_affine_changes_of_brightness_do_not_matter(step):
    data = RNG.random((20, 30)) + 0.1
    factor, offset = 37.0, (0 if step == "max" else -12)
    results = []
    for values in (data, data * factor + offset):
        image = Image(values, "YX")
        results.append(Preparation.parse(step).fit([image]).apply(image).array)
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def test_equal_percentiles_fall_back_to_the_extremes_and_say_so():
    data = np.zeros((100, 100), np.uint8)
    data[3, 4] = 200  # one bright pixel in ten thousand
    image = apply(data, "percentile=1:99.8")
    assert image.array.max() == 1 and image.array.sum() == 1 and "extremes" in image.notes[0]


def test_unsharp_is_its_formula_and_stays_in_the_range():
    data = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    plain = data / 255
    blurred = np.stack([ndimage.gaussian_filter(plain[..., c], 2.0, mode="nearest") for c in range(3)], axis=-1)
    want = np.clip(plain + 1.5 * (plain - blurred), 0, 1)
    np.testing.assert_allclose(apply(data, "unsharp=2:1.5").array, np.moveaxis(want, -1, 0), atol=1e-5)
    after = apply(data, "range,unsharp=2:1.5").array
    np.testing.assert_allclose(after, np.moveaxis(want, -1, 0), atol=1e-5)


def near(i, n, reach):
    """Numbers within reach of i, those beyond the sides once for each step beyond."""
    return [min(max(j, 0), n - 1) for j in range(i - reach, i + reach + 1)]


@pytest.mark.parametrize("masked", [False, True])
def test_smooth_is_a_mean_of_valid_pixels_by_gaussian_weights(masked):
    data, valid = RNG.random((9, 11, 2)).astype(np.float32), np.ones((9, 11), bool)
    if masked:
        valid[2:4, 5], data[2:4, 5] = False, np.nan
    weights = np.exp(-((np.arange(-3, 4) / 0.7) ** 2) / 2)
    want = np.zeros((2, 9, 11))
    for i, j in np.ndindex(9, 11):
        rows, columns = (list(zip(near(k, n, 3), weights, strict=True)) for k, n in ((i, 9), (j, 11)))
        pairs = [(u, v, a * b) for u, a in rows for v, b in columns]
        inside = [(u, v, w) for u, v, w in pairs if valid[u, v]]
        want[:, i, j] = sum(w * data[u, v] for u, v, w in inside) / sum(w for *_, w in inside)
    got = apply(data, "smooth=0.7,range").array
    np.testing.assert_allclose(got, np.where(valid, want, 0), atol=1e-5)


@pytest.mark.parametrize(("text", "sign"), [("tophat=5", 1), ("tophat=5:dark", -1)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_top_hat_is_the_height_above_the_opening(text, sign, masked):
    data, valid = RNG.random((9, 11)), np.ones((9, 11), bool)
    if masked:
        valid[3:9, 5:], data[3:9, 5:] = False, np.nan
    got, best = apply(data, text).array[0], np.full((9, 11), -np.inf)
    for i, j in np.ndindex(9, 11):  # the opening: the highest box under the values at each pixel
        box = np.ix_(*(sorted(set(near(k, n, 2))) for k, n in ((i, 9), (j, 11))))
        if valid[box].any():
            best[box] = np.maximum(best[box], (sign * data[box])[valid[box]].min())
    np.testing.assert_allclose(got[valid], (sign * data - best)[valid], atol=1e-6)
    assert (got >= 0).all() and (got[~valid] == 0).all()


def test_flatten_takes_a_gradient_of_light_away():
    light = np.linspace(0.4, 1, 300)[None] * np.linspace(1, 0.7, 200)[:, None]
    data = np.full((200, 300), 100)
    data[::9, ::9] = 200
    got = apply((light * data).astype(np.uint8), "flatten=27").array[0]
    inner = got[60:-60, 60:-60]
    for values, level in ((inner[data[60:-60, 60:-60] == 100], 100), (inner[data[60:-60, 60:-60] == 200], 200)):
        assert values.std() < 0.02 * values.mean()
        np.testing.assert_allclose(values.mean(), level * light.mean() / 255, rtol=0.03)


def test_dark_corners_are_brightened_tenfold_at_most():
    data = np.full((40, 400), 200, np.uint8)
    data[:, :200] = 2
    got = apply(data, "flatten=11").array[0]
    np.testing.assert_allclose(got[:, :150], 2 * 10 / 255, rtol=1e-3)
    np.testing.assert_allclose(got[:, 250:], 101 / 255, rtol=1e-3)
    assert (apply(np.zeros((8, 9), np.uint8), "flatten=5").array == 0).all()


def test_windows_have_one_size_in_the_unit_of_the_image():
    """Along the coarse axis of a volume a window has fewer pixels: steps see the same as in the volume with cubic voxels."""
    data = np.zeros((9, 30, 31), np.uint8)
    data[4, 15, 15] = 255
    smooth = apply(data, "smooth=2", "ZYX", spacing=(4.0, 1.0, 1.0)).array[0]
    want = ndimage.gaussian_filter(data / 255, (0.5, 2, 2), mode="nearest")
    np.testing.assert_allclose(smooth, want, atol=1e-6)
    data[:, 15, 15] = 255
    height = apply(data, "tophat=9", "ZYX", spacing=(10.0, 1.0, 1.0)).array[0]
    np.testing.assert_allclose(height, data / 255)


def test_clahe_of_grey_is_scikit_images():
    data = (RNG.random((64, 80)) ** 3 * 200).astype(np.uint8)
    unit = ((data - data.min()) / np.float32(np.ptp(data))).astype(np.float32)
    want = exposure.equalize_adapthist(unit, (16, 20), 0.02)
    np.testing.assert_allclose(apply(data, "clahe=0.02:4").array[0], want, atol=1e-6)


def test_clahe_of_colour_keeps_hue_and_saturation():
    data = (RNG.random((40, 60, 3)) * [250, 120, 40] + 2).astype(np.float64) / 255
    data[0, 0] = 0
    before = np.moveaxis(data / data.max(), -1, 0)
    after = apply(data, "clahe=0.05:4").array
    ratio = [np.divide(x, x.max(axis=0), out=np.zeros_like(x), where=x.max(axis=0) > 0.05) for x in (before, after)]
    both = (before.max(axis=0) > 0.05) & (after.max(axis=0) > 0.05)
    np.testing.assert_allclose(ratio[0][:, both], ratio[1][:, both], atol=1e-4)
    assert after.max() <= 1 and after.min() >= 0 and not np.allclose(before, after, atol=0.02)


@pytest.mark.parametrize("shape", [(6, 40, 30), (6, 40, 3), (40, 4, 3), (5, 6, 4)])
def test_clahe_of_volumes_takes_no_axis_for_colours(shape):
    data = RNG.random(shape)
    image = apply(data, "clahe=0.02:2", axes="ZYX")
    sides = [max(1, -(-n // 2)) for n in shape]
    unit = (data - data.min()) / np.ptp(data)
    turned = exposure.equalize_adapthist(
        np.swapaxes(unit, 0, -1), sides[::-1], 0.02
    )  # which takes a last axis of 3 for colours
    np.testing.assert_allclose(image.array[0], np.swapaxes(turned, 0, -1), atol=1e-4)


def test_pixels_that_are_not_finite_take_no_part():
    data = RNG.random((30, 40, 2))
    data[3, 4, 0], data[5, 6, 1] = np.nan, -np.inf
    valid = np.ones((30, 40), bool)
    valid[20, 20] = False
    data[20, 20] = 1e6
    for text in (
        "minmax",
        "zscore",
        "percentile",
        "range",
        "unsharp=2",
        "clahe=0.01",
        "smooth=0.5,minmax",
        "tophat=5,max",
    ):
        image = apply(data, text, valid=valid)
        assert np.isfinite(image.array).all()
        assert np.argwhere(~image.valid()).tolist() == [[3, 4], [5, 6], [20, 20]]
        assert (image.array[:, ~image.valid()] == 0).all() and image.array[:, image.valid()].max() > 0.9
        assert (image.restore_labels(np.ones((30, 40), int)) == image.valid()).all()


def test_a_resampled_pixel_is_valid_if_all_that_it_is_made_of_is():
    data = RNG.random((30, 40))
    data[10, 20] = np.nan
    image = apply(data, "rescale=0.5")
    from selfseg.sample.geometry import resample_matrix

    rows, columns = (resample_matrix(*pair).toarray() for pair in ((30, 15), (40, 20)))
    want = np.outer(rows[:, 10] > 0, columns[:, 20] > 0)
    np.testing.assert_array_equal(~image.valid(), want)
    assert image.inside().sum() == 30 * 40 - 1


def test_nothing_valid_is_an_error():
    with pytest.raises(InputError, match="valid pixels"):
        apply(np.full((4, 5), np.nan), "")
    every_third = RNG.random((30, 30))
    every_third[::3, ::3] = np.nan
    with pytest.raises(InputError, match="valid pixels, got none"):
        apply(every_third, "rescale=0.2")
    with pytest.raises(InputError, match=r"values up to 1e\+30"):
        apply(np.array([[0.0, -3.4e38]], np.float32), "")
    with pytest.raises(InputError, match="one image or volume, got axes TYX"):
        apply(RNG.random((3, 4, 5)), "", axes="TYX")


def test_an_image_is_not_changed():
    data = RNG.random((10, 12, 3)).astype(np.float32)
    data[2, 3] = np.nan
    image = Image(data.copy(), "YXC")
    Preparation.parse("unsharp=2,clahe=0.01,zscore").apply(image)
    np.testing.assert_array_equal(image.data, data)
    assert image.valid is None


def images(n=4, channels=3):
    return [
        Image(RNG.normal(10 * i, 1 + i, (10 + i, 12, channels)).astype(np.float32), "YXC", source=f"{i}.tif")
        for i in range(n)
    ]


@pytest.mark.parametrize("step", ["minmax", "max", "zscore", "robust", "percentile=5:95"])
def test_global_statistics_are_those_of_all_pixels_together(step):
    stack = images()
    fitted = Preparation.parse(f"{step}:global").fit(iter(stack))
    together = np.concatenate([image.data.reshape(-1, 3) for image in stack])[None]
    want = apply(together, step).array
    got = np.concatenate([fitted.apply(image).array.reshape(3, -1) for image in stack], axis=1)[:, None]
    np.testing.assert_allclose(got, want, atol=2e-5)
    again = Preparation.from_json(json.loads(json.dumps(fitted.to_json())))
    assert again == fitted
    np.testing.assert_array_equal(again.apply(stack[1]).array, fitted.apply(stack[1]).array)


def test_global_percentiles_of_many_pixels_are_close(monkeypatch):
    monkeypatch.setattr(statistics, "MAX_SAMPLED", 30_000)
    stack = [Image(RNG.random((200, 300)) * (i + 1), "YX") for i in range(20)]
    first, second = (Preparation.parse("percentile=1:99:global").fit(stack) for _ in range(2))
    assert first == second
    want = np.percentile(np.concatenate([image.data.ravel() for image in stack]), [1, 99])
    low, scale = first.fitted.offset[0], first.fitted.scale[0]
    assert abs(low - want[0]) < 0.02 and abs(low + scale - want[1]) < 0.5


def test_fit_only_where_it_is_needed():
    def never():
        raise AssertionError("an image was read")
        yield

    plain = Preparation.parse("percentile")
    assert plain.fit(never()) is plain
    with pytest.raises(UsageError, match="at least one image"):
        Preparation.parse("zscore:global").fit([])
    with pytest.raises(UsageError, match="call fit"):
        Preparation.parse("zscore:global").apply(images()[0])


def test_other_channels_than_at_training():
    mixed = [*images(2), *images(1, channels=1)]
    with pytest.raises(InputError, match=r"0\.tif: expected 3 channels, like the training images, got 1"):
        Preparation.parse("zscore:global").fit(mixed)
    with pytest.raises(InputError, match="expected 3 channels, like the training images, got 1"):
        Preparation.parse("zscore:global").fit(images(2)).apply(mixed[2])


def test_steps_before_the_global_one_count():
    data = np.zeros((20, 20))
    data[::2] = 1
    fitted = Preparation.parse("rescale=0.5,max:global").fit([Image(data, "YX")])
    assert fitted.fitted.scale[0] < 0.7  # the stripes are smoothed before the largest value is taken
