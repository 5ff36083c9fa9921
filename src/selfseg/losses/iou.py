"""Intersection over union of hard answers: no loss, since it has no gradient, but what weights are chosen by."""

import torch
from torch import Tensor


def count_pairs(answers: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Return how many labelled pixels of each class got each answer, ``[K K]`` int64: rows are labels, columns answers.

    Parameters
    ----------
    answers
        ``[B *S]`` int64, 0..K-1.
    labels
        ``[B *S]`` int64, 0..K-1; -1 = not labelled.
    n_classes
        K.
    """
    labelled = labels >= 0
    pairs = labels[labelled] * n_classes + answers[labelled]
    return torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def mean_iou(pairs: Tensor) -> Tensor:
    r"""Return the mean intersection over union of the classes that have a label.

    .. math:: \frac{1}{|C|} \sum_{c \in C} \frac{n_{cc}}{\sum_k n_{ck} + \sum_k n_{kc} - n_{cc}}

    Parameters
    ----------
    pairs
        ``[K K]`` from `count_pairs`, which may be summed over images, and its rows weighed.
    """
    right, labelled = pairs.diagonal(), pairs.sum(1)
    either = pairs.sum(0) + labelled - right
    return (right / either.clamp(min=1e-12))[labelled > 0].mean()
