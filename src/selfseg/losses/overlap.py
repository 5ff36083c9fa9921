"""Overlap of answers and labels: soft Dice as a loss, and intersection over union, by which weights are chosen."""

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.losses._valid import check_pixels
from selfseg.sample.shared_batch import total


def soft_dice(probabilities: Tensor, labels: Tensor, smooth: float = 1.0) -> Tensor:
    r"""Return one minus the mean soft Dice coefficient, over the classes that have a label in the batch: 0-1; 0 without a label.

    .. math:: L = 1 - \frac{1}{|C|} \sum_{c \in C} \frac{2 \sum_x p_c(x) t_c(x) + s}{\sum_x p_c(x)^2 + \sum_x t_c(x)^2 + s}

    Sums run over the labelled pixels of all images. `probabilities` are p ``[B K *S]``, summing to 1 over K; `labels` ``[B *S]`` int64 are
    0..K-1, -1 = not labelled; s is `smooth`, in pixels: it keeps the gradient of a class of a few pixels finite. Milletari, Navab and
    Ahmadi, V-Net, 3DV 2016, section 3 (with squares in the denominator).

    Raises
    ------
    UsageError
        If `labels` has another shape than the pixels of `probabilities`.
    """
    check_pixels("labels", labels, probabilities)
    labelled = (labels >= 0)[:, None]
    wanted = F.one_hot(labels.clamp(min=0), probabilities.shape[1]).movedim(-1, 1).to(probabilities.dtype) * labelled
    found = probabilities.where(labelled, probabilities.new_zeros(()))
    axes = (0, *range(2, probabilities.ndim))
    sums = total(torch.stack([(found * wanted).sum(axes), wanted.sum(axes), found.square().sum(axes)]))
    both, area, square = sums
    dice = (2 * both + smooth) / (square + area + smooth)
    present = area > 0
    loss: Tensor = (1 - dice).where(present, dice.new_zeros(())).sum() / present.sum().clamp(min=1)
    return loss


def count_pairs(answers: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Return how many labelled pixels of each class got each answer, ``[K K]`` int64: rows are labels, columns answers.

    `answers` and `labels` are ``[B *S]`` int64, 0..K-1, and -1 = not labelled.
    """
    labelled = labels >= 0
    pairs = labels[labelled] * n_classes + answers[labelled]
    return torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def mean_iou(pairs: Tensor) -> Tensor:
    r"""Return the mean intersection over union of the classes that have a label.

    .. math:: \frac{1}{|C|} \sum_{c \in C} \frac{n_{cc}}{\sum_k n_{ck} + \sum_k n_{kc} - n_{cc}}

    `pairs` are ``[K K]`` from `count_pairs`, which may be summed over images, and its rows weighed.
    """
    right, labelled = pairs.diagonal(), pairs.sum(1)
    either = pairs.sum(0) + labelled - right
    return (right / either.clamp(min=1e-12))[labelled > 0].mean()
