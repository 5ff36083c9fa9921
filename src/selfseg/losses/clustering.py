"""The terms of differentiable feature clustering: every pixel sure of its cluster, or of its superpixel's, and like its neighbours."""

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.kernels.layout import runs_on_channels_last
from selfseg.losses._valid import check_pixels, mean_over
from selfseg.losses.continuity import continuity
from selfseg.sample.shared_batch import own_weight

MIN_FUSED_PIXELS = 1024
"""Smallest image for which both terms in one pass over the response are faster."""


def similarity(response: Tensor, target: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response against the pixel's own cluster: a scalar, in nats.

    .. math:: L_{sim} = -\frac{1}{N} \sum_n \log \frac{\exp r'_{n, c_n}}{\sum_i \exp r'_{n, i}},
              \qquad c_n = \arg\max_i r'_{n, i}

    It is 0 without a valid pixel. On a CPU in float32 it has a first derivative only.

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    target
        Cluster c of each pixel ``[B *S]`` int64, 0..K-1, for example that of its superpixel (Leng et al., VISAPP 2024); None = the
        argmax of the response, the first where several are largest. No gradient flows through it.
    valid
        ``[B *S]`` bool, False = the pixel does not count; None = all count.

    Raises
    ------
    UsageError
        If `target` or `valid` has another shape than the pixels of `response`.

    References
    ----------
    Kim, Kanezaki and Tanaka, "Unsupervised learning of image segmentation based on differentiable feature clustering",
    IEEE TIP 2020, equations 2 and 3.
    """
    check_pixels("target", target, response)
    check_pixels("valid", valid, response)
    if target is None:
        target = response.detach().argmax(dim=1)
    if response.device.type != "cpu" or response.dtype != torch.float32 or not response.numel():
        if valid is not None:
            target = target.where(valid, target.new_zeros(()))  # what does not count may have no class at all
        return mean_over(F.cross_entropy(response, target, reduction="none"), valid)
    from selfseg.kernels.cross_entropy import cross_entropy

    counted = target if valid is None else target.where(valid, target.new_full((), -1))
    n_counted = target.numel() if valid is None else int(valid.sum())
    return cross_entropy(response, counted) / max(1, n_counted) * own_weight(n_counted)


def clustering_terms(
    response: Tensor, valid: Tensor | None = None, live: Tensor | None = None
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return `similarity`, `continuity` along each axis, and the labels of the response; `response` and `valid` as for these.

    Labels ``[B *S]`` int64 are the argmax of the response over the `live` clusters (``[K]`` bool, at least one; None = all), the first where
    several are largest; also where `valid` is False, though such a label means nothing. The other clusters stay in the softmax, so that
    the similarity pushes them down.

    Raises
    ------
    UsageError
        If `valid` or `live` has the wrong shape, or no cluster is live.
    """
    _check_live(live, response)
    whole = valid is None and live is None and min(response.shape[2:]) >= 2
    if not whole or not runs_on_channels_last(response, MIN_FUSED_PIXELS):
        scores = response.detach()
        if live is not None:
            scores = scores.masked_fill(~live.reshape(1, -1, *(1,) * (response.ndim - 2)), -torch.inf)
        labels = scores.argmax(dim=1)
        return similarity(response, labels, valid), continuity(response, valid), labels
    from selfseg.kernels.cross_entropy import similarity_and_continuity

    similar, differences, labels = similarity_and_continuity(response)
    weight = own_weight(len(response))
    return similar * weight, tuple(difference * weight for difference in differences), labels


def _check_live(live: Tensor | None, response: Tensor) -> None:
    """Raise `UsageError` unless `live` is None or one bool for each cluster of `response`, at least one True."""
    if live is None:
        return
    wanted = (response.shape[1],)
    if tuple(live.shape) != wanted:
        got, fix = f"{tuple(live.shape)}", "give one bool for each cluster"
        raise UsageError("live", expected=f"shape {wanted}", got=got, fix=fix)
    if not bool(live.any()):
        raise UsageError("live", expected="at least one live cluster", got="none", fix="leave one cluster alive")
