"""`clustering_terms` in one pass over the response and one for its gradient, float32 images on a CPU.

Similarity is ``mean_n (log sum_k exp r_nk - max_k r_nk)``; its gradient is ``(softmax(r_n) - onehot(argmax)) / N``. Continuity
along an axis is the mean of ``|r_{n+1,k} - r_nk|``; its gradient is the sign of the difference, over their number. Kept for the
backward pass: the response, a label and a log-sum-exp for each pixel. The textbook form keeps six arrays of the response's size.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfseg.core.threads import run_shared


def fused_terms_pay(response: Tensor) -> bool:
    """Return whether `fused_terms` applies: float32 images of some size on a CPU, channels last, no autocast."""
    plain = response.device.type == "cpu" and response.dtype == torch.float32 and response.ndim == 4
    if not plain or torch.is_autocast_enabled("cpu") or min(response.shape[2:]) < 2:
        return False
    return response.shape[2] * response.shape[3] >= 1024 and response.is_contiguous(memory_format=torch.channels_last)


def fused_terms(response: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return similarity, (continuity in y, in x), labels ``[B Y X]`` of ``response [B K Y X]``; see `clustering_terms`."""
    similarity, down, right, labels = _FusedTerms.apply(response)  # type: ignore[no-untyped-call]
    return similarity, (down, right), labels


def _flat(response: Tensor) -> Any:
    return response.detach().permute(0, 2, 3, 1).reshape(-1).numpy()


class _FusedTerms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, response: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        from selfseg.losses import _clustering_kernels as kernels

        B, K, Y, X = response.shape
        labels = torch.empty(B, Y, X, dtype=torch.int64)
        logsum = np.empty(B * Y * X, np.float32)
        parts = run_shared(kernels.forward, B * Y, _flat(response), labels.view(-1).numpy(), logsum, Y, X, K)
        sizes = np.array([B * Y * X, B * (Y - 1) * X * K, B * Y * (X - 1) * K], np.float64)
        values = torch.from_numpy((np.sum(parts, axis=0) / sizes).astype(np.float32))
        ctx.save_for_backward(response, labels)
        ctx.logsum, ctx.sizes = logsum, sizes
        ctx.mark_non_differentiable(labels)
        return values[0], values[1], values[2], labels

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        from selfseg.losses import _clustering_kernels as kernels

        response, labels = ctx.saved_tensors
        B, K, Y, X = response.shape
        weights = (np.array([float(g) for g in gradients[:3]]) / ctx.sizes).astype(np.float32)
        out = torch.empty_like(response)
        arguments = (_flat(response), labels.view(-1).numpy(), ctx.logsum, weights, _flat(out), Y, X, K)
        run_shared(kernels.backward, B * Y, *arguments)
        return out
