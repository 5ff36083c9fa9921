"""Random windows: equal squares or cubes cut out of images of any size, drawn anew at each step."""

import torch
from torch import Tensor

from selfseg.sample.shared_batch import in_turn

DRAWS = 8
"""Places that are tried for one window."""


def random_windows(
    images: Tensor, valid: Tensor | None, side: int, least_valid: float = 0.0
) -> tuple[Tensor, Tensor | None]:
    """Cut one window out of each image at a random place, from torch's own generator.

    Padding at the end of an image (pixels beyond the last valid one along an axis) is not looked at. Where an image is
    shorter than `side`, the window is continued by its mirror image.

    Parameters
    ----------
    images
        ``[B C *S]``.
    valid
        ``[B *S]`` bool; None = every pixel counts.
    side
        Side of the windows in pixels, along every axis.
    least_valid
        Share of the pixels of a window that must count. Where they do not, another place is drawn, up to `DRAWS` times, and the
        window with most pixels that count is taken.

    Returns
    -------
    windows, valid
        ``[B C *side]``, and ``[B *side]`` bool, or None if every pixel counts.
    """
    everywhere = images.new_ones((len(images), *images.shape[2:]), dtype=torch.bool) if valid is None else valid
    with in_turn():
        drawn = [_drawn_best(inside, side, least_valid) for inside in everywhere]
    cut = torch.stack([_taken(image, index, 1) for image, (index, _) in zip(images, drawn, strict=True)])
    counted = torch.stack([window for _, window in drawn])
    return cut, None if bool(counted.all()) else counted


def _drawn_best(inside: Tensor, side: int, least_valid: float) -> tuple[list[Tensor], Tensor]:
    """Return the first window that has pixels enough that count, else the one that has most of them, as `_drawn` does."""
    reach = extent(inside)
    index, window = _drawn(inside, reach, side)
    for _ in range(DRAWS - 1):
        if float(window.float().mean()) >= least_valid:
            break
        other, seen = _drawn(inside, reach, side)
        if int(seen.sum()) > int(window.sum()):
            index, window = other, seen
    return index, window


def _drawn(inside: Tensor, extent: list[int], side: int) -> tuple[list[Tensor], Tensor]:
    """Return the indices along each axis of a window at a random place, and which of its pixels count."""
    index = []
    for used in extent:
        length = min(side, used)
        start = int(torch.randint(used - length + 1, ()))
        index.append(start + _mirrored(length, side, inside.device))
    return index, _taken(inside, index, 0)


def _taken(array: Tensor, index: list[Tensor], first: int) -> Tensor:
    for axis, chosen in enumerate(index, first):
        array = array.index_select(axis, chosen)
    return array


def extent(inside: Tensor) -> list[int]:
    """Return how far the valid pixels reach along each axis; the whole axis if there are none."""
    if not bool(inside.any()):
        return list(inside.shape)
    axes = range(inside.ndim)
    used = (inside.any(dim=[other for other in axes if other != axis]) if inside.ndim > 1 else inside for axis in axes)
    return [int(line.nonzero()[-1]) + 1 for line in used]


def _mirrored(length: int, wanted: int, device: torch.device) -> Tensor:
    turn = torch.arange(wanted, device=device) % (2 * length)
    return torch.where(turn < length, turn, 2 * length - 1 - turn)
