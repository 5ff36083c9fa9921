"""Continuity: neighbouring pixels should answer alike."""

from torch import Tensor

from selfseg.losses._valid import check_pixels, mean_over


def continuity(response: Tensor, valid: Tensor | None = None) -> tuple[Tensor, ...]:
    r"""Return, for each spatial axis, the mean absolute difference between neighbours along that axis.

    .. math:: L_{con, y} = \frac{1}{K (Y - 1) X} \sum_{k, y, x} |r'_{k, y+1, x} - r'_{k, y, x}|, \quad \text{and so on}

    The sum over the axes is the continuity loss of the paper, up to the constant by which its sum becomes a mean.

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    valid
        ``[B *S]`` bool; a pair with a pixel that is False does not count. None = all count.

    Returns
    -------
    tuple of Tensor
        One scalar for each spatial axis, in their order (Y, X) or (Z, Y, X); 0 where an axis has no pair.

    Raises
    ------
    UsageError
        If `valid` has another shape than the pixels of `response`.

    References
    ----------
    Kim, Kanezaki and Tanaka, IEEE TIP 2020, equation 4.
    """
    check_pixels("valid", valid, response)
    terms = []
    for axis in range(2, response.ndim):
        length = response.shape[axis] - 1
        near, far = response.narrow(axis, 0, max(length, 0)), response.narrow(axis, min(1, length + 1), max(length, 0))
        pairs = None
        if valid is not None:
            both = valid.narrow(axis - 1, 0, max(length, 0)) & valid.narrow(
                axis - 1, min(1, length + 1), max(length, 0)
            )
            pairs = both.unsqueeze(1).expand(near.shape)
        terms.append(mean_over((far - near).abs(), pairs))
    return tuple(terms)
