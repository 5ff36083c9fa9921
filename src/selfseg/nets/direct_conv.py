"""Convolution with the library's own kernels, but for the weight gradient: float32 on a CPU, few inputs to each output.

In channels-last order the library's weight gradient is slow. Here it is one product, ``dw = g^T X`` with X the patches as rows,
``[N, C k k]``; for a 1x1 kernel X is the image itself.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selfseg.nets.fused_norm import channel_sums

MOST_INPUTS = 256
"""Largest ``C k k`` for which the patches as rows are worth their memory (or are the image itself)."""

MIN_PIXELS = 4096
"""Smallest image for which this pays."""


def direct_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `torch.nn.functional.conv2d` of ``x [B C H W]`` with ``weight [K C k k]``, padded to the same size."""
    if not product_pays(x, weight):
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    result: Tensor = _DirectConv.apply(x, weight, bias)
    return result


def product_pays(x: Tensor, weight: Tensor) -> bool:
    """Return whether the product form applies (CPU, float32, 2D, channels last, no autocast) and is faster."""
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.ndim == 4
    if not plain or torch.is_autocast_enabled("cpu") or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    return weight[0].numel() <= MOST_INPUTS and x.shape[2] * x.shape[3] >= MIN_PIXELS


def _patches(x: Tensor, size: int) -> Tensor:
    """Return the patch around each pixel as a row, in the order of a weight: ``[B C H W] -> [N, C k k]``."""
    rows = x.permute(0, 2, 3, 1)  # [B H W C]
    if size == 1:
        return rows.reshape(-1, x.shape[1])
    padded, (H, W) = F.pad(rows, (0, 0, *(size // 2,) * 4)), x.shape[2:]
    shifted = [padded[:, i : i + H, j : j + W] for i in range(size) for j in range(size)]
    return torch.stack(shifted, -1).reshape(-1, x.shape[1] * size * size)


class _DirectConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2).contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))  # [N K]
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            pad, ones = [weight.shape[-1] // 2] * 2, [1, 1]
            asked = [True, False, False]
            back = torch.ops.aten.convolution_backward
            dx = back(gradient, x, weight, None, ones, pad, ones, False, [0, 0], 1, asked)[0]
        if ctx.needs_input_grad[1]:
            dw = (rows.t() @ _patches(x, weight.shape[-1])).reshape(weight.shape)
        if ctx.needs_input_grad[2]:
            db = channel_sums(gradient)
        return dx, dw, db
