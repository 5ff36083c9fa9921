"""The terms of deep k-means: distance to the nearest centre, soft assignment by Student's t, and its sharpened target."""

import torch
from torch import Tensor

from selfseg.kernels.layout import softmax
from selfseg.losses._valid import check_pixels, mean_over


def centre_distances(features: Tensor, centres: Tensor) -> Tensor:
    """Return the mean squared difference ``[B K *S]`` of features ``[B F *S]`` from each of the centres ``[K F]``."""
    shape = (1, -1, *(1,) * (features.ndim - 2))
    return torch.stack([(features - centre.reshape(shape)).square().mean(1) for centre in centres], dim=1)


def nearest_distance(
    features: Tensor, centres: Tensor, labels: Tensor, counted: Tensor | None = None, by_size: bool = False
) -> Tensor:
    r"""Return the mean squared distance of pixels to their centres (Yang et al. 2017, eq. 5, second term).

    .. math:: L = \frac{1}{N F} \sum_i w_i |z_i - c_{s_i}|^2

    `features` are z ``[B F *S]``, `centres` c ``[K F]``, which get no gradient, `labels` ``[B *S]`` int64 the nearest centre of each pixel.
    The weights w are `counted` ``[B *S]``, 0 where a pixel must not count, divided by their sum; None = 1 everywhere. With `by_size` the
    sum of each cluster is divided by its own weight, so that small clusters count as much as large ones.
    """
    own = centres.detach()[labels].movedim(-1, 1)  # [B F *S]
    weights = torch.ones_like(own[:, 0]) if counted is None else counted.to(own.dtype)
    if by_size:
        sizes = weights.new_zeros(len(centres)).index_add_(0, labels.reshape(-1), weights.reshape(-1))
        weights = weights / sizes.clamp(min=1e-12)[labels]
    # `where` before the square: a NaN in a pixel that does not count must reach neither the sum nor its gradient.
    apart = (features - own).where(weights.unsqueeze(1) > 0, 0.0).square().mean(1)
    return (weights * apart).sum() / weights.sum().clamp(min=1e-12)


def student_t(distances: Tensor, spread: Tensor | float = 1.0, freedom: float = 1.0) -> Tensor:
    r"""Return soft assignments by Student's t (van der Maaten & Hinton 2008; Xie et al. 2016, eq. 1): ``[B K *S]``, summing to 1 over K.

    .. math:: q_k \propto (1 + d_k^2 / (\alpha s^2))^{-(\alpha + 1) / 2}

    `distances` are d^2 ``[B K *S]``; `spread` is s^2, the squared distance that counts as one (1 in the papers), `freedom` the papers'
    alpha. The nearest centre has the largest share.
    """
    logits = -(freedom + 1) / 2 * torch.log1p(distances / (freedom * spread))
    return softmax(logits)


def sharpened_divergence(assignments: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Return the divergence of soft assignments from their own sharpened version (Xie et al. 2016, eq. 2 and 3).

    .. math:: p_{ik} \propto q_{ik}^2 / \sum_i q_{ik}, \quad L = \frac{1}{N} \sum_i \sum_k p_{ik} \log (p_{ik} / q_{ik})

    `assignments` are q ``[B K *S]``; the target p gets no gradient. `valid` is ``[B *S]`` bool, None = all count.
    """
    check_pixels("valid", valid, assignments)
    q = assignments.clamp(min=1e-12)
    with torch.no_grad():
        counted = q if valid is None else q.where(valid.unsqueeze(1), 0.0)
        share = counted.sum((0, *range(2, q.ndim)), keepdim=True).clamp(min=1e-12)
        target = q.square() / share
        target = target / target.sum(1, keepdim=True)
    return mean_over((target * (target.clamp(min=1e-12).log() - q.log())).sum(1), valid)
