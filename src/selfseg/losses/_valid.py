"""Means over the pixels that count."""

from torch import Tensor

from selfseg.core.errors import UsageError, explain


def mean_over(values: Tensor, counted: Tensor | None) -> Tensor:
    """Return the mean of `values` where `counted` is True; a differentiable 0 where nothing counts.

    Parameters
    ----------
    values
        Any shape.
    counted
        bool, same shape; None = everything counts.
    """
    if values.numel() == 0:
        return values.sum()
    if counted is None:
        return values.mean()
    # `where`, not a product: a NaN in a pixel that does not count must not reach the sum.
    return values.where(counted, values.new_zeros(())).sum() / counted.sum().clamp(min=1)


def check_pixels(what: str, mask: Tensor | None, response: Tensor) -> None:
    """Raise `UsageError` unless `mask` is None or ``[B *S]``, one value for each pixel of `response` ``[B K *S]``."""
    wanted = (response.shape[0], *response.shape[2:])
    if mask is not None and tuple(mask.shape) != wanted:
        fix = "give one value for each pixel of the response"
        raise UsageError(explain(what, expected=f"shape {wanted}", got=f"{tuple(mask.shape)}", fix=fix))
