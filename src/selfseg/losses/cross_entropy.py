"""Cross entropies: labelled pixels should answer with their class, some of them louder than others."""

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.losses._valid import check_labels, check_pixels, labelled_mean, mean_over


def weighted_cross_entropy(response: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response, a weighted mean over the labelled pixels, in nats; 0 without one.

    .. math:: L = -\frac{\sum_x w(x) \log p_{l(x)}(x)}{\sum_x w(x)}

    `response` is ``[B K *S]``, before the softmax; `labels` ``[B *S]`` int64 are 0..K-1, -1 = not labelled; `weights` ``[B *S]`` are not
    negative, None = all 1. Ronneberger, Fischer and Brox, U-Net, MICCAI 2015, equation 1, which sums; the mean keeps the step size from
    growing with the image and with the weights.

    Raises
    ------
    UsageError
        If `labels` or `weights` has another shape than the pixels of `response`.
    """
    check_labels(labels, weights, response)
    return labelled_mean(F.cross_entropy(response, labels.clamp(min=0), reduction="none"), labels, weights)


def class_weights(pixels: Tensor, power: float = 1.0) -> Tensor:
    r"""Return a weight for each class that makes up for its frequency, ``[K]`` float32, with a mean of 1 over the labelled pixels.

    .. math:: w_c \propto n_c^{-a}, \qquad \sum_c n_c w_c = \sum_c n_c

    `pixels` ``[K]`` are the labelled pixels n of each class; a class without one weighs 1. The exponent a is `power`: 0 = no balance,
    1 = every class counts the same in all.
    """
    counts = pixels.float()
    found = counts > 0
    raw = torch.where(found, counts.clamp(min=1).pow(-power), torch.zeros_like(counts))
    scale = counts.sum() / (counts * raw).sum().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(found, raw * scale, torch.ones_like(raw))


def binary_cross_entropy(response: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Return the binary cross entropy of the class probabilities, a mean over classes and a weighted mean over pixels.

    .. math:: L = -\frac{1}{K \sum_x w(x)} \sum_x w(x) \sum_k t_k(x) \log p_k(x) + (1 - t_k(x)) \log(1 - p_k(x))

    with p the softmax of the response and t 1 for the pixel's class, else 0. With two classes this is the cross entropy, and that of a
    single logit, the difference of both responses. Arguments, unit and errors as for `weighted_cross_entropy`.
    """
    check_labels(labels, weights, response)
    log_yes = response.log_softmax(1)
    tiny = torch.finfo(response.dtype).eps
    log_no = (-torch.expm1(log_yes.clamp(max=-tiny))).log()  # 1 - p, without cancellation
    wanted = F.one_hot(labels.clamp(min=0), response.shape[1]).movedim(-1, 1).bool()
    return labelled_mean(-torch.where(wanted, log_yes, log_no).mean(1), labels, weights)


def scribble(response: Tensor, annotations: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response against the annotations, over the pixels that have one, in nats.

    .. math:: L_{scr} = -\frac{1}{|H|} \sum_{n \in H} \log \frac{\exp r'_{n, h_n}}{\sum_i \exp r'_{n, i}}

    It is 0 without an annotation. Kim, Kanezaki and Tanaka, IEEE TIP 2020, equation 6.

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    annotations
        ``[B *S]`` int64: class wanted, 0..K-1; -1 = no annotation.
    valid
        ``[B *S]`` bool; an annotation on a pixel that is False does not count. None = all count.

    Raises
    ------
    UsageError
        If `annotations` or `valid` has another shape than the pixels of `response`.
    """
    check_pixels("annotations", annotations, response)
    check_pixels("valid", valid, response)
    annotated = annotations >= 0
    if valid is not None:
        annotated = annotated & valid
    return mean_over(F.cross_entropy(response, annotations.clamp(min=0), reduction="none"), annotated)
