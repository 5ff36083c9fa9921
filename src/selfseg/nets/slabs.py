"""A network run slab by slab, so that the maps of a whole volume need not be in memory at once."""

from collections.abc import Callable

import torch
from torch import Tensor

MOST_PIXELS = 1 << 21
"""Pixels of a slab without its halo."""


def in_slabs(
    net: Callable[[Tensor], Tensor], images: Tensor, halo: int, multiple: int, most_pixels: int = MOST_PIXELS
) -> Tensor:
    """Return what `net` gives for the whole images ``[B C *S]``, computed in slabs along their first spatial axis.

    Parameters
    ----------
    net
        Keeps the spatial size, and treats pixels alike wherever they are but for steps of `multiple`.
    images
        ``[B C *S]``.
    halo
        Pixels that an output depends on, on each side.
    multiple
        Slabs begin at multiples of this, where a network that halves its size has its grid.
    most_pixels
        Largest slab, without its halo.
    """
    length = images.shape[2]
    step = max(1, most_pixels // max(1, images[0, 0, 0].numel()) // multiple) * multiple
    if step >= length:
        return net(images)
    halo = -(-halo // multiple) * multiple
    parts = []
    for start in range(0, length, step):
        stop, first = min(length, start + step), max(0, start - halo)
        part = net(images[:, :, first : min(length, stop + halo)])
        parts.append(part[:, :, start - first : stop - first])
    return torch.cat(parts, dim=2)
