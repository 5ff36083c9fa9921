import numpy as np
import pytest

from selfseg.predict.tiles import tile_plan


@pytest.mark.parametrize("multiple", [1, 8, 16])
@pytest.mark.parametrize(
    ("shape", "most"), [((100, 61), 900), ((7, 300), 500), ((20, 33, 41), 2000), ((5, 5), 1), ((64, 64), 10**9)]
)
def test_cores_cover_the_image_once_and_tiles_begin_at_multiples(shape, most, multiple):
    counts = np.zeros(shape, int)
    for tile in tile_plan(shape, halo=5, max_pixels=most, multiple=multiple):
        counts[tile.core] += 1
        whole = np.arange(np.prod(shape)).reshape(shape)
        assert np.array_equal(whole[tile.outer][tile.inner], whole[tile.core])
        for core, outer, n in zip(tile.core, tile.outer, shape, strict=True):
            assert core.start % multiple == 0 and outer.start % multiple == 0
            assert core.start - outer.start >= min(5, core.start) and outer.stop - core.stop >= min(5, n - core.stop)
            assert outer.stop == n or outer.stop % multiple == 0
    assert (counts == 1).all()


def test_a_small_image_is_one_tile():
    (tile,) = tile_plan((30, 40), halo=8, max_pixels=1200, multiple=16)
    assert tile.outer == (slice(0, 30), slice(0, 40)) == tile.core
