"""Scribble: pixels that the user marked should answer with the class that the user wants."""

import torch.nn.functional as F
from torch import Tensor

from selfseg.losses._valid import check_pixels, mean_over


def scribble(response: Tensor, annotations: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response against the annotations, over the pixels that have one.

    .. math:: L_{scr} = -\frac{1}{|H|} \sum_{n \in H} \log \frac{\exp r'_{n, h_n}}{\sum_i \exp r'_{n, i}}

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    annotations
        ``[B *S]`` int64: class wanted, 0..K-1; -1 = no annotation.
    valid
        ``[B *S]`` bool; a annotation on a pixel that is False does not count. None = all count.

    Returns
    -------
    Tensor
        Scalar, in nats; 0 without a annotation.

    Raises
    ------
    UsageError
        If `annotations` or `valid` has another shape than the pixels of `response`.

    References
    ----------
    Kim, Kanezaki and Tanaka, IEEE TIP 2020, equation 6.
    """
    check_pixels("annotations", annotations, response)
    check_pixels("valid", valid, response)
    annotated = annotations >= 0
    if valid is not None:
        annotated = annotated & valid
    return mean_over(F.cross_entropy(response, annotations.clamp(min=0), reduction="none"), annotated)
