"""Weighted cross entropy: labelled pixels should answer with their class, some of them louder than others."""

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.losses._valid import check_pixels
from selfseg.sample.shared_batch import own_weight


def weighted_cross_entropy(response: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response, a weighted mean over the labelled pixels.

    .. math:: L = -\frac{\sum_x w(x) \log p_{l(x)}(x)}{\sum_x w(x)}

    The paper sums; the mean keeps the step size from growing with the image and with the weights.

    Parameters
    ----------
    response
        ``[B K *S]``, before the softmax.
    labels
        ``[B *S]`` int64, 0..K-1; -1 = not labelled.
    weights
        ``[B *S]``, not negative; None = all 1.

    Returns
    -------
    Tensor
        Scalar, in nats; 0 without a labelled pixel.

    Raises
    ------
    UsageError
        If `labels` or `weights` has another shape than the pixels of `response`.

    References
    ----------
    Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, equation 1.
    """
    check_pixels("labels", labels, response)
    check_pixels("weights", weights, response)
    labelled = labels >= 0
    loud = labelled.to(response.dtype) if weights is None else weights.to(response.dtype) * labelled
    error = F.cross_entropy(response, labels.clamp(min=0), reduction="none")
    # `where`, not a product: a NaN in a pixel that is not labelled must not reach the sum.
    summed, weight = (error.where(labelled, error.new_zeros(())) * loud).sum(), loud.sum()
    return summed / weight.clamp(min=torch.finfo(response.dtype).tiny) * own_weight(weight)


def class_weights(pixels: Tensor, power: float = 1.0) -> Tensor:
    r"""Return a weight for each class that makes up for its frequency, with a mean of 1 over the labelled pixels.

    .. math:: w_c \propto n_c^{-a}, \qquad \sum_c n_c w_c = \sum_c n_c

    Parameters
    ----------
    pixels
        ``[K]`` labelled pixels n of each class.
    power
        The exponent a: 0 = no balance, 1 = every class counts the same in all.

    Returns
    -------
    Tensor
        ``[K]`` float32; 1 for a class without a pixel.
    """
    counts = pixels.float()
    found = counts > 0
    raw = torch.where(found, counts.clamp(min=1).pow(-power), torch.zeros_like(counts))
    scale = counts.sum() / (counts * raw).sum().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(found, raw * scale, torch.ones_like(raw))
