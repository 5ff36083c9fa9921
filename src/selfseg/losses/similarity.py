"""Similarity: every pixel should be sure of the cluster that it already prefers."""

import torch.nn.functional as F
from torch import Tensor

from selfseg.losses._valid import check_pixels, mean_over


def similarity(response: Tensor, target: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response against the pixel's own cluster.

    .. math:: L_{sim} = -\frac{1}{N} \sum_n \log \frac{\exp r'_{n, c_n}}{\sum_i \exp r'_{n, i}},
              \qquad c_n = \arg\max_i r'_{n, i}

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    target
        Cluster c of each pixel ``[B *S]`` int64, 0..K-1; None = the argmax of the response, the first where several are
        largest. No gradient flows through it.
    valid
        ``[B *S]`` bool, False = the pixel does not count; None = all count.

    Returns
    -------
    Tensor
        Scalar, in nats; 0 without a valid pixel.

    Raises
    ------
    UsageError
        If `target` or `valid` has another shape than the pixels of `response`.

    References
    ----------
    Kim, Kanezaki and Tanaka, "Unsupervised learning of image segmentation based on differentiable feature clustering",
    IEEE TIP 2020, equations 2 and 3.
    """
    check_pixels("target", target, response)
    check_pixels("valid", valid, response)
    if target is None:
        target = response.detach().argmax(dim=1)
    return mean_over(F.cross_entropy(response, target, reduction="none"), valid)
