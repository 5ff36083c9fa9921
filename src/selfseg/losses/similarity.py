"""Similarity: every pixel should be sure of the cluster that it already prefers, or of its superpixel's."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.core.threads import run_shared
from selfseg.losses._valid import check_pixels, mean_over
from selfseg.sample.shared_batch import own_weight

ALONE = 30_000
"""Values below which one thread is done before two have met."""


def similarity(response: Tensor, target: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
    r"""Return the cross entropy of the softmax of the response against the pixel's own cluster.

    .. math:: L_{sim} = -\frac{1}{N} \sum_n \log \frac{\exp r'_{n, c_n}}{\sum_i \exp r'_{n, i}},
              \qquad c_n = \arg\max_i r'_{n, i}

    Parameters
    ----------
    response
        Normalised response r' ``[B K *S]``.
    target
        Cluster c of each pixel ``[B *S]`` int64, 0..K-1, for example that of its superpixel (Leng et al., VISAPP 2024); None = the
        argmax of the response, the first where several are largest. No gradient flows through it.
    valid
        ``[B *S]`` bool, False = the pixel does not count; None = all count.

    Returns
    -------
    Tensor
        Scalar, in nats; 0 without a valid pixel. On a CPU in float32 it has a first derivative only.

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
    if response.device.type == "cpu" and response.dtype == torch.float32 and response.numel():
        counted = target if valid is None else target.where(valid, target.new_full((), -1))
        n_counted = target.numel() if valid is None else int(valid.sum())
        value: Tensor = _CrossEntropy.apply(response, counted)  # type: ignore[no-untyped-call]
        return value / max(1, n_counted) * own_weight(n_counted)
    if valid is not None:
        target = target.where(valid, target.new_zeros(()))  # what does not count may have no class at all
    return mean_over(F.cross_entropy(response, target, reduction="none"), valid)


class _CrossEntropy(torch.autograd.Function):
    """Sum over all pixels with a class of 0 or more: a pass over the response each way, and no map of probabilities is kept."""

    @staticmethod
    def forward(ctx: Any, response: Tensor, target: Tensor) -> Tensor:
        from selfseg.losses import _cross_entropy_kernels as kernels

        n_classes, values = response.shape[1], response.detach()
        rows = values.movedim(1, -1)
        ctx.in_rows = rows.is_contiguous() and not values.is_contiguous()
        ctx.values = (rows if ctx.in_rows else values).contiguous()
        ctx.target = target.contiguous().flatten(1).numpy()  # [B N]
        ctx.logsum = np.zeros(ctx.target.shape, np.float32)
        parts = 1 if values.numel() < ALONE else None
        total, n = 0.0, ctx.target.shape[1]
        for image, classes, logsum in zip(ctx.values, ctx.target, ctx.logsum, strict=True):
            if ctx.in_rows:
                by_row = image.view(-1).numpy(), classes, logsum, n_classes
                total += sum(run_shared(kernels.forward_rows, n, *by_row, parts=parts))
            else:
                blocks = image.flatten(1).numpy(), classes, logsum
                total += sum(run_shared(kernels.forward_planes, -(-n // kernels.BLOCK), *blocks, parts=parts))
        return values.new_tensor(total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        from selfseg.losses import _cross_entropy_kernels as kernels

        weight, out = np.float32(gradient), torch.empty_like(ctx.values)
        parts, n = 1 if out.numel() < ALONE else None, ctx.target.shape[1]
        for image, into, classes, logsum in zip(ctx.values, out, ctx.target, ctx.logsum, strict=True):
            if ctx.in_rows:
                by_row = image.view(-1).numpy(), classes, logsum, weight, into.view(-1).numpy(), out.shape[-1]
                run_shared(kernels.backward_rows, n, *by_row, parts=parts)
            else:
                blocks = image.flatten(1).numpy(), classes, logsum, weight, into.flatten(1).numpy()
                run_shared(kernels.backward_planes, -(-n // kernels.BLOCK), *blocks, parts=parts)
        return (out.movedim(-1, 1) if ctx.in_rows else out), None
