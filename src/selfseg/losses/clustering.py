"""The terms of feature clustering together: similarity, continuity and the labels, for one response."""

import torch
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.losses.continuity import continuity
from selfseg.losses.fused_clustering import fused_terms, fused_terms_pay
from selfseg.losses.similarity import similarity
from selfseg.sample.shared_batch import own_weight


def clustering_terms(
    response: Tensor, valid: Tensor | None = None, live: Tensor | None = None
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return similarity, continuity along each axis, and the labels of the response.

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    valid
        ``[B *S]`` bool, False = the pixel does not count; None = all count.
    live
        ``[K]`` bool: clusters that a pixel may be labelled with, at least one; None = all. The others stay in the
        softmax, so that the similarity pushes them down.

    Returns
    -------
    similarity
        Scalar: `losses.similarity` of the response against `labels`.
    continuity
        One scalar for each spatial axis: `losses.continuity`.
    labels
        ``[B *S]`` int64: argmax of the response over the live clusters, the first where several are largest; also where
        `valid` is False, though such a label means nothing.

    Raises
    ------
    UsageError
        If `valid` or `live` has the wrong shape, or no cluster is live.
    """
    check_live(live, response)
    if valid is None and live is None and fused_terms_pay(response):
        similar, differences, labels = fused_terms(response)
        weight = own_weight(len(response))
        return similar * weight, tuple(difference * weight for difference in differences), labels
    scores = response.detach()
    if live is not None:
        column = live.reshape(1, -1, *(1,) * (response.ndim - 2))
        scores = scores.masked_fill(~column, -torch.inf)
    labels = scores.argmax(dim=1)
    return similarity(response, labels, valid), continuity(response, valid), labels


def check_live(live: Tensor | None, response: Tensor) -> None:
    """Raise `UsageError` unless `live` is None or one bool for each cluster of `response`, at least one True."""
    if live is None:
        return
    wanted = (response.shape[1],)
    if tuple(live.shape) != wanted:
        raise UsageError(
            "live", expected=f"shape {wanted}", got=f"{tuple(live.shape)}", fix="give one bool for each cluster"
        )
    if not bool(live.any()):
        raise UsageError("live", expected="at least one live cluster", got="none", fix="leave one cluster alive")
