import numpy as np
import pytest

from selfseg.core.errors import UsageError
from selfseg.regions.motion import block_motion, follow, origins


def texture(height=96, width=128, seed=0):
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.random((height // 4 + 1, width // 4 + 1)), np.ones((4, 4)))[:height, :width]
    return (coarse + 0.2 * rng.random((height, width))).astype(np.float32)


@pytest.mark.parametrize("offset", [(0, 0), (3, -5), (-11, 14), (7, 16), (-31, 30)])
def test_a_shift_is_found_in_every_inner_block(offset):
    big = texture(192, 256)
    before = big[32:160, 32:224]
    after = big[32 + offset[0] : 160 + offset[0], 32 + offset[1] : 224 + offset[1]]
    motion = block_motion(before, after)
    inner = motion[3:-3, 3:-3].reshape(-1, 2)
    np.testing.assert_array_equal(inner, np.broadcast_to(offset, inner.shape))


def test_it_is_the_least_of_all_offsets_where_the_guess_is_right():
    before, after = texture(seed=1), texture(seed=1)
    after[32:64, 32:80] = before[34:66, 35:83]
    motion = block_motion(before, after)
    for row, column in np.ndindex(motion.shape[:2]):
        y, x = 16 * row, 16 * column
        costs = {}
        for dy in range(-4, 5):
            for dx in range(-4, 5):
                if 0 <= y + dy <= 96 - 16 and 0 <= x + dx <= 128 - 16:
                    there = before[y + dy : y + dy + 16, x + dx : x + dx + 16]
                    costs[dy, dx] = float(np.abs(after[y : y + 16, x : x + 16] - there).sum())
        best = min(costs, key=costs.get)
        assert tuple(motion[row, column]) == best


def test_flat_pictures_stay_in_place_and_origins_follow_the_offsets():
    flat = np.zeros((40, 50), np.float32)
    assert not block_motion(flat, flat).any()
    motion = np.zeros((3, 4, 2), np.int32)
    motion[1, 2] = (-3, 5)
    found = origins(motion, (40, 50))
    for y, x in ((0, 0), (20, 40), (31, 47), (39, 49)):
        dy, dx = motion[y // 16, x // 16]
        assert found[y, x] == min(max(y + dy, 0), 39) * 50 + min(max(x + dx, 0), 49)


def test_what_came_into_the_picture_came_from_nowhere():
    big = texture(128, 260, seed=4)
    before, after = big[:, :192], big[:, 12:204]
    origin, known = follow(before, after)
    y, x = np.mgrid[:128, :192]
    found = known & (x < 176)
    assert found.mean() > 0.65
    np.testing.assert_array_equal(origin[found], (y * 192 + x + 12)[found])
    assert known[:, 184:].mean() < 0.1


def test_threads_change_nothing(monkeypatch):
    before, after = texture(seed=2), np.roll(texture(seed=2), (4, 6), (0, 1))
    first = block_motion(before, after)
    for threads in ("1", "3"):
        monkeypatch.setenv("SELFSEG_THREADS", threads)
        np.testing.assert_array_equal(block_motion(before, after), first)


def test_other_sizes_are_refused_and_tiny_pictures_work():
    with pytest.raises(UsageError, match="one size"):
        block_motion(np.zeros((4, 4), np.float32), np.zeros((4, 5), np.float32))
    assert block_motion(np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)).shape == (1, 1, 2)
