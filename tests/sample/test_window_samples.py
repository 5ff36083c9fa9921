"""Windows of an image in its file: drawn by a seed, never overlapping, prepared like the whole, read in bands."""

import math

import numpy as np
import pytest

from conftest import blobs
from selfseg.core.errors import InputError
from selfseg.core.image import Image
from selfseg.core.machine import LRUCache
from selfseg.read import open_lazy
from selfseg.sample import statistics
from selfseg.sample.prepare import Preparation
from selfseg.sample.statistics import bands, spread_windows
from selfseg.sample.window_samples import window_pixels, window_samples


def _stored(tmp_path, data, axes):
    path = tmp_path / "image.npy"
    np.save(path, data)
    return open_lazy(path, axes)


@pytest.mark.parametrize(("shape", "sides"), [((100, 37), (16, 16)), ((9, 40, 30), (4, 8, 64)), ((5, 5), (8, 8))])
def test_cells_lie_within_and_never_overlap(shape, sides):
    every = spread_windows(shape, sides, 10**6, seed=3)
    assert len(every) == math.prod(max(1, n // side) for n, side in zip(shape, sides, strict=True))
    seen = np.zeros(shape, int)
    for region in every:
        assert seen[region].size == math.prod(min(n, side) for n, side in zip(shape, sides, strict=True))
        seen[region] += 1
    assert seen.max() == 1


def test_which_cells_is_decided_by_the_seed():
    drawn = [spread_windows((1000, 1000), (10, 10), 8, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 8
    # every part of the image has its turn: the mean place of many draws is the middle
    starts = [region[0].start for seed in range(40) for region in spread_windows((1000, 1000), (10, 10), 8, seed)]
    assert abs(np.mean(starts) - 495) < 60


@pytest.mark.parametrize("most", [1, 7, 40, 1000])
def test_bands_cover_a_region_once_and_are_small(most):
    region = (slice(3, 9), slice(2, 13), slice(0, 8))
    seen = np.zeros((20, 20, 20), int)
    for band in bands(region, most):
        seen[band] += 1
        assert math.prod(part.stop - part.start for part in band) <= most
    np.testing.assert_array_equal(seen[region], 1)
    assert seen.sum() == 6 * 11 * 8


@pytest.mark.parametrize("steps", ["range", "size=50,range", "rescale=0.6,zscore:global"])
def test_a_window_is_that_of_the_prepared_whole(tmp_path, steps, monkeypatch):
    data = blobs(130, 110)
    monkeypatch.setattr(statistics, "WINDOW", 1000)  # many bands
    preparation = Preparation.parse(steps).fit([Image(data, "YXC")])
    whole = preparation.apply(Image(data, "YXC")).array
    samples = window_samples(_stored(tmp_path, data, "YXC"), preparation, 9, 20, 0, LRUCache(10**6))
    assert len(samples) == min(9, math.prod(n // 20 for n in whole.shape[1:]))
    for sample in samples:
        found = sample.read()
        assert found.array.shape == sample.shape == (3, 20, 20)
        np.testing.assert_allclose(found.array, whole[(slice(None), *sample.region)], atol=1e-6)
        np.testing.assert_allclose(
            sample.prepared.spacing, [a / b for a, b in zip((130, 110), whole.shape[1:], strict=True)]
        )


def test_windows_are_read_once_while_there_is_room(tmp_path, monkeypatch):
    image = _stored(tmp_path, blobs(90, 90), "YXC")
    reads = []
    inner = image.data.read
    monkeypatch.setattr(image.data, "read", lambda ranges: reads.append(ranges) or inner(ranges))
    for room, expected in ((10**6, 4), (0, 8)):
        reads.clear()
        samples = window_samples(image, Preparation.parse("range"), 4, 20, 0, LRUCache(room))
        for _ in range(2):
            arrays = [sample.read().array for sample in samples]
        assert len(reads) == expected
        assert len({array.tobytes() for array in arrays}) == 4


def test_series_give_windows_of_several_time_points(tmp_path):
    data = np.stack([np.full((40, 40), 20 * (t + 1), np.uint8) for t in range(6)])
    samples = window_samples(_stored(tmp_path, data, "TYX"), Preparation.parse("range"), 8, 20, 1, LRUCache(10**6))
    times = [sample.time for sample in samples]
    assert len(set(times)) > 2
    for time, sample in zip(times, samples, strict=True):
        np.testing.assert_allclose(sample.read().array, 20 * (time + 1) / 255)


def test_windows_without_a_valid_pixel_are_passed_over(tmp_path):
    data = np.full((100, 100), np.nan, np.float32)
    data[20:60, 20:60] = np.random.default_rng(0).random((40, 40), np.float32)
    image = _stored(tmp_path, data, "YX")
    samples = window_samples(image, Preparation.parse("range"), 6, 10, 0, LRUCache(10**6))
    assert len(samples) == 6
    assert all(sample.read().valid is None or sample.read().valid.any() for sample in samples)
    with pytest.raises(InputError, match="finite"):
        window_samples(
            _stored(tmp_path, np.full((50, 50), np.nan), "YX"), Preparation.parse("range"), 2, 10, 0, LRUCache(9)
        )


def test_statistics_of_windows_are_near_those_of_the_whole(tmp_path, monkeypatch):
    """Mean and deviation out of a twentieth of the pixels: against NumPy on all of them."""
    monkeypatch.setitem(statistics.WINDOW_SIDE, 2, 16)
    y, x = np.mgrid[:400, :400]
    data = (100 + 40 * np.sin(x / 2) * np.cos(y / 3) + np.random.default_rng(0).normal(0, 9, (400, 400))).astype("u1")
    image = _stored(tmp_path, data, "YX")
    seen = list(window_pixels(image, Preparation(()), seed=0))
    assert sum(len(part) for part in seen) == statistics.LOOKED_AT * 16 * 16
    unfitted = Preparation.parse("zscore:global")
    preparation = unfitted.fit_pixels(window_pixels(image, unfitted, seed=0))
    assert preparation.fitted.offset[0] == pytest.approx(data.mean(), abs=3)
    assert preparation.fitted.scale[0] == pytest.approx(data.std(), rel=0.1)
    again = unfitted.fit_pixels(window_pixels(image, unfitted, seed=0))
    assert again.fitted == preparation.fitted


@pytest.mark.parametrize("steps", ["range", "minmax", "max"])
def test_one_bright_pixel_anywhere_counts_for_extremes(tmp_path, steps, monkeypatch):
    """What is learned and what is predicted must be on one scale, wherever the windows lie."""
    monkeypatch.setitem(statistics.WINDOW_SIDE, 2, 8)
    data = np.random.default_rng(0).random((300, 300)).astype(np.float32)
    data[150, 150] = 50
    image, preparation = _stored(tmp_path, data, "YX"), Preparation.parse(steps)
    whole = preparation.apply(Image(data, "YX")).array
    for sample in window_samples(image, preparation, 4, 30, 0, LRUCache(10**6)):
        np.testing.assert_allclose(sample.read().array, whole[(slice(None), *sample.region)], atol=1e-6)
