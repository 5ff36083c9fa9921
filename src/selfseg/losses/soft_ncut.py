"""Soft normalised cut: classes that hold together what is alike and near. One equation for pixels, voxels and graphs."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from selfseg.core.threads import run_shared
from selfseg.losses._lines import as_lines, runs_kernels
from selfseg.losses.affinity import Affinity
from selfseg.sample.shared_batch import own_weight

ALONE = 100_000  # values below which one thread is done before two have met
EMPTY = 1e-30  # a volume p . d below which a class counts as empty; far above what float32 can divide by


def soft_ncut(probabilities: Tensor, affinity: Affinity) -> Tensor:
    r"""Return the soft normalised cut, from 0 (classes share no weight) to K, as a mean over the batch.

    .. math:: J = K - \sum_k \frac{A_k}{D_k}, \qquad A_k = \sum_u p_{uk} \sum_v w_{uv} p_{vk},
              \qquad D_k = \sum_u p_{uk} d_u, \qquad d_u = \sum_v w_{uv}

    Parameters
    ----------
    probabilities
        p ``[B K *S]``, summing to 1 over K. Half precision is computed in float32.
    affinity
        Weights between the nodes ``*S``: `window_affinity` of an image or a volume, `edge_affinity` of a graph.

    Returns
    -------
    Tensor
        Scalar. Uniform probabilities give K - 1, whatever the image. It has a first derivative only.

    Raises
    ------
    UsageError
        If `probabilities` have other nodes than `affinity`.

    Notes
    -----
    As a class fades, its ratio tends to 0. So a class without any probability (:math:`D_k = 0`) costs 1; it gets no gradient.
    One class that takes everything gives K - 1. The gradient is written by hand: W is symmetric, so

    .. math:: \frac{\partial J}{\partial p_{uk}} = -\frac{1}{B} \left( \frac{2 (W p_k)_u}{D_k} - \frac{A_k d_u}{D_k^2} \right)

    needs nothing that the value has not computed, and of W no more than ``W p`` is kept.

    References
    ----------
    Xia and Kulis, "W-Net", arXiv 1711.08506, section 3.3; Shi and Malik, IEEE TPAMI 2000.
    """
    if probabilities.dtype in (torch.float16, torch.bfloat16):
        probabilities = probabilities.float()
    affinity.check(probabilities)
    value: Tensor = _SoftNcut.apply(probabilities, affinity)  # type: ignore[no-untyped-call]
    return value * own_weight(len(probabilities))


class _SoftNcut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, affinity: Affinity) -> Tensor:
        products, association, volume = affinity.forms(probabilities)
        alive = volume > EMPTY
        inverse = torch.where(alive, 1 / volume.where(alive, torch.ones_like(volume)), torch.zeros_like(volume))
        ratios = association * inverse
        n_images, n_classes = ratios.shape
        ctx.save_for_backward(products, affinity.degrees(probabilities.dtype))
        ctx.factors = torch.stack([-2 * inverse, ratios * inverse]) / n_images  # of W p, and of d: [2 B K]
        return (n_classes - ratios.sum(1)).mean().to(probabilities.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        products, degrees = ctx.saved_tensors
        return _combine(products, degrees, ctx.factors * gradient.double()), None


def _combine(products: Tensor, degrees: Tensor, factors: Tensor) -> Tensor:
    """Return ``f0 W p + f1 d`` for `products` ``[B K *S]``, `degrees` ``[B or 1, *S]`` and `factors` ``[2 B K]``."""
    factors = factors.to(products.dtype)
    if runs_kernels(products):
        from selfseg.losses import _ncut_kernels as kernels

        out = torch.empty_like(products)
        source, target = as_lines(products), as_lines(out)
        d = degrees.reshape(len(degrees), -1).numpy()
        arguments = source.values, d, factors.numpy(), source.per_image, source.strides, target.values
        parts = 1 if products.numel() < ALONE else None
        run_shared(kernels.combine, len(products) * source.per_image, *arguments, parts=parts)
        return out
    shape = (*factors.shape, *(1,) * (products.ndim - 2))
    f0, f1 = factors.reshape(shape)
    return torch.addcmul(f0 * products, f1, degrees.unsqueeze(1))
