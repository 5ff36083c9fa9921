"""Motion between two pictures by block matching: for each block of the later one, where it came from in the earlier one.

For a block B the offset d is sought that makes

    sum_{x in B} |I_t(x) - I_{t-1}(x + d)| + lambda |B| (|d_y| + |d_x|)

least, first on pictures of half the size, then within one pixel of twice that offset. Offsets are whole pixels.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfseg.core.errors import UsageError, explain
from selfseg.core.threads import run_shared

BLOCK = 16
"""Side of a block, in pixels."""

REACH = 8
"""Longest offset on each axis at half size; twice that, and one pixel, at full size."""

STIFFNESS = 1e-4
"""lambda: what a pixel of offset costs, as a share of the picture's range, so that flat blocks stay in place."""


@njit(cache=True, nogil=True)
def _match(start, stop, before, after, guess, block, reach, cost, found):
    """Fill ``found [by bx 2]`` for the rows of blocks start..stop, looking `reach` pixels around ``guess [by bx 2]``."""
    height, width = after.shape
    for row in range(start, stop):
        y0, y1 = row * block, min((row + 1) * block, height)
        for column in range(found.shape[1]):
            x0, x1 = column * block, min((column + 1) * block, width)
            gy, gx = guess[row, column, 0], guess[row, column, 1]
            best = np.float32(np.inf)
            for dy in range(max(gy - reach, -y0), min(gy + reach, height - y1) + 1):
                for dx in range(max(gx - reach, -x0), min(gx + reach, width - x1) + 1):
                    total = np.float32((y1 - y0) * (x1 - x0) * (abs(dy) + abs(dx))) * cost
                    for y in range(y0, y1):
                        line = np.float32(0)
                        here, there = after[y, x0:x1], before[y + dy, x0 + dx : x1 + dx]
                        for x in range(len(here)):
                            line += abs(here[x] - there[x])
                        total += line
                        if total >= best:
                            break
                    if total < best:
                        best = total
                        found[row, column, 0], found[row, column, 1] = dy, dx


def block_motion(before: NDArray[np.float32], after: NDArray[np.float32], block: int = BLOCK) -> NDArray[np.int32]:
    """Return where each block of `after` came from.

    Parameters
    ----------
    before, after
        ``[Y X]``, of one size.
    block
        Side of a block at full size, even; the last ones may be cut.

    Returns
    -------
    ndarray
        ``[ceil(Y/block) ceil(X/block) 2]`` int32, the offset (y, x) in pixels: pixel p of `after` was at p + offset.

    Raises
    ------
    UsageError
        If the pictures are no two planes of one size.
    """
    if before.ndim != 2 or before.shape != after.shape:
        got, fix = f"{list(before.shape)} and {list(after.shape)}", "give frames of one sequence"
        raise UsageError(explain("frames", expected="two planes of one size", got=got, fix=fix))
    old, new = (np.ascontiguousarray(np.nan_to_num(one), np.float32) for one in (before, after))
    cost = np.float32(STIFFNESS * max(1e-12, float(np.ptp(new)), float(np.ptp(old))))
    n_blocks = tuple(-(-n // block) for n in new.shape)
    guess = np.zeros((*n_blocks, 2), np.int32)
    if min(new.shape) >= 2 * block:
        small_old, small_new = _half(old), _half(new)
        coarse = np.zeros((*(-(-n // (block // 2)) for n in small_new.shape), 2), np.int32)
        run_shared(_match, len(coarse), small_old, small_new, coarse.copy(), block // 2, REACH, cost, coarse)
        rows, columns = (np.minimum(np.arange(n), m - 1) for n, m in zip(n_blocks, coarse.shape, strict=False))
        guess = 2 * coarse[rows][:, columns]
    motion = np.zeros_like(guess)
    run_shared(_match, len(motion), old, new, guess, block, 1 if guess.any() else 2, cost, motion)
    return motion


def origins(motion: NDArray[np.int32], shape: tuple[int, int], block: int = BLOCK) -> NDArray[np.intp]:
    """Return, for each pixel of the later picture, the flat number of the pixel of the earlier one it came from ``[Y X]``."""
    rows, columns = (np.arange(n) // block for n in shape)
    offset = motion[rows[:, None], columns[None]]
    y = np.clip(np.arange(shape[0])[:, None] + offset[..., 0], 0, shape[0] - 1)
    x = np.clip(np.arange(shape[1])[None] + offset[..., 1], 0, shape[1] - 1)
    return np.asarray(y * shape[1] + x, np.intp)


def _half(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
    return np.ascontiguousarray((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4)
