"""Means over the pixels that count."""

from torch import Tensor

from selfseg.core.errors import UsageError, explain
from selfseg.sample.shared_batch import own_weight


def mean_over(values: Tensor, counted: Tensor | None) -> Tensor:
    """Return the mean of `values` where `counted` is True; a differentiable 0 where nothing counts.

    Of a batch that processes share, this process's part of the mean over all of it.

    Parameters
    ----------
    values
        Any shape.
    counted
        bool, same shape; None = everything counts.
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
        fix = "give one value for each pixel of the response"
        raise UsageError(explain(what, expected=f"shape {wanted}", got=f"{tuple(mask.shape)}", fix=fix))
