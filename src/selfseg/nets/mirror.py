"""Any size for networks that halve theirs: images are mirrored up to a multiple, and results cut back."""

import torch
from torch import Tensor


def mirror_pad(images: Tensor, multiple: int) -> Tensor:
    """Return ``[B C *S]`` grown at the end of each axis to a multiple, by its mirror image; however small it is.

    The mirror lies beyond the outermost pixel, which is repeated (``c b a | a b c``); where the image is shorter than the
    padding, the mirror image is mirrored again.
    """
    for axis, size in enumerate(images.shape[2:], 2):
        wanted = -(-size // multiple) * multiple
        if wanted != size:
            turn = torch.arange(wanted, device=images.device) % (2 * size)
            images = images.index_select(axis, torch.where(turn < size, turn, 2 * size - 1 - turn))
    return images


def cut_back(images: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return the part of ``[B C *s]`` that `mirror_pad` was given: ``[B C *shape]``."""
    for axis, size in enumerate(shape, 2):
        images = images.narrow(axis, 0, size)
    return images
