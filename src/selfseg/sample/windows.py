"""Random windows: equal squares or cubes cut out of images of any size, drawn anew at each step."""

import torch
from torch import Tensor


def random_windows(images: Tensor, valid: Tensor | None, side: int) -> tuple[Tensor, Tensor | None]:
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

    Returns
    -------
    windows, valid
        ``[B C *side]``, and ``[B *side]`` bool, or None if every pixel counts.
    """
    cut, counted = [], []
    for b, image in enumerate(images):
        inside = image.new_ones(image.shape[1:], dtype=torch.bool) if valid is None else valid[b]
        index: list[Tensor] = []
        for axis, used in enumerate(extent(inside)):
            length = min(side, used)
            start = int(torch.randint(used - length + 1, ()))
            index.append(start + _mirrored(length, side, image.device))
            image = image.index_select(axis + 1, index[-1])
            inside = inside.index_select(axis, index[-1])
        cut.append(image)
        counted.append(inside)
    together = torch.stack(counted)
    return torch.stack(cut), None if bool(together.all()) else together


def extent(inside: Tensor) -> list[int]:
    """Return how far the valid pixels reach along each axis; the whole axis if there are none."""
    if not bool(inside.any()):
        return list(inside.shape)
    return [int(places.max()) + 1 for places in inside.nonzero().T]


def _mirrored(length: int, wanted: int, device: torch.device) -> Tensor:
    turn = torch.arange(wanted, device=device) % (2 * length)
    return torch.where(turn < length, turn, 2 * length - 1 - turn)
