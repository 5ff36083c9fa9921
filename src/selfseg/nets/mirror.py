"""Any size for networks that halve theirs: images are mirrored outwards, and results cut back."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mirror_pad(images: Tensor, multiple: int) -> Tensor:
    """Return ``[B C *S]`` grown at the end of each axis to a multiple, by its mirror image; however small it is.

    The mirror lies beyond the outermost pixel, which is repeated (``c b a | a b c``); where the image is shorter than the
    padding, the mirror image is mirrored again.
    """
    return mirror_frame(images, 0, [-size % multiple for size in images.shape[2:]])


def mirror_frame(images: Tensor, before: int, after: Sequence[int]) -> Tensor:
    """Return ``[B C *S]`` grown by `before` pixels at the start of every axis and `after` at the end of each, mirrored.

    As in `mirror_pad`, the outermost pixel is repeated, and the mirror image is mirrored again where that is not enough.
    """
    for axis, (size, more) in enumerate(zip(images.shape[2:], after, strict=True), 2):
        if before or more:
            turn = torch.arange(-before, size + more, device=images.device) % (2 * size)
            images = images.index_select(axis, torch.where(turn < size, turn, 2 * size - 1 - turn))
    return images


def cut_back(images: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return the part of ``[B C *s]`` that `mirror_pad` was given: ``[B C *shape]``."""
    for axis, size in enumerate(shape, 2):
        images = images.narrow(axis, 0, size)
    return images


def cut_middle(images: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return the middle of ``[B C *s]``: ``[B C *shape]``."""
    for axis, size in enumerate(shape, 2):
        if images.shape[axis] != size:
            images = images.narrow(axis, (images.shape[axis] - size) // 2, size)
    return images
