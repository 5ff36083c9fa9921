"""Motion between two pictures by block matching: for each block of the later one, where it came from in the earlier one.

For a block B the offset d is sought that makes

    sum_{x in B} |I_t(x) - I_{t-1}(x + d)| + lambda |B| (|d_y| + |d_x|)

least: among all short ones on pictures of a quarter of the size, then, on those of half and of full size, near twice the offset
found before and near zero. Offsets are whole pixels.
"""

import numpy as np
from numpy.typing import NDArray

from selfseg.core.errors import UsageError
from selfseg.core.machine import compiled, run_shared

BLOCK = 16
"""Side of a block, in pixels; half of that on smaller pictures."""

LEVELS = 2
"""How many times the pictures are halved, where they are large enough."""

REACH = 8
"""Longest offset on each axis on the smallest pictures: 32 pixels, and a little more, on full ones."""

NEAR = 2
"""How far from a guess is searched, in pixels."""

RETURN = 2
"""How far from a pixel the way back may lead, in pixels, for the pixel to have been found again."""

STIFFNESS = 1e-4
"""lambda: what a pixel of offset costs, as a share of the picture's range, so that flat blocks stay in place."""


@compiled()
def _match(start, stop, before, after, guess, block, reach, cost, found, least):
    """Better ``found [by bx 2]`` and its cost ``least [by bx]`` in some rows of blocks, `reach` pixels around ``guess``."""
    height, width = after.shape
    for row in range(start, stop):
        y0, y1 = row * block, min((row + 1) * block, height)
        for column in range(found.shape[1]):
            x0, x1 = column * block, min((column + 1) * block, width)
            gy, gx = guess[row, column, 0], guess[row, column, 1]
            best = least[row, column]
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
                        best = least[row, column] = total
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
        raise UsageError(
            "frames",
            expected="two planes of one size",
            got=f"{list(before.shape)} and {list(after.shape)}",
            fix="give frames of one sequence",
        )
    old, new = (np.ascontiguousarray(np.nan_to_num(one), np.float32) for one in (before, after))
    cost = np.float32(STIFFNESS * max(1e-12, float(np.ptp(new)), float(np.ptp(old))))
    return _search(old, new, block, cost, LEVELS)


def _search(
    old: NDArray[np.float32], new: NDArray[np.float32], block: int, cost: np.float32, levels: int
) -> NDArray[np.int32]:
    n_rows, n_columns = (-(-n // block) for n in new.shape)
    motion = np.zeros((n_rows, n_columns, 2), np.int32)
    least = np.full((n_rows, n_columns), np.inf, np.float32)
    zero = np.zeros_like(motion)
    if not levels or min(new.shape) < 4 * block:
        run_shared(_match, n_rows, old, new, zero, block, REACH, cost, motion, least)
        return motion
    coarse = _search(_half(old), _half(new), max(BLOCK // 2, 1), cost, levels - 1)
    # The block of the smaller picture that holds the middle of each block.
    rows, columns = (
        np.minimum((np.arange(n) * block + block // 2) // 2 // (BLOCK // 2), m - 1)
        for n, m in zip((n_rows, n_columns), coarse.shape, strict=False)
    )
    guess = 2 * coarse[rows][:, columns]
    run_shared(_match, n_rows, old, new, zero, block, NEAR, cost, motion, least)
    run_shared(_match, n_rows, old, new, guess, block, NEAR, cost, motion, least)
    return motion


def follow(before: NDArray[np.float32], after: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return where each pixel of `after` came from (``[Y X]`` flat pixels of `before`), and whether the way back leads to it (bool).

    Where it does not, something has come into the picture or from behind something else, or a block was matched wrongly: there is
    no pixel that it came from (the check of Lai et al., ECCV 2018, and others, with a bound in pixels).
    """
    shape = (after.shape[0], after.shape[1])
    origin = origins(block_motion(before, after), shape)
    back = origins(block_motion(after, before), shape).ravel()[origin]
    y, x = np.divmod(back, shape[1])
    gap_y, gap_x = np.abs(y - np.arange(shape[0])[:, None]), np.abs(x - np.arange(shape[1]))
    return origin, np.maximum(gap_y, gap_x) <= RETURN


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
