"""Symmetries: a network's mean answer over an image and its mirrored and turned copies."""

from collections.abc import Callable

import torch
from torch import Tensor


def mean_over_symmetries(answer: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the mean of `answer` over the 8 symmetries of the square, each turned and mirrored back.

    Parameters
    ----------
    answer
        Takes ``[B C *S]``, gives ``[B K *s]``; sides may differ by the same number of pixels on both ends.
    images
        ``[B C *S]``. A volume is turned about its first axis.
    """
    answers = []
    for quarters in range(4):
        for flip in ([], [-1]):
            seen = torch.rot90(images.flip(flip), quarters, (-2, -1))
            answers.append(torch.rot90(answer(seen), -quarters, (-2, -1)).flip(flip))
    return torch.stack(answers).mean(0)
