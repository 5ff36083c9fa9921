"""Means over the pixels that count."""

import torch
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.sample.shared_batch import own_weight


def mean_over(values: Tensor, counted: Tensor | None) -> Tensor:
    """Return the mean of `values` where `counted`, bool of their shape, is True; a differentiable 0 where nothing counts.

    None = everything counts. Of a batch that processes share, this process's part of the mean over all of it.
    """
    if counted is None:
        weight = own_weight(values.numel())
        return values.mean() * weight if values.numel() else values.sum()
    n = counted.sum()
    weight = own_weight(n)
    # `where`, not a product: a NaN in a pixel that does not count must not reach the sum.
    return values.where(counted, values.new_zeros(())).sum() / n.clamp(min=1) * weight


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
    loud = labelled.to(error.dtype) if weights is None else weights.to(error.dtype) * labelled
    # `where`, not a product: a NaN in a pixel that is not labelled must not reach the sum.
    summed, weight = (error.where(labelled, error.new_zeros(())) * loud).sum(), loud.sum()
    return summed / weight.clamp(min=torch.finfo(error.dtype).tiny) * own_weight(weight)
