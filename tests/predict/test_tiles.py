"""Tiles: cores cover the image once, halos are as asked for, weights sum to 1, and prediction by tiles is prediction."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from selfseg.tiling import tiles as module
from selfseg.tiling.tiles import BLEND, Grid, Tiles, exact_grid, make_grid, memory_budget, plan_grid, predict

shapes = st.lists(st.integers(1, 20), min_size=2, max_size=3).map(tuple)


class Blur:
    """Two classes: a mean over a window of `context` pixels on each side, and what it lacks to 1; zeros beyond the image."""

    n_classes = 2
    multiple = 1
    device = torch.device("cpu")
    uses_memos = False

    def __init__(self, context, n_dims=2, whole=False):
        self.reach, self.whole, self.largest = context, whole, 0
        frame, pool = {2: (nn.ConstantPad2d, nn.AvgPool2d), 3: (nn.ConstantPad3d, nn.AvgPool3d)}[n_dims]
        self.pool = nn.Sequential(frame(context, 0.0), pool(2 * context + 1, 1))

    @property
    def context(self):
        return None if self.whole else self.reach

    def prediction_bytes(self, n_pixels):
        return 100 * n_pixels

    def assign(self, images):
        self.largest = max(self.largest, images[0, 0].numel())
        mean = self.pool(images[:, :1])
        return torch.cat([mean, 1 - mean], 1)


@settings(deadline=None, max_examples=50)
@given(shapes, st.integers(0, 9), st.integers(60, 900), st.sampled_from([1, 4, 16]))
def test_cores_cover_each_pixel_once(shape, halo, most, multiple):
    seen = np.zeros(shape, int)
    grid = make_grid(shape, halo, most, multiple)
    for place in grid.places():
        tile = grid.tile(place)
        seen[tile.core] += 1
        for core, outer, inner, n in zip(tile.core, tile.outer, tile.inner, shape, strict=True):
            assert (outer.start, outer.stop) == (max(0, core.start - halo), min(n, core.stop + halo))
            assert (outer.start + inner.start, outer.start + inner.stop) == (core.start, core.stop)
    assert (seen == 1).all()
    assert len(grid) == len(list(grid.places()))
    assert all(side % multiple == 0 or side == n for side, n in zip(grid.sides, shape, strict=True))


def test_tiles_are_as_small_as_the_memory_asks():
    for most in (5000, 20000, 10**6):
        grid = make_grid((1000, 700), 8, most)
        tiles = [grid.tile(place) for place in grid.places()]
        assert max(np.prod([part.stop - part.start for part in tile.outer]) for tile in tiles) <= most


@settings(deadline=None, max_examples=50)
@given(shapes, st.integers(1, 5), st.integers(60, 400))
def test_blending_weights_sum_to_one(shape, halo, most):
    grid = make_grid(shape, halo, most, wide=True)
    total = np.zeros(shape)
    for place in grid.places():
        tile = grid.tile(place)
        weights = grid.weights(place, tile.outer)
        assert weights.min() >= 0
        total[tile.outer] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_weights_rise_in_a_line_across_a_border():
    grid = Grid((20,), (10,), 2)
    wanted = [(x + 0.5 - (10 - 2)) / 4 for x in range(8, 12)]
    np.testing.assert_allclose(grid.weights((1,), (slice(8, 12),)), wanted)
    np.testing.assert_allclose(grid.weights((0,), (slice(8, 12),)), 1 - np.array(wanted))


@pytest.mark.parametrize(("shape", "context"), [((50, 61), 3), ((13, 22, 17), 2)])
def test_tiled_is_whole(shape, context):
    image = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    method = Blur(context, len(shape))
    whole = method.assign(torch.from_numpy(image)[None])[0].numpy()
    for pixels in (90, 400, 2000):
        np.testing.assert_allclose(predict(method, image, tile_pixels=pixels), whole, atol=1e-6)


def test_tiles_of_a_method_that_wants_the_whole_image_are_blended(monkeypatch):
    monkeypatch.setitem(BLEND, 2, 8)
    monkeypatch.setattr(module, "memory_budget", lambda memory, device=None: memory)
    image = np.random.default_rng(0).random((1, 150, 170)).astype(np.float32)
    method = Blur(4, whole=True)
    whole = predict(method, image, memory=10**9)
    assert method.largest == 150 * 170
    method.largest = 0
    tiled = predict(method, image, memory=1)
    assert method.largest < 150 * 170 / 3
    # where a tile sees less than 4 pixels beyond a pixel, its weight is below 1 / 4: what is wrong there counts little
    np.testing.assert_allclose(tiled.sum(0), 1, atol=1e-6)
    assert np.abs(tiled - whole).max() < 0.25 * 0.5
    grid = plan_grid(method, image.shape[1:], 1)
    for kept in (0, 10**9):
        tiles = Tiles(method, lambda region: image[(slice(None), *region)], grid, kept)
        for place in itertools.islice(grid.places(), 3, 6):
            core = grid.tile(place).core
            np.testing.assert_allclose(tiles.probabilities(core), tiled[(slice(None), *core)], atol=1e-6)
        odd = (slice(37, 120), slice(1, 61))
        np.testing.assert_allclose(tiles.probabilities(odd), tiled[(slice(None), *odd)], atol=1e-6)


def test_tiles_that_are_kept_are_not_computed_again(monkeypatch):
    monkeypatch.setitem(BLEND, 2, 8)
    image = np.zeros((1, 64, 64), np.float32)
    calls = []
    method = Blur(2, whole=True)
    grid = Grid((64, 64), (32, 32), 8)

    def read(region):
        calls.append(region)
        return image[(slice(None), *region)]

    for kept, wanted in ((10**9, 4), (0, 16)):
        calls.clear()
        tiles = Tiles(method, read, grid, kept)
        for place in grid.places():
            tiles.probabilities(grid.tile(place).core)
        assert len(calls) <= wanted
        assert len(calls) >= 4


def test_memory_is_bounded_by_what_is_asked_for():
    method = Blur(3)
    small, large = (plan_grid(method, (4000, 4000), budget).outer_pixels for budget in (10**7, 10**8))
    assert small <= 10**5 < large <= 10**6
    assert memory_budget(1) == 0
    assert memory_budget(None) > 0


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        predict(Blur(1), np.zeros((1, 0, 5), np.float32))


@pytest.mark.parametrize("multiple", [1, 8, 16])
@pytest.mark.parametrize("shape", [(100, 61), (7, 300), (20, 33, 41)])
def test_tiles_of_a_method_with_poolings_begin_at_their_multiples(shape, multiple):
    method = Blur(5, len(shape))
    method.multiple = multiple
    grid = exact_grid(method, shape, 900)
    assert len(grid) > 1
    for place in grid.places():
        tile = grid.tile(place)
        for core, outer, n in zip(tile.core, tile.outer, shape, strict=True):
            assert core.start % multiple == 0 and outer.start % multiple == 0
            assert core.start - outer.start >= min(5, core.start) and outer.stop - core.stop >= min(5, n - core.stop)
            assert outer.stop == n or outer.stop % multiple == 0
    image = np.random.default_rng(1).random((1, *shape)).astype(np.float32)
    tiles = Tiles(method, lambda region: image[(slice(None), *region)], grid)
    whole = method.assign(torch.from_numpy(image)[None])[0].numpy()
    odd = tuple(slice(n // 3, n - 1) for n in shape)  # begins on no grid: what is read for it does
    np.testing.assert_allclose(tiles.probabilities(odd), whole[(slice(None), *odd)], atol=1e-6)
