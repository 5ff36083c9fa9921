"""Samples of what is too much: the most different frames of a sequence, by farthest points in one pass; rows spread over images."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfseg.core.image import Image

CELLS = 8
"""Cells along each axis of the grid that describes a frame."""

LOOKED_AT = 256
"""Pixels along each axis that are looked at, at most: the others are stepped over."""

MOST = 2048
"""Frames that are worth looking at: of longer sequences every second, third, ... is enough."""

BLANK = 0.1
"""Frames whose contrast is below this share of the median contrast (fades, black frames) are not chosen."""


def describe(image: Image) -> NDArray[np.float32]:
    """Return the mean of each channel and the standard deviation of the brightness in each cell of a grid ``[D]``.

    The image is 2D; pixels that are not finite count as 0.
    """
    pixels = image.channels_last()
    steps = [max(1, n // LOOKED_AT) for n in pixels.shape[:2]]
    thin = np.nan_to_num(pixels[:: steps[0], :: steps[1]].astype(np.float32), posinf=0, neginf=0)
    light = thin.mean(-1, keepdims=True)
    moments = np.concatenate([thin, light, light**2], -1)
    for axis in (0, 1):
        n = moments.shape[axis]
        starts = np.minimum(np.arange(CELLS) * n // CELLS, n - 1)
        sizes = np.maximum(np.diff([*starts, n]), 1)
        moments = np.add.reduceat(moments, starts, axis)
        moments /= sizes.reshape([-1 if i == axis else 1 for i in range(3)])
    spread = np.sqrt(np.maximum(moments[..., -1] - moments[..., -2] ** 2, 0))
    return np.concatenate([moments[..., :-2].ravel(), spread.ravel()]).astype(np.float32)


def most_different(frames: Iterable[tuple[int, Image]], n: int) -> list[int]:
    """Choose the frames that differ most: first the most typical one, then always the one farthest from those chosen.

    Farthest-point choice covers all frames within twice the least possible radius (Gonzalez 1985). There is no chance in it.

    `frames` are numbers and images, in order, each looked at once and let go. Return `n` numbers, ascending; all if there are fewer.

    Examples
    --------
    >>> import numpy as np
    >>> from selfseg import Image
    >>> from selfseg.sample.choose import most_different
    >>> frames = [(n, Image(np.full((8, 8), v, np.uint8), "YX")) for n, v in enumerate([0, 0, 250, 250])]
    >>> len(most_different(frames, 2))
    2
    """
    numbers: list[int] = []
    rows: list[NDArray[np.float32]] = []
    for number, image in frames:
        numbers.append(number)
        rows.append(describe(image))
    if len(rows) <= n:
        return numbers
    table = np.stack(rows)
    return sorted(numbers[i] for i in _farthest(_scaled(table), _contrast(table), n))


def _contrast(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean spread within the cells and between them, of each frame ``[F]``."""
    within = table[:, -CELLS * CELLS :].mean(1)
    contrast: NDArray[np.float32] = within + table[:, : -CELLS * CELLS].std(1)
    return contrast


def _scaled(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weigh colour and structure alike: each divided by how much it varies over the frames."""
    split = table.shape[1] - CELLS * CELLS
    groups = (table[:, :split], table[:, split:])
    return np.concatenate([group / max(1e-12, float(np.sqrt(group.var(0).sum()))) for group in groups], 1)


def _farthest(table: NDArray[np.float32], contrast: NDArray[np.float32], n: int) -> list[int]:
    usable = contrast >= BLANK * np.median(contrast)
    if usable.sum() < n:
        usable[:] = True
    away = ((table - table[usable].mean(0)) ** 2).sum(1)
    chosen = [int(np.where(usable, away, np.inf).argmin())]
    nearest = np.where(usable, np.inf, -1.0)
    while len(chosen) < n:
        nearest = np.minimum(nearest, ((table - table[chosen[-1]]) ** 2).sum(1))
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
    return chosen


def spread_rows(parts: Iterable[Tensor], most: int = 20_000) -> Tensor:
    """Return every n-th row of all parts ``[N F]`` or ``[N]``, between `most` and twice as many where there are enough."""
    kept: list[Tensor] = []
    every = 1
    for part in parts:
        kept.append(part[::every])
        while sum(map(len, kept)) > 2 * most:
            kept, every = [torch.cat(kept)[::2]], 2 * every
    return torch.cat(kept)
