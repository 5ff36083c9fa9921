"""Scribble: pixels that the user marked should answer with the class that the user wants."""

import torch.nn.functional as F
from torch import Tensor

from selfseg.losses._valid import check_pixels, mean_over


def scribble(response: Tensor, hints: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response against the hints, over the pixels that have one.

    .. math:: L_{scr} = -\frac{1}{|H|} \sum_{n \in H} \log \frac{\exp r'_{n, h_n}}{\sum_i \exp r'_{n, i}}

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    hints
        ``[B *S]`` int64: class wanted, 0..K-1; -1 = no hint.
    valid
        ``[B *S]`` bool; a hint on a pixel that is False does not count. None = all count.

    Returns
    -------
    Tensor
        Scalar, in nats; 0 without a hint.

    Raises
    ------
    UsageError
        If `hints` or `valid` has another shape than the pixels of `response`.

    References
    ----------
    Kim, Kanezaki and Tanaka, IEEE TIP 2020, equation 6.
    """
    check_pixels("hints", hints, response)
    check_pixels("valid", valid, response)
    hinted = hints >= 0
    if valid is not None:
        hinted = hinted & valid
    return mean_over(F.cross_entropy(response, hints.clamp(min=0), reduction="none"), hinted)
