"""ReLU and batch normalisation in one, float32 on a CPU, with the gradient written by hand.

``y = w (h - m) / s + b`` with ``h = max(x, 0)`` or ``h = x``, mean m and deviation s of h over all pixels (Ioffe & Szegedy,
ICML 2015). With g = dL/dy, xhat = (h - m) / s and sums over the N pixels: ``db = sum g``, ``dw = sum g xhat`` and
``dh = (w / s) (g - db / N - xhat dw / N)``. Kept for the backward pass: x alone. Where processes share the batch, N and the sums in
``m``, ``s`` and ``dh`` are over all of it, while db and dw are of this process's pixels.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfseg.core.threads import run_shared
from selfseg.sample.shared_batch import Share, current_share

RECTIFIED, AS_IS = np.float32(0), np.float32(-np.inf)


def fused_norm_pays(x: Tensor) -> bool:
    """Return whether `fused_norm` applies: float32 images of some size on a CPU, channels last, no autocast."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or x.ndim != 4 or torch.is_autocast_enabled("cpu"):
        return False
    return x.shape[2] * x.shape[3] >= 1024 and x.is_contiguous(memory_format=torch.channels_last)


def _added_up(values: Any, share: Share | None) -> Any:
    """Return float64 sums over all processes that share the batch."""
    if share is None:
        return values
    own = torch.from_numpy(np.zeros_like(values) if share.empty else values)
    return share.all_reduce(own).numpy()


def fused_norm(x: Tensor, weight: Tensor, bias: Tensor, rectify: bool, eps: float) -> Tensor:
    """Normalise ``x [B C H W]``, after a ReLU if `rectify`, by its own statistics; see the module."""
    result: Tensor = _FusedNorm.apply(x, weight, bias, RECTIFIED if rectify else AS_IS, eps)
    return result


def _rows(x: Tensor) -> Any:
    return x.detach().permute(0, 2, 3, 1).reshape(-1).numpy()


def channel_sums(x: Tensor) -> Tensor:
    """Return the sum of each channel ``[C]`` of float32 ``x [B C H W]`` on a CPU, channels last; added up in float64."""
    from selfseg.nets import _norm_kernels as kernels

    C = x.shape[1]
    total = np.sum(run_shared(kernels.sums, x.numel() // C, _rows(x), C, AS_IS), axis=0)[:C]
    return torch.from_numpy(total).to(x.dtype)


class _FusedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, floor: np.float32, eps: float) -> Tensor:
        from selfseg.nets import _norm_kernels as kernels

        C, n = x.shape[1], x.numel() // x.shape[1]
        share = current_share()
        sums = np.sum(run_shared(kernels.sums, n, _rows(x), C, floor), axis=0)
        *total, counted = _added_up(np.append(sums, n), share)
        total = np.asarray(total) / counted
        mean = total[:C]
        deviation = np.sqrt(np.maximum(total[C:] - mean**2, 0) + eps)
        scale = weight.detach().double().numpy() / deviation
        shift = bias.detach().double().numpy() - mean * scale
        y = torch.empty_like(x)
        run_shared(
            kernels.scale_and_shift, n, _rows(x), _rows(y), scale.astype(np.float32), shift.astype(np.float32), floor
        )
        ctx.save_for_backward(x)
        ctx.statistics = mean, deviation, scale, floor, counted, share
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        from selfseg.nets import _norm_kernels as kernels

        (x,) = ctx.saved_tensors
        mean, deviation, scale, floor, counted, share = ctx.statistics
        C, n = x.shape[1], x.numel() // x.shape[1]
        g = gradients[0].contiguous(memory_format=torch.channels_last)
        own = np.sum(run_shared(kernels.gradient_sums, n, _rows(x), _rows(g), C, floor), axis=0)
        db, dw = own[:C], (own[C:] - mean * own[:C]) / deviation
        whole = _added_up(own, share) * (
            share is None or not share.empty
        )  # pixels that count nowhere move no statistics
        slope = -scale * (whole[C:] - mean * whole[:C]) / deviation**2 / counted
        constant = -scale * whole[:C] / counted - slope * mean
        dx = torch.empty_like(x)
        parts = (part.astype(np.float32) for part in (scale, slope, constant))
        run_shared(kernels.input_gradient, n, _rows(x), _rows(g), _rows(dx), *parts, floor)
        return dx, torch.from_numpy(dw).to(x.dtype), torch.from_numpy(db).to(x.dtype), None, None
