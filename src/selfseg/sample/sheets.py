"""What a method works on, as pictures on the scale of the prepared image: a sheet of patches, superpixels with their boundaries."""

from collections.abc import Sequence

import torch
from torch import Tensor

GAP = 4
"""Pixels between two patches of a sheet."""


def patch_sheet(groups: Sequence[Tensor]) -> Tensor:
    """Return patches side by side, one row for each shape.

    Parameters
    ----------
    groups
        ``[n C *s]`` for each shape; of volumes the middle slice is shown.

    Returns
    -------
    Tensor
        ``[C H W]``, the largest value between the patches.
    """
    flat = [group if group.ndim == 4 else group[:, :, group.shape[2] // 2] for group in groups]
    ground = max(float(group.max()) for group in flat)
    height = sum(group.shape[2] + GAP for group in flat) - GAP
    width = max(len(group) * (group.shape[3] + GAP) for group in flat) - GAP
    sheet = flat[0].new_full((flat[0].shape[1], height, width), ground)
    top = 0
    for group in flat:
        for i, patch in enumerate(group):
            left = i * (group.shape[3] + GAP)
            sheet[:, top : top + group.shape[2], left : left + group.shape[3]] = patch
        top += group.shape[2] + GAP
    return sheet


def with_boundaries(image: Tensor, superpixels: Tensor) -> Tensor:
    """Return ``[C *S]`` with its largest value on each pixel whose next one in Y or X is of another superpixel ``[*S]``."""
    edge = torch.zeros_like(superpixels, dtype=torch.bool)
    for axis in (-2, -1):
        differs = superpixels.diff(dim=axis) != 0
        edge.narrow(axis, 0, superpixels.shape[axis] - 1).logical_or_(differs)
    return image.where(~edge, image.max())
