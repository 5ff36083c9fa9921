"""Binary cross entropy: for each class, yes or no at every labelled pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.losses._valid import check_pixels
from selfseg.sample.shared_batch import own_weight


def binary_cross_entropy(response: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the binary cross entropy of the class probabilities, a mean over classes and a weighted mean over pixels.

    .. math:: L = -\frac{1}{K \sum_x w(x)} \sum_x w(x) \sum_k t_k(x) \log p_k(x) + (1 - t_k(x)) \log(1 - p_k(x))

    with p the softmax of the response and t 1 for the pixel's class, else 0. With two classes this is the cross entropy, and
    that of a single logit, the difference of both responses.

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
    """
    check_pixels("labels", labels, response)
    check_pixels("weights", weights, response)
    labelled = labels >= 0
    loud = labelled.to(response.dtype) if weights is None else weights.to(response.dtype) * labelled
    log_yes = response.log_softmax(1)
    tiny = torch.finfo(response.dtype).eps
    log_no = (-torch.expm1(log_yes.clamp(max=-tiny))).log()  # 1 - p, without cancellation
    wanted = F.one_hot(labels.clamp(min=0), response.shape[1]).movedim(-1, 1).bool()
    error = -torch.where(wanted, log_yes, log_no).mean(1)  # [B *S]
    summed, weight = (error.where(labelled, error.new_zeros(())) * loud).sum(), loud.sum()
    return summed / weight.clamp(min=torch.finfo(response.dtype).tiny) * own_weight(weight)
