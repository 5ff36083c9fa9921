"""Reconstruction: how far a rebuilt image is from the image."""

import torch.nn.functional as F
from torch import Tensor

from selfseg.losses._valid import check_pixels, mean_over
from selfseg.sample.shared_batch import own_part


def reconstruction(rebuilt: Tensor, images: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Return the mean squared error of `rebuilt` over all values ``[B C *S]`` of the pixels that count.

    .. math:: L = \frac{1}{N C} \sum_{n c} (\hat{x}_{nc} - x_{nc})^2

    A mean, so that it neither grows with the image nor drowns what stands beside it. `valid` is ``[B *S]`` bool, None = all count; what
    `images` hold elsewhere does not matter.
    """
    check_pixels("valid", valid, images)
    if valid is None and rebuilt.device.type != "cpu" and rebuilt.numel():
        return own_part(F.mse_loss(rebuilt, images), rebuilt.numel())
    error = (rebuilt - images).square()
    return mean_over(error, None if valid is None else valid.unsqueeze(1).expand(error.shape))
