"""Area: no cluster should cover too much, none that is alive too little, and all should not collapse into few."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.core.errors import UsageError
from selfseg.losses._valid import check_pixels
from selfseg.sample.shared_batch import total, total_mean


def soft_areas(probabilities: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the share of the valid pixels that each cluster holds, softly: ``a_k = mean_n q_nk``, ``[K]``.

    `probabilities` are q ``[B K *S]``, summing to 1 over K; `valid` is ``[B *S]`` bool, None = all count.

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import soft_areas
    >>> probabilities = torch.tensor([[[0.9, 0.8, 0.1], [0.9, 0.7, 0.2]]]).unsqueeze(0)
    >>> probabilities = torch.cat([probabilities, 1 - probabilities], 1)
    >>> soft_areas(probabilities)
    tensor([0.6000, 0.4000])
    """
    check_pixels("valid", valid, probabilities)
    rows = probabilities.movedim(1, -1).reshape(-1, probabilities.shape[1])  # [N K]
    if valid is None:
        return total_mean(rows.mean(dim=0), len(rows))
    counted = valid.reshape(-1, 1)
    n = counted.sum()
    return total_mean(rows.where(counted, 0.0).sum(dim=0) / n.clamp(min=1), n)


def area_too_large(probabilities: Tensor, maximum: float, valid: Tensor | None = None) -> Tensor:
    r"""Return how far soft areas exceed `maximum`, a share of the valid pixels; tensors as for `soft_areas`.

    .. math:: L_M = \sum_k \max(a_k - a_{max}, 0)^2 / a_{max}^2, \qquad a_k = \frac{1}{N} \sum_n q_{nk}

    The original (`max_k A_k / (n H W)` over argmax counts) has no gradient. This form has one, through q.

    Raises
    ------
    UsageError
        If `maximum` is not in (0, 1].

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import area_too_large
    >>> probabilities = torch.tensor([[[0.9, 0.8, 0.1], [0.9, 0.7, 0.2]]]).unsqueeze(0)
    >>> probabilities = torch.cat([probabilities, 1 - probabilities], 1)
    >>> area_too_large(probabilities, maximum=0.5)
    tensor(0.0400)
    """
    _check_share("maximum", maximum)
    return (F.relu(soft_areas(probabilities, valid) - maximum) / maximum).square().sum()


def area_too_small(probabilities: Tensor, minimum: float, valid: Tensor | None = None, grow: bool = True) -> Tensor:
    r"""Return how far the soft areas of live clusters fall short of `minimum`, a share of the valid pixels; tensors as for `soft_areas`.

    .. math:: L_m = \pm \sum_k g_k \max(a_{min} - a_k, 0)^2 / a_{min}^2,
              \qquad g_k = [\text{some pixel has } \arg\max_i q_{ni} = k]

    With `grow`, small live clusters are drawn larger; otherwise the sign is negative, and they are driven out.

    Raises
    ------
    UsageError
        If `minimum` is not in (0, 1].

    Examples
    --------
    >>> import torch
    >>> from selfseg.losses import area_too_small
    >>> probabilities = torch.tensor([[[0.9, 0.8, 0.1], [0.9, 0.7, 0.2]]]).unsqueeze(0)
    >>> probabilities = torch.cat([probabilities, 1 - probabilities], 1)
    >>> area_too_small(probabilities, minimum=0.45)
    tensor(0.0123)
    """
    _check_share("minimum", minimum)
    winners = probabilities.detach().argmax(dim=1)  # [B *S]
    if valid is not None:
        winners = winners[valid]
    live = total(torch.bincount(winners.reshape(-1), minlength=probabilities.shape[1])) > 0  # [K]
    shortfall = F.relu(minimum - soft_areas(probabilities, valid)) / minimum
    penalty = (shortfall.square() * live).sum()
    return penalty if grow else -penalty


def imbalance(probabilities: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Return the share of the greatest entropy that the mean assignment lacks: 0 for equal shares, 1 for one cluster alone.

    .. math:: L = 1 + \frac{1}{\log K} \sum_k a_k \log a_k, \qquad a_k = \frac{1}{N} \sum_n q_{nk}

    The mean is over the whole batch; tensors as for `soft_areas`. The marginal entropy of Krause, Perona & Gomes, "Discriminative
    Clustering by Regularized Information Maximization", NIPS 2010, eq. 2.
    """
    shares = soft_areas(probabilities, valid)
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
    return 1 - entropy / math.log(max(2, len(shares)))


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise UsageError(
            name, expected="a share of the pixels, above 0 and at most 1", got=f"{value}", fix="give 0.6, say"
        )
