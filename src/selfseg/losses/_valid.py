"""Means over the pixels that count."""

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.sample.shared_batch import own_part


def mean_over(values: Tensor, counted: Tensor | None) -> Tensor:
    """Return the mean of `values` where `counted`, bool of their shape, is True; a differentiable 0 where nothing counts.

    None = everything counts. Of a batch that processes share, this process's part of the mean over all of it.
    """
    if counted is None:
        return own_part(values.mean() if values.numel() else values.sum(), values.numel())
    n = counted.sum()
    # `where`, not a product: a NaN in a pixel that does not count must not reach the sum.
    return own_part(values.where(counted, 0.0).sum() / n.clamp(min=1), n)


def cross_entropies(response: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy of the softmax of ``response [B K *S]`` against the class of each pixel, both ``[B *S]``, in nats.

    On a GPU torch adds that of images up in any order; where a fixed order is required, the pixels are looked up instead.
    """
    if torch.are_deterministic_algorithms_enabled() and response.device.type != "cpu":
        return -response.log_softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)
    return F.cross_entropy(response, target, reduction="none")


def weighted(weight: float, term: Tensor) -> Tensor:
    """Return a loss term times its weight: itself where that is 1.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import weighted
    >>> weighted(0.5, torch.tensor(3.0))
    tensor(1.5000)
    """
    return term if weight == 1 else weight * term


def count_labels(labels: Tensor, n_labels: int, counted: Tensor | None = None, into: Tensor | None = None) -> Tensor:
    """Return the pixels of each label ``[n_labels]`` int64: of `labels`, int64 in 0..n_labels-1, where `counted`, of their shape, is True.

    Without waiting for a device, and in whole numbers, so that the order in which they are added up does not matter. They are added to
    `into`, if it is given.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import count_labels
    >>> count_labels(torch.tensor([[0, 2, 2]]), 4)
    tensor([1, 0, 2, 0])
    """
    flat, zeros = labels.reshape(-1), labels.new_zeros(n_labels) if into is None else into
    if counted is None:
        return zeros.scatter_(0, flat, 1, reduce="add")
    return zeros.scatter_add_(0, flat.clamp(min=0), counted.reshape(-1).to(flat.dtype))


def check_pixels(what: str, mask: Tensor | None, response: Tensor) -> None:
    """Raise `UsageError` unless `mask` is None or ``[B *S]``, one value for each pixel of `response` ``[B K *S]``."""
    wanted = (response.shape[0], *response.shape[2:])
    if mask is not None and tuple(mask.shape) != wanted:
        raise UsageError(
            what,
            expected=f"shape {wanted}",
            got=f"{tuple(mask.shape)}",
            fix="give one value for each pixel of the response",
        )


def check_labels(labels: Tensor, weights: Tensor | None, response: Tensor) -> None:
    """Raise `UsageError` unless labels and weights have the pixels of ``response [B K *S]``."""
    check_pixels("labels", labels, response)
    check_pixels("weights", weights, response)


def labelled_mean(error: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted mean of ``error [B *S]`` over the pixels with a label, -1 = none; 0 without one.

    Of a batch that processes share, this process's part of the mean over all of it.
    """
    labelled = labels >= 0
    # `where`, not a product: a NaN in a pixel that is not labelled must not reach the sum.
    counted = error.where(labelled, 0.0)
    if weights is None:
        summed, weight = counted.sum(), labelled.sum(dtype=error.dtype)
    else:
        loud = weights.to(error.dtype) * labelled
        summed, weight = (counted * loud).sum(), loud.sum()
    return own_part(summed / weight.clamp(min=torch.finfo(error.dtype).tiny), weight)
