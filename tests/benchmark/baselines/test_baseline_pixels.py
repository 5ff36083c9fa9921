"""What the baselines see of an image."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from conftest import blobs
from selfseg.benchmark.baselines._base import Pixels, read_pixels, reduced
from selfseg.core.image import Image


def pixels_of(values, valid=None):
    values = np.asarray(values, np.float32)
    values = values if values.ndim == 3 else values[..., None]
    return Pixels(values, np.ones(values.shape[:2], bool) if valid is None else np.asarray(valid, bool), (1.0, 1.0))


def test_8_bit_is_divided_by_255_and_three_channels_are_lab():
    array = blobs()
    pixels = read_pixels(Image(array, "YXC"))
    np.testing.assert_allclose(pixels.values, array / 255, atol=1e-6)
    np.testing.assert_allclose(pixels.colour, rgb2lab(array) / 100, atol=5e-4)
    black_and_white = read_pixels(Image(np.array([[[0] * 3, [255] * 3]], np.uint8), "YXC"))
    assert np.linalg.norm(np.diff(black_and_white.colour, axis=1)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_span_1_from_black_to_white(channels):
    array = np.zeros((1, 2, channels), np.uint8)
    array[0, 1] = 255
    pixels = read_pixels(Image(array, "YXC"))
    assert np.linalg.norm(np.diff(pixels.colour, axis=1)) == pytest.approx(1)
    assert pixels.luminance.tolist() == [[0, 1]]


@pytest.mark.parametrize("channels", [1, 3])
def test_gain_and_offset_of_other_types_do_not_matter(channels):
    array = blobs(channels=channels).astype(np.float64)
    one, other = (read_pixels(Image(a, "YXC")) for a in (array, 37 * array - 1e4))
    np.testing.assert_allclose(one.values, other.values, atol=1e-5)
    assert one.values.min() == 0
    assert one.values.max() == 1


def test_three_channels_keep_their_hue_and_two_do_not_share_a_range():
    ramp = np.linspace(0, 1, 200)
    both = np.stack([ramp, 0.1 * ramp], -1)[None]
    assert read_pixels(Image(both, "YXC")).values[0, -1].tolist() == [1, 1]
    three = np.stack([ramp, 0.1 * ramp, 0 * ramp], -1)[None]
    assert read_pixels(Image(three, "YXC")).values[0, -1] == pytest.approx([1, 0.1, 0], abs=0.02)


def test_pixels_that_do_not_count_hold_the_mean_of_the_others():
    pixels = read_pixels(Image(np.array([[0.0, 2.0, np.nan, 1.0]]), "YX", valid=np.array([[1, 1, 1, 0]], bool)))
    assert pixels.valid.tolist() == [[True, True, False, False]]
    assert pixels.values[0, :, 0].tolist() == [0, 1, 0.5, 0.5]


def test_places_are_centres_in_units_of_the_longest_side():
    assert read_pixels(Image(np.zeros((2, 4)), "YX")).place()[1, 3].tolist() == [0.375, 0.875]
    stretched = read_pixels(Image(np.zeros((2, 4)), "YX", spacing=(6.0, 2.0)))
    assert stretched.place()[1, 3] == pytest.approx([4.5 / 6, 3.5 / 6])


def test_ids_have_no_gaps():
    groups = np.array([[7, 7, 2], [9, 2, 2]])
    pixels = pixels_of([[0.9, 0.9, 0.1], [0.5, 0.1, 0.1]], [[1, 1, 1], [1, 1, 0]])
    assert pixels.region_ids(groups).tolist() == [[1, 1, 2], [3, 2, 0]]
    assert pixels.class_ids(groups).tolist() == [[3, 3, 1], [2, 1, 0]]


def test_reduced_is_the_mean_over_blocks_and_comes_back():
    array = np.random.default_rng(0).random((7, 10))
    pixels = pixels_of(array)
    small, side = reduced(pixels, 20)
    assert side == 2
    assert small.shape == (4, 5)
    for y in range(3):
        for x in range(5):
            block = array[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            assert small.values[y, x, 0] == pytest.approx(block.mean(), abs=1e-6)
    # The last row has no partner and counts alone.
    assert small.values[3, 0, 0] == pytest.approx(array[6, :2].mean(), abs=1e-6)
    numbers = np.arange(20).reshape(4, 5)
    back = pixels.enlarged(numbers, side)
    assert back.shape == (7, 10)
    assert all(back[y, x] == numbers[y // 2, x // 2] for y in range(7) for x in range(10))


def test_small_images_are_not_reduced():
    pixels = pixels_of(np.zeros((4, 5)))
    assert reduced(pixels, 20) == (pixels, 1)
